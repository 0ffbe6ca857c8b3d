"""README and guides name only what there is: Python that compiles, public names, commands with options, files."""

import ast
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import DOCUMENTS, ROOT, SCRIPTS, python_blocks


def names_of_gradiend(code: str) -> Iterator[str]:
    """Dotted names that the code imports from gradiend, or looks up in it."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom):
            found = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found = [f"{node.value.id}.{node.attr}"]
        else:
            continue
        yield from (name for name in found if name.split(".")[0] == "gradiend")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_python_compiles_and_its_names_exist(document: Path) -> None:
    blocks = python_blocks(document)
    text = document.read_text(encoding="utf-8")
    assert len(blocks) == text.count("```python")
    for name in [*re.findall(r"`(gradiend(?:\.\w+)+)", text), *(n for code in blocks for n in names_of_gradiend(code))]:
        pkgutil.resolve_name(name)


@pytest.mark.parametrize("document", [*DOCUMENTS, *SCRIPTS], ids=lambda path: path.name)
def test_scripts_that_are_named_exist_with_their_options(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for script, arguments in re.findall(r"\b((?:benchmarks|examples|scripts)/\w+\.py)([^`\n]*)", text):
        source = (ROOT / script).read_text(encoding="utf-8")
        for option in re.findall(r"--[a-z-]+", arguments):
            assert f'"{option}"' in source, f"{script} has no {option}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8"))
    missing = [name for name in targets if "://" not in name and not (document.parent / name).exists()]
    assert not missing
