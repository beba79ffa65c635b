"""Methods by name, with their options and where they come from."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from relprop.errors import OptionError, suggestion
from relprop.methods.abslrp import ABSLRP_METHODS
from relprop.methods.cams import CAM_METHODS
from relprop.methods.controls import CONTROL_METHODS
from relprop.methods.deeplift import DEEPLIFT_METHODS
from relprop.methods.gradients import GRADIENT_METHODS
from relprop.methods.lrp import LRP_METHODS
from relprop.methods.patterns import PATTERN_METHODS
from relprop.methods.perturbation import PERTURBATION_METHODS
from relprop.methods.protocol import AnyMethod
from relprop.methods.rap import RAP_METHODS
from relprop.methods.rectifiers import RECTIFIER_METHODS
from relprop.methods.rollout import ROLLOUT_METHODS
from relprop.methods.transformers import TRANSFORMER_METHODS


@dataclass(frozen=True)
class MethodEntry:
    """A registry entry: ``build(**options)`` makes the method; its keyword arguments are the method's options."""

    name: str
    build: Callable[..., AnyMethod]
    summary: str
    source: str

    @property
    def options(self) -> Mapping[str, inspect.Parameter]:
        """The options by name, with their types and defaults."""
        return inspect.signature(self.build).parameters


_ROWS = (
    *RAP_METHODS,
    *LRP_METHODS,
    *ABSLRP_METHODS,
    *TRANSFORMER_METHODS,
    *ROLLOUT_METHODS,
    *GRADIENT_METHODS,
    *RECTIFIER_METHODS,
    *DEEPLIFT_METHODS,
    *CAM_METHODS,
    *PERTURBATION_METHODS,
    *PATTERN_METHODS,
    *CONTROL_METHODS,
)

METHODS: dict[str, MethodEntry] = {row[0]: MethodEntry(*row) for row in _ROWS}
"""Every method by name."""


def make_method(name: str, options: Mapping[str, Any]) -> AnyMethod:
    """Look up a method and build it with ``options``, checked against its signature.

    Raises:
        OptionError: Unknown method or option (the message suggests near names), or a value of the wrong type.
    """
    entry = METHODS.get(name)
    if entry is None:
        raise OptionError(f"Unknown method {name!r}.{suggestion(name, METHODS)} `relprop methods` lists all {len(METHODS)}.")
    check_options(f"method {name!r}", entry.options, options)
    return entry.build(**options)


def check_options(owner: str, known: Mapping[str, inspect.Parameter], given: Mapping[str, Any]) -> None:
    """Check options against the signature of what takes them.

    Args:
        owner: What takes them, as an error names it, such as ``"method 'rap'"``.
        known: Its parameters.
        given: Values by option.

    Raises:
        OptionError: An unknown option, or a value of the wrong type.
    """
    for key, value in given.items():
        if key not in known:
            listed = ", ".join(known) or "none"
            raise OptionError(
                f"{owner[:1].upper()}{owner[1:]} has no option {key!r}.{suggestion(key, known)} Its options: {listed}."
            )
        _check_option(owner, key, value, known[key].annotation)


def _check_option(owner: str, key: str, value: object, annotation: Any) -> None:  # noqa: ANN401 - a type form
    if annotation is inspect.Parameter.empty:
        return
    choices = get_args(annotation)
    if get_origin(annotation) is Literal:
        if value not in choices:
            listed = ", ".join(map(repr, choices))
            raise OptionError(
                f"Option {key}={value!r} of {owner} must be one of {listed}.{suggestion(str(value), map(str, choices))}"
            )
        return
    kinds = tuple(get_origin(kind) or kind for kind in choices or (annotation,))
    fits = any(isinstance(value, kind) and (kind is bool or not isinstance(value, bool)) for kind in kinds)
    if not fits and not (float in kinds and isinstance(value, int) and not isinstance(value, bool)):
        names = " or ".join(getattr(kind, "__name__", str(kind)) for kind in kinds)
        raise OptionError(f"Option {key}={value!r} of {owner} must be {names}.")
