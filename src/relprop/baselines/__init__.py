"""The baselines that papers compare against, as entries of the registry: name, how to make it, what it is, where it comes from."""

from collections.abc import Callable

from relprop.attribution import Attribution
from relprop.baselines.controls import build_edge, build_random
from relprop.baselines.gradients import (
    build_expected_gradients,
    build_gradient,
    build_input_x_gradient,
    build_integrated_gradients,
    build_smoothgrad,
    build_vargrad,
)

BASELINES: tuple[tuple[str, Callable[..., Attribution], str, str], ...] = (
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
    ("random", build_random, "Noise: what a map must be better than", "-"),
    ("edge", build_edge, "Sobel edges of the input: what a map must be better than", "Adebayo et al., NeurIPS 2018"),
)
"""Every baseline, in the order in which they are listed."""
