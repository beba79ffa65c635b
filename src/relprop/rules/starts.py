"""Starts: how the explained logits become relevance of the output."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from relprop.errors import TargetError
from relprop.targets import Aim

Start = Callable[[Tensor, Tensor], list[tuple[float, Tensor]]]
"""``(logits (B, C), target (B,)) -> [(factor, relevance of the output (B, C)), …]``; the maps of several passes add up, times factor."""


def _at(values: Tensor, target: Tensor) -> Tensor:
    """Keep the entry at the target, zero elsewhere."""
    index = target.unsqueeze(-1)
    return torch.zeros_like(values).scatter(-1, index, values.gather(-1, index))


def _need_others(logits: Tensor, method: str, instead: str) -> None:
    """Refuse a single class.

    Raises:
        TargetError: There is nothing to compare the class with.
    """
    if logits.shape[-1] == 1:
        raise TargetError(
            f"{method} compares the class with all others, and what is explained is no class among several; {instead}, or start=logit."
        )


def _logit(logits: Tensor, target: Tensor) -> list[tuple[float, Tensor]]:
    """The logit at the target (Bach et al. 2015)."""
    return [(1.0, _at(logits, target))]


def _one(logits: Tensor, target: Tensor) -> list[tuple[float, Tensor]]:
    """One at the target, as zennit does by default."""
    return [(1.0, _at(torch.ones_like(logits), target))]


def _contrastive(logits: Tensor, target: Tensor) -> list[tuple[float, Tensor]]:
    """Contrastive LRP (Gu et al. 2018): the target's logit at the target, minus the same spread over all other classes."""
    _need_others(logits, "CLRP", "take lrp-zplus")
    own = _at(logits, target)
    others = (
        (own.sum(-1, keepdim=True) - own)
        / (logits.shape[-1] - 1)
        * (own.new_ones(own.shape) - _at(torch.ones_like(logits), target))
    )
    return [(1.0, own - others)]


def _against_others(logits: Tensor, target: Tensor) -> list[tuple[float, Tensor]]:
    """Contrastive absLRP: the map of one at the target, minus the map of equal parts, in sum one, at all other classes."""
    _need_others(logits, "Contrastive absLRP", "take abslrp-plain")
    own = _at(torch.ones_like(logits), target)
    return [(1.0, own), (-1.0, (1 - own) / (logits.shape[-1] - 1))]


def _softmax_gradient(logits: Tensor, target: Tensor) -> list[tuple[float, Tensor]]:
    """Softmax-gradient LRP (Iwana et al. 2019): the gradient of the target's probability, ``y_t (δ − y)``.

    At the target, ``1 − y_t`` is the sum of the other probabilities: a difference would be rounding error where ``y_t`` is nearly one.
    """
    _need_others(logits, "SGLRP", "take lrp-alpha1-beta0")
    probabilities = logits.softmax(-1)
    own = _at(probabilities, target)
    others = probabilities - own
    against = _at(others.sum(-1, keepdim=True).expand_as(others), target)
    return [(1.0, own.sum(-1, keepdim=True) * (against - others))]


def _minus(logits: Tensor, target: Tensor, shares: Tensor, name: str) -> list[tuple[float, Tensor]]:
    """The target's logit minus the mixture of the others in which each has its share: ``y_t − Σ_j q_j y_j``."""
    _need_others(logits, f"start={name}", "take another start")
    return [(1.0, _at(logits, target) - shares * logits)]


def _others(logits: Tensor, target: Tensor) -> Tensor:
    """The logits without the target's, which is −∞."""
    return logits.scatter(-1, target.unsqueeze(-1), -torch.inf)


def _minus_softmax(logits: Tensor, target: Tensor) -> list[tuple[float, Tensor]]:
    """The target's logit minus the others', weighted by their softmax: what the strongest competitors lack."""
    return _minus(logits, target, _others(logits, target).softmax(-1).nan_to_num(), "softmax")


def _minus_mean(logits: Tensor, target: Tensor) -> list[tuple[float, Tensor]]:
    """The target's logit minus the mean of the others; the logit itself where there is no other."""
    count = logits.shape[-1] - 1
    if not count:
        return _logit(logits, target)
    return _minus(logits, target, (1 - _at(torch.ones_like(logits), target)) / count, "mean")


_SIMILAR = 3


def _minus_similar(logits: Tensor, target: Tensor) -> list[tuple[float, Tensor]]:
    """The target's logit minus the mean of the three classes whose logits are nearest to it (Finer-CAM, Zhang et al., CVPR 2025)."""
    distance = (_others(logits, target) - logits.gather(-1, target.unsqueeze(-1))).abs()
    count = max(min(_SIMILAR, logits.shape[-1] - 1), 1)
    nearest = distance.topk(count, -1, largest=False).indices
    return _minus(logits, target, torch.zeros_like(logits).scatter(-1, nearest, 1 / count), "finer")


STARTS: Mapping[str, Start] = {
    "logit": _logit,
    "one": _one,
    "abslrp": _against_others,
    "clrp": _contrastive,
    "sglrp": _softmax_gradient,
    "softmax": _minus_softmax,
    "mean": _minus_mean,
    "finer": _minus_similar,
}
"""Every start by name; an option of every propagation method."""
CONTRASTIVE = (_against_others, _contrastive, _softmax_gradient, _minus_softmax, _minus_mean, _minus_similar)
"""The starts that set the target against the other classes."""


def start_of(start: Start, output: Tensor, aim: Aim) -> list[tuple[float, Tensor]]:
    """Return the factors and the relevance of the output, shaped like it, with which an aim starts.

    At every place of the output the classes there are the logits of the start, weighted by the place's share in the aim. Where no class is
    named every element stands alone, as the only class of its place.

    Raises:
        TargetError: The start needs several classes, and there are none.
    """
    dim = -1 if aim.classes is None else aim.class_dim
    logits, weights = (part.unsqueeze(-1) if aim.classes is None else part.movedim(dim, -1) for part in (output, aim.weights))
    places = logits.shape[:-1]
    if aim.classes is None:
        target = torch.zeros(places, dtype=torch.long, device=output.device)
    else:
        target = aim.classes.reshape(-1, *[1] * (len(places) - 1)).expand(places)
    shares = weights.sum(-1, keepdim=True)
    found = [(factor, relevance * shares) for factor, relevance in start(logits, target)]
    return [(factor, part.squeeze(-1) if aim.classes is None else part.movedim(-1, dim)) for factor, part in found]
