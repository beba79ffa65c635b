"""How many frames a file has, counted in bounded time."""

from PIL import Image

_MOST = 100
_IN_HEADER = frozenset({"PNG", "WEBP", "AVIF", "MPO"})
"""Formats whose header tells the number; the others must be gone through."""
_PIXELS = 50_000_000


def count_frames(image: Image.Image) -> str:
    """Return the number of frames in words, such as ``"3"`` or ``"more than 100"``; leave the image at its first frame."""
    if image.format in _IN_HEADER:
        return str(getattr(image, "n_frames", 1))
    most = min(_MOST, max(1, _PIXELS // (image.width * image.height)))
    count = 1
    try:
        while count <= most:
            image.seek(count)
            count += 1
    except EOFError:
        return str(count)
    finally:
        image.seek(0)
    return f"more than {most}" if most > 1 else "several"
