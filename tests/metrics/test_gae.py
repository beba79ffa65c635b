import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from relprop.errors import InputError, OptionError
from relprop.metrics import metric
from relprop.metrics.gae import masked_steps, mosaic
from tests.metrics.models import Net, explainer, images

NET = Net(3)


def half(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Nearest neighbor, written out."""
    small = torch.zeros(3, height, width, dtype=image.dtype)
    for row in range(height):
        for column in range(width):
            small[:, row, column] = image[:, row * image.shape[1] // height, column * image.shape[2] // width]
    return small


def masking(image: torch.Tensor, target: int, *, most: bool, steps: int):
    """The masked images, their logits and the summed influence of one image, element by element."""
    states, logits, summed, masked = [], [], torch.zeros(image.numel(), dtype=image.dtype), set[int]()
    for step in range(steps):
        current = image.clone().flatten()
        for place in masked:
            current[place] = 0
        variable = current.view(image.shape)[None].requires_grad_()
        logit = NET(variable)[0, target]
        impact = (torch.autograd.grad(logit, variable)[0] * variable).abs().detach().flatten()
        states.append(variable.detach()[0])
        logits.append(logit.item())
        summed += impact
        free = sorted(
            (p for p in range(image.numel()) if p not in masked), key=lambda p: -impact[p].item() if most else impact[p].item()
        )
        masked |= set(free[: (step + 1) * image.numel() // steps - len(masked)])
    return states, logits, summed.view(image.shape)


def unit(relevance: torch.Tensor) -> torch.Tensor:
    return (relevance / relevance.abs().max()).clamp(min=0)


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return ((one - other).abs().sum() / (one.abs().sum() + other.abs().sum())).item()


def gae_by_hand(inputs: torch.Tensor, explain, seed: int, steps: int) -> dict[str, float]:
    """DESIGN's definition of one group of four, image by image."""
    size = inputs.shape[-1]
    low, high = size // 2, size - size // 2
    big = torch.zeros(3, size, size, dtype=inputs.dtype)
    for place in range(4):
        rows = slice(0, low) if place < 2 else slice(low, size)
        columns = slice(0, low) if place % 2 == 0 else slice(low, size)
        big[:, rows, columns] = half(inputs[place], low if place < 2 else high, low if place % 2 == 0 else high)
    classes = [NET(image[None]).argmax().item() for image in inputs]
    chances = NET(big[None])[0][classes].softmax(0).tolist()
    point, positive = torch.rand((), generator=torch.Generator().manual_seed(seed), dtype=torch.float64).item(), 0
    while positive < 3 and point >= sum(chances[: positive + 1]):
        positive += 1
    target = classes[positive]

    def relevance(image: torch.Tensor) -> torch.Tensor:
        return unit(explain(image[None], torch.tensor([target]))[0])

    most_x, most_y, most_sum = masking(inputs[positive], target, most=True, steps=steps)
    least_x, least_y, least_sum = masking(inputs[positive], target, most=False, steps=steps)
    start = relevance(inputs[positive])
    sign = torch.where(least_sum / least_sum.sum() - most_sum / most_sum.sum() >= 0, 1.0, -1.0)
    faithfulness = ((start * sign).sum() / start.sum()).item()
    drift = [distance(start, relevance(m)) - distance(start, relevance(n)) for m, n in zip(most_x[1:], least_x[1:], strict=True)]
    gap = [(n - m) / most_y[0] for m, n in zip(most_y[1:], least_y[1:], strict=True)]
    robustness = 1 - 2 * distance(*torch.tensor([drift, gap], dtype=torch.float64))
    scores = NET(inputs[positive][None])[0].softmax(0)
    mask = torch.zeros(size, size, dtype=torch.float64)
    for row in range(size):
        for column in range(size):
            quadrant = 2 * (row >= low) + (column >= low)
            mask[row, column] = 2 * scores[classes[quadrant]] / scores[target] - 1
            if row in {low - 1, low} or column in {low - 1, low}:
                mask[row, column] = 1
    found = relevance(big)
    contrastiveness = max(0.0, ((found * mask).sum() / found.sum()).item())
    consistency = max(0.0, faithfulness + robustness) / 2
    return {
        "faithfulness": faithfulness,
        "robustness": robustness,
        "local_consistency": consistency,
        "contrastiveness": contrastiveness,
        "gae": consistency * contrastiveness,
    }


@pytest.mark.parametrize("size", [12, 13])
@pytest.mark.parametrize("seed", range(3))
def test_a_group_of_four_scores_as_the_definition_says(seed: int, size: int) -> None:
    inputs, explain = images(seed, size=size), explainer(NET)
    rows = metric("gae", steps=5).update(inputs=inputs, model=NET, explain=explain, seeds=seed)
    expected = gae_by_hand(inputs, explain, seed, 5)
    assert {name: value.item() for name, value in rows.items()} == pytest.approx(expected, abs=1e-9)
    assert rows["contrastiveness"].item() < 1


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), cut=st.sampled_from([4, 8]), scale=st.floats(1e-3, 1e3))
def test_scores_are_bounded_and_do_not_depend_on_batch_size_or_scale(seed: int, cut: int, scale: float) -> None:
    inputs, seeds, explain = images(seed, count=12), list(range(seed, seed + 12)), explainer(NET)
    whole, parts = metric("gae", steps=3), metric("gae", steps=3)
    rows = whole.update(inputs=inputs, model=NET, explain=explain, seeds=seeds)
    for part in (slice(cut), slice(cut, 12)):
        parts.update(inputs=inputs[part], model=NET, explain=lambda x, target: scale * explain(x, target), seeds=seeds[part])
    for value in whole.spec.values:
        assert ((rows[value.name] >= value.low) & (rows[value.name] <= value.high)).all()
        assert torch.allclose(whole.compute()[value.name], parts.compute()[value.name])


def test_heat_maps_without_channels_are_taken() -> None:
    inputs, explain = images(1), explainer(NET)
    heat = metric("gae", steps=3).update(inputs=inputs, model=NET, explain=lambda x, target: explain(x, target).sum(1), seeds=0)
    spread = metric("gae", steps=3).update(
        inputs=inputs, model=NET, explain=lambda x, target: explain(x, target).sum(1, keepdim=True).expand_as(x), seeds=0
    )
    assert {name: value.item() for name, value in heat.items()} == pytest.approx({n: v.item() for n, v in spread.items()})


def test_masking_takes_equal_parts_and_keeps_them() -> None:
    inputs, target = images(2, count=2), torch.tensor([0, 1])
    for largest in (True, False):
        masked = masked_steps(NET, inputs, target, largest=largest, steps=6)
        gone = (masked.inputs == 0).flatten(2)
        assert gone.sum(2)[:, 0].tolist() == [step * 432 // 6 for step in range(6)]
        assert (gone[1:] | ~gone[:-1]).all()
    assert all(parameter.grad is None for parameter in NET.parameters())


def test_mosaic_is_in_reading_order() -> None:
    flat = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 1, 4, 4)
    assert mosaic(flat)[1, 0].tolist() == [[4, 4, 5, 5], [4, 4, 5, 5], [6, 6, 7, 7], [6, 6, 7, 7]]


def test_the_positive_image_is_drawn_by_the_scores_on_the_mosaic() -> None:
    from relprop.metrics.gae import _draw

    scores = torch.tensor([[0.0, 1.0, 2.0, 0.5]], dtype=torch.float64).expand(4000, 4)
    drawn = torch.bincount(_draw(scores, list(range(16000))), minlength=4) / 4000
    assert torch.allclose(drawn.double(), scores[0].softmax(0), atol=0.03)


def test_misuse_is_named_and_relevance_of_zeros_scores_nothing() -> None:
    tensors = {"inputs": images(0), "model": NET, "explain": explainer(NET), "seeds": 0}
    with pytest.raises(InputError, match="groups of four"):
        metric("gae").update(**{**tensors, "inputs": images(0, count=5)})
    with pytest.raises(OptionError, match="2 steps"):
        metric("gae", steps=1).update(**tensors)
    rows = metric("gae", steps=3).update(**{**tensors, "explain": lambda x, target: torch.zeros_like(x)})
    assert rows["contrastiveness"].item() == 0
    assert not math.isnan(rows["gae"].item())
