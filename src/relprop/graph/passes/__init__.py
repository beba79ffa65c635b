"""Passes: small rewrites of a graph, each of which leaves the model's output as it was, in the order in which they run."""

from collections.abc import Callable

from torch import fx

from relprop.graph.passes.attention import expand_attention
from relprop.graph.passes.batchnorm import fold_batchnorm as fold_batchnorms
from relprop.graph.passes.complex import separate_complex
from relprop.graph.passes.constants import drop_unused, fold_constants
from relprop.graph.passes.final import take_off_final_softmax
from relprop.graph.passes.gradients import follow_gradients, follow_values
from relprop.graph.passes.masks import fill_infinite_masks
from relprop.graph.passes.moves import shorten_moves
from relprop.graph.passes.padding import pad_what_is_looked_up
from relprop.graph.passes.pieces import fold_pieces
from relprop.graph.passes.projections import separate_projections
from relprop.graph.passes.random import leave_out_dropout, note_random_ops
from relprop.graph.passes.simplify import drop_identities, use_common_forms
from relprop.graph.passes.windows import compute_windows

Pass = Callable[[fx.GraphModule], str | None]
"""Rewrites a graph in place; may return notes for the user."""

PASSES: tuple[Pass, ...] = (
    fold_constants,
    leave_out_dropout,
    drop_identities,
    expand_attention,
    fill_infinite_masks,
    use_common_forms,
    separate_complex,
    use_common_forms,
    drop_identities,
    fold_pieces,
    pad_what_is_looked_up,
    fold_constants,
    shorten_moves,
    take_off_final_softmax,
    drop_unused,
    note_random_ops,
)
"""The passes that every model goes through, in order."""


def normalize(module: fx.GraphModule) -> tuple[str, ...]:
    """Normalize a captured graph in place: run :data:`PASSES`; return notes for the user."""
    notes = [note for run in PASSES if (note := run(module))]
    module.graph.lint()
    return tuple(notes)


def for_method(module: fx.GraphModule, *, fold_batchnorm: bool, local: bool, gradients: bool = False) -> None:
    """Run, in place, the passes that depend on the method.

    Args:
        module: A normalized graph.
        fold_batchnorm: Whether BatchNorm folds into the layer before it.
        local: Whether all rules are local, so that fused projections are split and slices pushed towards the inputs.
        gradients: Whether gradients are the model's own, or relevance passes the ops whatever gradient the model gives them.
    """
    (follow_gradients if gradients else follow_values)(module)
    if fold_batchnorm:
        fold_batchnorms(module)
    if local:
        separate_projections(module)
        compute_windows(module)
