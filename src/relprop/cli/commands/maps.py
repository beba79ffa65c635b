"""Commands that explain photos: ``explain``, ``compare`` and the app, ``serve``."""

from pathlib import Path
from typing import Annotated

import typer

from relprop.cli.arguments import (
    DEFAULT_MODEL,
    MODEL_HELP,
    ActivationOption,
    DebugOption,
    DeviceOption,
    DpiOption,
    LabelsOption,
    LimitOption,
    MeanOption,
    MethodOption,
    ModelOption,
    OpacityOption,
    OptionsOption,
    PercentileOption,
    ScaleOption,
    SizeOption,
    SmoothOption,
    StdOption,
    TargetOption,
    TensorOption,
    WeightsOption,
    WholePhotoOption,
)
from relprop.cli.process import importing
from relprop.cli.terminal import guarded
from relprop.errors import OptionError


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
