import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relprop.errors import InputError, OptionError
from relprop.evaluation.report import opened, statistics
from relprop.evaluation.report.report import Report
from relprop.evaluation.report.summarize import report
from relprop.evaluation.report.tables import Line
from relprop.evaluation.results.rows import Row, to_table
from relprop.metrics import metric
from tests.evaluation.made_rows import curve_rows, failed_row, maps, metric_rows

RELEVANCE, MASK = maps()
GOOD = RELEVANCE + 2 * MASK
SETTINGS = {name: [] for name in ("models", "methods", "metrics", "left_out")}


def summarize(rows: Sequence[Row], cuts: Sequence[int] = (), settings: dict[str, Any] | None = None, **options: object) -> Report:
    """Summarize rows that lie in several parts."""
    ends = [0, *sorted(cuts), len(rows)]
    parts = [to_table(rows[a:b]).combine_chunks().to_batches() for a, b in itertools.pairwise(ends)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opened, "read_rows", lambda _: iter([batch for part in parts for batch in part]))
        patch.setattr(opened, "read_settings", lambda _: settings or SETTINGS)
        return report(Path("results"), rounds=200, **options)


def two() -> list[Row]:
    return metric_rows("rap", GOOD, MASK) + metric_rows("gradient", RELEVANCE, MASK)


def line(found: Report, method: str, value: str, over: str | None = None, metric: str = "segmentation") -> Line:
    table = found.table("m", metric)
    assert table is not None
    chosen = table.line(method, value, over)
    assert chosen is not None
    return chosen


def test_scores_equal_those_of_the_metric_over_set_and_images() -> None:
    found = summarize(two())
    state = metric("segmentation")
    state.update(relevance=GOOD, mask=MASK)
    for over in ("set", "images"):
        for name, value in state.compute(over).items():
            assert line(found, "rap", name, over).score.value == pytest.approx(float(value), abs=1e-6)
    assert found.tables[0].headline == "set"
    assert line(found, "rap", "miou").best
    assert not line(found, "gradient", "miou").best


def test_the_interval_of_a_set_score_resamples_images_and_sums_their_counts() -> None:
    found = summarize(two(), baseline="gradient")
    drawn = np.concatenate(list(statistics.resamples(10, 200)))
    both: list[list[float]] = []
    for images in drawn:
        row: list[float] = []
        for relevance in (GOOD, RELEVANCE):
            state = metric("segmentation")
            order = np.argsort([f"image{place}" for place in range(10)])[images]
            state.update(relevance=relevance[order], mask=MASK[order])
            row.append(float(state.compute("set")["miou"]))
        both.append(row)
    rap, gradient = np.array(both).T
    one = line(found, "rap", "miou")
    assert [one.score.low, one.score.high] == pytest.approx(list(np.percentile(rap, [2.5, 97.5])))
    assert one.difference is not None
    assert [one.difference.low, one.difference.high] == pytest.approx(list(np.percentile(rap - gradient, [2.5, 97.5])))
    assert line(found, "gradient", "miou").difference is None


def test_differences_pair_the_images_that_both_scored() -> None:
    rows = [*metric_rows("rap", GOOD, MASK)[:8], *metric_rows("gradient", RELEVANCE, MASK)[2:]]
    rows += [failed_row("rap", "image8"), failed_row("rap", "image9", reason="Another reason.")]
    found = summarize(rows, baseline="gradient")
    one = line(found, "rap", "miou", "images")
    assert (one.images, one.failed) == (8, 2)
    own, base = metric("segmentation"), metric("segmentation")
    gaps = own.update(relevance=GOOD, mask=MASK)["miou"][2:8] - base.update(relevance=RELEVANCE, mask=MASK)["miou"][2:8]
    assert one.difference is not None
    assert one.difference.value == pytest.approx(float(gaps.mean()), abs=1e-6)
    assert {(f.method, f.reason, f.images) for f in found.failures} == {
        ("rap", "It broke.", ("image8",)),
        ("rap", "Another reason.", ("image9",)),
    }
    assert "image9" in found.failures_csv()
    assert "2 rows of 2 images failed" in found.notes[0]


def test_undefined_scores_are_counted_and_left_out() -> None:
    mask = MASK.clone()
    mask[:3] = 0
    found = summarize(metric_rows("rap", GOOD, mask, metric="pointing-game"))
    one = line(found, "rap", "pointing_game", metric="pointing-game")
    assert (one.images, one.undefined) == (10, 3)
    assert "(3 undefined)" in found.markdown()


def test_lower_is_better_where_the_metric_says_so() -> None:
    rows = metric_rows("rap", GOOD, MASK, metric="outside-inside") + metric_rows(
        "gradient", RELEVANCE, MASK, metric="outside-inside"
    )
    found = summarize(rows)
    assert found.tables[0].headline == "images"
    lines = [line(found, method, "pos", metric="outside-inside") for method in ("rap", "gradient")]
    assert [one.best for one in lines] == [True, False]
    assert lines[0].score.value < lines[1].score.value
    assert not any(one.best for one in found.tables[0].lines if one.value == "signed")


def test_curves_are_averaged_point_by_point() -> None:
    found = summarize(curve_rows("rap"))
    (curve,) = found.tables[0].curves
    expected = np.random.default_rng(0).random((6, 5)).mean(0)
    assert [point.value for point in curve.points] == pytest.approx(list(expected))
    assert found.curves_csv().count("\n") == 6
    shorter = summarize(curve_rows("rap", 3, 5) + curve_rows("rap", 6, 4)[3:])
    assert len(shorter.tables[0].curves[0].points) == 5


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(20)), st.lists(st.integers(0, 20), max_size=3))
def test_order_and_parts_do_not_matter(order: list[int], cuts: list[int]) -> None:
    rows = two()
    whole = summarize(rows, baseline="gradient")
    assert summarize([rows[place] for place in order], cuts, baseline="gradient").csv() == whole.csv()


def test_variants_of_a_method_are_told_apart() -> None:
    rows = [*curve_rows("rap", seed=1), *curve_rows("rap", seed=2, start="signed"), *curve_rows("gradient", seed=3)]
    found = summarize(rows, baseline="rap:start=signed")
    assert [one.method for one in found.tables[0].lines[:3]] == ["rap", "rap:start=signed", "gradient"]
    assert found.tables[0].baseline == "rap:start=signed"
    assert summarize(rows, baseline="rap").tables[0].baseline == "rap"


def test_models_get_short_names_that_differ() -> None:
    names = opened._model_names([("a/f.py:net", "x"), ("b/f.py:other", "x"), ("timm:a", "p"), ("timm:a", "w.pt")])
    assert list(names.values()) == ["f.py:net", "f.py:other", "timm:a (p)", "timm:a (w.pt)"]
    assert list(opened._model_names([("a/f.py:net", "x"), ("b/f.py:net", "x")]).values()) == ["a/f.py:net", "b/f.py:net"]


def test_errors_say_what_there_is() -> None:
    with pytest.raises(OptionError, match=r"no method 'rapp'.*rap, gradient.*Did you mean 'rap'"):
        summarize(two(), baseline="rapp")
    with pytest.raises(OptionError, match=r"no metric 'lerf'.*segmentation"):
        summarize(two(), metrics=["lerf"])
    with pytest.raises(InputError, match=r"not one scored row; 1 failed, the first with: It broke\."):
        summarize([failed_row("rap", "a")])
    with pytest.raises(InputError, match="no rows yet"):
        summarize([])


def test_an_unfinished_run_says_what_is_missing() -> None:
    names = ("rap", "gradient", "edge", "lime")
    run = {
        "models": [{"name": "m", "weights": "pretrained"}, {"name": "n", "weights": "w.pt"}],
        "methods": [{"name": name, "options": {}} for name in names],
        "metrics": [{"name": "segmentation", "options": {}}, {"name": "gae", "options": {"steps": 5}}],
        "images": {"count": 10},
        "left_out": [
            {"model": "m", "method": "edge", "metric": None, "reason": "It cannot."},
            {"model": "m", "method": "rap", "metric": 'gae {"steps": 5}', "reason": "Nor this."},
        ],
    }
    run["left_out"] += [{"model": "n=w.pt", "method": name, "metric": None, "reason": "No."} for name in names[1:]]
    notes = summarize(two()[:-3], settings=run).notes
    assert notes[0] == "m × edge was left out: It cannot."
    assert notes[1] == 'm × rap × gae {"steps": 5} was left out: Nor this.'
    assert "5 of 22 rows are missing" in notes[-2]  # three of the segmentation's, and gradient's two groups of four
    assert notes[-1] == "There are no rows of m × lime, n=w.pt × rap."


def test_formats_hold_the_same_numbers() -> None:
    found = summarize([*two(), failed_row("rap", "image_10|")], baseline="rap")
    page, tex, table = found.markdown(), found.latex(), found.csv()
    best = line(found, "rap", "miou")
    text = f"**{best.score.value:.3f} [{best.score.low:.3f}, {best.score.high:.3f}]**"
    assert text in page
    assert "difference to rap, paired by image" in page
    assert "image_10|" in page
    assert rf"\textbf{{{text.strip('*')}}}" in tex
    assert r"pixel\_accuracy $\uparrow$" in tex
    assert tex.count(r"\begin{tabular}") == tex.count(r"\end{tabular}") == 4
    assert table.count("\n") == 1 + 2 * 2 * 5
    row = next(r for r in table.splitlines() if r.startswith("m,segmentation,rap,miou,set,higher,10,1,0,"))
    assert float(row.split(",")[9]) == best.score.value


def test_a_method_without_a_score_leaves_a_row_of_dashes() -> None:
    found = summarize([*two(), failed_row("random", "image0")])
    one = line(found, "random", "miou")
    assert (one.images, one.failed, one.best) == (0, 1, False)
    assert np.isnan(one.score.value)
    assert "| random | 0 | 1 | – |" in found.markdown()


def test_figures(tmp_path: Path) -> None:
    from relprop.evaluation.report.figures import write_figures

    found = summarize([*two(), *curve_rows("rap"), *curve_rows("edge")])
    written = write_figures(found, tmp_path / "figures")
    ranked = [f"m-segmentation-ranks-{ranks.value}.png" for ranks in found.table("m", "segmentation").ranks]
    assert "m-segmentation-ranks-miou.png" in ranked
    assert [path.name for path in written if "segmentation" in path.name] == ["m-segmentation.png", *ranked]
    assert [path.name for path in written if path.name.startswith("m-lerf")][:2] == ["m-lerf.png", "m-lerf-curves.png"]
    assert all(path.stat().st_size > 5000 for path in written)


def test_columns_survive_slices_and_missing_names() -> None:
    from relprop.evaluation.report.scores import lists, numbers

    pairs = [[("a", 1.0)], [("b", 2.0), ("a", None)], [], [("b", 3.0)]]
    column = pa.array(pairs, pa.map_(pa.string(), pa.float64()))
    assert {k: v.tolist()[2:] for k, v in numbers(column.slice(1)).items()}["b"] == [3.0]
    found = numbers(column)
    assert np.array_equal(found["a"], [1, np.nan, np.nan, np.nan], equal_nan=True)
    curves = pa.array([[("c", [1.0, 2.0])], [("c", [3.0])], [("c", [])]], pa.map_(pa.string(), pa.list_(pa.float64())))
    expected = [[1, 2], [3, np.nan], [np.nan, np.nan]]
    assert np.array_equal(lists(curves)["c"], expected, equal_nan=True)
