"""The README.md of a repository whose GRADIENDs lie in folders: what is there, each with a link to its own card."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from huggingface_hub import ModelCardData

from gradiend.report._render import escaped
from gradiend.util.paths import CONTEXT, DELTA_FILE, REWRITE_RECORD

MARKS = {CONTEXT: "GRADIEND", REWRITE_RECORD: "rewritten model", DELTA_FILE: "delta"}
"""The file by which a folder is told → what the folder holds."""


def kinds_in(paths: Iterable[str]) -> dict[str, str]:
    """Folder → what it holds, for the files of a repository; the repository's own folder is the empty text."""
    found = {}
    for path in map(PurePosixPath, paths):
        if path.name in MARKS:
            found["" if path.parent == PurePosixPath() else str(path.parent)] = MARKS[path.name]
    return found


def repository_card(repo_id: str, kinds: Mapping[str, str], base_models: Iterable[Any]) -> str:
    """The text of the README.md, with the metadata by which the hub finds it."""
    rows = [f"| [{escaped(name)}]({quote(name)}/README.md) | {kind} |" for name, kind in sorted(kinds.items())]
    relation = "finetune" if set(kinds.values()) == {"rewritten model"} else "adapter"
    bases = sorted({name for name in base_models if isinstance(name, str)})
    metadata = ModelCardData(
        library_name="gradiend", tags=["gradiend"], base_model=bases or None,
        base_model_relation=relation if bases else None,
    )  # fmt: skip
    return "\n".join([
        "---",
        metadata.to_yaml(),
        "---",
        "",
        f"# {escaped(repo_id)}",
        "",
        "Features of language models, found in their gradients. Each folder has a card of its own.",
        "",
        "| folder | what |",
        "|---|---|",
        *rows,
        "",
        "```python",
        "from gradiend import ModelWithGradiend, list_gradiends",
        "",
        f'list_gradiends("{repo_id}")',
        f'ModelWithGradiend.from_pretrained("{repo_id}", subfolder="…")',
        "```",
    ])  # fmt: skip
