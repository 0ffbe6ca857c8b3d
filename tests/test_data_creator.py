"""Raw text to masked examples: spans, splits, formats, files, and the errors on the way."""

from __future__ import annotations

import gzip
import logging
import random
import re
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gradiend import TextPredictionTrainer
from gradiend.data import (
    TextFilterConfig,
    TextPredictionDataCreator,
    TextPreprocessConfig,
    preprocess_texts,
    resolve_base_data,
)
from gradiend.data.core._output_tables import write_table
from gradiend.data.text import iter_sentences_from_texts
from gradiend.data.text._neutral_masking import mask_random_words
from gradiend.data.text.prediction import (
    filter_sentences,
    filter_sentences_multi,
    mask_sentence,
    match_sentence_one_config,
)
from gradiend.data.text.prediction._matcher import SurfaceMatcher, is_unspaced

SINGULAR = TextFilterConfig(targets=["he", "she", "it"], id="3SG")
PLURAL = TextFilterConfig(targets=["they"], id="3PL")
NAMES = ["chef", "baker", "nurse", "pilot", "clerk", "judge", "actor", "guard"]


def corpus(singular: int = 60, plural: int = 60, neutral: int = 30) -> list[str]:
    pronouns = ["he", "she", "it"]
    rows = [f"The {NAMES[i % 8]} said no, then {pronouns[i % 3]} left room {i}." for i in range(singular)]
    rows += [f"They say the {NAMES[i % 8]} is in room {i}, but they never look." for i in range(plural)]
    rows += [f"The {NAMES[i % 8]} was in room {i}." for i in range(neutral)]
    return rows


def creator(texts: object = None, **kwargs: object) -> TextPredictionDataCreator:
    kwargs.setdefault("feature_targets", [SINGULAR, PLURAL])
    return TextPredictionDataCreator(corpus() if texts is None else texts, **kwargs)


# --- spans and masking


def is_inside_word(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character).startswith("M")


def whole_words(text: str) -> list[tuple[int, int, str]]:
    """Maximal runs of letters, digits and marks on them; a mark on anything else belongs to no word.

    Letters of scripts without spaces between words belong to none.
    """
    runs, start = [], None
    for position, character in enumerate([*text, " "]):
        stands_alone = character.isalnum() and is_unspaced(character)
        inside = character.isalnum() or (start is not None and is_inside_word(character))
        goes_on = inside and not stands_alone
        if goes_on and start is None:
            start = position
        elif not goes_on and start is not None:
            runs.append((start, position, text[start:position]))
            start = None
    return runs


PIECES = [
    "he",
    "HE",
    "She",
    "it",
    "the",
    "they",
    "ße",
    "ẞ",
    "İ",
    "ı",
    "straße",
    "STRASSE",
    "é",
    "e\u0301",
    "\u0301",
    "ne",
]
PIECES += ["она", "ОНИ", "αυτός", "ΣΑΣ", "σας", "µ", "μ", "Łódź", "\u00ad"]
PIECES += [
    "👩‍🚀",
    "❤\ufe0f",
    "🏴",
    "הוא",
    "היא",
    "هو",
    "\u0651",
    "हि",
    "中",
    "1",
    "'",
    "’",
    "-",
    "_",
    ".",
    " ",
    "\n",
    '"',
    "ﬁ",
]
messy_text = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=25).map("".join)
PRONOUNS = TextFilterConfig(targets=["he", "she", "it", "הוא", "هو", "straße", "né"], id="c")
SCRIPTS = [
    PRONOUNS,
    TextFilterConfig(targets=["he", "she", "it", "straße", "1"], id="Latin"),
    TextFilterConfig(targets=["она", "ОНИ", "it"], id="Cyrillic"),
    TextFilterConfig(targets=["αυτός", "σας", "µ", "he"], id="Greek"),
    TextFilterConfig(targets=["הוא", "he"], id="Hebrew"),
    TextFilterConfig(targets=["هو", "she"], id="Arabic"),
    TextFilterConfig(targets=["łódź", "ĞI", "it"], id="others"),
]


@given(messy_text, st.sampled_from(SCRIPTS))
@example("İİİ he İ it ẞ STRAßE ſhe", PRONOUNS)
@example("e\u0301he, he\u0301, he\ufe0f; ❤\ufe0fhe", PRONOUNS)
@example("un\u00adhe he\u00ad it µit", SCRIPTS[1])
@example("Она, они: ОНИ it İT", SCRIPTS[2])
@example("ΑΥΤΌΣ αυτός σας ΣΑΣ σασ µ μ Μ", SCRIPTS[3])
def test_spans_index_the_original_text_and_are_whole_words(text: str, config: TextFilterConfig) -> None:
    spans = match_sentence_one_config(text, config) or []
    assert all(text[start:end] == found for start, end, found in spans)
    runs = whole_words(text)
    assert {span[:2] for span in spans} <= {run[:2] for run in runs}
    # and no plainly cased whole word is missed, except beside a joiner such as ZWJ or a soft hyphen
    wanted = {unicodedata.normalize("NFC", str(word)).lower() for word in config.targets}
    for start, end, word in runs:
        beside = text[max(0, start - 1) : start] + text[end : end + 1]
        joined = any(unicodedata.category(character) in {"Cf", "Mn", "Mc", "Me"} for character in beside)
        if unicodedata.normalize("NFC", word).lower() in wanted and not joined:
            assert (start, end, word) in spans


@given(messy_text, st.randoms(use_true_random=False))
def test_masking_then_filling_restores_the_text(text: str, rng: random.Random) -> None:
    mask = "⟨slot⟩"
    spans = match_sentence_one_config(text, PRONOUNS) or []
    shuffled = rng.sample(spans, len(spans))
    masked = mask_sentence(text, shuffled, mask)
    assert masked.count(mask) == len(spans)
    words = iter(found for _, _, found in spans)
    assert re.sub(re.escape(mask), lambda _: next(words), masked) == text
    assert match_sentence_one_config(masked, PRONOUNS) is None


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("He saw HE-man; the sheet.", "[MASK] saw [MASK]-man; the sheet."),
        ("he's sure he’s 'he'", "[MASK]'s sure [MASK]’s '[MASK]'"),
        ("_he_ and he_x", "_[MASK]_ and [MASK]_x"),
        ("he1 1he", "he1 1he"),
        ("héros hé he\u0301 e\u0301he", "héros hé he\u0301 e\u0301he"),
        ("he\u00adro un\u00adhe \u200fhe\u200f", "he\u00adro un\u00adhe \u200f[MASK]\u200f"),
        ("🙂he🙂 👩‍🚀 he", "🙂[MASK]🙂 👩‍🚀 [MASK]"),
        ("❤\ufe0fhe", "❤\ufe0f[MASK]"),
        ("İİİ ßßß he", "İİİ ßßß [MASK]"),
    ],
)
def test_what_counts_as_a_whole_word(text: str, masked: str) -> None:
    he = TextFilterConfig(target="he")
    assert mask_sentence(text, match_sentence_one_config(text, he), he.mask) == masked


@pytest.mark.parametrize(
    ("target", "text", "found"),
    [
        ("café", "cafe\u0301 CAFÉ cafés", ["cafe\u0301", "CAFÉ"]),
        ("cafe\u0301", "café", ["café"]),
        ("straße", "Straße STRAẞE strasse", ["Straße", "STRAẞE"]),
        ("היא", "היא הלכה, והיא", ["היא"]),
        ("at least", "At  least at\nleast atleast", ["At  least", "at\nleast"]),
        ("C++", "C++ and c++20, C", ["C++", "c++"]),
        ("'s", "he's its 's", ["'s", "'s"]),
        ("don't", "Don’t, don't; dont don`t", ["Don’t", "don't"]),
        ("don’t", "Don’t, don't; dont don`t", ["Don’t", "don't"]),
        ("a.b", "a.b axb", ["a.b"]),
    ],
)
def test_targets_of_all_kinds(target: str, text: str, found: list[str]) -> None:
    assert [span[2] for span in match_sentence_one_config(text, TextFilterConfig(target=target))] == found


def by_id(configs: list[TextFilterConfig]) -> list[tuple[str, TextFilterConfig]]:
    return [(config.id, config) for config in configs]


@given(st.lists(messy_text, max_size=30), st.sampled_from(SCRIPTS))
@example(["he\u0301", "Rain.", "❤\ufe0fhe", "", "\0he", "x\nhe", "İt"], PRONOUNS)
def test_what_is_found_does_not_depend_on_the_texts_beside_it(texts: list[str], config: TextFilterConfig) -> None:
    stripped = [text.strip() for text in texts]
    neutral = TextPredictionDataCreator(texts, feature_targets=[config]).generate_neutral_data()
    alone = [text for text in stripped if text and match_sentence_one_config(text, config) is None]
    assert sorted(neutral["text"]) == sorted(alone)


@given(st.lists(messy_text, max_size=8))
def test_one_pass_for_all_classes_equals_a_pass_for_each(sentences: list[str]) -> None:
    classes = [SINGULAR, PLURAL, TextFilterConfig(targets=["straße", "הוא", "it"], id="other")]
    together, counts = filter_sentences_multi(sentences, by_id(classes))
    assert counts == {"sentences_processed": len(sentences)}
    assert together == {config.id: filter_sentences(sentences, config) for config in classes}


def test_the_pass_for_all_classes_stops_when_each_has_enough() -> None:
    sentences = ["They met him.", "He left.", "They left.", "No.", "He came.", "They came."]
    counts: dict[str, object] = {}
    pairs = [("one", SINGULAR), ("many", PLURAL)]
    matches, returned = filter_sentences_multi(sentences, pairs, max_matches_per_class=2, stats=counts)
    assert {name: [text for text, _ in rows] for name, rows in matches.items()} == {
        "one": ["He left.", "He came."],
        "many": ["They met him.", "They left."],
    }
    assert counts == returned == {"sentences_processed": 5, "sentences_when_cap_reached": {"many": 3, "one": 5}}


def test_spans_may_come_in_any_order() -> None:
    for spans in ([(6, 8), (0, 2), (3, 5)], [(0, 2, "aa"), (6, 8, "cc"), (3, 5, "bb")]):
        assert mask_sentence("aa bb cc!", spans, "_") == "_ _ _!"
    assert mask_sentence("aa", [], "_") == "aa"


def test_the_longest_of_nested_targets_is_found() -> None:
    classes = [TextFilterConfig(targets=["he"], id="a"), TextFilterConfig(targets=["he himself"], id="b")]
    matches, _ = filter_sentences_multi(["he himself knew, he said"], by_id(classes))
    assert matches["b"][0][1] == [(0, 10, "he himself")]
    assert matches["a"][0][1] == [(17, 19, "he")]


def test_a_target_of_several_words_counts_for_its_own_class_alone() -> None:
    words = {"both": "he or she himself", "one": "he", "other": "she"}
    texts = ["He or she himself left.", "He left.", "She left.", "He, she."]
    made = creator(texts, feature_targets=[TextFilterConfig(word, id=name) for name, word in words.items()])
    frames = made.generate_training_data(min_rows_per_class_for_split=0)
    assert [len(frame) for frame in frames.values()] == [1, 1, 1]
    assert frames["both"]["masked"].tolist() == ["[MASK] left."]


def test_filtering_keeps_order_and_casing_and_stops_at_the_maximum() -> None:
    sentences = ["no", "THEY and they", "They.", "they"]
    assert filter_sentences(sentences, PLURAL, max_matches=2) == [
        ("THEY and they", [(0, 4, "THEY"), (9, 13, "they")]),
        ("They.", [(0, 4, "They")]),
    ]


@pytest.mark.parametrize("spans", [[(0, 3), (2, 4)], [(1, 1)], [(-1, 2)], [(0, 9)], [(0, 2, "xx")]])
def test_spans_that_do_not_fit_are_errors(spans: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match=r"span|sentence has"):
        mask_sentence("abcd", spans, "[MASK]")


# --- classes


def test_a_class_is_named_by_its_first_target_and_takes_a_bare_string() -> None:
    assert TextFilterConfig(target="they") == TextFilterConfig(targets="they") == TextFilterConfig(["they"], id="they")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({}, "needs words"),
        ({"targets": []}, "at least one"),
        ({"targets": ["he"], "target": "he"}, "not both"),
        ({"targets": ["he", " "]}, "target must not be empty"),
        ({"target": "he", "id": " "}, "id of a class"),
        ({"target": "he", "mask": ""}, "mask"),
        ({"target": "he", "weight": 0}, "weight"),
        ({"target": "he", "weight": float("nan")}, "weight"),
    ],
)
def test_bad_classes(kwargs: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextFilterConfig(**kwargs)
    with pytest.raises(TypeError, match="int"):
        TextFilterConfig(targets=["he", 1])


# --- base data


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "parquet", "txt", "txt.gz"])
def test_every_source_gives_the_same_texts(tmp_path: Path, suffix: str) -> None:
    texts = ["Größe, “quoted”", 'a "b", c', "NA", "null", "1", "tab\tbed"]
    path = tmp_path / f"texts.{suffix}"
    frame = pd.DataFrame({"n": range(len(texts)), "body": texts})
    if suffix.startswith("csv"):
        frame.to_csv(path, index=False)
    elif suffix == "parquet":
        frame.to_parquet(path)
    else:
        data = "\n".join(texts).encode()
        path.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    expected = resolve_base_data(texts)
    assert sorted(expected) == sorted(texts)
    assert expected == resolve_base_data(frame, "body") == resolve_base_data(str(path), "body")
    assert expected == resolve_base_data(path, text_column="body")


def test_missing_and_empty_texts_are_dropped_and_the_rest_stripped() -> None:
    source = pd.DataFrame({"text": [" a ", "", None, np.nan, "  ", "b\n"]})
    assert sorted(resolve_base_data(source)) == ["a", "b"]
    assert resolve_base_data([]) == []


@given(st.integers(1, 40), st.integers(0, 5))
def test_the_cap_keeps_the_beginning_of_the_seeded_order(size: int, seed: int) -> None:
    texts = [f"text {i}" for i in range(30)]
    everything = resolve_base_data(texts, seed=seed)
    assert sorted(everything) == sorted(texts)
    assert resolve_base_data(texts, max_size=size, seed=seed) == everything[:size]
    assert everything != resolve_base_data(texts, seed=seed + 1)


def test_bad_base_data(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "latin.csv").write_bytes("text\nGröße".encode("latin-1"))
    (tmp_path / "latin.txt").write_bytes("Größe".encode("latin-1"))
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "a.csv").write_text("id,body\n1,x\n")
    (tmp_path / "a.docx").write_text("x")
    pd.DataFrame({"id": [1], "body": ["x"]}).to_parquet(tmp_path / "a.parquet")
    table = [
        (("a", "b"), TypeError, "tuple"),
        (3, TypeError, "int"),
        (["a", 3], TypeError, "entry 1"),
        (pd.DataFrame({"id": [1], "body": ["x"]}), ValueError, "'text'.*id, body"),
        (tmp_path / "a.csv", ValueError, "'text'.*id, body"),
        (tmp_path / "a.parquet", ValueError, "'text'.*id, body"),
        (str(tmp_path / "no.csv"), FileNotFoundError, r"no\.csv"),
        ("He left. They came.", FileNotFoundError, "list of texts"),
        (tmp_path / "folder", FileNotFoundError, "no data files"),
        (tmp_path / "a.docx", ValueError, r"\.parquet"),
        (tmp_path / "latin.csv", ValueError, "UTF-8"),
        (tmp_path / "latin.txt", ValueError, "UTF-8"),
        (tmp_path / "empty.csv", ValueError, "empty"),
    ]
    for source, error, message in table:
        with pytest.raises(error, match=message):
            resolve_base_data(source)
    with pytest.raises(ValueError, match="max_size"):
        resolve_base_data(["a"], max_size=0)


# --- preprocessing


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Hello there. how are you? Fine!", ["Hello there.", "how are you?", "Fine!"]),
        ("One line\nanother. And more\n\n", ["One line", "another.", "And more"]),
        ('"Did you?" he said. "Yes." She left.', ['"Did you?" he said.', '"Yes."', "She left."]),
        ("“Go!” They went. (He stayed.) It rained.", ["“Go!”", "They went.", "(He stayed.)", "It rained."]),
        (
            "Mrs. J. Smith met Dr. Who. It was I. He left.",
            ["Mrs. J. Smith met Dr. Who.", "It was I.", "He left."],
        ),
        ("Well... he left. Then... They came.", ["Well... he left.", "Then...", "They came."]),
        ("It costs 3.50 at a.b.com now.", ["It costs 3.50 at a.b.com now."]),
        ("Really?! Yes", ["Really?!", "Yes"]),
        (" . ", ["."]),
    ],
)
def test_sentence_splitting(text: str, sentences: list[str]) -> None:
    assert preprocess_texts([text], TextPreprocessConfig(split_to_sentences=True)) == sentences


@given(st.text(alphabet="aA .!?\"'\n)", max_size=40))
def test_splitting_loses_nothing_but_white_space(text: str) -> None:
    pieces = preprocess_texts([text], TextPreprocessConfig(split_to_sentences=True))
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(piece and piece == piece.strip() for piece in pieces)


def test_filters_have_inclusive_bounds_and_no_config_changes_nothing() -> None:
    texts = ["ab", "abc", "abcd", "abcde", "ab#d", " x\ny "]
    assert preprocess_texts(texts) == texts
    config = TextPreprocessConfig(
        min_chars=3, max_chars=4, exclude_chars="#", custom_filter=lambda text: not text.endswith("y ")
    )
    assert preprocess_texts(texts, config) == ["abc", "abcd"] == list(iter_sentences_from_texts(texts, config))
    assert list(iter_sentences_from_texts([" a. b\n\n c "])) == ["a. b", "c"]


@pytest.mark.parametrize("kwargs", [{"min_chars": -1}, {"max_chars": -1}, {"min_chars": 5, "max_chars": 4}])
def test_bad_preprocessing(kwargs: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="chars"):
        TextPreprocessConfig(**kwargs)


# --- training data


def test_the_documented_example_runs() -> None:
    singular = [f"The chef tasted the soup {i} times, then he added pepper." for i in range(12)]
    plural = [f"The chefs tasted the soup {i} times, then they added pepper." for i in range(12)]
    made = TextPredictionDataCreator(
        base_data=[
            "The chef tasted the soup, then he added pepper.",
            *singular,
            *plural,
            "The soup was hot.",
        ],
        feature_targets=[
            TextFilterConfig(targets=["he", "she", "it"], id="3SG"),
            TextFilterConfig(targets=["they"], id="3PL"),
        ],
    )
    training = made.generate_training_data(max_size_per_class=10)
    neutral = made.generate_neutral_data(max_size=15)
    assert set(training) == {"3SG", "3PL"}
    for name, frame in training.items():
        assert {"masked", "label", "split", name} <= set(frame.columns)
        assert len(frame) == 10
        assert frame["masked"].str.contains("[MASK]", regex=False).all()
    assert neutral["text"].tolist() == ["The soup was hot."]


def test_all_words_of_the_class_are_masked_and_the_first_is_the_label() -> None:
    texts = [f"She knew it: he was {i}." for i in range(3)] + [f"THEY are {i}." for i in range(3)]
    frame = creator(texts).generate_training_data(format="minimal", min_rows_per_class_for_split=0)
    assert list(frame.columns) == ["masked", "label", "label_class", "split"]
    rows = set(zip(frame["masked"], frame["label"], frame["label_class"], strict=True))
    assert rows == {(f"[MASK] knew [MASK]: [MASK] was {i}.", "She", "3SG") for i in range(3)} | {
        (f"[MASK] are {i}.", "THEY", "3PL") for i in range(3)
    }


def test_ambiguous_repeated_and_already_masked_sentences_are_dropped_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    texts = [*corpus(12, 12, 0), "He and they left.", "She left.", "He left.", "They [MASK] left."]
    with caplog.at_level(logging.INFO, logger="gradiend"):
        frame = creator(texts).generate_training_data(format="minimal", keep_several_classes=False)
    assert not frame["masked"].str.contains("and|MASK. .MASK", regex=True).any()
    assert not frame["masked"].duplicated().any()
    (line,) = caplog.messages
    for part in (
        "3SG 12",
        "3PL 12",
        "1 with words of several",
        "1 repeating",
        "1 with the mask",
        "1 to balance",
    ):
        assert part in line


@settings(deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 50), st.integers(1, 50), st.integers(0, 30)),
    ratios=st.sampled_from([(0.8, 0.1, 0.1), (0.5, 0.25, 0.25), (0.7, 0.3, 0.0), (1.0, 0.0, 0.0)]),
    seed=st.integers(0, 3),
)
def test_splits_are_disjoint_and_sum_up(
    sizes: tuple[int, int, int], ratios: tuple[float, float, float], seed: int
) -> None:
    singular, plural, shared = sizes
    texts = [f"He has {i} pots." for i in range(singular)] + [f"They have {i} pots." for i in range(plural)]
    texts += [f"{word} left {i} times." for i in range(shared) for word in ("She", "They", "It")]
    frame = creator(texts, seed=seed).generate_training_data(
        format="minimal",
        balance=False,
        train_ratio=ratios[0],
        val_ratio=ratios[1],
        test_ratio=ratios[2],
        min_rows_per_class_for_split=0,
    )
    assert frame["label_class"].value_counts().to_dict() == {"3SG": singular + shared, "3PL": plural + shared}
    assert (frame.groupby("masked")["split"].nunique() == 1).all()
    possible = {name for name, share in zip(("train", "validation", "test"), ratios, strict=True) if share}
    assert set(frame["split"]) <= possible


@pytest.mark.parametrize("n", [3, 5, 10, 11, 25, 40, 60])
def test_each_part_of_each_class_has_its_share(n: int) -> None:
    frames = creator(corpus(n, n)).generate_training_data(min_rows_per_class_for_split=0)
    for frame in frames.values():
        counts = Counter(frame["split"])
        assert sum(counts.values()) == n
        for name, share in (("train", 0.8), ("validation", 0.1), ("test", 0.1)):
            assert counts[name] >= 1
            assert abs(counts[name] - share * n) < (1 if n >= 10 else 2)


def test_texts_that_two_classes_share_keep_the_shares_of_both() -> None:
    texts = [f"{word} left {i} times." for i in range(40) for word in ("He", "They")]
    texts += [f"They stayed {i} times." for i in range(40)]
    frame = creator(texts).generate_training_data(format="minimal", balance=None)
    counts = frame.groupby(["label_class", "split"]).size().to_dict()
    assert counts == {
        ("3SG", "train"): 32,
        ("3SG", "validation"): 4,
        ("3SG", "test"): 4,
        ("3PL", "train"): 64,
        ("3PL", "validation"): 8,
        ("3PL", "test"): 8,
    }


def test_the_same_seed_gives_the_same_rows_and_another_seed_others() -> None:
    for kind in ("minimal", "unified"):
        first = creator().generate_training_data(max_size_per_class=20, format=kind)
        again = creator().generate_training_data(max_size_per_class=20, format=kind)
        other = creator(seed=7).generate_training_data(max_size_per_class=20, format=kind)
        pd.testing.assert_frame_equal(first, again)
        assert first["masked"].tolist() != other["masked"].tolist()
        split_of = dict(zip(other["masked"], other["split"], strict=True))
        both = first[first["masked"].isin(split_of)]
        assert (both["split"] != both["masked"].map(split_of)).any()
    made = creator()
    pd.testing.assert_frame_equal(
        made.generate_training_data(format="unified"), made.generate_training_data(format="unified")
    )


def test_the_formats_tell_the_same_rows() -> None:
    made = creator()
    per_class = made.generate_training_data()
    minimal = made.generate_training_data(format="minimal")
    unified = made.generate_training_data(format="unified")
    columns = ["masked", "label", "split"]
    for name, frame in per_class.items():
        rows = minimal[minimal["label_class"] == name][columns].reset_index(drop=True)
        pd.testing.assert_frame_equal(frame[columns], rows)
        assert frame[name].tolist() == frame["label"].tolist()
    pd.testing.assert_frame_equal(unified[list(minimal.columns)], minimal)


def test_unified_rows_have_an_alternative_by_frequency_in_the_casing_of_the_label() -> None:
    texts = [f"they met {i} men." for i in range(300)] + [f"They met {i} women." for i in range(300)]
    texts += [f"he has {i} pots." for i in range(150)] + [f"She has {i} pans." for i in range(450)]
    frame = creator(texts).generate_training_data(format="unified")
    assert set(frame["transition"]) == {"3SG→3PL", "3PL→3SG"}
    assert (frame["feature_class_id"] == frame["label_class"]).all()
    plural = frame[frame["label_class"] == "3PL"]
    assert (plural["alternative_class"] == "3SG").all()
    assert (plural["label"].str.islower() == plural["alternative"].str.islower()).all()
    assert plural["alternative"].str.lower().eq("she").mean() == pytest.approx(0.75, abs=0.06)
    assert set(frame[frame["label_class"] == "3SG"]["alternative"]) == {"they", "They"}


def test_a_single_capital_letter_is_title_case_at_the_start_of_a_sentence_only() -> None:
    classes = [TextFilterConfig(targets=["I"], id="1SG"), TextFilterConfig(targets=["we"], id="1PL")]
    texts = [f"I saw {i}." for i in range(5)] + [f"Then I saw {i}." for i in range(5)]
    texts += [f"Then we saw {i}." for i in range(10)]
    frame = creator(texts, feature_targets=classes).generate_training_data(format="unified")
    first = frame[frame["label"] == "I"]
    assert set(zip(first["masked"].str.startswith("[MASK]"), first["alternative"], strict=True)) == {
        (True, "We"),
        (False, "we"),
    }


def test_with_three_classes_every_pair_has_all_its_rows() -> None:
    classes = [SINGULAR, PLURAL, TextFilterConfig(targets=["we"], id="1PL")]
    texts = corpus(12, 12, 0) + [f"Then we saw {i}." for i in range(12)]
    frame = creator(texts, feature_targets=classes).generate_training_data(format="unified")
    assert len(frame) == 72
    assert (frame["transition"].value_counts() == 12).all()
    assert frame["transition"].nunique() == 6


def test_balancing_caps_at_the_smallest_class_in_proportion_to_the_weights() -> None:
    texts = corpus(60, 20)

    def sizes(**kwargs: object) -> list[int]:
        targets = [TextFilterConfig(["he", "she", "it"], id="s", weight=kwargs.pop("weight", 1.0)), PLURAL]
        return [len(f) for f in creator(texts, feature_targets=targets).generate_training_data(**kwargs).values()]

    assert sizes() == sizes(balance=True) == [20, 20]
    assert sizes(balance=False) == sizes(balance=None) == [60, 20]
    assert sizes(balance=False, max_size_per_class=30) == [30, 20]
    assert sizes(weight=2.0) == [40, 20]
    assert sizes(weight=0.5) == [10, 20]
    assert sizes(weight=4.0) == [60, 15]
    with pytest.raises(ValueError, match="'s' has 5"):
        sizes(weight=0.25)


def test_balanced_rows_are_those_of_the_same_maximum() -> None:
    made = creator(corpus(60, 20))
    pd.testing.assert_frame_equal(
        made.generate_training_data(format="minimal"),
        made.generate_training_data(format="minimal", max_size_per_class=20),
    )


def test_sentences_with_words_of_several_classes_are_kept_unless_they_are_not_wanted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    both = [f"He met {i}, they left." for i in range(20)]
    made = creator([*both, "He came.", "They came."])
    with caplog.at_level(logging.INFO, logger="gradiend"):
        frame = made.generate_training_data(format="minimal", balance=None)
    for report in (caplog.text, str(made.summary())):
        assert (
            "40 of 42 rows are from sentences that also hold words of another class; "
            "generate_training_data(keep_several_classes=False)" in report
        )
    frame = frame[frame["masked"].str.contains(r"\d")]
    assert sorted(frame["masked"][frame["label_class"] == "3SG"]) == sorted(
        f"[MASK] met {i}, they left." for i in range(20)
    )
    assert sorted(frame["masked"][frame["label_class"] == "3PL"]) == sorted(
        f"He met {i}, [MASK] left." for i in range(20)
    )
    number = frame["masked"].str.extract(r"(\d+)")[0]
    assert (frame["split"].groupby(number).nunique() == 1).all()
    with pytest.raises(ValueError, match="keep_several_classes=True"):
        creator(both).generate_training_data(keep_several_classes=False)
    one = made.generate_training_data(format="minimal", keep_several_classes=False, min_rows_per_class_for_split=0)
    assert one["masked"].tolist() == ["[MASK] came."] * 2
    assert made.summary().n_beside_others == 0
    assert made.summary().dropped == {"with words of several classes": 20}
    assert "keep_several_classes" not in str(made.summary())


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.lists(st.sampled_from(["He", "she", "They", "we", "MET", "it."]), min_size=1, max_size=6),
        min_size=1,
        max_size=40,
    ),
    st.integers(0, 3),
)
def test_each_class_of_a_sentence_has_a_row_with_its_own_words_masked(drawn: list[list[str]], seed: int) -> None:
    words = {"3SG": {"he", "she"}, "3PL": {"they", "she"}, "1PL": {"we"}}  # one word is in two classes
    sentences = [["He", "they", "we", "left"], *drawn]
    texts = [" ".join([*sentence, str(number)]) for number, sentence in enumerate(sentences)]
    classes = [TextFilterConfig(sorted(own), id=name) for name, own in words.items()]
    frame = creator(texts, feature_targets=classes, seed=seed).generate_training_data(
        format="minimal", balance=False, min_rows_per_class_for_split=0
    )
    found = set()
    for row in frame.itertuples():
        *masked, number = row.masked.split()
        own = [word for word in sentences[int(number)] if word.lower() in words[row.label_class]]
        assert row.label == own[0]
        restored = iter(own)
        assert [next(restored) if word == "[MASK]" else word for word in masked] == sentences[int(number)]
        assert not list(restored)
        found.add((int(number), row.label_class))
    assert len(found) == len(frame)
    assert found == {
        (number, name)
        for number, sentence in enumerate(sentences)
        for name, own in words.items()
        if own & {word.lower() for word in sentence}
    }
    assert (frame.groupby(frame["masked"].str.split().str[-1])["split"].nunique() == 1).all()


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(*[st.sampled_from(["he", "they", "we", "I", "you"])] * 2), max_size=80), st.integers(0, 3))
def test_classes_that_share_sentences_keep_the_shares_of_their_parts(pairs: list[tuple[str, str]], seed: int) -> None:
    words = ["he", "they", "we", "I", "you"]
    texts = [f"{one} and {other} left {number}" for number, (one, other) in enumerate(pairs)]
    texts += [f"then {word} left {number}" for word in words for number in range(10)]
    classes = [TextFilterConfig(word, id=word) for word in words]
    frames = creator(texts, feature_targets=classes, seed=seed).generate_training_data(balance=False)
    for frame in frames.values():
        sizes = frame["split"].value_counts()
        for split, share in (("train", 0.8), ("validation", 0.1), ("test", 0.1)):
            assert abs(sizes[split] - share * len(frame)) <= 2


def test_repetitions_are_found_however_far_apart_they_are() -> None:
    texts = [f"{('He', 'They', 'I')[i % 3]} saw {i % 2500}, she did not." for i in range(10_000)]
    frame = creator(texts).generate_training_data(format="minimal", balance=False)
    expected = Counter(
        label_class
        for number in range(2500)
        for label_class, masked in {
            ("3SG", f"[MASK] saw {number}, [MASK] did not.")
            if word == "He"
            else ("3SG", f"{word} saw {number}, [MASK] did not.")
            for word in {("He", "They", "I")[i % 3] for i in range(number, 10_000, 2500)}
        }
    )
    expected["3PL"] = len({i % 2500 for i in range(1, 10_000, 3)})
    assert frame["label_class"].value_counts().to_dict() == expected
    assert not frame.duplicated(["masked", "label_class"]).any()


def test_configs_with_one_id_are_one_class(caplog: pytest.LogCaptureFixture) -> None:
    parts = [TextFilterConfig("he", id="3SG"), TextFilterConfig("she", id="3SG"), PLURAL]
    frames = creator(["They saw that he knew she left."], feature_targets=parts).generate_training_data(
        min_rows_per_class_for_split=0
    )
    assert frames["3SG"]["masked"].tolist() == ["They saw that [MASK] knew [MASK] left."]
    assert frames["3SG"]["label"].tolist() == ["he"]
    assert list(frames) == ["3SG", "3PL"]
    assert "2 configs are called '3SG'" in caplog.text


def test_letters_are_the_same_where_a_regular_expression_that_ignores_case_says_so() -> None:
    characters = map(chr, [*range(0x2200), *range(0xA640, 0xA700), *range(0xFB00, 0xFB07)])
    cased = [letter for letter in characters if letter.isalnum() and letter != letter.swapcase()]
    matcher = SurfaceMatcher([TextFilterConfig(letter, id=str(index)) for index, letter in enumerate(cased)])
    text = " ".join(cased)
    found = {hit.text: {target.word for target in hit.targets} for hit in matcher.find(text)}
    assert set(found) == set(cased)
    expected: dict[str, set[str]] = {letter: set() for letter in cased}
    for letter in cased:
        forms = {letter, unicodedata.normalize("NFC", letter), unicodedata.normalize("NFD", letter)}
        for same in re.findall(rf"(?:{'|'.join(forms)})(?!\S)", text, re.IGNORECASE):
            expected[same].add(letter)
    assert found == expected


@given(
    st.lists(
        st.sampled_from(["internat", "International", "internationally", "inter", "in", "i", "—", "x"]), max_size=9
    )
)
def test_words_with_the_same_eight_letters_are_told_apart(drawn: list[str]) -> None:
    text = " ".join(drawn)
    for wanted in (["international"], ["internat"], ["i", "internationally"], ["in", "inter"]):
        found = [text[start:end] for start, end, _ in match_sentence_one_config(text, TextFilterConfig(wanted)) or []]
        assert found == [word for word in drawn if word.lower() in wanted]


def test_reading_stops_when_every_class_is_full() -> None:
    seen = []

    def count(text: str) -> bool:
        seen.append(text)
        return True

    creator(corpus(500, 500), preprocess=TextPreprocessConfig(custom_filter=count)).generate_training_data(10)
    assert len(seen) < 100


def test_sentence_splitting_happens_before_matching() -> None:
    texts = [f"He left at {i}. They came at {i}." for i in range(10)]
    frames = creator(texts, preprocess=TextPreprocessConfig(split_to_sentences=True)).generate_training_data()
    assert sorted(frames["3PL"]["masked"]) == sorted(f"[MASK] came at {i}." for i in range(10))
    with pytest.raises(ValueError, match="split_to_sentences"):
        creator(texts).generate_training_data(keep_several_classes=False)


# --- neutral data


def test_neutral_texts_have_no_target_and_no_excluded_word() -> None:
    texts = [
        "He left.",
        "THEY left.",
        "The sheet.",
        "A man left.",
        "A MAN!",
        "Rain.",
        "[MASK] rain.",
        "It’s hot.",
    ]
    frame = creator(texts).generate_neutral_data(additional_excluded_words=["man"])
    assert list(frame.columns) == ["text"]
    assert sorted(frame["text"]) == ["Rain.", "The sheet."]
    one = creator(texts, feature_targets=[PLURAL]).generate_neutral_data(base_data=["Rain.", "they"], max_size=5)
    assert one["text"].tolist() == ["Rain."]
    bare = creator(["a cat", "a dog"], feature_targets=None).generate_neutral_data(additional_excluded_words="cat")
    assert bare["text"].tolist() == ["a dog"]


def test_neutral_data_may_be_empty_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frame = creator(["He left."], output_dir=tmp_path).generate_neutral_data()
    assert frame.columns.tolist() == ["text"]
    assert frame.empty
    assert "0 rows" in caplog.text
    assert pd.read_csv(tmp_path / "neutral.csv").empty


# --- files


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("returned", ["per_class", "unified", "minimal"])
def test_the_file_holds_the_unified_table(tmp_path: Path, kind: str, returned: str) -> None:
    made = creator(output_dir=tmp_path / "new" / "folder", output_format=kind, training_basename="rows")
    made.generate_training_data(format=returned)
    neutral = made.generate_neutral_data()
    read = pd.read_csv if kind == "csv" else pd.read_parquet
    files = sorted(path.name for path in (tmp_path / "new" / "folder").iterdir())
    assert files == [f"neutral.{kind}", f"rows.{kind}"]
    written = read(tmp_path / "new" / "folder" / f"rows.{kind}")
    pd.testing.assert_frame_equal(written, creator().generate_training_data(format="unified"))
    pd.testing.assert_frame_equal(read(tmp_path / "new" / "folder" / f"neutral.{kind}"), neutral)


def test_an_explicit_output_wins_and_an_old_file_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "x.csv"
    target.write_text("old")
    creator(output_dir=tmp_path / "unused").generate_training_data(output=target)
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]
    assert len(pd.read_csv(target)) == 120


def test_an_unwritable_folder_is_found_out_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "dir.csv").mkdir()

    def never(text: str) -> bool:
        raise AssertionError("the corpus was read")

    made = creator(output_dir=tmp_path / "file" / "folder", preprocess=TextPreprocessConfig(custom_filter=never))
    for generate in (made.generate_training_data, made.generate_neutral_data):
        with pytest.raises(OSError, match="Cannot write"):
            generate()
        with pytest.raises(ValueError, match=r"\.csv or \.parquet"):
            generate(output=tmp_path / "x.xlsx")
        with pytest.raises(ValueError, match="folder"):
            generate(output=tmp_path / "dir.csv")


# --- bad input


@pytest.mark.parametrize(
    ("targets", "error", "message"),
    [
        ([SINGULAR, TextFilterConfig("we", id="3SG", weight=2)], ValueError, "3SG.*weight"),
        ([SINGULAR, TextFilterConfig("they", id="split")], ValueError, "split"),
        (SINGULAR, TypeError, r"\[\.\.\.\]"),
        (["he", "they"], TypeError, "TextFilterConfig"),
    ],
)
def test_bad_targets(targets: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        creator(feature_targets=targets)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"format": "wide"}, "per_class"),
        ({"balance": "yes"}, "balance"),
        ({"train_ratio": 0.9}, "sum to 1"),
        ({"train_ratio": 1.2, "val_ratio": -0.1, "test_ratio": -0.1}, "between 0 and 1.*0.8, not 80"),
        ({"max_size_per_class": 0}, "max_size_per_class"),
        ({"max_size_per_class": 5}, "min_rows_per_class_for_split"),
    ],
)
def test_bad_arguments_are_found_out_before_the_work(kwargs: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        creator([]).generate_training_data(**kwargs)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "'3SG' .*'3PL'"),
        (corpus(20, 0), r"'3PL' \(targets: they\)"),
        (corpus(20, 9), "'3PL' has 9"),
    ],
)
def test_too_little_text_names_the_class(texts: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        creator(texts).generate_training_data()


def test_other_bad_input() -> None:
    with pytest.raises(ValueError, match="output_format"):
        creator(output_format="xlsx")
    with pytest.raises(ValueError, match="two classes"):
        creator(feature_targets=[SINGULAR]).generate_training_data()
    with pytest.raises(ValueError, match="feature_targets"):
        creator(feature_targets=None).generate_neutral_data()
    with pytest.raises(ValueError, match="max_size"):
        creator().generate_neutral_data(max_size=0)
    with pytest.raises(ValueError, match="max_matches"):
        filter_sentences(["he"], SINGULAR, max_matches=0)


def test_classes_may_come_from_a_generator() -> None:
    frames = creator(feature_targets=(config for config in (SINGULAR, PLURAL))).generate_training_data()
    assert list(frames) == ["3SG", "3PL"]


def test_sentences_that_fit_several_classes_are_hinted_at_where_they_are_missed() -> None:
    targets = [TextFilterConfig(["he", "you"], id="SG"), TextFilterConfig(["they", "you"], id="PL")]
    both = creator([f"You left {i}." for i in range(20)], feature_targets=targets)
    with pytest.raises(ValueError, match=r"20 with a word that fits several classes.*keep_several_classes=True keeps"):
        both.generate_training_data(keep_several_classes=False)
    assert {len(frame) for frame in both.generate_training_data().values()} == {20}


def test_the_callers_classes_are_not_changed_and_later_changes_do_not_reach_the_creator() -> None:
    mine = TextFilterConfig(targets=["they"], id="3PL")
    made = creator(feature_targets=[SINGULAR, mine])
    mine.targets.append("we")
    assert made.classes[1].targets == ["they"]


class Unwritable:
    def __str__(self) -> str:
        raise RuntimeError("in the middle of the file")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="middle"):
        write_table(pd.DataFrame({"a": ["x", Unwritable()]}, dtype=object), path)
    assert [found.name for found in tmp_path.iterdir()] == ["rows.csv"]
    assert path.read_text() == "old"


# scripts without spaces


@pytest.mark.parametrize(
    ("sentence", "targets", "expected"),
    [
        ("我爱他。", ["他"], [(2, 3, "他")]),
        ("他们爱他。", ["他"], [(0, 1, "他"), (3, 4, "他")]),
        ("他们爱他。", ["他们", "他"], [(0, 2, "他们"), (3, 4, "他")]),
        ("私は彼女を見た。", ["彼女"], [(2, 4, "彼女")]),
        ("カレーが好き", ["が"], [(3, 4, "が")]),
        ("我用he说", ["he"], [(2, 4, "he")]),
        ("我用the说", ["he"], []),
        ("เขามาแล้ว", ["เขา"], [(0, 3, "เขา")]),
        ("그는 갔다", ["그"], []),
    ],
)
def test_words_of_scripts_without_spaces_are_found(sentence, targets, expected) -> None:
    found = filter_sentences([sentence], TextFilterConfig(targets))
    assert [hit for _, hits in found for hit in hits] == expected


def test_a_corpus_without_spaces_gives_rows(caplog) -> None:
    texts = [f"我{verb}{word}，{i}。" for i in range(10) for verb in "爱看" for word in "他她"]
    classes = [TextFilterConfig("他", id="m"), TextFilterConfig("她", id="f")]
    with caplog.at_level(logging.INFO):
        rows = creator(texts, feature_targets=classes).generate_training_data(format="minimal")
    assert "within longer words too: '他', '她'" in caplog.text
    assert len(rows) == 40
    assert set(rows["masked"].str[:8]) == {"我爱[MASK]", "我看[MASK]"}
    neutral = creator([*texts, "我爱你。"], feature_targets=classes).generate_neutral_data()
    assert neutral["text"].tolist() == ["我爱你。"]
    _, masked, words = mask_random_words(["我们爱吃面包。"], ["他"], 0)
    assert masked[0].count("[MASK]") == 1
    assert len(words[0]) == 1


def test_paragraphs_as_rows_are_said_once_with_the_way_out(caplog) -> None:
    text = " ".join(f"He saw {i} and they saw it." for i in range(300))
    options = {"feature_targets": [SINGULAR, PLURAL]}
    with caplog.at_level(logging.WARNING):
        creator([text], **options).generate_training_data(min_rows_per_class_for_split=0)
    said = [record.message for record in caplog.records if "rows are longer" in record.message]
    assert len(said) == 1
    assert "2 of 2 rows are longer than 1500 characters; the longest has 2100 words" in said[0]
    assert "split_to_sentences=True" in said[0]
    caplog.clear()
    cut = TextPreprocessConfig(split_to_sentences=True)
    creator([text], preprocess=cut, **options).generate_training_data(min_rows_per_class_for_split=0)
    assert "rows are longer" not in caplog.text


def test_paragraphs_in_the_data_of_a_trainer_are_said(caplog) -> None:
    long = "word " * 2609 + "[MASK]."
    rows = pd.DataFrame({"masked": [long, "a [MASK]."], "label": ["he", "she"], "label_class": ["m", "f"]})
    with caplog.at_level(logging.WARNING):
        made = TextPredictionTrainer("unused", data=rows)
        assert len(made.combined_data) == len(made.combined_data) == 2
    assert caplog.text.count("the longest has 2610 words") == 1
    assert "split_to_sentences=True" in caplog.text
