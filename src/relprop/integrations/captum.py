"""Every method of relprop as a captum attribution."""

from typing import Any

import torch
from torch import Tensor, nn

from relprop.explainer import Explainer


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
        target: int | tuple[int, ...] | list[int] | Tensor | None = None,
        additional_forward_args: object = None,
    ) -> Tensor | tuple[Tensor, ...]:
        """Return the relevance of a batch, structured like ``inputs``.

        Args:
            inputs: A batch, or a tuple of the model's tensor arguments.
            target: None for the predicted class, a class, or one class per sample.
            additional_forward_args: Further arguments of the model, in their order.

        Raises:
            InputError: The inputs do not fit the model.
            TargetError: The target does not fit the output.
        """
        tensors = inputs if isinstance(inputs, tuple) else (inputs,)
        more = () if additional_forward_args is None else additional_forward_args
        extra: tuple[Any, ...] = more if isinstance(more, tuple) else (more,)
        given = tuple(t.detach() for t in tensors) + extra
        classes = torch.as_tensor(target) if isinstance(target, tuple | list) else target
        relevance = self._for(given)(given, classes).relevance
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
