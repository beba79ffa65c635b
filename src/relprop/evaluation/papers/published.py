"""The published numbers of the papers, in their units: ratios as they are, pixel accuracy and mean IoU in percent."""

from dataclasses import dataclass

RAP_TABLE_1 = "Nam et al., Relative Attributing Propagation, AAAI 2020, Table 1"
RAP_TABLE_2 = "Nam et al., Relative Attributing Propagation, AAAI 2020, Table 2"

TORCHRAY = "TorchRay (Fong et al., ICCV 2019), docs/pointing.csv"
FUNNYBIRDS_README = "the authors' repository of the FunnyBirds framework, README"

BOXES, OBJECTS, VOC = "imagenet", "imagenet-seg", "voc"
VOC07, VOC07_DIFFICULT, BIRDS = "voc07", "voc07-difficult", "funnybirds"
"""The parts of a protocol, named by the flag of their data, and by what is taken of it."""


@dataclass(frozen=True)
class Published:
    """A printed number; ``value`` is the name that the metric gives it."""

    model: str
    method: str
    part: str
    value: str
    number: float
    source: str = RAP_TABLE_1


def _ratios(model: str, rows: dict[str, tuple[float | None, float]]) -> tuple[Published, ...]:
    """Return the outside–inside ratios ``all`` and ``pos``; a single printed ratio, for maps without a negative part, is ``pos``."""
    named = ((method, pair) for method, both in rows.items() for pair in zip(("all", "pos"), both, strict=True))
    return tuple(Published(model, method, BOXES, value, number) for method, (value, number) in named if number is not None)


def _overlaps(model: str, part: str, rows: dict[str, tuple[float, float]]) -> tuple[Published, ...]:
    named = ((method, pair) for method, both in rows.items() for pair in zip(("pixel_accuracy", "miou"), both, strict=True))
    return tuple(Published(model, method, part, value, number) for method, (value, number) in named)


RAP_TABLE_1_NUMBERS: tuple[Published, ...] = (
    *_ratios(
        "vgg16",
        {
            "rap": (0.252, 0.341),
            "lrp-alpha1-beta0": (None, 0.474),
            "lrp-alpha2-beta1": (0.616, 0.524),
            "gradient": (None, 0.619),
            "input-x-gradient": (0.989, 0.691),
            "integrated-gradients": (1.230, 0.827),
            "pattern-attribution": (None, 0.415),
            "guided-backprop": (1.069, 0.427),
        },
    ),
    *_ratios(
        "resnet50",
        {
            "rap": (0.164, 0.166),
            "lrp-alpha1-beta0": (None, 0.429),
            "lrp-alpha2-beta1": (0.302, 0.299),
            "gradient": (None, 0.597),
            "input-x-gradient": (0.996, 0.689),
            "integrated-gradients": (1.195, 0.698),
            "guided-backprop": (1.035, 0.296),
        },
    ),
    *_overlaps(
        "vgg16",
        OBJECTS,
        {
            "rap": (79.23, 62.23),
            "lrp-alpha1-beta0": (75.40, 55.78),
            "lrp-alpha2-beta1": (72.95, 50.86),
            "gradient": (70.01, 49.30),
            "input-x-gradient": (66.38, 44.01),
            "integrated-gradients": (66.52, 45.90),
            "pattern-attribution": (76.84, 58.05),
            "guided-backprop": (71.98, 49.87),
        },
    ),
    *_overlaps(
        "vgg16",
        VOC,
        {
            "rap": (73.91, 55.60),
            "lrp-alpha1-beta0": (70.86, 49.82),
            "lrp-alpha2-beta1": (69.43, 46.85),
            "gradient": (68.14, 46.07),
            "input-x-gradient": (50.01, 31.69),
            "integrated-gradients": (52.38, 34.39),
            "guided-backprop": (66.92, 43.63),
        },
    ),
)

RAP_TABLE_2_NUMBERS: tuple[Published, ...] = (
    Published("–", "Guillaumin et al.", OBJECTS, "miou", 57.30, RAP_TABLE_2),
    Published("–", "DeepMask", OBJECTS, "miou", 58.69, RAP_TABLE_2),
    Published("–", "DeepSaliency", OBJECTS, "miou", 62.12, RAP_TABLE_2),
    Published("–", "Xiong et al.", OBJECTS, "miou", 64.22, RAP_TABLE_2),
    Published("vgg16", "rap", OBJECTS, "miou", 62.23, RAP_TABLE_2),
)


def _pointing(model: str, rows: dict[str, tuple[float, float]]) -> tuple[Published, ...]:
    """Return the hit rates in percent on all pairs of an image and a class, and on the difficult ones."""
    named = ((method, pair) for method, both in rows.items() for pair in zip((VOC07, VOC07_DIFFICULT), both, strict=True))
    return tuple(Published(model, method, part, "class_pointing", number, TORCHRAY) for method, (part, number) in named)


TORCHRAY_NUMBERS: tuple[Published, ...] = (
    *_pointing(
        "vgg16",
        {
            "gradient": (76.3, 56.9),
            "deconvnet": (67.5, 44.2),
            "guided-backprop": (75.9, 53.0),
            "excitation-backprop": (77.1, 56.6),
            "rise": (86.9, 75.1),
            "grad-cam": (86.6, 74.0),
        },
    ),
    *_pointing(
        "resnet50",
        {
            "gradient": (72.3, 56.8),
            "deconvnet": (68.6, 44.7),
            "guided-backprop": (77.2, 59.4),
            "excitation-backprop": (84.5, 70.8),
            "rise": (86.4, 78.8),
            "grad-cam": (90.4, 82.3),
        },
    ),
)

FUNNYBIRDS_NUMBERS: tuple[Published, ...] = tuple(
    Published("resnet50", "input-x-gradient", BIRDS, value, number, FUNNYBIRDS_README)
    for value, number in {
        "accuracy": 0.998,
        "csdc": 0.7353,
        "preservation": 0.602,
        "deletion": 0.532,
        "distractibility": 0.54372,
        "background_independence": 0.99826,
        "correctness": 0.54592,
        "contrastivity": 0.806,
    }.items()
)
