"""Capture: a PyTorch module becomes a flat graph of ATen ops with the module path of every op."""

import contextlib
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from relprop.errors import CaptureError, InputError, RelpropError, UnsupportedOpError, suggestion
from relprop.graph.mates import UnfitMatesError, refuse_mixed_samples
from relprop.graph.model import CapturedModel
from relprop.graph.nodes import BATCHES
from relprop.graph.passes import normalize
from relprop.graph.passes.outputs import mark_outputs
from relprop.graph.recording.copies import record_copies
from relprop.graph.recording.record import Recording, as_module, record
from relprop.graph.recording.recorder import ReadsValueError
from relprop.graph.recording.refusal import refusal
from relprop.graph.recording.twins import join
from relprop.inputs import Inputs, batch_size
from relprop.ops.op import hollow

_logger = logging.getLogger(__name__)


def select_output(result: object, output: str | int | None) -> Tensor:
    """Return the tensor to explain: the result itself, its ``logits``, the entry ``output``, or its only tensor.

    Args:
        result: What the model returns: a tensor, or dicts, lists, tuples and dataclasses of them, nested at will.
        output: A name, an index, or a path of them with dots, such as ``"heads.0.cls_logits"``.

    Raises:
        CaptureError: There is no such tensor, or several and none is called ``logits``.
    """
    if isinstance(result, Tensor):
        return result
    tensors = _tensors_in(result if _is_nested(result) else vars(result) if hasattr(result, "__dict__") else {})
    wanted = str(output) if output is not None else ("logits" if "logits" in tensors else None)
    if wanted is None and len(tensors) == 1:
        return next(iter(tensors.values()))
    if wanted is not None and wanted in tensors:
        return tensors[wanted]
    if not tensors:
        raise CaptureError(
            f"The model returns {type(result).__name__}, which holds no tensor to explain; give a module whose forward returns one."
        )
    choices = ", ".join(repr(name) for name in list(tensors)[:_MOST]) + ", …" * (len(tensors) > _MOST)
    problem = f"no tensor {wanted!r}" if wanted is not None else "several tensors"
    near = "" if wanted is None else suggestion(wanted, tensors)
    raise CaptureError(f"The model's output ({type(result).__name__}) has {problem}; choose one with output=…: {choices}.{near}")


_MOST = 20
"""The most tensors that an error lists."""


def _tensors_in(result: object) -> dict[str, Tensor]:
    """The tensors in what a model returns, by the path to each, keys and indices with dots between them."""
    found: dict[str, Tensor] = {}
    for name, value in _entries(result).items():
        if isinstance(value, Tensor):
            found[name] = value
        else:
            found |= {f"{name}.{below}": tensor for below, tensor in _tensors_in(value).items()}
    return found


def _is_nested(result: object) -> bool:
    return isinstance(result, Mapping | tuple | list) or is_dataclass(result)


def _entries(result: object) -> dict[str, object]:
    if isinstance(result, Mapping):
        return {str(k): v for k, v in result.items()}
    if isinstance(result, tuple | list):
        names = getattr(result, "_fields", None) or [str(i) for i in range(len(result))]
        return dict(zip(names, result, strict=True))
    return dict(vars(result)) if is_dataclass(result) else {}


def capture(model: nn.Module, inputs: Inputs, output: str | int | None = None) -> CapturedModel:
    """Capture ``model`` on example ``inputs`` as a normalized graph.

    Args:
        model: Any module; it is left exactly as it is.
        inputs: Example arguments, of whose tensors only shape, dtype and device matter; their first dimension is the batch.
        output: Which tensor to explain where the model returns several, see :func:`select_output`.

    Raises:
        CaptureError: The model cannot be captured; the message names the line that broke it. Or it is scripted TorchScript.
        InputError: A parameter is not finite.
        UnsupportedOpError: An op mixes the samples of a batch.
    """
    fixed = _without_batch(inputs)
    try:
        return _separate(model, replace(inputs, shared=fixed), output)
    except UnsupportedOpError:
        for shared in _shareable(inputs):
            with contextlib.suppress(RelpropError):
                found = _separate(model, replace(inputs, shared=shared | fixed), output)
                if found.dynamic or found.output.meta["val"].shape[:1] == (1,):  # one sample has one output
                    return found
        raise


def _without_batch(inputs: Inputs) -> frozenset[str]:
    """The floating tensors whose first dimension is not the batch."""
    size = batch_size(inputs)
    return frozenset(name for name, t in inputs.tensors if t.is_floating_point() and (t.dim() == 0 or t.shape[0] != size))


def _separate(model: nn.Module, inputs: Inputs, output: str | int | None) -> CapturedModel:
    """Capture a model that keeps samples apart."""
    captured = _normalized(record_model(model, inputs, output))
    try:
        refuse_mixed_samples(captured, inputs)
    except UnfitMatesError:
        return _normalized(record_model(model, inputs, output, single=True))
    return captured


def _normalized(raw: CapturedModel) -> CapturedModel:
    return replace(raw, notes=(*raw.notes, *normalize(raw.module)))


def _shareable(inputs: Inputs) -> list[frozenset[str]]:
    """What samples may share, where there are several tensors: all but one of them, images before texts."""
    names = [name for name, _ in inputs.tensors]
    floating = [name for name, tensor in inputs.tensors if tensor.is_floating_point()]
    order = [*floating, *(name for name in names if name not in floating)]
    return [frozenset(names) - {name} for name in order] if len(names) > 1 else []


def record_model(model: nn.Module, inputs: Inputs, output: str | int | None = None, *, single: bool = False) -> CapturedModel:
    """Record ``model`` as a graph for any batch, or for a single sample, before any pass; arguments and errors are those of :func:`capture`."""
    _check_not_scripted(model)
    _check_weights(model)
    recording, size = _record(model, inputs, output, single=single)
    module = as_module(recording)
    mark_outputs(module, recording.returned)
    notes = () if size is None else ("The model fixes its batch size, so samples are run one at a time.",)
    if size is not None and size > 1:
        notes = (f"The model takes batches of {size} alone, so samples are run one at a time, each as {size} copies.",)
    return CapturedModel(module, inputs.map(_without_numbers), size is None, model, notes, output, caches=recording.caches)


def _without_numbers(value: Tensor) -> Tensor:
    """A tensor like an input, without its values; integers and booleans are kept, by which the model may choose its way."""
    return hollow(value) if value.is_floating_point() or value.is_complex() else value.clone()


def _check_not_scripted(model: nn.Module) -> None:
    """Refuse TorchScript that was scripted, frozen or loaded from a file: it has no code to run but its own, unlike ``torch.jit.trace``."""
    for path, module in model.named_modules():
        if type(module) is torch.jit.RecursiveScriptModule:  # pyright: ignore[reportPrivateImportUsage]
            where = f"module {path!r}" if path else "the model itself"
            raise CaptureError(
                f"TorchScript that was scripted, frozen or loaded ({where}) cannot be captured; "
                "give the nn.Module it was made from, or torch.jit.trace of that."
            )


def _check_weights(model: nn.Module) -> None:
    parameters = dict(model.named_parameters())
    for name, tensor in [*parameters.items(), *model.named_buffers()]:
        if is_lazy(tensor) or tensor.is_meta:
            raise InputError(f"The model's {name!r} has no values yet; load or initialize the weights first.")
        if not tensor.is_floating_point():
            continue
        if math.isfinite(float(tensor.detach().sum())):  # one pass over the values, which tells in nearly every case
            continue
        # infinite buffers are legal: masks and clipping bounds, or a running variance that turns a channel off
        broken = ~tensor.isfinite() if name in parameters else tensor.isnan()
        if bool(broken.any()):
            raise InputError(f"The model's {name!r} holds NaN or infinite values; load intact weights.")


def _record(model: nn.Module, inputs: Inputs, output: str | int | None, *, single: bool) -> tuple[Recording, int | None]:
    """Record for any batch, or, where the model fixes its batch size, for one sample; return the size that it takes then."""

    def select(result: object) -> Tensor:
        return select_output(result, output)

    whole = None if single else _record_any_batch(model, inputs, select)
    if whole is not None:
        return whole, None

    def select_batched(result: object) -> Tensor:
        tensor = select(result)
        return tensor.unsqueeze(0) if tensor.dim() == 1 and tensor.shape[0] > 1 else tensor  # the model drops the batch dimension

    try:
        return record(model, inputs.resized(1), select_batched), 1
    except Exception as error:
        found = record_copies(model, inputs, select) if batch_size(inputs) > 1 else None
        if found is None:
            raise refusal(error, model, inputs) from error
        return found, batch_size(inputs)


def _record_any_batch(model: nn.Module, inputs: Inputs, select: Callable[[object], Tensor]) -> Recording | None:
    """Record batches of two sizes and join them; None where the model fixes its batch size."""
    try:
        small, large = (record(model, inputs.resized(size), select) for size in BATCHES)
        join(small, large)
    except ReadsValueError as error:
        raise refusal(error, model, inputs) from error
    except Exception:
        _logger.debug("no batch of another size can be captured", exc_info=True)
        return None
    return small
