"""The rules by name: how one op shares its relevance among its inputs. A method chooses one rule per role."""

from collections.abc import Callable, Mapping

from relprop.rules.affine import absolute, alpha_beta, epsilon, flat, gamma, rap, unchanged, wsquare, zbox, zplus
from relprop.rules.rule import Rule
from relprop.rules.sums import split_sum

RULES: Mapping[str, Callable[..., Rule]] = {
    "absolute": absolute,
    "alpha-beta": alpha_beta,
    "zbox": zbox,
    "epsilon": epsilon,
    "flat": flat,
    "gamma": gamma,
    "pass": unchanged,
    "rap": rap,
    "split": split_sum,
    "wsquare": wsquare,
    "zplus": zplus,
}
"""Every rule by name, with its options as keyword arguments."""

__all__ = [
    "RULES",
    "Rule",
    "absolute",
    "alpha_beta",
    "epsilon",
    "flat",
    "gamma",
    "rap",
    "split_sum",
    "unchanged",
    "wsquare",
    "zbox",
    "zplus",
]
