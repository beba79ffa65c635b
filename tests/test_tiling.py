"""Tiles: their places, weights that sum to one, and maps that are put together from those of the tiles."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import relprop
from relprop.errors import InputError, OptionError, TargetError
from relprop.tiling import tile_starts, tile_weights


class Net(nn.Module):
    """Fully convolutional, with the mean over places at its end."""

    def __init__(self, dims=2):
        super().__init__()
        conv = {1: nn.Conv1d, 2: nn.Conv2d}[dims]
        self.body = nn.Sequential(conv(3, 4, 1), nn.ReLU(), conv(4, 5, 1))

    def forward(self, x):
        return self.body(x).flatten(2).mean(2)


def explainer(method="input-x-gradient", **options):
    torch.manual_seed(0)
    return relprop.Explainer(Net().double(), torch.zeros(1, 3, 8, 6).double(), method, **options)


def photo(*shape, batch=1):
    return torch.randn(batch, 3, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@given(length=st.integers(1, 60), tile=st.integers(1, 20), overlap=st.floats(0, 0.9))
def test_weights_sum_to_one_and_tiles_overlap_enough(length, tile, overlap):
    if length < tile:
        with pytest.raises(InputError, match="resize it"):
            tile_starts(length, tile, overlap)
        return
    starts = tile_starts(length, tile, overlap)
    assert (starts[0], starts[-1]) == (0, length - tile)
    steps = [b - a for a, b in itertools.pairwise(starts)]
    assert all(0 < step <= max(1, tile * (1 - overlap) + 1e-6) for step in steps)
    total = torch.zeros(length, dtype=torch.float64)
    for start, line in zip(starts, tile_weights(length, tile, starts), strict=True):
        assert bool((line > 0).all())
        total[start : start + tile] += line
    torch.testing.assert_close(total, torch.ones_like(total))


def test_over_an_overlap_the_weight_goes_over_linearly():
    weights = tile_weights(12, 8, [0, 4])
    torch.testing.assert_close(weights[0], torch.tensor([1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2]).double())
    torch.testing.assert_close(weights[1], weights[0].flip(0))


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_without_overlap_the_maps_of_the_tiles_are_put_together(batch_size):
    explain, inputs = explainer("rap"), photo(16, 18, batch=2)
    found = explain.tiled(inputs, 3, overlap=0, batch_size=batch_size)
    whole = torch.zeros_like(inputs)
    for down in range(0, 16, 8):
        for across in range(0, 18, 6):
            place = (..., slice(down, down + 8), slice(across, across + 6))
            whole[place] = explain(inputs[place], 3).relevance
    torch.testing.assert_close(found.explanation.relevance, whole)
    assert len(found.tiles) == 6
    assert found.logits.shape == (2, 6, 5)
    torch.testing.assert_close(found.explanation.value, found.values.sum(1))
    torch.testing.assert_close(found.explanation.logits, found.logits.mean(1))


@pytest.mark.parametrize("shape", [(8, 6), (16, 18), (17, 13), (29, 6)])
def test_blending_equals_an_explicit_sum(shape):
    explain, inputs = explainer("rap"), photo(*shape)
    found = explain.tiled(inputs, [[3, 1]], overlap=0.4)
    total, weight = torch.zeros(1, 2, 3, *shape).double(), torch.zeros(shape).double()
    for place in found.tiles:
        ramp = [torch.tensor([min(i + 1, n - i) for i in range(n)]).double() for n in (8, 6)]
        window = ramp[0][:, None] * ramp[1]
        total[(..., *place)] += explain(inputs[(..., *place)], [[3, 1]]).relevance * window
        weight[place] += window
    torch.testing.assert_close(found.explanation.relevance, total / weight)
    whole = found.explanation
    torch.testing.assert_close(whole.relevance.flatten(2).sum(2) + whole.absorbed + whole.completeness_error, whole.value)


def test_constant_relevance_stays_constant():
    explain = explainer("input-x-gradient")
    inputs = torch.ones(1, 3, 21, 17).double()
    found = explain.tiled(inputs, 0, overlap=0.5).explanation.relevance
    torch.testing.assert_close(found, explain(inputs[..., :8, :6], 0).relevance[..., :1, :1].expand_as(found))


def test_one_tile_is_a_call():
    explain, inputs = explainer("rap"), photo(8, 6)
    found, called = explain.tiled(inputs), explain(inputs)
    for name in ("relevance", "logits", "absorbed", "value", "target"):
        torch.testing.assert_close(getattr(found.explanation, name), getattr(called, name))


def test_every_tile_is_explained_for_the_same_class():
    explain = explainer(labels=["a", "b", "c", "d", "e"])
    inputs = 9 * photo(3, 4).repeat_interleave(8, 2).repeat_interleave(6, 3)
    found = explain.tiled(inputs, overlap=0)
    best = int(found.logits.mean(1).argmax())
    assert found.explanation.target.tolist() == [best]
    torch.testing.assert_close(found.values, found.logits[:, :, best])
    assert len(set(found.logits[0].argmax(1).tolist())) > 1, "tiles on their own would choose otherwise"
    two = found.logits.mean(1).topk(2).indices
    assert explain.tiled(inputs, "top:2", overlap=0).explanation.target.tolist() == two.tolist()
    contrast = explain.tiled(inputs, "contrast", overlap=0)
    torch.testing.assert_close(contrast.values, (found.logits[:, :, two[0, 0]] - found.logits[:, :, two[0, 1]]))
    assert explain.tiled(inputs, "b").explanation.target.tolist() == [1]
    assert explain.tiled(inputs, "output:1").explanation.target is None
    note = found.explanation.notes[-1]
    assert "12 tiles of 8×6" in note
    assert f"{float(found.values.min()):.3g} to {float(found.values.max()):.3g}" in note


def test_signals_have_tiles_too():
    torch.manual_seed(0)
    explain = relprop.Explainer(Net(1), torch.zeros(1, 3, 10))
    inputs = torch.randn(2, 3, 33)
    found = explain.tiled(inputs)
    assert found.explanation.relevance.shape == inputs.shape


def test_models_of_a_fixed_batch_size_have_tiles():
    class Fixed(Net):
        def forward(self, x):
            return super().forward(x.reshape(1, 3, 8, 6))

    torch.manual_seed(0)
    explain = relprop.Explainer(Fixed(), torch.zeros(1, 3, 8, 6), "gradient")
    assert explain.tiled(torch.randn(2, 3, 16, 6)).explanation.relevance.shape == (2, 3, 16, 6)


@pytest.mark.parametrize(
    ("inputs", "target", "options", "error", "message"),
    [
        (photo(7, 6), None, {}, InputError, "7 long where a tile is 8"),
        (photo(9, 9), None, {"overlap": 1.0}, OptionError, "from 0 to 0.9"),
        (photo(9, 9), None, {"batch_size": 0}, OptionError, "batch size"),
        (photo(9, 9)[0], None, {}, InputError, "tiles are cut from batch×3×…×…"),
        (photo(9, 9)[:, :2], None, {}, InputError, "tiles are cut from batch×3"),
        ({"x": photo(9, 9)}, None, {}, InputError, "cut from one tensor"),
        (torch.zeros(1, 3, 8, 80_000).double(), None, {}, InputError, "more than the 10000"),
        (photo(9, 9), "pixels:3", {}, TargetError, "names a place"),
        (photo(9, 9, batch=2), "contrast", {}, TargetError, "names both classes"),
        (photo(9, 9), 7, {}, TargetError, "out of range"),
    ],
)
def test_what_has_no_tiles_is_refused(inputs, target, options, error, message):
    with pytest.raises(error, match=message):
        explainer().tiled(inputs, target, **options)


def test_an_output_with_places_is_refused():
    explain = relprop.Explainer(nn.Conv2d(3, 2, 1), torch.zeros(1, 3, 4, 4), "gradient")
    with pytest.raises(TargetError, match=r"output \(batch, classes\)"):
        explain.tiled(torch.rand(1, 3, 8, 8))
