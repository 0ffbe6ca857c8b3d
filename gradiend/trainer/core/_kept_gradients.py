"""Gradients that are kept because a run needs them again (`GradientStore`), or a later run (`GradientCache`)."""

from __future__ import annotations

import logging
import shutil
import tempfile
import weakref
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import IO, Any

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
from gradiend.util._processes import processes
from gradiend.util._tensor_files import read_tensors, write_tensors

logger = logging.getLogger(__name__)

GRADIENT = "gradient"
"""Name of the gradient in a file."""
ALIGNMENT = 64
"""PyTorch puts the beginning of a new tensor at a multiple of this number of bytes."""
FEWEST = 16
"""Fewest keys that a store keeps: with less room it would be written often and read rarely, so it keeps nothing."""


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


class GradientCache:
    """Gradients in safetensors files, one file each, named after everything that a gradient is computed from.

    The weights of the `model`, the maker of the gradients, if it is a module, and the parameter map of a GRADIEND are
    part of every key; of any other maker nothing is known, so its keys must say everything.
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


def _aligned(n_bytes: int) -> int:
    return -(-n_bytes // ALIGNMENT) * ALIGNMENT


class GradientStore:
    """Flat gradients by key, in a temporary file that is mapped into memory.

    A base model in evaluation mode always gives the same gradient for the same batch, and the store gives the same bits
    back. The file is sparse, never larger than the limit or half of the free space, and has no name: it goes with the
    object or with the process, however that ends. When the disk is full, the store keeps what it has. Gradients that do
    not fit into `limit` bytes are not kept; a store with room for fewer than `FEWEST` keys keeps none.
    """

    def __init__(self, limit: int, directory: str | Path | None = None) -> None:
        self.limit = limit
        self.directory = directory
        self._file: IO[bytes] | None = None
        self._rows: dict[Hashable, int] = {}
        self._values: Tensor | None = None

    def __len__(self) -> int:
        """Number of keys."""
        return len(self._rows)

    def get(self, key: Hashable) -> tuple[Tensor, ...] | None:
        """The gradients under `key`, as views into the file; None if the store does not have the key."""
        row = self._rows.get(key)
        # Processes compute a gradient together: if one of them lacks the key (its disk is full), all compute it.
        if processes().anywhere(row is None)[0] or row is None:
            return None
        assert self._values is not None
        return tuple(self._values[row])

    def keep(self, key: Hashable, gradients: Sequence[Tensor]) -> None:
        """Copy gradients, all of one length and type, under a new key, if there is room."""
        shape, dtype = (len(gradients), gradients[0].numel()), gradients[0].dtype
        if self._values is None:
            self._values = self._map(shape, dtype)
        if self._values.shape[1:] != shape or self._values.dtype != dtype:
            raise ValueError(
                f"This store holds {tuple(self._values.shape[1:])} numbers of {self._values.dtype} under a key; "
                f"got {shape} of {dtype}."
            )
        row = len(self._rows)
        if key in self._rows or row == len(self._values):
            return
        try:
            self._write(row, gradients)
        except OSError as error:
            self._end(error)
        else:
            self._rows[key] = row

    def close(self) -> None:
        """Forget all gradients; the file is removed when nobody holds a result of `get` any more."""
        self._rows.clear()
        self._values = None
        if self._file is not None:
            self._file.close()

    def capacity(self, count: int, length: int, dtype: torch.dtype) -> int:
        """Number of keys for which there is room, with `count` gradients of `length` entries each."""
        if self._values is not None:
            return len(self._values)
        # The other half is for what else is written there, such as the trained model.
        team = processes()
        n_rows = min(self.limit, self._free() // 2) // max(1, count * _aligned(length * dtype.itemsize))
        n_rows = min(team.exchanged(n_rows // team.count))
        return n_rows if n_rows >= FEWEST else 0

    def _free(self) -> int:
        """The bytes that are free in the directory; 0 if there is none that can be written to."""
        try:
            return shutil.disk_usage(self.directory or tempfile.gettempdir()).free
        except OSError:
            return 0

    def _map(self, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        n_rows = self.capacity(*shape, dtype)
        nothing = torch.empty(0, *shape, dtype=dtype)
        if not n_rows:
            return nothing
        # Sums over a tensor can depend on where it begins; in new memory, tensors begin as these do here.
        length = _aligned(shape[1] * dtype.itemsize)
        n_bytes = n_rows * shape[0] * length
        try:
            self._file = tempfile.TemporaryFile(dir=self.directory, buffering=0)  # noqa: SIM115 - the store's own
            weakref.finalize(self, self._file.close)
            self._file.truncate(n_bytes)
            held = np.memmap(self._file, np.uint8, "r+", shape=(n_bytes,))
        except OSError as error:
            self._end(error)
            return nothing
        return torch.from_numpy(held).view(dtype).view(n_rows, shape[0], -1)[..., : shape[1]]

    def _write(self, row: int, gradients: Sequence[Tensor]) -> None:
        # On a full disk a write to the file is an error, and a write to the map would end the process (SIGBUS).
        assert self._file is not None
        length = _aligned(gradients[0].nbytes)
        for place, gradient in enumerate(gradients, row * len(gradients)):
            self._file.seek(place * length)
            left = gradient.detach().reshape(-1).cpu().contiguous().view(torch.uint8).numpy().data
            while left:
                left = left[self._file.write(left) :]

    def _end(self, error: OSError) -> None:
        """Keep no more gradients, and say so."""
        logger.warning(
            "The temporary folder %s takes no more kept gradients (%s): %d batches are kept, and the others are "
            "computed again. A larger folder (TMPDIR) makes this faster; a lower kept_gradients_size leaves it room.",
            self.directory or tempfile.gettempdir(), error.strerror, len(self._rows),
        )  # fmt: skip
        if self._values is not None:
            self._values = self._values[: len(self._rows)]
            assert self._file is not None
            # What was written of the last gradients makes room for others.
            self._file.truncate(self._values.stride(0) * self._values.element_size() * len(self._values))
