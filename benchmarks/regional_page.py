"""The page ``docs/generated/regional.md``: tables of what ``regional.py`` found."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from regional_data import COUNTS, MODELS

from relprop.evaluation.report.statistics import resamples

Array = NDArray[np.float64]
PAGE = Path(__file__).parent.parent / "docs" / "generated" / "regional.md"
_HEAD = """# RAP with regional evidence: measurements

Made by `python benchmarks/regional.py page`. [RAP that depends on the class](../beyond-rap.md) says what they mean.
"""


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# --- the search -------------------------------------------------------------------------------------------------------------------


def tried(folder: Path, model: str, what: str) -> str:
    """One row per choice, start and weight; ``what`` is chosen."""
    rows: list[list[str]] = []
    for path in sorted(folder.glob(f"{model}--*.json")):
        choice = path.stem.partition("--")[2]
        for key, scores in json.loads(path.read_text()).items():
            start, weight = key.split("|")
            shown = [f"{scores['miou']:.1f}", *(f"{scores[name]:.3f}" for name in ("ratio", "share", "wins", "shuffled"))]
            rows.append([f"`{choice}`", start, weight if start else "", *shown])
    header = (what, "start", "weight", "mIoU", "outside–inside", "grid share", "grid wins", "∣r∣ shuffled")
    return table(header, rows) if rows else ""


# --- the test ---------------------------------------------------------------------------------------------------------------------

Score = Callable[[Array], float]
"""Rows of the photos ``(N, K)`` → a score."""


def _miou(rows: Array) -> float:
    hit, extra, missed, rejected = rows.sum(0)
    return float(50 * (hit / (hit + extra + missed) + rejected / (rejected + extra + missed)))


def _median(rows: Array) -> float:
    return float(np.nanmedian(rows))


def _mean(rows: Array) -> float:
    return float(np.nanmean(rows))


def _counts(found: dict[str, Any], part: str) -> Array:
    return np.array([[row[n] for n in COUNTS] for row in found[part]["voc"]])


def _ratios(found: dict[str, Any], part: str) -> Array:
    return np.array([[row["ratio"]] for row in found[part]["voc"]], dtype=np.float64)


def _column(found: dict[str, Any], part: str, name: str) -> Array:
    return np.array(found[part][name], dtype=np.float64)[:, None]


MEASURES: dict[str, tuple[Callable[[dict[str, Any]], Array], Score, str]] = {
    "mIoU": (lambda f: _counts(f, "single"), _miou, "{:.1f}"),
    "outside–inside": (lambda f: _ratios(f, "single"), _median, "{:.3f}"),
    "mIoU, the animal's class": (lambda f: _counts(f, "animal"), _miou, "{:.1f}"),
    "outside–inside, the animal's class": (lambda f: _ratios(f, "animal"), _median, "{:.3f}"),
    "grid share": (lambda f: np.array([[np.mean([c["share"] for c in m])] for m in f["mosaics"]["mosaic"]]), _mean, "{:.3f}"),
    "grid wins": (lambda f: np.array([[np.mean([c["wins"] for c in m])] for m in f["mosaics"]["mosaic"]]), _mean, "{:.2f}"),
    "r, two likeliest": (lambda f: _column(f, "single", "second"), _mean, "{:.2f}"),
    "∣r∣, shuffled head": (lambda f: abs(_column(f, "single", "shuffled")), _mean, "{:.2f}"),
    "MoRF": (lambda f: _column(f, "single", "morf"), _mean, "{:.3f}"),
    "LeRF": (lambda f: _column(f, "single", "lerf"), _mean, "{:.3f}"),
    "GAE": (lambda f: _column(f, "gae", "gae"), _mean, "{:.3f}"),
}
"""By name: the rows of the photos, their score, how it is printed."""


def interval(rows: Array, score: Score) -> tuple[float, float]:
    """The 95 % interval over resampled photos."""
    scores = [score(rows[drawn]) for chunk in resamples(len(rows)) for drawn in chunk]
    low, high = np.nanpercentile(scores, [2.5, 97.5])
    return float(low), float(high)


def _paired(own: Array, other: Array, score: Score) -> tuple[float, float, float]:
    both, width = np.concatenate([own, other], 1), own.shape[1]

    def difference(rows: Array) -> float:
        return score(rows[:, :width]) - score(rows[:, width:])

    return difference(both), *interval(both, difference)


def load(folder: Path, model: str) -> dict[str, dict[str, Any]]:
    """The finished parts of a model, by method."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob(f"{model}--*.json")):
        _, label, part = path.stem.split("--")
        found.setdefault(label, {})[part] = json.loads(path.read_text())
    return found


def measured(methods: dict[str, dict[str, Any]]) -> str:
    """Every method's scores with their intervals."""
    rows = list[list[str]]()
    for label, found in methods.items():
        cells = [_cell(found, *MEASURES[name]) for name in MEASURES]
        rows.append([f"`{label}`", *cells])
    return table(("method", *MEASURES), rows)


def _cell(found: dict[str, Any], values: Callable[[dict[str, Any]], Array], score: Score, form: str) -> str:
    try:
        rows = values(found)
    except KeyError:
        return "–"
    return _with_interval(rows, score, form)


def _with_interval(rows: Array, score: Score, form: str) -> str:
    low, high = interval(rows, score)
    return f"{form.format(score(rows))} [{form.format(low)}, {form.format(high)}]"


def against_rap(methods: dict[str, dict[str, Any]]) -> str:
    """The paired differences of the regional method and RAP."""
    ours, rap = methods.get("rap-regional", {}), methods.get("rap", {})
    rows = list[list[str]]()
    for name, (values, score, form) in MEASURES.items():
        try:
            value, low, high = _paired(values(ours), values(rap), score)
        except KeyError:
            continue
        rows.append([name, f"{form.format(value)} [{form.format(low)}, {form.format(high)}]"])
    return table(("measure", "`rap-regional` − `rap`"), rows)


def cascades(methods: dict[str, dict[str, Any]]) -> str:
    """The rank correlation of magnitudes with maps of ever more random models; of empty maps there is none."""
    rows = list[list[str]]()
    for label, found in methods.items():
        if "cascade" in found:
            curves = np.array(found["cascade"]["cascade"], dtype=np.float64)
            told = [column[np.isfinite(column)] for column in curves.T]
            rows.append([f"`{label}`", *(f"{column.mean():.2f}" if len(column) else "empty" for column in told)])
    return table(("method", *map(str, range(1, len(rows[0])))), rows) if rows else ""


def with_earlier(made: str, before: str) -> str:
    """A table, with the rows of methods that only the same table of an earlier page has."""
    header, rule, *rows = made.split("\n")
    earlier = before.partition(f"{header}\n{rule}\n")[2].partition("\n\n")[0].strip().split("\n")
    labels = [row.split(" | ")[0] for row in rows]
    return "\n".join([header, rule, *sorted([*rows, *(row for row in earlier if row and row.split(" | ")[0] not in labels)])])


def write(results: Path) -> None:
    """Write the page; sections and methods of which the folder has no results stay as they are."""
    before = sections(PAGE.read_text("utf-8")) if PAGE.is_file() else {}
    parts = [_HEAD]
    text = "Means and, in brackets, 95 % bootstrap intervals over photos. Maps are of the predicted class, or of the likeliest of the animal's."
    parts.append(f"## The other half of the photos\n\n{text}\n")
    parts.extend(tested(results / "test", model, before.get(model, "")) for model in MODELS)
    parts.append(two_objects(results / "objects", before.get(_OBJECTS, "")))
    parts.append(by_name(results / "named") or before.get(_NAMED, ""))
    parts.append(costs(results / "cost") or before.get(_COST, ""))
    for step, title, what in (
        ("rates", "false discovery rates, weights", "false discovery rate–weight"),
        ("places", "where the regions are", "blocks or layer"),
        ("lowers", "the rule below the regions", "rule, growth, sums"),
        ("search", "whole maps", "upper rule, place"),
        ("screen", "the evidence of the regions alone, enlarged", "upper rule, place"),
    ):
        parts.append(f"## The search: {title}\n")
        for model in MODELS:
            listed = tried(results / step, model, what)
            parts.append(f"### {model}: {step}\n\n{listed}\n" if listed else before.get(f"{model}: {step}", ""))
    PAGE.write_text("\n".join(filter(None, parts)), "utf-8")


_RANDOM = "After ever more layers are made random, from the output back:"


def tested(folder: Path, model: str, before: str) -> str:
    """The section of a model on the other half of the photos; as it was where there are no results."""
    methods = load(folder, model)
    if not methods:
        return before
    count = len(next(iter(methods.values()))["single"]["voc"])
    text = f"### {model}, {count} photos\n\n{with_earlier(measured(methods), before)}\n\n{against_rap(methods)}\n"
    listed = cascades(methods)
    randomized = with_earlier(listed, before) if listed else before.partition(f"{_RANDOM}\n\n")[2].strip()
    return text + (f"\n{_RANDOM}\n\n{randomized}\n" if randomized else "")


_OBJECTS = "Two objects"


def two_objects(folder: Path, before: str) -> str:
    """Tabulate the share of the positive relevance on two objects that the explained one has: methods by their mean over the models.

    Methods without results keep their rows.
    """
    shares, areas = dict[str, dict[str, Array]](), dict[str, Array]()
    for path in sorted(folder.glob("*.json")):
        model, _, label = path.stem.partition("--")
        found = json.loads(path.read_text())
        shares.setdefault(label, {})[model] = np.array(found["right"])[:, None]
        areas[model] = np.array(found["area"])[:, None]
    if not areas:
        return before
    models, every = [model for model in MODELS if model in areas], {**shares, "area": areas}
    header = ("method", "mean", *(f"{model}, {len(areas[model])}" for model in models))
    made = table(header, [[f"`{label}`", *_shares(found, models)] for label, found in every.items()])
    title, rule, *rows = with_earlier(made, before).split("\n")
    listed = "\n".join([title, rule, *sorted(rows, key=_mean_first, reverse=True)])
    text = "The animal's share of the positive relevance on all annotated objects, in photos of the other half that show an animal and something else"
    return f"### {_OBJECTS}\n\n{text}; the map is of the likeliest class of the animal.\n\n{listed}\n"


def _mean_first(row: str) -> tuple[bool, float]:
    """The place of a row: by its mean over all models; without one, behind those, by that of the models it has."""
    whole, *models = row.strip("| ").split(" | ")[1:]
    return whole != "–", float(np.mean([float(cell.split()[0]) for cell in models if cell != "–"]))


def _shares(found: dict[str, Array], models: Sequence[str]) -> list[str]:
    """The mean over the models where there are all, and each model's with its interval."""
    return [
        f"{np.mean([_mean(part) for part in found.values()]):.3f}" if len(found) == len(models) else "–",
        *(_with_interval(found[model], _mean, "{:.3f}") if model in found else "–" for model in models),
    ]


_NAMED = "200 whole photos: whether the explained class is the animal's"


def by_name(folder: Path) -> str:
    """Tabulate mIoU on whole photos whose explained class is one of the annotated animal's, and on the others."""
    rows = list[list[str]]()
    for model in MODELS:
        path = folder / f"{model}.json"
        photos = json.loads(path.read_text()) if path.is_file() else []
        for told, label in ((True, "the animal's"), (False, "another")):
            some = [photo for photo in photos if photo["named"] is told and {"rap", "rap-regional"} <= photo.keys()]
            if some:
                ours, rap = (np.array([photo[method] for photo in some]) for method in ("rap-regional", "rap"))
                value, low, high = _paired(ours, rap, _miou)
                scores = (f"{_miou(part):.1f}" for part in (rap, ours))
                rows.append([model, label, str(len(some)), *scores, f"{value:+.1f} [{low:.1f}, {high:.1f}]"])
    header = ("model", "explained class", "photos", "`rap`", "`rap-regional`", "difference")
    return f"### {_NAMED}\n\nmIoU of the maps of the predicted class.\n\n{table(header, rows)}\n" if rows else ""


_COST = "Time over that of RAP"


def costs(folder: Path) -> str:
    """Tabulate the ratio of every model."""
    paths = [path for path in (folder / f"{model}.json" for model in MODELS) if path.is_file()]
    rows = [[path.stem, f"{json.loads(path.read_text()):.2f}"] for path in paths]
    text = "A batch of two, one thread, both methods in turn; the median of the ratios."
    return f"### {_COST}\n\n{text}\n\n{table(('model', 'ratio'), rows)}\n" if rows else ""


def sections(page: str) -> dict[str, str]:
    """The sections of a page by what their headings name: a model, or a model and a step."""
    found = re.findall(r"^(### ([^,\n]+?)(?:, \d+ photos)?\n\n.*?)(?=^#|\Z)", page, re.DOTALL | re.MULTILINE)
    return {name: text.rstrip("\n") + "\n" for text, name in found}
