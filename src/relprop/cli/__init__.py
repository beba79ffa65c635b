"""The command line: ``relprop explain``, ``compare``, ``serve``, ``models``, ``methods``, ``inspect``, ``fit-patterns``.

Commands import what they need when they run, so that ``relprop --help`` answers at once.
"""

from pathlib import Path
from typing import Annotated

import typer

from relprop.cli.interrupts import exit_at_once
from relprop.cli.process import Commands, importing, silence_libraries
from relprop.cli.terminal import guarded, out, print_anywhere
from relprop.errors import OptionError
from relprop.version import __version__

DEFAULT_MODEL = "efficientnet-lite0"
MODEL_HELP = "efficientnet-lite0, torchvision:NAME, timm:NAME, hf:NAME or hf:FOLDER, or path/to/file.py:FUNCTION; NAME=WEIGHTS."

ModelOption = Annotated[str, typer.Option("--model", "-m", help=MODEL_HELP)]
WeightsOption = Annotated[Path | None, typer.Option(help="Weights: safetensors or a PyTorch state dict; never unpickled.")]
MethodOption = Annotated[
    str, typer.Option(help="A method that `relprop methods` lists, or a TOML file; with options: rap:start=signed.")
]
OptionsOption = Annotated[list[str], typer.Option("--option", metavar="KEY=VALUE", help="An option of the method; repeatable.")]
TargetOption = Annotated[
    list[str],
    typer.Option(
        "--target",
        "-t",
        help="A class index, a class name or top:K; repeatable. Or something else than a class: contrast:A,B, output:reference=3.5, "
        "pixels:15:point=100x120, box:17,3, similarity:FILE.npy, neuron:layer3,5, … Default: the predicted class.",
    ),
]
TensorOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Which tensor to explain, where the model returns several: out, 0, heads.0.logits."),
]
LabelsOption = Annotated[Path | None, typer.Option(help="Class names of your model: a text file, one per line, or JSON.")]
MeanOption = Annotated[str | None, typer.Option(help="Mean of each channel, after --scale: 0.485,0.456,0.406, or one number.")]
StdOption = Annotated[str | None, typer.Option(help="Standard deviation of each channel, likewise.")]
ScaleOption = Annotated[str | None, typer.Option(help="Factor on the pixel values 0 to 255, before --mean: 1/255, 1, ….")]
SizeOption = Annotated[str | None, typer.Option(help="Input size in pixels: 224, or height and width, 224x160.")]
PercentileOption = Annotated[float, typer.Option(help="Percentile of the absolute relevance at which the colors saturate.")]
LimitOption = Annotated[
    float | None,
    typer.Option(help="The relevance at which the colors saturate, in place of a percentile: for comparable pictures."),
]
SmoothOption = Annotated[float, typer.Option(metavar="PIXELS", help="Blur the colors by a Gaussian; the picture says so.")]
OpacityOption = Annotated[float, typer.Option(help="Opacity of the strongest color over the photo, 0 to 1.")]
WholePhotoOption = Annotated[
    bool, typer.Option("--whole-photo", help="Draw over the whole photo, not the crop that the model sees.")
]
DpiOption = Annotated[int, typer.Option(min=20, max=1200, help="Pixels per inch of the picture.")]
ActivationOption = Annotated[
    str | None,
    typer.Option(
        help="What makes probabilities of the logits: softmax or sigmoid (multi-label). Default: what the model ends in."
    ),
]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, …")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

app = typer.Typer(
    cls=Commands,
    help="Explain image classifiers by relevance propagation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        out.print(f"relprop {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Explain image classifiers by relevance propagation."""


@app.command()
@guarded
def explain(
    photos: Annotated[
        list[Path],
        typer.Argument(
            metavar="PHOTO...", help="Photos in any common format, folders of them, or CSV manifests with path,target."
        ),
    ],
    model: ModelOption = DEFAULT_MODEL,
    weights: WeightsOption = None,
    method: MethodOption = "rap",
    option: OptionsOption = [],  # noqa: B006 - typer copies defaults
    target: TargetOption = [],  # noqa: B006
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="A picture file (png, pdf, svg, …) for one photo, or a folder. Default: this folder."
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="In place of pictures, write one page with all photos; --method then takes several, A,B."
        ),
    ] = None,
    maps: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help="In place of pictures, write a map for each of many photos, safetensors, npy or png, and an index; resumes.",
        ),
    ] = None,
    num_workers: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Threads that read photos, with --maps. Default: 2.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Photos that are explained at once, with --maps. Default: 8.")
    ] = None,
    tiles: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Explain the whole photo in tiles of the model's input size, N along its shorter side."
        ),
    ] = None,
    overlap: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="What neighboring tiles have in common at least, 0 to 0.9. Default: 0.5 of a tile."),
    ] = None,
    npy: Annotated[bool, typer.Option("--npy", help="Also write the raw relevance as a NumPy file.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Also write the numbers as JSON.")] = False,
    labels: LabelsOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    scale: ScaleOption = None,
    size: SizeOption = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="CLASS", help="Also draw where the class differs from this one, or from the runner-up, and its outline."
        ),
    ] = None,
    outline: Annotated[bool, typer.Option("--outline", help="Cut the photo out where the map is positive.")] = False,
    signs: Annotated[bool, typer.Option("--signs", help="Draw the positive and the negative part side by side.")] = False,
    layer: Annotated[
        list[str], typer.Option("--layer", metavar="PATH", help="Also draw the relevance at a module's output; repeatable.")
    ] = [],  # noqa: B006
    whole_photo: WholePhotoOption = False,
    percentile: PercentileOption = 99.5,
    limit: LimitOption = None,
    smooth: SmoothOption = 0.0,
    opacity: OpacityOption = 0.85,
    dpi: DpiOption = 160,
    activation: ActivationOption = None,
    tensor: TensorOption = None,
    device: DeviceOption = "cpu",
    debug: DebugOption = False,
) -> None:
    """Explain photos: write a picture of photo, heat map, overlay and predicted classes for each."""
    with importing():
        from relprop.cli.explain import FigureJob, Job, explain_photos
        from relprop.cli.gallery import GalleryJob, make_gallery
        from relprop.cli.items import is_manifest
        from relprop.cli.options import refuse_with
        from relprop.cli.photos import photos_in
        from relprop.cli.tools import Tiles
        from relprop.viz import Look
        from relprop.zoo import Own

    what = model, weights, method, tuple(option), tuple(target)
    own, look = Own(labels, mean, std, scale, size, activation, tensor), Look(percentile, limit, smooth, opacity)
    if overlap is not None and tiles is None:
        raise OptionError("--overlap is that of tiles and goes with --tiles.")
    cut = None if tiles is None else Tiles(tiles, 0.5 if overlap is None else overlap)
    files = {"--npy": npy, "--json": json}
    figures = {"--against": against, "--outline": outline, "--signs": signs, "--layer": layer, "--whole-photo": whole_photo}
    if html is not None:
        refuse_with(
            "--html writes one page and no other file", {"--output": output, "--maps": maps, "--tiles": tiles} | files | figures
        )
        if not make_gallery(GalleryJob(photos_in(photos), *what, html, look, device, own)):
            raise typer.Exit(1)
        return
    if maps is not None or any(map(is_manifest, photos)):
        from relprop.cli.many import BATCH_SIZE, MapsJob, explain_many

        if output is None:
            raise OptionError("--maps and manifests write a folder of maps; name it with --output.")
        refuse_with("--maps and manifests write maps and an index, and no pictures", files | figures)
        workers, at_once = 2 if num_workers is None else num_workers, batch_size or BATCH_SIZE
        job = MapsJob(tuple(photos), *what, output, maps or "safetensors", workers, look, device, own, cut, at_once)
        if not explain_many(job):
            raise typer.Exit(1)
        return
    if num_workers is not None:
        raise OptionError("--num-workers reads photos ahead and goes with --maps.")
    if batch_size is not None:
        raise OptionError("--batch-size explains several photos at once and goes with --maps.")
    figure = FigureJob(look, against, outline, signs, tuple(layer), whole_photo)
    job = Job(tuple(photos), *what, output or Path(), npy, json, figure, dpi, device, own, cut)
    if not explain_photos(job):
        raise typer.Exit(1)


@app.command()
@guarded
def compare(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="A photo in any common format.")],
    methods: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,…",
            help="Methods or TOML files, separated by commas: rap,rap:start=signed. Default: all that suit the models and are not slow.",
        ),
    ] = None,
    model: Annotated[list[str], typer.Option("--model", "-m", help=f"{MODEL_HELP} Repeatable, a row each.")] = [DEFAULT_MODEL],  # noqa: B006
    weights: Annotated[
        list[str], typer.Option(metavar="MODEL=FILE", help="Weights of a model; FILE alone where there is one model. Repeatable.")
    ] = [],  # noqa: B006
    option: Annotated[
        list[str], typer.Option("--option", metavar="METHOD:KEY=VALUE", help="An option of one of the methods; repeatable.")
    ] = [],  # noqa: B006
    target: TargetOption = [],  # noqa: B006
    output: Annotated[Path, typer.Option("--output", "-o", help="A picture file (png, pdf, svg, …), or a folder.")] = Path(),
    overlay: Annotated[bool, typer.Option("--overlay", help="Lay the heat maps over the photo.")] = False,
    labels: LabelsOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    scale: ScaleOption = None,
    size: SizeOption = None,
    whole_photo: WholePhotoOption = False,
    percentile: PercentileOption = 99.5,
    limit: LimitOption = None,
    smooth: SmoothOption = 0.0,
    opacity: OpacityOption = 0.85,
    dpi: DpiOption = 160,
    activation: ActivationOption = None,
    tensor: TensorOption = None,
    device: DeviceOption = "cpu",
    debug: DebugOption = False,
) -> None:
    """Compare methods on one photo: draw their heat maps side by side, one row per model and class."""
    with importing():
        from relprop.cli.compare import CompareJob, compare_methods
        from relprop.viz import Look
        from relprop.zoo import Own

    lists = tuple(model), tuple(weights), methods, tuple(option), tuple(target)
    own = Own(labels, mean, std, scale, size, activation, tensor)
    look = Look(percentile, limit, smooth, opacity)
    if not compare_methods(CompareJob(photo, *lists, output, overlay, whole_photo, look, dpi, device, own)):
        raise typer.Exit(1)


@app.command()
@guarded
def serve(
    model: Annotated[list[str], typer.Option("--model", "-m", metavar="NAME[=WEIGHTS]", help=f"Repeatable. {MODEL_HELP}")] = [  # noqa: B006
        DEFAULT_MODEL
    ],
    weights: Annotated[list[str], typer.Option(metavar="[MODEL=]FILE", help="Weights; with several models, MODEL=FILE.")] = [],  # noqa: B006
    methods: Annotated[
        str | None,
        typer.Option(metavar="A,B,…", help="The methods on offer, separated by commas. Default: all that are not slow."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on; by default only this machine reaches the page.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 for any free one.")] = 7860,
    max_megabytes: Annotated[float, typer.Option(help="The largest file of a photo.")] = 20.0,
    max_megapixels: Annotated[float, typer.Option(help="The most million pixels of a photo.")] = 40.0,
    labels: LabelsOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    scale: ScaleOption = None,
    size: SizeOption = None,
    activation: ActivationOption = None,
    tensor: TensorOption = None,
    device: DeviceOption = "cpu",
    debug: DebugOption = False,
) -> None:
    """Open a page on this machine on which to drop photos and look at explanations; needs the extra app."""
    with importing():
        from relprop.app.photos import Limits
        from relprop.app.server import Address
        from relprop.cli.serve import ServeJob, serve_app
        from relprop.zoo import Own

    own = Own(labels, mean, std, scale, size, activation, tensor)
    where, limits = Address(host, port), Limits(max_megabytes, max_megapixels)
    serve_app(ServeJob(tuple(model), tuple(weights), methods, where, limits, device, own, debug))


@app.command()
@guarded
def models(
    name: Annotated[str, typer.Argument(help="List the models of torchvision and timm whose names contain this.")] = "",
    debug: DebugOption = False,
) -> None:
    """List the models that --model takes."""
    with importing():
        from relprop.cli.listing import print_models

    print_models(name)


@app.command()
@guarded
def methods(debug: DebugOption = False) -> None:
    """List the methods, with their sources and options."""
    with importing():
        from relprop.cli.listing import print_methods

    print_methods()


@app.command("metrics")
@guarded
def list_metrics(debug: DebugOption = False) -> None:
    """List the metrics of evaluations, with their scores, options and the targets that they suit."""
    with importing():
        from relprop.cli.listing import print_metrics

    print_metrics()


@app.command()
@guarded
def inspect(
    model: ModelOption = DEFAULT_MODEL,
    weights: WeightsOption = None,
    method: MethodOption = "rap",
    option: OptionsOption = [],  # noqa: B006
    debug: DebugOption = False,
) -> None:
    """Print the plan: every op of the model with its module path, role, rule and shape. Needs no weights."""
    with importing():
        from relprop.cli.listing import print_plan

    print_plan(model, weights, method, option)


@app.command("fit-patterns")
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


def main() -> None:
    """Run the command line."""
    silence_libraries()
    print_anywhere()
    try:
        app()
    except SystemExit as end:
        exit_at_once(end.code)
        raise
