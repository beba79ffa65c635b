"""The public way in: capture a model once, then explain any batch."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, Self, SupportsIndex

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from relprop.attribution import Attribution, AttributionPlan, explain_by_attribution, plan_attribution
from relprop.errors import InputError, ModelError, OptionError, OutputError, TargetError, suggestion
from relprop.explanation import Explanation, join_explanations
from relprop.graph.model import CapturedModel, captured_model
from relprop.graph.nodes import OUTPUTS, change_dtypes, module_outputs, output_notes, widened
from relprop.graph.passes.batchnorm import fold_batchnorm
from relprop.graph.passes.projections import separate_projections
from relprop.graph.passes.windows import compute_windows
from relprop.inputs import Inputs, as_inputs, batch_size, check_output_relevance, finite_logits, resolve_target
from relprop.methods import Method, choose_method
from relprop.ops.op import hollow
from relprop.propagation.plan import Plan, make_plan
from relprop.propagation.run import Runner, Values
from relprop.propagation.trace import Trace, join_traces, trace

_FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Explainer(nn.Module):
    """Explains the decisions of one model by one method.

    The model is captured once, in evaluation mode, and left exactly as it was; its weights are shared where nothing folds into them.
    The explainer is a module of plain torch ops: ``explainer.to(device)`` and ``explainer.double()`` change it, the model stays as it is,
    and ``copy.deepcopy`` copies it. After a change of the dtype every floating value has the new one, casts of the model included, and so
    must the inputs.

    Args:
        model: Any ``torch.nn.Module`` that ``torch.export`` can capture.
        example_inputs: Inputs as the model takes them: a tensor, a tuple of arguments, or a dict of keyword arguments. The first dimension
            of tensors is the batch; later calls may have any batch size, everything else keeps its shape.
        method: A name of ``relprop.methods.METHODS``, a :class:`relprop.Method` of your own, or the path of a TOML file, see
            :mod:`relprop.methods.toml`.
        output: Which tensor to explain, where the model returns several: a name or an index.
        **options: Options of the method, see ``relprop methods``.

    Raises:
        CaptureError: The model cannot be exported, or returns no tensor.
        UnsupportedOpError: Relevance reaches ops without a rule; all are listed.
        OptionError: Unknown method or option.
        InputError: The inputs, or the model's weights, are not usable.
    """

    def __init__(
        self,
        model: nn.Module,
        example_inputs: object,
        method: str | Path | Method | Attribution = "rap",
        *,
        output: str | int | None = None,
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__()
        if not isinstance(model, nn.Module):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ModelError(f"The model must be a torch.nn.Module, not {type(model).__name__}.")
        chosen = choose_method(method, options)
        example = as_inputs(example_inputs)
        self._begin(captured_model(model, example, output), example.map(hollow), chosen)

    def _begin(self, source: CapturedModel, example: Inputs, method: Method | Attribution) -> None:
        """Plan a method on a captured model that stays as it is: its tensors are shared, the graph is our own."""
        self._source, self._example, self._method = source, example, method
        self._changes: list[Callable[[Tensor], Tensor]] = []
        self.captured = source.copy(tensors=False)  # a function of the inputs, through which gradients reach them
        if method.fold_batchnorm:
            fold_batchnorm(self.captured.module)
        if isinstance(method, Method) and method.local:
            separate_projections(self.captured.module)
            compute_windows(self.captured.module)
        self._make_plan()
        self.eval()

    def _make_plan(self) -> None:
        self.module = self.captured.module
        self.plan: Plan | AttributionPlan
        if isinstance(self._method, Attribution):
            self.plan = plan_attribution(self._method, self.captured)
        else:
            self.plan = make_plan(self.module, self._method, dynamic=self.captured.dynamic, notes=self.captured.notes)
            self._runner = Runner(self.plan)

    def with_method(self, method: str | Path | Method | Attribution, **options: Any) -> Self:  # noqa: ANN401
        """Return an explainer of the same model by another method, without capturing the model again.

        It has the device and dtype of this one; what ``to`` changes later, it changes on one of them alone.

        Args:
            method: As for a new explainer.
            **options: Options of the method.

        Raises:
            UnsupportedOpError: Relevance reaches ops without a rule; all are listed.
            OptionError: Unknown method or option.
        """
        other = type(self).__new__(type(self))
        nn.Module.__init__(other)
        other._begin(self._source, self._example, choose_method(method, options))
        for change in self._changes:
            other._apply(change)
        return other.train(self.training)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the weights, as ``to``, ``double`` or ``cuda`` ask; a new dtype holds for the whole graph and for later inputs."""
        super()._apply(fn, recurse)
        self._changes.append(fn)
        dtypes = {dtype: new for dtype in _FLOATING if (new := fn(torch.empty(0, dtype=dtype)).dtype) != dtype}
        if dtypes:
            change_dtypes(self.module.graph, dtypes)
            self._example = self._example.map(lambda v: v.to(dtypes.get(v.dtype, v.dtype)))
            self._make_plan()
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copy the graph with its weights and plan it anew; the user's model, which only registered methods call, stays shared."""
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        nn.Module.__init__(copied)
        copied._source, copied._example, copied._method = self._source, self._example, self._method
        copied._changes = list(self._changes)
        copied.captured = self.captured.copy(tensors=True)
        copied._make_plan()
        return copied.train(self.training)

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuse to be pickled: a captured graph holds symbolic shapes, which cannot be."""
        raise OutputError(
            "An Explainer cannot be pickled; copy.deepcopy copies it, and another process makes its own from the model."
        )

    @torch.no_grad()
    def logits(self, inputs: object) -> Tensor:
        """Return the model's logits, ``(B, C)``, without explaining anything.

        Args:
            inputs: Like the example inputs, with any batch size.

        Raises:
            InputError: Wrong shape or dtype, or NaN or infinite values.
            ModelError: The logits are not finite.
        """
        return finite_logits(self.captured(self._checked(inputs)))

    @torch.no_grad()
    def forward(
        self, inputs: object, target: object = None, *, output_relevance: Tensor | None = None, layers: Sequence[str] = ()
    ) -> Explanation:
        """Explain a batch.

        Args:
            inputs: Like the example inputs, with any batch size.
            target: None for the predicted class, an int, ``(B,)``, or ``(B, K)`` for K maps of every sample in one forward pass.
            output_relevance: Relevance at the output instead of a target: shaped like the output, ``(B, C)``, or ``(B, K, C)``.
            layers: Paths of modules at whose outputs the relevance is returned too.

        Raises:
            InputError: Wrong shape or dtype, or NaN or infinite values.
            TargetError: The target or output_relevance does not fit the output.
            OptionError: An unknown module path.
        """
        given = self._checked(inputs)
        if layers and isinstance(self.plan, AttributionPlan):
            raise OptionError(f"Method {self.plan.method.name!r} gives relevance to inputs only; leave layers out.")
        self._check_layers(layers)
        return join_explanations([self._explain(*sample, layers) for sample in self._samples(given, target, output_relevance)])

    @torch.no_grad()
    def trace(self, inputs: object, target: object = None, *, output_relevance: Tensor | None = None) -> Trace:
        """Print, and return, the sum of relevance at every op, and where it deviates most from what came in.

        Arguments and errors are those of a call; ``target`` is one class per sample.

        Raises:
            OptionError: The method does not propagate relevance from op to op.
            TargetError: Several targets per sample.
        """
        if isinstance(self.plan, AttributionPlan):
            raise OptionError(
                f"Method {self.plan.method.name!r} does not pass relevance from op to op, so there is nothing to trace."
            )
        samples = self._samples(self._checked(inputs), target, output_relevance)
        table = join_traces([self._trace(*sample) for sample in samples])
        print(table)  # noqa: T201 - the trace is there to be read
        return table

    def _trace(self, given: Inputs, target: object, output_relevance: Tensor | None) -> Trace:
        values = self._runner.forward(given.flat, inspected=True)
        logits = finite_logits(values[self._runner.plan.output])
        indices = resolve_target(target, logits) if output_relevance is None else None
        _, start = self._starts(indices, output_relevance, logits)[0]
        if start.dim() > logits.dim():
            raise TargetError("A trace follows one target per sample; call it once for each.")
        return trace(self._runner, values, start, batch_size(given))

    def _checked(self, inputs: object) -> Inputs:
        given = as_inputs(inputs)
        expected = self._example
        if [n for n, _ in given.tensors] != [n for n, _ in expected.tensors]:
            raise InputError(f"Expected the inputs {[n for n, _ in expected.tensors]}, got {[n for n, _ in given.tensors]}.")
        for (name, tensor), (_, example) in zip(given.tensors, expected.tensors, strict=True):
            if tensor.dtype != example.dtype:
                raise InputError(f"The tensor {name!r} is {tensor.dtype}; the model was captured with {example.dtype}.")
            if tensor.shape[1:] != example.shape[1:] or tensor.dim() != example.dim():
                wanted = "×".join(["batch", *map(str, example.shape[1:])])
                raise InputError(f"The tensor {name!r} has shape {tuple(tensor.shape)}; the model was captured for {wanted}.")
        return given

    def _check_layers(self, layers: Sequence[str]) -> None:
        nodes = module_outputs(self.module.graph)
        if isinstance(layers, str) or not isinstance(layers, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise OptionError(f"layers must be a list of module paths, not {layers!r}.")
        for path in layers:
            if path not in nodes:
                near = suggestion(str(path), nodes)
                raise OptionError(f"No module {path!r} with an output of its own.{near} explainer.plan lists the modules.")

    def _explain(self, given: Inputs, target: object, output_relevance: Tensor | None, watched: Sequence[str]) -> Explanation:
        if isinstance(self.plan, AttributionPlan):
            return explain_by_attribution(self.plan, given, target, output_relevance)
        values = self._runner.forward(given.flat, inspected=bool(watched))
        logits = finite_logits(values[self.plan.output])
        indices = resolve_target(target, logits) if output_relevance is None else None
        starts = self._starts(indices, output_relevance, logits)
        batch = batch_size(given)
        several = starts[0][1].dim() > logits.dim()
        total: list[Any] | None = None
        for i, (factor, start) in enumerate(starts):
            last = i == len(starts) - 1

            def run(start: Tensor, *, free: bool = last and not several) -> Any:  # noqa: ANN401 - tensors in lists and dicts
                return self._propagate(values, start, batch, watched, free=free)

            leaves, structure = tree_flatten(torch.func.vmap(run, in_dims=1, out_dims=1)(start) if several else run(start))
            scaled = [leaf * factor for leaf in leaves] if factor != 1 else leaves
            total = scaled if total is None else [a + b for a, b in zip(total, scaled, strict=True)]
        parts, layers, absorbed = tree_unflatten(total, structure)  # pyright: ignore[reportArgumentType, reportPossiblyUnboundVariable]
        return Explanation(
            relevance=given.restore(parts),
            logits=logits,
            target=indices,
            absorbed=absorbed,
            inputs=given.restore([t for _, t in given.tensors]),
            layers=layers,
            method=self.plan.method.name,
            notes=(*self.plan.notes, *output_notes(self.module, watched)),
        )

    def _starts(self, indices: Tensor | None, output_relevance: Tensor | None, logits: Tensor) -> list[tuple[float, Tensor]]:
        """The passes to run, each a factor and the relevance of the output: ``(B, C)`` or ``(B, K, C)``."""
        if indices is None:
            return [(1.0, check_output_relevance(output_relevance, logits))]  # pyright: ignore[reportArgumentType]
        method = self._runner.plan.method
        return method.start(logits if indices.dim() == 1 else logits.unsqueeze(1).expand(-1, indices.shape[1], -1), indices)

    def _propagate(
        self, values: Values, output_relevance: Tensor, batch: int, watched: Sequence[str], *, free: bool
    ) -> tuple[list[Tensor], dict[str, Tensor], Tensor]:
        seen: dict[str, Tensor] = {}

        def watch(node: fx.Node, relevance: Tensor) -> None:
            for path in node.meta.get(OUTPUTS, ()):
                if path in watched:
                    part = widened(node, path, relevance)
                    seen[path] = seen[path] + part if path in seen else part

        parts, absorbed = self._runner.backward(values, output_relevance, batch, watch if watched else None, free=free)
        missing = [path for path in watched if path not in seen]
        if missing:
            raise OptionError(
                f"No relevance passes the output of module {missing[0]!r}; explainer.plan shows which ops it passes."
            )
        return parts, {path: seen[path] for path in watched}, absorbed

    def _samples(
        self, given: Inputs, target: object, output_relevance: Tensor | None
    ) -> list[tuple[Inputs, object, Tensor | None]]:
        """The batch as one, or, where the model fixes its batch size, its samples, each with its target or output_relevance."""
        if target is not None and output_relevance is not None:
            raise TargetError("Give target or output_relevance, not both.")
        if self.plan.dynamic:
            return [(given, target, output_relevance)]

        def of_sample(value: Any, index: int) -> Any:  # noqa: ANN401 - a target or output_relevance
            return value[index : index + 1] if isinstance(value, Tensor | list | tuple) else value

        return [(given.sample(i), of_sample(target, i), of_sample(output_relevance, i)) for i in range(batch_size(given))]


def explain(
    model: nn.Module,
    inputs: object,
    target: object = None,
    *,
    method: str | Path | Method | Attribution = "rap",
    output_relevance: Tensor | None = None,
    layers: Sequence[str] = (),
    **options: Any,  # noqa: ANN401
) -> Explanation:
    """Explain one batch: capture the model, explain, and forget it; to explain many batches, keep an :class:`Explainer`.

    Arguments and errors are those of :class:`Explainer` and its call.
    """
    return Explainer(model, inputs, method, **options)(inputs, target, output_relevance=output_relevance, layers=layers)
