"""Attribution methods: functions of the whole captured model, by its gradient or by its outputs alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Never

import torch
from torch import Tensor, fx

from relprop.errors import InputError, OptionError, RelevanceError, TargetError, UnsupportedOpError
from relprop.explanation import Answer
from relprop.graph.grids import POSITIONS
from relprop.graph.lookups import looked_up_inputs
from relprop.graph.model import CapturedModel, Handler
from relprop.graph.nodes import PATH
from relprop.graph.passes import for_method
from relprop.inputs import Inputs, Question, Request, batch_size
from relprop.meaning import UNSAID, Meaning
from relprop.ops.op import op_name
from relprop.propagation.roles import Roles
from relprop.targets import Aim
from relprop.text import draw_table, html_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Problem:
    """One batch to explain.

    Attributes:
        model: The captured model.
        given: The inputs.
        aim: What is explained: the score ``Σ weights · output``, with one-hot weights for a class.
        target: The explained classes, ``(B,)``; None where something else is explained.
        handlers: Replacements of ops, by node, with which scores and their gradients are computed.
    """

    model: CapturedModel
    given: Inputs
    aim: Aim
    target: Tensor | None = None
    handlers: Mapping[fx.Node, Handler] = field(default_factory=dict[fx.Node, Handler])

    def with_handlers(self, handlers: Mapping[fx.Node, Handler]) -> "Problem":
        """Return the same problem with ops replaced."""
        return replace(self, handlers=handlers)

    @property
    def weights(self) -> Tensor:
        """Weights of the output, shaped like it."""
        return self.aim.weights

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The floating inputs, which receive relevance, detached."""
        return tuple(v.detach() for _, v in self.given.tensors if v.is_floating_point())

    @property
    def image(self) -> Tensor:
        """The only floating input, where it is a batch of signals, images or volumes ``(B, channels, …)``.

        Raises:
            InputError: There is none, or several.
        """
        if len(self.inputs) != 1 or self.inputs[0].dim() - 2 not in POSITIONS:
            shapes = ", ".join(str(tuple(v.shape)) for v in self.inputs)
            raise InputError(
                "This method explains one batch of signals, images or volumes, (batch, channels, …) with one to three dimensions of "
                f"positions; the inputs are {shapes}."
            )
        return self.inputs[0]

    def with_inputs(self, inputs: Sequence[Tensor], rows: Tensor | None = None) -> Inputs:
        """The model's arguments with other floating inputs; the other tensors of sample ``rows[n]`` go with the ``n``-th of them."""
        rest, batch = iter(inputs), batch_size(self.given)

        def put(value: Tensor) -> Tensor:
            if value.is_floating_point():
                return next(rest)
            return value[rows] if rows is not None and value.dim() and value.shape[0] == batch else value

        return self.given.map(put)

    def outputs(self, *inputs: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return the logits of other floating inputs, ``(N, C)``; see :meth:`with_inputs`.

        Raises:
            UnsupportedOpError: A gradient is wanted, and none passes the model.
        """
        logits = self.model(self.with_inputs(inputs, rows), self.handlers)
        if torch.is_grad_enabled() and not logits.requires_grad and any(x.requires_grad for x in inputs):
            raise UnsupportedOpError(
                "No gradient reaches the input: the model detaches every value on the way, or runs with gradients off; "
                "take a propagation method such as 'lrp-epsilon'."
            )
        return logits

    def score(self, *inputs: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return the explained score, ``(N,)``, of other floating inputs; see :meth:`with_inputs`."""
        return self.weigh(self.outputs(*inputs, rows=rows), rows)

    def weigh(self, outputs: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return the explained score, ``(N,)``, of logits."""
        weights = self.weights if rows is None else self.weights[rows]
        return (outputs * weights).reshape(len(outputs), -1).sum(1)

    def samples(self) -> list["Problem"]:
        """The samples of the batch as problems of their own."""
        return [
            replace(
                self,
                given=self.given.sample(i),
                aim=self.aim.sample(i),
                target=None if self.target is None else self.target[i : i + 1],
            )
            for i in range(batch_size(self.given))
        ]


@dataclass(frozen=True)
class Attributed:
    """What an attribution function returns.

    Attributes:
        relevance: One tensor per floating input, shaped like it.
        reference: Score of the reference input, ``(B,)``; it counts as absorbed relevance.
        complete: Whether the method is complete: relevance and the reference's score add up to the score.
        notes: Notes for the user.
    """

    relevance: Sequence[Tensor]
    reference: Tensor | None = None
    complete: bool = False
    notes: tuple[str, ...] = ()


def _no_check(_model: CapturedModel) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True)
class Attribution:
    """A method that is one function of the captured model.

    Attributes:
        name: As the registry calls it.
        attribute: Explains one batch.
        check: Refuses models that it cannot explain, at planning time; returns notes.
        any_output: Whether any relevance of the output can be explained, or classes only.
        fold_batchnorm: Whether BatchNorm folds into the layer before it.
        precision: The lowest precision that it computes in; models of a lower one are raised to it. None for the model's own.
        meaning: What its positive and negative values say, for the legends of pictures.
    """

    name: str
    attribute: Callable[[Problem], Attributed]
    check: Callable[[CapturedModel], tuple[str, ...]] = _no_check
    any_output: bool = True
    fold_batchnorm: bool = True
    precision: torch.dtype | None = torch.float32
    meaning: Meaning = UNSAID

    def plan(self, captured: CapturedModel) -> "AttributionPlan":
        """Check that the method can explain a captured model; the model stays as it is.

        Raises:
            UnsupportedOpError: It cannot; the message lists the ops.
            OptionError: An option does not fit the model.
        """
        own = captured.copy()
        for_method(own.module, fold_batchnorm=self.fold_batchnorm, local=False, gradients=True)
        return AttributionPlan(self, own, (*own.notes, *self.check(own), *self._note_on_lookups(own)))

    def _note_on_lookups(self, model: CapturedModel) -> tuple[str, ...]:
        found = " and ".join(map(repr, looked_up_inputs(model.module.graph)))
        why = f"Method {self.name!r} has no gradient at numbers that are looked up, so {found} has zeros"
        return (f"{why}; a propagation method such as 'lrp-epsilon' gives them relevance.",) if found else ()

    def explain(self, plan: "AttributionPlan", request: Request) -> Answer:
        """Apply the function to one batch; every target of a sample is a problem of its own.

        Raises:
            OptionError: Relevance at modules was asked for.
            InputError: No input is floating point.
            TargetError: The target does not fit the output, or the method takes classes only.
            RelevanceError: The relevance is not finite.
        """
        if request.layers or request.concepts:
            name = "layers" if request.layers else "concepts"
            raise OptionError(f"Method {self.name!r} gives relevance to inputs only; leave {name} out.")
        if not any(v.is_floating_point() for _, v in request.given.tensors):
            kinds = " and ".join(dict.fromkeys(str(v.dtype).removeprefix("torch.") for _, v in request.given.tensors))
            raise InputError(
                f"Method {self.name!r} needs a floating point input, such as embeddings, and these are {kinds}; give embeddings, or take a "
                "propagation method such as 'lrp-epsilon', which reads relevance at what is looked up."
            )
        question = request.ask(plan.model(request.given))
        if question.target is None and not self.any_output:
            what = "output_relevance" if question.output_relevance is not None else question.asked.words[0]
            raise TargetError(
                f"Method {self.name!r} explains classes of an output (batch, classes); pass a class instead of {what}."
            )
        problems = _problems(plan.model, request.given, question)
        results = [self.attribute(problem) for problem in problems]
        if not all(bool(part.isfinite().all()) for result in results for part in result.relevance):
            raise RelevanceError(f"Method {self.name!r} gives NaN or infinite relevance for these inputs; try float64 inputs.")
        return _answer(problems, results, question)

    def trace(self, plan: "AttributionPlan", request: Request) -> Never:  # noqa: ARG002 - as every method has it
        """Refuse a trace.

        Raises:
            OptionError: Always.
        """
        raise OptionError(f"Method {self.name!r} does not pass relevance from op to op, so there is nothing to trace.")


_HEADER = ("module", "op", "role")


@dataclass(frozen=True)
class AttributionPlan:
    """An attribution method applied to a captured model; prints the table of its ops.

    Attributes:
        method: The method.
        model: The captured model after the method's passes.
        notes: Notes for the user.
    """

    method: Attribution
    model: CapturedModel
    notes: tuple[str, ...]

    @property
    def layers(self) -> Mapping[str, fx.Node]:
        """Empty: only inputs receive relevance."""
        return {}

    def __str__(self) -> str:
        """Return the table of ops: module path, op, role."""
        return "\n".join([*draw_table(_HEADER, self._rows), *self._remarks])

    def _repr_html_(self) -> str:
        return html_table(_HEADER, self._rows, self._remarks)

    def plot(self) -> "Figure":
        """Draw the role of every op, from the input to the output; notebooks show it."""
        from relprop.viz import plot_plan

        rows = self._rows
        names = [name if path == "·" else path for path, name, _ in rows]
        return plot_plan(names, [role for _, _, role in rows], title=self.method.name)

    @property
    def _rows(self) -> list[tuple[str, ...]]:
        roles = Roles(self.model.module.graph)
        names = [op_name(node.target).removeprefix("aten::") for node in self.model.ops]
        paths = [str(node.meta.get(PATH, "")) or "·" for node in self.model.ops]
        return [(path, name, roles.of(node)) for path, name, node in zip(paths, names, self.model.ops, strict=True)]

    @property
    def _remarks(self) -> list[str]:
        return [f"Note: {note}" for note in (f"{self.method.name} explains the model as a whole.", *self.notes)]


def _problems(model: CapturedModel, given: Inputs, question: Question) -> list[Problem]:
    """One problem per map of a sample."""
    asked = question.asked
    targets = [asked.target] * len(asked.aims) if asked.target is None or not asked.several else asked.target.unbind(1)
    return [Problem(model, given, aim, target) for aim, target in zip(asked.aims, targets, strict=True)]


def _answer(problems: Sequence[Problem], results: Sequence[Attributed], question: Question) -> Answer:
    """Stack the results of all targets in dimension 1."""
    logits, given, several = question.logits, problems[0].given, question.asked.several

    def joined(values: list[Tensor]) -> Tensor:
        return torch.stack(values, 1) if several else values[0]

    parts = [joined(list(maps)) for maps in zip(*(r.relevance for r in results), strict=True)]
    references = [logits.new_zeros(logits.shape[0]) if r.reference is None else r.reference for r in results]
    errors = [_completeness_error(p, r, logits) for p, r in zip(problems, results, strict=True) if r.complete]
    return Answer(
        relevance=_with_fixed(given, parts, len(problems) if several else None),
        absorbed=joined(references),
        question=question,
        completeness_error=joined(errors) if errors else None,
        notes=tuple(note for r in results for note in r.notes),
    )


def _completeness_error(problem: Problem, result: Attributed, logits: Tensor) -> Tensor:
    """``score − Σ relevance − reference``, ``(B,)``."""
    total = sum(part.double().flatten(1).sum(1) for part in result.relevance)
    missing = problem.weigh(logits).double() - total - (0.0 if result.reference is None else result.reference.double())
    return missing.to(logits.dtype)


def _with_fixed(given: Inputs, parts: list[Tensor], targets: int | None) -> list[Tensor]:
    """Relevance for every tensor argument: zero for those that are not floating."""
    rest, dtype = iter(parts), parts[0].dtype

    def zeros(value: Tensor) -> Tensor:
        blank = torch.zeros(value.shape, dtype=dtype, device=value.device)
        return blank if targets is None else blank.unsqueeze(1).expand(-1, targets, *value.shape[1:])

    return [next(rest) if v.is_floating_point() else zeros(v) for _, v in given.tensors]
