"""What an op is to relevance propagation, and one call of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Literal

import torch
from torch import Tensor

from relprop.errors import OptionError
from relprop.ops.layout import SampleLayout
from relprop.ops.linear import Linear

ABSORBED = "absorbed"
"""Key under which a backward function returns the absorbed relevance, ``(batch,)``; it is no argument name of any op."""

Relevances = Mapping[str, Any]
"""Relevance by argument name: a tensor, a list with one entry per tensor of a list argument, or ``ABSORBED: (batch,)``."""

Arguments = Mapping[str, Any]
"""The arguments of a call by schema name."""


class Role(StrEnum):
    """What an op does with relevance; a method chooses one rule per role."""

    INPUT = "input"  # first weighted layer
    OUTPUT = "output"  # last weighted layer
    DENSE = "dense"
    CONV = "conv"
    POOL = "pool"  # average pooling, mean, sum, upsampling: fixed weights
    ATTENTION = "attention"  # softmax weights times values
    PRODUCT = "product"  # two values multiplied and summed, neither of them attention weights
    ADD = "add"
    BIAS = "bias"  # a value plus a constant
    GATE = "gate"  # elementwise product of two values
    STATE = "state"  # a value times parameters of a state-space model, elementwise
    READOUT = "readout"  # the same as a product of matrices
    NORM = "norm"
    ACTIVATION = "activation"
    SCALE = "scale"  # one contributor: times a constant, casts
    SOFTMAX = "softmax"
    SELECT = "select"  # max pooling, maximum, where: the winner
    REDUCE = "reduce"  # products, norms and distances: many values to one, by a rule of the op's own
    SHAPE = "shape"  # moves elements without changing them
    BLOCK = "block"  # lets no relevance through: comparisons, argmax, embedding lookups


AFFINE = frozenset({Role.INPUT, Role.OUTPUT, Role.DENSE, Role.CONV, Role.POOL, Role.ATTENTION, Role.PRODUCT, Role.READOUT})


@dataclass(frozen=True)
class Call:
    """One call of an op during the backward pass.

    Attributes:
        op: The op's entry in the table.
        function: The op itself, such as ``torch.ops.aten.relu.default``.
        arguments: Every argument by its schema name. Tensors whose values the op did not ask to keep are hollow: right shape, no values.
        output: The result, hollow unless the op asked to keep it.
        nonnegative: Names of the arguments that cannot be negative.
        operands: Names of the arguments that take relevance.
        data: The first of them: a layer's input, the values of an attention.
        layout: Where the samples lie in the output.
        layouts: Where the samples lie in every tensor argument.
        batch: Number of samples.
        bounds: For the first layer, the bounds of its input where the user fixed them: two tensors that broadcast over ``x``.
    """

    op: "Op"
    function: Callable[..., Any]
    arguments: Arguments
    output: Any
    nonnegative: frozenset[str]
    operands: tuple[str, ...]
    data: str
    layout: SampleLayout
    layouts: Mapping[str, SampleLayout]
    batch: int
    bounds: tuple[Tensor, Tensor] | None = None

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - an argument may be anything
        """Return the argument called ``name``."""
        return self.arguments[name]

    @property
    def x(self) -> Tensor:
        """The operand that carries relevance."""
        return self.arguments[self.data]

    def on(self, data: str) -> "Call":
        """Return the same call, seen from another operand."""
        return self if data == self.data else replace(self, data=data)

    def with_x(self, x: Tensor) -> "Call":
        """Return the same call with ``x`` in place of its operand; the output stays what it was."""
        return replace(self, arguments={**self.arguments, self.data: x})

    def with_output(self, output: Any) -> "Call":  # noqa: ANN401 - what the op returns
        """Return the same call with another output."""
        return replace(self, output=output)

    def as_linear(self, data: str | None = None) -> tuple[Linear, Tensor | None]:
        """Return the call as a linear function of its operand, or of the argument ``data``, and its bias.

        Raises:
            OptionError: The op is not linear in any argument.
        """
        if self.op.linear is None:
            raise OptionError(
                f"{op_name(self.function)} is not linear, so no rule for dense and conv layers applies to it; give it another rule, such as 'pass'."
            )
        return self.op.linear(self if data is None else self.on(data))


BackwardFunction = Callable[[Call, Any], Relevances]
LinearFunction = Callable[[Call], tuple[Linear, Tensor | None]]
GradientFunction = Callable[[Call, Tensor], Tensor]
"""``(call, c) -> ∂(Σ c y)/∂x``, shaped like ``x``."""

Known = Callable[[Any], bool]
"""Whether an argument cannot be negative: a number, or a value of which that is known."""

Sign = Literal["always", "inherits", "never"] | Callable[[Arguments, Known], bool]
SliceFunction = Callable[[Arguments, Tensor, int], Mapping[str, int] | None]


@dataclass(frozen=True)
class MultiplierRule:
    """How multipliers ``c = R / x`` pass an op: from that of the output to those of the operands, for shares in proportion to values.

    Attributes:
        backward: As a backward function, but for multipliers; what it returns as ``ABSORBED`` is relevance all the same.
        needs: Values that it reads: ``"x"`` (the operands), ``"constants"`` (the other arguments), or ``"output"``.
        throughout: Whether it serves only where both the output and the operands carry multipliers.
        of: Operands for which it holds; any where empty.
    """

    backward: BackwardFunction
    needs: tuple[str, ...] = ()
    throughout: bool = False
    of: tuple[str, ...] = ()


@dataclass(frozen=True)
class Op:
    """Everything that relprop knows of an op. The first group says how relevance passes, the second states facts of the op itself.

    Attributes:
        role: Its default role; the plan refines it (first layer, attention, gate).
        backward: Fixed backward function, for ops on which methods agree (shapes, selections, reductions); None where the method's rule
            decides.
        linear: ``call -> (Linear, bias)`` for ops that are linear in ``call.data``.
        gradient: The gradient of activations, softmax and norms; those of norms hold their standard deviation constant.
        data: Arguments that can carry relevance, in order of preference.
        needs: Names of arguments whose values ``backward`` or ``linear`` reads, ``"output"`` included.
        limit: ``arguments -> ""`` for calls that the entry covers, else what sets a call apart, such as ``"with mode='bicubic'"``.
        multiplier: For ops that move the elements of an operand, or multiply them by constants: what that does to multipliers.
        shares: How ``backward`` shares, as the plan prints it; the winner takes all where left out.
        pairwise: For products of two values: whether every contribution is one element of each times a number, so that both operands have
            the same contributions.

        nonnegative: When the output cannot be negative: ``"always"``; ``"inherits"``, where no operand is; ``"never"``; or a function
            ``(arguments, known) -> bool``.
        floor: Name of the argument that bounds the output from below; with a floor of zero the op is ReLU, maybe clipped.
        bounded: Whether its own settings bound the output, so that it gates what it is multiplied with.
        exponential: Whether it is an exponential, so that products of its outputs are those of sums of its inputs.
        even_slope: Whether its derivative is even, as that of the sigmoid and of odd functions.
        rectifier: ``"relu"``, or ``"relative"`` for its smooth and leaky relatives.
        identity: For ops that return their input, at most in another dtype or on another device: ``"alias"`` where the result may share its
            memory, ``"copy"`` where it never does. Dropout counts, as models are explained in evaluation mode.
        probabilities: Whether it turns logits into probabilities or their logarithms.
        detaches: Whether its result counts as a constant: the model takes no gradient through it.
        maximum: Whether every output is the largest of some elements of the input.
        windows: For pools of maxima, the averages over their windows, as ``linear`` gives a linear op.
        reads: Arguments whose values matter, where others give a shape or a dtype alone; all arguments where None.
        reshapes: Whether it keeps the elements and their order in memory (view, flatten).
        order: For ops that permute dimensions, ``(arguments, dims) -> permutation``.
        cuts: Whether it takes values apart along one dimension, or joins them there, and leaves every other dimension as it is.
        repeats: For ops that repeat every element in a dimension, ``(arguments, dims) -> (dimension, times)``; the dimension
            is None where it flattens first.
        slices: Locality: ``(arguments, output, dim) -> {argument: dim}``, the slices of arguments that make a slice of the output along
            ``dim``; None where it needs more. Nodes are replaced by their tensors on the meta device.
        summands: For sums, ``arguments -> {"self": factor, "other": factor}``, the factors of the two summands.
        weight_outputs: For layers with a weight, the dimension of the weight that counts the output channels.
        scale: For norms, ``(call, x) -> 1 / σ(x)``, broadcastable over ``x``.
        channels: Which dimension of its input and output holds channels: the ``"first"`` behind the batch, where more follow, or the
            ``"last"``.
    """

    role: Role
    backward: BackwardFunction | None = None
    linear: LinearFunction | None = None
    gradient: GradientFunction | None = None
    data: tuple[str, ...] = ("self",)
    needs: tuple[str, ...] = ()
    limit: Callable[[Arguments], str] = lambda _: ""
    multiplier: MultiplierRule | None = None
    shares: str = ""
    pairwise: bool = False

    nonnegative: Sign = "never"
    floor: str = ""
    bounded: bool = False
    exponential: bool = False
    even_slope: bool = False
    rectifier: Literal["", "relu", "relative"] = ""
    identity: Literal["", "alias", "copy"] = ""
    probabilities: bool = False
    detaches: bool = False
    maximum: bool = False
    windows: LinearFunction | None = None
    reads: tuple[str, ...] | None = None
    reshapes: bool = False
    order: Callable[[Arguments, int], Sequence[int]] | None = None
    cuts: bool = False
    repeats: Callable[[Arguments, int], tuple[int | None, int]] | None = None
    slices: SliceFunction | None = None
    summands: Callable[[Arguments], Mapping[str, float]] | None = None
    weight_outputs: int | None = None
    scale: GradientFunction | None = None
    channels: Literal["", "first", "last"] = ""

    @property
    def gives_weights(self) -> bool:
        """Whether its outputs are weights that sum to one, as those of attention: the softmax."""
        return self.role is Role.SOFTMAX and self.nonnegative == "always"

    @property
    def multiplies(self) -> bool:
        """Whether it multiplies two of its arguments, elementwise or as matrices, or divides one by the other."""
        return len(self.data) > 1 and (self.linear is not None or self.role in {Role.GATE, Role.SCALE})

    def channel_dim(self, arguments: Arguments, dims: int) -> int | None:
        """Return the dimension of the channels of a value that the op reads or makes, of ``dims`` dimensions; None where it does not tell."""
        if self.channels == "first":
            return 1 if dims > 2 else None
        one = len(arguments.get("normalized_shape") or [0]) == 1  # of a norm over several dimensions, none holds channels alone
        return dims - 1 if self.channels == "last" and one else None

    def rectifies(self, arguments: Arguments) -> bool:
        """Whether a call is ReLU, however it is written, or one of its relatives."""
        return bool(self.rectifier) or (bool(self.floor) and bool(arguments[self.floor] == 0))


def slices_with_broadcasting(arguments: Arguments, output: Tensor, dim: int) -> Mapping[str, int]:
    """The slices of all tensors that have the dimension; one that is broadcast over it is needed whole."""
    dims = dict[str, int]()
    for name, argument in arguments.items():
        if isinstance(argument, Tensor):
            aligned = dim - (output.dim() - argument.dim())
            if aligned >= 0 and argument.shape[aligned] != 1:
                dims[name] = aligned
    return dims


def hollow(value: Any) -> Any:  # noqa: ANN401 - tensors become hollow, anything else stays
    """Return a tensor with the shape, dtype and device of ``value`` and no storage to speak of."""
    if isinstance(value, Tensor):
        return torch.empty_strided(value.shape, (0,) * value.dim(), dtype=value.dtype, device=value.device)
    if isinstance(value, list | tuple):
        return [hollow(item) for item in value]
    return value


def op_name(target: object) -> str:
    """Return the qualified name of an op, without its overload: ``aten::add`` for ``torch.ops.aten.add.Tensor``."""
    schema = getattr(target, "_schema", None)
    return schema.name if schema is not None else getattr(target, "__name__", str(target))
