"""Maps of transformers from attention and its gradient: generic attention, Beyond Intuition, LeGrad and AttCAT."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor, fx

from relprop.attribution import Attributed, Attribution, Problem
from relprop.errors import UnsupportedOpError
from relprop.graph.model import CapturedModel
from relprop.graph.nodes import is_floating
from relprop.meaning import REGION, VOTES
from relprop.methods.blocks import Block, find_blocks, note_blocks, rerun, tail_after
from relprop.methods.grids import as_relevance
from relprop.methods.options import at_least
from relprop.methods.rollout import (
    Tokens,
    as_map,
    attention_gradients,
    by_parts,
    find_tokens,
    note_tokens,
    rollout,
    values_and_gradients,
    with_identity,
)
from relprop.ops.op import Role
from relprop.propagation.roles import Roles

VariantName = Literal["head", "token"]
_FIRST: dict[VariantName, int] = {"head": 4, "token": 6}
"""The first layer that Beyond Intuition's released code counts."""


def build_generic_attention() -> Attribution:
    """Generic attention: ``R ← R + Ā R`` over the layers, with ``Ā`` the positive part of gradient times attention, mean of the heads."""
    name = "generic-attention"

    def explain(problem: Problem) -> Attributed:
        tokens = find_tokens(name, problem.model)
        weights, gradients, last = attention_gradients(problem, tokens)
        maps = [(g * w).clamp(min=0).mean(1) for g, w in zip(gradients, weights, strict=True)]
        return as_map(problem, tokens, rollout([with_identity(m) for m in maps]), last)

    return Attribution(name, partial(by_parts, explain), partial(note_tokens, name))


def build_beyond_intuition(*, variant: VariantName = "head", first: int | None = None, steps: int = 20) -> Attribution:
    """Beyond Intuition: attention perception ``R ← R + Ā R``, times the integrated gradient of the last attention.

    Args:
        variant: ``"head"`` weights the heads of every layer by ``mean |Aᵀ ∇A|``; ``"token"`` takes their mean and weights every token by
            the norm of its projected value over that of the block's input.
        first: The first layer that counts, from one; left out, 4 for ``"head"`` and 6 for ``"token"``, as in the released code; the last
            layer where there are fewer.
        steps: Points on the line from zero to the input.
    """
    at_least(1, first=first, steps=steps)
    name = "beyond-intuition"

    def explain(problem: Problem) -> Attributed:
        tokens = find_tokens(name, problem.model)
        weights, gradients, last = attention_gradients(problem, tokens)
        skipped = min(first or _FIRST[variant], len(weights)) - 1
        if variant == "head":
            maps = [_by_head(w, g) for w, g in zip(weights[skipped:], gradients[skipped:], strict=True)]
        else:
            scales = _token_scales(problem, find_blocks(name, problem.model, tokens.layers)[skipped:])
            maps = [w.mean(1) * scale.unsqueeze(1) for w, scale in zip(weights[skipped:], scales, strict=True)]
        joined = rollout([with_identity(m) for m in maps])
        return as_map(problem, tokens, _feedback(problem, tokens, steps) * joined.abs(), last)

    def check(model: CapturedModel) -> tuple[str, ...]:
        notes = note_tokens(name, model)
        if variant == "token":
            for block in find_blocks(name, model, find_tokens(name, model).layers):
                _projection(model, block)
        return notes

    return Attribution(name, partial(by_parts, explain), check)


def _by_head(weights: Tensor, gradient: Tensor) -> Tensor:
    """The mean of the heads, each weighted by the mean of ``|Aᵀ ∇A|`` (Chen et al. 2023, Eq. 13), ``(B, N, N)``."""
    importance = (weights.mT @ gradient).abs().mean((2, 3))
    total = importance.sum(1, keepdim=True).clamp(min=torch.finfo(importance.dtype).tiny)
    return torch.einsum("bh,bhij->bij", importance / total, weights)


def _feedback(problem: Problem, tokens: Tokens, steps: int) -> Tensor:
    """Reasoning feedback: the positive part of the mean gradient of the last attention between zero and the input, ``(B, N, N)``."""
    last = Tokens(tokens.layers[-1:], tokens.grid)
    points = [
        replace(problem, given=problem.with_inputs([x * t for x in problem.inputs])) for t in torch.linspace(0, 1, steps).tolist()
    ]
    total = torch.stack([attention_gradients(point, last)[1][0] for point in points]).sum(0)
    return (total / steps).clamp(min=0).mean(1)


def _token_scales(problem: Problem, blocks: tuple[Block, ...]) -> list[Tensor]:
    """By block, the norm of every token's projected value over that of the block's input, ``(B, N)`` (Chen et al. 2023, Eq. 10)."""
    chains = [_projection(problem.model, block) for block in blocks]
    inside = {b.attention.result for b in blocks}.union(*chains)
    others = {n for chain in chains for node in chain for n in node.all_input_nodes} - inside
    wanted = [*(b.attention.values for b in blocks), *(b.input for b in blocks), *others]
    _, kept = problem.model.run(problem.given, keep=wanted)
    fixed = {n: kept[n] for n in others}
    scales: list[Tensor] = []
    for block, chain in zip(blocks, chains, strict=True):
        values = kept[block.attention.values]
        projected, bias = (
            rerun(chain, {**fixed, block.attention.result: v}, chain[-1]) for v in (values, torch.zeros_like(values))
        )
        below = kept[block.input].norm(dim=-1)
        scales.append((projected - bias).norm(dim=-1) / below.clamp(min=torch.finfo(below.dtype).tiny))
    return scales


def _projection(model: CapturedModel, block: Block) -> list[fx.Node]:
    """The ops from the result of an attention to its projection, the first dense layer that reads it.

    Raises:
        UnsupportedOpError: There is none.
    """
    roles, node, chain = Roles(model.module.graph), block.attention.result, list[fx.Node]()
    while len(node.users) == 1:
        (node,) = node.users
        chain.append(node)
        if roles.kinds.get(node) is Role.DENSE and len(model.carriers(node)) == 1:
            return chain
        if roles.kinds.get(node) is not Role.SHAPE or not is_floating(node):
            break
    raise UnsupportedOpError(
        "Method 'beyond-intuition' with variant='token' needs a dense layer that projects the result of every attention; "
        "take variant='head'."
    )


def build_legrad(*, last: int | None = None) -> Attribution:
    """LeGrad: the positive part of the gradient of every layer's own score by its attention, mean of heads and rows, summed over layers.

    The score of a layer is that of the classifier where the mean of the layer's tokens stands in place of every token of the last one.

    Args:
        last: Use only so many of the last layers; left out, all. The released code takes two.
    """
    at_least(1, last=last)
    name = "legrad"

    def explain(problem: Problem) -> Attributed:
        tokens = find_tokens(name, problem.model)
        blocks = find_blocks(name, problem.model, tokens.layers)[-(last or 0) :]
        tail = tail_after(problem.model, blocks[-1].output)
        with torch.enable_grad():
            given = problem.with_inputs([x.clone().requires_grad_() for x in problem.inputs])
            wanted = [n for b in blocks for n in (b.attention.weights, b.output)]
            _, kept = problem.model.run(given, keep=[*wanted, *tail.needed])
            others = {n: kept[n] for n in tail.needed}
            found = [_gradient_of_layer(problem, b, kept, lambda v: tail.run(v, others)) for b in blocks]
        return as_relevance(problem, tokens.grid.to_maps(torch.stack(found).sum(0)))

    return Attribution(name, partial(by_parts, explain), partial(note_blocks, name))


def _gradient_of_layer(
    problem: Problem, block: Block, kept: dict[fx.Node, Tensor], score_of: Callable[[Tensor], Tensor]
) -> Tensor:
    """Bousselham et al. 2025, Eq. 6 to 8: how much every token's attention raises the score of the block's output, ``(B, N)``."""
    output = kept[block.output]
    pooled = output.mean(1, keepdim=True).expand_as(output)
    score = problem.weigh(score_of(pooled)).sum()
    (gradient,) = torch.autograd.grad(score, kept[block.attention.weights], retain_graph=True)
    return gradient.clamp(min=0).mean((1, 2))


def build_attcat() -> Attribution:
    """AttCAT: the input of every block times its gradient, summed over channels, times the attention that the token receives.

    Attention is averaged over heads and rows, and the layers add up; tokens below zero speak against the class.
    """
    name = "attcat"

    def explain(problem: Problem) -> Attributed:
        tokens = find_tokens(name, problem.model)
        blocks = find_blocks(name, problem.model, tokens.layers)
        count, nodes = len(blocks), [*(b.input for b in blocks), *(b.attention.weights for b in blocks)]
        values, gradients = values_and_gradients(problem, nodes)
        streams = [(x * g).sum(2) for x, g in zip(values[:count], gradients[:count], strict=True)]
        received = [weights.mean((1, 2)) for weights in values[count:]]
        total = torch.stack([stream * share for stream, share in zip(streams, received, strict=True)]).sum(0)
        return as_relevance(problem, tokens.grid.to_maps(total))

    return Attribution(name, partial(by_parts, explain), partial(note_blocks, name))


TOKEN_METHODS = (
    (
        "generic-attention",
        build_generic_attention,
        "Attention times its gradient, multiplied over the layers",
        "Chefer et al., ICCV 2021",
        REGION,
    ),
    (
        "beyond-intuition",
        build_beyond_intuition,
        "Attention weighted by head or token, times the integrated gradient of the last",
        "Chen et al., TMLR 2023",
        REGION,
    ),
    ("legrad", build_legrad, "Gradient of every layer's score by its attention", "Bousselham et al., ICCV 2025", REGION),
    (
        "attcat",
        build_attcat,
        "Tokens times their gradient times the attention that they receive",
        "Qiang et al., NeurIPS 2022",
        VOTES,
    ),
)
