"""Attribution Equilibrium, the sequel of RAP by its authors: positive and negative relevance in balance, from evidence for the class."""

from torch import Tensor

from relprop.meaning import VOTES
from relprop.methods.rule_tables import input_bounds
from relprop.ops.op import Role
from relprop.propagation.composite import Composite, Regional
from relprop.propagation.method import Method
from relprop.rules.affine import zbox, zplus
from relprop.rules.equilibrium import equilibrium
from relprop.rules.gradient import gradient
from relprop.rules.regional import by_mean_gradient
from relprop.rules.rule import Rule
from relprop.rules.starts import STARTS
from relprop.rules.sums import SumName, split_sum

GRADIENT = Composite("gradient", {role: gradient() for role in Role if role not in {Role.SHAPE, Role.SELECT, Role.BLOCK}})
"""The chain rule down to the regions, in place of a propagation rule."""


def build_equilibrium(
    *,
    ratio: float = 2.0,
    layer: str | None = None,
    add: SumName = "positive",
    low: float | Tensor | None = None,
    high: float | Tensor | None = None,
) -> Method:
    """Attribution Equilibrium.

    Args:
        ratio: The weight of positive relevance, in [1, 2]: with 2 positive and negative relevance balance in every layer.
        layer: Path of the module at whose output the channels are weighed by their mean gradients; the last value with several positions
            before the last layer where left out.
        add: How residual sums split: by positive part, absolute value, or signed value.
        low: Smallest value that an input can have; the sample's own minimum where left out.
        high: Largest value that an input can have; the sample's own maximum where left out.
    """
    shared = equilibrium(ratio)
    rules: dict[Role | str, Rule] = {
        Role.DENSE: shared,
        Role.CONV: shared,
        Role.POOL: zplus(),
        Role.INPUT: zbox(),
        Role.ADD: split_sum(add),
    }
    return Method(
        "attribution-equilibrium",
        rules,
        start=STARTS["one"],
        bounds=input_bounds("attribution-equilibrium", low, high),
        conserves=False,
        regional=Regional(GRADIENT, GRADIENT, by_mean_gradient(), layer=layer),
    )


EQUILIBRIUM_METHODS = (
    (
        "attribution-equilibrium",
        build_equilibrium,
        "channels weighed by their gradients, then positive and negative relevance in balance down to the input",
        "Nam and Lee, T-PAMI 2024, released code",
        VOTES,
    ),
)
