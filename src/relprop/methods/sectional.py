"""Relative Sectional Propagation, the second method of RAP's authors: what speaks for the target set against what is hostile to it."""

import torch
from torch import Tensor

from relprop.errors import OptionError, TargetError
from relprop.meaning import VOTES
from relprop.methods.equilibrium import GRADIENT
from relprop.methods.rule_tables import input_bounds
from relprop.ops.op import Role
from relprop.propagation.composite import Regional
from relprop.propagation.method import Method
from relprop.rules.affine import zbox, zplus
from relprop.rules.regional import by_mean_gradient, by_section
from relprop.rules.rule import Rule
from relprop.rules.sectional import sectional
from relprop.rules.starts import STARTS, Start
from relprop.rules.sums import SumName, split_sum


def build_rsp(
    *,
    others: int = 0,
    layer: str | None = None,
    add: SumName = "positive",
    low: float | Tensor | None = None,
    high: float | Tensor | None = None,
) -> Method:
    """Relative Sectional Propagation.

    Args:
        others: How many other classes, the likeliest, are hostile to the target: their gradients are subtracted from it, and regions count
            as a whole. With 0, as the authors' script has it, channels with a negative mean gradient are.
        layer: Path of the module at whose output the channels are weighed by their mean gradients; the last value with several positions
            before the last layer where left out.
        add: How residual sums split: by positive part, absolute value, or signed value.
        low: Smallest value that an input can have; the sample's own minimum where left out.
        high: Largest value that an input can have; the sample's own maximum where left out.
    """
    if others < 0:
        raise OptionError(f"Option others={others!r} of method 'rsp' must not be negative.")
    shared = sectional()
    rules: dict[Role | str, Rule] = {
        Role.DENSE: shared,
        Role.CONV: shared,
        **dict.fromkeys((Role.POOL, Role.ATTENTION, Role.PRODUCT), zplus()),
        Role.INPUT: zbox(),
        Role.ADD: split_sum(add),
    }
    return Method(
        "rsp",
        rules,
        start=_against(others) if others else STARTS["one"],
        bounds=input_bounds("rsp", low, high),
        conserves=False,
        regional=Regional(GRADIENT, GRADIENT, by_section() if others else by_mean_gradient(), layer=layer),
    )


def _against(others: int) -> Start:
    """``n`` at the target, minus one at each of the ``n`` likeliest other classes."""

    def start(logits: Tensor, target: Tensor) -> list[tuple[float, Tensor]]:
        count = min(others, logits.shape[-1] - 1)
        if not count:
            raise TargetError(
                "Method 'rsp' sets the class against others, and what is explained is no class among several; take others=0."
            )
        index = target.unsqueeze(-1)
        hostile = logits.scatter(-1, index, -torch.inf).topk(count, -1).indices
        relevance = torch.zeros_like(logits).scatter(-1, hostile, -1.0)
        return [(1.0, relevance.scatter(-1, index, float(count)))]

    return start


SECTIONAL_METHODS = (
    (
        "rsp",
        build_rsp,
        "channels weighed by their gradients, then both signs shared by the activations that go with them",
        "Nam et al., AAAI 2021, released code",
        VOTES,
    ),
)
