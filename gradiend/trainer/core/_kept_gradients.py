"""Gradients that are kept because a run needs them again (`GradientStore`), or a later run (`GradientCache`)."""

from __future__ import annotations

import inspect
import logging
import tempfile
import weakref
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from gradiend._version import __version__
from gradiend.gradients import TokenizedWord
from gradiend.model._context import Side
from gradiend.model.model_with_gradiend import ModelWithGradiend
from gradiend.util._bits import digest_weights
from gradiend.util._digest import digest_json
from gradiend.util._files import read_tensors, write_tensors

logger = logging.getLogger(__name__)

GRADIENT = "gradient"
"""Name of the gradient in a file."""
FEWEST = 16
"""Least number of keys: a store with less room would write much and rarely be read, so it keeps nothing."""


class ModuleDigest:
    """A digest of a module's structure, configuration, weights and buffers, computed again when they have changed."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._seen: tuple[tuple[int, int], ...] = ()
        self._digest = ""

    def __call__(self, *, afresh: bool = False) -> str:
        """The digest. With `afresh` it is computed in any case.

        Otherwise PyTorch's version counters say whether a tensor has changed, except by operations through `.data`.
        """
        tensors = dict(self.module.state_dict())
        seen = tuple((tensor.data_ptr(), tensor._version) for tensor in tensors.values())
        if afresh or seen != self._seen:
            models = [part for part in self.module.modules() if isinstance(part, PreTrainedModel)]
            configs = [model.config.to_json_string(use_diff=False) for model in models]
            self._digest = digest_json([repr(self.module), configs, digest_weights(tensors.items())])
            self._seen = seen
        return self._digest


def words_key(side: Side, factual: Sequence[TokenizedWord], alternative: Sequence[TokenizedWord], bf16: bool) -> str:
    """The key of a batch's gradient, without the model: token ids, positions and scored tokens of all words."""
    words = {Side.FACTUAL: tuple(factual), Side.ALTERNATIVE: tuple(alternative)}
    return repr((words.get(side, tuple(words.values())), bf16))


def owner_of(creator: Any) -> Any:
    """The object that creates gradients if the creator is a bound method; otherwise the creator itself."""
    return creator.__self__ if inspect.ismethod(creator) else creator


class GradientCache:
    """Gradients in safetensors files, one file each, named after everything that a gradient is computed from.

    Args:
        directory: Directory of the files; it is created when the first file is written.
        model: The maker of the gradients. The weights of a module and the parameter map of a GRADIEND are part of every
            key; of any other maker nothing is known, so its keys must say everything.
    """

    def __init__(self, directory: str | Path, model: Any) -> None:
        self.directory = Path(directory)
        self.mapping = model.gradiend if isinstance(model, ModelWithGradiend) else None
        module = model.base_model if isinstance(model, ModelWithGradiend) else model
        self.weights = ModuleDigest(module) if isinstance(module, nn.Module) else None

    def refresh(self) -> None:
        """Compute the digest of the model's weights again, however they may have been changed."""
        if self.weights is not None:
            self.weights(afresh=True)

    def path(self, name: str, key: Any) -> Path:
        """The file of a gradient by its side's name and the key of what it is computed from, besides the model."""
        weights = None if self.weights is None else self.weights()
        mapping = None if self.mapping is None else self.mapping.param_map_hash
        digest = digest_json([__version__, name, weights, mapping, key])
        return self.directory / f"{name}_{digest.rpartition(':')[2]}.safetensors"

    @staticmethod
    def read(path: Path, length: int | None = None) -> Tensor | None:
        """The gradient in a file, on the CPU; None if there is no file, or one that is damaged, which the log says.

        A gradient of another length than `length`, if that is known, is damaged too.
        """
        if not path.is_file():
            return None
        try:
            gradient = read_tensors(path)[GRADIENT]
            if length is not None and gradient.shape != (length,):
                raise ValueError(f"{path} has shape {tuple(gradient.shape)}, not ({length},).")
        except (KeyError, ValueError) as error:
            logger.info("A gradient in the cache is computed again: %s", error)
            return None
        return gradient

    @staticmethod
    def write(path: Path, gradient: Tensor) -> None:
        """Write a gradient to a file."""
        write_tensors(path, {GRADIENT: gradient})


class GradientStore:
    """Flat gradients by key, in a temporary file that is mapped into memory.

    A base model in evaluation mode always gives the same gradient for the same batch, and the store gives the same bits
    back. The file is sparse, never larger than the limit, and has no name, so it is removed with the object or with the
    process, however that ends.

    Args:
        limit: Largest size of the file in bytes. Gradients that do not fit are not kept; a store with room for fewer
            than `FEWEST` keys keeps none.
        directory: Directory of the file. Default: the system's temporary directory.
    """

    def __init__(self, limit: int, directory: str | Path | None = None) -> None:
        self.limit = limit
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - lives as long as the store
        weakref.finalize(self, self._file.close)
        self._rows: dict[Hashable, int] = {}
        self._values: Tensor | None = None

    def __len__(self) -> int:
        """Number of keys."""
        return len(self._rows)

    def get(self, key: Hashable) -> tuple[Tensor, ...] | None:
        """The gradients under `key`, as views into the file; None if the store does not have the key."""
        row = self._rows.get(key)
        if row is None:
            return None
        assert self._values is not None
        return tuple(self._values[row])

    def keep(self, key: Hashable, gradients: Sequence[Tensor]) -> None:
        """Copy gradients, all of one length and type, under a new key, if there is room.

        Raises:
            ValueError: Gradients of another number, length or type than those of the other keys.
        """
        shape = (len(gradients), gradients[0].numel())
        if self._values is None:
            self._values = self._map(shape, gradients[0].dtype)
        if self._values.shape[1:] != shape or self._values.dtype != gradients[0].dtype:
            raise ValueError(
                f"This store holds {tuple(self._values.shape[1:])} numbers of {self._values.dtype} under a key; "
                f"got {shape} of {gradients[0].dtype}."
            )
        if key in self._rows or len(self._rows) == len(self._values):
            return
        row = len(self._rows)
        for place, gradient in zip(self._values[row], gradients, strict=True):
            place.copy_(gradient)
        self._rows[key] = row

    def close(self) -> None:
        """Forget all gradients; the file is removed when nobody holds a result of `get` any more."""
        self._rows.clear()
        self._values = None
        self._file.close()

    def capacity(self, count: int, length: int, dtype: torch.dtype) -> int:
        """Number of keys for which there is room, with `count` gradients of `length` entries each."""
        n_rows = self.limit // (count * length * dtype.itemsize)
        return n_rows if n_rows >= FEWEST else 0

    def _map(self, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        n_rows = self.capacity(*shape, dtype)
        if not n_rows:
            return torch.empty(0, *shape, dtype=dtype)
        held = np.memmap(self._file, np.uint8, "w+", shape=(n_rows * shape[0] * shape[1] * dtype.itemsize,))
        return torch.from_numpy(held).view(dtype).view(n_rows, *shape)
