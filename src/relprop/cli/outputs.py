"""Where the pictures of a run go, checked before anything is computed."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from relprop.errors import OutputError
from relprop.explanation import Explanation
from relprop.files import atomic, check_writable
from relprop.viz import check_picture_format


def choose_pictures(photos: Sequence[Path], output: Path, name: str, extra: Sequence[str] = ()) -> dict[Path, Path]:
    """Choose each photo's picture, and make sure that it can be written and overwrites no photo.

    Args:
        photos: The photos.
        output: A picture file for one photo, or a folder, where each photo gets ``PHOTO-NAME.png``.
        name: What the pictures in a folder are named by.
        extra: Suffixes of further files that go beside every picture.

    Raises:
        OutputError: One file for several photos, an unknown picture format, an output that is a photo or cannot be written.
    """
    photos = list(dict.fromkeys(photos))
    if output.suffix and not output.is_dir():
        if len(photos) > 1:
            raise OutputError(f"{output} is one file for {len(photos)} photos; give a folder.")
        pictures = [output]
    else:
        pictures = _distinct([output / f"{photo.stem}-{name}.png" for photo in photos])
    sources = {photo.resolve() for photo in photos}
    for picture in pictures:
        check_picture_format(picture)
        for path in (picture, *(picture.with_suffix(suffix) for suffix in extra)):
            if path.resolve() in sources:
                raise OutputError(f"The output {path} is one of the photos; choose another with --output.")
            check_writable(path)
    return dict(zip(photos, pictures, strict=True))


def save_relevance(explanation: Explanation, path: Path) -> None:
    """Write the relevance of one photo, ``(C, H, W)`` or ``(K, C, H, W)``, as a NumPy file.

    Raises:
        OutputError: The file cannot be written.
    """
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.save(file, explanation.relevance[0].float().cpu().numpy())


def _distinct(paths: Sequence[Path]) -> list[Path]:
    """Number the later ones of equal names, so that no output overwrites another."""
    taken: dict[Path, None] = {}
    for path in paths:
        names = (path.with_stem(f"{path.stem}-{number}") if number > 1 else path for number in range(1, len(paths) + 1))
        taken[next(name for name in names if name not in taken)] = None
    return list(taken)
