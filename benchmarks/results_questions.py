"""The page ``docs/generated/which-map.md``: which map answers which question, by the packed rows alone.

    python benchmarks/results_questions.py

Methods are ordered by their mean rank over the models of which all methods were measured.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from results import PAGES, ROWS, SETTINGS
from results_archive import unpack

from relprop.evaluation import Report, report
from relprop.evaluation.report.grids import interval
from relprop.evaluation.report.tables import Line
from relprop.files import write_text

_HEAD = """# Which map for which question

Made by `python benchmarks/results_questions.py` from the rows in `benchmarks/rows`. Methods are ordered by their mean rank over the models;
brackets hold 95 % bootstrap intervals over images, and the best of every column is bold. Methods that were
left out are slow (occlusion, RISE, LIME, KernelSHAP, Score-CAM, Ablation-CAM), or need patterns or references.
"""
_WHOLE = 0.9
"""The share of the methods of which a model must have rows to count."""


@dataclass(frozen=True)
class Question:
    """What a user asks, and the value that answers it: of a run, a metric, and what is scored."""

    title: str
    run: str
    metric: str
    value: str
    scored: str


QUESTIONS = (
    Question(
        "Where is the object?",
        "voc",
        "segmentation",
        "miou",
        "the map above its positive mean against the mask, mIoU, on 200 Pascal VOC images of one class",
    ),
    Question(
        "Does the relevance stay on the object?",
        "voc",
        "relevance-mass",
        "relevance_mass",
        "the share of the positive relevance on the object, on the same images",
    ),
    Question(
        "Which part of the photo is meant by this class?",
        "mosaics",
        "grid-pointing",
        "share",
        "the share of the positive relevance in the right one of four photos of a mosaic (chance: 0.25), 100 mosaics",
    ),
    Question(
        "What can be taken away without harm?",
        "imagenet",
        "lerf",
        "probability_mean",
        "the mean probability of the class while the regions with the least relevance are removed first, 44 ImageNet photos",
    ),
    Question(
        "What must not be taken away?",
        "imagenet",
        "morf",
        "probability_mean",
        "the mean probability of the class while the regions with the most relevance are removed first (lower is better), the same photos",
    ),
    Question(
        "Do local changes and the classes of a mosaic change the map as they should?",
        "groups",
        "gae",
        "gae",
        "global attribution evaluation, local consistency times contrastiveness, 25 groups of four photos",
    ),
)


def answer(question: Question, found: Report) -> str:
    """Return the table of a question: methods down, models across; nothing where no model has been measured by all methods."""
    lines: dict[str, dict[str, Line]] = {}
    for table in found.tables:
        if table.metric.partition(":")[0] == question.metric:
            chosen = {line.method: line for line in table.lines if line.value == question.value and line.over == table.headline}
            if len(chosen) >= _WHOLE * len(SETTINGS["methods"]) - 2:  # two methods suit no convolutional network
                lines[table.model.partition(":")[2] or table.model] = chosen
    if not lines:
        return ""
    everywhere = set[str].intersection(*(set(of_model) for of_model in lines.values()))
    ranks = {
        method: float(np.mean([_rank(method, of_model, everywhere) for of_model in lines.values()])) for method in everywhere
    }
    header = ["method", "mean rank", *lines]
    ordered = sorted(ranks, key=lambda method: (ranks[method], method))
    rows = [
        header,
        ["---", *["---:"] * (len(lines) + 1)],
        *([f"`{m}`", f"{ranks[m]:.1f}", *(_cell(of_model[m]) for of_model in lines.values())] for m in ordered),
    ]
    body = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    partly = [_not_everywhere(model, of_model, everywhere) for model, of_model in lines.items() if of_model.keys() - everywhere]
    return "\n\n".join([f"## {question.title}", f"Scored by {question.scored}.", body, *partly])


def _not_everywhere(model: str, of_model: dict[str, Line], everywhere: set[str]) -> str:
    """Return the scores of the methods that were measured on this model and not on all, the best first."""
    found = sorted((line for method, line in of_model.items() if method not in everywhere), key=lambda line: -_merit(line))
    return f"Not on all models, of `{model}`: {'; '.join(f'`{line.method}` {interval(line.score)}' for line in found)}."


def _rank(method: str, of_model: dict[str, Line], everywhere: set[str]) -> int:
    return 1 + sum(_merit(of_model[other]) > _merit(of_model[method]) for other in everywhere)


def _merit(line: Line) -> float:
    """The score, negated where lower is better: the larger, the better."""
    return line.score.value if line.direction == "higher" else -line.score.value


def _cell(line: Line) -> str:
    return f"**{interval(line.score)}**" if line.best else interval(line.score)


def main() -> None:
    """Write the page."""
    parts = [_HEAD.strip()]
    with tempfile.TemporaryDirectory() as folder:
        reports: dict[str, Report] = {}
        for name in dict.fromkeys(question.run for question in QUESTIONS if (ROWS / f"{question.run}.parquet").is_file()):
            unpack(ROWS / f"{name}.parquet", Path(folder) / name, "")
            reports[name] = report(Path(folder) / name)
    parts += [answer(question, reports[question.run]) for question in QUESTIONS if question.run in reports]
    write_text(PAGES / "which-map.md", "\n\n".join(filter(None, parts)) + "\n")


if __name__ == "__main__":
    main()
