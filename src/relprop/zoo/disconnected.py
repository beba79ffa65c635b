"""Models of mosaics whose cells are disconnected, so that it is known where relevance may lie: DiFull and DiPart."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, fx, nn

from relprop.errors import ModelError
from relprop.graph.capture import capture
from relprop.graph.facts import is_softmax
from relprop.graph.grids import channels_last
from relprop.graph.model import CapturedModel
from relprop.graph.nodes import Graph, is_floating
from relprop.inputs import Inputs
from relprop.ops.op import Role
from relprop.ops.table import entry
from relprop.zoo.model import LoadedModel
from relprop.zoo.preprocessing import Preprocessing


class Stitched(nn.Module):
    """Puts the maps of cells, in reading order, into one map of the whole mosaic."""

    def __init__(self, grid: int) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, *maps: Tensor) -> Tensor:
        """Return the map; ``(B, C, h, w)`` each → ``(B, C, grid·h, grid·w)``."""
        rows = [torch.cat(maps[start : start + self.grid], 3) for start in range(0, len(maps), self.grid)]
        return torch.cat(rows, 2)


class Disconnected(nn.Module):
    """A classifier of mosaics whose logits are those of one cell; its features are stitched maps of cells, or one map of the whole.

    Args:
        features: The features: of a cell if there is ``stitched``, else of the mosaic.
        stitched: Puts the features of cells together; None where they are of the whole.
        head: From the features of a cell to its logits; None where ``features`` already gives logits.
        grid: Number of cells per side.
        cell: The cell, in reading order from 0.
    """

    def __init__(self, features: nn.Module, stitched: Stitched | None, head: nn.Module | None, grid: int, cell: int = 0) -> None:
        super().__init__()
        self.features, self.stitched, self.head = features, stitched, head
        self.grid, self.cell = grid, cell

    def of_cell(self, cell: int) -> "Disconnected":
        """Return the classifier that reads another cell; it shares all weights."""
        return Disconnected(self.features, self.stitched, self.head, self.grid, cell).train(self.training)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of the cell, ``(B, K)``; ``x`` is ``(B, C, grid·height, grid·width)``."""
        if self.head is None:
            return self.features(x[(..., *cells_of(x, self.grid)[self.cell])])
        found = (
            self.features(x)
            if self.stitched is None
            else self.stitched(*(self.features(x[(..., *c)]) for c in cells_of(x, self.grid)))
        )
        # indices, unlike slices, leave the features one value that all relevance passes
        rows, columns = (torch.arange(side, device=x.device).view(self.grid, -1) for side in found.shape[2:])
        row, column = divmod(self.cell, self.grid)
        return self.head(found.index_select(2, rows[row]).index_select(3, columns[column]))


def difull(model: nn.Module, grid: int, size: tuple[int, int]) -> Disconnected:
    """Return a classifier of mosaics that sees each cell alone, so that no relevance can lie in another (DiFull).

    Source: Rao et al., Towards Better Understanding Attribution Methods, CVPR 2022, section 3.1.

    Args:
        model: A classifier of images of the size of a cell; it is left as it is.
        grid: Number of cells per side.
        size: Height and width of a cell.
    """
    captured = _captured(model, size)
    node = _last_map(captured)
    if node is None:
        return Disconnected(model, None, None, grid).eval()
    return Disconnected(_until(captured, node), Stitched(grid), _after(captured, node), grid).eval()


def dipart(model: nn.Module, grid: int, size: tuple[int, int]) -> Disconnected:
    """Return a classifier of mosaics whose features see the whole and whose head sees one cell (DiPart).

    Relevance may lie outside a cell as far as the receptive fields of its features reach.

    Source: Rao et al., Towards Better Understanding Attribution Methods, CVPR 2022, section 3.1.

    Args:
        model: A convolutional classifier of images of the size of a cell; it is left as it is.
        grid: Number of cells per side.
        size: Height and width of a cell.

    Raises:
        ModelError: The model has no features with a place in the image, as transformers have none at their end, or does not take mosaics.
    """
    captured = _captured(model, size)
    node = _last_map(captured)
    if node is None:
        raise ModelError(
            "DiPart needs a model whose last features have places in the image, before they are pooled; this one has none."
        )
    features = _until(captured, node)
    sides = [side * grid for side in node.meta["val"].shape[2:]]
    found = _shape_of_features(features, _zeros(model, (grid * size[0], grid * size[1])))
    if found != sides:
        raise ModelError(
            f"DiPart needs features that divide into cells: of a mosaic they are {found or 'none'} and should be {sides}."
        )
    return Disconnected(features, None, _after(captured, node), grid).eval()


def cells_of(x: Tensor, grid: int) -> list[tuple[slice, slice]]:
    """Return the cells of a map ``(…, H, W)``, whose sides are multiples of ``grid``, in reading order."""
    high, wide = x.shape[-2] // grid, x.shape[-1] // grid
    return [
        (slice(row * high, (row + 1) * high), slice(column * wide, (column + 1) * wide))
        for row in range(grid)
        for column in range(grid)
    ]


def _zeros(model: nn.Module, size: tuple[int, int]) -> Tensor:
    parameter = next(model.parameters())
    return torch.zeros(1, 3, *size, device=parameter.device, dtype=parameter.dtype)


def _captured(model: nn.Module, size: tuple[int, int]) -> CapturedModel:
    return capture(model, Inputs((_zeros(model, size),)))


def _shape_of_features(features: nn.Module, x: Tensor) -> list[int]:
    """Return height and width of the features of an input; empty where the model does not take its size."""
    try:
        with torch.no_grad():
            return list(features(x).shape[2:])
    except RuntimeError:
        return []


def _last_map(captured: CapturedModel) -> fx.Node | None:
    """Return the last value ``(B, channels, h, w)`` before pooling that alone decides the logits, without attention after it; None without."""
    height, width = captured.example.tensors[0][1].shape[2:]
    for node in reversed(captured.ops):
        if is_softmax(node):
            return None
        value, known = node.meta["val"], entry(node)
        if (
            known is None
            or known.role is Role.POOL
            or not is_floating(node)
            or not isinstance(value, Tensor)
            or value.dim() != 4
            or min(value.shape[2:]) < 2
        ):
            continue
        _, channels, high, wide = value.shape
        if not channels_last((channels, high, wide), (height, width)) and _decides(captured, node):
            return node
    return None


def _decides(captured: CapturedModel, node: fx.Node) -> bool:
    """Whether everything of the input that the logits depend on goes through a node."""
    seen, queue = set[fx.Node](), [captured.output]
    while queue:
        found = queue.pop()
        if found.op == "placeholder":
            return False
        parents = [parent for parent in found.all_input_nodes if parent not in seen and parent is not node]
        seen.update(parents)
        queue.extend(parents)
    return True


def _part(captured: CapturedModel, build: Callable[[fx.Graph, Mapping[fx.Node, fx.Node]], fx.Node]) -> nn.Module:
    """Return a part of a captured model as a module; tensors are shared."""
    graph, known = fx.Graph(), dict[fx.Node, fx.Node]()
    graph.graph_copy(captured.module.graph, known)  # pyright: ignore[reportArgumentType]
    result = build(graph, known)
    graph.output((result,))
    graph.eliminate_dead_code()
    owner = nn.Module()
    for name, tensor in captured.module.named_buffers(remove_duplicate=False):
        owner.register_buffer(name, tensor)
    return Graph(owner, graph)


def _until(captured: CapturedModel, node: fx.Node) -> nn.Module:
    """Return the function from the input to a node."""
    return _part(captured, lambda _, known: known[node])


def _after(captured: CapturedModel, node: fx.Node) -> nn.Module:
    """Return the function from a node, which alone decides the logits, to the logits."""

    def build(graph: fx.Graph, known: Mapping[fx.Node, fx.Node]) -> fx.Node:
        with graph.inserting_before(next(iter(graph.nodes))):
            given = graph.placeholder("features")
        known[node].replace_all_uses_with(given)
        result = given if captured.output is node else known[captured.output]
        for old in reversed(list(graph.nodes)):
            if old is not given and old is not result and not old.users:
                graph.erase_node(old)
        return result

    return _part(captured, build)


SETTINGS = ("shrunk", "full", "difull", "dipart")
"""How a model sees a mosaic of photos: shrunk to its input size; in full, each cell of that size; and so, disconnected by :func:`difull` or
:func:`dipart`."""


def of_mosaics(loaded: LoadedModel, setting: str, grid: int) -> LoadedModel:
    """Return a model of mosaics with ``grid`` cells per side, and its preprocessing, which takes the whole mosaic.

    Args:
        loaded: A model of photos.
        setting: One of ``SETTINGS``.
        grid: Number of cells per side.

    Raises:
        ModelError: The model cannot be disconnected.
    """
    height, width = size = loaded.preprocessing.size
    if setting == "shrunk":
        return replace(loaded, preprocessing=replace(loaded.preprocessing, resize=size))
    full: Preprocessing = replace(loaded.preprocessing, size=(grid * height, grid * width), resize=(grid * height, grid * width))
    if setting == "full":
        return replace(loaded, preprocessing=full)
    model = (difull if setting == "difull" else dipart)(loaded.model, grid, size)
    return replace(loaded, model=model, preprocessing=full, disconnected=model.of_cell)
