"""Every method on real weights and a real photo: complete, equal to what it must equal, and the layer of class activation maps found."""

import pytest
import torch

import relprop
from relprop.attribution import Attribution, AttributionPlan, explain_by_attribution, plan_attribution
from relprop.errors import UnsupportedOpError
from relprop.inputs import as_inputs
from relprop.methods import make_method
from relprop.patterns import PatternFit

from .models import needs_weights, real

MODELS = ("vgg16_voc5", "resnet50", "efficientnet-lite0", "deit_tiny")
LAYERS = {"vgg16_voc5": "features", "resnet50": "layer4", "deit_tiny": "blocks.11.norm1"}
QUICK = {
    "integrated-gradients": {"steps": 2, "internal_batch_size": 2},
    "expected-gradients": {"samples": 2, "internal_batch_size": 2},
    "smoothgrad": {"samples": 2, "internal_batch_size": 2},
    "vargrad": {"samples": 2, "internal_batch_size": 2},
    "score-cam": {"channels": 2},
    "occlusion": {"window": 112, "stride": 112, "internal_batch_size": 4},
    "rise": {"masks": 4},
    "lime": {"samples": 6, "count": 4, "internal_batch_size": 6, "alpha": 1e-3},
    "kernel-shap": {"samples": 6, "count": 4, "internal_batch_size": 6},
}
PLAIN = (
    "gradient",
    "input-x-gradient",
    "guided-backprop",
    "deconvnet",
    "deeplift",
    "grad-cam",
    "grad-cam-plus-plus",
    "layer-cam",
)


def shrunk(name: str, photo: torch.Tensor) -> torch.Tensor:
    """Convolutional networks take smaller photos too, which keeps this quick."""
    return photo if name == "deit_tiny" else torch.nn.functional.interpolate(photo, (64, 64), mode="bilinear")


@needs_weights
@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_method_explains_real_models(name: str) -> None:
    model, photo = real(name)
    photo = shrunk(name, photo)
    with torch.no_grad():
        logits = model(photo)
        reference = model(torch.zeros_like(photo))
    target = int(logits.argmax())
    captured = relprop.Explainer(model, photo, "gradient").plan
    assert isinstance(captured, AttributionPlan)
    for method in (*PLAIN, *QUICK):
        made = make_method(method, QUICK.get(method, {}))
        assert isinstance(made, Attribution)
        # one capture serves all methods
        with torch.no_grad():
            result = explain_by_attribution(plan_attribution(made, captured.model, ()), as_inputs(photo), target, None)
        assert result.relevance.shape == photo.shape
        assert bool(result.relevance.isfinite().all()), method
        torch.testing.assert_close(result.logits, logits, rtol=1e-3, atol=1e-3)
        if method == "gradient":
            x = photo.clone().requires_grad_()
            expected = torch.autograd.grad(model(x)[0, target], x)[0]
            assert (result.relevance - expected).abs().max() < 1e-3 * expected.abs().max()
        if method == "deeplift":
            difference = float(logits[0, target] - reference[0, target])
            assert abs(float(result.relevance.sum()) - difference) < 1e-3 * max(1.0, abs(difference))
        if method == "grad-cam" and name in LAYERS:
            assert f"module '{LAYERS[name]}'" in result.notes[-1]


@needs_weights
@pytest.mark.slow
def test_patterns_fit_on_a_real_model() -> None:
    model, photo = real("vgg16_voc5")
    photos = torch.cat([shrunk("vgg16_voc5", photo), shrunk("vgg16_voc5", photo.flip(3))])
    fit = PatternFit(model, photos[:1])
    fit.update(photos)
    patterns = fit.patterns()
    for method in ("pattern-net", "pattern-attribution"):
        relevance = relprop.explain(model, photos, method=method, patterns=patterns).relevance
        assert bool(relevance.isfinite().all())
        assert bool(relevance.any())


@needs_weights
@pytest.mark.slow
def test_patterns_of_a_transformer_are_refused() -> None:
    model, photo = real("deit_tiny")
    with pytest.raises(UnsupportedOpError, match="layer_norm"):
        relprop.Explainer(model, photo, "pattern-net", patterns={})
