"""Photos of every kind are opened right, or refused in one sentence."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from relprop.errors import InputError
from relprop.images import open_photo


@pytest.fixture
def gradient():
    """An image whose red grows to the right and green downwards: turns and flips show."""
    y, x = np.mgrid[0:40, 0:60]
    return Image.fromarray(np.stack([x * 4, y * 6, np.full_like(x, 100)], axis=2).astype(np.uint8))


def saved(tmp_path, image, name, **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.ppm", "a.webp"])
def test_lossless_formats_keep_every_pixel(tmp_path, gradient, name):
    options = {"lossless": True} if name.endswith("webp") else {}
    photo = open_photo(saved(tmp_path, gradient, name, **options))
    assert photo.image.mode == "RGB"
    assert np.array_equal(np.asarray(photo.image), np.asarray(gradient))
    assert photo.notes == ()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_turned_upright(tmp_path, gradient, orientation):
    turned = {
        1: [], 2: [Image.Transpose.FLIP_LEFT_RIGHT], 3: [Image.Transpose.ROTATE_180], 4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE], 6: [Image.Transpose.ROTATE_90], 7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }[orientation]  # fmt: skip
    stored = gradient
    for turn in turned:
        stored = stored.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = open_photo(saved(tmp_path, stored, "a.png", exif=exif))
    assert np.array_equal(np.asarray(photo.image), np.asarray(gradient))


def test_grayscale_becomes_rgb(tmp_path, gradient):
    gray = gradient.convert("L")
    pixels = np.asarray(open_photo(saved(tmp_path, gray, "a.png")).image)
    assert np.array_equal(pixels, np.repeat(np.asarray(gray)[..., None], 3, axis=2))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, suffix):
    values = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)
    pixels = np.asarray(open_photo(saved(tmp_path, Image.fromarray(values), f"a.{suffix}")).image)
    assert np.array_equal(pixels[..., 0].ravel(), np.arange(256))


def test_floats_from_zero_to_one_are_scaled(tmp_path):
    values = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    pixels = np.asarray(open_photo(saved(tmp_path, Image.fromarray(values), "a.tif")).image)
    assert np.array_equal(pixels[..., 0].ravel(), np.arange(256))


@pytest.mark.parametrize("values", [[0.0, 900.0], [-1.0, 1.0], [0.0, float("nan")]])
def test_floats_of_unknown_range_are_refused(tmp_path, values):
    path = saved(tmp_path, Image.fromarray(np.array([values], dtype=np.float32)), "a.tif")
    with pytest.raises(InputError, match="pixel values from"):
        open_photo(path)


def test_cmyk_keeps_its_colors(tmp_path):
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    pixels = np.asarray(open_photo(saved(tmp_path, red, "a.tif")).image)
    assert np.array_equal(pixels[0, 0], [255, 0, 0])
    jpeg = np.asarray(open_photo(saved(tmp_path, red, "a.jpg", quality=100)).image, dtype=int)
    assert np.abs(jpeg[0, 0] - [255, 0, 0]).max() <= 4


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_put_on_white(tmp_path, mode):
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((10, 10, 10, 255), (0, 0, 4, 8))
    path = saved(tmp_path, image.convert(mode), "a.png")
    photo = open_photo(path)
    pixels = np.asarray(photo.image)
    assert np.array_equal(pixels[0, 7], [255, 255, 255])
    assert np.array_equal(pixels[0, 0], [10, 10, 10])
    assert "transparent" in photo.notes[0]


def test_palette_becomes_its_colors(tmp_path):
    image = Image.new("RGB", (8, 8), (200, 30, 60))
    pixels = np.asarray(open_photo(saved(tmp_path, image.convert("P", palette=Image.Palette.ADAPTIVE), "a.gif")).image)
    assert np.array_equal(pixels[0, 0], [200, 30, 60])


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_the_first_frame_of_an_animation_is_taken_and_said(tmp_path, suffix):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue", "lime")]
    options = {"lossless": True} if suffix == "webp" else {}
    path = saved(tmp_path, frames[0], f"a.{suffix}", save_all=True, append_images=frames[1:], **options)
    photo = open_photo(path)
    assert np.array_equal(np.asarray(photo.image)[0, 0], [255, 0, 0])
    assert "3 frames" in photo.notes[0]


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "tif", "bmp"])
@pytest.mark.parametrize("keep", [0.1, 0.6, 0.97])
def test_truncated_files_are_refused(tmp_path, suffix, keep):
    noisy = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    data = saved(tmp_path, noisy, f"a.{suffix}").read_bytes()
    path = tmp_path / f"b.{suffix}"
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(InputError, match=r"b\."):
        open_photo(path)


def test_corrupt_bytes_are_refused(tmp_path, gradient):
    data = bytearray(saved(tmp_path, gradient, "a.png").read_bytes())
    data[60:120] = os.urandom(60)
    (tmp_path / "b.png").write_bytes(data)
    with pytest.raises(InputError, match="corrupt or truncated"):
        open_photo(tmp_path / "b.png")


def test_decompression_bombs_are_refused(tmp_path):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    with pytest.raises(InputError, match="million pixels"):
        open_photo(path)


def test_what_is_no_photo_file_is_refused(tmp_path):
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "empty.jpg").touch()
    os.mkfifo(tmp_path / "pipe.jpg")
    for name, message in {
        "text.jpg": "no image", "empty.jpg": "is empty", "missing.jpg": "There is no file", "pipe.jpg": "not a regular file",
        ".": "is a folder",
    }.items():  # fmt: skip
        with pytest.raises(InputError, match=message):
            open_photo(tmp_path / name)


def test_postscript_never_reaches_an_interpreter(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "EPS")
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    with pytest.raises(InputError, match="no image in a known format"):
        open_photo(tmp_path / "a.png")
