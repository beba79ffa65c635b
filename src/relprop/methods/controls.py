"""Controls: maps that do not depend on the model, noise and edges; a method must do better."""

import zlib

import torch
import torch.nn.functional as F
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
    """Magnitude of the Sobel gradient of the image's mean over its channels."""

    def attribute(problem: Problem) -> Attributed:
        image = problem.image
        gray = F.pad(image.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
        kernel = gray.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
        horizontal, vertical = F.conv2d(gray, torch.stack([kernel, kernel.T]).unsqueeze(1)).unbind(1)
        return Attributed([over_channels(torch.hypot(horizontal, vertical), image)])

    return Attribution("edge", attribute)


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
