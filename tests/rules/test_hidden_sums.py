"""Sums that an added mask makes infinite: such scores of attention have no relevance, as those that ``masked_fill`` hides."""

import math

import pytest
import torch
from torch import Tensor, nn

import relprop
from relprop import rules


class Attention(nn.Module):
    """Hides scores by an added mask, twice where ``filled``, or by ``masked_fill`` where not ``added``."""

    def __init__(self, *, added: bool, filled: bool) -> None:
        super().__init__()
        self.added, self.filled = added, filled
        self.query, self.key, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        scores = self.query(x) @ self.key(x).transpose(1, 2)
        hidden = (mask == 0).unsqueeze(1)
        if self.filled or not self.added:
            scores = scores.masked_fill(hidden, -math.inf)
        if self.added:
            scores = scores + torch.zeros_like(hidden, dtype=x.dtype).masked_fill(hidden, -math.inf)
        return self.head((scores.softmax(-1) @ x).mean(1))


def method_of(treatment: str) -> relprop.Method:
    return relprop.Method("sums", {"dense": rules.epsilon(0.0), "add": rules.split_sum(treatment)})


@pytest.mark.parametrize("filled", [False, True])
@pytest.mark.parametrize("method", ["rap", "attnlrp", "reslrp", "lrp-epsilon", "signed", "positive", "absolute", "gamma"])
def test_hidden_scores_have_no_relevance(method: str, filled: bool):
    torch.manual_seed(0)
    model = Attention(added=True, filled=filled).double().eval()
    usual = Attention(added=False, filled=False).double().eval()
    usual.load_state_dict(model.state_dict())
    given = torch.randn(3, 5, 4, dtype=torch.double), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 1, 0, 1]])
    chosen = method if method in relprop.methods.METHODS else method_of(method)
    explanation, expected = (relprop.explain(m, given, 1, method=chosen) for m in (model, usual))
    torch.testing.assert_close(explanation.logits, model(*given).detach())
    torch.testing.assert_close(explanation.relevance[0], expected.relevance[0])
    torch.testing.assert_close(explanation.absorbed, expected.absorbed)
