"""Resolve what a user gives as a method: a name, a TOML file, or a method object."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from relprop.errors import OptionError
from relprop.methods.protocol import AnyMethod
from relprop.methods.registry import make_method
from relprop.methods.toml import read_method


def choose_method(method: str | Path | AnyMethod, options: Mapping[str, Any]) -> AnyMethod:
    """Return a method as it is, read it from a file that ends in ``.toml``, or make it by its name.

    Raises:
        OptionError: Unknown method or option, a file that cannot be used, or options for a method object.
    """
    if isinstance(method, AnyMethod):
        if options:
            raise OptionError(f"Method {method.name!r} is complete; it takes no options ({', '.join(options)}).")
        return method
    if not isinstance(method, str | Path):  # pyright: ignore[reportUnnecessaryIsInstance] - users may give anything
        raise OptionError(f"A method must be a name, a TOML file or a relprop.Method, not {type(method).__name__}.")
    if str(method).endswith(".toml"):
        return read_method(Path(method), options)
    return make_method(str(method), options)
