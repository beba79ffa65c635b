"""Rules that shared options add to a method: sums, constants, attention weights, the first layer."""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from relprop.errors import OptionError
from relprop.ops.op import Role
from relprop.propagation.composite import Bounds
from relprop.rules.affine import flat, wsquare, zbox
from relprop.rules.rule import Rule
from relprop.rules.sums import SumName, split_sum

ConstantsName = Literal["leave out", "absorb"]
AddName = Literal["usual", "positive", "absolute", "signed", "gamma"]
AttentionName = Literal["constant", "half"]
InputRuleName = Literal["layer", "zbox", "flat", "wsquare"]

INPUT_RULES: dict[InputRuleName, dict[Role | str, Rule]] = {
    "layer": {},
    "zbox": {Role.INPUT: zbox()},
    "flat": {Role.INPUT: flat()},
    "wsquare": {Role.INPUT: wsquare()},
}
"""The rules that the option ``input_rule`` adds to a method."""


def split_choices(add: AddName) -> tuple[SumName, SumName]:
    """How sums split, in general and in models with attention."""
    return ("signed", "absolute") if add == "usual" else (add, add)


def additions(add: SumName, constants: ConstantsName, epsilon: float = 0.0) -> dict[Role | str, Rule]:
    """The rules of sums of two values, and of a value and a constant, which absorbs its share or is left out."""
    split = split_sum(add, epsilon)
    return {Role.ADD: split, Role.BIAS: split} if constants == "absorb" else {Role.ADD: split}


def attention_weights(attention: AttentionName, rule: Rule) -> dict[Role | str, Rule]:
    """The rule of attention weights times values: all relevance to the values, or half to the weights, whose softmax passes it unchanged."""
    return {Role.ATTENTION: replace(rule, all_operands=True)} if attention == "half" else {}


def input_bounds(method: str, low: float | Tensor | None, high: float | Tensor | None) -> Bounds:
    """Check the bounds of the input: both or neither, and in order."""
    if low is None or high is None:
        if low is not high:
            raise OptionError(f"Method {method!r}: give both low and high, or neither.")
        return None
    bounds = torch.as_tensor(low, dtype=torch.float64), torch.as_tensor(high, dtype=torch.float64)
    if not all(bool(bound.isfinite().all()) for bound in bounds):
        raise OptionError(f"Method {method!r}: low and high must be finite.")
    if not bool((bounds[0] <= bounds[1]).all()):
        raise OptionError(f"Method {method!r}: low must not be above high.")
    return low, high
