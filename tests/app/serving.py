"""A small model and photos for the tests of the app."""

from io import BytesIO

import numpy as np
from PIL import Image

from relprop.app.desk import Desk
from relprop.app.photos import Limits
from relprop.app.served import Served
from relprop.cli.terminal import describe
from relprop.zoo import load
from tests.files import MODELS

METHODS = ("rap", "epsilon-plus", "grad-cam", "gradient", "rollout")


def make_desk(folder, *, limits=None):
    """A desk with two small models of four classes."""
    path = folder / "nets.py"
    path.write_text(MODELS)
    models = {f"{name} net": Served(f"{path}:{name}", lambda name=name: load(f"{path}:{name}")) for name in ("small", "large")}
    return Desk(models, METHODS, limits or Limits(), describe)


def photo_bytes(seed=0, size=(50, 40), kind="png"):
    """A photo of noise as the bytes of a file."""
    pixels = np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def huge_bytes(width=10_000, height=5_000):
    """A photo of fifty million pixels in a small file."""
    file = BytesIO()
    Image.new("1", (width, height)).save(file, "png")
    return file.getvalue()
