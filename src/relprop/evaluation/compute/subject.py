"""The subject of an evaluation: one model and its explainer by one method."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor, nn

from relprop.errors import OptionError
from relprop.evaluation.compute.loading import with_geometry
from relprop.evaluation.settings import Choice, Evaluation, ModelChoice
from relprop.explainer import Captured, Explainer, capture
from relprop.inputs import Inputs
from relprop.methods import METHODS, choose_method
from relprop.metrics.randomization import spread
from relprop.precision import as_computed
from relprop.zoo import LoadedModel, adapted, load
from relprop.zoo.disconnected import of_mosaics

LAYERS = 12
"""Number of layers that ``cosine-convergence`` compares."""


def load_model(choice: ModelChoice, evaluation: Evaluation, grid: int = 1) -> LoadedModel:
    """Load a model with the user's word on it and the run's geometry; random weights depend on the run's seed alone.

    Args:
        choice: The model.
        evaluation: The settings.
        grid: Number of cells per side of the mosaics that the model is to see as the settings say; 1 for photos.

    Raises:
        RelpropError: See ``relprop.zoo.load``.
    """
    # a model file may seed the global generator itself, so that one is seeded, and its state put back
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(evaluation.seed)
        loaded = adapted(load(choice.name, choice.weights, pretrained=choice.pretrained), evaluation.own)
    loaded.model.requires_grad_(requires_grad=False)
    if grid > 1:
        return of_mosaics(loaded, evaluation.grid, grid)
    return replace(loaded, preprocessing=with_geometry(loaded.preprocessing, evaluation.geometry))


def fingerprint(module: nn.Module) -> str:
    """Return a fingerprint of all parameters and buffers."""
    total = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        values = tensor.detach().cpu().contiguous().flatten()
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        if values.numel():
            total.update(values.view(torch.uint8).numpy().data)
    return total.hexdigest()[:16]


class Cells:
    """The explainers of the classifiers of each cell of a mosaic.

    Args:
        explainer_of: A captured model → its explainer.
        captured: Cell → its captured classifier; captures are shared by the subjects of one model.
    """

    def __init__(self, explainer_of: Callable[[Captured], Explainer], captured: Callable[[int], Captured]) -> None:
        self.captured = captured
        self._explainer_of, self._built = explainer_of, dict[int, Explainer]()

    def explainer(self, cell: int) -> Explainer:
        """Return the explainer of a cell."""
        if cell not in self._built:
            self._built[cell] = self._explainer_of(self.captured(cell))
        return self._built[cell]


@dataclass(frozen=True)
class Subject:
    """A model with an explainer.

    Attributes:
        explainer: The explainer of the model by one method.
        module: The model itself.
        build: Model → its explainer by the same method.
        example: A zero input ``(1, C, H, W)``.
        cells: For a mosaic whose cells are disconnected, the explainers by cell; each is built when it is first asked for.
    """

    explainer: Explainer
    module: nn.Module
    build: Callable[[nn.Module], Explainer]
    example: Tensor
    cells: "Cells | None" = None

    @property
    def device(self) -> torch.device:
        """The device of the model and its inputs."""
        return self.example.device

    @cached_property
    def classes(self) -> int:
        """The number of the model's classes, the last dimension of a detector's ``(B, boxes, C)`` and else the second."""
        with torch.no_grad():
            shape = self.logits(self.example).shape
        return 1 if len(shape) == 1 else shape[2 if len(shape) == 3 else 1]

    @property
    def activation(self) -> str | None:
        """The activation of the model's head."""
        return self.explainer.captured.activation

    @property
    def gives_layers(self) -> bool:
        """Whether the method returns the relevance of layers."""
        return bool(self.explainer.plan.layers)

    def logits(self, inputs: Tensor) -> Tensor:
        """Return the logits of the captured model, differentiable with respect to the inputs (which GAE needs)."""
        model = self.explainer.plan.model
        return model(as_computed(Inputs((inputs,)), model)).to(inputs.dtype)

    def explain(self, inputs: Tensor, target: Tensor) -> Tensor:
        """Return the relevance of the inputs."""
        return self.explainer(inputs, target).relevance

    def explain_layers(self, inputs: Tensor, seed: Tensor) -> Mapping[str, Tensor]:
        """Return the relevance at layers, from the output back to the input."""
        found = self.explainer(inputs, output_relevance=seed, layers=self.layers())
        return {**found.layers, "input": found.relevance}

    def layers(self) -> list[str]:
        """Return at most ``LAYERS`` module paths at even distances, from the output back, one per node."""
        plan = self.explainer.plan
        if not plan.layers:
            raise OptionError(f"Method {self.explainer.method.name!r} gives relevance to inputs only.")
        by_node = {node: path for path, node in plan.layers.items() if node is not plan.model.output}
        return spread(list(reversed(by_node.values())), LAYERS)


def method_options(choice: Choice, seed: int) -> dict[str, Any]:
    """Return the options of a method; if it has an option ``seed``, the run's seed is the default."""
    entry = METHODS.get(choice.name)
    drawn = {"seed": seed} if entry is not None and "seed" in entry.options else {}
    return {**drawn, **choice.options}


def capture_loaded(loaded: LoadedModel, module: nn.Module, example: Tensor) -> Captured:
    """Capture a module as the loaded model says: its output, its activation and its class names."""
    return capture(module, example, output=loaded.output, activation=loaded.activation, labels=loaded.labels)


def make_subject(
    loaded: LoadedModel, method: Choice, evaluation: Evaluation, device: torch.device, before: Subject | None
) -> Subject:
    """Build the subject of a model and a method on the device; captures of the model by a subject ``before`` are reused.

    Raises:
        RelpropError: See ``relprop.Explainer``.
    """
    example = loaded.preprocessing.zeros(device)
    options = method_options(method, evaluation.seed)

    def build(module: nn.Module) -> Explainer:
        return capture_loaded(loaded, module, example).explainer(choose_method(method.name, options))

    def explainer_of(captured: Captured) -> Explainer:
        return captured.explainer(choose_method(method.name, options))

    module = loaded.model.to(device)
    if loaded.disconnected is None:
        captured = before.explainer.captured if before else capture_loaded(loaded, module, example)
        return Subject(explainer_of(captured), module, build, example)
    cells = Cells(explainer_of, before.cells.captured if before and before.cells else _captures(loaded, example))
    return Subject(cells.explainer(0), module, build, example, cells)


def _captures(loaded: LoadedModel, example: Tensor) -> Callable[[int], Captured]:
    """Return a function that captures the classifier of a cell once."""

    @cache
    def captured(cell: int) -> Captured:
        part = loaded.model if loaded.disconnected is None else loaded.disconnected(cell)
        return capture_loaded(loaded, part, example)

    return captured
