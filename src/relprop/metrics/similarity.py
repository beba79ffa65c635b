"""Similarity of two maps: Pearson and Spearman correlation, cosine, structural similarity, histograms of oriented gradients."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from relprop.errors import InputError, OptionError
from relprop.metrics.maps import wide


def pearson(left: Tensor, right: Tensor) -> Tensor:
    """Return each row's Pearson correlation; ``(B, …)`` twice → ``(B,)``, NaN where either is constant (up to rounding)."""
    return cosine(_centered(left), _centered(right))


def _centered(values: Tensor) -> Tensor:
    values = wide(values.flatten(1))
    centered = values - values.mean(1, keepdim=True)
    rounding = 100 * torch.finfo(values.dtype).eps * values.norm(dim=1, keepdim=True)
    return centered.where(centered.norm(dim=1, keepdim=True) > rounding, 0)


def cosine(left: Tensor, right: Tensor) -> Tensor:
    """Return each row's cosine; ``(B, …)`` twice → ``(B,)``, NaN where either is zero."""
    left, right = wide(left.flatten(1)), wide(right.flatten(1))
    size = left.norm(dim=1) * right.norm(dim=1)
    return torch.where(size > 0, (left * right).sum(1) / size, torch.nan).clamp(-1, 1)


def ranks(values: Tensor) -> Tensor:
    """Return each row's ranks, with the mean rank for ties; ``(B, N)`` → ``(B, N)``."""
    ordered, order = values.sort(1)
    places = torch.arange(values.shape[1], device=values.device).expand_as(order)
    new = ordered[:, 1:] != ordered[:, :-1]
    edge = torch.ones_like(order[:, :1], dtype=torch.bool)
    first = places.where(torch.cat([edge, new], 1), 0).cummax(1).values
    last = places.where(torch.cat([new, edge], 1), values.shape[1]).flip(1).cummin(1).values.flip(1)
    return wide(torch.empty_like(order).scatter_(1, order, first + last)) / 2


def spearman(left: Tensor, right: Tensor) -> Tensor:
    """Return each row's rank correlation; ``(B, …)`` twice → ``(B,)``, NaN where either is constant."""
    return pearson(ranks(left.flatten(1)), ranks(right.flatten(1)))


def spearman_abs(left: Tensor, right: Tensor) -> Tensor:
    """Return each row's rank correlation of magnitudes, blind to sign; ``(B, …)`` twice → ``(B,)``."""
    return spearman(left.abs(), right.abs())


def ssim(left: Tensor, right: Tensor) -> Tensor:
    """Return the structural similarity of maps ``(B, H, W)``, or of signals or volumes, each divided by its largest magnitude; ``(B,)`` in [−1, 1].

    Source: Wang et al., Image Quality Assessment, TIP 2004, Eq. 13, with its Gaussian window of 11 pixels (less for small maps).
    """
    left, right = _unit(left)[:, None], _unit(right)[:, None]
    reach = min(5, (min(left.shape[2:]) - 1) // 2)
    offsets = torch.arange(-reach, reach + 1, device=left.device, dtype=left.dtype)
    line = torch.exp(-(offsets**2) / (2 * 1.5**2))
    line = line / line.sum()

    def blur(values: Tensor) -> Tensor:
        for dim in range(2, values.dim()):
            moved = values.movedim(dim, -1)
            values = (
                F.conv1d(moved.reshape(-1, 1, moved.shape[-1]), line[None, None]).reshape(*moved.shape[:-1], -1).movedim(-1, dim)
            )
        return values

    mean_left, mean_right = blur(left), blur(right)
    var_left, var_right = blur(left**2) - mean_left**2, blur(right**2) - mean_right**2
    covariance = blur(left * right) - mean_left * mean_right
    small, smaller = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    above = (2 * mean_left * mean_right + small) * (2 * covariance + smaller)
    below = (mean_left**2 + mean_right**2 + small) * (var_left + var_right + smaller)
    return (above / below).flatten(1).mean(1)


def _unit(maps: Tensor) -> Tensor:
    peak = wide(maps).abs().amax(tuple(range(1, maps.dim())), keepdim=True)
    return wide(maps) / peak.where(peak > 0, 1)


def hog(left: Tensor, right: Tensor) -> Tensor:
    """Return the correlation of the maps' histograms of oriented gradients; ``(B, H, W)`` twice → ``(B,)``. Needs scikit-image.

    Raises:
        InputError: They are no maps of images.
        OptionError: The package scikit-image is not installed.
    """
    if left.dim() != 3:
        raise InputError(
            f"Similarity 'hog' compares maps of images (B, H, W), and these have shape {tuple(left.shape)}; leave it out."
        )
    try:
        from skimage.feature import hog as histograms
    except ImportError as error:
        raise OptionError("Similarity 'hog' needs scikit-image; install it with `pip install scikit-image`.") from error
    described = [
        torch.stack([torch.from_numpy(histograms(one.cpu().numpy(), pixels_per_cell=(16, 16))) for one in _unit(maps)])
        for maps in (left, right)
    ]
    return pearson(*described).to(left.device)


SIMILARITIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "spearman": spearman,
    "spearman_abs": spearman_abs,
    "pearson": pearson,
    "cosine": cosine,
    "ssim": ssim,
    "hog": hog,
}


def similarities(names: tuple[str, ...], left: Tensor, right: Tensor) -> dict[str, Tensor]:
    """Return the named similarities of maps ``(B, H, W)``, each ``(B,)``.

    Raises:
        OptionError: An unknown similarity.
    """
    for name in names:
        if name not in SIMILARITIES:
            raise OptionError(f"There is no similarity {name!r}; there are {', '.join(SIMILARITIES)}.")
    return {name: SIMILARITIES[name](left, right) for name in names}
