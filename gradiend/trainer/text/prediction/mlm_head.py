"""The auxiliary masked-LM head of a causal model, and its files.

config.json         type, base_model (name or path), labels, stand_in, pooling_length
model.safetensors   weight (n_labels, hidden_size) and bias (n_labels,)
base_model/         the base model with its tokenizer, only where it has no name or path
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from typing_extensions import Self

from gradiend.model.checkpoint import CONFIG, FORMAT_VERSION
from gradiend.model.weight_files import WEIGHTS
from gradiend.util._files import read_json, read_tensors, write_json, write_tensors
from gradiend.util.paths import MLM_HEAD


@dataclass(frozen=True)
class MLMHead:
    """A linear classifier of the word at a placeholder, on pooled hidden states of a causal model."""

    base_model: str
    """Name or path of the causal model that it was trained on; empty where it has none."""
    labels: tuple[str, ...]
    """The words, lower case; logit i is that of labels[i]."""
    stand_in: str
    """The token at the placeholder."""
    pooling_length: int
    """Hidden states that are averaged, from the placeholder on."""
    weight: Tensor
    """(n_labels, hidden_size)."""
    bias: Tensor
    """(n_labels,)."""

    def save(self, directory: str | Path) -> None:
        """Write weights and config; config.json comes last, so a directory with one is complete."""
        tensors = {"weight": self.weight, "bias": self.bias}
        write_tensors(Path(directory) / WEIGHTS, tensors)
        content: dict[str, Any] = {"format_version": FORMAT_VERSION, "type": MLM_HEAD}
        fields = [field.name for field in dataclasses.fields(self) if field.name not in tensors]
        write_json(Path(directory) / CONFIG, {**content, **{name: vars(self)[name] for name in fields}})

    @classmethod
    def load(cls, directory: str | Path) -> Self:
        """What `save` wrote.

        Raises:
            FileNotFoundError: No head there.
            ValueError: A damaged file, or weights that do not fit the labels; the message names the file.
        """
        if not is_mlm_head(directory):
            raise FileNotFoundError(f"{directory} holds no auxiliary head: train one with train_mlm_head.")
        config, tensors = read_json(Path(directory) / CONFIG), read_tensors(Path(directory) / WEIGHTS)
        head = cls(
            config["base_model"], tuple(config["labels"]), config["stand_in"], config["pooling_length"],
            tensors["weight"], tensors["bias"],
        )  # fmt: skip
        if len(head.weight) != len(head.labels) or head.bias.shape != head.weight.shape[:1]:
            raise ValueError(
                f"{Path(directory) / WEIGHTS} holds a weight of shape {tuple(head.weight.shape)} and a bias of shape "
                f"{tuple(head.bias.shape)}, but {CONFIG} names {len(head.labels)} labels."
            )
        return head


def is_mlm_head(directory: str | Path) -> bool:
    """Whether `directory` holds an auxiliary head."""
    config = Path(directory) / CONFIG
    return config.is_file() and read_json(config).get("type") == MLM_HEAD
