"""The output of a module is what it returned, whatever in-place ops make of it afterwards: as in the network written without them."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import relprop
from relprop.graph.nodes import module_outputs
from relprop.zoo import import_torchvision

METHODS = ("rap", "lrp-epsilon", "lrp-zplus", "attnlrp", "abslrp")


class Block(nn.Module):
    """A residual block; ``inplace`` writes the sum and the ReLUs in place."""

    def __init__(self, *, inplace):
        super().__init__()
        self.inplace = inplace
        self.conv1, self.bn1 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace)

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.inplace:
            y += x
            return F.relu_(y)
        return F.relu(y + x)


class Preactivated(Block):
    def forward(self, x):
        x = self.conv1(x)
        y = F.relu(self.bn1(x), inplace=self.inplace)
        y = self.conv2(y)
        if self.inplace:
            return self.bn2(y.add_(x)).mul_(0.5)
        return self.bn2(y + x) * 0.5


class Gated(Block):
    def forward(self, x):
        y, gate = self.bn1(self.conv1(x)), torch.sigmoid(self.conv2(x).mean((2, 3), keepdim=True))
        if self.inplace:
            y *= gate
            y = torch.relu_(y)
        else:
            y = torch.relu(y * gate)
        return self.bn2(y)


class Sliced(Block):
    """Writes into a slice of what a module returned, and reads it through a view afterwards."""

    def forward(self, x):
        y = self.bn1(self.conv1(x))
        if self.inplace:
            y[:, :1] += x[:, :1]
            y[:, 1:2] = 0
        else:
            y = torch.cat([y[:, :1] + x[:, :1], torch.zeros_like(y[:, 1:2]), y[:, 2:]], 1)
        return self.bn2(self.conv2(y))


class Dense(Block):
    """Concatenates what a module returned before it is changed in place with what comes of it."""

    def forward(self, x):
        y = self.bn1(self.conv1(x))
        before = torch.cat([x[:, :2], y[:, 2:]], 1)
        y = F.relu(y, inplace=self.inplace)
        return self.bn2(self.conv2(y)) + before


BLOCKS = (Block, Preactivated, Gated, Sliced, Dense)


def network(block, *, inplace):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), block(inplace=inplace), block(inplace=inplace), nn.Flatten(), nn.Linear(4 * 36, 5))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    return model.double().eval()


X = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
EVERY = ("0", "1", "1.conv1", "1.bn1", "1.conv2", "1.bn2", "2", "2.conv1", "2.bn1", "2.conv2", "2.bn2")


def assert_same(ours, expected, layers):
    torch.testing.assert_close(ours.relevance, expected.relevance, rtol=1e-12, atol=1e-12)
    for path in layers:
        torch.testing.assert_close(
            ours.layers[path], expected.layers[path], rtol=1e-12, atol=1e-12, msg=lambda m, p=path: f"{p}: {m}"
        )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("block", BLOCKS)
def test_relevance_at_every_module_is_that_of_the_network_without_in_place_ops(block, method):
    fold = method == "abslrp"  # leaves BatchNorm unfolded, so that convolutions have outputs of their own
    ours, expected = (relprop.capture(network(block, inplace=inplace), X[:1]).explainer(method) for inplace in (True, False))
    layers = [path for path in EVERY if path in expected.plan.layers]
    assert "2.bn2" in layers
    assert ("1.conv1" in layers) or not fold
    assert set(layers) <= set(ours.plan.layers)
    assert_same(ours(X, 1, layers=layers), expected(X, 1, layers=layers), layers)


@pytest.mark.parametrize("method", ["grad-cam", "layer-cam"])
@pytest.mark.parametrize("block", BLOCKS)
def test_class_activation_maps_are_those_of_the_network_without_in_place_ops(block, method):
    for layer in ("1.bn2", "2.bn1", "2"):
        ours, expected = (relprop.explain(network(block, inplace=i), X, 1, method=method, layer=layer) for i in (True, False))
        torch.testing.assert_close(ours.relevance, expected.relevance, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("block", BLOCKS)
def test_the_trace_is_that_of_the_network_without_in_place_ops(block, capsys):
    ours, expected = (relprop.Explainer(network(block, inplace=i), X[:1], "lrp-epsilon").trace(X, 1) for i in (True, False))
    layers = [[row for row in table.rows if row.op in {"aten::conv2d", "aten::linear"}] for table in (ours, expected)]
    assert [(row.path, row.op) for row in layers[0]] == [(row.path, row.op) for row in layers[1]]
    for one, other in zip(*layers, strict=True):
        torch.testing.assert_close(one.received, other.received, rtol=1e-12, atol=1e-12)
    assert ours.worst.deviation < 1e-9
    assert capsys.readouterr().out


def test_grad_cam_at_a_branch_is_that_of_a_forward_hook():
    model, path = network(Block, inplace=False), "2.bn2"
    kept = []
    handle = model.get_submodule(path).register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    logits = model(X)
    handle.remove()
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), kept)
    wanted = (gradient.mean((2, 3), keepdim=True) * kept[0]).sum(1).clamp(min=0).detach()
    found = relprop.explain(network(Block, inplace=True), X, 1, method="grad-cam", layer=path).heatmap()
    wanted = F.interpolate(wanted[:, None], X.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(found, wanted)


def test_a_resnet_of_torchvision_is_as_without_in_place_ops():
    models = import_torchvision().models

    class OutOfPlace(models.resnet.BasicBlock):
        def forward(self, x):
            identity = x if self.downsample is None else self.downsample(x)
            return self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))) + identity)

    torch.manual_seed(0)
    ours = models.resnet18(weights=None).double().eval()
    expected = models.ResNet(OutOfPlace, [2, 2, 2, 2]).double().eval()
    expected.load_state_dict(ours.state_dict())
    for module in expected.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    x = torch.randn(1, 3, 40, 40, dtype=torch.float64)
    layers = ["bn1", "layer1.0.bn1", "layer2.0.downsample.1", "layer4.1.bn1", "layer4.1.bn2", "layer4.1", "layer4"]
    found, wanted = (relprop.capture(model, x).explainer("rap")(x, 3, layers=layers) for model in (ours, expected))
    assert_same(found, wanted, layers)
    assert not torch.allclose(found.layers["layer4.1.bn2"], found.layers["layer4.1"])


class Passing(nn.Module):
    """Modules that compute nothing, one that is called twice, and one that returns two tensors."""

    def __init__(self):
        super().__init__()
        self.first, self.shared, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.identity, self.dropout, self.flatten, self.last = nn.Identity(), nn.Dropout(), nn.Flatten(), nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.dropout(self.identity(self.first(self.flatten(x))))
        return self.head(self.last(self.shared(self.shared(y))))


@pytest.mark.parametrize(
    ("path", "note"),
    [
        ("identity", "Module 'identity' computes nothing: its output is its input, or a view of it."),
        ("dropout", "Module 'dropout' computes nothing: its output is its input, or a view of it."),
        ("shared", "Module 'shared' is called 2 times: its output is that of the last call."),
        ("first", None),
        ("last", None),
    ],
)
def test_modules_whose_output_is_not_their_own_are_said(path, note):
    x = torch.randn(2, 2, 3)
    explainer = relprop.Explainer(Passing().eval(), x, "lrp-epsilon")
    explanation = explainer(x, 1, layers=[path])
    assert explanation.layers[path].shape == (2, 6)
    assert [text for text in explanation.notes if "Module" in text] == ([note] if note else [])
    if path in {"identity", "dropout"}:
        torch.testing.assert_close(explanation.layers[path], explainer(x, 1, layers=["first"]).layers["first"])


def test_an_in_place_module_leaves_the_output_of_the_module_before_it():
    torch.manual_seed(0)
    models = [nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=i), nn.Linear(5, 3)) for i in (True, False)]
    models[1].load_state_dict(models[0].state_dict())
    marked = [
        {path: node.target for path, node in module_outputs(relprop.capture(model, torch.randn(2, 4)).module.graph).items()}
        for model in models
    ]
    assert marked[0] == marked[1]
    assert list(marked[0]) == ["0", "1", "2"]
