"""Sums of values that are moved to the same place, against explicit contribution matrices."""

import pytest
import torch
from torch import nn

import relprop
from relprop.errors import UnsupportedOpError
from tests.rules.reference import Lambda, check_affine

aten = torch.ops.aten
ROWS = torch.tensor([0, 2, 2])
MASK = torch.tensor([[True, False, True], [False, True, True]])


def zeros(x, *shape):
    return torch.zeros(len(x), *shape).to(x)


def put(start, indices, values):
    return aten.index_put(start, indices, values, True)


def scattered(x):
    return torch.zeros_like(x).scatter_add(2, ROWS.expand(len(x), 2, 3), x)


def written(x):
    y = zeros(x, 2, 2)
    y.index_put_((torch.arange(len(x))[:, None], torch.tensor([1, 1, 0])), x, accumulate=True)
    return y


SUMS = {
    "scatter_add": (scattered, (2, 3)),
    "index_add": (lambda x: torch.zeros_like(x[:, :2]).index_add(1, torch.tensor([0, 1, 1]), x), (3, 2)),
    "index_add that subtracts": (lambda x: torch.zeros_like(x).index_add(1, torch.tensor([0, 0]), x, alpha=-2), (2, 3)),
    "index_put": (lambda x: put(zeros(x, 4, 2), [None, ROWS], x), (3, 2)),
    "negative indices": (lambda x: put(zeros(x, 4, 2), [None, torch.tensor([-1, 3, -4])], x), (3, 2)),
    "a dimension left out": (lambda x: put(zeros(x, 2, 4), [None, None, ROWS], x), (2, 3)),
    "two dimensions": (lambda x: put(zeros(x, 3, 2), [None, ROWS, torch.tensor([1, 0, 0])], x), (3,)),
    "two dimensions apart": (
        lambda x: put(zeros(x, 3, 2, 2), [None, ROWS, None, torch.tensor([1, 0, 0])], x.movedim(1, 0)),
        (3, 2),
    ),
    "a row for several places": (lambda x: put(zeros(x, 4, 5), [None, ROWS], x), (1, 5)),
    "a value for several places": (lambda x: put(zeros(x, 4, 2), [None, ROWS], x), (3, 1)),
    "a constant mask": (lambda x: put(zeros(x, 3, 2), [None, MASK[0]], x), (2, 2)),
    "a constant mask of two dimensions": (lambda x: put(zeros(x, 2, 3), [None, MASK], x.flatten(1)), (2, 2)),
    "in place, an index of the batch": (written, (3, 2)),
}


@pytest.mark.parametrize("name", SUMS)
def test_fixed_weights(name):
    op, shape = SUMS[name]
    check_affine(op, shape)


MATRIX = torch.tensor([[1.0, 0, 0], [0, 0, 2], [0, 0, 0], [0, 1, 0]]).double()
"""Which of three rows are added to which of four: rows 0, 3, 1 and 1."""
STARTS = {
    "index_put": lambda y, v: put(y, [None, torch.tensor([0, -1, 1, 1])], torch.cat([v, v[:, 2:]], 1)),
    "index_add": lambda y, v: y.index_add(1, torch.tensor([0, 3, 1, 1]), torch.cat([v, v[:, 2:]], 1)),
    "scatter_add": lambda y, v: y.scatter_add(
        1, torch.tensor([0, 3, 1, 1]).reshape(1, 4, 1).expand(len(y), 4, 2), torch.cat([v, v[:, 2:]], 1)
    ),
}


class Start(nn.Module):
    """Rows to which others are added."""

    def __init__(self, add):
        super().__init__()
        self.add, self.rows, self.values, self.head = Lambda(add), nn.Linear(3, 2), nn.Linear(3, 2), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.add(self.rows(x), self.values(x[:, 1:])).flatten(1))


@pytest.mark.parametrize("name", STARTS)
@pytest.mark.parametrize("method", ["rap", "lrp-epsilon", "lrp-zplus", "attnlrp", "gradient"])
def test_what_is_added_to_is_a_summand(name, method):
    """As in ``y + M v`` with the matrix of ones and zeros."""
    found = []
    x = torch.randn(3, 4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for add in (STARTS[name], lambda y, v: y + MATRIX @ v):
        torch.manual_seed(0)
        found.append(relprop.explain(Start(add).double().eval(), x, 1, method=method))
    torch.testing.assert_close(found[0].logits, found[1].logits)
    torch.testing.assert_close(found[0].relevance, found[1].relevance, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found[0].absorbed, found[1].absorbed, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("values", [torch.ones(()), torch.randn(2), torch.randn(3, 2)])
def test_constants_that_are_added_absorb_as_in_any_sum(values):
    values, found = values.double(), []
    x = torch.randn(3, 4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    constant = put(torch.zeros(4, 2).double(), [ROWS], values)
    for add in (lambda y, _: put(y, [None, ROWS], values), lambda y, _: y + constant):
        torch.manual_seed(0)
        found.append(relprop.explain(Start(add).double().eval(), x, 1, method="lrp-epsilon"))
    torch.testing.assert_close(found[0].relevance, found[1].relevance, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found[0].absorbed, found[1].absorbed, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", STARTS)
@pytest.mark.parametrize("method", ["lrp-epsilon", "gradient"])
def test_complex_sums_are_sums_of_both_parts(name, method):
    def of_complex(y, v):
        return torch.view_as_real(
            STARTS[name](*(torch.view_as_complex(z.unflatten(-1, (1, 2))).expand(-1, -1, 2) for z in (y, v)))
        )

    def of_real(y, v):
        return torch.stack(
            [STARTS[name](y[..., i : i + 1].expand(-1, -1, 2), v[..., i : i + 1].expand(-1, -1, 2)) for i in (0, 1)], -1
        )

    found = []
    x = torch.randn(3, 4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for add in (of_complex, of_real):
        torch.manual_seed(0)
        model = Start(lambda y, v, add=add: add(y, v).sum(2)).double().eval()
        found.append(relprop.explain(model, x, 1, method=method))
    torch.testing.assert_close(found[0].logits, found[1].logits)
    torch.testing.assert_close(found[0].relevance, found[1].relevance, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("by", [1, -1])
def test_sums_over_samples_are_refused(by):
    model = Start(lambda y, v: put(y, [(torch.arange(len(y)) + by) % len(y)], y.clone())).double().eval()
    with pytest.raises(UnsupportedOpError, match="mix the samples"):
        relprop.explain(model, torch.randn(3, 4, 3).double(), 1, method="lrp-epsilon")
