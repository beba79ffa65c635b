"""Which models relprop explains, measured: methods over the families of six libraries.

    python benchmarks/model_coverage.py                         # gradient, rap and lrp-epsilon, all models; resumes a stopped run
    python benchmarks/model_coverage.py --methods rap --only timm:
    python benchmarks/model_coverage.py --report                # only write the page from what was measured

Beside torchvision, timm and transformers this needs three libraries that relprop itself does not know of::

    pip install --no-deps segmentation-models-pytorch==0.6.0 monai==1.6.1 einops==0.8.2 torchaudio==2.11.1

Every model runs in a process of its own, with limited time and memory; results are kept in ``benchmarks/rows``, one line per model and
method, so that a stopped run resumes. The models have random weights and random norm statistics, and run in float64.
"""

import argparse
import gc
import importlib
import json
import multiprocessing
import os
import resource
import time
from collections.abc import Iterable, Sequence
from functools import cache, partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from coverage_case import Subject, torchvision
from coverage_checks import measure, result, told
from coverage_models import build, subjects
from coverage_page import page

import relprop

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "rows" / "coverage.jsonl"
PAGE = ROOT / "docs" / "generated" / "coverage.md"
METHODS = "gradient,rap,lrp-epsilon"
LIBRARIES = {
    "timm": ("timm",),
    "hf": ("transformers.models.auto.modeling_auto", "transformers.models.bert.modeling_bert"),  # with what all models share
    "smp": ("segmentation_models_pytorch",),
    "monai": ("monai.networks.nets",),
}
"""What is imported once, before a process is forked for each model."""


def main() -> None:
    """Run what the command line asks for."""
    options = _options()
    models = subjects()
    if not options.report:
        chosen = [s for s in models if any(part in f"{s.name} {s.family}" for part in options.only.split(","))]
        _sweep(chosen, options.methods.split(","), options)
    known = _read()
    _write(known, models)
    PAGE.write_text(page(known, models), encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=METHODS, help="names, separated by commas")
    parser.add_argument("--only", default="", help="parts of model or family names, separated by commas")
    parser.add_argument("--redo", choices=["failed", "all"], help="measure again what failed, or everything chosen")
    parser.add_argument("--timeout", type=float, default=900, help="seconds per model")
    parser.add_argument("--memory", type=float, default=12, help="GiB of address space per model")
    parser.add_argument("--report", action="store_true", help="only write the page")
    return parser.parse_args()


# --- measuring -------------------------------------------------------------------------------------------------------------------


def _sweep(chosen: Iterable[Subject], methods: Sequence[str], options: argparse.Namespace) -> None:
    known = _read()
    torch.set_num_threads(1)
    os.environ["HF_HUB_OFFLINE"] = "1"
    for subject in chosen:
        missing = [m for m in methods if _is_open(known.get((subject.name, m)), options.redo)]
        if missing:
            _import(subject.name)
            _append(_run_apart(subject.name, missing, options))


def _is_open(row: dict[str, Any] | None, redo: str | None) -> bool:
    return row is None or redo == "all" or (redo == "failed" and row["problem"] is not None)


def _import(name: str) -> None:
    torchvision()
    for module in LIBRARIES.get(name.partition(":")[0].partition("-")[0], ()):
        importlib.import_module(module)


def _run_apart(name: str, methods: Sequence[str], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure one model in a process of its own; methods that it did not reach are reported with the reason."""
    gc.freeze()  # the memory that a forked process shares stays untouched
    forked = multiprocessing.get_context("fork")
    receiver, sender = forked.Pipe(duplex=False)
    process = forked.Process(target=_run_here, args=(name, methods, options.memory, sender))
    process.start()
    sender.close()
    results = _received(receiver, options.timeout)
    process.join(1)
    problem = f"the process ended with code {process.exitcode}"
    if process.is_alive():
        problem = f"took more than {options.timeout:.0f} s"
        process.kill()
        process.join()
    done = {r["method"] for r in results}
    return [*results, *(result(name, m, problem=problem) for m in methods if m not in done)]


def _received(receiver: Connection, timeout: float) -> list[dict[str, Any]]:
    """What a process sends until it ends or its time is over."""
    results: list[dict[str, Any]] = []
    end = time.monotonic() + timeout
    try:
        while receiver.poll(max(0, end - time.monotonic())):
            results.append(receiver.recv())
    except EOFError:
        pass
    return results


def _run_here(name: str, methods: Sequence[str], memory: float, sender: Connection) -> None:
    limit = int(memory * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        case = build(name)
    except Exception as error:
        for method in methods:
            sender.send(result(name, method, problem=f"cannot be built: {told(error)}"))
        return

    @cache  # a refusal is met again by every method
    def captured(*, embedded: bool) -> Any:  # noqa: ANN401
        given = case.embedded() if embedded else case
        return relprop.capture(given.model, given.inputs, output=given.output)

    for method in methods:
        embedded = method == "gradient" and case.lookup is not None
        sender.send(measure(name, case.embedded() if embedded else case, method, partial(captured, embedded=embedded)))


# --- results ---------------------------------------------------------------------------------------------------------------------


def _append(results: list[dict[str, Any]]) -> None:
    with RESULTS.open("a", encoding="utf-8") as file:
        for row in results:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            verdict = "ok" if row["problem"] is None else f"{'refused' if row['refused'] else 'FAILED'}: {row['problem']}"
            print(f"{row['model']}  {row['method']}  {row['seconds']} s  {verdict}", flush=True)


def _read() -> dict[tuple[str, str], dict[str, Any]]:
    """Return the latest result of every model and method."""
    if not RESULTS.exists():
        return {}
    results = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]
    return {(r["model"], r["method"]): r for r in results}


def _write(known: dict[tuple[str, str], dict[str, Any]], models: Sequence[Subject]) -> None:
    """Write the latest results alone, in the order of the models, and only those of models that still belong to the sweep."""
    order = {subject.name: place for place, subject in enumerate(models)}
    kept = sorted((key for key in known if key[0] in order), key=lambda key: (order[key[0]], key[1]))
    RESULTS.write_text("".join(json.dumps(known[key], ensure_ascii=False) + "\n" for key in kept), encoding="utf-8")


if __name__ == "__main__":
    main()
