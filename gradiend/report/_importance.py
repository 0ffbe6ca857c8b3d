"""Where in the model the feature sits: the decoder's importance by layer and kind of parameter, and its top entries."""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gradiend.model import ParamMappedGradiendModel
from gradiend.model._checkpoint import is_checkpoint
from gradiend.model._entries import named_entries
from gradiend.model._topk import BLOCK
from gradiend.model.model_with_gradiend import ModelWithGradiend
from gradiend.trainer.text.common.model_base import TextModelWithGradiend
from gradiend.visualizer._style import without_middle

PART = "decoder-weight"
N_ENTRIES = 10
"""Single entries that are listed."""
N_TOKENS = 12
"""Tokens whose embeddings are listed."""
N_TOP = 1000
"""Entries among which parameters are counted."""
_BINS = 1 << 16
"""Bins by which the entries that hold half of the importance are counted."""
MOST_PARAMETERS = 20
"""Parameters that are listed, by their share."""
_TENSOR = re.compile(r"[._](weight|bias)$")


@dataclass(frozen=True)
class Cell:
    """The parameters of one kind in one layer, or one parameter."""

    importance: float
    entries: int
    """Entries in the map."""
    whole: tuple[float, int]
    """Importance and entries of the whole map."""

    def __add__(self, other: Cell) -> Cell:
        return Cell(self.importance + other.importance, self.entries + other.entries, self.whole)

    @property
    def share(self) -> float:
        """Share of the importance of all entries."""
        return self.importance / self.whole[0] if self.whole[0] else 0.0

    @property
    def density(self) -> float:
        """The mean importance of an entry here, as a multiple of the mean importance of all entries."""
        return self.share / (self.entries / self.whole[1])


@dataclass(frozen=True)
class Row:
    """A layer."""

    name: str
    """Its number if there is one stack of layers, else the stack's name and the number."""
    cells: Sequence[Cell | None]
    total: Cell


@dataclass(frozen=True)
class Entry:
    """One of the most important entries."""

    rank: int
    name: str
    place: str
    """Its indices in the parameter."""
    token: str | None
    """The token whose embedding it belongs to."""
    share: float
    weights: Sequence[float]
    """Encoder and decoder weight; empty with several latents."""


@dataclass(frozen=True)
class Importance:
    """The trained weights' part of the page."""

    kinds: Sequence[str]
    rows: Sequence[Row]
    outside: Sequence[tuple[str, Cell]]
    """Parameters outside of layers, such as embeddings."""
    parameters: Sequence[tuple[str, Cell, int]]
    """(name, cell, how many of the most important entries are its own) of those with the largest shares."""
    n_parameters: int
    entries: Sequence[Entry]
    tokens: Sequence[tuple[str, float]]
    """(token, share of all importance) of the rows of the word embeddings that have most; empty without a tokenizer."""
    size: int
    """Entries in the map."""
    unpruned_size: int
    n_top: int
    half: int
    """How many entries hold half of the importance."""
    largest: float
    """The largest share of a cell, which has the full colour."""


def trained_gradiend(trainer: Any) -> ParamMappedGradiendModel | None:
    """The trained GRADIEND of a trainer, from memory or from its directory; None before a training.

    The base model is not loaded.
    """
    if not trainer.has_model():
        return None
    model = trainer.current.model
    if model is None:
        found: Any = ParamMappedGradiendModel.from_pretrained(trainer.model_path)
    else:
        found = model.gradiend if isinstance(model, ModelWithGradiend) else None
    usable = isinstance(found, ParamMappedGradiendModel) and found.is_built and not found.is_untrained
    return found if usable and (model is not None or is_checkpoint(trainer.model_path)) else None


def place_of(name: str) -> tuple[str | None, str]:
    """(layer, kind) of a parameter by its name: the first number is that of a layer; None outside of layers.

    Weight and bias of a module are one kind, and so are the experts of a layer.
    """
    parts = _TENSOR.sub("", name).split(".")
    for position, part in enumerate(parts):
        if part.isdigit() and position + 1 < len(parts):
            kind = ".".join("*" if piece.isdigit() else piece for piece in parts[position + 1 :])
            return ".".join(parts[: position + 1]), kind
    return None, ".".join(parts)


def importance_of(gradiend: ParamMappedGradiendModel, trainer: Any) -> Importance:
    """Sum up the importance of a trained GRADIEND's entries by layer, kind and parameter."""
    importance = gradiend.get_weight_importance(PART)
    n_top = min(N_TOP, gradiend.input_dim)
    top = torch.tensor(gradiend.get_topk_weights(PART, n_top))
    selected = [(parameter, place) for parameter, place in gradiend.mapping.slices() if parameter.num_selected]
    sums = [float(importance[place].sum(dtype=torch.float64)) for _, place in selected]
    whole = sum(sums), gradiend.input_dim
    layers: dict[str, dict[str, Cell]] = {}
    outside: dict[str, Cell] = {}
    parameters: list[tuple[str, Cell, int]] = []
    for (parameter, place), own in zip(selected, sums, strict=True):
        cell = Cell(own, parameter.num_selected, whole)
        parameters.append((parameter.name, cell, int(((top >= place.start) & (top < place.stop)).sum())))
        layer, kind = place_of(parameter.name)
        target = outside if layer is None else layers.setdefault(layer, {})
        target[kind] = target[kind] + cell if kind in target else cell
    kinds = list(dict.fromkeys(kind for cells in layers.values() for kind in cells))
    several_stacks = len({name.rpartition(".")[0] for name in layers}) > 1
    rows = [
        Row(
            without_middle(name, 24) if several_stacks else name.rpartition(".")[2],
            [cells.get(kind) for kind in kinds],
            functools.reduce(operator.add, cells.values()),
        )
        for name, cells in layers.items()
    ]  # fmt: skip
    embedding = _embedding(trainer)
    return Importance(
        kinds, rows, sorted(outside.items(), key=lambda item: -item[1].share),
        sorted(parameters, key=lambda item: -item[1].share)[:MOST_PARAMETERS], len(parameters),
        _entries(gradiend, importance, top[:N_ENTRIES], whole[0], embedding),
        _tokens(gradiend, importance, whole[0], embedding),
        gradiend.input_dim, gradiend.mapping.unpruned_size, n_top, _half(importance),
        max((cell.share for row in rows for cell in row.cells if cell is not None), default=0.0),
    )  # fmt: skip


def _half(importance: torch.Tensor) -> int:
    """About how many of the most important entries hold half of the importance, without sorting all entries.

    Entries are counted in narrow bins of their size; within the bin of the last of them, they count as equal.
    """
    largest = float(importance.max())
    if not largest:
        return 0
    counts, sums = np.zeros(_BINS), np.zeros(_BINS)
    for block in importance.split(BLOCK):
        places = ((block / largest).sqrt() * (_BINS - 1)).long().numpy()
        counts += np.bincount(places, minlength=_BINS)
        sums += np.bincount(places, weights=block.numpy(), minlength=_BINS)
    held, half = np.cumsum(sums[::-1]), sums.sum() / 2
    last = int(np.searchsorted(held, half))
    before = held[last - 1] if last else 0.0
    above = counts[::-1]
    return int(np.ceil(above[:last].sum() + above[last] * (half - before) / (held[last] - before)))


def _embedding(trainer: Any) -> tuple[str, Any] | None:
    """(name of the input embeddings, tokenizer) of the model in memory; None without one."""
    model = trainer.current.model
    if not isinstance(model, TextModelWithGradiend):
        return None
    embedding = model.base_model.get_input_embeddings()
    names = [name for name, value in model.base_model.named_parameters() if value is embedding.weight]
    return (names[0], model.tokenizer) if names else None


def _entries(
    gradiend: ParamMappedGradiendModel, importance: torch.Tensor, top: torch.Tensor, whole: float,
    embedding: tuple[str, Any] | None,
) -> list[Entry]:  # fmt: skip
    encoder, decoder = gradiend.encoder_linear.weight.detach(), gradiend.decoder_linear.weight.detach()
    found = []
    for entry in named_entries(gradiend, PART, importance, top):
        name, at, index = entry["param_name"], entry["coords"], entry["local_input_index"]
        token = _token(embedding[1], at[0]) if embedding is not None and name == embedding[0] else None
        weights = [float(encoder[0, index]), float(decoder[index, 0])] if decoder.shape[1] == 1 else []
        share = entry["importance"] / whole if whole else 0.0
        found.append(Entry(entry["rank"], name, ", ".join(map(str, at)), token, share, weights))
    return found


def _tokens(
    gradiend: ParamMappedGradiendModel, importance: torch.Tensor, whole: float, embedding: tuple[str, Any] | None
) -> list[tuple[str, float]]:
    """The tokens whose embeddings have most importance, and the share of each."""
    if embedding is None or not whole:
        return []
    name, tokenizer = embedding
    for parameter, place in gradiend.mapping.slices():
        if parameter.name == name and parameter.num_selected:
            own = importance[place].double()
            if parameter.selection is None:
                sums = own.view(parameter.shape[0], -1).sum(1)
            else:
                sums = torch.bincount(parameter.indices() // parameter.shape[1], own, parameter.shape[0])
            best = sums.topk(min(N_TOKENS, len(sums)))
            found = zip(best.indices.tolist(), best.values.tolist(), strict=True)
            return [(_token(tokenizer, row), value / whole) for row, value in found if value]
    return []


def _token(tokenizer: Any, number: int) -> str:
    """A token by its name in the vocabulary; embeddings may have more rows than the vocabulary has tokens."""
    return str(tokenizer.convert_ids_to_tokens(number)) if number < len(tokenizer) else f"token {number}"
