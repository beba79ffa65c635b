import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from relprop.errors import OptionError
from relprop.metrics.similarity import SIMILARITIES, cosine, hog, pearson, ranks, similarities, spearman, ssim

QUICK = [name for name in SIMILARITIES if name != "hog"]


def maps(seed: int, size: int = 15) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    left, noise = (torch.randn(3, size, size, generator=generator, dtype=torch.float64) for _ in range(2))
    return left, left + noise


@given(seed=st.integers(0, 10**6))
def test_correlations_are_scipys(seed: int) -> None:
    stats = pytest.importorskip("scipy.stats", reason="SciPy is not installed")
    left, right = (side.round(decimals=0) for side in maps(seed, 6))
    for index in range(3):
        one, other = left[index].flatten().numpy(), right[index].flatten().numpy()
        assert np.allclose(ranks(left.flatten(1))[index] + 1, stats.rankdata(one))
        assert spearman(left, right)[index].item() == pytest.approx(stats.spearmanr(one, other).statistic)
        assert pearson(left, right)[index].item() == pytest.approx(stats.pearsonr(one, other).statistic)
        assert cosine(left, right)[index].item() == pytest.approx(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.mark.parametrize("seed", range(3))
def test_ssim_is_scikit_images(seed: int) -> None:
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    left, right = maps(seed, 20)
    for index in range(3):
        one, other = (side[index] / side[index].abs().max() for side in (left, right))
        expected = metrics.structural_similarity(
            one.numpy(), other.numpy(), data_range=2, gaussian_weights=True, use_sample_covariance=False, sigma=1.5
        )
        assert ssim(left, right)[index].item() == pytest.approx(expected)


@pytest.mark.parametrize("name", QUICK)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3))
def test_similarities_are_symmetric_bounded_blind_to_scale_and_one_for_equals(name: str, seed: int, scale: float) -> None:
    left, right = maps(seed)
    similar = SIMILARITIES[name]
    assert torch.allclose(similar(left, left * scale), torch.ones(3, dtype=torch.float64))
    assert torch.allclose(similar(left, right), similar(right, left))
    assert (similar(left, right).abs() <= 1).all()


def test_hog_is_one_of_a_map_with_itself_and_less_of_others() -> None:
    pytest.importorskip("skimage", reason="scikit-image is not installed")
    left, right = maps(0, 64)
    assert torch.allclose(hog(left, left), torch.ones(3, dtype=torch.float64))
    assert (hog(left, right) < 1).all()


def test_constant_maps_have_no_correlation() -> None:
    flat, other = torch.full((1, 5, 5), 0.1), maps(0, 5)[0][:1]
    assert math.isnan(pearson(flat, other))
    assert math.isnan(spearman(flat, other))
    assert math.isnan(cosine(0 * flat, other))


def test_an_unknown_similarity_is_named() -> None:
    with pytest.raises(OptionError, match="'kendall'"):
        similarities(("kendall",), *maps(0))
