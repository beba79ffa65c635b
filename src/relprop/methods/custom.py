"""Registered methods: any function, and any captum attribution, under a name of the registry."""

import inspect
import types
import typing
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from relprop.attribution import Attributed, Attribution, Problem
from relprop.errors import OptionError
from relprop.graph.grids import POSITIONS
from relprop.graph.model import CapturedModel
from relprop.meaning import UNSAID, Meaning
from relprop.methods.grids import on_image
from relprop.methods.registry import METHODS, MethodEntry

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_CAPTUM_ARGUMENTS = frozenset({"self", "inputs", "target", "additional_forward_args", "return_convergence_delta", "kwargs"})


def register_method(
    name: str,
    attribution: Any,  # noqa: ANN401
    *,
    summary: str = "A method of your own",
    source: str = "-",
    meaning: Meaning = UNSAID,
) -> None:
    """Make a method of your own available by name, to :class:`relprop.Explainer`, the command line and evaluations.

    The model that it receives is the user's own, in evaluation mode; training flags, gradients, ``requires_grad`` and hooks are put back
    afterwards.

    Args:
        name: The new name.
        attribution: A function ``(model, inputs, target, **options) -> relevance``, with ``target`` ``(B,)``; a captum attribution class
            such as ``captum.attr.IntegratedGradients``, or a function ``model -> captum attribution`` such as
            ``lambda model: LayerGradCam(model, model.layer4)``; or a captum attribution of one model, for that model alone. The relevance
            must be shaped like the inputs, or be one map ``(B, h, w)`` or ``(B, 1, h, w)`` per image, which is resized; signals and volumes
            likewise.
        summary: One line for ``relprop methods``.
        source: Where the method comes from.
        meaning: What its positive and negative values say, for the legends of pictures.

    Raises:
        OptionError: The name is taken, or the attribution is none of these.
    """
    if name in METHODS:
        raise OptionError(f"There already is a method {name!r}; choose another name.")
    explain, options = _as_function(name, attribution)

    def build(**given: Any) -> Attribution:  # noqa: ANN401 - the options of the method
        return Attribution(name, lambda problem: _attributed(name, explain, problem, given), any_output=False, precision=None)

    build.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    METHODS[name] = MethodEntry(name, build, summary, source, meaning)


Function = Callable[..., Any]


def _as_function(name: str, attribution: Any) -> tuple[Function, list[inspect.Parameter]]:  # noqa: ANN401
    """Return ``(model, inputs, target, **options) -> relevance``, and its options."""
    if isinstance(attribution, type) and hasattr(attribution, "attribute"):
        return _captum(attribution), _options(attribution.attribute, _CAPTUM_ARGUMENTS)
    if hasattr(attribution, "attribute"):
        return _bound(name, attribution), _options(attribution.attribute, _CAPTUM_ARGUMENTS)
    if not callable(attribution):
        raise OptionError(
            f"Method {name!r} must be a function (model, inputs, target) or a captum attribution, not {type(attribution).__name__}."
        )
    required = [
        p.name for p in inspect.signature(attribution).parameters.values() if p.kind in _POSITIONAL and p.default is p.empty
    ]
    if len(required) == 1:
        return _captum(attribution), []
    if len(required) != 3:
        raise OptionError(
            f"Method {name!r} must take (model, inputs, target), and options by name; it takes ({', '.join(required)})."
        )
    return attribution, _options(attribution, frozenset(required))


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _options(function: Callable[..., Any], own: frozenset[str]) -> list[inspect.Parameter]:
    """The options of a function: its further arguments, with the types that can be checked."""
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError):
        hints = {}
    return [
        p.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=_checkable(hints.get(p.name)))
        for p in inspect.signature(function).parameters.values()
        if p.name not in own and p.kind not in {p.VAR_KEYWORD, p.VAR_POSITIONAL}
    ]


def _checkable(hint: Any) -> Any:  # noqa: ANN401 - a type form
    """The type hint, where it consists of plain classes or literals; else none."""
    if typing.get_origin(hint) is Literal:
        return hint
    parts = typing.get_args(hint) if typing.get_origin(hint) in {typing.Union, types.UnionType} else (hint,)
    return (
        hint
        if hint is not None and all(isinstance(p, type) and not typing.get_args(p) for p in parts)
        else inspect.Parameter.empty
    )


def _captum(make: Callable[[nn.Module], Any]) -> Function:
    def explain(model: nn.Module, inputs: Any, target: Tensor, **options: Any) -> Any:  # noqa: ANN401
        return make(model).attribute(inputs, target=target, **options)

    return explain


def _bound(name: str, attribution: Any) -> Function:  # noqa: ANN401 - a captum attribution
    def explain(model: nn.Module, inputs: Any, target: Tensor, **options: Any) -> Any:  # noqa: ANN401
        if getattr(attribution, "forward_func", model) is not model:
            raise OptionError(
                f"Method {name!r} was registered for another model; register the class, or a function model -> attribution."
            )
        return attribution.attribute(inputs, target=target, **options)

    return explain


def _attributed(name: str, explain: Function, problem: Problem, options: Mapping[str, Any]) -> Attributed:
    copies = problem.given.map(lambda v: v.detach().clone())
    passed = copies.restore([v for _, v in copies.tensors])
    model: CapturedModel = problem.model
    with untouched(model.original), torch.enable_grad():
        result = explain(model.original, passed, problem.target, **options)
    parts: list[Any] = list(result) if isinstance(result, tuple | list) else [result]
    inputs = problem.inputs
    if len(parts) != len(inputs) or not all(isinstance(p, Tensor) for p in parts):
        raise OptionError(f"Method {name!r} must return one tensor per floating input; it returned {type(result).__name__}.")
    return Attributed([_like_input(name, part.detach(), x) for part, x in zip(parts, inputs, strict=True)])


def _like_input(name: str, part: Tensor, x: Tensor) -> Tensor:
    if not bool(torch.isfinite(part).all()):
        raise OptionError(f"Method {name!r} returned NaN or infinite values.")
    if part.shape == x.shape:
        return part.to(x)
    maps = part.squeeze(1) if part.dim() == x.dim() and part.shape[1] == 1 else part
    if x.dim() - 2 in POSITIONS and maps.dim() == x.dim() - 1 and len(maps) == len(x):
        return on_image(maps.to(x), x)
    raise OptionError(
        f"Method {name!r} returned the shape {tuple(part.shape)} for inputs {tuple(x.shape)}; it must be that, or maps (B, h, w)."
    )


@contextmanager
def untouched(model: nn.Module) -> Generator[None, None, None]:
    """Evaluation mode; training flags, gradients, ``requires_grad`` and hooks are put back afterwards."""
    modules = list(model.modules())
    flags = [m.training for m in modules]
    hooks = [[dict(getattr(m, kind)) for kind in _HOOKS] for m in modules]
    parameters = [(p, p.grad, p.requires_grad) for p in model.parameters()]
    gradients = [None if g is None else g.clone() for _, g, _ in parameters]
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module, flag, kept in zip(modules, flags, hooks, strict=True):
            module.training = flag
            for kind, own in zip(_HOOKS, kept, strict=True):
                _put_back(getattr(module, kind), own)
        for (parameter, gradient, requires), values in zip(parameters, gradients, strict=True):
            parameter.requires_grad_(requires)
            if gradient is not None and values is not None:
                gradient.copy_(values)
            parameter.grad = gradient


def _put_back(hooks: dict[Any, Any], own: dict[Any, Any]) -> None:
    if dict(hooks) != own:
        hooks.clear()
        hooks.update(own)
