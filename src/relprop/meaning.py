"""What the two signs of a map mean, in the words of its method."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Meaning:
    """The words that a picture's legend puts at the two ends of its colors.

    Attributes:
        positive: What a positive value says of a pixel, in a few words.
        negative: What a negative value says of it; empty for methods whose maps have no negative values.
    """

    positive: str = "positive"
    negative: str = "negative"


UNSAID = Meaning()
"""Of methods that do not say what they mean."""
VOTES = Meaning("for the class", "against it")
"""Shares of the logit, by methods that keep their sign."""
IMPORTANCE = Meaning("important", "unimportant")
"""Of RAP: influence of either sign is important, and what has less than the average is pushed below zero."""
CONTRAST = Meaning("for the class", "for other classes")
"""Of methods that set the class against the others."""
SENSITIVITY = Meaning("raises the logit", "lowers it")
"""Of gradients: what a little more of the input value does to the logit."""
REGION = Meaning("important", "")
"""Of class activation maps and attention, which say where and nothing of what speaks against."""
