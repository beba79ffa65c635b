"""Only what is read is computed, and every part of a projection on its own: relevance stays what it was."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import relprop
from relprop.graph import passes
from relprop.graph.capture import capture
from relprop.graph.nodes import shape_of
from relprop.graph.passes.projections import separate_projections
from relprop.graph.passes.windows import compute_windows
from relprop.inputs import as_inputs
from relprop.ops.op import op_name
from tests.rules.reference import assert_same_everywhere

TOKENS, WIDTH, HEADS = 6, 8, 2


def unbound(projected):
    return projected.unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4).unbind(0)


def selected(projected):
    grouped = projected.reshape(*projected.shape[:2], 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
    return grouped[0], grouped[1], grouped[2]


def with_heads(parts):
    return tuple(part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in parts)


def chunked(projected):
    return with_heads(projected.chunk(3, dim=-1))


def split(projected):
    return with_heads(projected.split([WIDTH, WIDTH, WIDTH], dim=2))


def sliced(projected):
    return with_heads((projected[..., :WIDTH], projected[..., WIDTH : 2 * WIDTH], projected[..., -WIDTH:]))


def by_head(projected):
    return projected.unflatten(-1, (HEADS, -1)).transpose(1, 2).chunk(3, dim=-1)


class Attention(nn.Module):
    def __init__(self, take_apart):
        super().__init__()
        self.take_apart, self.qkv, self.proj = take_apart, nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        attended = F.scaled_dot_product_attention(*self.take_apart(self.qkv(x)))
        return self.proj(attended.transpose(1, 2).flatten(2))


class TokensFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.MultiheadAttention(WIDTH, HEADS)

    def forward(self, x):
        x = x.transpose(0, 1)
        return self.inner(x, x, x, need_weights=False)[0].transpose(0, 1)


class Block(nn.Module):
    def __init__(self, attention):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = attention
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 3 * WIDTH), nn.GELU(), nn.Linear(3 * WIDTH, WIDTH))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Tokens(nn.Module):
    def __init__(self, attention=lambda: Attention(unbound), read=lambda x: x[:, 0]):
        super().__init__()
        self.embed, self.read = nn.Linear(5, WIDTH), read
        self.blocks = nn.Sequential(Block(attention()), Block(attention()))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 4)

    def forward(self, x):
        return self.head(self.read(self.norm(self.blocks(self.embed(x)))))


class Gated(nn.Module):
    """A projection of two parts, one of which gates the other."""

    def __init__(self):
        super().__init__()
        self.both, self.head = nn.Linear(5, 2 * WIDTH, bias=False), nn.Linear(WIDTH, 4)

    def forward(self, x):
        value, gate = self.both(x).chunk(2, dim=-1)
        return self.head((value * gate.sigmoid()).mean(1))


TAKEN_APART = {
    "unbound": Tokens,
    "selected": lambda: Tokens(lambda: Attention(selected)),
    "chunked": lambda: Tokens(lambda: Attention(chunked)),
    "split": lambda: Tokens(lambda: Attention(split)),
    "sliced": lambda: Tokens(lambda: Attention(sliced)),
    "tokens first": lambda: Tokens(TokensFirst),
    "gated": Gated,
}
READ = {
    "the last token": lambda: Tokens(read=lambda x: x[:, -1]),
    "two tokens": lambda: Tokens(read=lambda x: x[:, 1:3].mean(1)),
    "two heads": lambda: Tokens(read=lambda x: x[:, 0] + x[:, 2]),
}
LEFT = {
    "by head": lambda: Tokens(lambda: Attention(by_head), read=lambda x: x.mean(1)),
    "most tokens": lambda: Tokens(read=lambda x: x[:, 1:].mean(1)),
    "every other token": lambda: Tokens(read=lambda x: x[:, ::2].mean(1)),
    "a token and all": lambda: Tokens(read=lambda x: x[:, 0] + x.mean(1)),
}
MODELS = TAKEN_APART | READ | LEFT


def model_of(name):
    torch.manual_seed(0)
    model = MODELS[name]().double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model, torch.randn(3, TOKENS, 5, dtype=torch.float64)


def linears(module):
    """The shapes of what dense layers return, without the batch."""
    shapes = [shape_of(n) for n in module.graph.nodes if op_name(n.target) == "aten::linear"]
    return [tuple(size for size in shape if isinstance(size, int)) for shape in shapes]


def passed(model, x):
    module = capture(model, as_inputs(x[:2])).module
    for normalization in (separate_projections, compute_windows):
        normalization(module)
        module.graph.lint()
    module.recompile()
    return module


@pytest.mark.parametrize("name", MODELS)
def test_the_output_stays(name):
    model, x = model_of(name)
    module = passed(model, x)
    with torch.no_grad():
        for batch in (x, x[:1]):
            torch.testing.assert_close(module(batch), model(batch), rtol=1e-10, atol=1e-10)


EVERYWHERE, ONCE = ("attnlrp", "cp-lrp", "lrp-zplus"), ("lrp-epsilon", "lrp-gamma", "lrp-wsquare", "lrp-flat", "rap", "abslrp")
CASES = [(name, method) for name in MODELS for method in EVERYWHERE] + [("unbound", method) for method in ONCE]


@pytest.mark.parametrize(("name", "method"), CASES)
def test_relevance_stays_at_the_input_and_at_every_module(name, method, monkeypatch):
    model, x = model_of(name)
    ours = relprop.Explainer(model, x[:1], method)
    monkeypatch.setattr(passes, "separate_projections", lambda _: None)
    monkeypatch.setattr(passes, "compute_windows", lambda _: None)
    whole = relprop.Explainer(model, x[:1], method)
    assert_same_everywhere(ours, whole, x, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", sorted(TAKEN_APART.keys() - {"gated"}))
def test_the_last_block_sees_one_token_but_for_keys_and_values(name):
    sizes = linears(passed(*model_of(name)))
    in_last_block = sizes[-7:-1]
    assert sum(TOKENS in size for size in in_last_block) == 2
    assert sum(1 in size for size in in_last_block) == 4


def test_two_tokens_make_a_window():
    assert sum(size == (2, WIDTH) for size in linears(passed(*model_of("two tokens")))) == 3


@pytest.mark.parametrize("name", LEFT)
def test_what_is_read_as_a_whole_is_computed_as_a_whole(name):
    assert all(size[0] == TOKENS for size in linears(passed(*model_of(name)))[:-1])


def test_outputs_grouped_by_head_stay_together():
    assert (TOKENS, 3 * WIDTH) in linears(passed(*model_of("by head")))


@torch.library.custom_op("relprop_tests::centered", mutates_args=())
def centered(x: torch.Tensor) -> torch.Tensor:
    return x - x.mean(1, keepdim=True)


@centered.register_fake
def _(x):
    return torch.empty_like(x)


def test_ops_that_users_teach_see_everything():
    relprop.register_op("relprop_tests::centered", backward=lambda call, relevance: {"x": relevance}, role="activation")
    model, x = model_of("unbound")
    model.read = lambda tokens: centered(tokens)[:, 0]
    module = passed(model, x)
    with torch.no_grad():
        torch.testing.assert_close(module(x), model(x), rtol=1e-10, atol=1e-10)


def test_weights_stay_shared():
    model, x = model_of("chunked")
    own = model.blocks[0].attention.qkv.weight.untyped_storage().data_ptr()
    module = passed(model, x)
    rows = [b for n, b in module.named_buffers(remove_duplicate=False) if "blocks_0_attention_qkv_weight" in n]
    assert len(rows) == 3
    assert {b.untyped_storage().data_ptr() for b in rows} == {own}


def test_a_constant_part_has_no_cost_where_it_takes_no_relevance():
    model, x = model_of("unbound")
    plan = relprop.Explainer(model, x[:1], "cp-lrp").plan
    first = [step.rule for step in plan.steps if step.path == "blocks.0.attention.qkv" and step.op == "aten::linear"]
    assert sorted(first) == ["", "", "proportional"]  # queries and keys; values
