import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from relprop.evaluation.report import statistics as s


def rows(images: int, columns: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(1.0, 2.0, size=(images, columns))


def test_sums_are_those_of_the_drawn_images() -> None:
    values = rows(7)
    drawn = np.concatenate(list(s.resamples(7, 50, seed=3)))
    explicit = [sum(values[image] for image in images) for images in drawn]
    np.testing.assert_allclose(s.resampled_sums(values, 50, seed=3), explicit)


def test_the_draws_do_not_depend_on_how_many_fit_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = s.resampled_sums(rows(9), 40)
    monkeypatch.setattr(s, "_DRAWS_AT_ONCE", 30)
    monkeypatch.setattr(s, "_KEPT", 0)
    np.testing.assert_allclose(s.resampled_sums(rows(9), 40), whole, rtol=1e-12)


def test_means_and_intervals_by_an_explicit_loop() -> None:
    values = rows(12)
    values[3, 1] = np.nan
    values[5, 2] = np.inf
    found = s.estimates(s.mean_rows(values), s.mean_score, rounds=200, seed=1)
    drawn = np.concatenate(list(s.resamples(12, 200, seed=1)))
    for place, estimate in enumerate(found):
        column = np.where(np.isfinite(values[:, place]), values[:, place], np.nan)
        means = [np.nanmean(column[images]) for images in drawn]
        assert estimate.value == pytest.approx(np.nanmean(column))
        assert [estimate.low, estimate.high] == pytest.approx(list(np.percentile(means, [2.5, 97.5])))


def test_intervals_are_near_those_of_scipy() -> None:
    values = rows(80, 1)
    (found,) = s.estimates(s.mean_rows(values), s.mean_score, rounds=4000)
    other = scipy.stats.bootstrap((values[:, 0],), np.mean, n_resamples=4000, method="percentile", rng=5).confidence_interval
    assert found.low == pytest.approx(other.low, abs=0.05)
    assert found.high == pytest.approx(other.high, abs=0.05)


def test_intervals_cover_the_mean_about_as_often_as_they_say() -> None:
    covered = 0
    for trial in range(300):
        (found,) = s.estimates(s.mean_rows(rows(60, 1, seed=trial)), s.mean_score, rounds=400, seed=trial)
        covered += found.low <= 1.0 <= found.high
    assert 0.90 <= covered / 300 <= 0.98


def test_a_paired_difference_is_tighter_than_the_two_means() -> None:
    base = rows(100, 1)
    better = base + 0.1 + 0.01 * rows(100, 1, seed=1)
    (found,) = s.estimates(s.mean_rows(better - base), s.mean_score)
    assert 0 < found.low < found.value < found.high
    assert found.value == pytest.approx(float((better - base).mean()))
    joined = np.concatenate([s.mean_rows(better), s.mean_rows(base)], axis=1)
    (same,) = s.estimates(joined, s.difference(s.mean_score))
    assert (same.value, same.low, same.high) == pytest.approx((found.value, found.low, found.high))


def test_one_image_has_no_interval_and_none_no_score() -> None:
    (one,) = s.estimates(s.mean_rows(np.array([[0.5]])), s.mean_score)
    assert one.value == 0.5
    assert np.isnan([one.low, one.high]).all()
    (none,) = s.estimates(s.mean_rows(np.array([[np.nan], [np.nan]])), s.mean_score)
    assert np.isnan([none.value, none.low, none.high]).all()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=2, max_size=12), st.integers(0, 5))
def test_an_interval_lies_within_the_values_and_moves_with_them(values: list[float], seed: int) -> None:
    column = np.array(values)[:, None]
    (found,) = s.estimates(s.mean_rows(column), s.mean_score, rounds=100, seed=seed)
    (moved,) = s.estimates(s.mean_rows(3 * column + 7), s.mean_score, rounds=100, seed=seed)
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9
    assert (moved.low, moved.high) == pytest.approx((3 * found.low + 7, 3 * found.high + 7), abs=1e-6)
