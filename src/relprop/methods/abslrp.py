"""absLRP: relative and absolute magnitudes, plain or contrastive."""

from typing import Literal

import torch
from torch import Tensor

from relprop.methods.rule_tables import ConstantsName
from relprop.ops.op import Role
from relprop.propagation.composite import transparent
from relprop.propagation.method import Method
from relprop.rules.abslrp import affine, by_op

PoolingName = Literal["divided", "weighted"]

_AFFINE = (Role.INPUT, Role.OUTPUT, Role.DENSE, Role.CONV, Role.POOL, Role.ATTENTION, Role.PRODUCT)


def _plain(logits: Tensor, target: Tensor) -> list[tuple[float, Tensor]]:
    """One at the target."""
    return [(1.0, torch.zeros_like(logits).scatter(-1, target.unsqueeze(-1), 1.0))]


def _contrastive(logits: Tensor, target: Tensor) -> list[tuple[float, Tensor]]:
    """One at the target, minus the map of all other classes with equal weights that sum to one."""
    ((_, own),) = _plain(logits, target)
    return [(1.0, own), (-1.0, (1 - own) / max(logits.shape[-1] - 1, 1))]


def _build(name: str, max_pooling: PoolingName, constants: ConstantsName, *, contrastive: bool) -> Method:
    return Method(
        name,
        transparent() | dict.fromkeys(_AFFINE, affine()),
        by_op=by_op(weighted_max_pooling=max_pooling == "weighted", constants=constants == "absorb"),
        start=_contrastive if contrastive else _plain,
        fold_batchnorm=False,
        conserves=False,
    )


def build_abslrp(*, max_pooling: PoolingName = "divided", constants: ConstantsName = "absorb") -> Method:
    """Contrastive absLRP: the map of the target minus the map of all other classes; every map's absolute values add up to one.

    Args:
        max_pooling: ``"divided"`` treats max pooling like any op; ``"weighted"`` multiplies the winner's relevance by its value, which
            the authors do for VGG.
        constants: Whether constants added to a value, such as position embeddings, ``"absorb"`` their share (as in the definition, where
            they are operands like any other) or are left out.
    """
    return _build("abslrp", max_pooling, constants, contrastive=True)


def build_abslrp_plain(*, max_pooling: PoolingName = "divided", constants: ConstantsName = "absorb") -> Method:
    """AbsLRP of the target alone. Options as in ``abslrp``."""
    return _build("abslrp-plain", max_pooling, constants, contrastive=False)


_SOURCE = "Vukadin et al., TIST 2024"

ABSLRP_METHODS = (
    ("abslrp", build_abslrp, "positive contributions over absolute outputs, the target against all other classes", _SOURCE),
    ("abslrp-plain", build_abslrp_plain, "positive contributions over absolute outputs", _SOURCE),
)
