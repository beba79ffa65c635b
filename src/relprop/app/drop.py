"""The place to drop a photo, with samples to pick."""

from collections.abc import Mapping
from functools import lru_cache

from PIL import Image

from relprop.app.markup import image_url, text
from relprop.app.photos import Limits, Upload, thumbnail

_SAMPLE = 104
"""Pixels of the longer side, for screens of two pixels per point."""


def drop_zone(
    limits: Limits, samples: Mapping[str, Upload], upload: Upload | None = None, photo: Image.Image | None = None
) -> str:
    """Return the drop zone, with the photo that lies on the desk."""
    picture = f'<img alt="The photo {text(upload.name)}" src="{image_url(photo)}">' if upload and photo else ""
    title = text(upload.name) if upload else "Drop a photo here"
    hint = (
        "Drop, paste or click for another" if upload else f"paste it, or click to choose a file of up to {limits.megabytes:g} MB"
    )
    return (
        f'<div class="rp-drop" data-bytes="{limits.bytes}"><label class="rp-zone">{picture}<span><strong>{title}</strong>'
        f'<small>{hint}</small></span><input type="file" accept="image/*" aria-label="Choose a photo"></label>'
        f'<p class="rp-drop-news" role="alert" hidden></p>{_samples(samples, limits)}</div>'
    )


def _samples(samples: Mapping[str, Upload], limits: Limits) -> str:
    if not samples:
        return ""
    made = "".join(
        f'<button type="button" data-sample="{text(title)}" title="{text(title)}" aria-label="Sample: {text(title)}">'
        f'<img alt="" src="{_sample_url(upload, limits)}"></button>'
        for title, upload in samples.items()
    )
    return f'<div class="rp-samples"><span>Samples</span>{made}</div>'


@lru_cache(maxsize=32)
def _sample_url(upload: Upload, limits: Limits) -> str:
    """The URL of a sample's picture, which every drop shows again."""
    return image_url(thumbnail(upload.photo(limits).image, _SAMPLE))
