"""Slices of the batch that read a constant token alone are constants; slices that mix samples stay, and are refused."""

import pytest
import torch
from torch import nn

import relprop
from relprop.errors import UnsupportedOpError
from relprop.graph.capture import record_model
from relprop.graph.passes.pieces import fold_pieces
from relprop.inputs import as_inputs
from relprop.zoo import import_torchvision

FRAMES, WIDTH = 3, 8


class Video(nn.Module):
    """A class token before the patches of every frame; the token of as many frames as there are videos, and the patches of all frames."""

    def __init__(self, read, token=lambda model, frames: model.token.expand(len(frames), -1, -1)):
        super().__init__()
        self.read, self.make_token, self.patch = read, token, nn.Conv2d(3, WIDTH, 4, 4)
        self.token, self.positions = nn.Parameter(torch.randn(1, 1, WIDTH)), nn.Parameter(torch.randn(1, 5, WIDTH))
        self.norm, self.block = nn.LayerNorm(WIDTH), nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True)
        self.head = nn.Linear(WIDTH, 5)

    def forward(self, x):
        b = x.shape[0]
        frames = self.patch(x.flatten(0, 1)).flatten(2).mT
        frames = torch.cat([self.make_token(self, frames), frames], 1) + self.positions
        tokens = self.read(self, frames, b).reshape(b, 1, WIDTH)
        return self.head(self.block(torch.cat([tokens, frames[:, 1:].reshape(b, -1, WIDTH)], 1))[:, 0])


CONSTANT = {
    "rows, then the token": lambda m, x, b: x[:b, 0],
    "the token, then rows": lambda m, x, b: x[:, 0][:b],
    "a slice of one token": lambda m, x, b: x[:b, :1],
    "the first frame of each": lambda m, x, b: x[::FRAMES, 0],
    "the last rows": lambda m, x, b: x[-b:, 0],
    "narrow": lambda m, x, b: x.narrow(0, 0, b).select(1, 0),
    "rows by index": lambda m, x, b: x.index_select(0, torch.arange(b) * FRAMES)[:, 0],
    "the first row": lambda m, x, b: x[0, 0].expand(b, -1),
    "behind a norm": lambda m, x, b: m.norm(x)[:b, 0],
    "between layers": lambda m, x, b: m.norm(m.head.weight.sum(0) * x[:b]).relu()[:, 0],
    "of a concatenation in another": lambda m, x, b: torch.cat([x[:, 1:], x[:, :1], x], 1)[:b, 4],
    "a part of two tokens": lambda m, x, b: torch.cat([m.token.expand(len(x), 2, -1), x], 1)[:b, :3][:, 1],
}
MIXED = {
    "a patch": lambda m, x, b: x[:b, 1],
    "the token and a patch": lambda m, x, b: x[:b, :2].mean(1),
    "the patches alone": lambda m, x, b: x[:b, 1:].mean(1),
    "behind attention": lambda m, x, b: m.block(x)[:b, 0],
    "plus a patch": lambda m, x, b: (x[:, :1] + x[:, 1:2])[:b, 0],
}
TOKENS = {
    "the mean of a frame": lambda m, frames: frames.mean(1, keepdim=True),
    "constant but in one channel": lambda m, frames: torch.cat(
        [m.token[..., 1:].expand(len(frames), -1, -1), frames[:, :1, :1]], 2
    ),
}


def model_of(read, *token):
    torch.manual_seed(0)
    return Video(read, *token).double().eval(), torch.randn(3, FRAMES, 3, 8, 8, dtype=torch.float64)


@pytest.mark.parametrize("name", CONSTANT)
@pytest.mark.parametrize("method", ["rap", "lrp-epsilon", "gradient"])
def test_a_constant_token_of_several_samples_is_explained(name, method):
    model, x = model_of(CONSTANT[name])
    explainer = relprop.Explainer(model, x[:2], method)
    found = explainer(x, 1)
    y = model(x.requires_grad_())
    torch.testing.assert_close(found.logits, y.detach(), rtol=1e-10, atol=1e-10)
    if method == "gradient":
        torch.testing.assert_close(found.relevance, torch.autograd.grad(y[:, 1].sum(), x)[0], rtol=1e-9, atol=1e-12)
    else:
        total = found.relevance.flatten(1).sum(1) + found.absorbed
        torch.testing.assert_close(total, y[:, 1].detach(), rtol=1e-9, atol=1e-9)
    alone = torch.cat([explainer(one[None].detach(), 1).relevance for one in x])
    torch.testing.assert_close(alone, found.relevance, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.parametrize("method", ["lrp-epsilon", "gradient"])
def test_rows_that_depend_on_a_sample_are_refused(name, method):
    model, x = model_of(MIXED[name])
    with pytest.raises(UnsupportedOpError, match="mix the samples"):
        relprop.Explainer(model, x, method)


@pytest.mark.parametrize("name", TOKENS)
def test_a_token_that_depends_on_a_sample_is_refused(name):
    model, x = model_of(CONSTANT["rows, then the token"], TOKENS[name])
    with pytest.raises(UnsupportedOpError, match="mix the samples"):
        relprop.Explainer(model, x, "lrp-epsilon")


def test_a_constant_token_has_the_relevance_of_one_that_is_expanded_to_the_samples():
    """The model that mixes no rows, written so."""
    model, x = model_of(CONSTANT["rows, then the token"])
    plain, _ = model_of(lambda m, _, b: (m.token + m.positions[:, :1]).expand(b, -1, -1))
    for method in ("rap", "lrp-epsilon", "attnlrp"):
        found, expected = (relprop.explain(m, x, 1, method=method) for m in (model, plain))
        torch.testing.assert_close(found.relevance, expected.relevance, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(found.absorbed, expected.absorbed, rtol=1e-9, atol=1e-12)


class ClassAttention(nn.Module):
    """The class token alone reads all tokens, as in CaiT: its query is constant, but no sample's rows are taken apart."""

    def __init__(self):
        super().__init__()
        self.token, self.q, self.kv = nn.Parameter(torch.randn(1, 1, WIDTH)), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        values = self.kv(x)
        return (self.q(x[:, :1]) @ values.mT).softmax(-1) @ values


def test_a_token_that_is_not_sliced_from_the_batch_stays():
    model, x = ClassAttention().double().eval(), torch.randn(2, 4, WIDTH).double()
    module = record_model(model, as_inputs(x)).module
    before = [node.name for node in module.graph.nodes]
    fold_pieces(module)
    assert [node.name for node in module.graph.nodes] == before


def test_timesformer():
    import_torchvision()
    transformers = pytest.importorskip("transformers")
    settings = {"image_size": 32, "patch_size": 16, "num_frames": 2, "num_labels": 4, "num_hidden_layers": 2}
    config = transformers.TimesformerConfig(**settings, hidden_size=24, num_attention_heads=2, intermediate_size=32)
    torch.manual_seed(0)
    model, x = transformers.TimesformerForVideoClassification(config).double().eval(), torch.randn(3, 2, 3, 32, 32).double()
    for parameter in model.parameters():  # tokens and positions start at zero
        nn.init.normal_(parameter, std=0.3)
    for method in ("rap", "lrp-epsilon", "gradient"):
        explainer = relprop.Explainer(model, x[:2], method)
        found = explainer(x, 1)
        y = model(x.requires_grad_()).logits
        torch.testing.assert_close(found.logits, y.detach(), rtol=1e-10, atol=1e-10)
        if method == "gradient":
            torch.testing.assert_close(found.relevance, torch.autograd.grad(y[:, 1].sum(), x)[0], rtol=1e-9, atol=1e-12)
        else:
            torch.testing.assert_close(found.relevance.flatten(1).sum(1) + found.absorbed, y[:, 1].detach(), rtol=1e-9, atol=1e-9)
        alone = torch.cat([explainer(one[None].detach(), 1).relevance for one in x])
        torch.testing.assert_close(alone, found.relevance, rtol=1e-9, atol=1e-12)
