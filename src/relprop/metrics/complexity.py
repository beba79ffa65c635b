"""Complexity of an explanation: Gini index and entropy of the magnitudes of relevance. Neither measures correctness."""

import torch
from torch import Tensor

from relprop.metrics.base import MetricSpec, Need, Statistics, Value, identity
from relprop.metrics.maps import heatmap, wide


def complexity_update(relevance: Tensor) -> Statistics:
    """Return the Gini index and the entropy of each heat map's magnitudes.

    Args:
        relevance: ``(B, H, W)`` or ``(B, C, H, W)``, any scale.

    Returns:
        ``gini`` ``(B,)`` in [0, 1), ``Σ_i (2i − n − 1) s_i / n`` over the sorted shares ``s``: 0 if all pixels have the same magnitude.
        ``entropy`` ``(B,)`` in nats, ``−Σ s log s``, from 0 (one pixel has all) to log(H·W). Both are NaN for a map of zeros.
    """
    magnitude = wide(heatmap(relevance).abs().flatten(1)).sort(1).values
    share = magnitude / magnitude.sum(1, keepdim=True)
    count = share.shape[1]
    place = torch.arange(1, count + 1, device=share.device, dtype=share.dtype)
    return {
        "gini": ((2 * place - count - 1) * share).sum(1) / count,
        "entropy": torch.special.entr(share).sum(1),
    }


COMPLEXITY = MetricSpec(
    name="complexity",
    values=(
        Value("gini", "none", 0, 1, "sparseness of the magnitudes; higher is sparser"),
        Value("entropy", "none", 0, float("inf"), "entropy of the magnitudes in nats; lower is simpler"),
    ),
    needs=(Need.RELEVANCE,),
    update=complexity_update,
    compute=identity,
    source="Chalasani et al., ICML 2020, section 3 (Gini); Bhatt et al., IJCAI 2020, Definition 2.4 (entropy)",
)
