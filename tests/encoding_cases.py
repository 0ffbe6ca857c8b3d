"""Trainers over three classes and every pair of them, and encodings one by one, for the tests of comparisons."""

from __future__ import annotations

import itertools
from typing import Any

import pandas as pd
import tiny_data

from gradiend import TextPredictionTrainer, TrainingArguments

WORDS = {"H": ("he",), "S": ("she",), "T": ("they",)}
PAIRS = list(itertools.combinations(WORDS, 2))


def rows(words=WORDS) -> pd.DataFrame:
    """Half of the tiny rows: 4 for the test of each class."""
    return tiny_data.rows(words).iloc[lambda frame: [n for n in range(len(frame)) if n // 5 % 2]]


def arguments(**fields) -> TrainingArguments:
    """A few steps from the closed form."""
    settings = {"init": "class_means", "init_samples": 8, "learning_rate": 1e-4, "train_batch_size": 2}
    return TrainingArguments(**{**tiny_data.QUICK, **settings, **fields})


def trainer(path, pair, *, data=None, **fields) -> TextPredictionTrainer:
    """A trained trainer of one pair."""
    made = TextPredictionTrainer(
        path,
        run_id="__".join(pair),
        data=rows() if data is None else data,
        target_classes=list(pair),
        args=arguments(**fields),
    )
    made.train()
    return made


def trainers(path, **fields) -> dict[str, TextPredictionTrainer]:
    """A trainer of every pair."""
    return {"__".join(pair): trainer(path, pair, **fields) for pair in PAIRS}


def reading(trainers, sources) -> dict[str, Any]:
    """Id → the model of a trainer that reads another source, which its encoder tells apart too."""
    found = {}
    for (name, one), source in zip(trainers.items(), sources, strict=True):
        model = one.get_model()
        found[name] = type(model)(model.base_model, model.gradiend, model.tokenizer, source=source)
        found[name].set_feature_class_encoding_direction(model.feature_class_encoding_direction)
    return found


def naive_pool(trainers, split="test") -> pd.DataFrame:
    """The distinct rows of all trainers, with a column for each trainer: whether the row is one of its own."""
    frames = [one.modality.labelled_rows(split).assign(**{name: True}) for name, one in trainers.items()]
    key = ["masked", "factual", "alternative", "source_id", "target_id"]
    rows = pd.concat(frames)[[*key, *trainers]].groupby(key, sort=False).any().reset_index()
    return rows.assign(transition=rows["source_id"] + "→" + rows["target_id"])


def naive_encodings(trainers, rows, models=None) -> pd.DataFrame:
    """A column for each trainer: its encoding of every row, turned so that its own first class is positive."""
    found = {}
    for name, one in trainers.items():
        model = one.get_model() if models is None else models[name]
        values = pd.Series(
            [
                model.encode(row.masked, factual=row.factual, alternative=row.alternative, return_float=True)
                for row in rows.itertuples()
            ]
        )
        own, (first, second) = rows[name].astype(bool), one.target_classes
        gap = values[own & (rows["source_id"] == first)].mean() - values[own & (rows["source_id"] == second)].mean()
        found[name] = values * (1 if gap > 0 else -1)
    return pd.DataFrame(found)
