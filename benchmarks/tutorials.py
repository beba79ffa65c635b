"""Run the tutorials and write them as notebooks: `python benchmarks/tutorials.py [NAME …]`, also `make tutorials`.

Their text is in docs/tutorials/*.py, in jupytext's percent format; docs/hooks/notebooks.py makes pages of the notebooks.
"""

import base64
import os
import re
import sys
import time
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
FOLDER, SOURCE = ROOT / "docs" / "tutorials", ROOT / "src"
HIDDEN = "remove-cell"
"""The tag of cells that check what the prose says; they run, and are not shown."""
_QUALITY = 80
_PNG = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=]+)")


def sources() -> list[Path]:
    """Return the text of every tutorial."""
    return sorted(FOLDER.glob("*.py"))


def shown_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Return the cells that readers see."""
    return [cell for cell in notebook.cells if HIDDEN not in cell.metadata.get("tags", [])]


def executed(source: Path) -> NotebookNode:
    """Run a tutorial in an empty folder and return its notebook.

    Raises:
        CellExecutionError: A cell raises.
    """
    notebook = jupytext.read(source)
    with TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        NotebookClient(
            notebook,
            timeout=600,
            kernel_name="python3",
            record_timing=False,
            resources=resources,
            extra_arguments=["--log-level=ERROR"],
        ).execute(env={**os.environ, "PYTHONPATH": str(SOURCE)})  # this checkout, whatever is installed
    return notebook


def slim(notebook: NotebookNode) -> NotebookNode:
    """Keep what readers see, the same from run to run where the results are, with pictures as JPEG."""
    notebook.cells = shown_cells(notebook)
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        if cell.cell_type == "code":
            cell.outputs = [_slim_output(output) for output in _joined(cell.outputs)]
    return notebook


def _joined(outputs: Iterable[NotebookNode]) -> list[NotebookNode]:
    """Join what one cell printed piece by piece; warnings and progress on standard error are left out."""
    joined: list[NotebookNode] = []
    for output in outputs:
        if output.output_type != "stream":
            joined.append(output)
        elif output.name == "stdout":
            if joined and joined[-1].output_type == "stream":
                joined[-1].text += output.text
            else:
                joined.append(output)
    return joined


def _slim_output(output: NotebookNode) -> NotebookNode:
    data = output.get("data")
    if data is None:
        return output
    if "text/html" in data:
        output.data = {"text/html": _PNG.sub(lambda found: f"data:image/jpeg;base64,{_jpeg(found[1])}", data["text/html"])}
    elif "image/png" in data:
        output.data = {"image/jpeg": _jpeg(data["image/png"])}
    output.metadata = {}
    return output


def _jpeg(png: str) -> str:
    """Return a picture as JPEG, in a tenth of the space; both are in Base64."""
    file = BytesIO()
    picture = Image.open(BytesIO(base64.b64decode(png))).convert("RGB")
    picture.save(file, "JPEG", quality=_QUALITY, optimize=True)
    return base64.b64encode(file.getvalue()).decode("ascii")


def main(names: list[str]) -> None:
    """Run the named tutorials, or all of them."""
    for source in sources():
        if not names or source.stem in names:
            begun = time.perf_counter()
            notebook = slim(executed(source))
            target = source.with_suffix(".ipynb")
            nbformat.write(notebook, target)
            print(f"{source.stem}: {time.perf_counter() - begun:.0f} s, {target.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
