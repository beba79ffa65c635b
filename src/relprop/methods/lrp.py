"""Layer-wise relevance propagation: single rules and the composites of the literature."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from relprop import rules
from relprop.meaning import CONTRAST, VOTES, Meaning
from relprop.methods.options import Shared, sharing
from relprop.methods.rule_tables import INPUT_RULES, additions, attention_weights, input_bounds, split_choices
from relprop.ops.op import Role
from relprop.propagation.composite import Bounds
from relprop.propagation.method import Method
from relprop.rules.affine import alpha_beta, flat, wsquare, zbox, zplus
from relprop.rules.attention import linear_norms
from relprop.rules.rule import Rule
from relprop.rules.starts import STARTS

_EPSILON = Shared().epsilon


def _method(name: str, table: dict[Role | str, Rule], shared: Shared, epsilon: float = _EPSILON, **parts: Any) -> Method:  # noqa: ANN401
    """A method of these rules, whose sums, constants, attention and start are as the shared options say; ``epsilon`` is that of sums."""
    general, with_attention = (additions(add, shared.constants, epsilon) for add in split_choices(shared.add))
    table |= general | attention_weights(shared.attention, table[Role.DENSE])
    parts["with_attention"] = with_attention if shared.add == "usual" else {}
    return Method(name, table, start=STARTS[shared.start], **parts)


def _single(name: str, rule: Rule, shared: Shared, epsilon: float = _EPSILON, **others: Rule) -> Method:
    """One rule for all layers, except for the roles in ``others``."""
    table: dict[Role | str, Rule] = {Role.DENSE: rule, Role.CONV: rule} | INPUT_RULES[shared.input_rule]
    return _method(name, table | {Role(role): own for role, own in others.items()}, shared, epsilon)


@sharing()
def build_epsilon(shared: Shared) -> Method:
    """LRP-ε: shares by signed contribution, through layer norms too; the stabilizer ``epsilon`` absorbs relevance of small outputs; 0 for LRP-0."""
    method = _single("lrp-epsilon", rules.epsilon(shared.epsilon, shared.bias), shared, shared.epsilon)
    return replace(method, by_op=linear_norms(shared.epsilon))


_ZPLUS: dict[str, Any] = {"add": "positive", "attention": "half"}
"""The defaults of rules that count positive contributions alone."""


@sharing(**_ZPLUS)
def build_zplus(shared: Shared) -> Method:
    """LRP-z⁺: only positive contributions count."""
    return _single("lrp-zplus", zplus(shared.epsilon, shared.bias), shared)


def _alpha_beta(name: str, alpha: float, beta: float, shared: Shared) -> Method:
    """Averages share by positive contribution: where most contributions have one sign, α would multiply the relevance."""
    epsilon, bias = shared.epsilon, shared.bias
    return _single(name, alpha_beta(alpha, beta, epsilon, bias), shared, pool=zplus(epsilon, bias))


@sharing(add="positive")
def build_alpha_beta(shared: Shared, *, alpha: float = 2.0, beta: float = 1.0) -> Method:
    """LRP-αβ: ``alpha`` times the positive minus ``beta`` times the negative shares; ``alpha − beta = 1`` conserves."""
    return _alpha_beta("lrp-alpha-beta", alpha, beta, shared)


def _alpha_beta_of(alpha: float, beta: float) -> Callable[..., Method]:
    @sharing(**(_ZPLUS if beta == 0 else {"add": "positive"}))
    def build(shared: Shared) -> Method:
        return _alpha_beta(f"lrp-alpha{alpha:g}-beta{beta:g}", alpha, beta, shared)

    build.__doc__ = f"LRP-αβ with ``alpha={alpha:g}`` and ``beta={beta:g}``."
    return build


@sharing()
def build_gamma(shared: Shared, *, gamma: float = 0.25) -> Method:
    """LRP-γ: contributions that agree with the output's sign count ``1 + gamma`` times."""
    return _single("lrp-gamma", rules.gamma(gamma, shared.epsilon, shared.bias), shared)


_UNSTABILIZED = ("epsilon", "bias")
_OWN_INPUT = ("input_rule",)


@sharing(without=_UNSTABILIZED, add="positive", constants="leave out")
def build_wsquare(shared: Shared) -> Method:
    """LRP-w²: shares by squared weight, whatever the input."""
    return _single("lrp-wsquare", wsquare(), shared)


@sharing(without=_UNSTABILIZED, add="positive", constants="leave out")
def build_flat(shared: Shared) -> Method:
    """LRP-flat: equal shares over the receptive field."""
    return _single("lrp-flat", flat(), shared)


@sharing(without=(*_UNSTABILIZED, *_OWN_INPUT), **_ZPLUS, constants="leave out")
def build_deep_taylor(shared: Shared, *, low: float | Tensor | None = None, high: float | Tensor | None = None) -> Method:
    """Deep Taylor decomposition: z⁺ without biases; z^B for the first layer, whose inputs lie between ``low`` and ``high``."""
    method = _single("deep-taylor", zplus(0.0, "leave out"), shared, input=zbox())
    return replace(method, bounds=input_bounds("deep-taylor", low, high))


@sharing(without=_UNSTABILIZED, add="positive", constants="leave out", start="one")
def build_excitation(shared: Shared) -> Method:
    """Excitation backprop: a winner's probability is shared by positive weight times activation, biases left out."""
    return _single("excitation-backprop", zplus(0.0, "leave out"), shared)


def _composite(name: str, conv: Rule, shared: Shared, first: Rule | None = None, bounds: Bounds = None) -> Method:
    """Dense layers by ε, conv layers by ``conv``, the first layer by ``first``; averages in proportion."""
    table: dict[Role | str, Rule] = {Role.DENSE: rules.epsilon(shared.epsilon, shared.bias), Role.CONV: conv}
    table |= {Role.POOL: rules.epsilon(_EPSILON, shared.bias)} | ({} if first is None else {Role.INPUT: first})
    return _method(name, table, shared, by_op=linear_norms(shared.epsilon), bounds=bounds)


def _composite_of(name: str, summary: str, conv: Callable[[Shared], Rule], first: Rule | None = None) -> Callable[..., Method]:
    @sharing(without=_OWN_INPUT)
    def build(shared: Shared) -> Method:
        return _composite(name, conv(shared), shared, first)

    build.__doc__ = f"{summary.capitalize()}. ``epsilon`` is that of the dense layers."
    return build


def _conv_zplus(shared: Shared) -> Rule:
    return zplus(_EPSILON, shared.bias)


def _conv_alpha2_beta1(shared: Shared) -> Rule:
    return alpha_beta(2, 1, _EPSILON, shared.bias)


@sharing(without=_OWN_INPUT)
def build_epsilon_gamma_box(
    shared: Shared, *, low: float | Tensor | None = None, high: float | Tensor | None = None, gamma: float = 0.25
) -> Method:
    """Dense layers by ε, conv layers by γ, the first layer by the z-box rule between ``low`` and ``high``.

    ``epsilon`` is that of the dense layers.
    """
    name, conv = "epsilon-gamma-box", rules.gamma(gamma, _EPSILON, shared.bias)
    return _composite(name, conv, shared, zbox(), input_bounds(name, low, high))


@sharing(without=("start",), **_ZPLUS, start="clrp")
def build_clrp(shared: Shared) -> Method:
    """Contrastive LRP: α1β0 from the target's logit minus the same spread over the others."""
    return _single("clrp", zplus(shared.epsilon, shared.bias), shared)


@sharing(without=("start",), **_ZPLUS, start="sglrp")
def build_sglrp(shared: Shared) -> Method:
    """Softmax-gradient LRP: α1β0 from the gradient of the target's probability."""
    return _single("sglrp", zplus(shared.epsilon, shared.bias), shared)


build_epsilon_plus = _composite_of("epsilon-plus", "dense ε, conv z⁺", _conv_zplus)

_BACH, _MONTAVON = "Bach et al., PLoS ONE 2015", "Montavon et al., Pattern Recognition 2017"
_COMPOSITES = "Montavon et al., 2019; Kohlbrenner et al., IJCNN 2020"

_FIXED_COMPOSITES = (
    ("epsilon-plus-flat", "dense ε, conv z⁺, first layer flat", _conv_zplus, flat()),
    ("epsilon-alpha2-beta1", "dense ε, conv α2β1", _conv_alpha2_beta1, None),
    ("epsilon-alpha2-beta1-flat", "dense ε, conv α2β1, first layer flat", _conv_alpha2_beta1, flat()),
)

LRP_METHODS = (
    ("lrp-epsilon", build_epsilon, "shares by signed contribution, stabilized", f"{_BACH}, Eq. 58", VOTES),
    ("lrp-zplus", build_zplus, "shares by positive contribution", _MONTAVON, VOTES),
    ("lrp-alpha1-beta0", _alpha_beta_of(1, 0), "positive contributions only", f"{_BACH}, Eq. 60", VOTES),
    ("lrp-alpha2-beta1", _alpha_beta_of(2, 1), "twice the positive minus the negative shares", f"{_BACH}, Eq. 60", VOTES),
    (
        "lrp-alpha-beta",
        build_alpha_beta,
        "alpha times the positive minus beta times the negative shares",
        f"{_BACH}, Eq. 60",
        VOTES,
    ),
    ("lrp-gamma", build_gamma, "favors contributions that agree with the output", "Montavon et al., 2019", VOTES),
    ("lrp-wsquare", build_wsquare, "shares by squared weight", _MONTAVON, VOTES),
    ("lrp-flat", build_flat, "equal shares over the receptive field", "Lapuschkin et al., Nat. Commun. 2019", VOTES),
    ("deep-taylor", build_deep_taylor, "z⁺, with the z-box rule for the first layer", _MONTAVON, VOTES),
    (
        "excitation-backprop",
        build_excitation,
        "top-down winner-take-all probabilities",
        "Zhang et al., IJCV 2018",
        Meaning("winner", ""),
    ),
    ("epsilon-plus", build_epsilon_plus, "dense ε, conv z⁺", _COMPOSITES, VOTES),
    *((name, _composite_of(name, text, conv, first), text, _COMPOSITES, VOTES) for name, text, conv, first in _FIXED_COMPOSITES),
    (
        "epsilon-gamma-box",
        build_epsilon_gamma_box,
        "dense ε, conv γ, first layer by the z-box rule",
        "Montavon et al., 2019",
        VOTES,
    ),
    ("clrp", build_clrp, "α1β0 of the target against all other classes", "Gu et al., ACCV 2018", CONTRAST),
    ("sglrp", build_sglrp, "α1β0 from the gradient of the softmax", "Iwana et al., ICCV-W 2019", CONTRAST),
)
