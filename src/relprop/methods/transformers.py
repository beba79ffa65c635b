"""LRP for transformers: relevance through attention weights, or past them."""

from dataclasses import replace
from typing import Literal

from relprop import rules
from relprop.methods.method import Method, additions
from relprop.methods.options import BiasName, ConstantsName, StartName, SumName
from relprop.methods.starts import STARTS
from relprop.ops.registry import Role
from relprop.rules import Rule, unchanged
from relprop.rules_attention import linear_norms, softmax_taylor

_EPSILON = 1e-9
NormName = Literal["identity", "linear"]


def _build(
    name: str, epsilon: float, bias: BiasName, add: SumName, constants: ConstantsName, norm: NormName, start: StartName
) -> tuple[Method, Rule]:
    rule = rules.epsilon(epsilon, bias)
    table: dict[Role | str, Rule] = {Role.DENSE: rule, Role.CONV: rule} | additions(add, constants, epsilon)
    by_op = linear_norms(epsilon) if norm == "linear" else {}
    return Method(name, table, by_op=by_op, start=STARTS[start], conserves=start == "logit"), rule


def build_attnlrp(
    *,
    epsilon: float = _EPSILON,
    bias: BiasName = "absorb",
    add: SumName = "signed",
    constants: ConstantsName = "absorb",
    norm: NormName = "linear",
    start: StartName = "logit",
) -> Method:
    """AttnLRP: ε everywhere; products share equally, the softmax by its Taylor expansion, activations pass relevance unchanged.

    Args:
        epsilon: Stabilizer of the denominators.
        bias: Whether biases ``"absorb"`` their share or are left out.
        add: How residual sums split: by ``"signed"`` value, ``"absolute"`` value or ``"positive"`` part.
        constants: Whether constants added to a value, such as position embeddings, ``"absorb"`` their share or are left out.
        norm: Layer norm passes relevance unchanged (``"identity"``) or shares it with its variance held constant (``"linear"``).
        start: What the output starts with, see :data:`relprop.methods.STARTS`.
    """
    method, rule = _build("attnlrp", epsilon, bias, add, constants, norm, start)
    both = replace(rule, all_operands=True)
    table = {
        Role.ATTENTION: both,
        Role.PRODUCT: both,
        Role.GATE: replace(unchanged(), all_operands=True),
        Role.SOFTMAX: softmax_taylor(),
    }
    return replace(method, rules={**method.rules, **table})


def build_cp_lrp(
    *,
    epsilon: float = _EPSILON,
    bias: BiasName = "absorb",
    add: SumName = "signed",
    constants: ConstantsName = "absorb",
    norm: NormName = "linear",
    start: StartName = "logit",
) -> Method:
    """CP-LRP: ε everywhere, attention weights and the variance of layer norm held constant. Options as in ``attnlrp``."""
    return _build("cp-lrp", epsilon, bias, add, constants, norm, start)[0]


TRANSFORMER_METHODS = (
    ("attnlrp", build_attnlrp, "ε with relevance through attention weights and softmax", "Achtibat et al., ICML 2024"),
    ("cp-lrp", build_cp_lrp, "ε with attention weights and norm statistics held constant", "Ali et al., ICML 2022"),
)
