"""A few small birds in the official layout of FunnyBirds: every part is a square whose gray tells its shape."""

import itertools
import json

import numpy as np
from PIL import Image

from relprop.datasets.funnybirds import BACKGROUND_COLOR, COLORS

SIDE = 24
PARTS = ("beak", "eye", "foot", "tail", "wing")
SHAPES = ((0, 0, 0, 0, 0), (0, 0, 1, 1, 1), (1, 1, 0, 0, 1), (1, 0, 1, 0, 2), (2, 1, 1, 1, 0))
"""The shapes of the parts of each class; the second and third share two parts each with the first."""


def draw(shape, kept=PARTS, behind=(0, 1)):
    """The picture of a bird, and the map of its parts."""
    image, parts = (np.zeros((SIDE, SIDE, 4), dtype=np.uint8) for _ in range(2))
    image[..., 3] = parts[..., 3] = 255
    for color, name in COLORS.items():
        number = list(COLORS).index(color)
        where = (slice(8 * (number // 3), 8 * (number // 3) + 6), slice(8 * (number % 3), 8 * (number % 3) + 6))
        if name in kept:
            image[(*where, slice(3))] = 60 + 60 * shape[PARTS.index(name)]
            parts[(*where, slice(3))] = color
    for number in behind:
        image[7, 4 * number : 4 * number + 3, :3] = 200
        parts[7, 4 * number : 4 * number + 3, :3] = (*BACKGROUND_COLOR[:2], BACKGROUND_COLOR[2] + number)
    return Image.fromarray(image), Image.fromarray(parts)


def make_birds(folder, each=2):
    """Write the folder `FunnyBirds`; return it."""
    root = folder / "FunnyBirds"
    birds = [(label, shape) for label, shape in enumerate(SHAPES) for _ in range(each)]
    root.mkdir()
    (root / "parts.json").write_text(json.dumps({name: [{"model": f"{name}{n}.glb"} for n in range(3)] for name in PARTS}))
    (root / "classes.json").write_text(
        json.dumps([{"class_idx": n, "parts": dict(zip(PARTS, shape, strict=True))} for n, shape in enumerate(SHAPES)])
    )
    (root / "dataset_test.json").write_text(json.dumps([{"class_idx": label, "bg_objects": "0,3,"} for label, _ in birds]))
    for number, (label, shape) in enumerate(birds):
        image, parts = draw(shape)
        for kind, picture in (("test", image), ("test_part_map", parts)):
            (root / kind / str(label)).mkdir(parents=True, exist_ok=True)
            picture.save(root / kind / str(label) / f"{number:06d}.png")
        without = root / "test_interventions" / str(label) / f"{number:06d}"
        (without / "background_interventions").mkdir(parents=True)
        for size in range(len(PARTS) + 1):
            for kept in itertools.combinations(PARTS, size):
                draw(shape, kept)[0].save(without / f"body_{'_'.join(sorted(kept))}.png")
        for gone in (0, 1):
            draw(shape, behind=[n for n in (0, 1) if n != gone])[0].save(without / "background_interventions" / f"{gone}.png")
    return root
