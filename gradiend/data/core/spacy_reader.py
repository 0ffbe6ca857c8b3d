"""Texts through a spaCy pipeline: in batches, with the components that are needed and no others."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from gradiend.data.core.spacy_pipes import unneeded_pipes
from gradiend.data.core.spacy_util import load_spacy_model
from gradiend.data.text.tags import TokenProperty

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc

T = TypeVar("T")


class SpacyReader:
    """A spaCy pipeline that is loaded on first use, and again in another process.

    Args:
        model: Name or folder, see `load_spacy_model`.
        needed: What is read from the tokens; components that write none of it are left out.
        download_if_missing: Download a package that is not installed.
    """

    def __init__(
        self, model: str | os.PathLike[str], needed: Iterable[TokenProperty], download_if_missing: bool = False
    ) -> None:
        self.model = os.fspath(model)
        self._needed = frozenset(needed)
        self._download_if_missing = download_if_missing

    def load(self) -> None:
        """Load the pipeline now.

        Raises:
            ImportError: spaCy is not installed.
            OSError: The pipeline is not installed.
        """
        _ = self.nlp

    @cached_property
    def nlp(self) -> Language:
        """The pipeline."""
        nlp = load_spacy_model(self.model, self._download_if_missing)
        # the limit guards the memory of parser and entity recognizer, which are rarely among what is needed
        nlp.max_length = sys.maxsize
        return nlp

    @cached_property
    def _left_out(self) -> list[str]:
        return unneeded_pipes(self.nlp, self._needed)

    def read(self, texts: Sequence[str], use: Callable[[int, Doc], T]) -> list[T]:
        """Parse texts and take from each what is wanted.

        Args:
            texts: Any texts.
            use: Gets the position of a text and its parsed document, which it must not keep: the strings that
                spaCy stores for it are freed afterwards, so that memory stays flat over a corpus.

        Returns:
            What `use` returned, in the order of the texts.
        """
        nlp = self.nlp
        with nlp.memory_zone():
            docs = nlp.pipe(texts, disable=self._left_out)
            return [use(position, doc) for position, doc in enumerate(docs)]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "nlp"}
