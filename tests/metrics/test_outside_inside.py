import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from relprop.metrics import metric


def images(seed: int, count: int = 3, size: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    relevance = torch.randn(count, 3, size, size, generator=generator, dtype=torch.float64)
    mask = torch.tensor([0, 0, 2, 255])[torch.randint(0, 4, (count, size, size), generator=generator)]
    return relevance, mask


def ratios_by_hand(heat: torch.Tensor, mask: torch.Tensor) -> dict[str, float]:
    inside, outside = [], []
    for value, truth in zip(heat.flatten().tolist(), mask.flatten().tolist(), strict=True):
        if truth != 255:
            (inside if truth else outside).append(value)

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    def plus(values: list[float]) -> float:
        return mean([max(value, 0) for value in values])

    def minus(values: list[float]) -> float:
        return mean([max(-value, 0) for value in values])

    return {
        "all": (plus(outside) + minus(inside)) / (plus(inside) + minus(outside)),
        "pos": plus(outside) / plus(inside),
        "signed": mean(outside) / mean(inside),
    }


@pytest.mark.parametrize("seed", range(5))
def test_ratios_are_those_of_a_loop(seed: int) -> None:
    relevance, mask = images(seed)
    ratio = metric("outside-inside")
    rows = ratio.update(relevance=relevance, mask=mask)
    expected = [ratios_by_hand(heat, truth) for heat, truth in zip(relevance.sum(1), mask, strict=True)]
    for index, values in enumerate(expected):
        assert {name: rows[name][index].item() for name in values} == pytest.approx(values)
    assert ratio.compute()["pos"].item() == pytest.approx(sum(values["pos"] for values in expected) / 3)


def test_ratio_of_a_set_is_that_of_its_summed_means() -> None:
    relevance = torch.tensor([[[1.0, 4.0]], [[3.0, 4.0]]])
    ratio = metric("outside-inside")
    ratio.update(relevance=relevance, mask=torch.tensor([[[0, 1]], [[0, 1]]]))
    assert ratio.compute("set")["pos"].item() == 0.5


def test_what_is_undefined_is_not_a_number_and_left_out() -> None:
    ratio = metric("outside-inside")
    mask = torch.tensor([[[0, 1]], [[0, 0]], [[1, 1]], [[0, 1]]])
    relevance = torch.tensor([[[1.0, 2.0]], [[1.0, 2.0]], [[1.0, 2.0]], [[1.0, -2.0]]])
    rows = ratio.update(relevance=relevance, mask=mask)
    assert [math.isnan(value) for value in rows["pos"].tolist()] == [False, True, True, True]
    assert ratio.undefined == {"all": 3, "pos": 3, "signed": 2}
    assert ratio.compute()["pos"].item() == 0.5


@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3))
def test_ratios_do_not_depend_on_scale_and_turn_over_with_the_mask(seed: int, scale: float) -> None:
    relevance, mask = images(seed)
    ratio = metric("outside-inside")
    rows, scaled = ratio.update(relevance=relevance, mask=mask), ratio.update(relevance=relevance * scale, mask=mask)
    swapped = torch.where(mask == 255, mask, (mask == 0).long())
    turned = ratio.update(relevance=relevance, mask=swapped)
    for name in rows:
        assert torch.allclose(rows[name], scaled[name], equal_nan=True)
        assert torch.allclose(rows[name], 1 / turned[name], equal_nan=True)
    assert (rows["pos"] >= 0).all()
