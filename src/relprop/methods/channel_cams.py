"""Class activation maps without gradients: channels weighted by the score with or without them, or by their principal component."""

from functools import partial

import torch
from torch import Tensor

from relprop.attribution import Attributed, Attribution, Problem
from relprop.meaning import REGION, Meaning
from relprop.methods.cams import note_layer
from relprop.methods.grids import as_relevance, resized
from relprop.methods.layers import Grid, find_grid
from relprop.methods.options import at_least


def _activation(problem: Problem, grid: Grid) -> tuple[Tensor, Tensor]:
    """The layer's values as they are, and as maps ``(B, C, …)``."""
    _, kept = problem.model.run(problem.given, keep=[grid.node])
    return kept[grid.node], grid.to_maps(kept[grid.node])


def _most_varied(activation: Tensor, channels: int | None) -> Tensor:
    """The indices of the channels of ``(C, …)`` that vary most over the positions, in their order; of all where None."""
    if channels is None:
        return torch.arange(len(activation), device=activation.device)
    return activation.flatten(1).var(1).topk(min(channels, len(activation))).indices.sort().values


def build_score_cam(*, layer: str | None = None, channels: int | None = None, internal_batch_size: int = 16) -> Attribution:
    """Score-CAM: every channel is weighted by the score of the image seen through it; needs one forward pass per channel.

    Args:
        layer: Path of the module whose output is mapped; left out, the last one that fits.
        channels: Use only this many channels, those that vary most over the image; left out, all.
        internal_batch_size: Masked images per forward pass.
    """
    at_least(1, channels=channels, internal_batch_size=internal_batch_size)

    def explain(sample: Problem) -> Tensor:
        activation = _activation(sample, find_grid(sample.model, layer))[1][0]
        activation = activation[_most_varied(activation, channels)]
        scores = [_masked_scores(sample, part) for part in activation.split(internal_batch_size)]
        weights = torch.cat(scores).softmax(0)
        return torch.einsum("c,c...->...", weights, activation).clamp(min=0)

    def attribute(problem: Problem) -> Attributed:
        return as_relevance(problem, torch.stack([explain(sample) for sample in problem.samples()]))

    return Attribution("score-cam", attribute, partial(note_layer, layer), fold_batchnorm=False)


def _masked_scores(sample: Problem, activation: Tensor) -> Tensor:
    """The scores of the image times each of some channels, scaled to [0, 1]; a channel without contrast masks everything."""
    masks = resized(activation, sample.image)
    places = tuple(range(1, masks.dim()))
    low, high = masks.amin(places, keepdim=True), masks.amax(places, keepdim=True)
    masks = torch.where(high > low, (masks - low) / torch.where(high > low, high - low, 1.0), 0.0)
    rows = torch.zeros(len(masks), dtype=torch.long, device=masks.device)
    return sample.score(sample.image * masks.unsqueeze(1), rows=rows)


def build_ablation_cam(*, layer: str | None = None, channels: int | None = None, internal_batch_size: int = 16) -> Attribution:
    """Ablation-CAM: every channel is weighted by the share of the score that is lost without it; one forward pass per channel.

    The weight of channel ``k`` is ``(y − y_k) / y``, with ``y_k`` the score where the channel is zero (Eq. 3), so where the score is
    negative, channels that speak against the class are shown.

    Args:
        layer: Path of the module whose output is mapped; left out, the last one that fits.
        channels: Use only this many channels, those that vary most over the image; left out, all.
        internal_batch_size: Channels per forward pass.
    """
    at_least(1, channels=channels, internal_batch_size=internal_batch_size)

    def explain(sample: Problem) -> Tensor:
        grid = find_grid(sample.model, layer)
        value, maps = _activation(sample, grid)
        chosen = _most_varied(maps[0], channels)
        whole = sample.score(*sample.inputs)
        left = torch.cat([_without(sample, grid, value, part) for part in chosen.split(internal_batch_size)])
        weights = (whole - left) / torch.where(whole == 0, 1.0, whole)
        return torch.einsum("c,c...->...", weights, maps[0][chosen]).clamp(min=0)

    def attribute(problem: Problem) -> Attributed:
        return as_relevance(problem, torch.stack([explain(sample) for sample in problem.samples()]))

    return Attribution("ablation-cam", attribute, partial(note_layer, layer), fold_batchnorm=False)


def _without(sample: Problem, grid: Grid, value: Tensor, channels: Tensor) -> Tensor:
    """The scores where one of some channels of the layer is zero."""
    kept = torch.ones(len(channels), value.shape[grid.channel_dim], dtype=value.dtype, device=value.device)
    kept[torch.arange(len(channels)), channels] = 0
    shape = [len(channels)] + [1] * (value.dim() - 1)
    shape[grid.channel_dim] = -1
    ablated = value * kept.reshape(shape)
    if not sample.model.dynamic:
        return torch.cat([_scored(sample, grid, one) for one in ablated.split(1)])
    return _scored(sample, grid, ablated)


def _scored(sample: Problem, grid: Grid, value: Tensor) -> Tensor:
    """The scores with other values of the layer; the layers before it run in vain, but on the batch that those after it expect."""
    rows = torch.zeros(len(value), dtype=torch.long, device=value.device)
    given = sample.with_inputs([x.expand(len(value), *x.shape[1:]) for x in sample.inputs], rows)
    outputs, _ = sample.model.run(given, {grid.node: lambda *_, **__: value})
    return sample.weigh(outputs, rows)


def principal(activation: Tensor) -> Tensor:
    """Project maps ``(B, C, …)`` on their first principal component over the positions, ``(B, …)``; the largest value is positive."""
    positions = activation.flatten(2).mT
    positions = positions - positions.mean(1, keepdim=True)
    direction = torch.linalg.svd(positions, full_matrices=False).Vh[:, 0]
    projected = torch.einsum("bpc,bc->bp", positions, direction)
    sign = projected.gather(1, projected.abs().argmax(1, keepdim=True)).sign()
    return (projected * sign).unflatten(1, activation.shape[2:])


def build_eigen_cam(*, layer: str | None = None) -> Attribution:
    """Eigen-CAM: the first principal component of the layer's channels; it does not depend on the class.

    Channels are centered over the positions, and the sign, which a decomposition leaves open, makes the largest value positive.

    Args:
        layer: Path of the module whose output is mapped; left out, the last one that fits.
    """

    def attribute(problem: Problem) -> Attributed:
        _, maps = _activation(problem, find_grid(problem.model, layer))
        return as_relevance(problem, principal(maps).clamp(min=0))

    return Attribution("eigen-cam", attribute, partial(note_layer, layer), fold_batchnorm=False)


CHANNEL_CAM_METHODS = (
    (
        "score-cam",
        build_score_cam,
        "Last layer's channels, weighted by the score seen through each",
        "Wang et al., CVPRW 2020",
        REGION,
    ),
    (
        "ablation-cam",
        build_ablation_cam,
        "Last layer's channels, weighted by what the score loses without each",
        "Ramaswamy et al., WACV 2020",
        REGION,
    ),
    (
        "eigen-cam",
        build_eigen_cam,
        "First principal component of the last layer's channels",
        "Muhammad and Yeasin, IJCNN 2020",
        Meaning("stands out there", ""),
    ),
)
