"""Pictures of explanations."""

from relprop.viz.colors import Scale, colorize, colorize_rgba, overlay, scale_of
from relprop.viz.comparison import Row, comparison_rows, draw_grid, plot_comparison, plot_models
from relprop.viz.curves import plot_curves
from relprop.viz.drawable import Drawable, maps_of
from relprop.viz.features import plot_features
from relprop.viz.frame import Framed
from relprop.viz.kinds import picture_for
from relprop.viz.layers import plot_layers
from relprop.viz.look import Look
from relprop.viz.notebook import html_of_explanation, png_of_explanation
from relprop.viz.pictures import overlay_image
from relprop.viz.plan import plot_plan
from relprop.viz.plot import plot_contrast, plot_explanation, plot_signs
from relprop.viz.ranks import plot_ranks
from relprop.viz.regions import positive_region
from relprop.viz.saving import PICTURES, check_picture_format, save_figure
from relprop.viz.scores import Score, top_scores
from relprop.viz.sheet import draw_sheet
from relprop.viz.signals import plot_signals
from relprop.viz.smoothing import smoothed
from relprop.viz.tiles import Classes, Legend, Marks, Reason, Strip, Tile
from relprop.viz.trace import plot_trace
from relprop.viz.views import View
from relprop.viz.volumes import plot_frames, plot_slices
from relprop.viz.words import Words, color_words

__all__ = [
    "PICTURES",
    "Classes",
    "Drawable",
    "Framed",
    "Legend",
    "Look",
    "Marks",
    "Reason",
    "Row",
    "Scale",
    "Score",
    "Strip",
    "Tile",
    "View",
    "Words",
    "check_picture_format",
    "color_words",
    "colorize",
    "colorize_rgba",
    "comparison_rows",
    "draw_grid",
    "draw_sheet",
    "html_of_explanation",
    "maps_of",
    "overlay",
    "overlay_image",
    "picture_for",
    "plot_comparison",
    "plot_contrast",
    "plot_curves",
    "plot_explanation",
    "plot_features",
    "plot_frames",
    "plot_layers",
    "plot_models",
    "plot_plan",
    "plot_ranks",
    "plot_signals",
    "plot_signs",
    "plot_slices",
    "plot_trace",
    "png_of_explanation",
    "positive_region",
    "save_figure",
    "scale_of",
    "smoothed",
    "top_scores",
]
