"""The site builds without a warning, runs its notebooks, has every public name, and loads nothing from elsewhere."""

import importlib
import os
import pkgutil
import re
import subprocess
import sys
import zlib

import pytest
from documents import DOCS
from test_public_names import SURFACE

pytest.importorskip("myst_nb", reason="the site needs the extra docs")

PACKAGES = """gradiend gradiend.comparison gradiend.data gradiend.evaluator gradiend.experiment gradiend.hub
    gradiend.model gradiend.objectives gradiend.report gradiend.trainer gradiend.trainer.text gradiend.util
    gradiend.visualizer""".split()
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the build runs all notebooks; CI builds by `make docs`

NOTEBOOKS = sorted(path.stem for path in (DOCS / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site. A cell of a notebook that fails, also an assert, is an error of the build."""
    output, kept = tmp_path_factory.mktemp("site") / "html", tmp_path_factory.mktemp("doctrees")
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--quiet", "-d", kept, DOCS, output]
    root = os.pathsep.join(filter(None, [str(DOCS.parent), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": root}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return output


def test_every_public_name_is_in_the_api(site):
    inventory = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    entries = [line.split() for line in zlib.decompress(inventory).decode().splitlines()]
    kinds = ("py:class", "py:function", "py:exception", "py:data")
    shown = {id(pkgutil.resolve_name(name)) for name, kind, *_ in entries if kind in kinds}
    public = {module: set(names.split()) for module, names in SURFACE.items()}
    for module in PACKAGES:
        public[module] = public.get(module, set()) | set(importlib.import_module(module).__all__)
    objects = {
        f"{module}.{name}": pkgutil.resolve_name(f"{module}:{name}") for module in public for name in public[module]
    }
    assert len(objects) > 200
    assert sorted(name for name, thing in objects.items() if callable(thing) and id(thing) not in shown) == []


def test_the_api_shows_values_and_no_places_in_memory(site):
    assert [page.name for page in (site / "api").glob("*.html") if " at 0x" in page.read_text(encoding="utf-8")] == []


def test_nothing_is_loaded_from_elsewhere(site):
    pages = [*site.rglob("*.html"), *site.rglob("*.css")]
    assert len(pages) > 30
    loads = re.compile(r"""(?:\bsrc=|<link\b[^>]*\bhref=|@import\s+|url\()\s*["']?((?:https?:)?//[^"'\s>)]+)""")
    found = {(page.name, address) for page in pages for address in loads.findall(page.read_text(encoding="utf-8"))}
    assert not found


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_shown_with_its_results(site, name):
    page = (site / "notebooks" / f"{name}.html").read_text(encoding="utf-8")
    assert page.count("cell_output") >= 5
    assert page.count("_images/") >= 2
