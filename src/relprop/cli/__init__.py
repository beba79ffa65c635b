"""The command line, ``relprop``."""

from typing import Annotated

import typer

from relprop.cli.commands import lists, maps, runs
from relprop.cli.interrupts import exit_at_once
from relprop.cli.process import Commands, silence_libraries
from relprop.cli.terminal import out, print_anywhere
from relprop.version import __version__

app = typer.Typer(
    cls=Commands,
    help="Explain image classifiers by relevance propagation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS = {
    "explain": maps.explain,
    "compare": maps.compare,
    "serve": maps.serve,
    "models": lists.models,
    "methods": lists.methods,
    "metrics": lists.metrics,
    "inspect": lists.inspect,
    "fit-patterns": runs.fit_patterns,
    "report": runs.report,
    "evaluate": runs.evaluate,
    "mosaics": runs.mosaics,
    "reproduce": runs.reproduce,
}
for _name, _command in COMMANDS.items():
    app.command(_name)(_command)


def _version(value: bool) -> None:
    if value:
        out.print(f"relprop {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Explain image classifiers by relevance propagation."""


def main() -> None:
    """Run the command line."""
    silence_libraries()
    print_anywhere()
    try:
        app()
    except SystemExit as end:
        exit_at_once(end.code)
        raise
