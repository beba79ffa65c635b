"""What is evaluated: one model, and how one method explains it."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from relprop import Explainer, capture
from relprop.errors import OptionError
from relprop.evaluation.compute.loading import with_geometry
from relprop.evaluation.settings import Choice, Evaluation, ModelChoice
from relprop.explainer import Captured
from relprop.inputs import Inputs
from relprop.methods import METHODS
from relprop.metrics.randomization import spread
from relprop.zoo import LoadedModel, load

LAYERS = 12
"""At how many layers ``cosine-convergence`` looks."""


def load_model(choice: ModelChoice, evaluation: Evaluation) -> LoadedModel:
    """Load a model, with the run's geometry; what is random in it depends on the run's seed alone.

    Raises:
        RelpropError: As ``relprop.zoo.load`` does.
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
        explainer: Of the model, by one method.
        module: The model itself.
        build: A model → its explainer by the same method.
        example: Inputs of zeros, ``(1, C, H, W)``.
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
        return bool(self.explainer.plan.layers)

    def logits(self, inputs: Tensor) -> Tensor:
        """Return the logits of the captured model, those that are explained; gradients reach the inputs, as GAE asks."""
        return self.explainer.plan.model(Inputs((inputs,)))

    def explain(self, inputs: Tensor, target: Tensor) -> Tensor:
        """Return the relevance."""
        return self.explainer(inputs, target).relevance

    def explain_layers(self, inputs: Tensor, seed: Tensor) -> Mapping[str, Tensor]:
        """Return the relevance at layers, from the output back to the input."""
        found = self.explainer(inputs, output_relevance=seed, layers=self.layers())
        return {**found.layers, "input": found.relevance}

    def layers(self) -> list[str]:
        """Return the modules at whose outputs relevance is looked at, from the output back, each value once."""
        plan = self.explainer.plan
        if not plan.layers:
            raise OptionError(f"Method {self.explainer.method.name!r} gives relevance to inputs only.")
        by_node = {node: path for path, node in plan.layers.items() if node is not plan.model.output}
        return spread(list(reversed(by_node.values())), LAYERS)


def method_options(choice: Choice, seed: int) -> dict[str, Any]:
    """Return the options that the method runs with: a method that draws takes the run's seed where none is given."""
    entry = METHODS.get(choice.name)
    drawn = {"seed": seed} if entry is not None and "seed" in entry.options else {}
    return {**drawn, **choice.options}


def make_subject(
    loaded: LoadedModel, method: Choice, evaluation: Evaluation, device: torch.device, captured: Captured | None
) -> Subject:
    """Make the explainer of a model by a method, from one by another method where there is one; the model is moved to the device.

    Raises:
        RelpropError: As ``relprop.Explainer`` does.
    """
    example = loaded.preprocessing.zeros(device)
    options = method_options(method, evaluation.seed)

    def build(module: nn.Module) -> Explainer:
        return Explainer(module, example, method.name, **options)

    module = loaded.model.to(device)
    explainer = (captured or capture(module, example)).explainer(method.name, **options)
    return Subject(explainer, module, build, example)
