"""The public interface: capture a model once, then explain any batch."""

import copy
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self, SupportsIndex, overload

import torch
from torch import Tensor, nn

from relprop.captured import inputs_like, labels_in_config, record, summary_of
from relprop.context import ordinary, own_context
from relprop.errors import ModelError, OptionError, OutputError, TargetError
from relprop.explanation import Answer, Explanation, concatenate
from relprop.graph.model import CapturedModel
from relprop.heads import check_activation
from relprop.inputs import Inputs, Request, as_inputs, batch_size, finite_logits
from relprop.methods import choose_method
from relprop.methods.protocol import AnyMethod, MethodPlan
from relprop.plans import Planned, Plans
from relprop.propagation.checks import note_on_conservation
from relprop.propagation.trace import Trace, join_traces
from relprop.streaming import explain_each, on_device
from relprop.targets import Asked, Fixed, joined, per_sample, read_target, reading_of
from relprop.text import check_labels
from relprop.tiling import Tiled, explain_tiles

MethodChoice = str | Path | AnyMethod
"""A name of :data:`relprop.methods.METHODS`, the path of a TOML file, or a method."""


@dataclass(frozen=True, repr=False)
class Captured(CapturedModel):
    """A captured model that makes explainers; see :func:`capture`."""

    def __repr__(self) -> str:
        """Return one line: the model, its inputs and the number of its ops."""
        return f"Captured({summary_of(self)})"

    def explainer(self, method: MethodChoice = "rap", **options: Any) -> "Explainer":  # noqa: ANN401 - options of the method
        """Return an explainer of this model; arguments and errors are those of :class:`Explainer`."""
        return Explainer(self, method, **options)


@own_context()
def capture(
    model: nn.Module,
    example_inputs: object,
    *,
    output: str | int | None = None,
    activation: str | None = None,
    labels: Sequence[str] | None = None,
) -> Captured:
    """Capture a model once, for explainers by any number of methods.

    Args:
        model: Any ``torch.nn.Module``; it is explained in evaluation mode and left exactly as it is, from any number of threads.
        example_inputs: Inputs as the model takes them: a tensor, a tuple of arguments, or a dict of keyword arguments; arguments may be
            dicts, lists and tuples of tensors, nested at will. A dict is the argument itself where the model takes one argument that
            is not among its keys. The first dimension of tensors is the batch; later calls may have any batch size, everything else
            keeps its shape.
        output: Which tensor to explain, where the model returns several: a name, an index, or a path of them with dots into nested dicts,
            lists, tuples and dataclasses, such as ``"heads.0.cls_logits"``; by default the one called ``logits``, or the only one.
        activation: What makes probabilities of the logits, ``"softmax"`` or ``"sigmoid"``, as of a multi-label model; by default the
            activation that the model ends in, else a sigmoid for a single logit and softmax for several.
        labels: The names of the classes, by which targets may call them; by default those in the config of a Hugging Face model.

    Raises:
        CaptureError: The model cannot be captured, or returns no tensor.
        InputError: The inputs, or the model's weights, are not usable, or there are class names of another number than the classes.
        OptionError: An unknown activation.
        ModelError: The model is no ``torch.nn.Module``.
    """
    if not isinstance(model, nn.Module):  # pyright: ignore[reportUnnecessaryIsInstance] - users may give anything
        raise ModelError(f"The model must be a torch.nn.Module, not {type(model).__name__}.")
    captured = _captured(model, as_inputs(example_inputs, model.forward), output, check_activation(activation))
    value: Tensor = captured.output.meta["val"]
    detector = value.dim() == 3  # (batch, boxes, classes)
    classes = int(value.shape[2 if detector else 1]) if value.dim() > 1 else 0
    if labels is not None:
        check_labels(labels, classes)
    found = labels_in_config(model, classes, detector=detector) if labels is None else tuple(map(str, labels))
    return replace(captured, labels=found)


def _captured(model: nn.Module, given: Inputs, output: str | int | None, activation: str | None) -> Captured:
    found = record(model, given, output, activation)
    return Captured(**{field.name: getattr(found, field.name) for field in fields(found)})


class Explainer(nn.Module):
    """Explains the decisions of one model by one method.

    The model is captured once, in evaluation mode, and left exactly as it is; its weights are shared where nothing folds into them. New
    values of its weights (a training step, ``load_state_dict``) are followed at the next call; another structure, shape, dtype or device is
    an error.
    The explainer is a module of plain torch ops: ``explainer.to(device)`` and ``explainer.double()`` change it, the model stays as it is,
    and ``copy.deepcopy`` copies it. After a change of the dtype every floating value has the new one, casts of the model included, and so
    must the inputs.

    Two forms: ``Explainer(model, example_inputs, "rap")``, and ``Explainer(captured, "rap")`` for a model that :func:`capture` returned,
    or that another explainer holds as ``explainer.captured``.

    Args:
        model: Any ``torch.nn.Module``, or a captured model.
        example_inputs: Inputs as the model takes them, see :func:`capture`; left out where the model is captured already.
        method: A name of ``relprop.methods.METHODS``, a :class:`relprop.Method` of your own, or the path of a TOML file, see
            :mod:`relprop.methods.toml`.
        output: Which tensor to explain, where the model returns several, see :func:`capture`.
        activation: What makes probabilities of the logits, see :func:`capture`.
        labels: The names of the classes, see :func:`capture`.
        **options: Options of the method, see ``relprop methods``.

    Attributes:
        captured: The captured model.
        method: The method.
        plan: The role and the rule of every op; ``print`` shows the table.
        module: The graph that runs, after the method's passes.

    Raises:
        CaptureError: The model cannot be captured, or returns no tensor.
        UnsupportedOpError: Relevance reaches ops without a rule; all are listed.
        OptionError: Unknown method or option.
        InputError: The inputs, or the model's weights, are not usable.
    """

    @overload
    def __init__(
        self,
        model: nn.Module,
        example_inputs: object,
        method: MethodChoice = "rap",
        *,
        output: str | int | None = None,
        activation: str | None = None,
        labels: Sequence[str] | None = None,
        **options: Any,  # noqa: ANN401
    ) -> None: ...

    @overload
    def __init__(self, model: Captured, method: MethodChoice = "rap", **options: Any) -> None: ...  # noqa: ANN401

    @own_context()
    def __init__(self, model: Any, *arguments: Any, **options: Any) -> None:
        super().__init__()
        of_capture = {name: options.pop(name) for name in ("output", "activation", "labels") if name in options}
        if isinstance(model, Captured):
            chosen, self.captured = _method_of(arguments, options), model
            for name, value in of_capture.items():
                if value is not None:
                    raise OptionError(f"A captured model has its {name} already; give {name} to relprop.capture.")
        else:
            example = arguments[0] if arguments else options.pop("example_inputs", None)
            chosen = _method_of(arguments[1:], options)
            self.captured = capture(model, example, **of_capture)
        self.method, self._lock = chosen, threading.Lock()
        self._make_plan()
        self.eval()

    def __repr__(self) -> str:
        """Return one line: the method, the model, its inputs and the number of its ops."""
        return f"Explainer({self.method.name!r}, {summary_of(self.captured)})"

    def _make_plan(self) -> None:
        self._plans = Plans(self.captured, self.method)
        self.plan: MethodPlan = self._plans.own.plan
        self.module = self.plan.model.module

    def _follow(self) -> None:
        """Capture the model anew where its weights have changed.

        Raises:
            ModelError: Its structure, or the shape, dtype or device of a weight has changed.
        """
        with self._lock:
            held = self.captured
            if held.watch is not None and held.watch.changed():
                found = _captured(held.original, held.example.map(_filled), held.chosen, held.activation)
                self.captured = replace(found, labels=held.labels)
                self._make_plan()

    @own_context()
    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: ARG002 - of nn.Module
        """Move the weights, as ``to``, ``double`` or ``cuda`` ask; a new dtype holds for the whole graph and for later inputs."""
        self.captured = self.captured.map(fn)
        self._make_plan()
        return self

    @own_context()
    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copy the captured model with its tensors and plan it anew."""
        copied = memo[id(self)] = type(self)(copy.deepcopy(self.captured, memo), self.method)
        return copied.train(self.training)

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuse to be pickled: a captured graph holds ops and functions of the model, which cannot be."""
        raise OutputError(
            "An Explainer cannot be pickled; copy.deepcopy copies it, and another process makes its own from the model."
        )

    if TYPE_CHECKING:  # torch declares a module's call as Any

        @overload
        def __call__(
            self,
            inputs: Tensor,
            target: object = None,
            *,
            output_relevance: Tensor | None = None,
            layers: Sequence[str] = (),
            concepts: Mapping[str, Sequence[int]] | None = None,
        ) -> Explanation[Tensor]: ...

        @overload
        def __call__(
            self,
            inputs: object,
            target: object = None,
            *,
            output_relevance: Tensor | None = None,
            layers: Sequence[str] = (),
            concepts: Mapping[str, Sequence[int]] | None = None,
        ) -> Explanation: ...

        def __call__(self, inputs: object, *arguments: Any, **options: Any) -> Explanation:
            """Explain a batch, see :meth:`forward`."""
            ...

    @own_context()
    def logits(self, inputs: object) -> Tensor:
        """Return the model's logits, ``(B, C)``, without explaining anything.

        Args:
            inputs: Like the example inputs, with any batch size.

        Raises:
            InputError: Wrong shape or dtype, or NaN or infinite values.
            ModelError: The logits are not finite, or the model has changed in more than the values of its weights.
        """
        self._follow()
        request = Request(inputs_like(self.captured, inputs))

        def logits(request: Request, read: Planned) -> Tensor:
            return read.plan.model(read.computed(request).given)

        return finite_logits(self._returned(torch.cat(self._plans.run(logits, [(request, self._plans.own)]))))

    @own_context()
    def values(self, inputs: object, target: object = None) -> Tensor:
        """Return the explained numbers, ``(B,)`` or ``(B, K)``, without explaining anything.

        Arguments and errors are those of a call.
        """
        self._follow()

        def values(request: Request, read: Planned) -> Tensor:
            output = self._output(request, read)
            return request.ask(output).asked.values(output)

        parts = self._requests(inputs, target, None)
        return torch.cat(self._plans.run(values, parts))

    @own_context()
    def fixed(self, inputs: object, target: object = None) -> Fixed:
        """Return the target as it is chosen on these inputs, to explain or follow the same number on others.

        The predicted class, the strongest rival, the pixels where a class is predicted and the best box are those of these inputs then,
        also where the images have changed; :meth:`values` and calls, also of other explainers, take it as a target.

        Arguments and errors are those of a call.

        Raises:
            TargetError: A list of targets of several kinds.
        """
        self._follow()

        def asked(request: Request, read: Planned) -> Asked:
            return request.ask(self._output(request, read)).asked

        parts = self._requests(inputs, target, None)
        readings = {reading_of(request.target) for request, _ in parts}
        if len(readings) > 1:
            raise TargetError("Targets that read several outputs cannot be fixed together; fix each alone.")
        return Fixed(joined(self._plans.run(asked, parts)), readings.pop())

    def _output(self, request: Request, read: Planned) -> Tensor:
        """The value that a target reads."""
        return self._returned(read.plan.model(read.computed(request).given))

    @own_context()
    def forward(
        self,
        inputs: object,
        target: object = None,
        *,
        output_relevance: Tensor | None = None,
        layers: Sequence[str] = (),
        concepts: Mapping[str, Sequence[int]] | None = None,
    ) -> Explanation:
        """Explain a batch.

        Args:
            inputs: Like the example inputs, with any batch size.
            target: None for the predicted class, an int, ``(B,)``, or ``(B, K)`` for K maps of every sample in one forward pass; class
                names in the place of ints where the capture has labels; ``"top:K"`` for the K classes of the largest logits. Or a
                target of :mod:`relprop.targets`, such as ``Contrast(281, 285)``, as a text too; or a list of one per sample.
            output_relevance: Relevance at the output instead of a target: shaped like the output, ``(B, C)``, or ``(B, K, C)``.
            layers: Paths of modules at whose outputs the relevance is returned too.
            concepts: By module path, the channels of its output that relevance may pass on its way back, as ``{"layer3": [5, 17]}``; for the
                heads of the attention in a module ``{"blocks.5.attn:heads": [0]}``. What the others had counts as absorbed.

        Raises:
            InputError: Wrong shape or dtype, or NaN or infinite values.
            TargetError: The target or output_relevance does not fit the output.
            OptionError: An unknown module path.
        """
        self._follow()
        parts = self._requests(inputs, target, output_relevance, layers=layers, concepts=concepts or {})
        found = self._plans.run(self._explained, parts)
        if any(part.target is None for part in found):  # some samples are asked for more than classes
            found = [replace(part, target=None) for part in found]
        return concatenate(found)

    def _explained(self, request: Request, read: Planned) -> Explanation:
        return self._assembled(request, self.method.explain(read.plan, read.computed(request)), read)

    @own_context()
    def trace(self, inputs: object, target: object = None, *, output_relevance: Tensor | None = None, show: bool = True) -> Trace:
        """Print and return the sums of relevance at every op, and the op where they deviate most from conservation.

        Arguments and errors are those of a call; ``target`` is one class per sample, and with ``show=False`` nothing is printed.

        Raises:
            OptionError: The method does not propagate relevance from op to op.
            TargetError: Several targets per sample.
        """
        self._follow()
        parts = self._requests(inputs, target, output_relevance)

        def traced(request: Request, read: Planned) -> Trace:
            return self.method.trace(read.plan, read.computed(request))

        table = join_traces(self._plans.run(traced, parts))
        if show:
            print(table)  # noqa: T201 - the trace is there to be read
        return table

    def over(
        self,
        batches: Iterable[object],
        target: object = None,
        *,
        layers: Sequence[str] = (),
        concepts: Mapping[str, Sequence[int]] | None = None,
        to: torch.device | str | None = None,
        progress: bool = False,
    ) -> Iterator[Explanation]:
        """Explain a data loader: yield the explanation of each batch, and keep none of them.

        Args:
            batches: Of inputs, on any device; of pairs ``(inputs, labels)``, as data loaders give them; or of dicts. Labels, of dicts the entry
                ``labels`` or ``label``, do not go into the model.
            target: Of every batch, as of a call; ``"labels"`` for the batch's own labels.
            layers: As of a call.
            concepts: As of a call.
            to: Where explanations are moved, such as ``"cpu"``; by default they stay where the model is.
            progress: Show a bar on stderr, where that is a terminal.

        Raises:
            InputError: The batches are not of a data loader or list.
            TargetError: The labels are asked for, and a batch has none.
            RelpropError: As of a call; the message begins with the number of the batch, from 1 on.
        """

        def explain(inputs: object, asked: object) -> Explanation:
            return self(on_device(inputs, self._device()), on_device(asked, self._device()), layers=layers, concepts=concepts)

        return explain_each(batches, target, explain, self.captured.example, to=to, progress=progress)

    def _device(self) -> torch.device | None:
        """Where the model's weights are; None where it has none."""
        module = self.captured.module
        return next((value.device for value in (*module.parameters(), *module.buffers())), None)

    @own_context()
    def tiled(self, inputs: Tensor, target: object = None, *, overlap: float = 0.5, batch_size: int = 8) -> Tiled:
        """Explain inputs larger than the model's, such as whole photos, in tiles of the model's input size; for fully convolutional models.

        All tiles are explained for the same target, and their maps are blended into one, with weights that sum to one at every place; see
        :class:`relprop.tiling.Tiled`.

        Args:
            inputs: ``(B, C, …)``; every dimension after the channels at least as long as that of the example inputs.
            target: As of a call, except for places in the output; the predicted class and ``"top:K"`` go by the mean of the tiles' logits.
            overlap: The share of a tile that neighbors have in common at least, from 0 to 0.9; tiles are spread evenly.
            batch_size: Tiles that run at once, of all inputs.

        Raises:
            InputError: The model takes more than one tensor, the inputs are smaller than its input, or have more than 10 000 tiles.
            OptionError: The overlap or the batch size is out of its range.
            TargetError: The target does not fit, or names a place in the output.
        """
        return explain_tiles(self, self.logits, inputs, target, self.captured, overlap=overlap, batch_size=batch_size)

    def _requests(
        self,
        inputs: object,
        target: object,
        output_relevance: Tensor | None,
        **more: Any,  # noqa: ANN401 - fields of a request
    ) -> list[tuple[Request, Planned]]:
        """The whole batch, or one request per sample where the batch size is fixed or targets differ, each with the model it reads."""
        given = inputs_like(self.captured, inputs)
        request = Request(given, read_target(target, self.captured.labels), ordinary(output_relevance), **more)
        whole = self.captured.dynamic and not self.captured.example.shared and not per_sample(request.target, batch_size(given))
        parts = [request] if whole else request.samples()
        readings = [reading_of(part.target) for part in parts]
        layers = list(dict.fromkeys(reading.layer for reading in readings))
        if len(layers) > 1:
            named = " and ".join("the model" if layer is None else repr(layer) for layer in layers[:2])
            raise TargetError(
                f"The targets of a batch must read one output, and these read those of {named}; explain them one by one."
            )
        reads = [self._plans.of(reading) for reading in readings]
        return [(replace(part, head=read.head), read) for part, read in zip(parts, reads, strict=True)]

    def _returned(self, values: Tensor) -> Tensor:
        """Values in the precision of the model, float32 at least; a method may compute in a higher one."""
        own: torch.dtype = self.captured.output.meta["val"].dtype
        return values.to(torch.promote_types(own, torch.float32))

    def _assembled(self, request: Request, answer: Answer, read: Planned) -> Explanation:
        given, answer = request.given, answer.map(self._returned)
        missed = note_on_conservation(given, answer)
        return Explanation(
            relevance=given.restore(_by_sample(given, answer)),
            logits=answer.question.logits + reading_of(request.target).reference,
            target=answer.question.target,
            value=None if answer.question.value is None else self._returned(answer.question.value),
            words=answer.question.asked.words,
            absorbed=answer.absorbed,
            inputs=given.restore([t.unsqueeze(0) if name in given.shared else t for name, t in given.tensors]),
            layers=answer.layers,
            method=self.method.name,
            notes=tuple(dict.fromkeys([*read.plan.notes, *answer.notes, *missed])),
            conserved=answer.conserved,
            completeness_error=answer.completeness_error,
            activation="sigmoid" if answer.question.asked.kind == "label" else read.captured.activation,
            labels=read.captured.labels,
            meaning=self.method.meaning,
        )


def _filled(value: Tensor) -> Tensor:
    """An example of a hollow one."""
    return torch.zeros_like(value) if value.is_floating_point() or value.is_complex() else value


def _by_sample(given: Inputs, answer: Answer) -> list[Tensor]:
    """The relevance of every tensor; that of one which all samples share gets a dimension for the sample."""
    several = answer.absorbed.dim() == 2
    return [
        (part.movedim(1, 0) if several else part).unsqueeze(0) if name in given.shared else part
        for (name, _), part in zip(given.tensors, answer.relevance, strict=True)
    ]


def _method_of(arguments: Sequence[Any], options: dict[str, Any]) -> AnyMethod:
    """Read the method from an explainer's further arguments; the remaining ``options`` are the method's own."""
    method = arguments[0] if arguments else options.pop("method", "rap")
    if len(arguments) > 1 or "method" in options or "example_inputs" in options:
        raise OptionError("Write Explainer(model, example_inputs, method) or Explainer(captured, method), options by name.")
    return choose_method(method, {name: ordinary(value) for name, value in options.items()})


@overload
def explain(
    model: nn.Module,
    inputs: Tensor,
    target: object = None,
    *,
    method: MethodChoice = "rap",
    output_relevance: Tensor | None = None,
    layers: Sequence[str] = (),
    concepts: Mapping[str, Sequence[int]] | None = None,
    **options: Any,  # noqa: ANN401
) -> Explanation[Tensor]: ...


@overload
def explain(
    model: nn.Module,
    inputs: object,
    target: object = None,
    *,
    method: MethodChoice = "rap",
    output_relevance: Tensor | None = None,
    layers: Sequence[str] = (),
    concepts: Mapping[str, Sequence[int]] | None = None,
    **options: Any,  # noqa: ANN401
) -> Explanation: ...


def explain(
    model: nn.Module,
    inputs: object,
    target: object = None,
    *,
    method: MethodChoice = "rap",
    output_relevance: Tensor | None = None,
    layers: Sequence[str] = (),
    concepts: Mapping[str, Sequence[int]] | None = None,
    **options: Any,
) -> Explanation:
    """Explain one batch: capture the model, explain, and forget it; to explain many batches, keep an :class:`Explainer`.

    Arguments and errors are those of :class:`Explainer` and its call.
    """
    explainer = Explainer(model, inputs, method, **options)
    return explainer(inputs, target, output_relevance=output_relevance, layers=layers, concepts=concepts)
