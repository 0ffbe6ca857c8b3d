"""Rows, words and texts that would be left out, or measure nothing, without anybody noticing."""

import pandas as pd
import pytest
import tiny
import tiny_data

from gradiend import TextFilterConfig, TextPredictionTrainer, resolve_base_data
from gradiend.data.text.prediction import filter_sentences

ROWS = tiny_data.rows()


def trainer(rows=ROWS, **kwargs):
    return TextPredictionTrainer("unused", data=rows, target_classes=["SG", "PL"], **kwargs)


@pytest.mark.parametrize("written", ["sg", "SG ", " SG", "ＳＧ"])
def test_a_class_that_is_written_in_two_ways_is_named(caplog, written):
    rows = ROWS.copy()
    rows.loc[rows.index[:3], "label_class"] = written
    assert len(trainer(rows).combined_data) == len(ROWS) - 3
    assert (
        f"3 rows of class {written!r} are left out: the name differs from the target class 'SG' only in" in caplog.text
    )


def test_classes_that_are_others_are_left_out_without_a_word(caplog):
    rows = ROWS.assign(label_class=["X" if place < 3 else name for place, name in enumerate(ROWS["label_class"])])
    assert len(trainer(rows).combined_data) == len(ROWS) - 3
    assert "left out" not in caplog.text


@pytest.mark.parametrize("column", ["label", "alternative"])
def test_the_placeholder_is_no_word(column):
    rows = ROWS.assign(alternative=["they" if name == "SG" else "he" for name in ROWS["label_class"]])
    rows.loc[rows.index[4], column] = "[MASK]"
    with pytest.raises(ValueError, match=rf"1 of 80 rows have \[MASK\] as their word in '{column}', first row 4: give"):
        trainer(rows).combined_data  # noqa: B018


def test_the_mask_token_of_the_tokenizer_is_no_word(tmp_path):
    family = tiny.FAMILIES["roberta"]
    family.build().save_pretrained(tmp_path)
    family.tokenizer().save_pretrained(tmp_path)
    rows = ROWS.assign(label=ROWS["label"].replace("they", "<mask>"))
    with pytest.raises(ValueError, match="'<mask>' is or contains the mask token"):
        tiny_data.trainer(str(tmp_path), data=rows).train()


def test_two_classes_with_the_same_words_for_the_evaluation_are_refused_before_the_training():
    same = tiny_data.trainer("unused", decoder_eval_targets={"SG": ["he", "it"], "PL": ["it", "he"]})
    with pytest.raises(ValueError, match="the same words for 'SG' and 'PL', so P of one would be P of the other"):
        same.train()


def test_neutral_data_without_a_text_is_said_when_it_is_read(caplog):
    assert trainer(eval_neutral_data=pd.DataFrame({"text": []}, dtype=str)).neutral_data.empty
    assert "The neutral data has no text" in caplog.text


def test_a_score_of_nothing_is_said(tmp_path, caplog):
    made = tiny_data.trainer(tiny_data.save_bert(tmp_path))
    made.train()
    texts = pd.DataFrame({"text": ["he saw the bread ."] * 5})
    assert made.evaluate_decoder(lrs=[0.01], neutral_df=texts)["SG"]["base_lms"] == 0
    assert "predicts no token of the neutral texts" in caplog.text


@pytest.mark.parametrize(
    ("data", "way_out"),
    [
        (ROWS.to_dict("records"), r"pandas\.DataFrame\(…\) makes one of a list of dicts"),
        (ROWS.to_dict("list"), r"pandas\.DataFrame\(…\) makes one of lists"),
    ],
)
def test_rows_in_lists_and_dicts_lead_to_a_frame(data, way_out):
    with pytest.raises(TypeError, match=way_out):
        trainer(data).combined_data  # noqa: B018


def test_neutral_texts_in_a_list_lead_to_a_frame():
    with pytest.raises(TypeError, match=r'DataFrame\({"text": texts}\) makes one of a list of texts'):
        trainer(eval_neutral_data=["The house is old."]).neutral_data  # noqa: B018


@pytest.mark.parametrize(
    ("targets", "text", "found"),
    [
        (["👩"], "das 👩 und 👩🏽 und 👩‍⚕️ kam", ["👩"]),
        (["⚕️"], "das 👩‍⚕️ und ⚕️ kam", ["⚕️"]),
        (["👩🏽", "👩"], "👩🏽 👩", ["👩🏽", "👩"]),
        (["❤"], "ein ❤️ da, ein ❤", ["❤️", "❤"]),
        (["❤️"], "ein ❤️ da, ein ❤", ["❤️", "❤"]),
        (["🙂"], "🙂🙂x🙂", ["🙂", "🙂", "🙂"]),
    ],
)
def test_an_emoji_is_found_whole_or_not_at_all(targets, text, found):
    """A part of an emoji leaves the rest of it beside the placeholder, which may tell the word."""
    matches = filter_sentences([text], TextFilterConfig(targets, id="A"))
    assert [span[2] for _, spans in matches for span in spans] == found


class Table:
    """A table of another package, as polars and pyarrow have them."""

    def to_pandas(self) -> pd.DataFrame:
        return ROWS


@pytest.mark.parametrize(
    "read",
    [
        lambda: trainer(Table()).combined_data,
        lambda: trainer({"SG": Table(), "PL": ROWS}).combined_data,
        lambda: trainer(eval_neutral_data=Table()).neutral_data,
        lambda: resolve_base_data(Table()),
    ],
    ids=["data", "by class", "neutral", "corpus"],
)
def test_a_table_of_another_package_leads_to_pandas(read):
    with pytest.raises(TypeError, match=r"got Table \(test_rows_that_say_nothing\): give what its to_pandas"):
        read()


def test_what_the_configuration_names_later_is_used():
    made = trainer()
    assert made.neutral_data is None
    for texts in (["the sky is blue ."], ["the sea is deep ."]):
        made.config.eval_neutral_data = pd.DataFrame({"text": texts})
        assert made.neutral_data["text"].tolist() == texts
        assert made.neutral_data is made.neutral_data
    made.config.random_state = 3
    assert made.data_parts("train")["data seed"] == 3


class OtherNames(TextPredictionTrainer):
    """A trainer that calls the classes of its data by other names."""

    @property
    def target_classes(self):
        return ["one", "many"]

    def _get_decoder_eval_targets(self):
        return {"one": ["he", "she"], "many": ["they"]}


def test_the_words_that_are_balanced_are_those_of_the_trainers_own_classes(tmp_path):
    made = OtherNames(tiny_data.save_bert(tmp_path), data=ROWS, target_classes=["SG", "PL"])
    model, neutral = made.get_model(), pd.DataFrame({"text": ["the bread was new ."]})
    measurement = made.prepare_base_model_evaluation(
        model.base_model, model.tokenizer, made.combined_data, neutral, eval_batch_size=8,
        balance_texts=["then [MASK] saw it ."],
    )  # fmt: skip
    assert measurement.base(None) is not None
