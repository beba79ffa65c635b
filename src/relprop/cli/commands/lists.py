"""Commands that say what there is, and what a method does with a model: ``models``, ``methods``, ``metrics``, ``inspect``."""

from typing import Annotated

import typer

from relprop.cli.arguments import (
    DEFAULT_MODEL,
    DebugOption,
    MethodOption,
    ModelOption,
    OptionsOption,
    WeightsOption,
)
from relprop.cli.process import importing
from relprop.cli.terminal import guarded


@guarded
def models(
    name: Annotated[str, typer.Argument(help="List the models of torchvision and timm whose names contain this.")] = "",
    debug: DebugOption = False,
) -> None:
    """List the models that --model takes."""
    with importing():
        from relprop.cli.listing import print_models

    print_models(name)


@guarded
def methods(debug: DebugOption = False) -> None:
    """List the methods, with their sources and options."""
    with importing():
        from relprop.cli.listing import print_methods

    print_methods()


@guarded
def metrics(debug: DebugOption = False) -> None:
    """List the metrics of evaluations, with their scores, options and the targets that they suit."""
    with importing():
        from relprop.cli.listing import print_metrics

    print_metrics()


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
