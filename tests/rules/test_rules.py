"""Every rule of the LRP family against its formula, in loops over contribution matrices in float64."""

import numpy as np
import pytest
import torch
from torch import nn

import relprop
from relprop import rules
from relprop.errors import OptionError
from relprop.ops.layout import SampleLayout
from relprop.ops.op import Call
from relprop.ops.table import OPS
from tests.rules.layers import LAYERS, explained, weights_of
from tests.rules.reference import TIGHT, assert_same, box_shares, contribution_matrix

# --- formulas: (contributions z[i, j], bias b[j], relevance R[j]) -> relevance of every input ---------------------------------------


def by_epsilon(epsilon):
    def shares(z, bias, relevance):
        total = z.sum(0) + bias
        stable = [t + (epsilon if t >= 0 else -epsilon) for t in total]
        return sum(z[:, j] / t * relevance[j] if t else z[:, j] * 0 for j, t in enumerate(stable))

    return shares


def by_alpha_beta(alpha, beta, epsilon=0.0):
    def shares(z, bias, relevance):
        found = np.zeros(len(z))
        for j, r in enumerate(relevance):
            up = z[:, j].clip(min=0).sum() + max(bias[j], 0) + epsilon
            down = z[:, j].clip(max=0).sum() + min(bias[j], 0) - epsilon
            for i, c in enumerate(z[:, j]):
                if c > 0:
                    found[i] += alpha * c / up * r
                elif c < 0:
                    found[i] -= beta * c / down * r
        return found

    return shares


def by_gamma(gamma, *, output):
    """The sign of the output, bias included, says which contributions count ``1 + γ`` times."""

    def shares(z, bias, relevance):
        found = np.zeros(len(z))
        for j, r in enumerate(relevance):
            sign = np.sign(output(z, j))
            weighed = [c * (1 + gamma) if c * sign > 0 else c for c in [*z[:, j], bias[j]]]
            for i, c in enumerate(weighed[:-1]):
                found[i] += c / sum(weighed) * r if sum(weighed) else 0.0
        return found

    return shares


def by_weight(power):
    def shares(weights, exists, relevance):
        found = np.zeros(len(weights))
        for j, r in enumerate(relevance):
            terms = [w**power if there else 0.0 for w, there in zip(weights[:, j], exists[:, j], strict=True)]
            found += r * np.array(terms) / sum(terms)
        return found

    return shares


def bias_of(layer, x):
    """The layer at zero, by output element."""
    with torch.no_grad():
        return layer(torch.zeros_like(x[None])).flatten().numpy()


def output_sign(layer, x):
    total = layer(x[None]).detach().flatten().numpy()
    return lambda _z, j: total[j]


RULES = {
    "epsilon": (lambda bias: rules.epsilon(1e-2, bias), lambda *_: by_epsilon(1e-2)),
    "lrp-0": (lambda bias: rules.epsilon(0.0, bias), lambda *_: by_epsilon(0.0)),
    "zplus": (lambda bias: rules.zplus(0.0, bias), lambda *_: by_alpha_beta(1, 0)),
    "zplus, stabilized": (lambda bias: rules.zplus(0.3, bias), lambda *_: by_alpha_beta(1, 0, 0.3)),
    "alpha2-beta1": (lambda bias: rules.alpha_beta(2, 1, 0.0, bias), lambda *_: by_alpha_beta(2, 1)),
    "alpha1.5-beta0.5": (lambda bias: rules.alpha_beta(1.5, 0.5, 0.2, bias), lambda *_: by_alpha_beta(1.5, 0.5, 0.2)),
    "gamma": (lambda bias: rules.gamma(0.25, 0.0, bias), lambda *at: by_gamma(0.25, output=output_sign(*at))),
    "gamma 3": (lambda bias: rules.gamma(3.0, 0.0, bias), lambda *at: by_gamma(3.0, output=output_sign(*at))),
}


@pytest.mark.parametrize("nonnegative", [False, True], ids=["signed", "non-negative"])
@pytest.mark.parametrize("bias", ["absorb", "leave out"])
@pytest.mark.parametrize("kind", LAYERS)
def test_shares_by_contribution(kind, bias, nonnegative):
    layer, shape = LAYERS[kind]
    for make, formula in RULES.values():
        inputs, before, after = explained(layer, shape, make(bias), nonnegative=nonnegative)
        for b, x in enumerate(inputs):
            z = contribution_matrix(layer, x)
            held = bias_of(layer, x) if bias == "absorb" else np.zeros(z.shape[1])
            assert_same(before[b], formula(layer, x)(z, held, after[b].flatten().numpy()))


@pytest.mark.parametrize("power", [0, 2], ids=["flat", "wsquare"])
@pytest.mark.parametrize("kind", LAYERS)
def test_shares_by_weight(kind, power):
    layer, shape = LAYERS[kind]
    inputs, before, after = explained(layer, shape, rules.flat() if power == 0 else rules.wsquare(), nonnegative=False)
    weights = weights_of(layer, inputs[0])
    for b in range(2):
        assert_same(before[b], by_weight(power)(weights, weights != 0, after[b].flatten().numpy()))


def test_box_of_any_layer():
    layer, shape = LAYERS["conv"]
    inputs, before, after = explained(layer, shape, rules.zbox(), nonnegative=False)
    for b, x in enumerate(inputs):
        low, high = (np.full(x.numel(), float(bound)) for bound in (x.min(), x.max()))
        assert_same(before[b], box_shares(weights_of(layer, x), x.flatten().numpy(), low, high, after[b].flatten().numpy()))


def test_weights_of_zero_absorb():
    """An output that no weight reaches: nobody takes its relevance, and it is not lost."""
    layer = nn.Linear(4, 3).double()
    for rule in (rules.wsquare(), rules.zplus(), rules.alpha_beta(), rules.gamma(), rules.epsilon(0.0)):

        class Dead(nn.Linear):
            def reset_parameters(self):
                super().reset_parameters()
                with torch.no_grad():
                    self.weight[1] = 0

        layer = Dead(4, 3)
        _, before, _ = explained(layer, (4,), rule, nonnegative=False)  # conservation is checked there
        assert bool(torch.isfinite(before).all())


@pytest.mark.parametrize("treatment", ["positive", "absolute", "signed", "gamma"])
@pytest.mark.parametrize("rectified", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("factor", [1, -2])
def test_sums(treatment, rectified, factor):
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = (nn.Sequential(nn.Linear(6, 6), nn.ReLU() if r else nn.Identity()) for r in rectified)
            self.sum, self.head = Added(), nn.Linear(6, 3)

        def forward(self, x):
            return self.head(self.sum(self.a(x), self.b(x)))

    class Added(nn.Module):
        def forward(self, a, b):
            return torch.add(a, b, alpha=factor)

    torch.manual_seed(0)
    model, x = Sum().double(), torch.randn(3, 6).double()
    method = relprop.Method("sums", {"dense": rules.epsilon(0.0), "add": rules.split_sum(treatment, 0.01)})
    explanation = relprop.explain(model, x, 1, method=method, layers=("a", "b", "sum"))
    parts = [m(x).detach().numpy() for m in (model.a, model.b)]
    relevance = explanation.layers["sum"].numpy()
    for (b, i), r in np.ndenumerate(relevance):
        u, v = parts[0][b, i], factor * parts[1][b, i]
        if u == v == 0:
            expected = 0 if treatment == "signed" else r / 2
        elif treatment == "signed":
            expected = u / (u + v + (0.01 if u + v >= 0 else -0.01)) * r
        elif treatment == "gamma":
            weighted = [(2 if w * (u + v) > 0 else 1) * w for w in (u, v)]
            expected = weighted[0] / sum(weighted) * r
        elif treatment == "absolute" or (u <= 0 and v <= 0):
            expected = abs(u) / (abs(u) + abs(v)) * r
        else:
            expected = max(u, 0) / (max(u, 0) + max(v, 0)) * r
        assert float(explanation.layers["a"][b, i]) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    total = explanation.relevance.sum(1) + explanation.absorbed
    torch.testing.assert_close(total, explanation.logits[:, 1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("gamma", [1.0, 0.1, 7.0])
@pytest.mark.parametrize("as_multipliers", [False, True], ids=["relevance", "multipliers"])
def test_shares_by_gamma_are_bounded_and_add_up(gamma, as_multipliers):
    """However two summands cancel: shares lie in ``[−1/γ, 1 + 1/γ]`` and add up to one; sums of zero share equally."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(20_000, generator=generator).double()
    near = torch.randn(20_000, generator=generator).double() * 10.0 ** -torch.randint(0, 15, (20_000,), generator=generator)
    b = torch.where(torch.arange(20_000) % 2 == 0, -a + near, near)
    a[0] = 0.0
    b[:2] = -a[:2]
    rule = rules.split_sum("gamma", gamma=gamma)
    op = OPS["aten::add"]
    layout = SampleLayout(0)
    call = Call(
        op, torch.ops.aten.add.Tensor, {"self": a, "other": b, "alpha": 1}, a + b, frozenset(), ("self", "other"), "self",
        layout, {"self": layout, "other": layout}, len(a),
    )  # fmt: skip
    if as_multipliers:
        live = (a + b).abs() > 1e-9  # relevance is a value times its multiplier
        found = rule.multiplier.backward(call, torch.where(live, 1.0 / (a + b), 0.0))
        shares = [found["self"] * a, found["other"] * b]
        torch.testing.assert_close((shares[0] + shares[1])[live], torch.ones(20_000).double()[live], rtol=0, atol=1e-6)
    else:
        found = rule.backward(call, torch.ones(20_000).double())
        shares = [found["self"], found["other"]]
        torch.testing.assert_close(shares[0] + shares[1], torch.ones(20_000).double(), **TIGHT)
        assert shares[0][:2].tolist() == [0.5, 0.5]
    for share in shares:
        assert float(share.min()) >= -1 / gamma - 1e-9
        assert float(share.max()) <= 1 + 1 / gamma + 1e-9
        assert float(share.max()) > 0.99 + 0.99 / gamma  # the bound is reached


def test_shares_by_gamma_need_a_gamma():
    with pytest.raises(OptionError, match="bounds no share"):
        rules.split_sum("gamma", gamma=0.0)


@pytest.mark.parametrize(
    "make", [lambda: rules.epsilon(-1), lambda: rules.gamma(float("nan")), lambda: rules.alpha_beta(2, float("inf"))]
)
def test_options_out_of_range(make):
    with pytest.raises(OptionError, match="must not be negative or infinite"):
        make()
