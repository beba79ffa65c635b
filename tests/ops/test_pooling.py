"""Averages, sums and resizing against explicit contribution matrices; maxima against the winner of every window."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.rules.reference import check_affine, check_winner, probe

GRID = torch.rand(1, 3, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2.4 - 1.2
TURN = torch.tensor([[[0.8, 0.3, 0.1], [-0.3, 0.9, 0.0]]], dtype=torch.float64)


AVERAGES = {
    "avg 1d": (nn.AvgPool1d(2), (2, 5)),
    "avg 1d padded": (nn.AvgPool1d(3, stride=2, padding=1, ceil_mode=True), (2, 6)),
    "avg 1d without padding in the count": (nn.AvgPool1d(3, stride=1, padding=1, count_include_pad=False), (2, 4)),
    "avg 2d": (nn.AvgPool2d(2), (2, 4, 4)),
    "avg 2d overlapping": (nn.AvgPool2d((2, 3), stride=(2, 1), padding=(1, 1)), (2, 4, 4)),
    "avg 2d ceil": (nn.AvgPool2d(2, stride=2, padding=1, ceil_mode=True), (1, 4, 4)),
    "avg 2d ceil without padding": (nn.AvgPool2d(3, stride=2, padding=1, ceil_mode=True, count_include_pad=False), (1, 4, 5)),
    "avg 2d with a divisor": (nn.AvgPool2d(2, divisor_override=3), (1, 4, 4)),
    "avg 3d": (nn.AvgPool3d(2, stride=1, padding=(1, 0, 0)), (1, 2, 3, 2)),
    "avg 3d with a divisor": (nn.AvgPool3d(2, divisor_override=5, ceil_mode=True), (1, 2, 3, 2)),
    "adaptive avg 1d": (nn.AdaptiveAvgPool1d(3), (2, 5)),
    "adaptive avg 2d": (nn.AdaptiveAvgPool2d((2, 3)), (2, 3, 4)),
    "adaptive avg 2d, one size kept": (nn.AdaptiveAvgPool2d((None, 1)), (2, 3, 3)),
    "adaptive avg 2d to one": (nn.AdaptiveAvgPool2d(1), (2, 3, 3)),
    "adaptive avg 2d that enlarges": (nn.AdaptiveAvgPool2d(3), (1, 2, 2)),
    "adaptive avg 3d": (nn.AdaptiveAvgPool3d((1, 2, 2)), (1, 2, 3, 2)),
    "mean": (lambda x: x.mean((2, 3)), (2, 2, 3)),
    "mean, dims kept": (lambda x: x.mean([-2, -1], keepdim=True), (2, 2, 3)),
    "mean over tokens": (lambda x: x.mean(dim=1), (3, 4)),
    "mean of everything but the batch": (lambda x: x.flatten(1).mean(1, keepdim=True), (3, 2)),
    "sum": (lambda x: x.sum(-1), (3, 4)),
    "sum over two dims": (lambda x: x.sum((1, -1), keepdim=True), (2, 3, 2)),
    "nearest 1d": (nn.Upsample(scale_factor=2), (2, 3)),
    "nearest 2d": (nn.Upsample(size=(5, 4)), (2, 3, 2)),
    "nearest 3d": (nn.Upsample(scale_factor=2), (1, 2, 1, 2)),
    "nearest exact": (nn.Upsample(size=(5, 3), mode="nearest-exact"), (1, 3, 2)),
    "nearest down": (lambda x: F.interpolate(x, size=(2, 2)), (1, 5, 3)),
    "linear": (nn.Upsample(scale_factor=2, mode="linear"), (2, 3)),
    "bilinear": (nn.Upsample(size=(4, 5), mode="bilinear"), (2, 3, 2)),
    "bilinear, corners aligned": (nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), (1, 3, 2)),
    "bilinear by a fraction": (lambda x: F.interpolate(x, scale_factor=1.5, mode="bilinear"), (1, 3, 5)),
    "bilinear by a fraction, kept": (
        lambda x: F.interpolate(x, scale_factor=1.7, mode="bilinear", recompute_scale_factor=False),
        (1, 3, 4),
    ),
    "nearest by a fraction": (lambda x: F.interpolate(x, scale_factor=1.7, mode="nearest"), (1, 3, 4)),
    "bicubic by a fraction": (lambda x: F.interpolate(x, scale_factor=1.7, mode="bicubic"), (1, 3, 4)),
    "bilinear, smoothed, down": (lambda x: F.interpolate(x, size=(2, 2), mode="bilinear", antialias=True), (1, 4, 5)),
    "bicubic": (nn.Upsample(size=(5, 4), mode="bicubic"), (1, 3, 3)),
    "bicubic, smoothed, down": (lambda x: F.interpolate(x, size=(2, 3), mode="bicubic", antialias=True), (1, 5, 5)),
    "trilinear": (nn.Upsample(scale_factor=2, mode="trilinear"), (1, 2, 2, 2)),
    "cumsum": (lambda x: torch.cumsum(x, 2), (2, 3)),
    "cumsum along the channels": (lambda x: x.cumsum(1), (3, 2)),
    "grid_sample": (lambda x: F.grid_sample(x, GRID.expand(len(x), -1, -1, -1), align_corners=False), (2, 3, 4)),
    "grid_sample, nearest": (
        lambda x: F.grid_sample(x, GRID.expand(len(x), -1, -1, -1), "nearest", "border", align_corners=True),
        (2, 3, 4),
    ),
    "affine_grid": (
        lambda x: F.grid_sample(x, F.affine_grid(TURN.expand(len(x), 2, 3), x.shape, align_corners=False), align_corners=False),
        (1, 4, 4),
    ),
    "area": (lambda x: F.interpolate(x, size=(2, 2), mode="area"), (1, 4, 5)),
}


@pytest.mark.parametrize("name", AVERAGES)
def test_fixed_weights(name):
    op, shape = AVERAGES[name]
    check_affine(op, shape)


MAXIMA = {
    "max 1d": (nn.MaxPool1d(2), (2, 5)),
    "max 1d, every option": (nn.MaxPool1d(2, stride=2, padding=1, dilation=2, ceil_mode=True), (2, 7)),
    "max 2d": (nn.MaxPool2d(2), (2, 4, 4)),
    "max 2d overlapping": (nn.MaxPool2d(3, stride=1, padding=1), (2, 3, 4)),
    "max 2d, every option": (nn.MaxPool2d((2, 3), stride=(2, 1), padding=(0, 1), dilation=(2, 1), ceil_mode=True), (1, 5, 4)),
    "max 3d": (nn.MaxPool3d(2, stride=1), (1, 2, 3, 3)),
    "max 3d, every option": (nn.MaxPool3d(2, stride=2, padding=1, ceil_mode=True), (1, 3, 3, 2)),
    "max 2d with indices": (lambda x: F.max_pool2d(x, 2, return_indices=True)[0], (1, 4, 4)),
    "max 1d with indices": (lambda x: F.max_pool1d(x, 2, return_indices=True)[0], (1, 4)),
    "adaptive max 1d": (nn.AdaptiveMaxPool1d(2), (2, 5)),
    "adaptive max 2d": (nn.AdaptiveMaxPool2d((2, 3)), (1, 3, 4)),
    "adaptive max 3d": (nn.AdaptiveMaxPool3d(1), (1, 2, 2, 3)),
    "amax": (lambda x: x.amax((2, 3)), (2, 2, 3)),
    "amin, dims kept": (lambda x: x.amin(-1, keepdim=True), (2, 3)),
    "max along a dim": (lambda x: x.max(1).values, (3, 2)),
    "min along a dim": (lambda x: x.min(2, keepdim=True)[0], (3, 2)),
    "median": (lambda x: x.median(2).values, (3, 3)),
    "kthvalue": (lambda x: x.kthvalue(2, 1).values, (3, 3)),
    "topk": (lambda x: x.topk(2, dim=1).values, (4, 3)),
    "topk along the last dim": (lambda x: torch.topk(x, 2, largest=False)[0], (2, 4)),
    "sort": (lambda x: x.sort(dim=-1, descending=True).values, (2, 3)),
}


@pytest.mark.parametrize("name", MAXIMA)
def test_winner(name):
    op, shape = MAXIMA[name]
    check_winner(op, shape)


def test_equal_maxima_of_amax_share():
    p = probe(lambda x: (x * 0 + 1).amax(-1), (2, 4))
    torch.testing.assert_close(p.relevance_in[0], (p.relevance_out / 4).unsqueeze(-1).expand(3, 2, 4))


def test_empty_windows_hand_their_relevance_to_the_surplus():
    """A pooling window that is all zero, as after a ReLU, with a constant behind it that makes its relevance nonzero."""
    check_affine(lambda x: F.avg_pool1d(x, 2) + 1.0, (1, 6))
    p = probe(lambda x: F.avg_pool1d(x, 2) + 1.0, (1, 6), nonnegative=True)
    assert ((p.output == 1) & (p.relevance_out != 0)).any()
