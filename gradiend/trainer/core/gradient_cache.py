"""Gradients on disk, found by everything that they were computed from: another model, map or text is another file."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn
from transformers import PreTrainedModel

from gradiend._version import __version__
from gradiend.gradients import TokenizedWord
from gradiend.model.model_with_gradiend import ModelWithGradiend
from gradiend.model.sides import Side
from gradiend.util.files import read_tensors, write_tensors
from gradiend.util.fingerprint import digest_tensors

GRADIENT = "gradient"
"""Name of the tensor in a file."""


class ModuleHash:
    """SHA-256 of a module's structure, configuration, weights and buffers, computed again when these have changed.

    Args:
        module: Any module.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._seen: tuple[tuple[int, int], ...] = ()
        self._hash = ""

    def __call__(self, *, afresh: bool = False) -> str:
        """The hash.

        Args:
            afresh: Compute it in any case. Otherwise PyTorch's version counters say whether anything has changed, which
                they do for every operation but those through `.data`.
        """
        tensors = dict(self.module.state_dict())
        seen = tuple((tensor.data_ptr(), tensor._version) for tensor in tensors.values())
        if afresh or seen != self._seen:
            digest = hashlib.sha256(repr(self.module).encode())
            for part in self.module.modules():
                if isinstance(part, PreTrainedModel):
                    digest.update(part.config.to_json_string(use_diff=False).encode())
            digest.update(digest_tensors(tensors.items()).encode())
            self._hash, self._seen = digest.hexdigest(), seen
        return self._hash


def add_to(digest: Any, value: Any) -> None:
    """Feed a value of tensors, arrays, strings, numbers and containers of them into a hash.

    Raises:
        TypeError: Anything else.
    """
    if isinstance(value, Tensor):
        digest.update(f"tensor {digest_tensors([('', value)])} ".encode())
    elif isinstance(value, np.ndarray | np.generic):
        add_to(digest, value.tolist())
    elif isinstance(value, Mapping):
        digest.update(f"mapping {len(value)} ".encode())
        for key, item in value.items():
            add_to(digest, key)
            add_to(digest, item)
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        digest.update(f"sequence {len(value)} ".encode())
        for item in value:
            add_to(digest, item)
    elif value is None or isinstance(value, (str, bytes, int, float)):
        text = repr(value).encode()
        digest.update(f"{type(value).__name__} {len(text)} ".encode() + text)
    else:
        raise TypeError(
            f"A cached gradient is found by what it was computed from, and a {type(value).__name__} cannot be compared "
            "across runs: use tensors, strings and numbers, or turn use_cached_gradients off."
        )


def words_key(side: Side, factual: Sequence[TokenizedWord], alternative: Sequence[TokenizedWord], bf16: bool) -> str:
    """The key of a batch's gradient, besides the model.

    The words hold everything that an input consists of: token ids, positions, and the tokens asked for.
    """
    words = {Side.FACTUAL: tuple(factual), Side.ALTERNATIVE: tuple(alternative)}
    return repr((words.get(side, tuple(words.values())), bf16))


def owner_of(creator: Any) -> Any:
    """The object that a creator of gradients belongs to: of a bound method, its object; else itself."""
    return creator.__self__ if inspect.ismethod(creator) else creator


class GradientCache:
    """Gradients in safetensors files, one each.

    Args:
        directory: Where the files are; created when the first is written.
        model: What makes the gradients. Its weights, and a GRADIEND's parameter map, are part of every key. Of what is
            no module, nothing is known but what the keys say.
    """

    def __init__(self, directory: str | Path, model: Any) -> None:
        self.directory = Path(directory)
        self.mapping = model.gradiend if isinstance(model, ModelWithGradiend) else None
        module = model.base_model if isinstance(model, ModelWithGradiend) else model
        self.weights = ModuleHash(module) if isinstance(module, nn.Module) else None

    def refresh(self) -> None:
        """Look at the model's weights again, however they may have been changed."""
        if self.weights is not None:
            self.weights(afresh=True)

    def path(self, name: str, key: Any) -> Path:
        """The file of a gradient.

        Args:
            name: factual, alternative or diff.
            key: What it is computed from, besides the model.
        """
        digest = hashlib.sha256()
        weights = None if self.weights is None else self.weights()
        mapping = None if self.mapping is None else self.mapping.param_map_hash
        add_to(digest, [__version__, name, weights, mapping])
        add_to(digest, key)
        return self.directory / f"{name}_{digest.hexdigest()}.safetensors"

    @staticmethod
    def read(path: Path) -> Tensor:
        """The gradient in a file, on the CPU."""
        return read_tensors(path)[GRADIENT]

    @staticmethod
    def write(path: Path, gradient: Tensor) -> None:
        """Keep a gradient."""
        write_tensors(path, {GRADIENT: gradient})
