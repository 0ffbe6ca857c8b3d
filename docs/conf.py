"""How Sphinx builds the site from the pages of this folder and the docstrings. `make docs` calls it."""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.domains.python import PyXRefRole

from gradiend import __version__

project = "gradiend"
author = "the authors of gradiend"
release = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]

# Docstrings write a name between single backticks: a link if the name has a place in the API, code otherwise.
default_role = "name"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
python_maximum_signature_line_length = 100
toc_object_entries_show_parents = "hide"

myst_heading_anchors = 4

# Notebooks are stored without outputs and run at every build: what the site shows is what this version does.
nb_execution_mode = "force"
nb_execution_show_tb = True
nb_execution_timeout = 300
nb_execution_in_temp = True
nb_output_stderr = "remove"
nb_merge_streams = True

# Nothing is loaded from elsewhere: the theme has its own styles and uses the fonts of the system.
html_theme = "furo"
html_title = f"gradiend {release}"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {"top_of_page_buttons": []}
html_static_path = ["static"]
html_css_files = ["site.css"]


def keep_first_line(_app: Sphinx, what: str, _name: str, _thing: Any, _options: Any, lines: list[str]) -> None:
    """Keep "The unified frame: masked, …" a sentence: napoleon reads the words before a colon as a type."""
    if what in ("attribute", "data", "property") and lines and ":" in lines[0]:
        lines[:0] = ["..", ""]


def name(_role: str, raw: str, text: str, *where: Any) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    """A name of the API, or code; a link's own text would read the end of `<a>.<b>` as a target."""
    return ([nodes.literal(raw, text)], []) if "<" in text else PyXRefRole()("py:obj", raw, text, *where)


def setup(app: Sphinx) -> None:
    """Called by Sphinx; the priority is before that of napoleon."""
    app.add_role("name", name)
    app.connect("autodoc-process-docstring", keep_first_line, priority=400)
