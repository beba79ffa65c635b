"""Types of options that several methods share."""

from typing import Literal

from relprop.rules import BiasName, SumName

StartName = Literal["logit", "one", "clrp", "sglrp"]
ConstantsName = Literal["leave out", "absorb"]

__all__ = ["BiasName", "ConstantsName", "StartName", "SumName"]
