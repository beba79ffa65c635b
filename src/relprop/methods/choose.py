"""Resolve what a user gives as a method: a name, a TOML file, or a method object."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from relprop.errors import OptionError
from relprop.methods.averaging import Averaged, make_averaging
from relprop.methods.protocol import AnyMethod
from relprop.methods.registry import make_method
from relprop.methods.toml import read_method
from relprop.text import split_options


def choose_method(method: str | Path | AnyMethod, options: Mapping[str, Any]) -> AnyMethod:
    """Return a method as it is, read it from a file that ends in ``.toml``, or make it by its name.

    Options may follow a name or a file after colons, as on the command line: ``"rap:start=signed"``. Those in ``options`` go before them.
    Every method takes ``average``, see :class:`relprop.methods.averaging.Averaging`.

    Raises:
        OptionError: Unknown method or option, a file that cannot be used, or options for a method object.
    """
    if isinstance(method, str | Path):
        method, inline = split_options(str(method))
        options = {**inline, **options}
    average, own = options.get("average"), {key: value for key, value in options.items() if key != "average"}
    chosen = _choose(method, own)
    if average is None:
        return chosen
    return Averaged(chosen.method if isinstance(chosen, Averaged) else chosen, make_averaging(average))


def _choose(method: str | AnyMethod, options: Mapping[str, Any]) -> AnyMethod:
    if isinstance(method, AnyMethod):
        if options:
            raise OptionError(f"Method {method.name!r} is complete; it takes no options ({', '.join(options)}).")
        return method
    if not isinstance(method, str):  # pyright: ignore[reportUnnecessaryIsInstance] - users may give anything
        raise OptionError(f"A method must be a name, a TOML file or a relprop.Method, not {type(method).__name__}.")
    return read_method(Path(method), options) if method.endswith(".toml") else make_method(method, options)
