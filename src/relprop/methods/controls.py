"""Controls: maps that do not depend on the model, noise and edges; a method must do better."""

import zlib

import torch
from torch import Tensor

from relprop import draws
from relprop.attribution import Attributed, Attribution, Problem
from relprop.meaning import Meaning
from relprop.methods.grids import over_channels
from relprop.methods.options import at_least


def build_random(*, seed: int = 0) -> Attribution:
    """Standard normal noise, the same for the same sample whatever its batch.

    Args:
        seed: Seed of the noise.
    """
    at_least(0, seed=seed)

    def noise(sample: Tensor) -> Tensor:
        content = sample.contiguous().cpu().view(torch.uint8).numpy().tobytes()
        source = draws.generator(zlib.crc32(content, seed % 2**32))
        return draws.normal(sample.shape, source, torch.float64).to(sample)

    def attribute(problem: Problem) -> Attributed:
        return Attributed([torch.stack([noise(sample) for sample in part]) for part in problem.inputs])

    return Attribution("random", attribute)


def build_edge() -> Attribution:
    """Magnitude of the Sobel gradient of the input's mean over its channels."""

    def attribute(problem: Problem) -> Attributed:
        gray = problem.image.mean(1)
        slopes = torch.stack([_sobel(gray, dim) for dim in range(1, gray.dim())])
        return Attributed([over_channels(slopes.norm(dim=0), problem.image)])

    return Attribution("edge", attribute)


def _sobel(maps: Tensor, along: int) -> Tensor:
    """The mean slope of maps ``(B, …)`` along one dimension, smoothed along the others; borders are repeated."""
    for dim in range(1, maps.dim()):
        last = maps.movedim(dim, -1)
        before, after = torch.cat([last[..., :1], last[..., :-1]], -1), torch.cat([last[..., 1:], last[..., -1:]], -1)
        last = (after - before) / 2 if dim == along else (before + 2 * last + after) / 4
        maps = last.movedim(-1, dim)
    return maps


CONTROL_METHODS = (
    ("random", build_random, "Noise: what a map must be better than", "-", Meaning("noise", "noise")),
    (
        "edge",
        build_edge,
        "Sobel edges of the input: what a map must be better than",
        "Adebayo et al., NeurIPS 2018",
        Meaning("edge", ""),
    ),
)
