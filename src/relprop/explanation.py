"""Explanations: what an explainer returns, as tensors, heat maps, pictures and files."""

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten_with_path, tree_leaves, tree_map
from typing_extensions import TypeVar

from relprop.errors import InputError, ModelError, OutputError
from relprop.files import as_path, atomic
from relprop.heads import probabilities
from relprop.inputs import Question
from relprop.meaning import UNSAID, Meaning
from relprop.text import shown
from relprop.version import __version__

Relevance = TypeVar("Relevance", default=Any)
"""What an explanation has for its inputs: a tensor for a tensor, else the same structure of tensors."""

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image


@dataclass(frozen=True, repr=False, eq=False)
class Explanation(Generic[Relevance]):
    """Relevance of every input element for the explained outputs.

    ``len`` is the number of samples, ``explanation[2]`` and ``explanation[1:3]`` are explanations of some of them, and
    :func:`relprop.concatenate` joins those of several batches.

    Attributes:
        relevance: Shaped like the inputs, ``(B, …)``, or ``(B, K, …)`` where the target is ``(B, K)``; for several inputs a tuple or dict
            like them, nested as they are. Positive counts for the target, negative against; unbounded, in units of the logit.
        logits: The explained output, ``(B, C)`` or as the model returns it, before any final softmax; for a target inside the model the output
            of its module.
        target: The explained classes, ``(B,)`` or ``(B, K)``; None where something else was explained.
        absorbed: The absorbed relevance, ``(B,)`` or ``(B, K)``: what constants (a class token, say) received, and what no operand
            received. Conserving methods: ``relevance.sum() + absorbed`` of each map is ``conserved``.
        inputs: What was explained, structured like ``relevance``.
        layers: Relevance at the outputs of the modules asked for, by module path.
        method: The name of the method.
        notes: What the user should know.
        completeness_error: The explained logit minus ``relevance.sum() + absorbed`` of each map, ``(B,)`` or ``(B, K)``, for methods that are
            complete up to an error, such as integrated gradients.
        activation: The activation of the model's head, see :mod:`relprop.heads`; None where it is not known.
        labels: The names of the classes; None where the capture was given none.
        meaning: What positive and negative relevance say, in the method's words.
        value: The explained numbers, ``(B,)`` or ``(B, K)``: the logit of the class, or what the target asks for; None where
            ``output_relevance`` was given.
        conserved: What ``relevance.sum() + absorbed`` of each map promises to be, ``(B,)`` or ``(B, K)``: ``value``, or what the method's start
            makes of it, such as the logit minus the mean of the others; None for methods that promise nothing.
        words: What was explained, in words, one text per sample; empty where ``output_relevance`` was given.
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
    labels: tuple[str, ...] | None = None
    meaning: Meaning = UNSAID
    value: Tensor | None = None
    conserved: Tensor | None = None
    words: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Return one line: the method, the shape of the relevance, what is explained."""
        relevance = tree_map(_shape, self.relevance)
        said = list(dict.fromkeys(self.words))
        target = f", {shown(said, 2)[1:-1]}" * bool(said) if self.target is None else f", target={shown(self.target.tolist())}"
        notes = f", {len(self.notes)} note{'s' * (len(self.notes) != 1)}" * bool(self.notes)
        return f"Explanation({self.method!r}, relevance={relevance}{target}{notes})"

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.absorbed)

    def __getitem__(self, index: int | slice) -> "Explanation[Relevance]":
        """Return the explanation of one sample, as a batch of one, or of a slice of the samples.

        Raises:
            IndexError: There is no such sample.
            InputError: The index is neither an int nor a slice, or the slice is empty.
        """
        if not isinstance(index, int | slice):  # pyright: ignore[reportUnnecessaryIsInstance] - users may give anything
            raise InputError(f"An explanation is indexed by an int or a slice of samples, not by {type(index).__name__}.")
        chosen = range(len(self))[index]  # raises IndexError
        rows = slice(chosen, chosen + 1) if isinstance(chosen, int) else index
        if not isinstance(chosen, int) and not chosen:
            raise InputError(f"The slice {index} holds none of the {len(self)} samples.")
        found = self._map(lambda part: part[rows] if part.dim() and len(part) == len(self) else part)
        return replace(found, words=self.words[rows])

    def to(self, device: torch.device | str) -> "Explanation[Relevance]":
        """Return the explanation with its tensors on a device."""
        return self._map(lambda part: part.to(device))

    def cpu(self) -> "Explanation[Relevance]":
        """Return the explanation with its tensors on the CPU."""
        return self.to("cpu")

    def _map(self, function: Callable[[Tensor], Tensor]) -> "Explanation[Relevance]":
        def changed(part: Any) -> Any:  # noqa: ANN401 - a tensor, or another value
            return function(part) if isinstance(part, Tensor) else part

        return replace(self, **{name: tree_map(changed, value) for name, value in tensors_of(self).items()})

    @property
    def probabilities(self) -> Tensor:
        """The probabilities of the classes, ``(B, C)``, by the activation of the model's head."""
        return probabilities(self.logits, self.activation)

    @property
    def _image_relevance(self) -> Tensor:
        if isinstance(self.relevance, Tensor):
            return self.relevance
        parts = [p for p in tree_leaves(self.relevance) if isinstance(p, Tensor)]
        images, signals = ([p for p in parts if p.dim() - self.absorbed.dim() >= n] for n in (3, 2))
        found = images or signals
        if len(found) != 1:
            raise InputError(
                f"A heat map needs one image, volume or signal among the inputs, and these have {len(found)}; sum .relevance yourself."
            )
        return found[0]

    def heatmap(self) -> Tensor:
        """Return the relevance summed over channels: ``(B, H, W)``, or ``(B, K, H, W)`` for several targets.

        That of signals is ``(B, T)``, of volumes and videos ``(B, D, H, W)``; of several inputs, that of the only image or volume, or else of
        the only signal.
        """
        relevance = self._image_relevance
        several = self.absorbed.dim() == 2
        if relevance.dim() - several < 3:
            raise InputError(f"A heat map needs inputs with channels; the relevance has shape {tuple(relevance.shape)}.")
        return relevance.sum(2 if several else 1)

    def plot(self, **options: Any) -> "Figure":  # noqa: ANN401 - see relprop.viz
        """Draw the explanation by the picture that suits its inputs, with the options of that function of :mod:`relprop.viz`.

        ``plot_explanation`` draws images, ``plot_signals`` signals ``(C, T)``, ``plot_slices`` volumes ``(C, D, H, W)``, ``plot_frames`` those
        of three channels, which are videos, and ``plot_features`` one row of a table.

        Raises:
            InputError: The inputs are texts, which :func:`relprop.viz.color_words` draws, or of another kind.
        """
        from relprop.viz import picture_for

        labels = options.pop("labels", self.labels)
        return picture_for(self)(self, labels=labels, **options)

    def overlay(self, photo: Any = None, **options: Any) -> "Image":  # noqa: ANN401 - see relprop.viz
        """Return one map over its photo as a PIL image; see :func:`relprop.viz.overlay_image` for the options."""
        from relprop.viz import overlay_image

        return overlay_image(self, photo, **options)

    def _repr_png_(self) -> bytes | None:
        from relprop.viz import png_of_explanation

        return png_of_explanation(self, self.labels)

    def _repr_html_(self) -> str | None:
        from relprop.viz import html_of_explanation

        return html_of_explanation(self, self.labels)

    def to_shap(self, output_names: Sequence[str] | None = None) -> Any:  # noqa: ANN401 - shap's own class
        """Return a ``shap.Explanation``, with one output per target where there are several; images have their channels last, as in shap.

        ``base_values`` are what was absorbed: for DeepSHAP, DeepLIFT and integrated gradients the score of the references, so that values and
        base value add up to the explained logit.

        Args:
            output_names: Names of the targets, for shap's plots.

        Raises:
            ModelError: The package shap is not installed.
            InputError: There are several inputs.
        """
        try:
            shap: Any = importlib.import_module("shap")
        except ImportError as error:
            raise ModelError(f'This needs shap; install it with: pip install "relprop[shap]" ({error}).') from error
        if not isinstance(self.relevance, Tensor):
            raise InputError("shap explains one array, and this explanation has several inputs; make one of each part yourself.")
        values: Tensor = self.relevance
        inputs: Any = self.inputs
        values = values.movedim(1, -1) if self.absorbed.dim() == 2 else values
        if inputs.dim() == 4:
            values, inputs = values.movedim(1, 3), inputs.movedim(1, 3)
        arrays = [part.detach().float().cpu().numpy() for part in (values, self.absorbed, inputs)]
        names = None if output_names is None else list(output_names)
        return shap.Explanation(values=arrays[0], base_values=arrays[1], data=arrays[2], output_names=names)

    def save(self, path: str | Path, **options: Any) -> None:  # noqa: ANN401 - see relprop.viz
        """Write the explanation whole or not at all, in the format that the suffix names.

        Args:
            path: ``.safetensors`` for all tensors, ``.npy`` for the relevance alone, else a picture: ``.png``, ``.pdf``, ``.svg``, …
            **options: Of :meth:`plot`, for pictures.

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
            from relprop.viz import PICTURES, save_figure

            if suffix[1:] not in PICTURES:
                raise OutputError(f"{path} has no known suffix; use .safetensors, .npy or a picture's: {', '.join(PICTURES)}.")
            save_figure(self.plot(**options), path)


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
        conserved: See :class:`Explanation`.
        magnitude: ``Σ|R|`` of the relevance of the output, ``(B,)`` or ``(B, K)``, against which what misses ``conserved`` is measured.
    """

    relevance: Sequence[Tensor]
    absorbed: Tensor
    question: Question
    layers: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    completeness_error: Tensor | None = None
    notes: tuple[str, ...] = ()
    conserved: Tensor | None = None
    magnitude: Tensor | None = None

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
            magnitude=changed(self.magnitude),
        )


def tensors_of(explanation: Explanation) -> dict[str, Any]:
    """Return the fields of an explanation that are tensors, or structures of them, by name."""
    names = ("relevance", "inputs", "logits", "absorbed", "target", "layers", "completeness_error", "value", "conserved")
    return {name: getattr(explanation, name) for name in names}


def concatenate(explanations: Iterable[Explanation]) -> Explanation:
    """Join explanations of several batches into one, such as those of a data loader.

    ``relprop.concatenate(explainer(images).cpu() for images, _ in loader)`` holds one batch on the model's device at a time.

    Args:
        explanations: Of one method, on inputs of one shape; their notes are joined.

    Raises:
        InputError: There is none, or they differ in more than their samples.
    """
    parts = list(explanations)
    if not parts:
        raise InputError("There is no explanation to concatenate.")
    first = parts[0]
    if len(parts) == 1:
        return first
    for number, part in enumerate(parts[1:], 1):
        _check_alike(first, part, number)
    tables, sizes = [tensors_of(part) for part in parts], [len(part) for part in parts]
    joined = {name: _joined([table[name] for table in tables], sizes) for name in tables[0]}
    words = tuple(text for part in parts for text in part.words)
    return replace(first, **joined, words=words, notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)))


def _check_alike(first: Explanation, other: Explanation, number: int) -> None:
    kinds = [
        {
            "method": one.method,
            "activation": one.activation,
            **{f"{name} of one sample": tuple(tensor.shape[1:]) for name, tensor in _flat(tensors_of(one)).items()},
        }
        for one in (first, other)
    ]
    for name in {**kinds[0], **kinds[1]}:
        ours, theirs = (kind.get(name) for kind in kinds)
        if ours != theirs:
            raise InputError(f"Explanation {number} cannot join the first one: its {name} is {theirs}, and there {ours}.")


def _joined(values: Sequence[Any], sizes: Sequence[int]) -> Any:  # noqa: ANN401 - tensors, or the same structure of them
    """Join the tensors whose first dimension is the batch; other values are those of the first."""

    def join(*parts: Any) -> Any:  # noqa: ANN401
        batched = all(isinstance(part, Tensor) and part.shape[:1] == (size,) for part, size in zip(parts, sizes, strict=True))
        return torch.cat(parts) if batched else parts[0]

    return tree_map(join, *values)


def _shape(value: object) -> object:
    return tuple(value.shape) if isinstance(value, Tensor) else value


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

    found = _flat(tensors_of(explanation))
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in found.items()}
    with atomic(path) as temporary:
        save_file(tensors, temporary, metadata={"method": explanation.method, "relprop": __version__})


def _flat(value: Any) -> dict[str, Tensor]:  # noqa: ANN401 - tensors in dicts, lists and tuples
    """Name every tensor by its path: ``relevance``, ``relevance.0``, ``layers.features.3``."""
    leaves, _ = tree_flatten_with_path(value)
    return {".".join(map(_step, path)): leaf for path, leaf in leaves if isinstance(leaf, Tensor)}


def _step(key: Any) -> str:  # noqa: ANN401 - of a dict, a sequence, or a named tuple
    return str(next(getattr(key, name) for name in ("key", "idx", "name") if hasattr(key, name)))
