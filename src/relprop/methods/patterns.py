"""PatternNet and PatternAttribution: the gradient, with the layers' patterns in place of their weights (Kindermans et al., ICLR 2018)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, fx

from relprop.attribution import Attributed, Attribution, Problem
from relprop.errors import ModelError, OptionError, UnsupportedOpError
from relprop.graph.model import CapturedModel, Handler
from relprop.graph.nodes import PATH, is_floating, value_of
from relprop.meaning import VOTES, Meaning
from relprop.methods.pattern_fit import layers_of, load_patterns
from relprop.methods.slopes import with_slope
from relprop.ops.op import Role, op_name
from relprop.propagation.roles import Roles

_ROLES = frozenset(
    {Role.CONV, Role.DENSE, Role.POOL, Role.ADD, Role.BIAS, Role.ACTIVATION, Role.SCALE, Role.SELECT, Role.SHAPE, Role.BLOCK}
)
_SCALES = frozenset({"aten::mul", "aten::div", "aten::batch_norm"})

Patterns = Mapping[str, Tensor]


def _chosen(model: CapturedModel, patterns: Patterns, estimator: str, name: str) -> dict[fx.Node, Tensor]:
    """The pattern of every layer.

    Raises:
        OptionError: Patterns are missing, or are of a model with other layers.
    """
    chosen: dict[fx.Node, Tensor] = {}
    missing: list[str] = []
    for key, node in layers_of(model).items():
        pattern = patterns.get(f"{key}/relu") if estimator == "relu" else None
        pattern = patterns.get(f"{key}/linear") if pattern is None else pattern
        if pattern is None or pattern.shape != value_of(node.args[1]).shape:
            missing.append(key or "the model itself")
        else:
            chosen[node] = pattern
    if missing:
        listed = ", ".join(missing[:5]) + (" …" if len(missing) > 5 else "")
        raise OptionError(
            f"The patterns do not fit the model: {len(missing)} layers of {name} have none of their shape ({listed})."
        )
    return chosen


def _refuse(name: str, model: CapturedModel) -> None:
    roles = Roles(model.module.graph)

    def supported(node: fx.Node) -> bool:
        carriers = model.carriers(node)
        if not is_floating(node) or not carriers:
            return True
        if op_name(node.target) == "aten::div" and node.args[0] is not carriers[0]:
            return False
        fits = node not in roles.unknown and roles.kinds.get(node, Role.BLOCK) in _ROLES and not roles.multiplies(node)
        return fits or op_name(node.target) == "aten::batch_norm"

    lacking = [n for n in model.active if not supported(n)]
    if lacking:
        listed = ", ".join(f"{op_name(n.target)} (in {n.meta.get(PATH) or 'the model itself'})" for n in lacking[:8])
        more = f" and {len(lacking) - 8} more" if len(lacking) > 8 else ""
        raise UnsupportedOpError(
            f"Method {name!r} is defined for networks of conv and dense layers; it has no patterns for {listed}{more}."
        )


def _layer(node: fx.Node, pattern: Tensor, attribution: bool) -> Handler:
    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any, **named: Any) -> Tensor:  # noqa: ANN401
        a = pattern.to(weight)
        value = node.target(x.detach(), weight, bias, *rest, **named)  # pyright: ignore[reportCallIssue]
        surrogate = node.target(x, a * weight if attribution else a, None, *rest, **named)  # pyright: ignore[reportCallIssue]
        return with_slope(value, surrogate)

    return run


def _diagonal(node: fx.Node, attribution: bool) -> Handler:
    """One weight per neuron: its pattern is the inverse of the weight."""

    def run(x: Any, *rest: Any, **named: Any) -> Tensor:  # noqa: ANN401 - a tensor, or the constant of a product
        with torch.no_grad():
            value: Tensor = node.target(x, *rest, **named)  # pyright: ignore[reportCallIssue]
        data = x if isinstance(x, Tensor) and x.requires_grad else rest[0]
        spread = data.expand_as(value)
        if attribution:
            return with_slope(value, spread)

        def scaled(v: Tensor) -> Tensor:
            return node.target(*(v if a is data else a for a in (x, *rest)), **named)  # pyright: ignore[reportCallIssue]

        slope = torch.func.jvp(scaled, (data.detach(),), (torch.ones_like(data),))[1]
        return with_slope(value, torch.where(slope == 0, 0.0, spread / torch.where(slope == 0, 1.0, slope)))

    return run


def _build(name: str, patterns: Any, estimator: str) -> Attribution:  # noqa: ANN401 - checked here
    if patterns is None:
        raise OptionError(f"Method {name!r} needs patterns=FILE; make the file with `relprop fit-patterns`.")
    loaded: Patterns = load_patterns(patterns) if isinstance(patterns, str | Path) else patterns
    attribution = name == "pattern-attribution"

    def attribute(problem: Problem) -> Attributed:
        model = problem.model
        handlers = {n: _layer(n, p, attribution) for n, p in _chosen(model, loaded, estimator, name).items()}
        handlers |= {n: _diagonal(n, attribution) for n in model.active if _scales(model, n)}
        with torch.enable_grad():
            inputs = [x.clone().requires_grad_() for x in problem.inputs]
            output, _ = model.run(problem.with_inputs(inputs), handlers)
            # starts with the logit, as the propagation methods do
            score = (output * output.detach() * problem.weights).sum()
            parts = torch.autograd.grad(score, inputs, allow_unused=True, materialize_grads=True)
        if not all(bool(torch.isfinite(part).all()) for part in parts):
            raise ModelError(
                f"The relevance of {name!r} overflows: the patterns grow it from layer to layer. Fit them on more images, or take a shallower "
                "network; the method was made for networks like VGG."
            )
        return Attributed(list(parts))

    def check(model: CapturedModel) -> tuple[str, ...]:
        _refuse(name, model)
        _chosen(model, loaded, estimator, name)
        return ()

    return Attribution(name, attribute, check)


def _scales(model: CapturedModel, node: fx.Node) -> bool:
    return op_name(node.target) in _SCALES and len(model.carriers(node)) == 1


def build_pattern_net(
    *, patterns: str | Path | dict[str, Tensor] | None = None, estimator: Literal["relu", "linear"] = "relu"
) -> Attribution:
    """PatternNet: the signal in the input for the logit.

    Args:
        patterns: The file that ``relprop fit-patterns`` wrote, or the patterns themselves.
        estimator: ``"relu"`` takes the two-component estimator for layers before a ReLU, ``"linear"`` the linear one everywhere.
    """
    return _build("pattern-net", patterns, estimator)


def build_pattern_attribution(
    *, patterns: str | Path | dict[str, Tensor] | None = None, estimator: Literal["relu", "linear"] = "relu"
) -> Attribution:
    """PatternAttribution: how much the signal in each input element contributes to the logit.

    Args:
        patterns: The file that ``relprop fit-patterns`` wrote, or the patterns themselves.
        estimator: ``"relu"`` takes the two-component estimator for layers before a ReLU, ``"linear"`` the linear one everywhere.
    """
    return _build("pattern-attribution", patterns, estimator)


PATTERN_METHODS = (
    (
        "pattern-net",
        build_pattern_net,
        "What of the input is signal for the logit, by fitted patterns",
        "Kindermans et al., ICLR 2018",
        Meaning("signal, brighter", "signal, darker"),
    ),
    (
        "pattern-attribution",
        build_pattern_attribution,
        "What the signal in each input element contributes to the logit, by fitted patterns",
        "Kindermans et al., ICLR 2018",
        VOTES,
    ),
)
