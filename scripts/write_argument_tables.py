"""Write docs/arguments.md from the fields of the configurations and the sentences under them.

    python scripts/write_argument_tables.py

A test compares the file with what this writes.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from gradiend import LRSearchConfig, PostPruneConfig, PrePruneConfig, TextPredictionConfig, TrainingArguments
from gradiend.util._argument_fields import field_default, field_sentences

DOCUMENT = Path(__file__).parent.parent / "docs" / "arguments.md"

TABLES = {
    TrainingArguments: "Of `Trainer.train` and the evaluations; `trainer.train(…)` takes a field for one training.",
    TextPredictionConfig: "The data of a `TextPredictionTrainer`, which takes each field by itself too.",
    PrePruneConfig: "`TrainingArguments(pre_prune_config=…)`: before training, by gradients.",
    LRSearchConfig: "`TrainingArguments(lr_search_config=…)`: how a learning rate is searched for.",
    PostPruneConfig: "`TrainingArguments(post_prune_config=…)`: after training, by weights.",
}


def table(cls: type) -> str:
    """One row per field: name, default and text."""
    texts = field_sentences(cls)
    rows = [
        f"| `{item.name}` | `{field_default(item)}` | {texts[item.name].replace('|', chr(92) + '|')} |"
        for item in dataclasses.fields(cls)
    ]
    return "\n".join(["| field | default | |", "|---|---|---|", *rows])


def document() -> str:
    """The whole text."""
    parts = [f"## {cls.__name__}\n\n{text}\n\n{table(cls)}" for cls, text in TABLES.items()]
    head = (
        "# Arguments\n\nEvery field of the configurations. An unknown one is an error that names the nearest, "
        "also from what other tools call it (`lr`,\n`batch_size`, `epochs`). `help(TrainingArguments)` shows the same. "
        "Written by `python scripts/write_argument_tables.py`."
    )
    return "\n\n".join([head, *parts]) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")
