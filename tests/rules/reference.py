"""A slow explicit version of every rule: contribution matrices built by running the op on one input element at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

import relprop
from relprop.graph.nodes import module_outputs
from relprop.rules.starts import STARTS

TIGHT = {"rtol": 1e-9, "atol": 1e-10}


class Lambda(nn.Module):
    """A function as a module, so that it has a path of its own."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *values: Tensor) -> Tensor:
        return self.function(*values)


class Probed(nn.Module):
    """An op between layers: ``post(op(pre_0(x), pre_1(x), …))``; two layers after it give relevance of both signs."""

    def __init__(self, pres: Sequence[nn.Module], op: nn.Module, outputs: int) -> None:
        super().__init__()
        self.pres, self.op = nn.ModuleList(pres), op
        self.post = nn.Sequential(nn.Linear(outputs, 4), nn.Linear(4, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.post(self.op(*[pre(x) for pre in self.pres]).flatten(1))


def assert_same_everywhere(
    ours: relprop.Explainer, whole: relprop.Explainer, x: Tensor, **tolerance: float
) -> relprop.Explanation:
    """Compare relevance of several targets at the input and at every module that it reaches, and what was absorbed; return ours."""
    reached = {step.node for step in whole.plan.steps if step.backward}
    layers = [path for path, node in module_outputs(whole.module.graph).items() if node in reached]
    target = torch.tensor([[0, 3], [1, 1], [2, 0]])
    found, expected = ours(x, target, layers=layers), whole(x, target, layers=layers)
    torch.testing.assert_close(found.relevance, expected.relevance, **tolerance)
    torch.testing.assert_close(found.absorbed, expected.absorbed, **tolerance)
    assert list(found.layers) == layers
    for path in layers:
        torch.testing.assert_close(found.layers[path], expected.layers[path], **tolerance, msg=lambda m, p=path: f"{p}: {m}")
    return found


class FixedBatch(nn.Module):
    """A model that takes one sample at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[0] == 1
        return self.head(torch.relu(self.layer(x)))


@dataclass(frozen=True)
class Probe:
    """What went in and out of the op, values and relevance, for three samples."""

    op: nn.Module
    inputs: list[Tensor]
    output: Tensor
    relevance_in: list[Tensor]
    relevance_out: Tensor
    absorbed: Tensor
    explainer: relprop.Explainer
    model: nn.Module
    x: Tensor


def randomized(model: nn.Module) -> nn.Module:
    """BatchNorm with statistics and weights that matter."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            if module.affine:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    return model


def as_module(op: Callable[..., Tensor]) -> nn.Module:
    return op if isinstance(op, nn.Module) else Lambda(op)


def layer(features: int, *, nonnegative: bool) -> nn.Module:
    linear = nn.Linear(features, features)
    return nn.Sequential(linear, nn.ReLU()) if nonnegative else linear


def values_at(model: Probed, x: Tensor) -> tuple[list[Tensor], Tensor]:
    """The inputs and the output of the op, copied before anything writes to them."""
    seen: list[Tensor] = []
    hooks = [m.register_forward_hook(lambda _m, _i, out: seen.append(out.detach().clone())) for m in [*model.pres, model.op]]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return seen[:-1], seen[-1]


def probe(
    op: Callable[..., Tensor], shape: Sequence[int], *, nonnegative: bool = False, operands: int = 1, seed: int = 0, **options
) -> Probe:
    """Explain a small model around ``op`` in float64; check conservation, batch independence and several targets on the way.

    The first layer is treated like any other: the box of a tiny input may leave an output without any contribution.
    """
    torch.manual_seed(seed)
    module = as_module(op).double().eval()
    pres = [layer(shape[-1], nonnegative=nonnegative).double() for _ in range(operands)]
    x = torch.randn(3, *shape, dtype=torch.float64)
    with torch.no_grad():
        outputs = module(*[pre(x) for pre in pres]).flatten(1).shape[1]
    model = Probed(pres, module, outputs).double().eval()
    explainer = relprop.Explainer(model, x[:2], **({"input_rule": "rap"} | options))
    paths = [*[f"pres.{i}" for i in range(operands)], "op"]
    target = torch.tensor([0, 2, 1])
    explanation = explainer(x, target, layers=paths)
    with torch.no_grad():
        torch.testing.assert_close(explanation.logits, model(x), **TIGHT)
    check_conservation(explanation)
    alone = [explainer(x[i : i + 1], target[i : i + 1]).relevance for i in range(3)]
    torch.testing.assert_close(torch.cat(alone), explanation.relevance, **TIGHT)
    several = explainer(x, torch.stack([target, (target + 1) % 3], 1), layers=paths)
    torch.testing.assert_close(several.relevance[:, 0], explanation.relevance, **TIGHT)
    torch.testing.assert_close(several.absorbed[:, 0], explanation.absorbed, **TIGHT)
    inputs, output = values_at(model, x)
    at = [explanation.layers[path] for path in paths]
    return Probe(module, inputs, output, at[:-1], at[-1], explanation.absorbed, explainer, model, x)


def check_conservation(explanation: relprop.Explanation, tolerance: float = 1e-9, start: str = "logit") -> None:
    """Relevance and what is absorbed add up to what a start gives."""
    aims = explanation.target.reshape(len(explanation.logits), -1)
    given = [sum(f * r.sum(1) for f, r in STARTS[start](explanation.logits, aim)) for aim in aims.unbind(1)]
    explained = torch.stack(given, 1).reshape(explanation.target.shape)
    if explanation.conserved is not None:
        torch.testing.assert_close(explanation.conserved, explained)
    parts = explanation.relevance if isinstance(explanation.relevance, tuple) else (explanation.relevance,)
    total = explanation.absorbed + sum(p.flatten(explanation.target.dim()).sum(-1) for p in parts)
    assert (total - explained).abs().max() <= tolerance * max(1.0, explained.abs().max()), (total, explained)


# --- contributions and rules, one number at a time ------------------------------------------------------------------------------


def contribution_matrix(op: Callable[[Tensor], Tensor], x: Tensor) -> np.ndarray:
    """``z_ij`` of one sample ``x`` (without batch dimension) for an affine op: ``op(x_i e_i) − op(0)``."""
    lone = torch.diag(x.flatten()).reshape(-1, *x.shape)
    with torch.no_grad():
        z = op(lone) - op(torch.zeros_like(lone[:1]))
    return z.flatten(1).numpy()


def rap_shares(z: np.ndarray, relevance: np.ndarray, activated: np.ndarray, growth: float = 0.0) -> np.ndarray:
    """RAP, Eq. 7 to 9, in loops; with growth, relevance of both signs grows by it besides."""
    shares = np.zeros(len(z))
    for j, r in enumerate(relevance):
        column = z[:, j]
        positive, negative = column[column > 0].sum(), -column[column < 0].sum()
        for i, c in enumerate(column):
            if c > 0:
                shares[i] += r * c / positive
            elif c < 0:
                shares[i] += (r * negative / (positive + negative)) * (c / -negative)
    return without_surplus(shares * (1 + growth), relevance, activated)


def without_surplus(shares: np.ndarray, relevance: np.ndarray, measure: np.ndarray) -> np.ndarray:
    """RAP, Eq. 8 and 9: what the shares have more than the relevance is taken off inputs by a measure, in equal parts of those activated."""
    surplus, whole = shares.sum() - relevance.sum(), measure.sum()
    return np.array([s - surplus * m / whole if m else s for s, m in zip(shares, measure, strict=True)])


def influence_shares(weights: np.ndarray, x: np.ndarray, relevance: np.ndarray, growth: float) -> np.ndarray:
    """The rule of influence in loops; ``weights`` is ``(inputs, outputs)``, and growth that of this layer."""
    activated = x != 0
    raised = np.where(activated, np.abs(x) + np.abs(x).sum() / (activated.sum() or 1), 0)
    shares = np.zeros(len(x))
    for j, r in enumerate(relevance):
        influences = [m * abs(w) for m, w in zip(raised, weights[:, j], strict=True)]
        total, grown = sum(influences), r * (1 + growth) if r > 0 else r
        for i, influence in enumerate(influences):
            if influence:
                shares[i] += influence / total * grown
    return without_surplus(shares, relevance, raised)


def absolute_shares(z: np.ndarray, relevance: np.ndarray) -> np.ndarray:
    """RAP's start, Eq. 5 and 6, in loops."""
    shares = np.zeros(len(z))
    for j, r in enumerate(relevance):
        total = sum(abs(c) for c in z[:, j])
        for i, c in enumerate(z[:, j]):
            shares[i] += r * abs(c) / total if total else 0.0
    return shares


def box_shares(weights: np.ndarray, x: np.ndarray, low: np.ndarray, high: np.ndarray, relevance: np.ndarray) -> np.ndarray:
    """z^B, RAP's Eq. 10, in loops over ``weights[i, j]``."""
    shares = np.zeros(len(x))
    for j, r in enumerate(relevance):
        terms = [xi * w - lo * max(w, 0) - hi * min(w, 0) for xi, w, lo, hi in zip(x, weights[:, j], low, high, strict=True)]
        total = sum(terms)
        for i, term in enumerate(terms):
            shares[i] += r * term / total if total else 0.0
    return shares


def winner_shares(inputs: Sequence[np.ndarray], output: np.ndarray, relevance: np.ndarray) -> list[np.ndarray]:
    """Every output element gives its relevance to the one input element whose value it has; what equals none gives nothing."""
    home = {value: (k, i) for k, values in enumerate(inputs) for i, value in enumerate(values)}
    shares = [np.zeros(len(values)) for values in inputs]
    for value, r in zip(output, relevance, strict=True):
        if value in home:
            k, i = home[value]
            shares[k][i] += r
    return shares


# --- checks of one probed op --------------------------------------------------------------------------------------------------------


def assert_same(actual: Tensor, expected: np.ndarray) -> None:
    torch.testing.assert_close(actual.flatten(), torch.from_numpy(np.asarray(expected)).flatten(), **TIGHT)


def check_affine(op: Callable[..., Tensor], shape: Sequence[int], **options) -> None:
    """The op shares by RAP's Eq. 7 to 9, for inputs of both signs and for non-negative ones."""
    for nonnegative in (False, True):
        p = probe(op, shape, nonnegative=nonnegative, **options)
        for b, x in enumerate(p.inputs[0]):
            z = contribution_matrix(p.op, x)
            expected = rap_shares(z, p.relevance_out[b].flatten().numpy(), x.flatten().numpy() != 0)
            assert_same(p.relevance_in[0][b], expected)
        assert p.absorbed.abs().max() <= 1e-12


def check_winner(op: Callable[..., Tensor], shape: Sequence[int], *, operands: int = 1, absorbs: bool = False) -> None:
    """The op moves or selects elements: relevance goes back to the element that an output came from."""
    p = probe(op, shape, operands=operands)
    for b in range(3):
        sources = [x[b].flatten().numpy() for x in p.inputs]
        expected = winner_shares(sources, p.output[b].flatten().numpy(), p.relevance_out[b].flatten().numpy())
        for relevance, share in zip(p.relevance_in, expected, strict=True):
            assert_same(relevance[b], share)
        lost = float(p.relevance_out[b].sum()) - sum(share.sum() for share in expected)
        torch.testing.assert_close(float(p.absorbed[b]), lost, **TIGHT)
    assert absorbs or p.absorbed.abs().max() <= 1e-12


def check_passed(op: Callable[..., Tensor], shape: Sequence[int], **options) -> None:
    """One contributor per output: relevance passes unchanged."""
    p = probe(op, shape, **options)
    torch.testing.assert_close(p.relevance_in[0], p.relevance_out, **TIGHT)
    assert p.absorbed.abs().max() <= 1e-12
