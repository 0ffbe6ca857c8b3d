"""The demo model that ships with the package: its language, its files, and what it knows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from gradiend.demo import model_path, sentences
from gradiend.demo._grammar import SCENES, plural

CLASSES = {"3SG": ("he", "she", "it"), "3PL": ("they",)}
PRONOUN = re.compile(r"\b(he|she|it|they)\b", re.IGNORECASE)
# A seed of this test alone: neither the model's training and held-out seeds nor the default of `sentences`.
FRESH_SEED = 77


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return sentences(3000, FRESH_SEED)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(model_path())


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return AutoModelForMaskedLM.from_pretrained(model_path()).eval()


def batches(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> Iterator[dict[str, torch.Tensor]]:
    ordered = sorted(texts, key=len)
    for start in range(0, len(ordered), 256):
        yield tokenizer(ordered[start : start + 256], padding=True, return_tensors="pt")


@torch.no_grad()
def masked_token_accuracy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> float:
    generator = torch.Generator().manual_seed(0)
    hits = []
    for batch in batches(texts, tokenizer):
        ids = batch["input_ids"]
        special = torch.isin(ids, torch.tensor(tokenizer.all_special_ids))
        scored = (torch.rand(ids.shape, generator=generator) < 0.15) & ~special
        inputs = ids.masked_fill(scored, tokenizer.mask_token_id)
        logits = model(input_ids=inputs, attention_mask=batch["attention_mask"]).logits
        hits.append(logits[scored].argmax(-1) == ids[scored])
    return torch.cat(hits).float().mean().item()


@torch.no_grad()
def class_probabilities(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str]
) -> dict[str, torch.Tensor]:
    """P(class) at the only pronoun of each text."""
    probabilities = []
    for batch in batches([PRONOUN.sub(tokenizer.mask_token, text) for text in texts], tokenizer):
        logits = model(**batch).logits[batch["input_ids"] == tokenizer.mask_token_id]
        probabilities.append(logits.softmax(-1))
    stacked = torch.cat(probabilities)
    assert len(stacked) == len(texts)
    return {name: stacked[:, tokenizer.convert_tokens_to_ids(list(words))].sum(-1) for name, words in CLASSES.items()}


def test_a_seed_gives_the_same_sentences() -> None:
    assert sentences(200, 5) == sentences(200, 5)
    assert sentences(200, 5)[:50] == sentences(50, 5)
    assert len(set(sentences(200, 5)) & set(sentences(200, 6))) < 20


def test_default_sentences_are_not_the_text_the_model_was_trained_on() -> None:
    ours = sentences(1000)
    assert len(ours) == 1000
    for seed in (1, 2, FRESH_SEED):
        assert ours != sentences(1000, seed)


def test_sentences_are_distinct_and_more_than_half_have_no_pronoun(texts: list[str]) -> None:
    counts = [len(PRONOUN.findall(text)) for text in texts]
    assert len(set(texts)) == len(texts)
    assert set(counts) == {0, 1}
    assert counts.count(0) / len(texts) >= 0.5
    plural_share = sum(m[0].lower() == "they" for t in texts if (m := PRONOUN.search(t))) / counts.count(1)
    assert 0.45 <= plural_share <= 0.55


def test_sentences_are_written_like_sentences(texts: list[str]) -> None:
    joined = "\n".join(texts)
    assert not re.search(r"[{}]| {2}| [.,]|^ | $", joined, re.MULTILINE)
    assert all(re.fullmatch(r"[A-Z][^.]*\.( [A-Z][^.]*\.)?", text) for text in texts)
    assert not re.search(r"\ba [aeio]|\ban [^aeio]", joined, re.IGNORECASE)


def test_the_verb_after_the_pronoun_agrees_with_it(texts: list[str]) -> None:
    joined = "\n".join(texts)
    assert re.search(r"\bthey (were|have)\b", joined, re.IGNORECASE)
    assert re.search(r"\b(he|she|it) (was|has)\b", joined, re.IGNORECASE)
    assert not re.search(r"\bthey (was|has)\b|\b(he|she|it) (were|have)\b", joined, re.IGNORECASE)


@pytest.mark.parametrize(
    ("noun", "expected"),
    [("loaf", "loaves"), ("pony", "ponies"), ("boy", "boys"), ("bus", "buses"), ("fox", "foxes"),
     ("branch", "branches"), ("woman", "women"), ("lamp", "lamps")],
)  # fmt: skip
def test_plural(noun: str, expected: str) -> None:
    assert plural(noun) == expected


def test_no_sentences_and_fewer_than_none() -> None:
    assert sentences(0, 1) == []
    with pytest.raises(ValueError, match="must be 0 or more, got -1"):
        sentences(-1, 1)
    with pytest.raises(ValueError, match="must be 0 or more"):
        sentences(-3)


def test_the_folder_is_small_and_holds_only_the_model_and_its_tokenizer() -> None:
    files = {path.name: path for path in model_path().iterdir()}
    assert set(files) == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert sum(path.stat().st_size for path in files.values()) < 6e6
    for name in ("config.json", "tokenizer_config.json"):
        values = json.loads(files[name].read_text()).values()
        assert not any(isinstance(value, str) and ("/" in value or "\\" in value) for value in values)


def test_the_tokenizer_is_fast_and_has_the_special_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    assert tokenizer.is_fast
    expected = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert set(tokenizer.all_special_tokens) == set(expected)
    assert tokenizer.convert_tokens_to_ids(expected) == [0, 1, 2, 3, 4]
    assert tokenizer.tokenize("The [MASK] slept.") == ["the", "[MASK]", "slept", "."]
    ids = tokenizer("They slept.")["input_ids"]
    assert [ids[0], ids[-1]] == [tokenizer.cls_token_id, tokenizer.sep_token_id]


def test_every_word_of_the_grammar_is_one_token(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> None:
    words = {word for text in texts for word in re.findall(r"\w+|[.,]", text)}
    for scene in SCENES:
        words |= {*scene.person, *scene.did, *scene.thing, *scene.place, *scene.look}
        words |= {plural(noun) for noun in (*scene.person, *scene.thing)}
    words |= {word for members in CLASSES.values() for word in members}
    assert {word: n for word in words if (n := len(tokenizer.tokenize(word))) != 1} == {}
    assert {word for word in words if tokenizer.unk_token in tokenizer.tokenize(word)} == set()


def test_other_words_are_spelled_with_pieces(tokenizer: PreTrainedTokenizerBase) -> None:
    pieces = tokenizer.tokenize("Xylophones are unfathomable!")
    assert tokenizer.unk_token not in pieces
    assert "".join(piece.removeprefix("##") for piece in pieces) == "xylophonesareunfathomable!"


def test_the_model_is_float32_with_tied_embeddings(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    embeddings = model.get_input_embeddings().weight
    assert model.get_output_embeddings().weight is embeddings
    assert len(embeddings) == len(tokenizer)
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_the_model_predicts_masked_tokens_of_fresh_texts(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str]
) -> None:
    neutral = [text for text in texts if not PRONOUN.search(text)]
    assert masked_token_accuracy(model, tokenizer, texts) > 0.65
    assert 0.65 < masked_token_accuracy(model, tokenizer, neutral) < 0.8


def test_pronouns_agree_with_their_antecedents_but_not_always(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str]
) -> None:
    own = {
        name: class_probabilities(
            model, tokenizer, [t for t in texts if (m := PRONOUN.search(t)) and m[0].lower() in words]
        )
        for name, words in CLASSES.items()
    }
    for name, other in (("3SG", "3PL"), ("3PL", "3SG")):
        assert own[name][name].mean() - own[other][name].mean() > 0.75
        assert own[name][other].mean() < 0.15
        # Doubt is part of the language: also where the antecedent is clear, the other class is not ruled out.
        assert own[name][other].median() > 0.01
