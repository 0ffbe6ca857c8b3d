"""Room on the disk: asked for before long work and large files; a result that cannot be kept is still returned."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gradiend.util._files import FAILURES, UnwrittenError
from gradiend.util.logging import get_logger

if TYPE_CHECKING:
    from torch import nn

logger = get_logger(__name__)

MARGIN = 1 << 16
"""Bytes that stay free beside a large file, for the small files around it."""


def require_room(place: str | Path, needed: int, what: str) -> None:
    """Raise OSError (ENOSPC) unless the disk of a file or folder, which may be missing, has room for `needed` bytes."""
    folder = next(one for one in (Path(place), *Path(place).absolute().parents) if one.is_dir())
    usage = shutil.disk_usage(folder)
    # A file system without a size of its own says 0.
    if not usage.total or usage.free >= needed + MARGIN:
        return
    raise UnwrittenError(
        errno.ENOSPC,
        f"{what} needs {needed:,} bytes in {place}, where {usage.free:,} are free. {FAILURES[errno.ENOSPC]} or choose "
        "another folder, then run the same again. Everything that was finished before is kept.",
    )


def weights_size(model: nn.Module) -> int:
    """The bytes of a model's weights in a file."""
    return sum(parameter.nbytes for parameter in model.parameters())


@contextmanager
def kept_if_possible(what: str) -> Iterator[None]:
    """A with-block that writes a result: where it cannot be written, a warning says so and the call goes on."""
    try:
        yield
    except OSError as error:
        if error.errno not in FAILURES:
            raise
        why = str(error) if isinstance(error, UnwrittenError) else f"{os.strerror(error.errno)}: {error.filename}"
        logger.warning("%s not kept, only returned: %s", what, why)
