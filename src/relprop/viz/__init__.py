"""Pictures of explanations."""

from relprop.viz.colors import colorize, overlay, scale_of
from relprop.viz.figure import Panel, Score, draw, save_figure, top_scores

__all__ = ["Panel", "Score", "colorize", "draw", "overlay", "save_figure", "scale_of", "top_scores"]
