"""One model of the coverage sweep, ready to be explained: with its inputs, and what is asked of its output."""

import sys
from collections.abc import Mapping
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
        lookup: The module that looks up the tokens, for models of token numbers: relevance is read at its output.
        single: Whether the model runs in float32 alone.
    """

    model: nn.Module
    inputs: Any
    target: Any = None
    output: str | None = None
    lookup: str | None = None
    single: bool = False

    def double(self) -> "Case":
        """Return the case in float64, unless it is single, the model in evaluation mode."""

        def wide(value: Any) -> Any:  # noqa: ANN401
            return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value

        if self.single:
            return replace(self, model=self.model.eval())
        return replace(self, model=self.model.double().eval(), inputs=tree_map(wide, self.inputs))

    def sample(self, index: int) -> Any:  # noqa: ANN401
        """Return the inputs of one sample."""
        return tree_map(lambda value: value[index : index + 1], self.inputs)

    def run(self) -> Tensor:
        """Return the tensor that is explained, from the model itself."""
        return _read(
            self.model(**self.inputs) if isinstance(self.inputs, Mapping) else self.model(self.inputs), self.output or ""
        )

    def value(self, output: Tensor, classes: Tensor | None) -> Tensor:
        """Return the number that the target asks for, ``(B,)``, written out again: the library is not asked."""
        match self.target:
            case None:
                assert classes is not None
                return output.gather(1, classes[:, None])[:, 0]
            case Box():
                return output.flatten(1).amax(1)
            case Pixels():
                won = output.argmax(1) if output.shape[1] > 1 else torch.zeros_like(output[:, 0]).long()
                most = won.flatten(1).mode(1).values
                return torch.stack([o[c][w == c].mean() for o, c, w in zip(output, most, won, strict=True)])
            case Neuron(index=int(channel)):
                return output.movedim(-1, 1)[:, channel].flatten(1).mean(1) if output.dim() == 3 else output[:, channel].flatten(1).mean(1)
            case Neuron(index=place):
                return output[(slice(None), *place)]
            case Output(index=index):
                return output.reshape(len(output), -1)[:, index or 0]
            case Similarity(vector=vector):
                return torch.nn.functional.cosine_similarity(output, torch.as_tensor(vector).to(output)[None], dim=1)
            case _:
                raise ValueError(self.target)


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
