"""Normalisation: small passes, each of which leaves the model's output as it was."""

from dataclasses import replace

from relprop.graph.capture import Capture
from relprop.graph.passes.attention import expand_attention
from relprop.graph.passes.constants import drop_unused, fold_constants
from relprop.graph.passes.decompose import decompose_unknown
from relprop.graph.passes.final import take_off_final_softmax
from relprop.graph.passes.inline import inline_regions
from relprop.graph.passes.inplace import make_out_of_place
from relprop.graph.passes.masks import fill_infinite_masks, index_by_constant_masks
from relprop.graph.passes.moves import shorten_moves
from relprop.graph.passes.outputs import mark_outputs
from relprop.graph.passes.simplify import drop_identities, use_common_forms


def normalize(capture: Capture) -> Capture:
    """Bring a captured graph, in place, to the form that plans are made for; folding BatchNorm is left to the method.

    Each pass: nested regions inlined, in-place ops out of place, outputs of modules marked, constants folded, no-ops dropped, constant masks made indices, fused
    attention expanded, added −∞ made a fill, rare forms rewritten, unknown ops decomposed, moves shortened, a final softmax taken off.
    """
    module = capture.module
    inline_regions(module)
    make_out_of_place(module)
    mark_outputs(module)
    fold_constants(module)
    drop_identities(module)
    index_by_constant_masks(module)
    expand_attention(module)
    fill_infinite_masks(module)
    use_common_forms(module)
    decompose_unknown(module)
    use_common_forms(module)
    drop_identities(module)
    fold_constants(module)
    shorten_moves(module)
    taken = take_off_final_softmax(module)
    drop_unused(module)
    module.graph.lint()
    note = "The final softmax or sigmoid was taken off: logits are explained."
    return replace(capture, notes=(*capture.notes, note) if taken else capture.notes)
