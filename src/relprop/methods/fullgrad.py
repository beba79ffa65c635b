"""FullGrad: the input times its gradient, and every bias times its own, each at its place in the input."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx

from relprop.attribution import Attributed, Attribution, Problem
from relprop.graph.model import CapturedModel, Handler
from relprop.graph.nodes import is_floating
from relprop.graph.samples import find_samples
from relprop.meaning import VOTES
from relprop.methods.blocks import find_blocks, note_blocks
from relprop.methods.grids import over_channels, spread
from relprop.methods.layers import as_grid
from relprop.methods.libra import libra_handlers
from relprop.methods.rollout import by_parts, find_tokens
from relprop.ops.op import Role
from relprop.ops.table import entry
from relprop.propagation.roles import Roles

_NO_BIAS = frozenset({Role.POOL, Role.ADD, Role.BLOCK})
_NO_PLACE = frozenset({Role.SOFTMAX, Role.ATTENTION, Role.PRODUCT, Role.READOUT})


@dataclass(frozen=True)
class FullGradients:
    """The gradient of the score by the input and by every op that has a bias.

    Attributes:
        inputs: By the floating inputs.
        values: By other values that were asked for.
        kept: Those values.
        biases: By op, its bias times the gradient, shaped like its output.
    """

    inputs: list[Tensor]
    values: dict[fx.Node, Tensor]
    kept: dict[fx.Node, Tensor]
    biases: dict[fx.Node, Tensor]


def full_gradients(problem: Problem, *, libra: bool, keep: tuple[fx.Node, ...] = ()) -> FullGradients:
    """Differentiate the score by inputs, biases and the values in ``keep``.

    The bias of an op is what its derivative leaves of it, ``y − J x`` (Srinivas and Fleuret 2019, Eq. 5), for nonlinear ops too; so inputs
    and biases, times their gradients, add up to the score.
    """
    model = problem.model
    treated = libra_handlers(model) if libra else {}
    biases: dict[fx.Node, tuple[Tensor, Tensor]] = {}
    handlers = {n: partial(_with_bias, model, n, treated.get(n), biases) for n in _with_biases(model, treated)}
    with torch.enable_grad():
        inputs = [x.clone().requires_grad_() for x in problem.inputs]
        output, kept = model.run(problem.with_inputs(inputs), {**treated, **handlers}, keep)
        wanted = [*inputs, *(kept[n] for n in keep), *(value for value, _ in biases.values())]
        found = torch.autograd.grad(problem.weigh(output).sum(), wanted, allow_unused=True, materialize_grads=True)
    of_inputs, of_kept = found[: len(inputs)], found[len(inputs) : len(inputs) + len(keep)]
    rest = found[len(inputs) + len(keep) :]
    return FullGradients(
        list(of_inputs),
        dict(zip(keep, of_kept, strict=True)),
        {n: kept[n].detach() for n in keep},
        {n: bias * g for (n, (_, bias)), g in zip(biases.items(), rest, strict=True)},
    )


def _with_biases(model: CapturedModel, treated: Mapping[fx.Node, Handler]) -> list[fx.Node]:
    """The ops whose derivative may leave a rest."""
    roles, found = Roles(model.module.graph), list[fx.Node]()
    for node in model.active:
        if not is_floating(node) or not isinstance(node.meta["val"], Tensor) or not model.carriers(node):
            continue
        op, role = entry(node), roles.kinds.get(node, Role.BLOCK)
        moves = role is Role.SHAPE and len(model.carriers(node)) == len([n for n in node.all_input_nodes if is_floating(n)])
        is_relu = op is not None and op.rectifier == "relu" and not op.bounded
        linear = role in _NO_BIAS or (node in treated and role not in {Role.NORM, Role.ACTIVATION})
        if not (moves or is_relu or linear):
            found.append(node)
    return found


def _with_bias(
    model: CapturedModel,
    node: fx.Node,
    treated: Handler | None,
    biases: dict[fx.Node, tuple[Tensor, Tensor]],
    *args: Any,  # noqa: ANN401 - the op's own arguments
    **named: Any,  # noqa: ANN401
) -> Tensor:
    """Run an op and note its value and its bias ``y − J x``."""
    function: Any = treated or node.target
    value = function(*args, **named)
    carriers = set(model.carriers(node))
    places = [i for i, argument in enumerate(node.args) if argument in carriers]
    lists = [i for i, argument in enumerate(node.args) if isinstance(argument, list | tuple) and carriers.intersection(argument)]

    def of_carriers(*given: Tensor) -> Tensor:
        rest, filled = iter(given), list(args)
        for i in places:
            filled[i] = next(rest)
        for i in lists:
            members: Any = node.args[i]
            filled[i] = [next(rest) if n in carriers else v for n, v in zip(members, args[i], strict=True)]
        return function(*filled, **named)

    given = [args[i].detach() for i in places]
    for i in lists:
        members: Any = node.args[i]
        given += [v.detach() for n, v in zip(members, args[i], strict=True) if n in carriers]
    with torch.no_grad():
        slope = torch.func.jvp(of_carriers, tuple(given), tuple(given))[1]
    biases[node] = (value, value.detach() - slope)
    return value


def _placed(problem: Problem, biases: Mapping[fx.Node, Tensor]) -> tuple[Tensor, Tensor]:
    """The biases as a map ``(B, …)``, and the sum of those that have no place, ``(B,)``."""
    image, roles = problem.image, Roles(problem.model.module.graph)
    total = torch.zeros(image.shape[0], *image.shape[2:], dtype=image.dtype, device=image.device)
    left = torch.zeros(image.shape[0], dtype=image.dtype, device=image.device)
    layouts = find_samples(problem.model.module.graph, dynamic=problem.model.dynamic).layouts
    for node, part in biases.items():
        own = part.expand(image.shape[0], *part.shape[1:]) if part.shape[0] == 1 else part
        left = left + layouts[node].sum(own, image.shape[0])
        grid = None if roles.kinds.get(node) in _NO_PLACE else as_grid(problem.model, "", node)
        if grid is not None:
            maps = grid.to_maps(own).sum(1)
            total, left = total + spread(maps, image), left - maps.flatten(1).sum(1)
    return total, left


def build_fullgrad(*, libra: bool = True) -> Attribution:
    """FullGrad: input times gradient, plus every bias times its gradient at its place, signed; with what has no place it adds up to the logit.

    Maps of layers are enlarged such that their sums stay. The biases of dense layers without positions, of class tokens and the like count
    as absorbed.

    Args:
        libra: Use Libra's gradients, without which transformers have most of their logit in the biases of their nonlinear ops.
    """

    def attribute(problem: Problem) -> Attributed:
        found = full_gradients(problem, libra=libra)
        maps, left = _placed(problem, found.biases)
        return Attributed([problem.image * found.inputs[0] + over_channels(maps, problem.image)], left, complete=True)

    return Attribution("fullgrad", attribute)


def build_fullgrad_plus(*, libra: bool = True) -> Attribution:
    """FullGrad+: FullGrad, plus the input of every further block of a transformer times its gradient, summed over channels.

    Args:
        libra: Use Libra's gradients.
    """
    name = "fullgrad-plus"

    def explain(problem: Problem) -> Attributed:
        tokens = find_tokens(name, problem.model)
        streams = tuple(block.input for block in find_blocks(name, problem.model, tokens.layers))[1:]
        found = full_gradients(problem, libra=libra, keep=streams)
        maps, _ = _placed(problem, found.biases)
        for node in streams:
            maps = maps + spread(tokens.grid.to_maps((found.kept[node] * found.values[node]).sum(2)), problem.image)
        return Attributed([problem.image * found.inputs[0] + over_channels(maps, problem.image)])

    return Attribution(name, partial(by_parts, explain), partial(note_blocks, name))


FULLGRAD_METHODS = (
    (
        "fullgrad",
        build_fullgrad,
        "Input and biases times their gradients, at their places",
        "Srinivas and Fleuret, NeurIPS 2019; Mehri et al., CVPR 2025",
        VOTES,
    ),
    (
        "fullgrad-plus",
        build_fullgrad_plus,
        "FullGrad with the tokens of every block times their gradient",
        "Mehri et al., CVPR 2025, released code",
        VOTES,
    ),
)
