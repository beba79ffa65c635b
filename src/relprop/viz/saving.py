"""An explanation as a file: a picture, its raw relevance, or all of its tensors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import Tensor

from relprop.errors import OutputError
from relprop.explanation import Explanation
from relprop.files import as_path, atomic
from relprop.version import __version__
from relprop.viz.figure import PICTURES, save_figure
from relprop.viz.plot import plot_explanation


def save_explanation(explanation: Explanation, path: str | Path, **options: Any) -> None:  # noqa: ANN401 - of plot_explanation
    """Write an explanation whole or not at all, in the format that the suffix names.

    Args:
        explanation: what to write.
        path: ``.safetensors`` for all tensors, ``.npy`` for the relevance alone, else a picture: ``.png``, ``.pdf``, ``.svg``, …
        options: of :func:`plot_explanation`, for pictures.

    Raises:
        InputError: where the path is neither a string nor a path.
        OutputError: where the suffix is unknown or the file cannot be written.
    """
    path = as_path(path)
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        _save_tensors(explanation, path)
    elif suffix == ".npy":
        _save_relevance(explanation, path)
    elif suffix[1:] in PICTURES:
        save_figure(plot_explanation(explanation, **options), path)
    else:
        raise OutputError(f"{path} has no known suffix; use .safetensors, .npy or a picture's: {', '.join(PICTURES)}.")


def _save_relevance(explanation: Explanation, path: Path) -> None:
    if not isinstance(explanation.relevance, Tensor):
        raise OutputError("An .npy file holds one array, and this explanation has several inputs; use .safetensors.")
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.save(file, explanation.relevance.detach().cpu().numpy())


def _save_tensors(explanation: Explanation, path: Path) -> None:
    from safetensors.torch import save_file

    parts = {
        "relevance": explanation.relevance,
        "inputs": explanation.inputs,
        "logits": explanation.logits,
        "absorbed": explanation.absorbed,
        "target": explanation.target,
        "layers": explanation.layers,
    }
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in _flat(parts).items()}
    with atomic(path) as temporary:
        save_file(tensors, temporary, metadata={"method": explanation.method, "relprop": __version__})


def _flat(value: Any, name: str = "") -> dict[str, Tensor]:  # noqa: ANN401 - tensors in dicts and tuples
    """Name every tensor by its path: ``relevance``, ``relevance.0``, ``layers.features.3``."""
    if isinstance(value, Tensor):
        return {name: value}
    named = (
        cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else dict(enumerate(cast("tuple[Any, ...]", value or ())))
    )
    items = named.items()
    return {key: tensor for part, inner in items for key, tensor in _flat(inner, f"{name}.{part}".lstrip(".")).items()}
