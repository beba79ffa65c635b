"""Class activation maps: the activation of one layer, weighted by its gradient or by its effect on the score."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from relprop.attribution import Attributed, Attribution, Problem
from relprop.graph.model import CapturedModel
from relprop.graph.nodes import output_notes
from relprop.meaning import REGION
from relprop.methods.grids import over_channels, resized
from relprop.methods.layers import Grid, find_grid
from relprop.methods.options import at_least


def _activation(problem: Problem, grid: Grid) -> Tensor:
    """The layer's values as maps, ``(B, C, h, w)``."""
    _, kept = problem.model.run(problem.given, keep=[grid.node])
    return grid.to_maps(kept[grid.node])


def _activation_and_gradient(problem: Problem, grid: Grid) -> tuple[Tensor, Tensor]:
    """The layer's values and the score's gradient by them, as maps ``(B, C, h, w)``; ops before the layer are not differentiated."""
    kept: list[Tensor] = []

    def cut(*arguments: object) -> Tensor:
        with torch.no_grad():
            value = grid.node.target(*arguments, **grid.node.kwargs)  # pyright: ignore[reportCallIssue]
        kept.append(value.requires_grad_())
        return kept[0]

    with torch.enable_grad():
        output, _ = problem.model.run(problem.given, {grid.node: lambda *a, **_: cut(*a)})
        (gradient,) = torch.autograd.grad(problem.weigh(output).sum(), kept, allow_unused=True, materialize_grads=True)
    return grid.to_maps(kept[0].detach()), grid.to_maps(gradient)


def grad_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    """Selvaraju et al. 2017, Eq. 1 and 2: channels weighted by their mean gradient, ``(B, h, w)``."""
    return (gradient.mean((2, 3), keepdim=True) * activation).sum(1).clamp(min=0)


def grad_cam_plus_plus(activation: Tensor, gradient: Tensor) -> Tensor:
    """Chattopadhay et al. 2018, Eq. 10 to 19, for an exponential of the score, up to its factor."""
    square = gradient**2
    below = 2 * square + activation.sum((2, 3), keepdim=True) * gradient * square
    alpha = torch.where(below == 0, 0.0, square / torch.where(below == 0, 1.0, below))
    return ((alpha * gradient.clamp(min=0)).sum((2, 3), keepdim=True) * activation).sum(1).clamp(min=0)


def layer_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    """Jiang et al. 2021, Eq. 4 to 6: every element weighted by its own positive gradient."""
    return (gradient.clamp(min=0) * activation).sum(1).clamp(min=0)


def _from_gradient(name: str, combine: Callable[[Tensor, Tensor], Tensor], layer: str | None) -> Attribution:
    def attribute(problem: Problem) -> Attributed:
        maps = combine(*_activation_and_gradient(problem, find_grid(problem.model, layer)))
        return Attributed([over_channels(resized(maps, problem.image), problem.image)])

    return Attribution(name, attribute, partial(_note, layer), fold_batchnorm=False)  # a convolution's own output can be named


def _note(layer: str | None, model: CapturedModel) -> tuple[str, ...]:
    grid = find_grid(model, layer)
    return (*output_notes(model.module, [grid.path]), *grid.notes, f"The map is made of the output of module {grid.path!r}.")


def build_grad_cam(*, layer: str | None = None) -> Attribution:
    """Grad-CAM.

    Args:
        layer: Path of the module whose output is mapped; left out, the last one that fits.
    """
    return _from_gradient("grad-cam", grad_cam, layer)


def build_grad_cam_plus_plus(*, layer: str | None = None) -> Attribution:
    """Grad-CAM++.

    Args:
        layer: Path of the module whose output is mapped; left out, the last one that fits.
    """
    return _from_gradient("grad-cam-plus-plus", grad_cam_plus_plus, layer)


def build_layer_cam(*, layer: str | None = None) -> Attribution:
    """LayerCAM, which keeps detail and so suits early layers too.

    Args:
        layer: Path of the module whose output is mapped; left out, the last one that fits.
    """
    return _from_gradient("layer-cam", layer_cam, layer)


def build_score_cam(*, layer: str | None = None, channels: int | None = None, internal_batch_size: int = 16) -> Attribution:
    """Score-CAM: every channel is weighted by the score of the image seen through it; needs one forward pass per channel.

    Args:
        layer: Path of the module whose output is mapped; left out, the last one that fits.
        channels: Use only this many channels, those that vary most over the image; left out, all.
        internal_batch_size: Masked images per forward pass.
    """
    at_least(1, channels=channels, internal_batch_size=internal_batch_size)

    def explain(sample: Problem) -> Tensor:
        activation = _activation(sample, find_grid(sample.model, layer))[0]
        if channels is not None:
            activation = activation[activation.flatten(1).var(1).topk(min(channels, len(activation))).indices.sort().values]
        scores = [_masked_scores(sample, part) for part in activation.split(internal_batch_size)]
        weights = torch.cat(scores).softmax(0)
        return torch.einsum("c,chw->hw", weights, activation).clamp(min=0)

    def attribute(problem: Problem) -> Attributed:
        maps = torch.stack([explain(sample) for sample in problem.samples()])
        return Attributed([over_channels(resized(maps, problem.image), problem.image)])

    return Attribution("score-cam", attribute, partial(_note, layer), fold_batchnorm=False)


def _masked_scores(sample: Problem, activation: Tensor) -> Tensor:
    """The scores of the image times each of some channels, scaled to [0, 1]; a channel without contrast masks everything."""
    masks = resized(activation, sample.image)
    low, high = masks.amin((1, 2), keepdim=True), masks.amax((1, 2), keepdim=True)
    masks = torch.where(high > low, (masks - low) / torch.where(high > low, high - low, 1.0), 0.0)
    rows = torch.zeros(len(masks), dtype=torch.long, device=masks.device)
    return sample.score(sample.image * masks.unsqueeze(1), rows=rows)


CAM_METHODS = (
    ("grad-cam", build_grad_cam, "Last layer's channels, weighted by their mean gradient", "Selvaraju et al., ICCV 2017", REGION),
    (
        "grad-cam-plus-plus",
        build_grad_cam_plus_plus,
        "Grad-CAM with weights from higher derivatives",
        "Chattopadhay et al., WACV 2018",
        REGION,
    ),
    (
        "layer-cam",
        build_layer_cam,
        "A layer's elements, weighted by their own positive gradient",
        "Jiang et al., TIP 2021",
        REGION,
    ),
    (
        "score-cam",
        build_score_cam,
        "Last layer's channels, weighted by the score seen through each",
        "Wang et al., CVPRW 2020",
        REGION,
    ),
)
