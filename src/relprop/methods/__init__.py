"""Methods by name: per role one rule, with the method's options and where they come from."""

from relprop.methods.choose import choose_method
from relprop.methods.registry import METHODS, MethodEntry, make_method
from relprop.methods.toml import read_method
from relprop.propagation.method import Method
from relprop.rules.starts import STARTS

__all__ = ["METHODS", "STARTS", "Method", "MethodEntry", "choose_method", "make_method", "read_method"]
