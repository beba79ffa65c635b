"""Ranks of methods, and their chart."""

import numpy as np
import pytest

from relprop.errors import InputError
from relprop.evaluation.report.ranks import critical_difference, mean_ranks
from relprop.viz import plot_ranks
from relprop.viz.ranks import _groups
from tests.figures import texts_of

DEMSAR = {2: 1.960, 3: 2.343, 4: 2.569, 5: 2.728, 6: 2.850, 7: 2.949, 8: 3.031, 9: 3.102, 10: 3.164}
"""q at 0.05 for the Nemenyi test, Demšar 2006, table 5."""


@pytest.mark.parametrize(("methods", "quantile"), DEMSAR.items())
def test_the_critical_difference_is_nemenyis(methods, quantile):
    expected = quantile * np.sqrt(methods * (methods + 1) / (6 * 30))
    assert critical_difference(methods, 30) == pytest.approx(expected, rel=5e-4)


def test_ranks_are_scipys():
    stats = pytest.importorskip("scipy.stats")
    scores = np.random.default_rng(0).integers(0, 4, (20, 5)).astype(float)
    np.testing.assert_allclose(mean_ranks(scores, "lower"), stats.rankdata(scores, axis=1).mean(0))
    np.testing.assert_allclose(mean_ranks(scores, "higher"), stats.rankdata(-scores, axis=1).mean(0))
    scores[3, 2] = np.nan
    np.testing.assert_allclose(mean_ranks(scores, "lower"), stats.rankdata(np.delete(scores, 3, 0), axis=1).mean(0))
    assert np.isnan(mean_ranks(np.full((2, 3), np.nan), "lower")).all()


def test_methods_within_the_difference_are_joined():
    assert _groups([1.0, 1.5, 2.2, 4.0, 4.1], 1.0) == [(0, 1), (1, 2), (3, 4)]
    assert _groups([1.0, 3.0], 1.0) == []


def test_the_chart_names_every_method():
    ranks = {"rap": 1.4, "gradient": 2.9, "lrp-gamma": 1.7}
    figure = plot_ranks(ranks, 0.8, title="Ranks")
    assert {"rap  1.40", "lrp-gamma  1.70", "2.90  gradient", "critical difference 0.80", "Ranks"} <= set(texts_of(figure))
    with pytest.raises(InputError, match="two methods"):
        plot_ranks({"rap": 1.0}, 1.0)
