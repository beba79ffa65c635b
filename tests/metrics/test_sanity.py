import copy

import pytest
import torch
from torch import nn

from relprop.errors import InputError, OptionError
from relprop.metrics import metric
from relprop.metrics.maps import heatmap
from relprop.metrics.randomization import parameter_layers, randomized_models, spread
from relprop.metrics.similarity import cosine, spearman, ssim
from tests.metrics.models import Net, explainer, images

NET = Net()
TARGET = torch.tensor([0, 1, 2, 3])
LAYERS = ["8", "4", "1", "0"]


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(module: nn.Module, path: str) -> bool:
    return not torch.equal(module.get_submodule(path).weight, NET.get_submodule(path).weight)


def test_layers_go_from_the_output_back_and_are_spread_evenly() -> None:
    assert parameter_layers(NET) == LAYERS
    assert spread(LAYERS, None) == LAYERS
    assert spread(LAYERS, 2) == ["4", "0"]
    assert spread(LAYERS, 3) == ["4", "1", "0"]
    assert spread(LAYERS, 9) == LAYERS


def test_cascading_keeps_what_it_randomized_and_independent_does_not() -> None:
    cascade = [(path, [changed(model, layer) for layer in LAYERS]) for path, model in randomized_models(NET)]
    assert cascade == [(path, [place <= last for place in range(4)]) for last, path in enumerate(LAYERS)]
    single = [(path, [changed(model, layer) for layer in LAYERS]) for path, model in randomized_models(NET, mode="independent")]
    assert single == [(path, [layer == path for layer in LAYERS]) for path in LAYERS]
    some = [path for path, _ in randomized_models(NET, count=2)]
    assert some == ["4", "0"]
    *_, (_, last) = randomized_models(NET, count=2)
    assert all(changed(last, layer) for layer in LAYERS)


@pytest.mark.parametrize("reinit", ["normal", "reset"])
def test_draws_repeat_and_keep_the_running_statistics(reinit: str) -> None:
    first, second = ([state(model) for _, model in randomized_models(NET, reinit=reinit, seed=3)] for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for one, other in zip(first, second, strict=True) for name in one)
    assert torch.equal(first[-1]["1.running_var"], NET[1].running_var)
    *_, (_, other) = randomized_models(NET, reinit=reinit, seed=4)
    assert not torch.equal(other[8].weight, first[-1]["8.weight"])


def test_normal_draws_keep_mean_and_deviation() -> None:
    layer = nn.Sequential(nn.Linear(300, 300))
    layer[0].weight.data = 2 + 0.5 * layer[0].weight.data
    ((_, model),) = randomized_models(layer)
    assert torch.isclose(model[0].weight.mean(), layer[0].weight.mean(), atol=1e-3)
    assert torch.isclose(model[0].weight.std(), layer[0].weight.std(), rtol=0.02)


@pytest.mark.parametrize("name", ["cascading-randomization", "independent-randomization"])
def test_randomization_compares_with_each_copy_and_leaves_the_model_alone(name: str) -> None:
    model, inputs = copy.deepcopy(NET), images(0)
    model.train()
    before, random_state = state(model), torch.get_rng_state()
    rows = metric(name, count=None, seed=5).update(
        relevance=explainer(NET)(inputs, TARGET),
        inputs=inputs,
        target=TARGET,
        module=model,
        make_explain=lambda m: explainer(m.eval()),
    )
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    heat = heatmap(explainer(NET)(inputs, TARGET))
    for place, (_, other) in enumerate(randomized_models(NET, mode=name.split("-", maxsplit=1)[0], seed=5)):
        found = heatmap(explainer(other)(inputs, TARGET))
        assert torch.allclose(rows["spearman_curve"][:, place], spearman(heat, found))
        assert torch.allclose(rows["ssim_curve"][:, place], ssim(heat, found))
    assert torch.allclose(rows["spearman"], rows["spearman_curve"].mean(1))
    assert set(rows) == {value.name for value in metric(name).spec.values}


def test_an_explanation_blind_to_the_model_fails_the_sanity_checks() -> None:
    inputs = images(0)

    def blind(values: torch.Tensor, target: torch.Tensor) -> torch.Tensor:  # noqa: ARG001
        return values

    rows = metric("cascading-randomization").update(
        relevance=inputs, inputs=inputs, target=TARGET, module=NET, make_explain=lambda _: blind
    )
    assert torch.allclose(rows["spearman_curve"], torch.ones(4, 4, dtype=torch.float64))
    logit = metric("random-logit").update(relevance=inputs, inputs=inputs, target=TARGET, model=NET, explain=blind, seeds=0)
    assert torch.allclose(logit["ssim"], torch.ones(4, dtype=torch.float64))


def test_random_logit_explains_another_class_drawn_by_the_images_seed() -> None:
    inputs, explain = images(0), explainer(NET)
    classes: list[torch.Tensor] = []

    def watched(values: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        classes.append(target)
        return explain(values, target)

    arguments = {"relevance": explain(inputs, TARGET), "inputs": inputs, "target": TARGET, "model": NET, "explain": watched}
    rows = metric("random-logit").update(**arguments, seeds=[1, 2, 3, 4])
    assert (classes[0] != TARGET).all()
    assert ((classes[0] >= 0) & (classes[0] < 5)).all()
    expected = spearman(heatmap(explain(inputs, TARGET)), heatmap(explain(inputs, classes[0])))
    assert torch.allclose(rows["spearman"], expected)
    half = {key: value[2:] if isinstance(value, torch.Tensor) else value for key, value in arguments.items()}
    metric("random-logit").update(**half, seeds=[3, 4])
    assert torch.equal(classes[1], classes[0][2:])
    with pytest.raises(InputError, match="two classes"):
        metric("random-logit").update(**{**arguments, "model": lambda x: x.flatten(1)[:, :1]}, seeds=0)


def test_cosine_convergence_is_that_of_two_vector_jacobian_products() -> None:
    inputs = images(0)
    seeds: list[torch.Tensor] = []

    def explain_layers(values: torch.Tensor, seed: torch.Tensor) -> dict[str, torch.Tensor]:
        seeds.append(seed)
        variable = values.clone().requires_grad_()
        middle = nn.Sequential(*list(NET)[:6])(variable)
        inner, outer = torch.autograd.grad((nn.Sequential(*list(NET)[6:])(middle) * seed).sum(), (middle, variable))
        return {"5": inner, "input": outer}

    rows = metric("cosine-convergence").update(inputs=inputs, model=NET, explain_layers=explain_layers, seeds=[1, 2, 3, 4])
    first, second = (explain_layers(inputs, seed) for seed in seeds[:2])
    assert torch.allclose(rows["cosine_convergence_curve"][:, 0], cosine(first["5"], second["5"]))
    assert torch.allclose(rows["cosine_convergence"], cosine(first["input"], second["input"]))
    assert seeds[0].shape == (4, 5)
    assert not torch.allclose(seeds[0], seeds[1])


def test_conservation_error_by_hand() -> None:
    relevance = torch.tensor([[[[1.0, 2.0]]], [[[10.0, 0.0]]]])
    rows = metric("conservation").update(
        relevance=relevance, absorbed=torch.tensor([0.5, 5.0]), conserved=torch.tensor([4.0, 20.0])
    )
    assert rows["conservation_error"].tolist() == [0.125, 0.25]


def test_misuse_is_named() -> None:
    with pytest.raises(OptionError, match="no layer '44'"):
        next(randomized_models(NET, layers=["44"]))
    with pytest.raises(OptionError, match="'sideways'"):
        next(randomized_models(NET, mode="sideways"))
