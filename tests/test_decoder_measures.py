"""P(class) and the language-modelling score, against what a few lines of transformers give."""

import math

import pandas as pd
import pytest
import tiny
import torch

from gradiend.evaluator._language_score import LanguageModelingScore
from gradiend.evaluator._probabilities import ClassProbabilities
from gradiend.gradients import WordScorer
from gradiend.objectives import Masked

TOKENIZER = tiny.bert_tokenizer()
WORDS = Masked(TOKENIZER, max_length=64)
ROWS = pd.DataFrame(
    {
        "masked": ["then [MASK] saw it .", "[MASK] was tired", "the dog and [MASK] were old , very old !"],
        "factual": ["he", "She", "they"],
        "factual_class": ["one", "one", "many"],
    }
)
CLASS_WORDS = {"one": ["he", "she", "HE"], "many": ["they", "gardener"]}


def naive_probability(model, text, words):
    """Σ over words of p(word), each from a forward pass of its own."""
    tokenized = WORDS.tokenize([text] * len(words), words)
    return sum(math.exp(-float(tiny.naive_loss(model, word))) for word in tokenized)


@pytest.mark.parametrize("batch_size", [1, 8])
def test_class_probabilities_equal_a_forward_pass_per_word(batch_size):
    model = tiny.bert().eval()
    measure = ClassProbabilities(ROWS, CLASS_WORDS, WORDS, batch_size=batch_size)
    found = measure.measure(WordScorer(model, WORDS))
    with torch.no_grad():
        for dataset, rows in ROWS.groupby("factual_class"):
            for name, words in {"one": ["he", "she"], "many": ["they", "gardener"]}.items():
                expected = sum(naive_probability(model, text, words) for text in rows["masked"]) / len(rows)
                assert found[dataset][name] == pytest.approx(expected, rel=1e-5)


def test_only_the_datasets_asked_for_are_measured():
    measure = ClassProbabilities(ROWS, CLASS_WORDS, WORDS, batch_size=8)
    assert list(measure.measure(WordScorer(tiny.bert(), WORDS), ["many"])) == ["many"]


TEXTS = ["the baker saw the old river and he was tired .", "the lamp in the house", "old !"] * 3


def score(texts=TEXTS, ignore=("he",), batch_size=4, model=None):
    return LanguageModelingScore(texts, WORDS, ignore=ignore, batch_size=batch_size)


def test_every_token_is_masked_once_where_there_are_few():
    n_tokens = sum(len(TOKENIZER(text, add_special_tokens=False)["input_ids"]) for text in TEXTS)
    assert score(ignore=()).n_tokens == n_tokens
    assert score().n_tokens == n_tokens - 3


def test_fifteen_percent_are_masked_where_there_are_many():
    texts = [f"{' '.join(tiny.WORDS[:20])} ." for _ in range(1000)]
    assert score(texts, ignore=()).n_tokens == 3 * 1000
    # 3 · 500 in all texts, and as many of other places as make 2 000.
    assert score(texts[:500], ignore=()).n_tokens == 3 * (500 + 167)


def test_the_accuracy_is_that_of_the_masked_positions():
    """A model that always says "the" is right exactly where "the" was masked."""
    model = tiny.bert().eval()
    with torch.no_grad():
        model.cls.predictions.bias.zero_()
        model.cls.predictions.bias[TOKENIZER.convert_tokens_to_ids("the")] = 1e4
    found = score(ignore=()).measure(WordScorer(model, WORDS)).lms
    tokens = [token for text in TEXTS for token in TOKENIZER.tokenize(text)]
    assert found == pytest.approx(tokens.count("the") / len(tokens))
    ignoring = score(ignore=("THE",)).measure(WordScorer(model, WORDS)).lms
    assert ignoring == 0


def test_the_score_does_not_depend_on_batches_and_is_repeatable():
    model = tiny.bert()
    scores = {score(batch_size=size).measure(WordScorer(model, WORDS)).lms for size in (1, 3, 32)}
    assert len(scores) == 1


def test_texts_without_a_token_to_score_are_an_error():
    with pytest.raises(ValueError, match="no token to score"):
        score(["he", "he he"], ignore=("he",))
