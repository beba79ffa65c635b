"""The rules by name: how one op shares its relevance among its inputs. A method chooses one rule per role."""

from relprop.rules.abslrp import abslrp
from relprop.rules.affine import absolute, alpha_beta, epsilon, flat, gamma, rap, unchanged, wsquare, zbox, zplus
from relprop.rules.attention import balanced_sum, norm_linear, softmax_taylor
from relprop.rules.influence import influence, winner
from relprop.rules.registry import RULES, make_rule, register_rule
from relprop.rules.rule import Rule
from relprop.rules.sums import split_sum

__all__ = [
    "RULES",
    "Rule",
    "abslrp",
    "absolute",
    "alpha_beta",
    "balanced_sum",
    "epsilon",
    "flat",
    "gamma",
    "influence",
    "make_rule",
    "norm_linear",
    "rap",
    "register_rule",
    "softmax_taylor",
    "split_sum",
    "unchanged",
    "winner",
    "wsquare",
    "zbox",
    "zplus",
]
