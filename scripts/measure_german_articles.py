"""The German definite article, twelve gender-case classes over six forms, told apart by a spaCy pipeline.

    python scripts/measure_german_articles.py PIPELINE CORPUS GOLD [--per-class 20] [--seed 42] [--also tag=ART]

PIPELINE is the folder or name of a German spaCy pipeline, CORPUS a text file with one text a line (`.txt`, `.txt.gz`; a
CSV with a column text), GOLD a CSV with columns masked, label, label_class, text, where one article of the text is
masked and its class is `masc_nom` … `neut_gen`. Prints how many rows each class gets from the corpus, how long that
takes, sampled rows to judge by eye, and precision and recall on the gold places; "elsewhere" counts articles that are
given a class where the gold table has none (plural, relative pronoun, or not annotated).
"""

from __future__ import annotations

import argparse
import time
from collections import Counter

import pandas as pd

from gradiend import TextFilterConfig, TextPredictionDataCreator, setup_logging
from gradiend.data.text.prediction import filter_sentences_multi

FORMS = {
    "nom": {"masc": "der", "fem": "die", "neut": "das"},
    "acc": {"masc": "den", "fem": "die", "neut": "das"},
    "dat": {"masc": "dem", "fem": "der", "neut": "dem"},
    "gen": {"masc": "des", "fem": "der", "neut": "des"},
}


def paradigm(also: dict[str, str]) -> list[TextFilterConfig]:
    """The twelve classes, by gender and then case; each with further tags."""
    return [
        TextFilterConfig(
            FORMS[case][gender],
            spacy_tags={"pos": "DET", "Case": case.title(), "Gender": gender.title(), "Number": "Sing", **also},
            id=f"{gender}_{case}",
        )
        for gender in ("masc", "fem", "neut")
        for case in FORMS
    ]


def show_corpus(pipeline: str, classes: list[TextFilterConfig], corpus: str, per_class: int, seed: int) -> None:
    """Print the rows of each class in a corpus, and a sample of them."""
    started = time.perf_counter()
    creator = TextPredictionDataCreator(corpus, spacy_model=pipeline, feature_targets=classes, seed=seed)
    rows = creator.generate_training_data(format="minimal", balance=False, min_rows_per_class_for_split=0)
    seconds = time.perf_counter() - started
    assert isinstance(rows, pd.DataFrame)
    print(f"{len(rows)} rows in {seconds:.1f} s")
    counts = Counter(rows["label_class"])
    for name, count in counts.items():
        print(f"{name:9} {count:6}")
    in_fixed_order = rows.sort_values("masked")  # so that the sample does not depend on how the corpus is read
    for name, count in counts.items():
        print(f"\n{name}")
        group = in_fixed_order[in_fixed_order["label_class"] == name]
        sample = group.sample(min(per_class, count), random_state=seed)
        for masked, word in zip(sample["masked"], sample["label"], strict=True):
            print(f"  {masked.replace('[MASK]', f'[{word}]')}")


def show_gold(pipeline: str, classes: list[TextFilterConfig], gold_file: str) -> None:
    """Print precision and recall of each class at the places that the gold table labels."""
    gold = pd.read_csv(gold_file)
    wanted = {
        (text, masked.index("[MASK]")): name
        for text, masked, name in zip(gold["text"], gold["masked"], gold["label_class"], strict=True)
    }
    cases_as_in_gold = set(gold["label"])
    pairs = [(config.id, config) for config in classes]
    found, _ = filter_sentences_multi(list(dict.fromkeys(gold["text"])), pairs, pipeline)
    given: dict[tuple[str, int], str] = {}
    elsewhere: Counter[str] = Counter()
    for name, matches in found.items():
        for text, spans in matches:
            for start, _, word in spans:
                if (text, start) in wanted:
                    given[text, start] = name
                elif word in cases_as_in_gold:
                    elsewhere[name] += 1
    print(f"\n{len(wanted)} gold places in {gold['text'].nunique()} texts")
    print("class      gold given right precision recall elsewhere")
    names = [config.id for config in classes]
    right = Counter(name for place, name in given.items() if wanted[place] == name)
    n_gold, n_given = Counter(wanted.values()), Counter(given.values())
    for name in names:
        print(line(name, n_gold[name], n_given[name], right[name], elsewhere[name]))
    print(line("all", len(wanted), len(given), right.total(), elsewhere.total()))
    confusions = Counter((wanted[place], given.get(place, "none")) for place in wanted)
    worst = [(pair, count) for pair, count in confusions.most_common() if pair[0] != pair[1]][:8]
    print("most frequent mistakes:", ", ".join(f"{gold} as {other} {count}" for (gold, other), count in worst))


def line(name: str, n_gold: int, n_given: int, n_right: int, elsewhere: int) -> str:
    """One class in the table."""
    precision, recall = n_right / max(n_given, 1), n_right / max(n_gold, 1)
    return f"{name:9} {n_gold:5} {n_given:5} {n_right:5} {precision:9.3f} {recall:6.3f} {elsewhere:9}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pipeline", help="folder or name of a German spaCy pipeline")
    parser.add_argument("corpus", help="text file, one text a line")
    parser.add_argument("gold", help="CSV with columns masked, label, label_class, text")
    parser.add_argument("--per-class", type=int, default=20, help="sampled rows to print for each class")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument(
        "--also", nargs="*", default=[], metavar="KEY=VALUE", help="further tags that all classes ask for"
    )
    arguments = parser.parse_args()
    setup_logging()
    classes = paradigm(dict(pair.split("=", 1) for pair in arguments.also))
    show_corpus(arguments.pipeline, classes, arguments.corpus, arguments.per_class, arguments.seed)
    show_gold(arguments.pipeline, classes, arguments.gold)


if __name__ == "__main__":
    main()
