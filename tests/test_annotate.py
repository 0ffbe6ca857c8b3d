"""What the base model knows of rows (`annotate_data`)."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
import tiny
import tiny_data
import torch

from gradiend import TextPredictionTrainer
from gradiend.evaluator._probabilities import WordProbabilities
from gradiend.objectives import Causal, Masked

WORDS = {"SG": ("he", "she"), "PL": ("they", "gardener")}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_data.save_bert(tmp_path_factory.mktemp("annotate") / "base")


def made(base, directory=None, **fields):
    args = {} if directory is None else {"experiment_dir": str(directory)}
    return tiny_data.trainer(base, args, data=tiny_data.rows(WORDS), **fields)


def naive(model, objective, text, word):
    with torch.no_grad():
        return math.exp(-float(tiny.naive_loss(model, objective.tokenize([text], [word])[0])))


def test_every_probability_is_that_of_a_forward_pass_of_its_own(base):
    found = made(base).annotate_data(split="test")
    model, objective = tiny.bert().eval(), Masked(tiny.bert_tokenizer(), max_length=64)
    assert len(found) == 16
    assert set(found["split"]) == {"test"}
    columns = [*(f"base_p_target_{word}" for own in WORDS.values() for word in own)]
    for row in found.iloc[::5].to_dict("records"):
        p = {word: naive(model, objective, row["masked"], word) for own in WORDS.values() for word in own}
        assert [row[name] for name in columns] == pytest.approx(list(p.values()), rel=1e-4)
        assert row["base_p_factual"] == pytest.approx(p[row["factual"]], rel=1e-4)
        assert row["base_p_alternative"] == pytest.approx(p[row["alternative"]], rel=1e-4)
        for name, words in WORDS.items():
            assert row[f"base_p_class_{name}"] == pytest.approx(sum(p[word] for word in words), rel=1e-4)


def test_the_number_of_texts_in_a_pass_changes_nothing(base):
    one, many = (made(base).annotate_data(split="test", eval_batch_size=size) for size in (1, 64))
    columns = [name for name in one if name.startswith("base_p_")]
    np.testing.assert_allclose(one[columns], many[columns], rtol=1e-4)


def test_words_with_the_same_tokens_count_once_in_a_class(base):
    targets = {"SG": ["he", "HE"], "PL": ["they"]}
    found = made(base, decoder_eval_targets=targets).annotate_data(split="test")
    np.testing.assert_allclose(found["base_p_class_SG"], found["base_p_target_he"], rtol=1e-6)
    np.testing.assert_allclose(found["base_p_target_HE"], found["base_p_target_he"], rtol=1e-6)


def test_the_base_model_is_looked_at_and_stays_as_it_is_trained_or_not(base, tmp_path):
    trainer = made(base, tmp_path)
    before = trainer.annotate_data(split="all")
    assert set(before["split"]) == {"train", "validation", "test"}
    pd.testing.assert_frame_equal(made(base).annotate_data(), before)
    trainer.train()
    pd.testing.assert_frame_equal(trainer.annotate_data(use_cache=False), before)


def test_the_summary_is_the_mean_over_the_rows_of_each_class(base, tmp_path):
    path = tmp_path / "summary.json"
    found = made(base).annotate_data(output_json=str(path), split=["validation", "test"])
    summary = found.attrs["summary"]
    written = json.loads(path.read_text(encoding="utf-8"))
    assert {key: written[key] for key in summary} == summary
    assert summary["n_rows"] == len(found) == 32
    for name, own in found.groupby("factual_class"):
        entry = summary["by_class"][name]
        assert entry["n_rows"] == len(own)
        assert entry["base_p_factual"] == pytest.approx(own["base_p_factual"].mean())
        assert entry["prefers_factual"] == (own["base_p_factual"] > own["base_p_alternative"]).mean()
        assert entry["base_p_class"] == pytest.approx({c: own[f"base_p_class_{c}"].mean() for c in WORDS})


def test_probabilities_are_read_again_unless_something_has_changed(base, tmp_path, monkeypatch):
    first = made(base, tmp_path).annotate_data(split="test")
    assert (tmp_path / "annotated_data_split_test.csv").is_file()
    with monkeypatch.context() as patched:
        patched.setattr(WordProbabilities, "rows", None)
        again = made(base, tmp_path).annotate_data(split="test", use_cache=True)
    pd.testing.assert_frame_equal(again, first)
    assert again.attrs["summary"] == first.attrs["summary"]
    words = {"SG": ["he"], "PL": ["they"]}
    other = made(base, tmp_path, decoder_eval_targets=words).annotate_data(split="test", use_cache=True)
    assert "base_p_target_she" not in other
    assert (other["base_p_class_SG"] != first["base_p_class_SG"]).all()


def test_rows_of_ones_own_keep_their_columns_and_order(base, tmp_path):
    rows = pd.DataFrame(
        {
            "masked": ["then [MASK] saw it .", "the cat and [MASK] were old .", "[MASK] was tired ."],
            "label": ["he", "they", "She"],
            "label_class": ["SG", "PL", "SG"],
            "note": [3, 1, 2],
        }
    )
    path = tmp_path / "rows.csv"
    found = made(base).annotate_data(rows, output_csv=str(path))
    assert list(found["note"]) == [3, 1, 2]
    assert "base_p_alternative" not in found
    assert list(pd.read_csv(path)["masked"]) == list(rows["masked"])
    with_words = made(base).annotate_data(rows.assign(alternative=["they", "he", "they"]))
    np.testing.assert_allclose(with_words["base_p_factual"], found["base_p_factual"], rtol=1e-6)
    np.testing.assert_allclose(with_words["base_p_alternative"], found["base_p_target_they"].where(
        found["label_class"] == "SG", found["base_p_target_he"]
    ), rtol=1e-6)  # fmt: skip
    capped = made(base).annotate_data(rows, max_size=1)
    assert sorted(capped["label_class"]) == ["PL", "SG"]


def test_where_nothing_can_be_predicted_there_is_no_number(tmp_path):
    # A causal model without a BOS token predicts nothing at the start of a text.
    model, tokenizer = tiny.FAMILIES["qwen2"].build().eval(), tiny.gpt2_tokenizer(bos=False)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    texts = ["[MASK] saw the dog.", "then [MASK] saw it.", "and then [MASK] was old.", "when [MASK] saw it."]
    words, classes = ["he", "she", "they", "they"], ["SG", "SG", "PL", "PL"]
    rows = pd.DataFrame({"masked": texts, "label": words, "label_class": classes})
    found = TextPredictionTrainer(str(tmp_path), data=rows, target_classes=["SG", "PL"]).annotate_data(rows)
    assert found.loc[0, [name for name in found if name.startswith("base_p_")]].isna().all()
    objective = Causal(tokenizer, max_length=64)
    expected = [naive(model, objective, *row) for row in rows.loc[1:, ["masked", "label"]].to_numpy()]
    np.testing.assert_allclose(found["base_p_factual"][1:], expected, rtol=1e-4)
    assert found.attrs["summary"]["by_class"]["SG"]["base_p_factual"] == pytest.approx(expected[0], rel=1e-4)


def test_names_of_columns_can_be_written_in_other_letters(base):
    targets = {"Größe": ["he"], "PL": ["they"]}
    rows = tiny_data.rows({"Größe": ("he",), "PL": ("they",)})
    trainer = TextPredictionTrainer(base, data=rows, target_classes=["Größe", "PL"], decoder_eval_targets=targets)
    found = trainer.annotate_data(split="test", unicode_string_map={"ö": "oe", "ß": "ss"})
    assert {"base_p_class_Groesse", "base_p_class_PL"} <= set(found.columns)
    assert set(found.attrs["summary"]["by_class"]) == {"Größe", "PL"}
    with pytest.raises(ValueError, match="base_p_class_PL"):
        trainer.annotate_data(split="test", unicode_string_map={"Größe": "PL"})


@pytest.mark.parametrize(
    ("asked", "error", "says"),
    [
        ({"splt": "test"}, TypeError, "split"),
        ({"split": "tset"}, ValueError, "tset"),
        ({"data": tiny_data.rows(), "split": "test"}, ValueError, "leave one of them out"),
        ({"data": pd.DataFrame({"text": ["a"]})}, ValueError, "data needs a column masked"),
        ({"max_size": 0}, ValueError, "max_size"),
        ({"eval_batch_size": "3"}, TypeError, "eval_batch_size"),
        ({"use_cache": True}, ValueError, "place"),
        ({"unicode_string_map": {"a": 3}}, TypeError, "unicode_string_map"),
    ],
)
def test_what_cannot_be_annotated_is_refused(base, asked, error, says):
    with pytest.raises(error, match=says):
        made(base).annotate_data(**asked)
