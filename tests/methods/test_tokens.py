"""Extra tokens anywhere in the sequence: attention does not care where tokens stand, so no map may either."""

import functools

import pytest
import torch
from torch import Tensor, nn

import relprop
from relprop.explainer import Captured
from tests.methods.models import Plain, images, made

WAYS = ("before", "behind", "around", "between", "written")
METHODS = [
    "attention-rollout",
    "transformer-attribution",
    "grad-cam",
    "grad-cam-plus-plus",
    "layer-cam",
    "score-cam",
    "ablation-cam",
]


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(16), nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x: Tensor, seen: list[Tensor]) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
        weights = (q @ k.mT / 8**0.5).softmax(-1)
        seen.append(weights)
        return x + self.out((weights @ v).transpose(1, 2).flatten(2))


class Transformer(nn.Module):
    """Sixteen patches and four extra tokens, the first of which is read together with the patches."""

    def __init__(self, way: str = "before", blocks: int = 3) -> None:
        super().__init__()
        self.way, self.patches = way, nn.Conv2d(3, 16, 8, 8)
        self.extra, self.head = nn.Parameter(torch.randn(1, 4, 16)), nn.Linear(16, 5)
        self.blocks = nn.ModuleList(Block() for _ in range(blocks))

    def places(self) -> list[int]:
        """Where the extra tokens stand."""
        ways = {"before": [0, 1, 2, 3], "behind": [16, 17, 18, 19], "around": [0, 1, 18, 19], "between": [0, 5, 6, 19]}
        return ways.get(self.way, [16, 17, 18, 19])

    def joined(self, extra: Tensor, patches: Tensor) -> Tensor:
        """Put the tokens together."""
        if self.way == "written":
            tokens = torch.zeros(len(patches), 20, 16, dtype=patches.dtype)
            tokens[:, 16:] = extra
            tokens[:, :16] = patches
            return tokens
        if self.way == "around":
            return torch.cat([extra[:, :2], patches, extra[:, 2:]], 1)
        if self.way == "between":
            tokens = torch.cat([extra[:, :1], patches], 1)
            return torch.cat([tokens[:, :5], extra[:, 1:3], tokens[:, 5:], extra[:, 3:]], 1)
        return torch.cat([extra, patches] if self.way == "before" else [patches, extra], 1)

    def forward(self, x: Tensor, seen: list[Tensor] | None = None) -> Tensor:
        patches = self.patches(x).flatten(2).mT
        tokens = self.joined(self.extra.expand(len(x), -1, -1), patches)
        for block in self.blocks:
            tokens = block(tokens, [] if seen is None else seen)
        read = [place for place in range(20) if place not in self.places()[1:]]
        return self.head(tokens[:, read].mean(1))


def built(way: str) -> nn.Module:
    return made(lambda: Transformer(way))


@functools.cache
def captured(way: str) -> Captured:
    return relprop.capture(built(way) if way in WAYS else made(Summary), images(2, size=32))


@pytest.mark.parametrize("method", METHODS)
def test_maps_do_not_depend_on_where_extra_tokens_stand(method: str) -> None:
    x = images(2, size=32)
    found = {way: captured(way).explainer(method)(x, 1) for way in WAYS}
    for way, explanation in found.items():
        torch.testing.assert_close(explanation.logits, found["before"].logits)
        torch.testing.assert_close(explanation.relevance, found["before"].relevance, msg=way)
        assert not any("does not tell" in note for note in explanation.notes)


@pytest.mark.parametrize("way", WAYS)
def test_rollout_is_that_by_hand(way: str) -> None:
    model, x, seen = built(way), images(2, size=32), list[Tensor]()
    model(x, seen)
    joined = eye = torch.eye(20, dtype=x.dtype)
    for weights in seen:
        joined = ((weights.mean(1) + eye) / 2) @ joined
    extra = model.places()
    patches = [place for place in range(20) if place not in extra]
    expected = joined[:, [*patches, extra[0]]].mean(1)[:, patches].unflatten(1, (4, 4))
    found = captured(way).explainer("attention-rollout")(x).heatmap()
    wanted = torch.nn.functional.interpolate(expected[:, None], (32, 32), mode="bilinear")[:, 0]
    torch.testing.assert_close(found, wanted)


class Summary(Transformer):
    """The extra tokens depend on the image too, so nothing tells them from patches."""

    def joined(self, extra: Tensor, patches: Tensor) -> Tensor:
        return torch.cat([extra + patches.mean(1, keepdim=True), patches], 1)


@pytest.mark.parametrize("method", METHODS)
def test_a_note_says_where_patches_cannot_be_told(method: str) -> None:
    notes = captured("summary").explainer(method).plan.notes
    assert any("which of its 20 tokens are patches: the first 4 are taken for extra tokens" in note for note in notes)


def test_a_convolutional_network_has_no_tokens_to_tell() -> None:
    notes = relprop.explain(made(Plain), images(1), 1, method="grad-cam").notes
    assert not any("tokens" in note for note in notes)
