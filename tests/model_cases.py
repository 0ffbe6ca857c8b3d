"""Parameter maps, networks and a base model of a few numbers each, for the tests of `gradiend.model`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import tiny
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from gradiend.model import ModelWithGradiend, ParamMappedGradiendModel
from gradiend.model._parameter_map import ParameterMap

Specs = dict[str, dict[str, Any]]

SHAPES = {"body.emb.weight": (9, 4), "body.dense.weight": (4, 4), "body.dense.bias": (4,)}
"""Backbone parameters of `TinyBase`, in its order."""


def spec(shape: tuple[int, ...], kind: str, flat: list[int] | None = None) -> dict[str, Any]:
    """A map entry of the documented form that selects the flat indices `flat`."""
    if kind == "all":
        return {"shape": shape, "repr": "all"}
    if kind == "indices":
        return {"shape": shape, "repr": "indices", "indices": torch.tensor(flat, dtype=torch.int64)}
    mask = torch.zeros(math.prod(shape), dtype=torch.bool)
    mask[torch.tensor(flat, dtype=torch.int64)] = True
    return {"shape": shape, "repr": "mask", "mask": mask.view(shape)}


@st.composite
def specs(draw: st.DrawFn) -> Specs:
    """One to four parameters of one to three dimensions; selections complete, partial, empty, sorted or not."""
    result: Specs = {}
    for number in range(draw(st.integers(1, 4))):
        shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
        kind = draw(st.sampled_from(["all", "mask", "indices"]))
        entries = draw(st.permutations(range(math.prod(shape))))
        chosen = entries[: draw(st.integers(0, len(entries)))]
        result[f"layer{number}.weight"] = spec(shape, kind, chosen)
    if sum(selected(entry) for entry in result.values()) == 0:
        result["last.bias"] = spec((2,), "all")
    return result


def selected(entry: Mapping[str, Any]) -> int:
    """Number of selected entries."""
    if entry["repr"] == "all":
        return math.prod(entry["shape"])
    return int(entry["mask"].sum()) if entry["repr"] == "mask" else len(entry["indices"])


def places(entry: Mapping[str, Any]) -> list[int]:
    """Flat indices that an entry selects, in order: the naive reading of the documented dict."""
    if entry["repr"] == "all":
        return list(range(math.prod(entry["shape"])))
    if entry["repr"] == "indices":
        return entry["indices"].tolist()
    return [place for place, chosen in enumerate(entry["mask"].flatten().tolist()) if chosen]


KINDS: dict[str, Specs] = {
    "all": {name: spec(shape, "all") for name, shape in SHAPES.items()},
    "mask": {name: spec(shape, "mask", [1, *range(0, math.prod(shape), 2)]) for name, shape in SHAPES.items()},
    "indices": {
        "body.emb.weight": spec((9, 4), "indices", [30, 2, 7]),
        "body.dense.weight": spec((4, 4), "indices", [5]),
    },
    "mixed": {
        "body.dense.bias": spec((4,), "all"),
        "body.emb.weight": spec((9, 4), "indices", [4, 9, 33]),
        "body.dense.weight": spec((4, 4), "mask", [0, 1, 2, 5, 9, 14, 15]),
    },
    "empty": {"body.dense.bias": spec((4,), "all"), "body.emb.weight": spec((9, 4), "indices", [])},
}
"""Maps into `TinyBase`, by the representations that they contain."""


def randomise(module: nn.Module, seed: int = 0, scale: float = 0.5) -> None:
    """Fill all parameters with normal numbers."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))


def network(param_map: Any, latent_dim: int = 1, seed: int = 0, **kwargs: Any) -> ParamMappedGradiendModel:
    """A GRADIEND over a map, with random weights and biases."""
    mapping = param_map if isinstance(param_map, ParameterMap) else ParameterMap.from_specs(param_map)
    model = ParamMappedGradiendModel(mapping.size, latent_dim, mapping, **kwargs)
    randomise(model, seed)
    return model


class TinyBase(nn.Module):
    """No transformers model: an embedding, a layer, and a head that shares the embedding's weight."""

    base_model_prefix = "body"

    def __init__(self, name_or_path: str = "tiny/base", dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.name_or_path = name_or_path
        self.body = nn.ModuleDict({"emb": nn.Embedding(9, 4), "dense": nn.Linear(4, 4)})
        self.head = nn.Linear(4, 9)
        self.head.weight = self.body["emb"].weight
        randomise(self, seed=7)
        self.to(dtype)

    @property
    def device(self) -> torch.device:
        return self.head.bias.device

    def forward(self, token: Tensor) -> Tensor:
        return self.head(torch.tanh(self.body["dense"](self.body["emb"](token))))


class TinyModelWithGradiend(ModelWithGradiend):
    """Gradients of −log p(label | text), where both are words of one digit."""

    loaded_with: dict[str, Any]

    def create_gradients(self, text: str, label: str) -> Tensor:
        self.base_model.zero_grad()
        logits = self.base_model(torch.tensor(int(text)))
        (-logits.log_softmax(-1)[int(label)]).backward()
        return self.gradiend.extract_gradients(self.base_model)

    def _save_model(self, save_directory: str, **kwargs: Any) -> None:
        self.saved_with = kwargs

    @classmethod
    def _load_model(
        cls,
        load_directory: Any,
        base_model_id: str | None = None,
        gradiend_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        cls.loaded_with = {"base_model_id": base_model_id, "gradiend_kwargs": gradiend_kwargs, **kwargs}
        if isinstance(load_directory, nn.Module):
            return (load_directory,)
        return (TinyBase(base_model_id or str(load_directory)),)


def model_with_gradiend(param_map: Any, dtype: torch.dtype = torch.float32, **kwargs: Any) -> TinyModelWithGradiend:
    """`TinyBase` in `dtype` with a random GRADIEND on it."""
    return TinyModelWithGradiend(TinyBase(dtype=dtype), network(param_map, base_model="tiny/base", **kwargs))


def bits(module: nn.Module) -> dict[str, Tensor]:
    """A copy of every parameter."""
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def same_bits(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Equal names, dtypes and values."""
    return one.keys() == other.keys() and all(
        tensor.dtype == other[name].dtype and torch.equal(tensor, other[name]) for name, tensor in one.items()
    )


def on_bert(model: nn.Module, **arguments: Any) -> ModelWithGradiend:
    """A GRADIEND with random weights on a BERT with the vocabulary of `tiny.bert_tokenizer`."""
    made = ModelWithGradiend.from_pretrained(model, tokenizer=tiny.bert_tokenizer(), **arguments)
    randomise(made.gradiend, scale=0.1)
    return made


def logits_of_bert(model: Any) -> Tensor:
    """The logits of one text, with gradients, so that quantized layers compute with the weights as they are stored."""
    return model.eval()(input_ids=torch.tensor([[2, 5, 6, 7, 3]])).logits.detach()
