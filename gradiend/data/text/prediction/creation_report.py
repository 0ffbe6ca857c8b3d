"""The data report of a creation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from gradiend.data.summary import DataSummary, summarise
from gradiend.data.unified.schema import UNIFIED_FACTUAL, UNIFIED_FACTUAL_CLASS


@dataclass(frozen=True)
class Tally:
    """What a creation counted."""

    dropped: Mapping[str, int]
    """Reason → sentences that were left out."""
    n_beside_others: int = 0
    """Rows whose sentence holds a word of another class too, and no tag tells the two apart."""


@dataclass(frozen=True)
class Creation:
    """What a creation made."""

    rows: pd.DataFrame
    """Columns masked, label, label_class and split; document where the documents are known."""
    classes: Sequence[str]
    """The ids of the classes."""
    tally: Tally

    def summary(self, tokenizer: Any = None) -> DataSummary:
        """The report; see `summarise` for the tokenizer."""
        rows = self.rows.rename(columns={"label_class": UNIFIED_FACTUAL_CLASS, "label": UNIFIED_FACTUAL})
        return summarise(
            rows,
            classes=self.classes,
            dropped=self.tally.dropped,
            n_beside_others=self.tally.n_beside_others,
            tokenizer=tokenizer,
        )
