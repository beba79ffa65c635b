"""The command line: ``relprop explain``, ``relprop models``, ``relprop methods``, ``relprop inspect``, ``relprop fit-patterns``.

Commands import what they need when they run, so that ``relprop --help`` answers at once.
"""

from pathlib import Path
from typing import Annotated

import typer

from relprop.cli.terminal import guarded, out
from relprop.version import __version__

DEFAULT_MODEL = "efficientnet-lite0"
MODEL_HELP = "efficientnet-lite0, torchvision:NAME, timm:NAME, hf:NAME or hf:FOLDER, or path/to/file.py:FUNCTION."

ModelOption = Annotated[str, typer.Option("--model", "-m", help=MODEL_HELP)]
WeightsOption = Annotated[Path | None, typer.Option(help="Weights: safetensors or a PyTorch state dict; never unpickled.")]
MethodOption = Annotated[str, typer.Option(help="A method that `relprop methods` lists, or a TOML file that composes one.")]
OptionsOption = Annotated[list[str], typer.Option("--option", metavar="KEY=VALUE", help="An option of the method; repeatable.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

app = typer.Typer(
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
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO...", help="Photos in any common format.")],
    model: ModelOption = DEFAULT_MODEL,
    weights: WeightsOption = None,
    method: MethodOption = "rap",
    option: OptionsOption = [],  # noqa: B006 - typer copies defaults
    target: Annotated[
        list[str],
        typer.Option("--target", "-t", help="A class index, a class name or top:K; repeatable. Left out: the predicted class."),
    ] = [],  # noqa: B006
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A picture file (png, pdf, svg, …) for one photo, or a folder.")
    ] = Path(),
    npy: Annotated[bool, typer.Option("--npy", help="Also write the raw relevance as a NumPy file.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Also write the numbers as JSON.")] = False,
    percentile: Annotated[float, typer.Option(help="Of the absolute relevance, that gets the full color.")] = 99.5,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, …")] = "cpu",
    debug: DebugOption = False,
) -> None:
    """Explain photos: write a picture of photo, heat map, overlay and predicted classes for each."""
    from relprop.cli.explain import Job, explain_photos

    job = Job(tuple(photos), model, weights, method, tuple(option), tuple(target), output, npy, json, percentile, device)
    if not explain_photos(job):
        raise typer.Exit(1)


@app.command()
@guarded
def models(
    name: Annotated[str, typer.Argument(help="List the models of torchvision and timm whose names contain this.")] = "",
    debug: DebugOption = False,
) -> None:
    """List the models that --model takes."""
    from relprop.cli.listing import print_models

    print_models(name)


@app.command()
@guarded
def methods(debug: DebugOption = False) -> None:
    """List the methods, with their sources and options."""
    from relprop.cli.listing import print_methods

    print_methods()


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
    from relprop.cli.listing import print_plan

    print_plan(model, weights, method, option)


@app.command("fit-patterns")
@guarded
def fit_patterns(
    data: Annotated[Path, typer.Option(help="A folder of images, searched with all its subfolders.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the patterns go, a .safetensors file.")],
    model: ModelOption = DEFAULT_MODEL,
    weights: WeightsOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Take only this many images, the first by path.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images that run at once.")] = 8,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, …")] = "cpu",
    debug: DebugOption = False,
) -> None:
    """Fit what pattern-net and pattern-attribution need, in one pass over images; an interrupted fit goes on where it was."""
    from relprop.cli.fit_patterns import FitJob, fit_from_folder

    fit_from_folder(FitJob(data, output, model, weights, limit, batch_size, device))


def main() -> None:
    """Run the command line."""
    app()
