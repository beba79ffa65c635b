"""Values, relevance and notes at every module of networks in place and out of place; modules that pass on or return several tensors."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import relprop
from relprop.errors import OptionError
from relprop.graph.nodes import module_outputs, output_notes
from relprop.inputs import as_inputs

METHODS = ("rap", "lrp-epsilon", "attnlrp")
EXACT = {"rtol": 0, "atol": 1e-12}


class Net(nn.Module):
    """Six modules to put together, in place or not."""

    def __init__(self, body: Callable[["Net", Tensor, bool], Tensor]) -> None:
        super().__init__()
        self.body, self.inplace = body, False
        self.conv1, self.bn1 = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.conv2, self.bn2 = nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3)
        self.wide, self.relu = nn.Conv2d(6, 3, 1), nn.ReLU()
        self.block = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU())
        self.same, self.drop, self.flat = nn.Identity(), nn.Dropout(), nn.Flatten()
        self.head = nn.Linear(3 * 5 * 5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.flat(self.body(self, x, self.inplace)))


def basic_block(net: Net, x: Tensor, inplace: bool) -> Tensor:
    y = net.bn2(net.conv2(net.relu(net.bn1(net.conv1(x)))))
    if inplace:
        y += x
    else:
        y = y + x
    return net.relu(y)


def bottleneck(net: Net, x: Tensor, inplace: bool) -> Tensor:
    first = net.relu(net.bn1(net.conv1(x)))
    y = net.block(first)
    shortcut = net.bn2(net.conv2(x))
    if inplace:
        y += shortcut
        return F.relu(y, inplace=True)
    return F.relu(y + shortcut)


def dense_block(net: Net, x: Tensor, inplace: bool) -> Tensor:
    y = net.bn1(net.conv1(x))
    z = torch.cat([torch.relu_(y) if inplace else torch.relu(y), x], 1)
    return net.relu(net.wide(z))


def preactivated(net: Net, x: Tensor, inplace: bool) -> Tensor:
    y = net.conv2(net.relu(net.bn2(net.conv1(net.relu(net.bn1(x))))))
    if inplace:
        y += x
        return y
    return y + x


def functional(net: Net, x: Tensor, inplace: bool) -> Tensor:
    y = net.bn1(net.conv1(x))
    if inplace:
        F.relu(y, inplace=True)
    else:
        y = F.relu(y)
    return net.bn2(y)


def gated(net: Net, x: Tensor, inplace: bool) -> Tensor:
    y, gate = net.bn1(net.conv1(x)), torch.sigmoid(net.bn2(net.conv2(x)))
    if inplace:
        y *= gate
    else:
        y = y * gate
    return net.relu(y)


def written_slice(net: Net, x: Tensor, inplace: bool) -> Tensor:
    y = net.bn1(net.conv1(x))
    if inplace:
        y[:, :1] += 1
    else:
        y = torch.cat([y[:, :1] + 1, y[:, 1:]], 1)
    return net.block(y)


def zeroed_slice(net: Net, x: Tensor, inplace: bool) -> Tensor:
    y = net.relu(net.bn1(net.conv1(x)))
    if inplace:
        y[:, :, 1:3] = 0
    else:
        y = torch.cat([y[:, :, :1], torch.zeros_like(y[:, :, 1:3]), y[:, :, 3:]], 2)
    return net.block(y)


def written_view(net: Net, x: Tensor, inplace: bool) -> Tensor:
    y = net.bn1(net.conv1(x))
    rows = y.flatten(1)
    if inplace:
        rows.mul_(2.0).relu_()
    else:
        y = (rows * 2.0).relu().reshape(y.shape)
    return net.block(y)


def chained(net: Net, x: Tensor, inplace: bool) -> Tensor:
    y = net.bn1(net.conv1(x))
    z = net.drop(net.same(y))
    if inplace:
        y += 0.5
        y *= 2.0
        torch.relu_(y)
        return net.bn2(z)
    return net.bn2(torch.relu((z + 0.5) * 2.0))


BODIES = (
    basic_block,
    bottleneck,
    dense_block,
    preactivated,
    functional,
    gated,
    written_slice,
    zeroed_slice,
    written_view,
    chained,
)


def made(model: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.double().eval()


def twins(body: Callable[[Net, Tensor, bool], Tensor]) -> tuple[nn.Module, nn.Module, Tensor]:
    """The same network in place and out of place, and images."""
    torch.manual_seed(1)
    plain = made(Net(body))
    written = copy.deepcopy(plain)
    written.inplace = True
    for module in written.modules():
        if isinstance(module, nn.ReLU | nn.Dropout):
            module.inplace = True
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(written(x.clone()), plain(x), **EXACT)
    return written, plain, x


def reached(explainer: relprop.Explainer) -> list[str]:
    """The modules whose outputs relevance passes."""
    nodes = {step.node for step in explainer.plan.steps if step.backward}
    return [path for path, node in module_outputs(explainer.module.graph).items() if node in nodes]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("body", BODIES)
def test_relevance_at_every_module_is_that_of_the_network_without_inplace_ops(body, method):
    written, plain, x = twins(body)
    ours, expected = relprop.Explainer(written, x, method), relprop.Explainer(plain, x, method)
    assert set(module_outputs(ours.module.graph)) == set(module_outputs(expected.module.graph))
    paths = reached(expected)
    assert set(paths) == set(reached(ours))
    found, reference = ours(x, 1, layers=paths), expected(x, 1, layers=paths)
    torch.testing.assert_close(found.relevance, reference.relevance, **EXACT)
    for path in paths:
        torch.testing.assert_close(found.layers[path], reference.layers[path], **EXACT, msg=lambda m, p=path: f"{p}: {m}")
    assert found.notes == reference.notes


@pytest.mark.parametrize("body", [basic_block, bottleneck, dense_block, functional, gated])
def test_the_plan_and_the_trace_name_the_same_modules(body):
    written, plain, x = twins(body)
    ours, expected = relprop.Explainer(written, x, "lrp-epsilon"), relprop.Explainer(plain, x, "lrp-epsilon")
    assert str(ours.plan) == str(expected.plan)
    assert str(ours.trace(x, 1)) == str(expected.trace(x, 1))


def by_hook(model: nn.Module, layer: str, x: Tensor, target: int) -> Tensor:
    """Grad-CAM from a forward hook."""
    kept: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(lambda _m, _i, y: kept.append(y) or y.retain_grad())
    model(x)[:, target].sum().backward()
    handle.remove()
    a, g = kept[-1].detach(), kept[-1].grad
    cam = (g.mean((2, 3), keepdim=True) * a).sum(1).clamp(min=0)
    return F.interpolate(cam[:, None], x.shape[2:], mode="bilinear")[:, 0]


@pytest.mark.parametrize("layer", ["bn1", "conv1", "relu", "bn2"])
def test_grad_cam_is_that_of_a_hook_on_the_network_without_inplace_ops(layer):
    written, plain, x = twins(basic_block)
    found = relprop.explain(written, x, 1, method="grad-cam", layer=layer)
    torch.testing.assert_close(found.heatmap(), by_hook(plain, layer, x, 1), rtol=1e-10, atol=1e-12)


# --- torchvision -------------------------------------------------------------------------------------------------------------------


def plain_block(self, x: Tensor) -> Tensor:
    out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
    return self.relu(out + (x if self.downsample is None else self.downsample(x)))


@pytest.fixture(scope="module")
def resnets() -> tuple[nn.Module, nn.Module, Tensor]:
    from relprop.zoo.torchvision_ops import import_torchvision

    vision = import_torchvision()
    torch.manual_seed(0)
    written = made(vision.models.resnet18(num_classes=5))
    plain = copy.deepcopy(written)
    for module in plain.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
        if isinstance(module, vision.models.resnet.BasicBlock):
            module.forward = plain_block.__get__(module)
    return written, plain, torch.randn(2, 3, 64, 64, dtype=torch.float64)


@pytest.mark.parametrize("method", ["rap", "lrp-epsilon"])
def test_resnet18_at_every_module(resnets, method):
    written, plain, x = resnets
    ours, expected = relprop.Explainer(written, x, method), relprop.Explainer(plain, x, method)
    paths = reached(expected)
    assert {"layer4.1.bn2", "layer4.1", "layer4", "layer4.1.relu", "layer3.0.downsample", "avgpool"} <= set(paths)
    found, reference = ours(x, 1, layers=paths), expected(x, 1, layers=paths)
    for path in paths:
        torch.testing.assert_close(found.layers[path], reference.layers[path], rtol=1e-12, atol=1e-12)
    assert not torch.equal(found.layers["layer4.1.bn2"], found.layers["layer4.1"])
    torch.testing.assert_close(found.layers["layer4.1.relu"], found.layers["layer4"], rtol=0, atol=0)


def test_grad_cam_of_a_branch_of_resnet18(resnets):
    written, plain, x = resnets
    found = relprop.explain(written, x, 1, method="grad-cam", layer="layer4.1.bn2")
    torch.testing.assert_close(found.heatmap(), by_hook(plain, "layer4.1.bn2", x, 1), rtol=1e-9, atol=1e-12)
    assert relprop.explain(written, x, 1, method="grad-cam").notes[-1] == "The map is made of the output of module 'layer4'."


# --- what modules return ------------------------------------------------------------------------------------------------------------


class Writing(nn.Module):
    """A module whose last op writes into a slice of what it returns."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y[:, :2] = 0
        return y


def values_at(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The captured values of the outputs of modules."""
    captured = relprop.capture(model, x)
    nodes = module_outputs(captured.module.graph)
    _, kept = captured.run(as_inputs(x), keep=list(nodes.values()))
    return {path: kept[node] for path, node in nodes.items()}


def test_a_module_that_writes_into_a_slice_returns_what_it_wrote():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    model = nn.Sequential(Writing(), nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(32, 3)).double()
    found = values_at(model, x)
    torch.testing.assert_close(found["0"], model[0](x).detach())
    torch.testing.assert_close(found["0.conv"], model[0].conv(x).detach())


@pytest.mark.parametrize("body", BODIES)
def test_captured_values_are_those_of_hooks_on_the_network_without_inplace_ops(body):
    written, plain, x = twins(body)
    kept: dict[str, Tensor] = {}
    for path, module in plain.named_modules():
        module.register_forward_hook(lambda _m, _i, y, path=path: kept.update({path: y.detach()}))
    plain(x)
    found = values_at(written, x)
    assert set(found) == set(kept) - {""}
    for path, value in found.items():
        torch.testing.assert_close(value, kept[path], **EXACT, msg=lambda m, p=path: f"{p}: {m}")


class Returning(nn.Module):
    """Modules that pass on what they are given, return several tensors, or are called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.same, self.drop = nn.Identity(), nn.Identity(), nn.Dropout()
        self.conv, self.relu, self.flat = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(inplace=True), nn.Flatten()
        self.lstm, self.unused, self.head = nn.LSTM(16, 4, batch_first=True), nn.Linear(4, 2), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.conv(self.first(x)))
        y = self.drop(self.same(self.relu(self.conv(y))))
        rows, (hidden, _) = self.lstm(y.flatten(2))
        self.unused(hidden[0])
        return self.head(torch.cat([self.flat(rows), hidden[0]], 1))


@pytest.fixture(scope="module")
def returning() -> tuple[relprop.Explainer, Tensor]:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    return relprop.Explainer(Returning().double().eval(), x, "gradient"), x


def test_what_modules_return_is_noted(returning):
    explainer, _ = returning

    def notes(path: str) -> str:
        return " ".join(output_notes(explainer.module, [path]))

    assert all("computes nothing" in notes(path) for path in ("first", "same", "drop", "flat"))
    assert all("called 2 times" in notes(path) for path in ("conv", "relu"))
    assert "returns 2 tensors" in notes("lstm")
    assert not notes("head")
    assert "unused" not in module_outputs(explainer.module.graph)
    nodes = module_outputs(explainer.module.graph)
    assert nodes["same"] is nodes["drop"] is nodes["relu"]


def test_a_map_of_the_models_input_is_refused(returning):
    explainer, _ = returning
    with pytest.raises(OptionError, match="'first' returns the model's input"):
        relprop.Explainer(explainer.captured, "grad-cam", layer="first")


def test_notes_come_with_the_layers_that_are_asked_for():
    torch.manual_seed(0)
    x = torch.randn(2, 4, dtype=torch.float64)
    model = nn.Sequential(nn.Identity(), nn.Linear(4, 4), nn.ReLU(), nn.Dropout(), nn.Linear(4, 3)).double()
    explainer = relprop.Explainer(model, x)
    found = explainer(x, 0, layers=["0", "2", "3"])
    assert [note for note in found.notes if "computes nothing" in note] == [
        f"Module {path!r} computes nothing: its output is its input, or a view of it." for path in ("0", "3")
    ]
    torch.testing.assert_close(found.layers["0"], found.relevance)
    torch.testing.assert_close(found.layers["3"], found.layers["2"])
    assert not [note for note in explainer(x, 0).notes if "computes nothing" in note]


class Vmapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Sequential(nn.Identity(), nn.Linear(4, 4)), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.vmap(self.inner)(x)
        y[:, :1] += 1
        return self.head(y)


def test_modules_may_be_called_inside_of_vmap():
    x = torch.randn(2, 4, dtype=torch.float64)
    model = Vmapped().double()
    torch.testing.assert_close(relprop.explain(model, x, 0, method="lrp-epsilon").logits, model(x).detach())


def test_a_hook_that_replaces_an_output_counts():
    x = torch.randn(2, 4, dtype=torch.float64)
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)).double()
    model[0].register_forward_hook(lambda _m, _i, y: y.relu())
    torch.testing.assert_close(values_at(model, x)["0"], model[0](x).detach())
    assert len(model[0]._forward_hooks) == 1
