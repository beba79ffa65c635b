"""What is evaluated: one model, and how one method explains it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from relprop import Explainer
from relprop.attribution import AttributionPlan
from relprop.errors import OptionError
from relprop.evaluation.compute.loading import with_geometry
from relprop.evaluation.settings import Choice, Evaluation, ModelChoice
from relprop.graph.nodes import module_outputs
from relprop.inputs import Inputs
from relprop.methods import METHODS
from relprop.metrics.randomization import spread
from relprop.zoo import LoadedModel, load

LAYERS = 12
"""At how many layers `cosine-convergence` looks."""


def load_model(choice: ModelChoice, evaluation: Evaluation) -> LoadedModel:
    """Load a model, with the run's geometry; what is random in it depends on the run's seed alone.

    Raises:
        RelpropError: as `relprop.zoo.load` does.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(evaluation.seed)
        loaded = load(choice.name, choice.weights, pretrained=choice.pretrained)
    loaded.model.requires_grad_(requires_grad=False)
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


@dataclass(frozen=True)
class Subject:
    """A model with an explainer.

    Attributes:
        explainer: of the model, by one method.
        module: the model itself.
        build: a model → its explainer by the same method.
        example: inputs of zeros, `(1, C, H, W)`.
    """

    explainer: Explainer
    module: nn.Module
    build: Callable[[nn.Module], Explainer]
    example: Tensor

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.example.device

    @property
    def gives_layers(self) -> bool:
        """Whether the method gives relevance at layers."""
        return not isinstance(self.explainer.plan, AttributionPlan)

    def logits(self, inputs: Tensor) -> Tensor:
        """Return the logits of the captured model, those that are explained; gradients reach the inputs, as GAE asks."""
        return self.explainer.captured(Inputs((inputs,)))

    def explain(self, inputs: Tensor, target: Tensor) -> Tensor:
        """Return the relevance."""
        return self.explainer(inputs, target).relevance

    def explain_layers(self, inputs: Tensor, seed: Tensor) -> Mapping[str, Tensor]:
        """Return the relevance at layers, from the output back to the input."""
        found = self.explainer(inputs, seed=seed, layers=self.layers())
        return {**found.layers, "input": found.relevance}

    def layers(self) -> list[str]:
        """Return the modules at whose outputs relevance is looked at, from the output back, each value once."""
        plan = self.explainer.plan
        if isinstance(plan, AttributionPlan):
            raise OptionError(f"Method {plan.method.name!r} gives relevance to inputs only.")
        passed = {step.node: step for step in plan.steps if step.backward and step.node is not plan.output}
        named = module_outputs(self.explainer.module.graph)
        by_node = {node: path for path, node in named.items() if node in passed}
        ordered = [by_node[step.node] for step in reversed(plan.steps) if step.node in by_node]
        return spread(ordered, LAYERS)


def method_options(choice: Choice, seed: int) -> dict[str, Any]:
    """Return the options that the method runs with: a method that draws takes the run's seed where none is given."""
    entry = METHODS.get(choice.name)
    drawn = {"seed": seed} if entry is not None and "seed" in entry.options else {}
    return {**drawn, **choice.options}


def make_subject(
    loaded: LoadedModel, method: Choice, evaluation: Evaluation, device: torch.device, captured: Explainer | None
) -> Subject:
    """Make the explainer of a model by a method, from one by another method where there is one; the model is moved to the device.

    Raises:
        RelpropError: as `relprop.Explainer` does.
    """
    example = loaded.preprocessing.zeros(device)
    options = method_options(method, evaluation.seed)

    def build(module: nn.Module) -> Explainer:
        return Explainer(module, example, method.name, **options)

    module = loaded.model.to(device)
    explainer = build(module) if captured is None else captured.with_method(method.name, **options)
    return Subject(explainer, module, build, example)
