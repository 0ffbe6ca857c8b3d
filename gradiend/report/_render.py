"""View data → a page: templates with escaping, and a policy that lets the page run its own script and nothing else."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradiend.report import _format
from gradiend.util._files import replacing
from gradiend.util._imports import require_package

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
FILTERS = ("number", "signed", "step", "percent", "count", "interval", "duration", "probability")


def write_page(path: str | Path, template: str, view: Mapping[str, Any]) -> str:
    """Fill a template with a view, whose texts are escaped, and write the page in place of an older file.

    Returns the path of the page. ImportError: jinja2 is not installed.
    """
    require_package("jinja2", "A report", "report")
    html = _html().get_template(template).render(view)
    with replacing(path) as temporary:
        # Half characters, which broken corpora have, are no text: a question mark stands for each.
        temporary.write_text(html, encoding="utf-8", errors="replace")
    return str(path)


class Raw(str):
    """A text that a template of Markdown writes as it is: metadata, and lines of Python."""

    __slots__ = ()


def write_text(template: str, view: Mapping[str, Any]) -> str:
    """Fill a template of Markdown; every text that is not `Raw` is escaped. ImportError: jinja2 is not installed."""
    require_package("jinja2", "A card", "report")
    return _markdown().get_template(template).render(view)


_NO_LINE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
"""Characters that end a line, are not shown, or turn the direction in which the text after them is shown."""
_MARKS = re.compile(r"[\\`*_{}\[\]#|~$!^=@]|:(?=\S)|(?<=www)\.")
"""Characters that mean something in Markdown within a line, or that make links of names."""


def escaped(text: str) -> str:
    """A text that Markdown shows as it is, with the HTML in it, within one line."""
    text = _NO_LINE.sub(" ", text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKS.sub(lambda found: f"\\{found[0]}", text)


def _templates(**more: Any) -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 - optional

    found = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, **more
    )
    found.filters |= {name: vars(_format)[name] for name in FILTERS}
    return found


@cache
def _markdown() -> Environment:
    return _templates(finalize=lambda value: value if isinstance(value, Raw) else escaped(str(value)))


@cache
def _html() -> Environment:
    from markupsafe import Markup  # noqa: PLC0415 - optional

    environment = _templates(autoescape=True)
    # The template `tojson` escapes <, >, & and ' so that no text can end a script; other characters may stay.
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.globals |= {
        "style": Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),
        "script": Markup(script),
        # The script is allowed by its digest: even a text that were not escaped could run nothing.
        "policy": (
            f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:; "
            "base-uri 'none'; form-action 'none'"
        ),
    }
    return environment
