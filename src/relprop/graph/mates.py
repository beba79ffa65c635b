"""Check by a run that samples do not see their mates, where the analysis of the ops cannot tell."""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, fx

from relprop.errors import UnsupportedOpError
from relprop.graph.model import CapturedModel
from relprop.graph.nodes import PATH
from relprop.graph.recording.assumptions import AssumptionError, unchecked
from relprop.graph.samples import Samples, find_samples
from relprop.inputs import Inputs
from relprop.ops.layout import SampleLayout
from relprop.ops.op import op_name

_MATES = 3
"""With three mates, no sample stays in its place when the batch is turned around."""

_TOLERANCE = 1e-4
"""Of a value's largest element: kernels may add in another order for another sample."""

_DRAWS = 8
"""How often mates are drawn anew that do not fit what the recording assumed of sizes."""

_T = TypeVar("_T")


class UnfitMatesError(UnsupportedOpError):
    """No mates could be made of a sample with which the model runs as it was recorded."""


def refuse_mixed_samples(model: CapturedModel, inputs: Inputs) -> None:
    """Refuse a model whose ops mix the samples of a batch.

    Args:
        model: A captured model with a dynamic batch.
        inputs: The example; its first sample is run twice, among other mates, and once in another place.

    Raises:
        UnsupportedOpError: Some ops do; the message lists them.
        UnfitMatesError: It cannot be told.
    """
    samples = find_samples(model.module.graph, dynamic=model.dynamic)
    mixing = samples.mixing or tuple(_mixing(model, inputs, samples))
    if not mixing and model.dynamic and samples.layouts[model.output] != SampleLayout(0):
        mixing = (model.output,)
    if mixing:
        listed = ", ".join(f"{op_name(node.target)} (in {node.meta.get(PATH) or 'the model itself'})" for node in mixing)
        raise UnsupportedOpError(
            f"These ops mix the samples of a batch, so no sample has a relevance of its own: {listed}; change the model there so that it "
            "computes each sample by itself."
        )


def _mixing(model: CapturedModel, inputs: Inputs, samples: Samples) -> Collection[fx.Node]:
    """The first op in doubt by which the second sample changes with its mates, or any sample with its place in the batch."""
    if not samples.unsettled:
        return []

    def run(given: Inputs) -> Mapping[fx.Node, Any]:
        return model.run(given, keep=samples.unsettled)[1]

    with torch.no_grad(), unchecked():
        (batch, first), (_, second) = run_among_mates(lambda given: (given, run(given)), inputs, 2)
        moved = run(batch.map_batched(lambda value: value.roll(1, 0)))
    for node in samples.unsettled:
        one, other, along = (_by_sample(values[node], samples.layouts[node]) for values in (first, second, moved))
        alone = all(equal_values(a[1], b[1]) for a, b in zip(one, other, strict=True))
        if not alone or not all(equal_values(a.roll(1, 0), b) for a, b in zip(one, along, strict=True)):
            return [node]
    return []


def _by_sample(value: Any, layout: SampleLayout) -> list[Tensor]:  # noqa: ANN401 - what an op returns
    return [layout.by_sample(part, _MATES + 1) for part in _tensors(value)]


def _tensors(value: Any) -> list[Tensor]:  # noqa: ANN401 - what an op returns
    return [v for v in (value if isinstance(value, list | tuple) else [value]) if isinstance(v, Tensor)]


def equal_values(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal up to rounding."""
    if not (a.is_floating_point() or a.is_complex()) or not a.numel():
        return torch.equal(a, b)
    largest = torch.where(b.isfinite(), b.abs(), 0).amax()
    same = (a == b) | (a.isnan() & b.isnan())
    return bool((same | ((a - b).abs() <= _TOLERANCE * largest)).all())  # masks hold infinite values


def run_among_mates(run: Callable[[Inputs], _T], inputs: Inputs, count: int, mates: int = _MATES) -> list[_T]:
    """Run a recording on the first sample, second among mates, ``count`` times with other mates that fit what it assumes of sizes.

    Raises:
        UnfitMatesError: There are not so many.
    """
    found = list[_T]()
    for given in _batches(inputs, mates):
        try:
            found.append(run(given))
        except AssumptionError:
            continue
        if len(found) == count:
            return found
    raise UnfitMatesError(
        "How much the model picks depends on values of its integer or boolean inputs, and no other sample could be made of the first that "
        "gives as much, so whether the model mixes the samples of a batch cannot be told; give it one sample at a time."
    )


def _batches(inputs: Inputs, mates: int) -> Iterator[Inputs]:
    """Batches of the first sample among mates; after some, those whose mates have the integers of but one tensor in another order."""
    sample = inputs.sample(0)
    for seed in range(_DRAWS):
        yield _among_mates(sample, seed, mates)
    for moved in [value for _, value in sample.tensors if not value.is_floating_point()]:
        for seed in range(_DRAWS):
            yield _among_mates(sample, seed, mates, moved)


def _among_mates(sample: Inputs, seed: int, mates: int, moved: Tensor | None = None) -> Inputs:
    """The sample, second among mates that differ from it: noise, or its own integers in another order, only those of ``moved`` where given."""
    generator = torch.Generator().manual_seed(seed)

    def mate(value: Tensor) -> Tensor:
        if value.is_floating_point():
            return (torch.randn(value.shape, generator=generator) * (1 + value.detach().abs().mean().cpu())).to(value)
        if moved is not None and value is not moved:
            return value
        return value.flatten()[torch.randperm(value.numel(), generator=generator).to(value.device)].reshape(value.shape)

    return sample.map_batched(lambda v: torch.cat([mate(v), v, *(mate(v) for _ in range(mates - 1))]))
