"""Logging for scripts. Importing the library configures nothing; a script calls `setup_logging` when it wants to."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


def setup_logging(level: int | str = logging.INFO) -> None:
    """Show the library's log records on standard error, at `level` and above. Calling it again only sets the level."""
    logger = logging.getLogger("gradiend")
    logger.setLevel(level)
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        logger.addHandler(handler)
        logger.propagate = False


def get_logger(name: str) -> logging.Logger:
    """The logger called `name`."""
    return logging.getLogger(name)


@contextmanager
def suppress_tokenizer_length_warning() -> Iterator[None]:
    """Within it, tokenizers do not warn of texts that are longer than the model takes (they are cut later)."""
    tokenizers = logging.getLogger("transformers.tokenization_utils_base")

    def keep(record: logging.LogRecord) -> bool:
        return "sequence length is longer than" not in record.getMessage()

    tokenizers.addFilter(keep)
    try:
        yield
    finally:
        tokenizers.removeFilter(keep)
