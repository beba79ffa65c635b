"""Methods by name: per role one rule, with the method's options and where they come from."""

from relprop.methods.method import Method
from relprop.methods.registry import METHODS, MethodEntry, make_method
from relprop.methods.starts import STARTS

__all__ = ["METHODS", "STARTS", "Method", "MethodEntry", "make_method"]
