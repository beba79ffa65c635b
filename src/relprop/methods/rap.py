"""Relative Attributing Propagation."""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from relprop.meaning import IMPORTANCE
from relprop.methods.rule_tables import ConstantsName, SumName, additions, input_bounds
from relprop.ops.op import Role
from relprop.propagation.method import Method
from relprop.rules.affine import absolute, epsilon, rap, zbox
from relprop.rules.rule import Rule
from relprop.rules.starts import STARTS


def build_rap(
    *,
    variant: Literal["paper", "released"] = "paper",
    start: Literal["absolute", "signed", "clrp", "sglrp"] = "absolute",
    add: SumName = "positive",
    constants: ConstantsName = "leave out",
    input_rule: Literal["zbox", "rap"] = "zbox",
    low: float | Tensor | None = None,
    high: float | Tensor | None = None,
) -> Method:
    """Relative Attributing Propagation.

    Args:
        variant: ``"paper"`` follows Eq. 5 to 10; ``"released"`` does what the published code does in conv and dense layers.
        start: ``"absolute"`` shares the logit by absolute influence (Eq. 6); ``"signed"`` by signed contribution; ``"clrp"`` and
            ``"sglrp"`` set the target against the other classes and share by absolute influence, see
            :data:`relprop.methods.STARTS`.
        add: How residual sums split: by positive part, absolute value, signed value, or signed value with agreeing summands counted twice
            (``"gamma"``).
        constants: Whether constants added to a value ``"absorb"`` their share, split as ``add`` says, or are left out.
        input_rule: ``"zbox"`` for the z-box rule (Eq. 10), ``"rap"`` to treat the first layer like any other.
        low: Smallest value that an input can have; the sample's own minimum where left out.
        high: Largest value that an input can have; the sample's own maximum where left out.
    """
    layer = rap(variant, "dense")
    rules: dict[Role | str, Rule] = {Role.DENSE: layer}
    rules[Role.CONV] = rap(variant, "conv")
    rules[Role.INPUT] = zbox(shares_all=True) if input_rule == "zbox" else rules[Role.CONV]
    rules[Role.OUTPUT] = epsilon(0.0, "leave out") if start == "signed" else absolute()
    rules |= additions(add, constants)
    kinds: tuple[Role | str, ...] = (Role.DENSE, Role.ATTENTION, Role.PRODUCT)
    of_tokens: dict[Role | str, Rule] = dict.fromkeys(kinds, rap(variant, "dense", reached=True))
    return Method(
        "rap",
        rules,
        with_lookups={**of_tokens} if variant == "paper" else {},
        start=STARTS.get(start, STARTS["logit"]),
        bounds=input_bounds("rap", low, high),
        precision=torch.float64 if variant == "released" else torch.float32,
        of_class=start != "absolute",
    )


def build_rap_released(*, add: SumName = "signed", constants: ConstantsName = "leave out") -> Method:
    """RAP as its published code computes it: see ``variant="released"`` of ``rap``; residual sums split by signed value.

    It divides by signed sums without a stabilizer, which multiplies rounding errors by up to 10⁷, so it computes in float64.
    """
    return replace(build_rap(variant="released", add=add, constants=constants), name="rap-released")


RAP_METHODS = (
    (
        "rap",
        build_rap,
        "Relative Attributing Propagation: shares by absolute influence; unimportant neurons end up negative",
        "Nam et al., AAAI 2020",
        IMPORTANCE,
    ),
    (
        "rap-released",
        build_rap_released,
        "RAP as its published code computes it",
        "Nam et al., AAAI 2020, released code",
        IMPORTANCE,
    ),
)
