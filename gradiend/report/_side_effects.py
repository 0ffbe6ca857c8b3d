"""Side effects of the rewrites: predictions for single sentences, tokens, other classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from gradiend.evaluator._side_effects import CLASS, DIVERGENCE, GAINED, LOST, N_PREDICTIONS, OTHER, PREDICTION, TARGET
from gradiend.report._format import Text, interval, number
from gradiend.report._rewrites import title_of
from gradiend.visualizer.side_effects import shown_token

MOST_CLASSES = 24
"""Rows of classes that are listed for a rewrite."""


@dataclass(frozen=True)
class Prediction:
    """The most likely tokens at the place of one sentence: first of the base model, then after each rewrite."""

    sentence: Text
    columns: Sequence[tuple[str, Sequence[tuple[str, float, float]]]]
    """(title, (token, probability, change of the probability) of the most likely tokens)."""


@dataclass(frozen=True)
class SideEffects:
    """The side effects of one rewrite."""

    key: str
    title: str
    divergence: str | None
    tokens: Sequence[Mapping[str, Any]]
    """The tokens that gained and lost most."""
    classes: Sequence[Mapping[str, Any]]
    """P(class) before and after."""
    n_more_classes: int


def predictions_of(effects: Mapping[str, pd.DataFrame], titles: Mapping[str, str]) -> list[Prediction]:
    """The predictions for the sentences of the user, all goals side by side."""
    by_goal = {key: frame[frame["kind"] == PREDICTION] for key, frame in effects.items()}
    sentences = dict.fromkeys(text for rows in by_goal.values() for text in rows["context"])
    found = []
    for sentence in sentences:
        columns: list[tuple[str, list[tuple[str, float, float]]]] = []
        for key, rows in by_goal.items():
            own = rows[rows["context"] == sentence]
            if own.empty:
                continue
            if not columns:
                columns.append(("before", _most_likely(own, "before")))
            columns.append((titles.get(key, title_of(key)), _most_likely(own, "after")))
        found.append(Prediction(Text.of(sentence), columns))
    return found


def _most_likely(rows: pd.DataFrame, column: str) -> list[tuple[str, float, float]]:
    best = rows.sort_values(column, ascending=False, kind="stable").head(N_PREDICTIONS)
    change = best["change"] if column == "after" else best["change"] * 0
    names = map(shown_token, best["name"].astype(str))
    return list(zip(names, best[column].astype(float), change.astype(float), strict=True))


def side_effects_of(key: str, frame: pd.DataFrame, title: str) -> SideEffects:
    """The side effects of one rewrite, from the frame of `evaluate_side_effects`."""
    rows = [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]
    moved = [row for row in rows if row["kind"] in (GAINED, LOST)]
    widest = max((abs(row["change"]) for row in moved), default=1.0) or 1.0
    for row in moved:
        row["token"] = shown_token(str(row["name"]))
        row["share"] = round(100 * abs(row["change"]) / widest, 1)
        row["text"] = Text.of(str(row["example"])) if isinstance(row["example"], str) else None
    classes = [row for row in rows if row["kind"] == CLASS]
    for row in classes:
        own = row["group"] in (TARGET, OTHER)
        row["title"] = str(row["name"]) if own else f"{row['group']}: {row['name']}"
    found = next((row for row in rows if row["kind"] == DIVERGENCE), None)
    told = None
    if found is not None:
        ends = interval((found["low"], found["high"]), 4)
        told = (
            f"{number(found['after'], 4)} nats per position {ends}, over {found['n']} positions of "
            f"{found['n_texts']} neutral texts"
        )
    return SideEffects(key, title, told, moved, classes[:MOST_CLASSES], max(0, len(classes) - MOST_CLASSES))
