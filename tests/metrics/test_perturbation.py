import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from relprop.errors import InputError, OptionError
from relprop.metrics import metric
from relprop.metrics.perturbation import removal_step
from relprop.metrics.seeds import generators
from tests.metrics.models import Net, images

NET = Net()
TARGET = torch.tensor([0, 1, 2, 3])


def by_hand(relevance: torch.Tensor, inputs: torch.Tensor, target: int, *, order: str, region: int, per_step: int, steps: int):
    """Remove squares of one image one after the other in plain loops."""
    heat, size = relevance.sum(0), relevance.shape[-1]
    corners = [(row, column) for row in range(0, size, region) for column in range(0, size, region)]
    score = [heat[row : row + region, column : column + region].mean().item() for row, column in corners]
    ranked = sorted(range(len(corners)), key=lambda index: -score[index] if order == "morf" else score[index])
    image, curve = inputs.clone(), []
    for step in range(steps + 1):
        logits = NET(image[None])[0].detach()
        curve.append(((logits.argmax() == target).double(), logits.softmax(0)[target], logits[target]))
        for index in ranked[step * per_step : (step + 1) * per_step]:
            row, column = corners[index]
            image[:, row : row + region, column : column + region] = 0
    return torch.tensor(curve).T


@pytest.mark.parametrize("order", ["morf", "lerf"])
@pytest.mark.parametrize(("region", "per_step", "steps"), [(1, 7, 5), (3, 2, 4), (5, 1, 9)])
@pytest.mark.parametrize("at_once", [1, 3])
def test_curves_are_those_of_a_loop(order: str, region: int, per_step: int, steps: int, at_once: int) -> None:
    relevance, inputs = images(1), images(2)
    measured = metric(order, region=region, per_step=per_step, steps=steps, at_once=at_once)
    rows = measured.update(relevance=relevance, inputs=inputs, target=TARGET, model=NET, seeds=0)
    for index in range(4):
        expected = by_hand(relevance[index], inputs[index], index, order=order, region=region, per_step=per_step, steps=steps)
        for name, curve in zip(("accuracy", "probability", "logit"), expected, strict=True):
            assert torch.allclose(rows[f"{name}_curve"][index], curve)
            assert torch.isclose(rows[f"{name}_mean"][index], curve.mean())
            assert torch.isclose(rows[f"{name}_aopc"][index], (curve[0] - curve).mean())


def test_abpc_is_the_difference_of_the_two_curves() -> None:
    tensors = {"relevance": images(1), "inputs": images(2), "target": TARGET, "model": NET, "seeds": 0}
    both = metric("abpc", per_step=9, steps=6).update(**tensors)
    lerf, morf = (metric(order, per_step=9, steps=6).update(**tensors) for order in ("lerf", "morf"))
    for name in ("accuracy", "probability", "logit"):
        assert torch.allclose(both[f"{name}_abpc"], lerf[f"{name}_mean"] - morf[f"{name}_mean"])


def test_the_preset_of_fig_7_removes_100_pixels_in_each_of_40_steps() -> None:
    relevance, inputs = images(1, count=1, size=70), images(2, count=1, size=70)
    calls: list[int] = []

    def model(batch: torch.Tensor) -> torch.Tensor:
        calls.extend((batch == 0).all(1).sum((1, 2)).tolist())
        return NET(batch)

    metric("lerf").update(relevance=relevance, inputs=inputs, target=TARGET[:1], model=model, seeds=0)
    assert calls == [100 * step for step in range(41)]


def test_removal_ends_where_the_image_does() -> None:
    rows = metric("morf", per_step=100, steps=40).update(relevance=images(1), inputs=images(2), target=TARGET, model=NET, seeds=0)
    assert rows["logit_curve"].shape == (4, 3)


def test_insertion_and_deletion_are_those_of_a_loop() -> None:
    relevance, inputs = images(1, count=2), images(2, count=2)
    rows = metric("insertion-deletion", steps=8, sigma=1.0).update(
        relevance=relevance, inputs=inputs, target=TARGET[:2], model=NET
    )
    from relprop.metrics.fills import blurred

    blur = blurred(inputs, 1.0)
    for index in range(2):
        order = sorted(range(144), key=lambda place: -relevance[index].sum(0).flatten()[place].item())
        gone, come = inputs[index].clone().flatten(1), blur[index].clone().flatten(1)
        deletion, insertion = [], []
        for step in range(9):
            for place in order[: 18 * step]:
                gone[:, place], come[:, place] = 0, inputs[index].flatten(1)[:, place]
            deletion.append(NET(gone.view(1, 3, 12, 12)).softmax(1)[0, index].item())
            insertion.append(NET(come.view(1, 3, 12, 12)).softmax(1)[0, index].item())
        assert rows["deletion_curve"][index].tolist() == pytest.approx(deletion)
        assert rows["insertion_curve"][index].tolist() == pytest.approx(insertion)
        assert rows["deletion_auc"][index].item() == pytest.approx(np.trapezoid(deletion, dx=1 / 8))
        assert rows["insertion_auc"][index].item() == pytest.approx(np.trapezoid(insertion, dx=1 / 8))


def test_curve_is_that_of_quantus_pixel_flipping() -> None:
    quantus = pytest.importorskip("quantus", reason="Quantus is not installed")
    relevance, inputs = images(1)[:, :1], images(2)
    flipping = quantus.PixelFlipping(features_in_step=18, perturb_baseline=0.0, disable_warnings=True)
    # Quantus removes single values of single channels, so its step is three times as long
    scores = flipping(
        model=NET.float(),
        x_batch=inputs.float().numpy(),
        y_batch=TARGET.numpy(),
        a_batch=_pixelwise(relevance),
        softmax=True,
        channel_first=True,
    )
    ours = metric("morf", per_step=6, steps=24, fill="zero").update(
        relevance=relevance.float(), inputs=inputs.float(), target=TARGET, model=NET, seeds=0
    )
    NET.double()
    theirs = torch.tensor(np.array(scores))
    assert torch.allclose(theirs, ours["probability_curve"][:, 1:].double(), atol=1e-5)


def _pixelwise(relevance: torch.Tensor) -> np.ndarray:
    """Make a per-value attribution whose order removes whole pixels: rank, with the channels of a pixel next to each other."""
    rank = relevance.flatten(1).argsort(1).argsort(1).view_as(relevance).float()
    return (rank + torch.tensor([0.0, 0.1, 0.2]).view(1, 3, 1, 1)).numpy()


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    scale=st.floats(1e-3, 1e3),
    cut=st.integers(1, 3),
    order=st.sampled_from(["morf", "lerf", "random"]),
)
def test_curves_are_bounded_and_do_not_depend_on_scale_or_batches(seed: int, scale: float, cut: int, order: str) -> None:
    name = "random-removal" if order == "random" else order
    relevance, inputs, seeds = images(seed), images(seed + 1), [seed, seed + 1, seed + 2, seed + 3]
    options = {"per_step": 20, "steps": 3, "fill": "noise"}
    whole = metric(name, **options)
    rows = whole.update(relevance=relevance, inputs=inputs, target=TARGET, model=NET, seeds=seeds)
    parts = metric(name, **options)
    for part in (slice(cut), slice(cut, 4)):
        parts.update(relevance=relevance[part] * scale, inputs=inputs[part], target=TARGET[part], model=NET, seeds=seeds[part])
    for value in whole.spec.values:
        assert ((rows[value.name] >= value.low) & (rows[value.name] <= value.high)).all()
        assert torch.allclose(whole.compute()[value.name], parts.compute()[value.name])


def test_random_orders_differ_by_seed_and_are_permutations() -> None:
    flat = torch.zeros(2, 4, 4)
    step = removal_step(flat, order="random", region=1, per_step=1, sources=generators([1, 2], 2))
    assert step.flatten(1).sort(1).values.tolist() == [list(range(16))] * 2
    assert not torch.equal(step[0], step[1])
    again = removal_step(flat[1:], order="random", region=1, per_step=1, sources=generators([2], 1))
    assert torch.equal(again[0], step[1])


def test_misuse_is_named() -> None:
    tensors = {"relevance": images(1), "inputs": images(2), "target": TARGET, "model": NET, "seeds": 0}
    with pytest.raises(OptionError, match="at least 1"):
        metric("morf", steps=0).update(**tensors)
    with pytest.raises(OptionError, match="order 'first'"):
        metric("morf", order="first").update(**tensors)
    with pytest.raises(InputError, match="does not fit"):
        metric("morf").update(**{**tensors, "relevance": images(1, size=5)})
    with pytest.raises(InputError, match="2 seeds for 4 images"):
        metric("random-removal").update(**{**tensors, "seeds": [1, 2]})


@pytest.mark.parametrize("name", ["lerf", "abpc", "insertion-deletion"])
def test_probabilities_are_those_of_the_models_head(name: str) -> None:
    tensors = {"relevance": images(1), "inputs": images(2), "target": TARGET, "model": NET, "seeds": 0}
    few = {"steps": 3} if name == "insertion-deletion" else {"steps": 3, "per_step": 9}
    (first,) = {"lerf": ["probability_curve"], "abpc": ["lerf_probability_curve"]}.get(name, ["deletion_curve"])
    whole = NET(images(2)).detach().gather(1, TARGET[:, None])[:, 0]
    _, multi = metric(name, activation="sigmoid", **few).score(**tensors)
    torch.testing.assert_close(multi[first][:, 0], whole.sigmoid())
    _, usual = metric(name, **few).score(**tensors)
    torch.testing.assert_close(usual[first][:, 0], NET(images(2)).detach().softmax(1).gather(1, TARGET[:, None])[:, 0])
    _, single = metric(name, **few).score(**{**tensors, "model": lambda x: NET(x)[:, :1], "target": torch.zeros(4).long()})
    torch.testing.assert_close(single[first][:, 0], NET(images(2)).detach()[:, 0].sigmoid())
    with pytest.raises(OptionError, match=r"activation='sigmod' of .* must be one of .*Did you mean 'sigmoid'"):
        metric(name, activation="sigmod")


def test_a_sigmoid_decides_for_every_class_above_one_half() -> None:
    tensors = {"relevance": images(1), "inputs": images(2), "target": TARGET, "model": NET, "seeds": 0}
    _, found = metric("morf", activation="sigmoid", steps=2, per_step=9).score(**tensors)
    assert torch.equal(found["accuracy_curve"], (found["logit_curve"] > 0).to(found["accuracy_curve"]))
