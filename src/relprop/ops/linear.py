"""What it means that an op is linear in one operand."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

_BLOCK_BYTES = 4 << 20


_FEW_ROWS = 32


@dataclass(frozen=True)
class Linear:
    """An op that is linear in one operand while its weight is held constant; the bias is left out.

    Attributes:
        weight: The weight, or None where the op's weights are fixed and non-negative, as in average pooling.
        forward: ``(x, weight) -> z``.
        transpose: ``(c, weight) -> wᵀ c``, shaped like ``x``.
        nonnegative: Whether no weight is negative.
        by_rows: Whether each row of the weight makes one output, the last dimension of ``z``, as in a dense layer.
        raised: ``(x, weight, offset) -> z + offset``, where the op adds a number per output channel, ``(channels,)``, on the way.
    """

    weight: Tensor | None
    forward: Callable[[Tensor, Tensor | None], Tensor]
    transpose: Callable[[Tensor, Tensor | None], Tensor]
    nonnegative: bool = False
    by_rows: bool = False
    raised: Callable[[Tensor, Tensor | None, Tensor], Tensor] | None = None

    def blocks(self, x: Tensor) -> list[slice]:
        """Blocks of outputs to treat one after the other.

        A large dense layer on few rows costs what reading its weight costs, so each part of the weight is read once, into cache.
        """
        everything = [slice(None)]
        if not self.by_rows or self.weight is None or x.device.type != "cpu" or x.numel() // x.shape[-1] > _FEW_ROWS:
            return everything
        outputs, row_bytes = self.weight.shape[0], self.weight.shape[1] * self.weight.element_size()
        rows = max(1, _BLOCK_BYTES // row_bytes)
        return everything if rows * 4 >= outputs else [slice(i, i + rows) for i in range(0, outputs, rows)]
