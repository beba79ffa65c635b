"""Options that several methods share: their types, their usual values, and how a method takes them."""

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from relprop.method import AddName, AttentionName, ConstantsName, InputRuleName
from relprop.rules import BiasName
from relprop.rules_sum import SumName

StartName = Literal["logit", "one", "clrp", "sglrp"]


@dataclass(frozen=True)
class Shared:
    """Options of the LRP methods.

    Attributes:
        epsilon: Stabilizer of the denominators; 0 for none.
        bias: Whether biases ``"absorb"`` their share or are left out.
        add: How residual sums split: by ``"signed"`` value, ``"absolute"`` value or ``"positive"`` part; ``"usual"`` is signed, and absolute
            in models with attention, where it was measured to be better.
        constants: Whether constants added to a value, such as position embeddings, ``"absorb"`` their share, split as ``add`` says, or are
            left out. Those between the input and the first layer, such as the means of its channels, always are.
        attention: Whether attention weights are a ``"constant"`` or take ``"half"`` of the relevance, which their softmax passes on.
        start: What the output starts with, see :data:`relprop.methods.STARTS`.
        input_rule: The first layer's rule: ``"layer"`` for the same as any other layer's, ``"zb"`` between the sample's smallest and largest
            value, ``"flat"``, or ``"w2"``.
    """

    epsilon: float = 1e-6
    bias: BiasName = "absorb"
    add: AddName = "usual"
    constants: ConstantsName = "absorb"
    attention: AttentionName = "constant"
    start: StartName = "logit"
    input_rule: InputRuleName = "layer"


def sharing(*, without: Sequence[str] = (), **values: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:  # noqa: ANN401
    """Give a builder ``(Shared, own options) -> Method`` the shared options as keyword arguments of its own.

    Args:
        without: Those that the method fixes, and does not offer.
        values: Their usual values, where they are not those of :class:`Shared`.
    """
    usual = Shared(**values)
    offered = [field for field in fields(Shared) if field.name not in without]

    def decorate(build: Callable[..., Any]) -> Callable[..., Any]:
        _, *own = inspect.signature(build).parameters.values()
        keyword = inspect.Parameter.KEYWORD_ONLY
        shared = [inspect.Parameter(f.name, keyword, default=getattr(usual, f.name), annotation=f.type) for f in offered]

        @functools.wraps(build)
        def built(**given: Any) -> Any:  # noqa: ANN401 - options of any type
            common = {f.name: given.pop(f.name) for f in offered if f.name in given}
            return build(replace(usual, **common), **given)

        built.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
        return built

    return decorate


__all__ = ["AddName", "AttentionName", "BiasName", "ConstantsName", "InputRuleName", "Shared", "StartName", "SumName", "sharing"]
