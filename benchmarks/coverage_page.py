"""The page of the coverage sweep: counts by family, what is not covered and why, and all results."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from coverage_case import Subject

Rows = Mapping[tuple[str, str], Mapping[str, Any]]

LIBRARIES: Mapping[str, str] = {
    "torchvision": "torchvision, classification",
    "torchvision-segmentation": "torchvision, segmentation",
    "torchvision-detection": "torchvision, detection up to the raw heads",
    "torchvision-video": "torchvision, video",
    "timm": "timm, every family",
    "timm-features": "timm, `features_only=True`",
    "hf": "transformers, images",
    "hf-video": "transformers, video",
    "hf-text": "transformers, text",
    "hf-audio": "transformers, audio",
    "hf-tower": "transformers, towers of multimodal models",
    "hf-dense": "transformers, segmentation, depth and detection",
    "smp": "segmentation-models-pytorch",
    "monai": "MONAI",
    "torchaudio": "torchaudio",
}
"""The families of the sweep, in words."""

_HEAD = """# Coverage

Which models relprop explains, measured by `python benchmarks/model_coverage.py`: one small variant of every torchvision and timm family, and
small configurations of the models of transformers, segmentation-models-pytorch, MONAI and torchaudio. Weights and norm statistics are random
and the models run in float64.

A model counts as covered where it was captured and planned without a change to its code; its output is that of the original; the explained
number is the one that was asked for; relevance is finite; relevance and absorbed relevance add up to that number; and a sample's relevance
does not depend on the other samples of its batch. The sum is asked of methods that conserve: to 1e-9 of the number, or 1e-3 where the model
casts parts of itself to float32, and to the rounding of the largest sum of |relevance| at any op, the column magnitude: rules that share by
signed value let positive and negative relevance grow to many times the logit in models of random weights. The maps of `gradient` are compared
with autograd on the model itself.

Classifiers are asked for their predicted class, segmentations for `Pixels()`, detectors and query models for `Box()`, embeddings for
`Similarity(…)`, regressions for `Output()`, and feature maps, masks, waveforms and frames for a unit, see [Targets](../targets.md). Texts are
token numbers with an attention mask, where the model takes one: relevance is read at the word embeddings, and `gradient` is given these as
`inputs_embeds`. The table counts the covered among those that were measured; a dash is a method that was not.

`torchaudio.models` is imported alone, because torchaudio's compiled ops do not load beside the CPU build of torch measured here. torch-geometric
is left out: a batch of graphs is one large graph, in which samples do not stand along a dimension."""

_OTHERS = """## Beside DynamicLRP

DynamicLRP (Lee, Smith-Halverson and Millán Arias, "Always Keep Your Promises", [arXiv 2512.07010](https://arxiv.org/abs/2512.07010)) is, like
relprop, an engine of ops rather than of modules: it has rules for 47 operations of the autograd graph. It publishes a coverage of 99.92 %
(first version) and 99.99 % (third version) of the 31,465 computation nodes in 15 architectures, among them Mamba, Whisper and DePlot. The two
numbers count different things: DynamicLRP counts *nodes* of autograd graphs for which it has a rule, this page counts *models* in which every op
had one and whose output, conservation and independence of the batch were then checked. A model with one op without a rule is not covered
here, however many others it has. DynamicLRP follows the graph of each forward pass; relprop captures a model once, and refuses what depends on
values in a way that it cannot replay."""


def page(known: Rows, models: Sequence[Subject]) -> str:
    """Write the page."""
    methods = sorted({method for _, method in known})
    parts = [_HEAD, _summary(known, models, methods), _OTHERS, _uncovered(known), _table(known, models, methods)]
    return "\n\n".join(parts) + "\n"


def _library(name: str) -> str:
    return name.partition(":")[0]


def _summary(known: Rows, models: Sequence[Subject], methods: Sequence[str]) -> str:
    """Covered models of those that were measured, by family and method."""
    rows = [f"| family | models | {' | '.join(f'`{m}`' for m in methods)} |", "|---" * (len(methods) + 2) + "|"]
    for library, words in LIBRARIES.items():
        names = [m.name for m in models if _library(m.name) == library]
        rows.append(f"| {words} | {len(names)} | {' | '.join(_count(known, names, m) for m in methods)} |")
    names = [m.name for m in models]
    rows.append(f"| **all** | {len(names)} | {' | '.join(_count(known, names, m) for m in methods)} |")
    return "\n".join(rows)


def _count(known: Rows, names: Iterable[str], method: str) -> str:
    found = [known[name, method] for name in names if (name, method) in known]
    return f"{sum(row['problem'] is None for row in found)} of {len(found)}" if found else "–"


def _uncovered(known: Rows) -> str:
    """What failed, by model: one sentence for all methods that say the same."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for (name, method), row in known.items():
        if row["problem"] is not None:
            reasons.setdefault((name, ("refused: " if row["refused"] else "") + row["problem"]), []).append(method)
    lines = [f"- `{name}` ({', '.join(f'`{m}`' for m in methods)}), {why}" for (name, why), methods in reasons.items()]
    return "\n".join(["## Not covered", "", *(lines or ["Nothing."])])


def _table(known: Rows, models: Sequence[Subject], methods: Sequence[str]) -> str:
    head = "| model | method | captured | planned | finite | conserved | independent | deviation | magnitude | seconds |"
    rows = ["## All results", "", head, "|---" * 10 + "|"]
    for subject, method in ((s, m) for s in models for m in methods if (s.name, m) in known):
        row = known[subject.name, method]
        marks = " | ".join("yes" if row[k] else "no" for k in ("captured", "planned", "finite", "conserved", "independent"))
        deviation = "" if row["deviation"] is None else f"{row['deviation']:.0e}"
        magnitude = f"{row['magnitude']:.0e}" if row["magnitude"] else ""
        rows.append(f"| `{subject.name}` | `{method}` | {marks} | {deviation} | {magnitude} | {row['seconds'] or ''} |")
    return "\n".join(rows)
