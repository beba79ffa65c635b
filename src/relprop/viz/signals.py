"""Maps of signals: every channel as a line over time, colored by its relevance."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils._pytree import tree_leaves

from relprop.errors import InputError, OptionError
from relprop.viz.classes import explained_classes
from relprop.viz.colors import Floats, Scale, colormap, scale_of
from relprop.viz.drawable import Drawable
from relprop.viz.lettering import AS_IT_IS, printable
from relprop.viz.look import Look, LookOptions
from relprop.viz.numbers import sums_of
from relprop.viz.page import BAR, INK, MUTED, Page, Place, blank_page
from relprop.viz.subjects import foot_of
from relprop.viz.tiles import Legend

# In inches.
_WIDTH, _LANE, _SIDE, _HEAD, _AXIS, _BAR = 8.0, 0.9, 1.0, 0.34, 0.36, 0.5
_LARGEST = 32
"""Channels of one signal that are drawn."""


@dataclass(frozen=True)
class _Signal:
    """One map of one signal: values and relevance ``(C, T)``, and what stands above."""

    values: Floats
    relevance: Floats
    title: str
    absorbed: float

    @property
    def height(self) -> float:
        return _HEAD + len(self.values) * _LANE + _AXIS + _BAR


def plot_signals(
    explanation: Drawable,
    labels: Sequence[str] | None = None,
    *,
    rate: float | None = None,
    channels: Sequence[str] | None = None,
    title: str | None = None,
    **look: Unpack[LookOptions],
) -> Figure:
    """Draw every channel of every signal as a line over time, its color the relevance at each moment.

    Args:
        explanation: Of ``B`` signals ``(C, T)``, with one or ``K`` maps each.
        labels: Class names.
        rate: Samples per second, for a time axis in seconds.
        channels: The names of the channels.
        title: Stands above; the method's name where left out.
        **look: Fields of :class:`Look`: ``percentile`` and ``limit``.

    Raises:
        InputError: The relevance is of no signals, or there are names of another number than the channels.
        OptionError: The rate is not positive, or a value of the look is out of its range.
    """
    if rate is not None and not 0 < rate < float("inf"):
        raise OptionError(f"The sampling rate is a positive number of samples per second, not {rate:g}.")
    chosen, signals = Look(**look), _signals(explanation, labels)
    count = len(signals[0].values)
    names = [f"channel {number}" for number in range(count)] if channels is None else list(channels)
    if len(names) != count:
        raise InputError(f"There are {len(names)} names of channels, and {count} channels.")
    foot = foot_of([explanation.method], chosen)
    height = 0.45 + sum(signal.height for signal in signals) + 0.16 * len(foot) + 0.15
    page = blank_page(_WIDTH, height)
    page.line(Place(0.2, height - 0.42, _WIDTH - 0.4, 0.4), explanation.method if title is None else title, 12, "bold")
    top = height - 0.45
    for signal in signals:
        _draw(page, signal, top, names, rate, Legend(scale_of(signal.relevance, chosen), explanation.meaning))
        top -= signal.height
    for number, line in enumerate(foot):
        page.text(0.2, top - 0.16 * number - 0.02, line, size=7, color=MUTED)
    return page.figure


def _signals(explanation: Drawable, labels: Sequence[str] | None) -> list[_Signal]:
    relevance, inputs = relevance_of(explanation), explanation.inputs
    if not isinstance(inputs, Tensor) or relevance.dim() != 4:
        shape = tuple(relevance.shape)
        raise InputError(f"Lines need relevance of signals, (B, C, T); here it is {shape} with the explained outputs first.")
    if relevance.shape[2] > _LARGEST:
        raise InputError(
            f"Lines of {relevance.shape[2]} channels are too many for one figure; draw a slice of at most {_LARGEST}."
        )
    absorbed = explanation.absorbed.detach().float().cpu().reshape(relevance.shape[:2]).tolist()
    found: list[_Signal] = []
    for sample, parts in enumerate(relevance):
        named = explained_classes(explanation, sample, labels)
        values = inputs[sample].detach().float().cpu().numpy()
        for index, part in enumerate(parts):
            title = named[index].title if named else f"sample {sample}"
            found.append(_Signal(values, part.numpy(), title, absorbed[sample][index]))
    return found


def relevance_of(explanation: Drawable) -> Tensor:
    """Return the relevance of a single input tensor on the CPU, ``(B, K, …)``, also where one output was explained.

    Raises:
        InputError: There are several inputs, or it holds NaN or infinite values.
    """
    parts = parts_of(explanation)
    if len(parts) != 1:
        raise InputError("This picture needs the relevance of one tensor; draw one of several inputs yourself.")
    return parts[0]


def parts_of(explanation: Drawable) -> list[Tensor]:
    """Return the relevance of every input tensor on the CPU, ``(B, K, …)`` each, in their order.

    Raises:
        InputError: It holds NaN or infinite values.
    """
    found: Any = getattr(explanation, "relevance", None)
    parts = [part.detach().float().cpu() for part in tree_leaves(found) if isinstance(part, Tensor)]
    if not all(bool(part.isfinite().all()) for part in parts):
        raise InputError(f"The relevance of method {explanation.method!r} holds NaN or infinite values and cannot be drawn.")
    return [part.unsqueeze(1) if explanation.absorbed.dim() == 1 else part for part in parts]


def _draw(page: Page, signal: _Signal, top: float, names: Sequence[str], rate: float | None, legend: Legend) -> None:
    page.line(Place(_SIDE, top - _HEAD, _WIDTH - _SIDE - 0.2, _HEAD), signal.title, 9)
    count, length = signal.values.shape
    times = np.arange(length) / (rate or 1.0)
    bottom = top - _HEAD
    for channel in range(count):
        bottom -= _LANE
        place = Place(_SIDE, bottom + 0.06, _WIDTH - _SIDE - 0.25, _LANE - 0.1)
        axes = _lane(page, place, last=channel == count - 1)
        _line(axes, times, signal.values[channel], signal.relevance[channel], legend.scale)
        page.line(Place(0.2, place.bottom, _SIDE - 0.3, place.height), names[channel], 8, color=MUTED)
    unit = "samples" if rate is None else "seconds"
    page.label(_WIDTH - 0.25, bottom - 0.2, unit, size=7, color=MUTED, ha="right", va="top")
    _legend(page, Place(_SIDE, bottom - _AXIS - 0.12, _WIDTH - _SIDE - 0.25, 0.08), legend, signal)


def _lane(page: Page, place: Place, *, last: bool) -> Axes:
    """An axes of its own for one channel; the last shows the time."""
    box = place.left / page.width, place.bottom / page.height, place.width / page.width, place.height / page.height
    axes = page.figure.add_axes(box)
    axes.tick_params(labelsize=7, colors=MUTED, labelbottom=last, length=2, color=BAR)
    axes.locator_params(axis="y", nbins=3)
    for spine in axes.spines.values():
        spine.set_color(BAR)
    return axes


def _line(axes: Axes, times: Floats, values: Floats, relevance: Floats, scale: Scale) -> None:
    """The signal in ink below, and in the colors of its relevance above: what is not relevant stays a thin line."""
    units = scale.unit(relevance)
    points = np.stack([times, values], 1)
    middles = (points[1:] + points[:-1]) / 2
    starts = np.concatenate([points[:1], middles])
    ends = np.concatenate([middles, points[-1:]])
    paths = np.stack([starts, points, ends], 1)
    axes.plot(times, values, color=INK, linewidth=0.4, alpha=0.55)
    colors, widths = colormap()((units + 1.0) / 2.0), 0.6 + 2.6 * np.abs(units)
    axes.add_collection(LineCollection(list(paths), colors=colors, linewidths=widths, capstyle="round"))
    axes.set_xlim(float(times[0]), float(times[-1]) if len(times) > 1 else float(times[0]) + 1.0)
    axes.margins(y=0.12)


def _legend(page: Page, place: Place, legend: Legend, signal: _Signal) -> None:
    page.picture(place, np.repeat(legend.scale.colors[None], 2, axis=0))
    style: dict[str, Any] = {"size": 7, "color": MUTED, "va": "top", **AS_IT_IS}
    low, high = legend.ends
    page.label(place.left, place.bottom - 0.03, printable(low), **style)
    page.label(place.right, place.bottom - 0.03, printable(high), ha="right", **style)
    numbers = "  ·  ".join(sums_of(signal.relevance, signal.absorbed).parts)
    page.label(place.left + place.width / 2, place.bottom - 0.03, printable(numbers), ha="center", **style)
