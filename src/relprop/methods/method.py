"""What a method is: one rule per role, and a start."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from relprop.errors import OptionError
from relprop.methods.starts import STARTS, Start
from relprop.ops.registry import Role
from relprop.rules import Rule, unchanged


@dataclass(frozen=True)
class Method:
    """A way of explaining.

    Attributes:
        name: As the registry and the plan call it.
        rules: The rule of every role. Where the roles ``input`` and ``output`` are left out, the first and last layers are treated as the
            dense or conv layers that they are; other roles that are left out let nothing through.
        by_op: Rules of single ops, by name, such as ``"conv2d"``; they go before roles.
        by_path: Rules of all weighted layers below a module path, by pattern, such as ``"features.0"`` or ``"layer4.*"``; they go first.
        start: How the explained logits become relevance of the output.
        fold_batchnorm: Whether BatchNorm folds into the layer before it.
        box: Bounds of the model's input for the first layer's rule, or None for those of every sample.
        conserves: Whether the relevance of the inputs and what was absorbed add up to the explained logit.
    """

    name: str
    rules: Mapping[Role, Rule]
    by_op: Mapping[str, Rule] = field(default_factory=dict[str, Rule])
    by_path: Mapping[str, Rule] = field(default_factory=dict[str, Rule])
    start: Start = STARTS["logit"]
    fold_batchnorm: bool = True
    box: tuple[Tensor | float, Tensor | float] | None = None
    conserves: bool = True

    def rule(self, role: Role, kind: Role, op: str, path: str) -> Rule | None:
        """The rule of an op, by its module path, its name, its refined role, or the kind of layer that it is; None if it has none."""
        if kind in {Role.CONV, Role.DENSE}:
            for pattern, rule in self.by_path.items():
                if fnmatchcase(path, pattern):
                    return rule
        by_op = self.by_op.get(op.removeprefix("aten::"))
        return by_op or self.rules.get(role) or self.rules.get(kind)


def transparent() -> dict[Role, Rule]:
    """What most methods agree on: ops with one contributor pass relevance unchanged."""
    return dict.fromkeys((Role.GATE, Role.NORM, Role.ACTIVATION, Role.SCALE, Role.BIAS, Role.SOFTMAX), unchanged())


def input_box(method: str, low: float | Tensor | None, high: float | Tensor | None) -> tuple[float | Tensor, float | Tensor] | None:
    """Check the bounds of the input: both or neither, and in order."""
    if low is None or high is None:
        if low is not high:
            raise OptionError(f"Method {method!r}: give both low and high, or neither.")
        return None
    if not bool((torch.as_tensor(low) <= torch.as_tensor(high)).all()):
        raise OptionError(f"Method {method!r}: low must not be above high.")
    return low, high
