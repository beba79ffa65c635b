"""Complex values as pairs of real ones: ops on complex values become ops on real and imaginary parts, so that relevance is real everywhere."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from relprop.graph.nodes import OUTPUTS, add_constant, insert, replace, value_of
from relprop.graph.passes.constants import drop_unused
from relprop.ops.fourier import own
from relprop.ops.op import op_name
from relprop.ops.table import arguments_of

aten = torch.ops.aten


class Pair:
    """A complex value by its parts, or by its real view ``(…, 2)``; each is made from the other where it is first read.

    Args:
        before: The node before which the other form is inserted.
        parts: Real and imaginary part.
        view: Both, in one value.
    """

    def __init__(self, before: fx.Node, parts: tuple[Any, Any] | None = None, view: fx.Node | None = None) -> None:
        self._before, self._parts, self._view = before, parts, view

    @property
    def parts(self) -> tuple[Any, Any]:
        """Real and imaginary part."""
        if self._parts is None:
            dim = value_of(self._view).dim() - 1
            real, imaginary = (insert(self._before, aten.select.int, self._view, dim, side) for side in (0, 1))
            self._parts = real, imaginary
        return self._parts

    @property
    def view(self) -> fx.Node:
        """The real view."""
        if self._view is None:
            self._view = insert(self._before, aten.stack.default, list(self.parts), value_of(self.parts[0]).dim())
        return self._view


Form = Callable[[fx.Node, dict[str, Any]], "Pair | fx.Node | None"]
"""``(node, arguments with pairs for complex values) -> the value in real ops``, inserted before the node; None where it stays complex."""


def separate_complex(module: fx.GraphModule) -> None:
    """Write ops on complex values in real ops; those without such a form keep their complex operands, made anew from the parts."""
    pairs: dict[fx.Node, Pair] = {}
    for node in list(module.graph.nodes):
        complex_operands = [n for n in node.all_input_nodes if _is_complex(n)]
        if node.op != "call_function" or not (complex_operands or _is_complex(node)):
            continue
        made = _form_of(node, pairs)
        if isinstance(made, Pair):
            pairs[node] = _marked(node, made)
        elif made is not None:
            replace(node, made)
        else:
            for operand in [n for n in complex_operands if n in pairs]:
                node.replace_input_with(operand, insert(node, aten.view_as_complex.default, pairs[operand].view))
    if pairs:
        drop_unused(module)


def _is_complex(node: fx.Node) -> bool:
    value = node.meta.get("val")
    first = value[0] if isinstance(value, list | tuple) and value else value
    return isinstance(first, Tensor) and first.is_complex()


def _form_of(node: fx.Node, pairs: dict[fx.Node, Pair]) -> Pair | fx.Node | None:
    form = _FORMS.get(op_name(node.target).removeprefix("aten::"))
    if form is None:
        return None

    def paired(value: Any) -> Any:  # noqa: ANN401 - an argument
        if isinstance(value, list | tuple):
            return [paired(item) for item in value]
        if isinstance(value, fx.Node) and _is_complex(value) and value not in pairs:
            with value.graph.inserting_after(value):
                after = value.next
            pairs[value] = Pair(after, view=insert(after, aten.view_as_real.default, value))
        return pairs.get(value, value) if isinstance(value, fx.Node) else value

    return form(node, {name: paired(value) for name, value in arguments_of(node).items()})


def _marked(node: fx.Node, pair: Pair) -> Pair:
    """The pair; where the value is the output of a module, that mark goes to its real view."""
    if OUTPUTS not in node.meta:
        return pair
    pair.view.meta[OUTPUTS] = [*pair.view.meta.get(OUTPUTS, []), *node.meta.pop(OUTPUTS)]
    return Pair(node, view=pair.view)


# --- forms ---------------------------------------------------------------------------------------------------------------------------


def _part(node: fx.Node, value: Any, side: int) -> Any:  # noqa: ANN401 - an argument
    """One part of a value; a real value is its own real part, and its imaginary part is zero."""
    if isinstance(value, list):
        return [_part(node, item, side) for item in value]
    if isinstance(value, Pair):
        return value.parts[side]
    if isinstance(value, fx.Node):
        return insert(node, aten.zeros_like.default, value) if side else value
    return (value.imag if side else value.real) if isinstance(value, int | float | complex) else value


def _call(node: fx.Node, arguments: Mapping[str, Any]) -> fx.Node:
    """Insert a call of the same op; complex dtypes become those of the parts."""
    given = {name: v.to_real() if isinstance(v, torch.dtype) and v.is_complex else v for name, v in arguments.items()}
    positional = [given[name] for name, _ in zip(given, node.args, strict=False)]
    return insert(node, node.target, *positional, **{name: given[name] for name in node.kwargs})


def _pair(node: fx.Node, make: Callable[[int], fx.Node]) -> Pair:
    """The pair of what ``make`` inserts for the real part, 0, and the imaginary part, 1."""
    return Pair(node, (make(0), make(1)))


def _by_part(*values: str) -> Callable[[fx.Node, dict[str, Any]], Pair]:
    """The op on real and on imaginary parts of the arguments ``values``; other arguments stay."""

    def form(node: fx.Node, given: dict[str, Any]) -> Pair:
        return _pair(node, lambda side: _call(node, {n: _part(node, v, side) if n in values else v for n, v in given.items()}))

    return form


def _cast(node: fx.Node, given: dict[str, Any]) -> Pair | fx.Node:
    """To another complex dtype, from a real value, or to its real part."""
    by_part = _by_part("self")(node, given)
    return by_part if _is_complex(node) else by_part.parts[0]


# --- products ------------------------------------------------------------------------------------------------------------------------


def _view(node: fx.Node, value: Any) -> fx.Node:  # noqa: ANN401 - an operand
    """The real view of an operand; that of a number is a constant."""
    if isinstance(value, Pair):
        return value.view
    if isinstance(value, fx.Node):
        return _pair(node, lambda side: _part(node, value, side)).view
    number = torch.tensor([value.real, value.imag], dtype=value_of(node).dtype.to_real())
    return add_constant(node.graph.owning_module, node, "number", number)  # pyright: ignore[reportArgumentType]


def _product(node: fx.Node, a: Any, b: Any) -> Pair:  # noqa: ANN401 - operands
    return Pair(node, view=insert(node, own.complex_product.default, _view(node, a), _view(node, b)))


def _multiply(node: fx.Node, given: dict[str, Any]) -> Pair:
    """By a real value part by part, else as the complex product."""
    a, b = given["self"], given["other"]
    if isinstance(a, Pair) and not isinstance(b, Pair | complex):
        return _by_part("self")(node, given)
    if isinstance(b, Pair) and not isinstance(a, Pair | complex):
        return _by_part("other")(node, given)
    return _product(node, a, b)


def _divide(node: fx.Node, given: dict[str, Any]) -> Pair:
    """``a / b`` as ``a b̄ / |b|²`` where ``b`` is complex."""
    a, b = given["self"], given["other"]
    if isinstance(b, complex):
        return _product(node, a, 1 / b)
    if not isinstance(b, Pair):
        return _by_part("self")(node, given)
    square = insert(node, aten.add.Tensor, *(insert(node, aten.square.default, part) for part in b.parts))
    above = _product(node, a, _conjugate(node, {"self": b}))
    return _pair(node, lambda side: insert(node, aten.div.Tensor, above.parts[side], square))


def _square(node: fx.Node, given: dict[str, Any]) -> Pair | None:
    return _product(node, given["self"], given["self"]) if given.get("exponent", 2) == 2 else None


def _conjugate(node: fx.Node, given: dict[str, Any]) -> Pair:
    real, imaginary = given["self"].parts
    return Pair(node, (real, insert(node, aten.neg.default, imaginary)))


def _from_polar(node: fx.Node, length: fx.Node, angle: fx.Node) -> Pair:
    turns = aten.cos.default, aten.sin.default
    return _pair(node, lambda side: insert(node, aten.mul.Tensor, length, insert(node, turns[side], angle)))


def _exponential(node: fx.Node, given: dict[str, Any]) -> Pair:
    real, imaginary = given["self"].parts
    return _from_polar(node, insert(node, aten.exp.default, real), imaginary)


def _block(node: fx.Node, value: Any, dims: tuple[int, int]) -> fx.Node:  # noqa: ANN401 - an operand
    """A complex matrix as the real one ``[[re, im], [−im, re]]``, for rows ``[re, im]``."""
    real, imaginary = (_part(node, value, side) for side in (0, 1))
    above = insert(node, aten.cat.default, [real, imaginary], dims[1])
    below = insert(node, aten.cat.default, [insert(node, aten.neg.default, imaginary), real], dims[1])
    return insert(node, aten.cat.default, [above, below], dims[0])


def _joined(node: fx.Node, value: Any) -> fx.Node:  # noqa: ANN401 - an operand
    """Rows ``[re, im]``."""
    parts = [_part(node, value, side) for side in (0, 1)]
    return insert(node, aten.cat.default, parts, value_of(parts[0]).dim() - 1)


def _halves(node: fx.Node, rows: fx.Node) -> Pair:
    last = value_of(rows).dim() - 1
    size = value_of(rows).shape[last] // 2
    return _pair(node, lambda side: insert(node, aten.slice.Tensor, rows, last, side * size, (side + 1) * size))


def _matrix_product(node: fx.Node, given: dict[str, Any]) -> Pair | None:
    """One real product, of rows ``[re, im]`` and the block matrix."""
    a, b = list(given)[:2]
    if min(value_of(n).dim() for n in node.all_input_nodes) < 2:
        return None
    if not isinstance(given[a], Pair):
        return _by_part(b)(node, given)
    dims = value_of(node.args[1]).dim()
    matrix = _block(node, given[b], (dims - 2, dims - 1))
    return _halves(node, _call(node, {**given, a: _joined(node, given[a]), b: matrix}))


def _linear(node: fx.Node, given: dict[str, Any]) -> Pair:
    """A complex dense layer as a real one of twice the size."""
    turned = _pair(node, lambda side: insert(node, aten.t.default, _part(node, given["weight"], side)))
    weight = insert(node, aten.t.default, _block(node, turned, (0, 1)))
    bias = None if given["bias"] is None else _joined(node, given["bias"])
    return _halves(node, insert(node, aten.linear.default, _joined(node, given["input"]), weight, bias))


# --- the table -----------------------------------------------------------------------------------------------------------------------

_ELEMENTS = """neg sum mean cumsum reshape view _unsafe_view flatten unflatten permute transpose t squeeze unsqueeze expand broadcast_to repeat
    tile repeat_interleave slice select narrow index index_select gather roll flip diagonal unfold split split_with_sizes chunk
    tensor_split unbind clone contiguous alias detach lift_fresh_copy resolve_conj resolve_neg zeros_like getitem"""
_SEVERAL = {
    "add": ("self", "other"),
    "sub": ("self", "other"),
    "rsub": ("self", "other"),
    "cat": ("tensors",),
    "stack": ("tensors",),
    "where": ("self", "other"),
    "masked_fill": ("self", "value"),
    "constant_pad_nd": ("self", "value"),
    "index_put": ("self", "values"),
    "relprop::index_put_add": ("self", "values"),
    "scatter_add": ("self", "src"),
    "index_add": ("self", "source"),
    "slice_scatter": ("self", "src"),
    "select_scatter": ("self", "src"),
    "copy": ("self", "src"),
}
_FORMS: Mapping[str, Form] = {
    **dict.fromkeys(_ELEMENTS.split(), _by_part("self")),
    **{name: _by_part(*values) for name, values in _SEVERAL.items()},
    **dict.fromkeys(("to", "_to_copy"), _cast),
    **dict.fromkeys(("_conj", "conj", "_conj_physical", "conj_physical"), _conjugate),
    **dict.fromkeys(("square", "pow"), _square),
    **dict.fromkeys(("matmul", "mm", "bmm"), _matrix_product),
    "linear": _linear,
    "mul": _multiply,
    "div": _divide,
    "exp": _exponential,
    "complex": lambda node, given: Pair(node, (given["real"], given["imag"])),
    "polar": lambda node, given: _from_polar(node, given["abs"], given["angle"]),
    "view_as_complex": lambda node, given: Pair(node, view=given["self"]),
    "view_as_real": lambda _, given: given["self"].view,
    "real": lambda _, given: given["self"].parts[0],
    "imag": lambda _, given: given["self"].parts[1],
    "abs": lambda node, given: insert(node, aten.linalg_vector_norm.default, given["self"].view, 2, [value_of(node).dim()]),
    "angle": lambda node, given: insert(node, aten.atan2.default, given["self"].parts[1], given["self"].parts[0]),
}
"""The form of an op on complex values in real ops, by name."""
