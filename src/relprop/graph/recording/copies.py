"""Models that take batches of one size alone: a sample is recorded as that many copies of itself."""

import logging
from collections.abc import Callable

import torch
from torch import Tensor, nn

from relprop.errors import UnsupportedOpError
from relprop.graph.mates import equal_values, run_among_mates
from relprop.graph.nodes import interpret
from relprop.graph.recording.assumptions import unchecked
from relprop.graph.recording.record import Recording, as_module, record
from relprop.inputs import Inputs, batch_size

_logger = logging.getLogger(__name__)


def record_copies(model: nn.Module, inputs: Inputs, select: Callable[[object], Tensor]) -> Recording | None:
    """Record one sample as a batch of copies, of the example's size, whose first output counts; None where that cannot be recorded.

    Raises:
        UnsupportedOpError: A sample among copies gives another output than among other samples.
    """
    size = batch_size(inputs)
    try:
        whole = record(model, inputs, select)
        copied = record(model, inputs.resized(1), lambda result: select(result)[:1], copies=size)
    except Exception:
        _logger.debug("no batch of the example's size can be captured", exc_info=True)
        return None
    (among,) = run_among_mates(lambda given: _output(whole, given), inputs, 1, size - 1)
    if not equal_values(among[1:2], _output(copied, inputs.sample(0))):
        raise UnsupportedOpError(
            "The model mixes the samples of a batch, so no sample has a relevance of its own; change it so that "
            "it computes each sample by itself."
        )
    return copied


def _output(recording: Recording, inputs: Inputs) -> Tensor:
    """Run a recorded graph; return the tensor to explain."""
    result = recording.graph.output_node().args[0]
    with torch.no_grad(), unchecked():
        *_, (_, values) = interpret(as_module(recording), inputs.flat)
    return values[result[0]]  # pyright: ignore[reportIndexIssue, reportArgumentType, reportOptionalSubscript]
