"""Modules that load on first use, so that ``relprop --help`` need not wait for torch."""

import importlib
from collections.abc import Callable, Iterable
from pkgutil import iter_modules
from types import ModuleType


def submodules(package: str, folder: Iterable[str]) -> Callable[[str], ModuleType]:
    """Return the ``__getattr__`` of a package, which imports its modules by their names.

    Args:
        package: Its name, ``__name__``.
        folder: Where its modules are, ``__path__``.
    """

    def found(name: str) -> ModuleType:
        if name not in {module.name for module in iter_modules(folder)}:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return importlib.import_module(f"{package}.{name}")

    return found
