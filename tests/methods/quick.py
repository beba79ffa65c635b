"""The methods that explain by gradients, references and perturbations, with options that make them quick."""

from typing import Any

_OPTIONS: dict[str, dict[str, Any]] = {
    "integrated-gradients": {"steps": 4},
    "expected-gradients": {"samples": 4},
    "smoothgrad": {"samples": 4},
    "vargrad": {"samples": 4},
    "score-cam": {"channels": 3},
    "ablation-cam": {"channels": 3},
    "rise": {"masks": 8},
    "lime": {"samples": 20, "count": 4, "alpha": 1e-4},
    "kernel-shap": {"samples": 20, "count": 4},
}

ALL = (
    *("gradient", "input-x-gradient", "fullgrad", "guided-backprop", "deconvnet", "deeplift"),
    *("grad-cam", "grad-cam-plus-plus", "layer-cam", "hires-cam", "xgrad-cam", "finer-cam", "eigen-cam"),
    *("random", "edge", "occlusion"),
    *_OPTIONS,
)


def quick(name: str, side: int) -> dict[str, Any]:
    """The options of a method for images of this side."""
    return {"window": side // 2, "stride": side // 2} if name == "occlusion" else _OPTIONS.get(name, {})
