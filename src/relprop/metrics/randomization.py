"""Copies of a model with randomized parameters, layer by layer; the model itself is never changed."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from relprop import draws
from relprop.errors import OptionError, suggestion

MODES = ("cascading", "independent")


def parameter_layers(module: nn.Module) -> list[str]:
    """Return the paths of the submodules with parameters of their own in reverse order of registration: from the output back."""
    paths = [path for path, part in module.named_modules() if any(True for _ in part.parameters(recurse=False))]
    return paths[::-1]


def spread(paths: Sequence[str], count: int | None) -> list[str]:
    """Return ``count`` of the paths at even distances, always with the last; all of them if ``count`` is None or not smaller."""
    if count is None or count >= len(paths):
        return list(paths)
    return [paths[math.ceil((place + 1) * len(paths) / count) - 1] for place in range(count)]


def randomized_models(
    module: nn.Module,
    *,
    mode: str = "cascading",
    layers: Sequence[str] | None = None,
    count: int | None = None,
    seed: int = 0,
    reinit: str = "normal",
) -> Iterator[tuple[str, nn.Module]]:
    """Yield (layer, model) with randomized copies of the model.

    Args:
        module: The model; neither it nor the global random state changes.
        mode: ``cascading`` randomizes the layers cumulatively, from the output back; ``independent`` one layer at a time.
        layers: Module paths from the output back; None for all that hold parameters.
        count: Number of models to yield, at even distances; a cascade still randomizes every layer in between.
        seed: Seed of the draws; a layer gets the same numbers in both modes.
        reinit: A key of ``REINITS``.

    Raises:
        OptionError: An unknown mode, layer or reinit.
    """
    every = _known_layers(module, layers)
    if mode not in MODES or reinit not in REINITS:
        raise OptionError(f"Option mode must be one of {MODES} and reinit one of {tuple(REINITS)}, not {mode!r} and {reinit!r}.")
    wanted = set(spread(every, count))
    duplicate = copy.deepcopy(module)
    for number, path in enumerate(every):
        if mode == "independent":
            if path not in wanted:
                continue
            duplicate = copy.deepcopy(module)
        REINITS[reinit](duplicate.get_submodule(path), draws.generator(seed + number))
        if path in wanted:
            yield path, duplicate


def _known_layers(module: nn.Module, layers: Sequence[str] | None) -> list[str]:
    known = parameter_layers(module)
    for path in layers or ():
        if path not in known:
            raise OptionError(f"The model has no layer {path!r} with parameters of its own.{suggestion(path, known)}")
    return known if layers is None else list(layers)


def _normal(layer: nn.Module, source: torch.Generator) -> None:
    for parameter in layer.parameters(recurse=False):
        values = parameter.detach()
        spread_ = values.std().item() if values.numel() > 1 else abs(values.item())
        _set(parameter, values.mean().cpu() + spread_ * draws.normal(values.shape, source))


def _reset(layer: nn.Module, source: torch.Generator) -> None:
    reset = getattr(layer, "reset_parameters", None)
    if not callable(reset):
        _normal(layer, source)
        return
    buffers = {name: buffer.clone() for name, buffer in layer.named_buffers(recurse=False)}
    with draws.DrawFrom(source):
        reset()
    for name, buffer in layer.named_buffers(recurse=False):
        buffer.copy_(buffers[name])


def _set(parameter: Tensor, values: Tensor) -> None:
    parameter.detach().copy_(values)


REINITS: dict[str, Callable[[nn.Module, torch.Generator], None]] = {"normal": _normal, "reset": _reset}
"""Initializers: ``normal`` draws each tensor from a normal distribution of its own mean and standard deviation, so activations keep
their scale; ``reset`` calls the layer's ``reset_parameters`` but keeps running statistics (without such a method: ``normal``)."""
