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


class Tokenizer(nn.Module):
    """The tokens of an FT-Transformer: one table for all categories, reached by offsets, a bias for each; and one weight for each number."""

    def __init__(self, width: int, *, numbers: int = 2) -> None:
        super().__init__()
        self.register_buffer("offsets", torch.tensor([0, *SIZES[:-1]]).cumsum(0))
        self.table, self.bias = nn.Embedding(sum(SIZES), width), nn.Parameter(torch.randn(len(SIZES), width))
        self.weight, self.shift = nn.Parameter(torch.randn(numbers, width)), nn.Parameter(torch.randn(numbers, width))

    def forward(self, categories: Tensor, numbers: Tensor) -> Tensor:
        of_categories = self.table(categories + self.offsets[None]) + self.bias
        return torch.cat([numbers[..., None] * self.weight + self.shift, of_categories], 1)


class Transformer(nn.Module):
    """A token for each column and one for the class, attention over them, and a wide part that looks the same indices up again."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.tokens, self.first = Tokenizer(width), nn.Parameter(torch.randn(1, 1, width))
        self.attention, self.norm = nn.MultiheadAttention(width, 2, batch_first=True), nn.LayerNorm(width)
        self.head, self.wide = nn.Linear(width, 3), nn.Embedding(sum(SIZES), 3)

    def after(self, tokens: Tensor) -> Tensor:
        x = torch.cat([self.first.expand(len(tokens), -1, -1), tokens], 1)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head(self.norm(x[:, 0]))

    def forward(self, categories: Tensor, numbers: Tensor) -> Tensor:
        wide = self.wide(categories + self.tokens.offsets).sum(1)
        return self.after(self.tokens(categories, numbers)) + wide


class Apart(nn.Module):
    """The same with tables of their own for every column, which are looked up without offsets."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model
        self.deep, self.wide = (self.split(table) for table in (model.tokens.table, model.wide))

    @staticmethod
    def split(table: nn.Embedding) -> nn.ModuleList:
        return nn.ModuleList(nn.Embedding.from_pretrained(rows.clone()) for rows in table.weight.detach().split(SIZES))

    def forward(self, categories: Tensor, numbers: Tensor) -> Tensor:
        tokens = self.model.tokens
        rows, wide = (torch.stack([e(categories[:, i]) for i, e in enumerate(part)], 1) for part in (self.deep, self.wide))
        of_numbers = numbers[..., None] * tokens.weight + tokens.shift
        return self.model.after(torch.cat([of_numbers, rows + tokens.bias], 1)) + wide.sum(1)


@pytest.mark.parametrize("method", ["lrp-epsilon", "lrp-zplus", "rap", "attnlrp", "abslrp"])
def test_computed_indices_carry_the_relevance_of_all_that_they_look_up(method: str):
    torch.manual_seed(0)
    model, given_ = Transformer().double().eval(), given()
    explanation = relprop.explain(model, given_, 1, method=method)
    expected = relprop.explain(Apart(model).eval(), given_, 1, method=method).relevance
    for found, wanted in zip(explanation.relevance, expected, strict=True):
        assert wanted.any()
        torch.testing.assert_close(found, wanted)
    assert any("'wide', 'tokens.table'" in note and "summed over its features" in note for note in explanation.notes)


@pytest.mark.parametrize("model", [table(), Transformer().double().eval()])
def test_gradients_say_that_they_leave_out_what_is_looked_up(model: nn.Module):
    explanation = relprop.explain(model, given(), 1, method="gradient")
    assert not explanation.relevance[0].any()
    (note,) = explanation.notes
    assert note.startswith("Method 'gradient' has no gradient at numbers that are looked up, so 'input_0' has zeros")


COMPUTED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "added": lambda x, offsets: x + offsets,
    "reversed": lambda x, offsets: offsets - (-x),
    "scaled": lambda x, offsets: x * 1 + offsets,
    "hashed": lambda x, offsets: (x * 7 + offsets) % sum(SIZES),
    "clamped": lambda x, offsets: (x + offsets).clamp(0, 13),
    "spread": lambda x, offsets: torch.stack([x[:, 0], x[:, 1], x[:, 2]], 1) + offsets,
}


class Shared(nn.Module):
    """Two tables that read computed indices of the same columns."""

    def __init__(self, compute: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.compute, self.deep, self.wide = compute, nn.Embedding(sum(SIZES), 4), nn.Embedding(sum(SIZES), 2)
        self.register_buffer("offsets", torch.tensor([0, *SIZES[:-1]]).cumsum(0))
        self.body = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, categories: Tensor) -> Tensor:
        places = self.compute(categories, self.offsets)
        return self.body(self.deep(places).flatten(1)) + self.wide(places).sum(1)


@pytest.mark.parametrize("way", COMPUTED)
def test_indices_computed_one_by_one_are_columns(way: str):
    torch.manual_seed(0)
    model, (categories, _) = Shared(COMPUTED[way]).double().eval(), given()
    explanation = relprop.explain(model, categories, 1, method="lrp-epsilon", epsilon=0.0)
    places = model.compute(categories, model.offsets)
    rows = model.deep(places).detach()
    inner = relprop.explain(model.body, rows.flatten(1), 1, method="lrp-epsilon", epsilon=0.0).relevance
    expected = inner.unflatten(1, (3, 4)).sum(2) + model.wide(places)[:, :, 1]
    torch.testing.assert_close(explanation.relevance, expected.detach())


class OneTable(nn.Module):
    """A single table for all columns."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.head = Tokenizer(4), nn.Linear(4, 2)

    def forward(self, categories: Tensor, numbers: Tensor) -> Tensor:
        return self.head(self.tokens(categories, numbers).relu().mean(1))


def test_one_table_for_all_columns_keeps_its_features():
    torch.manual_seed(0)
    explanation = relprop.explain(OneTable().double().eval(), given(), 1, method="lrp-epsilon")
    by_feature, numbers = explanation.relevance
    assert by_feature.shape == (4, 3, 4)
    assert numbers.shape == (4, 2)
