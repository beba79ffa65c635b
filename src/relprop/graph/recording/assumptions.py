"""Assumptions: what a model reads of its integer and boolean inputs to choose its way, such as whether a mask hides nothing.

The recording follows the way of the example, and the graph checks at every run that the inputs choose the same one.
"""

import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, fx

from relprop.errors import CaptureError
from relprop.graph.nodes import sources_of
from relprop.ops.recorded import is_random

_local = threading.local()


class AssumptionError(CaptureError):
    """The inputs choose another way through the model than those that it was captured with."""


def assume(value: Tensor, expected: bool | float) -> None:
    """Check that a value is as in the recording.

    Raises:
        AssumptionError: It is not.
    """
    if value.is_meta or getattr(_local, "unchecked", False):
        return
    if value.item() != expected:
        raise AssumptionError(
            f"The model reads a value of its integer or boolean inputs, and these give {value.item()!r} where those that it was captured "
            f"with gave {expected!r}, so it may do something else; capture it anew with these inputs."
        )


@contextmanager
def unchecked() -> Generator[None, None, None]:
    """Run graphs of this thread without checking their assumptions."""
    before, _local.unchecked = getattr(_local, "unchecked", False), True
    try:
        yield
    finally:
        _local.unchecked = before


def value_for(node: fx.Node, given: Mapping[fx.Node, Any], constants: Mapping[str, Tensor]) -> Tensor | None:
    """Compute a node for the example; None where it depends on floating inputs, or on chance.

    Args:
        node: The node.
        given: The integer and boolean inputs, by placeholder.
        constants: The tensors that the graph reads.
    """
    values: dict[fx.Node, Any] = {}
    needed = sources_of(node)
    for one in (n for n in node.graph.nodes if n in needed):
        if one.op == "placeholder":
            if one not in given:
                return None
            values[one] = given[one]
        elif one.op == "get_attr":
            values[one] = constants[str(one.target)]
        elif one.op == "call_function":
            if is_random(one.target, one.args, one.kwargs):
                return None
            args, kwargs = fx.node.map_arg((one.args, one.kwargs), values.__getitem__)  # pyright: ignore[reportAttributeAccessIssue]
            values[one] = one.target(*args, **kwargs)  # pyright: ignore[reportCallIssue]
    return values[node]
