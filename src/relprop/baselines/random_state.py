"""Random numbers that depend on a seed alone, and leave the global generators as they were."""

import sys
from collections.abc import Generator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int, device: torch.device) -> Generator[None, None, None]:
    """Seed the global generators of torch and NumPy, which captum draws from; put them back afterwards."""
    numpy = sys.modules.get("numpy")
    state = numpy.random.get_state() if numpy is not None else None
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        if numpy is not None:
            numpy.random.seed(seed % 2**32)
        try:
            yield
        finally:
            if numpy is not None:
                numpy.random.set_state(state)
