"""Masked sentences of a class, column by column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gradiend.data.text.prediction.class_words import Label


@dataclass(frozen=True)
class Examples:
    """Sentences with the words of a class masked, in corpus order; no masked text twice."""

    masked: pd.Series
    """The sentences."""
    label_index: NDArray[np.int32]
    """Which of the labels is the first masked word."""
    labels: Sequence[Label]
    """All labels of all classes."""
    group: NDArray[np.int32]
    """The same for all examples of a sentence, and for those of all classes with one masked text. It must not be in
    two splits."""
    has_contrast: NDArray[np.bool_]
    """Whether the sentence shows a word of another class."""
    document: Sequence[object]
    """The document that each sentence comes from; empty where nobody asks."""

    @property
    def n_beside_others(self) -> int:
        """Sentences that show a word of another class."""
        return int(np.count_nonzero(self.has_contrast))

    def __len__(self) -> int:
        return len(self.group)

    @property
    def label(self) -> pd.Series:
        """The first masked words, in the casing of the sentences."""
        texts = pd.Series([label.text for label in self.labels], dtype=str)
        return pd.Series(texts.array.take(self.label_index))

    @property
    def words(self) -> list[str]:
        """The words that the labels are, in the user's spelling; lemmas have none, and are as in the sentences."""
        return [self.labels[index].word for index in self.label_index.tolist()]

    def first(self, n: int) -> Examples:
        """The first `n`."""
        return replace(
            self,
            masked=self.masked[:n],
            label_index=self.label_index[:n],
            group=self.group[:n],
            has_contrast=self.has_contrast[:n],
            document=self.document[:n],
        )
