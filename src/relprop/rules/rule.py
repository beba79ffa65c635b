"""What a rule is."""

import math
from dataclasses import dataclass

import torch

from relprop.errors import OptionError
from relprop.ops.op import BackwardFunction, MultiplierRule


@dataclass(frozen=True)
class Rule:
    """How relevance passes one op.

    Attributes:
        name: Printed in the plan.
        backward: ``(call, relevance of the output) -> relevance by argument``.
        needs: Values that it reads: ``"x"`` (the operands that carry relevance), ``"output"``, or argument names.
        all_operands: Whether gates and attention weights take relevance too, instead of counting as constants.
        local: Whether shares depend on nothing but the outputs that have relevance and what they are made of.
        multiplier: The same as ``backward`` for multipliers ``c = R / x``, for rules that share in proportion to signed values, without a stabilizer.
        passes: Whether relevance passes unchanged.
        precision: The lowest precision that it computes in: float64 where it multiplies rounding errors beyond what float32 holds.
    """

    name: str
    backward: BackwardFunction
    needs: tuple[str, ...] = ()
    all_operands: bool = False
    local: bool = False
    multiplier: MultiplierRule | None = None
    passes: bool = False
    precision: torch.dtype = torch.float32


def refuse_negative(rule: str, **options: float) -> None:
    """Refuse options of a rule that are negative or infinite."""
    for name, value in options.items():
        if not (value >= 0 and math.isfinite(value)):
            raise OptionError(f"Option {name}={value!r} of rule {rule!r} must not be negative or infinite.")
