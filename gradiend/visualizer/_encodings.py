"""Encodings for plots and evaluations: the frame, and the groups of its rows that a reader compares."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gradiend.util._keywords import nearest
from gradiend.visualizer._output import Run
from gradiend.visualizer._style import shown

Encodings = pd.DataFrame | Mapping[str, Any]
"""A frame with one row per example, or the result of `evaluate_encoder(return_df=True)`."""

ARROW = " -> "
SPLIT = "data_split"
"""Column with the split of an encoded row; "" for a row that is in no split, such as neutral text."""


def title_of(what: str, run: Run | None) -> str:
    """The default title of a plot of encodings."""
    return what if run is None or run.run_id is None else f"{what} of {shown(run.run_id, width=60, lines=1)}"


def in_directory(run: Run | None, name: str) -> Path | None:
    """The default file of a plot, if the run has a directory."""
    return None if run is None or run.experiment_dir is None else Path(run.experiment_dir) / name


def given_or_encoded(run: Run | None, given: Encodings | None, split: str | Sequence[str]) -> Encodings:
    """The given encodings, or else the encodings of some splits by a run; ValueError if there is neither."""
    if given is not None:
        return given
    if run is None:
        raise ValueError("There is nothing to plot: pass encoder_df or a trainer.")
    return run.evaluate_encoder(split=split, return_df=True)


def frame_of(encodings: Encodings) -> pd.DataFrame:
    """Return the frame itself, or the frame in a result; raise ValueError for a result without one."""
    if isinstance(encodings, pd.DataFrame):
        return encodings
    if "encoder_df" not in encodings:
        raise ValueError("This result has no encodings: evaluate_encoder(return_df=True) puts them under 'encoder_df'.")
    return encodings["encoder_df"]


def checked_frame(encodings: Encodings | None, columns: Sequence[str]) -> pd.DataFrame:
    """Return the frame; raise ValueError if it is missing or empty, lacks a column, or has encodings not finite."""
    frame = None if encodings is None else frame_of(encodings)
    if frame is None or frame.empty:
        raise ValueError("The encoder frame is empty or missing: pass that of evaluate_encoder(return_df=True).")
    for column in columns:
        if column not in frame.columns:
            names = [str(name) for name in frame.columns]
            raise ValueError(f"The encoder frame has no column {column!r}, only {names}.{nearest(column, names)}")
    broken = int((~np.isfinite(frame["encoded"].to_numpy(np.float64))).sum())
    if broken:
        raise ValueError(
            f"{broken} of {len(frame)} encodings are not finite: the training has probably diverged; lower its "
            "learning rate."
        )
    return frame


@dataclass(frozen=True, eq=False)
class EncodingGroup:
    """The encodings of one transition (factual class → alternative class) or of one kind of neutral text."""

    source: str
    """Factual class, or the type of neutral rows."""
    target: str | None
    """Alternative class; None for neutral rows, and if the frame does not have the class."""
    label: float
    values: NDArray[np.float64]
    neutral: bool
    splits: NDArray[Any]
    """The split of each value, "" for none."""

    @property
    def key(self) -> str:
        """The name by which a user refers to the group: `a -> b`, `a`, or the neutral type."""
        return self.source if self.target is None else f"{self.source}{ARROW}{self.target}"

    def of_split(self, split: str) -> EncodingGroup:
        """The group with the values of a split and the values that are in no split."""
        own = np.isin(self.splits, [split, ""])
        return replace(self, values=self.values[own], splits=self.splits[own])


def encoding_groups(
    encodings: Encodings | None, *, first_classes: Sequence[str] = (), target_and_neutral_only: bool = True,
    include_neutral: bool = True,
) -> list[EncodingGroup]:  # fmt: skip
    """Split encodings into groups: transitions, those of `first_classes` first and label 0 last, then neutral text.

    `target_and_neutral_only` leaves out identity examples of other classes (label 0), `include_neutral=False` neutral
    text; a frame with only such rows is a ValueError.
    """
    frame = checked_frame(encodings, ("encoded", "label", "type"))
    label = frame["label"].to_numpy(np.float64)
    kind = frame["type"].astype(str)
    neutral = kind.str.startswith("neutral").to_numpy(bool)
    label_names = pd.Series([f"label {value:+g}" if value else "label 0" for value in label], dtype=object)
    table = pd.DataFrame(
        {
            "source": np.where(neutral, kind, _names(frame, "source_id").fillna(label_names)),
            "target": _names(frame, "target_id").where(~neutral, ""),
            "label": label, "neutral": neutral, "encoded": frame["encoded"].to_numpy(np.float64),
            "split": _names(frame, SPLIT).fillna("").astype(str),
        }
    ).fillna({"target": ""})  # fmt: skip
    if target_and_neutral_only:
        table = table[table["neutral"] | (table["label"] != 0)]
        if table.empty:
            raise ValueError("Only identity rows (label 0) are there: target_and_neutral_only=False shows them.")
    if not include_neutral:
        table = table[~table["neutral"]]
        if table.empty:
            raise ValueError("Only neutral text is left to plot, which include_neutral=False hides; set it to True.")
    groups = [
        EncodingGroup(
            source=str(part["source"].iloc[0]), target=str(part["target"].iloc[0]) or None,
            label=float(part["label"].mean()), values=part["encoded"].to_numpy(np.float64),
            neutral=bool(part["neutral"].iloc[0]), splits=part["split"].to_numpy(),
        )
        for _, part in table.groupby(["neutral", "source", "target"], sort=False)
    ]  # fmt: skip
    order = {name: position for position, name in enumerate(first_classes)}

    def rank(group: EncodingGroup) -> tuple[Any, ...]:
        place = order.get(group.source, len(order))
        return group.neutral, group.label == 0, place, -group.label, group.source == "neutral_dataset", group.key

    return sorted(groups, key=rank)


def _names(frame: pd.DataFrame, column: str) -> pd.Series:
    if column not in frame.columns:
        return pd.Series([None] * len(frame), dtype=object)
    values = frame[column].reset_index(drop=True)
    return values.astype(object).where(values.notna(), None)


def group_name(name: str) -> str:
    """Write any arrow of a transition in `name` (→, ->) as in `EncodingGroup.key`."""
    return re.sub(r"\s*(?:→|->)\s*", ARROW, name)


def find_groups(
    groups: Sequence[EncodingGroup], name: str, option: str, *, missing_ok: bool = False
) -> list[EncodingGroup]:
    """Return the group called `name`, or all groups of the factual class or neutral type `name`.

    If there is no such group and not `missing_ok`, a ValueError names the `option` and the nearest group.
    """
    exact = [group for group in groups if group.key in (name, group_name(name))]
    found = exact or [group for group in groups if group.source == name]
    if not found and not missing_ok:
        names = [group.key for group in groups]
        raise ValueError(f"{option} names {name!r}, but the groups are {names}.{nearest(name, names)}")
    return found


def ordered(groups: Sequence[EncodingGroup], order: Sequence[str] | None) -> list[EncodingGroup]:
    """Return `groups`, those named in `order` first; the name of a factual class names all of its groups."""
    first = [group for name in order or () for group in find_groups(groups, name, "violin_order")]
    return list(dict.fromkeys([*first, *groups]))


def merged(
    groups: Sequence[EncodingGroup], members: Mapping[str, Sequence[str]], *, ignore_missing: bool = False
) -> list[EncodingGroup]:
    """Return `groups`, in which those under one title of `members`, {title: names}, become one in place of the first.

    A group under two titles raises ValueError, and so does a name that fits no group, unless `ignore_missing`.
    """
    chosen: dict[EncodingGroup, str] = {}
    for title, names in members.items():
        for name in names:
            for group in find_groups(groups, name, "legend_group_mapping", missing_ok=ignore_missing):
                if chosen.setdefault(group, title) != title:
                    raise ValueError(f"legend_group_mapping has {group.key!r} in {chosen[group]!r} and {title!r}.")
    unions = {
        title: _union(title, [group for group, own in chosen.items() if own == title])
        for title in dict.fromkeys(chosen.values())
    }
    return list(dict.fromkeys(unions[chosen[group]] if group in chosen else group for group in groups))


def _union(title: str, groups: Sequence[EncodingGroup]) -> EncodingGroup:
    labels = {group.label for group in groups}
    return EncodingGroup(
        source=title, target=None, label=labels.pop() if len(labels) == 1 else float("nan"),
        values=np.concatenate([group.values for group in groups]), neutral=all(group.neutral for group in groups),
        splits=np.concatenate([group.splits for group in groups]),
    )  # fmt: skip


def paired(groups: Sequence[EncodingGroup], names: Sequence[str] | None) -> list[tuple[EncodingGroup, ...]]:
    """Arrange `groups` as violins: each two neighbours in `names` share a violin, and other groups have their own."""
    names = list(names or ())
    if len(names) % 2:
        raise ValueError(f"paired_legend_labels are the left and right halves of violins in turn; got {len(names)}.")
    halves: list[EncodingGroup] = []
    for name in names:
        found = find_groups(groups, name, "paired_legend_labels")
        if len(found) > 1:
            keys = [group.key for group in found]
            raise ValueError(f"paired_legend_labels names {name!r}, which is several groups: name one of {keys}.")
        if found[0] in halves:
            raise ValueError(f"paired_legend_labels names {found[0].key!r} twice.")
        halves += found
    pairs = {left: (left, right) for left, right in zip(halves[::2], halves[1::2], strict=True)}
    return [pairs.get(group, (group,)) for group in groups if group not in halves[1::2]]
