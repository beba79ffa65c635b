"""The protocol of FunnyBirds: whether the relevance of an object's parts agrees with what the model makes of images without them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from relprop.metrics.base import MetricSpec, Need, Statistics, Value
from relprop.metrics.maps import heatmap, wide
from relprop.metrics.perturbation import Model
from relprop.metrics.sensitivity import Explain
from relprop.metrics.similarity import spearman

THRESHOLDS = tuple(torch.linspace(0.01, 0.5, 80, dtype=torch.float64).tolist())
"""Shares of the whole relevance above which a part counts as important; the one that suits a method best is taken, as in the paper."""
DILATION = 5
"""Side of the square by which parts are dilated."""
NEGLIGIBLE = 0.05
"""A change of the logit below this share of it says that a part is irrelevant."""
AT_ONCE = 16

Twin = tuple[int, frozenset[str]]


class Scene(Protocol):
    """What a data set knows of one image, with classes of the model, see ``relprop.datasets.Facts``."""

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each number in the map of parts, from 1."""
        ...

    @property
    def object_parts(self) -> tuple[str, ...]:
        """The names of the object's own parts."""
        ...

    @property
    def sufficient(self) -> tuple[frozenset[str], ...]:
        """The minimal sets of parts that tell the class from every other."""
        ...

    @property
    def twins(self) -> tuple[Twin, Twin] | None:
        """Two other classes, each with the parts that it shares with the image's class."""
        ...

    def without(self, parts: frozenset[str]) -> Tensor:
        """Return the input ``(C, H, W)`` without some parts."""
        ...


def parts_update(
    relevance: Tensor,
    parts: Tensor,
    inputs: Tensor,
    target: Tensor,
    model: Model,
    explain: Explain,
    scenes: Sequence[Scene],
) -> Statistics:
    """Score the explanations of images of an object's true class.

    Args:
        relevance: ``(B, H, W)`` or ``(B, C, H, W)``, for ``target``.
        parts: ``(B, H, W)``, the number of the part at each pixel.
        inputs: ``(B, C, H, W)``.
        target: ``(B,)``, the true classes.
        model: Inputs → logits.
        explain: Inputs, target → relevance, for other classes.
        scenes: What is known of each image.

    Returns:
        The sums of each protocol, one row per image, and in how many images it applies; see ``parts_compute``.
    """
    heat = wide(heatmap(relevance))
    with torch.no_grad():
        predicted = model(inputs).argmax(1)
    other = predicted != target.to(predicted.device)
    of_predicted = wide(heatmap(explain(inputs, predicted))) if bool(other.any()) else heat
    rows = [
        _row(
            heat[i],
            of_predicted[i],
            parts[i].to(heat.device),
            inputs[i],
            int(target[i]),
            int(predicted[i]),
            model,
            explain,
            scene,
        )
        for i, scene in enumerate(scenes)
    ]
    return {name: torch.stack([wide(torch.as_tensor(row[name])) for row in rows]).to(heat.device) for name in rows[0]}


def _row(  # noqa: PLR0913, PLR0917 - of one image
    heat: Tensor,
    of_predicted: Tensor,
    numbers: Tensor,
    image: Tensor,
    target: int,
    predicted: int,
    model: Model,
    explain: Explain,
    scene: Scene,
) -> Mapping[str, Tensor | float]:
    own, names = scene.object_parts, tuple(dict.fromkeys(scene.names))
    mass = importances(heat, numbers, scene.names)
    found = important(mass, heat.sum(), names)
    kept = important(
        {n: m for n, m in importances(of_predicted, numbers, scene.names).items() if n in own}, of_predicted.sum(), own
    )
    removals = [frozenset({name}) for name in names]
    removals += [removed for chosen in kept for removed in (frozenset(own) - chosen, chosen)]
    logits = _without(model, image, scene, removals)
    original = logits[frozenset()]
    drops = {name: original[target] - logits[frozenset({name})][target] for name in names}
    small = NEGLIGIBLE * original[target].abs()
    idle = frozenset(name for name, drop in drops.items() if drop.abs() < small or drop < 0)
    behind = [drops[name] for name in names if name not in own]
    correlation = spearman(torch.stack([mass[name] for name in own])[None], torch.stack([drops[name] for name in own])[None])[0]
    same = {removed: float(row.argmax()) == predicted for removed, row in logits.items()}
    right = predicted == target
    return {
        "images": 1.0,
        "accurate": float(right),
        "sufficient": torch.tensor([_covered(scene.sufficient, chosen) * right for chosen in found]),
        "preserved": torch.tensor([float(same[frozenset(own) - chosen]) for chosen in kept]),
        "deleted": torch.tensor([1.0 - same[chosen] for chosen in kept]),
        "distracted": torch.tensor([len(chosen & idle) / max(1, len(idle)) for chosen in found]),
        "with_idle": float(bool(idle)),
        "correlation": correlation.nan_to_num() * 0.5 + 0.5 * correlation.isfinite(),
        "correlated": float(correlation.isfinite()),
        "relevant_behind": float(sum(bool(drop >= small and drop > 0) for drop in behind)),
        "behind": float(len(behind)),
        **_sensitivity(numbers, image, logits, explain, scene),
    }


def importances(heat: Tensor, numbers: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """Return the relevance of each part, summed over its regions, each dilated by a square; ``(H, W)`` twice.

    Args:
        heat: The heat map.
        numbers: The number of the region at each pixel.
        names: The name of each number, from 1.
    """
    sums: dict[str, Tensor] = {}
    for number, name in enumerate(names, start=1):
        region = F.max_pool2d((numbers == number).to(heat)[None, None], DILATION, 1, DILATION // 2)[0, 0]
        sums[name] = sums.get(name, heat.new_zeros(())) + (heat * region).sum()
    return sums


def important(mass: Mapping[str, Tensor], total: Tensor, names: Collection[str]) -> list[frozenset[str]]:
    """Return, for each of ``THRESHOLDS``, the names of the parts with more than this share of the whole relevance."""
    return [frozenset(name for name in names if mass[name] > total * threshold) for threshold in THRESHOLDS]


def _covered(sets: Collection[frozenset[str]], chosen: frozenset[str]) -> float:
    """Return the largest share of a sufficient set that is among the important parts."""
    return max((len(parts & chosen) / len(parts) for parts in sets), default=0.0)


def _without(model: Model, image: Tensor, scene: Scene, removals: Collection[frozenset[str]]) -> dict[frozenset[str], Tensor]:
    """Return the logits of the image without some parts, by what is removed; without none those of the image itself."""
    wanted = [removed for removed in dict.fromkeys(removals) if removed]
    twins = scene.twins or ()
    wanted += [shared for _, shared in twins if shared not in wanted]
    images = [image, *(scene.without(removed).to(image) for removed in wanted)]
    with torch.no_grad():
        logits = torch.cat([model(torch.stack(images[i : i + AT_ONCE])) for i in range(0, len(images), AT_ONCE)])
    return dict(zip([frozenset[str](), *wanted], wide(logits), strict=True))


def _sensitivity(
    numbers: Tensor, image: Tensor, logits: Mapping[frozenset[str], Tensor], explain: Explain, scene: Scene
) -> dict[str, float]:
    """Score whether the parts shared with another class have more relevance for that class than for one that does not share them."""
    if scene.twins is None:
        return {"sensitive": 0.0, "twins": 0.0}
    (one, of_one), (two, of_two) = scene.twins
    holds = logits[of_one][one] < logits[of_two][one] and logits[of_two][two] < logits[of_one][two]
    if not bool(holds):
        return {"sensitive": 0.0, "twins": 0.0}
    maps = wide(heatmap(explain(torch.stack([image, image]), torch.tensor([one, two], device=image.device))))
    for_one, for_two = (importances(heat, numbers, scene.names) for heat in maps)

    def gain(shared: frozenset[str]) -> Tensor:
        return sum((for_one[name] - for_two[name] for name in sorted(shared)), maps.new_zeros(()))

    return {"sensitive": float(gain(of_one) > 0) + float(gain(of_two) < 0), "twins": 2.0}


def parts_compute(sums: Statistics) -> Statistics:
    """Return the scores of the protocols, at the threshold that maximizes the sum of the two parts of completeness."""
    images = sums["images"]
    curves = {
        "csdc": sums["sufficient"] / sums["accurate"][..., None],
        "preservation": sums["preserved"] / images[..., None],
        "deletion": sums["deleted"] / images[..., None],
        "distractibility": 1 - sums["distracted"] / sums["with_idle"][..., None],
    }
    complete = (curves["csdc"] + curves["preservation"] + curves["deletion"]) / 3
    best = (complete + curves["distractibility"]).nan_to_num(-1.0).argmax(-1, keepdim=True)
    at = {name: curve.gather(-1, best)[..., 0] for name, curve in curves.items()}
    completeness = ((complete + curves["distractibility"]) / 2).gather(-1, best)[..., 0]
    correctness, contrastivity = sums["correlation"] / sums["correlated"], sums["sensitive"] / sums["twins"]
    return {
        "completeness": completeness,
        "correctness": correctness,
        "contrastivity": contrastivity,
        "mean": (completeness + correctness + contrastivity) / 3,
        **at,
        "background_independence": 1 - sums["relevant_behind"] / sums["behind"],
        "accuracy": sums["accurate"] / images,
        "threshold": torch.tensor(THRESHOLDS, device=best.device, dtype=images.dtype)[best[..., 0]],
    }


PARTS = MetricSpec(
    name="parts",
    values=(
        Value("completeness", "higher", 0, 1, "mean of the three checks of completeness, averaged with distractibility"),
        Value(
            "correctness",
            "higher",
            0,
            1,
            "rank correlation of the parts' relevance with the drop of the logit without them, scaled to 0 to 1",
        ),
        Value("contrastivity", "higher", 0, 1, "whether parts shared with another class have more relevance for that class"),
        Value("mean", "higher", 0, 1, "mean of completeness, correctness and contrastivity"),
        Value("csdc", "higher", 0, 1, "share of a sufficient set of parts that is important (controlled synthetic data check)"),
        Value("preservation", "higher", 0, 1, "whether the important parts alone keep the prediction"),
        Value("deletion", "higher", 0, 1, "whether the prediction changes without the important parts"),
        Value("distractibility", "higher", 0, 1, "one minus the share of the irrelevant parts that count as important"),
        Value("background_independence", "none", 0, 1, "of the model: share of the background's objects that it does not use"),
        Value("accuracy", "none", 0, 1, "of the model"),
        Value("threshold", "none", 0, 1, "share of the relevance above which a part counts as important"),
    ),
    needs=(Need.RELEVANCE, Need.PARTS, Need.INPUTS, Need.TARGET, Need.MODEL, Need.EXPLAIN, Need.SCENES),
    update=parts_update,
    compute=parts_compute,
    over=("set",),
    source="Hesse et al., FunnyBirds: A Synthetic Vision Dataset for a Part-Based Analysis of Explainable AI Methods, ICCV 2023, section 4",
)
