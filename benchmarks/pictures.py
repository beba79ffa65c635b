"""The pictures of the docs' page on pictures, from EfficientNet-Lite0 and scikit-image's cup of coffee.

``python benchmarks/pictures.py docs/images`` writes them there.
"""

import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image

import relprop
from relprop.images import open_photo
from relprop.viz import Framed, Row, View, draw_grid, plot_comparison, plot_explanation, plot_layers, plot_signs, save_figure
from relprop.zoo import load

LAYERS = ("_blocks.0", "_blocks.3", "_blocks.6", "_blocks.9", "_blocks.12", "_blocks.15")
STEM = (slice(100, 132), slice(120, 152))
"""The rows and columns of the photo in which the pattern of the stem is shown enlarged."""
DPI = 110


def main(folder: Path) -> None:
    """Write all pictures."""
    loaded = load("efficientnet-lite0")
    preprocessing, labels = loaded.preprocessing, loaded.labels
    photo = open_photo(Path(str(files("skimage") / "data/coffee.png"))).image
    crop, inputs = preprocessing.crop(photo), preprocessing.tensor(photo)[None]
    captured = relprop.capture(loaded.model, inputs)
    rap = captured.explainer("rap")

    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8))
    noisy = preprocessing.normalize(noise)[None]
    rows: list[Row] = []
    for title, image, tensor in (("a photo", crop, inputs), ("noise", noise, noisy)):
        made = {name: captured.explainer(name)(tensor, 967) for name in ("rap", "lrp-gamma", "grad-cam", "edge")}
        rows += relprop.viz.comparison_rows(made, [image], labels, model=title)
    save_figure(draw_grid(rows, title="The same class on a photo and on noise"), folder / "control.webp", DPI)

    explanation = rap(inputs, layers=LAYERS)
    heatmap, pixels = explanation.heatmap()[0].numpy(), np.asarray(crop)
    views = {
        "map, enlarged 7 times": View(heatmap[STEM], pixels[STEM], meaning=explanation.meaning),
        "smoothed, σ = 1.5 pixels": View(heatmap[STEM], pixels[STEM], relprop.viz.Look(smooth=1.5), explanation.meaning),
    }
    stem = draw_grid([Row(views, pixels[STEM])], title="The pattern of a stem with stride 2", method="rap")
    save_figure(stem, folder / "stem.webp", DPI)

    given = {"images": [crop], "labels": labels}
    save_figure(plot_layers(explanation, title="rap, layer by layer", **given), folder / "layers.webp", 90)
    save_figure(plot_signs(explanation, smooth=1.5, title="rap, by sign", **given), folder / "signs.webp", DPI)
    framed = [Framed(photo, preprocessing.window(photo))]
    whole = plot_explanation(explanation, framed, labels, smooth=1.5, title="rap, over the whole photo")
    save_figure(whole, folder / "whole.webp", DPI)
    several = {name: captured.explainer(name)(inputs) for name in ("rap", "epsilon-plus", "abslrp")}
    over = plot_comparison(several, title="Overlays", smooth=1.5, overlaid=True, **given)
    save_figure(over, folder / "overlays.webp", DPI)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
