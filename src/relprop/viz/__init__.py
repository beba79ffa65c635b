"""Pictures of explanations."""

from relprop.viz.colors import colorize, overlay, scale_of
from relprop.viz.explanation import plot_explanation
from relprop.viz.figure import Panel, Score, check_picture_format, draw, save_figure, top_scores
from relprop.viz.saving import save_explanation

__all__ = [
    "Panel",
    "Score",
    "check_picture_format",
    "colorize",
    "draw",
    "overlay",
    "plot_explanation",
    "save_explanation",
    "save_figure",
    "scale_of",
    "top_scores",
]
