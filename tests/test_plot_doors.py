"""What a plot is given is checked before any work is done for it."""

from __future__ import annotations

import pytest

from gradiend import visualizer

pytest.importorskip("matplotlib")

MISTAKES = {
    "plot_training_convergence": ("best_stp", "best_step"),
    "plot_encoder_distributions": ("violin_orders", "violin_order"),
    "plot_balance": ("decoder_result", "decoder_results"),
    "plot_encoder_by_target": ("plot_styl", "plot_style"),
    "plot_encoder_strip_by_split": ("aggregate_target", "aggregate_targets"),
    "plot_encoder_scatter": ("colour_by", "color_by"),
    "plot_probability_shifts": ("target_clas", "target_class"),
    "plot_comparison_heatmap": ("clusters", "cluster"),
    "comparison_matrix_from_cell_stat": ("fields", "field"),
    "plot_side_effects": ("side_effect", "side_effects"),
    "plot_topk_overlap_heatmap": ("clusters", "cluster"),
    "plot_topk_overlap_venn": ("label_mappings", "label_mapping"),
    "plot_topk_venn": ("label_mappings", "label_mapping"),
    "compute_topk_sets": ("top_k", "topk"),
}


class Untouched:
    """A trainer, and models, that fail when anything is asked of them."""

    def __getattr__(self, name: str) -> object:
        pytest.fail(f"{name} was asked for before the arguments were checked")


@pytest.mark.parametrize("name", [name for name in visualizer.__all__ if name != "Visualizer"])
def test_an_unknown_keyword_is_refused_with_the_nearest_before_any_work(name: str) -> None:
    wrong, right = MISTAKES[name]
    with pytest.raises(TypeError, match=f"'{wrong}'.*Did you mean '{right}'"):
        getattr(visualizer, name)(Untouched(), **{wrong: 1})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_points": 0}, "max_points must be at least 1"),
        ({"hover_text_max_chars": 0}, "hover_text_max_chars must be at least 1"),
        ({"cmap": "nope"}, "not a colormap"),
        ({"output_path": "plot.png"}, "must end with .html"),
    ],
)
def test_nothing_is_encoded_for_a_scatter_that_cannot_be_drawn(options: dict, message: str) -> None:
    pytest.importorskip("plotly")
    with pytest.raises(ValueError, match=message):
        visualizer.plot_encoder_scatter(Untouched(), show=False, **options)


@pytest.mark.parametrize("options", [{"cmap": "nope"}, {"row_metric_cmap": "nope"}, {"scale": "power"}, {"fmt": "zz"}])
def test_no_weights_are_ranked_for_a_heatmap_that_cannot_be_drawn(options: dict) -> None:
    with pytest.raises(ValueError, match=r"colormap|scale_gamma|format"):
        visualizer.plot_topk_overlap_heatmap([Untouched(), Untouched()], show=False, **options)


def test_class_names_that_only_another_font_has_are_drawn_without_a_warning(tmp_path) -> None:
    # matplotlib brings STIX, which has these letters; its default font has not.
    names = ("\N{CIRCLED LATIN CAPITAL LETTER A}", "\N{CIRCLED LATIN CAPITAL LETTER B}")
    entry = {"probs_by_dataset": {name: dict.fromkeys(names, 0.5) for name in names}, "lms": {"lms": 0.4}}
    grid = {"base": entry, (1.0, 0.1): entry, (-1.0, 0.1): entry}
    visualizer.plot_probability_shifts(plotting_data={"plotting_data": grid}, output=tmp_path / "plot.png", show=False)
    assert (tmp_path / "plot.png").is_file()
