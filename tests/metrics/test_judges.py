"""The metrics of today's benchmarks, each against an explicit loop in float64, and their properties."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from relprop.errors import InputError, OptionError
from relprop.metrics import METRICS, metric
from relprop.metrics.base import Metric

SIDE = 8


def case(seed, count=3, side=SIDE, classes=5):
    """Relevance, inputs, targets and a random network that is not linear, all in float64."""
    draw = torch.Generator().manual_seed(seed)
    relevance = torch.randn(count, 3, side, side, generator=draw, dtype=torch.float64)
    inputs = torch.randn(count, 3, side, side, generator=draw, dtype=torch.float64)
    first = torch.randn(3 * side * side, 16, generator=draw, dtype=torch.float64) / side
    second = torch.randn(16, classes, generator=draw, dtype=torch.float64)
    return relevance, inputs, torch.arange(count) % classes, lambda x: (x.flatten(1) @ first).tanh() @ second


def patches_of(side, region):
    return [(slice(r, r + region), slice(c, c + region)) for r in range(0, side, region) for c in range(0, side, region)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("region", "per_step", "fill"), [(2, 1, "mean"), (4, 3, "zero"), (3, 2, "mean")])
def test_srg_is_that_of_a_loop(seed, region, per_step, fill):
    relevance, inputs, target, model = case(seed)
    found = metric("srg", region=region, per_step=per_step, fill=fill).update(
        relevance=relevance, inputs=inputs, target=target, model=model, seeds=0
    )
    for i in range(len(inputs)):
        patches = patches_of(SIDE, region)
        rank = sorted(range(len(patches)), key=lambda p: float(relevance[i].sum(0)[patches[p]].mean()))
        color = inputs[i].mean((1, 2)) if fill == "mean" else torch.zeros(3, dtype=torch.float64)
        sums = {"logit": 0.0, "probability": 0.0}
        steps = math.ceil(len(patches) / per_step)
        for sign, order in ((1, rank), (-1, rank[::-1])):
            for step in range(1, steps + 1):
                image = inputs[i].clone()
                for p in order[: step * per_step]:
                    image[(slice(None), *patches[p])] = color[:, None, None]
                logits = model(image[None])[0]
                sums["logit"] += sign * float(logits[target[i]]) / steps
                sums["probability"] += sign * float(logits.softmax(0)[target[i]]) / steps
        assert float(found["logit_srg"][i]) == pytest.approx(sums["logit"])
        assert float(found["probability_srg"][i]) == pytest.approx(sums["probability"])


def test_srg_is_the_area_between_the_curves_and_changes_its_sign_with_the_map():
    relevance, inputs, target, model = case(0)
    given = {"inputs": inputs, "target": target, "model": model, "seeds": 0}
    found = metric("srg", region=2, per_step=1).update(relevance=relevance, **given)
    gap = found["least_first_logit_curve"] - found["most_first_logit_curve"]
    area = np.trapezoid(gap.numpy(), np.linspace(0, 1, gap.shape[1]))
    np.testing.assert_allclose(found["logit_srg"].numpy(), area)
    assert float(gap[:, 0].abs().max()) == pytest.approx(0)
    assert float(gap[:, -1].abs().max()) == pytest.approx(0, abs=1e-12)
    turned = metric("srg", region=2, per_step=1).update(relevance=-relevance, **given)
    torch.testing.assert_close(turned["logit_srg"], -found["logit_srg"])


def test_the_map_of_a_linear_model_has_the_largest_srg():
    relevance, inputs, target, _ = case(1)
    weight = torch.randn(3, SIDE, SIDE, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    given = {"inputs": inputs, "target": 0 * target, "model": lambda x: (x * weight).flatten(1).sum(1, keepdim=True), "seeds": 0}
    best = metric("srg", region=1, per_step=1, fill="zero").update(relevance=inputs * weight, **given)["logit_srg"]
    other = metric("srg", region=1, per_step=1, fill="zero").update(relevance=relevance, **given)["logit_srg"]
    assert (best > other.abs()).all()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("grid", "fill", "output", "pool"), [(4, "zero", "logit", "signed"), (3, "mean", "probability", "absolute")]
)
def test_single_deletion_is_that_of_a_loop(seed, grid, fill, output, pool):
    relevance, inputs, target, model = case(seed)
    found = metric("single-deletion", grid=grid, fill=fill, output=output, pool=pool).update(
        relevance=relevance, inputs=inputs, target=target, model=model, seeds=0
    )["single_deletion"]
    side = SIDE // grid
    for i in range(len(inputs)):

        def answer(image, i=i):
            logits = model(image[None])[0]
            return float((logits if output == "logit" else logits.softmax(0))[target[i]])

        mass, drops = [], []
        for row in range(grid):
            for column in range(grid):
                cell = (slice(row * side, (row + 1) * side), slice(column * side, (column + 1) * side))
                heat = relevance[i].sum(0)[cell]
                mass.append(float((heat.abs() if pool == "absolute" else heat).sum()))
                image = inputs[i].clone()
                image[(slice(None), *cell)] = 0.0 if fill == "zero" else inputs[i].mean((1, 2))[:, None, None]
                drops.append(answer(inputs[i]) - answer(image))
        assert float(found[i]) == pytest.approx(stats.spearmanr(mass, drops).statistic)


def test_single_deletion_of_the_true_drops_is_one_and_of_their_negation_minus_one():
    _, inputs, target, _ = case(3)
    weight = torch.randn(3, SIDE, SIDE, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    given = {"inputs": inputs, "target": 0 * target, "model": lambda x: (x * weight).flatten(1).sum(1, keepdim=True), "seeds": 0}
    for sign in (1, -1):
        score = metric("single-deletion").update(relevance=sign * inputs * weight, **given)["single_deletion"]
        torch.testing.assert_close(score, torch.full((3,), float(sign), dtype=torch.float64))
    assert metric("single-deletion").update(relevance=0 * inputs, **given)["single_deletion"].isnan().all()


@pytest.mark.parametrize(("name", "option"), [("grid", 0), ("grid", 9), ("output", "margin"), ("pool", "sum"), ("fill", "paint")])
def test_single_deletion_refuses_what_it_cannot_do(name, option):
    relevance, inputs, target, model = case(0)
    with pytest.raises(OptionError):
        metric("single-deletion", **{name: option}).update(
            relevance=relevance, inputs=inputs, target=target, model=model, seeds=0
        )


def cells(grid, side=6):
    return torch.arange(1, grid * grid + 1).view(grid, grid).repeat_interleave(side // grid, 0).repeat_interleave(side // grid, 1)


@pytest.mark.parametrize("grid", [2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_grid_pointing_is_that_of_a_loop(grid, seed):
    draw = torch.Generator().manual_seed(seed)
    relevance = torch.randn(4, 3, 6, 6, generator=draw, dtype=torch.float64)
    parts = cells(grid).expand(4, 6, 6)
    own = torch.randint(1, grid * grid + 1, (4,), generator=draw)
    found = metric("grid-pointing").update(relevance=relevance, mask=parts == own[:, None, None], parts=parts)
    for i in range(4):
        positive, size = {}, {}
        for row, column in np.ndindex(6, 6):
            value, number = float(relevance[i, :, row, column].sum()), int(parts[i, row, column])
            positive[number] = positive.get(number, 0.0) + max(value, 0.0)
            size[number] = size.get(number, 0.0) + abs(value)
        mine = int(own[i])
        assert float(found["share"][i]) == pytest.approx(positive[mine] / sum(positive.values()))
        assert float(found["wins"][i]) == (positive[mine] == max(positive.values()))
        assert float(found["outside"][i]) == pytest.approx(1 - size[mine] / sum(size.values()))


def test_grid_pointing_of_the_cell_alone_of_nothing_and_of_everything():
    parts = cells(2)[None]
    mask = parts == 2
    alone = metric("grid-pointing").update(relevance=mask.double(), mask=mask, parts=parts)
    assert {name: float(value) for name, value in alone.items()} == {"share": 1, "wins": 1, "outside": 0}
    nothing = metric("grid-pointing").update(relevance=torch.zeros(1, 6, 6), mask=mask, parts=parts)
    assert float(nothing["share"]) == float(nothing["wins"]) == 0
    assert nothing["outside"].isnan().all()
    even = metric("grid-pointing").update(relevance=torch.ones(1, 6, 6), mask=mask, parts=parts)
    assert float(even["share"]) == 1 / 4
    with pytest.raises(InputError, match="cells have shape"):
        metric("grid-pointing").update(relevance=torch.ones(1, 6, 6), mask=mask, parts=parts[:, :3])


@pytest.mark.parametrize("tolerance", [0, 2])
def test_class_pointing_is_the_mean_over_classes_of_a_loop(tolerance):
    draw = torch.Generator().manual_seed(5)
    relevance = torch.randn(12, 3, 7, 7, generator=draw, dtype=torch.float64)
    mask = torch.rand(12, 7, 7, generator=draw) > 0.8
    mask[3] = False
    target = torch.randint(0, 4, (12,), generator=draw)
    measure = metric("class-pointing", tolerance=tolerance)
    for part in (slice(0, 5), slice(5, 12)):
        measure.update(relevance=relevance[part], mask=mask[part], target=target[part], logits=torch.zeros(12, 6)[part])
    hits = {}
    for i in range(12):
        if mask[i].any():
            heat = relevance[i].sum(0).numpy()
            row, column = np.unravel_index(heat.argmax(), heat.shape)
            near = any(mask[i, r, c] and (r - row) ** 2 + (c - column) ** 2 <= tolerance**2 for r, c in np.ndindex(7, 7))
            hits.setdefault(int(target[i]), []).append(near)
    assert float(measure.compute()["class_pointing"]) == pytest.approx(np.mean([np.mean(h) for h in hits.values()]))
    assert float(measure.compute()["all_pointing"]) == pytest.approx(np.mean([hit for found in hits.values() for hit in found]))


@pytest.mark.parametrize("seed", range(3))
def test_known_map_is_that_of_a_loop(seed):
    draw = torch.Generator().manual_seed(seed)
    relevance = torch.randn(2, 3, 6, 6, generator=draw, dtype=torch.float64)
    parts = torch.randint(0, 3, (2, 6, 6), generator=draw)
    found = metric("known-map").update(relevance=relevance, parts=parts)
    for i in range(2):
        heat, truth = relevance[i].sum(0).flatten().tolist(), parts[i].flatten().tolist()
        right = [{0: 0, 1: 1, 2: -1}[number] for number in truth]
        dot = sum(h * r for h, r in zip(heat, right, strict=True))
        assert float(found["cosine"][i]) == pytest.approx(dot / math.hypot(*heat) / math.hypot(*right))
        outside = sum(abs(h) for h, r in zip(heat, right, strict=True) if not r)
        wrong = sum(abs(h) for h, r in zip(heat, right, strict=True) if h * r < 0)
        total = sum(map(abs, heat))
        assert float(found["outside"][i]) == pytest.approx(outside / total)
        assert float(found["wrong_sign"][i]) == pytest.approx(wrong / (total - outside))
    exact = metric("known-map").update(relevance=(parts == 1).double() - (parts == 2).double(), parts=parts)
    assert [float(exact[name][0]) for name in ("cosine", "outside", "wrong_sign", "average_precision")] == [
        pytest.approx(1),
        0,
        0,
        1,
    ]
    assert all(value.isnan().all() for value in metric("known-map").update(relevance=0 * relevance, parts=parts).values())


def test_scores_of_parts_of_a_set_add_up():
    relevance, inputs, target, model = case(6, count=4)
    given = {"relevance": relevance, "inputs": inputs, "target": target, "model": model, "seeds": [0] * 4}
    whole, first, second = (Metric(METRICS["srg"], region=2) for _ in range(3))
    whole.update(**given)
    for measure, part in ((first, slice(0, 1)), (second, slice(1, 4))):
        measure.update(**{name: value if callable(value) else value[part] for name, value in given.items()})
    first.merge(second)
    torch.testing.assert_close(first.compute()["logit_srg"], whole.compute()["logit_srg"])
