"""Layer-wise relevance propagation: single rules and the composites of the literature."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from relprop import rules
from relprop.methods.method import Bounds, Method, additions, input_box
from relprop.methods.options import BiasName, ConstantsName, StartName, SumName
from relprop.methods.starts import STARTS
from relprop.ops.registry import Role
from relprop.rules import Rule, alpha_beta, box, flat, wsquare, zplus
from relprop.rules_attention import linear_norms

_EPSILON = 1e-6


@dataclass(frozen=True)
class _Common:
    """Options of every method: how sums split, whether added constants take a share, and the start."""

    add: SumName
    constants: ConstantsName
    start: StartName


def _single(
    name: str,
    rule: Rule,
    common: _Common,
    *,
    epsilon: float = _EPSILON,
    pool: Rule | None = None,
    first: Rule | None = None,
    bounds: Bounds = None,
) -> Method:
    """One rule for all layers, unless ``pool`` is given for averages and ``first`` for the first layer; sums take ``epsilon``."""
    table = {Role.DENSE: rule, Role.CONV: rule} | additions(common.add, common.constants, epsilon)
    table |= {role: own for role, own in ((Role.POOL, pool), (Role.INPUT, first)) if own is not None}
    return Method(name, table, start=STARTS[common.start], box=bounds, conserves=common.start == "logit")


def build_epsilon(
    *,
    epsilon: float = _EPSILON,
    bias: BiasName = "absorb",
    add: SumName = "signed",
    constants: ConstantsName = "leave out",
    start: StartName = "logit",
) -> Method:
    """LRP-ε: shares by signed contribution, through layer norms too; ``epsilon`` takes what weak outputs hold.

    Args:
        epsilon: Stabilizer of the denominators; 0 for LRP-0.
        bias: Whether biases ``"absorb"`` their share or are left out.
        add: How residual sums split: by ``"signed"`` value, ``"absolute"`` value or ``"positive"`` part.
        constants: Whether constants added to a value ``"absorb"`` their share, split as ``add`` says, or are left out.
        start: What the output starts with, see :data:`relprop.methods.STARTS`.
    """
    method = _single("lrp-epsilon", rules.epsilon(epsilon, bias), _Common(add, constants, start), epsilon=epsilon)
    return replace(method, by_op=linear_norms(epsilon))


def build_zplus(
    *,
    epsilon: float = _EPSILON,
    bias: BiasName = "absorb",
    add: SumName = "positive",
    constants: ConstantsName = "leave out",
    start: StartName = "logit",
) -> Method:
    """LRP-z⁺: only positive contributions count. Options as in ``lrp-epsilon``."""
    return _single("lrp-zplus", zplus(epsilon, bias), _Common(add, constants, start))


def build_alpha_beta(
    *,
    alpha: float = 2.0,
    beta: float = 1.0,
    epsilon: float = _EPSILON,
    bias: BiasName = "absorb",
    add: SumName = "positive",
    constants: ConstantsName = "leave out",
    start: StartName = "logit",
) -> Method:
    """LRP-αβ: ``alpha`` times the positive minus ``beta`` times the negative shares; ``alpha − beta = 1`` conserves.

    Averages, whose contributions are mostly of one sign, share by positive contribution: α would multiply their relevance.
    Other options as in ``lrp-epsilon``.
    """
    rule = alpha_beta(alpha, beta, epsilon, bias)
    return _single("lrp-alpha-beta", rule, _Common(add, constants, start), pool=zplus(epsilon, bias))


def _alpha_beta_of(alpha: float, beta: float) -> Callable[..., Method]:
    def build(
        *,
        epsilon: float = _EPSILON,
        bias: BiasName = "absorb",
        add: SumName = "positive",
        constants: ConstantsName = "leave out",
        start: StartName = "logit",
    ) -> Method:
        rule = alpha_beta(alpha, beta, epsilon, bias)
        return _single(f"lrp-alpha{alpha:g}-beta{beta:g}", rule, _Common(add, constants, start), pool=zplus(epsilon, bias))

    build.__doc__ = f"LRP-αβ with ``alpha={alpha:g}`` and ``beta={beta:g}``. Options as in ``lrp-alpha-beta``."
    return build


def build_gamma(
    *,
    gamma: float = 0.25,
    epsilon: float = _EPSILON,
    bias: BiasName = "absorb",
    add: SumName = "signed",
    constants: ConstantsName = "leave out",
    start: StartName = "logit",
) -> Method:
    """LRP-γ: contributions that agree with the output's sign count ``1 + gamma`` times. Other options as in ``lrp-epsilon``."""
    return _single("lrp-gamma", rules.gamma(gamma, epsilon, bias), _Common(add, constants, start))


def build_wsquare(*, add: SumName = "positive", constants: ConstantsName = "leave out", start: StartName = "logit") -> Method:
    """LRP-w²: shares by squared weight, whatever the input. Options as in ``lrp-epsilon``."""
    return _single("lrp-w2", wsquare(), _Common(add, constants, start))


def build_flat(*, add: SumName = "positive", constants: ConstantsName = "leave out", start: StartName = "logit") -> Method:
    """LRP-flat: equal shares over the receptive field. Options as in ``lrp-epsilon``."""
    return _single("lrp-flat", flat(), _Common(add, constants, start))


def build_deep_taylor(
    *,
    low: float | Tensor | None = None,
    high: float | Tensor | None = None,
    add: SumName = "positive",
    constants: ConstantsName = "leave out",
    start: StartName = "logit",
) -> Method:
    """Deep Taylor decomposition: z⁺ without biases; z^B for the first layer, whose inputs lie between ``low`` and ``high``."""
    bounds = input_box("deep-taylor", low, high)
    return _single("deep-taylor", zplus(0.0, "leave out"), _Common(add, constants, start), first=box(), bounds=bounds)


def build_excitation(*, add: SumName = "positive", constants: ConstantsName = "leave out", start: StartName = "one") -> Method:
    """Excitation backprop: a winner's probability is shared by positive weight times activation, biases left out.

    Options as in ``lrp-epsilon``.
    """
    return _single("excitation-backprop", zplus(0.0, "leave out"), _Common(add, constants, start))


def _composite(
    name: str, conv: Rule, epsilon: float, bias: BiasName, common: _Common, first: Rule | None = None, bounds: Bounds = None
) -> Method:
    """Dense layers by ε, conv layers by ``conv``, the first layer by ``first``; averages in proportion."""
    table = {Role.DENSE: rules.epsilon(epsilon, bias), Role.CONV: conv, Role.POOL: rules.epsilon(_EPSILON, bias)}
    table |= additions(common.add, common.constants, _EPSILON) | ({} if first is None else {Role.INPUT: first})
    norms = linear_norms(epsilon)
    return Method(name, table, norms, start=STARTS[common.start], box=bounds, conserves=common.start == "logit")


def _composite_of(name: str, summary: str, conv: Callable[[BiasName], Rule], first: Rule | None = None) -> Callable[..., Method]:
    def build(
        *,
        epsilon: float = _EPSILON,
        bias: BiasName = "absorb",
        add: SumName = "signed",
        constants: ConstantsName = "leave out",
        start: StartName = "logit",
    ) -> Method:
        return _composite(name, conv(bias), epsilon, bias, _Common(add, constants, start), first)

    build.__doc__ = f"{summary.capitalize()}. ``epsilon`` is that of the dense layers; other options as in ``lrp-epsilon``."
    return build


def _conv_zplus(bias: BiasName) -> Rule:
    return zplus(_EPSILON, bias)


def _conv_alpha2_beta1(bias: BiasName) -> Rule:
    return alpha_beta(2, 1, _EPSILON, bias)


def build_epsilon_gamma_box(
    *,
    low: float | Tensor | None = None,
    high: float | Tensor | None = None,
    gamma: float = 0.25,
    epsilon: float = _EPSILON,
    bias: BiasName = "absorb",
    add: SumName = "signed",
    constants: ConstantsName = "leave out",
    start: StartName = "logit",
) -> Method:
    """Dense layers by ε, conv layers by γ, the first layer by the box rule between ``low`` and ``high``.

    ``epsilon`` is that of the dense layers; other options as in ``lrp-epsilon``.
    """
    bounds = input_box("epsilon-gamma-box", low, high)
    conv = rules.gamma(gamma, _EPSILON, bias)
    return _composite("epsilon-gamma-box", conv, epsilon, bias, _Common(add, constants, start), box(), bounds)


def build_clrp(
    *, epsilon: float = _EPSILON, bias: BiasName = "absorb", add: SumName = "positive", constants: ConstantsName = "leave out"
) -> Method:
    """Contrastive LRP: α1β0 from the target's logit minus the same spread over the others. Options as in ``lrp-epsilon``."""
    return _single("clrp", zplus(epsilon, bias), _Common(add, constants, "clrp"))


def build_sglrp(
    *, epsilon: float = _EPSILON, bias: BiasName = "absorb", add: SumName = "positive", constants: ConstantsName = "leave out"
) -> Method:
    """Softmax-gradient LRP: α1β0 from the gradient of the target's probability. Options as in ``lrp-epsilon``."""
    return _single("sglrp", zplus(epsilon, bias), _Common(add, constants, "sglrp"))


_BACH, _MONTAVON = "Bach et al., PLoS ONE 2015", "Montavon et al., Pattern Recognition 2017"
_COMPOSITES = "Montavon et al., 2019; Kohlbrenner et al., IJCNN 2020"

_FIXED_COMPOSITES = (
    ("epsilon-plus", "dense ε, conv z⁺", _conv_zplus, None),
    ("epsilon-plus-flat", "dense ε, conv z⁺, first layer flat", _conv_zplus, flat()),
    ("epsilon-alpha2-beta1", "dense ε, conv α2β1", _conv_alpha2_beta1, None),
    ("epsilon-alpha2-beta1-flat", "dense ε, conv α2β1, first layer flat", _conv_alpha2_beta1, flat()),
)

LRP_METHODS = (
    ("lrp-epsilon", build_epsilon, "shares by signed contribution, stabilized", f"{_BACH}, Eq. 58"),
    ("lrp-zplus", build_zplus, "shares by positive contribution", _MONTAVON),
    ("lrp-alpha1-beta0", _alpha_beta_of(1, 0), "positive contributions only", f"{_BACH}, Eq. 60"),
    ("lrp-alpha2-beta1", _alpha_beta_of(2, 1), "twice the positive minus the negative shares", f"{_BACH}, Eq. 60"),
    ("lrp-alpha-beta", build_alpha_beta, "alpha times the positive minus beta times the negative shares", f"{_BACH}, Eq. 60"),
    ("lrp-gamma", build_gamma, "favors contributions that agree with the output", "Montavon et al., 2019"),
    ("lrp-w2", build_wsquare, "shares by squared weight", _MONTAVON),
    ("lrp-flat", build_flat, "equal shares over the receptive field", "Lapuschkin et al., Nat. Commun. 2019"),
    ("deep-taylor", build_deep_taylor, "z⁺, with the box rule for the first layer", _MONTAVON),
    ("excitation-backprop", build_excitation, "top-down winner-take-all probabilities", "Zhang et al., IJCV 2018"),
    *((name, _composite_of(name, text, conv, first), text, _COMPOSITES) for name, text, conv, first in _FIXED_COMPOSITES),
    ("epsilon-gamma-box", build_epsilon_gamma_box, "dense ε, conv γ, first layer by the box rule", "Montavon et al., 2019"),
    ("clrp", build_clrp, "α1β0 of the target against all other classes", "Gu et al., ACCV 2018"),
    ("sglrp", build_sglrp, "α1β0 from the gradient of the softmax", "Iwana et al., ICCV-W 2019"),
)
