"""README, guides and scripts as texts, and the Python in them."""

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCS = ROOT / "docs"
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.glob("*.md"))]
SCRIPTS = [path for folder in ("benchmarks", "examples", "scripts") for path in sorted((ROOT / folder).glob("*.py"))]


def python_blocks(document: Path) -> list[str]:
    """The fenced Python of a document."""
    return fenced(document, "python")


def fenced(document: Path, language: str) -> list[str]:
    """The fenced blocks of a language in a document, those in lists too."""
    text = document.read_text(encoding="utf-8")
    blocks = re.findall(rf"^ *```{language}\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(code) for code in blocks]
