"""Classifiers of mosaics with disconnected cells: their logits are those of each cell alone, and no relevance leaves it in DiFull."""

import pytest
import torch
from torch import nn

import relprop
from relprop.errors import ModelError
from relprop.zoo.disconnected import difull, dipart, of_mosaics
from relprop.zoo.model import LoadedModel
from relprop.zoo.preprocessing import Preprocessing

SIDE = 8


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        x = self.stem(x)
        return self.head(self.pool((x + self.block(x)).relu()).flatten(1))


class Tokens(nn.Module):
    """A transformer with a class token: its last features have no place in the image."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.qkv, self.head = nn.Linear(8, 24), nn.Linear(8, 5)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.head(((q @ k.transpose(1, 2) / 8**0.5).softmax(-1) @ v)[:, 0])


def dense():
    """A network whose head depends on the place in the image."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 16, 7), nn.ReLU(), nn.Linear(7, 5)
    )


MODELS = {"residual": Residual, "dense": dense, "tokens": Tokens}


def made(name):
    torch.manual_seed(0)
    return MODELS[name]().eval()


def cell(x, grid, number):
    side = x.shape[-1] // grid
    row, column = divmod(number, grid)
    return x[..., row * side : (row + 1) * side, column * side : (column + 1) * side]


@pytest.mark.parametrize("grid", [2, 3])
@pytest.mark.parametrize("name", MODELS)
def test_the_logits_of_a_cell_are_those_of_the_cell_alone(name, grid):
    model, x = made(name), torch.randn(2, 3, grid * SIDE, grid * SIDE)
    whole = difull(model, grid, (SIDE, SIDE))
    for number in range(grid**2):
        torch.testing.assert_close(whole.of_cell(number)(x), model(cell(x, grid, number)))


@pytest.mark.parametrize(
    "method", ["rap", "rap:start=signed", "rap-regional", "lrp-epsilon", "lrp-zplus", "clrp", "deeplift", "input-x-gradient"]
)
@pytest.mark.parametrize("name", ["residual", "dense"])
def test_no_relevance_lies_outside_the_cell(name, method):
    x = torch.randn(2, 3, 2 * SIDE, 2 * SIDE)
    method, _, start = method.partition(":start=")
    for number in (0, 3):
        part = difull(made(name), 2, (SIDE, SIDE)).of_cell(number)
        found = relprop.Explainer(part, x[:1], method, **({"start": start} if start else {}))(x, torch.tensor([1, 4])).relevance
        assert cell(found, 2, number).any()
        cell(found, 2, number).zero_()
        assert not found.any()


def test_relevance_in_a_cell_is_that_of_the_cell_alone():
    model, x = made("residual"), torch.randn(1, 3, 2 * SIDE, 2 * SIDE)
    part = difull(model, 2, (SIDE, SIDE)).of_cell(2)
    for method in ("lrp-epsilon", "input-x-gradient", "lrp-alpha2-beta1"):
        whole = relprop.explain(part, x, 3, method=method).relevance
        alone = relprop.explain(model, cell(x, 2, 2).clone(), 3, method=method).relevance
        torch.testing.assert_close(cell(whole, 2, 2), alone)


def test_dipart_sees_the_whole_and_reads_one_cell():
    model, x = made("residual"), torch.randn(1, 3, 2 * SIDE, 2 * SIDE)
    part = dipart(model, 2, (SIDE, SIDE)).of_cell(1)
    features = (model.stem(x) + model.block(model.stem(x))).relu()
    torch.testing.assert_close(part(x), model.head(model.pool(cell(features, 2, 1)).flatten(1)))
    found = relprop.explain(part, x, 0, method="lrp-epsilon").relevance.abs().sum(1)[0]
    reach = torch.zeros_like(found, dtype=torch.bool)
    reach[: SIDE + 3, SIDE - 3 :] = True  # three convolutions of 3 × 3 see three pixels further
    assert not found[~reach].any()
    assert found[:SIDE, SIDE - 3 : SIDE].any()


def test_the_map_of_a_cam_covers_the_whole_mosaic():
    x = torch.randn(1, 3, 2 * SIDE, 2 * SIDE)
    part = difull(made("residual"), 2, (SIDE, SIDE)).of_cell(0)
    found = relprop.explain(part, x, 0, method="layer-cam").relevance.sum(1)[0]
    assert not found[SIDE + 1 :].any()  # LayerCAM's gradients are zero in other cells, up to the width of its interpolation


def test_what_cannot_be_disconnected_is_said():
    with pytest.raises(ModelError, match="features have places in the image"):
        dipart(made("tokens"), 2, (SIDE, SIDE))


def test_preprocessing_takes_whole_mosaics():
    loaded = LoadedModel(made("residual"), Preprocessing((SIDE, SIDE), 10), None, "residual")
    assert of_mosaics(loaded, "shrunk", 3).preprocessing.size == (SIDE, SIDE)
    for setting in ("full", "difull", "dipart"):
        found = of_mosaics(loaded, setting, 3)
        assert found.preprocessing.size == found.preprocessing.resize == (3 * SIDE, 3 * SIDE)
        assert (found.disconnected is None) == (setting == "full")
