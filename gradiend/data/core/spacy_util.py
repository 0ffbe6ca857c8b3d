"""The door to spaCy: pipelines by package name or by folder."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from gradiend.util._imports import require_package

if TYPE_CHECKING:
    from spacy.language import Language


def load_spacy_model(name: str | os.PathLike[str], download_if_missing: bool = False) -> Language:
    """Load a spaCy pipeline.

    Args:
        name: An installed pipeline package (`"de_core_news_sm"`) or the folder of a saved pipeline.
        download_if_missing: Download a package that is not installed; a folder is never downloaded.

    Returns:
        The pipeline, with all its components.

    Raises:
        ImportError: spaCy is not installed; says the command that installs it.
        OSError: There is no such pipeline, or the download failed; says the command that downloads it.
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
        # spaCy's command leaves the process where it finds no such package or no network
        raise OSError(f"{advice} (which was tried just now and failed)") from error
    importlib.invalidate_caches()
