"""Relevance is carried per unit where rules share by signed value: as if every rule divided, and the next multiplied again."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import relprop
from relprop import rules
from relprop.inputs import as_inputs
from relprop.propagation import plan as plan_module
from relprop.propagation.run import Run
from tests.rules.reference import assert_same_everywhere

TOKENS, WIDTH = 5, 8


class Attention(nn.Module):
    """Single-headed, its scores scaled and masked as asked."""

    def __init__(self, scores=lambda q, k: q @ k.mT / WIDTH**0.5):
        super().__init__()
        self.q, self.k, self.v, self.scores = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), scores

    def forward(self, x):
        return self.scores(self.q(x), self.k(x)).softmax(-1) @ self.v(x)


class Transformer(nn.Module):
    def __init__(self, attention=Attention, norm=nn.LayerNorm, activation=nn.GELU):
        super().__init__()
        self.embed, self.position = nn.Linear(6, WIDTH), nn.Parameter(torch.zeros(1, TOKENS, WIDTH))
        self.norm1, self.attention, self.norm2 = norm(WIDTH), attention(), norm(WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 3 * WIDTH), activation(), nn.Linear(3 * WIDTH, WIDTH))
        self.head = nn.Linear(WIDTH, 4)

    def forward(self, x):
        x = self.embed(x) + self.position
        x = x + self.attention(self.norm1(x))
        x = x - self.mlp(self.norm2(x))
        return self.head(x.roll(1, 1).mean(1))


class Scaled(nn.Module):
    """Constants that multiply, divide and negate; moves; a quotient that rounds."""

    def __init__(self):
        super().__init__()
        self.inner, self.outer, self.head = nn.Linear(6, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 4)
        self.scale = nn.Parameter(torch.zeros(WIDTH))

    def forward(self, x):
        y = self.scale * self.inner(x)
        y = self.outer(-(y / self.scale.exp() / 3).flip(1).transpose(1, 2).repeat(1, 1, 2).mT)
        y = self.outer(torch.div(y, 1e-3, rounding_mode="floor") / 1000)
        return self.head((2 / (3 + y.exp())).mean(1))


class Convolutional(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.norm, self.conv = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1)
        self.depthwise, self.head = nn.Conv2d(4, 4, 2, stride=2, groups=4), nn.Linear(4, 4)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        x = x + F.avg_pool2d(self.conv(x), 3, 1, 1)
        return self.head(self.depthwise(self.conv(x)).mean((2, 3)))


def masked(fill):
    mask = torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril()
    return lambda: Attention(lambda q, k: (q @ k.mT).masked_fill(~mask, fill))


def with_added_mask():
    added = torch.full((TOKENS, TOKENS), -math.inf, dtype=torch.float64).triu(1) + torch.eye(TOKENS, dtype=torch.float64)
    return Attention(lambda q, k: q @ k.mT + added)


MODELS = {
    "transformer": Transformer,
    "RMS norm": lambda: Transformer(norm=nn.RMSNorm),
    "plain norm": lambda: Transformer(norm=lambda width: nn.LayerNorm(width, elementwise_affine=False)),
    "no activation": lambda: Transformer(activation=nn.Identity),
    "masked": lambda: Transformer(masked(-math.inf)),
    "with an added mask": lambda: Transformer(with_added_mask),
    "fused, causal": lambda: Transformer(lambda: Attention(lambda q, k: q @ k.mT + torch.ones(TOKENS, TOKENS).tril().log())),
    "scaled": Scaled,
    "convolutional": Convolutional,
}


def model_of(name):
    torch.manual_seed(0)
    model = MODELS[name]().double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model, torch.randn(3, *((2, 6, 6) if name == "convolutional" else (TOKENS, 6)), dtype=torch.float64)


def explainers(model, x, method, monkeypatch, **options):
    """One that carries relevance per unit, and one that never does."""
    ours = relprop.Explainer(model, x[:1], method, **options)
    monkeypatch.setattr(plan_module, "carried_as_multipliers", lambda *_, **__: frozenset())
    whole = relprop.Explainer(model, x[:1], method, **options)
    assert ours.plan.multipliers
    assert not whole.plan.multipliers
    return ours, whole


CASES = [(name, method) for name in MODELS for method in ("attnlrp", "cp-lrp")] + [("convolutional", "lrp-epsilon")]


@pytest.mark.parametrize(("name", "method"), CASES)
def test_relevance_stays_at_the_input_and_at_every_module(name, method, monkeypatch):
    model, x = model_of(name)
    ours, whole = explainers(model, x, method, monkeypatch, epsilon=0.0)
    found = assert_same_everywhere(ours, whole, x, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(ours(x, found.target).relevance, found.relevance, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("name", "method"), CASES)
def test_conserves(name, method, capsys):
    model, x = model_of(name)
    explainer = relprop.Explainer(model, x[:1], method, epsilon=0.0)
    explanation = explainer(x, 2)
    torch.testing.assert_close(explanation.logits, model(x).detach())
    torch.testing.assert_close(
        explanation.relevance.flatten(1).sum(1) + explanation.absorbed, explanation.logits[:, 2], rtol=1e-9, atol=1e-9
    )
    assert explainer.trace(x, 2).worst.deviation < 1e-9
    assert capsys.readouterr().out


def test_the_ends_and_what_an_activation_reads_stay_whole():
    model, x = model_of("transformer")
    plan = relprop.Explainer(model, x[:1], "attnlrp").plan
    assert plan.multipliers.isdisjoint({plan.output, *plan.leaves})
    activation = next(step for step in plan.steps if step.op == "aten::gelu")
    assert plan.multipliers.isdisjoint({activation.node, *activation.node.all_input_nodes})


def test_a_stabilizer_keeps_relevance_whole():
    model, x = model_of("transformer")
    assert not relprop.Explainer(model, x[:1], "attnlrp", epsilon=1e-3).plan.multipliers
    assert not relprop.Explainer(model, x[:1], "lrp-zplus").plan.multipliers
    assert not relprop.Explainer(model, x[:1], "lrp-epsilon", epsilon=0.0, bias="leave out", add="absolute").plan.multipliers


def test_values_that_nothing_divides_by_are_let_go():
    model, x = model_of("transformer")
    explainer = relprop.Explainer(model, x[:1], "attnlrp")
    scores = next(s.node.all_input_nodes[0] for s in explainer.plan.steps if s.op == "aten::softmax")
    assert scores in explainer.plan.multipliers
    freed, kept = (Run(explainer.plan, as_inputs(x), inspected=inspected)._values[scores] for inspected in (False, True))
    assert freed.untyped_storage().nbytes() <= 8
    assert kept.untyped_storage().nbytes() > 8


class Cancelling(nn.Module):
    """The first of its sums is zero, of summands that are not."""

    def forward(self, x):
        return (x - x.flip(-1) * torch.tensor([1.0, 3.0])).sum(-1, keepdim=True) + 7 * x[:, :1]


def test_a_sum_that_cancels_is_the_limit_of_sums_that_nearly_do():
    """Dividing by such a sum would lose what comes to it."""
    method = relprop.Method("mine", {"dense": rules.epsilon(0.0), "add": rules.split_sum("signed")})
    at, near = (relprop.explain(Cancelling(), torch.tensor([[5.0 + d, 5.0]]), method=method) for d in (0.0, 1e-3))
    torch.testing.assert_close(at.relevance, torch.tensor([[25.0, 0.0]]))  # input times gradient, as the model is linear
    torch.testing.assert_close(at.relevance, near.relevance, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(at.absorbed, torch.zeros(1))


def test_what_comes_to_zeros_is_absorbed():
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Sigmoid(), nn.Linear(2, 1, bias=False))
    nn.init.eye_(model[0].weight)
    explanation = relprop.explain(model, torch.tensor([[0.0, 3.0]]), method="attnlrp")
    share = model[2].weight[0].detach() * torch.tensor([0.5, torch.sigmoid(torch.tensor(3.0))])
    torch.testing.assert_close(explanation.relevance[0], share * torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(explanation.absorbed, share[:1])
