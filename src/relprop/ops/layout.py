"""Where the samples of a batch lie in a tensor: views and window partitions may move or merge the batch dimension."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SampleLayout:
    """The batch lies in dimension ``dim``, whose size is ``outer · batch · inner``; ``dim=None`` means a single sample.

    A window partition, for example, yields ``(batch · windows, tokens, channels)``, so ``dim=0, inner=windows``.
    """

    dim: int | None
    inner: int = 1

    def sum(self, values: Tensor, batch: int) -> Tensor:
        """Sum ``values`` over everything but the sample: shape ``(batch,)``."""
        if self.dim is None:
            return values.sum().reshape(1)
        if values.shape[self.dim] == batch:
            if self.dim == 0 and values.is_contiguous():
                return values.reshape(batch, -1).sum(1)
            return values.sum([dim for dim in range(values.dim()) if dim != self.dim]) if values.dim() > 1 else values
        parts = values.unflatten(self.dim, (-1, batch, self.inner))
        return parts.sum([dim for dim in range(parts.dim()) if dim != self.dim + 1])

    def dot(self, a: Tensor, b: Tensor, batch: int) -> Tensor:
        """Sum ``a · b`` per sample without making the product: shape ``(batch,)``; a smaller ``b`` broadcasts over ``a``."""
        if b.dim() == 1 and a.shape[-1:] == b.shape and (self.dim is None or self.dim < a.dim() - 1):
            return self.sum(a @ b, batch)
        if b.numel() < a.numel():
            shape = (1,) * (a.dim() - b.dim()) + tuple(b.shape)
            repeated = [d for d, size in enumerate(shape) if size == 1 and d != self.dim]
            return self.sum(a.sum(repeated, keepdim=True) * b if repeated else a * b, batch)
        if self.dim or not (a.is_contiguous() and b.is_contiguous()):
            return self.sum(a * b, batch)
        # far faster on CPUs than the product's sum or one batched matrix product
        return torch.stack([torch.dot(x, y) for x, y in zip(self.by_sample(a, batch), self.by_sample(b, batch), strict=True)])

    def extremes(self, values: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        """Return the smallest and the largest value of every sample: two tensors of shape ``(batch,)``."""
        flat = self.by_sample(values, batch)
        return flat.amin(1), flat.amax(1)

    def by_sample(self, values: Tensor, batch: int) -> Tensor:
        """Return ``values`` as ``(batch, everything else)``."""
        if self.dim is None:
            return values.reshape(1, -1)
        if self.dim == 0 and values.shape[0] == batch:
            return values.reshape(batch, -1)
        return values.unflatten(self.dim, (-1, batch, self.inner)).movedim(self.dim + 1, 0).reshape(batch, -1)

    def batch_first(self, values: Tensor, batch: int) -> Tensor:
        """Return ``values`` as ``(batch, …)``, the other dimensions in their order; those of a single sample as they are."""
        if self.dim is None:
            return values
        if values.shape[self.dim] == batch:
            return values.movedim(self.dim, 0)
        return values.unflatten(self.dim, (-1, batch, self.inner)).movedim(self.dim + 1, 0).flatten(self.dim + 1, self.dim + 2)

    def spread(self, per_sample: Tensor, like: Tensor) -> Tensor:
        """Return ``per_sample`` of shape ``(batch,)`` such that it broadcasts over ``like``, each sample to its own elements."""
        if self.dim is None:
            return per_sample.reshape([1] * like.dim())
        batch, after = per_sample.shape[0], like.dim() - self.dim - 1
        if like.shape[self.dim] == batch:
            return per_sample.reshape([1] * self.dim + [batch] + [1] * after)
        outer = like.shape[self.dim] // (batch * self.inner)
        middle = per_sample.reshape(1, batch, 1).expand(outer, batch, self.inner).reshape(-1)
        return middle.reshape([1] * self.dim + [-1] + [1] * after)
