"""What a call of `generate_training_data` asks for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from gradiend.data.text.prediction.frames import TrainingFormat
from gradiend.data.text.prediction.splits import SplitRatios
from gradiend.util._checks import require_flag, require_whole


@dataclass(frozen=True)
class TrainingRequest:
    """Parsed arguments.

    Raises:
        ValueError: A maximum below 1, a minimum below 0, or a maximum that can never reach the minimum.
        TypeError: A size that is no whole number, a flag that is none.
    """

    format: TrainingFormat
    """What is returned."""
    balance: bool
    """Whether every class is cut to the size of the smallest, in proportion to the weights."""
    ratios: SplitRatios
    """Shares of the splits."""
    max_size_per_class: int | None
    """Rows a class at most."""
    min_rows_per_class_for_split: int
    """Rows that each class must have."""
    split_by_document: bool
    """Whether all rows of a document are in one split."""
    keep_several_classes: bool
    """Whether sentences with words of several classes are kept."""

    def __post_init__(self) -> None:
        require_flag("split_by_document", self.split_by_document)
        require_flag("keep_several_classes", self.keep_several_classes)
        limit, minimum = self.max_size_per_class, self.min_rows_per_class_for_split
        require_whole("max_size_per_class", limit, 1, none_means="for all rows")
        require_whole("min_rows_per_class_for_split", minimum, 0)
        if limit is not None and limit < minimum:
            raise ValueError(
                f"max_size_per_class={limit} can never reach min_rows_per_class_for_split={minimum}; "
                "raise the first or lower the second (0 switches it off)."
            )

    def inputs(self) -> dict[str, Any]:
        """What the rows depend on, as JSON values: everything but the format."""
        return {name: value for name, value in asdict(self).items() if name != "format"}
