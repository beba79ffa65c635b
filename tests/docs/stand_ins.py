"""What the snippets and commands of the docs find when they run: photos, a data set, models of the libraries as small networks."""

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from relprop.datasets.voc import VOC_CLASSES
from relprop.evaluation import Evaluation, choices, evaluate, models
from relprop.zoo import LoadedModel, Preprocessing, imagenet_classes

NET = """
from torch import nn
from relprop.zoo import Preprocessing

def build():
    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    return nn.Sequential(*layers), Preprocessing(size=(32, 32), resize=32), ["cat", "dog"]

def segmentation():
    layers = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 20, 1)
    return nn.Sequential(*layers), Preprocessing(size=(32, 32), resize=32)
"""


class Small(nn.Module):
    """A network with the modules that the docs name and ImageNet's classes."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU())
        self.layer3 = nn.Sequential(nn.Conv2d(6, 6, 3), nn.ReLU())
        self.layer4 = nn.Sequential(nn.Conv2d(6, 6, 3), nn.ReLU())
        self.fc = nn.Linear(6, 1000)

    def forward(self, x):
        return self.fc(self.layer4(self.layer3(self.features(x))).mean((2, 3)))


def small(request):
    """Stand for a model of any library, with or without a file of weights."""
    torch.manual_seed(0)
    return LoadedModel(Small().eval(), Preprocessing((32, 32), 32), imagenet_classes(), request.name)


def make_files(folder):
    """Write everything that the docs take for granted."""
    rng = np.random.default_rng(0)
    (folder / "PHOTOS").mkdir()
    for name in ("cat.jpg", "photo.jpg", "PHOTOS/a.jpg", "PHOTOS/b.jpg"):
        Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(folder / name)
    (folder / "photos.csv").write_text("path,target\nPHOTOS/a.jpg,tabby cat\nPHOTOS/b.jpg,\n")
    (folder / "net.py").write_text(NET)
    space = {}
    exec(NET, space)
    save_file(space["build"]()[0].state_dict(), folder / "net.safetensors")
    save_file(Small().state_dict(), folder / "vgg16.safetensors")
    _make_voc(folder / "VOCdevkit" / "VOC2012", rng)
    with_results = Evaluation(
        data=f"voc:{folder / 'VOCdevkit'}",
        models=models("torchvision:resnet50"),
        methods=choices("rap", "gradient"),
        metrics=choices("segmentation", "gae"),
        output=folder / "RESULTS",
    )
    evaluate(with_results)


def _make_voc(root, rng):
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation", "ImageSets/Main"):
        (root / part).mkdir(parents=True)
    names = [f"2007_{number:06d}" for number in range(4)]
    for kind in ("Segmentation", "Main"):
        (root / "ImageSets" / kind / "val.txt").write_text("\n".join(names) + "\n")
    for name in names:
        values = np.zeros((40, 40), dtype=np.uint8)
        values[10:30, 10:30] = VOC_CLASSES.index("dog") + 1
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(root / f"JPEGImages/{name}.jpg")
        mask = Image.fromarray(values)
        mask.putpalette([*range(256)] * 3)
        mask.save(root / f"SegmentationClass/{name}.png")
