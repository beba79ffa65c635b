"""Constants that share memory keep their own names when they are folded."""

import torch
from torch import Tensor, nn

from relprop import explain


class TwoConstants(nn.Module):
    """Adds a constant that folds to itself, and one that folds to something new."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("first", torch.tensor([1.0, 2.0, 3.0, 4.0]))
        self.register_buffer("second", torch.tensor([10.0, 20.0, 30.0, 40.0]))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x * self.first.contiguous() + self.second * 2)


def test_folded_constants_do_not_overwrite_each_other():
    torch.manual_seed(0)
    model, x = TwoConstants(), torch.randn(2, 4)
    torch.testing.assert_close(explain(model, x).logits, model(x).detach())
