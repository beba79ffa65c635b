"""A target that is fixed on one batch: its number elsewhere, against explicit loops."""

import pytest
import torch
from torch import nn

import relprop
from relprop.errors import TargetError
from relprop.targets import Box, Class, Contrast, Neuron, Output, Pixels, Similarity


def network(*tail, seed=0):
    torch.manual_seed(seed)
    body = nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 3, stride=2, padding=1)
    return nn.Sequential(*body, *tail).double().eval()


def classifier(seed=0):
    return network(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 5), seed=seed)


def boxes():
    return network(nn.Flatten(2), nn.Unflatten(2, (16, 1)), nn.Flatten(2))


@pytest.fixture
def images():
    torch.manual_seed(1)
    return torch.randn(3, 3, 8, 8, dtype=torch.float64)


@pytest.fixture
def others():
    torch.manual_seed(2)
    return torch.randn(6, 3, 8, 8, dtype=torch.float64)


def test_an_open_contrast_keeps_its_classes(images, others):
    model = classifier()
    explainer = relprop.Explainer(model, images, "lrp-epsilon")
    fixed = explainer.fixed(images, Contrast())
    ranked = model(images).argsort(1, descending=True)
    expected = [model(x[None])[0, ranked[i % 3, 0]] - model(x[None])[0, ranked[i % 3, 1]] for i, x in enumerate(others)]
    torch.testing.assert_close(explainer.values(others, fixed), torch.stack(expected).detach())
    for i, x in enumerate(others[:3]):
        alone = explainer(x[None], Contrast(int(ranked[i, 0]), int(ranked[i, 1])))
        torch.testing.assert_close(explainer(others[:3], fixed).relevance[i : i + 1], alone.relevance)


def test_predicted_pixels_stay_where_they_are(images, others):
    model = network()
    explainer = relprop.Explainer(model, images, "input-x-gradient")
    fixed = explainer.fixed(images, Pixels())
    expected = []
    for i, x in enumerate(others):
        won = model(images[i % 3][None])[0].argmax(0)
        index = won.flatten().bincount(minlength=4).argmax()
        expected.append(model(x[None])[0, index][won == index].mean())
    torch.testing.assert_close(explainer.values(others, fixed), torch.stack(expected).detach())
    found = explainer(others[:3], fixed)
    torch.testing.assert_close(found.value, torch.stack(expected[:3]).detach())
    assert found.words == explainer(images, Pixels()).words


def test_targets_of_each_sample_are_fixed_together(images, others):
    model = network()
    explainer = relprop.Explainer(model, images, "lrp-epsilon")
    masks = torch.rand(3, 4, 4, dtype=torch.float64)
    listed = [Pixels(i, mask=mask) for i, mask in enumerate(masks)]
    fixed = explainer.fixed(images, listed)
    whole, alone = explainer(images, fixed), explainer(images, listed)
    torch.testing.assert_close(whole.relevance, alone.relevance)
    assert whole.words == alone.words
    torch.testing.assert_close(explainer.values(others[:2], fixed[1:2]), explainer.values(others[:2], listed[1]))


@pytest.mark.parametrize(
    ("target", "explicit"),
    [
        (Class(2), lambda model, x: model(x)[:, 2]),
        (Output(1, reference=3.0), lambda model, x: model(x)[:, 1] - 3),
        (Similarity(torch.arange(1.0, 6.0)), lambda model, x: nn.functional.cosine_similarity(model(x), torch.arange(1.0, 6.0)[None])),
        (Neuron("1", 3), lambda model, x: model[1](model[0](x))[:, 3].mean((1, 2))),
        (Neuron("2", (3, 1, 0)), lambda model, x: model[:3](x)[:, 3, 1, 0]),
    ],
)  # fmt: skip
def test_values_are_those_of_the_target(images, others, target, explicit):
    model = classifier()
    explainer = relprop.Explainer(model, images, "gradient")
    expected = explicit(model, others).detach()
    torch.testing.assert_close(explainer.values(others, target), expected)
    fixed = explainer.fixed(images, target)
    torch.testing.assert_close(explainer.values(others, fixed), expected)
    torch.testing.assert_close(explainer(others, fixed).value, expected)


def test_the_best_box_stays_the_same_box(images, others):
    model = boxes()
    explainer = relprop.Explainer(model, images, "gradient")
    best = model(images)[:, :, 3].argmax(1)
    expected = [model(x[None])[0, best[i % 3], 3] for i, x in enumerate(others)]
    torch.testing.assert_close(explainer.values(others, explainer.fixed(images, Box(None, 3))), torch.stack(expected).detach())


def test_another_model_is_asked_for_the_same(images):
    fixed = relprop.Explainer(classifier(), images, "gradient").fixed(images, Contrast())
    other = classifier(seed=5)
    found = relprop.Explainer(other, images, "gradient")(images, fixed)
    (aim,) = fixed.asked.aims
    torch.testing.assert_close(found.value, (other(images) * aim.weights).sum(1).detach())


def test_what_cannot_be_fixed_is_refused(images):
    explainer = relprop.Explainer(network(), images, "gradient")
    with pytest.raises(TargetError, match=r"fixed on an output of shape \(3, 4, 4, 4\), and this one has shape \(2, 4, 4, 4\)"):
        explainer(images[:2], explainer.fixed(images, Pixels()))
    with pytest.raises(TargetError, match="Targets of several kinds cannot be fixed together"):
        explainer.fixed(images, [Pixels(1, point=(0, 0)), Neuron(None, 2), Pixels()])
