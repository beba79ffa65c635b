"""Surrogates: a linear model of the score, fitted on inputs with random segments hidden (LIME, KernelSHAP)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from relprop import draws
from relprop.attribution import Attributed, Attribution, Problem
from relprop.errors import OptionError
from relprop.graph.model import CapturedModel
from relprop.meaning import VOTES
from relprop.methods.gradients import by_sample
from relprop.methods.grids import note_channels, over_channels
from relprop.methods.options import as_reference, at_least, optional


@dataclass(frozen=True)
class Shown:
    """Inputs with random segments hidden, and their scores.

    Attributes:
        present: Whether each segment is shown, ``(n, segments)``, on the CPU.
        scores: ``(n,)``, on the CPU.
        likeness: Cosine similarity of each input to the whole one, ``(n,)``, on the CPU.
    """

    present: Tensor
    scores: Tensor
    likeness: Tensor


@dataclass(frozen=True)
class Surrogate:
    """A kind of linear model.

    Attributes:
        name: The method's name.
        draw: Samples, segments, generator → which segments are shown, ``(samples, segments)``.
        fit: Weights of the segments, ``(segments,)``.
    """

    name: str
    draw: Callable[[int, int, torch.Generator], Tensor]
    fit: Callable[[Shown], Tensor]


def _segments(image: Tensor, kind: str, count: int) -> Tensor:
    """Number the parts of one input that are hidden together, shaped like its positions.

    Raises:
        OptionError: Superpixels of a signal.
    """
    size = image.shape[2:]
    if kind == "grid":
        labels = torch.zeros((), dtype=torch.long)
        for n in size:
            cells = min(round(count ** (1 / len(size))) or 1, n)
            labels = labels.unsqueeze(-1) * cells + torch.arange(n) * cells // n
        return labels.to(image.device)
    if len(size) == 1:
        raise OptionError("Superpixels are parts of images and volumes, and this input is a signal; take segments='grid'.")
    slic = optional("skimage.segmentation", "scikit-image").slic
    low, high = image.amin(), image.amax()
    pixels = ((image[0] - low) / (high - low).clamp(min=torch.finfo(image.dtype).tiny)).movedim(0, -1).cpu().double().numpy()
    labels = torch.from_numpy(slic(pixels, n_segments=count, start_label=0, channel_axis=-1))
    return labels.long().to(image.device)


def _show(sample: Problem, segments: Tensor, present: Tensor, reference: Tensor, internal_batch_size: int) -> Shown:
    """Score the input with segments hidden behind the reference."""
    image = sample.image
    scores, likeness = list[Tensor](), list[Tensor]()
    for some in present.split(internal_batch_size):
        shown = torch.where(some.to(image.device)[:, segments].unsqueeze(1), image, reference)
        rows = torch.zeros(len(shown), dtype=torch.long, device=image.device)
        scores.append(sample.score(shown, rows=rows).double().cpu())
        likeness.append(F.cosine_similarity(image.flatten(1).float(), shown.flatten(1).float()).double().cpu())
    return Shown(present, torch.cat(scores), torch.cat(likeness))


def _surrogate(
    kind: Surrogate,
    segments: str,
    count: int,
    baseline: float | Tensor,
    samples: int,
    seed: int,
    internal_batch_size: int,
) -> Attribution:
    """Fit a linear model of the score over segments; each sample has a generator of its own, with the same seed."""
    at_least(1, samples=samples, internal_batch_size=internal_batch_size)
    at_least(2, count=count)
    at_least(0, seed=seed)

    def explain(sample: Problem) -> Attributed:
        image = sample.image
        parts = _segments(image, segments, count)
        found = int(parts.max()) + 1
        if found == 1:
            raise OptionError(
                f"count={count} leaves the input in one part; raise count or take other segments than {segments!r}."
            )
        present = kind.draw(samples, found, draws.generator(seed))
        weights = kind.fit(_show(sample, parts, present, as_reference(baseline, image), internal_batch_size))
        return Attributed([over_channels(weights.to(image)[parts][None], image)])

    return Attribution(kind.name, lambda problem: by_sample(problem, explain), note_channels)


def _halves(samples: int, segments: int, source: torch.Generator) -> Tensor:
    """Every segment is shown with probability one half."""
    return draws.uniform((samples, segments), source) < 0.5


def _coalitions(samples: int, segments: int, source: torch.Generator) -> Tensor:
    """All segments, none, and coalitions of ``k`` of ``M`` with probability in proportion to ``1 / (k (M − k))`` (Lundberg and Lee)."""
    sizes = torch.arange(1, segments, dtype=torch.float64)
    chances = (1 / (sizes * (segments - sizes))).cumsum(0)
    points = draws.uniform((max(samples - 2, 1),), source, torch.float64) * chances[-1]
    shown = 1 + torch.searchsorted(chances, points, right=True).clamp(max=segments - 2)
    order = torch.stack([draws.permutation(segments, source) for _ in shown])
    ends = torch.tensor([[True], [False]]).expand(2, segments)
    return torch.cat([ends, order < shown[:, None]])


def _shapley(shown: Shown) -> Tensor:
    """Least squares under the constraint that the weights add up to the whole image's score minus the reference's."""
    whole, none = shown.scores[:2]
    present, mean = shown.present[2:].double(), (whole - none) / shown.present.shape[1]
    # without their means rows are orthogonal to equal weights, so that the solution of the smallest norm adds up to zero
    design = present - present.mean(1, keepdim=True)
    rest = shown.scores[2:] - none - present.sum(1) * mean
    return mean + torch.linalg.lstsq(design, rest.unsqueeze(1), driver="gelsd").solution[:, 0]


def _check_scikit_learn(model: CapturedModel) -> tuple[str, ...]:
    optional("sklearn.linear_model", "scikit-learn")
    return note_channels(model)


def _lasso(alpha: float) -> Callable[[Shown], Tensor]:
    def fit(shown: Shown) -> Tensor:
        # it draws even for a cyclic order, which ignores the draw; without a state of its own, from the global generator
        model = optional("sklearn.linear_model", "scikit-learn").Lasso(alpha=alpha, random_state=0)
        model.fit(
            shown.present.double().numpy(), shown.scores.numpy(), sample_weight=(-((1 - shown.likeness) ** 2) / 2).exp().numpy()
        )
        return torch.from_numpy(model.coef_)

    return fit


def build_lime(
    *,
    segments: Literal["grid", "slic"] = "grid",
    count: int = 49,
    baseline: float | Tensor = 0.0,
    samples: int = 1000,
    alpha: float = 0.01,
    seed: int = 0,
    internal_batch_size: int = 32,
) -> Attribution:
    """LIME: weights of a sparse linear model of the score, fitted on inputs with random segments hidden.

    Args:
        segments: Parts that are hidden together: equal boxes, or superpixels by SLIC (needs scikit-image; not for signals).
        count: About how many segments.
        baseline: What hidden segments show, in the model's own units: a number, or a tensor that fits a sample.
        samples: Inputs that the linear model is fitted on.
        alpha: Strength of the Lasso penalty, in units of the score; too large a value leaves no segment.
        seed: Seed of the choice of hidden segments.
        internal_batch_size: Inputs per forward pass.
    """
    at_least(0, alpha=alpha)
    kind = Surrogate("lime", _halves, _lasso(alpha))
    lime = _surrogate(kind, segments, count, baseline, samples, seed, internal_batch_size)
    return replace(lime, check=_check_scikit_learn)


def build_kernel_shap(
    *,
    segments: Literal["grid", "slic"] = "grid",
    count: int = 49,
    baseline: float | Tensor = 0.0,
    samples: int = 1000,
    seed: int = 0,
    internal_batch_size: int = 32,
) -> Attribution:
    """KernelSHAP: Shapley values of segments, estimated by a weighted linear model.

    Args:
        segments: Parts that are hidden together: equal boxes, or superpixels by SLIC (needs scikit-image; not for signals).
        count: About how many segments.
        baseline: What hidden segments show, in the model's own units: a number, or a tensor that fits a sample.
        samples: Inputs that the linear model is fitted on.
        seed: Seed of the choice of hidden segments.
        internal_batch_size: Inputs per forward pass.
    """
    kind = Surrogate("kernel-shap", _coalitions, _shapley)
    return _surrogate(kind, segments, count, baseline, samples, seed, internal_batch_size)


SURROGATE_METHODS = (
    ("lime", build_lime, "Sparse linear model of the logit over hidden segments", "Ribeiro et al., KDD 2016", VOTES),
    (
        "kernel-shap",
        build_kernel_shap,
        "Shapley values of segments by a weighted linear model",
        "Lundberg and Lee, NeurIPS 2017",
        VOTES,
    ),
)
