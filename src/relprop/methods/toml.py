"""Methods from TOML files: a base method of the registry, its options, and rules that override its own.

::

    base = "epsilon-plus"       # a method of the registry, whose rules are the defaults; may be left out
    name = "mine"               # the name of the file where left out
    fold_batchnorm = true
    start = "logit"             # relevance of the output: logit, one, abslrp, clrp, sglrp, softmax, mean, finer
    bounds = [0.0, 1.0]            # bounds of the model's input for the z-box rule
    average = { shifts = 4 }    # copies of the input to average over, for any base

    [options]                   # options of the base
    epsilon = 1e-4

    [rules]                     # by role: a rule's name, or the rule with its options
    pool = "zplus"
    conv = { rule = "gamma", gamma = 0.25 }

    [with_sums]                 # by role, before [rules] in models with residual sums
    [with_attention]            # by role, before both in models with attention
    [with_lookups]              # by role, before all in models that look up embeddings
    add = { rule = "split", treatment = "absolute" }

    [by_op]                     # by op
    conv_transpose2d = "flat"

    [by_path]                   # by module path or pattern
    "features.0" = { rule = "flat" }
"""

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from relprop.attribution import Attribution
from relprop.errors import OptionError, suggestion
from relprop.meaning import CONTRAST
from relprop.methods.averaging import Averaged, make_averaging
from relprop.methods.protocol import AnyMethod
from relprop.methods.registry import make_method
from relprop.methods.rule_tables import input_bounds
from relprop.propagation.method import Method
from relprop.rules.registry import make_rule
from relprop.rules.rule import Rule
from relprop.rules.starts import CONTRASTIVE, STARTS, Start
from relprop.text import split_options

_WHERE = ("with_sums", "with_attention", "with_lookups")
_TABLES = ("options", "rules", "by_op", "by_path", *_WHERE)
_KEYS: Mapping[str, tuple[type, str]] = {
    "base": (str, "a string"),
    "name": (str, "a string"),
    "fold_batchnorm": (bool, "true or false"),
    "bounds": (list, "two numbers"),
    "start": (str, "a string"),
    "conserves": (bool, "true or false"),
    "average": (dict, "a table"),
} | dict.fromkeys(_TABLES, (dict, "a table"))


def read_method(path: Path, options: Mapping[str, Any] | None = None) -> AnyMethod:
    """Read a method from a TOML file: a :class:`relprop.Method`, unless it is averaged or its base propagates no relevance by rules.

    Args:
        path: The file.
        options: Options of the base method; they override those of the file.

    Raises:
        OptionError: The file cannot be read or is no TOML, or a key, method, option, role or rule is unknown; each says where.
    """
    content = _load(path)
    try:
        return _compose(path.stem, content, options or {})
    except OptionError as error:
        raise OptionError(f"{path}: {error}") from error


def _load(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise OptionError(f"There is no method file {path}.") from None
    except OSError as error:
        raise OptionError(f"The method file {path} cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, or nested too deep
        raise OptionError(f"The method file {path} is not valid TOML ({error}).") from error


def _compose(stem: str, content: Mapping[str, Any], options: Mapping[str, Any]) -> AnyMethod:
    for key, value in content.items():
        if key not in _KEYS:
            raise OptionError(f"Unknown key {key!r}.{suggestion(key, _KEYS)} Known keys: {', '.join(_KEYS)}.")
        kind, wanted = _KEYS[key]
        if not isinstance(value, kind):
            raise OptionError(f"{key} must be {wanted}, not {value!r}.")
    base = _base(content, {**content.get("options", {}), **options})
    name = content.get("name", stem)
    method = _ruled(base, name, content) if isinstance(base, Method) else _renamed(base, name, content)
    return Averaged(method, make_averaging(content["average"])) if "average" in content else method


def _renamed(base: AnyMethod, name: str, content: Mapping[str, Any]) -> AnyMethod:
    """A base that propagates no relevance by rules: the file may average it, and nothing else."""
    more = content.keys() - {"base", "name", "options", "average"}
    if more or "average" not in content or not isinstance(base, Attribution):
        raise OptionError(f"The base {content['base']!r} does not propagate relevance by rules; choose another.")
    return replace(base, name=name)


def _ruled(base: Method, name: str, content: Mapping[str, Any]) -> Method:
    """A base with the rules of the file."""
    tables = {key: {entry: _rule(key, entry, value) for entry, value in content.get(key, {}).items()} for key in _TABLES[1:]}
    bounds = _bounds(name, content.get("bounds")) or base.bounds
    changes = {"rules": {**base.rules, **tables["rules"]}, "by_op": {**tables["by_op"], **base.by_op}}
    for where in _WHERE:
        before = {role: rule for role, rule in getattr(base, where).items() if role not in tables["rules"]}
        changes[where] = {**before, **tables[where]}
    changes["by_path"] = {**tables["by_path"], **base.by_path}
    plain = {key: content[key] for key in ("fold_batchnorm", "conserves") if key in content}
    if "start" in content:
        plain["start"] = _start(content["start"])
        plain |= {"meaning": CONTRAST} if plain["start"] in CONTRASTIVE else {}
    return replace(base, name=name, bounds=bounds, **plain, **changes)


def _base(content: Mapping[str, Any], options: Mapping[str, Any]) -> AnyMethod:
    """The base method; without one, an empty method, whose rules are all in the file."""
    if "base" not in content:
        if options:
            raise OptionError(f"Options are those of a base, and the key base is missing ({', '.join(options)}).")
        if not content.get("rules"):
            raise OptionError('The file has neither a base, such as base = "lrp-epsilon", nor a table [rules].')
        return Method("", {})
    name, inline = split_options(content["base"])
    return make_method(name, {**inline, **options})


def _start(name: str) -> Start:
    if name not in STARTS:
        raise OptionError(f"Unknown start {name!r}.{suggestion(name, STARTS)} Known starts: {', '.join(STARTS)}.")
    return STARTS[name]


def _rule(table: str, key: str, value: object) -> Rule:
    """Make the rule of one entry: ``"zplus"`` or ``{ rule = "gamma", gamma = 0.25 }``."""
    given: dict[str, Any] = {"rule": value} if isinstance(value, str) else dict(value) if isinstance(value, dict) else {}
    name = given.pop("rule", None)
    if not isinstance(name, str):
        examples = '"zplus" or { rule = "gamma", gamma = 0.25 }'
        raise OptionError(f"[{table}] {key} must be a rule, such as {examples}, not {value!r}.")
    try:
        return make_rule(name, given)
    except OptionError as error:
        raise OptionError(f"[{table}] {key}: {error}") from error


def _bounds(name: str, bounds: list[Any] | None) -> tuple[Any, Any] | None:
    if bounds is None:
        return None
    if len(bounds) != 2 or not all(isinstance(bound, int | float) and not isinstance(bound, bool) for bound in bounds):
        raise OptionError(f"bounds must be two numbers, the smallest and the largest value of an input, not {bounds!r}.")
    return input_bounds(name, *bounds)
