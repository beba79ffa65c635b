"""Models with weights that depend on nothing but their names, so that maps of authors' code could be computed elsewhere and stored."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

GOLDEN = Path(__file__).parent / "golden"
SIZE, PATCH = 32, 8


def fix_weights(model: nn.Module) -> nn.Module:
    """Draw every parameter from a generator of its own: weights around zero, those of norms around one; in float64."""
    model = model.double().eval()
    with torch.no_grad():
        for place, (name, parameter) in enumerate(sorted(model.named_parameters())):
            drawn = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(place), dtype=torch.float64)
            is_norm = parameter.dim() == 1 and name.endswith("weight")
            parameter.copy_(1 + 0.2 * drawn if is_norm else drawn * (0.2 if parameter.dim() == 1 else 0.35))
    return model


def images() -> Tensor:
    """Two images, ``(2, 3, 32, 32)``, in float64."""
    return torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def golden(name: str) -> Any:
    """Read a stored result."""
    return json.loads((GOLDEN / f"{name}.json").read_text("utf-8"))
