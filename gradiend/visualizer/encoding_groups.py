"""Encoded examples in groups that a reader compares: transitions of classes, and kinds of neutral text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gradiend.util.keywords import nearest

ARROW = " -> "
_NEUTRAL_PREFIX = "neutral"
_REQUIRED = ("encoded", "label", "type")


@dataclass(frozen=True, eq=False)
class EncodingGroup:
    """The encodings of one transition (factual class → alternative class) or of one kind of neutral text."""

    source: str
    """Factual class, or the type of neutral rows."""
    target: str | None
    """Alternative class; None for neutral rows and where the frame does not say."""
    label: float
    values: NDArray[np.float64]
    neutral: bool

    @property
    def key(self) -> str:
        """`a -> b`, `a`, or the neutral type: the name by which a user refers to the group."""
        return self.source if self.target is None else f"{self.source}{ARROW}{self.target}"


def encoding_groups(
    frame: pd.DataFrame | None, *, first_classes: Sequence[str] = (), target_and_neutral_only: bool = True
) -> list[EncodingGroup]:
    """Split a frame of encodings into groups.

    Args:
        frame: One row per example with encoded, label and type, optionally source_id and target_id.
        first_classes: Factual classes that come first, in this order.
        target_and_neutral_only: Leave out non-neutral rows with label 0 (identity examples of other classes).

    Returns:
        Transitions, those of `first_classes` first and label 0 last, then kinds of neutral text.

    Raises:
        ValueError: There is no frame, it is empty, lacks a column, holds encodings that are not finite, or
            no row is left.
    """
    if frame is None or frame.empty:
        raise ValueError(
            "The encoder frame is empty or missing: pass encoder_df, which evaluate_encoder(return_df=True) "
            "returns under 'encoder_df'."
        )
    missing = [column for column in _REQUIRED if column not in frame.columns]
    if missing:
        raise ValueError(f"The encoder frame lacks column(s) {missing}; it has {list(frame.columns)}.")
    encoded = frame["encoded"].to_numpy(np.float64)
    broken = int((~np.isfinite(encoded)).sum())
    if broken:
        raise ValueError(
            f"{broken} of {len(frame)} encodings are not finite: training has probably diverged, "
            "lower the learning rate."
        )

    label = frame["label"].to_numpy(np.float64)
    kind = frame["type"].astype(str)
    neutral = kind.str.startswith(_NEUTRAL_PREFIX).to_numpy(bool)
    table = pd.DataFrame(
        {
            "source": np.where(neutral, kind, _names(frame, "source_id").fillna(_label_names(label))),
            "target": _names(frame, "target_id").where(~neutral, ""),
            "label": label,
            "neutral": neutral,
            "encoded": encoded,
        }
    ).fillna({"target": ""})
    if target_and_neutral_only:
        table = table[table["neutral"] | (table["label"] != 0)]
    if table.empty:
        raise ValueError(
            "Only identity rows (label 0) are there, which target_and_neutral_only=True hides; set it to False."
        )
    order = {name: position for position, name in enumerate(first_classes)}
    groups = [
        EncodingGroup(
            source=str(part["source"].iloc[0]),
            target=str(part["target"].iloc[0]) or None,
            label=float(part["label"].mean()),
            values=part["encoded"].to_numpy(np.float64),
            neutral=bool(part["neutral"].iloc[0]),
        )
        for _, part in table.groupby(["neutral", "source", "target"], sort=False)
    ]
    return sorted(
        groups,
        key=lambda g: (
            g.neutral,
            g.label == 0,
            order.get(g.source, len(order)),
            -g.label,
            g.source == "neutral_dataset",
            g.key,
        ),
    )


def ordered(groups: Sequence[EncodingGroup], order: Sequence[str] | None) -> list[EncodingGroup]:
    """`groups` with those named in `order` first: by key, or all of a factual class by its name.

    Raises:
        ValueError: A name fits no group.
    """
    rest, chosen = list(groups), []
    for name in order or ():
        found = [group for group in rest if name in (group.key, group.source)]
        if not found:
            names = [group.key for group in groups]
            raise ValueError(f"violin_order names {name!r}, but the groups are {names}.{nearest(name, names)}")
        chosen += found
        rest = [group for group in rest if group not in found]
    return chosen + rest


def _names(frame: pd.DataFrame, column: str) -> pd.Series:
    if column not in frame.columns:
        return pd.Series([None] * len(frame), dtype=object)
    values = frame[column].reset_index(drop=True)
    return values.astype(object).where(values.notna(), None)


def _label_names(label: NDArray[np.float64]) -> pd.Series:
    return pd.Series([f"label {value:+g}" if value else "label 0" for value in label], dtype=object)
