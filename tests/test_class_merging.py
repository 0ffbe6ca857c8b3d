"""Classes merged into target classes, identity rows of other classes, alternatives within a split."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForMaskedLM, AutoTokenizer

from gradiend import (
    TextFilterConfig,
    TextPredictionConfig,
    TextPredictionDataCreator,
    TextPredictionTrainer,
    TrainingArguments,
)
from gradiend.demo import model_path, sentences
from gradiend.trainer.text.prediction.unified_data import (
    all_subsets_to_mlm_df,
    apply_class_merge_to_merged_df,
    per_class_dict_to_unified,
)
from tests.tiny import bert_tokenizer

WORDS = {"1SG": ["I", "me"], "3SG": ["he", "it"], "1PL": ["we", "us"], "3PL": ["they"]}
MERGE = {"singular": ["1SG", "3SG"], "plural": ["1PL", "3PL"]}
PERSONS = [["1SG", "1PL"], ["3SG", "3PL"]]
CLASS_OF = {word: name for name, words in WORDS.items() for word in words}
TARGET_OF = {base: target for target, bases in MERGE.items() for base in bases}


def table(*words: str, split: str | list[str] = "train") -> pd.DataFrame:
    """A merged table in which the class follows from the word."""
    frame = pd.DataFrame({"masked": [f"Text {i}: then [MASK] went." for i in range(len(words))], "label": list(words)})
    return frame.assign(label_class=[CLASS_OF[word] for word in words], split=split)


def with_all_alternatives(frame: pd.DataFrame) -> pd.DataFrame:
    """One row for each text and each word of every other class."""
    rows = [
        {**row, "alternative": word, "alternative_class": name}
        for row in frame.to_dict("records")
        for word, name in CLASS_OF.items()
        if name != row["label_class"]
    ]
    return pd.DataFrame(rows)


def per_class(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {
        name: rows.rename(columns={"label": name}).drop(columns="label_class")
        for name, rows in frame.groupby("label_class", sort=False)
    }


def trainer(data, **fields) -> TextPredictionTrainer:
    # A model that does not exist: nothing here may load one.
    return TextPredictionTrainer("no/such-model", data=data, **fields)


EVERY_WORD = table(*CLASS_OF)
LONG = with_all_alternatives(EVERY_WORD)


def test_target_classes_are_the_merged_ones_in_their_order() -> None:
    merged = trainer(pd.DataFrame(), class_merge_map=MERGE)
    assert merged.target_classes == ["singular", "plural"]
    assert merged.pair == ("singular", "plural")
    assert merged.config.target_classes is None
    assert merged.all_classes == ["singular", "plural"]
    turned = trainer(LONG, class_merge_map=MERGE, target_classes=["plural", "singular"])
    assert turned.pair == ("plural", "singular")


@settings(max_examples=25, deadline=None)
@given(
    words=st.lists(st.sampled_from(list(CLASS_OF)), max_size=12),
    groups=st.sampled_from([None, PERSONS, [["1SG", "3PL"], ["3SG", "1PL"]], [["1SG", "1PL", "3PL"], ["3SG", "3PL"]]]),
    size=st.integers(1, 3),
    explicit=st.booleans(),
)
def test_merged_rows_compare_what_they_may(words, groups, size, explicit) -> None:
    frame = table(*words, *CLASS_OF)
    frame = with_all_alternatives(frame) if explicit else frame
    fields = {"class_merge_map": MERGE, "class_merge_transition_groups": groups}
    rows = trainer(frame, max_counterfactuals_per_sentence=size, **fields).combined_data
    assert set(rows["transition"]) == {"singular→plural", "plural→singular"}
    found = set()
    for row in rows.itertuples():
        factual, alternative = (CLASS_OF.get(word, "1SG") for word in (row.factual, row.alternative))
        assert (row.factual_class, row.alternative_class) == (TARGET_OF[factual], TARGET_OF[alternative])
        assert groups is None or any({factual, alternative} <= set(group) for group in groups)
        found.add((row.masked, row.factual, alternative, row.alternative))
    assert len(found) == len(rows)
    if explicit:
        compared = {
            (row["masked"], row["label"], row["alternative_class"])
            for row in frame.to_dict("records")
            if TARGET_OF[row["label_class"]] != TARGET_OF[row["alternative_class"]]
            and (groups is None or any({row["label_class"], row["alternative_class"]} <= set(g) for g in groups))
        }
        assert {(masked, factual, name) for masked, factual, name, _ in found} == compared
    else:
        assert set(rows["masked"]) == set(frame["masked"])


def test_all_roads_give_the_same_merged_rows() -> None:
    by_table = trainer(EVERY_WORD, class_merge_map=MERGE).combined_data
    by_dict = trainer(per_class(EVERY_WORD), class_merge_map=MERGE).combined_data
    pd.testing.assert_frame_equal(by_table, by_dict)
    renamed = apply_class_merge_to_merged_df(EVERY_WORD, MERGE)
    assert renamed["label_class"].tolist() == [TARGET_OF[name] for name in EVERY_WORD["label_class"]]
    before = trainer(renamed, target_classes=list(MERGE)).combined_data
    columns = ["masked", "factual", "factual_class", "alternative_class", "transition"]
    pd.testing.assert_frame_equal(before[columns], by_table[columns])


def test_a_merged_table_without_classes_of_alternatives() -> None:
    renamed = apply_class_merge_to_merged_df(LONG, MERGE, PERSONS)
    assert set(zip(renamed["label"], renamed["alternative"], strict=True)) == {
        *(("I", word) for word in ("we", "us")), *(("me", word) for word in ("we", "us")), ("he", "they"),
        ("it", "they"), *(("we", word) for word in ("I", "me")), *(("us", word) for word in ("I", "me")),
        ("they", "he"), ("they", "it"),
    }  # fmt: skip
    kept = apply_class_merge_to_merged_df(EVERY_WORD, {"first": ["1SG", "1PL"]}, unmerged=["3PL"])
    assert kept["label_class"].tolist() == ["first"] * 2 + ["first"] * 2 + ["3PL"]


def test_columns_named_like_base_classes_are_compared_with() -> None:
    text = {"masked": ["So [MASK] went.", "Now [MASK] left."]}
    data = {
        "1SG": pd.DataFrame({**text, "1SG": ["me", "me"], "1PL": ["us", None], "3PL": ["them", "they"]}),
        "3SG": pd.DataFrame({"masked": ["Then [MASK] left."], "3SG": ["it"]}),
        "1PL": pd.DataFrame({"masked": ["When [MASK] left."], "1PL": ["us"], "1SG": ["me"]}),
        "3PL": pd.DataFrame({"masked": ["If [MASK] left."], "3PL": ["they"], "3SG": ["it"]}),
    }
    rows = trainer(data, class_merge_map=MERGE).combined_data
    pairs = set(zip(rows["masked"].str.split().str[0], rows["factual"], rows["alternative"], strict=True))
    sampled = {pair for pair in pairs if pair[0] == "Then"}
    assert pairs - sampled == {
        ("So", "me", "us"), ("So", "me", "them"), ("Now", "me", "they"), ("When", "us", "me"), ("If", "they", "it")
    }  # fmt: skip
    assert len(sampled) == 1
    persons = trainer(data, class_merge_map=MERGE, class_merge_transition_groups=PERSONS).combined_data
    assert ("So", "me", "them") not in set(
        zip(persons["masked"].str.split().str[0], persons["factual"], persons["alternative"], strict=True)
    )


def test_unmerged_classes_are_dropped_unless_named() -> None:
    one = trainer(EVERY_WORD, class_merge_map={"singular": ["1SG", "3SG"]}, target_classes=["singular", "3PL"])
    assert set(one.combined_data["factual_class"]) == {"singular", "3PL"}
    assert set(one.combined_data["factual"]) == {"I", "me", "he", "it", "they"}
    assert one.all_classes == ["singular", "3PL"]
    assert one.other_data.empty


def test_rows_that_say_nothing_once_merged_are_dropped() -> None:
    words = {"masc_nom": "der", "fem_nom": "die", "masc_acc": "den", "fem_acc": "die", "plural_acc": "die"}
    rows = [
        {
            "masked": f"{a} [MASK] .",
            "label": words[a],
            "label_class": a,
            "alternative": words[b],
            "alternative_class": b,
        }
        for a in words
        for b in words
        if a != b
    ]
    merge = {"nom": ["masc_nom", "fem_nom"], "acc": ["masc_acc", "fem_acc", "plural_acc"]}
    unified = trainer(pd.DataFrame(rows), class_merge_map=merge).combined_data
    assert not unified.duplicated().any()
    assert set(zip(unified["factual"], unified["alternative"], strict=True)) == {
        ("der", "den"), ("der", "die"), ("die", "den"), ("den", "der"), ("den", "die"), ("die", "der")
    }  # fmt: skip
    genders = [["masc_nom", "masc_acc"], ["fem_nom", "fem_acc"]]
    unified = trainer(pd.DataFrame(rows), class_merge_map=merge, class_merge_transition_groups=genders).combined_data
    assert set(zip(unified["factual"], unified["alternative"], strict=True)) == {("der", "den"), ("den", "der")}


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(list(CLASS_OF)), st.sampled_from(["train", "val", "test"])), max_size=20))
def test_alternatives_are_words_of_the_same_split(rows) -> None:
    words = [word for word, _ in rows] + list(CLASS_OF) + ["me", "us"]
    splits = [split for _, split in rows] + ["train"] * len(CLASS_OF) + ["test", "test"]
    frame = table(*words, split=splits)
    unified = trainer(frame, target_classes=["1SG", "1PL"], max_counterfactuals_per_sentence=2).combined_data
    own = {(row.split, row.factual_class, row.factual.lower()) for row in unified.itertuples()}
    for row in unified.itertuples():
        has_words = any(split == row.split and name == row.alternative_class for split, name, _ in own)
        assert not has_words or (row.split, row.alternative_class, row.alternative.lower()) in own
    assert len(unified[["masked"]].drop_duplicates()) == frame["label_class"].isin(["1SG", "1PL"]).sum()


def test_a_split_does_not_change_the_draws_of_another() -> None:
    alone = table(*["I", "me", "we", "us"] * 5)
    more = pd.concat([table(*["we", "I"] * 4, split="test"), alone])
    fields = {"target_classes": ["1SG", "1PL"], "random_state": 3}
    both = trainer(more, **fields).combined_data
    expected = trainer(alone, **fields).combined_data
    pd.testing.assert_frame_equal(both[both["split"] == "train"].reset_index(drop=True), expected)


class TestIdentity:
    """Classes outside the pair."""

    frame = table(*["I", "we", "he", "they", "it"] * 6)

    def rows(self, **fields) -> pd.DataFrame:
        with_others = trainer(self.frame, target_classes=["1SG", "1PL"], **fields)
        data = with_others.create_training_data(bert_tokenizer_with_words(), batch_size=2, include_other_classes=True)
        return data.data

    def test_labels_and_ids(self) -> None:
        rows = self.rows()
        facts = rows[["factual_id", "alternative_id", "label", "feature_class_id"]].drop_duplicates()
        assert facts.values.tolist() == [
            ["1SG", "1PL", 1.0, 0], ["1PL", "1SG", -1.0, 1], ["3SG", "3SG", 0.0, 3], ["3PL", "3PL", 0.0, 2]
        ]  # fmt: skip
        identity = rows[rows["label"] == 0]
        assert (identity["factual"] == identity["alternative"]).all()
        assert len(rows) == len(self.frame)

    def test_every_class_takes_its_turns(self) -> None:
        uneven = pd.concat([self.frame, table(*["he"] * 20).assign(masked=lambda t: "More: " + t["masked"])])
        data = trainer(uneven, target_classes=["1SG", "1PL"]).create_training_data(
            bert_tokenizer_with_words(), batch_size=2, include_other_classes=True
        )
        assert [len(group) for group in data.batches] == [3, 3, 3, 16]
        assert data.n_turns == 4 * 16

    def test_only_the_classes_asked_for(self) -> None:
        assert set(self.rows(all_classes=["1SG", "1PL", "3PL"])["factual_id"]) == {"1SG", "1PL", "3PL"}
        merged = trainer(
            self.frame, class_merge_map={"a": ["1SG"], "b": ["1PL"], "c": ["3SG", "3PL"]}, target_classes=["a", "b"]
        )
        assert merged.all_classes == ["a", "b", "c"]
        assert merged.other_data["transition"].unique().tolist() == ["c→c"]

    def test_without_being_asked_for_there_are_none(self) -> None:
        data = trainer(self.frame, target_classes=["1SG", "1PL"])
        rows = data.create_training_data(bert_tokenizer_with_words(), batch_size=2).data
        assert set(rows["factual_id"]) == {"1SG", "1PL"}
        assert set(data.combined_data["factual_class"]) == {"1SG", "1PL"}

    def test_another_pair_of_the_data(self) -> None:
        data = trainer(self.frame, target_classes=["1SG", "1PL"])
        rows = data.create_training_data(bert_tokenizer_with_words(), class_pair=("3PL", "3SG"), batch_size=2).data
        assert rows.groupby("factual_id")["label"].unique().map(list).to_dict() == {"3PL": [1.0], "3SG": [-1.0]}

    def test_per_class_tables(self) -> None:
        unified = per_class_dict_to_unified(
            per_class(self.frame), "all", "masked", "split", True, ("1SG", "1PL"), True, 2, 7
        )
        others = unified[unified["factual_class"] == unified["alternative_class"]]
        assert set(others["transition"]) == {"3SG→3SG", "3PL→3PL"}
        assert (others["factual"] == others["alternative"]).all()
        assert len(others) == 18

    def test_too_few_rows_are_found_out_before_the_model_is_loaded(self) -> None:
        few = pd.concat([table(*["I", "we"] * 10), table("he", "they", "it").assign(masked="Or [MASK].")])
        args = TrainingArguments(train_batch_size=8, add_identity_for_other_classes=True)
        with pytest.raises(ValueError, match=r"2 rows of class '3SG'.*leave the class out \(all_classes"):
            trainer(few, target_classes=["1SG", "1PL"], args=args).train()


def bert_tokenizer_with_words():
    """The tiny tokenizer with all words of this file."""
    tokenizer = bert_tokenizer()
    tokenizer.add_tokens(
        [word.lower() for word in CLASS_OF] + ["text", "went", ":", "more"] + [str(i) for i in range(40)]
    )
    return tokenizer


def test_rows_for_an_auxiliary_head() -> None:
    frame = pd.concat([EVERY_WORD, EVERY_WORD])
    rows = all_subsets_to_mlm_df(per_class(frame))
    assert list(rows.columns) == ["masked", "label"]
    assert set(rows.itertuples(index=False, name=None)) == set(
        EVERY_WORD[["masked", "label"]].itertuples(index=False, name=None)
    )
    assert len(rows) == len(EVERY_WORD)


BAD_CONFIGS = {
    "a class in two groups": (
        {"class_merge_map": {"a": ["1SG", "3SG"], "b": ["3SG"]}}, ValueError, "'3SG' twice, in 'a' and in 'b'"
    ),
    "an empty group": ({"class_merge_map": {"a": [], "b": ["3SG"]}}, ValueError, r"class_merge_map\['a'\] is empty"),
    "no groups": ({"class_merge_map": {}}, ValueError, "class_merge_map is empty"),
    "a string as group": ({"class_merge_map": {"a": "1SG", "b": ["3SG"]}}, TypeError, "list of class names; got '1SG'"),
    "a list as map": ({"class_merge_map": ["1SG", "3SG"]}, TypeError, "must map each merged class"),
    "a merged class as target": (
        {"class_merge_map": MERGE, "target_classes": ["1SG", "plural"]}, ValueError, "'1SG' is merged into 'singular'"
    ),
    "groups without a map": ({"class_merge_transition_groups": PERSONS}, ValueError, "needs class_merge_map"),
    "groups that compare nothing": (
        {"class_merge_map": MERGE, "class_merge_transition_groups": [["1SG", "3SG"]]}, ValueError, "No transition group"
    ),
    "one group instead of several": (
        {"class_merge_map": MERGE, "class_merge_transition_groups": ["1SG", "1PL"]}, TypeError, "list of class names"
    ),
    "a target outside all classes": (
        {"target_classes": ["1SG", "1PL"], "all_classes": ["1SG", "3SG"]}, ValueError, "'1PL' is not in all_classes"
    ),
    "three targets": ({"target_classes": ["1SG", "1PL", "3SG"]}, ValueError, "two different"),
    "no alternatives": ({"max_counterfactuals_per_sentence": 0}, ValueError, "at least 1, got 0"),
    "a second spelling of nothing": ({"class_merge": MERGE}, TypeError, "Did you mean 'class_merge_map'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_bad_configurations(case) -> None:
    fields, error, message = BAD_CONFIGS[case]
    for make in (TextPredictionConfig, lambda **given: trainer(EVERY_WORD, **given)):
        with pytest.raises(error, match=message):
            make(**fields)


BAD_DATA = {
    "three merged classes": ({"class_merge_map": {**MERGE, "x": ["2SG"]}}, "classes singular, plural, x: name the two"),
    "one merged class": ({"class_merge_map": {"a": ["1SG"]}}, "only the class a"),
    "a base class that is not there": (
        {"class_merge_map": {"a": ["1SG"], "b": ["1LP"]}}, "puts '1LP' into 'b'.*'1SG', '3SG', '1PL', '3PL'.*'1PL'"
    ),
    "a target class that is not there": (
        {"class_merge_map": {"a": ["1SG"]}, "target_classes": ["a", "2PL"]}, "No rows of target class '2PL'"
    ),
    "a document column that is not there": (
        {"document_col": "book", "target_classes": ["1SG", "1PL"]}, "no column 'book'.*'masked', 'label'"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data_is_found_out_before_the_model_is_loaded(case) -> None:
    fields, message = BAD_DATA[case]
    with pytest.raises(ValueError, match=message):
        trainer(EVERY_WORD, **fields).train()


def test_an_empty_frame_is_accepted_at_construction() -> None:
    assert trainer(pd.DataFrame(), target_classes=["1SG", "1PL"]).pair == ("1SG", "1PL")
    assert TextPredictionConfig(data=pd.DataFrame()).target_classes is None


def test_a_config_wins_over_fields_beside_it_and_says_so(caplog) -> None:
    config = TextPredictionConfig(data=EVERY_WORD, target_classes=["1SG", "1PL"])
    both = TextPredictionTrainer("no/such-model", data=LONG, config=config, masked_col="m")
    assert both.config is config
    assert "masked_col, data" in caplog.text


ROLES = {"man": ["he"], "woman": ["she"], "people": ["they"], "thing": ["it"]}


@pytest.fixture(scope="module")
def roles() -> dict[str, pd.DataFrame]:
    """Four classes of the demo's sentences."""
    targets = [TextFilterConfig(words, id=name) for name, words in ROLES.items()]
    return TextPredictionDataCreator(sentences(1200), feature_targets=targets).generate_training_data(
        max_size_per_class=50
    )


def test_training_and_evaluation_with_other_classes(roles, tmp_path) -> None:
    args = TrainingArguments(
        train_batch_size=4, max_steps=12, eval_steps=6, max_seeds=1, learning_rate=1e-3, params=["*layer.0*"],
        add_identity_for_other_classes=True, experiment_dir=str(tmp_path),
    )  # fmt: skip
    trained = TextPredictionTrainer(str(model_path()), data=roles, target_classes=["man", "people"], args=args).train()
    assert trained.get_model().feature_class_encoding_direction == {"man": 1, "people": -1, "woman": 0, "thing": 0}
    result = trained.evaluate_encoder(return_df=True)
    rows = result["encoder_df"].query("type == 'training'")
    labels = rows.groupby("source_id")["label"].unique().map(list).to_dict()
    assert labels == {"man": [1.0], "people": [-1.0], "woman": [0.0], "thing": [0.0]}
    assert set(result["mean_by_feature_class"]) == set(ROLES)
    identity = rows[rows["label"] == 0]
    assert (identity["factual"] == identity["alternative"]).all()
    balanced = rows["label"].value_counts()
    assert balanced[1.0] == balanced[-1.0] == 5


def test_the_decoder_evaluation_looks_at_other_classes_when_asked(roles) -> None:
    fields = {"target_classes": ["man", "people"]}
    model = AutoModelForMaskedLM.from_pretrained(model_path())
    tokenizer = AutoTokenizer.from_pretrained(model_path())
    narrow, wide = (
        trainer(roles, decoder_eval_restrict_to_target_classes=restrict, **fields).evaluate_base_model(model, tokenizer)
        for restrict in (True, False)
    )
    assert set(narrow["probs_by_dataset"]) == {"man", "people"}
    assert set(wide["probs_by_dataset"]) == set(ROLES)
    for name in ("man", "people"):
        shared = {other: wide["probs_by_dataset"][name][other] for other in ("man", "people")}
        assert shared == pytest.approx(narrow["probs_by_dataset"][name], abs=1e-5)
    assert max(wide["probs_by_dataset"]["thing"], key=wide["probs_by_dataset"]["thing"].get) == "thing"


def test_neutral_texts_are_capped_or_taken_from_the_test_rows(roles) -> None:
    fields = {"target_classes": ["man", "people"]}
    rows, neutral = trainer(roles, **fields)._get_decoder_eval_dataframe(None)
    assert neutral["text"].tolist() == [
        text.replace("[MASK]", word) for text, word in zip(rows["masked"], rows["factual"], strict=True)
    ]
    capped = trainer(roles, decoder_eval_lms_max_samples=3, **fields)
    assert len(capped._get_decoder_eval_dataframe(None)[1]) == 3
    assert len(capped._get_decoder_eval_dataframe(None, max_size_neutral=2)[1]) == 2


def test_strengthening_may_be_measured_on_the_own_texts() -> None:
    assert trainer(EVERY_WORD).strengthens_on_other_classes
    assert not trainer(EVERY_WORD, decoder_eval_prob_on_other_class=False).strengthens_on_other_classes
