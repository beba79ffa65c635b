"""RAP with regional evidence: what every region says for the class is counted on the way back, and shared by influence below."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

from torch import Tensor

from relprop.errors import OptionError
from relprop.meaning import CONTRAST
from relprop.methods.equilibrium import GRADIENT
from relprop.methods.lrp import build_epsilon, build_epsilon_plus, build_gamma, build_zplus
from relprop.methods.rap import build_rap
from relprop.methods.rule_tables import AddName, ConstantsName, additions
from relprop.methods.transformers import build_attnlrp, build_cp_lrp
from relprop.ops.op import Role
from relprop.propagation.composite import Composite, Regional
from relprop.propagation.method import Method
from relprop.rules.affine import rap
from relprop.rules.gradient import gradient
from relprop.rules.influence import influence, winner
from relprop.rules.regional import RegionRule, by_region, by_smooth_evidence
from relprop.rules.starts import STARTS

UpperName = Literal["usual", "gradient", "cp-lrp", "attnlrp", "lrp-epsilon", "lrp-gamma", "lrp-zplus", "epsilon-plus"]
_UPPER: Mapping[str, Callable[..., Method]] = {
    "cp-lrp": build_cp_lrp,
    "attnlrp": build_attnlrp,
    "lrp-epsilon": build_epsilon,
    "lrp-gamma": build_gamma,
    "lrp-zplus": build_zplus,
    "epsilon-plus": build_epsilon_plus,
}
LowerName = Literal["usual", "influence", "rap"]


def build_rap_regional(  # noqa: PLR0913 - options by keyword
    *,
    upper: UpperName = "usual",
    lower: LowerName = "usual",
    growth: float | None = None,
    start: Literal["logit", "softmax", "mean", "finer"] = "mean",
    depth: float = 0.67,
    blocks: int | None = None,
    layer: str | None = None,
    weight: float | None = None,
    false_discovery_rate: float = 0.3,
    add: AddName = "usual",
    constants: ConstantsName = "leave out",
    input_rule: Literal["zbox", "rap"] = "zbox",
    low: float | Tensor | None = None,
    high: float | Tensor | None = None,
) -> Method:
    """RAP whose evidence depends on the class: counted by region where regions are last told apart, and shared by influence below.

    Args:
        upper: The method from the logit down to the regions, which should depend on the class. ``"usual"`` is ``"cp-lrp"`` in models with
            attention, ``"gradient"`` in others where a hidden dense layer reads all places of the regions, and ``"epsilon-plus"`` elsewhere.
            ``"gradient"`` weighs every channel by its mean gradient, as Grad-CAM does, and conserves nothing.
        lower: The rule of the layers below the regions: ``"rap"``; ``"influence"``, see :func:`relprop.rules.influence`; ``"usual"`` is
            ``"rap"`` in models with attention or embeddings, and ``"influence"`` elsewhere.
        growth: How much relevance grows in every layer: the positive alone with ``"influence"``, by 0.09 where left out, and that of both
            signs with ``"rap"``, by 0.2; a map with more of it is narrower. RAP as published has none.
        start: ``"logit"``; or the logit minus those of the other classes, weighted by their ``"softmax"``, by equal parts (``"mean"``),
            or by equal parts of the three nearest (``"finer"``).
        depth: In models with attention, the share of the attention layers below the regions, in [0, 1].
        blocks: In other models, how many blocks lie between the regions and the last value with several positions, before the last layer.
            Left out it is 1; but where convolutions carry relevance from any position of that grid to any other the regions are those of
            the first value on it. With ``"gradient"`` it is 0, and the regions are those before the pools that follow.
        layer: Path of the module at whose output the regions are, instead.
        weight: How much the evidence of each region itself counts, in [0, 1], against that of all regions of its sign, shared by magnitude;
            0 where left out, with ``"gradient"`` 0.5.
        false_discovery_rate: The share of regions that may count by chance, in (0, 1]: evidence counts where it stands out from that for all
            classes in the same region, or in models of less than 100 classes from that of random weights in the last dense layer, by the test
            of Benjamini and Hochberg; the rest is absorbed, and a class that stands out nowhere has an empty map. With 1 all evidence counts,
            as for targets that are no classes, and those of few where the model's last op is no dense layer of at least 100 features.
        add: How residual sums below split: by positive part, absolute value, or signed value; ``"usual"`` is ``"absolute"`` in models with
            attention, and ``"positive"``, as RAP has it, elsewhere.
        constants: Whether constants added to a value below ``"absorb"`` their share, split as ``add`` says, or are left out.
        input_rule: ``"zbox"`` for the z-box rule (Eq. 10), ``"rap"`` to treat the first layer like any other.
        low: Smallest value that an input can have; the sample's own minimum where left out.
        high: Largest value that an input can have; the sample's own maximum where left out.
    """
    if not 0 <= depth <= 1:
        raise OptionError(f"Option depth={depth!r} of method 'rap-regional' must lie between 0 and 1.")
    if blocks is not None and blocks < 0:
        raise OptionError(f"Option blocks={blocks!r} of method 'rap-regional' must not be negative.")
    general, with_attention = ("positive", "absolute") if add == "usual" else (add, add)
    published = build_rap(add=general, constants=constants, input_rule=input_rule, low=low, high=high)
    published = replace(published, with_attention=additions(with_attention, constants))
    rule = by_region(0.0 if weight is None else weight, false_discovery_rate)
    smooth = by_smooth_evidence(0.5 if weight is None else weight, false_discovery_rate)
    flattened = Regional(_FROM_RELEVANCE, _FROM_RELEVANCE, smooth, depth, blocks or 0, layer, unpooled=True)
    return replace(
        _lowered(published, lower, growth),
        name="rap-regional",
        start=STARTS[start],
        regional=flattened if upper == "gradient" else _counted(upper, rule, depth, blocks, layer, flattened),
        of_class=True,
    )


def _lowered(published: Method, lower: LowerName, growth: float | None) -> Method:
    """RAP with growth, or with the rule of influence in the place of its own: in all models, or in those without attention and embeddings."""
    layers = [role for role, rule in published.rules.items() if rule in (published.rules[Role.DENSE], published.rules[Role.CONV])]
    rule, of_both = influence(0.09 if growth is None else growth), 0.2 if growth is None else growth
    as_rap = {**dict.fromkeys(layers, rap(growth=of_both)), Role.SELECT: winner()}
    with_lookups = {**as_rap, **dict.fromkeys(published.with_lookups, rap(growth=of_both, reached=True))}
    by_influence = dict.fromkeys((*layers, Role.SELECT), rule)
    if lower == "rap":
        return replace(published, rules={**published.rules, **as_rap}, with_lookups=with_lookups)
    rules = {**published.rules, **by_influence}
    if lower == "influence":
        return replace(published, rules=rules, with_lookups={})
    with_attention = {**published.with_attention, **as_rap}
    return replace(published, rules=rules, with_attention=with_attention, with_lookups=with_lookups)


_FROM_RELEVANCE = Composite("gradient", {**GRADIENT.rules, Role.OUTPUT: gradient(of_relevance=True)})
"""The chain rule, from a start in units of the logits."""


def _counted(
    upper: UpperName, rule: RegionRule, depth: float, blocks: int | None, layer: str | None, flattened: Regional
) -> Regional:
    """The settings of an upper method that shares relevance."""
    general, with_attention = ("epsilon-plus", "cp-lrp") if upper == "usual" else (upper, upper)
    return Regional(
        _UPPER[general](),
        _UPPER[with_attention](),
        rule,
        depth,
        blocks,
        layer,
        flattened=flattened if upper == "usual" else None,
    )


REGIONAL_METHODS = (
    (
        "rap-regional",
        build_rap_regional,
        "RAP from evidence that depends on the class, counted by region of the last layers",
        "relprop, after Nam et al., AAAI 2020",
        CONTRAST,
    ),
)
