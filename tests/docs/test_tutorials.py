"""Every tutorial runs as written, its hidden cells check what its prose says, and the notebooks in docs/ are those of their text."""

import json

import jupytext
import pytest

from tests.files import load_benchmark, load_hook

tutorials, notebooks = load_benchmark("tutorials"), load_hook("notebooks")
SOURCES = [pytest.param(path, id=path.stem) for path in tutorials.sources()]


def written(path):
    return json.loads(path.with_suffix(".ipynb").read_text("utf-8"))


def test_there_are_seven():
    assert len(SOURCES) == 7


@pytest.mark.slow
@pytest.mark.parametrize("path", SOURCES)
def test_a_tutorial_runs(path):
    notebook = tutorials.executed(path)
    assert any("remove-cell" in cell.metadata.get("tags", ()) for cell in notebook.cells), "nothing is checked"


@pytest.mark.parametrize("path", SOURCES)
def test_the_notebook_is_that_of_the_text(path):
    shown = tutorials.shown_cells(jupytext.read(path))
    found = [(cell["cell_type"], "".join(cell["source"])) for cell in written(path)["cells"]]
    assert found == [(cell.cell_type, cell.source) for cell in shown], "run `make tutorials`"


@pytest.mark.parametrize("path", SOURCES)
def test_its_page_has_pictures_with_texts_and_no_errors(path):
    notebook = written(path)
    assert not [output for cell in notebook["cells"] for output in cell.get("outputs", ()) if output["output_type"] == "error"]
    page, pictures = notebooks.page_of(notebook, path.stem)
    assert len(pictures) >= 2
    for name, content in pictures.items():
        line = next(line for line in page.splitlines() if line.endswith(f"]({name})"))
        assert len(line) > len(f"![]({name})") + 20, "a picture has a text for who cannot see it"
        assert content.startswith(b"\xff\xd8")
        assert len(content) < 250_000
    assert page.startswith("# ")
    assert page.count("```") % 2 == 0
