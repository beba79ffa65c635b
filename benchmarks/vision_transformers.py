"""Measure treatments of transformers by propagation methods, on DeiT-tiny's real weights and annotated photos.

    python benchmarks/vision_transformers.py WEIGHTS_FOLDER VOC_FOLDER [--images N] [--curves] [--only NAME …]

One factor is changed at a time: how residual sums split, whether layer norm passes relevance unchanged or shares it with its variance
constant, whether attention weights are constants or take half of the relevance (sent on through the softmax unchanged, or by its Taylor
expansion), whether position embeddings take their share, what becomes of the class token's relevance, and the start. Explained is the
predicted class. Printed are the outside–inside ratio (lower is better), pixel accuracy and mean IoU of the map above its positive mean,
average precision, with ``--curves`` the area between the LeRF and the MoRF curve of the probability (patches of 16 × 16; higher is
better), and seconds per image.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from PIL import Image
from torch import Tensor, nn

import relprop
from relprop import rules
from relprop.datasets.sample import Failure
from relprop.datasets.voc import open_voc
from relprop.methods import Method
from relprop.methods.registry import make_method
from relprop.metrics import metric
from relprop.ops.op import Role
from relprop.rules.attention import norm_linear, softmax_taylor

_SIZE, _BATCH, _EPSILON = 224, 4, 1e-9


class Plain:
    """The whole image, resized to the model's input."""

    def crop(self, image: Image.Image, *, nearest: bool = False) -> Image.Image:
        """Return the resized image."""
        return image.resize((_SIZE, _SIZE), Image.Resampling.NEAREST if nearest else Image.Resampling.BICUBIC)

    def tensor(self, image: Image.Image) -> Tensor:
        """Return the model's input, ``(3, H, W)``."""
        import numpy as np

        pixels = torch.from_numpy(np.array(self.crop(image))).permute(2, 0, 1) / 255
        mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        return (pixels - mean.view(3, 1, 1)) / deviation.view(3, 1, 1)


@dataclass(frozen=True)
class Treatment:
    """A method and its treatment of sums, norms, attention and constants; ``None`` keeps the registry's."""

    method: str
    add: str | None = None
    norm: str | None = None
    attention: str | None = None
    constants: str | None = None
    start: str | None = None
    spread: bool = False

    def build(self) -> Method | str:
        """Return the method, or its name where nothing is changed."""
        if self == Treatment(self.method):
            return self.method
        given = {"start": self.start, "constants": self.constants}
        method = make_method(self.method, {name: value for name, value in given.items() if value is not None})
        table, by_op = dict(method.rules), dict(method.by_op)
        if self.add is not None:
            split = rules.split_sum(self.add, _EPSILON)  # pyright: ignore[reportArgumentType]
            table |= {Role.ADD: split} | ({Role.BIAS: split} if self.constants == "absorb" else {})
        if self.norm is not None:
            by_op |= dict.fromkeys(("layer_norm",), norm_linear(_EPSILON) if self.norm == "linear" else rules.unchanged())
        if self.attention is not None:
            both = self.attention != "constant"
            table |= {role: replace(table[role], all_operands=both) for role in (Role.ATTENTION, Role.PRODUCT)}
            table[Role.SOFTMAX] = softmax_taylor() if self.attention == "taylor" else rules.unchanged()
        return replace(method, rules=table, by_op=by_op, with_attention={})


def around(method: str, **base: str) -> dict[str, Treatment]:
    """One factor changed at a time, around ``base``."""
    center = Treatment(method, **base)  # pyright: ignore[reportArgumentType]
    found = {f"{method}: {' '.join(f'{k}={v}' for k, v in base.items())}": center}
    choices = {
        "add": ("positive", "absolute", "signed"),
        "norm": ("identity", "linear"),
        "attention": ("constant", "unchanged", "taylor"),
        "constants": ("leave out", "absorb"),
    }
    for factor, values in choices.items():
        for value in values:
            if value != base[factor]:
                found[f"{method}: {factor}={value}"] = replace(center, **{factor: value})
    found[f"{method}: class token spread"] = replace(center, spread=True)
    return found


TREATMENTS: dict[str, Treatment] = {
    **around("rap", add="positive", norm="identity", attention="constant", constants="leave out", start="absolute"),
    "rap: start=signed": Treatment("rap", "positive", "identity", "constant", "leave out", "signed"),
    **around("lrp-zplus", add="positive", norm="identity", attention="unchanged", constants="absorb"),
    **around("lrp-epsilon", add="absolute", norm="linear", attention="constant", constants="absorb"),
    **{name: Treatment(name) for name in ("attnlrp", "cp-lrp", "abslrp", "abslrp-plain", "transformer-attribution")},
    **{name: Treatment(name) for name in ("attention-rollout", "input-x-gradient", "integrated-gradients", "random")},
}


def batches(folder: str, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images and object masks, ``_BATCH`` at a time."""
    dataset = open_voc(folder, task="segmentation", single_class=True)
    samples = [s for s in dataset.samples(Plain(), dataset.ids[:count]) if not isinstance(s, Failure)]
    for first in range(0, len(samples), _BATCH):
        chunk = samples[first : first + _BATCH]
        yield torch.stack([s.image for s in chunk]), torch.stack([s.object_mask() for s in chunk])


def measure(model: nn.Module, treatment: Treatment, data: list[tuple[Tensor, Tensor]], *, curves: bool) -> str:
    """Explain all images; return the table's cells."""
    explainer = relprop.Explainer(model, data[0][0], treatment.build())  # pyright: ignore[reportArgumentType]
    ratio, overlap, area = metric("outside-inside"), metric("segmentation"), metric("abpc", region=16, per_step=28, steps=7)
    seconds = 0.0
    for images, masks in data:
        began = time.perf_counter()
        explanation = explainer(images)
        seconds += time.perf_counter() - began
        heat = explanation.heatmap()
        if treatment.spread:
            heat = heat + explanation.absorbed[:, None, None] / (_SIZE * _SIZE)
        heat = heat / heat.abs().amax((1, 2), keepdim=True).clamp(min=1e-30)
        ratio.update(relevance=heat, mask=masks)
        overlap.update(relevance=heat, mask=masks)
        if curves:
            area.update(relevance=heat, inputs=images, target=explanation.target, model=model, seeds=0)
    r, s = ratio.compute(), overlap.compute()
    cells = [
        float(r["pos"].nanmean()),
        float(r["all"].nanmean()),
        *(100 * float(s[k]) for k in ("pixel_accuracy", "miou", "average_precision")),
    ]
    cells.append(float(area.compute()["probability_abpc"].mean()) if curves else float("nan"))
    return (
        " | ".join(f"{c:.3f}" if i in {0, 1, 5} else f"{c:.1f}" for i, c in enumerate([*cells]))
        + f" | {seconds / sum(len(i) for i, _ in data):.2f}"
    )


def shuffled(model: nn.Module, data: list[tuple[Tensor, Tensor]], start: str) -> float:
    """Mean correlation of RAP's maps of the same classes before and after the classifier's weights are shuffled."""
    import copy

    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        weight = other.head.weight
        weight.copy_(weight.flatten()[torch.randperm(weight.numel(), generator=generator)].view_as(weight))
    explain = [relprop.Explainer(m, data[0][0], "rap", start=start) for m in (model, other)]
    found: list[Tensor] = []
    for images, _ in data:
        target = model(images).argmax(1)
        a, b = (e(images, target).heatmap().flatten(1) for e in explain)
        found.append(torch.nn.functional.cosine_similarity(a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)).abs())
    return float(torch.cat(found).mean())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", help="folder with load.py, whose load('deit_tiny') returns the model")
    parser.add_argument("voc")
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--curves", action="store_true")
    parser.add_argument("--only", nargs="*", default=None)
    options = parser.parse_args()
    sys.path.insert(0, options.weights)
    from load import load

    model = load("deit_tiny")[0]
    data = list(batches(options.voc, options.images))
    report: Callable[[str], None] = partial(print, flush=True)
    report("| treatment | outside–inside pos | all | pixel accuracy | mIoU | AP | LeRF−MoRF | s/image |\n|" + "---|" * 8)
    for name, treatment in TREATMENTS.items():
        if options.only is None or any(part in name for part in options.only):
            report(f"| {name} | {measure(model, treatment, data, curves=options.curves)} |")
    if options.only is None:
        for start in ("absolute", "signed"):
            report(
                f"RAP, start={start}: |correlation| of maps before and after shuffling the classifier {shuffled(model, data, start):.3f}"
            )


if __name__ == "__main__":
    with torch.no_grad():
        main()
