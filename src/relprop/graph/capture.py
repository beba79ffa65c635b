"""Capture: a PyTorch module becomes a flat graph of ATen ops with the module path of every op."""

import contextlib
import io
import sysconfig
import traceback
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.parameter import is_lazy

from relprop.errors import CaptureError, InputError, RelpropError
from relprop.graph.aliasing import writes_through_views
from relprop.graph.model import CapturedModel
from relprop.graph.modules import mark_paths, note_returns, noted_returns
from relprop.graph.nodes import PATH
from relprop.graph.passes import normalize
from relprop.inputs import Inputs
from relprop.ops.op import hollow


class _Selected(nn.Module):
    """The user's model with flat arguments, reduced to the one output tensor that is explained."""

    def __init__(self, model: nn.Module, inputs: Inputs, output: str | int | None) -> None:
        super().__init__()
        self.model = model
        self.inputs = inputs
        self.output = output

    def forward(self, *flat: Any) -> Tensor:  # noqa: ANN401 - whatever the model takes
        return select_output(self.inputs.call(self.model, flat), self.output)


def select_output(result: object, output: str | int | None) -> Tensor:
    """Return the tensor to explain: the result itself, its ``logits``, the entry ``output``, or its only tensor.

    Raises:
        CaptureError: There is no such tensor, or several and none is called ``logits``.
    """
    if isinstance(result, Tensor):
        return result
    entries = _entries(result)
    tensors = {name: value for name, value in entries.items() if isinstance(value, Tensor)}
    wanted = str(output) if output is not None else ("logits" if "logits" in tensors else None)
    if wanted is None and len(tensors) == 1:
        return next(iter(tensors.values()))
    if wanted is not None and wanted in tensors:
        return tensors[wanted]
    if not tensors:
        raise CaptureError(f"The model returns {type(result).__name__}, which holds no tensor to explain.")
    choices = ", ".join(repr(name) for name in tensors)
    problem = f"no tensor {wanted!r}" if wanted is not None else "several tensors"
    raise CaptureError(f"The model's output ({type(result).__name__}) has {problem}; choose one with output=…: {choices}.")


def _entries(result: object) -> dict[str, object]:
    if isinstance(result, Mapping):
        return {str(k): v for k, v in result.items()}
    if isinstance(result, tuple | list):
        names = getattr(result, "_fields", None) or [str(i) for i in range(len(result))]
        return dict(zip(names, result, strict=True))
    return dict(vars(result)) if hasattr(result, "__dict__") else {}


@contextlib.contextmanager  # pyright: ignore[reportDeprecated]
def _quiet_eval(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without fused inference paths, every module's own training flag put back afterwards."""
    flags = {module: module.training for module in model.modules()}
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    for module in flags:
        module.training = False
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for module, flag in flags.items():
            module.training = flag


def capture(model: nn.Module, inputs: Inputs, output: str | int | None = None) -> CapturedModel:
    """Capture ``model`` on example ``inputs`` as a normalized graph.

    Args:
        model: Any module that ``torch.export`` can export; it is left exactly as it was.
        inputs: Example arguments; the first dimension of their tensors is the batch.
        output: Which tensor to explain where the model returns several: a name or an index.

    Raises:
        CaptureError: The model cannot be exported; the message names the line that broke it. Or it is scripted TorchScript.
        InputError: A parameter is not finite.
    """
    exported = export(model, inputs, output)
    return replace(exported, notes=(*exported.notes, *normalize(exported.module)))


def export(model: nn.Module, inputs: Inputs, output: str | int | None = None) -> CapturedModel:
    """Export ``model`` to a graph with a dynamic batch, before any pass; arguments and errors are those of :func:`capture`."""
    _check_not_scripted(model)
    _check_weights(model)
    wrapper = _Selected(model, inputs, output)
    with _quiet_eval(model):
        program, dynamic = _export(wrapper, inputs)
        module = program.module(check_guards=False)
        if writes_through_views(module.graph):
            note_returns(program.graph_module)
            module = program.run_decompositions({}).module(check_guards=False)
        else:
            note_returns(module)
    notes = () if dynamic else ("The model fixes its batch size, so samples are run one at a time.",)
    return CapturedModel(_own_buffers(module), inputs.map(hollow), dynamic, model, notes)


def _check_not_scripted(model: nn.Module) -> None:
    """Refuse TorchScript that was scripted, frozen or loaded from a file: export cannot trace it, unlike ``torch.jit.trace``."""
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
        # infinite buffers are legal: masks and clipping bounds, or a running variance that turns a channel off
        broken = ~tensor.isfinite() if name in parameters else tensor.isnan()
        if bool(broken.any()):
            raise InputError(f"The model's {name!r} holds NaN or infinite values; load intact weights.")


def _export(wrapper: _Selected, inputs: Inputs) -> tuple[torch.export.ExportedProgram, bool]:
    """Export with a dynamic batch, or, where the model fixes its batch size, for one sample."""
    try:
        return _export_flat(wrapper, inputs.resized(2).flat, dynamic=True), True
    except Exception as error:
        if not _is_shape_constraint(error):
            raise _refusal(error) from error
    try:
        return _export_flat(wrapper, inputs.resized(1).flat, dynamic=False), False
    except Exception as error:
        raise _refusal(error) from error


def _export_flat(wrapper: _Selected, flat: list[Any], *, dynamic: bool) -> torch.export.ExportedProgram:
    batch = next(v.shape[0] for v in flat if isinstance(v, Tensor))
    # torch.export fixes dimensions of size 0 or 1, so the example of a dynamic batch holds two samples
    free = {0: torch.export.Dim.DYNAMIC}
    shapes = tuple(free if isinstance(v, Tensor) and v.dim() and v.shape[0] == batch else None for v in flat)
    # where it fails, export prints a draft of its graph
    with contextlib.redirect_stderr(io.StringIO()), noted_returns(wrapper.model):
        return torch.export.export(wrapper, tuple(flat), dynamic_shapes=(shapes,) if dynamic else None, strict=False)


def _is_shape_constraint(error: Exception) -> bool:
    text = f"{type(error).__name__}: {error}"
    return any(
        sign in text
        for sign in (
            "AssertionError",
            "ConstraintViolation",
            "Constraints violated",
            "specialized",
            "data-dependent",
            "GuardOnData",
            "SymInt",
        )
    )


def _refusal(error: Exception) -> RelpropError:
    """One sentence that names the line of the model that broke the export."""
    if isinstance(error, RelpropError):
        return error
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if _is_of_the_model(f.filename.replace("\\", "/"))]
    message = str(error).strip().splitlines()
    where = f" at {own[-1].filename}:{own[-1].lineno} in {own[-1].name} (`{own[-1].line}`)" if own else ""
    return CaptureError(f"The model cannot be captured: {type(error).__name__}{where}: {message[0] if message else 'no message'}")


def _is_of_the_model(filename: str) -> bool:
    """Whether a file is the user's: not of torch, this module, Python's standard library, or generated code."""
    library = sysconfig.get_path("stdlib").replace("\\", "/")
    of_python = filename.startswith(f"{library}/") and "/site-packages/" not in filename
    of_relprop = filename.endswith(("relprop/graph/capture.py", "relprop/inputs.py"))
    return not (of_python or of_relprop or "/torch/" in filename or filename.startswith("<"))


def _own_buffers(module: fx.GraphModule) -> fx.GraphModule:
    """Return a graph module that owns its tensors: constants as detached buffers, module paths in ``node.meta``."""
    graph = module.graph
    for node in list(graph.nodes):
        if node.op == "call_module" and "guards" in str(node.target):
            graph.erase_node(node)
    constants: dict[str, Tensor] = {}
    names: dict[str, str] = {}
    for node in graph.nodes:
        if node.op == "get_attr":
            path = str(node.target)
            value = _resolve(module, path)
            if isinstance(value, fx.GraphModule):
                continue
            name = names.setdefault(path, f"c{len(names)}_" + path.removeprefix("model.").replace(".", "_"))
            constants[name] = value.detach() if isinstance(value, Tensor) else value
            node.meta[PATH] = path.removeprefix("model.")
            node.target = name
    owner = nn.Module()
    for name, tensor in constants.items():
        owner.register_buffer(name, tensor)
    for name, child in module.named_children():
        if isinstance(child, fx.GraphModule):
            owner.add_module(name, child)
    mark_paths(module)
    return fx.GraphModule(owner, graph)


def _resolve(module: nn.Module, path: str) -> Any:  # noqa: ANN401 - a tensor or a submodule
    value: Any = module
    for part in path.split("."):
        value = getattr(value, part)
    return value
