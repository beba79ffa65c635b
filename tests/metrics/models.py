"""Small models and explanations that the metric tests share."""

import torch
from torch import Tensor, nn


class Net(nn.Sequential):
    """A small convolutional classifier with 5 classes in float64."""

    def __init__(self, seed: int = 0) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            super().__init__(
                nn.Conv2d(3, 6, 3, padding=1),
                nn.BatchNorm2d(6),
                nn.ReLU(),
                nn.AvgPool2d(2),
                nn.Conv2d(6, 8, 3, padding=1),
                nn.ReLU(),
                nn.AdaptiveAvgPool2d(2),
                nn.Flatten(),
                nn.Linear(32, 5),
            )
            for parameter in self.parameters():
                parameter.data += 0.1 * torch.randn_like(parameter)
        self.double().eval()
        with torch.no_grad():  # so that different images get different classes
            self[8].bias -= self(images(99, 64)).mean(0)


def explainer(model: nn.Module):
    """Return input × gradient of the target's logit as an explain function."""

    @torch.enable_grad()
    def explain(inputs: Tensor, target: Tensor) -> Tensor:
        variable = inputs.detach().clone().requires_grad_()
        logit = model(variable).gather(1, target[:, None]).sum()
        return variable.detach() * torch.autograd.grad(logit, variable)[0]

    return explain


def images(seed: int, count: int = 4, size: int = 12) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
