"""Which tokens a word is, and what the model reads."""

import pytest
import tiny
from transformers import PreTrainedTokenizerFast

from gradiend.objectives import Causal, Masked

TOKENIZER = tiny.bert_tokenizer()


def words(max_length=64, kind=Masked):
    return kind(TOKENIZER, max_length=max_length)


def decoded(word):
    return TOKENIZER.convert_ids_to_tokens(list(word.input_ids))


def test_a_masked_word_is_scored_where_it_stood():
    word = words().tokenize(["the baker saw [MASK] ."], ["it"])[0]
    assert decoded(word) == ["[CLS]", "the", "baker", "saw", "[MASK]", ".", "[SEP]"]
    assert word.positions == (4,)
    assert TOKENIZER.convert_ids_to_tokens(list(word.tokens)) == ["it"]


def test_a_word_of_several_tokens_gets_as_many_masks():
    word = words().tokenize(["[MASK] saw the gardener"], ["gardener"])[0]
    assert decoded(word) == ["[CLS]", "[MASK]", "[MASK]", "[MASK]", "saw", "the", "gar", "##den", "##er", "[SEP]"]
    assert word.positions == (1, 2, 3)
    assert TOKENIZER.convert_ids_to_tokens(list(word.tokens)) == ["gar", "##den", "##er"]


def test_only_the_first_placeholder_is_scored_and_later_ones_are_one_mask_each():
    word = words().tokenize(["[MASK] saw the [MASK] and [MASK]"], ["gardener"])[0]
    assert decoded(word).count("[MASK]") == 3 + 2
    assert word.positions == (1, 2, 3)


def test_words_of_equal_length_share_their_input():
    he, they = words().tokenize(["then [MASK] sold it"] * 2, ["he", "they"])
    assert he.input_ids == they.input_ids
    assert he.tokens != they.tokens


def test_truncation_keeps_a_window_around_the_placeholder_and_the_special_tokens():
    text = "the cat " * 40 + "[MASK]" + " the dog" * 40
    word = words(max_length=12).tokenize([text], ["she"])[0]
    assert len(word.input_ids) == 12
    assert decoded(word)[0] == "[CLS]"
    assert decoded(word)[-1] == "[SEP]"
    assert decoded(word)[word.positions[0]] == "[MASK]"
    assert 4 <= word.positions[0] <= 7
    at_end = words(max_length=12).tokenize(["the cat " * 40 + "[MASK]"], ["she"])[0]
    assert at_end.positions == (10,)


def test_a_causal_word_is_predicted_from_the_token_before_it():
    word = words(kind=Causal).tokenize(["the baker saw [MASK] ."], ["gardener"])[0]
    assert decoded(word) == ["[CLS]", "the", "baker", "saw", "gar", "##den"]
    assert word.positions == (3, 4, 5)
    assert TOKENIZER.convert_ids_to_tokens(list(word.tokens)) == ["gar", "##den", "##er"]


@pytest.mark.parametrize("kind", [Masked, Causal])
@pytest.mark.parametrize("value", ["it", "gardener"])
def test_inputs_and_words_are_inverse(kind, value):
    word = words(kind=kind).tokenize(["the baker saw [MASK] ."], [value])[0]
    assert words(kind=kind).words_of(words(kind=kind).inputs_of(word)) == [word]


def test_a_text_without_placeholder_is_an_error():
    with pytest.raises(ValueError, match=r"No \[MASK\] in the text 'the cat'"):
        words().tokenize(["the cat"], ["it"])


def test_a_masked_model_needs_a_mask_token():
    causal = PreTrainedTokenizerFast(tokenizer_object=TOKENIZER.backend_tokenizer, unk_token="[UNK]")
    with pytest.raises(ValueError, match="causal model's tokenizer was probably passed"):
        Masked(causal, max_length=16)


def test_what_was_tokenized_is_remembered_until_tokens_are_added():
    tokenizer = tiny.bert_tokenizer()
    objective = Masked(tokenizer, max_length=64)
    asked = ["the baker saw [MASK] ."], ["rivercat"]
    [word] = objective.tokenize(*asked)
    assert word.tokens == (tokenizer.unk_token_id,)
    assert objective.tokenize(*asked)[0] is word
    tokenizer.add_tokens(["rivercat"])
    assert objective.tokenize(*asked)[0].tokens == (len(tokenizer) - 1,)
