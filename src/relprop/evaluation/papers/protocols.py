"""The papers' experiments as data: models, methods, metrics and sets of images."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from relprop.evaluation.papers.published import (
    BIRDS,
    BOXES,
    FUNNYBIRDS_NUMBERS,
    FUNNYBIRDS_README,
    OBJECTS,
    RAP_TABLE_1,
    RAP_TABLE_1_NUMBERS,
    RAP_TABLE_2,
    RAP_TABLE_2_NUMBERS,
    TORCHRAY,
    TORCHRAY_NUMBERS,
    VOC,
    VOC07,
    VOC07_DIFFICULT,
    Published,
)
from relprop.evaluation.settings import Choice, choices
from relprop.zoo.own import Own


@dataclass(frozen=True)
class ProtocolModel:
    """A model of a paper.

    Attributes:
        key: The key in ``--weights KEY=FILE`` and in the published numbers.
        title: The name in tables.
        name: The name for ``relprop.zoo.load``.
    """

    key: str
    title: str
    name: str


@dataclass(frozen=True)
class Experiment:
    """A part of an experiment that needs one data set.

    Attributes:
        name: The name of the data's flag (without dashes) and of the folder of results.
        what: The measurement and its images, as the caption of tables.
        kind: The kind of data set, see ``relprop.datasets.DATASETS``.
        metrics: The metrics to compute.
        values: The values of these metrics that tables show.
        target: See ``Evaluation.target``.
        data_options: Options of the data set.
        data: The name of the data's flag, where several parts take the same data; empty for ``name``.
        own: The preprocessing that the models were trained with, where it is not that of their names.
    """

    name: str
    what: str
    kind: str
    metrics: tuple[Choice, ...]
    values: tuple[str, ...]
    target: str = "predicted"
    data_options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    data: str = ""
    own: Own = field(default_factory=Own)

    @property
    def flag(self) -> str:
        """The name of the data's flag, without dashes."""
        return self.data or self.name


@dataclass(frozen=True)
class Protocol:
    """An experiment of a paper; the whole image is resized to the model's input size."""

    name: str
    source: str
    models: tuple[ProtocolModel, ...]
    methods: tuple[Choice, ...]
    parts: tuple[Experiment, ...]
    published: tuple[Published, ...] = ()


VGG16 = ProtocolModel("vgg16", "VGG-16", "torchvision:vgg16@IMAGENET1K_V1")
RESNET50 = ProtocolModel("resnet50", "ResNet-50", "torchvision:resnet50@IMAGENET1K_V1")
INCEPTION_V3 = ProtocolModel("inception_v3", "Inception-V3", "torchvision:inception_v3@IMAGENET1K_V1")
VIT_B = ProtocolModel("vit_b_16", "ViT-B/16", "torchvision:vit_b_16@IMAGENET1K_V1")

PATTERNS = "pattern-attribution"
"""The method that needs patterns fitted to the model, ``--patterns MODEL=FILE``."""

RAP_METHODS = choices(
    "rap",
    "lrp-alpha1-beta0",
    "lrp-alpha2-beta1",
    "gradient:absolute=true",
    "input-x-gradient",
    "integrated-gradients",
    PATTERNS,
    "guided-backprop",
)
ABSLRP_METHODS = choices(
    "abslrp",
    "abslrp-plain",
    "rap",
    "lrp-epsilon",
    "lrp-alpha1-beta0",
    "epsilon-plus",
    "clrp",
    "sglrp",
    "input-x-gradient",
    "integrated-gradients",
    "smoothgrad",
    "guided-backprop",
    "grad-cam",
    "transformer-attribution",
    "attention-rollout",
    "attnlrp",
)

_OVERLAPS = choices("segmentation", "segmentation:threshold=zero")
_RATIO = Experiment(
    BOXES,
    "outside–inside ratio on ILSVRC 2012 validation images with boxes",
    "imagenet",
    choices("outside-inside"),
    ("all", "pos"),
)
_OBJECTS = Experiment(
    OBJECTS,
    "pixel accuracy and mean IoU on the ImageNet segmentation set",
    "imagenet-segmentation",
    _OVERLAPS,
    ("pixel_accuracy", "miou"),
)
_VOC = Experiment(VOC, "pixel accuracy and mean IoU on Pascal VOC 2012", "voc", _OVERLAPS, ("pixel_accuracy", "miou"))
_CURVES = Experiment(
    BOXES,
    "accuracy while 100 pixels a step, least relevant first, are set to zero, in 40 steps, on ILSVRC 2012 validation images",
    "imagenet",
    choices("lerf:per_step=100:steps=40:fill=zero"),
    ("accuracy_mean",),
    target="label",
)
_GAE = Experiment(
    BOXES,
    "global attribution evaluation on ILSVRC 2012 validation images",
    "imagenet",
    choices("gae"),
    ("gae", "local_consistency", "faithfulness", "robustness", "contrastiveness"),
)

POINTING_METHODS = choices(
    "gradient:absolute=true",
    "deconvnet",
    "guided-backprop",
    "excitation-backprop",
    "rise",
    "grad-cam",
    "lrp-epsilon",
    "rap",
    "rap-regional",
)
_TEST_2007 = {"year": 2007, "split": "test", "task": "main", "each_class": True}
_POINTING = Experiment(
    VOC07,
    "pointing game on the test set of Pascal VOC 2007, by class",
    "voc",
    choices("class-pointing"),
    ("class_pointing",),
    "label",
    _TEST_2007,
)
_POINTING_DIFFICULT = Experiment(
    VOC07_DIFFICULT,
    "pointing game on the difficult pairs of an image and a class of the test set of Pascal VOC 2007, by class",
    "voc",
    choices("class-pointing"),
    ("class_pointing",),
    "label",
    {**_TEST_2007, "subset": "difficult"},
    VOC07,
)
_PARTS = Experiment(
    BIRDS,
    "protocols of FunnyBirds",
    "funnybirds",
    choices("parts"),
    tuple(number.value for number in FUNNYBIRDS_NUMBERS),
    "label",
    own=Own(mean="0", std="1", scale="1/255", size="256"),
)

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "rap-table1",
            RAP_TABLE_1,
            (VGG16, RESNET50, INCEPTION_V3, VIT_B),
            RAP_METHODS,
            (_RATIO, _OBJECTS, _VOC),
            RAP_TABLE_1_NUMBERS,
        ),
        Protocol("rap-table2", RAP_TABLE_2, (VGG16,), choices("rap"), (_OBJECTS,), RAP_TABLE_2_NUMBERS),
        Protocol(
            "rap-fig7",
            "Nam et al., Relative Attributing Propagation, AAAI 2020, Fig. 7",
            (VGG16, RESNET50, INCEPTION_V3, VIT_B),
            RAP_METHODS,
            (_CURVES,),
        ),
        Protocol(
            "abslrp-gae",
            "Vukadin et al., Advancing Attribution-Based Explainability through Multi-Component Evaluation …, TIST 2024",
            (VGG16, RESNET50, VIT_B),
            ABSLRP_METHODS,
            (_GAE,),
        ),
        Protocol(
            "torchray-pointing",
            TORCHRAY,
            (VGG16, RESNET50),
            POINTING_METHODS,
            (_POINTING, _POINTING_DIFFICULT),
            TORCHRAY_NUMBERS,
        ),
        Protocol(
            "funnybirds",
            FUNNYBIRDS_README,
            (RESNET50,),
            choices("input-x-gradient", "integrated-gradients", "grad-cam", "lrp-epsilon", "rap", "rap-regional"),
            (_PARTS,),
            FUNNYBIRDS_NUMBERS,
        ),
    )
}
"""The experiments by name."""
