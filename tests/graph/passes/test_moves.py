"""Chains of moves come out shorter and do the same."""

import random

import pytest
import torch
from torch import nn

from relprop.graph.capture import capture, record_model
from relprop.graph.nodes import Size, shape_of
from relprop.graph.passes.moves import is_move, shorten_moves
from relprop.graph.passes.simplify import use_common_forms
from relprop.inputs import as_inputs
from tests.rules.reference import Lambda


def moves(seed):
    """Moves drawn at random: each an op and its arguments; the sizes that they ask for hold for any batch."""
    chance, x = random.Random(seed), torch.empty(97, 4, 6, device="meta")
    drawn = []
    for _ in range(chance.randrange(2, 8)):
        even = [dim for dim, size in enumerate(x.shape) if size % 2 == 0 and size > 2]
        choices = {"transpose": chance.sample(range(x.dim()), 2), "permute": [chance.sample(range(x.dim()), x.dim())]}
        if even:
            choices["unflatten"] = [chance.choice(even), (2, -1)]
        if x.dim() > 3:
            first = chance.randrange(x.dim() - 1)
            choices["flatten"] = [first, first + 1]
        op = chance.choice(list(choices))
        drawn.append((op, choices[op]))
        x = getattr(x, op)(*choices[op])
    return drawn


def chain(seed):
    drawn = moves(seed)

    def forward(x):
        rest = x
        for op, arguments in drawn:
            rest = getattr(rest, op)(*arguments)
        return rest.reshape(x.shape[0], -1)

    return Lambda(forward)


@pytest.mark.parametrize("seed", range(40))
def test_chains_do_the_same(seed):
    model, x = chain(seed), torch.arange(5 * 4 * 6).reshape(5, 4, 6).double()
    captured = record_model(model, as_inputs(x[:2]))
    module = captured.module
    use_common_forms(module)
    before = sum(is_move(node) for node in module.graph.nodes)
    shorten_moves(module)
    module.graph.lint()
    module.recompile()
    assert sum(is_move(node) for node in module.graph.nodes) <= before
    for batch in (x, x[:2]) if captured.dynamic else (x[:1],):
        assert torch.equal(module(batch), model(batch))


class Attention(nn.Module):
    """Torch's own attention, which works on tokens first, whatever it is given."""

    def __init__(self):
        super().__init__()
        self.inner = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return self.inner(x, x, x, need_weights=False)[0]


def test_attention_works_on_samples_first():
    module = capture(Attention(), as_inputs(torch.randn(2, 5, 8))).module
    dense = [n for n in module.graph.nodes if n.target is torch.ops.aten.linear.default]
    assert all(isinstance(shape_of(n)[0], Size) for n in dense)
    assert sum(is_move(n) for n in module.graph.nodes) == 11
