"""Time of other libraries over relprop's, for the same rule on the same model in the same run.

    python benchmarks/peers.py --models vgg16 resnet50 vit_b_16 --repetitions 3

Every repetition times relprop and each peer in turn, a whole explanation each; setting up (capturing, registering hooks, folding BatchNorm)
is not timed. Printed are the median over repetitions of the peer's time over relprop's, relprop's time over input×gradient's, and the
correlation of the two maps, as a check that both compute the same. Weights are random. A peer that does not import, or does not run on a
model, is listed with its reason. Peers: zennit, captum, LXT, autoLRP (``pip install autoLRP``) and pnpxai
(``pip install --no-deps pnpxai``, then ``pip install shap optuna``).
"""

import argparse
import copy
import importlib
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from speed import SIZE, build, input_times_gradient
from torch import Tensor, nn

import relprop
from relprop.zoo.torchvision_ops import import_torchvision

EPSILON = 1e-6
Run = Callable[[], Tensor]
Open = Callable[[nn.Module, Tensor, Tensor], AbstractContextManager[Run]]


@dataclass(frozen=True)
class Case:
    """A peer's rule, relprop's method with its options, and how to prepare the peer: ``open(model, inputs, target)`` gives its run."""

    peer: str
    rule: str
    method: str
    options: dict[str, Any]
    open: Open

    @property
    def ours(self) -> tuple[str, tuple[tuple[str, Any], ...]]:
        """What relprop runs, as a key."""
        return self.method, tuple(self.options.items())


@contextmanager
def zennit(model: nn.Module, inputs: Tensor, target: Tensor, *, composite: str, **options: float) -> Iterator[Run]:
    """One of zennit's composites, with the canonizer for the model."""
    from zennit import attribution, composites
    from zennit import torchvision as canonizers

    canonizer = canonizers.ResNetCanonizer() if type(model).__name__ == "ResNet" else canonizers.VGGCanonizer()
    seed = nn.functional.one_hot(target, 1000).float()
    with attribution.Gradient(model, getattr(composites, composite)(canonizers=[canonizer], **options)) as attribute:

        def run() -> Tensor:
            return attribute(inputs.clone().requires_grad_(), seed)[1].detach()

        yield run


def out_of_place(model: nn.Module) -> None:
    """Let no activation overwrite its input, which some peers ask for."""
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False


@contextmanager
def captum(model: nn.Module, inputs: Tensor, target: Tensor) -> Iterator[Run]:
    """Captum's LRP with its default rule, ε."""
    from captum.attr import LRP

    out_of_place(model)
    attribute = LRP(model)
    yield lambda: attribute.attribute(inputs.clone().requires_grad_(), target=target).detach()


@contextmanager
def autolrp(model: nn.Module, inputs: Tensor, target: Tensor, *, preset: str) -> Iterator[Run]:
    """AutoLRP with one of its presets; ``epsilon`` is its default."""
    library = importlib.import_module("autolrp")
    config = library.LRPConfig(eps=EPSILON) if preset == "epsilon" else getattr(library.LRPConfig, preset)()

    def run() -> Tensor:
        wrapped = library.tensor(inputs.clone())
        model(wrapped).gather(1, target[:, None]).sum().lrp(config=config)
        return wrapped.relevance.detach()

    yield run


@contextmanager
def pnpxai(model: nn.Module, inputs: Tensor, target: Tensor) -> Iterator[Run]:
    """Pnpxai's RAP, from a one at the target."""
    out_of_place(model)
    method = importlib.import_module("pnpxai.explainers.rap.rap").RelativeAttributePropagation(model)
    seed = nn.functional.one_hot(target, 1000).float()

    def run() -> Tensor:
        method.run(inputs)
        return method.relprop(seed).detach()

    yield run


def _lxt(name: str) -> ModuleType:
    """Import a module of LXT's ``efficient`` package alone; the package itself wants language models that newer transformers lack."""
    root = Path(importlib.import_module("lxt").__file__ or "").parent
    for package in ("efficient", "efficient.models"):
        if f"lxt.{package}" not in sys.modules:
            sys.modules[f"lxt.{package}"] = module = ModuleType(f"lxt.{package}")
            module.__path__ = [str(root.joinpath(*package.split(".")))]
    return importlib.import_module(f"lxt.efficient.{name}")


@contextmanager
def lxt(model: nn.Module, inputs: Tensor, target: Tensor, *, attention: bool) -> Iterator[Run]:
    """LXT's patches of torchvision's ViT; with ``attention``, its rule for attention too, in place of constant attention weights."""
    patches = _lxt("patches")
    table = dict(_lxt("models.vit_torch").cp_LRP)
    if attention:

        def plain(_module: nn.Module, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v

        def forward(self: Any, x: Tensor, *_: object, **__: object) -> tuple[Tensor, None]:  # noqa: ANN401
            q, k, v = (
                nn.functional.linear(x, self.in_proj_weight, self.in_proj_bias)
                .unflatten(-1, (3, self.num_heads, -1))
                .permute(2, 0, 3, 1, 4)
            )
            return self.out_proj(patches.wrap_attention_forward(plain)(self, q, k, v).transpose(1, 2).flatten(2)), None

        table[nn.MultiheadAttention] = partial(patches.patch_method, forward)
    kept = {kind: kind.forward for kind in table}
    try:
        for kind, patch in table.items():
            patch(kind)
        yield lambda: input_times_gradient(model, inputs, target)
    finally:
        for kind, original in kept.items():
            kind.forward = original
            if "original_forward" in vars(kind):
                del kind.original_forward


_BOX = {"low": -3.0, "high": 3.0}
_CNN = (
    Case("zennit", "EpsilonPlus", "epsilon-plus", {}, partial(zennit, composite="EpsilonPlus")),
    Case("zennit", "EpsilonGammaBox", "epsilon-gamma-box", _BOX, partial(zennit, composite="EpsilonGammaBox", **_BOX)),
    Case("zennit", "EpsilonAlpha2Beta1", "epsilon-alpha2-beta1", {}, partial(zennit, composite="EpsilonAlpha2Beta1")),
    Case("captum", "LRP (ε)", "lrp-epsilon", {}, captum),
    Case("autoLRP", "LRPConfig() (ε)", "lrp-epsilon", {}, partial(autolrp, preset="epsilon")),
    Case("autoLRP", "composite (z⁺ in conv layers)", "epsilon-plus", {}, partial(autolrp, preset="composite")),
    Case("autoLRP", "epsilon_alpha2_beta1", "lrp-alpha2-beta1", {}, partial(autolrp, preset="epsilon_alpha2_beta1")),
    Case("pnpxai", "RAP", "rap-released", {}, pnpxai),
)
_VIT = (
    Case("LXT", "AttnLRP", "attnlrp", {}, partial(lxt, attention=True)),
    Case("LXT", "CP-LRP", "cp-lrp", {}, partial(lxt, attention=False)),
    Case("autoLRP", "attnlrp", "attnlrp", {}, partial(autolrp, preset="attnlrp")),
    Case("autoLRP", "cplrp", "cp-lrp", {}, partial(autolrp, preset="cplrp")),
)


def with_head(model: nn.Module) -> nn.Module:
    """Fill a last layer that is initialized with zeros, as torchvision's ViTs have it: it would leave nothing to explain."""
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    if not bool(last.weight.any()):
        nn.init.normal_(last.weight, std=0.02)
    return model


def timed(run: Run) -> tuple[float, Tensor]:
    """Seconds of one run, and its map."""
    begin = time.perf_counter()
    relevance = run()
    return time.perf_counter() - begin, relevance


def time_peer(case: Case, model: nn.Module, inputs: Tensor, target: Tensor) -> tuple[float, Tensor]:
    """Prepare a peer on a copy of the model, which it may change, and time one run."""
    with case.open(copy.deepcopy(model), inputs, target) as run:
        return timed(run)


def correlation(ours: Tensor, theirs: Tensor) -> float:
    """The smallest correlation among the samples, by magnitude: peers start with another number, sometimes of another sign."""
    pairs = [torch.stack([a.flatten(), b.flatten()]).double() for a, b in zip(ours, theirs, strict=True)]
    return min(abs(float(torch.corrcoef(pair)[0, 1])) for pair in pairs)


def compare(model: nn.Module, cases: list[Case], inputs: Tensor, target: Tensor, repetitions: int) -> Iterator[str]:
    """Yield the table's rows."""
    ours = {case.ours: relprop.Explainer(model, inputs[:1], method=case.method, **case.options) for case in cases}
    seconds: dict[object, list[float]] = {}
    maps: dict[object, Tensor] = {}
    failed: dict[int, str] = {}

    def record(key: object, measured: tuple[float, Tensor], round_: int) -> None:
        maps[key] = measured[1]
        if round_:  # the first round warms up
            seconds.setdefault(key, []).append(measured[0])

    for round_ in range(repetitions + 1):
        record("input×gradient", timed(lambda: input_times_gradient(model, inputs, target)), round_)
        for key, explainer in ours.items():
            record(key, timed(lambda explainer=explainer: explainer(inputs, target).relevance), round_)
        for index, case in enumerate(cases):
            if index not in failed:
                try:
                    record(index, time_peer(case, model, inputs, target), round_)
                except Exception as error:
                    failed[index] = (f"{type(error).__name__}: {error}".splitlines())[0][:120]
    for index, case in enumerate(cases):
        own = statistics.median(a / b for a, b in zip(seconds[case.ours], seconds["input×gradient"], strict=True))
        start = f"{case.peer} | {case.rule} | `{case.method}` | {own:.2f}"
        if index in failed:
            yield f"{start} | – ({failed[index]}) | – |"
        else:
            ratio = statistics.median(a / b for a, b in zip(seconds[index], seconds[case.ours], strict=True))
            yield f"{start} | {ratio:.2f} | {correlation(maps[case.ours], maps[index]):.4f} |"


def main() -> None:
    """Print one table row per model and case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["vgg16", "resnet50", "vit_b_16"], help="torchvision's CNNs and ViTs")
    parser.add_argument("--peers", nargs="+", help="only these")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    import_torchvision()
    inputs, target = torch.randn(options.batch, 3, options.size, options.size).clamp(-3, 3), torch.arange(options.batch)
    print(
        f"Batch {options.batch}, {options.size} px, {options.threads} threads, median of {options.repetitions}. {_versions()}\n"
    )
    print("| model | peer | its rule | relprop's method | relprop ÷ input×gradient | peer ÷ relprop | correlation |")
    print("|---|---|---|---|---|---|---|")
    for name in options.models:
        model = with_head(build(name))
        cases = [c for c in (_VIT if "vit" in name else _CNN) if not options.peers or c.peer in options.peers]
        for row in compare(model, cases, inputs, target, options.repetitions):
            print(f"| {name} | {row}", flush=True)


def _versions() -> str:
    found = []
    for name in ("torch", "zennit", "captum", "lxt", "autoLRP", "pnpxai"):
        try:
            found.append(f"{name} {version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"no {name}")
    return ", ".join(found) + "."


if __name__ == "__main__":
    main()
