"""The trace: a check of conservation at every op."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from relprop.propagation.run import Run, Shares
from relprop.propagation.step import Step
from relprop.text import draw_table, html_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class TraceRow:
    """One op: the relevance that it received, handed on and absorbed, each summed per sample, ``(B,)``."""

    path: str
    op: str
    rule: str
    received: Tensor
    handed_on: Tensor
    absorbed: Tensor

    @property
    def deviation(self) -> float:
        """The largest ``|received − handed on − absorbed| / max(|received|, 1)`` of any sample."""
        rest = (self.received - self.handed_on - self.absorbed).abs() / self.received.abs().clamp(min=1)
        return float(rest.max())


_HEADER = ("module", "op", "rule", "Σ relevance", "handed on", "absorbed", "deviation")


@dataclass(frozen=True)
class Trace:
    """The conservation table of one run, from the output to the input.

    Attributes:
        rows: One per op that relevance passes.
    """

    rows: tuple[TraceRow, ...]

    @property
    def worst(self) -> TraceRow:
        """The row with the largest deviation."""
        return max(self.rows, key=lambda row: row.deviation)

    def __str__(self) -> str:
        """Return the table; sums are means over the batch."""
        return "\n".join([*draw_table(_HEADER, self._cells), self._summary])

    def _repr_html_(self) -> str:
        return html_table(_HEADER, self._cells, [self._summary])

    def plot(self) -> "Figure":
        """Draw how much relevance arrives at every op and how much of it is absorbed, means over the batch; notebooks show it."""
        from relprop.viz import plot_trace

        return plot_trace(
            [row.path or row.op for row in self.rows],
            [float(row.received.mean()) for row in self.rows],
            [float(row.absorbed.mean()) for row in self.rows],
            title=self._summary,
        )

    @property
    def _cells(self) -> list[tuple[str, ...]]:
        cells: list[tuple[str, ...]] = []
        for row in self.rows:
            sums = [f"{float(v.mean()):.6g}" for v in (row.received, row.handed_on, row.absorbed)]
            cells.append((row.path or "·", row.op.removeprefix("aten::"), row.rule, *sums, f"{row.deviation:.1e}"))
        return cells

    @property
    def _summary(self) -> str:
        worst = self.worst
        return f"Worst deviation: {worst.deviation:.1e} at {worst.path or worst.op} ({worst.op}, {worst.rule})"


def _total(step: Step, relevance: Any, batch: int) -> Tensor:  # noqa: ANN401 - a tensor, or a list with gaps
    parts = relevance if isinstance(relevance, list) else [relevance]
    sums = [step.layout.sum(part, batch) for part in parts if part is not None]
    return torch.stack(sums).sum(0)


def join_traces(traces: Sequence[Trace]) -> Trace:
    """Join the traces of several samples, which pass the same ops."""

    def joined(rows: Sequence[TraceRow]) -> TraceRow:
        received, handed_on, absorbed = (
            torch.cat(parts) for parts in zip(*((r.received, r.handed_on, r.absorbed) for r in rows), strict=True)
        )
        return replace(rows[0], received=received, handed_on=handed_on, absorbed=absorbed)

    return Trace(tuple(joined(rows) for rows in zip(*(t.rows for t in traces), strict=True)))


def trace_run(run: Run, output_relevance: Tensor, spread: Tensor | None = None) -> Trace:
    """Propagate relevance through a run, which must be ``inspected``, and sum it at every op."""
    rows: list[TraceRow] = []

    def audit(step: Step, relevance: Any, shares: Shares, absorbed: Tensor | float) -> None:  # noqa: ANN401
        received = _total(step, relevance, run.batch)
        handed = [run.plan.facts.layouts[node].sum(part, run.batch) for node, part in shares]
        handed_on = torch.stack(handed).sum(0) if handed else torch.zeros_like(received)
        rows.append(TraceRow(step.path, step.op, step.rule, received, handed_on, absorbed + torch.zeros_like(received)))

    run.backward(output_relevance, spread=spread, audit=audit, last=True)
    return Trace(tuple(rows))
