"""Try relprop on what goes wrong in practice, and write the page ``docs/generated/reliability.md``.

    python benchmarks/reliability.py run --results FOLDER [--scale 1.0] [--jobs 1] [PART …]
    python benchmarks/reliability.py page --results FOLDER

Parts: images, weights, commands, tomls, networks, kills, disks, threads, calls. Each writes its outcome to ``FOLDER/PART.json``, so that parts
may run one by one. ``--scale 0.01`` tries a hundredth of the usual number. What is right is one of two things: the right result, or one sentence
of relprop; anything else is counted as bad and listed with the seed that makes it again.
"""

import argparse
import contextlib
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

import relprop
from relprop.cli import app
from relprop.cli import main as main_of_relprop
from relprop.errors import RelpropError
from relprop.evaluation import read_rows
from relprop.evaluation.settings import from_mapping, read_toml
from relprop.files import write_text
from relprop.images import open_photo
from relprop.methods import read_method
from relprop.zoo import load

PAGE = Path(__file__).parents[1] / "docs" / "generated" / "reliability.md"
LIST = 20
BEFORE = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
"""MiB of the process with all that it imports."""
NET = """
import torch
from torch import nn
from relprop.zoo import Preprocessing

def build():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(24, 4)), Preprocessing((16, 16), 16), ["cat", "cow", "dog", "horse"]
"""


@dataclass(frozen=True)
class Outcome:
    """What one part tried: the number of trials, of right results and of sentences, and what was bad; ``note`` has measured values."""

    tried: int
    results: int
    sentences: int
    bad: tuple[str, ...] = ()
    note: str = ""


Trial = Callable[[random.Random, Path], None]
"""Tries one thing: returns where the result is right, raises ``RelpropError`` for a sentence, anything else where it is bad."""


CHUNKS = 20
"""The processes that share the trials of a part, one after the other, so that none holds what libraries keep in memory."""


def repeated(trial: Trial, count: int, folder: Path, jobs: int = 1) -> Outcome:
    """Try with the seeds 0, 1, …, and count; with several jobs in processes of their own, each with a folder like this one."""
    if jobs == 1:
        return seeds(trial, range(count), folder)
    size = -(-count // CHUNKS)
    chunks = [range(start, min(start + size, count)) for start in range(0, count, size)]
    with ProcessPoolExecutor(jobs, get_context("spawn"), max_tasks_per_child=1) as pool:
        found = list(pool.map(partial(apart, trial), chunks))
    return Outcome(count, sum(o.results for o in found), sum(o.sentences for o in found), tuple(b for o in found for b in o.bad))


def apart(trial: Trial, chunk: range) -> Outcome:
    """Try some seeds in a folder of their own."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        make_world(Path(folder))
        found = seeds(trial, chunk, Path(folder))
    print(f"{trial.__name__} {chunk}: {len(found.bad)} bad", file=sys.stderr, flush=True)
    return found


def seeds(trial: Trial, chunk: range, folder: Path) -> Outcome:
    """Try with some seeds."""
    results = sentences = 0
    bad: list[str] = []
    for seed in chunk:
        try:
            trial(random.Random(seed), folder)
            results += 1
        except RelpropError:
            sentences += 1
        except Exception as error:
            bad.append(f"seed {seed}: {type(error).__name__}: {str(error).strip()[:150]}")
    return Outcome(len(chunk), results, sentences, tuple(bad))


def corrupted(content: bytes, draw: random.Random) -> bytes:
    """Cut, overwrite, repeat or insert some bytes."""
    start = draw.randrange(len(content))
    length = draw.choice([1, 1, 2, 8, 100])
    noise = draw.randbytes(length)
    kinds = {
        "cut": content[:start],
        "overwrite": content[:start] + noise + content[start + length :],
        "insert": content[:start] + noise + content[start:],
        "remove": content[:start] + content[start + length :],
        "zeros": content[:start] + bytes(length) + content[start + length :],
    }
    return kinds[draw.choice(list(kinds))]


FORMATS = {
    "png": ("RGB", "RGBA", "L", "P", "LA", "1", "I;16"),
    "jpg": ("RGB", "L", "CMYK"),
    "gif": ("P", "L"),
    "bmp": ("RGB", "L", "1"),
    "webp": ("RGB", "RGBA"),
    "tif": ("RGB", "RGBA", "L", "CMYK", "I;16", "F"),
    "ppm": ("RGB", "L"),
    "tga": ("RGB", "L"),
    "jp2": ("RGB", "L"),
    "pcx": ("RGB", "L", "P"),
    "sgi": ("RGB", "L"),
}
"""The modes in which photos of each format are saved."""
SLOWEST, LARGEST = 5.0, 1024
"""Seconds of computing, and MiB of memory, that one photo may take."""


def try_image(draw: random.Random, folder: Path) -> None:
    """Open a corrupt photo."""
    suffix = draw.choice(list(FORMATS))
    path, mode = folder / f"photo.{suffix}", draw.choice(FORMATS[suffix])
    size = draw.randint(1, 40), draw.randint(1, 40)
    pixels = np.random.default_rng(draw.randrange(2**32)).integers(0, 256, (*size, 3), dtype=np.uint8)
    photo = Image.fromarray(pixels)
    deep = mode in {"I;16", "F"}
    (
        Image.fromarray(pixels[..., 0].astype(np.uint16) * 257 if mode == "I;16" else np.float32(pixels[..., 0]) / 255)
        if deep
        else photo.convert(mode)
    ).save(path)
    for _ in range(draw.choice([1, 1, 1, 2, 5])):
        path.write_bytes(corrupted(path.read_bytes() or b"0", draw))
    start = time.process_time()
    try:
        open_photo(path)
    finally:
        seconds = time.process_time() - start
        if seconds > SLOWEST:
            raise AssertionError(f"{path.name} took {seconds:.1f} s")


def images(count: int, folder: Path, jobs: int = 1) -> Outcome:
    """Open corrupt photos; the memory of the process stays within bounds too."""
    whose = resource.RUSAGE_SELF if jobs == 1 else resource.RUSAGE_CHILDREN
    before = resource.getrusage(whose).ru_maxrss / 1024 if jobs == 1 else BEFORE
    outcome = repeated(try_image, count, folder, jobs)
    peak = resource.getrusage(whose).ru_maxrss / 1024 - before
    bad = (f"a photo took {peak:.0f} MiB",) if peak > LARGEST else ()
    return replace(outcome, bad=(*outcome.bad, *bad), note=f"memory grew by at most {peak:.0f} MiB")


def try_weights(draw: random.Random, folder: Path) -> None:
    """Load a corrupt file of weights."""
    path = folder / draw.choice(["net.safetensors", "net.pth"])
    sound = path.with_name(f"sound-{path.name}")
    if not sound.exists():
        state = load(f"{folder / 'net.py'}:build").model.state_dict()
        save_file(state, sound) if path.suffix == ".safetensors" else torch.save(state, sound)
    path.write_bytes(corrupted(sound.read_bytes(), draw))
    load(f"{folder / 'net.py'}:build", path)


WORDS = (
    "",
    "-1",
    "0",
    "9" * 30,
    "nan",
    "rap",
    "top:3",
    "a" * 300,
    "--",
    "[1,2",
    "epsilon=0",
    "start=signed",
    "é→",
    "cpu",
    "none",
    "net.py:build",
)
FLAGS = (
    "--data",
    "--methods",
    "--metrics",
    "--labels",
    "--std",
    "--scale",
    "--activation",
    "--limit",
    "--batch-size",
    "--block",
    "--seed",
    "--format",
    "--baseline",
    "--npy",
    "--json",
    "--overlay",
    "--dry-run",
    "--model",
    "--method",
    "--option",
    "--target",
    "--output",
    "--device",
    "--percentile",
    "--dpi",
    "--weights",
    "--size",
    "--mean",
)


RIGHT = {
    "explain": "PHOTO --model NET -o OUT",
    "compare": "PHOTO --model NET --methods rap,gradient -o OUT",
    "inspect": "--model NET",
    "methods": "",
    "models": "",
    "report": "OUT/results",
    "evaluate": "--data folder:DATA --model NET --methods gradient --metrics complexity --limit 4 -o OUT/results",
    "fit-patterns": "--data DATA --model NET --limit 4 -o OUT/patterns.safetensors",
    "reproduce": "rap-table1 -o OUT/paper",
}
"""A right call of every command, to be spoiled."""


def try_command(draw: random.Random, folder: Path) -> None:
    """Run a random command line."""
    command, right = draw.choice(list(RIGHT.items()))
    paths = {
        "PHOTO": str(folder / "cat.png"),
        "NET": f"{folder}/net.py:build",
        "DATA": str(folder / "images"),
        "OUT": str(folder / "out"),
    }
    words = (
        [re.sub("PHOTO|NET|DATA|OUT", lambda name: paths[name[0]], word) for word in right.split()] if draw.random() < 0.7 else []
    )
    for _ in range(draw.randint(0, 4)):
        words.insert(draw.randint(0, len(words)), draw.choice([*FLAGS, *WORDS, *paths.values()]))
    if command == "compare" and "--methods" not in words:
        words += ["--methods", "rap,gradient"]  # all methods on the model by default take a minute
    with contextlib.chdir(folder):  # what a command writes by default goes where it is deleted
        answer = CliRunner().invoke(app, [command, *words])
    if answer.exit_code not in {0, 1, 2} or "unforeseen" in answer.output or "Traceback" in answer.output:
        raise AssertionError(f"{command} {words}: {answer.exit_code} {answer.output.strip()[-120:]}")
    if answer.exit_code:
        raise RelpropError("refused in one sentence")


LINES = (
    *(
        'base = "rap"',
        'base = "lrp-epsilon"',
        "base = 3",
        'name = ""',
        "bounds = [1, 0]",
        "bounds = [nan, 1]",
        'start = "one"',
        "conserves = 1",
    ),
    *(
        "[options]",
        "epsilon = -1",
        "epsilon = inf",
        "[rules]",
        'conv = "gamma"',
        'conv = "gama"',
        "conv = { rule = 3 }",
        "[by_path]",
        '"[" = "flat"',
    ),
    *(
        'data = "folder:."',
        "models = 3",
        'models = ["m"]',
        'methods = ["rap:="]',
        "metrics = [{name = 3}]",
        "limit = 1e400",
        "block = 3",
        "= 3",
    ),
    "x = " + "[" * 2000,
)


METHOD = """
base = "epsilon-plus"
name = "mine"
fold_batchnorm = true
bounds = [-2.2, 2.7]
[options]
epsilon = 1e-4
start = "one"
[rules]
conv = { rule = "gamma", gamma = 0.25 }
[by_op]
conv_transpose2d = "flat"
[by_path]
"features.0" = "zbox"
"""
SETTINGS = """
data = "folder:images"
models = ["net.py:build", { name = "net.py:build", pretrained = false }]
methods = ["rap", "rap:start=signed", { name = "gradient" }]
metrics = ["complexity", { name = "lerf", per_step = 2 }]
output = "results"
limit = 4
mean = [0.5, 0.5, 0.5]
size = 16
block = 8
"""
"""Right files, to be spoiled."""


def try_toml(draw: random.Random, folder: Path) -> None:
    """Read a random TOML file, as a method or as settings."""
    path = folder / "random.toml"
    method = draw.random() < 0.5
    if draw.random() < 0.5:
        path.write_text("\n".join(draw.sample(LINES, draw.randint(1, 6))) + "\n")
    else:
        path.write_bytes(corrupted((METHOD if method else SETTINGS).encode(), draw))
    if method:
        read_method(path)
    else:
        from_mapping(read_toml(path), str(path))


SEVEN = ("rap", "lrp-epsilon", "epsilon-plus", "abslrp", "deeplift", "gradient", "grad-cam")


def attend(x: torch.Tensor, f: nn.Module) -> torch.Tensor:
    """Let pixels attend to each other, with a residual sum."""
    tokens = x.flatten(2).transpose(1, 2)
    queries, keys, values = f(tokens).chunk(3, -1)
    found = nn.functional.scaled_dot_product_attention(queries, keys, values)
    return x + found.transpose(1, 2).unflatten(2, x.shape[2:])


def conv(inputs: int = 4, **options: int) -> nn.Module:
    """Return a convolution to four channels of the same size."""
    return nn.Conv2d(inputs, 4, 3, padding=1, **options)


BLOCKS: dict[str, tuple[Callable[[], nn.Module], Callable[[torch.Tensor, nn.Module], torch.Tensor]]] = {
    "conv": (conv, lambda x, f: f(x).relu()),
    "grouped": (lambda: conv(groups=2), lambda x, f: nn.functional.gelu(f(x))),
    "norm": (lambda: nn.BatchNorm2d(4), lambda x, f: f(x)),
    "layer norm": (lambda: nn.LayerNorm(4), lambda x, f: f(x.movedim(1, -1)).movedim(-1, 1)),
    "add": (conv, lambda x, f: (x + f(x)).relu()),
    "gate": (conv, lambda x, f: x * f(x).sigmoid()),
    "max pool": (conv, lambda x, f: nn.functional.max_pool2d(f(x).relu(), 3, 1, 1)),
    "mean pool": (conv, lambda x, f: nn.functional.avg_pool2d(f(x), 3, 1, 1)),
    "cat": (lambda: conv(8), lambda x, f: f(torch.cat([x, -x], 1)).relu()),
    "sigmoid": (conv, lambda x, f: f(x).sigmoid()),
    "silu": (conv, lambda x, f: nn.functional.silu(f(x))),
    "linear": (lambda: nn.Linear(4, 4), lambda x, f: f(x.movedim(1, -1)).movedim(-1, 1)),
    "attention": (lambda: nn.Linear(4, 12), attend),
}
"""The blocks of random networks: a layer, and what is done with it."""


class Drawn(nn.Module):
    """A random network of one to six blocks."""

    def __init__(self, draw: random.Random) -> None:
        super().__init__()
        self.kinds = [draw.choice(list(BLOCKS)) for _ in range(draw.randint(1, 6))]
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.layers = nn.ModuleList(BLOCKS[kind][0]() for kind in self.kinds)
        self.head = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        x = self.stem(x).relu()
        for kind, layer in zip(self.kinds, self.layers, strict=True):
            x = BLOCKS[kind][1](x, layer)
        return self.head(x.mean((2, 3)))


def try_network(draw: random.Random, _: Path) -> None:
    """Explain a random network by seven methods; relevance is finite, and RAP and LRP-ε conserve."""
    torch.manual_seed(draw.randrange(2**31))
    model, inputs = Drawn(draw).eval(), torch.randn(2, 3, 8, 8)
    captured = relprop.capture(model, inputs)
    for name in SEVEN:
        found = captured.explainer(name)(inputs)
        if not bool(found.relevance.isfinite().all()):
            raise AssertionError(f"{name} on {model.kinds} is not finite")
        if name in {"rap", "lrp-epsilon"}:
            logit = found.logits.gather(1, found.target[:, None])[:, 0]
            gap = (found.relevance.flatten(1).sum(1) + found.absorbed - logit).abs().max()
            if gap > 1e-2 * (1 + logit.abs().max()):
                raise AssertionError(f"{name} on {model.kinds} misses the logit by {gap:.3g}")


def make_world(folder: Path, count: int = 16) -> None:
    """Write a data set, a model and a photo."""
    rng = np.random.default_rng(0)
    (folder / "net.py").write_text(NET)
    for number in range(count):
        place = folder / "images" / ("cat", "cow", "dog", "horse")[number % 4]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(place / f"{number:03d}.png")
    Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(folder / "cat.png")


@dataclass(frozen=True)
class Run:
    """An evaluation in a process of its own, forked from one that has imported everything and done nothing."""

    process: BaseProcess
    output: Path

    def ended(self) -> tuple[int, str]:
        """Wait for the end; return the exit code and what was said."""
        self.process.join()
        return self.process.exitcode or 0, self.output.read_text("utf-8", errors="replace")


def evaluation(folder: Path, output: Path) -> Run:
    """Start an evaluation."""
    where = ["--data", f"folder:{folder / 'images'}", "--model", f"{folder / 'net.py'}:build", "-o", str(output), "--block", "4"]
    what = ["--methods", "rap,gradient,lrp-epsilon", "--metrics", "lerf:per_step=2:steps=60,complexity"]
    context = get_context("forkserver")
    context.set_forkserver_preload(["relprop.cli", "relprop.cli.evaluate"])
    said = folder / "said.txt"
    process = context.Process(target=command, args=(["relprop", "evaluate", *where, *what], said))
    process.start()
    return Run(process, said)


def command(words: list[str], said: Path) -> None:
    """Run a command line as a program does, what it says into a file."""
    with said.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    torch.set_num_threads(1)
    sys.argv = words
    main_of_relprop()


def rows(folder: Path) -> pa.Table:
    """Return all rows of a results folder, without what differs from run to run."""
    return pa.Table.from_batches(read_rows(folder)).drop_columns(["seconds"])


def kills(count: int, folder: Path) -> Outcome:
    """Kill a run again and again until it has ended; the rows are those of a run that was not killed."""
    evaluation(folder, folder / "whole").ended()
    draw, killed, bad = random.Random(0), 0, []
    while killed < count:
        shutil.rmtree(folder / "killed", ignore_errors=True)
        while killed < count:
            there = parts(folder / "killed")
            run = evaluation(folder, folder / "killed")
            while run.process.is_alive() and parts(folder / "killed") <= there:
                time.sleep(0.005)
            time.sleep(draw.random() / 10)
            run.process.kill()
            code, _ = run.ended()
            killed += code == -signal.SIGKILL
            if code == 0:
                break
        evaluation(folder, folder / "killed").ended()
        if not rows(folder / "killed").equals(rows(folder / "whole")):
            bad.append(f"after {killed} kills the rows differ")
    return Outcome(count, count - len(bad), 0, tuple(bad))


def parts(folder: Path) -> int:
    """Count the stored parts of a run."""
    return len(list((folder / "parts").glob("[!.]*")))


def disks(count: int, folder: Path) -> Outcome:
    """Run on disks that are full after some KiB, and read-only; afterwards, with room, the run goes on. Needs the right to mount."""
    disk, results, sentences, bad = folder / "disk", 0, 0, list[str]()
    disk.mkdir()
    for number in range(count):
        free = 0 if number == 0 else 12 * number
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={max(4, free)}k", "tmpfs", str(disk)],
            check=False,
            capture_output=True,
        )
        if mounted.returncode:
            return Outcome(0, 0, 0, (), "not tried: no right to mount")
        try:
            if number == 0:
                subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            code, said = evaluation(folder, disk / "results").ended()
            subprocess.run(["mount", "-o", "remount,rw,size=8m", str(disk)], check=True)
            again, _ = evaluation(folder, disk / "results").ended()
            hidden = [path.name for path in disk.rglob(".*") if path.name != ".lock"]
            if again or hidden or (code and ("unforeseen" in said or "Traceback" in said)):
                bad.append(f"{free} KiB: {said.strip()[-120:]} {hidden}")
            results, sentences = results + (code == 0), sentences + (code != 0)
        finally:
            subprocess.run(["umount", str(disk)], check=True)
    return Outcome(count, results, sentences, tuple(bad))


def threads(count: int, folder: Path) -> Outcome:
    """Explain in eight threads at once; every map is that of one thread."""
    explainer = relprop.Explainer(load(f"{folder / 'net.py'}:build").model, torch.zeros(1, 3, 16, 16))
    batches = [torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) for seed in range(count)]
    right = [explainer(batch).relevance for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda batch: explainer(batch).relevance, batches))
    bad = [f"batch {number}" for number in range(count) if not torch.allclose(found[number], right[number], atol=1e-6)]
    return Outcome(count, count - len(bad), 0, tuple(bad))


def calls(count: int, folder: Path) -> Outcome:
    """Explain again and again; memory stays as it is after the first tenth."""
    explainer = relprop.Explainer(load(f"{folder / 'net.py'}:build").model, torch.zeros(1, 3, 16, 16))
    inputs, before = torch.randn(8, 3, 16, 16), 0
    for number in range(count):
        explainer(inputs)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if number == count // 10 else before
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return Outcome(count, count, 0, (f"memory grew by {grown:.0f} MiB",) if grown > 64 else (), f"memory grew by {grown:.1f} MiB")


def of_trial(trial: Trial) -> Callable[..., Outcome]:
    """Return a part that repeats a trial."""
    return lambda count, folder, jobs=1: repeated(trial, count, folder, jobs)


PARTS: dict[str, tuple[int, str, Callable[..., Outcome]]] = {
    "images": (10_000, "corrupt photos", images),
    "weights": (10_000, "corrupt files of weights", of_trial(try_weights)),
    "commands": (1_000, "random command lines", of_trial(try_command)),
    "tomls": (1_000, "random TOML files", of_trial(try_toml)),
    "networks": (1_000, "random networks × 7 methods", of_trial(try_network)),
    "kills": (20, "SIGKILLs of an evaluation", kills),
    "disks": (10, "full and read-only disks", disks),
    "threads": (1_000, "explanations in 8 threads", threads),
    "calls": (1_000, "calls of one explainer", calls),
}
"""Each part with its number of trials, what it tries, and its function."""
TRIALS = ("images", "weights", "commands", "tomls", "networks")
"""The parts that may run in several processes."""


def run(names: list[str], results: Path, scale: float, jobs: int) -> None:
    """Run some parts and write their outcomes."""
    results.mkdir(parents=True, exist_ok=True)
    for name in names or PARTS:
        count, _, part = PARTS[name]
        with tempfile.TemporaryDirectory() as folder:
            make_world(Path(folder))
            more = {"jobs": jobs} if name in TRIALS else {}
            outcome = part(max(1, round(count * scale)), Path(folder), **more)
        write_text(results / f"{name}.json", json.dumps(asdict(outcome), indent=2) + "\n")
        print(
            f"{name}: {outcome.tried} tried, {outcome.results} results, {outcome.sentences} sentences, {len(outcome.bad)} bad {outcome.note}"
        )


def lines(results: Path) -> Iterator[str]:
    """Yield the lines of the page."""
    yield from (
        "# Reliability",
        "",
        "What goes wrong in practice, tried by `benchmarks/reliability.py`: files with bytes cut, overwritten, inserted or removed, right calls and",
        "settings with odd words in them, networks of random blocks, runs that are killed, disks that are full. The right answer is a right result",
        "or one sentence; anything else is bad, and listed below with the seed that makes it again. A corrupt photo takes at most",
        f"{SLOWEST:.0f} s and {LARGEST} MiB, RAP and LRP-ε conserve, and memory stays as it is.",
        "",
    )
    yield from ("| tried | number | right results | sentences | bad |", "|---|---:|---:|---:|---:|")
    found = {name: json.loads(path.read_text("utf-8")) for name in PARTS if (path := results / f"{name}.json").exists()}
    for name, outcome in found.items():
        note = f" ({outcome['note']})" if outcome["note"] else ""
        yield f"| {PARTS[name][1]}{note} | {outcome['tried']} | {outcome['results']} | {outcome['sentences']} | {len(outcome['bad'])} |"
    for name, outcome in found.items():
        if outcome["bad"]:
            yield from (
                "",
                f"## Bad: {PARTS[name][1]}",
                "",
                *(f"- `{text.replace('`', chr(39))}`" for text in outcome["bad"][:LIST]),
            )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["run", "page"])
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="all by default")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.task == "run":
        run(chosen.parts, chosen.results, chosen.scale, chosen.jobs)
    else:
        write_text(PAGE, "\n".join(lines(chosen.results)) + "\n")


if __name__ == "__main__":
    main()
