"""What users get wrong when they create data: the error comes before the corpus is read, and says what was expected."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd
import pytest
import tiny

from gradiend import (
    TextFilterConfig,
    TextPredictionConfig,
    TextPredictionDataCreator,
    TextPredictionTrainer,
    TextPreprocessConfig,
    preprocess_texts,
    resolve_base_data,
)
from gradiend.data import hold_out_words
from gradiend.data.text import iter_sentences_from_texts
from gradiend.data.text.prediction import (
    filter_sentences,
    filter_sentences_multi,
    mask_sentence,
    match_sentence_one_config,
)
from gradiend.data.unified import ColumnNames, merged_to_unified, per_class_dict_to_unified
from gradiend.trainer.text.prediction._rows import checked_neutral, training_like_rows

HE, THEY = TextFilterConfig("he"), TextFilterConfig("they")
NOMINATIVE = TextFilterConfig("der", spacy_tags={"Case": "Nom"})
TEXTS = [f"{word} left {i}." for i in range(20) for word in ("He", "They")]

ROWS = pd.DataFrame({"masked": "[MASK] left.", "label": ["he", "they"], "label_class": ["a", "b"], "split": "train"})
LEVELS = ROWS.set_axis([["a"] * 4, ROWS.columns], axis=1)


def twice(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    return pd.concat([frame, frame[[column]]], axis=1)


def never(text: str) -> NoReturn:
    raise AssertionError(f"{text} was read")


def creator(texts: object = TEXTS, **kwargs: object) -> TextPredictionDataCreator:
    defaults = {"feature_targets": [HE, THEY], "preprocess": TextPreprocessConfig(custom_filter=never)}
    return TextPredictionDataCreator(texts, **{**defaults, **kwargs})


def training(**kwargs: object) -> object:
    return creator().generate_training_data(**kwargs)


def neutral(**kwargs: object) -> object:
    return creator().generate_neutral_data(**kwargs)


BAD: list[tuple[Callable[[], object], type[Exception], str]] = [
    # a trainer's data
    (lambda: TextPredictionConfig(all_classes="SG"), TypeError, "all_classes must be a list of class names; got 'SG'"),
    (lambda: TextPredictionConfig(random_state=-1), ValueError, "random_state must be a whole number of at least 0"),
    (lambda: TextPredictionConfig(random_state="3"), TypeError, "random_state must be a whole number"),
    (lambda: TextPredictionConfig(decoder_eval_ignore_tokens=[3]), TypeError, "entry 0 is 3 (int)"),
    (lambda: TextPredictionConfig(decoder_eval_ignore_tokens="the"), TypeError, "must be a list of strings; got 'the'"),
    # misspelt
    (lambda: creator(feature_target=[HE]), TypeError, "Did you mean 'feature_targets'?"),
    (lambda: training(max_size=3), TypeError, "Did you mean 'max_size_per_class'?"),
    (lambda: neutral(excluded_words=["x"]), TypeError, "Did you mean 'additional_excluded_words'?"),
    (lambda: TextFilterConfig("he", spacy_tag={"pos": "PRON"}), TypeError, "Did you mean 'spacy_tags'?"),
    (lambda: TextPreprocessConfig(split_sentences=True), TypeError, "Did you mean 'split_to_sentences'?"),
    (lambda: resolve_base_data(TEXTS, max_sizes=3), TypeError, "Did you mean 'max_size'?"),
    (lambda: preprocess_texts(TEXTS, configs=None), TypeError, "Did you mean 'config'?"),
    (lambda: filter_sentences(TEXTS, HE, max_match=3), TypeError, "Did you mean 'max_matches'?"),
    (lambda: training(format="minimall"), ValueError, "Did you mean 'minimal'?"),
    # not a number, a flag or a string
    (lambda: creator(base_max_size="10"), TypeError, "base_max_size must be a whole number of at least 1"),
    (lambda: creator(seed="42"), TypeError, "seed must be a whole number"),
    (lambda: creator(n_processes=1.5), TypeError, "n_processes must be a whole number"),
    (lambda: creator(use_cache="no"), TypeError, "use_cache must be True or False; got 'no'"),
    (lambda: creator(text_column=3), TypeError, "text_column must be a string"),
    (
        lambda: training(max_size_per_class=10.0),
        TypeError,
        "whole number of at least 1, or None for all rows; got 10.0",
    ),
    (lambda: training(min_rows_per_class_for_split=-1), ValueError, "at least 0; got -1"),
    (lambda: training(train_ratio="0.8"), TypeError, "train_ratio must be a number; got '0.8'"),
    (lambda: training(train_ratio=80, val_ratio=10, test_ratio=10), ValueError, "0.8, not 80"),
    (lambda: training(split_name=None), TypeError, "split_name must be a string"),
    (lambda: training(split_name="test"), ValueError, "another part"),
    (lambda: training(split_by_document="yes"), TypeError, "split_by_document must be True or False"),
    (lambda: neutral(max_size="5"), TypeError, "max_size must be a whole number"),
    (lambda: neutral(additional_excluded_words=[3]), TypeError, "additional_excluded_words must be a list of strings"),
    (lambda: neutral(excluded_spacy_tags=3), TypeError, "excluded_spacy_tags is a dict or a list of dicts"),
    (lambda: resolve_base_data(TEXTS, max_size=True), TypeError, "max_size must be a whole number"),
    (lambda: resolve_base_data(""), ValueError, "base_data must not be empty"),
    (lambda: filter_sentences(TEXTS, "he"), TypeError, "filter_config is a TextFilterConfig"),
    (lambda: filter_sentences("He left.", HE), TypeError, "sentences must be a list of strings"),
    (lambda: filter_sentences([3], HE), TypeError, "entry 0 is 3"),
    (lambda: filter_sentences_multi(TEXTS, [HE]), TypeError, "pairs (id, TextFilterConfig)"),
    (lambda: filter_sentences_multi(TEXTS, [("a", HE), ("a", THEY)]), ValueError, "configs_with_ids has several"),
    (lambda: filter_sentences_multi(TEXTS, [(1, HE), (2, THEY)]), TypeError, "got (1, TextFilterConfig("),
    (lambda: filter_sentences_multi(TEXTS, None), TypeError, "configs_with_ids is a list of pairs"),
    (lambda: match_sentence_one_config("He left.", "he"), TypeError, "filter_config is a TextFilterConfig"),
    (lambda: match_sentence_one_config(None, HE), TypeError, "sentence must be a string; got None"),
    (lambda: mask_sentence(None, [(0, 2)]), TypeError, "sentence must be a string; got None"),
    (lambda: mask_sentence("He left.", [(0,)]), TypeError, "(start, end) or (start, end, text); got (0,)"),
    (lambda: mask_sentence("He left.", [("He", 2)]), TypeError, "(start, end) or (start, end, text); got ('He', 2)"),
    (lambda: mask_sentence("He left.", [3]), TypeError, "(start, end) or (start, end, text); got 3"),
    (lambda: mask_sentence("He left.", [(0, 2)], None), TypeError, "mask must be a string; got None"),
    (lambda: mask_sentence("a", spans=[], match_spans=[]), TypeError, "which mean the same"),
    (lambda: preprocess_texts("He left."), TypeError, "texts must be a list of strings"),
    (lambda: preprocess_texts(ROWS), TypeError, "got a DataFrame. Give one of its columns: 'masked', 'label'"),
    (lambda: filter_sentences(ROWS, HE), TypeError, "sentences must be a list of strings; got a DataFrame"),
    (lambda: preprocess_texts(TEXTS, {"min_chars": 3}), TypeError, "config is a TextPreprocessConfig"),
    (lambda: checked_neutral(twice(pd.DataFrame({"text": ["a"]}), "text")), ValueError, "2 columns called 'text'"),
    (lambda: training_like_rows(twice(ROWS, "masked"), ColumnNames()), ValueError, "2 columns called 'masked'"),
    (lambda: hold_out_words(twice(ROWS.assign(alternative="it"), "alternative")), ValueError, "2 columns called"),
    (
        lambda: merged_to_unified(twice(ROWS.assign(document="d"), "document"), pair=("a", "b")),
        ValueError,
        "2 columns called 'document'",
    ),
    (lambda: checked_neutral(LEVELS), ValueError, "have 2 levels"),
    (
        lambda: training_like_rows(LEVELS.swaplevel(axis=1), ColumnNames()),
        ValueError,
        "table of training_like_df have 2 levels",
    ),
    (lambda: list(iter_sentences_from_texts("He left.")), TypeError, "texts must be a list of strings"),
    (lambda: hold_out_words(LEVELS), ValueError, "have 2 levels"),
    (lambda: hold_out_words(ROWS.drop(columns="split")), ValueError, "has no column 'split'"),
    (lambda: hold_out_words(ROWS, "he"), TypeError, "words must be a list of strings"),
    (lambda: hold_out_words(ROWS, share="0.2"), TypeError, "share must be a number"),
    (lambda: hold_out_words(ROWS, word="he"), TypeError, "Did you mean 'words'?"),
    (lambda: hold_out_words(ROWS, seed="0"), TypeError, "seed must be a whole number"),
    (lambda: hold_out_words([ROWS]), TypeError, "rows must be a DataFrame; got list"),
    (lambda: hold_out_words(ROWS.assign(label=["he", None])), ValueError, "1 of 2 rows have no word in 'label'"),
    (lambda: hold_out_words(ROWS.assign(label_class=[None, "b"])), ValueError, "1 of 2 rows have no class in"),
    # classes
    (lambda: TextFilterConfig(3), TypeError, "targets is a list of words"),
    (lambda: TextFilterConfig({"he", "she"}), TypeError, "(set)"),
    (lambda: TextFilterConfig(["he", " "]), ValueError, "A target must not be empty"),
    (
        lambda: TextFilterConfig("he", id=3),
        TypeError,
        "The id of a class (if left out, its first target) must be a string",
    ),
    (lambda: TextFilterConfig("he", mask=None), TypeError, "mask must be a string"),
    (lambda: TextFilterConfig("he", weight="2"), TypeError, "weight must be a number"),
    (lambda: TextFilterConfig("he", use_lemma="yes"), TypeError, "use_lemma must be True or False"),
    (lambda: TextFilterConfig("he", spacy_tags={"pos": ["DET"]}), TypeError, "nested TextFilterConfig"),
    (
        lambda: creator(feature_targets=[HE, TextFilterConfig("she", id="he", mask="_")]),
        ValueError,
        "Several configs are called 'he' but differ in mask or weight",
    ),
    (lambda: creator(feature_targets={"a": ["he"]}), TypeError, "a list of TextFilterConfig"),
    (lambda: creator(feature_targets=[NOMINATIVE, THEY], spacy_model=3), TypeError, "spacy_model must be a path"),
    # preprocessing
    (lambda: TextPreprocessConfig(min_chars="3"), TypeError, "min_chars must be a whole number"),
    (lambda: TextPreprocessConfig(split_to_sentences="rules"), ValueError, "True, False or 'spacy'"),
    (lambda: TextPreprocessConfig(custom_filter="he"), TypeError, "custom_filter is a function"),
    (lambda: TextPreprocessConfig(exclude_chars=["#", ""]), TypeError, "exclude_chars is a string of characters"),
    (lambda: creator(preprocess={"min_chars": 3}), TypeError, "preprocess is a TextPreprocessConfig"),
    # places
    (lambda: creator(output_dir=""), ValueError, "output_dir must not be empty"),
    (lambda: creator(output_dir=3), TypeError, "output_dir must be a path"),
    (lambda: creator(output_dir=__file__), NotADirectoryError, "is a file; name a folder"),
    (lambda: creator(training_basename="a", neutral_basename="a"), ValueError, "would overwrite the other"),
    (lambda: training(output=3), TypeError, "output must be a path"),
    (lambda: creator(pd.DataFrame({"text": TEXTS}), document_column="d"), ValueError, "document_column="),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=[message for _, _, message in BAD])
def test_bad_arguments_are_found_out_before_the_work(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_a_tokenizer_that_is_not_there(tmp_path: Path) -> None:
    made = creator(preprocess=None)
    made.generate_training_data()
    with pytest.raises(OSError, match=r"No tokenizer can be loaded from .*nowhere"):
        made.summary(tokenizer=tmp_path / "nowhere")
    with pytest.raises(TypeError, match="only a fast tokenizer"):
        made.summary(tokenizer=3)


# data that says something else than the user means

HALF = "he was \ud83d here"
TEXTS_OF_TWO = ["a [MASK].", "b [MASK]."]


def data_of(column: str, value: object) -> pd.DataFrame:
    rows = {"masked": TEXTS_OF_TWO, "label": ["he", "she"], "label_class": ["Male", "Female"]}
    return pd.DataFrame({**rows, column: pd.Series([rows[column][0], value], dtype=object)})


def unified(data: object = None, **fields: object) -> object:
    return TextPredictionTrainer(
        "unused", data=data_of("label", "she") if data is None else data, **fields
    ).combined_data


@pytest.mark.parametrize("value", [["she"], ("she",), {"she": 1}, {"she"}, b"she", np.array(["she"]), True, 1.5])
def test_a_word_is_a_string(value: object) -> None:
    with pytest.raises(ValueError, match=r"Row 1 has .* as its word in 'label'; expected a string"):
        unified(data_of("label", value))
    with pytest.raises(ValueError, match=r"Row 1 has .* as its word in 'alternative'; expected a string"):
        unified(data_of("label", "she").assign(alternative=pd.Series(["she", value], dtype=object)))


@pytest.mark.parametrize("value", [["Female"], b"Female"])
def test_a_class_is_no_container(value: object) -> None:
    with pytest.raises(ValueError, match=r"Row 1 has .* as its class"):
        unified(data_of("label_class", value))


@pytest.mark.parametrize("column", ["masked", "label", "label_class"])
def test_half_a_character_is_an_error_with_its_row(column: str) -> None:
    data = data_of(column, f"{HALF} [MASK]")
    with pytest.raises(ValueError, match=r"Row 1 has half a character \('\\ud83d'"):
        unified(data)


def test_half_a_character_in_texts_is_an_error_with_its_number(tmp_path) -> None:
    for texts in (["ok", HALF], pd.DataFrame({"text": pd.Series(["ok", HALF], dtype=object)})):
        with pytest.raises(ValueError, match="Text 1 has half a character"):
            creator(texts)
    lines = [json.dumps({"text": "ok", "document": i}) for i in range(20_000)]
    (tmp_path / "t.jsonl").write_text("\n".join([*lines, json.dumps({"text": HALF})]))
    with pytest.raises(ValueError, match="line 20001 has half a character"):
        resolve_base_data(tmp_path / "t.jsonl")
    with pytest.raises(ValueError, match="line 20001 has half a character"):
        unified(str(tmp_path / "t.jsonl"))
    neutral = pd.DataFrame({"text": pd.Series(["ok", HALF], dtype=object)})
    with pytest.raises(ValueError, match="Row 1 of the neutral data has half a character"):
        TextPredictionTrainer("unused", data=ROWS, eval_neutral_data=neutral).neutral_data  # noqa: B018
    with pytest.raises(ValueError, match="half a character"):
        TextFilterConfig(HALF)


MERGE = {"a": ["Male"], "b": ["Female"]}


@pytest.mark.parametrize(
    "call",
    [
        lambda: unified(target_classes={"Male", "Female"}),
        lambda: unified(target_classes=frozenset(["Male", "Female"])),
        lambda: unified(all_classes={"Male", "Female"}),
        lambda: unified(class_merge_map={"a": {"Male"}, "b": ["Female"]}),
        lambda: unified(decoder_eval_targets={"Male": {"he"}, "Female": ["she"]}),
        lambda: unified(decoder_eval_ignore_tokens={"he", "she"}),
        lambda: unified(hf_splits={"train", "test"}),
        lambda: per_class_dict_to_unified({"a": ROWS, "b": ROWS}, classes={"a", "b"}),
        lambda: merged_to_unified(ROWS, pair={"a", "b"}),
        lambda: unified(decoder_eval_targets={"Male": "he", "Female": ["she"]}),
        lambda: unified(decoder_eval_targets={"Male": [["he"]], "Female": ["she"]}),
    ],
)
def test_what_needs_an_order_is_no_set(call) -> None:
    with pytest.raises(TypeError, match=r"set, which has no order|list of strings"):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: unified(target_classes=["male", "female"]),
        lambda: unified(all_classes=["Male", "Female", "male"], target_classes=["Male", "Female"]),
        lambda: unified(class_merge_map={"a": ["male"], "b": ["Female"]}),
        lambda: unified(class_merge_map=MERGE, class_merge_transition_groups=[["Male", "Female", "male"]]),
        lambda: unified({"Male": ROWS, "Female": ROWS}, target_classes=["male", "Female"]),
        lambda: merged_to_unified(data_of("label", "she"), pair=("male", "Female")),
        lambda: per_class_dict_to_unified({"Male": ROWS, "Female": ROWS}, classes=["male"]),
        lambda: TextPredictionTrainer("unused", data=data_of("label", "she")).create_training_data(
            tiny.bert_tokenizer(), class_pair=("male", "Female")
        ),
    ],
)
def test_a_wrong_class_lists_the_classes_and_names_the_one_that_differs_in_case(call) -> None:
    with pytest.raises(ValueError, match=r"'male'.*'Male'.*Did you mean 'Male'\?"):
        call()


def test_the_defaults_of_merged_to_unified_are_the_usual_columns() -> None:
    assert merged_to_unified(ROWS, pair=("a", "b"))["alternative"].tolist() == ["they", "he"]


def test_classes_that_are_numbers_and_words_from_a_generator_are_read_as_they_are():
    config = TextPredictionConfig(
        target_classes=[0, 1], all_classes=[0, 1, 2], decoder_eval_targets={0: (word for word in ["he"]), 1: ["they"]}
    )
    assert (config.target_classes, config.all_classes) == (["0", "1"], ["0", "1", "2"])
    assert config.eval_targets(["0", "1"]) == {"0": ["he"], "1": ["they"]}
