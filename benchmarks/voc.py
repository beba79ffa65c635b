"""RAP's table on Pascal VOC: segmentation by thresholded relevance, and the outside–inside ratio.

    python benchmarks/voc.py --data VOCdevkit --weights FOLDER --model resnet50 --methods rap lrp-alpha1-beta0 gradient

The images that show a single class are resized to 224×224; the predicted class is explained. Counts are summed over the set, the
outside–inside ratio is the mean over images. ``--weights`` is a folder whose ``load.py`` offers ``load(name) -> (model, preprocess, labels)``;
without it, the model is one of ``relprop models``. One line of JSON per method goes to ``--output`` as soon as it is there.
"""

import argparse
import importlib.util
import json
import time
from pathlib import Path

import torch
from PIL import Image

import relprop
from relprop.datasets import Dataset, Sample, open_voc
from relprop.metrics import metric
from relprop.preprocessing import Preprocessing
from relprop.zoo import load
from relprop.zoo.torchvision_ops import import_torchvision

SIZE = 224
FOLDER_PREPROCESSING = {  # what `load.py` of the weights folder does to pixels, without its crop
    "resnet50": {"scale": 1.0, "mean": (123.68, 116.78, 103.94), "std": (1.0, 1.0, 1.0)},
    "vgg16_voc5": {},
    "deit_tiny": {"interpolation": "bicubic"},
    "googlenet_bvlc": {"scale": 1.0, "mean": (104.0, 117.0, 123.0), "std": (1.0, 1.0, 1.0), "channels": "BGR"},
    "squeezenet1_1": {"scale": 1.0, "mean": (104.0, 117.0, 123.0), "std": (1.0, 1.0, 1.0), "channels": "BGR"},
}


def model_and_preprocessing(name: str, weights: Path | None) -> tuple[torch.nn.Module, Preprocessing]:
    """The model and its preprocessing, with a plain resize in place of a crop."""
    if weights is None:
        loaded = load(name)
        values = {k: getattr(loaded.preprocessing, k) for k in ("interpolation", "scale", "mean", "std", "channels")}
        return loaded.model, Preprocessing(size=(SIZE, SIZE), resize=(SIZE, SIZE), **values)
    import_torchvision()
    spec = importlib.util.spec_from_file_location("weights_folder", weights / "load.py")
    if spec is None or spec.loader is None:
        raise SystemExit(f"No load.py in {weights}.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load(name)[0].eval(), Preprocessing(size=(SIZE, SIZE), resize=(SIZE, SIZE), **FOLDER_PREPROCESSING[name])


def evaluate(
    explainer: relprop.Explainer, data: Dataset, ids: list[str], geometry: Preprocessing, batch: int
) -> dict[str, float]:
    """Explain every image and score the maps by every threshold."""
    scores = {t: metric("segmentation", threshold=t) for t in ("mean-positive", "zero")}
    ratio = metric("outside-inside")
    samples = [s for s in data.samples(geometry, ids) if isinstance(s, Sample)]
    begin = time.perf_counter()
    for start in range(0, len(samples), batch):
        part = samples[start : start + batch]
        maps = explainer(torch.stack([s.image for s in part])).heatmap()
        mask = torch.stack([s.object_mask() for s in part])
        for score in (*scores.values(), ratio):
            score.update(relevance=maps, mask=mask)
    result = {"images": len(samples), "seconds": round(time.perf_counter() - begin, 1)}
    for threshold, score in scores.items():
        found = score.compute(over="set")
        result |= {f"{threshold} {name}": round(100 * float(found[name]), 2) for name in ("pixel_accuracy", "miou")}
    return result | {f"outside-inside {k}": round(float(v), 3) for k, v in ratio.compute(over="images").items()}


def main() -> None:
    """Score every method on every model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--model", action="append", required=True)
    parser.add_argument("--methods", nargs="+", default=["rap"])
    parser.add_argument("--limit", type=int, help="use about this many images, evenly spread")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--output", type=Path, default=Path("voc.jsonl"))
    options = parser.parse_args()
    data = open_voc(options.data, single_class=True)
    ids = list(data.ids[:: max(1, len(data.ids) // options.limit)] if options.limit else data.ids)
    for name in options.model:
        model, geometry = model_and_preprocessing(name, options.weights)
        example = geometry.tensor(Image.new("RGB", (SIZE, SIZE)))[None]
        for method in options.methods:
            explainer = relprop.Explainer(model, example, method=method)
            row = {"model": name, "method": method, **evaluate(explainer, data, ids, geometry, options.batch_size)}
            print(json.dumps(row), flush=True)
            with options.output.open("a") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
