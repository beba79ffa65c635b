import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from relprop.errors import InputError, OptionError
from relprop.metrics.maps import THRESHOLDS, box_mask, dilate, heatmap, object_and_valid, percentile, threshold_of


def maps(seed: int, count: int = 3, size: int = 9) -> torch.Tensor:
    return torch.randn(count, size, size, generator=torch.Generator().manual_seed(seed))


def test_heatmap_sums_channels_and_names_bad_input() -> None:
    relevance = torch.arange(24.0).reshape(2, 3, 2, 2)
    assert torch.equal(heatmap(relevance), relevance.sum(1))
    assert torch.equal(heatmap(relevance[:, 0]), relevance[:, 0])
    with pytest.raises(InputError, match=r"shape \(B, H, W\)"):
        heatmap(relevance[0, 0])
    with pytest.raises(InputError, match="NaN"):
        heatmap(torch.tensor([[[0.0, float("nan")]]]))


def test_void_is_neither_object_nor_background() -> None:
    truth, valid = object_and_valid(torch.zeros(1, 1, 4), torch.tensor([[[0, 1, 7, 255]]], dtype=torch.uint8))
    assert truth.tolist() == [[[False, True, True, False]]]
    assert valid.tolist() == [[[True, True, True, False]]]
    with pytest.raises(InputError, match="resize"):
        object_and_valid(torch.zeros(1, 2, 2), torch.zeros(1, 2, 3))


def test_thresholds_of_a_map_known_by_hand() -> None:
    heat = torch.tensor([[[-4.0, 1.0], [2.0, 5.0]]])
    assert threshold_of(heat, "mean-positive").item() == 2.0
    assert threshold_of(heat, "mean").item() == 1.0
    assert threshold_of(heat, "zero").item() == 0.0
    assert threshold_of(heat, "median").item() == 1.5
    assert threshold_of(heat, "percentile:100").item() == 5.0


@given(seed=st.integers(0, 10**6), percent=st.floats(0, 100))
def test_percentile_is_numpys(seed: int, percent: float) -> None:
    heat = maps(seed).double()
    expected = np.percentile(heat.flatten(1).numpy(), percent, axis=1)
    assert np.allclose(percentile(heat, percent).numpy(), expected)


@pytest.mark.parametrize("seed", range(5))
def test_otsu_is_scikit_images(seed: int) -> None:
    filters = pytest.importorskip("skimage.filters", reason="scikit-image is not installed")
    heat = maps(seed, size=40).double()
    heat[1] += 5 * (heat[1] > 0.7)
    expected = [filters.threshold_otsu(one.numpy(), nbins=256) for one in heat]
    assert np.allclose(threshold_of(heat, "otsu").numpy(), expected)


@pytest.mark.parametrize("threshold", [*THRESHOLDS, "percentile:80"])
@given(seed=st.integers(0, 10**6), scale=st.floats(0.01, 100))
def test_thresholds_scale_with_the_map_and_ignore_batch_mates(threshold: str, seed: int, scale: float) -> None:
    heat = maps(seed).double()
    together = threshold_of(heat, threshold)
    assert torch.allclose(threshold_of(heat * scale, threshold), together * scale, atol=1e-12)
    alone = torch.cat([threshold_of(one[None], threshold) for one in heat])
    assert torch.allclose(alone, together)


@pytest.mark.parametrize("threshold", [*THRESHOLDS, "percentile:50"])
def test_nothing_of_a_constant_map_is_above_its_threshold(threshold: str) -> None:
    heat = torch.zeros(1, 4, 4)
    assert not (heat > threshold_of(heat, threshold)).any()


@pytest.mark.parametrize("threshold", ["otzu", "percentile", "percentile:101", "percentile:x"])
def test_a_bad_threshold_is_named(threshold: str) -> None:
    with pytest.raises(OptionError, match=threshold):
        threshold_of(torch.zeros(1, 2, 2), threshold)


def test_box_mask_and_dilation_by_hand() -> None:
    mask = box_mask([torch.tensor([[1.0, 0.0, 3.0, 2.0]]), torch.zeros(0, 4)], (3, 4))
    assert mask[0].int().tolist() == [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    assert not mask[1].any()
    point = torch.zeros(1, 5, 5, dtype=torch.bool)
    point[0, 2, 2] = True
    assert dilate(point, 1)[0].int().tolist() == [[0] * 5, [0, 0, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 0, 0], [0] * 5]
    assert torch.equal(dilate(point, 0), point)
