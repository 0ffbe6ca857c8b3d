"""Logging for scripts: importing the library configures nothing, and a script may call `setup_logging`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


def setup_logging(level: int | str = logging.INFO) -> None:
    """Show the library's log records on standard error, at `level` and above. Calling it again only sets the level."""
    logger = logging.getLogger("gradiend")
    logger.setLevel(level.upper() if isinstance(level, str) else level)
    if not logger.handlers:
        from gradiend.util._progress import BesideBars  # noqa: PLC0415 - importing the package loads no bars

        handler = BesideBars()
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        logger.addHandler(handler)
        logger.propagate = False


def get_logger(name: str) -> logging.Logger:
    """The logger called `name`. Raises TypeError for a name that is no string."""
    if not isinstance(name, str):
        raise TypeError(f"name must be a string; got {name!r:.60} ({type(name).__name__}).")
    return logging.getLogger(name)


@contextmanager
def suppress_tokenizer_length_warning() -> Iterator[None]:
    """Silence, in a with-block, the warning of tokenizers about texts that are too long for the model and cut later."""
    tokenizers = logging.getLogger("transformers.tokenization_utils_base")

    def keep(record: logging.LogRecord) -> bool:
        return "sequence length is longer than" not in record.getMessage()

    tokenizers.addFilter(keep)
    try:
        yield
    finally:
        tokenizers.removeFilter(keep)
