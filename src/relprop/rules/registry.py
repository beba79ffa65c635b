"""Rules by name, for methods and TOML files."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from relprop.errors import OptionError, suggestion
from relprop.options import check_options
from relprop.rules.abslrp import abslrp
from relprop.rules.affine import absolute, alpha_beta, epsilon, flat, gamma, rap, unchanged, wsquare, zbox, zplus
from relprop.rules.attention import balanced_sum, norm_linear, softmax_taylor
from relprop.rules.equilibrium import equilibrium
from relprop.rules.gradient import gradient
from relprop.rules.influence import influence, winner
from relprop.rules.rule import Rule
from relprop.rules.sectional import sectional
from relprop.rules.sums import split_sum

RULES: dict[str, Callable[..., Rule]] = {
    "absolute": absolute,
    "abslrp": abslrp,
    "alpha-beta": alpha_beta,
    "balanced": balanced_sum,
    "epsilon": epsilon,
    "equilibrium": equilibrium,
    "flat": flat,
    "gamma": gamma,
    "gradient": gradient,
    "influence": influence,
    "norm": norm_linear,
    "pass": unchanged,
    "rap": rap,
    "sectional": sectional,
    "softmax": softmax_taylor,
    "split": split_sum,
    "winner": winner,
    "wsquare": wsquare,
    "zbox": zbox,
    "zplus": zplus,
}
"""Every rule by name, with its options as keyword arguments."""

_ALL_OPERANDS = "all_operands"


def register_rule(name: str, make: Callable[..., Rule]) -> None:
    """Make a rule of your own available by name, to methods and TOML files.

    Args:
        name: The new name.
        make: A function ``(**options) -> Rule``; its parameters, which have defaults, are the rule's options.

    Raises:
        OptionError: The name is taken, or ``make`` is no such function.
    """
    if not isinstance(name, str) or not name:  # pyright: ignore[reportUnnecessaryIsInstance] - users may give anything
        raise OptionError(f"The name of a rule must be a text, not {name!r}.")
    if name in RULES:
        raise OptionError(f"There already is a rule {name!r}; choose another name.")
    if not callable(make):
        raise OptionError(f"Rule {name!r} must be made by a function, not {type(make).__name__}.")
    required = [p.name for p in inspect.signature(make).parameters.values() if p.default is p.empty]
    if required:
        raise OptionError(f"Rule {name!r}: option {required[0]!r} has no default; a rule is made without options too.")
    made = make()
    if not isinstance(made, Rule):  # pyright: ignore[reportUnnecessaryIsInstance] - users may give anything
        raise OptionError(f"Rule {name!r} must be a function that returns a relprop.rules.Rule, not {type(made).__name__}.")
    RULES[name] = make


def make_rule(name: str, options: Mapping[str, Any]) -> Rule:
    """Look up a rule and make it with ``options``.

    Besides the rule's own options there is ``all_operands``: whether gates and attention weights take relevance too.

    Raises:
        OptionError: Unknown rule or option, or a value of the wrong type.
    """
    if name not in RULES:
        raise OptionError(f"unknown rule {name!r}.{suggestion(name, RULES)} Known rules: {', '.join(RULES)}.")
    given = dict(options)
    everything = given.pop(_ALL_OPERANDS, None)
    if everything is not None and not isinstance(everything, bool):
        raise OptionError(f"Option {_ALL_OPERANDS}={everything!r} of rule {name!r} must be bool.")
    check_options(f"rule {name!r}", inspect.signature(RULES[name]).parameters, given)
    rule = RULES[name](**given)
    return rule if everything is None else replace(rule, all_operands=everything)
