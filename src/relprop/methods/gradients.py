"""Gradients of the explained score by the input: plain, along a path, and over noise."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from relprop import draws
from relprop.attribution import Attributed, Attribution, Problem
from relprop.errors import InputError
from relprop.meaning import SENSITIVITY, VOTES, Meaning
from relprop.methods.libra import with_libra
from relprop.methods.options import as_reference, at_least, check_references, optional, read_array

_NOTABLE_ERROR = 0.05
"""Threshold of the note on completeness: its error over the score's difference to the reference's."""


def gradient(problem: Problem) -> list[Tensor]:
    """Return ``∂ score / ∂ input`` for every floating input."""
    with torch.enable_grad():
        inputs = [x.clone().requires_grad_() for x in problem.inputs]
        return list(torch.autograd.grad(problem.score(*inputs).sum(), inputs, allow_unused=True, materialize_grads=True))


def _gradient_at(sample: Problem, points: list[Tensor]) -> list[Tensor]:
    """Return the gradient at each of some inputs, ``(n, …)``, in place of the only sample's."""
    rows = torch.zeros(len(points[0]), dtype=torch.long, device=points[0].device)
    with torch.enable_grad():
        inputs = [x.detach().requires_grad_() for x in points]
        score = sample.score(*inputs, rows=rows)
        return list(torch.autograd.grad(score.sum(), inputs, allow_unused=True, materialize_grads=True))


def by_sample(problem: Problem, explain: Callable[[Problem], Attributed]) -> Attributed:
    """Explain every sample on its own, so that random draws and inner batches do not depend on the rest of the batch."""
    results = [explain(sample) for sample in problem.samples()]
    references = [r.reference for r in results if r.reference is not None]
    return Attributed(
        [torch.cat(parts) for parts in zip(*(r.relevance for r in results), strict=True)],
        torch.cat(references) if references else None,
        results[0].complete,
        tuple(dict.fromkeys(note for r in results for note in r.notes)),
    )


def captum_attr() -> Any:  # noqa: ANN401 - a module
    """Import captum's methods.

    Raises:
        ModelError: The package captum is not installed.
    """
    return optional("captum.attr", "captum")


def scored_rows(problem: Problem) -> tuple[Callable[..., Tensor], tuple[Tensor]]:
    """Return the score with captum's signature, and its additional argument, the index of the sample, which captum repeats like the inputs."""
    rows = torch.zeros(1, dtype=torch.long, device=problem.inputs[0].device)

    def score(*arguments: Tensor) -> Tensor:
        *inputs, which = arguments
        return problem.score(*inputs, rows=which)

    return score, (rows,)


def build_gradient(*, absolute: bool = False, libra: bool = False) -> Attribution:
    """The gradient of the score by the input.

    Args:
        absolute: Return its absolute value, the saliency map of Simonyan et al.
        libra: Use Libra's gradients: attention weights, the variance of norms and the gates of activations count as constants.
    """

    def attribute(problem: Problem) -> Attributed:
        return Attributed([g.abs() if absolute else g for g in gradient(with_libra(problem, libra=libra))])

    return Attribution("gradient", attribute, meaning=Meaning("sensitive", "") if absolute else SENSITIVITY)


def build_input_x_gradient(*, libra: bool = False) -> Attribution:
    """Input times gradient; on bias-free ReLU networks this is LRP-0, and adds up to the logit.

    Args:
        libra: Use Libra's gradients, see ``gradient``; on transformers the map is then that of CP-LRP.
    """

    def attribute(problem: Problem) -> Attributed:
        return Attributed([x * g for x, g in zip(problem.inputs, gradient(with_libra(problem, libra=libra)), strict=True)])

    return Attribution("input-x-gradient", attribute)


def build_integrated_gradients(*, steps: int = 50, baseline: float | Tensor = 0.0, internal_batch_size: int = 16) -> Attribution:
    """Integrated gradients by Gauss–Legendre quadrature, through captum.

    Args:
        steps: Points on the line from the reference to the input.
        baseline: The reference input, in the model's own units: a number, or a tensor that fits a sample.
        internal_batch_size: Points per forward and backward pass.
    """
    at_least(1, steps=steps, internal_batch_size=internal_batch_size)

    def explain(sample: Problem) -> Attributed:
        references = tuple(as_reference(baseline, x) for x in sample.inputs)
        score, rows = scored_rows(sample)
        parts = (
            captum_attr()
            .IntegratedGradients(score)
            .attribute(
                tuple(x.clone().requires_grad_() for x in sample.inputs),
                references,
                additional_forward_args=rows,
                n_steps=steps,
                internal_batch_size=internal_batch_size,
            )
        )
        parts, reference = [part.detach() for part in parts], sample.score(*references)
        return Attributed(parts, reference, complete=True, notes=_error_note(sample, parts, reference))

    return Attribution("integrated-gradients", lambda problem: by_sample(problem, explain))


def _error_note(sample: Problem, parts: list[Tensor], reference: Tensor) -> tuple[str, ...]:
    difference = float(sample.score(*sample.inputs) - reference)
    error = abs(difference - sum(float(part.double().sum()) for part in parts))
    if error <= _NOTABLE_ERROR * abs(difference):
        return ()
    return (
        f"Integrated gradients miss more than {_NOTABLE_ERROR:.0%} of a score's difference to the baseline's; take more steps.",
    )


def build_expected_gradients(
    *, baselines: Tensor | str | Path | None = None, samples: int = 100, seed: int = 0, internal_batch_size: int = 16
) -> Attribution:
    """Expected gradients: the mean of ``(x − r) · gradient(r + a (x − r))`` over references ``r`` and uniform ``a``.

    Args:
        baselines: Reference inputs ``(N, …)``, best of the training data, or an ``.npy`` file of them. Left out, they are uniform noise
            between the smallest and the largest value of the sample.
        samples: Draws of a reference and of a point on the line from it.
        seed: Seed of the draws, which are the same for every sample.
        internal_batch_size: Draws per forward and backward pass.
    """
    at_least(1, samples=samples, internal_batch_size=internal_batch_size)
    at_least(0, seed=seed)
    given = read_array(baselines) if isinstance(baselines, str | Path) else baselines

    def explain(sample: Problem) -> Attributed:
        if len(sample.inputs) != 1:
            raise InputError("Expected gradients explain one floating input; this model takes several.")
        x, source = sample.inputs[0], draws.generator(seed)
        total = torch.zeros_like(x, dtype=_summing(x))
        for size in _batches(samples, internal_batch_size):
            references, places = _references(given, x, size, source)
            (slopes,) = _gradient_at(sample, [references + places * (x - references)])
            total += ((x - references) * slopes).sum(0, keepdim=True, dtype=total.dtype)
        return Attributed([(total / samples).to(x)])

    return Attribution("expected-gradients", lambda problem: by_sample(problem, explain))


def _batches(count: int, size: int) -> list[int]:
    """The sizes of batches of at most ``size``."""
    return [min(size, count - start) for start in range(0, count, size)]


def _summing(x: Tensor) -> torch.dtype:
    """The dtype of sums over many passes."""
    return torch.promote_types(x.dtype, torch.float32)


def _references(given: Tensor | None, x: Tensor, count: int, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw references, ``(count, …)``, and places between each and the input, ``(count, 1, …)``, one pair after the other."""
    if given is not None:
        check_references(given, x)
    references, places = list[Tensor](), list[Tensor]()
    for _ in range(count):
        if given is None:
            references.append(x.amin() + (x.amax() - x.amin()) * draws.uniform(x.shape[1:], source).to(x))
        else:
            references.append(given[draws.integers(0, len(given), (), source)].to(x))
        places.append(draws.uniform((1,) * (x.dim() - 1), source).to(x))
    return torch.stack(references), torch.stack(places)


def _noisy_gradients(sample: Problem, samples: int, noise: float, seed: int, internal_batch_size: int) -> Iterator[list[Tensor]]:
    """Yield the gradients at noisy copies of a sample, some at a time; copies are drawn one by one, whatever the batches."""
    source = draws.generator(seed)
    deviations = [noise * (x.amax() - x.amin()) for x in sample.inputs]
    for size in _batches(samples, internal_batch_size):
        copies = [
            [
                x[0] + deviation * draws.normal(x.shape[1:], source).to(x)
                for x, deviation in zip(sample.inputs, deviations, strict=True)
            ]
            for _ in range(size)
        ]
        yield _gradient_at(sample, [torch.stack(parts) for parts in zip(*copies, strict=True)])


def build_smoothgrad(
    *, samples: int = 50, noise: float = 0.15, seed: int = 0, internal_batch_size: int = 16, libra: bool = False
) -> Attribution:
    """The mean gradient over noisy copies of the input.

    Args:
        samples: Noisy copies.
        noise: Standard deviation of the noise, as a share of the sample's range of values.
        seed: Seed of the noise, which is the same for every sample.
        internal_batch_size: Copies per forward and backward pass.
        libra: Use Libra's gradients, see ``gradient``.
    """
    at_least(1, samples=samples, internal_batch_size=internal_batch_size)
    at_least(0, seed=seed, noise=noise)

    def explain(sample: Problem) -> Attributed:
        totals = [torch.zeros_like(x, dtype=_summing(x)) for x in sample.inputs]
        for gradients in _noisy_gradients(with_libra(sample, libra=libra), samples, noise, seed, internal_batch_size):
            totals = [t + part.sum(0, keepdim=True, dtype=t.dtype) for t, part in zip(totals, gradients, strict=True)]
        return Attributed([(total / samples).to(x) for total, x in zip(totals, sample.inputs, strict=True)])

    return Attribution("smoothgrad", lambda problem: by_sample(problem, explain))


def build_vargrad(*, samples: int = 50, noise: float = 0.15, seed: int = 0, internal_batch_size: int = 16) -> Attribution:
    """The variance of the gradient over noisy copies of the input; never negative.

    Args:
        samples: Noisy copies.
        noise: Standard deviation of the noise, as a share of the sample's range of values.
        seed: Seed of the noise, which is the same for every sample.
        internal_batch_size: Copies per forward and backward pass.
    """
    at_least(1, samples=samples, internal_batch_size=internal_batch_size)
    at_least(0, seed=seed, noise=noise)

    def explain(sample: Problem) -> Attributed:
        # deviations from the gradient without noise: their mean is small beside their spread, so squares lose no digits
        centers = [g.to(_summing(g)) for g in gradient(sample)]
        sums, squares = ([torch.zeros_like(center) for center in centers] for _ in range(2))
        for gradients in _noisy_gradients(sample, samples, noise, seed, internal_batch_size):
            off = [part - center for part, center in zip(gradients, centers, strict=True)]
            sums = [total + part.sum(0, keepdim=True) for total, part in zip(sums, off, strict=True)]
            squares = [total + part.square().sum(0, keepdim=True) for total, part in zip(squares, off, strict=True)]
        variances = [
            (square / samples - (total / samples) ** 2).clamp(min=0) for total, square in zip(sums, squares, strict=True)
        ]
        return Attributed([variance.to(x) for variance, x in zip(variances, sample.inputs, strict=True)])

    return Attribution("vargrad", lambda problem: by_sample(problem, explain))


GRADIENT_METHODS = (
    ("gradient", build_gradient, "Gradient of the logit by the input", "Simonyan et al. 2013", SENSITIVITY),
    ("input-x-gradient", build_input_x_gradient, "Input times gradient of the logit", "Shrikumar et al. 2016", VOTES),
    (
        "integrated-gradients",
        build_integrated_gradients,
        "Gradients on the straight line from a reference input, times the difference to it",
        "Sundararajan et al., ICML 2017",
        VOTES,
    ),
    (
        "expected-gradients",
        build_expected_gradients,
        "Integrated gradients averaged over many reference inputs",
        "Erion et al., Nature Machine Intelligence 2021",
        VOTES,
    ),
    ("smoothgrad", build_smoothgrad, "Mean gradient over noisy copies of the input", "Smilkov et al. 2017", SENSITIVITY),
    (
        "vargrad",
        build_vargrad,
        "Variance of the gradient over noisy copies of the input",
        "Adebayo et al. 2018",
        Meaning("gradient varies", ""),
    ),
)
