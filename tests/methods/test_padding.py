"""Texts in a batch are padded: with an attention mask the map of a text does not depend on how far."""

import pytest
import torch

import relprop
from relprop.methods import METHODS
from relprop.zoo import import_torchvision

LENGTH, PADDED = 7, 12
DEPENDS = {"lrp-flat", "attribution-equilibrium"}
"""Those that share relevance by place, or by the activation of all positions, see docs/other-inputs.md."""
PROPAGATED = [name for name in METHODS if name.startswith(("rap", "lrp", "abslrp"))]
PROPAGATED += ["attribution-equilibrium", "attnlrp", "cp-lrp", "reslrp", "clrp", "sglrp", "deep-taylor", "excitation-backprop"]


@pytest.fixture(scope="module")
def texts():
    """A captured BERT with a text of its own length and the same text padded."""
    import_torchvision()
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = transformers.BertConfig(vocab_size=50, max_position_embeddings=16, num_labels=100, **sizes)
    model = transformers.BertForSequenceClassification(config).eval().double()
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.data.mul_(5)  # so that attention prefers some tokens
    ids = torch.randint(1, 50, (2, LENGTH))
    given = []
    for length in (LENGTH, PADDED):
        row = torch.nn.functional.pad(ids, (0, length - LENGTH))
        inputs = {"input_ids": row, "attention_mask": (row > 0).long()}
        given.append((relprop.capture(model, inputs), inputs))
    return given


def maps(texts, method, **options):
    """The maps of both, and the relevance of the padding."""
    short, padded = (captured.explainer(method, **options)(inputs, 1).relevance["input_ids"] for captured, inputs in texts)
    return short, padded[:, :LENGTH], padded[:, LENGTH:]


@pytest.mark.parametrize("method", [name for name in PROPAGATED if name not in DEPENDS])
def test_padding_changes_no_map(texts, method):
    options = {"false_discovery_rate": 0.9} if method == "rap-regional" else {}  # little stands out in an untrained model
    short, padded, rest = maps(texts, method, **options)
    assert short.any() or method == "deep-taylor"
    torch.testing.assert_close(padded, short, rtol=1e-6, atol=1e-9 * float(short.abs().max()))
    assert not rest.any()


@pytest.mark.parametrize("method", sorted(DEPENDS))
def test_padding_changes_what_goes_by_place(texts, method):
    short, padded, rest = maps(texts, method)
    assert 0.1 < float((padded - short).abs().sum() / short.abs().sum()) < 0.5
    assert rest.any()
