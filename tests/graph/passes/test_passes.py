"""Every pass leaves the model's output as it was."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from relprop.graph.capture import record_model
from relprop.graph.passes import PASSES, normalize
from relprop.graph.passes.batchnorm import fold_batchnorm
from relprop.graph.passes.final import take_off_final_softmax
from relprop.inputs import as_inputs
from relprop.ops.op import op_name
from relprop.ops.table import OPS
from tests.rules.reference import Lambda, randomized


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        y = self.a(x)
        residual = y
        y = F.relu_(y)  # writes to the residual too
        y += self.b(y)
        y.mul_(0.5).clamp_(max=2.0)
        z = torch.zeros_like(y)
        z[:, 1:] = y[:, :-1]
        z[:, 0] += 1.0
        return y + residual * z


class Constants(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(4, 4))
        self.register_buffer("positions", torch.arange(4))

    def forward(self, x):
        w = self.w / self.w.norm(dim=1, keepdim=True)
        table = torch.sin(self.positions.to(x.dtype) * 0.3) + torch.arange(4, device=x.device).to(x)
        mask = torch.ones(x.shape[0], 4, dtype=x.dtype).cumsum(1)
        return x @ w.T + table + mask


class Identities(nn.Module):
    def forward(self, x):
        x = F.dropout(x, 0.5, training=False).contiguous().clone().detach().to(torch.float64)
        return F.alpha_dropout(x.view_as(x), 0.1, training=False) + F.dropout2d(x.reshape(-1, 2, 2, 1), training=False).flatten(1)


class Forms(nn.Module):
    def forward(self, x):
        y = x.reshape(-1, 1, 2, 2) - 0.5 * x.reshape(-1, 1, 2, 2).flip(1)
        y = F.conv2d(F.pad(y, (1, 0, 0, 1), mode="circular"), torch.ones(2, 1, 2, 3).double(), padding="same", dilation=(1, 2))
        y = torch.rsub(y, F.pad(y, (0, 0, 0, 0), mode="replicate"), alpha=2)
        return F.pad(y, (1, 1, 0, 0), mode="reflect").flatten(1)


class Regions(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        with torch.no_grad():
            y = self.a(x)
        with torch.autocast("cpu", enabled=False):
            return self.b(y)


def attention(**options):
    def forward(x):
        q = x.reshape(-1, 2, 2, 1)
        return F.scaled_dot_product_attention(q, q * 2, q + 1, **options).flatten(1)

    return Lambda(forward)


def grouped(x):
    q = x.reshape(-1, 2, 2, 1)
    return F.scaled_dot_product_attention(q, q[:, :1], q[:, 1:], enable_gqa=True).flatten(1)


class Decomposed(nn.Module):
    def forward(self, x):
        y = torch.einsum("bi,ij->bj", x, torch.ones(4, 3).double()) + F.glu(x.repeat(1, 2), 1)[:, :3]
        y = torch.addmm(y, x, torch.ones(4, 3).double(), alpha=0.5)
        return (
            torch.tensordot(y, torch.ones(3, 2).double(), 1)
            + torch.addcmul(x[:, :2], x[:, 2:], x[:, :2])
            + F.local_response_norm(x.reshape(-1, 2, 2), 2).sum(1)
        )


class Batchnorms(nn.Module):
    def __init__(self):
        super().__init__()
        self.before, self.conv, self.norm = nn.BatchNorm2d(1), nn.Conv2d(1, 4, 2, groups=1), nn.BatchNorm2d(4)
        self.up, self.up_norm = nn.ConvTranspose2d(4, 6, 2, groups=2), nn.BatchNorm2d(6, affine=False)
        self.shared, self.shared_norm = nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)
        self.dense, self.dense_norm = nn.Linear(24, 5, bias=False), nn.BatchNorm1d(5, eps=0.1)

    def forward(self, x):
        x = F.relu(self.norm(self.conv(self.before(x.reshape(-1, 1, 2, 2)))))
        x = self.up_norm(self.up(x))
        y = self.shared(x)
        x = self.shared_norm(y) + y  # read twice: stays unfolded
        return self.dense_norm(self.dense(x.flatten(1)))


MODELS = {
    "in place": InPlace(),
    "constants": Constants(),
    "identities": Identities(),
    "rare forms": Forms(),
    "regions": Regions(),
    "attention": attention(),
    "causal attention": attention(is_causal=True, scale=0.7),
    "masked attention": attention(attn_mask=torch.tensor([[True, False], [True, True]])),
    "biased attention": attention(attn_mask=torch.tensor([[0.0, -1.0], [2.0, 0.5]]).double()),
    "grouped attention": Lambda(grouped),
    "ops taken apart": Decomposed(),
    "batch norms": randomized(Batchnorms()),
}


def captured(name):
    torch.manual_seed(0)
    model = copy.deepcopy(MODELS[name]).double().eval()
    x = torch.randn(3, 4).double()
    with torch.no_grad():
        expected = model(x)
    return record_model(model, as_inputs(x[:2])), x, expected


def run(module, x):
    module.recompile()
    with torch.no_grad():
        return module(x)


@pytest.mark.parametrize("name", MODELS)
def test_capture_and_every_pass_in_turn_leave_the_output(name):
    graph, x, expected = captured(name)
    torch.testing.assert_close(run(graph.module, x), expected, rtol=1e-10, atol=1e-10)
    for normalization in [p for p in PASSES if p is not take_off_final_softmax] + [fold_batchnorm]:
        normalization(graph.module)
        graph.module.graph.lint()
        torch.testing.assert_close(
            run(graph.module, x), expected, rtol=1e-10, atol=1e-10, msg=lambda m, p=normalization: f"{p.__name__}: {m}"
        )


@pytest.mark.parametrize("name", MODELS)
def test_passes_together_leave_the_output(name):
    graph, x, expected = captured(name)
    normalize(graph.module)
    torch.testing.assert_close(run(graph.module, x), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(run(graph.module, x[:1]), expected[:1], rtol=1e-10, atol=1e-10)


def ops_of(module):
    return [op_name(n.target) for n in module.graph.nodes if n.op == "call_function"]


def normalized(name):
    graph, _, _ = captured(name)
    normalize(graph.module)
    return graph.module


def test_no_op_writes_to_a_value():
    assert not any(op.endswith("_") for op in ops_of(normalized("in place")))


def test_what_depends_on_constants_alone_is_computed_once():
    assert not {"aten::sin", "aten::norm", "aten::linalg_vector_norm", "aten::div"} & set(ops_of(normalized("constants")))


def test_identities_disappear():
    assert not {"aten::dropout", "aten::contiguous", "aten::clone", "aten::to"} & set(ops_of(normalized("identities")))


def test_fused_attention_is_spelled_out():
    ops = ops_of(normalized("attention"))
    assert "aten::scaled_dot_product_attention" not in ops
    assert ops.count("aten::matmul") == 2
    assert ops.count("aten::softmax") == 1


def test_ops_are_taken_apart_into_known_ones():
    assert set(ops_of(normalized("ops taken apart"))) - {"getitem", "mul"} <= set(OPS)


def test_batchnorm_folds_where_it_is_the_only_reader():
    graph, _, _ = captured("batch norms")
    module = graph.module
    normalize(module)
    assert ops_of(module).count("aten::batch_norm") == 5
    fold_batchnorm(module)
    assert ops_of(module).count("aten::batch_norm") == 2  # before the first conv, and the one whose conv is read twice


@pytest.mark.parametrize("last", [nn.Softmax(-1), nn.LogSoftmax(1), nn.Sigmoid()])
def test_a_final_softmax_is_taken_off(last):
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 3), last).double(), torch.randn(2, 4).double()
    module = record_model(model, as_inputs(x)).module
    assert take_off_final_softmax(module)
    torch.testing.assert_close(run(module, x), model[0](x).detach())


def test_a_softmax_inside_stays():
    model = nn.Sequential(nn.Softmax(-1), nn.Linear(4, 3)).double()
    assert not take_off_final_softmax(record_model(model, as_inputs(torch.randn(2, 4).double())).module)


def test_inverse_roots_become_divisors():
    """RMS norm by hand: its statistic is no factor that would gate the values, or take half of their relevance."""
    module = record_model(
        Lambda(lambda x: torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * x), as_inputs(torch.randn(2, 4))
    ).module
    normalize(module)
    names = [op_name(n.target) for n in module.graph.nodes if n.op == "call_function"]
    assert names[-2:] == ["aten::sqrt", "aten::div"]
    assert "aten::rsqrt" not in names
