"""Time and peak memory of relprop's methods over input×gradient through autograd, on the same model in the same run.

    python benchmarks/speed.py --models vgg16 resnet50 --methods rap lrp-epsilon --repetitions 5

Every repetition times input×gradient and each method in turn; the figure is the median of their ratios. Memory is the growth of the
process's peak over what it holds once model and inputs are there, each measured in a process of its own.
"""

import argparse
import ctypes
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import relprop
from relprop.zoo import load

BASELINE = "input×gradient"
BATCH, SIZE = 4, 224


def build(name: str) -> nn.Module:
    """A model of the zoo with random weights; names without a source are torchvision's."""
    torch.manual_seed(0)
    return load(name if ":" in name else f"torchvision:{name}", pretrained=False).model.requires_grad_(False)


def input_times_gradient(model: nn.Module, inputs: Tensor, target: Tensor) -> Tensor:
    """The baseline: one forward and one backward pass of autograd."""
    x = inputs.detach().requires_grad_(True)
    logits = model(x)
    (gradient,) = torch.autograd.grad(logits.gather(1, target[:, None]).sum(), x)
    return gradient * x.detach()


def runners(model: nn.Module, methods: list[str]) -> tuple[dict[str, Callable[[], object]], dict[str, float]]:
    """One function per method, each a whole explanation; and the seconds that capturing took."""
    inputs, target = torch.rand(BATCH, 3, SIZE, SIZE), torch.arange(BATCH)
    run: dict[str, Callable[[], object]] = {BASELINE: lambda: input_times_gradient(model, inputs, target)}
    captured: dict[str, float] = {}
    for method in methods:
        begin = time.perf_counter()
        explainer = relprop.Explainer(model, inputs[:1], method=method)
        captured[method] = time.perf_counter() - begin
        run[method] = lambda explainer=explainer: explainer(inputs, target)
    return run, captured


def ratios(run: dict[str, Callable[[], object]], repetitions: int) -> dict[str, float]:
    """The median over repetitions of each method's time over the baseline's."""
    seconds: dict[str, list[float]] = {name: [] for name in run}
    for repetition in range(repetitions + 1):
        for name, function in run.items():
            begin = time.perf_counter()
            function()
            if repetition:  # the first round warms up
                seconds[name].append(time.perf_counter() - begin)
    return {
        name: statistics.median(a / b for a, b in zip(times, seconds[BASELINE], strict=True)) for name, times in seconds.items()
    }


def peak_growth(model_name: str, method: str) -> float:
    """MiB that one explanation adds to the peak memory of a fresh process."""
    command = [sys.executable, __file__, "--one", method, "--models", model_name]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def memory(what: str) -> float:
    """MiB of this process: ``VmRSS`` now, or ``VmHWM``, the peak since the last reset (Linux)."""
    return int(re.findall(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) / 1024


def measure_growth(model_name: str, method: str) -> None:
    """Print the growth of this process's peak memory by one explanation."""
    run, _ = runners(build(model_name), [] if method == BASELINE else [method])
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what building the model left over must not hide what the explanation takes
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = memory("VmRSS")
    run[method]()
    print(memory("VmHWM") - before)


def further_target_cost(model: nn.Module, method: str, repetitions: int) -> float:
    """The time of every further target of the same images over that of the first."""
    inputs = torch.rand(BATCH, 3, SIZE, SIZE)
    explainer = relprop.Explainer(model, inputs[:1], method=method)
    targets = torch.arange(4).expand(BATCH, 4)
    run = {BASELINE: lambda: explainer(inputs, targets[:, 0]), "four": lambda: explainer(inputs, targets)}
    return (ratios(run, repetitions)["four"] - 1) / 3


def main() -> None:
    """Print one table row per model and method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["vgg16", "resnet50"])
    parser.add_argument("--methods", nargs="+", default=["rap"])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--targets", action="store_true", help="also the cost of further targets")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.one:
        measure_growth(options.models[0], options.one)
        return
    print(f"Over {BASELINE}, batch {BATCH}, {SIZE} px, {options.threads} threads, median of {options.repetitions}:\n")
    print("| model | method | time | peak memory | capture, s |" + (" further target |" if options.targets else ""))
    print("|---|---|---|---|---|" + ("---|" if options.targets else ""))
    for name in options.models:
        model = build(name)
        run, captured = runners(model, options.methods)
        times, base = ratios(run, options.repetitions), peak_growth(name, BASELINE)
        for method in options.methods:
            row = f"| {name} | {method} | {times[method]:.2f} | {peak_growth(name, method) / base:.2f} | {captured[method]:.1f} |"
            print(
                row + (f" {further_target_cost(model, method, options.repetitions):.2f} |" if options.targets else ""), flush=True
            )


if __name__ == "__main__":
    main()
