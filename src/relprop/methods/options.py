"""Options that several methods share: their types and defaults, and a decorator that adds them to a builder."""

import functools
import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor

from relprop.errors import ModelError, OptionError
from relprop.methods.rule_tables import AddName, AttentionName, ConstantsName, InputRuleName
from relprop.rules.affine import BiasName
from relprop.rules.sums import SumName

StartName = Literal["logit", "one", "abslrp", "clrp", "sglrp", "softmax", "mean", "finer"]


@dataclass(frozen=True)
class Shared:
    """Options of the LRP methods.

    Attributes:
        epsilon: Stabilizer of the denominators; 0 for none.
        bias: Whether biases ``"absorb"`` their share or are left out.
        add: How residual sums split: by ``"signed"`` value, ``"absolute"`` value, ``"positive"`` part, or by value with the summands that
            agree with the sum counted twice, ``"gamma"`` (ResLRP); ``"usual"`` is signed, but absolute in models with attention, where
            measurements favor it.
        constants: Whether constants added to a value, such as position embeddings, ``"absorb"`` their share, split as ``add`` says, or are
            left out. Those between the input and the first layer, such as the means of its channels, always are.
        attention: Whether attention weights are a ``"constant"`` or take ``"half"`` of the relevance, which their softmax passes on.
        start: Relevance of the output, see :data:`relprop.methods.STARTS`.
        input_rule: The first layer's rule: ``"layer"`` for the same as any other layer's, ``"zbox"`` between the sample's smallest and largest
            value, ``"flat"``, or ``"wsquare"``.
    """

    epsilon: float = 1e-6
    bias: BiasName = "absorb"
    add: AddName = "usual"
    constants: ConstantsName = "absorb"
    attention: AttentionName = "constant"
    start: StartName = "logit"
    input_rule: InputRuleName = "layer"


def sharing(*, without: Sequence[str] = (), **values: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:  # noqa: ANN401
    """Give a builder ``(Shared, own options) -> Method`` the shared options as keyword arguments of its own.

    Args:
        without: Options that the method fixes and does not offer.
        values: Defaults that differ from those of :class:`Shared`.
    """
    usual = Shared(**values)
    offered = [field for field in fields(Shared) if field.name not in without]

    def decorate(build: Callable[..., Any]) -> Callable[..., Any]:
        _, *own = inspect.signature(build).parameters.values()
        keyword = inspect.Parameter.KEYWORD_ONLY
        shared = [inspect.Parameter(f.name, keyword, default=getattr(usual, f.name), annotation=f.type) for f in offered]

        @functools.wraps(build)
        def built(**given: Any) -> Any:  # noqa: ANN401 - options of any type
            common = {f.name: given.pop(f.name) for f in offered if f.name in given}
            return build(replace(usual, **common), **given)

        built.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
        return built

    return decorate


__all__ = ["AddName", "AttentionName", "BiasName", "ConstantsName", "InputRuleName", "Shared", "StartName", "SumName", "sharing"]


def at_least(minimum: float, **options: float | None) -> None:
    """Refuse options below ``minimum``.

    Raises:
        OptionError: One is too small; the message names it.
    """
    for name, value in options.items():
        if value is not None and value < minimum:
            raise OptionError(f"Option {name}={value!r} must be at least {minimum:g}.")


def as_reference(value: float | Tensor, like: Tensor, name: str = "baseline") -> Tensor:
    """Return a reference input shaped like one batch: a number everywhere, or a tensor that broadcasts over the samples.

    Raises:
        OptionError: The tensor does not fit the input, or is not finite.
    """
    reference = value.to(like) if isinstance(value, Tensor) else torch.tensor(value, dtype=like.dtype, device=like.device)
    if not bool(torch.isfinite(reference).all()):
        raise OptionError(f"Option {name} holds NaN or infinite values.")
    try:
        return reference.expand_as(like)
    except RuntimeError:
        wanted = " × ".join(map(str, like.shape[1:]))
        raise OptionError(
            f"Option {name} has shape {tuple(reference.shape)}; it must be a number or fit a sample, {wanted}."
        ) from None


def check_references(given: Tensor, like: Tensor) -> None:
    """Refuse reference inputs ``(N, …)`` that do not fit a batch of samples.

    Raises:
        OptionError: Their shape is another, or there is none.
    """
    if given.dim() != like.dim() or given.shape[1:] != like.shape[1:] or not len(given):
        wanted = " × ".join(map(str, like.shape[1:]))
        raise OptionError(f"Option baselines has shape {tuple(given.shape)}; it must be N × {wanted}.")


def read_array(path: str | Path) -> Tensor:
    """Read the option ``baselines`` from an ``.npy`` file, which is never unpickled.

    Raises:
        OptionError: It is no such file.
    """
    import numpy as np

    try:
        return torch.from_numpy(np.load(path, allow_pickle=False))
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise OptionError(f"Option baselines={str(path)!r} is no .npy file of numbers that can be read ({error}).") from error


def optional(module: str, package: str) -> ModuleType:
    """Import a library of the extra ``captum``.

    Raises:
        ModelError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ModelError(f'This method needs {package}; install it with: pip install "relprop[captum]" ({error}).') from error
