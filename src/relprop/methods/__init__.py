"""Methods: the registry, with options and sources; registered functions; TOML files."""

from relprop.meaning import Meaning
from relprop.methods.choose import choose_method
from relprop.methods.custom import register_method
from relprop.methods.registry import METHODS, MethodEntry, make_method
from relprop.methods.toml import read_method
from relprop.propagation.method import Method
from relprop.rules.starts import STARTS

__all__ = [
    "METHODS",
    "STARTS",
    "Meaning",
    "Method",
    "MethodEntry",
    "choose_method",
    "make_method",
    "read_method",
    "register_method",
]
