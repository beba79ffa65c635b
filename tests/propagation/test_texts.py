"""Text classifiers of transformers, with random weights: explained as they are, with and without padding, down to colored words."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import relprop
from relprop.viz import color_words
from relprop.zoo import import_torchvision
from tests.real_models import randomized

METHODS = ("rap", "lrp-epsilon", "attnlrp")
_WORDS, _LENGTH, _HIDDEN = 40, 7, 16
_ENCODER = {"vocab_size": _WORDS, "num_labels": 3, "max_position_embeddings": 20, "pad_token_id": 1}
_BERT = {**_ENCODER, "hidden_size": _HIDDEN, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
_DISTIL = {**_ENCODER, "dim": _HIDDEN, "n_layers": 2, "n_heads": 2, "hidden_dim": 24}
_GPT = {"vocab_size": _WORDS, "num_labels": 3, "n_positions": 20, "n_embd": _HIDDEN, "n_layer": 2, "n_head": 2, "pad_token_id": 1}
_BART = {
    **_ENCODER, "d_model": _HIDDEN, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2,
}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "BertForSequenceClassification": _BERT,
    "RobertaForSequenceClassification": _BERT,
    "DistilBertForSequenceClassification": _DISTIL,
    "GPT2ForSequenceClassification": _GPT,
    "BartForSequenceClassification": _BART,
    "LongformerForSequenceClassification": {**_BERT, "attention_window": 4},
}


@pytest.fixture(scope="module", params=CASES)
def model(request: pytest.FixtureRequest) -> nn.Module:
    import_torchvision()
    library = pytest.importorskip("transformers", reason="text classifiers need transformers")
    kind = getattr(library, request.param)
    torch.manual_seed(0)
    return randomized(kind(kind.config_class(**CASES[request.param]))).double().eval()


def texts(*, padded: bool) -> tuple[Tensor, Tensor]:
    """Token numbers and attention masks of two texts, each with a mark of its end; the second one is shorter where ``padded``."""
    ids = torch.randint(3, _WORDS, (2, _LENGTH), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    ids[:, -1] = 2
    if padded:
        ids[1, 4], ids[1, 5:], mask[1, 5:] = 2, 1, 0
    return ids, mask


def total(explanation: relprop.Explanation) -> Tensor:
    return sum(part.flatten(1).sum(1) for part in explanation.relevance.values()) + explanation.absorbed


@pytest.mark.parametrize("method", METHODS)
def test_relevance_of_tokens_adds_up_to_the_logit(model: nn.Module, method: str):
    ids, mask = texts(padded=False)
    explainer = relprop.Explainer(model, {"input_ids": ids, "attention_mask": mask}, method)
    for padded in (False, True, False):
        ids, mask = texts(padded=padded)
        given = {"input_ids": ids, "attention_mask": mask}
        explanation = explainer(given, 2)
        with torch.no_grad():
            logits = model(**given).logits
        torch.testing.assert_close(explanation.logits, logits)
        assert explanation.relevance["input_ids"].shape == (2, _LENGTH, _HIDDEN)
        assert not explanation.relevance["attention_mask"].any()
        torch.testing.assert_close(total(explanation), logits[:, 2], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("method", ["lrp-epsilon", "attnlrp"])  # RAP shifts relevance by its mean over all activated places
def test_padding_changes_nothing(model: nn.Module, method: str):
    """The map of the padded text is that of the text alone, also through queries and keys, and padding has no relevance."""
    ids, mask = texts(padded=True)
    padded = relprop.explain(model, {"input_ids": ids, "attention_mask": mask}, 2, method=method)
    alone = relprop.explain(model, {"input_ids": ids[1:, :5], "attention_mask": mask[1:, :5]}, 2, method=method)
    torch.testing.assert_close(padded.logits[1:], alone.logits)
    torch.testing.assert_close(padded.relevance["input_ids"][1:, :5], alone.relevance["input_ids"], rtol=1e-6, atol=1e-9)
    assert padded.relevance["input_ids"][1, 5:].abs().max() < 1e-12


def test_words_take_the_relevance_of_every_value_per_token(model: nn.Module):
    """Token numbers, and the types of tokens beside them, where the model has any; a mask has none."""
    ids, mask = texts(padded=True)
    given = {"input_ids": ids, "attention_mask": mask}
    if hasattr(model, "bert"):
        given["token_type_ids"] = (torch.arange(_LENGTH) > 3).long().expand(2, -1).contiguous()
    explanation = relprop.explain(model, given, 2, method="lrp-epsilon")
    torch.testing.assert_close(total(explanation), model(**given).logits[:, 2])
    words = color_words(explanation, [f"w{number}" for number in range(5)], ["bad", "fair", "good"], sample=1)
    expected = sum(part[1].flatten(1).sum(1) for part in explanation.relevance.values() if part.any())
    torch.testing.assert_close(torch.from_numpy(words.relevance), expected[:5].float())
    assert "w3" in words.html()
    assert "good" in words.title
    if "token_type_ids" in given:
        assert explanation.relevance["token_type_ids"].any()
