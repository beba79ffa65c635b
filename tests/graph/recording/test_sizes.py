"""Sizes that depend on integer inputs, as of what a mask picks: the recording assumes those of the example, whichever elements are picked."""

import pytest
import torch
from torch import Tensor, nn

import relprop
from relprop.errors import CaptureError, UnsupportedOpError
from relprop.graph.recording.assumptions import AssumptionError

END, WORDS, LENGTH = 1, 20, 6


def ids(*ends: tuple[int, ...], seed: int = 0) -> Tensor:
    """Texts with the mark of an end at the given places."""
    texts = torch.randint(2, WORDS, (len(ends), LENGTH), generator=torch.Generator().manual_seed(seed))
    for text, places in zip(texts, ends, strict=True):
        text[list(places)] = END
    return texts


class Network(nn.Module):
    """Words that are mixed within each text; a head reads what a subclass picks of them."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.mixer, self.head = nn.Embedding(WORDS, 8), nn.Linear(LENGTH, LENGTH), nn.Linear(8, 3)

    def hidden(self, ids: Tensor) -> Tensor:
        h = self.embedding(ids)
        return torch.tanh(h + self.mixer(h.transpose(1, 2)).transpose(1, 2))


class LastEnd(Network):
    """Reads the last end of every text, as BART does."""

    def forward(self, ids: Tensor) -> Tensor:
        h = self.hidden(ids)
        return self.head(h[ids.eq(END), :].view(len(ids), -1, 8)[:, -1, :])


class OneOfEach(LastEnd):
    """Asks first whether all texts have as many ends."""

    def forward(self, ids: Tensor) -> Tensor:
        if torch.unique_consecutive(ids.eq(END).sum(1)).numel() > 1:
            raise ValueError("All texts must have the same number of ends.")
        return super().forward(ids)


class Selected(Network):
    def forward(self, ids: Tensor) -> Tensor:
        picked = self.hidden(ids).masked_select(ids.eq(END).unsqueeze(-1))
        return self.head(picked.view(len(ids), -1, 8).sum(1))


class Written(Network):
    """Writes what a mask picks to the first places of other memory, and back, as Longformer does."""

    def forward(self, ids: Tensor) -> Tensor:
        h, mask = self.hidden(ids), ids.eq(END)
        counts = mask.sum(1)
        first = torch.arange(int(counts.max())) < counts.unsqueeze(-1)
        picked = h.new_zeros(len(ids), int(counts.max()), 8)
        picked[first.nonzero(as_tuple=True)] = h[mask.nonzero(as_tuple=True)]
        h[mask] = torch.tanh(2 * picked).view(-1, 8)
        none = (first == 0).nonzero(as_tuple=True)
        picked[none[0], none[1]] = -1.0
        return self.head(h.mean(1) + picked.sum(1))


class Repeated(Network):
    """Sums the words, each as often as its text says."""

    def forward(self, ids: Tensor) -> Tensor:
        times = ids.eq(END).long() + 1
        repeated = torch.stack([h.repeat_interleave(n, 0).sum(0) for h, n in zip(self.hidden(ids), times, strict=True)])
        return self.head(repeated)


PICKING = (LastEnd, OneOfEach, Selected, Written, Repeated)
ONCE = ids((2,), (5,))
GIVEN = (ids((0,), (3,), (4,), seed=1), ids((5,), seed=2), ids((1, 3), (4, 5), seed=3))


def network(kind: type[Network]) -> Network:
    torch.manual_seed(0)
    return kind().double().eval()


@pytest.mark.parametrize("method", ["lrp-epsilon", "rap"])
@pytest.mark.parametrize("kind", PICKING)
def test_every_text_is_picked_from_at_its_own_places(kind: type[Network], method: str):
    model = network(kind)
    explainer = relprop.Explainer(model, ONCE, method)
    assert explainer.captured.dynamic is (kind is not Repeated)
    for given in GIVEN:
        own = model(given).detach()
        torch.testing.assert_close(explainer.logits(given), own)
        explanation = explainer(given, 1)
        torch.testing.assert_close(explanation.relevance.flatten(1).sum(1) + explanation.absorbed, own[:, 1])
        for i in range(len(given)):
            torch.testing.assert_close(explainer(given[i : i + 1], 1).relevance, explanation.relevance[i : i + 1])


def test_what_is_picked_takes_its_relevance():
    """Without the mixer all relevance is that of the words at the ends, as LRP-ε gives it to the head's input."""

    class Plain(LastEnd):
        def hidden(self, ids: Tensor) -> Tensor:
            return self.embedding(ids)

    model = network(Plain)
    given = ids((1, 3), (4, 5), seed=3)
    relevance = relprop.explain(model, given, 1, method="lrp-epsilon", epsilon=0.0).relevance
    for text, found, last in zip(given, relevance, (3, 5), strict=True):
        expected = torch.zeros(LENGTH, 8, dtype=torch.double)
        expected[last] = model.embedding(text[last]) * model.head.weight[1]
        torch.testing.assert_close(found, expected)


def test_texts_alike_share_one_recording(monkeypatch: pytest.MonkeyPatch):
    explainer, made = relprop.Explainer(network(LastEnd), ONCE, "lrp-epsilon"), []
    captured = relprop.plans.record
    monkeypatch.setattr(relprop.plans, "record", lambda *args: made.append(1) or captured(*args))
    for given in (*GIVEN[:2], ids(*[(i % LENGTH,) for i in range(17)])):
        explainer(given, 1)
    assert not made


def test_texts_with_other_sizes_are_explained_each_alone():
    """The ends of these texts have the sum of two for each, of which the model itself would take one for the other text."""
    model = network(LastEnd)
    uneven = ids((0, 2, 4), (3,))
    explainer = relprop.Explainer(model, ids((1, 2), (3, 4)), "lrp-epsilon")
    explanation = explainer(uneven, 1)
    for i in range(2):
        alone = uneven[i : i + 1]
        torch.testing.assert_close(explanation.logits[i : i + 1], model(alone).detach())
        torch.testing.assert_close(
            explanation.relevance[i : i + 1], relprop.explain(model, alone, 1, method="lrp-epsilon").relevance
        )
    torch.testing.assert_close(explainer.values(uneven, 1), explanation.logits[:, 1])
    torch.testing.assert_close(relprop.explain(model, uneven, 1, method="lrp-epsilon").relevance, explanation.relevance)


@pytest.mark.parametrize("kind", [LastEnd, OneOfEach])
def test_a_text_without_an_end_is_refused(kind: type[Network]):
    """Two ends in one text and none in the other are as many as one in each."""
    explainer = relprop.Explainer(network(kind), ONCE, "lrp-epsilon")
    with pytest.raises(CaptureError, match=r"itself fails on these inputs, in the model itself: \w+Error at .*test_sizes.py"):
        explainer(ids((1, 3), ()), 1)


def test_a_copy_that_does_not_follow_says_which_sizes_it_takes():
    explainer = relprop.Explainer(network(LastEnd), ONCE, "lrp-epsilon").float()
    explainer(GIVEN[0], 1)
    with pytest.raises(
        AssumptionError, match="these give 2 for one of the samples where those that it was captured with gave 1 for each"
    ):
        explainer(ids((1, 3), ()), 1)


def test_other_sizes_of_what_does_not_grow_with_the_batch():
    class Kinds(Network):
        def forward(self, ids: Tensor) -> Tensor:
            return self.head(self.hidden(ids).mean(1)) * len(ids.eq(END).unique())

    explainer = relprop.Explainer(network(Kinds), ONCE, "lrp-epsilon").float()
    assert explainer.captured.dynamic
    with pytest.raises(AssumptionError, match="these give 1 elements where those that it was captured with gave 2"):
        explainer(ids((), ()), 1)


def test_new_weights_are_followed():
    model = network(OneOfEach)
    explainer = relprop.Explainer(model, ONCE, "lrp-epsilon")
    with torch.no_grad():
        model.head.weight.mul_(2)
    torch.testing.assert_close(explainer.logits(GIVEN[0]), model(GIVEN[0]).detach())


def test_samples_picked_from_their_mates_are_refused():
    class OfTheNext(Network):
        def forward(self, ids: Tensor) -> Tensor:
            return self.head(self.hidden(ids)[ids.eq(END).roll(1, 0), :])

    with pytest.raises(UnsupportedOpError, match="mix the samples"):
        relprop.Explainer(network(OfTheNext), ONCE)


def test_a_choice_of_learned_values_is_refused():
    class Routed(Network):
        def forward(self, ids: Tensor) -> Tensor:
            h = self.hidden(ids)
            return self.head(h[h[..., 0] > 0, :].sum(0, keepdim=True).expand(len(ids), -1))

    with pytest.raises(
        UnsupportedOpError, match=r"size of what aten::index \(in the model itself\) returns depends on the input's values"
    ):
        relprop.Explainer(network(Routed), ONCE)


def test_mates_that_fit_in_no_other_order():
    """Half of the places are hidden: only texts that are moved without their mask have as many words that are not."""

    class Shown(Network):
        def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
            h = self.hidden(ids)
            picked = h[mask.bool() & torch.tensor([True, True, True, False, False, False]), :]
            return self.head(picked.view(len(ids), -1, 8).mean(1))

    mask = torch.tensor([[1, 1, 1, 0, 0, 0]] * 2)
    model = network(Shown)
    explainer = relprop.Explainer(model, (ONCE, mask), "lrp-epsilon")
    assert explainer.captured.dynamic
    torch.testing.assert_close(
        explainer.logits((GIVEN[0], mask[:1].expand(3, -1))), model(GIVEN[0], mask[:1].expand(3, -1)).detach()
    )


def test_a_text_that_fits_in_no_other_order_is_explained_alone():
    class Sorted(Network):
        def forward(self, ids: Tensor) -> Tensor:
            rising = ids.diff(dim=1) > 0
            return self.head(self.hidden(ids)[:, 1:][rising, :].view(len(ids), -1, 8).mean(1))

    model, text = network(Sorted), torch.tensor([[2, 3, 5, 7, 11, 13]])
    explainer = relprop.Explainer(model, text, "lrp-epsilon")
    assert not explainer.captured.dynamic
    torch.testing.assert_close(explainer.logits(text + 1), model(text + 1).detach())
