"""README and guides name only what there is: Python that compiles, public names, commands with options, files."""

import ast
import dataclasses
import pkgutil
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import DOCUMENTS, ROOT, SCRIPTS, python_blocks

import gradiend


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


SOURCES = [*DOCUMENTS, *SCRIPTS, ROOT / "Makefile", *sorted((ROOT / "gradiend").rglob("*.py"))]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nobody_is_told_to_install_the_project_that_has_our_name_on_the_index(source: Path) -> None:
    commands = re.findall(r"pip install[^`\n]*", source.read_text(encoding="utf-8"))
    assert not [command for command in commands if re.search(r"""[\s"'\\]gradiend\b(?![/-])""", command)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8"))
    missing = [name for name in targets if "://" not in name and not (document.parent / name).exists()]
    assert not missing


def test_the_citation_file_says_what_cff_1_2_requires() -> None:
    yaml = pytest.importorskip("yaml")
    content = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= content.keys()
    assert content["cff-version"] == "1.2.0"
    assert (content["title"], content["version"]) == ("gradiend", gradiend.__version__)
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'license = "{content["license"]}"' in project
    for entry in [content, *content["references"]]:
        assert all("name" in author or "family-names" in author for author in entry["authors"])
    for reference in content["references"]:
        assert {"type", "title", "authors"} <= reference.keys()
    arxiv = {item["value"] for entry in content["references"] for item in entry["identifiers"]}
    assert arxiv == {"arXiv:2502.01406"}
    # No author is made up where none is known.
    named = [str(author) for entry in content["references"] for author in entry["authors"]]
    assert not [author for author in named if "arxiv" in author.casefold() or "author" in author.casefold()]


def test_the_tables_of_arguments_are_current() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "write_argument_tables.py"))
    assert script["DOCUMENT"].read_text(encoding="utf-8") == script["document"](), "run the script again"
    for cls in script["TABLES"]:
        assert f"## {cls.__name__}\n" in script["document"]()


@pytest.mark.parametrize("cls", [gradiend.TrainingArguments, gradiend.TextPredictionConfig])
def test_the_docstring_of_a_configuration_has_every_field(cls: type) -> None:
    for item in dataclasses.fields(cls):
        assert re.search(rf"^    {item.name} \(default .*\): \S", cls.__doc__ or "", re.MULTILINE)
