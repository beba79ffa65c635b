import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from relprop.metrics import metric
from tests.metrics.models import images


@pytest.mark.parametrize("seed", range(3))
def test_gini_and_entropy_are_those_of_a_loop(seed: int) -> None:
    relevance = images(seed, size=5)
    rows = metric("complexity").update(relevance=relevance)
    for index, heat in enumerate(relevance.sum(1)):
        values = sorted(abs(value) for value in heat.flatten().tolist())
        total, count = sum(values), len(values)
        gini = 1 - 2 * sum(value / total * (count - place - 0.5) / count for place, value in enumerate(values))
        entropy = -sum(value / total * math.log(value / total) for value in values)
        assert rows["gini"][index].item() == pytest.approx(gini)
        assert rows["entropy"][index].item() == pytest.approx(entropy)


def test_scores_are_those_of_quantus() -> None:
    quantus = pytest.importorskip("quantus", reason="Quantus is not installed")
    relevance = images(0)[:, :1].abs()
    rows = metric("complexity").update(relevance=relevance)
    arguments = {
        "model": torch.nn.Identity().eval(),
        "x_batch": relevance.numpy(),
        "y_batch": np.zeros(4, dtype=int),
        "a_batch": relevance.numpy(),
        "channel_first": True,
    }
    options = {"abs": True, "normalise": False, "disable_warnings": True}
    assert rows["gini"].tolist() == pytest.approx(quantus.Sparseness(**options)(**arguments), abs=1e-3)
    assert rows["entropy"].tolist() == pytest.approx(quantus.Complexity(**options)(**arguments))


@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3))
def test_bounds_and_scale(seed: int, scale: float) -> None:
    relevance = images(seed, size=6)
    rows, scaled = (metric("complexity").update(relevance=relevance * factor) for factor in (1, scale))
    assert ((rows["gini"] >= 0) & (rows["gini"] < 1)).all()
    assert ((rows["entropy"] >= 0) & (rows["entropy"] <= math.log(36) + 1e-9)).all()
    assert all(torch.allclose(rows[name], scaled[name]) for name in rows)


def test_extremes() -> None:
    flat, peak = torch.ones(1, 4, 4), torch.zeros(1, 4, 4)
    peak[0, 1, 2] = -3.0
    rows = metric("complexity").update(relevance=torch.cat([flat, peak, torch.zeros(1, 4, 4)]))
    assert rows["gini"][:2].tolist() == pytest.approx([0, 15 / 16])
    assert rows["entropy"][:2].tolist() == pytest.approx([math.log(16), 0])
    assert math.isnan(rows["gini"][2])
