"""Every method that has a name, with its options and its source; methods of the user's own; methods from TOML files."""

from relprop.methods.choose import choose_method
from relprop.methods.custom import register_method
from relprop.methods.registry import METHODS, MethodEntry, make_method
from relprop.methods.toml import read_method
from relprop.propagation.method import Method
from relprop.rules.starts import STARTS

__all__ = ["METHODS", "STARTS", "Method", "MethodEntry", "choose_method", "make_method", "read_method", "register_method"]
