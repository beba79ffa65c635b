"""Targets of outputs with places: pixels, boxes, units, and the similarity of embeddings."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from relprop.errors import TargetError
from relprop.heads import decided
from relprop.targets.asked import Aim, Asked, Head
from relprop.targets.kinds import Box, Neuron, Pixels, Similarity
from relprop.targets.names import class_index, whole
from relprop.text import counted, numbered_class


def of_pixels(target: Pixels, output: Tensor, head: Head) -> Asked:
    """Ask for the mean logit of a class at some pixels."""
    if output.dim() < 3:
        raise TargetError(
            f"Pixels needs the output of a segmentation (batch, classes, rows, columns), and this one has shape {tuple(output.shape)}."
        )
    region, where = _region(target, output)
    won = decided(output, head.activation)
    if target.index is None:
        classes = (won * (1 if region is None else region.unsqueeze(1))).flatten(2).sum(2).argmax(1)
    else:
        index = class_index(target.index, head.labels, output.shape[1])
        classes = torch.full((len(output),), index, device=output.device)
    if region is None:
        region = won[torch.arange(len(won)), classes].to(output)
        _check_predicted(region, won, classes, head)
    share = region / region.flatten(1).sum(1).reshape(-1, *[1] * (region.dim() - 1))
    weights = torch.zeros_like(output)
    weights[torch.arange(len(weights)), classes] = share
    counts = region.gt(0).flatten(1).sum(1).tolist()
    words = tuple(
        f"{numbered_class(int(index), head.labels)} {where(count)}" for index, count in zip(classes, counts, strict=True)
    )
    return Asked((Aim(weights, classes),), words=words, places=True)


def _region(target: Pixels, output: Tensor) -> tuple[Tensor | None, Callable[[int], str]]:
    """The weights of the pixels, ``(B, …)``, None for the predicted ones; and where they are, in words."""
    given = {name: value for name in ("mask", "point", "box") if (value := getattr(target, name)) is not None}
    if len(given) > 1:
        raise TargetError(f"Pixels takes a mask, a point or a box, not {' and '.join(given)}.")
    size = tuple(output.shape[2:])
    if target.mask is not None:
        return _mask(target.mask, output), lambda count: f"at {counted(count, 'pixel')} of a mask"
    region = output.new_zeros(len(output), *size)
    if target.point is not None:
        place = _place(target.point, size, "The point")
        region[(slice(None), *place)] = 1
        return region, lambda _: f"at pixel {'×'.join(map(str, place))}"
    if target.box is not None:
        left, top, right, bottom = _corners(target.box, size)
        region[:, top:bottom, left:right] = 1
        return region, lambda _: f"in the box {left}×{top} to {right}×{bottom}"
    return None, lambda count: f"at the {counted(count, 'pixel')} where it is predicted"


def _mask(given: Any, output: Tensor) -> Tensor:  # noqa: ANN401 - what users have: tensors, arrays, lists
    """Read a mask as weights, ``(B, …)``."""
    try:
        mask = torch.as_tensor(given).to(output)
    except (TypeError, ValueError, RuntimeError):
        raise TargetError(f"The mask must be a tensor or an array, not {type(given).__name__}.") from None
    size = tuple(output.shape[2:])
    mask = mask.unsqueeze(0) if mask.dim() == len(size) else mask
    if tuple(mask.shape[1:]) != size or len(mask) not in {1, len(output)}:
        shown = "×".join(map(str, size))
        raise TargetError(
            f"The mask has shape {tuple(torch.as_tensor(given).shape)}, and the model's output {shown} pixels of {counted(len(output), 'sample')}; "
            "resize the mask to them."
        )
    if not bool(((mask >= 0) & (mask <= 1)).all()):
        raise TargetError("The mask must hold booleans, or weights from 0 to 1.")
    empty = mask.flatten(1).sum(1) == 0
    if bool(empty.any()):
        raise TargetError(f"The mask of sample {int(empty.nonzero()[0])} is empty; mark at least one pixel.")
    return mask.expand(len(output), *size)


def _check_predicted(region: Tensor, won: Tensor, classes: Tensor, head: Head) -> None:
    """Refuse a class that is predicted nowhere; name those that are predicted at most pixels."""
    empty = region.flatten(1).sum(1) == 0
    if not bool(empty.any()):
        return
    sample = int(empty.nonzero()[0])
    counts = won[sample].flatten(1).sum(1)
    most = [i for i in counts.argsort(descending=True).tolist()[:3] if counts[i]]
    there = f"; the most frequent there: {', '.join(numbered_class(i, head.labels) for i in most)}" if most else ""
    what = numbered_class(int(classes[sample]), head.labels)
    raise TargetError(
        f"{what[0].upper()}{what[1:]} is predicted at no pixel of sample {sample}{there}. Give a mask, a point or a box."
    )


def _place(given: Any, size: tuple[int, ...], what: str) -> tuple[int, ...]:  # noqa: ANN401 - as below
    place = _integers(given, len(size), what)
    if not all(0 <= index < length for index, length in zip(place, size, strict=True)):
        raise TargetError(f"{what} {'×'.join(map(str, place))} lies outside of the output of {'×'.join(map(str, size))}.")
    return place


def _corners(given: Sequence[int], size: tuple[int, ...]) -> tuple[int, ...]:
    if len(size) != 2:
        raise TargetError(
            f"A box needs an output of rows and columns, and this one has {counted(len(size), 'dimension')} of places."
        )
    left, top, right, bottom = _integers(given, 4, "The box")
    if not (0 <= left < right <= size[1] and 0 <= top < bottom <= size[0]):
        raise TargetError(
            f"The box {left}×{top} to {right}×{bottom} (left×top to right×bottom) is empty or leaves the output, "
            f"{size[1]} columns by {size[0]} rows."
        )
    return left, top, right, bottom


def _integers(given: Any, count: int, what: str) -> tuple[int, ...]:  # noqa: ANN401 - users may give anything
    numbers = [whole(i) for i in given] if isinstance(given, Sequence | Tensor) and len(given) == count else [None]
    if any(number is None for number in numbers):
        raise TargetError(f"{what} must be {count} integers, not {given!r}.")
    return tuple(number for number in numbers if number is not None)


def of_box(target: Box, output: Tensor, head: Head) -> Asked:
    """Ask for the logit of a class at one box."""
    if output.dim() != 3:
        raise TargetError(
            f"Box needs the raw class logits of a detector, (batch, boxes, classes), and the output has shape {tuple(output.shape)}; "
            "choose it with output=…, such as output='cls_logits'."
        )
    batch, boxes, classes = output.shape
    number = None if target.index is None else _number(target.index, boxes, "box")
    category = None if target.category is None else class_index(target.category, head.labels, classes)
    scores = output if category is None else output[:, :, category, None]
    scores = scores if number is None else scores[:, number, None]
    best = scores.flatten(1).argmax(1)
    chosen = best // scores.shape[2] if number is None else torch.full_like(best, number)
    category_of = best % scores.shape[2] if category is None else torch.full_like(best, category)
    weights = torch.zeros_like(output)
    weights[torch.arange(batch), chosen, category_of] = 1
    pairs = zip(chosen.tolist(), category_of.tolist(), strict=True)
    words = tuple(f"{numbered_class(index, head.labels)} at box {place}" for place, index in pairs)
    return Asked((Aim(weights, category_of, class_dim=2),), words=words, places=True)


def of_similarity(target: Similarity, output: Tensor, _: Head) -> Asked:
    """Ask for the product of an embedding with a vector; for a cosine the output has length one already."""
    if output.dim() != 2:
        raise TargetError(
            f"Similarity needs embeddings (batch, features), and the output has shape {tuple(output.shape)}; choose them with output=…."
        )
    if target.measure not in {"cosine", "dot"}:
        raise TargetError(f"The measure of a similarity is 'cosine' or 'dot', not {target.measure!r}.")
    try:
        vector = torch.as_tensor(target.vector).detach().to(output)
    except (TypeError, ValueError, RuntimeError):
        raise TargetError(
            f"The vector of a similarity must be a tensor or an array, not {type(target.vector).__name__}."
        ) from None
    shape = tuple(vector.shape)
    vector = vector.unsqueeze(0) if vector.dim() == 1 else vector
    if vector.dim() != 2 or vector.shape[1] != output.shape[1] or len(vector) not in {1, len(output)}:
        raise TargetError(
            f"The vector has shape {shape}; for these embeddings it must be ({output.shape[1]},) or {tuple(output.shape)}."
        )
    length = vector.norm(dim=1, keepdim=True)
    if not bool(vector.isfinite().all()) or bool((length == 0).any()):
        raise TargetError("The vector of a similarity is zero, or holds NaN or infinite values.")
    vector = vector / length if target.measure == "cosine" else vector
    words = (f"similarity ({target.measure}) to a vector",) * len(output)
    return Asked((Aim(vector.expand_as(output).contiguous(), kind="number"),), words=words)


def of_neuron(target: Neuron, output: Tensor, head: Head) -> Asked:
    """Ask for one element of the output, or the mean of a channel over positions."""
    where = "the output" if target.layer is None else target.layer
    weights, size = torch.zeros_like(output), tuple(output.shape[1:])
    single = whole(target.index)
    if single is not None and len(size) > 1:
        channel = _number(single, output.shape[head.channel_dim], "channel")
        weights.select(head.channel_dim, channel).fill_(output.shape[head.channel_dim] / weights[0].numel())
        return Asked((Aim(weights, kind="number"),), words=(f"channel {channel} of {where}",) * len(output))
    place = _place(target.index if single is None else (single,), size, "The unit")
    weights[(slice(None), *place)] = 1
    words = (f"unit {'×'.join(map(str, place))} of {where}",) * len(output)
    return Asked((Aim(weights, kind="number"),), words=words, places=len(size) > 1)


def _number(given: object, count: int, what: str) -> int:
    number = whole(given)
    if number is None or not 0 <= number < count:
        raise TargetError(f"There is no {what} {given!r}; they go from 0 to {count - 1}.")
    return number
