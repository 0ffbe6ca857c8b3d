"""Every plot hands the options that it has to its figure, as the caller gave them."""

import ast
import dataclasses
import inspect
from importlib import import_module
from pathlib import Path

import pytest

import gradiend.visualizer
from gradiend.visualizer._output import PlotOptions

LEGEND = {"legend_loc", "legend_ncol", "legend_bbox_to_anchor"}
IMAGE = {"img_format", "dpi"}
ABSENT = {
    "plot_training_convergence": set(),
    "plot_encoder_by_target": set(),
    "plot_encoder_strip_by_split": set(),
    "plot_encoder_distributions": set(),
    "plot_probability_shifts": {"title"} | LEGEND | IMAGE,
    "plot_balance": LEGEND | IMAGE,
    "plot_side_effects": LEGEND | IMAGE,
    "plot_learning_rate_search": LEGEND | {"img_format", "return_fig_ax"},
    "plot_comparison_heatmap": set(),
    "plot_topk_overlap_heatmap": set(),
    "plot_topk_overlap_venn": LEGEND | IMAGE | {"return_fig_ax"},
}
"""Plot → the options of its figure that are no arguments of the plot, and have their defaults."""
WITHOUT_OPTIONS = {"plot_encoder_scatter", "compute_topk_sets"}
"""What checks its keywords as the plots do, and draws no figure of matplotlib."""


def plots():
    """(module, definition) of every function that checks its keywords as plots do."""
    folder = Path(gradiend.visualizer.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        module = ".".join(("gradiend", "visualizer", *path.relative_to(folder).with_suffix("").parts))
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and "plot_keywords" in map(ast.unparse, node.decorator_list):
                yield module.removesuffix(".__init__"), node


PLOTS = {node.name: (module, node) for module, node in plots()}


def test_every_plot_is_known():
    assert PLOTS.keys() == ABSENT.keys() | WITHOUT_OPTIONS


@pytest.mark.parametrize("name", ABSENT)
def test_a_plot_takes_its_options_before_it_changes_one(name):
    _, node = PLOTS[name]
    assert ast.get_docstring(node)
    assert ast.unparse(node.body[1]).endswith("Options.of(locals())")


@pytest.mark.parametrize("name", ABSENT)
def test_an_option_is_an_argument_of_its_plot(name):
    module, node = PLOTS[name]
    holder = import_module(module)
    options = getattr(holder, ast.unparse(node.body[1].value.func.value))
    assert issubclass(options, PlotOptions)
    parameters = inspect.signature(getattr(holder, name)).parameters
    assert {field.name for field in dataclasses.fields(options)} - parameters.keys() == ABSENT[name]
