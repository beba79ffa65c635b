"""absLRP against its definition, ``x · ∂/∂x [f(x; w, b) + f(|x|; |w|, |b|)]ᵀ S``, computed op by op with autograd."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import relprop
from relprop.zoo.torchvision_ops import import_torchvision

Function = Callable[..., Tensor]


def with_magnitudes(module: nn.Module) -> nn.Module:
    other = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.abs_()
    return other


class Tape:
    """Records ops as they run; ``backward`` follows the definition."""

    def __init__(self) -> None:
        self.steps: list[tuple[Function, Function | None, tuple[Tensor, ...], Tensor, bool]] = []

    def op(self, f: Function, *values: Tensor, divide: bool = True) -> Tensor:
        other = with_magnitudes(f) if isinstance(f, nn.Module) else f
        return self._record(f, other, values, divide)

    def move(self, f: Function, *values: Tensor) -> Tensor:
        return self._record(f, None, values, False)

    def _record(self, f: Function, other: Function | None, values: tuple[Tensor, ...], divide: bool) -> Tensor:
        with torch.no_grad():
            result = f(*[v.clone() for v in values])  # in-place activations write to what they read
        self.steps.append((f, other, values, result, divide))
        return result

    def backward(self, output: Tensor, seed: Tensor, x: Tensor) -> Tensor:
        found = {id(output): seed}
        for f, other, values, result, divide in reversed(self.steps):
            relevance = found.pop(id(result), None)
            if relevance is None:
                continue
            inputs = [v.detach().clone().requires_grad_() for v in values]
            y = f(*[v.clone() for v in inputs])
            if divide:
                relevance = relevance / (y.detach().abs() + 1e-9)
            total = y if other is None else y + other(*[v.abs() for v in inputs])
            for value, v, gradient in zip(values, inputs, torch.autograd.grad(total, inputs, relevance), strict=True):
                share = gradient if other is None else v.detach() * gradient
                if other is not None:
                    share = share / share.abs().flatten(1).sum(1).view(-1, *[1] * (share.dim() - 1)).clamp(min=1e-30)
                found[id(value)] = found[id(value)] + share if id(value) in found else share
        return found[id(x)]


def vgg(t: Tape, m: nn.Module, x: Tensor) -> Tensor:
    for layer in [*m.features, m.pre_logits.fc1, m.pre_logits.act1, m.pre_logits.fc2, m.pre_logits.act2]:
        x = t.op(layer, x, divide=not isinstance(layer, nn.MaxPool2d))
    x = t.op(lambda v: v.mean((2, 3)), x)
    return t.op(m.head.fc, x)


def resnet(t: Tape, m: nn.Module, x: Tensor) -> Tensor:
    x = t.op(m.maxpool, t.op(m.act1, t.op(m.bn1, t.op(m.conv1, x))))
    for block in [b for stage in (m.layer1, m.layer2, m.layer3, m.layer4) for b in stage]:
        short, y = x, t.op(block.act1, t.op(block.bn1, t.op(block.conv1, x)))
        y = t.op(block.bn2, t.op(block.conv2, y))
        if hasattr(block, "conv3"):
            y = t.op(block.bn3, t.op(block.conv3, t.op(block.act2, y)))
        for layer in block.downsample or ():
            short = t.op(layer, short)
        x = t.op(torch.relu, t.op(torch.add, y, short))
    return t.op(m.fc, t.op(lambda v: v.mean((2, 3)), x))


def constant_norm(m: nn.LayerNorm) -> Function:
    class Norm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias = nn.Parameter(m.weight.detach().clone()), nn.Parameter(m.bias.detach().clone())

        def forward(self, x: Tensor) -> Tensor:
            mean, variance = x.mean(-1, keepdim=True).detach(), x.var(-1, correction=0, keepdim=True).detach()
            return (x - mean) / (variance + m.eps).sqrt() * self.weight + self.bias

    return Norm()


def constant_softmax(x: Tensor) -> Tensor:
    exp = (x - x.amax(-1, keepdim=True).detach()).exp()
    return exp / exp.sum(-1, keepdim=True).detach()


def vit(t: Tape, m: nn.Module, x: Tensor) -> Tensor:
    x = t.move(lambda v: v.flatten(2).mT, t.op(m.patch_embed.proj, x))
    x = t.move(lambda v: torch.cat([m.cls_token.detach().expand(len(v), -1, -1), v], 1), x)
    x = t.op(lambda a, b: a + b, x, m.pos_embed.detach().expand_as(x))
    for block in m.blocks:
        a = block.attn
        qkv = t.op(a.qkv, t.op(constant_norm(block.norm1), x))
        q, k, v = (
            t.move(lambda u, i=i, sizes=(3, a.num_heads, a.head_dim): u.unflatten(2, sizes)[:, :, i].transpose(1, 2), qkv)
            for i in range(3)
        )
        scores = t.op(lambda q, k, scale=a.scale: (q * scale) @ k.mT, q, k)
        y = t.op(torch.matmul, t.op(constant_softmax, scores), v)
        y = t.op(a.proj, t.move(lambda u: u.transpose(1, 2).flatten(2), y))
        y = t.op(Scale(block.ls1.gamma), y)
        x = t.op(torch.add, x, y)
        y = t.op(block.mlp.fc1, t.op(constant_norm(block.norm2), x))
        y = t.op(block.mlp.fc2, t.op(nn.functional.gelu, y))
        y = t.op(Scale(block.ls2.gamma), y)
        x = t.op(torch.add, x, y)
    x = t.op(constant_norm(m.norm), x)
    return t.op(m.head, t.move(lambda v: v[:, 0], x))


class Scale(nn.Module):
    def __init__(self, gamma: Tensor) -> None:
        super().__init__()
        self.gamma = nn.Parameter(gamma.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


def small_vgg() -> nn.Module:
    from timm.models.vgg import VGG

    return VGG(cfg=[16, "M", 32, 32, "M", 32], num_classes=7, mlp_ratio=0.02)


def small_vit() -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(img_size=32, patch_size=8, embed_dim=24, depth=3, num_heads=3, num_classes=7, init_values=0.5)


def timm_model(name: str) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        import timm

        return timm.create_model(name, num_classes=7)

    return make


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[Tape, nn.Module, Tensor], Tensor], dict[str, str]]] = {
    "vgg": (small_vgg, vgg, {}),
    "resnet18": (timm_model("resnet18"), resnet, {}),
    "resnet50": (timm_model("resnet50"), resnet, {}),
    "vit": (small_vit, vit, {}),
}


def prepared(make: Callable[[], nn.Module]) -> nn.Module:
    """Random weights in float64, norms with random statistics and parameters."""
    torch.manual_seed(0)
    model = make().double().eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
            if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
                module.weight.normal_(1, 0.3)
                module.bias.normal_(0, 0.2)
    return model


@pytest.mark.parametrize("name", CASES)
def test_equals_the_definition(name: str) -> None:
    import_torchvision()
    pytest.importorskip("timm", reason="timm is not installed")
    make, forward, options = CASES[name]
    model = prepared(make)
    x, target = torch.randn(2, 3, 32, 32, dtype=torch.float64), torch.tensor([3, 5])

    def expected(seed: Tensor) -> Tensor:
        tape = Tape()
        logits = forward(tape, model, x)
        torch.testing.assert_close(logits, model(x).detach(), rtol=1e-6, atol=1e-8)
        return tape.backward(logits, seed, x)

    own = torch.nn.functional.one_hot(target, 7).double()
    positive, negative = expected(own), expected((1 - own) / 6)
    plain = relprop.explain(model, x, target, method="abslrp-plain", **options).relevance
    assert_close(plain, positive)
    assert_close(relprop.explain(model, x, target, method="abslrp", **options).relevance, positive - negative)
    torch.testing.assert_close(plain.abs().flatten(1).sum(1), torch.ones(2, dtype=torch.float64))


def assert_close(actual: Tensor, wanted: Tensor) -> None:
    for a, b in zip(actual, wanted, strict=True):
        assert torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1] >= 0.9999
        assert (a - b).norm() <= 1e-3 * b.norm()


def test_several_targets_equal_one_at_a_time() -> None:
    model = prepared(small_vit)
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    explainer = relprop.Explainer(model, x, "abslrp")
    several = explainer(x, torch.tensor([[0, 1], [2, 3]])).relevance
    torch.testing.assert_close(several[:, 1], explainer(x, torch.tensor([1, 3])).relevance)
    torch.testing.assert_close(several[:1], explainer(x[:1], torch.tensor([[0, 1]])).relevance)


class Between(nn.Module):
    """One op on signed values, between dense layers."""

    def __init__(self, op: Function, outputs: int = 12) -> None:
        super().__init__()
        self.first, self.op, self.last = nn.Linear(12, 12), op, nn.Linear(outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.op(self.first(x)))


@pytest.mark.parametrize(
    ("op", "outputs"),
    [
        (torch.sigmoid, 12),
        (torch.nn.functional.silu, 12),
        (lambda v: torch.nn.functional.hardtanh(v, -0.3, 0.2), 12),
        (lambda v: torch.nn.functional.max_pool1d(v.unsqueeze(1), 2).squeeze(1), 6),
    ],
    ids=["sigmoid", "silu", "hardtanh", "max_pool1d"],
)
def test_other_ops(op: Function, outputs: int) -> None:
    torch.manual_seed(1)
    model = Between(op, outputs).double().eval()
    x = torch.randn(2, 12, dtype=torch.float64)
    actual = relprop.explain(model, x, 1, method="abslrp-plain", max_pooling="divided").relevance
    tape = Tape()
    output = tape.op(model.last, tape.op(op, tape.op(model.first, x)))
    torch.testing.assert_close(actual, tape.backward(output, ONE, x))


ONE = torch.tensor([[0.0, 1, 0]] * 2, dtype=torch.float64)


def test_products_and_differences() -> None:
    """Both factors of a product take relevance; a subtrahend has the weight −1, of which the definition takes the magnitude."""
    torch.manual_seed(1)
    model = Between(lambda v: 1.5 - v * v.sin()).double().eval()
    x = torch.randn(2, 12, dtype=torch.float64)
    actual = relprop.explain(model, x, 1, method="abslrp-plain").relevance
    tape, negation = Tape(), Scale(-torch.ones(12, dtype=torch.float64))
    hidden = tape.op(model.first, x)
    product = tape.op(torch.mul, hidden, tape.op(torch.sin, hidden))
    shifted = tape.op(Shifted(negation), product)
    torch.testing.assert_close(actual, tape.backward(tape.op(model.last, shifted), ONE, x))


class Shifted(nn.Module):
    def __init__(self, scale: nn.Module) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return self.scale(x) + 1.5
