"""The card of a checkpoint, of a rewritten model, or of a delta: what is on disk → README.md."""

from __future__ import annotations

from pathlib import Path

from gradiend.model import Delta
from gradiend.util._cards import write_card as write_card


def card_of(
    place: str | Path | Delta, *, base_model: str | None = None, repo_id: str | None = None,
    subfolder: str | None = None, license: str | None = None, language: str | None = None,  # noqa: A002 - the hub's word
) -> str:  # fmt: skip
    """The text of a card, with its metadata; it holds no time, host or path.

    Args:
        place: A local checkpoint, a folder of a rewritten model, a delta, or the file or folder of one.
        base_model: The name of the base model on the hub. Default: the recorded name; of a path, the last part.
        repo_id: The repository (`owner/name`) that the lines for loading name. Default: a folder to fill in.
        subfolder: The folder in that repository.
        license: The license, as the hub names it. Default: "unknown", to be filled in.
        language: The language of the data as a code, such as "en". Default: not said.

    Raises:
        ValueError: None of these is at `place`, or a file of it is damaged.
        ImportError: jinja2 is not installed.
    """
    raise NotImplementedError
