"""Attention in the forms that torch, timm and transformers emit; norms; embeddings; windows with masks and position bias."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import relprop
from tests.rules.reference import (
    TIGHT,
    assert_same,
    check_affine,
    check_conservation,
    check_passed,
    contribution_matrix,
    probe,
    rap_shares,
)

NORMS = {
    "layer norm": (nn.LayerNorm(4), (3, 4)),
    "layer norm over two dims": (nn.LayerNorm((3, 4), elementwise_affine=False), (3, 4)),
    "layer norm without a bias": (nn.LayerNorm(4, bias=False), (3, 4)),
    "group norm": (nn.GroupNorm(2, 4), (4, 3)),
    "instance norm": (nn.InstanceNorm2d(2), (2, 2, 3)),
    "instance norm, affine": (nn.InstanceNorm1d(3, affine=True), (3, 4)),
    "instance norm with running statistics": (nn.InstanceNorm1d(3, track_running_stats=True), (3, 4)),
    "rms norm": (nn.RMSNorm(4), (3, 4)),
    "F.layer_norm": (lambda x: F.layer_norm(x, (4,)), (3, 4)),
    "local response norm": (nn.LocalResponseNorm(3), (4, 2, 2)),
    "batch norm before anything": (nn.BatchNorm2d(2), (2, 2, 3)),
    "softmax": (nn.Softmax(-1), (2, 3)),
    "log softmax": (nn.LogSoftmax(1), (2, 3)),
}


@pytest.mark.parametrize("name", NORMS)
def test_norms_pass_relevance(name):
    """Statistics count as constants, so every output has one contributor."""
    op, shape = NORMS[name]
    check_passed(op, shape, nonnegative=name.startswith("batch norm"))


WEIGHTS = torch.linspace(-1, 1, 9).double().reshape(3, 3)


class Fixed(nn.Module):
    """Attention whose queries and keys are computed from ``x``, and ``v`` is ``x`` itself: the op between values and output is linear."""

    def __init__(self, attend, mask=None):
        super().__init__()
        self.query, self.key, self.attend = nn.Linear(4, 4), nn.Linear(4, 4), attend
        self.register_buffer("mask", mask)

    def scores(self, x):
        return self.query(x) @ self.key(x).transpose(-2, -1) / math.sqrt(4)

    def forward(self, x):
        return self.attend(self, x)


BOOL = torch.tensor([[True, True, False], [True, True, True], [False, True, True]])
FLOAT = torch.tensor([[0.0, 1.0, -2.0], [0.5, -math.inf, 0.0], [0.0, 0.0, 0.0]]).double()


def by_sdpa(**options):
    def attend(m, x):
        mask = {"attn_mask": m.mask} if m.mask is not None else {}
        return F.scaled_dot_product_attention(m.query(x), m.key(x), x, **mask, **options)

    return attend


def heads(x, n=2):
    return x.reshape(x.shape[0], x.shape[1], n, -1).transpose(1, 2)


def by_heads(m, x):
    out = F.scaled_dot_product_attention(heads(m.query(x)), heads(m.key(x)), heads(x), dropout_p=0.0)
    return out.transpose(1, 2).reshape(x.shape)


def by_groups(m, x):
    key, value = heads(m.key(x))[:, :1], heads(x)[:, :1]
    return F.scaled_dot_product_attention(heads(m.query(x)), key, value, enable_gqa=True).transpose(1, 2).flatten(2)


def eager(m, x):
    weights = F.dropout(F.softmax(m.scores(x), dim=-1, dtype=torch.float64), 0.1, training=m.training)
    return torch.matmul(weights, x).contiguous()


def eager_masked(m, x):
    scores = m.scores(x).masked_fill(~BOOL, torch.finfo(torch.float64).min)
    return scores.softmax(-1) @ x


def by_bmm(m, x):
    return torch.bmm(m.scores(x).softmax(dim=-1), x)


def by_einsum(m, x):
    return torch.einsum("bij,bjd->bid", m.scores(x).softmax(-1), x)


def by_baddbmm(m, x):
    scores = torch.baddbmm(m.mask.expand(x.shape[0], 3, 3), m.query(x), m.key(x).transpose(1, 2))
    return scores.softmax(-1) @ x


def values_first(m, x):
    return (x.transpose(1, 2) @ m.scores(x).softmax(-1).transpose(1, 2)).transpose(1, 2)


def with_position_bias(m, x):
    bias = m.mask[torch.tensor([2, 1, 0])]
    return (m.scores(x) + bias.unsqueeze(0)).softmax(-1) @ x


def cosine(m, x):
    scores = F.normalize(m.query(x), dim=-1) @ F.normalize(m.key(x), dim=-1).transpose(-2, -1)
    return (scores * 10).softmax(-1) @ x


ATTENTIONS = {
    "sdpa": Fixed(by_sdpa()),
    "sdpa, scaled": Fixed(by_sdpa(scale=0.3)),
    "sdpa, bool mask": Fixed(by_sdpa(), BOOL),
    "sdpa, float mask": Fixed(by_sdpa(), FLOAT),
    "sdpa, causal": Fixed(by_sdpa(is_causal=True)),
    "sdpa, heads": Fixed(by_heads),
    "sdpa, grouped queries": Fixed(by_groups),
    "eager, as transformers": Fixed(eager),
    "eager, masked": Fixed(eager_masked),
    "bmm": Fixed(by_bmm),
    "einsum": Fixed(by_einsum),
    "baddbmm": Fixed(by_baddbmm, WEIGHTS),
    "values on the left": Fixed(values_first),
    "position bias": Fixed(with_position_bias, WEIGHTS),
    "cosine": Fixed(cosine),
}


@pytest.mark.parametrize("name", ATTENTIONS)
@pytest.mark.parametrize("nonnegative", [False, True])
def test_attention_weights_are_constants(name, nonnegative):
    """``z_ij = A_ij v_j`` with the weights of this sample; the contribution matrix comes from perturbing the values alone."""
    p = probe(ATTENTIONS[name], (3, 4), nonnegative=nonnegative)
    for b, x in enumerate(p.inputs[0]):
        batch = 1 if b is None else x.numel()
        queried = x.expand(batch, *x.shape)

        def frozen(v, queried=queried):
            return attended(p.op, queried[: len(v)], v)

        z = contribution_matrix(frozen, x)
        expected = rap_shares(z, p.relevance_out[b].flatten().numpy(), values_read(p.op, x) != 0)
        assert_same(p.relevance_in[0][b], expected)


def values_read(op, x):
    """The values that take part: all of them, or the first head's where groups share it."""
    if op.attend is not by_groups:
        return x.flatten().numpy()
    return (x * torch.tensor([1.0, 1.0, 0.0, 0.0]).double()).flatten().numpy()


def attended(op, queried, values):
    """The attention of ``queried`` on other ``values``, by a plain implementation."""
    if op.attend is by_heads or op.attend is by_groups:
        q, k, v = heads(op.query(queried)), heads(op.key(queried)), heads(values)
        if op.attend is by_groups:
            k, v = k[:, :1], v[:, :1]
        return ((q @ k.transpose(-2, -1) / math.sqrt(2)).softmax(-1) @ v).transpose(1, 2).flatten(2)
    q, k = op.query(queried), op.key(queried)
    scores = q @ k.transpose(-2, -1)
    if op.attend is by_baddbmm:
        return (scores + op.mask).softmax(-1) @ values
    if op.attend is cosine:
        return (10 * F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)).softmax(-1) @ values
    names = {name: op is module for name, module in ATTENTIONS.items()}
    scores = scores * 0.3 if names["sdpa, scaled"] else scores / 2
    if names["sdpa, bool mask"] or names["eager, masked"]:
        scores = scores.masked_fill(~BOOL, -math.inf)
    if names["sdpa, causal"]:
        scores = scores.masked_fill(~torch.ones(3, 3, dtype=torch.bool).tril(), -math.inf)
    if names["sdpa, float mask"]:
        scores = scores + FLOAT
    if names["position bias"]:
        scores = scores + op.mask.flip(0)
    return scores.softmax(-1) @ values


class Mha(nn.Module):
    """``nn.MultiheadAttention`` as torchvision's ViT calls it, with identities on the way in and out, so that values are ``x``."""

    def __init__(self, *, batch_first, **options):
        super().__init__()
        self.batch_first = batch_first
        self.attention = nn.MultiheadAttention(4, 2, batch_first=batch_first, dropout=0.1, **options)

    def forward(self, x):
        x = x if self.batch_first else x.transpose(0, 1)
        out, _ = self.attention(x, x, x, need_weights=False)
        return out if self.batch_first else out.transpose(0, 1)


class MhaWithWeights(Mha):
    def forward(self, x):
        x = x if self.batch_first else x.transpose(0, 1)
        out, _ = self.attention(x, x, x, need_weights=True)
        return out if self.batch_first else out.transpose(0, 1)


BLOCKS = {
    "batch first": Mha(batch_first=True),
    "sequence first": Mha(batch_first=False),
    "batch first, weights wanted": MhaWithWeights(batch_first=True),
    "sequence first, weights wanted": MhaWithWeights(batch_first=False),
    "without a bias": Mha(batch_first=True, bias=False),
    "with a bias of keys and values": MhaWithWeights(batch_first=True, add_bias_kv=True),
    "encoder layer": nn.TransformerEncoderLayer(4, 2, 6, batch_first=True, norm_first=True, activation="gelu"),
    "encoder layer, sequence first": nn.Sequential(
        nn.Unflatten(0, (-1, 1)), nn.Flatten(0, 1), nn.TransformerEncoderLayer(4, 2, 6, batch_first=True)
    ),
    "encoder": nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 6, batch_first=True), 1, enable_nested_tensor=False),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_attention_blocks_of_torch_conserve(name):
    """`probe` checks conservation, batch independence and several targets at once."""
    p = probe(BLOCKS[name], (3, 4))
    if "bias of keys" not in name:
        torch.testing.assert_close(p.relevance_in[0].flatten(1).sum(1), p.relevance_out.flatten(1).sum(1), **TIGHT)
        assert p.absorbed.abs().max() <= 1e-12


class WindowAttention(nn.Module):
    """Shifted windows as Swin has them: partition, relative position bias, a mask of windows, roll back."""

    def __init__(self):
        super().__init__()
        self.qkv, self.proj = nn.Linear(2, 6), nn.Linear(2, 2)
        self.table = nn.Parameter(torch.randn(9, 1))
        self.register_buffer("index", torch.randint(0, 9, (4, 4)))
        self.register_buffer("mask", torch.zeros(4, 4, 4).masked_fill(torch.rand(4, 4, 4) < 0.3, -100.0))

    def forward(self, x):
        batch = x.shape[0]
        x = x.roll((-1, -1), (1, 2)).view(batch, 2, 2, 2, 2, 2).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, 2)
        q, k, v = self.qkv(x).reshape(-1, 4, 3, 1, 2).permute(2, 0, 3, 1, 4).unbind(0)
        scores = q @ k.transpose(-2, -1) + self.table[self.index.view(-1)].view(4, 4, 1).permute(2, 0, 1).unsqueeze(0)
        scores = (scores.view(batch, 4, 1, 4, 4) + self.mask.unsqueeze(1).unsqueeze(0)).view(-1, 1, 4, 4)
        x = self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(-1, 4, 2))
        return x.view(batch, 2, 2, 2, 2, 2).permute(0, 1, 3, 2, 4, 5).reshape(batch, 4, 4, 2).roll((1, 1), (1, 2))


def test_window_attention_takes_the_surplus_sample_by_sample():
    """Windows merge into the batch dimension; `probe` compares every sample with itself alone."""
    p = probe(WindowAttention(), (4, 4, 2))
    torch.testing.assert_close(p.relevance_in[0].flatten(1).sum(1), p.relevance_out.flatten(1).sum(1), **TIGHT)


class Tokens(nn.Module):
    """Class token, positions, one block: what a ViT does."""

    def __init__(self):
        super().__init__()
        self.token, self.positions = nn.Parameter(torch.randn(1, 1, 4)), nn.Parameter(torch.randn(1, 5, 4))
        self.embed = nn.Conv2d(1, 4, 2, stride=2)
        self.block = nn.TransformerEncoderLayer(4, 2, 6, batch_first=True, norm_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        return self.head(self.block(x)[:, 0])


def test_class_token_absorbs():
    torch.manual_seed(0)
    x = torch.randn(2, 1, 4, 4).double()
    explanation = relprop.explain(Tokens().double(), x, 1)
    check_conservation(explanation)
    assert explanation.absorbed.abs().min() > 1e-6


def test_embedding_gives_relevance_at_the_first_floating_value():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    tokens = torch.tensor([[1, 2, 3], [6, 0, 6]])
    explanation = relprop.explain(model, tokens, 0)
    assert explanation.relevance.shape == (2, 3, 4)
    check_conservation(explanation)
    assert any("not floating point" in note for note in explanation.notes)


BILINEAR = torch.randn(4, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

PRODUCTS = {
    "q · k": (lambda a, b: a @ b.transpose(1, 2), (2, 3)),
    "bilinear pooling": (lambda a, b: torch.einsum("bnc,bnd->bcd", a, b), (2, 3)),
    "bmm": (lambda a, b: torch.bmm(a, b.mT), (2, 3)),
    "bilinear layer": (lambda a, b: F.bilinear(a, b, BILINEAR), (2, 3)),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_of_two_values_share_in_halves(name):
    """Each operand takes half of the relevance, by RAP's rule with the other held constant."""
    op, shape = PRODUCTS[name]
    p = probe(op, shape, operands=2)
    for b in range(3):
        x, y = p.inputs[0][b], p.inputs[1][b]
        half = p.relevance_out[b].flatten().numpy() / 2
        of_x = contribution_matrix(lambda v, y=y: op(v, y.expand(len(v), *y.shape)), x)
        of_y = contribution_matrix(lambda v, x=x: op(x.expand(len(v), *x.shape), v), y)
        assert_same(p.relevance_in[0][b], rap_shares(of_x, half, x.flatten().numpy() != 0))
        assert_same(p.relevance_in[1][b], rap_shares(of_y, half, y.flatten().numpy() != 0))


def test_fold_is_a_sum():
    check_affine(lambda x: F.fold(x, (3, 3), 2), (4, 4))
