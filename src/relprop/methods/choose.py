"""Resolve what a user gives as a method: a name, a TOML file, or a method object."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from relprop.errors import OptionError
from relprop.methods.protocol import AnyMethod
from relprop.methods.registry import make_method
from relprop.methods.toml import read_method
from relprop.text import split_options


def choose_method(method: str | Path | AnyMethod, options: Mapping[str, Any]) -> AnyMethod:
    """Return a method as it is, read it from a file that ends in ``.toml``, or make it by its name.

    Options may follow a name or a file after colons, as on the command line: ``"rap:start=signed"``. Those in ``options`` go before them.

    Raises:
        OptionError: Unknown method or option, a file that cannot be used, or options for a method object.
    """
    if isinstance(method, AnyMethod):
        if options:
            raise OptionError(f"Method {method.name!r} is complete; it takes no options ({', '.join(options)}).")
        return method
    if not isinstance(method, str | Path):  # pyright: ignore[reportUnnecessaryIsInstance] - users may give anything
        raise OptionError(f"A method must be a name, a TOML file or a relprop.Method, not {type(method).__name__}.")
    name, inline = split_options(str(method))
    if name.endswith(".toml"):
        return read_method(Path(name), {**inline, **options})
    return make_method(name, {**inline, **options})
