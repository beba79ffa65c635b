"""Pictures of explanations."""

from relprop.viz.colors import colorize, overlay, scale_of
from relprop.viz.comparison import comparison_rows, plot_comparison
from relprop.viz.drawable import Drawable
from relprop.viz.figure import PICTURES, Panel, Score, check_picture_format, draw, save_figure, top_scores
from relprop.viz.grid import Row, draw_grid
from relprop.viz.plot import plot_explanation

__all__ = [
    "PICTURES",
    "Drawable",
    "Panel",
    "Row",
    "Score",
    "check_picture_format",
    "colorize",
    "comparison_rows",
    "draw",
    "draw_grid",
    "overlay",
    "plot_comparison",
    "plot_explanation",
    "save_figure",
    "scale_of",
    "top_scores",
]
