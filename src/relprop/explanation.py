"""Explanations: what an explainer returns, as tensors, heat maps, pictures and files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten_with_path, tree_leaves, tree_map
from typing_extensions import TypeVar

from relprop.errors import InputError, OutputError
from relprop.files import as_path, atomic
from relprop.heads import probabilities
from relprop.inputs import Question
from relprop.meaning import UNSAID, Meaning
from relprop.version import __version__

Relevance = TypeVar("Relevance", default=Any)
"""What an explanation has for its inputs: a tensor for a tensor, else the same structure of tensors."""

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image


@dataclass(frozen=True)
class Explanation(Generic[Relevance]):
    """Relevance of every input element for the explained outputs.

    Attributes:
        relevance: Shaped like the inputs, ``(B, …)``, or ``(B, K, …)`` where the target is ``(B, K)``; for several inputs a tuple or dict
            like them, nested as they are. Positive counts for the target, negative against; unbounded, in units of the logit.
        logits: The model's output, ``(B, C)``, before any final softmax.
        target: The explained classes, ``(B,)`` or ``(B, K)``; None where ``output_relevance`` was given.
        absorbed: The absorbed relevance, ``(B,)`` or ``(B, K)``: what constants (a class token, say) received, and what no operand
            received. Conserving methods: ``relevance.sum() + absorbed`` of each map is the explained logit.
        inputs: What was explained, structured like ``relevance``.
        layers: Relevance at the outputs of the modules asked for, by module path.
        method: The name of the method.
        notes: What the user should know.
        completeness_error: The explained logit minus ``relevance.sum() + absorbed`` of each map, ``(B,)`` or ``(B, K)``, for methods that are
            complete up to an error, such as integrated gradients.
        activation: The activation of the model's head, see :mod:`relprop.heads`; None where it is not known.
        meaning: What positive and negative relevance say, in the method's words.
    """

    relevance: Relevance
    logits: Tensor
    target: Tensor | None
    absorbed: Tensor
    inputs: Relevance
    layers: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    method: str = ""
    notes: tuple[str, ...] = ()
    completeness_error: Tensor | None = None
    activation: str | None = None
    meaning: Meaning = UNSAID

    @property
    def probabilities(self) -> Tensor:
        """The probabilities of the classes, ``(B, C)``, by the activation of the model's head."""
        return probabilities(self.logits, self.activation)

    @property
    def _image_relevance(self) -> Tensor:
        if isinstance(self.relevance, Tensor):
            return self.relevance
        images = [p for p in tree_leaves(self.relevance) if isinstance(p, Tensor) and p.dim() >= 4]
        if len(images) != 1:
            raise InputError(f"A heat map needs one image input, and these inputs have {len(images)}; sum .relevance yourself.")
        return images[0]

    def heatmap(self) -> Tensor:
        """Return the relevance summed over channels: ``(B, H, W)``, or ``(B, K, H, W)`` for several targets."""
        relevance = self._image_relevance
        several = self.absorbed.dim() == 2
        if relevance.dim() - several < 3:
            raise InputError(f"A heat map needs inputs with channels; the relevance has shape {tuple(relevance.shape)}.")
        return relevance.sum(2 if several else 1)

    def plot(self, **options: Any) -> "Figure":  # noqa: ANN401 - see relprop.viz
        """Draw every sample's input, heat map and overlay; see :func:`relprop.viz.plot_explanation` for the options."""
        from relprop.viz import plot_explanation

        return plot_explanation(self, **options)

    def overlay(self, photo: Any = None, **options: Any) -> "Image":  # noqa: ANN401 - see relprop.viz
        """Return one map over its photo as a PIL image; see :func:`relprop.viz.overlay_image` for the options."""
        from relprop.viz import overlay_image

        return overlay_image(self, photo, **options)

    def _repr_png_(self) -> bytes | None:
        from relprop.viz import png_of_explanation

        return png_of_explanation(self)

    def _repr_html_(self) -> str | None:
        from relprop.viz import html_of_explanation

        return html_of_explanation(self)

    def save(self, path: str | Path, **options: Any) -> None:  # noqa: ANN401 - see relprop.viz
        """Write the explanation whole or not at all, in the format that the suffix names.

        Args:
            path: ``.safetensors`` for all tensors, ``.npy`` for the relevance alone, else a picture: ``.png``, ``.pdf``, ``.svg``, …
            **options: Of :func:`relprop.viz.plot_explanation`, for pictures.

        Raises:
            InputError: The path is neither a string nor a path.
            OutputError: The suffix is unknown or the file cannot be written.
        """
        path = as_path(path)
        suffix = path.suffix.lower()
        if suffix == ".safetensors":
            _save_tensors(self, path)
        elif suffix == ".npy":
            _save_relevance(self, path)
        else:
            from relprop.viz import PICTURES, plot_explanation, save_figure

            if suffix[1:] not in PICTURES:
                raise OutputError(f"{path} has no known suffix; use .safetensors, .npy or a picture's: {', '.join(PICTURES)}.")
            save_figure(plot_explanation(self, **options), path)


@dataclass(frozen=True)
class Answer:
    """What a method finds for one batch; the explainer assembles the :class:`Explanation` from it.

    Attributes:
        relevance: Relevance of every tensor input, ``(B, …)`` or ``(B, K, …)``.
        absorbed: ``(B,)`` or ``(B, K)``, see :class:`Explanation`.
        question: What was explained.
        layers: Relevance at the outputs of modules, by path.
        completeness_error: See :class:`Explanation`.
        notes: What the user should know.
        conserved: What relevance and absorbed relevance promise to add up to, ``(B,)`` or ``(B, K)``; None without a promise.
    """

    relevance: Sequence[Tensor]
    absorbed: Tensor
    question: Question
    layers: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    completeness_error: Tensor | None = None
    notes: tuple[str, ...] = ()
    conserved: Tensor | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> "Answer":
        """Apply ``function``, such as a cast, to every floating tensor but the question's relevance of the output."""

        def changed(value: Tensor | None) -> Tensor | None:
            return None if value is None else function(value)

        return replace(
            self,
            relevance=[function(part) for part in self.relevance],
            absorbed=function(self.absorbed),
            question=replace(self.question, logits=function(self.question.logits)),
            layers={path: function(part) for path, part in self.layers.items()},
            completeness_error=changed(self.completeness_error),
            conserved=changed(self.conserved),
        )


def join_explanations(parts: Sequence[Explanation]) -> Explanation:
    """Join explanations of several batches by one explainer into that of one batch."""
    first = parts[0]
    if len(parts) == 1:
        return first
    return replace(
        first,
        relevance=_joined([p.relevance for p in parts]),
        logits=torch.cat([p.logits for p in parts]),
        target=None if first.target is None else torch.cat([p.target for p in parts if p.target is not None]),
        absorbed=torch.cat([p.absorbed for p in parts]),
        completeness_error=None if first.completeness_error is None else _joined([p.completeness_error for p in parts]),
        notes=tuple(dict.fromkeys(note for p in parts for note in p.notes)),
        inputs=_joined([p.inputs for p in parts]),
        layers={path: torch.cat([p.layers[path] for p in parts]) for path in first.layers},
    )


def _joined(values: Sequence[Any]) -> Any:  # noqa: ANN401 - tensors, or the same structure of them
    return tree_map(lambda *parts: torch.cat(parts) if isinstance(parts[0], Tensor) else parts[0], *values)


def _save_relevance(explanation: Explanation, path: Path) -> None:
    if not isinstance(explanation.relevance, Tensor):
        raise OutputError("An .npy file holds one array, and this explanation has several inputs; use .safetensors.")
    import numpy as np

    relevance = explanation.relevance.detach().cpu()
    relevance = (
        relevance.float() if relevance.dtype == torch.bfloat16 else relevance
    )  # NumPy has no such type; float32 holds it exactly
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.save(file, relevance.numpy())


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


def _flat(value: Any) -> dict[str, Tensor]:  # noqa: ANN401 - tensors in dicts, lists and tuples
    """Name every tensor by its path: ``relevance``, ``relevance.0``, ``layers.features.3``."""
    leaves, _ = tree_flatten_with_path(value)
    return {".".join(map(_step, path)): leaf for path, leaf in leaves if isinstance(leaf, Tensor)}


def _step(key: Any) -> str:  # noqa: ANN401 - of a dict, a sequence, or a named tuple
    return str(next(getattr(key, name) for name in ("key", "idx", "name") if hasattr(key, name)))
