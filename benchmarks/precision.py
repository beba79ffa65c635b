"""What single and half precision cost: every propagation and gradient method on the reference models, against float64.

    RELPROP_WEIGHTS=FOLDER python benchmarks/precision.py --photos FOLDER            # resumes a stopped run, and writes the page
    RELPROP_WEIGHTS=FOLDER python benchmarks/precision.py --photos FOLDER --redo --models resnet50 --methods rap
    python benchmarks/precision.py --report                                          # only writes the page from what was measured

Convolutional networks see the photos at ``--side`` pixels, DeiT at its own size. Every precision explains the class that float64
predicts. Half precision is measured on the models of ``--halves``: it rounds weights and photo, so its maps are compared with those of
the rounded model in float32, and with those of the model as it was; an ``autocast`` model opens autocast in its own forward pass.
"""

import argparse
import copy
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from reference_models import VARIABLE, load_reference
from torch import Tensor, nn
from torch.nn import functional

import relprop
from relprop.errors import RelpropError
from relprop.explainer import Captured
from relprop.explanation import Explanation
from relprop.images import open_photo
from relprop.methods import METHODS, Method, make_method
from relprop.zoo import load

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / ".cache" / "precision.jsonl"
PAGE = ROOT / "docs" / "generated" / "precision.md"
MODELS = ("efficientnet-lite0", "resnet50", "googlenet_bvlc", "squeezenet1_1", "vgg16_voc5", "deit_tiny")
GRADIENTS: Mapping[str, dict[str, Any]] = {
    "gradient": {},
    "input-x-gradient": {},
    "integrated-gradients": {"steps": 8},
    "expected-gradients": {"samples": 8},
    "smoothgrad": {"samples": 8},
    "vargrad": {"samples": 8},
    "guided-backprop": {},
    "deconvnet": {},
    "deeplift": {},
    "grad-cam": {},
    "layer-cam": {},
}
HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
Given = Mapping[str, tuple[Captured, Tensor]]
ALLOWED = 1e-4
CORRELATED = 0.999


@dataclass(frozen=True)
class Row:
    """One method on one model; each figure is that of the worst photo, None where it does not apply.

    Attributes:
        model: Its name.
        method: Its name.
        photos: How many.
        float32: ``‖float32 − float64‖ / ‖float64‖`` of the map.
        missed64: How far relevance and absorbed relevance miss the logit in float64, relative to it, for methods that promise it.
        missed32: The same in float32.
        halves: Correlations, by name: of the map in ``"bfloat16"`` or ``"float16"`` with that of the rounded model in float32; of
            ``"rounded to bfloat16"`` and the like, and of ``"autocast"``, with that of the model as it was.
        time: CPU seconds in float32 over those of input × gradient through autograd.
        notes: What the explanation in float32 says beyond the notes of the plan.
        problem: Why the method refuses the model.
    """

    model: str
    method: str
    photos: int
    float32: float | None = None
    missed64: float | None = None
    missed32: float | None = None
    halves: Mapping[str, float] = field(default_factory=dict[str, float])
    time: float | None = None
    notes: tuple[str, ...] = ()
    problem: str = ""


class Autocast(nn.Module):
    """A model that opens autocast in its forward pass."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Run the model in bfloat16 where autocast says so."""
        with torch.autocast("cpu", torch.bfloat16):
            return self.model(x)


def propagation_methods() -> list[str]:
    """The names of all methods that propagate relevance and need no patterns."""
    return [name for name, entry in METHODS.items() if "patterns" not in entry.options and isinstance(entry.build(), Method)]


def subject(name: str, photos: list[Path], side: int) -> tuple[nn.Module, Tensor]:
    """The model, and the photos as it takes them."""
    if name == "efficientnet-lite0":
        loaded = load(name)
        model, prepare = loaded.model, loaded.preprocessing.tensor
    else:
        model, preprocessing, _ = load_reference(name, weights_folder())
        prepare = preprocessing.tensor
    images = torch.stack([prepare(open_photo(path).image) for path in photos])
    small = name != "deit_tiny" and side < images.shape[-1]
    return model.eval(), functional.interpolate(images, (side, side), mode="area") if small else images


def weights_folder() -> Path:
    """The folder of the reference weights."""
    import os

    if VARIABLE not in os.environ:
        raise SystemExit(f"Set the environment variable {VARIABLE} to the folder of the reference weights.")
    return Path(os.environ[VARIABLE])


def captures(model: nn.Module, images: Tensor, *, halves: bool) -> dict[str, tuple[Captured, Tensor]]:
    """The model and the photos in every precision."""

    def captured(own: nn.Module, x: Tensor) -> tuple[Captured, Tensor]:
        return relprop.capture(own, x[:1]), x

    found = {"float64": captured(copy.deepcopy(model).double(), images.double()), "float32": captured(model, images)}
    for name, dtype in HALVES.items() if halves else ():
        half = copy.deepcopy(model).to(dtype)
        found[name] = captured(half, images.to(dtype))
        found[f"rounded to {name}"] = captured(copy.deepcopy(half).float(), images.to(dtype).float())
    return found | ({"autocast": captured(Autocast(model), images)} if halves else {})


def measure(name: str, method: str, given: Given, baseline: float) -> Row:
    """Explain by one method in every precision."""
    photos, made = len(given["float64"][1]), make_method(method, GRADIENTS.get(method, {}))
    target: Tensor | None = None
    found: dict[str, Explanation] = {}
    notes: tuple[str, ...] = ()
    seconds = math.nan
    try:
        for precision, (captured, images) in given.items():
            explainer = captured.explainer(made)
            begin = time.process_time()
            found[precision] = explainer(images, target)
            target = found["float64"].target
            if precision == "float32":
                seconds = time.process_time() - begin
                notes = tuple(note for note in found[precision].notes if note not in explainer.plan.notes)
    except RelpropError as error:
        return Row(name, method, photos, problem=str(error))
    exact, single = found["float64"], found["float32"]
    promises = isinstance(made, Method) and made.conserves
    missed = {f"missed{bits}": missed_by(part) if promises else None for bits, part in ((64, exact), (32, single))}
    others = {half: found.get(f"rounded to {half}", single) for half in found if half not in {"float64", "float32"}}
    halves = {half: correlation(found[half], other) for half, other in others.items()}
    return Row(name, method, photos, deviation(single, exact), **missed, halves=halves, time=seconds / baseline, notes=notes)


def maps(explanation: Explanation) -> Tensor:
    """The maps as rows of float64."""
    return explanation.relevance.double().flatten(1)


def deviation(found: Explanation, exact: Explanation) -> float:
    """The relative norm of the difference, of the worst photo."""
    return float(((maps(found) - maps(exact)).norm(dim=1) / maps(exact).norm(dim=1)).max())


def correlation(found: Explanation, other: Explanation) -> float:
    """The smallest correlation of any photo's two maps."""
    return min(float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in zip(maps(found), maps(other), strict=True))


def missed_by(explanation: Explanation) -> float:
    """How far the map and the absorbed relevance miss the logit, relative to it, of the worst photo."""
    logit = explanation.logits.gather(1, explanation.target.unsqueeze(1)).squeeze(1).double()  # pyright: ignore[reportOptionalMemberAccess]
    return float(((maps(explanation).sum(1) + explanation.absorbed.double() - logit) / logit).abs().max())


def baseline_seconds(model: nn.Module, images: Tensor) -> float:
    """CPU seconds of input × gradient through autograd, the least of three."""
    least = math.inf
    for _ in range(3):
        begin, x = time.process_time(), images.detach().requires_grad_(True)
        torch.autograd.grad(model(x).amax(1).sum(), x)
        least = min(least, time.process_time() - begin)
    return least


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Measure what is missing, model by model."""
    known = set() if options.redo else {(row.model, row.method) for row in read()}
    photos = sorted(path for path in options.photos.iterdir() if path.is_file())[: options.limit]
    for name in options.models:
        missing = [method for method in options.methods if (name, method) not in known]
        if missing:
            model, images = subject(name, photos, options.side)
            model.requires_grad_(False)
            given = captures(model, images, halves=name in options.halves)
            baseline = baseline_seconds(model, images)
            for method in missing:
                yield measure(name, method, given, baseline)


def read() -> list[Row]:
    """The rows that were measured, the last one of every model and method."""
    lines = RESULTS.read_text("utf-8").splitlines() if RESULTS.is_file() else []
    found = [Row(**json.loads(line)) for line in lines]
    return list({(row.model, row.method): row for row in found}.values())


# --- the page --------------------------------------------------------------------------------------------------------------------


def shown(value: float | None, *, text: Callable[[float], str], bad: Callable[[float], bool]) -> str:
    """A figure, bold where it is bad."""
    if value is None:
        return "–"
    return f"**{text(value)}**" if bad(value) or math.isnan(value) else text(value)


def scientific(value: float) -> str:
    """One digit and the power of ten."""
    return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e+")


def grid(found: Mapping[tuple[str, str], Row], value: Callable[[Row], str]) -> list[str]:
    """A table of methods by models."""
    models = [name for name in MODELS if any(model == name for model, _ in found)]
    methods = [name for name in (*propagation_methods(), *GRADIENTS) if any(method == name for _, method in found)]
    lines = [f"| method | {' | '.join(models)} |", "|---|" + "---:|" * len(models)]
    for method in methods:
        cells = [found.get((model, method)) for model in models]
        texts = ["" if row is None else "refused" if row.problem else value(row) for row in cells]
        if any(text not in {"", "–"} for text in texts):
            lines.append(f"| `{method}` | {' | '.join(texts)} |")
    return lines


def half_rows(found: Mapping[tuple[str, str], Row]) -> list[str]:
    """A table of correlations: methods by models and precisions."""
    models = [name for name in MODELS if any(row.halves for (model, _), row in found.items() if model == name)]
    kinds = list(dict.fromkeys(kind for row in found.values() for kind in row.halves))
    lines = [f"| method | {' | '.join(f'{model}, {kind}' for model in models for kind in kinds)} |"]
    lines.append("|---|" + "---:|" * len(models) * len(kinds))
    for method in (*propagation_methods(), *GRADIENTS):
        rows_of = [found.get((model, method)) for model in models]
        cells = [row.halves.get(kind) if row else None for row in rows_of for kind in kinds]
        if any(cell is not None for cell in cells):
            texts = [shown(cell, text=lambda v: f"{v:.4f}", bad=lambda v: v < CORRELATED) for cell in cells]
            lines.append(f"| `{method}` | {' | '.join(texts)} |")
    return lines


def page(measured: list[Row], options: argparse.Namespace) -> str:
    """The page of the documentation."""
    found = {(row.model, row.method): row for row in measured}
    photos = max(row.photos for row in measured)

    def table(key: str, bad: Callable[[float], bool], text: Callable[[float], str] = scientific) -> list[str]:
        return grid(found, lambda row: shown(getattr(row, key), text=text, bad=bad))

    said = sorted({f"- `{row.method}` on {row.model}: {note}" for row in measured for note in row.notes if "absorbed" in note})
    refused = sorted({f"- `{row.method}` on {row.model}: {row.problem}" for row in measured if row.problem})
    lines = [
        "# Precision\n",
        "```sh",
        f"RELPROP_WEIGHTS=FOLDER python benchmarks/precision.py --photos FOLDER --limit {options.limit} --side {options.side}",
        "```\n",
        f"Real weights, {photos} photos, the worst of them; torch {torch.__version__.partition('+')[0]} on a CPU. Convolutional networks see",
        f"{options.side} pixels, DeiT-tiny 224. What decided the precision of each method is in [Decisions](../decisions/precision.md).\n",
        "## float32 against float64\n",
        f"`‖float32 − float64‖ / ‖float64‖` of the map; bold above {ALLOWED:g}.\n",
        *table("float32", lambda v: v > ALLOWED),
        "\n## Conservation in float64\n",
        "How far relevance and absorbed relevance miss the logit, relative to it, for methods that promise it; bold above 1e-9.\n",
        *table("missed64", lambda v: v > 1e-9),
        "\n## Conservation in float32\n",
        "The same; bold above one percent, where the explanation says so in a note.\n",
        *table("missed32", lambda v: v > 0.01),
        "\n## Half precision\n",
        "Correlations. In `bfloat16` and `float16`, of a model in that precision with the same rounded weights and photo in float32: what the",
        "explanation loses. `rounded to …`, of the rounded model in float32 with the model as it was: what rounding changes in the model.",
        "`autocast`, of a model that opens autocast to bfloat16 inside, which rounds weights too, with the model as it was. Bold below",
        f"{CORRELATED:g}.\n",
        *half_rows(found),
        "\n## Time\n",
        "CPU time of one explanation in float32, over input × gradient through autograd.\n",
        *table("time", lambda _: False, lambda v: f"{v:.1f}"),
        *(["\n## Notes on conservation\n", *said] if said else []),
        *(["\n## Refused\n", *refused] if refused else []),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--methods", nargs="+", default=[*propagation_methods(), *GRADIENTS])
    parser.add_argument("--photos", type=Path, help="folder of photos")
    parser.add_argument("--halves", nargs="*", default=["resnet50", "deit_tiny"], help="models to measure in half precision too")
    parser.add_argument("--limit", type=int, default=2, help="number of photos")
    parser.add_argument("--side", type=int, default=128, help="pixels that convolutional networks see")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--redo", action="store_true", help="measure again what was measured")
    parser.add_argument("--report", action="store_true", help="only write the page")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if not options.report:
        if options.photos is None:
            raise SystemExit("Give a folder of photos with --photos.")
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open("a", encoding="utf-8") as file:
            for row in rows(options):
                file.write(json.dumps(asdict(row)) + "\n")
                file.flush()
                print(row, flush=True)
    PAGE.write_text(page(read(), options), "utf-8")


if __name__ == "__main__":
    main()
