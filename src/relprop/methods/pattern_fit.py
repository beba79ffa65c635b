"""Patterns: the direction of a layer's input that its output detects (Kindermans et al., ICLR 2018), estimated in one pass over data.

A neuron's input is modeled as signal plus distractor, ``x = a y + d``; the weights extract the signal and filter out the distractor.
The linear estimator is ``a = cov(x, y) / wᵀ cov(x, y)``. Before a ReLU, the two-component estimator uses the samples that pass the ReLU:
``a₊ = (E₊[xy] − E₊[x] E[y]) / wᵀ(E₊[xy] − E₊[x] E[y])`` with ``E₊`` the mean over ``y > 0``. All of it is computed from running sums.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from relprop.context import ordinary_model, own_context
from relprop.errors import InputError, ModelError, UnsupportedOpError
from relprop.files import as_path, atomic
from relprop.graph.capture import capture
from relprop.graph.model import CapturedModel, Handler, is_rectifier
from relprop.graph.nodes import PATH
from relprop.graph.passes import for_method
from relprop.inputs import Inputs, as_inputs, batch_size
from relprop.ops.table import entry

_FORMAT = "relprop-patterns-1"
_SUMS = ("count", "y", "x", "xy")
_OPEN_SUMS = ("count_open", "x_open", "xy_open")


def capture_for_patterns(model: nn.Module, example: Inputs) -> CapturedModel:
    """Capture a model as the pattern methods do: BatchNorm folded into the layers."""
    captured = capture(model, example)
    for_method(captured.module, fold_batchnorm=True, local=False)
    return captured


def _is_layer(node: fx.Node) -> bool:
    """Whether an op is a conv or dense layer whose weight has the output channels first."""
    op = entry(node)
    return op is not None and op.weight_outputs == 0


def layers_of(model: CapturedModel) -> dict[str, fx.Node]:
    """The conv and dense ops with constant weights, by module path; a module's later calls get ``#2``, ``#3``, … added."""
    found: dict[str, fx.Node] = {}
    for node in model.active:
        if _is_layer(node) and len(model.carriers(node)) == 1 and isinstance(node.args[1], fx.Node):
            path, calls = str(node.meta.get(PATH, "")), 1
            while (key := path if calls == 1 else f"{path}#{calls}") in found:
                calls += 1
            found[key] = node
    return found


def before_rectifier(node: fx.Node) -> bool:
    """Whether the output of a layer goes into rectifiers only."""
    return bool(node.users) and all(is_rectifier(user) for user in node.users)


def _names(node: fx.Node) -> tuple[str, ...]:
    """The running sums that a layer needs."""
    return _SUMS + _OPEN_SUMS if before_rectifier(node) else _SUMS


def _fan_in(weight: Tensor, *values: Tensor) -> list[Tensor]:
    """Sums over each output's inputs, ``(out, 1, …)``."""
    dims = list(range(1, weight.dim()))
    return [(weight * v).sum(dims, keepdim=True) for v in values]


Correlate = Callable[[Tensor], Tensor]
"""``c -> Σ c_j x_ij`` over all samples and positions, which is the gradient of ``Σ c·y`` by the weight."""


def _with_weight_gradient(node: fx.Node, x: Tensor, weight: Tensor, *rest: Any, **named: Any) -> tuple[Tensor, Correlate]:  # noqa: ANN401
    with torch.enable_grad():
        watched = weight.detach().requires_grad_()
        output: Tensor = node.target(x, watched, *rest, **named)  # pyright: ignore[reportCallIssue]
    return output.detach(), lambda c: torch.autograd.grad(output, watched, c.expand_as(output), retain_graph=True)[0]


def _sums(output: Tensor, weight: Tensor, correlate: Correlate, gather: Correlate, *, opens: bool) -> "LayerSums":
    """The sums of one batch; ``gather`` has one output per group."""
    channel = output.dim() - 1 if weight.dim() == 2 else 1
    axes = [d for d in range(output.dim()) if d != channel]
    values = {
        "count": torch.tensor(output.numel() / len(weight), dtype=torch.float64),
        "y": output.double().sum(axes),
        "x": gather(output.new_ones(())),
        "xy": correlate(output),
    }
    if opens:
        is_open = (output > 0).to(output.dtype)
        values |= {
            "count_open": is_open.double().sum(axes),
            "x_open": correlate(is_open),
            "xy_open": correlate(output.clamp(min=0)),
        }
    return LayerSums({name: value.double().cpu() for name, value in values.items()})


@dataclass
class LayerSums:
    """Running sums of one layer, in float64: counts, outputs, inputs, and their products, over all samples and positions.

    ``x`` is summed once per group of the convolution; ``…_open`` are sums over ``y > 0``, per output.
    """

    sums: dict[str, Tensor]

    def add(self, other: "LayerSums") -> None:
        """Add the sums of more data."""
        for name, value in other.sums.items():
            self.sums[name] += value

    def pattern(self, weight: Tensor, kind: str) -> Tensor:
        """Return the pattern, shaped like the weight; zero for outputs without covariance, such as a ReLU that never opened."""
        shape = [-1] + [1] * (weight.dim() - 1)
        mean_y = (self.sums["y"] / self.sums["count"]).reshape(shape)
        if kind == "relu":
            opened = self.sums["count_open"].clamp(min=1).reshape(shape)
            mean_x, mean_xy = self.sums["x_open"] / opened, self.sums["xy_open"] / opened
        else:
            mean_x = (self.sums["x"] / self.sums["count"]).repeat_interleave(len(weight) // len(self.sums["x"]), 0)
            mean_xy = self.sums["xy"] / self.sums["count"]
        covariance = mean_xy - mean_x * mean_y
        weight = weight.double().cpu()
        (below,) = _fan_in(weight, covariance)
        (reach,) = _fan_in(weight.abs(), mean_xy.abs() + (mean_x * mean_y).abs())
        tells = below.abs() > reach * 1e-6  # smaller values are rounding errors of single precision
        return torch.where(tells, covariance / torch.where(tells, below, 1.0), 0.0)


class PatternFit:
    """Estimates the patterns of a model's layers from any amount of data, in memory that does not grow with it.

    Args:
        model: Any classifier that can be captured; it is left as it was.
        example_inputs: Inputs as the model takes them.

    Raises:
        CaptureError: The model cannot be captured.
        UnsupportedOpError: It has neither conv nor dense layers.
    """

    @own_context()
    def __init__(self, model: nn.Module, example_inputs: object) -> None:
        self._forward = model.forward
        self.model = capture_for_patterns(ordinary_model(model), as_inputs(example_inputs, model.forward))
        self.layers = layers_of(self.model)
        if not self.layers:
            raise UnsupportedOpError(
                "The model has no convolution or dense layer with constant weights, so there are no patterns to fit."
            )
        self.sums: dict[str, LayerSums] = {}
        self.samples = 0

    @own_context()
    def update(self, inputs: object) -> None:
        """Add one batch.

        Raises:
            InputError: The inputs are not usable.
        """
        given = as_inputs(inputs, self._forward)
        size = batch_size(given)
        handlers = {node: self._observe(key, node) for key, node in self.layers.items()}
        for part in [given] if self.model.dynamic else [given.sample(i) for i in range(size)]:
            self.model.run(part, handlers)
        self.samples += size

    def _observe(self, key: str, node: fx.Node) -> Handler:
        def run(x: Tensor, weight: Tensor, *rest: Any, **named: Any) -> Tensor:  # noqa: ANN401 - the op's own
            groups = int(rest[4]) if len(rest) > 4 else 1
            output, correlate = _with_weight_gradient(node, x, weight, *rest, **named)
            _, gather = _with_weight_gradient(node, x, weight[:: len(weight) // groups], None, *rest[1:], **named)
            batch = _sums(output, weight, correlate, gather, opens=before_rectifier(node))
            if key in self.sums:
                self.sums[key].add(batch)
            else:
                self.sums[key] = batch
            return output

        return run

    def patterns(self) -> dict[str, Tensor]:
        """Return the patterns by layer and estimator, ``PATH/linear`` and, for layers before a ReLU, ``PATH/relu``.

        Raises:
            InputError: There was no data yet.
        """
        if not self.sums:
            raise InputError("No data was given, so there are no patterns.")
        found: dict[str, Tensor] = {}
        for key, node in self.layers.items():
            weight = getattr(self.model.module, str(node.args[1].target))  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]
            for kind in ("linear", "relu") if before_rectifier(node) else ("linear",):
                found[f"{key}/{kind}"] = self.sums[key].pattern(weight, kind).to(weight.dtype)
        return found

    def save_state(self, path: str | Path, note: str = "") -> None:
        """Write the running sums, to resume from later; ``note`` describes the data.

        Raises:
            OutputError: The file cannot be written.
        """
        tensors = {f"{key}/{name}": value for key, layer in self.sums.items() for name, value in layer.sums.items()}
        _write(tensors, path, {"samples": str(self.samples), "note": note, "content": "sums"})

    def load_state(self, path: str | Path) -> None:
        """Resume from running sums that :meth:`save_state` wrote.

        Raises:
            ModelError: The file cannot be read, or is of another model.
        """
        tensors, about = _read(path)
        wanted = {f"{key}/{name}" for key, node in self.layers.items() for name in _names(node)}
        if about.get("content") != "sums" or set(tensors) != wanted:
            raise ModelError(
                f"{path} holds no running sums of the {len(self.layers)} layers of this model; remove it to start anew."
            )
        self.sums = {
            key: LayerSums({name: tensors[f"{key}/{name}"] for name in _names(node)}) for key, node in self.layers.items()
        }
        self.samples = int(about["samples"])


def state_note(path: str | Path) -> str:
    """Return the note that running sums were saved with.

    Raises:
        ModelError: The file cannot be read.
    """
    return _read(path, tensors=False)[1].get("note", "")


def fit_patterns(model: nn.Module, batches: Iterable[object]) -> dict[str, Tensor]:
    """Fit the patterns of a model on batches of inputs; see :class:`PatternFit`.

    Raises:
        InputError: There is no batch.
    """
    fit: PatternFit | None = None
    for batch in batches:
        fit = fit or PatternFit(model, batch)
        fit.update(batch)
    if fit is None:
        raise InputError("No data was given, so there are no patterns.")
    return fit.patterns()


def save_patterns(patterns: Mapping[str, Tensor], path: str | Path, samples: int = 0) -> None:
    """Write patterns as safetensors.

    Raises:
        OutputError: The file cannot be written; nothing half-written is left.
    """
    _write(patterns, path, {"samples": str(samples), "content": "patterns"})


def load_patterns(path: str | Path) -> dict[str, Tensor]:
    """Read patterns that :func:`save_patterns` or ``relprop fit-patterns`` wrote.

    Raises:
        ModelError: The file is missing, corrupt, or no file of patterns.
    """
    tensors, about = _read(path)
    if about.get("content") != "patterns":
        raise ModelError(f"{path} holds no patterns; make them with `relprop fit-patterns`.")
    return tensors


def _write(tensors: Mapping[str, Tensor], path: str | Path, about: dict[str, str]) -> None:
    from safetensors.torch import save_file

    with atomic(path) as temporary:
        save_file({k: v.contiguous() for k, v in tensors.items()}, temporary, {"format": "pt", "kind": _FORMAT, **about})


def _read(path: str | Path, *, tensors: bool = True) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    path = as_path(path, "The path of patterns")
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            values = {name: file.get_tensor(name) for name in file.keys()} if tensors else {}  # noqa: SIM118 - not a mapping
    except FileNotFoundError:
        raise ModelError(f"There is no file {path}; make it with `relprop fit-patterns`.") from None
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is no safetensors file that can be read ({error}).") from error
    if about.get("kind") != _FORMAT:
        raise ModelError(f"{path} holds no patterns; make them with `relprop fit-patterns`.")
    return values, about
