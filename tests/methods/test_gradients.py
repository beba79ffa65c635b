import copy

import numpy as np
import pytest
import torch
from torch import nn

import relprop
from relprop.errors import InputError, OptionError, TargetError
from relprop.methods import METHODS
from tests.methods.models import Attending, Hidden, Plain, images, made
from tests.methods.quick import ALL, quick


def explained(name: str, model: nn.Module, x: torch.Tensor, target: object = None, **options: object) -> relprop.Explanation:
    return relprop.explain(model, x, target, method=name, **{**quick(name, 16), **options})


def autograd(model: nn.Module, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(model(x).gather(1, target[:, None]).sum(), x)[0]


@pytest.mark.parametrize("kind", [Plain, Attending])
def test_gradient_and_its_product_with_the_input_equal_autograd(kind: type[nn.Module]) -> None:
    model, x, target = made(kind), images(), torch.tensor([0, 3, 2])
    expected = autograd(model, x, target)
    torch.testing.assert_close(explained("gradient", model, x, target).relevance, expected)
    torch.testing.assert_close(explained("gradient", model, x, target, absolute=True).relevance, expected.abs())
    torch.testing.assert_close(explained("input-x-gradient", model, x, target).relevance, x * expected)


def test_input_x_gradient_is_lrp_epsilon_on_bias_free_relu_networks() -> None:
    model, x = made(Plain, bias=False), images()
    ours = explained("input-x-gradient", model, x)
    lrp = relprop.explain(model, x, method="lrp-epsilon", epsilon=1e-12)
    torch.testing.assert_close(ours.relevance, lrp.relevance, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(ours.relevance.sum((1, 2, 3)), ours.logits.amax(1))


@pytest.mark.parametrize("kind", [Plain, Attending])
def test_integrated_gradients_are_complete(kind: type[nn.Module]) -> None:
    model, x = made(kind), images()
    few, many = (explained("integrated-gradients", model, x, steps=steps, baseline=0.2) for steps in (3, 200))
    reference = model(torch.full_like(x[:1], 0.2)).expand(3, -1).gather(1, many.target[:, None])[:, 0]
    torch.testing.assert_close(many.absorbed, reference)
    assert many.completeness_error.abs().max() < 0.02 * (many.logits.amax(1) - reference).abs().max()
    assert few.completeness_error.abs().max() > many.completeness_error.abs().max()
    total = many.relevance.sum((1, 2, 3)) + many.absorbed + many.completeness_error
    torch.testing.assert_close(total, many.logits.amax(1))


def test_a_large_completeness_error_is_noted() -> None:
    assert any(
        "take more steps" in note for note in explained("integrated-gradients", made(Attending), 5 * images(), steps=1).notes
    )


def test_integrated_gradients_equal_the_integral_by_hand() -> None:
    model, x, target = made(Plain), images(1), torch.tensor([1])
    nodes, weights = np.polynomial.legendre.leggauss(7)
    expected = sum(w / 2 * autograd(model, x * (n + 1) / 2, target) for n, w in zip(nodes, weights, strict=True)) * x
    torch.testing.assert_close(explained("integrated-gradients", model, x, target, steps=7).relevance, expected)


def test_expected_gradients_with_one_reference_approach_integrated_gradients() -> None:
    model, x = made(Plain), images(1)
    reference = torch.zeros_like(x)
    expected = explained("integrated-gradients", model, x, steps=100).relevance
    ours = explained("expected-gradients", model, x, baselines=reference, samples=2000, internal_batch_size=200).relevance
    assert torch.corrcoef(torch.stack([ours.flatten(), expected.flatten()]))[0, 1] > 0.99
    assert (ours.sum() - expected.sum()).abs() < 0.1 * expected.abs().sum()


def test_references_come_from_a_file_too(tmp_path) -> None:
    model, x = made(Plain), images(1)
    references = images(5)[1:]
    np.save(tmp_path / "references.npy", references.numpy())
    from_file = explained("expected-gradients", model, x, baselines=str(tmp_path / "references.npy")).relevance
    torch.testing.assert_close(from_file, explained("expected-gradients", model, x, baselines=references).relevance)
    (tmp_path / "broken.npy").write_bytes(b"nothing")
    with pytest.raises(OptionError, match=r"broken\.npy"):
        explained("expected-gradients", model, x, baselines=str(tmp_path / "broken.npy"))


def test_smoothgrad_without_noise_is_the_gradient_and_vargrad_is_zero() -> None:
    model, x = made(Plain), images()
    gradient = explained("gradient", model, x).relevance
    torch.testing.assert_close(explained("smoothgrad", model, x, noise=0.0).relevance, gradient)
    assert explained("vargrad", model, x, noise=0.0).relevance.abs().max() < 1e-12
    assert explained("vargrad", model, x).relevance.min() >= 0


def test_smoothgrad_and_vargrad_of_a_polynomial_are_its_moments() -> None:
    """The gradient of x³ at x + n is 3 (x + n)²: its mean over normal noise is 3 (x² + σ²), its variance 9 (4 x² σ² + 2 σ⁴)."""

    class Cubed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x**3).sum((1, 2, 3), keepdim=False)[:, None]

    x = images(1)[:, :1, :4, :4]
    options = {"samples": 20000, "internal_batch_size": 5000, "noise": 0.2}
    square = (0.2 * (x.amax() - x.amin())) ** 2
    mean = explained("smoothgrad", Cubed(), x, 0, **options).relevance
    torch.testing.assert_close(mean, 3 * (x**2 + square), rtol=0.03, atol=0.01)
    variance = explained("vargrad", Cubed(), x, 0, **options).relevance
    torch.testing.assert_close(variance, 9 * (4 * x**2 * square + 2 * square**2), rtol=0.06, atol=0.01)


@pytest.mark.parametrize("name", ["smoothgrad", "vargrad", "expected-gradients"])
def test_noise_methods_equal_captums_up_to_the_draws(name: str) -> None:
    attr = pytest.importorskip("captum.attr")
    model, x, target, count = made(Plain), images(1), torch.tensor([1]), 2000
    references = images(4)[1:]
    if name == "expected-gradients":
        method = attr.GradientShap(model)
        expected = method.attribute(x, references, n_samples=count, stdevs=0.0, target=target)
        options: dict[str, object] = {"baselines": references}
    else:
        deviation = 0.15 * float(x.amax() - x.amin())
        method = attr.NoiseTunnel(attr.Saliency(model))
        expected = method.attribute(x, nt_type=name, nt_samples=count, stdevs=deviation, target=target, abs=False)
        options = {}
    found = explained(name, model, x, target, samples=count, internal_batch_size=500, **options).relevance
    assert torch.corrcoef(torch.stack([found.flatten(), expected.flatten()]))[0, 1] > 0.99
    assert (found - expected).abs().mean() < 0.1 * expected.abs().mean()


def test_edge_is_the_length_of_the_sobel_gradient() -> None:
    x = torch.zeros(1, 3, 16, 16, dtype=torch.float64)
    x[..., 8:] = 1.0
    heatmap = explained("edge", made(Plain), x).heatmap()
    assert heatmap[0, :, [7, 8]].unique().tolist() == [0.5]
    assert heatmap[0, :, :6].abs().max() == heatmap[0, :, 10:].abs().max() == 0


# --- what holds for every method ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_maps_are_shaped_like_the_input_finite_and_repeatable(name: str) -> None:
    model, x = made(Plain), images(2)
    explainer = relprop.Explainer(model, x[:1], name, **quick(name, 16))
    first, second = explainer(x), explainer(x)
    assert first.relevance.shape == x.shape
    assert bool(first.relevance.isfinite().all())
    assert bool(first.relevance.any())
    assert torch.equal(first.relevance, second.relevance)
    torch.testing.assert_close(first.logits, model(x))
    assert torch.equal(first.target, model(x).argmax(1))


@pytest.mark.parametrize("name", ALL)
def test_samples_do_not_depend_on_their_batch_mates(name: str) -> None:
    model, x = made(Plain), images(3)
    explainer = relprop.Explainer(model, x[:1], name, **quick(name, 16))
    together = explainer(x, 1).relevance
    alone = torch.cat([explainer(x[i : i + 1], 1).relevance for i in (0, 1, 2)])
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ALL)
def test_several_targets_are_explained_at_once(name: str) -> None:
    model, x = made(Plain), images(2)
    explainer = relprop.Explainer(model, x[:1], name, **quick(name, 16))
    targets = torch.tensor([[0, 3], [2, 1]])
    several = explainer(x, targets)
    assert several.relevance.shape == (2, 2, 3, 16, 16)
    assert several.absorbed.shape == (2, 2)
    assert several.heatmap().shape == (2, 2, 16, 16)
    torch.testing.assert_close(several.relevance[:, 1], explainer(x, targets[:, 1]).relevance, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ALL)
def test_the_model_and_the_input_are_left_as_they_were(name: str) -> None:
    model, x = made(Plain), images(2)
    model.train()
    model.features[0].eval()
    model.features[0].weight.requires_grad_(False)
    model.head[1].weight.grad = torch.ones_like(model.head[1].weight)
    before, copy_of_x = copy.deepcopy(model), x.clone()
    gradient = model.head[1].weight.grad
    torch.manual_seed(5)
    state = torch.get_rng_state()
    explained(name, model, x)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(x, copy_of_x)
    assert not x.requires_grad
    for ours, kept in zip(model.modules(), before.modules(), strict=True):
        assert ours.training == kept.training
        assert not ours._forward_hooks
        assert not ours._backward_hooks
    for ours, kept in zip(model.parameters(), before.parameters(), strict=True):
        assert torch.equal(ours, kept)
        assert ours.requires_grad == kept.requires_grad
        assert ours.grad is (gradient if ours is model.head[1].weight else None)
    assert torch.equal(gradient, torch.ones_like(gradient))


def test_a_seed_weighs_the_outputs() -> None:
    model, x = made(Plain), images()
    both = explained("gradient", model, x, torch.tensor([[0, 1]] * 3)).relevance
    seed = torch.zeros(3, 5, dtype=torch.float64)
    seed[:, 0], seed[:, 1] = 1.0, -2.0
    weighed = relprop.Explainer(model, x, "gradient")(x, output_relevance=seed)
    torch.testing.assert_close(weighed.relevance, both[:, 0] - 2 * both[:, 1])
    assert weighed.target is None


def test_internal_batches_do_not_change_the_result() -> None:
    model, x = made(Plain), images(2)
    for name in ("integrated-gradients", "rise", "occlusion", "score-cam"):
        one, many = (explained(name, model, x, internal_batch_size=size).relevance for size in (1, 64))
        torch.testing.assert_close(one, many, rtol=1e-6, atol=1e-9)


def test_random_maps_differ_between_images_and_seeds() -> None:
    model, x = made(Plain), images(2)
    first, other = (explained("random", model, x, seed=seed).relevance for seed in (0, 1))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, other)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.table = nn.Linear(4, 3), nn.Linear(5, 3), nn.Embedding(7, 3)

    def forward(self, a: torch.Tensor, b: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.a(a) + self.table(index)) * torch.relu(self.b(b))


@pytest.mark.parametrize("name", ["gradient", "integrated-gradients", "smoothgrad", "deeplift"])
def test_models_with_several_inputs_keep_their_structure(name: str) -> None:
    model = made(TwoInputs)
    inputs = {
        "a": images(4).flatten()[:16].reshape(4, 4),
        "b": images(4).flatten()[:20].reshape(4, 5),
        "index": torch.tensor([0, 1, 2, 3]),
    }
    result = explained(name, model, inputs, 1)
    assert {k: v.shape for k, v in result.relevance.items()} == {k: v.shape for k, v in inputs.items()}
    assert not result.relevance["index"].any()
    single = explained(name, model, {k: v[2:3] for k, v in inputs.items()}, 1)
    torch.testing.assert_close(single.relevance["a"], result.relevance["a"][2:3])


class FixedBatch(nn.Module):
    """Its batch size is fixed in the code, so samples run one at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Plain()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (
            self.inner(x).reshape(1, 5)
            if x.shape[0] == 1
            else torch.cat([self.inner(x[i : i + 1]) for i in range(int(x.shape[0]))])
        )


@pytest.mark.parametrize("name", ["gradient", "integrated-gradients", "deeplift", "grad-cam", "rise"])
def test_models_that_fix_their_batch_size_work(name: str) -> None:
    model, x = made(FixedBatch), images(2)
    torch.testing.assert_close(
        explained(name, model, x, 1).relevance, explained(name, model.inner, x, 1).relevance, rtol=1e-6, atol=1e-9
    )


def test_every_method_is_in_the_registry_with_its_summary_and_source() -> None:
    for name in (*ALL, "pattern-net", "pattern-attribution"):
        assert METHODS[name].summary
        assert METHODS[name].source


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("integrated-gradients", {"step": 5}, "Did you mean 'steps'"),
        ("integrated-gradients", {"steps": 0}, "steps=0 must be at least 1"),
        ("integrated-gradients", {"steps": 1.5}, "must be int"),
        ("integrated-gradients", {"baseline": torch.zeros(7)}, r"baseline has shape \(7,\)"),
        ("integrated-gradients", {"baseline": float("nan")}, "NaN"),
        ("occlusion", {"window": 4, "stride": 8}, "must not exceed window"),
        ("rise", {"probability": 1.0}, "between 0 and 1"),
        ("rise", {"score": "logits"}, "must be one of"),
        ("grad-cam", {"layer": "feature"}, "Did you mean"),
        ("grad-cam", {"layer": "head.1"}, "no grid"),
        ("expected-gradients", {"baselines": torch.zeros(2, 4)}, "must be N"),
        ("pattern-net", {}, "needs patterns=FILE"),
    ],
)
def test_bad_options_are_refused_in_one_sentence(name: str, options: dict[str, object], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        explained(name, made(Plain), images(1), **options)


def test_methods_for_images_refuse_other_inputs() -> None:
    x = images(1).flatten()[:12].reshape(2, 6)
    for name in ("edge", "occlusion", "rise"):
        with pytest.raises(InputError, match="images"):
            explained(name, made(Hidden), x)


def test_targets_and_layers_are_checked() -> None:
    explainer = relprop.Explainer(made(Plain), images(1), "gradient")
    with pytest.raises(TargetError, match="out of range"):
        explainer(images(1), 9)
    with pytest.raises(OptionError, match="inputs only"):
        explainer(images(1), layers=["features.0"])


def test_the_plan_prints_the_table_of_ops() -> None:
    text = str(relprop.Explainer(made(Plain), images(1), "deeplift").plan)
    assert "features.0" in text
    assert "max_pool2d" in text
    assert "deeplift explains the model as a whole" in text
