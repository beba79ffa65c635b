"""Find the layer of a class activation map, and read its output as a grid of feature vectors."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor, fx

from relprop.errors import OptionError, suggestion
from relprop.graph.facts import is_softmax
from relprop.graph.grids import channel_dim, input_size, lies_over
from relprop.graph.model import CapturedModel
from relprop.graph.nodes import OUTPUTS, Size, is_floating, module_outputs, returns, shape_of, tensor_inputs
from relprop.methods.tokens import first_mixed, token_grid
from relprop.ops.op import Role
from relprop.propagation.roles import Roles


@dataclass(frozen=True)
class Grid:
    """A value that is a grid of feature vectors.

    Attributes:
        path: The module whose output it is.
        node: The value.
        to_maps: From its shape to ``(B, channels, …)``.
        channel_dim: The dimension of its channels.
        notes: What the user should know of it.
    """

    path: str
    node: fx.Node
    to_maps: Callable[[Tensor], Tensor]
    channel_dim: int
    notes: tuple[str, ...] = ()


def _shape(node: fx.Node) -> tuple[int, ...]:
    """The shape without the batch; empty where the first dimension is not the batch."""
    batch, *sizes = shape_of(node) or (0,)
    first = shape_of(tensor_inputs(node.graph)[0])[0]
    return () if batch != first or any(isinstance(n, Size) for n in sizes) else tuple(sizes)  # pyright: ignore[reportReturnType]


def _printed(node: fx.Node) -> str:
    sizes = (n if isinstance(n, Size) else str(n) for n in shape_of(node))
    return "×".join(n if isinstance(n, str) else f"{n.per_sample}·B".removeprefix("1·") for n in sizes)


def as_grid(model: CapturedModel, path: str, node: fx.Node) -> Grid | None:
    """Read a value as a grid over the input's positions: ``(B, C, …)``, ``(B, …, C)`` or tokens ``(B, N, C)``; None where it is none of them.

    Dimensions of size one count as no positions where there are more than the input has.
    """
    shape, size = _shape(node), input_size(model)
    if not is_floating(node) or size is None or node.target is None or len(shape) < 2:
        return None
    channels = channel_dim(model, node)
    if len(shape) == 2 and (len(size) > 1 or channels == 2):
        return _of_tokens(model, path, node, size) if channels == 2 else None
    places = {d: n for d, n in enumerate(shape, 1) if d != channels}
    single = [d for d, n in places.items() if n == 1][: len(places) - len(size)]
    sizes = [n for d, n in places.items() if d not in single]
    if len(sizes) != len(size) or not lies_over(model, size, sizes):
        return None
    return Grid(path, node, lambda v: v.movedim(channels, 1).squeeze([d + (d < channels) for d in single]), channels)


def _of_tokens(model: CapturedModel, path: str, node: fx.Node, size: tuple[int, ...]) -> Grid | None:
    """Read tokens ``(B, N, C)`` as a grid of patches."""
    found = token_grid(model, size, *first_mixed(model, node))
    if found is None:
        return None

    def to_maps(tokens: Tensor) -> Tensor:
        return found.to_maps(tokens).movedim(-1, 1)

    return Grid(path, node, to_maps, 2, found.notes)


def find_grid(model: CapturedModel, layer: str | None) -> Grid:
    """Return the layer of the map: the named one, or the last one that fits.

    In a convolutional network that is the last grid before pooling; in a transformer the last norm before attention mixes the tokens for
    the last time, since the class token alone carries the decision after that.

    Raises:
        OptionError: There is no such module, its output is no grid, no module fits, or the input has no positions.
    """
    if input_size(model) is None:
        raise OptionError(
            "A class activation map lies over the positions of one signal, image or volume (batch, channels, …), and the model takes no "
            "such input, or reads its channels in another dimension; permute it in a module around the model."
        )
    layers = {path: node for path, node in module_outputs(model.module.graph).items() if is_floating(node)}
    if layer is not None:
        if layer not in layers:
            raise OptionError(f"No module {layer!r} with an output of its own.{suggestion(layer, layers)}")
        if layers[layer].op == "placeholder":
            raise OptionError(f"Module {layer!r} returns the model's input; choose a layer that computes something.")
        grid = as_grid(model, layer, layers[layer])
        if grid is None:
            raise OptionError(
                f"The output of module {layer!r} is no grid of feature vectors over the input: its shape is {_printed(layers[layer])}."
            )
        return grid
    roles = Roles(model.module.graph)
    for choose in (_before_attention, _before_pooling):
        grids = (as_grid(model, path, node) for path, node in reversed(choose(model, roles, layers)))
        found = next((grid for grid in grids if grid is not None), None)
        if found is not None:
            return replace(found, path=_name(model, found.node))
    raise OptionError("The model has no module whose output is a grid of feature vectors; choose one with layer=….")


def _name(model: CapturedModel, node: fx.Node) -> str:
    """The shortest path of a module that computes a value, rather than passing it on."""
    known, paths = returns(model.module), node.meta[OUTPUTS]
    return min([path for path in paths if not known[path].passes_on] or paths, key=len)


def _before_attention(model: CapturedModel, roles: Roles, layers: dict[str, fx.Node]) -> list[tuple[str, fx.Node]]:
    """Outputs of norms that the last attention reads."""
    attention = [n for n in model.active if is_softmax(n)]
    if not attention:
        return []
    ancestors, queue = set[fx.Node](), [attention[-1]]
    while queue:
        parents = [p for p in queue.pop().all_input_nodes if p not in ancestors]
        ancestors.update(parents)
        queue.extend(parents)
    return [(path, node) for path, node in layers.items() if node in ancestors and roles.of(node) is Role.NORM]


def _before_pooling(model: CapturedModel, roles: Roles, layers: dict[str, fx.Node]) -> list[tuple[str, fx.Node]]:
    active = set(model.active)
    return [(path, node) for path, node in layers.items() if node in active and roles.of(node) is not Role.POOL]
