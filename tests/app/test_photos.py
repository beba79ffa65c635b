"""Uploads: bytes within limits, names that are labels alone, samples of installed packages."""

import base64

import numpy as np
import pytest
from PIL import Image

from relprop.app.photos import Limits, received, samples, thumbnail
from relprop.errors import InputError
from relprop.images import open_photo, read_photo
from tests.app.serving import huge_bytes, photo_bytes


def sent(content):
    return base64.b64encode(content).decode()


def test_a_photo_arrives_as_it_is():
    content = photo_bytes()
    upload = received("cat.png", sent(content), Limits())
    assert (upload.name, upload.content) == ("cat.png", content)
    assert upload.photo(Limits()).image.size == (50, 40)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        (r"C:\photos\cat.png", "cat.png"),
        ("a\x1b[31m\nb.png", "a[31mb.png"),
        ("", "photo"),
        (None, "photo"),
    ],
)
def test_a_name_is_a_label_without_folders(name, shown):
    assert received(name, sent(b"x"), Limits()).name == shown


def test_a_large_file_is_refused_before_it_is_decoded():
    with pytest.raises(InputError, match=r"The file cat.png has 0.002 MB, and 0.001 MB are accepted; make it smaller first\."):
        received("cat.png", sent(bytes(2000)), Limits(megabytes=0.001))


@pytest.mark.parametrize("data", ["%%%", "abc", None, 7])
def test_broken_text_is_a_sentence(data):
    if isinstance(data, str):
        with pytest.raises(InputError, match="did not arrive whole"):
            received("cat.png", data, Limits())
    else:
        with pytest.raises(InputError, match="is empty"):
            received("cat.png", data, Limits()).photo(Limits())


def test_fifty_megapixels_are_refused_by_the_header():
    with pytest.raises(InputError, match=r"has 50 million pixels, and 40 million are accepted; make it smaller first\."):
        received("wide.png", sent(huge_bytes()), Limits()).photo(Limits())


def test_bytes_are_read_as_files_are(tmp_path):
    image = Image.fromarray(np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    path = tmp_path / "turned.png"
    one, other = open_photo(path), read_photo(path.read_bytes(), "turned.png")
    assert one.image.size == other.image.size == (5, 7)
    assert np.array_equal(np.asarray(one.image), np.asarray(other.image))
    assert other.path.name == "turned.png"


def test_samples_come_with_a_package():
    pytest.importorskip("skimage")
    found = samples()
    assert "a cup of coffee" in found
    assert all(upload.photo(Limits()).image.width > 100 for upload in found.values())


def test_thumbnails_keep_the_aspect():
    assert thumbnail(Image.new("RGB", (4000, 1000)), 200).size == (200, 50)
    assert thumbnail(Image.new("RGB", (30, 20)), 200).size == (30, 20)
