"""Text classifiers that pick tokens by masks of their integer inputs: BART's end of the text, and the global tokens of Longformer."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import relprop
from relprop.errors import CaptureError
from relprop.zoo import import_torchvision
from tests.real_models import randomized

END, PAD, WORDS, LENGTH = 2, 1, 40, 10
_BART = {
    "vocab_size": WORDS, "num_labels": 3, "max_position_embeddings": 20, "pad_token_id": PAD, "bos_token_id": 0, "eos_token_id": END, "d_model": 16,
    "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24, "decoder_start_token_id": END,
}  # fmt: skip
_LONGFORMER = {
    "vocab_size": WORDS, "num_labels": 3, "max_position_embeddings": 20, "pad_token_id": PAD, "hidden_size": 16, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 24, "attention_window": 4,
}  # fmt: skip


def network(name: str, settings: dict[str, Any]) -> nn.Module:
    import_torchvision()
    library = pytest.importorskip("transformers", reason="text classifiers need transformers")
    kind = getattr(library, name)
    torch.manual_seed(0)
    return randomized(kind(kind.config_class(**settings))).double().eval()


@pytest.fixture(scope="module")
def bart() -> nn.Module:
    return network("BartForSequenceClassification", _BART)


@pytest.fixture(scope="module")
def longformer() -> nn.Module:
    return network("LongformerForSequenceClassification", _LONGFORMER)


def texts(*lengths: int, ends: int = 1, seed: int = 0) -> dict[str, Tensor]:
    """Texts of the given lengths, padded, with marks at their ends and at every other place before."""
    ids = torch.randint(3, WORDS, (len(lengths), LENGTH), generator=torch.Generator().manual_seed(seed))
    mask = torch.ones_like(ids)
    for i, length in enumerate(lengths):
        ids[i, length:], mask[i, length:] = PAD, 0
        ids[i, [length - 1 - 2 * k for k in range(ends)]] = END
    return {"input_ids": ids, "attention_mask": mask}


def check(explainer: relprop.Explainer, model: nn.Module, given: dict[str, Tensor]) -> None:
    """The model's own logits, to which relevance adds up; every text is explained as it is alone."""
    with torch.no_grad():
        logits = model(**given).logits
    torch.testing.assert_close(explainer.logits(given), logits)
    explanation = explainer(given, 1)
    total = sum(part.flatten(1).sum(1) for part in explanation.relevance.values()) + explanation.absorbed
    torch.testing.assert_close(total, logits[:, 1], rtol=1e-8, atol=1e-8)
    for i in range(len(logits)):
        alone = explainer({name: value[i : i + 1] for name, value in given.items()}, 1)
        torch.testing.assert_close(alone.relevance["input_ids"][0], explanation.relevance["input_ids"][i])


@pytest.mark.parametrize("method", ["lrp-epsilon", "rap", "attnlrp"])
@pytest.mark.parametrize("ends", [1, 3])
def test_texts_end_where_they_end(bart: nn.Module, method: str, ends: int):
    explainer = relprop.Explainer(bart, texts(10, 8, ends=ends), method)
    assert explainer.captured.dynamic
    for given in (texts(7, 10, 9, ends=ends, seed=1), texts(8, ends=ends, seed=2), texts(10, 8, 6, 7, 9, ends=ends, seed=3)):
        check(explainer, bart, given)


def test_other_numbers_of_ends(bart: nn.Module):
    """One explainer takes all texts; those that the model itself does not take together have a relevance each alone."""
    explainer = relprop.Explainer(bart, texts(10, 8), "lrp-epsilon")
    check(explainer, bart, texts(9, 8, 7, ends=2, seed=1))
    uneven = {name: torch.cat([texts(9)[name], texts(8, ends=2)[name]]) for name in texts(9)}
    with pytest.raises(ValueError, match="same number of <eos>"):
        bart(**uneven)
    explanation = explainer(uneven, 1)
    for i in range(2):
        alone = {name: value[i : i + 1] for name, value in uneven.items()}
        torch.testing.assert_close(explanation.logits[i : i + 1], bart(**alone).logits.detach())
    without = texts(9, 8)
    without["input_ids"][1, 7] = 5
    with pytest.raises(CaptureError, match="at least one <eos>"):
        explainer(without, 1)


def globally(*places: tuple[int, ...]) -> Tensor:
    """Masks of global attention at some places of every text."""
    mask = torch.zeros(len(places), LENGTH, dtype=torch.long)
    for row, chosen in zip(mask, places, strict=True):
        row[list(chosen)] = 1
    return mask


@pytest.mark.parametrize("method", ["lrp-epsilon", "rap", "attnlrp"])
def test_global_attention_is_that_of_every_text(longformer: nn.Module, method: str):
    example = texts(10, 8) | {"global_attention_mask": globally((0, 3), (0, 5))}
    explainer = relprop.Explainer(longformer, example, method)
    assert explainer.captured.dynamic
    check(explainer, longformer, texts(7, 10, 9, seed=1) | {"global_attention_mask": globally((1, 2), (0, 9), (0, 4))})
    check(explainer, longformer, texts(8, seed=2) | {"global_attention_mask": globally((1, 6))})


def test_other_numbers_of_global_tokens(longformer: nn.Module):
    explainer = relprop.Explainer(longformer, texts(10, 8), "lrp-epsilon")
    check(explainer, longformer, texts(7, 9, seed=1))
    explainer = relprop.Explainer(longformer, texts(10, 8) | {"global_attention_mask": globally((0,), (1,))}, "lrp-epsilon")
    for places in (((0, 1), (2, 3)), ((), ()), ((0, 1, 2), (4,))):
        check(explainer, longformer, texts(9, 8, seed=1) | {"global_attention_mask": globally(*places)})
