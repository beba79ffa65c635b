"""How ops are recorded: those that a pass rewrites, those whose results have a size that depends on values, and those that draw numbers."""

from collections.abc import Mapping
from typing import Any

import torch

REWRITTEN = frozenset(
    f"aten::{name}"
    for name in [
        "pad",
        "var",
        "cosine_similarity",
        "scaled_dot_product_attention",
        "copy",
        "convolution",
        "_convolution",
        "_native_batch_norm_legit_no_training",
        "complex",
        "polar",
    ]
)
"""Ops without an entry that a pass rewrites, so that they are not decomposed."""

OF_UNKNOWN_SIZE = frozenset(f"aten::{name}" for name in ("index", "masked_select", "repeat_interleave"))
"""Ops whose result may have a size that depends on values, though torch does not tag them so."""

INDEXED = frozenset(f"aten::{name}" for name in ("index", "index_put", "index_put_"))
"""Ops whose indices may be masks."""

RECURRENT = frozenset(
    f"aten::{name}" for name in ("lstm", "lstm_cell", "gru", "gru_cell", "rnn_tanh", "rnn_tanh_cell", "rnn_relu", "rnn_relu_cell")
)
"""Recurrent layers and cells, whose sigmoids are gates."""

PACKING = frozenset(f"aten::{name}" for name in ("_pack_padded_sequence", "_pad_packed_sequence"))
"""Ops that lay the samples of a batch out step by step, only those that are as long."""


def is_random(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:  # noqa: ANN401
    """Whether a call draws random numbers: torch tags such ops, some of which draw none in evaluation mode."""
    if torch.Tag.nondeterministic_seeded not in getattr(func, "tags", ()):  # a function of Python has none
        return False
    given = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | dict(kwargs)
    return not any(given.get(name, True) in (False, 0.0) for name in ("train", "training", "dropout_p"))
