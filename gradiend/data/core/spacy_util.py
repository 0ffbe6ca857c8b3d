"""The door to spaCy: pipelines by package name or by folder, and texts through them."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gradiend.data.core._spacy_tags import TokenProperty, unneeded_pipes
from gradiend.util._imports import require_package

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc


def load_spacy_model(name: str | os.PathLike[str], download_if_missing: bool = False) -> Language:
    """Load a spaCy pipeline, with all its components.

    Args:
        name: An installed pipeline package (`"de_core_news_sm"`) or the folder of a saved pipeline.
        download_if_missing: Download a package that is not installed; a folder is never downloaded.

    Raises:
        ImportError: spaCy is not installed; the message has the command that installs it.
        OSError: There is no such pipeline, or the download failed; the message has the command that downloads it.
    """
    model = os.fspath(name)
    require_package("spacy", f"Reading tags, lemmas or sentences with {model!r}", "data")
    import spacy  # noqa: PLC0415

    try:
        return spacy.load(model)
    except OSError as error:
        if Path(model).exists():
            raise OSError(f"{model!r} does not hold a whole spaCy pipeline ({error}).") from error
        if Path(model).name != model:
            raise OSError(f"There is no folder {model!r} with a spaCy pipeline; is the path right?") from error
        advice = f"The spaCy pipeline {model!r} is not installed: python -m spacy download {model}"
        if not download_if_missing:
            raise OSError(advice) from error
        _download(model, advice)
    return spacy.load(model)


def _download(model: str, advice: str) -> None:
    from spacy.cli.download import download  # noqa: PLC0415

    try:
        download(model)
    except SystemExit as error:
        # spaCy's command ends the process where it finds no such package or no network
        raise OSError(f"{advice} (which was tried just now and failed)") from error
    importlib.invalidate_caches()


T = TypeVar("T")


class SpacyReader:
    """A spaCy pipeline that is loaded on first use, without the components that write nothing that is `needed`."""

    def __init__(
        self, model: str | os.PathLike[str], needed: Iterable[TokenProperty], download_if_missing: bool = False
    ) -> None:
        self.model = os.fspath(model)
        self._needed = frozenset(needed)
        self._download_if_missing = download_if_missing

    @cached_property
    def nlp(self) -> Language:
        """The pipeline; the first use raises the errors of `load_spacy_model`."""
        nlp = load_spacy_model(self.model, self._download_if_missing)
        # the limit protects the memory of parser and entity recognizer, which are rarely needed here
        nlp.max_length = sys.maxsize
        return nlp

    @cached_property
    def _left_out(self) -> list[str]:
        return unneeded_pipes(self.nlp, self._needed)

    def read(self, texts: Sequence[str], use: Callable[[int, Doc], T]) -> list[T]:
        """Parse texts and return what `use` makes of the position and the parsed document of each.

        `use` must not keep the document: the strings that spaCy stores for it are freed afterwards, so that memory
        stays flat over a corpus.
        """
        nlp = self.nlp
        with nlp.memory_zone():
            docs = nlp.pipe(texts, disable=self._left_out)
            return [use(position, doc) for position, doc in enumerate(docs)]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "nlp"}
