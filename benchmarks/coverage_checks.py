"""What the coverage sweep checks of one model and method."""

import re
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from coverage_case import Case
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from relprop.errors import CaptureError, RelpropError
from relprop.propagation.plan import Plan
from relprop.propagation.run import Run
from relprop.rules.starts import start_of
from relprop.targets import Similarity

TOLERANCE = {"float64": 1e-9, "float32": 1e-3}  # relative to max(1, |value|), by the lowest precision inside the model
ROUNDINGS = 32  # of the largest sum of |relevance| at any op, as one op after the other rounds
MATES = 1e-3  # by how much a sample's relevance may change with its batch, relative to its norm: deep random networks amplify rounding


def result(name: str, method: str, **found: Any) -> dict[str, Any]:  # noqa: ANN401 - json values
    """Return a row of the results, of a failure where nothing else is said."""
    empty = dict.fromkeys(("captured", "planned", "finite", "conserved", "independent"), False)
    rest = {"deviation": None, "magnitude": None, "seconds": None, "problem": None, "refused": False}
    return {"model": name, "method": method, **empty, **rest} | found


def measure(name: str, case: Case, method: str, captured: Callable[[], Any]) -> dict[str, Any]:
    """Explain a model by a method and return the row of what holds."""
    start = time.perf_counter()
    found: dict[str, Any] = {}
    try:
        _check(found, case, captured, method)
    except RelpropError as error:
        said = re.sub(r"[^\s(]*/site-packages/", "", str(error))  # not where the libraries lie here
        found |= {"captured": not isinstance(error, CaptureError), "problem": said, "refused": True}
    except Exception as error:  # the sweep reports every failure and goes on
        found["problem"] = told(error)
    return result(name, method, **found) | {"seconds": round(time.perf_counter() - start, 1)}


def told(error: Exception) -> str:
    """Return an unexpected error in one line, with its place."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(where.filename).name}:{where.lineno}: {' '.join(str(error).split())[:400]}"


def _check(found: dict[str, Any], case: Case, captured: Callable[[], Any], method: str) -> None:
    """Explain a batch of two and one sample of it; note what holds."""
    explainer = captured().explainer(method)
    found |= {"captured": True, "planned": True}
    explanation = explainer(case.inputs, case.target)
    with torch.no_grad():
        expected = case.run()
    logits, value = explanation.logits, case.value(expected, explanation.target if case.target is None else None)
    if isinstance(case.target, Similarity):
        expected = torch.nn.functional.normalize(expected, dim=1)  # the library reads the embedding at length one
    scale = float(expected.abs().max())
    if expected.shape != logits.shape or not torch.allclose(logits, expected, rtol=1e-6, atol=1e-6 * scale):
        change = f"by {float((logits - expected).abs().max()):.1e}" if expected.shape == logits.shape else "in shape"
        found["problem"] = f"the plan's output differs from the model's {change}"
        return
    if not torch.allclose(explanation.value, value, rtol=1e-6, atol=1e-6 * scale):
        found["problem"] = (
            f"the explained number is not what was asked for, by {float((explanation.value - value).abs().max()):.1e}"
        )
        return
    relevance = _joined(explanation.relevance, len(value))
    found["finite"] = bool(torch.isfinite(relevance).all())
    _check_sums(found, explainer, case, relevance.sum(1) + explanation.absorbed - value, value)
    target = explanation.target[1:2] if case.target is None else case.target
    alone = _joined(explainer(case.sample(1), target).relevance, 1)
    change = float((alone[0] - relevance[1]).norm() / relevance[1].norm().clamp(min=1e-30))
    found["independent"] = change <= MATES
    found["problem"] = _problem(found, change)
    if method == "gradient" and found["problem"] is None:
        found["problem"] = _differs_from_autograd(case, explanation)


def _joined(relevance: Any, batch: int) -> Tensor:  # noqa: ANN401
    """The relevance of all inputs, ``(B, …)`` made flat; masks and other integers that carry none have zeros."""
    return torch.cat([part.reshape(batch, -1).double() for part in tree_leaves(relevance) if isinstance(part, Tensor)], 1)


def _check_sums(found: dict[str, Any], explainer: Any, case: Case, missing: Tensor, value: Tensor) -> None:  # noqa: ANN401
    """Note whether relevance and absorbed relevance add up to the explained number, where the method promises that they do."""
    missing = missing.abs()
    found["deviation"] = float(f"{float((missing / value.abs().clamp(min=1)).max()):.1e}")
    magnitude = _magnitude(explainer, case)
    found["magnitude"] = float(f"{magnitude:.1e}")
    allowed = TOLERANCE[_precision(explainer)] * value.abs().clamp(min=1) + ROUNDINGS * torch.finfo(value.dtype).eps * magnitude
    promised = getattr(explainer.method, "conserves", False)  # gradient methods do not promise it
    found["conserved"] = not promised or bool((missing <= allowed).all())


def _magnitude(explainer: Any, case: Case) -> float:  # noqa: ANN401
    """The largest sum of |relevance| of a sample at any op: the rounding of one op after the other is proportional to it."""
    sums = [0.0]
    for request, read in explainer._requests(case.inputs, case.target, None):
        if isinstance(read.plan, Plan):
            run = Run(read.plan, request.given, inspected=True)
            layouts = read.plan.facts.layouts

            def watch(node: Any, relevance: Tensor, run: Run = run, layouts: Any = layouts) -> None:  # noqa: ANN401
                sums.append(float(layouts[node].sum(relevance.abs(), run.batch).max()))

            for aim in request.ask(run.logits).asked.aims:
                for _, start in start_of(read.plan.method.start, run.logits, aim):
                    run.backward(start, watch=watch, last=False)
    return max(sums)


def _precision(explainer: Any) -> str:  # noqa: ANN401
    """The lowest precision that a model computes in: some cast parts of themselves to float32, whatever they are given."""
    values = [node.meta.get("val") for node in explainer.module.graph.nodes]
    return min((str(v.dtype)[6:] for v in values if hasattr(v, "dtype") and v.is_floating_point()), key=lambda d: int(d[5:]))


def _differs_from_autograd(case: Case, explanation: Any) -> str | None:  # noqa: ANN401
    """Say by how much the gradients differ from autograd's on the model itself."""
    inputs = tree_map(_leaf, case.inputs)
    seen = [value for value in tree_leaves(inputs) if isinstance(value, Tensor) and value.requires_grad]
    output = replace(case, inputs=inputs).run()
    classes = explanation.target if case.target is None else None
    try:
        gradients = torch.autograd.grad(case.value(output, classes).sum(), seen, materialize_grads=True)
    except RuntimeError as error:
        return f"autograd fails on the model itself, so the gradients cannot be compared: {str(error).partition(':')[0]}"
    expected = _joined(gradients, len(output))
    pairs = zip(tree_leaves(explanation.relevance), tree_leaves(inputs), strict=True)
    found = _joined([part for part, value in pairs if isinstance(value, Tensor) and value.requires_grad], len(output))
    change = float((found - expected).norm() / expected.norm().clamp(min=1e-30))
    return None if change <= MATES else f"the gradients differ from autograd's by {change:.1e}"


def _leaf(value: Any) -> Any:  # noqa: ANN401
    return value.detach().clone().requires_grad_() if isinstance(value, Tensor) and value.is_floating_point() else value


def _problem(found: dict[str, Any], change: float) -> str | None:
    if not found["finite"]:
        return "the relevance holds NaN or infinite values"
    if not found["conserved"]:
        return f"Σ relevance + absorbed misses the explained number by {found['deviation']:.1e} of it"
    return None if found["independent"] else f"the relevance of a sample changes by {change:.1e} with its batch"
