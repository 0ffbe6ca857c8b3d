"""A causal model's loss is the negative log-likelihood of the word after the whole context."""

import pytest
import tiny
import torch

from gradiend.gradients import WordScorer, collate
from gradiend.objectives import Causal, Masked, objective_of

CAUSAL = {name: family for name, family in tiny.FAMILIES.items() if family.causal}
every_family = pytest.mark.parametrize("family", list(CAUSAL.values()), ids=list(CAUSAL))
TEXTS = [
    "the baker saw the old river and then [MASK] sold the lamp.",
    "the cat and [MASK]",
    "when the dog saw it, [MASK] was in [MASK]",
    "and [MASK]",
]
WORDS = ["he", "walker", "gardener", "it"]
GPT2, QWEN = tiny.gpt2_tokenizer(), tiny.gpt2_tokenizer(bos=False)


def causal_words(tokenizer, max_length=64):
    return Causal(tokenizer, max_length=max_length)


def text_of(tokenizer, ids):
    return "".join(tokenizer.convert_ids_to_tokens(list(ids)))


@every_family
def test_the_loss_is_that_of_the_model_on_the_filled_text(family):
    model, tokenizer = family.build().eval(), family.tokenizer()
    objective = objective_of(model, tokenizer)
    words = objective.tokenize(TEXTS, WORDS)
    assert sorted({len(word.tokens) for word in words}) == [1, 2, 3]
    with torch.no_grad():
        found = -WordScorer(model, objective).log_probs(collate(words, 0))
        for text, word, tokens, loss in zip(TEXTS, WORDS, words, found, strict=True):
            ids = tokenizer(text.split("[MASK]")[0] + word, return_tensors="pt")["input_ids"]
            labels = torch.full_like(ids, -100)
            labels[0, -len(tokens.tokens) :] = ids[0, -len(tokens.tokens) :]
            mean = model(input_ids=ids, labels=labels).loss
            assert torch.isclose(mean * len(tokens.tokens), loss, rtol=1e-5)
            own = {name: tensor[None] for name, tensor in objective.inputs_of(tokens).items()}
            assert torch.equal(own["input_ids"], ids)
            assert torch.equal(own["labels"], labels)


@every_family
def test_what_follows_the_placeholder_changes_nothing(family):
    words = causal_words(family.tokenizer())
    assert words.tokenize(["the cat and [MASK] sold the lamp."], ["he"]) == words.tokenize(
        ["the cat and [MASK]"], ["he"]
    )


@every_family
def test_the_space_belongs_to_the_word_and_not_to_its_context(family):
    tokenizer = family.tokenizer()
    [word] = causal_words(tokenizer).tokenize(["the cat and [MASK] sold it"], ["he"])
    space = text_of(tokenizer, word.tokens)[0]
    assert text_of(tokenizer, word.tokens) == f"{space}he"
    assert space in "Ġ▁"
    assert text_of(tokenizer, word.input_ids).endswith(f"{space}and")
    assert word.positions == (len(word.input_ids) - 1,)


def test_a_word_at_the_start_is_predicted_from_the_bos_token():
    [word] = causal_words(GPT2).tokenize(["[MASK] was old"], ["it"])
    assert GPT2.convert_ids_to_tokens(list(word.input_ids)) == ["<|endoftext|>", "i"]
    assert GPT2.convert_ids_to_tokens(list(word.tokens)) == ["i", "t"]
    llama = tiny.llama_tokenizer()
    [word] = causal_words(llama).tokenize(["[MASK] was old"], ["it"])
    assert llama.convert_ids_to_tokens(list(word.input_ids)) == ["<s>"]
    assert llama.convert_ids_to_tokens(list(word.tokens)) == ["▁it"]


def test_without_bos_a_word_at_the_start_cannot_be_scored():
    texts = ["[MASK] was old", "the cat and [MASK]", " [MASK] was old", "[MASK] and [MASK]", ". [MASK] was old"]
    scorable = causal_words(QWEN).scorable(texts, ["it"] * len(texts))
    assert scorable == [False, True, False, False, True]
    for text, possible in zip(texts, scorable, strict=True):
        if possible:
            assert causal_words(QWEN).tokenize([text], ["it"])
        else:
            with pytest.raises(ValueError, match=r"no BOS token .* Objective\.scorable"):
                causal_words(QWEN).tokenize([text], ["it"])


@pytest.mark.parametrize("words", [causal_words(GPT2), Masked(tiny.bert_tokenizer(), max_length=9)])
def test_with_bos_or_with_masks_every_word_can_be_scored(words):
    assert words.scorable(["[MASK] was old", "the cat and [MASK]"], ["it", "it"]) == [True, True]


@pytest.mark.parametrize("value", ["he", "walker"])
@pytest.mark.parametrize("tokenizer", [GPT2, tiny.llama_tokenizer()], ids=["no prefix", "bos"])
def test_truncation_keeps_the_nearest_left_context(tokenizer, value):
    text = "the cat saw the dog and then [MASK] was old"
    [whole] = causal_words(tokenizer).tokenize([text], [value])
    [word] = causal_words(tokenizer, max_length=8).tokenize([text], [value])
    inputs = causal_words(tokenizer).inputs_of(word)
    assert len(inputs["input_ids"]) == 8
    assert word.tokens == whole.tokens
    prefix = 1 if tokenizer.convert_ids_to_tokens(whole.input_ids[0]) == "<s>" else 0
    assert word.input_ids[:prefix] == whole.input_ids[:prefix]
    assert word.input_ids[prefix:] == whole.input_ids[len(whole.input_ids) - len(word.input_ids) + prefix :]
    assert causal_words(tokenizer).words_of(inputs) == [word]


@pytest.mark.parametrize("before", [0, 3], ids=["no padding", "padding on the left"])
def test_labels_of_a_whole_text_count_from_its_second_token_on(before):
    family = tiny.FAMILIES["gpt2"]
    model, words = family.build().eval(), causal_words(GPT2)
    ids = torch.tensor([0] * before + GPT2("the cat saw the dog")["input_ids"])
    mask = (torch.arange(len(ids)) >= before).long()
    [word] = words.words_of({"input_ids": ids, "attention_mask": mask, "labels": ids})
    found = WordScorer(model, words).log_probs(collate([word], 0))
    text = ids[before:][None]
    assert torch.allclose(found, -(text.shape[1] - 1) * model(input_ids=text, labels=text).loss, atol=1e-5)
    for inputs in (
        "the cat",
        {"input_ids": ids, "labels": ids},
        {"input_ids": [1], "attention_mask": [1], "labels": [1]},
    ):
        with pytest.raises(TypeError, match="a dict with tensors input_ids, attention_mask, labels"):
            words.words_of(inputs)
    labels = torch.full_like(ids, -100).index_fill(0, torch.tensor([before]), 5)
    with pytest.raises(ValueError, match="no label"):
        words.words_of({"input_ids": ids, "attention_mask": mask, "labels": labels})


def test_a_word_longer_than_the_input_is_an_error():
    with pytest.raises(ValueError, match="The word has 3 tokens, more than a model input with room for 2 can hold"):
        causal_words(GPT2, max_length=3).tokenize(["the cat and [MASK]"], ["walker"])
    with pytest.raises(ValueError, match="The word has 3 tokens, more than a model input with room for 2 can hold"):
        Masked(tiny.bert_tokenizer(), max_length=4).tokenize(["the cat and [MASK]"], ["gardener"])
