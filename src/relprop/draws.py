"""Random draws from generators of their own: the global generators of torch and NumPy are neither read nor written, in any thread."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


def generator(seed: int) -> torch.Generator:
    """Return a generator on the CPU, so that draws do not depend on the device of what they are used for."""
    return torch.Generator("cpu").manual_seed(seed)


def normal(shape: tuple[int, ...], source: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
    """Draw standard normal numbers."""
    return torch.randn(shape, generator=source, dtype=dtype, device="cpu")


def uniform(shape: tuple[int, ...], source: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
    """Draw numbers in [0, 1)."""
    return torch.rand(shape, generator=source, dtype=dtype, device="cpu")


def integers(low: int, high: int, shape: tuple[int, ...], source: torch.Generator) -> Tensor:
    """Draw integers in [low, high)."""
    return torch.randint(low, high, shape, generator=source, device="cpu")


def permutation(length: int, source: torch.Generator) -> Tensor:
    """Draw a permutation of ``0 … length − 1``."""
    return torch.randperm(length, generator=source, device="cpu")


class DrawFrom(TorchDispatchMode):
    """A context in which every random op of this thread draws from one generator, for code that takes none, such as ``reset_parameters``.

    Args:
        source: A generator on the CPU; values of other devices are drawn there and copied.
    """

    def __init__(self, source: torch.Generator) -> None:
        super().__init__()
        self.source = source

    def __torch_dispatch__(self, func: Any, types: object, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401 - of torch
        """Run one op; a random one gets the generator."""
        drawing = _with_generator(func) if torch.Tag.nondeterministic_seeded in func.tags else None
        if drawing is None or (kwargs or {}).get("generator") is not None:
            return func(*args, **(kwargs or {}))
        given = {**(kwargs or {}), "generator": self.source}
        if not isinstance(args[0], Tensor):
            return drawing(*args, **{**given, "device": "cpu"}).to(given.get("device") or "cpu")
        if func._schema.is_mutable:
            return args[0].copy_(drawing(torch.empty_like(args[0], device="cpu"), *args[1:], **given))
        return drawing(args[0].cpu(), *args[1:], **given).to(args[0].device)


def _with_generator(func: Any) -> Any:  # noqa: ANN401 - an op
    """Return the overload of a random op that takes a generator; None where it has none."""
    if any(argument.name == "generator" for argument in func._schema.arguments):
        return func
    name = {"default": "generator", "low": "low_generator"}.get(func._overloadname, "")
    return getattr(func.overloadpacket, name) if name in func.overloadpacket.overloads() else None
