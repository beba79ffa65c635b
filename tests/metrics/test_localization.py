import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from relprop.errors import OptionError
from relprop.metrics import metric


def case(seed: int, count: int = 3, size: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    relevance = torch.randn(count, 3, size, size, generator=generator, dtype=torch.float64)
    mask = torch.tensor([0, 0, 1, 2, 255])[torch.randint(0, 5, (count, size, size), generator=generator)]
    mask[:, 0, :2] = torch.tensor([0, 1])
    return relevance, mask


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("tolerance", [0, 2])
def test_pointing_game_is_that_of_a_loop(seed: int, tolerance: int) -> None:
    relevance, mask = case(seed)
    hits = metric("pointing-game", tolerance=tolerance).update(relevance=relevance, mask=mask)["pointing_game"]
    for hit, heat, truth in zip(hits.tolist(), relevance.sum(1).numpy(), mask.numpy(), strict=True):
        allowed = [place for place in np.ndindex(truth.shape) if truth[place] != 255]
        row, column = max(allowed, key=lambda place: heat[place])
        near = [
            (r, c)
            for r, c in np.ndindex(truth.shape)
            if truth[r, c] in {1, 2} and (r - row) ** 2 + (c - column) ** 2 <= tolerance**2
        ]
        assert hit == bool(near)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("pool", ["positive", "absolute", "l2"])
def test_mass_and_rank_are_those_of_a_loop(seed: int, pool: str) -> None:
    relevance, mask = case(seed)
    mass = metric("relevance-mass", pool=pool).update(relevance=relevance, mask=mask)["relevance_mass"]
    rank = metric("relevance-rank", pool=pool).update(relevance=relevance, mask=mask)["relevance_rank"]
    for index in range(3):
        values = []
        for row, column in np.ndindex(7, 7):
            channels, truth = relevance[index, :, row, column], mask[index, row, column].item()
            if truth != 255:
                pooled = {"positive": channels.sum().relu(), "absolute": channels.sum().abs(), "l2": channels.norm()}[pool]
                values.append((pooled.item(), truth > 0))
        size = sum(truth for _, truth in values)
        best = sorted(values, key=lambda value: -value[0])[:size]
        assert mass[index].item() == pytest.approx(sum(v for v, truth in values if truth) / sum(v for v, _ in values))
        if pool != "positive":  # zeros of the positive part tie
            assert rank[index].item() == pytest.approx(sum(truth for _, truth in best) / size)


@pytest.mark.parametrize(
    ("ours", "theirs"), [("relevance-mass", "RelevanceMassAccuracy"), ("relevance-rank", "RelevanceRankAccuracy")]
)
def test_scores_are_those_of_quantus(ours: str, theirs: str) -> None:
    quantus = pytest.importorskip("quantus", reason="Quantus is not installed")
    relevance, mask = case(0)
    heat, truth = relevance[:, :1].abs(), (mask > 0) & (mask != 255)
    expected = getattr(quantus, theirs)(abs=False, normalise=False, disable_warnings=True)(
        model=torch.nn.Identity().eval(),
        x_batch=relevance[:, :1].numpy(),
        y_batch=np.zeros(3, dtype=int),
        a_batch=heat.numpy(),
        s_batch=truth[:, None].numpy(),
        channel_first=True,
    )
    rows = metric(ours).update(relevance=heat, mask=truth)
    assert next(iter(rows.values())).tolist() == pytest.approx(expected)


@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3))
def test_scores_are_bounded_and_do_not_depend_on_scale(seed: int, scale: float) -> None:
    relevance, mask = case(seed)
    for name in ("pointing-game", "relevance-mass", "relevance-rank"):
        score = next(iter(metric(name).update(relevance=relevance, mask=mask).values()))
        scaled = next(iter(metric(name).update(relevance=relevance * scale, mask=mask).values()))
        assert ((score >= 0) & (score <= 1)).all()
        assert torch.allclose(score, scaled)


def test_without_object_there_is_no_score() -> None:
    for name in ("pointing-game", "relevance-mass", "relevance-rank"):
        measured = metric(name)
        assert math.isnan(next(iter(measured.update(relevance=torch.ones(1, 2, 2), mask=torch.zeros(1, 2, 2)).values())))
        assert list(measured.undefined.values()) == [1]
    with pytest.raises(OptionError, match="pool"):
        metric("relevance-mass", pool="max").update(relevance=torch.ones(1, 2, 2), mask=torch.ones(1, 2, 2))
