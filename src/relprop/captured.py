"""What a captured model knows of the user's model and inputs: changes of weights, its head, class names, and inputs like the example."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from torch import Tensor, nn

from relprop.context import ordinary_model
from relprop.errors import CaptureError, InputError, PackedSequenceError, UnsupportedOpError
from relprop.graph.capture import capture as capture_model
from relprop.graph.model import CapturedModel
from relprop.graph.passes.final import final_activation
from relprop.graph.watch import Watch
from relprop.inputs import Inputs, as_inputs


def summary_of(captured: CapturedModel) -> str:
    """Return a model, its inputs and the number of its ops in a line."""
    inputs = ", ".join(f"{name} {'×'.join(['batch', *map(str, value.shape[1:])])}" for name, value in captured.example.tensors)
    return f"{type(captured.original).__name__}, {inputs}, {len(captured.ops)} ops"


def record(model: nn.Module, given: Inputs, output: str | int | None, activation: str | None) -> CapturedModel:
    """Capture a model, watch it, and note its head; arguments and errors are those of :func:`relprop.capture`."""
    watch = Watch.of(model)
    try:
        found = capture_model(ordinary_model(model), given, output)
    except (CaptureError, UnsupportedOpError) as error:
        advice = "" if isinstance(error, PackedSequenceError) else _advice(model, given)
        if not advice:
            raise
        raise type(error)(f"{error}{advice}") from error
    head = activation or final_activation(found.notes)
    return replace(found, original=model, watch=watch.without(found.caches), activation=head)


def labels_in_config(model: nn.Module, classes: int, *, detector: bool) -> tuple[str, ...] | None:
    """The names in ``model.config.id2label``, unless they are mere numbers; a detector may have a last class more, of no object."""
    named: Any = getattr(getattr(model, "config", None), "id2label", None)
    if not isinstance(named, Mapping):
        return None
    count = len(cast("Mapping[Any, Any]", named))
    if set(cast("Mapping[Any, Any]", named)) != set(range(count)) or classes - count not in ({0, 1} if detector else {0}):
        return None
    labels = tuple(str(named[index]) for index in range(count))
    numbers = all(label == f"LABEL_{index}" for index, label in enumerate(labels))
    return None if numbers else (*labels, *["no object"] * (classes - count))


def _advice(model: nn.Module, given: Inputs) -> str:
    """A sentence for detectors, and for inputs that look like one image without a batch dimension."""
    if hasattr(model, "backbone") and hasattr(model, "transform") and (hasattr(model, "head") or hasattr(model, "rpn")):
        return (
            " Which boxes a detector keeps depends on their values: capture relprop.zoo.raw_head(model), which returns the logits of all boxes, "
            "and explain relprop.targets.Box(…)."
        )
    for name, tensor in given.tensors:
        if tensor.is_floating_point() and tensor.dim() == 3 and tensor.shape[0] in {1, 3, 4}:
            return (
                f" If the tensor {name!r} of shape {tuple(tensor.shape)} is one image, add the batch dimension with unsqueeze(0)."
            )
    return ""


def inputs_like(captured: CapturedModel, inputs: object) -> Inputs:
    """Return inputs as those that the model was captured with, of any batch size.

    Raises:
        InputError: They differ in more.
    """
    expected = captured.example
    given = replace(as_inputs(inputs, captured.original.forward), shared=expected.shared)
    if [n for n, _ in given.leaves] != [n for n, _ in expected.leaves]:
        raise InputError(f"Expected the inputs {[n for n, _ in expected.leaves]}, got {[n for n, _ in given.leaves]}.")
    for (name, value), (_, example) in zip(given.leaves, expected.leaves, strict=True):
        if isinstance(example, Tensor):
            _check_like(name, value, example, shared=name in expected.shared)
        elif isinstance(example, bool | int | float | str | None) and (type(value) is not type(example) or value != example):
            raise InputError(f"The argument {name!r} is {value!r}; the model was captured with {example!r}.")
    return given


def _check_like(name: str, value: object, example: Tensor, *, shared: bool) -> None:
    """Refuse a value that is not like the tensor that the model was captured with, except for its batch size."""
    if not isinstance(value, Tensor):
        raise InputError(f"The argument {name!r} is {type(value).__name__}; the model was captured with a tensor.")
    if value.dtype != example.dtype:
        raise InputError(f"The tensor {name!r} is {value.dtype}; the model was captured with {example.dtype}.")
    if shared and value.shape != example.shape:
        raise InputError(
            f"The tensor {name!r}, which all samples share, has shape {tuple(value.shape)}; give one of shape {tuple(example.shape)}, as at the "
            "capture."
        )
    wanted, shape = "×".join(["batch", *map(str, example.shape[1:])]), tuple(value.shape)
    if value.shape == example.shape[1:]:
        raise InputError(
            f"The tensor {name!r} has shape {shape}; the model was captured for {wanted}: add the batch dimension with unsqueeze(0)."
        )
    if value.shape[1:] != example.shape[1:] or value.dim() != example.dim():
        raise InputError(f"The tensor {name!r} has shape {shape}; the model was captured for {wanted}.")
