"""Photos of every kind are opened right, or refused in one sentence."""

import io
import os
import struct
import subprocess
import sys
import time
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from relprop.errors import InputError
from relprop.images import check_photo, open_photo
from tests.files import ROOT


@pytest.fixture
def gradient():
    """An image whose red grows to the right and green downwards: turns and flips show."""
    y, x = np.mgrid[0:40, 0:60]
    return Image.fromarray(np.stack([x * 4, y * 6, np.full_like(x, 100)], axis=2).astype(np.uint8))


def saved(tmp_path, image, name, **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


def png(path, size, depth, color, pixels, *more):
    """Write a PNG by hand: ``pixels`` are its rows, each behind a filter byte; ``more`` are chunks before them."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, color, 0, 0, 0))
    chunks = [header, *(chunk(*part) for part in more), chunk(b"IDAT", zlib.compress(pixels)), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return path


def rows_of(values):
    """The rows of a PNG of 16 bits."""
    return b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)


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


def test_sixteen_bits_with_a_transparent_gray_are_scaled(tmp_path):
    ramp = np.linspace(0, 65535, 256).round().reshape(16, 16)
    photo = open_photo(png(tmp_path / "a.png", (16, 16), 16, 0, rows_of(ramp), (b"tRNS", struct.pack(">H", 0))))
    assert np.array_equal(np.asarray(photo.image)[..., 0].ravel(), [255, *range(1, 256)])
    assert photo.notes == ("a.png has transparent parts; they are put on white",)


def test_sixteen_bits_with_a_transparent_color_are_scaled(tmp_path):
    colors = np.array([[0x1234, 0x5678, 0x9ABC], [0xFFFF, 0, 0]]).reshape(1, 6)
    photo = open_photo(png(tmp_path / "a.png", (2, 1), 16, 2, rows_of(colors), (b"tRNS", struct.pack(">HHH", 0xFFFF, 0, 0))))
    assert np.asarray(photo.image).tolist() == [[[0x12, 0x56, 0x9A], [255, 255, 255]]]


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_fewer_bits_in_sixteen_are_scaled_and_said(tmp_path, bits):
    values = np.linspace(0, 2**bits - 1, 256).round().astype(np.uint16).reshape(16, 16)
    photo = open_photo(saved(tmp_path, Image.fromarray(values), "a.png"))
    assert np.array_equal(np.asarray(photo.image)[..., 0].ravel(), np.arange(256))
    assert photo.notes == (f"a.png has 16 bits but no value above {2**bits - 1}; its values are taken for {bits} bits",)


def test_the_bits_that_a_header_declares_need_no_guess(tmp_path):
    values = np.linspace(0, 1000, 256).round().astype(np.uint16).reshape(16, 16)
    photo = open_photo(saved(tmp_path, Image.fromarray(values), "a.tif", tiffinfo={281: 4095}))
    assert np.array_equal(np.asarray(photo.image)[..., 0], np.round(values / 4095 * 255))
    assert photo.notes == ()


def test_a_tiff_whose_zero_is_white_is_inverted(tmp_path):
    values = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)
    photo = open_photo(saved(tmp_path, Image.fromarray(values), "a.tif", tiffinfo={262: 0}))
    assert np.array_equal(np.asarray(photo.image)[..., 0].ravel(), np.arange(255, -1, -1))


def test_twelve_bits_in_colors_of_sixteen_are_refused(tmp_path):
    colors = np.arange(4096)[: 16 * 48].reshape(16, 48) * 5
    with pytest.raises(InputError, match="no value above 4095"):
        open_photo(png(tmp_path / "a.png", (16, 16), 16, 2, rows_of(colors)))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_an_opaque_image_with_an_alpha_channel_is_not_called_transparent(tmp_path, mode):
    image = Image.new("RGBA", (20, 20), (10, 10, 10, 255)).convert(mode)
    photo = open_photo(saved(tmp_path, image, "a.png" if mode != "PA" else "a.tif"))
    assert np.asarray(photo.image)[0, 0].tolist() == [10, 10, 10]
    assert photo.notes == ()


@pytest.mark.parametrize(
    ("values", "what"),
    [
        (np.zeros((8, 8, 5), np.uint8), "5 channels of 8-bit integers"),
        (np.zeros((8, 8, 3), np.float32), "3 channels of 32-bit floating-point numbers"),
        (np.zeros((8, 8), np.float16), "1 channel of 16-bit floating-point numbers"),
    ],
)
def test_a_tiff_of_other_pixels_is_called_what_it_is(tmp_path, values, what):
    """Written by hand: Pillow writes no such file."""
    channels = values.shape[2] if values.ndim == 3 else 1
    bits, kind = values.dtype.itemsize * 8, 3 if values.dtype.kind == "f" else 1
    entries = [(256, 8), (257, 8), (258, bits), (259, 1), (262, 1), (273, 8), (277, channels), (278, 8), (279, 64), (339, kind)]
    packed = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in entries)
    (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<IH", 8, len(entries)) + packed + bytes(4) + values.tobytes())
    with pytest.raises(InputError, match=what):
        open_photo(tmp_path / "a.tif")


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


@pytest.mark.parametrize("side", [60000, 13000])
def test_decompression_bombs_are_refused(tmp_path, side):
    path = png(tmp_path / "bomb.png", (side, side), 8, 2, b"")
    with pytest.raises(InputError, match="million pixels"):
        open_photo(path)


@pytest.mark.parametrize(
    "start",
    [b"P6 #" + b"a" * 10**6, b"\xff\xd8" + b"\xff" * 10**6, b"GIF89a\1\0\1\0\0\0\0!\xfe" + (b"\x01a" * 10**6)],
    ids=["a PPM that is a comment", "a JPEG of padding", "a GIF of comments"],
)
def test_headers_without_an_end_are_refused_at_once(tmp_path, start):
    (tmp_path / "a.png").write_bytes(start)
    with pytest.raises(InputError, match="so many parts"):
        open_photo(tmp_path / "a.png")


def test_the_frames_of_a_tiff_are_not_counted_to_the_end(tmp_path):
    tags = [(256, 8), (257, 8), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 8), (279, 64)]
    entries = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    length = len(entries) + 4
    data = b"".join(entries + struct.pack("<I", 8 + (frame + 1) * length) for frame in range(20_000))
    (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<I", 8) + data)
    begin = time.process_time()
    assert "more than 100 frames" in open_photo(tmp_path / "a.tif").notes[0]
    assert time.process_time() - begin < 2


def test_a_jpeg_of_many_scans_is_refused(tmp_path):
    data = saved(tmp_path, Image.new("L", (3000, 3000)), "a.jpg", progressive=True).read_bytes()
    last = data.rindex(b"\xff\xda")
    (tmp_path / "b.jpg").write_bytes(data[:-2] + data[last:-2] * 500 + data[-2:])
    with pytest.raises(InputError, match="so many scans"):
        open_photo(tmp_path / "b.jpg")


def test_the_largest_image_takes_less_than_a_gibibyte(tmp_path):
    side = 9400
    path = png(tmp_path / "a.png", (side, side), 16, 0, b"".join(bytes(1 + 2 * side) for _ in range(side)))
    code = (
        "import resource; from relprop.images import open_photo; peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"before = peak(); open_photo({str(path)!r}); print((peak() - before) * 1024)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 2**30


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


def test_a_large_image_is_refused_without_a_warning_of_pillow(tmp_path):
    path = tmp_path / "large.png"
    for size in ((12_000, 8_000), (20_000, 20_000)):
        png(path, size, 8, 0, b"")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(InputError, match=f"has {size[0] * size[1] // 10**6} million pixels, more than the"):
                open_photo(path)


@pytest.mark.parametrize(("depth", "color", "most"), [(8, 6, 67), (16, 2, 44), (16, 6, 33)])
def test_deep_and_transparent_images_may_have_fewer_pixels(tmp_path, depth, color, most):
    path = tmp_path / "deep.png"
    png(path, (10_000, most * 100 + 200), depth, color, b"")
    with pytest.raises(InputError, match=r"MB of pixels, more than the 270 MB of a PNG that are read; make it smaller first"):
        check_photo(path)
    png(path, (10_000, most * 100), depth, color, b"")
    check_photo(path)
