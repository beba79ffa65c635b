"""What a type checker knows of a call; ``make lint`` checks it."""

from typing import Any, assert_type

from PIL import Image
from torch import Tensor, nn

import relprop


def check_calls(model: nn.Module, images: Tensor) -> None:
    """Assert the types of results: a tensor for a tensor, anything for a structure."""
    explainer = relprop.Explainer(model, images, "rap")
    assert_type(explainer(images), relprop.Explanation[Tensor])
    assert_type(explainer(images, target=3, layers=["0"]).relevance, Tensor)
    assert_type(relprop.explain(model, images).relevance, Tensor)
    assert_type(explainer({"x": images}).relevance, Any)
    assert_type(explainer(images).heatmap(), Tensor)
    assert_type(explainer(images).overlay(), Image.Image)
