"""Small networks for targets: a classifier, a segmentation, a detector's head, tokens."""

import torch
from torch import nn

X = torch.linspace(-1, 1, 2 * 3 * 8 * 8, dtype=torch.float64).reshape(2, 3, 8, 8).sin() * 2


def classifier(*end, classes=5):
    torch.manual_seed(0)
    body = nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*body, nn.Linear(4, classes), *end).eval().double()


def segmentation(classes=3):
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, classes, 3, stride=2, padding=1)
    return nn.Sequential(*layers).eval().double()


class Detector(nn.Module):
    """Returns logits of 16 boxes in 3 classes, and their sides."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU())
        self.classes, self.sides = nn.Conv2d(6, 3, 1), nn.Conv2d(6, 4, 1)
        self.double()

    def forward(self, x):
        features = self.body(x)
        heads = [layer(features).flatten(2).mT for layer in (self.classes, self.sides)]
        return {"heads": [{"cls_logits": heads[0], "bbox_regression": heads[1]}], "features": (features,)}


class Tokens(nn.Module):
    """Patches as tokens ``(B, 4, 6)``, and a class token's embedding."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.norm, self.head = nn.Conv2d(3, 6, 4, stride=4), nn.LayerNorm(6), nn.Linear(6, 5)
        self.double()

    def forward(self, x):
        return self.head(self.norm(self.patches(x).flatten(2).mT).mean(1))


def total(explanation):
    """Relevance and absorbed relevance of every map."""
    kept = explanation.absorbed.dim()
    return explanation.relevance.flatten(kept).sum(-1) + explanation.absorbed
