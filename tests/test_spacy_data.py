"""Classes told apart by what spaCy says about a word: tags, lemmas, nested configs."""

from __future__ import annotations

import pickle
import random
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gradiend
from gradiend.data import (
    SpacyTagSpec,
    TextFilterConfig,
    TextPredictionDataCreator,
    TextPreprocessConfig,
    preprocess_texts,
)
from gradiend.data.core.spacy_util import load_spacy_model
from gradiend.data.text import iter_sentences_from_texts
from gradiend.data.text.prediction import (
    filter_sentences,
    filter_sentences_multi,
    match_sentence_one_config,
    token_matches_tags,
)
from gradiend.data.text.prediction._matcher import SurfaceMatcher
from gradiend.data.text.prediction._tag_resolver import TagResolver

spacy = pytest.importorskip("spacy")

NOUNS = {"Mann": "Masc", "Hund": "Masc", "Frau": "Fem", "Straße": "Fem", "Kind": "Neut"}
CASES = {
    "Nom": {"Masc": "der", "Fem": "die", "Neut": "das"},
    "Acc": {"Masc": "den", "Fem": "die", "Neut": "das"},
    "Dat": {"Masc": "dem", "Fem": "der", "Neut": "dem"},
}
VERBS = {"sieht": "sehen", "sah": "sehen", "lief": "laufen", "läuft": "laufen"}


def rules() -> list[tuple[list[list[dict[str, object]]], dict[str, str], int]]:
    """A toy German: an article agrees with its noun; first in the sentence it is nominative, after `mit` dative."""
    found: list[tuple[list[list[dict[str, object]]], dict[str, str], int]] = [
        ([[{"LOWER": verb}]], {"POS": "VERB", "LEMMA": lemma}, 0) for verb, lemma in VERBS.items()
    ]
    for noun, gender in NOUNS.items():
        for case, articles in CASES.items():
            before: dict[str, list[dict[str, object]]] = {
                "Nom": [{"IS_SENT_START": True}],
                "Acc": [{"LEMMA": "sehen"}, {}],
                "Dat": [{"LOWER": "mit"}, {}],
            }
            pattern = [*before[case][:-1], {"LOWER": articles[gender]}, {"ORTH": noun}]
            if case == "Nom":
                pattern[0] = {"LOWER": articles[gender], "IS_SENT_START": True}
            tags = {"POS": "DET", "LEMMA": "der", "TAG": "ART", "MORPH": f"Case={case}|Gender={gender}|Number=Sing"}
            found.append(([pattern], tags, len(pattern) - 2))
    found.append(([[{"LOWER": "x_der"}]], {"POS": "DET"}, 0))
    return found


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> str:
    nlp = spacy.blank("xx")
    nlp.add_pipe("sentencizer")
    verbs = nlp.add_pipe("attribute_ruler", name="verbs")
    articles = nlp.add_pipe("attribute_ruler", name="articles")
    for patterns, attributes, index in rules():
        (verbs if attributes["POS"] == "VERB" else articles).add(patterns, attributes, index=index)
    path = tmp_path_factory.mktemp("pipelines") / "toy"
    nlp.to_disk(path)
    return str(path)


def article(gender: str, case: str, **kwargs: object) -> TextFilterConfig:
    tags = {"pos": "DET", "Case": case, "Gender": gender}
    return TextFilterConfig(CASES[case][gender], spacy_tags=tags, id=f"{gender}_{case}", **kwargs)


def texts_of(matches: list[tuple[str, list[tuple[int, int, str]]]]) -> list[list[tuple[int, str]]]:
    return [[(start, text) for start, _, text in spans] for _, spans in matches]


SENTENCES = [
    "Der Mann sieht die Frau.",
    "Die Frau läuft mit der Straße.",
    "Das Kind, das mit dem Hund lief.",
    "Der Mann lief mit der Frau.",
]


# --- configs


def test_nested_configs_inherit_tags_and_override_them() -> None:
    config = TextFilterConfig(
        targets=[
            "der",
            TextFilterConfig(["die", "das"], spacy_tags={"Gender": "Fem"}, id="x"),
            TextFilterConfig("den"),
        ],
        spacy_tags={"pos": "DET", "Gender": "Masc"},
    )
    masc, fem = {"pos": "DET", "Gender": "Masc"}, {"pos": "DET", "Gender": "Fem"}
    assert config.flatten_targets_with_tags() == [("der", masc), ("die", fem), ("das", fem), ("den", masc)]
    assert config.flatten_targets_with_tags({"Case": "Nom", "pos": "PRON"})[1] == ("die", {"Case": "Nom", **fem})
    assert config.get_effective_tags({"Case": "Nom", "pos": "PRON"}) == {"Case": "Nom", **masc}
    assert TextFilterConfig("a").get_effective_tags() is None
    assert TextFilterConfig("a").flatten_targets_with_tags() == [("a", None)]
    assert TextFilterConfig([TextFilterConfig("b", id="k")]).id == "b"
    assert TextFilterConfig("a", None, {"pos": "X"}, True, "c", "<m>", 2.0).weight == 2.0
    assert gradiend.SpacyTagSpec is SpacyTagSpec


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"spacy_tags": {"Case": ["Nom", "Acc"]}}, TypeError, "nested TextFilterConfig"),
        ({"spacy_tags": {"Case": " "}}, ValueError, "must not be empty"),
        ({"spacy_tags": {"pos": "X", "POS": "Y"}}, ValueError, "twice"),
        ({"spacy_tags": ["pos"]}, TypeError, "dict"),
        ({"use_lemma": True, "target": "at least"}, ValueError, "one word"),
    ],
)
def test_bad_tags(kwargs: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        TextFilterConfig(**{"target": "der", **kwargs})


# --- filtering


def test_tags_decide_among_equal_words(pipeline: str) -> None:
    nominative = TextFilterConfig(["der", "die", "das"], spacy_tags={"pos": "DET", "Case": "Nom"})
    assert texts_of(filter_sentences(SENTENCES, nominative, pipeline)) == [
        [(0, "Der")],
        [(0, "Die")],
        [(0, "Das")],
        [(0, "Der")],
    ]
    dative = TextFilterConfig("der", spacy_tags={"Case": "Dat"})
    assert texts_of(filter_sentences(SENTENCES, dative, spacy_model=pipeline)) == [[(19, "der")], [(18, "der")]]
    assert filter_sentences(SENTENCES, dative, pipeline, max_matches=1)[0][0] == SENTENCES[1]
    assert not filter_sentences(SENTENCES, TextFilterConfig("der", spacy_tags={"Case": "Acc"}), pipeline)


@pytest.mark.parametrize(
    "tags", [{"pos": "DET"}, {"POS": "DET"}, {"pos_": "DET"}, {"tag": "ART"}, {"lemma": "der"}, {"Number": "Sing"}]
)
def test_every_kind_of_key_is_read(pipeline: str, tags: SpacyTagSpec) -> None:
    config = TextFilterConfig("das", spacy_tags=tags)
    assert texts_of(filter_sentences(SENTENCES, config, pipeline)) == [[(0, "Das")]]  # not the relative pronoun
    doc = load_spacy_model(pipeline)(SENTENCES[2])
    assert [token.i for token in doc if token_matches_tags(token, tags)] == [0, 5]
    assert token_matches_tags(doc[3], {})


def test_a_word_has_the_tags_of_the_token_around_it(pipeline: str) -> None:
    config = TextFilterConfig("der", spacy_tags={"pos": "DET"})  # spaCy does not split at an underscore
    assert filter_sentences(["Mit x_der."], config, pipeline) == [("Mit x_der.", [(6, 9, "der")])]


def test_lemmas_find_all_forms_and_tags_hold_for_them_too(pipeline: str) -> None:
    see = TextFilterConfig("sehen", use_lemma=True)
    sentences = ["Der Mann sah die Frau.", "Sieht er?", "Wir laufen.", "sehen"]
    assert texts_of(filter_sentences(sentences, see, pipeline)) == [[(9, "sah")], [(0, "Sieht")]]
    articles = TextFilterConfig("DER", use_lemma=True, spacy_tags={"Case": "Acc"}, id="acc")
    words = TextFilterConfig(["die", "lief"], id="words")
    found, _ = filter_sentences_multi([*SENTENCES, "Er lief."], [("acc", articles), ("words", words)], pipeline)
    assert texts_of(found["acc"]) == [[(15, "die")]]
    assert texts_of(found["words"]) == [[(15, "die")], [(0, "Die")], [(27, "lief")], [(9, "lief")], [(3, "lief")]]


def test_nested_configs_filter_with_their_own_tags(pipeline: str) -> None:
    fem = TextFilterConfig("der", spacy_tags={"Gender": "Fem", "Case": "Dat"})
    config = TextFilterConfig(["dem", "der", fem], spacy_tags={"Gender": "Masc"})
    assert [[text for _, text in spans] for spans in texts_of(filter_sentences(SENTENCES, config, pipeline))] == [
        ["Der"],
        ["der"],
        ["dem"],
        ["Der", "der"],
    ]


def test_one_sentence_is_matched_by_its_doc_or_a_pipeline(pipeline: str) -> None:
    nlp = load_spacy_model(pipeline)
    config = article("Masc", "Nom")
    (expected,) = filter_sentences(SENTENCES[:1], config, pipeline)
    assert match_sentence_one_config(SENTENCES[0], config, nlp=nlp) == expected[1] == [(0, 3, "Der")]
    assert match_sentence_one_config(SENTENCES[0], config, nlp(SENTENCES[0])) == expected[1]
    with pytest.raises(ValueError, match="the sentence is"):
        match_sentence_one_config(SENTENCES[0], config, nlp("Der Hund."))
    with pytest.raises(ValueError, match="give doc="):
        match_sentence_one_config(SENTENCES[0], config)


def test_progress_and_counts(pipeline: str) -> None:
    stats: dict[str, int] = {}
    filter_sentences(SENTENCES, article("Masc", "Nom"), pipeline, False, "x", None, 10, 3, stats)
    assert stats == {"sentences_processed": 4, "sentences_matched": 2}


def test_only_sentences_with_a_tagged_word_are_parsed(pipeline: str, monkeypatch: pytest.MonkeyPatch) -> None:
    configs = [article("Masc", "Nom"), TextFilterConfig("lief", id="plain")]
    matcher, resolver = SurfaceMatcher(configs), TagResolver(configs, pipeline)
    assert resolver.reader is not None
    parsed: list[str] = []
    read = resolver.reader.read
    monkeypatch.setattr(resolver.reader, "read", lambda texts, use: parsed.extend(texts) or read(texts, use))
    sentences = [*SENTENCES, "Er lief.", "Nichts."]
    resolved = resolver.resolve_batch([(text, matcher.find(text)) for text in sentences])
    assert parsed == [SENTENCES[0], SENTENCES[1], SENTENCES[3]]
    by_text = dict(zip(sentences, resolved, strict=True))
    batch = [(text, matcher.find(text)) for text in SENTENCES]
    assert resolver.resolve_batch(batch) == [by_text[text] for text in SENTENCES]


def test_a_resolver_travels_to_another_process(pipeline: str) -> None:
    configs = [article("Masc", "Nom")]
    resolver = TagResolver(configs, pipeline)
    resolver.load()
    batch = [(text, SurfaceMatcher(configs).find(text)) for text in SENTENCES]
    assert pickle.loads(pickle.dumps(resolver)).resolve_batch(batch) == resolver.resolve_batch(batch)


def test_parsing_a_corpus_leaves_no_strings_behind(pipeline: str) -> None:
    configs = [article("Masc", "Nom")]
    matcher, resolver = SurfaceMatcher(configs), TagResolver(configs, pipeline)
    resolver.load()
    assert resolver.reader is not None
    before = len(resolver.reader.nlp.vocab.strings)
    texts = [f"Der Mann sieht Wort{number}." for number in range(500)]
    assert all(resolver.resolve_batch([(text, matcher.find(text)) for text in texts]))
    assert len(resolver.reader.nlp.vocab.strings) == before


def test_the_documented_german_article(pipeline: str) -> None:
    config = TextFilterConfig(
        targets=["der"],
        spacy_tags={"pos": "DET", "Case": "Nom", "Gender": "Masc"},
        id="masc_nom",
    )
    assert [spans for _, spans in filter_sentences(SENTENCES, config, spacy_model=pipeline)] == [[(0, 3, "Der")]] * 2


PIECES = [
    "Der Mann",
    "sah",
    "läuft",
    "Die Straße",
    "Das Kind",
    "mit der Frau",
    "DER",
    "der",
    "İ",
    "ß",
    "é",
    "e\u0301",
    "\u0301",
]
PIECES += [
    "👩‍🚀",
    "❤\ufe0f",
    "🏴",
    "הוא",
    "هو",
    "\u0651",
    "\u200f",
    "हि",
    "中",
    "'",
    "-",
    ".",
    "\n",
    "\u00ad",
    "\u00a0",
]


@pytest.fixture(scope="module")
def articles(pipeline: str) -> tuple[SurfaceMatcher, TagResolver]:
    words = TextFilterConfig(["der", "die", "das"], spacy_tags={"pos": "DET"}, id="word")
    configs = [words, TextFilterConfig("sehen", use_lemma=True)]
    return SurfaceMatcher(configs), TagResolver(configs, pipeline)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=9).map(" ".join), min_size=1, max_size=8))
def test_spans_never_shift_whatever_the_script(articles: tuple[SurfaceMatcher, TagResolver], texts: list[str]) -> None:
    matcher, resolver = articles
    assert resolver.reader is not None
    expected = []
    for text in texts:
        tokens = [token for token in resolver.reader.nlp(text) if token.pos_ == "DET" or token.lemma_ == "sehen"]
        at = {(token.idx, token.idx + len(token)) for token in tokens}
        surface = {(hit.start, hit.end) for hit in matcher.find(text)}
        surface |= {(token.idx, token.idx + len(token)) for token in tokens if token.lemma_ == "sehen"}
        expected.append(sorted(span for span in surface if any(b < span[1] and span[0] < e for b, e in at)))
    resolved = resolver.resolve_batch([(text, matcher.find(text)) for text in texts])
    assert [[(hit.start, hit.end) for hit in hits if hit.targets] for hits in resolved] == expected
    assert all(
        text[hit.start : hit.end] == hit.text for text, hits in zip(texts, resolved, strict=True) for hit in hits
    )


# --- whole runs


def paradigm_corpus(n: int) -> list[str]:
    rng = random.Random(0)
    texts = []
    for number in range(n):
        subject, thing, beside = rng.choice(list(NOUNS)), rng.choice(list(NOUNS)), rng.choice(list(NOUNS))
        first = CASES["Nom"][NOUNS[subject]].capitalize()
        texts.append(
            f"{first} {subject} sieht {CASES['Acc'][NOUNS[thing]]} {thing} mit {CASES['Dat'][NOUNS[beside]]} {beside} "
            f"in Bild {number}."
        )
    return texts


def paradigm() -> list[TextFilterConfig]:
    return [article(gender, case) for case in CASES for gender in CASES[case]]


def test_a_paradigm_of_articles_gives_one_row_a_class_with_its_own_word_masked(pipeline: str) -> None:
    creator = TextPredictionDataCreator(paradigm_corpus(120), spacy_model=pipeline, feature_targets=paradigm())
    rows = creator.generate_training_data(format="minimal", balance=False)
    assert len(rows) == 3 * 120  # three articles a sentence, each its own row
    assert set(rows["label_class"]) == {config.id for config in paradigm()}
    for row in rows.itertuples():
        gender, case = row.label_class.split("_")
        assert row.masked.count("[MASK]") == 1
        assert row.label.lower() == CASES[case][gender]
        assert NOUNS[row.masked.partition("[MASK] ")[2].split()[0]] == gender


def test_all_rows_of_a_sentence_are_in_one_split_and_the_parts_keep_their_shares(pipeline: str) -> None:
    creator = TextPredictionDataCreator(paradigm_corpus(400), spacy_model=pipeline, feature_targets=paradigm())
    rows = creator.generate_training_data(format="minimal", balance=False)
    rows["sentence"] = [row.masked.replace("[MASK]", row.label) for row in rows.itertuples()]
    assert (rows.groupby("sentence")["split"].nunique() == 1).all()
    for _, group in rows.groupby("label_class"):
        shares = group["split"].value_counts(normalize=True)
        assert abs(shares["train"] - 0.8) < 0.05
        assert abs(shares["test"] - 0.1) < 0.04


def test_words_of_one_class_are_masked_together_in_a_sentence_with_several(pipeline: str) -> None:
    targets = [
        TextFilterConfig(["der", "die", "das"], spacy_tags={"Case": "Nom"}, id="nom"),
        TextFilterConfig(["der", "dem"], spacy_tags={"Case": "Dat"}, id="dat"),
    ]
    texts = ["Der Mann sieht mit der Frau, mit der Straße.", "Die Frau lief mit dem Kind."]
    creator = TextPredictionDataCreator(texts, spacy_model=pipeline, feature_targets=targets)
    rows = creator.generate_training_data(format="minimal", min_rows_per_class_for_split=0)
    assert set(zip(rows["masked"], rows["label"], rows["label_class"], strict=True)) == {
        ("[MASK] Mann sieht mit der Frau, mit der Straße.", "Der", "nom"),
        ("Der Mann sieht mit [MASK] Frau, mit [MASK] Straße.", "der", "dat"),
        ("[MASK] Frau lief mit dem Kind.", "Die", "nom"),
        ("Die Frau lief mit [MASK] Kind.", "dem", "dat"),
    }


def test_a_plain_class_beside_a_tagged_one_tells_it_apart_as_little_as_two_plain_ones(pipeline: str) -> None:
    targets = [article("Masc", "Nom"), TextFilterConfig("lief", id="ran")]
    texts = ["Der Mann lief.", "Der Mann sieht es.", "Er lief."]
    creator = TextPredictionDataCreator(texts, spacy_model=pipeline, feature_targets=targets)
    rows = creator.generate_training_data(format="minimal", min_rows_per_class_for_split=0, keep_several_classes=False)
    assert list(rows["masked"]) == ["[MASK] Mann sieht es.", "Er [MASK]."]
    rows = creator.generate_training_data(format="minimal", min_rows_per_class_for_split=0)
    assert sorted(rows["masked"]) == sorted(
        ["[MASK] Mann sieht es.", "Er [MASK].", "[MASK] Mann lief.", "Der Mann [MASK]."]
    )
    assert creator.summary().n_beside_others == 2


def test_neutral_texts_have_no_excluded_token(pipeline: str) -> None:
    targets = [TextFilterConfig("hund", id="dog"), TextFilterConfig("laufen", use_lemma=True)]
    texts = [*SENTENCES, "Die Frau sieht das Kind.", "Die Katze schläft.", "Er sieht nichts."]

    def neutral(**kwargs: object) -> list[str]:
        creator = TextPredictionDataCreator(texts, spacy_model=pipeline, feature_targets=targets)
        return sorted(creator.generate_neutral_data(**kwargs)["text"])

    assert neutral() == [
        "Der Mann sieht die Frau.",
        "Die Frau sieht das Kind.",
        "Die Katze schläft.",
        "Er sieht nichts.",
    ]
    assert neutral(excluded_spacy_tags={"Case": "Acc", "Gender": "Neut"}) == [
        "Der Mann sieht die Frau.",
        "Die Katze schläft.",
        "Er sieht nichts.",
    ]
    assert neutral(excluded_spacy_tags=[{"pos": "DET"}, {"lemma": "sehen"}]) == ["Die Katze schläft."]
    assert len(neutral(max_size=2)) == 2
    creator = TextPredictionDataCreator(texts, spacy_model=pipeline)
    assert len(creator.generate_neutral_data(excluded_spacy_tags={"pos": "VERB"})) == 1


def test_sentences_may_be_found_by_spacy(pipeline: str, tmp_path: Path) -> None:
    texts = ["Er ging. sie kam!\nUnd z.B. wir", "", "Nr. 5"]
    config = TextPreprocessConfig(split_to_sentences=True)
    by_spacy = ["Er ging.", "sie kam!", "Und z.B. wir", "Nr.", "5"]
    assert preprocess_texts(texts, config, pipeline) == by_spacy
    assert preprocess_texts(texts, config) == preprocess_texts(texts, TextPreprocessConfig(True))
    asked = TextPreprocessConfig(split_to_sentences="spacy")
    assert list(iter_sentences_from_texts(texts, asked, pipeline)) == by_spacy
    assert preprocess_texts(texts, None, pipeline) == texts
    targets = [article("Masc", "Nom"), article("Fem", "Nom")]
    text = ["Der Mann lief. Die Frau lief. Der Hund lief mit der Frau."]
    creator = TextPredictionDataCreator(text, preprocess=asked, spacy_model=pipeline, feature_targets=targets)
    rows = creator.generate_training_data(format="minimal", balance=False, min_rows_per_class_for_split=0)
    assert list(rows["masked"]) == ["[MASK] Mann lief.", "[MASK] Hund lief mit der Frau.", "[MASK] Frau lief."]
    spacy.blank("xx").to_disk(tmp_path / "blank")
    assert preprocess_texts(texts, config, tmp_path / "blank") == preprocess_texts(texts, config)
    with pytest.raises(ValueError, match="no parser, senter or sentencizer"):
        preprocess_texts(texts, asked, tmp_path / "blank")
    with pytest.raises(ValueError, match="needs spacy_model="):
        TextPredictionDataCreator("no.csv", preprocess=asked)
    with pytest.raises(ValueError, match="True, False or 'spacy'"):
        TextPreprocessConfig(split_to_sentences="SpaCy")


# --- bad input


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"Case": "Nominative"}, "never gives Case='Nominative'. Did you mean 'Nom'.*Acc, Dat, Nom"),
        ({"Case": "nom"}, "Did you mean 'Nom'"),
        ({"case": "Nom"}, "knows no tag 'case'. Did you mean 'Case'"),
        ({"Tense": "Past"}, "knows no tag 'Tense'.*Case, Gender, Number"),
        ({"pos": "DETT"}, "Did you mean 'DET'.*DET, VERB"),
        ({"tag": "NN"}, "never gives tag='NN'"),
        ({"dep": "nsubj"}, "no component .* writes dep"),
        ({"ent_type": "PER"}, "no component .* writes ent_type"),
    ],
)
def test_tags_that_a_pipeline_never_gives_are_found_out_before_the_corpus_is_read(
    pipeline: str, tags: SpacyTagSpec, message: str
) -> None:
    config = TextFilterConfig("der", spacy_tags=tags)
    with pytest.raises(ValueError, match=message):
        TextPredictionDataCreator("no.csv", spacy_model=pipeline, feature_targets=[config])
    with pytest.raises(ValueError, match=message):
        filter_sentences(SENTENCES, config, pipeline)
    with pytest.raises(ValueError, match=message):
        TextPredictionDataCreator([], spacy_model=pipeline).generate_neutral_data(excluded_spacy_tags=tags)


def test_a_blank_pipeline_reads_nothing(tmp_path: Path) -> None:
    spacy.blank("xx").to_disk(tmp_path)
    for kwargs, message in [
        ({"spacy_tags": {"Case": "Nom"}}, "writes morphological features"),
        ({"spacy_tags": {"pos": "DET"}}, "writes pos"),
        ({"use_lemma": True}, "writes lemma"),
    ]:
        with pytest.raises(ValueError, match=message):
            filter_sentences(SENTENCES, TextFilterConfig("der", **kwargs), tmp_path)


@spacy.Language.component("toy_cases")
def toy_cases(doc: object) -> object:
    for token in doc:
        token.set_morph("Case=Nom")
    return doc


def test_a_component_of_ones_own_may_give_any_tag(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    nlp = spacy.blank("xx")
    nlp.add_pipe("toy_cases")
    nlp.to_disk(tmp_path)
    config = TextFilterConfig("der", spacy_tags={"Case": "Nom"})
    assert len(filter_sentences(SENTENCES, config, tmp_path)) == 3
    assert "may give it all the same" in caplog.text


@spacy.Language.component("toy_first_words")
def toy_first_words(doc: object) -> object:
    for token in doc:
        token.set_morph("Case=Nom" if token.is_sent_start else "Case=Acc")
    return doc


@spacy.Language.component("toy_judged_texts")
def toy_judged_texts(doc: object) -> object:
    for token in doc:
        token.set_morph("Case=Nom" if doc.cats and token.is_title else "Case=Acc")
    return doc


def test_what_a_component_of_ones_own_may_read_is_not_left_out(tmp_path: Path) -> None:
    config = TextFilterConfig("der", spacy_tags={"Case": "Nom"})
    texts = ["Er lief. Der Mann sieht es.", "Er sieht der Frau nach."]
    for read, component in (("sentencizer", "toy_first_words"), ("textcat", "toy_judged_texts")):
        nlp = spacy.blank("xx")
        pipe = nlp.add_pipe(read)
        if read == "textcat":
            for label in ("prose", "verse"):
                pipe.add_label(label)
            nlp.initialize()
        nlp.add_pipe(component)
        nlp.to_disk(tmp_path / read)
        assert texts_of(filter_sentences(texts, config, tmp_path / read)) == [[(9, "Der")]]


@pytest.mark.parametrize("ruler", ["entity_ruler", "span_ruler"])
def test_what_the_patterns_of_a_ruler_ask_for_is_not_left_out(tmp_path: Path, ruler: str) -> None:
    nlp = spacy.blank("xx")
    nlp.add_pipe("attribute_ruler").add([[{"LOWER": "mann"}]], {"POS": "NOUN"})
    settings = {"annotate_ents": True} if ruler == "span_ruler" else {}
    nlp.add_pipe(ruler, config=settings).add_patterns([{"label": "PER", "pattern": [{"POS": "NOUN"}]}])
    nlp.to_disk(tmp_path)
    config = TextFilterConfig(["mann", "frau"], spacy_tags={"ent_type": "PER"})
    assert texts_of(filter_sentences(["Der Mann sieht die Frau."], config, tmp_path)) == [[(4, "Mann")]]


def test_a_morphologizer_and_a_tagger_say_what_they_know(tmp_path: Path) -> None:
    nlp = spacy.blank("xx")
    nlp.add_pipe("morphologizer").add_label("POS=PRON|PronType=Dem,Rel")
    nlp.add_pipe("tagger").add_label("ART")
    nlp.initialize()
    nlp.to_disk(tmp_path)
    filter_sentences(
        [], TextFilterConfig("der", spacy_tags={"PronType": "Dem,Rel", "pos": "PRON", "tag": "ART"}), tmp_path
    )
    for tags, near in [({"PronType": "Relative"}, "'Rel'"), ({"tag": "ARTDEF"}, "'ART'"), ({"pos": "pron"}, "'PRON'")]:
        with pytest.raises(ValueError, match=f"Did you mean {near}"):
            filter_sentences([], TextFilterConfig("der", spacy_tags=tags), tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            TextFilterConfig("der", spacy_tags={"Gender": "Fem", "Case": "Acc"}, id="x"),
            r"'x' \(targets: der\).*3 of the sentences.*Gender: (Masc 2, Fem 2|Fem 2, Masc 2); Case: .*Nom 2",
        ),
        (TextFilterConfig("mann", id="x"), "No usable sentence for class 'x'"),
        (TextFilterConfig("Strasse", id="x"), "words like those of 'x': 'Straße' \\(1\\)"),
        (TextFilterConfig("seheen", use_lemma=True, id="x"), "lemmas like those of 'x': 'sehen' \\(1\\)"),
        (TextFilterConfig("xyzzyx", id="x"), "nothing.$"),
    ],
)
def test_a_class_without_rows_shows_what_comes_near(pipeline: str, config: TextFilterConfig, message: str) -> None:
    targets = [TextFilterConfig(["frau", "hund"], id="noun"), config]
    texts = [text for text in SENTENCES if "Mann" not in text or config.id != "mann"]
    creator = TextPredictionDataCreator(texts, spacy_model=pipeline, feature_targets=targets)
    with pytest.raises(ValueError, match=message):
        creator.generate_training_data(keep_several_classes=False)


def test_near_misses_of_every_class_without_rows_are_shown() -> None:
    targets = [TextFilterConfig([word], id=id) for word, id in (("hee", "x"), ("saw", "y"), ("theyy", "z"))]
    creator = TextPredictionDataCreator([f"He and they saw {i}" for i in range(3)], feature_targets=targets)
    with pytest.raises(ValueError, match=r"those of 'x': .*'He' \(3\).*those of 'z': .*'they' \(3\)") as error:
        creator.generate_training_data(min_rows_per_class_for_split=0)
    assert "those of 'y'" not in str(error.value)


def test_one_word_in_two_classes_is_told_unless_their_tags_differ(
    pipeline: str, caplog: pytest.LogCaptureFixture
) -> None:
    def create(*tags: SpacyTagSpec | None, **kwargs: object) -> TextPredictionDataCreator:
        targets = [TextFilterConfig("der", spacy_tags=tag, id=str(i), **kwargs) for i, tag in enumerate(tags)]
        return TextPredictionDataCreator([], spacy_model=pipeline, feature_targets=targets)

    create({"Case": "Nom"}, {"Case": "Dat"})
    create({"Case": "Nom"}, {"Case": "Dat"}, use_lemma=True)
    assert not caplog.text
    for tags in [(None, None), ({"Case": "Nom"}, None), ({"Case": "Nom"}, {"Gender": "Fem"})]:
        for use_lemma in (False, True):
            caplog.clear()
            create(*tags, use_lemma=use_lemma)
            assert "'der' is a target of '0' and '1'" in caplog.text


def test_tags_without_a_pipeline_are_found_out_before_the_corpus_is_read() -> None:
    for config in (article("Masc", "Nom"), TextFilterConfig("sehen", use_lemma=True)):
        with pytest.raises(ValueError, match="spacy_model="):
            filter_sentences(iter([]), config)
        with pytest.raises(ValueError, match=f"'{config.id}'.*spacy_model="):
            TextPredictionDataCreator("no/such/file.csv", feature_targets=[config])


def test_missing_pipelines_and_missing_spacy_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="python -m spacy download de_no_such_model"):
        load_spacy_model("de_no_such_model")
    with pytest.raises(OSError, match="is the path right"):
        load_spacy_model(tmp_path / "missing", download_if_missing=True)
    with pytest.raises(OSError, match="does not hold a whole spaCy pipeline"):
        load_spacy_model(tmp_path)
    with pytest.raises(OSError, match="is the path right"):  # before the corpus, which does not exist either
        TextPredictionDataCreator("no.csv", spacy_model=f"{tmp_path}/x", feature_targets=[article("Masc", "Nom")])
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(ImportError, match=r"needs spacy: pip install"):
        filter_sentences(SENTENCES, article("Masc", "Nom"), "de_core_news_sm")
