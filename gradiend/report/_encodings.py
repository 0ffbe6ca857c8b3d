"""The encodings of the page: a band of points for each class, the text of each point, and tables of examples.

A band is drawn once, by Python: its points are a few paths, which browsers paint in milliseconds. The texts lie beside
the drawing as JSON, where a small script finds the text of the point under the pointer or of an arrow key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gradiend.evaluator.encoder_metrics import text_numbers
from gradiend.report._figures import nice_ticks
from gradiend.report._format import Text, interval, signed, step
from gradiend.util._bootstrap import interval_of_mean, resampled_weights
from gradiend.visualizer._encoder_scatter import thinned
from gradiend.visualizer._encodings import checked_frame
from gradiend.visualizer._style import GOLDEN_RATIO

MOST_POINTS = 5_000
"""Points that are drawn; of more encodings, evenly spaced ones of each class."""
TEXT_BYTES = 1_200_000
"""Bytes of all texts of points; longer texts are cut until they fit."""
WIDTHS = (320, 200, 120, 60)
"""Characters that texts are cut to: the first of these lengths with which all texts fit into `TEXT_BYTES`."""
N_EXTREMES = 5
"""Texts of each class that are encoded most and least as their class, and neutral texts that are farthest from 0."""
MOST_MISCLASSIFIED = 40
"""Misclassified texts that are listed."""
BAND_WIDTH, BAND_HEIGHT = 1000.0, 64.0
"""The box of a band; it is stretched to the width of the page."""
_RIDGE, _MIDDLE, _SPREAD = 34.0, 47.0, 12.0
"""Base line of the density, middle line of the points, and how far points stand from that line."""
_LAYERS = 6
"""Paths that the points of a band are divided into: where paths overlap, the colour is stronger."""
_BINS = 250
NEUTRAL_NAMES = {
    "neutral_training_masked": "another word masked",
    "neutral_dataset": "neutral texts",
}

Drawn = tuple[pd.DataFrame, NDArray[np.float64], NDArray[np.float64]]
"""The drawn rows of a band, and their places in its box."""


@dataclass(frozen=True)
class Band:
    """The encodings of one class, or of one kind of neutral texts."""

    name: str
    look: int | None
    """Number of the class's colour; None for neutral texts."""
    n: int
    mean: float
    interval: Any
    """The 95 % interval of the mean, as a dict or a pair; None if it is not estimable."""
    ridge: str
    """The density as a path in the box of the band."""
    dots: tuple[str, ...]
    """The points as paths of lines without length."""
    mean_x: float

    @property
    def told(self) -> str:
        """Mean and interval in words."""
        ends = interval(self.interval, 2)
        return f"mean {signed(self.mean)}" + (f" {ends}" if ends else "")


@dataclass(frozen=True)
class Example:
    """A row of a table of texts."""

    encoded: float
    name: str
    word: str
    alternative: str
    text: Text


@dataclass(frozen=True)
class Encodings:
    """The encoder's part of the page."""

    bands: Sequence[Band]
    ticks: Sequence[tuple[float, str]]
    """(per cent of the width, label)."""
    points: Mapping[str, Any]
    """The places and texts of all points, for the script; see `_points`."""
    n_drawn: int
    n_all: int
    surest: Sequence[Example]
    unsure: Sequence[Example]
    neutral_extremes: Sequence[Example]
    misclassified: Sequence[Example]
    n_misclassified: int
    n_judged: int
    band_width: float = BAND_WIDTH
    band_height: float = BAND_HEIGHT


def encodings_of(encoder: Mapping[str, Any], classes: Sequence[str]) -> Encodings:
    """Lay out the result of `evaluate_encoder(return_df=True)`, the bands of the target classes first."""
    frame = _described(checked_frame(encoder, ("encoded", "label", "type")))
    drawn = thinned(frame, MOST_POINTS, "key")
    limit = max(1.0, float(frame["encoded"].abs().max())) * 1.12
    looks = {name: place for place, name in enumerate(classes)}
    bands: list[Band] = []
    points: list[Drawn] = []
    for key in _order(frame, classes):
        own, shown = frame[frame["key"] == key], drawn[drawn["key"] == key].sort_values("encoded", kind="stable")
        name = str(own["group"].iloc[0])
        look = None if own["neutral"].iloc[0] else looks.get(name, len(looks) + len(bands))
        x = (shown["encoded"].to_numpy(np.float64) / limit + 1) / 2 * BAND_WIDTH
        y = _MIDDLE + _SPREAD * (2 * (np.arange(len(x)) * GOLDEN_RATIO % 1.0) - 1)
        places = np.round(x, 1), np.round(y, 1).astype(np.float64)
        values = own["encoded"].to_numpy(np.float64)
        mean = float(values.mean())
        bands.append(
            Band(
                name, look, len(own), mean, _interval_of(encoder, name, own), _ridge(values, limit), _dots(*places),
                round((mean / limit + 1) / 2 * BAND_WIDTH, 1),
            )
        )  # fmt: skip
        points.append((shown, *places))
    target = frame[~frame["neutral"] & (frame["label"] != 0)]
    # A row is judged as `accuracy` of the metrics judges it: by the side of 0 on which it is encoded.
    wrong = target[np.where(target["encoded"] >= 0, 1.0, -1.0) != np.sign(target["label"])]
    # How far an encoding lies on the side of its own class.
    side = target.assign(side=target["encoded"] * np.sign(target["label"])).sort_values("side", kind="stable")
    unsure = side.groupby("label", sort=False).head(N_EXTREMES)
    surest = side.iloc[::-1].groupby("label", sort=False).head(N_EXTREMES).sort_values("label", kind="stable")
    return Encodings(
        bands, [(round((tick / limit + 1) * 50, 2), signed(tick, 1)) for tick, _ in nice_ticks(-limit, limit)],
        _points(points), len(drawn), len(frame),
        _examples(surest.iloc[::-1]), _examples(unsure),
        _examples(_farthest(frame[frame["neutral"]], 2 * N_EXTREMES)),
        _examples(_farthest(wrong, MOST_MISCLASSIFIED)), len(wrong), len(target),
    )  # fmt: skip


def _farthest(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    """The rows whose encodings are farthest from 0."""
    return rows.loc[rows["encoded"].abs().sort_values(ascending=False, kind="stable").index[:most]]


def _described(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with group, neutral, key (of a band), text (its number), and columns of texts, "" without a text."""
    frame = frame.reset_index(drop=True)
    kind = frame["type"].astype(str)
    neutral = kind.str.startswith("neutral")
    texts = {
        name: frame[name].fillna("").astype(str) if name in frame.columns else pd.Series("", index=frame.index)
        for name in ("input_text", "factual", "alternative", "source_id")
    }
    labels = "label " + frame["label"].map(step)
    group = texts["source_id"].where(texts["source_id"] != "", labels).where(~neutral, kind.replace(NEUTRAL_NAMES))
    # A class may have the name of a kind of neutral texts.
    key = neutral.map({True: "neutral: ", False: "class: "}) + group
    return frame[["encoded", "label"]].assign(**texts, text=text_numbers(frame), neutral=neutral, group=group, key=key)


def _order(frame: pd.DataFrame, classes: Sequence[str]) -> list[str]:
    """The keys of bands: target classes first, then other classes, then neutral texts."""
    place = {name: number for number, name in enumerate(classes)}
    found = frame.groupby("key", sort=False).agg(
        neutral=("neutral", "first"), name=("group", "first"), label=("label", "mean")
    )
    ranks = {
        str(key): (bool(row["neutral"]), place.get(row["name"], len(place)), -float(row["label"]))
        for key, row in found.iterrows()
    }
    return sorted(ranks, key=lambda key: ranks[key])


def _interval_of(encoder: Mapping[str, Any], name: str, own: pd.DataFrame) -> Any:
    """The interval of a band's mean: of the metrics, or for neutral texts made here in the same way."""
    known = encoder.get("mean_by_feature_class_interval") or {}
    if name in known and not own["neutral"].iloc[0]:
        return known[name]
    return interval_of_mean(own["encoded"].to_numpy(np.float64), resampled_weights(own["text"].to_numpy()))


def _ridge(values: NDArray[np.float64], limit: float) -> str:
    """The density of values as a closed path: a histogram of fine bins, smoothed by a normal curve."""
    counts, edges = np.histogram(values, bins=_BINS, range=(-limit, limit))
    # Silverman's rule, with the smaller of two measures of spread: a few outliers must not smooth everything.
    low, high = np.quantile(values, (0.25, 0.75))
    spread = min(float(values.std()), float(high - low) / 1.34) or float(values.std())
    width = max(0.9 * spread * len(values) ** -0.2, 0.012 * limit) / (edges[1] - edges[0])
    reach = min(int(4 * width) + 1, _BINS // 2 - 1)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    density = np.convolve(counts, kernel, mode="same")
    heights = _RIDGE - (_RIDGE - 3) * density / density.max()
    x = (np.arange(_BINS) + 0.5) / _BINS * BAND_WIDTH
    shown = np.flatnonzero(density > 0.004 * density.max())
    first, last = shown[0], shown[-1]
    line = "L".join(f"{a:g},{b:.1f}" for a, b in zip(x[first : last + 1], heights[first : last + 1], strict=True))
    return f"M{x[first]:g},{_RIDGE:g}L{line}L{x[last]:g},{_RIDGE:g}Z"


def _dots(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[str, ...]:
    layers = (
        "".join(f"M{a:g},{b:g}h0" for a, b in zip(x[i::_LAYERS], y[i::_LAYERS], strict=True)) for i in range(_LAYERS)
    )
    return tuple(layer for layer in layers if layer)


def _points(bands: Sequence[Drawn]) -> dict[str, Any]:
    """Places and texts of points: texts and words stand in the JSON once, and points have their numbers.

    Returns:
        texts; words; bands, each with x, y, e (encoding), t (text), w (word) and a (alternative), by rising encoding.
    """
    every = [text for shown, _, _ in bands for text in shown["input_text"]]
    distinct = list(dict.fromkeys(every))
    for width in WIDTHS:
        parts = [Text.of(text, width=width) for text in distinct]
        texts = [f"{part.before}{part.word}{part.after}" for part in parts]
        if sum(len(text.encode(errors="replace")) for text in texts) <= TEXT_BYTES:
            break
    number_of_text = {text: number for number, text in enumerate(distinct)}
    words = list(dict.fromkeys(w for shown, _, _ in bands for c in ("factual", "alternative") for w in shown[c]))
    number_of_word = {word: number for number, word in enumerate(words)}
    return {
        "texts": texts,
        "words": words,
        "bands": [
            {
                "x": x.tolist(), "y": y.tolist(), "e": shown["encoded"].round(3).tolist(),
                "t": [number_of_text[text] for text in shown["input_text"]],
                "w": [number_of_word[word] for word in shown["factual"]],
                "a": [number_of_word[word] for word in shown["alternative"]],
            }
            for shown, x, y in bands
        ],
    }  # fmt: skip


def _examples(rows: pd.DataFrame) -> list[Example]:
    own = rows[["encoded", "group", "factual", "alternative", "input_text"]].itertuples(index=False)
    return [Example(float(e), group, word, other, Text.of(text, word)) for e, group, word, other, text in own]
