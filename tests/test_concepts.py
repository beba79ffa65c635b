"""Relevance restricted to channels and heads on its way back, the most relevant channels, and reference images."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import relprop
from relprop.concepts import reference_samples, relevant_channels
from relprop.errors import OptionError
from tests.methods.models import Attending, Plain, images, made

EXACT = {"rtol": 1e-9, "atol": 1e-11}


@pytest.mark.parametrize("method", ["lrp-epsilon", "lrp-zplus", "epsilon-plus-flat", "attnlrp"])
@pytest.mark.parametrize("layer", ["features.2", "features.3", "head.1"])
def test_all_channels_apart_add_up_to_all_together(method: str, layer: str) -> None:
    """These rules are linear in the relevance, and what a map leaves out is absorbed."""
    model, x = made(Plain), images(2)
    explainer = relprop.Explainer(model, x, method)
    whole = explainer(x, 1, layers=[layer])
    count = whole.layers[layer].shape[1]
    parts = [explainer(x, 1, concepts={layer: [c]}) for c in range(count)]
    torch.testing.assert_close(sum(p.relevance for p in parts), whole.relevance, **EXACT)
    for part in parts:
        torch.testing.assert_close(part.relevance.flatten(1).sum(1) + part.absorbed, whole.logits[:, 1], **EXACT)


def test_a_channel_by_hand() -> None:
    """ε = 0 on a ReLU network without biases: input times gradient through one channel alone."""
    model, x = made(Plain, bias=False), images(2)
    found = relprop.explain(
        model, x, 3, method="lrp-epsilon", epsilon=0.0, concepts={"features.3": [5, 7]}, layers=["features.3"]
    )
    inputs = x.clone().requires_grad_()
    values = model.features[:4](inputs)
    mask = torch.zeros(12, 1, 1).double()
    mask[[5, 7]] = 1
    alone = values * mask + (values * (1 - mask)).detach()
    (gradient,) = torch.autograd.grad(model.head(F.relu(alone))[:, 3].sum(), inputs)
    torch.testing.assert_close(found.relevance, x * gradient, rtol=1e-7, atol=1e-9)
    assert bool((found.layers["features.3"].flatten(2).abs().sum((0, 2)) > 0).nonzero().flatten().tolist() == [5, 7])


def norm(layer: nn.LayerNorm, h: Tensor) -> Tensor:
    deviation = (h.var(-1, keepdim=True, correction=0) + layer.eps).sqrt().detach()
    return (h - h.mean(-1, keepdim=True)) / deviation * layer.weight + layer.bias


def test_heads_and_tokens_by_hand() -> None:
    """CP-LRP is input times the gradient with weights and variances constant; heads other than the chosen one are cut off."""
    model, x = made(Attending), images(2)
    explainer = relprop.Explainer(model, x, "cp-lrp")
    heads = [explainer(x, 2, concepts={":heads": [h]}) for h in (0, 1)]
    both = explainer(x, 2, concepts={":heads": [0, 1]})
    torch.testing.assert_close(both.relevance, explainer(x, 2).relevance, **EXACT)
    # at the only token that is read, the stream beside the attention is in both maps: input times gradient with the attention cut off
    inputs = x.clone().requires_grad_()
    h = model.patches(inputs).flatten(2).mT
    h = torch.cat([model.token.expand(2, -1, -1), h], 1)
    q, k, v = model.qkv(norm(model.norm1, h)).unflatten(-1, (3, 2, 6)).permute(2, 0, 3, 1, 4)
    weights = (q @ k.mT / 6**0.5).softmax(-1).detach()
    result = weights @ v
    result = torch.cat([result[:, :1], result[:, 1:].detach()], 1)
    h = h + model.proj(result.transpose(1, 2).flatten(2))
    inner = model.mlp[0](norm(model.norm2, h))
    h = h + model.mlp[2](inner * (F.gelu(inner) / inner).detach())
    (gradient,) = torch.autograd.grad(model.head(norm(model.norm3, h)[:, 0])[:, 2].sum(), inputs)
    torch.testing.assert_close(heads[0].relevance, x * gradient, rtol=1e-6, atol=1e-9)
    assert not torch.allclose(heads[0].relevance, heads[1].relevance, rtol=0.1)
    by_channel = explainer(x, 2, concepts={"norm3": [0, 4]}, layers=["norm3"])
    assert bool((by_channel.layers["norm3"].abs().sum((0, 1)) > 0).nonzero().flatten().tolist() == [0, 4])


def test_several_targets_and_averages_take_concepts() -> None:
    model, x = made(Plain), images(2)
    explainer = relprop.Explainer(model, x, "lrp-epsilon")
    several = explainer(x, torch.tensor([[0, 3], [4, 1]]), concepts={"features.3": [2]})
    torch.testing.assert_close(
        several.relevance[:, 1], explainer(x, torch.tensor([3, 1]), concepts={"features.3": [2]}).relevance
    )
    averaged = relprop.explain(model, x, 1, method="lrp-epsilon", average={"flips": True}, concepts={"features.3": [2]})
    mirrored = explainer(x.flip(-1), 1, concepts={"features.3": [2]}).relevance.flip(-1)
    torch.testing.assert_close(averaged.relevance, (explainer(x, 1, concepts={"features.3": [2]}).relevance + mirrored) / 2)


@pytest.mark.parametrize(
    ("concepts", "message"),
    [
        ({"features.33": [1]}, "Did you mean 'features.3'"),
        ({"features.3": [12]}, "has no index 12; there are 0 to 11"),
        ({"features.3": []}, "at least one"),
        ({"features.3": 4}, "must be a list"),
        ({"features:heads": [0]}, "it holds 0"),
        ([("features.3", [1])], "must be a dict"),
    ],
)
def test_wrong_concepts_say_why(concepts: object, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        relprop.explain(made(Plain), images(1), 1, method="lrp-epsilon", concepts=concepts)  # pyright: ignore[reportArgumentType]


def test_methods_without_relevance_inside_refuse() -> None:
    with pytest.raises(OptionError, match="leave concepts out"):
        relprop.explain(made(Plain), images(1), 1, method="gradient", concepts={"features.3": [1]})


class ChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.mix, self.head = nn.Conv2d(3, 6, 4, 4), nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.mix(self.conv(x).permute(0, 2, 3, 1))).mean((1, 2)))


def test_channels_may_come_last() -> None:
    model, x = ChannelsLast().double(), images(2)
    found = relprop.explain(model, x, 1, method="lrp-epsilon", concepts={"mix": [2]}, layers=["mix"])
    assert (found.layers["mix"].abs().sum((0, 1, 2)) > 0).nonzero().flatten().tolist() == [2]


def test_the_most_relevant_channels_and_their_reference_images() -> None:
    model, x = made(Plain), images(7)
    explainer = relprop.Explainer(model, x, "lrp-epsilon")
    sums = explainer(x, 2, layers=["features.3"]).layers["features.3"].sum((2, 3))
    listed = relevant_channels(explainer, x, "features.3", 2, count=3)
    for row, expected in zip(listed, sums, strict=True):
        best = sorted(range(12), key=lambda c, e=expected: -float(e[c]))[:3]
        assert [channel for channel, _ in row] == best
        assert [value for _, value in row] == pytest.approx([float(expected[c]) for c in best])
    found = reference_samples(explainer, x.split(3), "features.3", [4, 9], 2, count=2)
    for channel in (4, 9):
        best = sorted(range(7), key=lambda i, c=channel: -float(sums[i, c]))[:2]
        assert [reference.index for reference in found[channel]] == best
        expected = explainer(x[best], 2, concepts={"features.3": [channel]}).heatmap()
        torch.testing.assert_close(torch.stack([r.relevance_map for r in found[channel]]), expected)
    with pytest.raises(OptionError, match="has no channel 12"):
        reference_samples(explainer, x.split(3), "features.3", [12])
    with pytest.raises(OptionError, match="at least 1"):
        relevant_channels(explainer, x, "features.3", count=0)
