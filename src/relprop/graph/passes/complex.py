"""Complex values as pairs of real ones: ops on complex values become ops on real and imaginary parts, so that relevance is real everywhere."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from relprop.graph.nodes import OUTPUTS, add_constant, insert, replace, value_of
from relprop.graph.passes.constants import drop_unused
from relprop.ops.op import op_name
from relprop.ops.table import arguments_of

aten, own = torch.ops.aten, torch.ops.relprop


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


def _by_part(*values: str) -> Form:
    """The op on real and on imaginary parts of the arguments ``values``; other arguments stay."""

    def form(node: fx.Node, given: dict[str, Any]) -> Pair | fx.Node:
        parts = [
            _call(node, {name: _part(node, v, side) if name in values else v for name, v in given.items()}) for side in (0, 1)
        ]
        return Pair(node, (parts[0], parts[1])) if _is_complex(node) else parts[0]

    return form


def _cast(node: fx.Node, given: dict[str, Any]) -> Pair | fx.Node:
    real = _call(node, {**given, "self": _part(node, given["self"], 0)})
    if not _is_complex(node):
        return real
    if isinstance(given["self"], Pair):
        return Pair(node, (real, _call(node, {**given, "self": given["self"].parts[1]})))
    return Pair(node, (real, insert(node, aten.zeros_like.default, real)))


def _view(node: fx.Node, value: Any) -> fx.Node:  # noqa: ANN401 - an operand
    """The real view of an operand, a complex number as a constant."""
    if isinstance(value, Pair):
        return value.view
    if isinstance(value, fx.Node):
        return Pair(node, (_part(node, value, 0), _part(node, value, 1))).view
    like = value_of(node)
    number = torch.tensor([value.real, value.imag], dtype=like.dtype.to_real())
    return add_constant(node.graph.owning_module, node, "number", number)  # pyright: ignore[reportArgumentType]


def _multiply(node: fx.Node, given: dict[str, Any]) -> Pair:
    """By a real value part by part, else as the complex product."""
    a, b = given["self"], given["other"]
    if isinstance(a, Pair) and not isinstance(b, Pair | complex):
        return Pair(node, tuple(_call(node, {"self": part, "other": b}) for part in a.parts))  # pyright: ignore[reportArgumentType]
    if isinstance(b, Pair) and not isinstance(a, Pair | complex):
        return Pair(node, tuple(_call(node, {"self": a, "other": part}) for part in b.parts))  # pyright: ignore[reportArgumentType]
    return Pair(node, view=insert(node, own.complex_product.default, _view(node, a), _view(node, b)))


def _divide(node: fx.Node, given: dict[str, Any]) -> Pair | None:
    """``a / b`` as ``a b̄ / |b|²`` where ``b`` is complex."""
    a, b = given["self"], given["other"]
    if isinstance(b, complex):
        return _multiply_by(node, a, 1 / b)
    if not isinstance(b, Pair):
        return Pair(node, tuple(_call(node, {**given, "self": part}) for part in a.parts))  # pyright: ignore[reportArgumentType]
    real, imaginary = b.parts
    square = insert(node, aten.add.Tensor, *(insert(node, aten.square.default, part) for part in b.parts))
    conjugate = Pair(node, (real, insert(node, aten.neg.default, imaginary)))
    top = Pair(node, view=insert(node, own.complex_product.default, _view(node, a), conjugate.view))
    return Pair(node, tuple(insert(node, aten.div.Tensor, part, square) for part in top.parts))  # pyright: ignore[reportArgumentType]


def _multiply_by(node: fx.Node, a: Any, number: complex) -> Pair:  # noqa: ANN401 - an operand
    return Pair(node, view=insert(node, own.complex_product.default, _view(node, a), _view(node, number)))


def _square(node: fx.Node, given: dict[str, Any]) -> Pair | None:
    if given.get("exponent", 2) != 2:
        return None
    return Pair(node, view=insert(node, own.complex_product.default, given["self"].view, given["self"].view))


def _conjugate(node: fx.Node, given: dict[str, Any]) -> Pair:
    real, imaginary = given["self"].parts
    return Pair(node, (real, insert(node, aten.neg.default, imaginary)))


def _from_polar(node: fx.Node, length: Any, angle: Any) -> Pair:  # noqa: ANN401 - nodes
    cos, sin = (insert(node, aten.mul.Tensor, length, insert(node, turn, angle)) for turn in (aten.cos.default, aten.sin.default))
    return Pair(node, (cos, sin))


def _exponential(node: fx.Node, given: dict[str, Any]) -> Pair:
    real, imaginary = given["self"].parts
    return _from_polar(node, insert(node, aten.exp.default, real), imaginary)


def _block(node: fx.Node, value: Any, dims: tuple[int, int]) -> fx.Node:  # noqa: ANN401 - an operand
    """The real matrix of a complex one: ``[[re, im], [−im, re]]``, for products with rows ``[re, im]``."""
    real, imaginary = (_part(node, value, side) for side in (0, 1))
    upper = insert(node, aten.cat.default, [real, imaginary], dims[1])
    lower = insert(node, aten.cat.default, [insert(node, aten.neg.default, imaginary), real], dims[1])
    return insert(node, aten.cat.default, [upper, lower], dims[0])


def _halves(node: fx.Node, value: fx.Node) -> Pair:
    last = value_of(value).dim() - 1
    size = value_of(value).shape[last] // 2
    first, second = (insert(node, aten.slice.Tensor, value, last, start, start + size) for start in (0, size))
    return Pair(node, (first, second))


def _matrix_product(node: fx.Node, given: dict[str, Any]) -> Pair | None:
    """One real product: rows ``[re, im]`` times the block matrix."""
    (_, a), (name, b) = list(given.items())[:2]
    if min(value_of(n).dim() for n in node.all_input_nodes) < 2:
        return None
    if not isinstance(a, Pair):
        return Pair(node, tuple(_call(node, {**given, name: part}) for part in b.parts))  # pyright: ignore[reportArgumentType]
    last = value_of(a.parts[0]).dim() - 1
    rows = insert(node, aten.cat.default, list(a.parts), last)
    dims = value_of(_part(node, b, 0)).dim()
    return _halves(node, _call(node, {**given, "self": rows, name: _block(node, b, (dims - 2, dims - 1))}))


def _linear(node: fx.Node, given: dict[str, Any]) -> Pair | None:
    """A complex dense layer as a real one of twice the size."""
    x, weight, bias = given["input"], given["weight"], given["bias"]
    if not isinstance(x, Pair):
        return None
    rows = insert(node, aten.cat.default, list(x.parts), value_of(x.parts[0]).dim() - 1)
    joined = insert(
        node,
        aten.t.default,
        _block(node, Pair(node, tuple(insert(node, aten.t.default, p) for p in _both(node, weight))), (0, 1)),
    )  # pyright: ignore[reportArgumentType]
    offset = None if bias is None else insert(node, aten.cat.default, list(_both(node, bias)), 0)
    return _halves(node, insert(node, aten.linear.default, rows, joined, offset))


def _both(node: fx.Node, value: Any) -> tuple[Any, Any]:  # noqa: ANN401 - an operand
    return _part(node, value, 0), _part(node, value, 1)


_ELEMENTS = """neg sum mean cumsum reshape view _unsafe_view flatten unflatten permute transpose t squeeze unsqueeze expand broadcast_to repeat
    tile repeat_interleave slice select narrow index index_select gather roll flip diagonal unfold split split_with_sizes chunk
    tensor_split unbind constant_pad_nd clone contiguous alias detach lift_fresh_copy resolve_conj resolve_neg zeros_like getitem"""
_SEVERAL = {
    "add": ("self", "other"),
    "sub": ("self", "other"),
    "rsub": ("self", "other"),
    "cat": ("tensors",),
    "stack": ("tensors",),
    "where": ("self", "other"),
    "masked_fill": ("self", "value"),
    "index_put": ("self", "values"),
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
