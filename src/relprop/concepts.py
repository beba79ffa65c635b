"""Concepts: the channels of a layer that carry the most relevance, and the samples that give a channel the most (Achtibat et al. 2023).

A map of one channel alone is ``explainer(images, concepts={"layer3": [5]})``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from relprop.errors import OptionError
from relprop.explainer import Explainer
from relprop.explanation import Explanation
from relprop.graph.grids import channel_dim
from relprop.methods.options import at_least


@dataclass(frozen=True)
class Reference:
    """A sample that gives a channel much relevance.

    Attributes:
        index: Its place in the data, from zero.
        relevance: The channel's relevance, summed over positions.
        relevance_map: Where in the input that relevance lies, ``(H, W)``: the map of the channel alone.
    """

    index: int
    relevance: float
    relevance_map: Tensor


def channel_relevance(explainer: Explainer, explanation: Explanation, layer: str) -> Tensor:
    """Sum the relevance of a layer over positions: ``(B, C)``, or ``(B, K, C)`` for several targets.

    Args:
        explainer: The explainer that made the explanation.
        explanation: An explanation with ``layers=[layer]``.
        layer: The path of the module.

    Raises:
        OptionError: The explanation lacks the layer.
    """
    if layer not in explanation.layers:
        raise OptionError(f"The explanation holds no relevance of {layer!r}; explain with layers=[{layer!r}].")
    part, several = explanation.layers[layer], explanation.absorbed.dim() == 2
    moved = part.movedim(channel_dim(explainer.plan.model, explainer.plan.layers[layer]) + several, -1)
    kept = 1 + several
    return moved.reshape(*moved.shape[:kept], -1, moved.shape[-1]).sum(kept)


def relevant_channels(
    explainer: Explainer, inputs: object, layer: str, target: object = None, *, count: int = 5
) -> list[list[tuple[int, float]]]:
    """List the channels of a layer with the most relevance, largest first: per sample, ``(channel, relevance)``.

    Args:
        explainer: Explains by a method that propagates relevance.
        inputs: A batch.
        layer: The path of the module.
        target: As in a call of the explainer, one map per sample.
        count: How many channels.

    Raises:
        OptionError: No relevance passes the layer, or ``count`` is below one.
    """
    at_least(1, count=count)
    found = channel_relevance(explainer, explainer(inputs, target, layers=[layer]), layer)
    values, channels = found.topk(min(count, found.shape[-1]), -1)
    return [list(zip(c, v, strict=True)) for c, v in zip(channels.tolist(), values.tolist(), strict=True)]


def reference_samples(
    explainer: Explainer, batches: Iterable[Any], layer: str, channels: Sequence[int], target: object = None, *, count: int = 8
) -> dict[int, list[Reference]]:
    """Find, for some channels, the samples of a data set that give each the most relevance, largest first (relevance maximization).

    Args:
        explainer: Explains images by a method that propagates relevance.
        batches: Batches of inputs; only those of the best samples so far are kept.
        layer: The path of the module.
        channels: Channels of its output.
        target: One class for all samples; None for the class that each is predicted to be.
        count: How many samples per channel.

    Raises:
        OptionError: No relevance passes the layer, a channel is out of range, or ``count`` is below one.
    """
    at_least(1, count=count)
    best: dict[int, list[tuple[float, int, Tensor]]] = {channel: [] for channel in channels}
    seen = 0
    for batch in batches:
        found = channel_relevance(explainer, explainer(batch, target, layers=[layer]), layer)
        outside = [c for c in channels if not 0 <= c < found.shape[-1]]
        if outside:
            raise OptionError(f"{layer!r} has no channel {outside[0]}; there are 0 to {found.shape[-1] - 1}.")
        for channel, held in best.items():
            new = [(float(v), seen + i, batch[i : i + 1]) for i, v in enumerate(found[:, channel])]
            best[channel] = sorted([*held, *new], key=lambda entry: (-entry[0], entry[1]))[:count]
        seen += len(found)
    return {channel: [_reference(explainer, layer, channel, target, entry) for entry in held] for channel, held in best.items()}


def _reference(explainer: Explainer, layer: str, channel: int, target: object, entry: tuple[float, int, Tensor]) -> Reference:
    relevance, index, sample = entry
    return Reference(index, relevance, explainer(sample, target, concepts={layer: [channel]}).heatmap()[0].detach())
