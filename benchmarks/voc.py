"""RAP's table on Pascal VOC: segmentation by thresholded relevance, and the outside–inside ratio.

    python benchmarks/voc.py --data VOCdevkit --weights FOLDER --model resnet50 --methods rap lrp-alpha1-beta0 gradient

The images that show a single class are resized to 224×224; the predicted class is explained. Counts are summed over the set, the
outside–inside ratio is the mean over images. ``--weights`` is a folder whose ``load.py`` offers ``load(name) -> (model, preprocess, labels)``;
without it, the model is one of ``relprop models``. One line of JSON per method goes to ``--output`` as soon as it is there.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from reference_models import load_reference

import relprop
from relprop.datasets import Dataset, Sample, open_voc
from relprop.metrics import metric
from relprop.preprocessing import Preprocessing
from relprop.zoo import load

SIZE = 224


def model_and_preprocessing(name: str, weights: Path | None) -> tuple[torch.nn.Module, Preprocessing]:
    """The model and its preprocessing, with a plain resize in place of a crop."""
    if weights is None:
        loaded = load(name)
        model, preprocessing = loaded.model, loaded.preprocessing
    else:
        model, preprocessing, _ = load_reference(name, weights)
    return model, replace(preprocessing, size=(SIZE, SIZE), resize=(SIZE, SIZE))


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
