"""absLRP: relative and absolute magnitudes, plain or contrastive."""

from typing import Literal

from relprop.meaning import CONTRAST, VOTES
from relprop.ops.op import Role
from relprop.propagation.method import Method
from relprop.rules.abslrp import ConstantsName, abslrp
from relprop.rules.rule import Rule
from relprop.rules.starts import STARTS

_ROLES: list[Role | str] = [role for role in Role if role not in {Role.SHAPE, Role.BLOCK}]


PoolingChoice = Literal["usual", "divided", "weighted"]


def _build(name: str, start: str, max_pooling: PoolingChoice, constants: ConstantsName) -> Method:
    general, with_sums = ("weighted", "divided") if max_pooling == "usual" else (max_pooling, max_pooling)
    rules: dict[Role | str, Rule | str] = dict.fromkeys(_ROLES, abslrp(general, constants))
    residual: dict[Role | str, Rule | str] = {Role.SELECT: abslrp(with_sums, constants)}
    return Method(name, rules, with_sums=residual, start=STARTS[start], fold_batchnorm=False, conserves=False)


def build_abslrp(*, max_pooling: PoolingChoice = "usual", constants: ConstantsName = "absorb") -> Method:
    """Contrastive absLRP: the map of the target minus the map of all other classes; every map's absolute values add up to one.

    Args:
        max_pooling: ``"divided"`` treats max pooling like any op; ``"weighted"`` multiplies the winner's relevance by its value. ``"usual"``
            is what the authors' numbers rest on: weighted in models without residual sums, such as VGG, and divided in ResNets.
        constants: Whether constants added to a value, such as position embeddings, ``"absorb"`` their share (as in the definition, where
            they are operands like any other) or are left out.
    """
    return _build("abslrp", "abslrp", max_pooling, constants)


def build_abslrp_plain(*, max_pooling: PoolingChoice = "usual", constants: ConstantsName = "absorb") -> Method:
    """AbsLRP of the target alone. Options as in ``abslrp``."""
    return _build("abslrp-plain", "one", max_pooling, constants)


_SOURCE = "Vukadin et al., TIST 2024"

ABSLRP_METHODS = (
    (
        "abslrp",
        build_abslrp,
        "positive contributions over absolute outputs, the target against all other classes",
        _SOURCE,
        CONTRAST,
    ),
    ("abslrp-plain", build_abslrp_plain, "positive contributions over absolute outputs", _SOURCE, VOTES),
)
