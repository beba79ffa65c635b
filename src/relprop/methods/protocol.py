"""The interface of every method."""

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch

from relprop.explanation import Answer
from relprop.graph.model import CapturedModel
from relprop.inputs import Request
from relprop.meaning import Meaning
from relprop.propagation.trace import Trace

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class MethodPlan(Protocol):
    """A method applied to a captured model; prints the table of ops."""

    @property
    def model(self) -> CapturedModel:
        """The captured model after the method's passes."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user."""
        ...

    @property
    def layers(self) -> Any:  # noqa: ANN401 - a mapping whose keys matter
        """By module path, the values at which relevance can be returned."""
        ...

    def plot(self) -> "Figure":
        """Draw the rule, or the role, of every op."""
        ...

    def _repr_html_(self) -> str: ...


@runtime_checkable
class AnyMethod(Protocol):
    """A method: it plans once per captured model, and explains batches by its plan."""

    @property
    def name(self) -> str:
        """As the registry calls it."""
        ...

    @property
    def precision(self) -> torch.dtype | None:
        """The lowest precision that it computes in, such as float32; None for that of the model."""
        ...

    @property
    def meaning(self) -> Meaning:
        """What its positive and negative values say."""
        ...

    def plan(self, captured: CapturedModel) -> Any:  # noqa: ANN401 - the method's own kind of plan
        """Return the :class:`MethodPlan` of a model."""
        ...

    def explain(self, plan: Any, request: Request) -> Answer:  # noqa: ANN401
        """Explain one batch."""
        ...

    def trace(self, plan: Any, request: Request) -> Trace:  # noqa: ANN401
        """Sum the relevance at every op."""
        ...
