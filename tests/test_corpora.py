"""Getting corpora in: sources, order and memory; processes, splits by document, caches, folders of data sets."""

from __future__ import annotations

import gzip
import json
import logging
import random
import tracemalloc
from collections import defaultdict
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradiend.data import TextFilterConfig, TextPredictionDataCreator, TextPreprocessConfig, resolve_base_data
from gradiend.data.core import _text_source as text_stream
from gradiend.data.core import base_loader
from gradiend.data.core._datasets import hub_config_names, load_hub_dataset
from gradiend.data.core._text_source import Columns, TextSource, stream_texts
from gradiend.data.core.base_loader import open_source
from gradiend.data.text.prediction import filter_sentences_multi, mask_sentence, match_sentence_one_config

datasets = pytest.importorskip("datasets")

SINGULAR = TextFilterConfig(targets=["he", "she", "it"], id="3SG")
PLURAL = TextFilterConfig(targets=["they"], id="3PL")
NAMES = ["chef", "baker", "nurse", "pilot", "clerk", "judge", "actor", "guard"]
KINDS = ["csv", "csv.gz", "parquet", "jsonl", "jsonl.gz", "txt", "txt.gz", "folder", "saved"]
ANY_ORDER = ["parquet", "jsonl", "txt", "saved"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))


def corpus(n: int = 60) -> list[str]:
    rows = [f"The {NAMES[i % 8]} said no, then {['he', 'she', 'it'][i % 3]} left room {i}." for i in range(n)]
    rows += [f"They say the {NAMES[i % 8]} is in room {i}, but they never look." for i in range(n)]
    return rows + [f"The {NAMES[i % 8]} was in room {i}." for i in range(n // 2)]


def write(folder: Path, kind: str, texts: list[str], documents: list[str] | None = None) -> Path:
    """The texts in a column (or key) `text`, as a source of some kind."""
    frame = pd.DataFrame({"n": range(len(texts)), "text": texts})
    if documents is not None:
        frame["document"] = documents
    path = folder / f"corpus.{kind}"
    if kind.startswith("csv"):
        frame.to_csv(path, index=False)
    elif kind == "parquet":
        frame.to_parquet(path, row_group_size=max(1, len(texts) // 80))
    elif kind == "folder":
        path.mkdir()
        frame.to_csv(path / "train.csv", index=False)
    elif kind == "saved":
        datasets.Dataset.from_pandas(frame).save_to_disk(path)
    else:
        lines = texts if kind.startswith("txt") else [json.dumps(row) for row in frame.to_dict("records")]
        data = "".join(f"{line}\n" for line in lines).encode()
        path.write_bytes(gzip.compress(data) if kind.endswith("gz") else data)
    return path


def creator(texts: object, **kwargs: object) -> TextPredictionDataCreator:
    return TextPredictionDataCreator(texts, feature_targets=[SINGULAR, PLURAL], **kwargs)


# --- sources and their order


@pytest.mark.parametrize("kind", KINDS)
def test_a_small_corpus_gives_the_same_rows_from_every_source(tmp_path: Path, kind: str) -> None:
    texts = [*corpus(), "Größe “q”, they"]
    if kind != "folder":  # there `datasets` reads the CSV files, which takes these words for missing values
        texts += ["NA", "null"]
    path = write(tmp_path, kind, texts)
    assert resolve_base_data(path) == resolve_base_data(texts)
    assert resolve_base_data(str(path), max_size=7, seed=3) == resolve_base_data(texts, max_size=7, seed=3)
    ours = creator(path, base_max_size=100).generate_training_data(format="minimal")
    pd.testing.assert_frame_equal(ours, creator(texts, base_max_size=100).generate_training_data(format="minimal"))


def streamed(source: TextSource, seed: int, max_size: int | None = None) -> list[str]:
    return [text for block in stream_texts(source, seed, max_size) for text in block.texts]


@pytest.mark.parametrize("kind", ["list", *KINDS])
def test_a_large_corpus_is_streamed_once_in_a_seeded_order(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base_loader, "CHUNK_BYTES", 64)
    monkeypatch.setattr("gradiend.data.core.base_loader.ROWS", 4)
    monkeypatch.setattr(text_stream, "WINDOW_TEXTS", 30)
    texts = [f"text {i}" for i in range(400)]
    source = open_source(texts if kind == "list" else write(tmp_path, kind, texts), Columns("text"))
    one, again, other = (streamed(source, seed) for seed in (1, 1, 2))
    assert one == again != other
    assert sorted(one) == sorted(texts)
    assert streamed(source, 1, 33) == one[:33]
    assert len({document for block in stream_texts(source, 1) for document in block.documents}) == 400
    reach = max(texts.index(text) for text in one[:30])
    assert reach > 100 if kind in (*ANY_ORDER, "folder", "list") else reach < 60


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=9), max_size=30),
    st.sampled_from(["\n", "\r\n"]),
    st.integers(1, 40),
    st.booleans(),
)
def test_lines_are_whole_wherever_the_pieces_of_a_file_begin(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], newline: str, size: int, ends: bool
) -> None:
    path = tmp_path_factory.mktemp("lines") / "a.txt"
    path.write_bytes((newline.join(lines) + (newline if ends else "")).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base_loader, "CHUNK_BYTES", size)
        source = open_source(path, Columns("text"))
        found = [text for chunk in source.chunks() for text in chunk.texts]
        mixed = [text for chunk in source.chunks(random.Random(0)) for text in chunk.texts]
    wanted = [line.removeprefix("\ufeff") if i == 0 else line for i, line in enumerate(lines)]
    assert found == [line.strip() for line in wanted if line.strip()]
    assert sorted(mixed) == sorted(found)


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_stream, "WINDOW_TEXTS", 500)
    monkeypatch.setattr(base_loader, "CHUNK_BYTES", 1 << 12)
    peaks = []
    for n in (4_000, 16_000):
        path = write(tmp_path, "txt", [f"The text no. {i} says that they left." for i in range(n)])
        made = creator(path, base_max_size=None)
        tracemalloc.start()
        made.generate_neutral_data()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


def test_what_is_wrong_with_a_source_is_found_out_at_once(tmp_path: Path) -> None:
    files = {
        "broken.csv.gz": gzip.compress(b"text\na\n" * 9)[:-9],
        "broken.txt.gz": b"no gzip",
        "broken.parquet": b"PAR1",
        "list.jsonl": b'{"text": "a"}\n["b"]\n',
        "no.jsonl": b"text\n",
        "other.jsonl": b'{"body": "a"}\n',
        "number.jsonl": b'{"text": 3}\n',
        "utf16.txt": "Größe".encode("utf-16"),
        "latin.jsonl.gz": gzip.compress('{"text": "Größe"}'.encode("latin-1")),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    table = [
        ("broken.csv.gz", ValueError, "cannot be read as csv"),
        ("broken.txt.gz", ValueError, "damaged or no gzip"),
        ("broken.parquet", ValueError, "as Parquet"),
        ("list.jsonl", ValueError, "expected an object"),
        ("no.jsonl", ValueError, "no JSON"),
        ("other.jsonl", ValueError, "'text'.*body"),
        ("number.jsonl", TypeError, "entry 0"),
        ("utf16.txt", ValueError, "not UTF-8"),
        ("latin.jsonl.gz", ValueError, "not UTF-8"),
        ("none.jsonl", FileNotFoundError, "no file"),
    ]
    for name, error, message in table:
        with pytest.raises(error, match=message):
            creator(tmp_path / name)
    with pytest.raises(ConnectionError, match="owner/name"):
        creator("owner/name")
    folder = write(tmp_path, "saved", ["a"])
    with pytest.raises(ValueError, match=r"'test'.*train"):
        creator(folder, split="test")
    with pytest.raises(ValueError, match="no config 'x'"):
        creator(folder, hf_config="x")
    with pytest.raises(ValueError, match="datasets<4"):
        creator(write(tmp_path, "folder", ["a"]), trust_remote_code=True)
    for kwargs in ({"n_processes": 0}, {"base_max_size": 0}, {"output_format": "hf", "output_dir": tmp_path}):
        classes = [SINGULAR, TextFilterConfig("they", id="a/b")] if "output_dir" in kwargs else [SINGULAR, PLURAL]
        with pytest.raises(ValueError, match=next(iter(kwargs))):
            TextPredictionDataCreator(["a"], feature_targets=classes, **kwargs)


def test_an_empty_corpus_is_an_error_that_names_the_classes(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(ValueError, match=r"'3SG'.*no text in the base data .*empty.txt"):
        creator(tmp_path / "empty.txt").generate_training_data()
    assert creator(tmp_path / "empty.txt").generate_neutral_data().empty


# --- one pass, any number of processes


@pytest.mark.parametrize("preprocess", [None, TextPreprocessConfig(split_to_sentences=True, min_chars=15)])
def test_two_processes_give_the_rows_of_one(preprocess: TextPreprocessConfig | None) -> None:
    texts = [f"{a} {b}" for a, b in zip(corpus(700), reversed(corpus(700)), strict=True)]
    kwargs = {"preprocess": preprocess, "seed": 5}
    for limit in (None, 40):
        frames = [
            creator(texts, n_processes=n, **kwargs).generate_training_data(
                limit, format="minimal", min_rows_per_class_for_split=0
            )
            for n in (1, 2)
        ]
        pd.testing.assert_frame_equal(*frames)


def test_a_filter_of_the_user_stays_in_this_process(caplog: pytest.LogCaptureFixture) -> None:
    kept = TextPreprocessConfig(custom_filter=lambda text: "room 1" in text)
    frame = creator(corpus(), preprocess=kept, n_processes=2).generate_training_data(format="minimal")
    assert frame["masked"].str.contains("room 1").all()
    assert "custom_filter" in caplog.text


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(
            st.sampled_from("he they it Они, we’ll at least; THEY né e\u0301he İt she-he".split()), max_size=6
        ).map(" ".join),
        max_size=20,
        unique=True,
    ),
    st.booleans(),
)
def test_the_pass_masks_the_words_of_each_class_in_turn(sentences: list[str], keep: bool) -> None:
    classes = [SINGULAR, PLURAL, TextFilterConfig(["at least", "né", "они"], id="other")]
    found, _ = filter_sentences_multi(sentences, [(config.id, config) for config in classes])
    matched = {name: dict(rows) for name, rows in found.items()}
    wanted = {
        name: {
            mask_sentence(text.strip(), matched[name][text])
            for text in matched[name]
            if text.strip() == text and (keep or all(text not in matched[other] for other in matched if other != name))
        }
        for name in matched
    }
    made = TextPredictionDataCreator(sentences, feature_targets=classes)
    try:
        frames = made.generate_training_data(balance=False, min_rows_per_class_for_split=0, keep_several_classes=keep)
    except ValueError:
        assert not all(wanted.values())
    else:
        assert {name: set(frame["masked"]) for name, frame in frames.items()} == wanted


# --- splits by document


def split_documents(rows: list[tuple[str, str]], **kwargs: object) -> tuple[pd.DataFrame, dict[str, str]]:
    frame = pd.DataFrame(rows, columns=["text", "document"])
    made = creator(frame, document_column="document")
    result = made.generate_training_data(format="minimal", min_rows_per_class_for_split=0, balance=False, **kwargs)
    return result, {mask_sentence(text, _spans(text)): document for text, document in reversed(rows)}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_the_cached_table_gives_the_same_report_with_its_documents(tmp_path: Path, kind: str) -> None:
    frame = pd.DataFrame({"text": corpus(40)[:80], "document": [None, *(i // 4 for i in range(1, 80))]})
    for by_document in (True, False):
        made = creator(frame, document_column="document", output_dir=tmp_path, output_format=kind, use_cache=True)
        first = made.generate_training_data(format="unified", split_by_document=by_document, balance=False)
        report = made.summary()
        assert report.has_documents
        assert bool(report.overlaps) is not by_document
        written = (tmp_path / f"training.{kind}").stat().st_mtime_ns
        again = made.generate_training_data(format="unified", split_by_document=by_document, balance=False)
        assert (tmp_path / f"training.{kind}").stat().st_mtime_ns == written
        pd.testing.assert_frame_equal(again, first)
        assert made.summary() == report


def _spans(text: str) -> list[tuple[int, int, str]]:
    return [span for config in (SINGULAR, PLURAL) for span in match_sentence_one_config(text, config) or []]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["He", "They"]), st.integers(0, 25), st.integers(0, 9)), max_size=60))
def test_no_document_and_no_masked_text_is_in_two_splits(drawn: list[tuple[str, int, int]]) -> None:
    rows = [("He left.", "d0"), ("They left.", "d1")]
    rows += [(f"{word} saw {n}.", f"d{document}") for word, n, document in drawn]
    result, _ = split_documents(rows)
    texts = {f"{word} saw {n}." for word, n, _ in drawn} | {"He left.", "They left."}
    assert len(result) == len(texts)
    splits = defaultdict(set)
    documents_of = defaultdict(list)
    for text, document in rows:
        documents_of[text].append(document)
    for masked, label, split in result[["masked", "label", "split"]].itertuples(index=False):
        splits[masked].add(split)
        owners = documents_of[masked.replace("[MASK]", label)]
        if len(set(owners)) == 1:  # of repetitions only one row is kept, from one of its documents
            splits[owners[0]].add(split)
    assert all(len(found) == 1 for found in splits.values())


def test_ratios_of_every_class_are_kept_as_far_as_documents_allow(tmp_path: Path) -> None:
    rows = [(f"{word} saw {d}/{i}.", f"d{d}") for d in range(60) for i in range(5) for word in ("He", "They")]
    result, document_of = split_documents(rows)
    shares = result.groupby("label_class")["split"].value_counts(normalize=True)
    for name in ("3SG", "3PL"):
        assert shares[name].to_dict() == pytest.approx({"train": 0.8, "validation": 0.1, "test": 0.1}, abs=0.02)
    by_document = result.assign(document=result["masked"].map(document_of)).groupby("document")["split"].nunique()
    assert (by_document == 1).all()


@pytest.mark.parametrize("kind", ["frame", "csv", "jsonl", "parquet", "saved"])
def test_texts_whose_document_is_unknown_are_not_one_document(tmp_path: Path, kind: str) -> None:
    for number, unknown in enumerate((None, float("nan"))):
        texts, documents = corpus(), [*["a", "b"] * 10, *[unknown] * 130]
        folder = tmp_path / str(number)
        folder.mkdir()
        frame = pd.DataFrame({"text": texts, "document": documents}, dtype=object)
        made = creator(
            frame if kind == "frame" else write(folder, kind, texts, documents), document_column="document"
        ).generate_training_data(format="unified")
        for name in ("3SG", "3PL"):
            parts = made["split"][made["label_class"] == name].value_counts()
            assert parts.to_dict() == pytest.approx({"train": 48, "validation": 6, "test": 6}, abs=5)
        assert set(made["document"]) == {"a", "b", ""}


def test_documents_may_be_named_by_lists() -> None:
    rows = [(f"{word} saw {d}/{i}.", [d, "x"]) for d in range(20) for i in range(3) for word in ("He", "They")]
    result, _ = split_documents(rows)
    assert (result.groupby(result["masked"].str.extract(r"(\d+)/")[0])["split"].nunique() == 1).all()


def test_each_text_is_a_document_before_it_is_cut(tmp_path: Path) -> None:
    texts = [f"He saw {i}. They met {i}. She knew {i}." for i in range(50)]
    made = creator(texts, preprocess=TextPreprocessConfig(split_to_sentences=True))
    by_text = made.generate_training_data(format="minimal", split_by_document=True)
    number = by_text["masked"].str.extract(r"(\d+)")[0]
    assert (by_text["split"].groupby(number).nunique() == 1).all()
    freely = made.generate_training_data(format="minimal")
    assert (freely["split"].groupby(freely["masked"].str.extract(r"(\d+)")[0]).nunique() > 1).any()
    for source in (texts, write(tmp_path, "txt", texts)):
        with pytest.raises(ValueError, match=r"document_column='doc'.*has none"):
            creator(source, document_column="doc")
    with pytest.raises(ValueError, match="document_column="):
        creator(write(tmp_path, "csv", texts), document_column="doc")


# --- files that answer later calls


@pytest.mark.parametrize("output_format", ["csv", "parquet", "hf"])
@pytest.mark.parametrize("returned", ["per_class", "unified", "minimal"])
def test_a_cached_result_is_the_first_one(
    tmp_path: Path, output_format: str, returned: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gradiend")
    texts = [*corpus(), 'They say "NA",\nthen they left.', "It is 1 NA"]
    classes = [SINGULAR, PLURAL, TextFilterConfig("NA", id="1")]
    texts += [f"An NA no. {i}" for i in range(12)]

    def make() -> tuple[object, pd.DataFrame]:
        made = TextPredictionDataCreator(
            texts, feature_targets=classes, output_dir=tmp_path, output_format=output_format, use_cache=True
        )
        return made.generate_training_data(format=returned), made.generate_neutral_data()

    first, second = make(), make()
    assert caplog.text.count("used again") == 2
    assert caplog.text.count("does not exist yet") == 2
    pd.testing.assert_frame_equal(first[1], second[1])
    if isinstance(first[0], dict):
        assert list(first[0]) == list(second[0])
        for name in first[0]:
            pd.testing.assert_frame_equal(first[0][name], second[0][name])
    else:
        pd.testing.assert_frame_equal(first[0], second[0])


def test_a_cached_result_knows_what_was_dropped(tmp_path: Path) -> None:
    texts = [*corpus(), "He and they.", "He and they went."]
    first, second = (creator(texts, output_dir=tmp_path, use_cache=True) for _ in range(2))
    for kept, counted in ((True, {"n_beside_others": 4}), (False, {"dropped": {"with words of several classes": 2}})):
        for made in (first, second):
            made.generate_training_data(keep_several_classes=kept, balance=None)
        assert first.summary() == second.summary()
        assert counted.items() <= second.summary().to_dict().items()


def test_a_split_that_stays_empty_is_told(caplog: pytest.LogCaptureFixture) -> None:
    books = pd.DataFrame(
        [(f"{who} left {i}.", f"book {i % 2}") for i in range(20) for who in ("He", "They")], columns=["text", "book"]
    )
    creator(books, document_column="book").generate_training_data()
    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "too few documents" in told
    assert told.count("3SG") == told.count("3PL") >= 1
    caplog.clear()
    creator(books).generate_training_data()
    creator(books, document_column="book").generate_training_data(train_ratio=0.5, val_ratio=0.5, test_ratio=0)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_whatever_a_result_depends_on_makes_it_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gradiend")
    source = write(tmp_path, "txt", corpus())
    folder = tmp_path / "out"

    def make(limit: int | None = None, classes: object = (SINGULAR, PLURAL), **kwargs: object) -> str:
        caplog.clear()
        made = TextPredictionDataCreator(
            source, feature_targets=list(classes), **{"output_dir": folder, "use_cache": True, **kwargs}
        )
        made.generate_training_data(limit)
        return caplog.text

    make()
    assert "used again" in make()
    assert "max_size_per_class was None and is 20" in make(20)
    assert "seed was 42 and is 7" in make(20, seed=7)
    assert "classes was" in make(20, (SINGULAR, TextFilterConfig("they", id="3PL", weight=2)), seed=7)
    assert "preprocess was None" in make(preprocess=TextPreprocessConfig(min_chars=3))
    make()
    source.write_text(source.read_text() + "They came late.\n")
    assert "base_data was" in make()
    (folder / "training.csv").write_text((folder / "training.csv").read_text().replace("room 1", "room 2"))
    assert "was changed after it was made" in make()
    (folder / "training.csv.made_from.json").unlink()
    assert "nothing says what it was made from" in make()
    filtered = make(preprocess=TextPreprocessConfig(custom_filter=bool))
    assert "custom_filter" in filtered
    assert "used again" not in filtered
    assert "nowhere to keep" in make(output_dir=None)


# --- folders of data sets


def test_a_folder_of_data_sets_has_a_config_for_each_class(tmp_path: Path) -> None:
    made = creator(corpus(), output_dir=tmp_path, output_format="hf", training_basename="rows")
    frames = made.generate_training_data()
    neutral = made.generate_neutral_data(max_size=5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["neutral", "rows"]
    assert sorted(hub_config_names(tmp_path / "rows")) == ["3PL", "3SG"]
    for name, frame in frames.items():
        pd.testing.assert_frame_equal(load_hub_dataset(tmp_path / "rows", name).to_pandas(), frame)
    pd.testing.assert_frame_equal(load_hub_dataset(tmp_path / "neutral", split="train").to_pandas(), neutral)
    assert set(datasets.load_from_disk(tmp_path / "rows")) == {"3SG", "3PL"}
    again = creator(corpus(), output_format="hf").generate_training_data(10, output=tmp_path / "rows")
    assert load_hub_dataset(tmp_path / "rows", "3PL").num_rows == len(again["3PL"]) == 10
    assert creator(["he"], output_format="hf").generate_neutral_data(output=tmp_path / "none").empty
    assert load_hub_dataset(tmp_path / "none").num_rows == 0


def test_no_folder_of_the_user_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "mine.txt").write_text("")
    with pytest.raises(ValueError, match="in the way"):
        creator(corpus(), output_dir=tmp_path, output_format="hf").generate_training_data()
    assert (tmp_path / "training" / "mine.txt").exists()


def test_the_training_part_has_the_name_that_is_asked_for() -> None:
    frame = creator(corpus()).generate_training_data(format="minimal", split_name="fit")
    assert set(frame["split"]) == {"fit", "validation", "test"}
    with pytest.raises(ValueError, match="split_name"):
        creator([]).generate_training_data(split_name="test")
    with pytest.raises(ValueError, match="per_class"):
        creator([]).generate_neutral_data(format="wide")
