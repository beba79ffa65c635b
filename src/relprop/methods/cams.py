"""Class activation maps: the activation of one layer, weighted by its gradient."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from relprop.attribution import Attributed, Attribution, Problem
from relprop.errors import TargetError
from relprop.graph.model import CapturedModel
from relprop.graph.nodes import output_notes
from relprop.meaning import REGION, VOTES, Meaning
from relprop.methods.grids import as_relevance
from relprop.methods.layers import Grid, find_grid
from relprop.methods.options import at_least

Score = Callable[[Tensor], Tensor]
"""Logits ``(B, C)`` → the explained score ``(B,)``."""


def activation_and_gradient(problem: Problem, grid: Grid, score: Score | None = None) -> tuple[Tensor, Tensor]:
    """The layer's values and the score's gradient by them, as maps ``(B, C, …)``; ops before the layer are not differentiated."""
    kept: list[Tensor] = []

    def cut(*arguments: object) -> Tensor:
        with torch.no_grad():
            value = grid.node.target(*arguments, **grid.node.kwargs)  # pyright: ignore[reportCallIssue]
        kept.append(value.requires_grad_())
        return kept[0]

    with torch.enable_grad():
        output, _ = problem.model.run(problem.given, {grid.node: lambda *a, **_: cut(*a)})
        (gradient,) = torch.autograd.grad((score or problem.weigh)(output).sum(), kept, allow_unused=True, materialize_grads=True)
    return grid.to_maps(kept[0].detach()), grid.to_maps(gradient)


def _places(maps: Tensor) -> tuple[int, ...]:
    """The dimensions of the positions of ``(B, C, …)``."""
    return tuple(range(2, maps.dim()))


def grad_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    """Selvaraju et al. 2017, Eq. 1 and 2: channels weighted by their mean gradient, ``(B, …)``."""
    return (gradient.mean(_places(gradient), keepdim=True) * activation).sum(1).clamp(min=0)


def grad_cam_plus_plus(activation: Tensor, gradient: Tensor) -> Tensor:
    """Chattopadhay et al. 2018, Eq. 10 to 19, for an exponential of the score, up to its factor."""
    square = gradient**2
    below = 2 * square + activation.sum(_places(activation), keepdim=True) * gradient * square
    alpha = torch.where(below == 0, 0.0, square / torch.where(below == 0, 1.0, below))
    return ((alpha * gradient.clamp(min=0)).sum(_places(gradient), keepdim=True) * activation).sum(1).clamp(min=0)


def layer_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    """Jiang et al. 2021, Eq. 4 to 6: every element weighted by its own positive gradient."""
    return (gradient.clamp(min=0) * activation).sum(1).clamp(min=0)


def hires_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    """Draelos and Carin 2020, Eq. 4: every element times its own gradient; below zero it speaks against the class."""
    return (gradient * activation).sum(1)


def xgrad_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    """Fu et al. 2020, Eq. 8: channels weighted by the mean of their gradient over their own activation."""
    total = activation.sum(_places(activation), keepdim=True)
    mean = (gradient * activation).sum(_places(gradient), keepdim=True) / torch.where(total == 0, 1.0, total)
    return (torch.where(total == 0, 0.0, mean) * activation).sum(1).clamp(min=0)


def _from_gradient(name: str, combine: Callable[[Tensor, Tensor], Tensor], layer: str | None) -> Attribution:
    def attribute(problem: Problem) -> Attributed:
        return as_relevance(problem, combine(*activation_and_gradient(problem, find_grid(problem.model, layer))))

    return Attribution(
        name, attribute, partial(note_layer, layer), fold_batchnorm=False
    )  # a convolution's own output can be named


def note_layer(layer: str | None, model: CapturedModel) -> tuple[str, ...]:
    """Say which layer the map is made of."""
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


def build_hires_cam(*, layer: str | None = None) -> Attribution:
    """HiResCAM: the gradient is not averaged, and negative values stay; where one dense layer follows, they add up to the logit.

    Args:
        layer: Path of the module whose output is mapped; left out, the last one that fits.
    """
    return _from_gradient("hires-cam", hires_cam, layer)


def build_xgrad_cam(*, layer: str | None = None) -> Attribution:
    """XGrad-CAM, whose weights obey sensitivity and conservation as far as one weight per channel can.

    Args:
        layer: Path of the module whose output is mapped; left out, the last one that fits.
    """
    return _from_gradient("xgrad-cam", xgrad_cam, layer)


def build_finer_cam(*, layer: str | None = None, classes: int = 3, alpha: float = 1.0) -> Attribution:
    """Finer-CAM: Grad-CAM of what sets the class apart from the most similar ones.

    The score is ``Σ_d p_d (y_c − alpha y_d) / Σ_d p_d`` over the classes ``d`` whose logits are nearest to the target's, with
    probabilities ``p``.

    Args:
        layer: Path of the module whose output is mapped; left out, the last one that fits.
        classes: How many similar classes.
        alpha: How much their logits count.
    """
    at_least(1, classes=classes)
    at_least(0, alpha=alpha)

    def attribute(problem: Problem) -> Attributed:
        target = problem.aim.classes
        if target is None:
            raise TargetError("Finer-CAM compares a class with others, and a label has none; take grad-cam.")

        def score(logits: Tensor) -> Tensor:
            return finer_score(logits, target, classes, alpha)

        return as_relevance(problem, grad_cam(*activation_and_gradient(problem, find_grid(problem.model, layer), score)))

    return Attribution("finer-cam", attribute, partial(note_layer, layer), any_output=False, fold_batchnorm=False)


def finer_score(logits: Tensor, target: Tensor, classes: int, alpha: float) -> Tensor:
    """Zhang et al. 2025, Eq. 5: the target's logit minus those of similar classes, weighted by their probabilities, ``(B,)``.

    Raises:
        TargetError: There is no other class.
    """
    if logits.shape[1] == 1:
        raise TargetError("Finer-CAM compares a class with others, and the model has a single output; take grad-cam.")
    own = logits.gather(1, target[:, None])
    distance = (logits - own).detach().abs().scatter(1, target[:, None], torch.inf)
    nearest = distance.topk(min(classes, logits.shape[1] - 1), largest=False).indices
    weights = logits.softmax(1).gather(1, nearest)
    difference = own - alpha * logits.gather(1, nearest)
    return (weights * difference).sum(1) / weights.sum(1).clamp(min=torch.finfo(weights.dtype).tiny)


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
    ("hires-cam", build_hires_cam, "A layer's elements times their own gradient, signed", "Draelos and Carin, 2020", VOTES),
    ("xgrad-cam", build_xgrad_cam, "Grad-CAM with gradients averaged over the activation", "Fu et al., BMVC 2020", REGION),
    (
        "finer-cam",
        build_finer_cam,
        "Grad-CAM of the class against the most similar ones",
        "Zhang et al., CVPR 2025",
        Meaning("sets the class apart", ""),
    ),
)
