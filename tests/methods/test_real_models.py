"""Every method on real weights and a real photo: complete, equal to what it must equal, and the layer of class activation maps found."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import relprop
from relprop.attribution import Attribution
from relprop.errors import UnsupportedOpError
from relprop.methods import make_method
from relprop.methods.pattern_fit import PatternFit
from tests.files import needs_weights
from tests.methods.models import real
from tests.methods.quick import ALL, quick

MODELS = ("vgg16_voc5", "resnet50", "efficientnet-lite0", "deit_tiny")
LAYERS = {"vgg16_voc5": "features", "resnet50": "layer4", "deit_tiny": "blocks.11.norm1"}


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
    captured = relprop.capture(model, photo)
    for method in ALL:
        made = make_method(method, quick(method, photo.shape[-1]))
        assert isinstance(made, Attribution)
        # one capture serves all methods
        with torch.no_grad():
            result = relprop.Explainer(captured, made)(photo, target)
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


@pytest.fixture(params=MODELS)
def subject(request: pytest.FixtureRequest) -> tuple[str, nn.Module, Tensor]:
    """A model's name, the model in double precision, and a photo."""
    model, photo = real(request.param)
    return request.param, model.double(), shrunk(request.param, photo).double()


@needs_weights
@pytest.mark.slow
def test_integrated_gradients_are_complete_on_real_models(subject: tuple[str, nn.Module, Tensor]) -> None:
    _, model, photo = subject
    pytest.importorskip("captum", reason="captum is not installed")
    with torch.no_grad():
        logit, reference = model(photo).amax(1), model(torch.zeros_like(photo))
    result = relprop.explain(model, photo, method="integrated-gradients", steps=32)
    difference = (logit - reference.gather(1, result.target[:, None])[:, 0]).abs()
    allowed = 0.2  # the way from gray to the photo is anything but straight
    assert result.completeness_error.abs() < allowed * difference
    total = result.relevance.sum((1, 2, 3)) + result.absorbed + result.completeness_error
    torch.testing.assert_close(total, logit)


def without_biases(model: nn.Module) -> nn.Module:
    """The same model with every bias and every running mean at zero: homogeneous, where it is made of ReLU, max and average."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if name.endswith(("bias", "running_mean")):
            tensor.detach().zero_()
    return model


@needs_weights
@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg16_voc5", "resnet50"])
def test_input_x_gradient_is_lrp_epsilon_on_real_weights_without_biases(name: str) -> None:
    model, photo = real(name)
    model, photo = without_biases(model.double()), shrunk(name, photo).double()
    ours = relprop.explain(model, photo, method="input-x-gradient")
    lrp = relprop.explain(model, photo, method="lrp-epsilon", epsilon=0.0)
    assert (ours.relevance - lrp.relevance).abs().max() < 1e-6 * ours.relevance.abs().max()
    torch.testing.assert_close(ours.relevance.sum((1, 2, 3)), ours.logits.amax(1))


class Rectify(torch.autograd.Function):
    """ReLU, or ReLU6 with a ``cap``, whose backward pass follows the published formula of ``rule``."""

    @staticmethod
    def forward(ctx, x: Tensor, rule: str, cap: float) -> Tensor:
        ctx.rule, ctx.open = rule, (x > 0) & (x < cap)
        return x.clamp(0, cap)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        positive = gradient.clamp(min=0)
        return (positive * ctx.open if ctx.rule == "guided-backprop" else positive), None, None


@needs_weights
@pytest.mark.slow
@pytest.mark.parametrize("rule", ["guided-backprop", "deconvnet"])
def test_rectifier_methods_follow_their_formula_on_real_models(
    rule: str, subject: tuple[str, nn.Module, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, model, photo = subject
    ours = relprop.explain(model, photo, 1, method=rule)
    monkeypatch.setattr(F, "relu", lambda x, inplace=False: Rectify.apply(x, rule, torch.inf))
    monkeypatch.setattr(nn.ReLU6, "forward", lambda self, x: Rectify.apply(x, rule, 6.0))
    x = photo.clone().requires_grad_()
    expected = torch.autograd.grad(model(x)[0, 1], x)[0]
    if name == "deit_tiny":  # GELU: its derivative stands in for the mask
        assert any("GELU" in note or "gelu" in note for note in ours.notes)
    else:
        assert (ours.relevance - expected).abs().max() < 1e-9 * expected.abs().max()


@needs_weights
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_deeplift_equals_captum_on_real_weights_that_captum_can_do() -> None:
    captum = pytest.importorskip("captum.attr", reason="captum is not installed")
    model, photo = real("vgg16_voc5")
    for i, part in enumerate(model.features):
        if isinstance(part, nn.MaxPool2d):  # captum is not complete behind max pooling
            model.features[i] = nn.AvgPool2d(2)
    model, photo = model.double(), shrunk("vgg16_voc5", photo).double()
    expected = captum.DeepLift(model).attribute(photo.clone().requires_grad_(), torch.zeros_like(photo), target=1).detach()
    ours = relprop.explain(model, photo, 1, method="deeplift").relevance
    assert (ours - expected).abs().max() < 1e-6 * expected.abs().max()


@needs_weights
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "path"),
    [("vgg16_voc5", "features"), ("resnet50", "layer4"), ("efficientnet-lite0", "_conv_head"), ("deit_tiny", "blocks.11.norm1")],
)
def test_grad_cam_on_real_models_equals_its_formula(name: str, path: str) -> None:
    """The map is made again from the activation and gradient that a hook on the module sees."""
    model, photo = real(name)
    photo, seen = shrunk(name, photo), {}
    result = relprop.explain(model, photo, 1, method="grad-cam", **({"layer": path} if name == "efficientnet-lite0" else {}))
    module = model.get_submodule(path)
    with module.register_forward_hook(lambda *given: seen.update(a=given[2])):
        logit = model(photo)[0, 1]
    activation, gradient = seen["a"], torch.autograd.grad(logit, seen["a"])[0]
    if name == "deit_tiny":
        activation, gradient = (t[:, 1:].transpose(1, 2).unflatten(2, (14, 14)) for t in (activation, gradient))
    cam = (gradient.mean((2, 3), keepdim=True) * activation).sum(1, keepdim=True).clamp(min=0)
    expected = F.interpolate(cam, photo.shape[2:], mode="bilinear")[:, 0].detach()
    assert (result.heatmap() - expected).abs().max() < 1e-3 * expected.abs().max()
    assert f"module '{path}'" in result.notes[-1] or name == "efficientnet-lite0"


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
