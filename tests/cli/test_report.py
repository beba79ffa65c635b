from pathlib import Path

import pytest
from typer.testing import CliRunner

from relprop.cli import app
from relprop.evaluation import report
from relprop.evaluation.results.rows import Row, to_table
from relprop.evaluation.results.store import Store
from tests.evaluation.made_rows import curve_rows, failed_row, maps, metric_rows


def write(folder: Path, rows: list[Row], images: int = 10) -> Path:
    settings = {
        "format": 1,
        "content": {},
        "images": {"count": images, "digest": ""},
        "fingerprints": {},
        "blocks": 1,
        "left_out": [],
        "metric_sets": {},
        "models": [{"name": "m", "weights": "pretrained"}],
        "methods": [{"name": name, "options": {}} for name in ("rap", "gradient")],
        "metrics": [{"name": name, "options": {}} for name in dict.fromkeys(row.metric for row in rows)],
    }
    (folder / "parts").mkdir(parents=True)
    store = Store(folder, settings)
    for method in dict.fromkeys(row.method for row in rows):
        table = to_table(row for row in rows if row.method == method)
        store.write(f"m--{method}", 0, [f"{table['name']} {{}}" for table in settings["metrics"]], table)
    return folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    relevance, mask = maps()
    rows = [*metric_rows("rap", relevance + 2 * mask, mask), *metric_rows("gradient", relevance, mask)[:9]]
    return write(
        tmp_path / "results", [*rows, failed_row("gradient", "image9"), *curve_rows("rap"), *curve_rows("gradient", seed=1)]
    )


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["report", *map(str, arguments)], env={"COLUMNS": "200"})
    return result.exit_code, result.output


def test_the_terminal_shows_every_table_and_what_failed(results: Path) -> None:
    code, text = run(results, "--baseline", "gradient")
    assert code == 0
    assert "m: segmentation, score of the whole set: difference to gradient" in text
    assert "m: lerf, mean over images" in text
    assert "m, segmentation, gradient: image9: It broke." in text
    assert "8 of 40 rows are missing" in text


def test_a_folder_gets_all_formats_and_figures(results: Path, tmp_path: Path) -> None:
    code, _ = run(results, "-o", tmp_path / "out", "--figures", tmp_path / "figures", "--metrics", "segmentation,lerf")
    assert code == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"report.md", "report.csv", "report.tex", "curves.csv", "failures.csv"}
    figures = {path.name for path in (tmp_path / "figures").iterdir()}
    ranks = {name for name in figures if "-ranks-" in name}
    assert figures - ranks == {"m-segmentation.png", "m-lerf.png", "m-lerf-curves.png"}
    assert {"m-segmentation-ranks-miou.png", "m-lerf-ranks-accuracy_mean.png"} <= ranks
    assert (tmp_path / "out" / "report.csv").read_text() == report(results).csv()


def test_one_file_takes_its_format_from_its_name_or_the_option(results: Path, tmp_path: Path) -> None:
    assert run(results, "-o", tmp_path / "table.tex")[0] == 0
    assert (tmp_path / "table.tex").read_text() == report(results).latex()
    assert run(results, "-o", tmp_path / "table.txt", "--format", "csv")[0] == 0
    assert (tmp_path / "table.txt").read_text() == report(results).csv()
    assert run(results, "--format", "md")[1].startswith("# Evaluation: results\n")


def test_errors_are_one_sentence(results: Path, tmp_path: Path) -> None:
    for arguments, message in (
        ((tmp_path / "nowhere",), "holds no evaluation"),
        ((results, "--baseline", "rapp"), "Did you mean 'rap'?"),
        ((results, "--metrics", "gae"), "The results have no metric 'gae'"),
        ((results, "--format", "html"), "There is no format 'html'"),
        ((results, "-o", tmp_path / "a.html"), "must end in .md, .csv, .tex"),
    ):
        code, text = run(*arguments)
        assert code == 1
        assert message in text.replace("\n", " ")
