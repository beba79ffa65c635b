from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import relprop
from relprop.errors import InputError, OptionError, TargetError
from relprop.integrations.captum import CaptumAttribution
from relprop.integrations.quantus import quantus_explain_func
from relprop.methods import METHODS
from tests.methods.models import Plain, images, made


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    before = dict(METHODS)
    yield
    METHODS.clear()
    METHODS.update(before)


def doubled(model: nn.Module, inputs: Tensor, target: Tensor, *, factor: float = 2.0, mode: str = "a") -> Tensor:
    del model, mode
    return inputs * factor + target[:, None, None, None]


def test_a_function_becomes_a_method() -> None:
    relprop.register_method("doubled", doubled, summary="Twice the input", source="here")
    model, x = made(Plain), images(2)
    result = relprop.explain(model, x, torch.tensor([[0, 1], [2, 3]]), method="doubled", factor=3)
    assert result.method == "doubled"
    torch.testing.assert_close(result.relevance[:, 1], 3 * x + torch.tensor([1, 3])[:, None, None, None])
    assert METHODS["doubled"].summary == "Twice the input"
    assert list(METHODS["doubled"].options) == ["factor", "mode"]
    for options, said in (({"facto": 1}, "Did you mean 'factor'"), ({"factor": "x"}, "must be float")):
        with pytest.raises(OptionError, match=said):
            relprop.Explainer(model, x, "doubled", **options)
    with pytest.raises(TargetError, match="explains classes"):
        relprop.Explainer(model, x, "doubled")(x, output_relevance=torch.ones(2, 5, dtype=x.dtype))


@pytest.mark.filterwarnings("ignore")
def test_captum_attributions_become_methods() -> None:
    captum = pytest.importorskip("captum.attr")
    model, x = made(Plain), images(2)
    relprop.register_method("captum-ig", captum.IntegratedGradients)
    relprop.register_method("captum-cam", lambda model: captum.LayerGradCam(model, model.features))
    relprop.register_method("captum-bound", captum.Saliency(model))
    ig = relprop.explain(model, x, 1, method="captum-ig", n_steps=5)
    torch.testing.assert_close(ig.relevance, relprop.explain(model, x, 1, method="integrated-gradients", steps=5).relevance)
    cam = relprop.explain(model, x, 1, method="captum-cam")
    torch.testing.assert_close(cam.heatmap().clamp(min=0).shape, x[:, 0].shape)
    bound = relprop.explain(model, x, 1, method="captum-bound")
    torch.testing.assert_close(bound.relevance, captum.Saliency(model).attribute(x.clone().requires_grad_(), target=1))
    with pytest.raises(OptionError, match="another model"):
        relprop.explain(made(Plain), x, 1, method="captum-bound")
    with pytest.raises(OptionError, match="Did you mean 'n_steps'"):
        relprop.Explainer(model, x, "captum-ig", n_step=3)


def test_the_model_is_put_back_whatever_the_function_does() -> None:
    def careless(model: nn.Module, inputs: Tensor, target: Tensor) -> Tensor:
        assert not model.training
        model.features[0].register_forward_hook(lambda *_: None)
        model.features[0].weight.requires_grad_(False)
        model.gather = model(inputs).gather(1, target[:, None]).sum().backward()
        inputs.zero_()
        raise RuntimeError("stopped")

    relprop.register_method("careless", careless)
    model, x = made(Plain), images(2)
    model.train()
    model.head[1].weight.grad = torch.ones_like(model.head[1].weight)
    copy = x.clone()
    with pytest.raises(RuntimeError, match="stopped"):
        relprop.explain(model, x, method="careless")
    assert model.training
    assert torch.equal(x, copy)
    assert not model.features[0]._forward_hooks
    assert all(p.requires_grad for p in model.parameters())
    assert model.features[0].bias.grad is None
    assert torch.equal(model.head[1].weight.grad, torch.ones_like(model.head[1].weight))


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda m, x, t: x[:, :, :4], "returned the shape"),
        (lambda m, x, t: x * float("nan"), "NaN"),
        (lambda m, x, t: "no", "one tensor per floating input"),
    ],
)
def test_what_a_function_returns_is_checked(function, said: str) -> None:
    relprop.register_method("odd", function)
    with pytest.raises(OptionError, match=said):
        relprop.explain(made(Plain), images(1), method="odd")


def test_what_cannot_be_registered_is_refused() -> None:
    for name, thing, said in (("rap", doubled, "already"), ("x", 5, "function"), ("x", lambda a, b: a, "must take")):
        with pytest.raises(OptionError, match=said):
            relprop.register_method(name, thing)


def test_the_captum_adapter_takes_what_captum_takes() -> None:
    model, x = made(Plain), images(4)
    for method in ("rap", "gradient"):
        adapter = CaptumAttribution(model, method)
        expected = relprop.explain(model, x, [1, 2, 0, 4], method=method).relevance
        for target in ([1, 2, 0, 4], [(1,), (2,), (0,), (4,)], torch.tensor([1, 2, 0, 4])):
            torch.testing.assert_close(adapter.attribute(x, target=target), expected)
        assert isinstance(adapter.attribute((x,), target=1), tuple)
        torch.testing.assert_close(adapter.attribute((x,), target=1)[0], relprop.explain(model, x, 1, method=method).relevance)
        assert adapter.attribute(x.clone().requires_grad_()).shape == x.shape
        with pytest.raises(TargetError, match="one place in the output of 5"):  # to captum a tuple is one place
            adapter.attribute(x, target=(1, 2, 0, 4))
    smaller = adapter.attribute(x[:1].repeat(1, 1, 1, 1), target=0)
    assert smaller.shape == (1, 3, 16, 16)


def test_the_quantus_adapter_takes_and_returns_arrays() -> None:
    model, x = made(Plain), images(4)
    explain_func = quantus_explain_func("gradient")
    found = explain_func(model, x.numpy(), torch.tensor([1, 2, 0, 4]).numpy(), normalise=True, device="cpu")
    expected = relprop.explain(model, x, [1, 2, 0, 4], method="gradient").heatmap()
    assert found.shape == (4, 1, 16, 16)
    torch.testing.assert_close(torch.from_numpy(found)[:, 0], expected)
    with pytest.raises(InputError, match="images"):
        explain_func(model, x[0].numpy(), None)
