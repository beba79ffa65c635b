"""The arguments that several commands take: their types, flags and help."""

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_MODEL = "efficientnet-lite0"
MODEL_HELP = "efficientnet-lite0, torchvision:NAME, timm:NAME, hf:NAME or hf:FOLDER, or path/to/file.py:FUNCTION; NAME=WEIGHTS."

ModelOption = Annotated[str, typer.Option("--model", "-m", help=MODEL_HELP)]
WeightsOption = Annotated[Path | None, typer.Option(help="Weights: safetensors or a PyTorch state dict; never unpickled.")]
MethodOption = Annotated[
    str, typer.Option(help="A method that `relprop methods` lists, or a TOML file; with options: rap:start=signed.")
]
OptionsOption = Annotated[list[str], typer.Option("--option", metavar="KEY=VALUE", help="An option of the method; repeatable.")]
TargetOption = Annotated[
    list[str],
    typer.Option(
        "--target",
        "-t",
        help="A class index, a class name or top:K; repeatable. Or something else than a class: contrast:A,B, output:reference=3.5, "
        "pixels:15:point=100x120, box:17,3, similarity:FILE.npy, neuron:layer3,5, … Default: the predicted class.",
    ),
]
TensorOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Which tensor to explain, where the model returns several: out, 0, heads.0.logits."),
]
LabelsOption = Annotated[Path | None, typer.Option(help="Class names of your model: a text file, one per line, or JSON.")]
MeanOption = Annotated[str | None, typer.Option(help="Mean of each channel, after --scale: 0.485,0.456,0.406, or one number.")]
StdOption = Annotated[str | None, typer.Option(help="Standard deviation of each channel, likewise.")]
ScaleOption = Annotated[str | None, typer.Option(help="Factor on the pixel values 0 to 255, before --mean: 1/255, 1, ….")]
SizeOption = Annotated[str | None, typer.Option(help="Input size in pixels: 224, or height and width, 224x160.")]
PercentileOption = Annotated[float, typer.Option(help="Percentile of the absolute relevance at which the colors saturate.")]
LimitOption = Annotated[
    float | None,
    typer.Option(help="The relevance at which the colors saturate, in place of a percentile: for comparable pictures."),
]
SmoothOption = Annotated[float, typer.Option(metavar="PIXELS", help="Blur the colors by a Gaussian; the picture says so.")]
OpacityOption = Annotated[float, typer.Option(help="Opacity of the strongest color over the photo, 0 to 1.")]
WholePhotoOption = Annotated[
    bool, typer.Option("--whole-photo", help="Draw over the whole photo, not the crop that the model sees.")
]
DpiOption = Annotated[int, typer.Option(min=20, max=1200, help="Pixels per inch of the picture.")]
ActivationOption = Annotated[
    str | None,
    typer.Option(
        help="What makes probabilities of the logits: softmax or sigmoid (multi-label). Default: what the model ends in."
    ),
]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, …")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
