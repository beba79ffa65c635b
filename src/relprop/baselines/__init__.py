"""The baselines that papers compare against, as entries of the registry: name, how to make it, what it is, where it comes from."""

from collections.abc import Callable

from relprop.attribution import Attribution
from relprop.baselines.cams import build_grad_cam, build_grad_cam_plus_plus, build_layer_cam, build_score_cam
from relprop.baselines.controls import build_edge, build_random
from relprop.baselines.deeplift import build_deeplift
from relprop.baselines.gradients import (
    build_expected_gradients,
    build_gradient,
    build_input_x_gradient,
    build_integrated_gradients,
    build_smoothgrad,
    build_vargrad,
)
from relprop.baselines.pattern_methods import build_pattern_attribution, build_pattern_net
from relprop.baselines.perturbation import build_kernel_shap, build_lime, build_occlusion, build_rise
from relprop.baselines.rectifiers import build_deconvnet, build_guided_backprop

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
    ("guided-backprop", build_guided_backprop, "Gradient without its negative parts at ReLU", "Springenberg et al., ICLR 2015"),
    ("deconvnet", build_deconvnet, "Positive parts of the gradient, sent back through ReLU", "Zeiler and Fergus, ECCV 2014"),
    (
        "deeplift",
        build_deeplift,
        "Difference of the logit to that of a reference input, shared by multipliers (rescale rule)",
        "Shrikumar et al., ICML 2017",
    ),
    ("grad-cam", build_grad_cam, "Last layer's channels, weighted by their mean gradient", "Selvaraju et al., ICCV 2017"),
    (
        "grad-cam-plus-plus",
        build_grad_cam_plus_plus,
        "Grad-CAM with weights from higher derivatives",
        "Chattopadhay et al., WACV 2018",
    ),
    ("layer-cam", build_layer_cam, "A layer's elements, weighted by their own positive gradient", "Jiang et al., TIP 2021"),
    ("score-cam", build_score_cam, "Last layer's channels, weighted by the score seen through each", "Wang et al., CVPRW 2020"),
    ("occlusion", build_occlusion, "Drop of the logit where a sliding window hides the image", "Zeiler and Fergus, ECCV 2014"),
    ("rise", build_rise, "Random masks, weighted by the class probability seen through each", "Petsiuk et al., BMVC 2018"),
    ("lime", build_lime, "Sparse linear model of the logit over hidden segments", "Ribeiro et al., KDD 2016"),
    ("kernel-shap", build_kernel_shap, "Shapley values of segments by a weighted linear model", "Lundberg and Lee, NeurIPS 2017"),
    (
        "pattern-net",
        build_pattern_net,
        "What of the input is signal for the logit, by fitted patterns",
        "Kindermans et al., ICLR 2018",
    ),
    (
        "pattern-attribution",
        build_pattern_attribution,
        "What the signal in each input element contributes to the logit, by fitted patterns",
        "Kindermans et al., ICLR 2018",
    ),
    ("random", build_random, "Noise: what a map must be better than", "-"),
    ("edge", build_edge, "Sobel edges of the input: what a map must be better than", "Adebayo et al., NeurIPS 2018"),
)
"""Every baseline, in the order in which they are listed."""
