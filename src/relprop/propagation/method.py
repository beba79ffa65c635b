"""Methods that propagate relevance by rules, as users make them."""

from dataclasses import dataclass

from relprop.explanation import Answer
from relprop.graph.model import CapturedModel
from relprop.graph.passes import for_method
from relprop.inputs import Request
from relprop.propagation.composite import Composite
from relprop.propagation.explain import explain, trace
from relprop.propagation.plan import Plan, make_plan
from relprop.propagation.trace import Trace


@dataclass(frozen=True)
class Method(Composite):
    """A composite with the interface of a method: plan, explain, trace.

    A method of your own is made of rules of :mod:`relprop.rules`, and given to :class:`relprop.Explainer` in place of a name::

        Method("mine", {"dense": rules.epsilon(), "conv": rules.gamma(0.1)}, by_path={"features.0": rules.flat()})

    To change a method of the registry, write ``dataclasses.replace(make_method("epsilon-plus", {}), by_path=…)``.
    Its fields are those of :class:`relprop.propagation.composite.Composite`.
    """

    def plan(self, captured: CapturedModel) -> Plan:
        """Give every op of a captured model its role and rule; the model stays as it is.

        Raises:
            UnsupportedOpError: Relevance reaches ops that have no rule (all are listed), or no input.
            OptionError: The method has rules for ops or modules that the model lacks.
        """
        own = captured.copy()
        for_method(own.module, fold_batchnorm=self.fold_batchnorm, local=self.local)
        return make_plan(own, self)

    def explain(self, plan: Plan, request: Request) -> Answer:
        """Explain one batch; errors are those of :func:`relprop.propagation.explain.explain`."""
        return explain(plan, request)

    def trace(self, plan: Plan, request: Request) -> Trace:
        """Trace one batch; errors are those of :func:`relprop.propagation.explain.trace`."""
        return trace(plan, request)
