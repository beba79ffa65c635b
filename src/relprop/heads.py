"""The activation of a classifier's head, which says what probabilities its logits stand for."""

from torch import Tensor

from relprop.errors import OptionError, suggestion

ACTIVATIONS = ("softmax", "sigmoid")


def probabilities(logits: Tensor, activation: str | None = None) -> Tensor:
    """Return the probabilities of logits ``(B, C, …)``.

    Args:
        logits: The model's output.
        activation: ``"softmax"`` over the classes or ``"sigmoid"`` of each; None for a sigmoid where there is one class, else softmax.
    """
    return logits.sigmoid() if activation_for(logits, activation) == "sigmoid" else logits.softmax(1)


def activation_for(logits: Tensor, activation: str | None) -> str:
    """Return the activation that holds for logits ``(B, C, …)``, or ``(B,)`` of one class; arguments are those of :func:`probabilities`."""
    return activation or ("sigmoid" if logits.dim() == 1 or logits.shape[1] == 1 else "softmax")


def decided(logits: Tensor, activation: str | None = None) -> Tensor:
    """Return for which classes a model decides, a boolean ``(B, C)``: the largest logit, or by a sigmoid those above one half.

    Arguments are those of :func:`probabilities`.
    """
    if activation_for(logits, activation) == "sigmoid":
        return logits > 0
    return logits.new_zeros(logits.shape).scatter(1, logits.argmax(1, keepdim=True), 1) > 0


def check_activation(activation: str | None) -> str | None:
    """Return an activation as it is.

    Raises:
        OptionError: It is unknown.
    """
    if activation is not None and activation not in ACTIVATIONS:
        near = suggestion(str(activation), ACTIVATIONS)
        raise OptionError(f"The activation of a head is {' or '.join(map(repr, ACTIVATIONS))}, not {activation!r}.{near}")
    return activation
