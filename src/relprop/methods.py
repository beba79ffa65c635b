"""Methods by name: per role one rule, with the method's options and where they come from."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin

from torch import Tensor

from relprop.attribution import Attribution
from relprop.baselines import BASELINES
from relprop.errors import OptionError, suggestion
from relprop.ops.registry import Role
from relprop.rules import Rule, absolute, box, epsilon, rap, split_sum, unchanged


@dataclass(frozen=True)
class Method:
    """A way of explaining: one rule per role.

    Attributes:
        name: As the registry and the plan call it.
        rules: The rule of every role; roles that are left out let nothing through.
        fold_batchnorm: Whether BatchNorm folds into the layer before it.
        box: Bounds of the model's input for the first layer's rule, or None for those of every sample.
        conserves: Whether the relevance of the inputs and what was absorbed add up to the explained logit.
    """

    name: str
    rules: Mapping[Role, Rule]
    fold_batchnorm: bool = True
    box: tuple[Tensor | float, Tensor | float] | None = None
    conserves: bool = True


@dataclass(frozen=True)
class MethodEntry:
    """A registry entry: ``build(**options)`` makes the method; its keyword arguments are the method's options."""

    name: str
    build: Callable[..., Method | Attribution]
    summary: str
    source: str
    choices: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def options(self) -> Mapping[str, inspect.Parameter]:
        """The options by name, with their types and defaults."""
        return inspect.signature(self.build).parameters


def _transparent() -> dict[Role, Rule]:
    """What every method of the family agrees on: ops with one contributor pass relevance unchanged."""
    return dict.fromkeys((Role.GATE, Role.NORM, Role.ACTIVATION, Role.SCALE, Role.BIAS, Role.SOFTMAX), unchanged())


def build_rap(
    *,
    variant: Literal["paper", "released"] = "paper",
    start: Literal["absolute", "signed"] = "absolute",
    add: Literal["positive", "absolute", "signed"] = "positive",
    input_rule: Literal["zb", "rap"] = "zb",
    low: float | Tensor | None = None,
    high: float | Tensor | None = None,
) -> Method:
    """Relative Attributing Propagation.

    Args:
        variant: ``"paper"`` follows Eq. 5 to 10; ``"released"`` does what the published code does in conv and dense layers.
        start: ``"absolute"`` shares the logit by absolute influence (Eq. 6); ``"signed"`` by signed contribution.
        add: How residual sums split: by positive part, absolute value, or signed value.
        input_rule: ``"zb"`` for the box rule (Eq. 10), ``"rap"`` to treat the first layer like any other.
        low: Smallest value that an input can have; the sample's own minimum where left out.
        high: Largest value that an input can have; the sample's own maximum where left out.
    """
    if (low is None) != (high is None):
        raise OptionError("Method 'rap': give both low and high, or neither.")
    layer = rap(variant, "dense")
    rules = {role: layer for role in (Role.DENSE, Role.POOL, Role.ATTENTION, Role.PRODUCT)}
    rules[Role.CONV] = rap(variant, "conv")
    rules[Role.INPUT] = box() if input_rule == "zb" else rules[Role.CONV]
    rules[Role.OUTPUT] = absolute() if start == "absolute" else epsilon(0.0, "leave out")
    rules[Role.ADD] = split_sum(add)
    bounds = None if low is None or high is None else (low, high)
    return Method("rap", _transparent() | rules, box=bounds)


METHODS: dict[str, MethodEntry] = {
    "rap": MethodEntry(
        "rap",
        build_rap,
        "Relative Attributing Propagation: shares by absolute influence, unimportant neurons end up negative",
        "Nam et al., AAAI 2020",
    ),
    **{row[0]: MethodEntry(*row) for row in BASELINES},
}
"""Every method by name."""


def make_method(name: str, options: Mapping[str, Any]) -> Method | Attribution:
    """Look up a method and build it with ``options``, checked against its signature.

    Raises:
        OptionError: Unknown method or option (the message suggests near names), or a value of the wrong type.
    """
    entry = METHODS.get(name)
    if entry is None:
        raise OptionError(f"Unknown method {name!r}.{suggestion(name, METHODS)} `relprop methods` lists all {len(METHODS)}.")
    for key, value in options.items():
        if key not in entry.options:
            known = ", ".join(entry.options) or "none"
            raise OptionError(f"Method {name!r} has no option {key!r}.{suggestion(key, entry.options)} Its options: {known}.")
        _check_option(name, key, value, entry.options[key].annotation)
    return entry.build(**options)


def _check_option(method: str, key: str, value: object, annotation: Any) -> None:  # noqa: ANN401 - a type form
    choices = get_args(annotation)
    if get_origin(annotation) is Literal:
        if value not in choices:
            listed = ", ".join(map(repr, choices))
            raise OptionError(f"Option {key}={value!r} of method {method!r} must be one of {listed}.{suggestion(str(value), map(str, choices))}")
        return
    kinds = choices or (annotation,)
    fits = any(isinstance(value, kind) and (kind is bool or not isinstance(value, bool)) for kind in kinds)
    if not fits and not (float in kinds and isinstance(value, int) and not isinstance(value, bool)):
        names = " or ".join(getattr(kind, "__name__", str(kind)) for kind in kinds)
        raise OptionError(f"Option {key}={value!r} of method {method!r} must be {names}.")
