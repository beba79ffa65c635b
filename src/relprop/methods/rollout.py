"""Methods that multiply attention over the layers: attention rollout, and relevance-weighted transformer attribution."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, fx

from relprop import rules
from relprop.attribution import Attributed, Attribution, Problem
from relprop.errors import UnsupportedOpError
from relprop.graph.grids import input_size
from relprop.graph.model import CapturedModel
from relprop.graph.nodes import PATH, shape_of, tensor_inputs
from relprop.meaning import REGION, Meaning
from relprop.methods.grids import as_relevance
from relprop.methods.options import StartName
from relprop.methods.tokens import Attention, TokenGrid, find_attention, token_grid
from relprop.ops.op import Role
from relprop.propagation.method import Method
from relprop.propagation.plan import make_plan
from relprop.propagation.run import Run
from relprop.rules.attention import balanced_sum
from relprop.rules.rule import Rule
from relprop.rules.starts import STARTS


@dataclass(frozen=True)
class Tokens:
    """The attention layers of a model, in forward order, and the patches of the input among the tokens."""

    layers: tuple[Attention, ...]
    grid: TokenGrid


def find_tokens(name: str, model: CapturedModel) -> Tokens:
    """Find the attention layers.

    Raises:
        UnsupportedOpError: There is none, or one that is not over all tokens of the input at once.
    """
    layers = find_attention(model)
    if not layers:
        raise UnsupportedOpError(f"Method {name!r} needs softmax attention over tokens, and the model has none.")
    size = input_size(model)
    shapes = {tuple(layer.weights.meta["val"].shape[1:]) for layer in layers}
    counts = {shape[-2:] for shape in shapes}
    grid = None
    if size is not None and len(counts) == 1 and all(_is_global(layer.weights) for layer in layers):
        ((rows, columns),) = counts
        grid = token_grid(model, size, layers[0].values, 2) if rows == columns else None
    if grid is None:
        listed = ", ".join(
            sorted({f"{layer.weights.meta.get(PATH) or layer.weights.name} {_printed(layer.weights)}" for layer in layers})[:4]
        )
        raise UnsupportedOpError(
            f"Method {name!r} needs attention among all tokens of the input in every layer; windows, reduced keys and changing numbers of "
            f"tokens do not fit. The model's attention weights: {listed}."
        )
    return Tokens(tuple(layers), grid)


def _is_global(weights: fx.Node) -> bool:
    """Whether weights are ``(B, heads, N, N)``, the batch dimension being the batch itself and not windows of it."""
    shape = weights.meta["val"].shape
    return len(shape) == 4 and shape[0] == tensor_inputs(weights.graph)[0].meta["val"].shape[0]


def _printed(weights: fx.Node) -> str:
    return "×".join(str(size) if isinstance(size, int) else "B" for size in shape_of(weights))


def rollout(layers: Sequence[Tensor]) -> Tensor:
    """Multiply attention maps over the layers, each ``(B, N, N)`` with its residual connection in it (Abnar and Zuidema 2020, Eq. 1)."""
    joined = layers[0]
    for layer in layers[1:]:
        joined = layer @ joined
    return joined


def with_identity(attention: Tensor) -> Tensor:
    """``A + I``, ``(B, N, N)``."""
    return attention + torch.eye(attention.shape[-1], dtype=attention.dtype, device=attention.device)


def _with_residual(attention: Tensor) -> Tensor:
    """``A + I`` with rows that sum to one; ``(B, N, N)``."""
    mixed = with_identity(attention)
    return mixed / mixed.sum(-1, keepdim=True)


def attention_gradients(problem: Problem, tokens: Tokens) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """The weights of every layer, the gradient of the score by them, and by the result of the last layer."""
    values, gradients = values_and_gradients(problem, [*(layer.weights for layer in tokens.layers), tokens.layers[-1].result])
    return values[:-1], gradients[:-1], gradients[-1]


def values_and_gradients(problem: Problem, nodes: Sequence[fx.Node]) -> tuple[list[Tensor], list[Tensor]]:
    """Some values inside the model, and the gradient of the score by each."""
    with torch.enable_grad():
        given = problem.with_inputs([v.clone().requires_grad_() for v in problem.inputs])
        output, kept = problem.model.run(given, keep=nodes)
        wanted = [kept[n] for n in nodes]
        found = torch.autograd.grad(problem.weigh(output).sum(), wanted, allow_unused=True, materialize_grads=True)
    return [value.detach() for value in wanted], list(found)


def rows_read(gradient: Tensor) -> Tensor:
    """The share of every token in the decision, ``(B, 1, N)``: equal among those whose last attention the score depends on.

    That is the class token where a model has one, and all tokens where it averages them.
    """
    read = gradient.abs().sum((1, 3)).gt(0).to(gradient.dtype)
    return (read / read.sum(1, keepdim=True).clamp(min=1)).unsqueeze(1)


def as_map(problem: Problem, tokens: Tokens, joined: Tensor, gradient: Tensor) -> Attributed:
    """Average the rows of the tokens that are read, and arrange their patches over the input."""
    return as_relevance(problem, tokens.grid.to_maps((rows_read(gradient) @ joined)[:, 0]))


def _samples(problem: Problem) -> list[Problem]:
    return [problem] if problem.model.dynamic else problem.samples()


def by_parts(explain: Callable[[Problem], Attributed], problem: Problem) -> Attributed:
    """Explain the samples one at a time where the model fixes its batch size."""
    found = [explain(part) for part in _samples(problem)]
    return Attributed([torch.cat(parts) for parts in zip(*(f.relevance for f in found), strict=True)])


def note_tokens(name: str, model: CapturedModel) -> tuple[str, ...]:
    """Say what the map is made of."""
    tokens = find_tokens(name, model)
    size = "×".join(map(str, tokens.grid.size))
    return (*tokens.grid.notes, f"The map is made of {len(tokens.layers)} layers of attention among {size} patches.")


def build_attention_rollout() -> Attribution:
    """Attention rollout: mean attention of the heads plus identity, multiplied over the layers; the same map for every class."""
    name = "attention-rollout"

    def explain(problem: Problem) -> Attributed:
        tokens = find_tokens(name, problem.model)
        weights, _, gradient = attention_gradients(problem, tokens)
        return as_map(problem, tokens, rollout([_with_residual(w.mean(1)) for w in weights]), gradient)

    return Attribution(name, partial(by_parts, explain), partial(note_tokens, name))


def _propagation(start: StartName) -> Method:
    """LRP as transformer attribution has it: z⁺ layers, products shared equally by signed value, residual sums balanced."""
    proportional = rules.epsilon(1e-9)
    both = Rule(proportional.name, proportional.backward, proportional.needs, all_operands=True)
    table: dict[Role | str, Rule] = {
        Role.DENSE: rules.zplus(0.0, "leave out"),
        Role.CONV: rules.zplus(0.0, "leave out"),
        Role.POOL: proportional,
    }
    table |= {Role.ATTENTION: both, Role.PRODUCT: both, Role.ADD: balanced_sum()}
    return Method("transformer-attribution", table, start=STARTS[start], conserves=False)


def _attention_relevance(problem: Problem, tokens: Tokens) -> list[Tensor]:
    """The relevance of every layer's attention weights; the output starts with the weights of the score."""
    found: dict[fx.Node, Tensor] = {}
    run = Run(make_plan(problem.model, _propagation("one")), problem.given, inspected=True)
    wanted = {layer.weights for layer in tokens.layers}

    def watch(node: fx.Node, relevance: Tensor) -> None:
        if node in wanted:
            found[node] = relevance

    run.backward(problem.weights, watch=watch, last=True)
    return [found[layer.weights] for layer in tokens.layers]


def build_transformer_attribution() -> Attribution:
    """Transformer attribution: positive part of relevance times gradient of attention, mean of the heads, multiplied over the layers."""
    name = "transformer-attribution"

    def explain(problem: Problem) -> Attributed:
        tokens = find_tokens(name, problem.model)
        _, gradients, last = attention_gradients(problem, tokens)
        relevances = _attention_relevance(problem, tokens)
        maps = [(g * r).clamp(min=0).mean(1) for g, r in zip(gradients, relevances, strict=True)]
        return as_map(problem, tokens, rollout([with_identity(m) for m in maps]), last)

    return Attribution(name, partial(by_parts, explain), partial(note_tokens, name))


ROLLOUT_METHODS = (
    (
        "transformer-attribution",
        build_transformer_attribution,
        "Relevance times gradient of attention weights, multiplied over the layers",
        "Chefer et al., CVPR 2021",
        REGION,
    ),
    (
        "attention-rollout",
        build_attention_rollout,
        "Attention weights, multiplied over the layers",
        "Abnar and Zuidema, ACL 2020",
        Meaning("attended to", ""),
    ),
)
