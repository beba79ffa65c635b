"""Every target against its explicit scalar: value, gradient, conservation, completeness, and what perturbation sees."""

import pytest
import torch
import torch.nn.functional as F

import relprop
from relprop.targets import Binary, Box, Class, Classes, Contrast, Neuron, Output, Pixels, Similarity
from tests.targets.networks import Detector, Tokens, X, classifier, segmentation, total

VECTOR = torch.linspace(-1, 1, 5, dtype=torch.float64)
MASK = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def won(logits, index):
    """The mean logit where the class is predicted at the image as it is."""
    where = (segmentation()(X).argmax(1) == index).double()
    return (logits[:, index] * where).flatten(1).sum(1) / where.flatten(1).sum(1)


def most_frequent(logits):
    own = segmentation()(X).argmax(1).flatten(1)
    classes = [int(row.bincount(minlength=3).argmax()) for row in own]
    return torch.stack([won(logits, index)[sample] for sample, index in enumerate(classes)])


def largest(logits):
    own = Detector()(X)["heads"][0]["cls_logits"].flatten(1).argmax(1)
    return logits.flatten(1)[torch.arange(2), own]


def runner_up(logits):
    first, second = classifier()(X).topk(2, 1).indices.unbind(1)
    return logits[torch.arange(2), first] - logits[torch.arange(2), second]


def features(x):
    return Detector()(x)["features"][0]


CASES = {
    "class": (classifier, {}, Class(3), lambda y: y[:, 3]),
    "classes together": (classifier, {}, Classes([1, 3], together=True), lambda y: y[:, 1] + y[:, 3]),
    "contrast": (classifier, {}, Contrast(1, 3), lambda y: y[:, 1] - y[:, 3]),
    "contrast with the runner-up": (classifier, {}, Contrast(), runner_up),
    "output": (classifier, {}, Output(2), lambda y: y[:, 2]),
    "output and reference": (classifier, {}, Output(2, reference=1.5), lambda y: y[:, 2] - 1.5),
    "only output": (lambda: classifier(classes=1), {}, Output(reference=-2.0), lambda y: y[:, 0] + 2),
    "number": (lambda: classifier(torch.nn.Flatten(0), classes=1), {}, Output(reference=-2.0), lambda y: y + 2),
    "reference after an activation": (lambda: classifier(torch.nn.Tanh()), {}, Output(1, reference=0.5), lambda y: y[:, 1] - 0.5),
    "label": (lambda: classifier(torch.nn.Sigmoid()), {}, Binary(2), lambda y: y[:, 2].logit()),
    "cosine": (classifier, {}, Similarity(VECTOR), lambda y: F.cosine_similarity(y, VECTOR[None])),
    "cosines": (
        classifier,
        {},
        Similarity(torch.stack([VECTOR, VECTOR**2])),
        lambda y: F.cosine_similarity(y, torch.stack([VECTOR, VECTOR**2])),
    ),
    "dot": (classifier, {}, Similarity(VECTOR.tolist(), measure="dot"), lambda y: y @ VECTOR),
    "predicted pixels": (segmentation, {}, Pixels(2), lambda y: won(y, 2)),
    "predicted pixels of any class": (segmentation, {}, Pixels(), most_frequent),
    "mask": (segmentation, {}, Pixels(2, mask=MASK), lambda y: (y[:, 2] * MASK).sum((1, 2)) / MASK.sum((1, 2))),
    "booleans": (segmentation, {}, Pixels(2, mask=MASK[0] > 0.5), lambda y: y[:, 2][:, MASK[0] > 0.5].mean(1)),
    "point": (segmentation, {}, Pixels(0, point=(1, 2)), lambda y: y[:, 0, 1, 2]),
    "region": (segmentation, {}, Pixels(0, box=(1, 0, 3, 4)), lambda y: y[:, 0, 0:4, 1:3].mean((1, 2))),
    "box": (Detector, {"output": "heads.0.cls_logits"}, Box(5, 2), lambda y: y[:, 5, 2]),
    "largest box": (Detector, {"output": "heads.0.cls_logits"}, Box(), largest),
    "side of a box": (Detector, {"output": "heads.0.bbox_regression"}, Neuron(None, (5, 2)), lambda y: y[:, 5, 2]),
    "features": (Detector, {"output": "features.0"}, Neuron(None, 3), lambda y: y[:, 3].mean((1, 2))),
}
INNER = {
    "channel": (classifier, Neuron("0", 2), lambda model, x: model[0](x)[:, 2].mean((1, 2))),
    "unit": (classifier, Neuron("3", (1, 2, 3)), lambda model, x: model[:4](x)[:, 1, 2, 3]),
    "feature of tokens": (
        Tokens,
        Neuron("norm", 4),
        lambda model, x: model.norm(model.patches(x).flatten(2).mT)[:, :, 4].mean(1),
    ),
    "unit of tokens": (Tokens, Neuron("norm", (1, 4)), lambda model, x: model.norm(model.patches(x).flatten(2).mT)[:, 1, 4]),
}


def tensor(result, output=None):
    for step in output.split(".") if output else []:
        result = result[int(step) if step.isdecimal() else step]
    return result


def problems():
    for name, (build, options, target, scalar) in CASES.items():
        model = build()
        score = lambda x, model=model, scalar=scalar, options=options: scalar(tensor(model(x), **options))  # noqa: E731
        yield pytest.param(model, options, target, score, id=name)
    for name, (build, target, scalar) in INNER.items():
        model = build().eval()
        yield pytest.param(model, {}, target, lambda x, model=model, scalar=scalar: scalar(model, x), id=name)


PROBLEMS = list(problems())


@pytest.mark.parametrize(("model", "options", "target", "score"), PROBLEMS)
def test_the_value_is_the_models_own_and_is_conserved(model, options, target, score):
    captured = relprop.capture(model, X, **options)
    for method in ("rap", "lrp-epsilon", "lrp-alpha1-beta0"):
        found = captured.explainer(method)(X, target)
        torch.testing.assert_close(found.value, score(X).detach())
        torch.testing.assert_close(total(found), found.value, rtol=1e-6, atol=1e-9)
        assert len(found.words) == 2


@pytest.mark.parametrize(("model", "options", "target", "score"), PROBLEMS)
def test_the_gradient_is_autograds(model, options, target, score):
    x = X.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(score(x).sum(), x)
    found = relprop.explain(model, X, target, method="gradient", **options)
    torch.testing.assert_close(found.relevance, wanted)


@pytest.mark.parametrize(("model", "options", "target", "score"), PROBLEMS)
def test_deeplift_is_complete(model, options, target, score):
    found = relprop.explain(model, X, target, method="deeplift", **options)
    torch.testing.assert_close(found.absorbed, score(torch.zeros_like(X)).detach())
    torch.testing.assert_close(total(found), score(X).detach())


@pytest.mark.parametrize(("model", "options", "target", "score"), PROBLEMS)
def test_occlusion_sees_the_value(model, options, target, score):
    wanted = torch.zeros(2, 8, 8, dtype=torch.float64)
    for row in (0, 4):
        for column in (0, 4):
            hidden = X.clone()
            hidden[:, :, row : row + 4, column : column + 4] = 0
            wanted[:, row : row + 4, column : column + 4] = (score(X) - score(hidden)).detach()[:, None, None]
    found = relprop.explain(model, X, target, method="occlusion", window=4, stride=4, **options)
    torch.testing.assert_close(found.relevance.sum(1), wanted, rtol=1e-6, atol=1e-6)  # captum adds up in float32


def test_a_contrast_is_the_difference_of_two_maps():
    explainer = relprop.Explainer(classifier(), X, "lrp-epsilon")
    torch.testing.assert_close(explainer(X, Contrast(1, 3)).relevance, explainer(X, 1).relevance - explainer(X, 3).relevance)


def test_classes_alone_are_those_of_a_tensor():
    explainer = relprop.Explainer(classifier(), X)
    ours, theirs = explainer(X, Classes([1, 3])), explainer(X, torch.tensor([[1, 3], [1, 3]]))
    assert torch.equal(ours.relevance, theirs.relevance)
    assert torch.equal(ours.target, theirs.target)
    assert torch.equal(ours.value, theirs.logits[:, [1, 3]])


@pytest.mark.parametrize("method", ["rap", "lrp-epsilon", "lrp-zplus"])
def test_a_reference_is_part_of_the_last_bias(method):
    model = classifier(classes=1)
    found = relprop.explain(model, X, Output(reference=1.5), method=method)
    with torch.no_grad():
        model[-1].bias -= 1.5
    wanted = relprop.explain(model, X, 0, method=method)
    torch.testing.assert_close(found.relevance, wanted.relevance)
    torch.testing.assert_close(found.absorbed, wanted.absorbed)
    torch.testing.assert_close(found.logits, wanted.logits + 1.5)


def test_a_network_that_ends_at_a_module_is_the_network_cut_off_there():
    model = classifier()
    ours = relprop.explain(model, X, Neuron("3", (1, 2, 3)))
    theirs = relprop.explain(model[:4], X, Neuron(None, (1, 2, 3)))
    torch.testing.assert_close(ours.relevance, theirs.relevance)
    torch.testing.assert_close(ours.logits, model[:4](X).detach())


@pytest.mark.parametrize("start", ["clrp", "sglrp", "softmax", "mean", "finer", "abslrp"])
def test_starts_against_other_classes_hold_at_every_pixel(start):
    """A segmentation of one point is the classifier of that point."""
    model = segmentation()

    class AtPoint(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model(x)[:, :, 1, 2]

    ours = relprop.explain(model, X, Pixels(1, point=(1, 2)), method="lrp-epsilon", start=start)
    theirs = relprop.explain(AtPoint(), X, 1, method="lrp-epsilon", start=start)
    torch.testing.assert_close(ours.relevance, theirs.relevance)


def test_starts_against_other_classes_hold_at_every_box():
    class AtBox(Detector):
        def forward(self, x):
            return super().forward(x)["heads"][0]["cls_logits"][:, 5]

    ours = relprop.explain(Detector(), X, Box(5, 2), method="clrp", output="heads.0.cls_logits")
    torch.testing.assert_close(ours.relevance, relprop.explain(AtBox(), X, 2, method="clrp").relevance)


@pytest.mark.parametrize(
    ("build", "target", "probability"),
    [
        (segmentation, Pixels(1, point=(1, 2)), lambda y: y.softmax(1)[:, 1, 1, 2]),
        (lambda: classifier(torch.nn.Sigmoid()), Binary(2), lambda y: y[:, 2]),
        (classifier, Contrast(1, 3), lambda y: y.softmax(1)[:, 1] - y.softmax(1)[:, 3]),
    ],
)
def test_rise_weighs_by_the_probability_of_the_target(build, target, probability):
    class Two(torch.nn.Module):
        """The probability itself, beside another number."""

        def __init__(self):
            super().__init__()
            self.model = build()

        def forward(self, x):
            p = probability(self.model(x))
            return torch.stack([p, 0 * p], 1)

    ours = relprop.explain(build(), X, target, method="rise", masks=20)
    theirs = relprop.explain(Two(), X, 0, method="rise", masks=20, score="logit")
    torch.testing.assert_close(ours.relevance, theirs.relevance)
