"""Tables: embeddings of several columns of one integer input, beside numbers, against the relevance of the embeddings themselves."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import relprop
from relprop.viz import plot_features
from tests.figures import texts_of

SIZES, WIDTHS = (5, 7, 3), (4, 2, 3)


class Table(nn.Module):
    """An embedding for each category, beside numbers; ``reads`` takes a column."""

    def __init__(self, reads: Callable[[Tensor], list[Tensor]]) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(nn.Embedding(size, width) for size, width in zip(SIZES, WIDTHS, strict=True))
        self.reads = reads
        self.body = nn.Sequential(nn.Linear(sum(WIDTHS) + 2, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, categories: Tensor, numbers: Tensor) -> Tensor:
        found = [embedding(column) for embedding, column in zip(self.embeddings, self.reads(categories), strict=True)]
        return self.body(torch.cat([*found, numbers], 1))


WAYS: dict[str, Callable[[Tensor], list[Tensor]]] = {
    "select": lambda x: [x[:, i] for i in range(3)],
    "unbind": lambda x: list(x.unbind(1)),
    "slice": lambda x: [x[:, i : i + 1].squeeze(1) for i in range(3)],
    "cast": lambda x: [x[:, i].int().long() for i in range(3)],
}


def given() -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(0)
    columns = [torch.randint(0, size, (4,), generator=source) for size in SIZES]
    return torch.stack(columns, 1), torch.randn(4, 2, generator=source, dtype=torch.float64)


def table(way: str = "select") -> Table:
    torch.manual_seed(0)
    return Table(WAYS[way]).double().eval()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", ["lrp-epsilon", "lrp-zplus", "attnlrp"])
def test_every_column_has_the_relevance_of_its_embedding(way: str, method: str):
    model, (categories, numbers) = table(way), given()
    explanation = relprop.explain(model, (categories, numbers), 1, method=method)
    embedded = torch.cat([e(categories[:, i]) for i, e in enumerate(model.embeddings)], 1).detach()
    expected = relprop.explain(model.body, torch.cat([embedded, numbers], 1), 1, method=method).relevance
    *columns, of_numbers = expected.split([*WIDTHS, 2], 1)
    by_column, beside = explanation.relevance
    torch.testing.assert_close(by_column, torch.stack([column.sum(1) for column in columns], 1))
    torch.testing.assert_close(beside, of_numbers)
    total = by_column.sum(1) + beside.sum(1) + explanation.absorbed
    if method != "lrp-zplus":
        torch.testing.assert_close(total, model(categories, numbers)[:, 1])
    assert any("summed over its features" in note for note in explanation.notes)


def test_rap_conserves():
    model, given_ = table(), given()
    explanation = relprop.explain(model, given_, 1, method="rap")
    total = sum(part.sum(1) for part in explanation.relevance) + explanation.absorbed
    torch.testing.assert_close(total, model(*given_)[:, 1])
    assert explanation.relevance[0].abs().min() > 0


def test_several_classes_and_other_batches():
    model, (categories, numbers) = table(), given()
    explainer = relprop.Explainer(model, (categories, numbers), "lrp-epsilon")
    both = explainer((categories[:3], numbers[:3]), [[0, 2]] * 3).relevance[0]
    assert both.shape == (3, 2, 3)
    for place, target in enumerate((0, 2)):
        torch.testing.assert_close(both[:, place], explainer((categories[:3], numbers[:3]), target).relevance[0])


def test_bars_show_the_columns_of_all_inputs():
    explanation = relprop.explain(table(), given(), 1, method="lrp-epsilon")
    found = texts_of(plot_features(explanation, ["color", "size", "shape", "weight", "price"], sample=1))
    for column, name in enumerate(("color", "size", "shape")):
        assert f"{name} = {int(given()[0][1, column])}" in found
    assert any(text.startswith("price = ") for text in found)


class Wide(nn.Module):
    """The same numbers looked up twice, and numbers among the categories."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.deep = nn.Embedding(9, 2), nn.Embedding(9, 4)
        self.body = nn.Sequential(nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, x: Tensor) -> Tensor:
        deep, number = self.deep(x[:, :2]).flatten(1), x[:, 2:].double() / 4
        return self.body(torch.cat([deep, number], 1)) + self.wide(x[:, :2]).sum(1)


def test_what_is_read_twice_adds_up_and_numbers_have_their_place():
    torch.manual_seed(0)
    model, x = Wide().double().eval(), torch.tensor([[1, 8, 3], [4, 4, 2]])
    explanation = relprop.explain(model, x, 1, method="lrp-epsilon", epsilon=0.0)
    deep = model.deep(x[:, :2]).flatten(1).detach()
    inner = relprop.explain(
        model.body, torch.cat([deep, x[:, 2:].double() / 4], 1), 1, method="lrp-epsilon", epsilon=0.0
    ).relevance
    expected = torch.cat([inner[:, :8].unflatten(1, (2, 4)).sum(2) + model.wide(x[:, :2])[:, :, 1], inner[:, 8:]], 1)
    torch.testing.assert_close(explanation.relevance, expected.detach())


class Counted(nn.Module):
    """Positions that the model counts from token numbers, as RoBERTa does."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places, self.head = nn.Embedding(20, 4), nn.Embedding(9, 4), nn.Linear(4, 2)

    def forward(self, ids: Tensor) -> Tensor:
        places = torch.cumsum(ids.ne(1).long(), 1)
        return self.head((self.words(ids) + self.places(places)).mean(1))


def test_counted_positions_stay_constants():
    torch.manual_seed(0)
    explanation = relprop.explain(Counted().double().eval(), torch.randint(2, 20, (2, 5)), 1, method="lrp-epsilon")
    assert explanation.relevance.shape == (2, 5, 4)
    assert any("'places' count as constants" in note for note in explanation.notes)
    assert explanation.absorbed.abs().min() > 0
