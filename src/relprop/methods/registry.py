"""The registry: methods by name, with their options and sources."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from relprop.errors import OptionError, suggestion
from relprop.meaning import CONTRAST, UNSAID, Meaning
from relprop.methods.abslrp import ABSLRP_METHODS
from relprop.methods.cams import CAM_METHODS
from relprop.methods.channel_cams import CHANNEL_CAM_METHODS
from relprop.methods.controls import CONTROL_METHODS
from relprop.methods.deeplift import DEEPLIFT_METHODS
from relprop.methods.equilibrium import EQUILIBRIUM_METHODS
from relprop.methods.fullgrad import FULLGRAD_METHODS
from relprop.methods.gradients import GRADIENT_METHODS
from relprop.methods.lrp import LRP_METHODS
from relprop.methods.patterns import PATTERN_METHODS
from relprop.methods.perturbation import PERTURBATION_METHODS
from relprop.methods.protocol import AnyMethod
from relprop.methods.rap import RAP_METHODS
from relprop.methods.rectifiers import RECTIFIER_METHODS
from relprop.methods.regional import REGIONAL_METHODS
from relprop.methods.rollout import ROLLOUT_METHODS
from relprop.methods.sectional import SECTIONAL_METHODS
from relprop.methods.surrogates import SURROGATE_METHODS
from relprop.methods.token_maps import TOKEN_METHODS
from relprop.methods.transformers import TRANSFORMER_METHODS
from relprop.options import check_options
from relprop.propagation.method import Method
from relprop.rules.starts import CONTRASTIVE


@dataclass(frozen=True)
class MethodEntry:
    """A registry entry: ``build(**options)`` makes the method; its keyword arguments are the method's options.

    Attributes:
        name: What users call it.
        build: Makes the method.
        summary: One line for ``relprop methods``.
        source: Where the method comes from.
        meaning: What its positive and negative values say, for the legends of pictures.
    """

    name: str
    build: Callable[..., AnyMethod]
    summary: str
    source: str
    meaning: Meaning = UNSAID

    @property
    def options(self) -> Mapping[str, inspect.Parameter]:
        """The options by name, with their types and defaults."""
        return inspect.signature(self.build).parameters


_ROWS = (
    *RAP_METHODS,
    *REGIONAL_METHODS,
    *EQUILIBRIUM_METHODS,
    *SECTIONAL_METHODS,
    *LRP_METHODS,
    *ABSLRP_METHODS,
    *TRANSFORMER_METHODS,
    *ROLLOUT_METHODS,
    *TOKEN_METHODS,
    *GRADIENT_METHODS,
    *FULLGRAD_METHODS,
    *RECTIFIER_METHODS,
    *DEEPLIFT_METHODS,
    *CAM_METHODS,
    *CHANNEL_CAM_METHODS,
    *PERTURBATION_METHODS,
    *SURROGATE_METHODS,
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
    return _with_meaning(entry.build(**options), entry)


def _with_meaning(method: AnyMethod, entry: MethodEntry) -> AnyMethod:
    """Return the method with its entry's meaning, unless its options gave it another: a contrastive start, or absolute values."""
    if method.meaning != UNSAID:
        return method
    contrasts = isinstance(method, Method) and method.start in CONTRASTIVE
    return replace(method, meaning=CONTRAST if contrasts else entry.meaning)  # pyright: ignore[reportArgumentType, reportReturnType, reportUnknownVariableType]
