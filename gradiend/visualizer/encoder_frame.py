"""Encodings as plots and evaluations take them: a frame, or the result that holds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from gradiend.util._keywords import nearest

Encodings = pd.DataFrame | Mapping[str, Any]
"""One row per example, or what `evaluate_encoder(return_df=True)` returned."""


def frame_of(encodings: Encodings) -> pd.DataFrame:
    """The frame itself, or that in a result.

    Raises:
        ValueError: A result without it.
    """
    if isinstance(encodings, pd.DataFrame):
        return encodings
    if "encoder_df" not in encodings:
        raise ValueError("This result has no encodings: evaluate_encoder(return_df=True) puts them under 'encoder_df'.")
    return encodings["encoder_df"]


def checked_frame(encodings: Encodings | None, columns: Sequence[str]) -> pd.DataFrame:
    """The frame, which has `columns`, `encoded` among them, and finite encodings.

    Raises:
        ValueError: It is missing or empty, lacks a column, or holds encodings that are not finite.
    """
    frame = None if encodings is None else frame_of(encodings)
    if frame is None or frame.empty:
        raise ValueError(
            "The encoder frame is empty or missing: pass encoder_df, which evaluate_encoder(return_df=True) "
            "returns under 'encoder_df'."
        )
    for column in columns:
        if column not in frame.columns:
            names = [str(name) for name in frame.columns]
            raise ValueError(f"The encoder frame has no column {column!r}, only {names}.{nearest(column, names)}")
    broken = int((~np.isfinite(frame["encoded"].to_numpy(np.float64))).sum())
    if broken:
        raise ValueError(
            f"{broken} of {len(frame)} encodings are not finite: training has probably diverged, "
            "lower the learning rate."
        )
    return frame
