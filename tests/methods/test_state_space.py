"""State-space models: MambaLRP against gradients of a model modified by hand, in whatever form the scan is written."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

import relprop
from relprop.errors import OptionError, UnsupportedOpError
from relprop.ops.op import Role
from relprop.zoo.torchvision_ops import import_torchvision
from tests.methods.mambas import RANK, SCANS, STATE, Block, Mixer, RMSNorm, SequenceMamba, VisionMamba, scan_in_parallel
from tests.rules.reference import check_conservation

CLOSE = {"rtol": 1e-7, "atol": 1e-10}
METHODS = ("rap", "lrp-epsilon", "lrp-zplus", "attnlrp", "cp-lrp", "mamba-lrp")


# --- MambaLRP by hand ----------------------------------------------------------------------------------------------------------------


def half(x: Tensor) -> Tensor:
    return x / 2 + (x / 2).detach()


def silu(x: Tensor) -> Tensor:
    return x * x.sigmoid().detach()


def mixed(m: Mixer, h: Tensor) -> Tensor:
    """The mixer with Δ, B, C detached and the gate in halves, step by step."""
    x, z = m.in_proj(h).chunk(2, -1)
    x = silu(m.conv(x.mT)[..., : x.shape[1]]).mT
    delta, b, c = m.x_proj(x).detach().split([RANK, STATE, STATE], -1)
    delta, a = F.softplus(m.dt_proj(delta)).detach(), -m.a_log.exp()
    state, outputs = torch.zeros(*x[:, 0].shape, STATE, dtype=x.dtype), []
    for t in range(x.shape[1]):
        step = delta[:, t].unsqueeze(-1)
        state = torch.exp(step * a) * state + step * b[:, t].unsqueeze(1) * x[:, t].unsqueeze(-1)
        outputs.append((state @ c[:, t].unsqueeze(-1)).squeeze(-1))
    return m.out_proj(half((torch.stack(outputs, 1) + m.d * x) * silu(z)))


def normed(norm: nn.Module, x: Tensor) -> Tensor:
    if isinstance(norm, RMSNorm):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5).detach() * norm.weight
    deviation = (x.var(-1, keepdim=True, correction=0) + norm.eps).sqrt().detach()
    return (x - x.mean(-1, keepdim=True)) / deviation * norm.weight + norm.bias


def block(b: Block, h: Tensor) -> Tensor:
    x = normed(b.norm, h)
    out = mixed(b.mixers[0], x)
    return h + (out if len(b.mixers) == 1 else out + mixed(b.mixers[1], x.flip(1)).flip(1))


def through_blocks(model: SequenceMamba | VisionMamba, h: Tensor, at: int) -> Tensor:
    for b in model.blocks:
        h = block(b, h)
    return model.head(normed(model.norm, h)[:, at])


def expected_for_tokens(model: SequenceMamba, ids: Tensor, target: int) -> Tensor:
    h = model.embedding(ids).detach().requires_grad_()
    return h.detach() * torch.autograd.grad(through_blocks(model, h, -1)[:, target].sum(), h)[0]


def expected_for_images(model: VisionMamba, images: Tensor, target: int) -> Tensor:
    given = images.clone().requires_grad_()
    x = model.patches(given).flatten(2).mT
    middle = x.shape[1] // 2
    x = torch.cat([x[:, :middle], model.token.expand(len(x), -1, -1), x[:, middle:]], 1) + model.positions
    return images * torch.autograd.grad(through_blocks(model, x, middle)[:, target].sum(), given)[0]


def made(make: Callable[..., nn.Module], *args: Any, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return make(*args, **options).double().eval()


@pytest.mark.parametrize("scan", SCANS)
def test_tokens_against_a_model_modified_by_hand(scan: str) -> None:
    model, ids = made(SequenceMamba, SCANS[scan]), torch.tensor([[3, 1, 4, 1, 5, 9], [2, 7, 1, 8, 2, 8], [5, 5, 5, 0, 19, 6]])
    explainer = relprop.Explainer(model, ids[:2], "mamba-lrp")
    explanation = explainer(ids, 1)
    torch.testing.assert_close(explanation.logits, model(ids))
    torch.testing.assert_close(explanation.relevance, expected_for_tokens(model, ids, 1), **CLOSE)
    check_conservation(explanation)
    torch.testing.assert_close(explainer(ids[1:2], 1).relevance, explanation.relevance[1:2], **CLOSE)


@pytest.mark.parametrize("scan", SCANS)
def test_images_against_a_model_modified_by_hand(scan: str) -> None:
    model, x = made(VisionMamba, SCANS[scan]), torch.randn(2, 3, 12, 12, dtype=torch.float64)
    explanation = relprop.explain(model, x, 2, method="mamba-lrp")
    torch.testing.assert_close(explanation.relevance, expected_for_images(model, x, 2), **CLOSE)
    check_conservation(explanation)


@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize("make", [SequenceMamba, VisionMamba])
def test_methods_conserve_and_do_not_depend_on_the_batch(make: Callable[..., nn.Module], scan: str) -> None:
    images = make is VisionMamba
    model = made(make, SCANS[scan], depth=1, **({} if images else {"vocabulary": None}))
    x = torch.randn(3, 3, 12, 12, dtype=torch.float64) if images else torch.randn(3, 7, 3, dtype=torch.float64)
    captured, target = relprop.capture(model, x[:2]), torch.tensor([0, 2, 1])
    for method in METHODS:
        explainer = captured.explainer(method)
        explanation = explainer(x, target)
        check_conservation(explanation)
        torch.testing.assert_close(explainer(x[1:2], 2).relevance, explanation.relevance[1:2], rtol=1e-6, atol=1e-9)
    given = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(given).gather(1, target[:, None]).sum(), given)
    torch.testing.assert_close(captured.explainer("gradient")(x, target).relevance, gradient, **CLOSE)


@pytest.mark.parametrize("scan", SCANS)
def test_parameters_are_told_from_values(scan: str) -> None:
    """No relevance reaches the projection to Δ, B and C: at most that of the first decay, which multiplies a state of zeros."""
    model, x = made(SequenceMamba, SCANS[scan], depth=1, vocabulary=None), torch.randn(2, 5, 3, dtype=torch.float64)
    explainer = relprop.Explainer(model, x, "mamba-lrp")
    (gate,) = [s for s in explainer.plan.steps if s.role is Role.GATE]
    assert len(gate.operands) == 2
    layer = "blocks.0.mixers.0.x_proj"
    if SCANS[scan] is scan_in_parallel:
        with pytest.raises(OptionError, match="No relevance passes"):
            explainer(x, 1, layers=[layer])
    else:
        assert not explainer(x, 1, layers=[layer]).layers[layer].any()


def test_epsilon_treats_state_space_models_alike() -> None:
    """Gates of equal size take halves in LRP-ε too."""
    model, x = made(VisionMamba), torch.randn(2, 3, 12, 12, dtype=torch.float64)
    captured = relprop.capture(model, x)
    ours = captured.explainer("mamba-lrp")(x, 1).relevance
    torch.testing.assert_close(captured.explainer("lrp-epsilon", epsilon=0.0)(x, 1).relevance, ours, rtol=1e-6, atol=1e-9)


def test_gamma_holds_for_layers() -> None:
    model, x = made(VisionMamba), torch.randn(2, 3, 12, 12, dtype=torch.float64)
    explainer = relprop.Explainer(model, x, "mamba-lrp", gamma=0.25)
    rules = {(s.role, s.rule) for s in explainer.plan.steps if s.backward}
    assert {(Role.INPUT, "gamma"), (Role.DENSE, "gamma"), (Role.CONV, "gamma"), (Role.OUTPUT, "proportional")} <= rules
    check_conservation(explainer(x, 1))


def test_refuses_other_models() -> None:
    with pytest.raises(UnsupportedOpError, match=r"'mamba-lrp' needs a state-space model with decays exp\(Δ A\)"):
        relprop.Explainer(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), torch.randn(2, 3), "mamba-lrp")


# --- other models with decays ----------------------------------------------------------------------------------------------------------


class GatedLinearRecurrence(nn.Module):
    """Griffin's RG-LRU (De et al. 2024): ``h = a h + √(1 − a²) (σ(i) x)`` with ``a = exp(−8 softplus(Λ) σ(r))``, times a branch of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.branch = nn.Linear(3, 5), nn.Linear(3, 5)
        self.reset, self.input, self.rate = nn.Linear(5, 5), nn.Linear(5, 5), nn.Parameter(torch.randn(5))
        self.last = nn.Linear(5, 3)

    def forward(self, given: Tensor) -> Tensor:
        x = self.first(given)
        decay = torch.exp(-8 * F.softplus(self.rate) * self.reset(x).sigmoid())
        drive = torch.sqrt(1 - decay.square()) * (self.input(x).sigmoid() * x)
        h = torch.zeros_like(x[:, 0])
        for t in range(x.shape[1]):
            h = decay[:, t] * h + drive[:, t]
        return self.last(h * F.silu(self.branch(given))[:, -1])

    def by_hand(self, given: Tensor) -> Tensor:
        x = self.first(given)
        decay = torch.exp(-8 * F.softplus(self.rate) * self.reset(x).sigmoid()).detach()
        gate = self.input(x)
        # half to σ(i), which passes it to i
        gate = half(gate * (gate.sigmoid() / gate).detach() * x)
        h = torch.zeros_like(x[:, 0])
        for t in range(x.shape[1]):
            h = decay[:, t] * h + torch.sqrt(1 - decay[:, t].square()) * gate[:, t]
        return self.last(half(h * silu(self.branch(given))[:, -1]))


def test_a_linear_recurrence_with_gates() -> None:
    """Neither is the state mistaken for a parameter of what gates it, nor the gate of its input for a decay."""
    model, x = made(GatedLinearRecurrence), torch.randn(2, 5, 3, dtype=torch.float64)
    explanation = relprop.explain(model, x, 1, method="mamba-lrp")
    given = x.clone().requires_grad_()
    expected = x * torch.autograd.grad(model.by_hand(given)[:, 1].sum(), given)[0]
    torch.testing.assert_close(explanation.relevance, expected, **CLOSE)


# --- transformers ------------------------------------------------------------------------------------------------------------------------


class Head(nn.Module):
    """A classifier of the last token."""

    def __init__(self, backbone: nn.Module, width: int) -> None:
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(width, 3)

    def forward(self, **given: Tensor) -> Tensor:
        return self.head(self.backbone(**given).last_hidden_state[:, -1])


def hugging_face(name: str) -> nn.Module:
    import_torchvision()
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config, model, own = {
        "mamba": ("MambaConfig", "MambaModel", {"use_mambapy": False, "time_step_rank": 2}),
        "falcon": ("FalconMambaConfig", "FalconMambaModel", {"use_mambapy": False, "time_step_rank": 2}),
        "mamba2": ("Mamba2Config", "Mamba2Model", {"num_heads": 4, "head_dim": 8, "n_groups": 2, "chunk_size": 4, "expand": 2}),
    }[name]
    settings = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4, **own}
    return made(lambda: Head(getattr(transformers, model)(getattr(transformers, config)(**settings)), 16)).float()


class Modified(TorchFunctionMode):
    """Gates of SiLU, divisors of norms, and steps detached; of Mamba-2 also what its convolution computes beside the values."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is F.silu:
            return silu(args[0])
        found = function(*args, **kwargs)
        if function in {torch.rsqrt, F.softplus}:
            return found.detach()
        if function is torch.split and isinstance(args[1], list) and args[1][1:] == [8, 8]:
            return (found[0], *(part.detach() for part in found[1:]))
        return found


@contextmanager
def modified(model: nn.Module) -> Iterator[None]:
    """MambaLRP by the modules of transformers: hooks on them, and other functions."""
    with ExitStack() as stack:
        for path, module in model.named_modules():
            if path.endswith("x_proj"):
                stack.callback(module.register_forward_hook(lambda _m, _i, out: out.detach()).remove)
                out_proj = model.get_submodule(path.removesuffix("x_proj") + "out_proj")
                stack.callback(out_proj.register_forward_pre_hook(lambda _m, i: (half(i[0]),)).remove)
            if type(module).__name__ == "MambaRMSNormGated":
                stack.callback(module.register_forward_pre_hook(lambda _m, i: tuple(map(half, i))).remove)
        stack.enter_context(Modified())
        yield


@pytest.mark.parametrize("name", ["mamba", "falcon", "mamba2"])
def test_hugging_face_models_as_they_are(name: str) -> None:
    model, ids = hugging_face(name), torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6, 5, 3], [2, 7, 1, 8, 2, 8, 1, 8, 2, 8]])
    captured = relprop.capture(model, {"input_ids": ids})
    for method in METHODS:
        explanation = captured.explainer(method)({"input_ids": ids}, 1)
        total = explanation.relevance["input_ids"].flatten(1).sum(1) + explanation.absorbed
        torch.testing.assert_close(total, explanation.logits[:, 1], rtol=1e-3, atol=1e-5)
    ours = captured.explainer("mamba-lrp")({"input_ids": ids}, 1).relevance["input_ids"]
    embedded = model.backbone.get_input_embeddings()(ids).detach().requires_grad_()
    with modified(model):
        score = model(inputs_embeds=embedded)[:, 1].sum()
    expected = embedded.detach() * torch.autograd.grad(score, embedded)[0]
    assert (ours - expected).norm() <= 1e-4 * expected.norm()
