"""Every table that enters: values are the strings of the file, and no row may be shifted."""

from __future__ import annotations

import csv
import gzip
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_data

import gradiend
from gradiend import TextFilterConfig, TextPredictionDataCreator, TextPredictionTrainer, TextPreprocessConfig
from gradiend.data.core._datasets import load_hub_dataset
from gradiend.data.core._table_formats import csv_table
from gradiend.data.core.base_loader import resolve_base_data
from gradiend.data.unified import load_hf_per_class, resolve_dataframe
from gradiend.evaluator.encoder_metrics import get_model_metrics
from gradiend.trainer.core.feature_definition import FeatureLearningDefinition
from gradiend.util._files import write_csv

WORDS = ["007", "1e5", "true", "False", "NA", "null", "None", "nan", "N/A", "1_000", "2020-01-01", "-", "1.0", "inf"]
PADDED = [*WORDS, *WORDS]


def write(path: Path, header: str, rows: list[str]) -> Path:
    content = "\n".join([header, *rows, ""]).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def table(folder: Path, name: str) -> Path:
    between = "\t" if ".tsv" in name else ","
    rows = [between.join([f"Room [MASK] {i}.", word, "01" if i % 2 else "1"]) for i, word in enumerate(PADDED)]
    return write(folder / name, between.join(["masked", "label", "label_class"]), rows)


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.csv.gz", "t.tsv.gz", "T.CSV"])
def test_words_and_classes_are_the_strings_of_the_file(tmp_path, name: str) -> None:
    trainer = TextPredictionTrainer("unused", data=str(table(tmp_path, name)), target_classes=["01", "1"])
    assert sorted(trainer.combined_data["factual"]) == sorted(PADDED)
    assert set(trainer.combined_data["factual_class"]) == {"01", "1"}
    assert resolve_dataframe(tmp_path / name)["label"].tolist() == PADDED


def test_whole_numbers_beside_missing_values_stay_whole(tmp_path) -> None:
    rows = ['{"text": 7, "n": null}', '{"text": null, "n": 5}', '{"text": 8.5}', '{"text": 12345678901234567890123}']
    (tmp_path / "t.jsonl").write_text("\n".join(rows))
    found = resolve_dataframe(tmp_path / "t.jsonl")
    assert [str(value) for value in found["text"]] == ["7", "None", "8.5", "12345678901234567890123"]
    assert str(found["n"][1]) == "5"


@pytest.mark.parametrize("kind", ["csv", "frame"])
def test_two_columns_of_one_name_are_an_error(tmp_path, kind: str) -> None:
    path = write(tmp_path / "t.csv", "text,text", ["he was here,x"])
    table = str(path) if kind == "csv" else pd.DataFrame([["he was here", "x"]], columns=["text", "text"])
    with pytest.raises(ValueError, match="2 columns called 'text'"):
        TextPredictionDataCreator(table, feature_targets=[TextFilterConfig("he")]).generate_training_data()


@pytest.mark.parametrize("by_class", [False, True])
def test_csv_files_of_a_data_set_keep_their_strings(tmp_path, by_class: bool) -> None:
    if by_class:
        for name in ("a", "b"):
            table(tmp_path / name, "train.csv")
        (tmp_path / "README.md").write_text(
            "---\nconfigs:\n- config_name: a\n  data_files: a/*.csv\n- config_name: b\n  data_files: b/*.csv\n---\n"
        )
        found = load_hf_per_class(str(tmp_path))["b"]
    else:
        table(tmp_path, "train.csv")
        found = resolve_dataframe(str(tmp_path))
    assert found["label"].tolist() == PADDED
    assert set(found["label_class"]) == {"01", "1"}


def test_texts_of_corpora_are_the_strings_of_the_file(tmp_path) -> None:
    for name in ("t.csv", "t.tsv.gz"):
        path = write(tmp_path / name, "text", WORDS)
        assert sorted(resolve_base_data(path)) == sorted(WORDS)
        neutral = TextPredictionTrainer("unused", data=tiny_data.rows(), eval_neutral_data=str(path)).neutral_data
        assert neutral["text"].tolist() == WORDS
    (tmp_path / "folder").mkdir()
    write(tmp_path / "folder" / "train.csv", "text", WORDS)
    assert sorted(resolve_base_data(str(tmp_path / "folder"))) == sorted(WORDS)


def test_a_saved_table_is_read_back_as_it_was(tmp_path) -> None:
    texts = [f"he saw {word} {i}, and left." for i, word in enumerate(PADDED)]
    texts += [text.replace("he", "007", 1) for text in texts]
    options = {"feature_targets": [TextFilterConfig("he", id="null"), TextFilterConfig("007", id="1")]}
    made = [
        TextPredictionDataCreator(texts, **options, output_dir=tmp_path, use_cache=True).generate_training_data(
            format="unified"
        )
        for _ in range(2)
    ]
    pd.testing.assert_frame_equal(*made)
    trainer = TextPredictionTrainer("unused", data=str(tmp_path / "training.csv"), target_classes=["null", "1"])
    assert set(trainer.combined_data["alternative"]) == {"he", "007"}


@pytest.mark.parametrize("kind", ["csv", "hf"])
def test_a_carriage_return_in_a_text_ends_no_row(tmp_path, kind: str) -> None:
    texts = [f"{word} went\rhome {i}." for i in range(20) for word in ("He", "They")]
    options = {"feature_targets": [TextFilterConfig("he"), TextFilterConfig("they")], "output_dir": tmp_path}
    made = [
        TextPredictionDataCreator(texts, **options, output_format=kind, use_cache=True).generate_training_data(
            format="unified"
        )
        for _ in range(2)
    ]
    pd.testing.assert_frame_equal(*made)
    assert made[1]["masked"].str.contains("went\rhome", regex=False).all()


def test_a_carriage_return_in_a_name_ends_no_row_either(tmp_path) -> None:
    frame = pd.DataFrame([[1.0, 2.0]] * 2, index=["a\rb", "c"], columns=["a\rb", "c"])
    write_csv(tmp_path / "x.csv", frame, index=True)
    read = csv_table(tmp_path / "x.csv")
    assert read.columns.tolist()[1:] == ["a\rb", "c"]
    assert read.iloc[:, 0].tolist() == ["a\rb", "c"]


def test_numbers_of_numpy_are_recorded_as_numbers(tmp_path) -> None:
    texts = [f"{word} left {i}." for i in range(20) for word in ("He", "They")]

    def make(number: type, characters: object) -> pd.DataFrame:
        classes = [TextFilterConfig("he", weight=number(1)), TextFilterConfig("they")]
        preprocess = TextPreprocessConfig(number(1), number(3), exclude_chars=characters)
        creator = TextPredictionDataCreator(
            texts, feature_targets=classes, seed=number(3), preprocess=preprocess, output_dir=tmp_path, use_cache=True
        )
        return creator.generate_training_data(number(20), "minimal")

    first = make(np.int64, {"@", "#"})
    stamp = (tmp_path / "training.csv").stat().st_mtime_ns
    pd.testing.assert_frame_equal(make(int, iter("#@")), first)
    assert (tmp_path / "training.csv").stat().st_mtime_ns == stamp
    assert resolve_base_data(texts, seed=np.int64(3)) == resolve_base_data(texts, seed=3)


@pytest.mark.parametrize("bad", [1, 2, 3])
@pytest.mark.parametrize("fields", ["a [MASK]", "one, [MASK],he,m,train", "a, b, c, [MASK],he,m,train"])
def test_a_shifted_row_is_an_error_with_its_line(tmp_path, bad: int, fields: str) -> None:
    rows = ['"a ""quoted""\ntext, [MASK]",he,m,train', "b [MASK],she,f,train", "c [MASK],she,f,train"]
    rows[bad - 1] = fields
    path = write(tmp_path / "t.csv", "masked,label,label_class,split", rows)
    line = {1: 2, 2: 4, 3: 5}[bad]
    expected = (
        rf"t\.csv.* line {line} has {fields.count(',') + 1} fields, the header 4 \(masked, label, label_class, split\)"
    )
    with pytest.raises(ValueError, match=expected):
        TextPredictionTrainer("unused", data=str(path)).combined_data  # noqa: B018
    with pytest.raises(ValueError, match=expected):
        resolve_base_data(path, text_column="masked")
    with pytest.raises(ValueError, match=expected):
        load_hub_dataset(tmp_path)
    with pytest.raises(ValueError, match=expected):
        TextPredictionTrainer("unused", data=tiny_data.rows(), eval_neutral_data=str(path)).neutral_data  # noqa: B018


@pytest.mark.parametrize(("name", "mark"), [("t.csv", ";"), ("t.csv", "\t"), ("t.tsv", ","), ("t.csv", "|")])
@pytest.mark.parametrize("text", ["a [MASK] b", '"a [MASK], b"', '"a ""[MASK]"" b"'])
def test_a_table_with_another_delimiter_says_how_to_read_it(tmp_path, name: str, mark: str, text: str) -> None:
    path = tmp_path / name
    path.write_text("\n".join(mark.join(row) for row in [("masked", "label", "label_class"), (text, "he", "m")]))
    for read in (lambda: resolve_dataframe(path), lambda: resolve_base_data(str(path), text_column="masked")):
        with pytest.raises(
            ValueError, match=rf"divided by {re.escape(repr(mark))} and not .*sep={re.escape(repr(mark))}, dt"
        ):
            read()


@pytest.mark.parametrize(
    ("name", "lines", "header"),
    [
        ("t.csv", ['"text, cleaned"', '"one, two"'], "text, cleaned"),
        ("t.csv", ["a;b", "one"], "a;b"),
        ("t.csv", ["Satz (A|B)", "one", "two | three"], "Satz (A|B)"),
        ("t.csv", ['"a;b"', "one;two"], "a;b"),
        ("t.tsv", ["Text, bereinigt", "one"], "Text, bereinigt"),
    ],
)
def test_the_name_of_one_column_may_have_a_delimiter_in_it(tmp_path, name: str, lines: list[str], header: str) -> None:
    path = write(tmp_path / name, *lines[:1], lines[1:])
    assert list(resolve_dataframe(path)) == [header]
    assert len(resolve_base_data(str(path), text_column=header)) == len(lines) - 1


def test_a_text_that_is_not_quoted_is_not_cut(tmp_path) -> None:
    path = write(tmp_path / "t.csv", "text", ["The house, which was old, fell."])
    with pytest.raises(ValueError, match="line 2 has 3 fields, the header 1"):
        resolve_base_data(path)
    path = write(tmp_path / "quotes.csv", "text,document", ['"Yes," he said,1'])
    with pytest.raises(ValueError, match=r"line 2.*quotation mark"):
        resolve_base_data(path)


def test_what_a_csv_file_may_have(tmp_path) -> None:
    long = "x" * 300_000
    path = tmp_path / "t.csv"
    path.write_bytes(f'\ufeffmasked,label\r\n"two\r\nlines, [MASK]",\r\n\r\n{long},"say ""hi"""\r\n'.encode())
    before = csv.field_size_limit()
    frame = resolve_dataframe(path)
    assert csv.field_size_limit() == before
    assert frame["masked"].tolist() == ["two\r\nlines, [MASK]", long]
    assert frame["label"].isna().tolist() == [True, False]
    assert frame["label"][1] == 'say "hi"'
    pd.DataFrame({"masked": ["a"]}).to_csv(path)
    assert resolve_dataframe(path)["masked"].tolist() == ["a"]


def test_encodings_are_read_back_with_their_words(tmp_path) -> None:
    path = tmp_path / "encoded_values_split_test.csv"
    words = ["NA", "null", "007", "true"]
    frame = pd.DataFrame({"factual": words, "encoded": [1.0, -1, 1, -1], "label": [1, -1, 1, -1], "type": "training"})
    frame.assign(source_id=["01", "1"] * 2).to_csv(path, index=False)
    assert get_model_metrics(path)["correlation"] == pytest.approx(1)
    trainer = TextPredictionTrainer("unused", data=tiny_data.rows(), args=gradiend.TrainingArguments(str(tmp_path)))
    found = FeatureLearningDefinition.get_encodings(trainer, "unused")
    assert found["factual"].tolist() == words
    assert found["source_id"].tolist() == ["01", "1"] * 2
    assert found["encoded"].tolist() == [1.0, -1, 1, -1]


def test_pandas_reads_no_csv_file() -> None:
    package = Path(gradiend.__file__).parent
    assert not [path for path in package.rglob("*.py") if "read_csv" in path.read_text(encoding="utf-8")]


# labels as codes


def coded(words, classes):
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict(
        {"masked": ["Then [MASK] left."] * len(words), "label": words, "label_class": classes}
    )
    return rows.class_encode_column("label").class_encode_column("label_class")


def words_of(**data) -> list[list[str]]:
    frame = TextPredictionTrainer("unused", target_classes=["m", "f"], **data).combined_data
    return frame[["factual", "alternative", "factual_class"]].values.tolist()


EXPECTED = [["he", "she", "m"], ["she", "he", "f"]]


def test_codes_of_labels_are_their_names(tmp_path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = coded(["he", "she"], ["m", "f"])
    rows.save_to_disk(tmp_path / "alone")
    # the same code means another word in another split
    splits = datasets.DatasetDict(train=rows, test=coded(["we", "he", "she"], ["m", "m", "f"]))
    splits.save_to_disk(tmp_path / "splits")
    rows.to_parquet(tmp_path / "coded.parquet")
    assert words_of(hf_dataset=str(tmp_path / "alone")) == words_of(data=rows) == words_of(hf_dataset=rows) == EXPECTED
    both = words_of(hf_dataset=str(tmp_path / "splits"))
    assert both[:2] == EXPECTED
    assert [row[0] for row in both[2:]] == ["we", "he", "she"]
    by_class = datasets.DatasetDict(m=rows.select([0]), f=rows.select([1]))
    by_class.save_to_disk(tmp_path / "classes")
    for data in (str(tmp_path / "classes"), by_class, dict(by_class)):
        assert words_of(data=data) == EXPECTED
    assert resolve_base_data(rows, text_column="label", seed=0) != ["0", "1"]
    assert sorted(resolve_base_data(str(tmp_path / "alone"), text_column="label")) == ["he", "she"]


def test_a_missing_code_is_a_missing_word() -> None:
    datasets = pytest.importorskip("datasets")
    features = coded(["he", "she"], ["m", "f"]).features
    rows = datasets.Dataset.from_dict(
        {"masked": ["a [MASK].", "b [MASK]."], "label": [0, -1], "label_class": [1, 0]}, features=features
    )
    with pytest.raises(ValueError, match="1 of 2 rows have no word in 'label'"):
        words_of(data=rows)


def test_no_split_at_all_is_an_error(tmp_path) -> None:
    rows = coded(["he", "they"], ["a", "b"])
    trainer = TextPredictionTrainer("unused", hf_dataset=rows, hf_splits=[], target_classes=["a", "b"])
    with pytest.raises(ValueError, match="There is no split to load"):
        trainer.combined_data  # noqa: B018


def test_data_sets_in_memory(tmp_path) -> None:
    datasets = pytest.importorskip("datasets")
    frame = tiny_data.rows()
    parts = {name: datasets.Dataset.from_pandas(rows, preserve_index=False) for name, rows in frame.groupby("split")}
    whole, splits = datasets.Dataset.from_pandas(frame), datasets.DatasetDict(parts)
    expected = TextPredictionTrainer("unused", data=frame).combined_data
    for data in ({"data": whole}, {"hf_dataset": whole}, {"data": splits}, {"hf_dataset": splits}):
        found = TextPredictionTrainer("unused", **data).combined_data
        assert sorted(map(tuple, found.values)) == sorted(map(tuple, expected.values))
    trainer = TextPredictionTrainer("unused", hf_dataset=splits, hf_splits=["train"])
    assert set(trainer.combined_data["split"]) == {"train"}
    texts = datasets.Dataset.from_dict(
        {"text": [f"he saw {i}" for i in range(20)] + [f"she saw {i}" for i in range(20)]}
    )
    classes = [TextFilterConfig("he"), TextFilterConfig("she")]
    rows = TextPredictionDataCreator(texts, feature_targets=classes).generate_training_data(format="minimal")
    assert len(rows) == 40
    neutral = TextPredictionTrainer("unused", data=frame, eval_neutral_data=texts).neutral_data
    assert len(neutral) == 40
    with pytest.raises(TypeError, match="streaming"):
        TextPredictionTrainer("unused", data=whole.to_iterable_dataset()).combined_data  # noqa: B018
    with pytest.raises(ValueError, match=r"no split 'dev'; it has: .*train"):
        TextPredictionTrainer("unused", data=splits, hf_splits=["dev"]).combined_data  # noqa: B018
