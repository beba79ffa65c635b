"""Unbounded ratios: the median stands beside the mean in every form of a report, with the interval of medians of resampled images."""

import numpy as np
import pytest

from relprop.evaluation import evaluate, report
from relprop.evaluation.report.statistics import median_estimates, resamples
from tests.evaluation.world import evaluation


@pytest.mark.parametrize("images", [2, 5, 8])
def test_medians_are_those_of_numpy_on_every_resample(images):
    values = np.random.default_rng(images).normal(size=(images, 2))
    values[0, 1] = np.nan
    found = median_estimates(values, rounds=200, seed=3)
    for column in (0, 1):
        drawn = np.concatenate(list(resamples(images, 200, 3)))
        medians = [np.nanmedian(values[row, column]) for row in drawn if np.isfinite(values[row, column]).any()]
        expected = (np.nanmedian(values[:, column]), *np.percentile(medians, [2.5, 97.5]))
        assert (found[column].value, found[column].low, found[column].high) == pytest.approx(expected)


def test_of_nothing_and_of_one_image():
    (none,) = median_estimates(np.full((3, 1), np.nan))
    assert np.isnan(none.value)
    (one,) = median_estimates(np.array([[2.0]]))
    assert one.value == 2
    assert np.isnan(one.low)


def test_reports_give_the_median_of_ratios_alone(world):
    evaluate(evaluation(world, metrics=("outside-inside", "segmentation")))
    found = report(world / "results", baseline="gradient")
    overlaps, ratios = sorted(found.tables, key=lambda table: table.metric, reverse=True)
    assert {line.over for line in overlaps.lines} == {"set", "images"}
    assert ratios.headline == "images"
    line = ratios.line("rap", "all", "median")
    scores = [row["all"] for row in _scores(world / "results", "rap")]
    assert line.score.value == pytest.approx(np.median(scores))
    gaps = np.array(scores) - [row["all"] for row in _scores(world / "results", "gradient")]
    assert line.difference.value == pytest.approx(np.median(gaps))
    assert "outside-inside, median over images" in found.markdown()
    assert "median over images" in found.latex()
    assert ",median,lower," in found.csv()


def _scores(folder, method):
    from tests.evaluation.world import rows

    return [row["scores"] for row in rows(folder) if row["method"] == method and row["metric"] == "outside-inside"]
