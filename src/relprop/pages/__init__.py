"""Pages: one HTML file with all its data, which opens offline and asks nothing of the network."""

from relprop.pages.document import write_page
from relprop.pages.gallery import Card, Gallery, Measure, MethodTile

__all__ = ["Card", "Gallery", "Measure", "MethodTile", "write_page"]
