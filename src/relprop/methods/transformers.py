"""LRP for transformers and state-space models: relevance through attention weights, gates and other parameters, or past them."""

from dataclasses import replace
from typing import Literal

from relprop import rules
from relprop.meaning import VOTES
from relprop.methods.options import Shared, sharing
from relprop.methods.rule_tables import INPUT_RULES, additions, split_choices
from relprop.ops.op import Role
from relprop.propagation.composite import Needs
from relprop.propagation.method import Method
from relprop.rules.affine import unchanged
from relprop.rules.attention import linear_norms, softmax_taylor
from relprop.rules.rule import Rule
from relprop.rules.starts import STARTS
from relprop.rules.sums import split_sum

NormName = Literal["identity", "linear"]


def _build(name: str, shared: Shared, norm: NormName) -> tuple[Method, Rule]:
    """ε everywhere; layer norm passes relevance unchanged (``"identity"``) or shares it with its variance constant (``"linear"``)."""
    rule = rules.epsilon(shared.epsilon, shared.bias)
    table: dict[Role | str, Rule] = {Role.DENSE: rule, Role.CONV: rule} | INPUT_RULES[shared.input_rule]
    # by default sums split by signed value, as published, in models with attention too
    table |= additions(split_choices(shared.add)[0], shared.constants, shared.epsilon)
    by_op = linear_norms(shared.epsilon) if norm == "linear" else {}
    return Method(name, table, by_op=by_op, start=STARTS[shared.start]), rule


@sharing(without=("attention",), epsilon=0.0)
def build_attnlrp(shared: Shared, *, norm: NormName = "linear") -> Method:
    """AttnLRP: ε everywhere; products share equally, the softmax by its Taylor expansion, activations pass relevance unchanged."""
    method, rule = _build("attnlrp", shared, norm)
    both, halves = replace(rule, all_operands=True), replace(unchanged(), all_operands=True)
    table = {
        Role.ATTENTION: both,
        Role.PRODUCT: both,
        Role.READOUT: both,
        Role.GATE: halves,
        Role.STATE: halves,
        Role.SOFTMAX: softmax_taylor(),
    }
    return replace(method, rules={**method.rules, **table})


@sharing(without=("attention",), epsilon=0.0)
def build_cp_lrp(shared: Shared, *, norm: NormName = "linear") -> Method:
    """CP-LRP: ε everywhere, attention weights and the variance of layer norm held constant."""
    return _build("cp-lrp", shared, norm)[0]


@sharing(without=("attention", "add"), epsilon=0.0)
def build_reslrp(shared: Shared, *, norm: NormName = "linear", gamma: float = 1.0) -> Method:
    """ResLRP: AttnLRP, but at sums of two values each counts ``1 + gamma`` times where it has the sign of the sum.

    So no summand's share leaves ``[−1/gamma, 1 + 1/gamma]``, however the two cancel.
    """
    options = {"epsilon": shared.epsilon, "bias": shared.bias, "constants": shared.constants, "start": shared.start}
    method = build_attnlrp(**options, input_rule=shared.input_rule, norm=norm)
    return replace(method, name="reslrp", rules={**method.rules, Role.ADD: split_sum("gamma", gamma=gamma)})


_STATE_SPACE = Needs(
    frozenset({Role.STATE, Role.READOUT}),
    "a state-space model with decays exp(Δ A), whose steps Δ come from a softplus or the like",
)


@sharing(without=("attention",), epsilon=0.0)
def build_mamba_lrp(shared: Shared, *, norm: NormName = "linear", gamma: float = 0.0) -> Method:
    """MambaLRP: ε, or γ with ``gamma``, in layers; Δ, B and C of state-space models held constant, gates and other products in halves.

    Activations pass relevance unchanged; attention weights and the variance of norms are constants too.
    """
    method, rule = _build("mamba-lrp", shared, norm)
    table: dict[Role | str, Rule] = {
        Role.PRODUCT: replace(rule, all_operands=True),
        Role.GATE: replace(unchanged(), all_operands=True),
    }
    if gamma:
        table |= dict.fromkeys((Role.DENSE, Role.CONV), rules.gamma(gamma, shared.epsilon, shared.bias))
        table |= dict.fromkeys((Role.OUTPUT, Role.POOL, Role.ATTENTION, Role.READOUT), rule)
    return replace(method, rules={**method.rules, **table}, needs=_STATE_SPACE)


TRANSFORMER_METHODS = (
    ("attnlrp", build_attnlrp, "ε with relevance through attention weights and softmax", "Achtibat et al., ICML 2024", VOTES),
    ("reslrp", build_reslrp, "AttnLRP with bounded shares at residual sums", "Berend et al., 2026", VOTES),
    ("cp-lrp", build_cp_lrp, "ε with attention weights and norm statistics held constant", "Ali et al., ICML 2022", VOTES),
    (
        "mamba-lrp",
        build_mamba_lrp,
        "ε with the parameters of state-space models held constant and gates in halves",
        "Jafari et al., NeurIPS 2024",
        VOTES,
    ),
)
