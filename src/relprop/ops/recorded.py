"""How ops are recorded: those that a pass rewrites, and those whose results have a size that depends on values."""

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
