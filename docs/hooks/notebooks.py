"""A hook of MkDocs: every notebook among the files becomes a page, with its outputs; the notebook itself stays to be downloaded."""

import base64
import json
from collections.abc import Iterator
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page and the pictures of every notebook."""
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        stem = file.src_uri.removesuffix(".ipynb")
        page, pictures = page_of(json.loads(file.content_string), stem.rpartition("/")[2])
        files.append(File.generated(config, f"{stem}.md", content=page))
        for name, content in pictures.items():
            files.append(File.generated(config, f"{stem.rpartition('/')[0]}/{name}", content=content))
    return files


def page_of(notebook: dict[str, Any], name: str) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as Markdown, and its pictures by the name of their file."""
    pictures: dict[str, bytes] = {}
    parts = [part for cell in notebook["cells"] for part in _parts(cell, name, pictures)]
    title, _, rest = "\n\n".join(parts).partition("\n")
    links = f"*Run as it stands. [The notebook]({name}.ipynb), [its text]({name}.py).*"
    return f"{title}\n\n{links}\n{rest}\n", pictures


def _parts(cell: dict[str, Any], name: str, pictures: dict[str, bytes]) -> Iterator[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield source
        return
    yield f"```python\n{source}\n```"
    for output in cell["outputs"]:
        data = output.get("data", {})
        if "image/jpeg" in data:
            file = f"{name}-{len(pictures) + 1}.jpg"
            pictures[file] = base64.b64decode("".join(data["image/jpeg"]))
            yield f"![{cell['metadata'].get('alt', '')}]({file})"
        elif "text/html" in data:
            yield "\n".join(line for line in "".join(data["text/html"]).splitlines() if line.strip())
        else:
            text = "".join(output.get("text", data.get("text/plain", "")))
            yield f"```text\n{text.rstrip()}\n```"
