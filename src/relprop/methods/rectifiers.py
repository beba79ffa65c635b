"""Guided backpropagation and deconvnet: the gradient with another backward rule for rectifiers.

Both are defined for ReLU by a rule for the gradient ``R`` that comes back to ``y = relu(x)``. For the smooth and leaky relatives of ReLU
the derivative replaces the mask ``1[x > 0]``.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from relprop.attribution import Attributed, Attribution, Problem
from relprop.graph.model import CapturedModel, is_rectifier
from relprop.meaning import SENSITIVITY
from relprop.ops.op import op_name
from relprop.ops.table import entry


def guided(rectifier: Callable[..., Tensor], x: Tensor, *rest: object, **named: object) -> Tensor:
    """Springenberg et al. 2015: ``R_in = max(R, 0) · 1[x > 0]``."""
    y = rectifier(x, *rest, **named)
    if y.requires_grad:
        y.register_hook(_positive)
    return y


def deconvolved(rectifier: Callable[..., Tensor], x: Tensor, *rest: object, **named: object) -> Tensor:
    """Zeiler and Fergus 2014: ``R_in = max(R, 0)``."""
    y = rectifier(x.detach(), *rest, **named) + (x - x.detach())
    if y.requires_grad:
        y.register_hook(_positive)
    return y


def _positive(relevance: Tensor) -> Tensor:
    return relevance.clamp(min=0)


def _notes(name: str, model: CapturedModel) -> tuple[str, ...]:
    found = {op_name(n.target): entry(n) for n in model.active if is_rectifier(n)}
    if not found:
        return (f"The model has no rectifier, so {name} is the plain gradient.",)
    relatives = ", ".join(sorted(n.removeprefix("aten::") for n, op in found.items() if op and op.rectifier == "relative"))
    return (f"{name} is defined for ReLU; here {relatives} is treated alike, by its derivative.",) if relatives else ()


def _gradient_with(rule: Callable[..., Tensor], problem: Problem) -> Attributed:
    handlers = {n: partial(rule, n.target) for n in problem.model.active if is_rectifier(n)}
    with torch.enable_grad():
        inputs = [x.clone().requires_grad_() for x in problem.inputs]
        output, _ = problem.model.run(problem.with_inputs(inputs), handlers)
        parts = torch.autograd.grad(problem.weigh(output).sum(), inputs, allow_unused=True, materialize_grads=True)
    return Attributed(list(parts))


def build_guided_backprop() -> Attribution:
    """Guided backpropagation: negative gradients are cut off at every rectifier."""
    return Attribution("guided-backprop", partial(_gradient_with, guided), partial(_notes, "guided-backprop"))


def build_deconvnet() -> Attribution:
    """Deconvnet: the gradient, but rectifiers pass positive gradients back whether they were open or not."""
    return Attribution("deconvnet", partial(_gradient_with, deconvolved), partial(_notes, "deconvnet"))


RECTIFIER_METHODS = (
    (
        "guided-backprop",
        build_guided_backprop,
        "Gradient without its negative parts at ReLU",
        "Springenberg et al., ICLR 2015",
        SENSITIVITY,
    ),
    (
        "deconvnet",
        build_deconvnet,
        "Positive parts of the gradient, sent back through ReLU",
        "Zeiler and Fergus, ECCV 2014",
        SENSITIVITY,
    ),
)
