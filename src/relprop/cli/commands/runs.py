"""Commands that run over data sets: ``fit-patterns``, ``evaluate`` and its ``report``, ``mosaics``, ``reproduce``."""

from pathlib import Path
from typing import Annotated

import typer

from relprop.cli.arguments import (
    DEFAULT_MODEL,
    MODEL_HELP,
    ActivationOption,
    DebugOption,
    DeviceOption,
    LabelsOption,
    MeanOption,
    ModelOption,
    ScaleOption,
    SizeOption,
    StdOption,
    TensorOption,
    WeightsOption,
)
from relprop.cli.process import importing
from relprop.cli.terminal import guarded


@guarded
def fit_patterns(
    data: Annotated[Path, typer.Option(help="A folder of images, searched with all its subfolders.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write the patterns to, .safetensors.")],
    model: ModelOption = DEFAULT_MODEL,
    weights: WeightsOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Take only this many images, the first by path.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per batch.")] = 8,
    device: DeviceOption = "cpu",
    debug: DebugOption = False,
) -> None:
    """Fit the patterns of pattern-net and pattern-attribution in one pass over images; an interrupted fit resumes."""
    with importing():
        from relprop.cli.fit_patterns import FitJob, fit_from_folder

    fit_from_folder(FitJob(data, output, model, weights, limit, batch_size, device))


@guarded
def report(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="The folder that `relprop evaluate` wrote.")],
    baseline: Annotated[str | None, typer.Option(metavar="METHOD", help="The method that the others are compared with.")] = None,
    metrics: Annotated[str, typer.Option(metavar="NAME,…", help="Only these metrics, separated by commas.")] = "",
    format: Annotated[str | None, typer.Option("--format", help="md, csv or latex.")] = None,  # noqa: A002
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A .md, .csv or .tex file, or a folder for all of them.")
    ] = None,
    figures: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Also draw figures there.")] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write one page with tables, curves, ranks and the maps of a run.")
    ] = None,
    images: Annotated[int, typer.Option(min=0, help="The most images of the page's gallery.")] = 1000,
    debug: DebugOption = False,
) -> None:
    """Summarize an evaluation: means with 95 % intervals, and the differences to a baseline, paired by image."""
    with importing():
        from relprop.cli.report import ReportJob, report_results

    wanted = tuple(name.strip() for name in metrics.split(",") if name.strip())
    report_results(ReportJob(results, baseline, format, output, wanted, figures, html, images))


@guarded
def evaluate(
    settings: Annotated[Path | None, typer.Argument(metavar="[SETTINGS.toml]", help="Settings; flags go before them.")] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="KIND:PATH",
            help="voc, imagenet, imagenet-segmentation, imagenet-s, coco, folder, huggingface, mosaic, handset, funnybirds.",
        ),
    ] = None,
    data_option: Annotated[
        list[str],
        typer.Option(
            "--data-option", metavar="KEY=VALUE", help="An option of the data set, such as single_class=true; repeatable."
        ),
    ] = [],  # noqa: B006
    model: Annotated[list[str], typer.Option("--model", "-m", metavar="NAME[=WEIGHTS]", help=f"Repeatable. {MODEL_HELP}")] = [],  # noqa: B006
    methods: Annotated[
        list[str], typer.Option(help="Methods, separated by commas, each with its options: rap,rap:start=signed.")
    ] = [],  # noqa: B006
    metrics: Annotated[
        list[str], typer.Option(help="Metrics, likewise: segmentation:threshold=zero,outside-inside,lerf,gae.")
    ] = [],  # noqa: B006
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The folder of results; an interrupted run resumes from it.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Take only this many images, the first of the data set.")] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="srg, single-deletion, gridpg, difull, dipart, known-map, pointing, imagenet-s or funnybirds; flags go before it."
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="predicted (default), label, mask (its class of a segmentation), or one for all: contrast, class:3, …"),
    ] = None,
    geometry: Annotated[
        str | None, typer.Option(help="model (default): its own preprocessing; resize: the whole image at its input size.")
    ] = None,
    grid: Annotated[str | None, typer.Option(help="How models see mosaics: shrunk (default), full, difull or dipart.")] = None,
    seed: Annotated[int | None, typer.Option(help="The random seed; default 0.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per batch; default 8.")] = None,
    block: Annotated[int | None, typer.Option(help="Images per stored block, a multiple of 4; default 16.")] = None,
    labels: LabelsOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    scale: ScaleOption = None,
    size: SizeOption = None,
    activation: ActivationOption = None,
    tensor: TensorOption = None,
    device: Annotated[str | None, typer.Option(help="cpu (default), cuda, cuda:1, mps, …")] = None,
    keep_maps: Annotated[bool | None, typer.Option("--keep-maps", help="Store the heat maps too.")] = None,
    engine: Annotated[str | None, typer.Option(help="local (default) or ray.")] = None,
    workers: Annotated[int | None, typer.Option(help="Workers of the engine ray; default one per GPU or CPU.")] = None,
    address: Annotated[str | None, typer.Option(help="Address of a Ray cluster: auto or HOST:PORT.")] = None,
    redo_failed: Annotated[bool | None, typer.Option("--redo-failed", help="Recompute the failed rows and replace them.")] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print what a run would compute and its time, measured on a few images; write nothing."),
    ] = False,
    trust_code: Annotated[
        bool,
        typer.Option("--trust-code", help="Let SETTINGS.toml name models in Python files, which are run, and a Ray cluster."),
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Measure methods on models over a data set: one row per image, model, method and metric; an interrupted run resumes."""
    with importing():
        from relprop.cli.evaluate import run_evaluation

    named = {"data": data, "data_options": data_option, "models": model, "methods": methods, "metrics": metrics, "limit": limit}
    where = {"device": device, "engine": engine, "workers": workers, "address": address, "batch_size": batch_size}
    own = {"labels": labels, "mean": mean, "std": std, "scale": scale, "size": size, "activation": activation, "tensor": tensor}
    rest = {
        "preset": preset,
        "target": target,
        "geometry": geometry,
        "grid": grid,
        "seed": seed,
        "block": block,
        "keep_maps": keep_maps,
        "output": output,
    }
    if not run_evaluation(
        settings, {**named, **own, **where, **rest, "redo_failed": redo_failed}, dry_run=dry_run, trusted=trust_code
    ):
        raise typer.Exit(1)


@guarded
def mosaics(
    data: Annotated[str, typer.Argument(metavar="KIND:PATH", help="The data set of the photos, as `relprop evaluate` takes it.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write, for --data mosaic:FILE.")],
    model: Annotated[
        list[str],
        typer.Option("--model", "-m", metavar="NAME[=WEIGHTS]", help=f"Must recognize the photos; repeatable. {MODEL_HELP}"),
    ] = [DEFAULT_MODEL],  # noqa: B006
    data_option: Annotated[
        list[str], typer.Option("--data-option", metavar="KEY=VALUE", help="An option of the data set; repeatable.")
    ] = [],  # noqa: B006
    cells: Annotated[int, typer.Option("--cells", "-n", help="Cells per side.")] = 2,
    count: Annotated[int, typer.Option(help="Number of mosaics.")] = 100,
    confidence: Annotated[
        float, typer.Option(help="The least probability that every model gives to the class of a photo.")
    ] = 0.99,
    seed: Annotated[int, typer.Option(help="The random seed.")] = 0,
    limit: Annotated[int | None, typer.Option(help="Look at only this many photos, the first of the data set.")] = None,
    batch_size: Annotated[int, typer.Option(help="Photos per batch.")] = 8,
    device: DeviceOption = "cpu",
    debug: DebugOption = False,
) -> None:
    """Make mosaics of photos that models recognize, each of another class, for the presets gridpg, difull and dipart."""
    with importing():
        from relprop.cli.mosaics import mosaics_to_file
        from relprop.cli.options import parse_options
        from relprop.evaluation.mosaics import MosaicJob
        from relprop.evaluation.settings import models as choices_of

    options = parse_options(data_option)
    job = MosaicJob(data, choices_of(*model), options, cells, count, confidence, seed, limit, device, batch_size)
    mosaics_to_file(job, output)


@guarded
def reproduce(
    experiment: Annotated[
        str, typer.Argument(help="rap-table1, rap-table2, rap-fig7, abslrp-gae, torchray-pointing or funnybirds.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder of results; an interrupted run resumes from it.")],
    imagenet: Annotated[Path | None, typer.Option(help="The ILSVRC 2012 validation set.")] = None,
    imagenet_seg: Annotated[Path | None, typer.Option(help="gtsegs_ijcv.mat, the ImageNet segmentation set.")] = None,
    voc: Annotated[Path | None, typer.Option(help="Pascal VOC 2012.")] = None,
    voc07: Annotated[Path | None, typer.Option(help="Pascal VOC 2007, with its test set.")] = None,
    funnybirds: Annotated[Path | None, typer.Option(help="FunnyBirds.")] = None,
    model: Annotated[list[str], typer.Option("--model", "-m", help="Only this model of the experiment; repeatable.")] = [],  # noqa: B006
    weights: Annotated[list[str], typer.Option(metavar="MODEL=FILE", help="Weights of a model; repeatable.")] = [],  # noqa: B006
    patterns: Annotated[
        list[str], typer.Option(metavar="MODEL=FILE", help="Patterns of a model, from `relprop fit-patterns`; repeatable.")
    ] = [],  # noqa: B006
    limit: Annotated[int | None, typer.Option(min=1, help="Take only this many images of each data set.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per batch.")] = 8,
    device: DeviceOption = "cpu",
    debug: DebugOption = False,
) -> None:
    """Run a paper's experiment: report missing data, weights and patterns first, then run the parts that can run."""
    with importing():
        from relprop.cli.reproduce import ReproduceJob, reproduce_paper

    data = {"imagenet": imagenet, "imagenet-seg": imagenet_seg, "voc": voc, "voc07": voc07, "funnybirds": funnybirds}
    reproduce_paper(ReproduceJob(experiment, data, output, model, weights, patterns, limit, device, batch_size))
