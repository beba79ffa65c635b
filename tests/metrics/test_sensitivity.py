import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from relprop.errors import InputError, OptionError
from relprop.metrics import metric
from relprop.metrics.seeds import generators, normal, permutation, uniform
from tests.metrics.models import Net, explainer, images

NET = Net()
TARGET = torch.tensor([0, 1, 2, 3])
WEIGHT = torch.randn(5, 3 * 12 * 12, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def linear(inputs: torch.Tensor) -> torch.Tensor:
    return inputs.flatten(1) @ WEIGHT.T


def gradient() -> torch.Tensor:
    return WEIGHT[TARGET].view(4, 3, 12, 12)


def test_of_a_linear_model_input_times_gradient_is_perfect() -> None:
    inputs = images(1)
    tensors = {"inputs": inputs, "target": TARGET, "model": linear, "seeds": [1, 2, 3, 4]}
    n = metric("sensitivity-n").update(relevance=inputs * gradient(), **tensors)
    assert torch.allclose(n["sensitivity_n_curve"], torch.ones(4, 4, dtype=torch.float64))
    for perturbation in ("noise", "square"):
        infidelity = metric("infidelity", perturbation=perturbation, side=5)
        assert torch.allclose(
            infidelity.update(relevance=gradient(), **tensors)["infidelity"], torch.zeros(4, dtype=torch.float64), atol=1e-20
        )
        rows = infidelity.update(relevance=3 * gradient(), **tensors)
        assert (rows["infidelity"] > 1e-3).all()
        assert torch.allclose(rows["infidelity_scaled"], torch.zeros(4, dtype=torch.float64), atol=1e-20)


def test_sensitivity_n_is_that_of_a_loop() -> None:
    relevance, inputs = images(3), images(4)
    rows = metric("sensitivity-n", shares=(0.1, 0.5), samples=6).update(
        relevance=relevance, inputs=inputs, target=TARGET, model=NET, seeds=[5, 6, 7, 8]
    )["sensitivity_n_curve"]
    for index in range(4):
        sources = generators(5 + index, 1)
        for place, size in enumerate((14, 72)):
            sums, drops = [], []
            for _ in range(6):
                chosen = permutation(sources, torch.zeros(1, 144), 144)[0, :size]
                changed = inputs[index].clone().flatten(1)
                changed[:, chosen] = 0
                sums.append(relevance[index].sum(0).flatten()[chosen].sum())
                before, after = NET(inputs[index : index + 1]), NET(changed.view(1, 3, 12, 12))
                drops.append((before - after)[0, index].detach())
            expected = torch.corrcoef(torch.stack([torch.stack(sums), torch.stack(drops)]))[0, 1]
            assert torch.isclose(rows[index, place], expected)


def test_infidelity_is_that_of_a_loop_and_of_captum() -> None:
    relevance, inputs = images(3), images(4)
    rows = metric("infidelity", samples=5, scale=0.3).update(
        relevance=relevance, inputs=inputs, target=TARGET, model=NET, seeds=7
    )
    source = generators(7, 1)
    changes = [0.3 * normal(source, inputs[:1])[0] for _ in range(5)]
    for index in range(4):
        total = 0.0
        for change in changes:
            drop = (NET(inputs[index : index + 1]) - NET(inputs[index : index + 1] - change))[0, index].item()
            total += ((change * relevance[index]).sum().item() - drop) ** 2
        assert rows["infidelity"][index].item() == pytest.approx(total / 5)
    captum = pytest.importorskip("captum.metrics", reason="captum is not installed")
    calls = iter(changes)

    def perturb(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        change = next(calls).expand_as(values)
        return change, values - change

    with torch.no_grad():
        theirs = captum.infidelity(
            NET, perturb, inputs, relevance, target=TARGET, n_perturb_samples=5, max_examples_per_batch=4, normalize=False
        )
    assert torch.allclose(theirs.double(), rows["infidelity"], rtol=1e-4)


def test_max_sensitivity_is_that_of_a_loop() -> None:
    inputs, explain = images(4), explainer(NET)
    relevance = explain(inputs, TARGET)
    rows = metric("max-sensitivity", samples=4, radius=0.1).update(
        relevance=relevance, inputs=inputs, target=TARGET, explain=explain, seeds=[1, 2, 3, 4]
    )
    for index in range(4):
        sources, one = generators(1 + index, 1), inputs[index : index + 1]
        changes = []
        for _ in range(4):
            nearby = one + 0.1 * (2 * uniform(sources, one) - 1)
            assert (nearby - one).abs().max() <= 0.1
            change = explain(nearby, TARGET[index : index + 1]) - relevance[index]
            changes.append((change.norm() / relevance[index].norm()).item())
        assert rows["max_sensitivity"][index].item() == pytest.approx(max(changes))
        assert rows["avg_sensitivity"][index].item() == pytest.approx(sum(changes) / 4)


def test_max_sensitivity_is_near_captums() -> None:
    captum = pytest.importorskip("captum.metrics", reason="captum is not installed")
    inputs, explain = images(4), explainer(NET)
    torch.manual_seed(0)

    def explained(values: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        return (explain(values[0], TARGET.repeat_interleave(len(values[0]) // 4)),)

    theirs = captum.sensitivity_max(explained, inputs, n_perturb_samples=100, perturb_radius=0.05)
    ours = metric("max-sensitivity", samples=100, radius=0.05).update(
        relevance=explain(inputs, TARGET), inputs=inputs, target=TARGET, explain=explain, seeds=[1, 2, 3, 4]
    )["max_sensitivity"]
    assert torch.allclose(ours, theirs.double(), rtol=0.15)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), cut=st.integers(1, 3))
def test_scores_are_bounded_and_do_not_depend_on_batches(seed: int, cut: int) -> None:
    explain = explainer(NET)
    inputs, seeds = images(seed), [seed + place for place in range(4)]
    relevance = explain(inputs, TARGET)
    for name in ("sensitivity-n", "infidelity", "max-sensitivity"):
        options = {"samples": 3, **({"shares": (0.1,)} if name == "sensitivity-n" else {})}
        whole, parts = metric(name, **options), metric(name, **options)
        rows = whole.update(relevance=relevance, inputs=inputs, target=TARGET, model=NET, explain=explain, seeds=seeds)
        for part in (slice(cut), slice(cut, 4)):
            parts.update(
                relevance=relevance[part], inputs=inputs[part], target=TARGET[part], model=NET, explain=explain, seeds=seeds[part]
            )
        for value in whole.spec.values:
            assert ((rows[value.name] >= value.low) & (rows[value.name] <= value.high)).all()
            assert torch.allclose(whole.compute()[value.name], parts.compute()[value.name])


def test_misuse_is_named() -> None:
    tensors = {"relevance": images(3), "inputs": images(4), "target": TARGET, "model": NET, "seeds": 0}
    with pytest.raises(OptionError, match="shares"):
        metric("sensitivity-n", shares=(2.0,)).update(**tensors)
    with pytest.raises(OptionError, match="perturbation"):
        metric("infidelity", perturbation="blur").update(**tensors)
    with pytest.raises(InputError, match="inputs' shape"):
        metric("infidelity").update(**{**tensors, "relevance": images(3).sum(1)})
