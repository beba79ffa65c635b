"""Branches on integer and boolean inputs: the recording follows those of the example, and another is made for inputs that choose others."""

import threading

import pytest
import torch
from torch import Tensor, nn

import relprop
from relprop.errors import CaptureError
from relprop.graph.recording.assumptions import AssumptionError


class Masked(nn.Module):
    """Ignores a mask that hides nothing, as transformers do."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(20, 6), nn.Linear(6, 3)
        self.calls = 0

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        h = torch.tanh(self.embedding(ids))
        if mask.all():
            return self.head(h.mean(1)) * 2
        weights = mask.to(h.dtype).unsqueeze(-1)
        return self.head((h * weights).sum(1) / weights.sum(1))


def network() -> Masked:
    torch.manual_seed(0)
    return Masked().double().eval()


IDS = torch.randint(0, 20, (3, 5), generator=torch.Generator().manual_seed(0))
WHOLE = torch.ones(3, 5, dtype=torch.long)
PARTLY = WHOLE.clone()
PARTLY[1, 3:] = 0


def expected(model: nn.Module, mask: Tensor) -> Tensor:
    """The map of an explainer that was made for this mask."""
    return relprop.Explainer(model, (IDS, mask), "lrp-epsilon")((IDS, mask), 1).relevance[0]


def test_every_mask_takes_its_own_way():
    model = network()
    explainer = relprop.Explainer(model, (IDS, WHOLE), "lrp-epsilon")
    for mask in (WHOLE, PARTLY, WHOLE, PARTLY):
        torch.testing.assert_close(explainer.logits((IDS, mask)), model(IDS, mask))
        explanation = explainer((IDS, mask), 1)
        torch.testing.assert_close(explanation.relevance[0], expected(model, mask))
        found = sum(part.flatten(1).sum(1) for part in explanation.relevance) + explanation.absorbed
        torch.testing.assert_close(found, model(IDS, mask)[:, 1])
    assert explainer.captured.dynamic
    assert not explainer.captured.example.shared


def test_a_way_is_recorded_once(monkeypatch):
    explainer, made = relprop.Explainer(network(), (IDS, WHOLE), "lrp-epsilon"), []
    captured = relprop.plans.record
    monkeypatch.setattr(relprop.plans, "record", lambda *args: made.append(1) or captured(*args))
    for mask in (WHOLE, PARTLY, WHOLE, PARTLY, PARTLY):
        explainer((IDS, mask), 1)
    assert len(made) == 1


def test_new_weights_are_followed_on_both_ways():
    model = network()
    explainer = relprop.Explainer(model, (IDS, WHOLE), "lrp-epsilon")
    explainer((IDS, PARTLY))
    with torch.no_grad():
        model.head.weight.mul_(2)
    for mask in (WHOLE, PARTLY):
        torch.testing.assert_close(explainer.logits((IDS, mask)), model(IDS, mask))


def test_threads_take_different_ways():
    model = network()
    explainer = relprop.Explainer(model, (IDS, WHOLE), "lrp-epsilon")
    wanted = {id(mask): expected(model, mask) for mask in (WHOLE, PARTLY)}
    wrong: list[object] = []

    def work(mask: Tensor) -> None:
        for _ in range(5):
            found = explainer((IDS, mask), 1).relevance[0]
            if not torch.allclose(found, wanted[id(mask)]):
                wrong.append(mask)

    threads = [threading.Thread(target=work, args=(mask,)) for mask in (WHOLE, PARTLY) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_copy_that_does_not_follow_says_so():
    explainer = relprop.Explainer(network(), (IDS, WHOLE), "lrp-epsilon").float()
    explainer((IDS, WHOLE), 1)
    with pytest.raises(AssumptionError, match="these give False where those that it was captured with gave True"):
        explainer((IDS, PARTLY), 1)


def test_a_number_that_is_read_is_followed_too():
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.head = nn.Embedding(20, 6), nn.Linear(6, 3)

        def forward(self, ids: Tensor, length: Tensor) -> Tensor:
            return self.head(self.embedding(ids)[:, : int(length.max())].mean(1))

    torch.manual_seed(0)
    model = Last().eval()
    explainer = relprop.Explainer(model, (IDS, torch.tensor([2, 4, 3])), "lrp-epsilon")
    for length in ([2, 4, 3], [2, 2, 2], [5, 1, 1]):
        given = IDS, torch.tensor(length)
        torch.testing.assert_close(explainer.logits(given), model(*given))


def test_branches_on_floating_values_are_refused():
    class Checked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(5, 3)

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return self.head(x * mask * (2 if x.sum() > 0 else 1))

    with pytest.raises(CaptureError, match="reads a value that depends on the input"):
        relprop.Explainer(Checked().eval(), (torch.randn(3, 5), WHOLE))
