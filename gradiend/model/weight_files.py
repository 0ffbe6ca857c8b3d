"""The weight file of a model directory: `model.safetensors` or `pytorch_model.bin`, never both."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from gradiend.util._files import read_tensors, write_tensors
from gradiend.util.paths import WEIGHT_FILES

logger = logging.getLogger(__name__)

WEIGHTS, WEIGHTS_BIN = WEIGHT_FILES


def save_model_weights(directory: str | Path, state: Mapping[str, Tensor], use_safetensors: bool | None = None) -> None:
    """Write the weights of a model, and remove a weight file of the other format.

    Args:
        directory: Created if missing.
        state: Name → tensor.
        use_safetensors: False writes `pytorch_model.bin`. None and True write `model.safetensors`; for tensors that
            share memory (tied weights), which that format cannot hold, None falls back to `pytorch_model.bin`.

    Raises:
        ValueError: use_safetensors=True and tensors that share memory.
    """
    name, other = WEIGHTS, WEIGHTS_BIN
    if use_safetensors is not False and _share_memory(state):
        if use_safetensors:
            raise ValueError(
                f"{WEIGHTS} cannot hold tensors that share memory (tied weights): "
                f"leave use_safetensors at None, which writes {WEIGHTS_BIN}."
            )
        logger.info("Some tensors share memory (tied weights): writing %s instead of %s.", WEIGHTS_BIN, WEIGHTS)
        use_safetensors = False
    if use_safetensors is False:
        name, other = other, name
    write_tensors(Path(directory) / name, state)
    (Path(directory) / other).unlink(missing_ok=True)


def find_weights(directory: str | Path) -> Path:
    """The weight file in a directory.

    Raises:
        FileNotFoundError: There is none.
    """
    candidates = [Path(directory) / name for name in (WEIGHTS, WEIGHTS_BIN)]
    for path in candidates:
        if path.is_file():
            return path
    raise FileNotFoundError(f"{directory} has neither {WEIGHTS} nor {WEIGHTS_BIN}.")


def load_model_weights(directory: str | Path) -> dict[str, Tensor]:
    """Read the weights that `save_model_weights` wrote, on the CPU.

    Raises:
        FileNotFoundError: No weight file.
        ValueError: The file is damaged; the message names it.
    """
    return read_tensors(find_weights(directory))


def _share_memory(state: Mapping[str, Tensor]) -> bool:
    starts = sorted((tensor.data_ptr(), tensor.nbytes) for tensor in state.values() if tensor.nbytes)
    return any(start + size > following for (start, size), (following, _) in itertools.pairwise(starts))
