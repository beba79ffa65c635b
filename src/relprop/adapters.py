"""Every method of relprop in the form that other libraries expect: captum's ``attribute`` and Quantus' ``explain_func``."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from relprop.errors import InputError
from relprop.explainer import Explainer

if TYPE_CHECKING:
    import numpy as np


class CaptumAttribution:
    """A method of relprop as a captum attribution: ``attribute(inputs, target=…)``.

    The model is captured at the first call, and again where the inputs' shape, dtype or device changes.

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
        """Captum asks whether ``attribute`` can return an error of its sum; it cannot."""
        return False


def quantus_explain_func(method: str = "rap", **options: Any) -> Callable[..., "np.ndarray"]:  # noqa: ANN401 - options of the method
    """Return a function as Quantus calls it: ``(model, inputs, targets, **kwargs) -> relevance``, NumPy in and out.

    The relevance is ``(B, 1, H, W)``, summed over channels, as Quantus compares maps with one channel. Further keyword arguments of the
    call are Quantus' own and not the method's, except ``device``.

    Args:
        method: A name of ``relprop.methods.METHODS``.
        **options: Options of the method.
    """
    known: list[tuple[nn.Module, CaptumAttribution]] = []

    def explain_func(
        model: nn.Module,
        inputs: "np.ndarray | Tensor",
        targets: "np.ndarray | Tensor | None" = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> "np.ndarray":
        batch = torch.as_tensor(inputs)
        if batch.dim() != 4:
            raise InputError(f"Quantus' inputs must be images (batch, channels, height, width), not {tuple(batch.shape)}.")
        parameter = next(model.parameters(), batch)
        batch = batch.to(kwargs.get("device") or parameter.device, parameter.dtype)
        if not known or known[0][0] is not model:
            known[:] = [(model, CaptumAttribution(model, method, **options))]
        classes = None if targets is None else torch.as_tensor(targets).to(batch.device).reshape(-1)
        relevance = known[0][1].attribute(batch, classes)
        return relevance.sum(1, keepdim=True).cpu().numpy()  # pyright: ignore[reportAttributeAccessIssue]

    return explain_func
