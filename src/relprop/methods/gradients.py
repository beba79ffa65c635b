"""Gradients of the explained score by the input: plain, along a path, and over noise."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from relprop.attribution import Attributed, Attribution, Problem
from relprop.errors import InputError, OptionError
from relprop.methods.options import as_reference, at_least, optional

_NOTABLE_ERROR = 0.05
"""Threshold of the note on completeness: its error over the score's difference to the reference's."""


def gradient(problem: Problem) -> list[Tensor]:
    """Return ``∂ score / ∂ input`` for every floating input."""
    with torch.enable_grad():
        inputs = [x.clone().requires_grad_() for x in problem.inputs]
        score = problem.score(*inputs)
        gradients = torch.autograd.grad(score.sum(), inputs, allow_unused=True, materialize_grads=True)
    return list(gradients)


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


def build_gradient(*, absolute: bool = False) -> Attribution:
    """The gradient of the score by the input.

    Args:
        absolute: Return its absolute value, the saliency map of Simonyan et al.
    """

    def attribute(problem: Problem) -> Attributed:
        return Attributed([g.abs() if absolute else g for g in gradient(problem)])

    return Attribution("gradient", attribute)


def build_input_x_gradient() -> Attribution:
    """Input times gradient; on bias-free ReLU networks this is LRP-0, and adds up to the logit."""

    def attribute(problem: Problem) -> Attributed:
        return Attributed([x * g for x, g in zip(problem.inputs, gradient(problem), strict=True)])

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
    """Expected gradients, through captum's GradientShap.

    Args:
        baselines: Reference inputs ``(N, …)``, best of the training data, or an ``.npy`` file of them. Left out, they are uniform noise
            between the smallest and the largest value of the sample.
        samples: Draws of a reference and of a point on the line from it.
        seed: Seed of the draws, which are the same for every sample.
        internal_batch_size: Draws per forward and backward pass.
    """
    at_least(1, samples=samples, internal_batch_size=internal_batch_size)
    at_least(0, seed=seed)
    given = _read_array(baselines) if isinstance(baselines, str | Path) else baselines

    def explain(sample: Problem) -> Attributed:
        if len(sample.inputs) != 1:
            raise InputError("Expected gradients explain one floating input; this model takes several.")
        x = sample.inputs[0]
        sizes = [min(internal_batch_size, samples - start) for start in range(0, samples, internal_batch_size)]
        with seeded(seed, x.device):
            parts = [_expected(sample, x, _references(given, x, size), size) * (size / samples) for size in sizes]
        return Attributed([torch.stack(parts).sum(0)])

    return Attribution("expected-gradients", lambda problem: by_sample(problem, explain))


def _expected(sample: Problem, x: Tensor, references: Tensor, size: int) -> Tensor:
    score, rows = scored_rows(sample)
    method = captum_attr().GradientShap(score)
    return method.attribute(
        x.clone().requires_grad_(), references, n_samples=size, stdevs=0.0, additional_forward_args=rows
    ).detach()


def _references(given: Tensor | None, x: Tensor, count: int) -> Tensor:
    if given is None:
        low, high = x.amin(), x.amax()
        return low + (high - low) * torch.rand(count, *x.shape[1:], dtype=x.dtype, device=x.device)
    if given.dim() != x.dim() or given.shape[1:] != x.shape[1:] or not len(given):
        wanted = " × ".join(map(str, x.shape[1:]))
        raise OptionError(f"Option baselines has shape {tuple(given.shape)}; it must be N × {wanted}.")
    return given.to(x)


def _read_array(path: str | Path) -> Tensor:
    import numpy as np

    try:
        return torch.from_numpy(np.load(path, allow_pickle=False))
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise OptionError(f"Option baselines={str(path)!r} is no .npy file of numbers that can be read ({error}).") from error


def _over_noise(name: str, kind: str, samples: int, noise: float, seed: int, internal_batch_size: int) -> Attribution:
    at_least(1, samples=samples, internal_batch_size=internal_batch_size)
    at_least(0, seed=seed)
    at_least(0, noise=noise)

    def explain(sample: Problem) -> Attributed:
        attr = captum_attr()
        score, rows = scored_rows(sample)
        deviations = tuple(noise * float(x.amax() - x.amin()) for x in sample.inputs)
        with seeded(seed, sample.inputs[0].device):
            parts = attr.NoiseTunnel(attr.Saliency(score)).attribute(
                tuple(x.clone().requires_grad_() for x in sample.inputs),
                nt_type=kind,
                nt_samples=samples,
                nt_samples_batch_size=min(internal_batch_size, samples),
                stdevs=deviations,
                abs=False,
                additional_forward_args=rows,
            )
        return Attributed([part.detach() for part in parts])

    return Attribution(name, lambda problem: by_sample(problem, explain))


def build_smoothgrad(*, samples: int = 50, noise: float = 0.15, seed: int = 0, internal_batch_size: int = 16) -> Attribution:
    """The mean gradient over noisy copies of the input, through captum.

    Args:
        samples: Noisy copies.
        noise: Standard deviation of the noise, as a share of the sample's range of values.
        seed: Seed of the noise, which is the same for every sample.
        internal_batch_size: Copies per forward and backward pass.
    """
    return _over_noise("smoothgrad", "smoothgrad", samples, noise, seed, internal_batch_size)


def build_vargrad(*, samples: int = 50, noise: float = 0.15, seed: int = 0, internal_batch_size: int = 16) -> Attribution:
    """The variance of the gradient over noisy copies of the input, through captum; never negative.

    Args:
        samples: Noisy copies.
        noise: Standard deviation of the noise, as a share of the sample's range of values.
        seed: Seed of the noise, which is the same for every sample.
        internal_batch_size: Copies per forward and backward pass.
    """
    return _over_noise("vargrad", "vargrad", samples, noise, seed, internal_batch_size)


@contextmanager
def seeded(seed: int, device: torch.device) -> Generator[None, None, None]:
    """Seed the global generators of torch and NumPy, which captum draws from; restore their states afterwards."""
    numpy = sys.modules.get("numpy")
    state = numpy.random.get_state() if numpy is not None else None
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        if numpy is not None:
            numpy.random.seed(seed % 2**32)
        try:
            yield
        finally:
            if numpy is not None:
                numpy.random.set_state(state)


def with_slope(value: Tensor, surrogate: Tensor) -> Tensor:
    """Return ``value`` with the gradient of ``surrogate`` (straight-through)."""
    return value.detach() + (surrogate - surrogate.detach())


GRADIENT_METHODS = (
    ("gradient", build_gradient, "Gradient of the logit by the input", "Simonyan et al. 2013"),
    ("input-x-gradient", build_input_x_gradient, "Input times gradient of the logit", "Shrikumar et al. 2016"),
    (
        "integrated-gradients",
        build_integrated_gradients,
        "Gradients on the straight line from a reference input, times the difference to it",
        "Sundararajan et al., ICML 2017",
    ),
    (
        "expected-gradients",
        build_expected_gradients,
        "Integrated gradients averaged over many reference inputs",
        "Erion et al., Nature Machine Intelligence 2021",
    ),
    ("smoothgrad", build_smoothgrad, "Mean gradient over noisy copies of the input", "Smilkov et al. 2017"),
    ("vargrad", build_vargrad, "Variance of the gradient over noisy copies of the input", "Adebayo et al. 2018"),
)
