"""Any input format → one unified frame."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradiend import TextPredictionConfig, TextPredictionTrainer
from gradiend.data.unified import (
    UNIFIED_COLUMNS,
    ColumnNames,
    apply_class_merge_to_merged_df,
    apply_factual_casing,
    classes_in,
    merge_per_class_dfs,
    merged_to_unified,
    per_class_dict_to_unified,
    require_split,
    resolve_dataframe,
    starts_sentence,
    to_unified,
    transition_id,
)
from gradiend.data.unified._casing import write_in_place
from gradiend.data.unified._schema import usual_placeholder
from gradiend.util._keywords import normalize_split_name

PAIR = ("he", "she")


def merged(*rows: tuple[str, str], split: str | None = "train", **columns: list) -> pd.DataFrame:
    """A merged table of (word, class) rows."""
    frame = pd.DataFrame(
        {
            "masked": [f"Text {i}: [MASK] went home." for i in range(len(rows))],
            "label": [word for word, _ in rows],
            "label_class": [name for _, name in rows],
        }
    )
    if split is not None:
        frame["split"] = split
    return frame.assign(**columns)


def per_class(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {
        name: rows.rename(columns={"label": name}).drop(columns="label_class")
        for name, rows in table.groupby("label_class", sort=False)
    }


def keys(unified: pd.DataFrame) -> set[tuple]:
    return set(unified[["masked", "factual", "factual_class", "split"]].itertuples(index=False, name=None))


WORDS = {"he": ["he", "He", "HE", "him", "I"], "she": ["she", "She", "SHE", "her"], "they": ["they", "Them"]}
tables = st.lists(
    st.sampled_from([(word, name) for name, words in WORDS.items() for word in words]),
    min_size=1,
    max_size=30,
).map(lambda rows: merged(*rows, ("he", "he"), ("she", "she")))


# casing


@pytest.mark.parametrize(
    ("factual", "alternative", "start", "expected"),
    [
        ("he", "She", False, "she"),
        ("He", "she", False, "She"),
        ("HE", "she", False, "SHE"),
        ("He", "SHE", False, "She"),
        ("Don't", "will", False, "Will"),
        ("McDonald", "she", False, "she"),
        ("iPhone", "She", True, "She"),
        ("5", "She", True, "She"),
        ("", "She", False, "She"),
        ("He", "", False, ""),
        ("I", "we", False, "we"),
        ("I", "we", True, "We"),
        ("I", "WE", False, "WE"),
        ("I'm", "we're", False, "we're"),
        ("I'm", "we're", True, "We're"),
        ("I'M", "we're", False, "WE'RE"),
        ("A'aS", "WE", True, "WE"),
        ("É", "nous", True, "Nous"),
        ("Der", "die", False, "Die"),
        ("New York", "hong kong", False, "Hong Kong"),
        ("The man", "a woman", False, "A woman"),
    ],
)
def test_casing_table(factual: str, alternative: str, start: bool, expected: str) -> None:
    assert apply_factual_casing(factual, alternative, sentence_start=start) == expected


@given(st.text("aeHS'-", max_size=6), st.text("aeHS'-", max_size=6), st.booleans())
def test_casing_changes_nothing_but_casing_and_is_idempotent(factual: str, alternative: str, start: bool) -> None:
    once = apply_factual_casing(factual, alternative, sentence_start=start)
    assert once.lower() == alternative.lower()
    assert apply_factual_casing(factual, once, sentence_start=start) == once
    assert apply_factual_casing(factual, factual, sentence_start=start) == factual


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[MASK] went.", True),
        ("  “[MASK] went.", True),
        ("He left. [MASK] stayed.", True),
        ("“Really?” [MASK] said.", True),
        ("So… ([MASK] thought)", True),
        ("Then [MASK] went.", False),
        ("Then, “[MASK] went”.", False),
        ("Then [MASK] left. [MASK] stayed.", False),
    ],
)
def test_sentence_start(text: str, expected: bool) -> None:
    assert starts_sentence(text) is expected


def test_sentence_start_needs_a_placeholder() -> None:
    with pytest.raises(ValueError, match=r"\[MASK\].*<mask> went"):
        starts_sentence("<mask> went.")


def test_lone_capital_follows_the_sentence_start_in_frames() -> None:
    table = pd.DataFrame(
        {
            "masked": ["[MASK] go.", "Now [MASK] go.", "Now [MASK] go."],
            "label": ["I", "I", "we"],
            "label_class": ["sg", "sg", "pl"],
        }
    )
    assert to_unified(table, pair=("sg", "pl"))["alternative"].tolist() == ["We", "we", "I"]


@pytest.mark.parametrize(
    ("text", "factual", "word", "expected"),
    [
        ("[MASK] left.", "She", "he", "He"),
        ("He came. [MASK] left.", "She", "he", "He"),
        ("He said, “[MASK] left.”", "She", "he", "He"),
        ('He said, "[MASK] left."', "She", "he", "He"),
        ("Il dit : « [MASK] part. »", "Elle", "il", "Il"),
        ("— [MASK] left.", "She", "he", "He"),
        ("THE END\n\n[MASK] left.", "She", "he", "He"),
        ("a line\n[MASK] left.", "I", "he", "he"),
        ("l'[MASK] est là.", "Homme", "amie", "amie"),
        ("the band “Queen” [MASK] left.", "She", "he", "he"),
        ("Then [MASK] left.", "I", "he", "he"),
        ("Then [MASK] left.", "HE", "she", "she"),
        ("Then [MASK] left.", "France", "the UK", "the UK"),
        ("[MASK] left.", "she", "he", "he"),
        ("[MASK] left.", "", "he", "he"),
        ("[MASK] left.", "I", "we", "We"),
        ("[MASK] left.", "HE", "she", "She"),
        ("[MASK] left.", "She", "UK", "UK"),
        ("[MASK] left.", "She", "iPhone", "iPhone"),
        ("[MASK] left.", "She", "van Gogh", "Van Gogh"),
        ("[MASK] left.", "She", "'tis", "'Tis"),
        ("[MASK] left.", "'Tis", "(he)", "(He)"),
        ("[MASK] left.", "She", "5th", "5th"),
        ("Dann hat [MASK] es.", "er", "Sie", "Sie"),
        ("Then [MASK] left.", "he", "I", "I"),
        ("Now [MASK] went.", "he", "McDonald", "McDonald"),
    ],
)
def test_a_word_is_capitalised_only_where_its_place_asks_for_it(text, factual, word, expected) -> None:
    rows = pd.DataFrame(
        {"masked": [text, "Now [MASK] is there."], "label": [factual or "x", word], "label_class": ["a", "b"]}
    )
    if factual:
        assert to_unified(rows, pair=("a", "b"))["alternative"][0] == expected
    assert write_in_place(word, text, factual) == expected
    given = rows.assign(alternative=[word, factual or "x"])
    assert to_unified(given, pair=("a", "b"))["alternative"].tolist() == [word, factual or "x"]


def own_words(*rows: tuple[str, str]) -> list[str]:
    """The words of a class that are drawn for the other one, and the words of the class for P(class)."""
    frame = pd.DataFrame([*[(*row, "a") for row in rows], *[("Now [MASK] is.", "it", "b")] * 300])
    frame.columns = ["masked", "label", "label_class"]
    sampled = to_unified(frame, pair=("a", "b")).query("factual_class == 'b'")["alternative"]
    targets = TextPredictionTrainer("unused", data=frame, target_classes=["a", "b"])._get_decoder_eval_targets()
    return [sorted(set(sampled)), targets["a"]]


START, INSIDE = "[MASK] is.", "Then [MASK] is."


def test_capitals_of_the_place_are_none_of_the_word() -> None:
    assert own_words((START, "He"), (START, "He"), (INSIDE, "he")) == [["he"], ["he"]]
    assert own_words((START, "He"), (START, "She"), (INSIDE, "she"), (INSIDE, "she")) == [["He", "she"], ["she", "He"]]
    assert own_words((START, "'Tis"), (INSIDE, "'tis")) == [["'tis"], ["'tis"]]
    assert own_words((START, "Sie"), (INSIDE, "Sie")) == [["Sie"], ["Sie"]]
    assert own_words((INSIDE, "I"), (START, "I")) == [["I"], ["I"]]
    assert own_words((INSIDE, "UK"), (START, "UK"), (INSIDE, "France")) == [["France", "UK"], ["UK", "France"]]


def test_words_of_a_class_that_differ_in_case_are_all_words_of_it() -> None:
    both = [(INSIDE, "us")] * 3 + [(INSIDE, "US")] * 2 + [(START, "US")]
    assert own_words(*both)[1] == ["us", "US"]
    assert own_words(*[(INSIDE, "sie")] * 2, *[(INSIDE, "Sie")], (START, "Sie"))[1] == ["sie", "Sie"]
    assert own_words(*[(INSIDE, "sie")], *[(INSIDE, "Sie")] * 2, (START, "Sie"))[1] == ["Sie", "sie"]


def test_words_of_two_classes_that_differ_in_case_are_compared() -> None:
    rows = [("Dann hat [MASK] es.", "Sie", "formal"), ("Dann hat [MASK] es.", "sie", "other")]
    table = pd.DataFrame(rows, columns=["masked", "label", "label_class"])
    assert to_unified(table, pair=("formal", "other"))["alternative"].tolist() == ["sie", "Sie"]
    # at the start of a sentence they are one word, so that nothing is left to compare with
    started = pd.concat([table, table.assign(masked="[MASK] hat es.", label="Sie")], ignore_index=True)
    assert to_unified(started, pair=("formal", "other"))["masked"].tolist() == ["Dann hat [MASK] es."] * 2


# laws of the unified frame


@settings(max_examples=20, deadline=None)
@given(tables, st.integers(1, 4), st.integers(0, 5))
def test_rows_of_sampled_frames(table: pd.DataFrame, size: int, seed: int) -> None:
    before = table.copy()
    unified = to_unified(table, pair=PAIR, max_counterfactuals_per_sentence=size, seed=seed)
    pd.testing.assert_frame_equal(table, before)

    assert tuple(unified.columns) == UNIFIED_COLUMNS
    assert unified.index.equals(pd.RangeIndex(len(unified)))
    inside = table[table["label_class"].isin(PAIR)]
    assert keys(unified) == set(inside[["masked", "label", "label_class", "split"]].itertuples(index=False, name=None))
    distinct = {name: {w.lower() for w in inside["label"][inside["label_class"] == name]} for name in PAIR}
    for _, rows in unified.groupby("masked"):
        name = rows["factual_class"].iloc[0]
        other = PAIR[1 - PAIR.index(name)]
        words = rows["alternative"].str.lower()
        assert words.is_unique
        assert rows["factual"].iloc[0] not in set(rows["alternative"])
        assert len(words) == min(size, len(distinct[other]))
        assert set(words) <= distinct[other]
    for row in unified.itertuples():
        assert {row.factual_class, row.alternative_class} == set(PAIR)
        assert row.transition == transition_id(row.factual_class, row.alternative_class)
        start = starts_sentence(row.masked)
        assert not start
        assert row.alternative in set(inside["label"])


@settings(max_examples=10, deadline=None)
@given(tables, st.integers(1, 3), st.integers(0, 5))
def test_roads_pair_order_and_repetition_give_the_same_rows(table: pd.DataFrame, size: int, seed: int) -> None:
    options = {"max_counterfactuals_per_sentence": size, "random_state": seed}
    columns = ("masked", "split", "label_class", "label")
    unified = merged_to_unified(table, *columns, pair=PAIR, **options)
    pd.testing.assert_frame_equal(unified, merged_to_unified(table, *columns, pair=PAIR[::-1], **options))

    def in_order(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.sort_values(["masked", "alternative"], ignore_index=True)

    from_dict = per_class_dict_to_unified(per_class(table), pair=PAIR, **options)
    pd.testing.assert_frame_equal(in_order(unified), in_order(from_dict))
    from_merge = merged_to_unified(merge_per_class_dfs(per_class(table)), *columns, pair=PAIR, **options)
    pd.testing.assert_frame_equal(from_dict, from_merge)


def test_seed_decides_the_sample() -> None:
    table = merged(*[("he", "he")] * 200, *[("she", "she"), ("her", "she")])
    samples = [to_unified(table, pair=PAIR, seed=seed)["alternative"].tolist() for seed in (0, 1, 0, None)]
    assert samples[0] == samples[2] == samples[3]
    assert samples[0] != samples[1]


def test_sampling_follows_frequencies_ignoring_case_and_leaves_out_the_own_word() -> None:
    other = [("she", "she")] * 50 + [("She", "she")] * 10 + [("her", "she")] * 20 + [("it", "she")] * 20
    table = merged(*[("he", "he")] * 10_000, *[("It", "he")] * 10_000, *other)
    table.loc[table["label"] == "It", "masked"] = [f"Text {i}. [MASK] went home." for i in range(10_000)]
    unified = to_unified(table, pair=PAIR, seed=3)
    shares = unified[unified["factual"] == "he"]["alternative"].value_counts(normalize=True)
    assert shares.to_dict() == pytest.approx({"she": 0.6, "her": 0.2, "it": 0.2}, abs=0.02)
    shares = unified[unified["factual"] == "It"]["alternative"].value_counts(normalize=True)
    assert shares.to_dict() == pytest.approx({"She": 0.75, "Her": 0.25}, abs=0.02)


def test_draws_without_replacement_follow_successive_sampling() -> None:
    weights = {"a": 6, "b": 1, "c": 3, "d": 2}
    table = merged(*[("he", "he")] * 20_000, *[(w, "she") for w, n in weights.items() for _ in range(n)])
    unified = to_unified(table, pair=PAIR, max_counterfactuals_per_sentence=3, seed=0)
    words = unified[unified["factual_class"] == "he"].groupby("masked")["alternative"].agg("".join)
    expected = {}
    for x, y, z in itertools.permutations(weights, 3):
        left = 12 - weights[x]
        expected[x + y + z] = weights[x] / 12 * weights[y] / left * weights[z] / (left - weights[y])
    assert words.value_counts(normalize=True).to_dict() == pytest.approx(expected, abs=0.01)


# formats


def test_explicit_alternatives_win_and_are_used_as_given() -> None:
    table = merged(
        ("He", "he"), ("she", "she"), ("he", "he"),
        alternative=["her", "HIM", "them"], alternative_class=["she", "he", "they"],
    )  # fmt: skip
    unified = to_unified(table, pair=PAIR)
    assert unified[["factual", "alternative", "transition"]].values.tolist() == [
        ["He", "her", "he→she"],
        ["she", "HIM", "she→he"],
    ]
    everything = to_unified(table, pair=None)
    assert everything["transition"].tolist() == ["he→she", "she→he", "he→they"]
    named = table.rename(columns={"alternative": "other", "alternative_class": "other_class"})
    columns = ColumnNames(alternative="other", alternative_class="other_class")
    pd.testing.assert_frame_equal(to_unified(named, pair=PAIR, columns=columns), unified)


def test_explicit_alternatives_without_a_class_are_of_the_other_class() -> None:
    table = merged(("he", "he"), ("she", "she"), ("they", "they"), alternative=["her", "him", "us"])
    assert to_unified(table, pair=PAIR)["transition"].tolist() == ["he→she", "she→he"]


def test_same_row_class_columns() -> None:
    text = ["[MASK] went."]
    data = {
        "he": pd.DataFrame({"masked": text, "he": ["He"], "she": ["her"], "they": ["them"]}),
        "she": pd.DataFrame({"masked": text, "he": [np.nan], "she": ["She"]}),
    }
    unified = to_unified(data, pair=PAIR)
    assert unified[["factual", "alternative"]].values.tolist() == [["He", "her"], ["She", "He"]]
    labelled = {name: frame.assign(label=frame[name].str.upper()) for name, frame in data.items()}
    sampled = to_unified(labelled, pair=PAIR, columns=ColumnNames(use_class_names_as_columns=False))
    assert sampled[["factual", "alternative"]].values.tolist() == [["HE", "SHE"], ["SHE", "HE"]]


@pytest.mark.parametrize("column", ["label", "token", "source"])
def test_word_column_falls_back(column: str) -> None:
    data = {name: pd.DataFrame({"masked": ["A [MASK]."], column: [name]}) for name in PAIR}
    assert to_unified(data, pair=PAIR)["factual"].tolist() == ["he", "she"]


def test_pre_paired_rows_need_no_pair() -> None:
    columns = ["masked", "split", "source", "target", "source_id", "target_id"]
    rows = [
        ["A [MASK].", "val", "He", "she", "he", "she"],
        ["B [MASK].", "Test", "she", "they", "she", "they"],
    ]
    data = {"pairs": pd.DataFrame(rows, columns=columns)}
    assert per_class_dict_to_unified(data).values.tolist() == [
        ["A [MASK].", "validation", "he", "she", "He", "she", "he→she"],
        ["B [MASK].", "test", "she", "they", "she", "they", "she→they"],
    ]
    assert per_class_dict_to_unified(data, pair=PAIR)["transition"].tolist() == ["he→she"]
    assert classes_in(data) == ["he", "she"]


def test_classes_selects_tables() -> None:
    data = per_class(merged(("he", "he"), ("she", "she"), ("they", "they")))
    unified = per_class_dict_to_unified(data, classes=["they", "he"], pair=("he", "they"))
    assert unified["factual"].tolist() == ["they", "he"]


def test_classes_in_are_ordered() -> None:
    table = merged(("she", "she"), ("he", "he"))
    assert classes_in(table) == ["he", "she"]
    assert classes_in(per_class(table)) == ["she", "he"]
    assert classes_in(table.rename(columns={"label_class": "c"}), ColumnNames(label_class="c")) == [
        "he",
        "she",
    ]
    assert classes_in(pd.DataFrame()) == []
    assert classes_in({}) == []


def test_every_column_name_acts() -> None:
    table = merged(("he", "he"), ("she", "she"), split="test")
    columns = ColumnNames(masked="m", label="l", label_class="c", split="s")
    renamed = table.rename(columns={"masked": "m", "label": "l", "label_class": "c", "split": "s"})
    expected = to_unified(table, pair=PAIR)
    pd.testing.assert_frame_equal(to_unified(renamed, pair=PAIR, columns=columns), expected)
    by_class = {name: rows.drop(columns="c") for name, rows in renamed.groupby("c")}
    pd.testing.assert_frame_equal(to_unified(by_class, pair=PAIR, columns=columns), expected)


def test_numbers_as_classes_and_words_and_any_index() -> None:
    table = merged((1, 0), (2, 1)).set_index(pd.Index([7, 7]))
    unified = to_unified(table, pair=(0, 1))
    assert unified[["factual", "alternative", "transition"]].values.tolist() == [
        ["1", "2", "0→1"],
        ["2", "1", "1→0"],
    ]


@pytest.mark.parametrize("dtype", [None, object, "category"])
@pytest.mark.parametrize("hour", [0, 9])
def test_times_as_classes_have_one_name_wherever_they_are_given(dtype, hour: int) -> None:
    times = [pd.Timestamp(2020, 1, 1), pd.Timestamp(2021, 1, 1, hour)]
    names = ["2020-01-01", "2021-01-01" if hour == 0 else "2021-01-01 09:00:00"]
    table = merged(("old", "x"), ("new", "x"), label_class=pd.Series(times, dtype=dtype))
    by_class = dict(iter(table.groupby("label_class", observed=True)))
    for data in (table, by_class):
        assert classes_in(data) == names
        for pair in (times, [time.to_datetime64() for time in times], names):
            assert to_unified(data, pair=pair)["factual_class"].tolist() == names
    days = [time.date() for time in times]
    found = to_unified(table.assign(label_class=pd.Series(days, dtype=object)), pair=days)["factual_class"]
    assert found.tolist() == ["2020-01-01", "2021-01-01"]


def test_classes_of_single_precision_are_named_as_they_are_written() -> None:
    table = merged(("1", "2"), ("2", "1"), label_class=pd.Series([0.1, 0.2], dtype="float32"))
    assert classes_in(table) == ["0.1", "0.2"]


def test_a_placeholder_of_ones_own_may_stand_in_categories() -> None:
    texts = pd.Series(["the ___ a", "b ___"], dtype="category")
    assert usual_placeholder(texts, "___").tolist() == ["the [MASK] a", "b [MASK]"]


def test_times_name_merged_classes() -> None:
    days = [pd.Timestamp(year, 1, 1) for year in (2019, 2020, 2021)]
    table = merged(("old", "x"), ("older", "x"), ("new", "x"), label_class=days)
    config = TextPredictionConfig(data=table, class_merge_map={1: days[:2], 2: days[2:]})
    assert config.pair() == ("1", "2")
    assert config.bases_of(["1"]) == ["2019-01-01", "2020-01-01"]
    trainer = TextPredictionTrainer("unused", config=config)
    assert trainer.combined_data["factual_class"].tolist() == ["1", "1", "2"]


def test_several_placeholders_and_spaces_around_words() -> None:
    table = merged((" he", "he"), ("she ", "she"), masked=["[MASK] and [MASK].", "[MASK]!"])
    unified = to_unified(table, pair=PAIR)
    assert unified["masked"].tolist() == table["masked"].tolist()
    assert unified["factual"].tolist() == ["he", "she"]


# splits


def test_split_names() -> None:
    assert [normalize_split_name(name) for name in ("val", " Val", "TEST", "validation")] == [
        "validation", "validation", "test", "validation",
    ]  # fmt: skip
    table = merged(("he", "he"), ("she", "she"), ("she", "she"), split=["Val", "TRAIN", "validation"])
    unified = to_unified(table, pair=PAIR)
    assert unified["split"].tolist() == ["validation", "train", "validation"]
    assert require_split(unified, "val")["factual"].tolist() == ["he", "she"]
    assert require_split(unified, "val").index.tolist() == [0, 1]
    assert set(to_unified(merged(("he", "he"), ("she", "she"), split=None), pair=PAIR)["split"]) == {"train"}


def test_empty_split_names_those_present() -> None:
    unified = to_unified(merged(("he", "he"), ("she", "she")), pair=PAIR)
    with pytest.raises(ValueError, match=r"'test' has no rows; splits present: train \(2 rows\).*split='train'"):
        require_split(unified, "test")
    with pytest.raises(ValueError, match=r"'validation' has no rows.*Mark rows as validation in the split column\."):
        require_split(unified, "val")


# files


def test_resolve_dataframe(tmp_path) -> None:
    table = merged(("null", "he"), ("NA", "she"), ("None", "she"))
    assert resolve_dataframe(None) is None
    assert resolve_dataframe(table) is table
    assert resolve_dataframe(table, max_rows=3) is table
    table.to_csv(tmp_path / "t.csv", index=False)
    for path in (tmp_path / "t.csv", str(tmp_path / "t.csv")):
        pd.testing.assert_frame_equal(resolve_dataframe(path), table)
    for value in (table, tmp_path / "t.csv"):
        pd.testing.assert_frame_equal(resolve_dataframe(value, max_rows=2), table.head(2))
    unified = to_unified(table, pair=PAIR)
    pd.testing.assert_frame_equal(to_unified(tmp_path / "t.csv", pair=PAIR), unified)
    unified.to_csv(tmp_path / "unified.csv", index=False)
    pd.testing.assert_frame_equal(resolve_dataframe(tmp_path / "unified.csv"), unified)
    assert classes_in(tmp_path / "t.csv") == ["he", "she"]


def test_parquet(tmp_path) -> None:
    pytest.importorskip("pyarrow")
    table = merged(("he", "he"), ("she", "she"))
    table.to_parquet(tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(resolve_dataframe(tmp_path / "t.parquet"), table)


def test_parquet_without_pyarrow(tmp_path, monkeypatch) -> None:
    (tmp_path / "t.parquet").touch()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"needs pyarrow: pip install pyarrow \("):
        resolve_dataframe(tmp_path / "t.parquet")


def test_bad_files(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.csv.*does not exist.*\.csv.*\.jsonl.*\.parquet"):
        resolve_dataframe(tmp_path / "nothing.csv")
    with pytest.raises(FileNotFoundError, match="is a folder; pass it as a string"):
        resolve_dataframe(tmp_path)
    with pytest.raises(FileNotFoundError, match="no data files"):
        resolve_dataframe(str(tmp_path))
    for name, content, message in [
        ("t.json", b"{}", r"\.parquet file, got \.json"),
        ("t.jsonl", b'{"masked": "a', "cannot be read as jsonl"),
        ("t.csv.gz", b"no gzip", "cannot be read as csv"),
        ("t.csv", b"", "cannot be read as csv"),
        ("latin.csv", "masked\nö [MASK]".encode("latin-1"), "UTF-8"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=message):
            resolve_dataframe(tmp_path / name)
    with pytest.raises(TypeError, match="got list"):
        resolve_dataframe([1])
    with pytest.raises(ValueError, match="max_rows"):
        resolve_dataframe(merged(), max_rows=-1)


# bad rows, columns and classes

GOOD = merged(("he", "he"), ("she", "she"), ("she", "she"))
BY_CLASS = per_class(GOOD)
HE = BY_CLASS["he"]
LEVELS = GOOD.set_axis(pd.MultiIndex.from_product([GOOD.columns, ["first"]]), axis=1)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (
            GOOD.rename(columns={"masked": "maskd"}),
            {},
            r"no column 'masked'; it has: 'maskd', .* Did you mean 'maskd'",
        ),
        (GOOD.drop(columns="label"), {}, "no column 'label'; it has: 'masked'"),
        (GOOD.drop(columns="label_class"), {}, "no column 'label_class'.*Did you mean 'label'"),
        (GOOD, {"columns": ColumnNames(alternative="counterpart")}, "no column 'counterpart'"),
        (GOOD, {"columns": ColumnNames(split="fold")}, "no column 'fold'"),
        (BY_CLASS, {"columns": ColumnNames(split="fold")}, "table of class 'he' has no column 'fold'"),
        (pd.concat([GOOD, GOOD[["label"]]], axis=1), {}, "2 columns called 'label'"),
        (LEVELS, {}, r"have 2 levels, such as \('masked', 'first'\).*get_level_values"),
        ({"he": LEVELS, "she": LEVELS}, {}, "of class 'he' have 2 levels"),
        (
            GOOD.assign(label=pd.Timestamp(2020, 5, 1)),
            {},
            r"Row 0 has Timestamp.* as its word in 'label'.*such as '2020-05-01'",
        ),
        (
            GOOD.assign(masked=["[MASK]", "<mask> went", "x"]),
            {},
            r"2 of 3 rows have no \[MASK\].* row 1: '<mask> went'.*'<mask>' occurs",
        ),
        (
            GOOD.assign(masked=["[MASK]", "nothing here", "[MASK]"]),
            {},
            r"1 of 3 rows.*'nothing here'. Write \[MASK\]",
        ),
        (GOOD.assign(masked=["[MASK]", None, " "]), {}, "2 of 3 rows have no text in 'masked'.*first row 1"),
        (
            pd.concat([GOOD, GOOD.assign(masked=None)]).set_axis(np.arange(6) * 2),
            {},
            "3 of 6 rows have no text in 'masked'.*first row 6",
        ),
        (GOOD.assign(label=["he", np.nan, ""]), {}, "2 of 3 rows have no word in 'label'.*first row 1"),
        (
            GOOD.assign(label_class=["he", "she", None]),
            {},
            "1 of 3 rows have no class in 'label_class'.*first row 2",
        ),
        (
            GOOD.assign(label_class=pd.to_datetime(["2020-01-01", None, "2021-01-01"])),
            {},
            "1 of 3 rows have no class in 'label_class'.*first row 1",
        ),
        (GOOD.assign(split=["train", None, "test"]), {}, "1 of 3 rows have no split in 'split'.*first row 1"),
        (GOOD.assign(alternative=["she", None, "he"]), {}, "1 of 3 rows have no word in 'alternative'"),
        (
            GOOD.assign(alternative=["her", "she", "he"]),
            {},
            "1 rows have the same factual and alternative word, first 'she' in 'Text 1",
        ),
        (
            GOOD.assign(alternative="x", alternative_class="they"),
            {},
            "No row compares 'he' with 'she'; the data has: 'he→they', 'she→they'",
        ),
        (
            GOOD.assign(alternative="x", alternative_class=["she", "they", "they"]),
            {},
            "No rows of target class 'she'; the data has: 'he'",
        ),
        (
            GOOD,
            {"pair": ("he", "shee")},
            "No rows of target class 'shee'; the data has: 'he', 'she'. Did you mean 'she'",
        ),
        (GOOD[:1], {}, "No rows of target class 'she'; the data has: 'he'.*Two classes are needed"),
        (GOOD, {"pair": ("he", "he")}, "two different class names"),
        (GOOD, {"pair": ("he", "she", "they")}, "two different class names"),
        (GOOD, {"pair": None}, "give a pair of the classes 'he', 'she'"),
        (GOOD.assign(alternative="x"), {"pair": None}, "one with their classes"),
        (GOOD, {"max_counterfactuals_per_sentence": 0}, "at least 1; got 0"),
        (
            merged(("die", "he"), ("Die", "she"), ("die", "she")),
            {},
            "1 rows of 'he' have no alternative: 'die' is also the only word of 'she'",
        ),
        (GOOD[:0], {}, "no rows"),
        ({}, {}, "no rows"),
        ({**BY_CLASS, "she": GOOD[:0]}, {}, "No rows of target class 'she'"),
        ({**BY_CLASS, "she": HE.drop(columns="masked")}, {}, "table of class 'she' has no column 'masked'"),
        (
            {**BY_CLASS, "she": HE.drop(columns="he")},
            {},
            "class 'she' has no column with its words: expected one of 'she', 'label', 'token', "
            "'source'; it has: 'masked', 'split'",
        ),
        (
            BY_CLASS,
            {"columns": ColumnNames(label="word", use_class_names_as_columns=False)},
            "expected one of 'word'; it has",
        ),
        ({**BY_CLASS, "he": HE.assign(masked="x")}, {}, r"1 of 1 rows of class 'he' have no \[MASK\]"),
    ],
)  # fmt: skip
def test_bad_input(data, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_unified(data, **{"pair": PAIR, **options})


@pytest.mark.parametrize(
    ("data", "pair", "message"),
    [(GOOD, "he", "single string 'he'"), ({"he": "he.csv"}, PAIR, "'he', got str"), (None, PAIR, "got None")],
)
def test_bad_types(data, pair, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        to_unified(data, pair=pair)


@pytest.mark.parametrize("data", [None, [GOOD], "table.csv"])
def test_functions_of_frames_refuse_anything_else(data) -> None:
    for call in (
        lambda: merged_to_unified(data, pair=PAIR),
        lambda: per_class_dict_to_unified(data, pair=PAIR),
        lambda: per_class_dict_to_unified({"he": data}, pair=PAIR),
        lambda: apply_class_merge_to_merged_df(data, {"x": ["he"]}),
    ):
        with pytest.raises(TypeError, match=r"Expected a .*DataFrame.*, got (NoneType|list|str)"):
            call()


def test_unknown_class_selection() -> None:
    with pytest.raises(ValueError, match=r"no class 'shee'; available: 'he', 'she'\. Did you mean 'she'"):
        per_class_dict_to_unified(BY_CLASS, classes=["he", "shee"], pair=PAIR)


def test_rows_outside_the_pair_are_not_judged() -> None:
    table = merged(("he", "he"), ("she", "she"), ("they", "they"), masked=["[MASK]", "[MASK]", "none"])
    assert len(to_unified(table, pair=PAIR)) == 2
