"""Layer-wise relevance propagation: single rules and the composites of the literature."""

from collections.abc import Callable

from torch import Tensor

from relprop import rules
from relprop.methods.method import Method, input_box, transparent
from relprop.methods.options import AddName, BiasName, StartName
from relprop.methods.starts import STARTS
from relprop.ops.registry import Role
from relprop.rules import Rule, alpha_beta, box, flat, split_sum, wsquare, zplus

_LAYERS = (Role.DENSE, Role.CONV, Role.POOL, Role.ATTENTION, Role.PRODUCT)
_EPSILON = 1e-6


def _single(name: str, rule: Rule, add: str, start: str, first: Rule | None = None, bounds: tuple[float | Tensor, float | Tensor] | None = None) -> Method:
    """One rule for all layers, another one for the first if ``first`` is given."""
    table = transparent() | dict.fromkeys(_LAYERS, rule) | {Role.ADD: split_sum(add, _EPSILON)}
    if first is not None:
        table[Role.INPUT] = first
    return Method(name, table, start=STARTS[start], box=bounds, conserves=start == "logit")


def _composite(name: str, conv: Rule, smoothing: float, bias: str, add: str, start: str, first: Rule | None = None, **more: object) -> Method:
    """Dense layers by ε, conv layers by ``conv``, the first layer by ``first``."""
    dense = rules.epsilon(smoothing, bias)
    method = _single(name, dense, add, start, first)
    table = dict(method.rules) | {Role.CONV: conv}
    return Method(name, table, start=method.start, conserves=method.conserves, **more)  # pyright: ignore[reportArgumentType]


def build_epsilon(*, epsilon: float = _EPSILON, bias: BiasName = "absorb", add: AddName = "signed", start: StartName = "logit") -> Method:
    """LRP-ε: shares by signed contribution; ``epsilon`` takes what weak outputs hold.

    Args:
        epsilon: Stabilizer of the denominators; 0 for LRP-0.
        bias: Whether biases ``"absorb"`` their share or are left out.
        add: How residual sums split: by ``"signed"`` value, ``"absolute"`` value or ``"positive"`` part.
        start: What the output starts with, see :data:`relprop.methods.STARTS`.
    """
    return _single("lrp-epsilon", rules.epsilon(epsilon, bias), add, start)


def build_zplus(*, epsilon: float = _EPSILON, bias: BiasName = "absorb", add: AddName = "positive", start: StartName = "logit") -> Method:
    """LRP-z⁺: only positive contributions count. Options as in ``lrp-epsilon``."""
    return _single("lrp-zplus", zplus(epsilon, bias), add, start)


def build_alpha_beta(
    *,
    alpha: float = 2.0,
    beta: float = 1.0,
    epsilon: float = _EPSILON,
    bias: BiasName = "absorb",
    add: AddName = "positive",
    start: StartName = "logit",
) -> Method:
    """LRP-αβ: ``alpha`` times the positive minus ``beta`` times the negative shares; ``alpha − beta = 1`` conserves."""
    return _single("lrp-alpha-beta", alpha_beta(alpha, beta, epsilon, bias), add, start)


def _alpha_beta_of(alpha: float, beta: float) -> Callable[..., Method]:
    def build(*, epsilon: float = _EPSILON, bias: BiasName = "absorb", add: AddName = "positive", start: StartName = "logit") -> Method:
        return _single(f"lrp-alpha{alpha:g}-beta{beta:g}", alpha_beta(alpha, beta, epsilon, bias), add, start)

    return build


def build_gamma(
    *, gamma: float = 0.25, epsilon: float = _EPSILON, bias: BiasName = "absorb", add: AddName = "signed", start: StartName = "logit"
) -> Method:
    """LRP-γ: contributions that agree with the output's sign count ``1 + gamma`` times."""
    return _single("lrp-gamma", rules.gamma(gamma, epsilon, bias), add, start)


def build_wsquare(*, add: AddName = "positive", start: StartName = "logit") -> Method:
    """LRP-w²: shares by squared weight, whatever the input."""
    return _single("lrp-w2", wsquare(), add, start)


def build_flat(*, add: AddName = "positive", start: StartName = "logit") -> Method:
    """LRP-flat: equal shares over the receptive field."""
    return _single("lrp-flat", flat(), add, start)


def build_deep_taylor(
    *,
    low: float | Tensor | None = None,
    high: float | Tensor | None = None,
    add: AddName = "positive",
    start: StartName = "logit",
) -> Method:
    """Deep Taylor decomposition: z⁺ without biases, and z^B for the first layer, whose inputs lie between ``low`` and ``high``."""
    return _single("deep-taylor", zplus(0.0, "leave out"), add, start, box(), input_box("deep-taylor", low, high))


def build_excitation(*, start: StartName = "one") -> Method:
    """Excitation backprop: a winner's probability is shared by positive weight times activation, biases left out."""
    return _single("excitation-backprop", zplus(0.0, "leave out"), "positive", start)


def build_epsilon_plus(*, epsilon: float = _EPSILON, bias: BiasName = "absorb", add: AddName = "signed", start: StartName = "logit") -> Method:
    """Dense layers by ε, conv layers by z⁺."""
    return _composite("epsilon-plus", zplus(epsilon, bias), epsilon, bias, add, start)


def build_epsilon_plus_flat(*, epsilon: float = _EPSILON, bias: BiasName = "absorb", add: AddName = "signed", start: StartName = "logit") -> Method:
    """Dense layers by ε, conv layers by z⁺, the first layer flat."""
    return _composite("epsilon-plus-flat", zplus(epsilon, bias), epsilon, bias, add, start, flat())


def build_epsilon_gamma_box(
    *,
    low: float | Tensor | None = None,
    high: float | Tensor | None = None,
    gamma: float = 0.25,
    epsilon: float = _EPSILON,
    bias: BiasName = "absorb",
    add: AddName = "signed",
    start: StartName = "logit",
) -> Method:
    """Dense layers by ε, conv layers by γ, the first layer by the box rule between ``low`` and ``high``."""
    bounds = input_box("epsilon-gamma-box", low, high)
    return _composite("epsilon-gamma-box", rules.gamma(gamma, epsilon, bias), epsilon, bias, add, start, box(), box=bounds)


def build_epsilon_alpha2_beta1(
    *, epsilon: float = _EPSILON, bias: BiasName = "absorb", add: AddName = "signed", start: StartName = "logit"
) -> Method:
    """Dense layers by ε, conv layers by α2β1."""
    return _composite("epsilon-alpha2-beta1", alpha_beta(2, 1, epsilon, bias), epsilon, bias, add, start)


def build_epsilon_alpha2_beta1_flat(
    *, epsilon: float = _EPSILON, bias: BiasName = "absorb", add: AddName = "signed", start: StartName = "logit"
) -> Method:
    """Dense layers by ε, conv layers by α2β1, the first layer flat."""
    return _composite("epsilon-alpha2-beta1-flat", alpha_beta(2, 1, epsilon, bias), epsilon, bias, add, start, flat())


def build_clrp(*, epsilon: float = _EPSILON, bias: BiasName = "absorb", add: AddName = "positive") -> Method:
    """Contrastive LRP: α1β0 from the target's logit minus the same spread over all other classes."""
    return _single("clrp", zplus(epsilon, bias), add, "clrp")


def build_sglrp(*, epsilon: float = _EPSILON, bias: BiasName = "absorb", add: AddName = "positive") -> Method:
    """Softmax-gradient LRP: α1β0 from the gradient of the target's probability."""
    return _single("sglrp", zplus(epsilon, bias), add, "sglrp")


_BACH, _MONTAVON = "Bach et al., PLoS ONE 2015", "Montavon et al., Pattern Recognition 2017"
_COMPOSITES = "Montavon et al., 2019; Kohlbrenner et al., IJCNN 2020"

LRP_METHODS = (
    ("lrp-epsilon", build_epsilon, "shares by signed contribution, stabilized", f"{_BACH}, Eq. 58"),
    ("lrp-zplus", build_zplus, "shares by positive contribution", _MONTAVON),
    ("lrp-alpha1-beta0", _alpha_beta_of(1, 0), "positive contributions only", f"{_BACH}, Eq. 60"),
    ("lrp-alpha2-beta1", _alpha_beta_of(2, 1), "twice the positive minus the negative contributions", f"{_BACH}, Eq. 60"),
    ("lrp-alpha-beta", build_alpha_beta, "alpha times the positive minus beta times the negative contributions", f"{_BACH}, Eq. 60"),
    ("lrp-gamma", build_gamma, "favors contributions that agree with the output", "Montavon et al., 2019"),
    ("lrp-w2", build_wsquare, "shares by squared weight", _MONTAVON),
    ("lrp-flat", build_flat, "equal shares over the receptive field", "Lapuschkin et al., Nat. Commun. 2019"),
    ("deep-taylor", build_deep_taylor, "z⁺, with the box rule for the first layer", _MONTAVON),
    ("excitation-backprop", build_excitation, "top-down winner-take-all probabilities", "Zhang et al., IJCV 2018"),
    ("epsilon-plus", build_epsilon_plus, "dense ε, conv z⁺", _COMPOSITES),
    ("epsilon-plus-flat", build_epsilon_plus_flat, "dense ε, conv z⁺, first layer flat", _COMPOSITES),
    ("epsilon-gamma-box", build_epsilon_gamma_box, "dense ε, conv γ, first layer by the box rule", "Montavon et al., 2019"),
    ("epsilon-alpha2-beta1", build_epsilon_alpha2_beta1, "dense ε, conv α2β1", _COMPOSITES),
    ("epsilon-alpha2-beta1-flat", build_epsilon_alpha2_beta1_flat, "dense ε, conv α2β1, first layer flat", _COMPOSITES),
    ("clrp", build_clrp, "α1β0 of the target against all other classes", "Gu et al., ACCV 2018"),
    ("sglrp", build_sglrp, "α1β0 from the gradient of the softmax", "Iwana et al., ICCV-W 2019"),
)
