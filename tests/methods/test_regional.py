"""RAP with regional evidence: against loops in float64, what it conserves, where its regions are, and what it refuses."""

import copy
import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import relprop
from relprop.errors import OptionError, TargetError, UnsupportedOpError
from relprop.methods import make_method
from relprop.ops.layout import SampleLayout
from relprop.propagation.spread import MANY, directions
from relprop.rules.discoveries import CHEAP, COSTLY, by_chance, standing_out
from relprop.rules.regional import Place, by_region
from relprop.zoo import import_torchvision
from tests.methods.models import Attending, Hidden, images, made
from tests.rules.reference import TIGHT, box_shares, check_conservation, contribution_matrix, influence_shares, rap_shares

CLOSE = {"rtol": 1e-8, "atol": 1e-10}


class Small(nn.Module):
    """Two conv layers and a dense head, hidden layer or not, pools before it or not: small enough for loops over every contribution."""

    def __init__(self, *, hidden: bool = False, pooled: bool = False, channels: int = 4, width: int = 6) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 3, 3), nn.Conv2d(3, channels, 2)
        pools = (nn.MaxPool2d(2, 1), nn.AdaptiveAvgPool2d(2)) if pooled else ()
        read = (4 if pooled else 9) * channels
        wide = nn.Sequential(*pools, nn.Flatten(), nn.Linear(read, width), nn.ReLU(), nn.Linear(width, 5))
        mean = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5))
        self.head = wide if hidden else mean

    def lower(self, x: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(x))))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lower(x))


def mixture(logits: np.ndarray, target: int, start: str) -> np.ndarray:
    """The weights of the logits in what a start explains, one class at a time."""
    others = [j for j in range(len(logits)) if j != target]
    weights = np.zeros(len(logits))
    if start == "softmax":
        parts = np.exp([logits[j] - logits[others].max() for j in others])
        weights[others] = -parts / parts.sum()
    elif start == "mean":
        weights[others] = -1 / len(others)
    elif start == "finer":
        nearest = sorted(others, key=lambda j: abs(logits[j] - logits[target]))[:3]
        weights[nearest] = -1 / 3
    weights[target] = 1
    return weights


def regional(evidence: np.ndarray, weight: float, gates: np.ndarray | None = None) -> np.ndarray:
    """``(channels, regions)`` of relevance shared anew, one region at a time; of its evidence so much counts as its gate says."""
    found, regions = np.zeros_like(evidence), range(evidence.shape[1])
    gates = np.ones(evidence.shape[1]) if gates is None else gates
    of = {p: evidence[:, p].sum() for p in regions}
    for p in regions:
        alike = [q for q in regions if np.sign(of[q]) == np.sign(of[p])]
        sums = (sum(gates[q] * values[q] for q in alike) for values in (of, np.abs(evidence).sum(0)))
        if of[p] and gates[p]:
            factor = weight * of[p] / np.abs(evidence[:, p]).sum() + (1 - weight) * np.divide(*sums)
            found[:, p] = gates[p] * factor * np.abs(evidence[:, p])
    return found


def slowly(
    model: Small, x: Tensor, target: int, start: str, weight: float, lower: str = "influence", growth: float = 0.2
) -> Tensor:
    """The map of one image ``(2, H, W)``: gradient times value down to the regions, then the lower rule and the z-box rule in loops."""
    value = model.lower(x[None]).detach().requires_grad_()
    logits = model.head(value)[0]
    weights = torch.from_numpy(mixture(logits.detach().numpy(), target, start))
    (gradient,) = torch.autograd.grad((logits * weights).sum(), value)
    evidence = (gradient * value)[0].detach().flatten(1).numpy()
    return below(model, x, regional(evidence, weight).flatten(), lower, growth)


def below(model: Small, x: Tensor, relevance: np.ndarray, lower: str = "influence", growth: float = 0.2) -> Tensor:
    """The lower rule and the z-box rule in loops, from the regions to the input."""
    with torch.no_grad():
        middle = F.relu(model.first(x[None]))[0]
        flat = middle.flatten().numpy()
        if lower == "rap":
            relevance = rap_shares(contribution_matrix(model.second, middle), relevance, flat != 0, growth)
        else:
            weights = contribution_matrix(model.second, torch.ones_like(middle))
            relevance = influence_shares(weights, flat, relevance, 0.18)
    return below_first(model, x, relevance)


def below_first(model: Small, x: Tensor, relevance: np.ndarray) -> Tensor:
    """The z-box rule of the first layer in loops."""
    with torch.no_grad():
        z = contribution_matrix(model.first, x)
        weights_of = contribution_matrix(model.first, torch.ones_like(x))  # of inputs that are one: the weights themselves
    assert z.shape == weights_of.shape
    flat = x.flatten().numpy()
    low, high = np.full_like(flat, flat.min()), np.full_like(flat, flat.max())
    return torch.from_numpy(box_shares(weights_of, flat, low, high, relevance)).view_as(x)


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("lower", ["influence", "rap"])
@pytest.mark.parametrize(("start", "weight"), [("logit", 1.0), ("softmax", 0.75), ("mean", 0.0), ("finer", 1.0)])
def test_equals_loops(hidden, start, weight, lower):
    model = made(Small, hidden=hidden)
    x = torch.randn(3, 2, 6, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    target = torch.tensor([[0, 3], [1, 1], [4, 2]])
    chosen = {"upper": "cp-lrp", "lower": lower, "start": start, "weight": weight}
    options = {**chosen, "blocks": 0, "false_discovery_rate": 1.0}
    explainer = relprop.Explainer(model, x, "rap-regional", **options)
    found = explainer(x, target).relevance
    for b in range(3):
        for k in range(2):
            expected = slowly(model, x[b], int(target[b, k]), start, weight, lower)
            torch.testing.assert_close(found[b, k], expected, **CLOSE)


def smooth(model: Small, x: Tensor, target: int, start: str, weight: float) -> Tensor:
    """The same where every channel of the regions counts by its mean gradient."""
    value = model.lower(x[None]).detach().requires_grad_()
    logits = model.head(value)[0]
    weights = torch.from_numpy(mixture(logits.detach().numpy(), target, start))
    (gradient,) = torch.autograd.grad((logits * weights).sum(), value)
    evidence = (value * gradient.mean((2, 3), keepdim=True))[0].detach().flatten(1).numpy()
    return below(model, x, regional(evidence, weight).flatten())


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize(("start", "weight"), [("logit", 1.0), ("mean", None)])
def test_behind_flattened_places_channels_count_by_their_mean_gradient(start, weight, pooled):
    """The regions lie before the pools that lead there."""
    model = made(Small, hidden=True, pooled=pooled)
    x = torch.randn(2, 2, 6, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    target = torch.tensor([[0, 3], [4, 2]])
    explainer = relprop.Explainer(model, x, "rap-regional", start=start, weight=weight, false_discovery_rate=1.0)
    found = explainer(x, target).relevance
    for b in range(2):
        for k in range(2):
            expected = smooth(model, x[b], int(target[b, k]), start, 0.5 if weight is None else weight)
            torch.testing.assert_close(found[b, k], expected, **CLOSE)
    torch.testing.assert_close(explainer(x[1:], target[1:]).relevance, found[1:], **TIGHT)
    assert not explainer.plan.method.conserves


class Indexed(nn.Module):
    """A pool that returns indices too, and whose places are read one by one, all of them or those of one corner."""

    def __init__(self, *, corner: bool) -> None:
        super().__init__()
        self.features, self.pool = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU()), nn.MaxPool2d(2, return_indices=True)
        self.corner = corner
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(12 if corner else 48, 8), nn.ReLU(), nn.Linear(8, 5))

    def forward(self, x: Tensor) -> Tensor:
        pooled, _ = self.pool(self.features(x))
        return self.head(pooled[:, :, :2, :2] if self.corner else pooled)


@pytest.mark.parametrize(
    ("corner", "where"), [(False, "64 regions of 3 channels, at the output of module 'features'"), (True, "4 regions")]
)
def test_regions_lie_before_pools_alone(corner, where):
    """And not before a part is cut out: evidence of the rest would be none of the model's."""
    assert where in note_of(Indexed(corner=corner).double(), torch.rand(1, 2, 8, 8, dtype=torch.float64))


def test_upper_gradient_may_be_chosen_anywhere():
    model, x = made(Small), torch.rand(1, 2, 6, 6, dtype=torch.float64)
    options = {"upper": "gradient", "weight": 1.0, "start": "softmax", "false_discovery_rate": 1.0}
    found = relprop.explain(model, x, 3, method="rap-regional", **options).relevance
    torch.testing.assert_close(found[0], smooth(model, x[0], 3, "softmax", 1.0), **CLOSE)


def attention_held(model: Attending, tokens: Tensor, values: list[Tensor]) -> Tensor:
    """The logits from the tokens on, with attention weights and the deviations of norms held constant: what CP-LRP differentiates."""

    def norm(layer: nn.LayerNorm, x: Tensor) -> Tensor:
        deviation = (x.var(-1, unbiased=False, keepdim=True) + layer.eps).sqrt().detach()
        return (x - x.mean(-1, keepdim=True)) / deviation * layer.weight + layer.bias

    q, k, v = model.qkv(norm(model.norm1, tokens)).unflatten(-1, (3, 2, 6)).permute(2, 0, 3, 1, 4)
    weights = (q @ k.mT / 6**0.5).softmax(-1).detach()
    x = tokens + model.proj((weights @ v).transpose(1, 2).flatten(2))
    first, _, last = model.mlp
    hidden = first(norm(model.norm2, x))
    values.append(hidden)
    # an activation passes relevance unchanged: as the constant factor output over input
    x = x + last(hidden * (F.gelu(hidden) / hidden).detach())
    return model.head(norm(model.norm3, x)[:, 0])


def test_tokens_equal_the_two_parts_put_together_by_hand():
    model, x = made(Attending), images()
    ours = relprop.Explainer(model, x, "rap-regional", depth=0, start="logit", false_discovery_rate=1.0)

    class Lower(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches, self.token = model.patches, model.token

        def forward(self, x):
            return torch.cat([self.token.expand(x.shape[0], -1, -1), self.patches(x).flatten(2).transpose(1, 2)], 1)

    below = Lower()
    tokens = below(x).detach().requires_grad_()
    logits = attention_held(model, tokens, [])
    torch.testing.assert_close(logits, model(x))
    (gradient,) = torch.autograd.grad(logits[:, 2].sum(), tokens)
    evidence = (gradient * tokens).detach()
    relevance = torch.stack([torch.from_numpy(regional(e.mT.numpy(), 0.0)).mT for e in evidence])
    rap = make_method("rap", {})
    rap = dataclasses.replace(
        rap, rules={**rap.rules, "output": rap.rules["input"]}
    )  # its only layer is the first, and here the last
    expected = relprop.Explainer(below, x, rap)(x, output_relevance=relevance).relevance
    torch.testing.assert_close(ours(x, 2).relevance, expected, **CLOSE)


# --- evidence that stands out among the classes ----------------------------------------------------------------------------------------


class Many(Small):
    """The same with classes enough to tell what is usual among them, or features."""

    def __init__(self, *, hidden: bool = False, classes: int = MANY + 20) -> None:
        few = classes < MANY
        super().__init__(hidden=hidden, channels=MANY if few and not hidden else 4, width=MANY if few else 6)
        self.head[-1] = nn.Linear(self.head[-1].in_features, classes)


def gates_of(distance: np.ndarray, rate: float, freedom: int) -> np.ndarray:
    """The procedure of Benjamini and Hochberg, one rank at a time: how far each p lies below the last bar that one passes."""
    p = 2 * scipy.stats.t.sf(np.abs(distance), freedom)
    bar = max(
        (rate * rank / len(p) for rank, value in enumerate(sorted(p), start=1) if value <= rate * rank / len(p)), default=0.0
    )
    return np.array([max(1 - value / bar, 0.0) if bar else 0.0 for value in p])


def evidence_along(model: Small, x: Tensor, weights: Tensor, *, mean_gradient: bool) -> np.ndarray:
    """``(channels, regions)``: gradient times value of a mixture of the logits, or with the channel's mean gradient."""
    value = model.lower(x[None]).detach().requires_grad_()
    (gradient,) = torch.autograd.grad((model.head(value)[0] * weights).sum(), value)
    used = gradient.mean((2, 3), keepdim=True) if mean_gradient else gradient
    return (used * value)[0].detach().flatten(1).numpy()


def gates_among(evidence: np.ndarray, along: list[np.ndarray], rate: float) -> np.ndarray:
    """How far the evidence of regions stands out from that along some directions."""
    whole, apart = (np.mean([part(e) for e in along], 0) for part in (lambda e: e.sum(0) ** 2, lambda e: (e**2).sum(0)))
    some, gates = apart > 0, np.zeros(len(apart))
    common = apart * np.mean(whole[some] / apart[some]) if some.any() else apart
    count, freedom = COSTLY.count, COSTLY.freedom
    spread = np.sqrt((count * whole + (freedom - count) * common) / freedom)
    gates[some] = gates_of(evidence.sum(0)[some] / spread[some], rate, freedom)
    return gates


def with_random_weights(model: Small, count: int = COSTLY.count) -> Small:
    """The model with other weights in its last layer: as large as those of a logit minus the mean of the others."""
    other, last = copy.deepcopy(model), model.head[-1].weight.detach()
    rows = [last[c] - torch.stack([last[j] for j in range(len(last)) if j != c]).mean(0) for c in range(len(last))]
    size = torch.stack(rows).square().mean().sqrt()
    drawn = torch.randn(last.shape[1], count, generator=torch.Generator().manual_seed(0), dtype=torch.float64).T
    other.head[-1] = nn.Linear(last.shape[1], count).double()
    with torch.no_grad():
        other.head[-1].weight.copy_(size * drawn)
    return other


@pytest.mark.parametrize("classes", [MANY + 20, 5, 2])
@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize(("rate", "weight"), [(0.2, 1.0), (0.6, 0.25), (0.9, 0.0)])
def test_what_does_not_stand_out_is_left_out(classes, hidden, rate, weight):
    model = made(Many, hidden=hidden, classes=classes)
    with torch.no_grad():
        model.head[-1].weight[::7] *= 5  # these stand out
    x = torch.randn(3, 2, 6, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    target = torch.tensor([[0, 30], [110, 7], [64, 2]]) % classes
    upper = {"upper": "gradient"} if hidden else {"upper": "cp-lrp", "blocks": 0}
    explainer = relprop.Explainer(model, x, "rap-regional", weight=weight, false_discovery_rate=rate, **upper)
    found, kept = explainer(x, target), 0
    few = classes < MANY
    other, ways = (with_random_weights(model), torch.eye(COSTLY.count)) if few else (model, directions(classes, COSTLY.count))
    for b in range(3):
        along = [evidence_along(other, x[b], v, mean_gradient=hidden) for v in ways]
        for k in range(2):
            logits = model(x[b : b + 1])[0].detach().numpy()
            contrast = torch.from_numpy(mixture(logits, int(target[b, k]), "mean"))
            evidence = evidence_along(model, x[b], contrast, mean_gradient=hidden)
            gates = gates_among(evidence, along, rate)
            kept += (gates > 0).sum()
            expected = below(model, x[b], regional(evidence, weight, gates).flatten())
            torch.testing.assert_close(found.relevance[b, k], expected, **CLOSE)
    assert 0 < kept < 54 or classes == 2 or (few and rate == 0.2), "some regions count and some do not"
    torch.testing.assert_close(explainer(x[1:], target[1:]).relevance, found.relevance[1:], **TIGHT)
    torch.testing.assert_close(explainer(x, target[:, 1]).relevance, found.relevance[:, 1], **TIGHT)


def slowly_tested(model: Small, x: Tensor, target: int, rate: float) -> Tensor:
    """The map of one image: evidence is tested at the last value, and counted behind the layer below, one region at a time."""
    logits = model(x[None])[0].detach().numpy()

    few, count = len(logits) < MANY, CHEAP.count
    other, ways = (with_random_weights(model, count), torch.eye(count)) if few else (model, directions(len(logits), count))
    spread = np.sqrt(np.mean([evidence_along(other, x, v, mean_gradient=False).sum(0) ** 2 for v in ways], 0))
    own = evidence_along(model, x, torch.from_numpy(mixture(logits, target, "mean")), mean_gradient=False)
    gates, some = np.zeros(9), spread > 0
    gates[some] = gates_of(own.sum(0)[some] / spread[some], rate, CHEAP.freedom)
    with torch.no_grad():
        middle = F.relu(model.first(x[None]))[0]
        shares = contribution_matrix(model.second, middle) / model.second(middle[None]).flatten().numpy()
    arriving = (shares * (own * gates).flatten()).sum(1).reshape(3, 16)
    return below_first(model, x, regional(arriving, 0.0).flatten())


@pytest.mark.parametrize("classes", [MANY + 20, 5])
@pytest.mark.parametrize("rate", [0.6, 0.9])
def test_in_front_of_a_linear_head_evidence_is_tested_there(classes, rate):
    model = made(Many, classes=classes)
    x = torch.randn(3, 2, 6, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    likeliest = model(x).topk(2).indices
    target = torch.stack([likeliest[:, 1], torch.tensor([0, 3, 1])], 1)
    explainer = relprop.Explainer(model, x, "rap-regional", upper="cp-lrp", false_discovery_rate=rate)
    assert "16 regions of 3 channels, at relu in the model itself, after a test at relu in the model itself" in str(
        explainer.plan
    )
    found = explainer(x, target).relevance
    for b in range(3):
        for k in range(2):
            expected = slowly_tested(model, x[b], int(target[b, k]), rate)
            torch.testing.assert_close(found[b, k], expected, **CLOSE)
    assert found.any()
    torch.testing.assert_close(explainer(x[1:], target[1:]).relevance, found[1:], **TIGHT)
    torch.testing.assert_close(explainer(x, target[:, 1]).relevance, found[:, 1], **TIGHT)
    assert explainer.trace(x, target[:, 0]).worst.deviation < 1e-8


def test_what_does_not_stand_out_is_absorbed():
    model = made(Many)
    x = torch.randn(3, 2, 6, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    options = {"upper": "cp-lrp", "start": "logit", "false_discovery_rate": 0.5, "blocks": 0}
    explainer = relprop.Explainer(model, x, "rap-regional", **options)
    target = torch.tensor([[0, 30], [110, 7], [64, 2]])
    found, every = (
        explainer(x, target),
        relprop.explain(model, x, target, method="rap-regional", **options | {"false_discovery_rate": 1.0}),
    )
    check_conservation(found)
    assert not torch.allclose(found.absorbed, every.absorbed)
    assert explainer.trace(x, target[:, 0]).worst.deviation < 1e-8


class Averaging(Small):
    """The same with classes counted in every place, so that its last op is no dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(4, 5, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize(
    ("model", "given"),
    [
        (Averaging, {"target": 3}),
        (Small, {"target": 3}),  # of five classes and four features
        (Small, {"target": "output"}),
        (Small, {"output_relevance": torch.eye(5, dtype=torch.float64)[:2]}),
    ],
)
def test_where_nothing_tells_what_is_usual_all_evidence_counts(model, given):
    net, x = made(model), images(2)[:, :2, :6, :6]
    if given.get("target") == "output":
        net.head[-1] = nn.Linear(4, 1).double()
    maps = [relprop.explain(net, x, method="rap-regional", false_discovery_rate=rate, **given).relevance for rate in (0.01, 1.0)]
    torch.testing.assert_close(*maps, rtol=0, atol=0)


@settings(max_examples=60, deadline=None)
@given(distance=st.floats(0, 1e6), freedom=st.sampled_from([2, 16, 64]))
def test_what_is_by_chance_is_students(distance, freedom):
    found = float(by_chance(torch.tensor(distance, dtype=torch.float64), freedom))
    assert math.isclose(found, 2 * scipy.stats.t.sf(distance, freedom), rel_tol=1e-9, abs_tol=1e-12)


def test_a_class_that_stands_out_nowhere_has_an_empty_map_and_a_note():
    model = made(Many)
    with torch.no_grad():
        model.head[-1].weight[5] = model.head[-1].weight.mean(0)  # its logit is the mean of all, in every region
    found = relprop.explain(model, images(2)[:, :2, :6, :6], torch.tensor([5, 5]), method="rap-regional")
    assert not found.relevance.any()
    (note,) = [note for note in found.notes if note.startswith("2 of 2 maps are zero everywhere")]
    assert note.endswith("what is usual; false_discovery_rate=1 counts all.")


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    rate=st.floats(0.001, 1),
    size=st.floats(0.1, 10),
    regions=st.integers(1, 60),
    freedom=st.sampled_from([4, 16, 64]),
)
def test_regions_stand_out_as_benjamini_and_hochberg_say(seed, rate, size, regions, freedom):
    source = torch.Generator().manual_seed(seed)
    evidence, spread = (torch.randn(2, 1, regions + 3, generator=source, dtype=torch.float64) for _ in range(2))
    evidence, spread = size * evidence, spread.abs()
    evidence[..., -3:], spread[..., -3:] = 0, 0  # regions without values are none
    found = standing_out(evidence, spread, freedom, rate, SampleLayout(0), 2)
    for b in range(2):
        expected = gates_of((evidence / spread)[b, 0, :-3].numpy(), rate, freedom)
        np.testing.assert_allclose(found[b, 0, :-3].numpy(), expected, atol=1e-9)
    assert not found[..., -3:].any()
    assert not standing_out(0 * evidence, spread, freedom, 0.5, SampleLayout(0), 2).any()


@pytest.mark.parametrize(("classes", "count"), [(100, 4), (1000, 4), (5, 4)])
def test_directions_are_orthonormal_differences_of_classes(classes, count):
    found = directions(classes, count)
    torch.testing.assert_close(found @ found.T, torch.eye(count, dtype=torch.float64))
    torch.testing.assert_close(found.sum(1), torch.zeros(count, dtype=torch.float64))


@settings(max_examples=40, deadline=None)
@given(
    channels=st.integers(0, 2),
    weight=st.floats(0, 1),
    seed=st.integers(0, 2**31),
    zeros=st.booleans(),
)
def test_every_region_keeps_its_evidence_and_every_sample_its_sum(channels, weight, seed, zeros):
    source = torch.Generator().manual_seed(seed)
    relevance = torch.randn(3, 4, 5, 2, generator=source, dtype=torch.float64)
    if zeros:
        relevance[:, 1:3] = 0
    layout, dim = SampleLayout(0), channels + 1
    place = Place(relevance, dim, layout, 3)
    shared = by_region(weight).share(relevance, place)
    torch.testing.assert_close(shared.flatten(1).sum(1), relevance.flatten(1).sum(1), **TIGHT)
    evidence = relevance.sum(dim)
    for sign in (-1, 1):
        parts = [(sign * whole).clamp(min=0).flatten(1).sum(1) for whole in (shared.sum(dim), evidence)]
        torch.testing.assert_close(*parts, **TIGHT)
    kept = by_region(1.0).share(relevance, place)
    torch.testing.assert_close(kept.sum(dim), evidence, **TIGHT)
    assert bool(((kept >= 0) == (kept.sum(dim, keepdim=True) >= 0)).where(kept != 0, True).all()), "a region has one sign"


@pytest.mark.parametrize("upper", ["cp-lrp", "attnlrp", "lrp-epsilon", "lrp-gamma", "lrp-zplus", "epsilon-plus"])
@pytest.mark.parametrize("kind", [Small, Attending])
def test_conserves_and_takes_every_sample_alone(kind, upper):
    model = made(kind)
    x = images() if kind is Attending else images()[:, :2, :6, :6]
    explainer = relprop.Explainer(model, x, "rap-regional", upper=upper, start="logit", weight=0.5, false_discovery_rate=1.0)
    target = torch.tensor([[0, 3], [2, 2], [4, 1]])
    found = explainer(x, target)
    check_conservation(found)
    alone = torch.cat([explainer(x[i : i + 1], target[i : i + 1]).relevance for i in range(3)])
    torch.testing.assert_close(found.relevance, alone, **TIGHT)
    torch.testing.assert_close(found.relevance[:, 0], explainer(x, target[:, 0]).relevance, **TIGHT)
    trace = explainer.trace(x, target[:, 0])
    assert trace.worst.deviation < 1e-8


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


@pytest.mark.parametrize("kind", [Small, Attending])
def test_maps_of_two_classes_differ(kind):
    """With the start by absolute influence, RAP's maps of two classes are nearly the same up to their sign."""
    model = made(kind)
    x = images() if kind is Attending else images()[:, :2, :6, :6]
    both = torch.tensor([[0, 1]] * 3)
    methods: dict[str, dict[str, Any]] = {"rap": {}, "rap-regional": {"start": "logit", "false_discovery_rate": 1.0}}
    maps = {m: relprop.explain(model, x, both, method=m, **given).relevance.sum(2) for m, given in methods.items()}
    alike = {m: np.mean([abs(correlation(v[b, 0], v[b, 1])) for b in range(3)]) for m, v in maps.items()}
    assert alike["rap-regional"] < alike["rap"] - 0.1


class Windows(nn.Module):
    """A model whose tokens are attended in windows and averaged, channels last as in Swin."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm, self.qkv, self.head = nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).permute(0, 2, 3, 1)
        for _ in range(2):
            y = self.norm(x).unflatten(1, (2, 2)).unflatten(3, (2, 2)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
            q, k, v = self.qkv(y).chunk(3, -1)
            y = F.scaled_dot_product_attention(q, k, v)
            x = x + y.unflatten(1, (2, 2)).unflatten(3, (2, 2)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
        return self.head(self.norm(x).mean((1, 2)))


class Mixing(nn.Module):
    """Tokens mixed by dense layers along them: the channels are told by the norm."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm, self.tokens, self.channels = (
            nn.Conv2d(3, 8, 4, 4),
            nn.LayerNorm(8),
            nn.Linear(16, 16),
            nn.Linear(8, 8),
        )
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = x + self.tokens(self.norm(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.channels(self.norm(x))
        return self.head(x.mean(1))


class Text(nn.Module):
    """Token numbers, embedded and attended."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm, self.qkv, self.head = nn.Embedding(11, 8), nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.embed(x))
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.head((x + F.scaled_dot_product_attention(q, k, v)).mean(1))


def note_of(model: nn.Module, x: Tensor, **options) -> str:
    explainer = relprop.Explainer(model.eval(), x, "rap-regional", **options)
    table = str(explainer.plan)
    (note,) = [n for n in explainer.plan.notes if n.startswith("Evidence is counted in")]
    assert note in table
    assert table.count("by region") == 1
    return note


def vision(name: str) -> nn.Module:
    pytest.importorskip("torchvision")
    return getattr(import_torchvision().models, name)(weights=None)


@pytest.mark.parametrize(
    ("name", "before", "last"),
    [
        (
            "resnet18",
            "4 regions of 512 channels, at the output of module 'layer4.0'",
            "4 regions of 512 channels, at the output of module 'layer4'",
        ),
        (
            "squeezenet1_1",
            "9 regions of 64 channels, at the output of module 'features.12.squeeze_activation'",
            "9 regions of 512 channels, at the output of module 'features'",
        ),
        (
            "mobilenet_v3_small",
            "4 regions of 96 channels, at the output of module 'features.11'",
            "4 regions of 576 channels, at the output of module 'features'",
        ),
        (
            "shufflenet_v2_x0_5",
            "4 regions of 192 channels, at the output of module 'stage4'",
            "4 regions of 1024 channels, at the output of module 'conv5'",
        ),
    ],
)
def test_regions_of_torchvision(name, before, last):
    captured = relprop.capture(vision(name).eval(), torch.rand(1, 3, 64, 64))
    for blocks, where in ((0, last), (1, before)):
        notes = captured.explainer("rap-regional", blocks=blocks).plan.notes
        assert any(note.startswith(f"Evidence is counted in {where}") for note in notes)


def test_regions_of_small_models():
    x = images(1)
    for hidden in (False, True):
        small = made(Small, hidden=hidden)
        assert "9 regions of 4 channels" in note_of(small, x[:, :2, :6, :6], blocks=0)
        assert f"{9 if hidden else 16} regions of" in note_of(small, x[:, :2, :6, :6])
        assert "16 regions of 3 channels" in note_of(small, x[:, :2, :6, :6], blocks=9), "there is no other"
    assert "17 regions of 12 channels" in note_of(made(Attending), x)
    assert "16 regions of 8 channels" in note_of(made(Windows), x)
    assert "16 regions of 8 channels" in note_of(made(Mixing), x)
    text = Text().double().eval()
    assert "6 regions of 8 channels" in note_of(text, torch.randint(0, 11, (1, 6)))


class Grids(nn.Module):
    """Grids of 8 × 8 and 4 × 4 positions, with two convolutions on the coarser one below its last but one value."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.enter = nn.ModuleList(nn.Conv2d(n, 4, 3, 2, 1) for n in (3, 4))
        self.stay = nn.ModuleList(nn.Conv2d(4, 4, kernel) for _ in range(2))
        self.last, self.head, self.margin = nn.Conv2d(4, 6, 1), nn.Linear(6, 5), kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.enter:
            x = F.relu(layer(x))
        for layer in self.stay:
            x = F.relu(layer(F.pad(x, [self.margin] * 4)))
            x = x * x.mean((2, 3), keepdim=True).sigmoid()  # as in squeeze-and-excitation
        return self.head(F.relu(self.last(x)).mean((2, 3)))


@pytest.mark.parametrize(
    ("kernel", "options", "below"),
    [
        (3, {}, 4),  # they reach two positions of four
        (5, {}, 2),  # four of four
        (5, {"blocks": 1}, 4),
        (5, {"blocks": 0}, 5),
    ],
)
def test_where_regions_could_reach_each_other_they_are_those_of_the_first_value_on_their_grid(kernel, options, below):
    plan = relprop.Explainer(Grids(kernel).eval(), torch.rand(1, 3, 16, 16), "rap-regional", **options).plan
    (place,) = [i for i, step in enumerate(plan.steps) if step.rule.startswith("by region")]
    assert sum("conv" in step.op for step in plan.steps[:place]) == below


def test_depth_chooses_the_tokens_that_enter_a_block():
    model, x = made(Windows), images(2)
    numbers = {}
    for depth in (0, 0.5, 1):
        plan = relprop.Explainer(model, x, "rap-regional", depth=depth).plan
        rows = [step.rule.startswith("by region") for step in plan.steps]
        numbers[depth] = sum(step.role == "attention" for step in plan.steps[: rows.index(True)])
    assert numbers == {0: 0, 0.5: 1, 1: 2}


def test_a_layer_may_be_chosen():
    model, x = made(Small), images(2)[:, :2, :6, :6]
    assert "at the output of module 'first'" in note_of(model, x, layer="first")
    assert "16 regions of 3 channels" in note_of(model, x, layer="first")
    for layer, message in (
        ("secnd", "no module 'secnd' with an output of its own. Did you mean 'second'"),
        ("head.1", r"module 'head.1' has no regions that it could tell: it is B×4"),
    ):
        with pytest.raises(OptionError, match=message):
            relprop.Explainer(model, x, "rap-regional", layer=layer)
    with pytest.raises(OptionError, match="relevance also passes beside the output of module 'qkv'"):
        relprop.Explainer(made(Attending), images(2), "rap-regional", layer="qkv")


@pytest.mark.parametrize(
    ("model", "x", "rules"),
    [
        (Small, images(1)[:, :2, :6, :6], {"usual": "influence", "rap": "rap", "influence": "influence"}),
        (Attending, images(1), {"usual": "rap", "rap": "rap", "influence": "influence"}),
    ],
)
def test_the_rule_below_is_raps_in_models_with_attention(model, x, rules):
    captured = relprop.capture(made(model), x)
    for lower, rule in rules.items():
        options: dict[str, Any] = {"depth": 1} if model is Attending else {"blocks": 0}
        steps = captured.explainer("rap-regional", lower=lower, **options).plan.steps
        (place,) = [i for i, step in enumerate(steps) if step.rule.startswith("by region")]
        assert {step.rule for step in steps[1:place] if step.role in {"dense", "conv", "attention"}} == {rule}


def test_sums_below_split_by_absolute_value_in_models_with_attention():
    captured = relprop.capture(made(Attending), images(1))
    for add, splits in {"usual": "split by absolute", "positive": "split by positive"}.items():
        steps = captured.explainer("rap-regional", depth=1, add=add).plan.steps
        (place,) = [i for i, step in enumerate(steps) if step.rule.startswith("by region")]
        assert {step.rule for step in steps[:place] if step.role == "add"} == {splits}


@pytest.mark.parametrize("growth", [0.0, 0.5])
def test_rap_below_grows_by_the_option(growth):
    """Without growth it is as published."""
    model, x = made(Small), torch.randn(2, 2, 6, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    options = {"upper": "cp-lrp", "lower": "rap", "start": "logit", "weight": 1.0, "blocks": 0, "false_discovery_rate": 1.0}
    found = relprop.explain(model, x, 1, method="rap-regional", **options, growth=growth).relevance
    for b in range(2):
        torch.testing.assert_close(found[b], slowly(model, x[b], 1, "logit", 1.0, "rap", growth), **CLOSE)


def test_models_without_regions_are_refused():
    with pytest.raises(
        UnsupportedOpError, match="has several positions or tokens before the last layer; take rap with start=signed"
    ):
        relprop.Explainer(made(Hidden), torch.randn(2, 6).double(), "rap-regional")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": 1.5}, "weight=1.5 must lie between 0 and 1"),
        ({"weight": float("nan")}, "weight=nan must lie between 0 and 1"),
        ({"false_discovery_rate": 0.0}, "false_discovery_rate=0.0 must lie above 0 and be at most 1"),
        ({"false_discovery_rate": float("nan")}, "false_discovery_rate=nan must lie above 0 and be at most 1"),
        ({"depth": -0.1}, "depth=-0.1 of method 'rap-regional' must lie between 0 and 1"),
        ({"blocks": -1}, "blocks=-1 of method 'rap-regional' must not be negative"),
        ({"lower": "zplus"}, "lower='zplus' of method 'rap-regional' must be one of"),
        ({"upper": "rap"}, "upper='rap' of method 'rap-regional' must be one of"),
        ({"start": "absolute"}, "start='absolute' of method 'rap-regional' must be one of"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(OptionError, match=message):
        make_method("rap-regional", options)


def test_a_contrast_needs_other_classes():
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 1)).double()
    with pytest.raises(TargetError, match="start=softmax compares the class with all others"):
        relprop.explain(model, torch.randn(2, 2, 6, 6).double(), method="rap-regional", start="softmax")


def test_a_single_logit_has_no_contrast_with_the_mean():
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 1)).double()
    x = torch.randn(2, 2, 6, 6).double()
    both = [relprop.explain(model, x, method="rap-regional", start=start).relevance for start in ("mean", "logit")]
    torch.testing.assert_close(*both)


def test_rules_by_path_hold_above_and_below(tmp_path):
    model, x = made(Small, hidden=True), images(2)[:, :2, :6, :6]
    method = dataclasses.replace(make_method("rap-regional", {}), by_path={"head.1": "flat", "first": "wsquare"})
    rules = {step.path: step.rule for step in relprop.Explainer(model, x, method).plan.steps}
    assert rules["head.1"] == "flat"
    assert rules["first"] == "wsquare"
    path = tmp_path / "own.toml"
    path.write_text('base = "rap-regional"\n[options]\nweight = 0.5\n', "utf-8")
    named = relprop.explain(model, x, 1, method="rap-regional", weight=0.5)
    torch.testing.assert_close(relprop.explain(model, x, 1, method=path).relevance, named.relevance)
