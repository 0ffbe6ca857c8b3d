"""The README.md of a repository whose GRADIENDs lie in folders: what is there, each with a link to its own card."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

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


def repository_card(repo_id: str, kinds: Mapping[str, str], base_models: Iterable[str | None]) -> str:
    """The text of the README.md, with the metadata by which the hub finds it."""
    rows = [f"| [{folder}]({folder}/README.md) | {kind} |" for folder, kind in sorted(kinds.items())]
    bases = [f"- {name}" for name in sorted({*base_models} - {None}, key=str)]
    relation = "finetune" if set(kinds.values()) == {"rewritten model"} else "adapter"
    return "\n".join([
        "---",
        "library_name: gradiend",
        "tags:",
        "- gradiend",
        *(["base_model:", *bases, f"base_model_relation: {relation}"] if bases else []),
        "---",
        "",
        f"# {repo_id}",
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
