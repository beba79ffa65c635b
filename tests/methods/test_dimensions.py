"""Signals, pictures of any shape and number of channels, volumes and videos: every family of methods, against loops and peers."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import relprop
from relprop.errors import InputError, OptionError
from relprop.targets import Neuron
from tests.methods.networks import MADE, Tokens, network
from tests.methods.quick import quick
from tests.rules.reference import check_conservation

EXACT = {"rtol": 1e-9, "atol": 1e-11}
CAMS = (
    "grad-cam",
    "grad-cam-plus-plus",
    "layer-cam",
    "hires-cam",
    "xgrad-cam",
    "finer-cam",
    "score-cam",
    "ablation-cam",
    "eigen-cam",
)
LAYERS = {"ecg": "layer2", "scan": "norm5", "eeg": "separable", "video": "layer2"}


def rest(name: str, maps: Tensor) -> Tensor:
    """The logits of a network's last maps."""
    model, _ = network(name)
    return model.head(model.pool(F.relu(maps) if name == "scan" else maps).flatten(1))


def places(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    return list(itertools.product(*map(range, shape)))


def enlarged(grid: Tensor, size: tuple[int, ...]) -> Tensor:
    """Linear interpolation of one map, dimension by dimension."""
    for dim, wide in enumerate(size):
        narrow = grid.shape[dim]
        weights = torch.zeros(wide, narrow, dtype=grid.dtype)
        for i in range(wide):
            at = max((i + 0.5) * narrow / wide - 0.5, 0.0)
            low = math.floor(at)
            weights[i, low] += 1 - (at - low)
            weights[i, min(low + 1, narrow - 1)] += at - low
        grid = torch.tensordot(weights, grid, ([1], [dim])).movedim(0, dim)
    return grid


def explained(method: str, logits: Tensor, target: int) -> Tensor:
    """The score: the logit, or that of Finer-CAM."""
    if method != "finer-cam":
        return logits[target]
    own = logits[target]
    others = sorted((d for d in range(len(logits)) if d != target), key=lambda d: abs(float((logits[d] - own).detach())))[:3]
    p = logits.softmax(0)
    return sum(p[d] * (own - logits[d]) for d in others) / sum(p[d] for d in others)


def mean_gradient(values: list[Tensor], slopes: list[Tensor]) -> Tensor:
    return sum(slopes) / len(values)


def mean_over_activation(values: list[Tensor], slopes: list[Tensor]) -> Tensor:
    total = sum(values)
    return sum(s * v for s, v in zip(slopes, values, strict=True)) / total if total else total


def with_alphas(values: list[Tensor], slopes: list[Tensor]) -> Tensor:
    alphas = [s**2 / (2 * s**2 + sum(values) * s**3) if s else 0.0 for s in slopes]
    return sum(alpha * max(float(s), 0.0) for alpha, s in zip(alphas, slopes, strict=True))


BY_CHANNEL = {
    "grad-cam": mean_gradient,
    "finer-cam": mean_gradient,
    "xgrad-cam": mean_over_activation,
    "grad-cam-plus-plus": with_alphas,
}
BY_ELEMENT = {"layer-cam": lambda a, g: max(float(g), 0.0) * a, "hires-cam": lambda a, g: g * a}


def weights_by_passes(name: str, method: str, sample: Tensor, a: Tensor, target: int) -> list[Tensor]:
    """The weight of every channel by a forward pass of its own."""
    model, _ = network(name)
    found, whole = list[Tensor](), rest(name, a[None])[0, target].detach()
    for k in range(len(a)):
        if method == "ablation-cam":
            without = a.clone()
            without[k] = 0
            found.append((whole - rest(name, without[None])[0, target].detach()) / whole)
        else:
            mask = enlarged(a[k], tuple(sample.shape[2:]))
            mask = (mask - mask.min()) / (mask.max() - mask.min()) if mask.max() > mask.min() else torch.zeros_like(mask)
            found.append(model(sample * mask)[0, target].detach())
    return found if method == "ablation-cam" else list(torch.stack(found).softmax(0))


def component(a: Tensor, cells: list[tuple[int, ...]]) -> Tensor:
    """The first principal component at every cell; the largest is positive."""
    rows = torch.stack([a[(slice(None), *c)] for c in cells])
    rows = rows - rows.mean(0)
    line = rows @ torch.linalg.eigh(rows.T @ rows).eigenvectors[:, -1]
    return line * line[line.abs().argmax()].sign()


def cam_by_loops(name: str, method: str, target: int) -> Tensor:
    """The map of every sample, element by element."""
    model, x = network(name)
    found = list[Tensor]()
    for sample in x.split(1):
        a = model.features(sample).detach().requires_grad_()
        g = torch.autograd.grad(explained(method, rest(name, a)[0], target), a)[0][0]
        a, cells = a.detach()[0], places(tuple(a.shape[2:]))
        if method in BY_ELEMENT:
            line = [sum(BY_ELEMENT[method](a[k][c], g[k][c]) for k in range(len(a))) for c in cells]
        elif method == "eigen-cam":
            line = list(component(a, cells))
        else:
            of_channel = BY_CHANNEL.get(method)
            weights = (
                weights_by_passes(name, method, sample, a, target)
                if of_channel is None
                else [of_channel([a[k][c] for c in cells], [g[k][c] for c in cells]) for k in range(len(a))]
            )
            line = [sum(weights[k] * a[k][c] for k in range(len(a))) for c in cells]
        grid = torch.stack([torch.as_tensor(value, dtype=a.dtype) for value in line]).reshape(a.shape[1:])
        found.append(enlarged(grid if method == "hires-cam" else grid.clamp(min=0), tuple(x.shape[2:])))
    return torch.stack(found)


@pytest.mark.parametrize("method", CAMS)
@pytest.mark.parametrize("name", ["ecg", "scan", "eeg"])
def test_class_activation_maps_are_those_of_loops(name: str, method: str) -> None:
    model, x = network(name)
    found = relprop.explain(model, x, 2, method=method)
    assert found.relevance.shape == x.shape
    assert f"module '{LAYERS[name]}'" in found.notes[-1]
    torch.testing.assert_close(found.heatmap(), cam_by_loops(name, method, 2), rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("name", ["ecg", "scan", "video"])
def test_grad_cam_is_captums(name: str) -> None:
    attr = pytest.importorskip("captum.attr")
    model, x = network(name)
    coarse = attr.LayerGradCam(model, getattr(model, LAYERS[name])).attribute(x, target=1, relu_attributions=True)
    expected = attr.LayerAttribution.interpolate(coarse, tuple(x.shape[2:]), "linear" if x.dim() == 3 else "trilinear")[:, 0]
    torch.testing.assert_close(relprop.explain(model, x, 1, method="grad-cam").heatmap(), expected.detach(), **EXACT)


@pytest.mark.parametrize("positions", [1, 3])
def test_tokens_are_laid_out_over_signals_and_volumes(positions: int) -> None:
    model, x = network("tokens of a signal" if positions == 1 else "tokens of a volume")
    assert isinstance(model, Tokens)
    size = tuple(n // 4 for n in x.shape[2:])
    tokens = torch.cat([model.token.expand(3, -1, -1), model.patches(x).flatten(2).mT], 1).detach()
    normed = model.norm1(tokens).detach().requires_grad_()
    gradient = torch.autograd.grad(model.after_norm(tokens, normed)[:, 1].sum(), normed)[0][:, 1:]
    grids = (gradient.clamp(min=0) * normed.detach()[:, 1:]).sum(2).clamp(min=0)
    found = relprop.explain(model, x, 1, method="layer-cam")
    assert "'norm1'" in found.notes[-1]
    for map_, grid in zip(found.heatmap(), grids, strict=True):
        torch.testing.assert_close(map_, enlarged(grid.reshape(size), tuple(x.shape[2:])), **EXACT)


@pytest.mark.parametrize("method", ["attention-rollout", "generic-attention", "legrad", "attcat", "transformer-attribution"])
@pytest.mark.parametrize("name", ["tokens of a signal", "tokens of a volume"])
def test_maps_of_tokens_have_the_shape_of_the_input(name: str, method: str) -> None:
    model, x = network(name)
    explainer = relprop.Explainer(model, x, method)
    found = explainer(x, 1)
    assert found.relevance.shape == x.shape
    torch.testing.assert_close(found.relevance[1:2], explainer(x[1:2], 1).relevance, **EXACT)
    assert explainer.plan.notes[-1].endswith("among 10 patches." if "signal" in name else "among 2×3×3 patches.")


def test_a_recording_without_a_channel_of_its_own() -> None:
    """The model adds it: its maps have one row, which counts as no dimension of the recording."""
    inner, x = network("eeg")
    model, _ = network("eeg without a channel")
    model.net.load_state_dict(inner.state_dict())
    found = relprop.explain(model, x[:, 0], 2, method="grad-cam").heatmap()
    torch.testing.assert_close(found, relprop.explain(inner, x, 2, method="grad-cam").heatmap()[:, 0], **EXACT)


@pytest.mark.parametrize("method", ["rap", "lrp-epsilon", "lrp-zplus", "lrp-gamma", "epsilon-plus", "rap-regional"])
@pytest.mark.parametrize("name", MADE)
def test_relevance_adds_up_to_the_logit(name: str, method: str) -> None:
    model, x = network(name)
    options = {"start": "logit"} if method == "rap-regional" else {}
    explainer = relprop.Explainer(model, x, method, **options)
    found = explainer(x, 2)
    torch.testing.assert_close(found.logits, model(x))
    check_conservation(found)
    torch.testing.assert_close(found.relevance[1:2], explainer(x[1:2], 2).relevance, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", MADE)
def test_gradients_are_autograds(name: str) -> None:
    model, x = network(name)
    x = x.clone().requires_grad_()
    expected = torch.autograd.grad(model(x)[:, 3].sum(), x)[0]
    torch.testing.assert_close(relprop.explain(model, x.detach(), 3, method="gradient").relevance, expected, **EXACT)


@pytest.mark.parametrize("name", MADE)
def test_fullgrad_adds_up_to_the_logit_at_every_place(name: str) -> None:
    model, x = network(name)
    found = relprop.explain(model, x, 2, method="fullgrad", libra=False)
    assert found.completeness_error is not None
    torch.testing.assert_close(found.completeness_error, torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-9)
    if name == "scan":  # all but the bias of the last layer has a place
        torch.testing.assert_close(found.absorbed, model.head.bias[2].detach().expand(3), rtol=1e-6, atol=1e-8)


PERTURBING = ("occlusion", "rise", "kernel-shap", "lime", "score-cam", "ablation-cam", "edge", "smoothgrad", "expected-gradients")


@pytest.mark.parametrize("method", PERTURBING)
@pytest.mark.parametrize("name", ["ecg", "eeg", "bands", "scan"])
def test_samples_do_not_know_each_other(name: str, method: str) -> None:
    if method == "lime":
        pytest.importorskip("sklearn")
    model, x = network(name)
    explainer = relprop.Explainer(model, x, method, **({"window": 6, "stride": 6} if method == "occlusion" else quick(method, 8)))
    found = explainer(x, 2).relevance
    assert found.shape == x.shape
    assert bool(found.any()) or (name, method) == ("scan", "score-cam")  # which is negative everywhere
    torch.testing.assert_close(found[2:], explainer(x[2:], 2).relevance, rtol=1e-5, atol=1e-7)


class Additive(nn.Module):
    """A logit that is a weighted sum of the input: what hiding a part does is known exactly."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, *shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.flatten(1).T


SHAPES = [(2, 12), (1, 3, 12), (13, 6, 9), (2, 4, 6, 8)]


def drawn(shape: tuple[int, ...], batch: int = 2) -> Tensor:
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("each", [False, True])
def test_occlusion_is_what_each_window_takes_away(shape: tuple[int, ...], each: bool) -> None:
    model, x = Additive(*shape), drawn(shape)
    size = shape[1:]
    window = [min(n, d + 2) for d, n in enumerate(size)] if each else [min(3, n) for n in size]
    stride = [max(side - 1, 1) for side in window] if each else [min(2, n) for n in size]
    options = {"window": window, "stride": tuple(stride)} if each else {"window": 3, "stride": 2}
    found = relprop.explain(model, x, 1, method="occlusion", baseline=0.5, **options).heatmap()
    lost = ((x - 0.5) * model.weight[1].detach()).sum(1)
    total, count = torch.zeros_like(lost), torch.zeros(size)
    starts = [
        [*range(0, n - side, step), len(range(0, n - side, step)) * step]
        for n, side, step in zip(size, window, stride, strict=True)
    ]
    for corner in itertools.product(*starts):
        box = tuple(slice(s, s + side) for s, side in zip(corner, window, strict=True))
        total[(slice(None), *box)] += lost[(slice(None), *box)].flatten(1).sum(1).reshape(-1, *[1] * len(size))
        count[box] += 1
    torch.testing.assert_close(found, total / count, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_kernel_shap_finds_the_shapley_values_of_an_additive_model(shape: tuple[int, ...]) -> None:
    pytest.importorskip("sklearn")
    model, x = Additive(*shape), drawn(shape)
    sides = [min(round(8 ** (1 / len(shape[1:]))), n) for n in shape[1:]]
    parts = (x * model.weight[1].detach()).sum(1)
    expected = torch.zeros_like(parts)
    for cell in itertools.product(*map(range, sides)):
        where = [[i for i in range(n) if i * side // n == c] for n, side, c in zip(shape[1:], sides, cell, strict=True)]
        box = torch.zeros(shape[1:], dtype=torch.bool)
        for place in itertools.product(*where):
            box[place] = True
        expected[:, box] = parts[:, box].sum(1, keepdim=True)
    found = relprop.explain(model, x, 1, method="kernel-shap", count=8, samples=200).heatmap()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("shape", [(2, 40), (1, 6, 40), (2, 8, 12, 12)])
def test_rise_is_bright_where_the_weights_are(shape: tuple[int, ...]) -> None:
    model, x = Additive(*shape), torch.ones(1, *shape, dtype=torch.float64)
    spot = tuple(slice(n // 4, n // 2) for n in shape[1:])
    with torch.no_grad():
        model.weight.zero_()
        model.weight[(1, slice(None), *spot)] = 1
    found = relprop.explain(model, x, 1, method="rise", masks=400, grid=4, score="logit").heatmap()[0]
    other = found.clone()
    other[spot] = torch.nan
    assert found[spot].mean() > 1.2 * other.nanmean()


@pytest.mark.parametrize("shape", [(2, 12), (1, 5, 7), (3, 4, 5, 6)])
def test_edges_are_sobels(shape: tuple[int, ...]) -> None:
    model, x = Additive(*shape), drawn(shape, 1)
    gray, size = x[0].mean(0), shape[1:]
    expected = torch.zeros(size, dtype=x.dtype)
    for place in places(size):
        for along in range(len(size)):
            slope = 0.0
            for step in itertools.product((-1, 0, 1), repeat=len(size)):
                near = tuple(min(max(p + s, 0), n - 1) for p, s, n in zip(place, step, size, strict=True))
                weight = math.prod((s / 2) if d == along else (0.5 if s == 0 else 0.25) for d, s in enumerate(step))
                slope += weight * float(gray[near])
            expected[place] += slope**2
    torch.testing.assert_close(relprop.explain(model, x, 1, method="edge").heatmap()[0], expected.sqrt(), **EXACT)


def test_superpixels_of_a_volume_and_many_channels_but_not_of_a_signal() -> None:
    pytest.importorskip("skimage")
    pytest.importorskip("sklearn")
    for shape in ((1, 6, 12, 12), (13, 12, 16)):
        x = drawn(shape, 1) * 0.01
        x[..., 6:] += 1
        found = relprop.explain(Additive(*shape), x, 1, method="kernel-shap", segments="slic", count=8, samples=40).heatmap()
        assert 2 <= found.unique().numel() <= 24
    with pytest.raises(OptionError, match="this input is a signal; take segments='grid'"):
        relprop.explain(Additive(2, 12), drawn((2, 12)), 1, method="lime", segments="slic")


@pytest.mark.parametrize("name", ["ecg", "video"])
def test_shifts_are_taken_back_before_the_mean(name: str) -> None:
    """Along time in signals; in videos all frames alike, whatever number of targets."""
    model, x = network(name)
    target = torch.tensor([[0, 2]] * 3)
    found = relprop.explain(model, x, target, method="lrp-epsilon", average={"shifts": 2, "reach": 3, "seed": 5})
    source = torch.Generator().manual_seed(5)
    shifts = [(0, 0), *(torch.randint(-3, 4, (2,), generator=source).tolist() for _ in range(2))]
    maps = list[Tensor]()
    for down, right in shifts:
        by, dims = ((right,), (-1,)) if name == "ecg" else ((down, right), (-2, -1))
        one = relprop.explain(model, x.roll(by, dims), target, method="lrp-epsilon").relevance
        maps.append(one.roll([-n for n in by], dims))
    torch.testing.assert_close(found.relevance, torch.stack(maps).mean(0), rtol=1e-7, atol=1e-9)


def test_a_signal_is_not_mirrored() -> None:
    model, x = network("ecg")
    with pytest.raises(InputError, match="a mirrored signal runs backwards; average over shifts or noise"):
        relprop.explain(model, x, 1, method="gradient", average={"flips": True})


@pytest.mark.parametrize(
    ("name", "layer", "channels"), [("ecg", "layer1", 1), ("scan", "transition", 1), ("tokens of a signal", "norm1", 2)]
)
def test_a_unit_is_a_channel_in_any_dimension(name: str, layer: str, channels: int) -> None:
    model, x = network(name)
    kept = list[Tensor]()
    handle = getattr(model, layer).register_forward_hook(lambda _m, _i, y: kept.append(y))
    x = x.clone().requires_grad_()
    model(x)
    handle.remove()
    value = kept[0].select(channels, 4).flatten(1).mean(1)
    expected = torch.autograd.grad(value.sum(), x)[0]
    found = relprop.explain(model, x.detach(), Neuron(layer, 4), method="gradient")
    assert found.value is not None
    torch.testing.assert_close(found.value, value.detach())
    torch.testing.assert_close(found.relevance, expected, **EXACT)


def test_a_concept_is_a_channel_of_a_signal() -> None:
    model, x = network("ecg")
    explainer = relprop.Explainer(model, x, "lrp-epsilon")
    whole = explainer(x, 2, layers=["layer1"]).layers["layer1"]
    found = explainer(x, 2, concepts={"layer1": [3]}, layers=["layer1"]).layers["layer1"]
    expected = torch.zeros_like(whole)
    expected[:, 3] = whole[:, 3]
    torch.testing.assert_close(found, expected, **EXACT)


class TwoInputs(nn.Module):
    """A signal and a row of a table."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv1d(2, 4, 3), nn.Linear(7, 2)

    def forward(self, signal: Tensor, row: Tensor) -> Tensor:
        return self.head(torch.cat([F.relu(self.conv(signal)).mean(2), row], 1))


def test_the_heat_map_of_several_inputs_is_that_of_the_only_signal() -> None:
    x = (torch.randn(2, 2, 20), torch.randn(2, 3))
    found = relprop.explain(TwoInputs(), x, torch.tensor([[0, 1], [1, 0]]), method="lrp-epsilon")
    torch.testing.assert_close(found.heatmap(), found.relevance[0].sum(2))


ONE_INPUT = ("grad-cam", "occlusion", "rise", "kernel-shap", "edge", "fullgrad")


@pytest.mark.parametrize("method", ONE_INPUT)
@pytest.mark.parametrize("shape", [(6,), (1, 2, 3, 2, 3)])
def test_other_inputs_are_refused_in_a_sentence(method: str, shape: tuple[int, ...]) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 4), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises((InputError, OptionError), match=r"signals?, images? or volumes?"):
        relprop.explain(model, torch.randn(2, *shape), 1, method=method)
    with pytest.raises((InputError, OptionError), match=r"signals?, images? or volumes?"):
        relprop.explain(TwoInputs(), (torch.randn(2, 2, 20), torch.randn(2, 3)), 1, method=method)


def test_a_method_of_ones_own_may_return_one_map_per_signal() -> None:
    from relprop.methods import METHODS, register_method

    register_method("halves", lambda model, inputs, target: inputs[:, :1, ::2].abs())
    try:
        model, x = network("ecg")
        found = relprop.explain(model, x, 1, method="halves").heatmap()
    finally:
        del METHODS["halves"]
    for map_, sample in zip(found, x, strict=True):
        torch.testing.assert_close(map_, enlarged(sample[0, ::2].abs(), (50,)), **EXACT)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": [4, 4]}, "must be one number, or 1: one for every dimension"),
        ({"window": [4, 0]}, r"window=\[4, 0\] must be at least 1"),
        ({"window": [4, 4], "stride": [4, 5]}, "must not exceed"),
        ({"window": []}, "must be at least 1"),
    ],
)
def test_windows_that_do_not_fit_are_refused(options: dict[str, object], message: str) -> None:
    model, x = network("ecg")
    with pytest.raises(OptionError, match=message):
        relprop.explain(model, x, 1, method="occlusion", **{"stride": 1, **options})


class Sequence(nn.Module):
    """A sequence whose features come last, as recurrent layers and transformers have it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(8, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.second(F.relu(self.first(x)))).mean(1))


class Windowed(nn.Module):
    """A signal times a window over time."""

    def __init__(self) -> None:
        super().__init__()
        self.window, self.conv, self.head = nn.Parameter(torch.rand(40)), nn.Conv1d(2, 4, 3), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.conv(x * self.window)).mean(2))


def test_channels_in_another_dimension_are_told() -> None:
    x = torch.randn(2, 4, 8)
    with pytest.raises(OptionError, match="reads its channels in another dimension; permute it"):
        relprop.explain(Sequence(), x, 1, method="grad-cam")
    for method, options in (("occlusion", {"window": 2, "stride": 2}), ("kernel-shap", {"count": 4, "samples": 10})):
        assert "the model reads them in dimension 2" in relprop.explain(Sequence(), x, 1, method=method, **options).notes[0]
    found = relprop.explain(Windowed(), torch.randn(2, 2, 40), 1, method="grad-cam")
    assert found.heatmap().shape == (2, 40)
    assert not relprop.explain(Windowed(), torch.randn(2, 2, 40), 1, method="occlusion").notes
