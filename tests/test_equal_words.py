"""Words that a tokenizer makes equal: there is nothing to learn from them, and P counts them once."""

from __future__ import annotations

import logging

import pandas as pd
import pytest
import tiny
import tiny_data

from gradiend import TextPredictionTrainer
from gradiend.trainer.text.prediction._rows import encoder_data
from gradiend.trainer.text.prediction.decoder_eval_utils import evaluate_probability_shift_score
from gradiend.trainer.text.prediction.model_with_gradiend import TextPredictionModelWithGradiend

TEXT = "the old cat was near the house and then [MASK] saw the bread ."


def rows(**alternatives: str) -> pd.DataFrame:
    """Eight rows for each word, with an explicit alternative; words in capitals are of the first class."""
    found = []
    for number in range(8):
        for word, other in alternatives.items():
            classes = ("A", "B") if word[0].isupper() else ("B", "A")
            text = TEXT.replace("old", ("old", "new")[number % 2])
            found.append((text, word, other, *classes, "train" if number < 6 else "test"))
    return pd.DataFrame(found, columns=["masked", "label", "alternative", "label_class", "alternative_class", "split"])


def trainer(path: str, data: pd.DataFrame) -> TextPredictionTrainer:
    return TextPredictionTrainer(path, data=data, target_classes=["A", "B"])


def model() -> TextPredictionModelWithGradiend:
    return TextPredictionModelWithGradiend.from_pretrained(tiny.bert(), tokenizer=tiny.bert_tokenizer())


def test_rows_whose_words_have_the_same_tokens_are_left_out_and_counted(caplog) -> None:
    data = rows(He="he", he="He", She="they", they="She")
    with caplog.at_level(logging.WARNING):
        examples = trainer("unused", data).create_training_data(tiny.bert_tokenizer(), batch_size=2)
    assert set(examples.data["factual"]) == {"She", "they"}
    assert "12 of 24 rows for training are left out" in caplog.text
    assert "He/he" in caplog.text
    factual, alternative = examples.tokenized
    assert all(one != other for one, other in zip(factual, alternative, strict=True))
    made = trainer("unused", data)
    assert set(made.create_eval_data(model(), split="test").rows["factual"]) == {"She", "they"}


@pytest.mark.parametrize("data", [{"He": "he", "he": "He"}, {"He": "he", "they": "She"}])
def test_a_class_without_other_tokens_is_an_error(data: dict[str, str]) -> None:
    with pytest.raises(
        ValueError, match=r"tokenizer \w+.* makes the same tokens of 'He/he'.*no row of 'A'.*left for training"
    ):
        trainer("unused", rows(**data)).create_training_data(tiny.bert_tokenizer(), batch_size=2)
    with pytest.raises(ValueError, match=r"makes the same tokens of 'He/he'.*left for the encoder"):
        trainer("unused", rows(**data)).create_eval_data(model(), split="test")


def test_identity_rows_stay() -> None:
    frame = pd.DataFrame({"masked": [TEXT] * 2, "factual": ["he", "He"], "alternative": ["he", "He"], "label": 0.0})
    found = encoder_data(frame.assign(source_id="x", target_id="x", type="training", split="test"), model())
    assert len(found.rows) == 2


def test_sampled_words_are_checked_too() -> None:
    data = pd.DataFrame(
        [(TEXT, word, name, "train") for word, name in (("He", "A"), ("he", "B")) for _ in range(4)],
        columns=["masked", "label", "label_class", "split"],
    )
    with pytest.raises(ValueError, match="makes the same tokens of"):
        trainer("unused", data).create_training_data(tiny.bert_tokenizer(), batch_size=2)


# probabilities


def measure(targets: dict[str, list[str]], text: str = TEXT, factual: str = "he") -> dict[str, float]:
    frame = pd.DataFrame({"masked": [text], "label_class": ["x"], "factual": [factual]})
    return evaluate_probability_shift_score(tiny.bert(), tiny.bert_tokenizer(), targets, frame)["x"]


def test_a_probability_is_a_sum_over_distinct_tokens() -> None:
    one = measure({"A": ["he"], "B": ["they"]})
    assert measure({"A": ["he", "He", "HE", "he"], "B": ["they"]}) == pytest.approx(one)
    both = measure({"A": ["he", "She", "she"], "B": ["they"]})
    assert both["A"] == pytest.approx(one["A"] + measure({"A": ["she"], "B": ["they"]})["A"])


def test_classes_with_the_same_tokens_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"same tokens of the words of 'A' \(He, she\) and of 'B' \(he, She\)"):
        measure({"A": ["He", "she"], "B": ["he", "She"]})
    # one of several words may be shared
    assert measure({"A": ["he", "she"], "B": ["He", "they"]})["A"] > 0


def test_a_whole_training_says_which_words_are_equal(tmp_path) -> None:
    made = tiny_data.trainer(
        tiny_data.save_bert(tmp_path / "base"), data=tiny_data.rows({"SG": ("he",), "PL": ("HE",)})
    )
    with pytest.raises(ValueError, match=r"of '\S*base' makes the same tokens of 'he/HE', 'HE/he'"):
        made.train()
