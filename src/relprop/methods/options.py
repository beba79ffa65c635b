"""Types of options that several methods share."""

from typing import Literal

StartName = Literal["logit", "one", "clrp", "sglrp"]
AddName = Literal["positive", "absolute", "signed"]
BiasName = Literal["absorb", "leave out"]
