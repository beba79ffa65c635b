"""Preprocessing of an image to a model's input: one frozen description, taken from the model's own config."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from relprop.errors import InputError, ModelError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MAX_RESIZED_PIXELS = 100_000_000


@dataclass(frozen=True)
class Preprocessing:
    """Resize, center crop and normalize: ``tensor = (pixels · scale − mean) / std`` with pixels in 0..255.

    Attributes:
        size: Height and width of the model's input.
        resize: Length of the shorter side after resizing, or (height, width) to change the aspect ratio.
        interpolation: A name of ``PIL.Image.Resampling``: ``"nearest"``, ``"bilinear"``, ``"bicubic"``, ``"lanczos"``, …
        scale: Factor on the 0..255 pixel values before mean and std.
        mean: The subtrahend of each channel.
        std: The divisor of each channel.
        channels: ``"RGB"``, ``"BGR"`` or ``"L"`` (gray).
    """

    size: tuple[int, int] = (224, 224)
    resize: int | tuple[int, int] = 256
    interpolation: str = "bilinear"
    scale: float = 1 / 255
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    channels: str = "RGB"

    def __post_init__(self) -> None:
        if self.channels not in {"RGB", "BGR", "L"}:
            raise ModelError(f"The channel order {self.channels!r} is unknown; it is 'RGB', 'BGR' or 'L'.")
        if self.interpolation.upper() not in Image.Resampling.__members__:
            known = ", ".join(name.lower() for name in Image.Resampling.__members__)
            raise ModelError(f"The interpolation {self.interpolation!r} is unknown; it is one of {known}.")
        if {len(self.mean), len(self.std)} != {len(self.channels)}:
            raise ModelError(f"Mean and std need one value per channel of {self.channels}, not {self.mean} and {self.std}.")

    def crop(self, image: Image.Image, *, nearest: bool = False) -> Image.Image:
        """Return the part of the image that the model sees, at its input size; masks are cropped with ``nearest=True``.

        Raises:
            InputError: The image is so long and thin that resizing its shorter side would exhaust the memory.
        """
        resample = Image.Resampling.NEAREST if nearest else Image.Resampling[self.interpolation.upper()]
        width, height = self._resized(image)
        if (width, height) != image.size:
            image = image.resize((width, height), resample)
        top, left = round((height - self.size[0]) / 2.0), round((width - self.size[1]) / 2.0)
        return image.crop((left, top, left + self.size[1], top + self.size[0]))

    def spread(self, image: Image.Image, tiles: int, overlap: float) -> Image.Image:
        """Return the whole image, resized so that its shorter side is ``tiles`` tiles of the model's input size long.

        Args:
            image: The image.
            tiles: The number of tiles along the shorter side, 1 or more.
            overlap: The share of a tile that neighbors have in common.

        Raises:
            InputError: The image would become larger than 100 million pixels.
        """
        portrait = image.width <= image.height
        tile = self.size[portrait]  # the width of a tile, where the width of the photo is its shorter side
        short = tile + (tiles - 1) * max(1, math.floor(tile * (1 - overlap)))
        scale = max(short / min(image.size), *(need / has for need, has in zip(self.size[::-1], image.size, strict=True)))
        width, height = (max(1, round(side * scale)) for side in image.size)
        if width * height > MAX_RESIZED_PIXELS:
            raise InputError(
                f"In {tiles} tiles, an image of {image.width} × {image.height} pixels would become one of {width} × {height}; take fewer tiles."
            )
        return image.resize((width, height), Image.Resampling[self.interpolation.upper()])

    def window(self, image: Image.Image) -> tuple[float, float, float, float]:
        """Return the part of the image that the model sees: left, top, right and bottom edge in its pixels.

        The edges are fractions where the image was resized, and lie outside of it where the crop was larger than the resized image.

        Raises:
            InputError: As :meth:`crop`.
        """
        width, height = self._resized(image)
        top, left = round((height - self.size[0]) / 2.0), round((width - self.size[1]) / 2.0)
        across, down = image.width / width, image.height / height
        return left * across, top * down, (left + self.size[1]) * across, (top + self.size[0]) * down

    def normalize(self, image: Image.Image) -> Tensor:
        """Turn a cropped image into a ``(C, H, W)`` float32 tensor."""
        pixels = np.asarray(image.convert("L" if self.channels == "L" else "RGB"), dtype=np.float32)
        values = torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1).copy()).permute(2, 0, 1)
        values = values.flip(0) if self.channels == "BGR" else values
        return ((values * self.scale - self._column(self.mean)) / self._column(self.std)).contiguous()

    def tensor(self, image: Image.Image) -> Tensor:
        """Crop and normalize: a ``(C, H, W)`` float32 tensor."""
        return self.normalize(self.crop(image))

    def picture(self, values: Tensor) -> Image.Image:
        """Turn a tensor that :meth:`normalize` made back into the RGB image, to the nearest 8-bit value."""
        pixels = (values.detach().cpu().float() * self._column(self.std) + self._column(self.mean)) / self.scale
        pixels = pixels.flip(0) if self.channels == "BGR" else pixels
        bytes_ = pixels.round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
        return Image.fromarray(bytes_.squeeze(2) if self.channels == "L" else bytes_).convert("RGB")

    def zeros(self, device: torch.device | str = "cpu") -> Tensor:
        """Return a zero input ``(1, C, H, W)``, an example for the capture of a model."""
        return torch.zeros(1, len(self.channels), *self.size, device=device)

    @property
    def bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The normalized values of black and white per channel: the input range of the z^B rule."""
        low = tuple((0.0 - m) / s for m, s in zip(self.mean, self.std, strict=True))
        high = tuple((255.0 * self.scale - m) / s for m, s in zip(self.mean, self.std, strict=True))
        return low, high

    def _resized(self, image: Image.Image) -> tuple[int, int]:
        width, height = image.size
        if isinstance(self.resize, tuple):
            return self.resize[1], self.resize[0]
        short, long = sorted((width, height))
        long = int(self.resize * long / short)
        if self.resize * long > MAX_RESIZED_PIXELS:
            raise InputError(f"An image of {width} × {height} pixels is too long and thin to explain; crop it first.")
        return (self.resize, long) if width <= height else (long, self.resize)

    @staticmethod
    def _column(values: tuple[float, ...]) -> Tensor:
        return torch.tensor(values).view(-1, 1, 1)

    @classmethod
    def from_timm(cls, config: Mapping[str, Any]) -> Self:
        """Build from timm's data config (``timm.data.resolve_model_data_config(model)``)."""
        channels, height, width = config["input_size"]
        crop_mode = config.get("crop_mode") or "center"
        scaled = tuple(math.floor(edge / (config.get("crop_pct") or 0.875)) for edge in (height, width))
        if crop_mode not in {"center", "squash"} or (crop_mode == "center" and height != width):
            raise ModelError(f"Preprocessing with crop mode {crop_mode!r} at {height} × {width} pixels is not supported.")
        return cls(
            size=(height, width),
            resize=scaled[0] if crop_mode == "center" else (scaled[0], scaled[1]),
            interpolation=config["interpolation"],
            mean=tuple(config["mean"]),
            std=tuple(config["std"]),
            channels="L" if channels == 1 else "RGB",
        )

    @classmethod
    def from_torchvision(cls, transforms: Any) -> Self:  # noqa: ANN401 - torchvision's presets share no public type
        """Build from the transforms that torchvision keeps with its weights; those of a segmentation crop nothing, so a square is cut."""
        resize = transforms.resize_size
        crop = getattr(transforms, "crop_size", resize)
        return cls(
            size=(crop[0], crop[-1]),
            resize=resize[0] if len(resize) == 1 else (resize[0], resize[1]),
            interpolation=transforms.interpolation.value,
            mean=tuple(transforms.mean),
            std=tuple(transforms.std),
        )

    @classmethod
    def from_huggingface(cls, config: Mapping[str, Any]) -> Self:
        """Build from the values of a transformers image processor (``preprocessor_config.json`` with its defaults filled in).

        Raises:
            ModelError: The config has no supported image size.
        """
        resize, size = _huggingface_geometry(config)
        rescale = config.get("rescale_factor") or 1 / 255
        normalize = config.get("do_normalize")
        return cls(
            size=size,
            resize=resize,
            interpolation=Image.Resampling(config.get("resample", 2)).name.lower(),
            scale=rescale if config.get("do_rescale") else 1.0,
            mean=tuple(config["image_mean"]) if normalize else (0.0, 0.0, 0.0),
            std=tuple(config["image_std"]) if normalize else (1.0, 1.0, 1.0),
            channels="BGR" if config.get("do_flip_channel_order") else "RGB",
        )


def _huggingface_geometry(config: Mapping[str, Any]) -> tuple[int | tuple[int, int], tuple[int, int]]:
    """Return the size to resize to, and the size of the crop."""
    size = config.get("size")
    if isinstance(size, int):
        size = {"height": size, "width": size}
    if not isinstance(size, Mapping) or not ({"shortest_edge"} <= size.keys() or {"height", "width"} <= size.keys()):
        raise ModelError(
            f"The image processor's size {size!r} is not supported; height and width or shortest_edge were expected."
        )
    crop = config.get("crop_size") or size
    if isinstance(crop, int):
        crop = {"height": crop, "width": crop}
    if "height" in size:
        resize: int | tuple[int, int] = (size["height"], size["width"])
        final = crop if config.get("do_center_crop") else size
        return resize, (final["height"], final["width"])
    edge = int(size["shortest_edge"])
    if config.get("crop_pct"):  # ConvNeXt's rule: below 384 pixels enlarge, then crop; from 384 on squash
        return (int(edge / config["crop_pct"]) if edge < 384 else (edge, edge)), (edge, edge)
    if config.get("image_processor_type", "").startswith("Levit"):  # LeViT's rule: the edge is given for the crop
        edge = int(edge * 256 / 224)
    final = crop if config.get("do_center_crop") else {"height": edge, "width": edge}
    return edge, (final.get("height", edge), final.get("width", edge))
