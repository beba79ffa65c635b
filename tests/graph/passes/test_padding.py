"""Token numbers that the model pads: the map has the tokens of the input."""

import torch
from torch import Tensor, nn

import relprop


class Padded(nn.Module):
    def __init__(self, pad: tuple[int, ...]) -> None:
        super().__init__()
        self.pad, self.embedding, self.head = pad, nn.Embedding(20, 4), nn.Linear(4, 3)

    def forward(self, ids: Tensor) -> Tensor:
        h = self.embedding(nn.functional.pad(ids, self.pad, value=7))
        h = torch.tanh(h + h.roll(1, 1))
        return self.head(h.flatten(1, -2).sum(1))


def test_padding_takes_no_relevance_of_its_own():
    torch.manual_seed(0)
    ids = torch.randint(0, 20, (2, 5))
    for pad in ((0, 3), (2, 1)):
        model = Padded(pad).double().eval()
        explainer = relprop.Explainer(model, ids, "lrp-epsilon")
        explanation = explainer(ids, 1)
        assert explanation.relevance.shape == (2, 5, 4)
        torch.testing.assert_close(explanation.logits, model(ids).detach())
        before = pad[0]
        unpadded = Padded((0, 0)).double().eval()
        unpadded.load_state_dict(model.state_dict())
        whole = relprop.explain(unpadded, nn.functional.pad(ids, pad, value=7), 1, method="lrp-epsilon")
        torch.testing.assert_close(explanation.relevance, whole.relevance[:, before : before + 5])
        outside = whole.relevance.sum((1, 2)) - explanation.relevance.sum((1, 2))
        torch.testing.assert_close(explanation.absorbed, whole.absorbed + outside)


def test_numbers_that_are_cut_off_or_in_several_dimensions():
    torch.manual_seed(0)
    for ids, pad in ((torch.randint(0, 20, (2, 5)), (-1, 2)), (torch.randint(0, 20, (2, 3, 4)), (0, 2, 1, 0))):
        model = Padded(pad).double().eval()
        explainer = relprop.Explainer(model, ids, "lrp-epsilon")
        explanation = explainer(ids, 1)
        torch.testing.assert_close(explainer.logits(ids[:1]), model(ids[:1]).detach())
        torch.testing.assert_close(explanation.relevance.flatten(1).sum(1) + explanation.absorbed, explanation.logits[:, 1])
