"""Class words are left out of scores and neutral examples wherever the data creator would find them."""

import pytest
import tiny
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from gradiend.data.text._neutral_masking import ExcludedWords, mask_random_words
from gradiend.evaluator._language_score import tokenize_texts
from gradiend.objectives import Masked

CASES = {
    "edges of letters": ("he and she, then the She-wolf", ["he", "she"], ["he", "she", "She"]),
    "signs": ("it rose by 5 % and 3$", ["%", "$"], ["%", "$"]),
    "signs beside letters": ("well :) and well:(", [":)", ":("], [":)", ":("]),
    "letters and signs": ("C++ and C# and C", ["C++", "C#"], ["C++", "C#"]),
    "inside a word": ("I don't", ["n't"], ["n't"]),
    "emphasis": ("_he_ said __he__", ["he"], ["he", "he"]),
    "no spaces": ("我爱他。他们", ["他"], ["他", "他"]),
    "thai": ("ผมรักเขามาก", ["เขา"], ["เขา"]),
    "marks": ("he\u0301 and e\u0301he, he", ["he"], ["he"]),
    "accents in either form": ("e\u0301t\u00e9 \u00e9t\u00e9", ["\u00e9t\u00e9"], ["\u00e9t\u00e9"]),
    "phrases": ("No  one and no two", ["no one"], ["No  one"]),
    "nothing": ("he", ["", " "], []),
}


@pytest.mark.parametrize(("text", "words", "found"), CASES.values(), ids=CASES)
def test_places(text, words, found):
    assert [text[begin:end] for begin, end in ExcludedWords(words).places(text)] == found


def characters():
    """A tokenizer whose tokens are single characters."""
    letters = sorted({letter for text, _, _ in CASES.values() for letter in text})
    vocabulary = {token: i for i, token in enumerate(["[UNK]", "[MASK]", *letters])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", mask_token="[MASK]")


@pytest.mark.parametrize(("text", "words", "found"), CASES.values(), ids=CASES)
def test_the_score_leaves_them_out_and_nothing_else(text, words, found):
    tokenizer = Masked(characters(), max_length=64)
    [(_, free)] = tokenize_texts([text], tokenizer, words)
    inside = {i for begin, end in ExcludedWords(words).places(text) for i in range(begin, end)}
    assert free == [i for i in range(len(text)) if i not in inside]


@pytest.mark.parametrize(
    ("text", "excluded", "never"),
    [
        ("we saw that he don't know", ["n't", "know"], {"don't", "know", "don"}),
        ("we saw that C++ runs", ["C++", "runs"], {"C"}),
        ("we saw that 我爱他 there", ["他", "there"], {"我爱他"}),
        ("we saw that no one", ["no one"], {"no", "one"}),
        ("we saw that cafe\u0301", [], {"cafe", "caf"}),
    ],
)
def test_neutral_words_share_no_character_with_them(text, excluded, never):
    words = {word for seed in range(20) for word in mask_random_words([text], excluded, seed)[2]}
    assert not words & never


def test_other_words_are_still_masked():
    assert mask_random_words(["we saw that _she_ ran"], ["she"], 0)[2] == ["ran"]
    assert tiny.bert_tokenizer().mask_token == "[MASK]"
