"""Rehearse a metric on a small made-up batch, so that options that can never work are found before a run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from relprop.errors import InputError, OptionError, RelpropError
from relprop.metrics.base import Metric, Need

_SIDE, _IMAGES, _CLASSES = 64, 4, 4
_FEW = 2
_COUNTS = ("steps", "samples", "count")
"""Options that say how often; a rehearsal does it only a few times."""
_OF_MODEL = "layers"
"""An option that names modules, which only the model can check."""


def rehearse(metric: Metric, options: Mapping[str, object]) -> None:
    """Score a made-up batch by a metric that has these options of the user.

    Args:
        metric: The metric.
        options: The options that the user gave; without any there is nothing to find out.

    Raises:
        OptionError: The options can never work: the metric refuses them, or raises, or gives no number, where it gives one without them.
    """
    if not options:
        return
    fewer = {name: _fewer(name, value) for name, value in metric.options.items() if name != _OF_MODEL}
    try:
        scores, _ = Metric(metric.spec, **fewer).score(**_batch())
    except OptionError as error:
        raise OptionError(f"Metric {metric.spec.name!r}: {error}") from error
    except InputError:
        return  # of the size of the made-up images
    except Exception as error:
        reason = f"raises {type(error).__name__}: {(str(error).strip().splitlines() or ['no reason'])[0]}"
        _blame(metric, options, reason, error)
    else:
        if not any(bool(score.isfinite().any()) for score in scores.values()):
            _blame(metric, options, "gives no number", None)


def _blame(metric: Metric, options: Mapping[str, object], reason: str, error: Exception | None) -> None:
    """Raise for the options, unless the metric fails on the made-up batch without them too."""
    try:
        scores, _ = Metric(metric.spec).score(**_batch())
    except (RelpropError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError, AttributeError):
        return
    if any(bool(score.isfinite().any()) for score in scores.values()):
        listed = ", ".join(f"{name}={value!r}" for name, value in options.items())
        raise OptionError(f"Metric {metric.spec.name!r} cannot work with {listed}: it {reason}.") from error


def _fewer(name: str, value: object) -> object:
    many = name in _COUNTS and isinstance(value, int) and not isinstance(value, bool)
    return min(value, _FEW) if many else value  # pyright: ignore[reportReturnType, reportArgumentType]


def _batch() -> dict[str, Any]:
    """Return a value for every need of a metric: images of a few pixels, a small network and input × gradient."""
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(_IMAGES, 3, _SIDE, _SIDE, generator=draw)
    module = _network(draw)
    mask = torch.zeros(_IMAGES, _SIDE, _SIDE, dtype=torch.bool)
    mask[:, 16:40, 16:40] = True
    with torch.no_grad():
        logits = module(inputs)
    target = logits.argmax(1)
    relevance = _explain(module, inputs, target)
    return {
        Need.RELEVANCE: relevance,
        Need.ABSORBED: torch.zeros(_IMAGES),
        Need.LOGITS: logits,
        Need.TARGET: target,
        Need.CONSERVED: logits.gather(1, target[:, None])[:, 0],
        Need.MASK: mask,
        Need.PARTS: mask.to(torch.uint8),
        Need.SCENES: [_Scene(image) for image in inputs],
        Need.INPUTS: inputs,
        Need.SEEDS: list(range(_IMAGES)),
        Need.MODEL: module,
        Need.MODULE: module,
        Need.EXPLAIN: partial(_explain, module),
        Need.EXPLAIN_LAYERS: partial(_explain_layers, module),
        Need.MAKE_EXPLAIN: _make_explain,
    }


@dataclass(frozen=True)
class _Scene:
    """An object of a single part, which is black without it."""

    image: Tensor
    names = ("part",)
    object_parts = ("part",)
    sufficient = (frozenset({"part"}),)
    twins = None

    def without(self, parts: frozenset[str]) -> Tensor:
        return self.image * (not parts)


def _network(draw: torch.Generator) -> nn.Module:
    module = nn.Sequential(nn.Conv2d(3, 2, 8, stride=8), nn.ReLU(), nn.Flatten(), nn.Linear(128, _CLASSES))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw))
    return module


def _explain(module: nn.Module, inputs: Tensor, target: Tensor) -> Tensor:
    return _relevance(module, inputs, nn.functional.one_hot(target, _CLASSES).to(inputs))


def _make_explain(module: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    return partial(_explain, module)


def _explain_layers(module: nn.Module, inputs: Tensor, seed: Tensor) -> dict[str, Tensor]:
    return {"input": _relevance(module, inputs, seed)}


def _relevance(module: nn.Module, inputs: Tensor, seed: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = inputs.detach().requires_grad_()
        (gradient,) = torch.autograd.grad((module(leaf) * seed).sum(), leaf)
    return gradient * inputs
