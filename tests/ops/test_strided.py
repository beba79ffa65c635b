"""Views by strides: their elements, and their relevance as by the chunks that ``unfold`` makes."""

import pytest
import torch
from torch import Tensor, nn

import relprop
from relprop.errors import UnsupportedOpError
from relprop.ops.strided import as_strided, find_steps

X = torch.randn(3, 4, 8, 5, generator=torch.Generator().manual_seed(0))
VIEWS = {
    "overlapping chunks": (X, (3, 7, 8, 5), (160, 20, 5, 1)),
    "of a permuted tensor": (torch.randn(4, 8, 3, 5).permute(2, 0, 1, 3), (3, 7, 8, 5), (5, 60, 15, 1)),
    "a sliding window": (torch.randn(6), (4, 3), (1, 1)),
    "repeated": (torch.randn(6), (3, 6), (0, 1)),
    "transposed": (torch.randn(3, 2), (2, 3), (1, 2)),
    "the same": (torch.randn(3, 2), (3, 2), (2, 1)),
    "one number": (torch.randn(1), (), ()),
    "from a later place": (torch.randn(6), (4,), (1,), 2),
    "of a slice": (torch.randn(10)[2:8], (3, 2), (1, 2), 3),
}


@pytest.mark.parametrize("name", VIEWS)
def test_elements_are_those_of_the_view(name: str):
    x, *view = VIEWS[name]
    torch.testing.assert_close(as_strided(x, *view), x.as_strided(*view))


def test_memory_that_is_not_the_tensors_is_not_read():
    assert find_steps(torch.randn(6)[1:4], (4,), (1,)) is None
    assert find_steps(torch.randn(3, 4)[:, :3], (3, 4), (4, 1)) is None
    with pytest.raises(ValueError, match="not in the tensor"):
        as_strided(torch.randn(6)[1:4], (4,), (1,))


def test_whole_dimensions_stay_dimensions():
    steps = find_steps(X, (3, 7, 8, 5), (160, 20, 5, 1))
    assert steps is not None
    assert steps.kept == ((0, 0), (3, 3))


class Chunked(nn.Module):
    """Overlapping chunks of a sequence, by strides or by ``unfold``."""

    def __init__(self, *, strided: bool) -> None:
        super().__init__()
        self.strided, self.inner, self.outer = strided, nn.Linear(3, 3), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.inner(x).relu()
        batch, _, width = h.shape
        if self.strided:
            a, b, c = h.stride()
            chunks = h.as_strided((batch, 3, 4, width), (a, 2 * b, b, c))
        else:
            chunks = h.unfold(1, 4, 2).transpose(2, 3)
        return self.outer(chunks.flatten(2)).amax(1)


@pytest.mark.parametrize("method", ["lrp-epsilon", "rap", "gradient"])
def test_chunks_by_strides_are_explained_as_those_by_unfold(method: str):
    torch.manual_seed(0)
    models = [Chunked(strided=strided).double().eval() for strided in (True, False)]
    models[1].load_state_dict(models[0].state_dict())
    x = torch.randn(2, 8, 3, dtype=torch.double)
    explainers = [relprop.Explainer(model, x, method) for model in models]
    assert explainers[0].captured.dynamic
    for given in (x, torch.randn(5, 8, 3, dtype=torch.double)):
        found, expected = (explainer(given, 1) for explainer in explainers)
        torch.testing.assert_close(found.logits, models[0](given).detach())
        torch.testing.assert_close(found.relevance, expected.relevance)


class Writing(nn.Module):
    def __init__(self, *, through: bool) -> None:
        super().__init__()
        self.through, self.head = through, nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = x * 2
        windows = h.as_strided((len(x), 5, 2), (6, 1, 1))
        if self.through:
            windows.mul_(3)
        else:
            h.mul_(3)
        return self.head(h) + windows.sum((1, 2)).unsqueeze(1)


def test_writes_to_the_whole_are_seen_through_strides():
    model, x = Writing(through=False).double().eval(), torch.randn(2, 6, dtype=torch.double)
    torch.testing.assert_close(relprop.Explainer(model, x, "lrp-epsilon").logits(x), model(x).detach())


def test_writes_through_strides_are_refused():
    with pytest.raises(UnsupportedOpError, match="through the view that aten::as_strided returns"):
        relprop.Explainer(Writing(through=True).eval(), torch.randn(2, 6))
