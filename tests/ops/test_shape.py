"""Ops that move elements: relevance goes back to the element that every output came from."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.rules.reference import check_winner

INDEX = torch.tensor([2, 0, 2])


def sliced(x):
    y = torch.zeros_like(x)
    y[:, 1:] = x[:, :-1]
    return y


def written_by_mask(x):
    y, mask = x.clone(), torch.tensor([True, False, True])
    y[:, mask] = x[:, mask].flip(2)
    return y


def constant_slice(x):
    y = x.clone()
    y[:, ::2] = torch.tensor([[0.5], [-0.5]]).double()
    return y


def written(x):
    y = x.clone()
    y[:, :, 0] = x[:, :, 1]
    return y


def written_by_index(x):
    y = x.clone()
    y[:, torch.tensor([0, 2])] = x[:, 1:2]
    return y


MOVES = {
    "view": (lambda x: x.view(x.shape[0], 6), (2, 3)),
    "reshape": (lambda x: x.reshape(-1, 3, 2), (2, 3)),
    "flatten": (nn.Flatten(), (2, 3)),
    "unflatten": (nn.Unflatten(1, (2, 3)), (6,)),
    "squeeze": (lambda x: x.squeeze(1).unsqueeze(-1), (1, 3)),
    "index_put": (lambda x: x.index_put((torch.arange(x.shape[0]), torch.tensor(0)), torch.ones(2).to(x)), (3, 2)),
    "write by index": (written_by_index, (3, 2)),
    "select_scatter": (lambda x: x.select_scatter(x[:, 0] * 1.0, 1, 2), (3, 2)),
    "permute": (lambda x: x.permute(0, 3, 1, 2), (2, 2, 3)),
    "permute with negative dims": (lambda x: x.permute(0, -1, -3, -2), (2, 2, 3)),
    "transpose": (lambda x: x.transpose(-1, 1), (2, 2, 3)),
    "mT": (lambda x: x.mT, (2, 3)),
    "swapaxes": (lambda x: x.swapaxes(1, 2), (2, 3)),
    "movedim": (lambda x: x.movedim(-1, 1), (2, 2, 3)),
    "t of a product": (lambda x: x.t().t(), (3,)),
    "expand": (lambda x: x.unsqueeze(1).expand(-1, 3, -1, -1), (2, 2)),
    "expand_as": (lambda x: x[:, :1].expand_as(x), (3, 2)),
    "broadcast_to": (lambda x: torch.broadcast_to(x.unsqueeze(1), (x.shape[0], 2, 2, 3)), (2, 3)),
    "repeat": (lambda x: x.repeat(1, 2, 3), (2, 3)),
    "repeat with a new dim": (
        lambda x: x.repeat(1, 1, 2, 1).reshape(-1, 12) if x.dim() == 4 else x.unsqueeze(1).repeat(1, 2, 1, 1),
        (2, 3),
    ),
    "tile": (lambda x: x.tile((1, 2)), (2, 3)),
    "repeat_interleave": (lambda x: x.repeat_interleave(2, dim=1), (2, 3)),
    "repeat_interleave, negative dim": (lambda x: torch.repeat_interleave(x, 3, dim=-1), (2, 2)),
    "repeat_interleave, each its own times": (
        lambda x: torch.repeat_interleave(x, torch.tensor([2, 0, 1]), 1, output_size=3),
        (3, 2),
    ),
    "slice": (lambda x: x[:, 1:3], (4, 2)),
    "negative slice": (lambda x: x[..., -3:-1], (2, 4)),
    "stepped slice": (lambda x: x[:, 1::2, ::3], (4, 5)),
    "open slice": (lambda x: x[:, :-1], (3, 2)),
    "slice past the end": (lambda x: x[:, 1:100], (3, 2)),
    "select": (lambda x: x[:, 0], (3, 2)),
    "select from the end": (lambda x: x.select(2, -1), (3, 2)),
    "narrow": (lambda x: x.narrow(1, 1, 2), (4, 2)),
    "index": (lambda x: x[:, INDEX], (3, 2)),
    "index of two dims": (lambda x: x[:, INDEX, torch.tensor([1, 1, 0])], (3, 2)),
    "index negative": (lambda x: x[:, torch.tensor([-1, 0])], (3, 2)),
    "index of the batch": (lambda x: x[torch.arange(x.shape[0]), 1], (3, 2)),
    "index of separate dims": (lambda x: x[:, INDEX, :, torch.tensor([1, 1, 0])].movedim(0, 1), (3, 2, 2)),
    "index with a list": (lambda x: x[:, [0, 2]], (3, 2)),
    "index_select": (lambda x: x.index_select(1, INDEX), (3, 2)),
    "gather": (lambda x: x.gather(2, INDEX.expand(x.shape[0], 2, 3)), (2, 3)),
    "gather of a part": (lambda x: x.gather(1, INDEX[:2].reshape(1, 2, 1).expand(x.shape[0], 2, 1)), (3, 2)),
    "take_along_dim": (lambda x: torch.take_along_dim(x, INDEX.reshape(1, 3, 1), 1), (3, 2)),
    "roll": (lambda x: x.roll(1, 1), (3, 2)),
    "roll two dims": (lambda x: torch.roll(x, (-1, 2), (1, 2)), (3, 4)),
    "flip": (lambda x: x.flip(1, -1), (3, 2)),
    "fliplr": (torch.fliplr, (3, 2)),
    "rot90": (lambda x: torch.rot90(x, 1, (1, 2)), (2, 3)),
    "stack": (lambda x: torch.stack([x[:, 0], x[:, 1]], 2), (2, 3)),
    "stack of one value twice": (lambda x: torch.stack([x, x], -1), (2, 3)),
    "cat": (lambda x: torch.cat([x[:, 1:], x], 1), (3, 2)),
    "cat along a negative dim": (lambda x: torch.cat((x, x.flip(-1)), -1), (3, 2)),
    "cat with an empty tensor": (lambda x: torch.cat([torch.empty(0).to(x), x], 1), (3,)),
    "hstack": (lambda x: torch.hstack([x, x]), (3, 2)),
    "split": (lambda x: torch.cat(x.split(2, 1)[::-1], 1), (5, 2)),
    "split by sizes, one part unused": (lambda x: x.split([1, 2, 2], dim=-1)[1], (2, 5)),
    "chunk": (lambda x: x.chunk(2, dim=1)[1], (4, 2)),
    "chunk with a rest": (lambda x: torch.cat(x.chunk(3, dim=-1)[1:], -1), (2, 5)),
    "tensor_split": (lambda x: torch.tensor_split(x, 3, dim=1)[0], (4, 2)),
    "tensor_split at positions": (lambda x: torch.cat(torch.tensor_split(x, [1, 3], dim=1)[::2], 1), (4, 2)),
    "unbind": (lambda x: x.unbind(1)[2], (3, 2)),
    "unbind q, k, v": (lambda x: torch.cat(x.reshape(-1, 2, 3, 2).permute(2, 0, 1, 3).unbind(0), -1), (2, 6)),
    "pixel shuffle": (nn.PixelShuffle(2), (4, 2, 3)),
    "pixel unshuffle": (nn.PixelUnshuffle(2), (1, 4, 2)),
    "channel shuffle": (nn.ChannelShuffle(2), (4, 2, 2)),
    "F.unfold": (lambda x: F.unfold(x, 2), (2, 3, 3)),
    "Tensor.unfold": (lambda x: x.unfold(1, 2, 1), (4, 2)),
    "diagonal": (lambda x: x.diagonal(dim1=1, dim2=2), (3, 3)),
    "diag_embed": (torch.diag_embed, (3,)),
    "einsum that takes the diagonal": (lambda x: torch.einsum("bii->bi", x), (3, 3)),
    "einsum that permutes": (lambda x: torch.einsum("nhwc->nchw", x), (2, 2, 3)),
    "tril": (lambda x: x.tril(), (3, 3)),
    "window partition": (
        lambda x: x.reshape(-1, 2, 2, 2, 2, 3).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, 3).reshape(x.shape[0], -1),
        (4, 4, 3),
    ),
    "masked write": (sliced, (3, 2)),
    "overwritten slice": (written, (3, 2)),
    "contiguous clone": (lambda x: x.permute(0, 2, 1).contiguous().clone(), (2, 3)),
    "where with a constant mask": (lambda x: torch.where(torch.tensor([True, False]), x, 7.0), (3, 2)),
    "scatter": (
        lambda x: torch.zeros(x.shape[0], 3, 3).to(x).scatter(1, INDEX[:2].reshape(1, 2, 1).expand(x.shape[0], 2, 3), x),
        (2, 3),
    ),
    "atleast_3d": (torch.atleast_3d, (3,)),
    "view_as": (lambda x: x.view_as(torch.empty(x.shape[0], 3, 2)), (2, 3)),
    "a constant mask of channels": (lambda x: x[:, torch.tensor([True, False, True])], (3, 2)),
    "a constant mask of places": (lambda x: x[:, :, torch.ones(3, 3, dtype=torch.bool).triu()], (2, 3, 3)),
    "a constant mask and a slice": (lambda x: x[..., torch.tensor([False, True, True])].flatten(1)[:, 1:], (2, 3)),
    "written where a constant mask says": (written_by_mask, (3, 2)),
    "index_fill": (lambda x: x.index_fill(1, torch.tensor([1]), 0.25), (3, 2)),
    "a constant slice": (constant_slice, (3, 2)),
    "unsafe_chunk": (lambda x: torch.unsafe_chunk(x, 2, 1)[0], (4,)),
}
ABSORBING = {"index_put", "where with a constant mask", "masked write", "index_fill", "a constant slice"}


@pytest.mark.parametrize("name", MOVES)
def test_moves(name):
    op, shape = MOVES[name]
    check_winner(op, shape, absorbs=name in ABSORBING)


PADS = {
    "zeros": (lambda x: F.pad(x, (1, 2)), (2, 3)),
    "zeros 2d": (nn.ZeroPad2d((0, 1, 2, 0)), (1, 2, 2)),
    "a constant": (lambda x: F.pad(x, (1, 0, 0, 1), value=0.7), (2, 2)),
    "cropping": (lambda x: F.pad(x, (-1, 1, 0, -1)), (3, 3)),
    "reflection 1d": (lambda x: F.pad(x, (1, 2), mode="reflect"), (2, 3)),
    "reflection 2d": (nn.ReflectionPad2d((1, 0, 1, 1)), (1, 3, 3)),
    "reflection 3d": (nn.ReflectionPad3d(1), (1, 2, 2, 2)),
    "replication 1d": (nn.ReplicationPad1d(2), (2, 3)),
    "replication 2d": (lambda x: F.pad(x, (1, 1, 2, 0), mode="replicate"), (1, 2, 3)),
    "replication 3d": (nn.ReplicationPad3d((1, 0, 0, 1, 2, 0)), (1, 2, 2, 2)),
    "circular 1d": (lambda x: F.pad(x, (1, 2), mode="circular"), (2, 3)),
    "circular 2d": (nn.CircularPad2d((1, 1, 0, 2)), (1, 3, 2)),
}


@pytest.mark.parametrize("name", PADS)
def test_pads(name):
    op, shape = PADS[name]
    check_winner(op, shape, absorbs=name == "a constant")
