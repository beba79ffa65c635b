"""Which models relprop explains, measured: every method over every torchvision, timm and Hugging Face family.

    python benchmarks/model_coverage.py                         # all methods, all models; resumes a stopped run
    python benchmarks/model_coverage.py --methods rap --only timm:
    python benchmarks/model_coverage.py --report                # only write the page from what was measured

Every model runs in a process of its own, with limited time and memory; results are appended to a file, so that a stopped run
resumes. The models have random weights and random norm statistics, and run in float64.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from coverage_models import Subject, build, subjects

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / ".cache" / "coverage.jsonl"
PAGE = ROOT / "docs" / "generated" / "coverage.md"
TOLERANCE = {"float64": 1e-9, "float32": 1e-3}  # relative to max(1, |logit|), by the lowest precision inside the model
ROUNDINGS = 32  # of the largest sum of |relevance| at any op, as one op after the other rounds
MATES = 1e-3  # by how much a sample's relevance may change with its batch, relative to its norm: deep random networks amplify rounding


def main() -> None:
    """Run what the command line asks for."""
    options = _options()
    if options.one:
        _run_here(options.one, options.methods.split(","), options.memory)
        return
    chosen = [s for s in subjects() if any(part in f"{s.name} {s.family}" for part in options.only.split(","))]
    methods = options.methods.split(",") if options.methods else _all_methods()
    if not options.report:
        _sweep(chosen, methods, options)
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(_page(_read(), subjects()), encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="", help="names, separated by commas; all where left out")
    parser.add_argument("--only", default="", help="parts of model or family names, separated by commas")
    parser.add_argument("--redo", choices=["failed", "all"], help="measure again what failed, or everything chosen")
    parser.add_argument("--timeout", type=float, default=900, help="seconds per model")
    parser.add_argument("--memory", type=float, default=12, help="GiB of address space per model")
    parser.add_argument("--report", action="store_true", help="only write the page")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


def _all_methods() -> list[str]:
    from relprop.methods import METHODS

    return list(METHODS)


# --- measuring -------------------------------------------------------------------------------------------------------------------


def _sweep(chosen: Iterable[Subject], methods: list[str], options: argparse.Namespace) -> None:
    known = _read()
    for subject in chosen:
        missing = [m for m in methods if _is_open(known.get((subject.name, m)), options.redo)]
        if missing:
            _append(_run_apart(subject.name, missing, options))


def _is_open(result: dict[str, Any] | None, redo: str | None) -> bool:
    return result is None or redo == "all" or (redo == "failed" and result["problem"] is not None)


def _run_apart(name: str, methods: list[str], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure one model in a process of its own; methods that it did not reach are reported with the reason."""
    command = [sys.executable, __file__, "--one", name, "--methods", ",".join(methods), "--memory", str(options.memory)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        output, errors = process.communicate(timeout=options.timeout)
        problem = f"the process ended with code {process.returncode}: {(errors.strip().splitlines() or ['no message'])[-1]}"
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        problem = f"took more than {options.timeout:.0f} s"
    results = [json.loads(line) for line in output.splitlines() if line.startswith('{"model"')]
    done = {r["method"] for r in results}
    return [*results, *(_result(name, m, problem=problem) for m in methods if m not in done)]


def _run_here(name: str, methods: list[str], memory: float) -> None:
    import torch

    import relprop

    os.nice(10)
    torch.set_num_threads(1)
    limit = int(memory * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    model, inputs = build(name)
    captured = cache(lambda: relprop.capture(model, inputs))  # a refused capture is tried again, so that every method reports it
    for method in methods:
        sys.stdout.write(json.dumps(_measure(name, model, inputs, method, captured)) + "\n")
        sys.stdout.flush()


def _result(name: str, method: str, **found: Any) -> dict[str, Any]:  # noqa: ANN401 - json values
    empty = dict.fromkeys(("captured", "planned", "finite", "conserved", "independent"), False)
    return {
        "model": name,
        "method": method,
        **empty,
        "deviation": None,
        "seconds": None,
        "problem": None,
        "refused": False,
    } | found


def _measure(name: str, model: Any, inputs: Any, method: str, captured: Callable[[], Any]) -> dict[str, Any]:  # noqa: ANN401
    from relprop.errors import CaptureError, RelpropError

    start = time.perf_counter()
    found: dict[str, Any] = {}
    try:
        _check(found, model, inputs, captured, method)
    except RelpropError as error:
        found |= {"captured": not isinstance(error, CaptureError), "problem": str(error), "refused": True}
    except Exception as error:  # the sweep reports every failure and goes on
        where = traceback.extract_tb(error.__traceback__)[-1]
        found["problem"] = f"{type(error).__name__} in {Path(where.filename).name}:{where.lineno}: {str(error).strip()[:400]}"
    return _result(name, method, **found) | {"seconds": round(time.perf_counter() - start, 1)}


def _check(found: dict[str, Any], model: Any, inputs: Any, captured: Callable[[], Any], method: str) -> None:  # noqa: ANN401
    """Explain a batch of two and one sample of it; note what holds."""
    import torch

    explainer = captured().explainer(method)
    found |= {"captured": True, "planned": True}
    start = time.perf_counter()
    explanation = explainer(inputs)
    found["explaining"] = round(time.perf_counter() - start, 2)
    relevance, logits = explanation.relevance, explanation.logits
    with torch.no_grad():
        expected = _logits(model(inputs))
    if expected.shape != logits.shape or not torch.allclose(logits, expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max())):
        found["problem"] = f"the plan's logits differ from the model's by {float((logits - expected).abs().max()):.1e}"
        return
    found["finite"] = bool(torch.isfinite(relevance).all())
    logit = logits.gather(1, explanation.target[:, None])[:, 0]
    missing = (relevance.flatten(1).sum(1) + explanation.absorbed - logit).abs()
    found["deviation"] = float((missing / logit.abs().clamp(min=1)).max())
    found["absorbed"] = float((explanation.absorbed.abs() / logit.abs().clamp(min=1e-12)).max())
    found["magnitude"] = magnitude = _magnitude(explainer.plan, inputs, explanation.target)
    allowed = (
        TOLERANCE[_precision(explainer)] * logit.abs().clamp(min=1) + ROUNDINGS * torch.finfo(relevance.dtype).eps * magnitude
    )
    promised = getattr(explainer.method, "conserves", False)  # gradient methods do not promise it
    found["conserved"] = not promised or bool((missing <= allowed).all())
    alone = explainer(inputs[1:2], explanation.target[1:2]).relevance
    change = float((alone[0] - relevance[1]).norm() / relevance[1].norm().clamp(min=1e-30))
    found["independent"] = change <= MATES
    found["problem"] = _problem(found, change)
    if method == "gradient" and found["problem"] is None:
        found["problem"] = _differs_from_autograd(model, inputs, explanation)


def _differs_from_autograd(model: Any, inputs: Any, explanation: Any) -> str | None:  # noqa: ANN401
    """Say by how much the gradients differ from autograd's on the model itself."""
    import torch

    leaf = inputs.detach().clone().requires_grad_()
    output = _logits(model(leaf))
    (expected,) = torch.autograd.grad(output.gather(1, explanation.target[:, None]).sum(), leaf)
    change = float((explanation.relevance - expected).norm() / expected.norm().clamp(min=1e-30))
    return None if change <= MATES else f"the gradients differ from autograd's by {change:.1e}"


def _magnitude(plan: Any, inputs: Any, target: Any) -> float:  # noqa: ANN401
    """The largest sum of |relevance| of a sample at any op: the rounding of one op after the other is proportional to it."""
    from relprop.inputs import as_inputs
    from relprop.propagation.plan import Plan
    from relprop.propagation.run import Run

    if not isinstance(plan, Plan) or not plan.model.dynamic:
        return 0.0
    run = Run(plan, as_inputs(inputs), inspected=True)
    sums: list[float] = []

    def watch(node: Any, relevance: Any) -> None:  # noqa: ANN401
        sums.append(float(plan.facts.layouts[node].sum(relevance.abs(), run.batch).max()))

    for _, start in plan.method.start(run.logits, target):
        run.backward(start, watch=watch, last=False)
    return max(sums)


def _precision(explainer: Any) -> str:  # noqa: ANN401
    """The lowest precision that a model computes in: some cast parts of themselves to float32, whatever they are given."""
    values = [node.meta.get("val") for node in explainer.module.graph.nodes]
    return min((str(v.dtype)[6:] for v in values if hasattr(v, "dtype") and v.is_floating_point()), key=lambda d: int(d[5:]))


def _logits(output: Any) -> Any:  # noqa: ANN401
    """The output tensor: that of torchvision and timm, the logits of a Hugging Face output, or its only tensor."""
    return output if not hasattr(output, "to_tuple") else getattr(output, "logits", output[0])


def _problem(found: dict[str, Any], change: float) -> str | None:
    if not found["finite"]:
        return "the relevance holds NaN or infinite values"
    if not found["conserved"]:
        return f"Σ relevance + absorbed misses the logit by {found['deviation']:.1e} of it"
    return None if found["independent"] else f"the relevance of a sample changes by {change:.1e} with its batch"


# --- results ---------------------------------------------------------------------------------------------------------------------


def _append(results: list[dict[str, Any]]) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a", encoding="utf-8") as file:
        for result in results:
            file.write(json.dumps(result) + "\n")
            verdict = (
                "ok" if result["problem"] is None else f"{'refused' if result['refused'] else 'FAILED'}: {result['problem']}"
            )
            print(f"{result['model']}  {result['method']}  {result['seconds']} s  {verdict}", flush=True)


def _read() -> dict[tuple[str, str], dict[str, Any]]:
    """Return the latest result of every model and method."""
    if not RESULTS.exists():
        return {}
    results = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]
    return {(r["model"], r["method"]): r for r in results}


def _page(known: dict[tuple[str, str], dict[str, Any]], models: list[Subject]) -> str:
    """Write the page: the number of models by library, the failures with their reasons, and a table of all results."""
    methods = sorted({method for _, method in known})
    return "\n\n".join([_HEAD, _summary(known, models, methods), _uncovered(known), _table(known, models, methods)]) + "\n"


_HEAD = """# Coverage

Which models relprop explains, measured by `python benchmarks/model_coverage.py`: one small variant of every torchvision and timm family, and
small configurations of the image classifiers of Hugging Face. Weights and norm statistics are random and the models run in float64.
A model counts as covered where it was captured and planned, its logits are those of the original, relevance is finite, relevance and
absorbed relevance add up to the logit (for methods that conserve; to 1e-9 of it, or 1e-3 where the model casts parts of itself to
float32, and to the rounding of the largest sum of |relevance| at any op, the column magnitude: rules that share by signed value let
positive and negative relevance grow to many times the logit in models of random weights), and a sample's relevance does not depend on
the other samples of its batch. The maps of `gradient` are compared with autograd on the model itself. EfficientFormer is among timm's
models; transformers no longer has it."""


def _summary(known: dict[tuple[str, str], dict[str, Any]], models: list[Subject], methods: list[str]) -> str:
    libraries = sorted({m.name.partition(":")[0] for m in models})
    rows = [f"| method | {' | '.join(libraries)} |", "|---" * (len(libraries) + 1) + "|"]
    for method in methods:
        cells = []
        for library in libraries:
            found = [r for (name, m), r in known.items() if m == method and name.partition(":")[0] == library]
            total = sum(m.name.partition(":")[0] == library for m in models)
            measured = "" if len(found) == total else f" ({len(found)} measured)"
            cells.append(f"{sum(r['problem'] is None for r in found)} of {total}{measured}")
        rows.append(f"| `{method}` | {' | '.join(cells)} |")
    return "\n".join(rows)


def _uncovered(known: dict[tuple[str, str], dict[str, Any]]) -> str:
    failed = [r for r in known.values() if r["problem"] is not None]
    lines = [f"- `{r['model']}`, `{r['method']}`: {'refused: ' if r['refused'] else ''}{r['problem']}" for r in failed]
    return "\n".join(["## Not covered", "", *(lines or ["Nothing."])])


def _table(known: dict[tuple[str, str], dict[str, Any]], models: list[Subject], methods: list[str]) -> str:
    head = "| model | method | captured | planned | finite | conserved | independent | deviation | magnitude | seconds |"
    rows = ["## All results", "", head, "|---" * 10 + "|"]
    for subject, method in ((s, m) for s in models for m in methods if (s.name, m) in known):
        result = known[subject.name, method]
        marks = " | ".join("yes" if result[k] else "no" for k in ("captured", "planned", "finite", "conserved", "independent"))
        deviation = "" if result["deviation"] is None else f"{result['deviation']:.0e}"
        magnitude = f"{result['magnitude']:.0e}" if result.get("magnitude") else ""
        rows.append(f"| `{subject.name}` | `{method}` | {marks} | {deviation} | {magnitude} | {result['seconds'] or ''} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
