import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from relprop.errors import OptionError
from relprop.metrics.fills import FILLS, blurred, impute, make_fill
from relprop.metrics.seeds import generators


def picture(seed: int, count: int = 2, size: int = 9) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def holes(seed: int, share: float, count: int = 2, size: int = 9) -> torch.Tensor:
    return torch.rand(count, size, size, generator=torch.Generator().manual_seed(seed)) < share


def solved(image: np.ndarray, gone: np.ndarray) -> np.ndarray:
    """ROAD's system of one image, written out pixel by pixel and solved densely."""
    places = {tuple(place): index for index, place in enumerate(np.argwhere(gone))}
    matrix, right = np.zeros((len(places), len(places))), np.zeros((len(places), image.shape[0]))
    for (row, column), index in places.items():
        for down in (-1, 0, 1):
            for across in (-1, 0, 1):
                near = (row + down, column + across)
                if (down, across) == (0, 0) or not (0 <= near[0] < gone.shape[0] and 0 <= near[1] < gone.shape[1]):
                    continue
                weight = 1 / 12 if down and across else 1 / 6
                matrix[index, index] += weight
                if near in places:
                    matrix[index, places[near]] -= weight
                else:
                    right[index] += weight * image[:, near[0], near[1]]
    filled = image.copy()
    for (row, column), values in zip(places, np.linalg.solve(matrix, right), strict=True):
        filled[:, row, column] = values
    return filled


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("seed", range(3))
def test_imputation_solves_the_system_written_out(seed: int, share: float) -> None:
    inputs, removed = picture(seed), holes(seed + 1, share)
    filled = impute(inputs, removed, tolerance=1e-10)
    for image, gone, found in zip(inputs, removed, filled, strict=True):
        assert np.allclose(solved(image.numpy(), gone.numpy()), found.numpy(), atol=1e-7)


@pytest.mark.parametrize("share", [0.2, 0.8])
def test_imputation_is_that_of_pytorch_grad_cam(share: float) -> None:
    torch.manual_seed(0)
    road = _grad_cam_road()
    inputs, removed = picture(3, size=12).float(), holes(4, share, size=12)
    expected = [road(image, (~gone).float()) for image, gone in zip(inputs, removed, strict=True)]
    assert torch.allclose(impute(inputs, removed, tolerance=1e-7), torch.stack(expected), atol=1e-4)


def _grad_cam_road():
    module = pytest.importorskip("pytorch_grad_cam.metrics.road", reason="pytorch-grad-cam is not installed")
    return module.NoisyLinearImputer(noise=0.0)


def test_an_image_of_which_nothing_is_left_becomes_its_mean_color() -> None:
    inputs = picture(0)
    filled = impute(inputs, torch.ones(2, 9, 9, dtype=torch.bool))
    assert torch.allclose(filled, inputs.mean((2, 3), keepdim=True).expand_as(inputs))


@pytest.mark.parametrize("name", FILLS)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.floats(0, 1))
def test_fills_keep_what_stays_and_do_not_depend_on_batch_mates(name: str, seed: int, share: float) -> None:
    inputs, removed = picture(seed, 3), holes(seed, share, 3)
    seeds = [seed, seed + 1, seed + 2]
    filled = make_fill(name, inputs, generators(seeds, 3))(removed)
    kept = ~removed[:, None].expand_as(inputs)
    assert torch.equal(filled[kept], inputs[kept])
    alone = make_fill(name, inputs[1:2], generators(seeds[1:2], 1))(removed[1:2])
    assert torch.allclose(alone[0], filled[1], atol=1e-4)


def test_fixed_pictures_by_hand() -> None:
    inputs, removed = picture(0), torch.ones(2, 9, 9, dtype=torch.bool)
    sources = generators(0, 2)
    assert not make_fill("zero", inputs, sources)(removed).any()
    assert torch.allclose(make_fill("mean", inputs, sources)(removed)[0, 1], inputs[0, 1].mean())
    noise = make_fill("noise", inputs, sources)(removed)
    assert (noise >= inputs.amin((2, 3), keepdim=True)).all()
    assert (noise <= inputs.amax((2, 3), keepdim=True)).all()


def test_blur_is_scipys() -> None:
    ndimage = pytest.importorskip("scipy.ndimage", reason="SciPy is not installed")
    inputs = picture(1, size=20)
    expected = ndimage.gaussian_filter(inputs.numpy(), (0, 0, 2, 2), mode="nearest", truncate=3)
    assert np.allclose(blurred(inputs, 2.0).numpy(), expected)


def test_an_unknown_fill_is_named() -> None:
    with pytest.raises(OptionError, match="'blur'"):
        make_fill("blurr", picture(0), generators(0, 2))
