"""The data report of creator and trainer."""

from __future__ import annotations

import json
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradiend import TextFilterConfig, TextPredictionDataCreator, TextPredictionTrainer, TrainingArguments
from gradiend.data._summary import Overlap, summarise
from gradiend.demo import model_path, sentences
from tests.tiny import bert_tokenizer

SPLITS = ["train", "validation", "test"]
rows_of = st.lists(
    st.tuples(
        st.sampled_from("abcd"), st.sampled_from(SPLITS), st.sampled_from(["x", "y"]), st.sampled_from(["he", "He"])
    ),
    min_size=1,
    max_size=25,
)


def frame(*rows) -> pd.DataFrame:
    """Rows of (text, split, class, word)."""
    table = pd.DataFrame(rows, columns=["masked", "split", "factual_class", "factual"])
    return table.assign(masked=[f"{text} [MASK] {'very ' * (ord(text) - 97)}." for text in table["masked"]])


def trainer(data, **fields) -> TextPredictionTrainer:
    return TextPredictionTrainer("no/such-model", data=data, **{"target_classes": ["she", "he"], **fields})


@settings(max_examples=25, deadline=None)
@given(rows_of)
def test_numbers_are_those_of_a_naive_count(rows) -> None:
    table = frame(*rows)
    summary = summarise(table)
    assert summary.n_rows == len(rows)
    for item in summary.classes:
        own = [row for row in rows if row[2] == item.name]
        assert {split: n for split, n in item.rows.items() if n} == dict(Counter(row[1] for row in own))
        assert {word.word: word.count for word in item.words} == dict(Counter(row[3] for row in own))
        assert [word.count for word in item.words] == sorted((word.count for word in item.words), reverse=True)
        lengths = sorted(3 + ord(text) - 97 for text in {row[0] for row in own})
        assert (item.lengths.minimum, item.lengths.maximum) == (lengths[0], lengths[-1])
        assert item.lengths.quartiles == pytest.approx(np.quantile(lengths, [0.25, 0.5, 0.75]))
        texts = {(text, word) for text, word in zip(table["masked"], table["factual"], strict=True)}
        assert len(item.examples) == min(3, len(lengths))
        assert set(item.examples) <= texts
    shared = {
        (a, b): len({row[0] for row in rows if row[1] == a} & {row[0] for row in rows if row[1] == b})
        for a, b in [SPLITS[:2], SPLITS[::2], SPLITS[1:]]
    }
    assert {item.splits: item.count for item in summary.overlaps} == {key: n for key, n in shared.items() if n}
    content = summary.to_dict()
    assert json.loads(json.dumps(content)) == content
    assert content["n_rows"] == len(rows)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.sampled_from(["she", "he", "they", "it"]), max_size=20))
def test_every_row_is_kept_or_dropped_with_its_reason(classes) -> None:
    names = [*classes, "she", "he"]
    data = pd.DataFrame({"masked": [f"{i} [MASK]" for i in range(len(names))], "label": names, "label_class": names})
    summary = trainer(data).data_summary()
    assert summary.n_rows + sum(summary.dropped.values()) == len(data)
    assert {name for name in ("they", "it") if any(name in reason for reason in summary.dropped)} == set(classes) - {
        "she", "he"
    }  # fmt: skip
    whole = trainer(data).data_summary(include_other_classes=True)
    assert whole.n_rows == len(data)
    assert whole.dropped == {}
    assert [item.name for item in whole.classes][:2] == ["she", "he"]


def test_the_reasons() -> None:
    rows = [
        ("die", "fem_nom", "die", "fem_acc"), ("der", "masc_nom", "den", "masc_acc"),
        ("den", "masc_acc", "der", "masc_nom"), ("der", "masc_nom", "die", "fem_nom"),
        ("der", "masc_nom", "die", "fem_acc"), ("der", "masc_nom", "dem", "masc_dat"),
        ("dem", "masc_dat", "der", "masc_nom"), ("die", "fem_acc", "der", "masc_nom"),
    ]  # fmt: skip
    data = pd.DataFrame(rows, columns=["label", "label_class", "alternative", "alternative_class"])
    data["masked"] = [f"{i} [MASK]" for i in range(len(data))]
    merged = trainer(
        data,
        target_classes=None,
        class_merge_map={"nom": ["masc_nom", "fem_nom"], "acc": ["masc_acc", "fem_acc"]},
        class_merge_transition_groups=[["masc_nom", "masc_acc"], ["fem_nom", "fem_acc"]],
    )
    assert merged.data_summary().dropped == {
        "of class 'masc_dat', which is no target": 1,
        "compared with another class than the target classes": 1,
        "comparing a class with itself": 1,
        "outside the transition groups": 2,
        "with the same word on both sides": 1,
    }
    same = pd.DataFrame({"masked": ["a [MASK]", "b [MASK]", "c [MASK]"], "label": ["die", "sie", "die"]})
    kept = trainer(same.assign(label_class=["she", "she", "he"]))
    assert kept.data_summary().dropped == {"without another word to compare with": 1}
    assert kept.combined_data["factual"].tolist() == ["sie", "die"]


def test_tokens_of_the_words_where_they_stand() -> None:
    table = frame(*[("a", "train", "x", word) for word in ("he", "gardener", "walking", "ogre")])
    summary = summarise(table, tokenizer=bert_tokenizer())
    words = {word.word: word for word in summary.classes[0].words}
    assert {name: word.tokens for name, word in words.items()} == {
        "he": ("he",), "gardener": ("gar", "den", "er"), "walking": ("wal", "king"), "ogre": ("ogre",)
    }  # fmt: skip
    assert [name for name, word in words.items() if word.is_unknown] == ["ogre"]
    assert {word.word for word in summary.flagged_words["x"]} == {"gardener", "walking", "ogre"}
    assert "gar · den · er" in str(summary)
    assert summarise(table).flagged_words == {}
    with pytest.raises(TypeError, match="fast tokenizer"):
        summarise(table, tokenizer=str.split)


def test_leaks_between_splits() -> None:
    data = pd.DataFrame(
        {
            "masked": ["One [MASK] .", "Two [MASK] .", "One  [MASK] .", "Three [MASK] ."],
            "label": ["she", "he", "she", "he"],
            "label_class": ["she", "he", "she", "he"],
            "split": ["train", "train", "test", "val"],
            "book": ["A", "B", "A", "B"],
        }
    )
    summary = trainer(data, document_col="book").data_summary()
    assert summary.overlaps == (
        Overlap("text", ("train", "test"), 1, "One [MASK] ."),
        Overlap("document", ("train", "validation"), 1, "B"),
        Overlap("document", ("train", "test"), 1, "A"),
    )
    assert summary.has_documents
    assert not trainer(data).data_summary().has_documents


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        self.seen.add(tag)


def test_nothing_of_the_corpus_becomes_markup_or_moves_the_cursor() -> None:
    evil = "<script>alert(1)</script> [MASK] \x1b[2J \u202e & <img src=x>"
    table = pd.DataFrame({"masked": evil, "split": ["<b>", "c"], "factual_class": "<i>", "factual": "<u>\x1b[31m"})
    summary = summarise(table.assign(document="<a>"), dropped={"<em>": 3})
    page = summary._repr_html_()
    assert Tags(page).seen == {"div", "p", "h4", "table", "thead", "tbody", "tr", "th", "td"}
    assert "&lt;script&gt;" in page
    assert "\x1b" not in page + str(summary)
    assert "\u202e" not in page + str(summary)


def test_the_report_reads_well() -> None:
    long = "word " * 60 + "[MASK]" + " word" * 60
    table = pd.concat([frame(("a", "test", "x", "he"), ("b", "train", "y", "she")), frame(("c", "train", "x", "he"))])
    table.iloc[0, 0] = long
    text = str(summarise(table, classes=["y", "x", "none"], dropped={"too long": 12, "nothing": 0}))
    assert text.startswith("3 rows of 3 classes; splits: train 2, test 1.\n\nRows\n  class  train  test  all\n")
    assert "  none       0     0    0" in text
    assert "  too long        12" in text
    assert "nothing" not in text
    assert max(map(len, text.splitlines())) < 120
    (example,) = [line for line in text.splitlines() if "…" in line]
    assert "[MASK]" in example


def test_the_creator_tells_what_it_made() -> None:
    texts = ["then he went home"] * 2 + [f"{i} he and they went" for i in range(3)]
    texts += [f"{i} times {word} saw it" for i in range(20) for word in ("he", "They")]
    targets = [TextFilterConfig(["he"], id="3SG"), TextFilterConfig(["they"], id="3PL")]
    creator = TextPredictionDataCreator(texts, feature_targets=targets)
    with pytest.raises(ValueError, match="generate_training_data"):
        creator.summary()
    data = creator.generate_training_data(max_size_per_class=20, keep_several_classes=False)
    summary = creator.summary(bert_tokenizer())
    for item in summary.classes:
        assert item.rows == data[item.name].groupby("split").size().to_dict()
    assert [item.name for item in summary.classes] == ["3SG", "3PL"]
    assert summary.dropped["with words of several classes"] == 3
    assert summary.overlaps == ()
    assert summary.classes[1].words[0].tokens == ("They",)


def test_masks_of_the_user_are_the_places_of_words_too() -> None:
    def of(mask: str) -> dict:
        classes = [TextFilterConfig("he", mask=mask), TextFilterConfig("they", mask=mask)]
        texts = [f"then {word} saw the bread {i} ." for i in range(20) for word in ("he", "they")]
        creator = TextPredictionDataCreator(texts, feature_targets=classes)
        creator.generate_training_data()
        return creator.summary(bert_tokenizer()).to_dict()

    assert of("<w>") == of("[MASK]")


def test_the_creator_tells_which_documents_splits_share() -> None:
    books = pd.DataFrame(
        [(f"then {who} left {i}", f"book {i % 12}") for i in range(96) for who in ("he", "they")],
        columns=["text", "book"],
    )
    targets = [TextFilterConfig(["he"], id="3SG"), TextFilterConfig(["they"], id="3PL")]
    creator = TextPredictionDataCreator(books, feature_targets=targets, document_column="book")
    creator.generate_training_data()
    assert creator.summary().has_documents
    assert creator.summary().overlaps == ()
    frames = creator.generate_training_data(split_by_document=False)
    number = {name: frame["masked"].str.extract(r"(\d+)$")[0].astype(int) % 12 for name, frame in frames.items()}
    books_of = {
        split: {book for name, frame in frames.items() for book in number[name][frame["split"] == split]}
        for split in ("train", "test")
    }
    (shared,) = [item for item in creator.summary().overlaps if item.splits == ("train", "test")]
    assert (shared.kind, shared.count) == ("document", len(books_of["train"] & books_of["test"]))


def test_a_loaded_model_gives_its_tokenizer() -> None:
    targets = [TextFilterConfig(["he"], id="3SG"), TextFilterConfig(["they"], id="3PL")]
    data = TextPredictionDataCreator(sentences(300), feature_targets=targets).generate_training_data(
        min_rows_per_class_for_split=0
    )
    loaded = TextPredictionTrainer(str(model_path()), data=data, args=TrainingArguments(params=["*layer.0*"]))
    assert loaded.data_summary().tokenizer is None
    loaded.get_model()
    assert loaded.data_summary().classes[0].words[0].tokens == ("he",)
