"""Composites: which rule every op takes, and with which relevance the output starts."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import reduce
from typing import Any, Self

import torch
from torch import Tensor

from relprop.errors import OptionError, UnsupportedOpError, suggestion
from relprop.meaning import UNSAID, Meaning
from relprop.ops.op import Role
from relprop.ops.table import OPS
from relprop.rules.affine import unchanged
from relprop.rules.regional import RegionRule
from relprop.rules.registry import make_rule
from relprop.rules.rule import Rule
from relprop.rules.starts import STARTS, Start
from relprop.rules.sums import split_sum

Bounds = tuple[float | Tensor, float | Tensor] | None

_PASSING = (Role.GATE, Role.STATE, Role.NORM, Role.ACTIVATION, Role.SCALE, Role.BIAS, Role.SOFTMAX)
_TABLES = ("rules", "by_op", "by_path", "with_sums", "with_attention", "with_lookups")
_LIKE_DENSE = (Role.POOL, Role.ATTENTION, Role.PRODUCT, Role.READOUT)


@dataclass(frozen=True)
class Composite:
    """The rule of every op, by module path, op name or role, and the start.

    Attributes:
        name: As the registry and the plan call it.
        rules: The rule of every role, such as ``"dense"``, ``"conv"``, ``"add"``, see :class:`relprop.ops.op.Role`; a rule, or its
            name in ``relprop.rules.RULES``. Defaults: ``"input"`` and ``"output"``, the first and the last layer, take the rule of
            their kind, dense or conv; ``"pool"``, ``"attention"``, ``"product"`` and ``"readout"`` that of ``"dense"``; sums split by
            signed value; ops with one contributor pass relevance unchanged.
        by_op: Rules of single ops, by name, such as ``"conv2d"``; they override ``rules``.
        by_path: Rules of the dense and conv layers in a module, by path or pattern, such as ``"features.0"``, ``"layer4"`` or
            ``"layer?.0"``; the first match wins, and overrides ``by_op`` and ``rules``.
        with_sums: Rules that override ``rules`` in models that add values, as residual networks do.
        with_attention: Rules that override ``rules`` in models with attention.
        with_lookups: Rules that override ``rules`` in models that look up embeddings of their input, as of texts, which are padded.
        start: How the explained logits become relevance of the output, see :data:`relprop.methods.STARTS`.
        fold_batchnorm: Whether BatchNorm folds into the layer before it.
        bounds: Bounds of the model's input for the z-box rule, or None for those of every sample.
        precision: The lowest precision that it computes in, at least that of its rules; models of a lower one are raised to it.
        conserves: Whether the relevance of the inputs and the absorbed relevance add up to what the start gives: the logit, or a contrast.
        of_class: Whether maps of different classes differ; if not, an explanation of several classes says so.
        meaning: What its positive and negative values say, for the legends of pictures.
        needs: What a model must have, or None for any model.
        regional: Other rules from the output down to a value with regions, where evidence is counted by region; ``by_path`` holds above too.

    Raises:
        OptionError: An unknown role, or something that is no rule.
    """

    name: str
    rules: Mapping[Role | str, Rule | str]
    by_op: Mapping[str, Rule | str] = field(default_factory=dict[str, Rule | str])
    by_path: Mapping[str, Rule | str] = field(default_factory=dict[str, Rule | str])
    with_sums: Mapping[Role | str, Rule | str] = field(default_factory=dict[Role | str, Rule | str])
    with_attention: Mapping[Role | str, Rule | str] = field(default_factory=dict[Role | str, Rule | str])
    with_lookups: Mapping[Role | str, Rule | str] = field(default_factory=dict[Role | str, Rule | str])
    start: Start = STARTS["logit"]
    fold_batchnorm: bool = True
    bounds: Bounds = None
    precision: torch.dtype = torch.float32
    conserves: bool = True
    of_class: bool = True
    meaning: Meaning = UNSAID
    needs: "Needs | None" = None
    regional: "Regional | None" = None

    def __post_init__(self) -> None:
        for where in _TABLES:
            table: Mapping[Any, Rule | str] = getattr(self, where)
            object.__setattr__(self, where, {key: self._made(where, key, rule) for key, rule in table.items()})
        for role in (*self.rules, *self.with_sums, *self.with_attention, *self.with_lookups):
            if role not in list(Role):
                near = suggestion(role, map(str, Role))
                raise OptionError(f"Method {self.name!r}: unknown role {role!r}.{near} Known roles: {', '.join(Role)}.")
        given = {Role(role): rule for role, rule in self.rules.items()}
        like_dense = {role: given[Role.DENSE] for role in _LIKE_DENSE if Role.DENSE in given}
        object.__setattr__(self, "rules", transparent() | {Role.ADD: split_sum("signed", 1e-6)} | like_dense | given)
        needed = [rule.precision for where in _TABLES for rule in self._table(where).values()]
        if self.regional is not None:
            needed += [self.regional.above.precision, self.regional.with_attention.precision]
        object.__setattr__(self, "precision", reduce(torch.promote_types, needed, self.precision))

    def _made(self, where: str, key: object, rule: object) -> Rule:
        """Return a rule as it is, or make it by its name."""
        if isinstance(rule, Rule):
            return rule
        try:
            if isinstance(rule, str):
                return make_rule(rule, {})
        except OptionError as error:
            raise OptionError(f"Method {self.name!r}: {where}[{str(key)!r}]: {error}") from error
        wrong = f"{where}[{str(key)!r}] must be a rule of relprop.rules or its name, not {rule!r}."
        raise OptionError(f"Method {self.name!r}: {wrong}")

    @property
    def local(self) -> bool:
        """Whether all rules are local, so that dead code can be eliminated along dimensions and in fused projections."""
        return all(rule.local for where in _TABLES for rule in self._table(where).values())

    def _table(self, where: str) -> Mapping[str, Rule]:
        """One of the tables, names resolved to rules."""
        return getattr(self, where)

    def suited(self, kinds: Collection[Role]) -> Self:
        """Return the method for a model with ops of these kinds.

        Raises:
            UnsupportedOpError: The model lacks what the method needs.
        """
        if self.needs is not None and not any(kind in self.needs.roles for kind in kinds):
            raise UnsupportedOpError(
                f"Method {self.name!r} needs {self.needs.what}, and finds none in this model; take another method."
            )
        added = self.with_sums if Role.ADD in kinds else {}
        regional = self.regional
        if Role.ATTENTION in kinds:
            added = {**added, **self.with_attention}
            regional = None if regional is None else regional.suited()
        if Role.BLOCK in kinds:  # of values that carry relevance, lookups alone
            added = {**added, **self.with_lookups}
        rules = {**self.rules, **{Role(role): rule for role, rule in added.items()}}
        return replace(self, rules=rules, with_sums={}, with_attention={}, with_lookups={}, regional=regional)

    def above(self) -> "Composite":
        """Return the rules from the output down to the value with regions: the method itself where there is no such value."""
        return self if self.regional is None else replace(self.regional.above, name=self.name, by_path=self.by_path)

    def rule(self, role: Role, kind: Role, op: str, path: str) -> Rule | None:
        """Return the rule of an op, by its module path, its name, its refined role, or the kind of layer that it is."""
        if kind in {Role.CONV, Role.DENSE}:
            for pattern, rule in self._table("by_path").items():
                if _fits(path, pattern):
                    return rule
        by_op, rules = self._table("by_op").get(op.removeprefix("aten::")), self._table("rules")
        return by_op or rules.get(role) or rules.get(kind)

    def check_matches(self, ops: Iterable[str], paths: Iterable[str]) -> None:
        """Refuse rules for ops that do not exist, and for paths without a layer; ``paths`` are those of the model's dense and conv layers.

        Raises:
            OptionError: A name or pattern fits nothing; the message suggests near ones.
        """
        known = {op.removeprefix("aten::") for op in ops}
        for op in self.by_op:
            if op not in known and op not in OPS and f"aten::{op}" not in OPS:
                near = suggestion(op, known)
                raise OptionError(f"Method {self.name!r}: there is no op {op!r}.{near} `relprop inspect` lists those of a model.")
        layers = list(dict.fromkeys(paths))
        for pattern in self.by_path:
            if not any(_fits(path, pattern) for path in layers):
                near = suggestion(pattern, layers)
                wrong = f"no dense or conv layer lies in {pattern!r}.{near} `relprop inspect` lists the modules."
                raise OptionError(f"Method {self.name!r}: {wrong}")


@dataclass(frozen=True)
class Needs:
    """What a model must have for a method: an op of one of these roles, and in words what that is."""

    roles: frozenset[Role]
    what: str


@dataclass(frozen=True)
class Regional:
    """Two composites that meet at a value with regions: evidence arrives there by the rules above, and goes on by region.

    Attributes:
        above: The rules from the output down to the value; of its other fields none counts.
        with_attention: The same in models with attention.
        rule: How the relevance that arrives at the value is shared anew.
        depth: In models with attention, the share of the attention layers that lie before the value.
        blocks: In other models, how many blocks with weights lie between the value and the last value with regions; None for the usual.
        layer: Path of the module whose output is the value; found where left out.
        unpooled: Whether in models without attention the value is the one before the pools that lead to it.
        flattened: Other settings for models without attention in which a hidden dense layer reads every place of the last value with regions.
    """

    above: Composite
    with_attention: Composite
    rule: RegionRule
    depth: float = 1.0
    blocks: int | None = 0
    layer: str | None = None
    unpooled: bool = False
    flattened: "Regional | None" = None

    def suited(self) -> Self:
        """Return the settings for a model with attention."""
        return replace(self, above=self.with_attention.suited([Role.ATTENTION]), flattened=None)


def _fits(path: str, pattern: str) -> bool:
    """Whether the module at ``path`` matches the pattern, or is nested in a module that does."""
    return fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern}.*")


def transparent() -> dict[Role | str, Rule]:
    """The default of ops with one contributor: relevance passes unchanged."""
    return dict.fromkeys(_PASSING, unchanged())
