"""Every method of relprop as a captum attribution."""

from typing import Any

import torch
from torch import Tensor, nn

from relprop.errors import TargetError
from relprop.explainer import Explainer
from relprop.targets import Neuron


class CaptumAttribution:
    """A method of relprop as a captum attribution: ``attribute(inputs, target=…)``.

    The model is captured at the first call, and again when the shape of a sample, the dtype or the device changes.

    Args:
        model: Any classifier.
        method: A name of ``relprop.methods.METHODS``.
        **options: Options of the method.
    """

    is_gradient_method = False
    multiplies_by_inputs = True

    def __init__(self, model: nn.Module, method: str = "rap", **options: Any) -> None:  # noqa: ANN401 - options of the method
        self.forward_func = model
        self.method = method
        self._options = options
        self._explainer: Explainer | None = None
        self._captured_for: object = None

    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: int | tuple[int, ...] | list[int] | list[tuple[int, ...]] | Tensor | None = None,
        additional_forward_args: object = None,
    ) -> Tensor | tuple[Tensor, ...]:
        """Return the relevance of a batch, structured like ``inputs``.

        Args:
            inputs: A batch, or a tuple of the model's tensor arguments.
            target: None for the predicted class, a class, or one class per sample; where the output has more dimensions than classes, as in
                segmentation, the place of one element in it, such as ``(class, row, column)``, or a list of one place per sample.
            additional_forward_args: Further arguments of the model, in their order.

        Raises:
            InputError: The inputs do not fit the model.
            TargetError: The target does not fit the output.
        """
        tensors = inputs if isinstance(inputs, tuple) else (inputs,)
        more = () if additional_forward_args is None else additional_forward_args
        extra: tuple[Any, ...] = more if isinstance(more, tuple) else (more,)
        given = tuple(t.detach() for t in tensors) + extra
        explainer = self._for(given)
        relevance = explainer(given, _target(explainer, target, len(tensors[0]))).relevance
        parts = relevance if isinstance(relevance, tuple) else (relevance,)
        return tuple(parts[: len(tensors)]) if isinstance(inputs, tuple) else parts[0]

    def _for(self, given: tuple[Any, ...]) -> Explainer:
        described = [(v.shape[1:], v.dtype, v.device) if isinstance(v, Tensor) else v for v in given]
        if self._explainer is None or self._captured_for != described:
            self._explainer = Explainer(self.forward_func, given, self.method, **self._options)
            self._captured_for = described
        return self._explainer

    def has_convergence_delta(self) -> bool:
        """Return False: ``attribute`` gives no convergence delta."""
        return False


def _target(explainer: Explainer, target: Any, batch: int) -> Any:  # noqa: ANN401 - captum's targets
    """Return captum's target as one of relprop: classes, or one element of an output of more dimensions.

    Raises:
        TargetError: The target does not fit the output.
    """
    places = [target] if isinstance(target, tuple) else target
    if not isinstance(places, list) or not all(isinstance(place, tuple) for place in places):
        return torch.as_tensor(target) if isinstance(target, list) else target
    shape = tuple(explainer.captured.output.meta["val"].shape[1:])
    dimensions = " × ".join(map(str, shape))
    if any(len(place) != len(shape) for place in places) or (isinstance(target, list) and len(places) != batch):
        raise TargetError(f"The target {target!r} must be one place in the output of {dimensions}, or a list of one per sample.")
    for place in places:
        if not all(-size <= index < size for index, size in zip(place, shape, strict=True)):
            raise TargetError(f"The target {place} lies outside of the output of {dimensions}.")
    units = [Neuron(None, tuple(index % size for index, size in zip(place, shape, strict=True))) for place in places]
    return units[0] if isinstance(target, tuple) else units
