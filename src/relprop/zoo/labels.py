"""ImageNet's labels, each with its synonyms, separated by commas; figures show the first."""

from functools import cache
from importlib.resources import files


@cache
def imagenet_classes() -> tuple[str, ...]:
    """Return the 1000 labels of ILSVRC 2012, ordered by sorted WordNet id, each with its WordNet synonyms."""
    return tuple(files("relprop.zoo").joinpath("imagenet_classes.txt").read_text("utf-8").splitlines())
