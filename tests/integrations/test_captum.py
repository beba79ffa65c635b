"""captum's targets on outputs of more dimensions than classes."""

import pytest
import torch
from torch import nn

from relprop.errors import TargetError
from relprop.integrations.captum import CaptumAttribution


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 3, padding=1)).eval()


@pytest.mark.parametrize("target", [(1, 5, 6), [(1, 5, 6), (0, 2, 2)]])
def test_one_element_of_a_segmentation_is_explained(target):
    model, images = net(), torch.randn(2, 3, 8, 8, requires_grad=True)
    places = target if isinstance(target, list) else [target] * 2
    chosen = torch.stack([model(images)[sample][place] for sample, place in enumerate(places)])
    (gradient,) = torch.autograd.grad(chosen.sum(), images)
    found = CaptumAttribution(model, "gradient").attribute(images, target=target)
    torch.testing.assert_close(found, gradient)
    total = CaptumAttribution(model, "lrp-epsilon").attribute(images, target=target)
    assert total.shape == images.shape
    assert total.abs().sum() > 0


@pytest.mark.parametrize("target", [(1, 5), (4, 0, 0), [(1, 5, 6)]])
def test_a_place_that_is_not_there_is_refused_without_strange_advice(target):
    with pytest.raises(TargetError) as caught:
        CaptumAttribution(net(), "gradient").attribute(torch.randn(2, 3, 8, 8), target=target)
    assert "seed" not in str(caught.value)
    assert "output_relevance" not in str(caught.value)
    assert "4 × 8 × 8" in str(caught.value)
