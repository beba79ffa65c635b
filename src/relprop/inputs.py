"""What a call takes: the model's inputs, the target, and the relevance of the output."""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import TreeSpec, keystr, tree_flatten_with_path, tree_leaves, tree_unflatten

from relprop.context import ordinary
from relprop.errors import InputError, ModelError, OptionError, TargetError
from relprop.targets import Aim, Asked, Fixed, Head, ask, per_sample


@dataclass(frozen=True)
class Inputs:
    """Positional and keyword arguments of one call of the model: tensors, and dicts, lists and tuples of them, nested at will.

    Anything that is not a tensor is passed on as it is.

    Attributes:
        args: Positional arguments.
        kwargs: Keyword arguments.
        shared: The names of tensors without a batch dimension, which all samples share, such as the texts of a zero-shot classifier.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    shared: frozenset[str] = frozenset()

    @cached_property
    def _flattened(self) -> tuple[list[tuple[str, Any]], TreeSpec]:
        leaves, structure = tree_flatten_with_path((self.args, dict(self.kwargs)))
        return [(_name(path), value) for path, value in leaves], structure

    @property
    def leaves(self) -> list[tuple[str, Any]]:
        """All values by name, as messages call them, positional ones first: ``"input 0['image']"``, ``"batch['image']"``."""
        return self._flattened[0]

    @property
    def structure(self) -> TreeSpec:
        """The nesting of dicts, lists and tuples, without the values."""
        return self._flattened[1]

    @property
    def tensors(self) -> list[tuple[str, Tensor]]:
        """The tensors by name, in the order of ``leaves``."""
        return [(name, value) for name, value in self.leaves if isinstance(value, Tensor)]

    @property
    def flat(self) -> list[Any]:
        """All values, in the order of ``leaves``."""
        return [value for _, value in self.leaves]

    def call(self, function: Callable[..., Any], flat: Sequence[Any]) -> Any:  # noqa: ANN401 - what the function returns
        """Call a function with these arguments, other values in place of ``flat``."""
        args, kwargs = tree_unflatten(list(flat), self.structure)
        return function(*args, **kwargs)

    def map(self, function: Callable[[Tensor], Tensor]) -> "Inputs":
        """Apply ``function`` to every tensor."""
        return self.with_flat([function(v) if isinstance(v, Tensor) else v for v in self.flat])

    def with_flat(self, flat: Sequence[Any]) -> "Inputs":
        """Put other values in the place of ``flat``."""
        given: Inputs = self.call(_as_given, flat)
        return replace(given, shared=self.shared)

    def map_batched(self, function: Callable[[Tensor], Tensor]) -> "Inputs":
        """Apply ``function`` to every tensor whose first dimension is the batch."""
        batch = batch_size(self)
        batched = iter([v.dim() > 0 and v.shape[0] == batch and name not in self.shared for name, v in self.tensors])
        return self.map(lambda v: function(v) if next(batched) else v)

    def resized(self, size: int) -> "Inputs":
        """Repeat or cut the batch to ``size`` samples."""
        batch = batch_size(self)

        return self.map_batched(lambda value: value.repeat(-(-size // batch), *[1] * (value.dim() - 1))[:size])

    def sample(self, index: int) -> "Inputs":
        """Return one sample as a batch of one."""
        return self.map_batched(lambda value: value[index : index + 1])

    def restore(self, values: list[Tensor]) -> Any:  # noqa: ANN401 - the structure that the user gave
        """Put one tensor per tensor back into the structure of the arguments; keyword arguments that hold no tensor are left out."""
        rest = iter(values)
        given: Inputs = self.map(lambda _: next(rest))
        kwargs = {k: v for k, v in given.kwargs.items() if any(isinstance(leaf, Tensor) for leaf in tree_leaves(v))}
        if kwargs:
            return (*given.args, kwargs) if given.args else kwargs
        return given.args[0] if len(given.args) == 1 else given.args


def _as_given(*args: Any, **kwargs: Any) -> Inputs:  # noqa: ANN401 - the arguments
    return Inputs(args, kwargs)


def _name(path: Sequence[Any]) -> str:
    """The name of a value: that of its argument, and the keys and indices below it."""
    kind, argument, *below = path
    return (f"input {argument.idx}" if kind.idx == 0 else str(argument.key)) + keystr(tuple(below))


def as_inputs(inputs: object, function: Callable[..., Any] | None = None) -> Inputs:
    """Read what the user passed: a tensor, a tuple or list of arguments, or a dict of keyword arguments.

    A dict is the only argument of a ``function`` that takes one argument and none of the dict's keys.

    Raises:
        InputError: There is no tensor in it, or a packed sequence; a tensor is empty, sparse, without values, has no batch dimension, or
            holds NaN or infinite values.
    """
    _refuse_packed(inputs)
    if isinstance(inputs, Inputs):
        result = inputs
    elif isinstance(inputs, Tensor):
        result = Inputs((inputs,))
    elif isinstance(inputs, Mapping):
        named = {str(k): v for k, v in inputs.items()}
        result = Inputs((dict(inputs),)) if function is not None and _takes_whole(function, named) else Inputs((), named)
    elif isinstance(inputs, tuple | list):
        result = Inputs(tuple(inputs))
    else:
        raise InputError(
            f"Inputs must be a tensor, a tuple of arguments or a dict of keyword arguments, not {type(inputs).__name__}."
        )
    result = result.map(ordinary)
    _check(result)
    return result


def _refuse_packed(value: object) -> None:
    if isinstance(value, PackedSequence):
        raise InputError(
            "The inputs hold a PackedSequence, which lays the samples of a batch out among each other; pass the padded sequences, "
            "(batch, time, …), to a model that reads those, or explain each sequence alone."
        )
    held = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    for item in held:
        _refuse_packed(item)


def _takes_whole(function: Callable[..., Any], names: Collection[str]) -> bool:
    """Whether a function takes one argument, and no keyword argument of these names."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # it is not written in Python
        return False
    if any(p.kind is p.VAR_KEYWORD or p.name in names for p in parameters):
        return False
    positional = [p for p in parameters if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}]
    required = [p for p in parameters if p.default is p.empty and p.kind is not p.VAR_POSITIONAL]
    return bool(positional) and len(required) <= 1 and (not required or required[0] is positional[0])


def _check(inputs: Inputs) -> None:
    for name, value in inputs.leaves:
        held = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
        if any(isinstance(item, Tensor) for item in held):  # a class of a library, whose items nobody else may replace
            wanted = "dict" if isinstance(value, Mapping) else "list"
            raise InputError(f"The argument {name!r} is a {type(value).__name__} of tensors; pass a plain {wanted}.")
    if not inputs.tensors:
        raise InputError("The inputs hold no tensor; pass at least one tensor with a batch dimension.")
    for name, tensor in inputs.tensors:
        if tensor.is_meta or tensor.layout != torch.strided:
            wrong = (
                "is on the meta device and holds no values"
                if tensor.is_meta
                else f"is {tensor.layout}; pass it through to_dense()"
            )
            raise InputError(f"The tensor {name!r} {wrong}.")
        if tensor.numel() == 0:
            raise InputError(f"The tensor {name!r} is empty (shape {tuple(tensor.shape)}); pass at least one sample.")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise InputError(f"The tensor {name!r} holds NaN or infinite values; clean the input first.")
    if inputs.tensors[0][1].dim() == 0:
        raise InputError(f"The tensor {inputs.tensors[0][0]!r} has no batch dimension; pass it as (batch, …).")


def batch_size(inputs: Inputs) -> int:
    """The size of the first dimension of the first tensor that is not shared."""
    return next(tensor for name, tensor in inputs.tensors if name not in inputs.shared).shape[0]


@dataclass(frozen=True)
class Question:
    """Which output is explained.

    Attributes:
        logits: The output, ``(B, C)``, or of another shape.
        asked: The explained numbers, in terms of the output.
        output_relevance: Relevance of the output, ``(B, …)`` or ``(B, K, …)``, as the user gave it; None for a target.
    """

    logits: Tensor
    asked: Asked
    output_relevance: Tensor | None = None

    @property
    def target(self) -> Tensor | None:
        """The classes, ``(B,)`` or ``(B, K)``; None where something else is explained."""
        return self.asked.target

    @property
    def value(self) -> Tensor | None:
        """The explained numbers, ``(B,)`` or ``(B, K)``; None where relevance of the output was given."""
        return self.asked.values(self.logits) if self.output_relevance is None else None


@dataclass(frozen=True)
class Request:
    """One call of an explainer.

    Attributes:
        given: The inputs.
        target: The target as the user gave it; None for the predicted classes.
        output_relevance: Relevance of the output in place of a target.
        layers: Paths of the modules at whose outputs relevance is wanted too.
        head: What is known of the output.
        concepts: Channels or heads that relevance is restricted to, by module.
        question: What another batch was asked, in place of a target.
    """

    given: Inputs
    target: object = None
    output_relevance: Tensor | None = None
    layers: Sequence[str] = ()
    head: Head = field(default_factory=Head)
    concepts: Mapping[str, Sequence[int]] = field(default_factory=dict[str, Sequence[int]])
    question: Question | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.concepts, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise OptionError(f"concepts must be a dict of module paths and lists of channels, not {self.concepts!r}.")
        if self.target is not None and self.output_relevance is not None:
            raise TargetError("Give target or output_relevance, not both.")
        if isinstance(self.layers, str) or not isinstance(self.layers, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise OptionError(f"layers must be a list of module paths, not {self.layers!r}.")

    def ask(self, logits: Tensor) -> Question:
        """Set the target, or the relevance of the output, against the logits.

        Raises:
            ModelError: The logits are not finite.
            TargetError: The target or the relevance of the output does not fit them.
        """
        logits = finite_logits(logits)
        if self.question is not None:
            return replace(self.question, logits=logits)
        if self.output_relevance is None:
            return Question(logits, ask(self.target, logits, self.head))
        relevance = check_output_relevance(self.output_relevance, logits)
        several = relevance.dim() > logits.dim()
        columns = relevance.unbind(1) if several else [relevance]
        return Question(logits, Asked(tuple(map(Aim, columns)), several), relevance)

    def samples(self) -> "list[Request]":
        """Return one request per sample, each with its target or relevance of the output."""
        batch = batch_size(self.given)
        one_each = per_sample(self.target, batch)

        def of_sample(value: Any, index: int) -> Any:  # noqa: ANN401 - a target, or relevance of the output
            if isinstance(value, Fixed):
                return value.sample(index)
            return value[index : index + 1] if isinstance(value, Tensor | list | tuple) else value

        return [
            replace(
                self,
                given=self.given.sample(i),
                target=self.target[i] if one_each else of_sample(self.target, i),  # pyright: ignore[reportIndexIssue]
                output_relevance=of_sample(self.output_relevance, i),
            )
            for i in range(batch)
        ]


def finite_logits(logits: Tensor) -> Tensor:
    """Return the logits as they are.

    Raises:
        ModelError: They are not finite.
    """
    if not bool(torch.isfinite(logits).all()):
        raise ModelError("The model returns NaN or infinite logits for these inputs; nothing can be explained.")
    return logits


def check_output_relevance(output_relevance: Tensor, logits: Tensor) -> Tensor:
    """Return ``output_relevance`` on the output's device and dtype; it has the output's shape, or K of them in dimension 1.

    Raises:
        TargetError: It is no tensor of real numbers, has another shape, or holds NaN or infinite values.
    """
    if not isinstance(output_relevance, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance] - users may give anything
        raise TargetError(f"output_relevance must be a tensor of real numbers, not {type(output_relevance).__name__}.")
    if output_relevance.is_complex():
        raise TargetError(f"output_relevance must be a tensor of real numbers, not a tensor of {output_relevance.dtype}.")
    shape = tuple(logits.shape)
    stacked = output_relevance.dim() == logits.dim() + 1 and (output_relevance.shape[0], *output_relevance.shape[2:]) == shape
    if tuple(output_relevance.shape) != shape and not stacked:
        raise TargetError(
            f"output_relevance has shape {tuple(output_relevance.shape)}; it must be shaped like the output, {shape}."
        )
    if not bool(torch.isfinite(output_relevance).all()):
        raise TargetError("output_relevance holds NaN or infinite values.")
    return output_relevance.to(logits)
