"""Targets of an output ``(B, C)``: classes, labels, and numbers."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from relprop.errors import TargetError
from relprop.targets.asked import Aim, Asked, Head
from relprop.targets.kinds import Binary, Class, Classes, Contrast, Index, Output
from relprop.targets.names import class_index, class_indices
from relprop.text import numbered_class


def of_indices(target: object, output: Tensor, head: Head) -> Asked:
    """Ask for classes that are given by indices or names, ``(B,)`` or ``(B, K)``; None for the predicted one, or the only number."""
    if target is None and output.dim() == 1:
        return of_output(Output(), output, head)
    indices = class_indices(target, output, head.labels)
    several = indices.dim() == 2
    columns = indices if several else indices[:, None]
    # one-hot rows of all targets at once, (B, K, C)
    hot = output.new_zeros(*columns.shape, output.shape[1]).scatter(2, columns.unsqueeze(2), 1.0)
    aims = tuple(Aim(weights, classes) for weights, classes in zip(hot.unbind(1), columns.unbind(1), strict=True))
    words = tuple(", ".join(numbered_class(index, head.labels) for index in row) for row in columns.tolist())
    return Asked(aims, several, indices, words)


def of_class(target: Class, output: Tensor, head: Head) -> Asked:
    """Ask for one class of all samples."""
    return of_indices(_index(target.index, output, head), output, head)


def of_classes(target: Classes, output: Tensor, head: Head) -> Asked:
    """Ask for several classes: each on its own, or the sum of their logits."""
    indices = _group(target.indices, output, head)
    if not target.together:
        return of_indices(torch.tensor([indices] * len(output)), output, head)
    weights = torch.zeros_like(output)
    weights[:, indices] = 1
    words = " + ".join(numbered_class(index, head.labels) for index in indices)
    return Asked((Aim(weights),), words=(f"the sum of {words}",) * len(output))


def of_contrast(target: Contrast, output: Tensor, head: Head) -> Asked:
    """Ask for the difference of two logits."""
    _check_classes(output, target)
    if output.shape[1] == 1:
        raise TargetError("A contrast sets one class against another, and the model has a single output; take Output().")
    ours = output.argmax(1) if target.index is None else torch.full_like(output[:, 0], _index(target.index, output, head)).long()
    others = output.scatter(1, ours[:, None], -torch.inf).argmax(1)
    theirs = others if target.rival is None else torch.full_like(ours, _index(target.rival, output, head))
    if bool((ours == theirs).any()):
        alike = numbered_class(int(ours[ours == theirs][0]), head.labels)
        raise TargetError(f"A contrast sets one class against another, and both are {alike}.")
    weights = torch.zeros_like(output).scatter(1, ours[:, None], 1.0).scatter(1, theirs[:, None], -1.0)
    pairs = zip(ours.tolist(), theirs.tolist(), strict=True)
    words = tuple(f"{numbered_class(a, head.labels)} rather than {numbered_class(b, head.labels)}" for a, b in pairs)
    return Asked((Aim(weights),), words=words)


def of_binary(target: Binary, output: Tensor, head: Head) -> Asked:
    """Ask for one label of a multi-label head."""
    if head.activation == "softmax":
        raise TargetError(
            f"{target} asks for a label of a sigmoid head, and the model ends in a softmax; take Class({target.index!r})."
        )
    index = _index(target.index, output, head)
    asked = of_indices(index, output, head)
    (aim,) = asked.aims
    words = (f"label {numbered_class(index, head.labels)}",) * len(output)
    return replace(asked, aims=(replace(aim, classes=None, kind="label"),), words=words)


def of_output(target: Output, output: Tensor, _: Head) -> Asked:
    """Ask for a number that the model returns."""
    flat = output.unsqueeze(1) if output.dim() == 1 else output
    if flat.dim() != 2:
        raise TargetError(
            f"Output() explains one number of each sample, and the output has shape {tuple(output.shape)}; take Neuron(None, …)."
        )
    count = flat.shape[1]
    if target.index is None and count > 1:
        raise TargetError(
            f"The model returns {count} numbers; name one of them, such as Output(0), or Class(0) where they are classes."
        )
    index = class_index(target.index or 0, None, count)
    weights = torch.zeros_like(flat)
    weights[:, index] = 1
    minus = f" minus {target.reference:g}" * bool(target.reference)
    words = (f"output{f' {index}' * (count > 1)}{minus}",) * len(output)
    return Asked((Aim(weights.reshape(output.shape), kind="number"),), words=words)


def _check_classes(output: Tensor, target: object) -> None:
    if output.dim() != 2:
        raise TargetError(
            f"{type(target).__name__} needs an output (batch, classes), and this one has shape {tuple(output.shape)}."
        )


def _index(name: Index, output: Tensor, head: Head) -> int:
    if output.dim() != 2:
        class_indices(None, output)  # says which targets suit the output
    return class_index(name, head.labels, output.shape[1])


def _group(names: Sequence[Index], output: Tensor, head: Head) -> list[int]:
    if isinstance(names, str) or not isinstance(names, Sequence) or not names:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TargetError(f"Classes takes a list of classes, not {names!r}.")
    indices = [_index(name, output, head) for name in names]
    if len(set(indices)) < len(indices):
        raise TargetError(f"Classes names a class twice: {indices}.")
    return indices
