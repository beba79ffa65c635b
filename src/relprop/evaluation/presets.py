"""Presets of an evaluation: the settings of benchmarks that judge maps, under one name each; every setting can be overridden."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from relprop.errors import OptionError, suggestion

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Preset:
    """Settings under a name.

    Attributes:
        name: The name in ``PRESETS``.
        what: What it measures.
        source: The paper whose protocol it is.
        settings: As in a settings file.
        data_options: Options of the data set, by its kind.
        kinds: The kinds of data sets that it takes; empty for all.
    """

    name: str
    what: str
    source: str
    settings: Settings
    data_options: Mapping[str, Settings] = field(default_factory=dict[str, Settings])
    kinds: tuple[str, ...] = ()


_MOSAIC: Settings = {"target": "label", "geometry": "resize", "metrics": ["grid-pointing"]}
_CORNERS: Mapping[str, Settings] = {"mosaic": {"cells": "corners"}}
_RAO = "Rao et al., Towards Better Understanding Attribution Methods, CVPR 2022"
_EACH: Settings = {"each_class": True}

PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "srg",
            "the logit while patches are removed, least minus most relevant first",
            "Blücher et al., TMLR 2024",
            {"metrics": ["srg"]},
        ),
        Preset(
            "single-deletion",
            "whether the cells of a grid that lower the logit most have the most relevance; with fine-tuned weights IDSDS",
            "Hesse et al., Benchmarking the Attribution Quality of Vision Models, NeurIPS 2024",
            {"metrics": ["single-deletion"], "target": "label"},
        ),
        Preset(
            "gridpg",
            "the share of positive relevance in the right cell of mosaics",
            f"Böhle et al., CVPR 2021; {_RAO}",
            _MOSAIC,
            kinds=("mosaic",),
        ),
        Preset("difull", "the same with the cells disconnected", _RAO, {**_MOSAIC, "grid": "difull"}, _CORNERS, ("mosaic",)),
        Preset(
            "dipart",
            "the same with the cells disconnected after the features",
            _RAO,
            {**_MOSAIC, "grid": "dipart"},
            _CORNERS,
            ("mosaic",),
        ),
        Preset(
            "known-map",
            "agreement with the right map of networks whose weights are set by hand",
            "in the manner of Zhang et al., AttributionLab, 2023",
            {"metrics": ["known-map"], "target": "label"},
            kinds=("handset",),
        ),
        Preset(
            "pointing",
            "hits of the most relevant pixel for each class in an image, averaged over classes",
            "Zhang et al., IJCV 2018, as in TorchRay",
            {"metrics": ["class-pointing"], "target": "label"},
            {"voc": {"task": "main", **_EACH}, "coco": _EACH},
            ("voc", "coco"),
        ),
        Preset(
            "imagenet-s",
            "localization of the labeled object on ImageNet-S",
            "Gao et al., Large-scale Unsupervised Semantic Segmentation, TPAMI 2022 (the data)",
            {"metrics": ["relevance-mass", "segmentation", "pointing-game"], "target": "label"},
            kinds=("imagenet-s",),
        ),
        Preset(
            "funnybirds",
            "completeness, correctness and contrastivity by the parts of rendered birds",
            "Hesse et al., FunnyBirds, ICCV 2023",
            {"metrics": ["parts"], "target": "label"},
            kinds=("funnybirds",),
        ),
    )
}
"""The presets by name."""


def with_preset(given: Settings, source: str = "The settings") -> dict[str, Any]:
    """Return settings with those of their ``preset``, if they name one, where they say nothing themselves.

    Raises:
        OptionError: There is no such preset, or it does not take this kind of data set; the message begins with ``source``.
    """
    values = dict(given)
    name = values.pop("preset", None)
    if name is None:
        return values
    if name not in PRESETS:
        near = suggestion(str(name), PRESETS)
        raise OptionError(f"{source}: there is no preset {name!r}; there are {', '.join(PRESETS)}.{near}")
    preset = PRESETS[name]
    data = values.get("data")
    kind = str(data.get("source") if isinstance(data, Mapping) else data).partition(":")[0]  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
    if data and preset.kinds and kind not in preset.kinds:
        raise OptionError(f"{source}: the preset {name!r} takes the data set {' or '.join(preset.kinds)}, not {kind!r}.")
    settings = dict(preset.settings)
    if values.get("metrics") or values.get("metric"):
        del settings["metrics"]
    options = {**preset.data_options.get(kind, {}), **values.get("data_options", {})}
    if isinstance(data, Mapping):
        options = {name: value for name, value in options.items() if name not in data}
    return {**settings, **values, **({"data_options": options} if options else {})}
