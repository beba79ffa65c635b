"""Metrics of signals and volumes: against loops, and the same as for images where they are images in disguise."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from relprop.errors import InputError
from relprop.metrics import metric
from relprop.metrics.fills import blurred
from relprop.metrics.maps import dilate
from relprop.metrics.perturbation import removal_step

SHAPES = [(2, 12), (2, 4, 5, 6)]


def network(*shape: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 4), nn.Tanh(), nn.Linear(4, 3)).double()


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("region", [1, 2])
def test_regions_are_removed_in_order(shape: tuple[int, ...], region: int) -> None:
    relevance, size = drawn(1, *shape), shape[1:]
    found = removal_step(relevance, order="morf", region=region, per_step=3, sources=(), positions=len(size))
    for heat, steps in zip(relevance.sum(1), found, strict=True):
        corners = list(itertools.product(*(range(0, n, region) for n in size)))
        boxes = [tuple(slice(c, c + region) for c in corner) for corner in corners]
        ranked = sorted(boxes, key=lambda box: -float(heat[box].mean()))
        for place, box in enumerate(ranked):
            assert bool((steps[box] == place // 3).all())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fill", ["zero", "mean", "blur", "noise"])
def test_curves_of_the_removal(shape: tuple[int, ...], fill: str) -> None:
    model, inputs, relevance, target = network(*shape), drawn(2, *shape), drawn(1, *shape), torch.tensor([0, 2])
    given = {"relevance": relevance, "inputs": inputs, "target": target, "model": model, "seeds": 0}
    rows = metric("morf", region=2, per_step=2, steps=3, fill=fill).update(**given)
    assert rows["logit_curve"].shape == (2, 4)
    torch.testing.assert_close(rows["logit_curve"][:, 0], model(inputs).gather(1, target[:, None])[:, 0].detach())
    if fill == "zero":
        step = removal_step(relevance, order="morf", region=2, per_step=2, sources=(), positions=len(shape) - 1)
        left = model(inputs * (step >= 2).unsqueeze(1)).gather(1, target[:, None])[:, 0].detach()
        torch.testing.assert_close(rows["logit_curve"][:, 2], left)
    for name, options in (
        ("abpc", {}),
        ("srg", {"region": 2}),
        ("insertion-deletion", {"steps": 4}),
        ("single-deletion", {"grid": 2}),
    ):
        scores = metric(name, **options).update(**given)
        assert all(len(value) == 2 for value in scores.values())


@pytest.mark.parametrize("shape", SHAPES)
def test_blur_is_a_gaussian_in_every_dimension(shape: tuple[int, ...]) -> None:
    inputs = drawn(3, *shape)
    found, reach = blurred(inputs, 0.5), 2
    weights = [math.exp(-(step**2) / (2 * 0.5**2)) for step in range(-reach, reach + 1)]
    weights = [w / sum(weights) for w in weights]
    for place in itertools.product(*map(range, shape[1:])):
        expected = torch.zeros(2, shape[0], dtype=torch.float64)
        for steps in itertools.product(range(-reach, reach + 1), repeat=len(place)):
            near = tuple(min(max(p + s, 0), n - 1) for p, s, n in zip(place, steps, shape[1:], strict=True))
            expected += math.prod(weights[s + reach] for s in steps) * inputs[(slice(None), slice(None), *near)]
        torch.testing.assert_close(found[(slice(None), slice(None), *place)], expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_masks_of_signals_and_volumes(shape: tuple[int, ...]) -> None:
    """Localization counts positions, whatever their dimensions: the same numbers as for an image of one row."""
    relevance, mask = drawn(1, *shape), torch.zeros(2, *shape[1:], dtype=torch.uint8)
    mask[:, 1:3] = 1
    row, row_mask = relevance.flatten(2).unsqueeze(2), mask.flatten(1).unsqueeze(1)
    for name in ("segmentation", "segmentation-transformer", "relevance-mass", "relevance-rank", "outside-inside"):
        found = metric(name).update(relevance=relevance, mask=mask)
        expected = metric(name).update(relevance=row, mask=row_mask)
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, equal_nan=True)
        of_maps = metric(name).update(relevance=relevance.sum(1), mask=mask)
        for key, value in expected.items():
            torch.testing.assert_close(of_maps[key], value, equal_nan=True)
    hits = metric("pointing-game", tolerance=0).update(relevance=relevance, mask=mask)["pointing_game"]
    peaks = relevance.sum(1).flatten(1).argmax(1)
    assert hits.tolist() == [float(m.flatten()[p]) for m, p in zip(mask, peaks, strict=True)]


def test_masks_grow_by_a_ball() -> None:
    mask = torch.zeros(1, 7, 7, 7, dtype=torch.bool)
    mask[0, 3, 3, 3] = True
    grown = dilate(mask, 2)[0]
    for place in itertools.product(range(7), repeat=3):
        assert bool(grown[place]) == (sum((p - 3) ** 2 for p in place) <= 4)
    line = torch.zeros(1, 9, dtype=torch.bool)
    line[0, 4] = True
    assert dilate(line, 2)[0].nonzero().flatten().tolist() == [2, 3, 4, 5, 6]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_other_metrics_take_signals_and_volumes(shape: tuple[int, ...]) -> None:
    model, inputs, target = network(*shape), drawn(2, *shape), torch.tensor([0, 2])

    def explain(x: Tensor, classes: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        return x.detach() * torch.autograd.grad(model(x).gather(1, classes[:, None]).sum(), x)[0]

    relevance = explain(inputs, target)
    given = {"relevance": relevance, "inputs": inputs, "target": target, "model": model, "explain": explain, "seeds": 0}
    given |= {"module": model, "make_explain": lambda _: explain}
    for name, options in (
        ("sensitivity-n", {"samples": 4, "shares": (0.3,)}),
        ("infidelity", {"samples": 4}),
        ("infidelity", {"samples": 4, "perturbation": "square", "side": 3}),
        ("max-sensitivity", {"samples": 2}),
        ("random-logit", {}),
        ("cascading-randomization", {}),
    ):
        scores = metric(name, **options).update(**given)
        assert all(bool(value.isfinite().all()) for value in scores.values()), name
    same = metric("cascading-randomization").update(**given)
    torch.testing.assert_close(same["ssim"], torch.ones(2, dtype=torch.float64))


def test_what_suits_images_alone_says_so() -> None:
    model, inputs = network(2, 12), drawn(2, 2, 12)
    given = {"relevance": inputs, "inputs": inputs, "target": torch.tensor([0, 2]), "model": model, "seeds": 0}
    with pytest.raises(InputError, match=r"imputes the pixels of images \(B, C, H, W\)"):
        metric("morf", region=2, fill="road").update(**given)
    with pytest.raises(InputError, match="'hog' compares maps of images"):
        metric("random-logit", similarity=("hog",)).update(**given, explain=lambda x, _: x)
    four = torch.cat([inputs, inputs])
    with pytest.raises(InputError, match="GAE makes mosaics of images"):
        metric("gae").update(inputs=four, model=model, explain=lambda x, _: x, seeds=0)
    with pytest.raises(InputError, match=r"which must be images \(B, C, H, W\), or signals"):
        metric("morf").update(**{**given, "inputs": inputs[:, 0], "relevance": inputs[:, 0]})
    with pytest.raises(InputError, match=r"must have shape \(B, D, H, W\) or \(B, C, D, H, W\)"):
        metric("relevance-mass").update(relevance=inputs, mask=torch.ones(2, 4, 5, 6))
