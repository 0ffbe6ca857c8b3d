"""The README.md of a model: written, renewed and removed only as long as no person has edited it.

The last line is a comment with the checksum of the text above it. A README.md without such a line, or with another text
above it, is a person's: it is neither replaced nor removed.
"""

from __future__ import annotations

import re
from pathlib import Path

from gradiend.util._files import DIGEST_SIGN, digest_text, new_digest, replacing
from gradiend.util._processes import by_first
from gradiend.util.logging import get_logger
from gradiend.util.paths import CARD

logger = get_logger(__name__)

_SEAL = re.compile(rf"\n<!-- card ({re.escape(DIGEST_SIGN)}[0-9a-f]+): .* -->\s*\Z")


def sealed(text: str) -> str:
    """Add the line by which `is_unedited` tells whether a person has edited the text since."""
    # Half characters, which broken corpora have, are no text: a question mark stands for each.
    text = text.rstrip().encode("utf-8", "replace").decode()
    why = "gradiend renews this file as long as only gradiend has written it"
    return f"{text}\n\n<!-- card {_checksum(text)}: {why} -->\n"


def is_unedited(path: Path) -> bool:
    """Whether a file is a card as it was written; False for a card that a person edited, another file or none."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    found = _SEAL.search(text)
    return found is not None and found[1] == _checksum(text[: found.start()])


@by_first
def write_card(folder: str | Path, text: str) -> bool:
    """Write README.md, unless there is one that a person wrote or edited; return whether it was written."""
    path, text = Path(folder) / CARD, sealed(text)
    if path.exists() and not is_unedited(path):
        logger.info("%s was written or edited by a person: it stays as it is.", path)
        return False
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return True


@by_first
def remove_card(folder: str | Path) -> None:
    """Remove the README.md of a folder, unless a person wrote or edited it."""
    if is_unedited(Path(folder) / CARD):
        (Path(folder) / CARD).unlink(missing_ok=True)


def _checksum(text: str) -> str:
    return digest_text(new_digest(text.rstrip().encode()))
