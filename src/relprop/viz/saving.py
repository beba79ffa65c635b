"""Figures as files."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from relprop.errors import OutputError
from relprop.files import as_path, atomic

PICTURES = ("png", "pdf", "svg", "jpg", "jpeg", "webp", "tif", "tiff", "eps")
LARGEST = {"webp": 16383, "jpg": 65535, "jpeg": 65535}
"""The most pixels that a side may have, by format; 65 535 where it is not named."""
_PNG_LEVEL = 4  # takes half as long as zlib's 6, for files larger by 3 %


def save_figure(figure: Figure, path: str | Path, dpi: int = 160) -> None:
    """Write the figure whole or not at all; the suffix chooses the format (``PICTURES``).

    Raises:
        InputError: The path is neither a string nor a path.
        OutputError: The suffix is unknown, the picture is too large for its format, or the file cannot be written.
    """
    path = as_path(path)
    check_picture_format(path)
    kind = path.suffix[1:].lower()
    width, height = (round(side * dpi) for side in figure.get_size_inches())
    if kind not in {"pdf", "svg", "eps"} and max(width, height) > LARGEST.get(kind, 65535):
        raise OutputError(
            f"{path} would have {width}×{height} pixels, more than a {kind} file can; draw fewer images at once, or take a lower dpi."
        )
    fast: dict[str, Any] = {"pil_kwargs": {"compress_level": _PNG_LEVEL}} if kind == "png" else {}
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=dpi, **fast)


def check_picture_format(path: Path) -> None:
    """Raise ``OutputError`` where the suffix names no picture format."""
    if path.suffix[1:].lower() not in PICTURES:
        raise OutputError(f"{path} has no suffix of a picture format; use one of {', '.join(PICTURES)}.")
