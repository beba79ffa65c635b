import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from relprop.errors import OptionError
from relprop.metrics import metric
from relprop.metrics.maps import threshold_of
from relprop.metrics.segmentation import average_precision


def images(seed: int, count: int = 4, size: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    relevance = torch.randint(-5, 6, (count, size, size), generator=generator).double()
    mask = torch.tensor([0, 1, 1, 3, 255])[torch.randint(0, 5, (count, size, size), generator=generator)]
    return relevance, mask


def counted_by_hand(heat: torch.Tensor, mask: torch.Tensor, threshold: float) -> dict[str, float]:
    hit = extra = missed = rejected = 0
    for value, truth in zip(heat.flatten().tolist(), mask.flatten().tolist(), strict=True):
        if truth == 255:
            continue
        if value > threshold:
            hit, extra = (hit + 1, extra) if truth else (hit, extra + 1)
        else:
            missed, rejected = (missed + 1, rejected) if truth else (missed, rejected + 1)
    return {"hit": hit, "extra": extra, "missed": missed, "rejected": rejected}


def scores_by_hand(n: dict[str, float]) -> dict[str, float]:
    wrong = n["extra"] + n["missed"]
    object_iou, background_iou = n["hit"] / (n["hit"] + wrong), n["rejected"] / (n["rejected"] + wrong)
    return {
        "pixel_accuracy": (n["hit"] + n["rejected"]) / sum(n.values()),
        "miou": (object_iou + background_iou) / 2,
        "object_iou": object_iou,
        "f1": 2 * n["hit"] / (2 * n["hit"] + wrong),
    }


def precision_by_hand(heat: list[float], positive: list[bool]) -> float:
    total, area, last = sum(positive), 0.0, 0.0
    for level in sorted(set(heat), reverse=True):
        kept = [truth for value, truth in zip(heat, positive, strict=True) if value >= level]
        recall = sum(kept) / total
        area += (recall - last) * sum(kept) / len(kept)
        last = recall
    return area


@pytest.mark.parametrize("threshold", ["mean-positive", "zero", "median", "percentile:80"])
@pytest.mark.parametrize("seed", range(3))
def test_counts_of_each_image_and_of_the_set_are_those_of_a_loop(threshold: str, seed: int) -> None:
    relevance, mask = images(seed)
    segmentation = metric("segmentation", threshold=threshold)
    rows = segmentation.update(relevance=relevance, mask=mask)
    levels = threshold_of(relevance, threshold).tolist()
    counts = [counted_by_hand(heat, truth, level) for heat, truth, level in zip(relevance, mask, levels, strict=True)]
    for index, expected in enumerate(map(scores_by_hand, counts)):
        assert {name: rows[name][index].item() for name in expected} == pytest.approx(expected)
    pooled = scores_by_hand({name: sum(n[name] for n in counts) for name in counts[0]})
    over_set, over_images = segmentation.compute(), segmentation.compute("images")
    assert {name: over_set[name].item() for name in pooled} == pytest.approx(pooled)
    assert over_images["miou"].item() == pytest.approx(sum(scores_by_hand(n)["miou"] for n in counts) / len(counts))


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_is_that_of_a_loop_and_of_scikit_learn(seed: int) -> None:
    relevance, mask = images(seed)
    rows = metric("segmentation").update(relevance=relevance, mask=mask)["average_precision"]
    for row, heat, truth in zip(rows.tolist(), relevance, mask, strict=True):
        kept = truth != 255
        score, positive = heat[kept].tolist(), (truth[kept] > 0).tolist()
        assert row == pytest.approx(precision_by_hand(score, positive))
        sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
        assert row == pytest.approx(sklearn.average_precision_score(positive, score))


def test_transformer_protocol_is_that_of_its_paper() -> None:
    relevance, mask = images(7)
    rows = metric("segmentation-transformer").update(relevance=relevance, mask=mask)
    for index, (heat, truth) in enumerate(zip(relevance, mask, strict=True)):
        normal = (heat - heat.min()) / (heat.max() - heat.min())
        expected = scores_by_hand(counted_by_hand(normal, truth, normal.mean().item()))
        assert {name: rows[name][index].item() for name in expected} == pytest.approx(expected)
        kept = truth != 255
        score = torch.cat([1 - normal[kept], normal[kept]]).tolist()
        positive = torch.cat([truth[kept] == 0, truth[kept] > 0]).tolist()
        assert rows["average_precision"][index].item() == pytest.approx(precision_by_hand(score, positive))


@given(seed=st.integers(0, 10**6), power=st.integers(-9, 9), order=st.permutations(range(4)), cut=st.integers(1, 3))
def test_scores_are_bounded_and_do_not_depend_on_scale_order_or_batches(
    seed: int, power: int, order: list[int], cut: int
) -> None:
    relevance, mask = images(seed)
    whole, parts, other = metric("segmentation"), metric("segmentation"), metric("segmentation")
    whole.update(relevance=relevance, mask=mask)
    relevance, mask = relevance[order] * 2.0**power, mask[order]
    parts.update(relevance=relevance[:cut], mask=mask[:cut])
    other.update(relevance=relevance[cut:], mask=mask[cut:])
    parts.merge(other)
    for name, value in whole.compute().items():
        assert 0 <= value <= 1
        assert torch.isclose(parts.compute()[name], value)
        assert torch.isclose(parts.compute("images")[name], whole.compute("images")[name])


def test_a_perfect_map_scores_one_and_its_negative_zero() -> None:
    mask = torch.tensor([[[0, 1], [1, 255]]])
    perfect = torch.tensor([[[-1.0, 1.0], [1.0, -1.0]]])
    right = metric("segmentation", threshold="zero").update(relevance=perfect, mask=mask)
    wrong = metric("segmentation", threshold="zero").update(relevance=-perfect, mask=mask)
    assert all(value.item() == 1 for value in right.values())
    assert wrong["pixel_accuracy"].item() == wrong["miou"].item() == wrong["f1"].item() == 0


def test_an_image_without_object_has_no_average_precision_and_is_left_out_of_its_mean() -> None:
    segmentation = metric("segmentation", threshold="zero")
    mask = torch.tensor([[[0, 0]], [[0, 1]]])
    rows = segmentation.update(relevance=torch.tensor([[[-1.0, -1.0]], [[-1.0, 1.0]]]), mask=mask)
    assert math.isnan(rows["average_precision"][0])
    assert rows["miou"].tolist() == [1, 1]
    assert segmentation.compute()["average_precision"] == segmentation.compute("images")["average_precision"] == 1
    assert segmentation.undefined["average_precision"] == 1


def test_average_precision_of_all_ties_is_the_share_of_positives() -> None:
    positive = torch.tensor([[True, False, False, True]])
    assert average_precision(torch.zeros(1, 4), positive, torch.ones(1, 4, dtype=torch.bool)).item() == 0.5


def test_a_bad_option_is_named() -> None:
    with pytest.raises(OptionError, match="'threshold'"):
        metric("segmentation", treshold="zero")
    with pytest.raises(OptionError, match="two-class"):
        metric("segmentation", ap="both").update(relevance=torch.zeros(1, 2, 2), mask=torch.zeros(1, 2, 2))
