"""The images of data sets go through the one reader: no format off its list, no program of others."""

import io
import os
import re
from pathlib import Path

import pytest
from PIL import Image

from relprop.datasets import Failure
from relprop.datasets.folder import open_folder
from relprop.datasets.huggingface import open_huggingface
from relprop.datasets.sample import read_indices
from relprop.errors import InputError
from relprop.images import read_rgb, read_stored
from relprop.zoo import Preprocessing
from tests.files import ROOT

SMALL = Preprocessing(size=(8, 8), resize=(8, 8))
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"


@pytest.fixture
def ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a program ``gs`` first on the path; return the file that it makes when it is called."""
    called, program = tmp_path / "called", tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {called}\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return called


@pytest.mark.parametrize("read", [read_rgb, read_stored, read_indices])
def test_no_file_of_a_data_set_reaches_ghostscript(tmp_path, ghostscript, read):
    (tmp_path / "x.jpg").write_bytes(POSTSCRIPT)
    with pytest.raises(InputError, match=r"x\.jpg is no image in a known format"):
        read(tmp_path / "x.jpg")
    assert not ghostscript.exists()


def test_a_folder_with_such_a_file_keeps_its_other_images(tmp_path, ghostscript):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "x.jpg").write_bytes(POSTSCRIPT)
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "y.jpg")
    bad, _ = open_folder(tmp_path / "images").samples(SMALL)
    assert isinstance(bad, Failure)
    assert not ghostscript.exists()


def test_the_bytes_of_a_hugging_face_data_set_go_the_same_way(ghostscript):
    datasets = pytest.importorskip("datasets", reason="the datasets library is not installed")
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    cells = [{"bytes": content, "path": None} for content in (POSTSCRIPT, buffer.getvalue())]
    table = datasets.Dataset.from_dict({"image": cells}, features=datasets.Features({"image": datasets.Image()}))
    bad, good = open_huggingface(table).samples(SMALL)
    assert isinstance(bad, Failure)
    assert "of row 00000000 is no image" in bad.reason
    assert not isinstance(good, Failure)
    assert not ghostscript.exists()


def test_a_hugging_face_column_of_other_things_is_refused():
    datasets = pytest.importorskip("datasets", reason="the datasets library is not installed")
    with pytest.raises(InputError, match="'image' of the data set holds no images"):
        open_huggingface(datasets.Dataset.from_dict({"image": [1, 2]}))


def test_nothing_but_the_reader_opens_images():
    sources = (ROOT / "src" / "relprop").rglob("*.py")
    opening = re.compile(r"\bImage\.(open|OPEN)\b")
    assert [path.name for path in sources if opening.search(path.read_text("utf-8"))] == ["reader.py"]
