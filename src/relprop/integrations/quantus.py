"""Every metric of Quantus on relprop's tensors, and every method of relprop as its ``explain_func`` (extra ``quantus``)."""

import inspect
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from relprop.errors import InputError, OptionError, suggestion
from relprop.integrations.captum import CaptumAttribution
from relprop.metrics.base import Direction, MetricSpec, Need, Statistics, Value, identity
from relprop.metrics.maps import heatmap, object_and_valid
from relprop.metrics.sanity import MakeExplain
from relprop.zoo.torchvision_ops import import_torchvision

_DIRECTIONS: dict[str, Direction] = {"higher": "higher", "lower": "lower"}
SET_LEVEL = frozenset({"SensitivityN", "ROAD", "Focus"})
"""Metrics that correlate or count over the images of a set, or take mosaics of them; ``quantus_scores`` runs these."""
_NEEDS = (Need.RELEVANCE, Need.INPUTS, Need.TARGET, Need.MODULE, Need.MAKE_EXPLAIN)


def quantus_metrics() -> dict[str, Any]:
    """Return Quantus' metric classes by name.

    Raises:
        OptionError: Quantus is not installed.
    """
    if find_spec("torchvision"):
        import_torchvision()  # Quantus imports it through zennit, if that is installed
    try:
        import quantus
    except ImportError as error:
        raise OptionError("Metrics of Quantus need its library; install it with `pip install relprop[quantus]`.") from error
    return {kind.__name__: kind for group in quantus.AVAILABLE_METRICS.values() for kind in group.values()}  # pyright: ignore[reportAttributeAccessIssue]


def quantus_scores(
    name: str,
    relevance: Tensor,
    inputs: Tensor,
    target: Tensor,
    module: nn.Module,
    make_explain: MakeExplain,
    mask: Tensor | None = None,
    custom_batch: object = None,
    **options: object,
) -> Any:  # noqa: ANN401 - Quantus returns lists, arrays and dicts
    """Run a metric of Quantus and return its result; some score a set as a whole (``SensitivityN``, ``ROAD``).

    Args:
        name: The class's name, such as ``FaithfulnessCorrelation``.
        relevance: ``(B, H, W)`` or ``(B, C, H, W)``; summed over channels.
        inputs: ``(B, C, H, W)``.
        target: ``(B,)`` classes.
        module: The model, in evaluation mode.
        make_explain: Model → its explain function, for metrics that explain other inputs or randomize parameters.
        mask: ``(B, H, W)``, for localization.
        custom_batch: The additional input of ``Focus``.
        options: Options of the metric's constructor; ``num_classes`` is filled in from the model.

    Raises:
        OptionError: Quantus is not installed, or has no such metric or option.
        InputError: Quantus raised an error; some of its metrics only take images of one channel, or large ones.
    """
    kind, accepted = _kind(name, options)
    settings: dict[str, object] = {"disable_warnings": True, "display_progressbar": False, "return_aggregate": False}
    if "num_classes" in accepted:
        with torch.no_grad():
            settings["num_classes"] = module(inputs[:1]).shape[1]
    heat = heatmap(relevance)
    batch = {
        "x_batch": _array(inputs),
        "y_batch": _array(target),
        "a_batch": _array(heat[:, None]),
        "s_batch": None if mask is None else _array(object_and_valid(heat, mask)[0][:, None]),
        **({} if custom_batch is None else {"custom_batch": custom_batch}),
    }
    try:
        return kind(**{key: value for key, value in {**settings, **options}.items() if key in accepted})(
            model=module,
            **batch,
            channel_first=True,
            explain_func=_explain_function(make_explain, inputs),
            device=str(inputs.device),
            batch_size=len(inputs),
        )
    except (ValueError, IndexError, TypeError, AssertionError, AttributeError, RuntimeError) as error:
        raise InputError(f"Quantus' {name} cannot take this: {error or type(error).__name__}.") from error


def quantus_spec(name: str, **options: object) -> MetricSpec:
    """Return a metric of Quantus as a ``MetricSpec`` named ``quantus:NAME``; ``Metric(quantus_spec(…))`` runs it.

    Several values per image, such as a curve or a score per layer, are reported as a curve.

    Args:
        name: See ``quantus_scores``.
        options: See ``quantus_scores``.

    Raises:
        OptionError: Quantus is not installed, has no such metric or option, or the metric does not score each image.
    """
    kind, _ = _kind(name, options)
    if name in SET_LEVEL:
        raise OptionError(f"Quantus' {name} scores a set as a whole, not each image; call quantus_scores.")
    value = Value(
        name.lower(),
        _DIRECTIONS.get(kind.score_direction.value, "none"),
        -float("inf"),
        float("inf"),
        f"Quantus' {kind.name}",
    )

    run: Callable[..., Any] = partial(quantus_scores, name, **options)

    def update(**tensors: Any) -> Statistics:  # noqa: ANN401 - named by ``needs``
        return _rows(run(**tensors), name, len(tensors["inputs"]))

    return MetricSpec(
        name=f"quantus:{name}",
        values=(value,),
        needs=(*_NEEDS, Need.MASK) if kind.evaluation_category.name == "LOCALISATION" else _NEEDS,
        update=update,
        compute=identity,
        source=f"Hedström et al., Quantus, JMLR 2023: {kind.name}",
    )


def _kind(name: str, options: dict[str, object]) -> tuple[Any, list[str]]:
    """Return the metric's class and its options."""
    known = quantus_metrics()
    if name not in known:
        raise OptionError(f"Quantus has no metric {name!r}.{suggestion(name, known)}")
    accepted = [option for option in inspect.signature(known[name].__init__).parameters if option not in {"self", "kwargs"}]
    for option in options:
        if option not in accepted:
            raise OptionError(f"Quantus' {name} has no option {option!r}; it has {', '.join(accepted)}.")
    return known[name], accepted


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def _explain_function(make_explain: MakeExplain, like: Tensor) -> Callable[..., np.ndarray]:
    """Return an explain function with Quantus' signature, which takes the model: it may be a copy with random parameters."""

    def explain(model: nn.Module, inputs: np.ndarray, targets: np.ndarray, **_: object) -> np.ndarray:
        values = torch.as_tensor(inputs, dtype=like.dtype, device=like.device)
        target = torch.as_tensor(np.asarray(targets), device=like.device).long().expand(len(values))
        return _array(heatmap(make_explain(model)(values, target))[:, None])

    return explain


def _rows(scores: Any, name: str, count: int) -> Statistics:  # noqa: ANN401 - see ``quantus_scores``
    """Return the scores as one row per image; a dict of lists, such as MPRT's by layer, as columns."""
    parts: Any = np.stack(list(scores.values()), 1) if isinstance(scores, dict) else scores
    values = np.asarray(parts, dtype=np.float64)
    if values.ndim == 0 or len(values) != count:
        raise InputError(f"Quantus' {name} gave {values.shape} values for {count} images.")
    return {name.lower(): torch.from_numpy(values)}


def quantus_explain_func(method: str = "rap", **options: Any) -> Callable[..., np.ndarray]:  # noqa: ANN401 - options of the method
    """Return a function as Quantus calls it: ``(model, inputs, targets, **kwargs) -> relevance``, NumPy in and out.

    The relevance is ``(B, 1, H, W)``, summed over channels, as Quantus compares maps with one channel. Other keyword arguments of the
    call are ignored, except ``device``.

    Args:
        method: A name of ``relprop.methods.METHODS``.
        **options: Options of the method.
    """
    known: list[tuple[nn.Module, CaptumAttribution]] = []

    def explain_func(
        model: nn.Module,
        inputs: np.ndarray | Tensor,
        targets: np.ndarray | Tensor | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> np.ndarray:
        batch = torch.as_tensor(inputs)
        if batch.dim() != 4:
            raise InputError(f"Quantus' inputs must be images (batch, channels, height, width), not {tuple(batch.shape)}.")
        parameter = next(model.parameters(), batch)
        batch = batch.to(kwargs.get("device") or parameter.device, parameter.dtype)
        if not known or known[0][0] is not model:
            known[:] = [(model, CaptumAttribution(model, method, **options))]
        classes = None if targets is None else torch.as_tensor(targets).to(batch.device).reshape(-1)
        relevance = known[0][1].attribute(batch, classes)
        return relevance.sum(1, keepdim=True).cpu().numpy()  # pyright: ignore[reportAttributeAccessIssue]

    return explain_func
