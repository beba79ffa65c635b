"""One model of the coverage sweep, ready to be explained: with its inputs, and what is asked of its output."""

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from relprop.targets import Box, Neuron, Output, Pixels, Similarity


@dataclass(frozen=True)
class Subject:
    """A model of the sweep: ``name`` as in ``timm:resnet18``, and the family that it stands for."""

    name: str
    family: str


@dataclass(frozen=True)
class Case:
    """A model with an example batch of two.

    Attributes:
        model: The model.
        inputs: A tensor, or a dict of keyword arguments.
        target: What is explained: None for the predicted class of an output ``(B, C)``, else a target without choices left to the library.
        output: Which of several tensors that the model returns.
        lookup: The module that looks up the tokens, for models of token numbers.
        head: The module that returns the logits, where the model makes log-probabilities of them, which the library takes off.
        single: Whether the model runs in float32 alone.
    """

    model: nn.Module
    inputs: Any
    target: Any = None
    output: str | None = None
    lookup: str | None = None
    head: str | None = None
    single: bool = False

    def double(self) -> "Case":
        """Return the case in float64, unless it is single, the model in evaluation mode."""

        def wide(value: Any) -> Any:  # noqa: ANN401
            return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value

        if self.single:
            return replace(self, model=self.model.eval())
        return replace(self, model=self.model.double().eval(), inputs=tree_map(wide, self.inputs))

    def embedded(self) -> "Case":
        """Return the case given what is looked up in place of token numbers, for methods that take the gradient; itself where it cannot be."""
        if self.lookup is None or "inputs_embeds" not in inspect.signature(self.model.forward).parameters:
            return self
        with torch.no_grad():
            found = self.model.get_submodule(self.lookup)(self.inputs["input_ids"])
        rest = {name: value for name, value in self.inputs.items() if name != "input_ids"}
        return replace(self, inputs={"inputs_embeds": found, **rest}, lookup=None)

    def sample(self, index: int) -> Any:  # noqa: ANN401
        """Return the inputs of one sample."""
        return tree_map(lambda value: value[index : index + 1], self.inputs)

    def run(self) -> Tensor:
        """Return the tensor that is explained, from the model itself."""
        seen: list[Tensor] = []
        inputs = tree_map(lambda value: value.clone(), self.inputs)  # some models write to their inputs
        with self.model.get_submodule(self.head or "").register_forward_hook(lambda _module, _given, found: seen.append(found)):
            self.model(**inputs) if isinstance(inputs, Mapping) else self.model(inputs)
        output = _read(seen[0], self.output or "")
        return output if len(output) == 2 else output.transpose(0, 1)  # of heads that have time first

    def value(self, output: Tensor, classes: Tensor | None) -> Tensor:
        """Return the number that the target asks for, ``(B,)``, written out again: the library is not asked."""
        if classes is not None:
            return output.gather(1, classes[:, None])[:, 0]
        return _VALUES[type(self.target)](self.target, output)


def _of_pixels(_: Pixels, output: Tensor) -> Tensor:
    won = output.argmax(1)
    most = won.flatten(1).mode(1).values
    return torch.stack([sample[c][w == c].mean() for sample, c, w in zip(output, most, won, strict=True)])


_VALUES: Mapping[type, Callable[[Any, Tensor], Tensor]] = {
    Box: lambda _, output: output.flatten(1).amax(1),
    Neuron: lambda target, output: output[(slice(None), *target.index)],
    Output: lambda _, output: output.reshape(len(output)),
    Pixels: _of_pixels,
    Similarity: lambda target, output: torch.nn.functional.cosine_similarity(output, target.vector.to(output)[None], dim=1),
}
"""The explained number by the kind of the target: the largest logit of all boxes, one unit, the only number, a mean, a cosine."""


def _read(output: Any, path: str) -> Tensor:  # noqa: ANN401
    """A tensor of nested outputs; without a path the one called logits, or the first."""
    for name in path.split(".") if path else ():
        output = output[name if isinstance(output, Mapping) else int(name)]
    if isinstance(output, Mapping):
        output = output["logits"] if "logits" in output else next(iter(output.values()))
    while isinstance(output, list | tuple):
        output = output[0]
    return output


@torch.no_grad()
def randomize(model: nn.Module) -> None:
    """Replace whatever a fresh model holds constant (norm weights and statistics, layer scales, empty heads) by random values."""
    for parameter in model.parameters():
        if parameter.is_floating_point() and parameter.numel() > 1 and parameter.min() == parameter.max():
            around_one = bool(parameter.flatten()[0] > 0.5)
            parameter.uniform_(0.5, 1.5) if around_one else parameter.normal_(0, 0.1)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)


def torchvision() -> Any:  # noqa: ANN401 - a module
    """Import torchvision beside a torch that it was not built for, and hide torchaudio, which transformers would import as a whole."""
    sys.modules.setdefault("torchaudio", cast("Any", None))  # as the import system marks what cannot be imported
    from relprop.zoo.torchvision_ops import import_torchvision

    return import_torchvision()
