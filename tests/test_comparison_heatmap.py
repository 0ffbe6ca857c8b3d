"""Heatmaps of comparisons: cells, names and files follow the payload, and every option acts."""

from __future__ import annotations

import itertools
import json
import math
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_data
from model_cases import network, spec

from gradiend import plot_comparison_heatmap, plot_similarity_heatmap
from gradiend.comparison import ComparisonResult, compute_similarity_matrix, plot_similarity_heatmap_with_correlation
from gradiend.comparison._figures import correlations
from gradiend.model._parameter_map import ParameterMap
from gradiend.model.seed_group import SeedModelGroup
from gradiend.visualizer import comparison_matrix_from_cell_stat, plot_topk_overlap_heatmap
from gradiend.visualizer._arrangement import clustered, distances

pytest.importorskip("matplotlib")

SQUARE = {
    "measure": "cosine_signed", "model_ids": ["a", "b", "c", "d"], "part": "encoder-weight",
    "matrix": [[1.0, -0.1, 0.8, 0.0], [-0.1, 1.0, 0.05, -0.7], [0.8, 0.05, 1.0, 0.1], [0.0, -0.7, 0.1, 1.0]],
    "null_level": [[0.01 * (i + j) for j in range(4)] for i in range(4)],
}  # fmt: skip
WIDE = {
    "measure": "factual_mean",
    "rows": ["r0", "r1", "r2", "r3"],
    "columns": ["x", "y", "z"],
    "matrix": [[1.0, -1.0, 1.1], [-2.0, 0.5, None], [0.9, -0.9, 1.0], [-2.1, 0.6, -2.0]],
}


def cell(*scores: float, **more) -> dict:
    return {"aggregate": float(np.mean(scores)), "n": len(scores), "min": min(scores), "max": max(scores),
            "scores": list(scores), **more}  # fmt: skip


SEEDS = {
    "measure": "cosine", "model_ids": ["a", "b"], "seed_aggregate": "mean", "seed_pairing_mode": "all_pairs",
    "matrix": [[0.9, 0.25], [0.25, 1.0]],
    "cell_stats": [
        [cell(0.8, 1.0, std=0.1), cell(0.2, 0.3, std=0.05)], [cell(0.2, 0.3, std=0.05), cell(1.0, std=0.0)]
    ],
}  # fmt: skip


def heatmap(payload=SQUARE, **options):
    """(data, figure, axes of the matrix)."""
    return plot_comparison_heatmap(payload, **{"show": False, "return_fig_ax": True, **options})


def texts(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def ticks(ax) -> tuple[list[str], list[str]]:
    return tuple([tick.get_text() for tick in labels] for labels in (ax.get_yticklabels(), ax.get_xticklabels()))


class TestArrangement:
    def test_arrays_are_arranged_like_lists(self) -> None:
        arrays = {**SQUARE, "model_ids": np.array(SQUARE["model_ids"]), "matrix": np.array(SQUARE["matrix"])}
        data = heatmap(arrays, order=["d", "b", "a", "c"])[0]
        assert data["model_ids"] == ["d", "b", "a", "c"]
        assert data["matrix"] == heatmap(order=["d", "b", "a", "c"])[0]["matrix"]
        frame = pd.DataFrame(SQUARE["matrix"])
        assert heatmap({"matrix": frame.values, "rows": frame.index, "columns": frame.columns})[0]["rows"] == list(
            "0123"
        )

    def test_cells_names_and_numbers_move_together(self) -> None:
        def names(**options) -> str:
            data, _, ax = heatmap(**options)
            ids = data["model_ids"]
            places = [SQUARE["model_ids"].index(name) for name in ids]
            for key in ("matrix", "null_level"):
                assert data[key] == np.array(SQUARE[key])[np.ix_(places, places)].tolist()
            assert ticks(ax) == (ids, ids)
            assert ax.images[0].get_array().tolist() == data["matrix"]
            assert texts(ax)[:1] == ["1.00"]
            return "".join(ids)

        assert names() == "abcd"
        assert names(order=["d", "a"]) == "da"
        assert names(order="cluster") == names(cluster=True) == "acdb"
        assert names(pretty_groups={"G": ["d", "b"]}) == "dbac"
        assert names(pretty_groups={"G": ["d"], "H": ["b"]}, cluster=True) == "dbac"
        assert SQUARE["model_ids"] == list("abcd")

    def test_rows_and_columns_of_their_own(self) -> None:
        data, _, ax = heatmap(WIDE)
        assert ticks(ax) == (WIDE["rows"], WIDE["columns"])
        assert texts(ax)[:6] == ["1.00", "−1.00", "1.10", "−2.00", "0.50", "–"]
        assert data["rows"] == WIDE["rows"]
        data, _, ax = heatmap(WIDE, cluster=True)
        assert data["rows"] == ["r0", "r2", "r1", "r3"]
        assert data["columns"] == ["x", "z", "y"]
        assert data["matrix"][2] == [-2.0, None, 0.5]
        assert ticks(ax) == (data["rows"], data["columns"])
        data = heatmap(WIDE, order=["z", "x", "r3"])[0]
        assert (data["rows"], data["columns"]) == (["r3"], ["z", "x"])
        assert data["matrix"] == [[-2.0, -2.1]]
        assert heatmap(WIDE, order="name")[0]["columns"] == ["x", "y", "z"]

    def test_a_square_matrix_that_is_not_symmetric_keeps_one_order(self) -> None:
        # Rows a and c are alike, and so are b and d; columns are not in the same pairs.
        payload = {**SQUARE, "matrix": [[1, 0, 1, 9], [0, 8, 0, 1], [1, 0, 1, 9.5], [0, 8, 0.5, 1]]}
        data = heatmap(payload, cluster=True)[0]
        assert data["model_ids"] == ["a", "c", "b", "d"]
        assert data["matrix"] == np.array(payload["matrix"])[np.ix_([0, 2, 1, 3], [0, 2, 1, 3])].tolist()

    def test_clusters_are_those_of_average_linkage(self) -> None:
        scipy = pytest.importorskip("scipy.cluster.hierarchy")
        for seed in range(5):
            rows = np.random.default_rng(seed).standard_normal((9, 4))
            distance = distances(rows)
            expected = [[math.dist(one, other) / 2 for other in rows] for one in rows]
            np.testing.assert_allclose(distance, expected, atol=1e-12)
            order = clustered(list(range(9)), distance)
            tree = scipy.linkage(distance[np.triu_indices(9, 1)], "average")
            groups = {frozenset(leaves) for leaves in subtrees(tree, 9)}
            # Every cluster of the tree stands together.
            assert all(len({order.index(leaf) - min(map(order.index, one)) for leaf in one}) == len(one)
                       and max(map(order.index, one)) - min(map(order.index, one)) == len(one) - 1
                       for one in groups)  # fmt: skip

    def test_distances_leave_out_what_was_not_measured(self) -> None:
        matrix = np.array([[0.0, np.nan, 3.0], [4.0, 1.0, np.nan], [np.nan, 1.0, np.nan]])
        assert distances(matrix).tolist() == [[0, 4, 4], [4, 0, 0], [4, 0, 0]]

    def test_groups_of_rows_and_of_columns(self) -> None:
        data, _, ax = heatmap(WIDE, annot=False, pretty_groups={"R": ["r3", "r1"], "C": ["z"]})
        assert data["rows"] == ["r3", "r1", "r0", "r2"]
        assert data["columns"] == ["z", "x", "y"]
        assert texts(ax) == ["C", "R", "Other", "Other"]
        assert data["pretty_groups"] == {
            "rows": {"R": ["r3", "r1"], "Other": ["r0", "r2"]}, "columns": {"C": ["z"], "Other": ["x", "y"]},
        }  # fmt: skip
        assert texts(heatmap(WIDE, annot=False, pretty_groups={"C": ["z"]})[2]) == ["C", "Other"]
        assert (ax.get_xlim(), ax.get_ylim()) == ((-0.5, 2.5), (3.5, -0.5))

    def test_names_may_be_numbers(self) -> None:
        payload = {"measure": "m", "model_ids": [3, 1], "matrix": [[1, 2], [3, 4]]}
        options = {
            "order": [1, 3],
            "row_metric": {3: 0.5},
            "converged_by_id": {1: False},
            "row_label_mapping": {3: "x"},
        }
        data, _, ax = heatmap(payload, annot=False, pretty_groups={"G": [1]}, **options)
        assert (data["model_ids"], data["matrix"]) == (["1", "3"], [[4, 3], [2, 1]])
        assert ticks(ax) == (["1 †", "x"], ["1 †", "3"])
        assert texts(ax)[:2] == ["0.5", "corr"]

    def test_the_class_of_a_result_stays(self) -> None:
        data = heatmap(ComparisonResult(SQUARE), order="name")[0]
        assert isinstance(data, ComparisonResult)
        assert data.to_frame().loc["b", "d"] == -0.7


def subtrees(tree: np.ndarray, count: int) -> list[set[int]]:
    leaves = [{place} for place in range(count)]
    for first, second, *_ in tree:
        leaves.append(leaves[int(first)] | leaves[int(second)])
    return leaves


class TestColours:
    def norm(self, payload=SQUARE, **options):
        return heatmap(payload, **options)[2].images[0].norm

    def test_signed_measures_have_symmetric_limits(self) -> None:
        assert (self.norm().vmin, self.norm().vmax) == (-1, 1)
        assert self.norm()(0.0) == 0.5
        negative = self.norm(WIDE)
        assert (negative.vmin, negative.vmax) == (-2.1, 2.1)
        assert self.norm(vmax=0.5).vmin == -0.5
        assert (self.norm(vmin=0).vmin, self.norm(vmin=0).vmax) == (0, 1)
        positive = self.norm({**SQUARE, "measure": "cosine", "matrix": np.abs(SQUARE["matrix"]).tolist()})
        assert (positive.vmin, positive.vmax) == (0, 1)
        assert heatmap()[2].images[0].get_cmap().name == "coolwarm"

    @pytest.mark.parametrize("options", [{"scale": "sqrt"}, {"scale": "power", "scale_gamma": 0.3}, {"scale": "log"}])
    def test_scales_of_signed_numbers_are_mirrored(self, options: dict) -> None:
        norm = self.norm(**options)
        assert float(norm(0.0)) == pytest.approx(0.5)
        for value in (0.1, 0.7):
            assert float(norm(value)) - 0.5 == pytest.approx(0.5 - float(norm(-value)))
            assert float(norm(value)) > float(self.norm()(value))

    def test_nothing_measured_and_nothing_but_zeros_can_be_drawn(self, tmp_path: Path) -> None:
        for number in (None, 0.0):
            payload = {"measure": "m", "model_ids": ["a", "b"], "matrix": [[number] * 2] * 2}
            heatmap(payload, output_path=tmp_path / "plot")
        assert (tmp_path / "plot.png").is_file()

    def test_limits_beyond_all_numbers_can_be_drawn(self, tmp_path: Path) -> None:
        payload = {"measure": "m", "model_ids": ["a", "b"], "matrix": [[0.5, 0.0], [0.0, 0.5]]}
        for scale in ("linear", "log", "sqrt"):
            assert self.norm(payload, scale=scale, vmin=5, output_path=tmp_path / "plot").vmin == 5
            zeros = self.norm({**payload, "matrix": [[0.0] * 2] * 2}, scale=scale, output_path=tmp_path / "plot")
            assert zeros.vmin < zeros.vmax

    def test_a_row_without_a_number_has_none_beside_it(self) -> None:
        assert texts(heatmap(SEEDS, row_metric={"a": None, "b": 0.5}, annot=False)[2]) == ["0.5", "corr"]


class TestTexts:
    def test_formats(self) -> None:
        assert texts(heatmap(annot_fmt="+.1f")[2])[:2] == ["+1.0", "−0.1"]
        assert texts(heatmap(annot=False)[2]) == []
        tiny = {**SQUARE, "model_ids": ["a", "b"], "matrix": [[-0.001, 0.001], [1, -1]]}
        assert texts(heatmap(tiny)[2]) == ["0.00", "0.00", "1.00", "−1.00"]
        counts = {**tiny, "measure": "topk_overlap", "value": "intersection", "matrix": [[5, 2], [2, 5]]}
        _, figure, ax = heatmap(counts)
        assert texts(ax) == ["5", "2", "2", "5"]
        assert figure.axes[1].get_ylabel() == "shared weights"

    def test_percentages(self) -> None:
        data, figure, ax = heatmap(percentages=True)
        assert texts(ax)[:3] == ["100", "−10", "80"]
        assert figure.axes[1].get_ylabel() == "cosine in %"
        assert data["matrix"] == SQUARE["matrix"]
        assert ax.images[0].norm.vmax == 100

    def test_fmt_is_deprecated_with_one_warning(self) -> None:
        with pytest.warns(DeprecationWarning, match="annot_fmt") as caught:
            assert texts(heatmap(fmt=".3f")[2])[0] == "1.000"
        assert len(caught) == 1
        with pytest.raises(TypeError, match="mean the same"):
            heatmap(fmt=".3f", annot_fmt=".2f")

    def test_spreads(self) -> None:
        assert texts(heatmap(SEEDS, dispersion_display="stacked")[2]) == [
            "0.90\n±0.10", "0.25\n±0.05", "0.25\n±0.05", "1.00",
        ]  # fmt: skip
        ranges = {**SEEDS, "cell_stats": [[cell(0.8, 1.0), cell(0.2, 0.3)], [cell(0.2, 0.3), cell(1.0)]]}
        stacked = heatmap(ranges, dispersion_display="stacked", percentages=True)[2]
        assert texts(stacked)[:2] == ["90\n80 … 100", "25\n20 … 30"]
        ax = heatmap(SEEDS, dispersion_display="corner_glyph")[2]
        legs = [patch.get_path().get_extents().width for patch in ax.patches]
        assert legs == pytest.approx([0.4, 0.2, 0.2])
        assert texts(ax) == ["0.90", "0.25", "0.25", "1.00"]

    def test_what_the_seeds_are_is_said(self) -> None:
        note = heatmap(SEEDS, seed_annotation=True)[1].get_supxlabel()
        assert note == "mean of 1 to 2 scores of pairs of seeds (all pairs); ±: standard deviation"
        assert heatmap(SEEDS)[1].get_supxlabel() == ""
        for options in (
            {"seed_annotation": True},
            *({"dispersion_display": one} for one in ("stacked", "corner_glyph")),
        ):
            with pytest.raises(ValueError, match="several seeds"):
                heatmap(**options)

    def test_daggers_stand_at_what_has_not_converged(self) -> None:
        _, figure, ax = heatmap(converged_by_id={"b": False, "c": True}, row_label_mapping={"b": "B", "a": "$A$"})
        assert ticks(ax) == ([r"\$A\$", "B †", "c", "d"], ["a", "b †", "c", "d"])
        assert figure.get_supxlabel() == "†: has not converged"
        assert heatmap(converged_by_id={"b": False}, order=["a", "c"])[1].get_supxlabel() == ""
        with pytest.raises(ValueError, match="converged_by_id names 'bb'"):
            heatmap(converged_by_id={"bb": False})

    def test_a_metric_stands_beside_its_row(self) -> None:
        ax = heatmap(WIDE, row_metric={"r2": 0.5, "r0": -0.25}, annot=False)[2]
        found = {text.get_text(): text.get_position() for text in ax.texts}
        assert found == {"0.5": (3.25, 2), "-0.25": (3.25, 0), "corr": (3.25, 3.6)}

    def test_title_sizes_and_bar(self) -> None:
        _, figure, ax = heatmap(title=True, figsize=(7, 6), cbar_label="here", cbar_fontsize=4, tick_label_fontsize=5)
        assert figure.get_suptitle() == "Comparison by cosine_signed"
        assert figure.get_size_inches().tolist() == [7, 6]
        assert figure.axes[1].get_ylabel() == "here"
        assert {figure.axes[1].yaxis.label.get_fontsize(), ax.get_xticklabels()[0].get_fontsize()} == {4, 5}

    def test_stacked_texts_fit_their_cells(self) -> None:
        ranges = {**SEEDS, "cell_stats": [[cell(-0.81, 1.0), cell(-0.2, -0.3)], [cell(-0.2, -0.3), cell(1.0)]]}
        _, figure, ax = heatmap(ranges, dispersion_display="stacked")
        figure.canvas.draw()
        boxes = [text.get_window_extent() for text in ax.texts]
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


class TestFiles:
    def test_the_csv_has_the_numbers_in_the_order_of_the_figure(self, tmp_path: Path) -> None:
        plot_comparison_heatmap(WIDE, cluster=True, csv=tmp_path / "new" / "m.csv", show=False, percentages=True)
        frame = pd.read_csv(tmp_path / "new" / "m.csv", index_col=0)
        assert list(frame.index) == ["r0", "r2", "r1", "r3"]
        assert list(frame.columns) == ["x", "z", "y"]
        assert math.isnan(frame.loc["r1", "z"])
        assert frame.loc["r3", "x"] == -2.1

    def test_images(self, tmp_path: Path) -> None:
        heatmap(output_path=tmp_path / "plain")
        heatmap(output_path=str(tmp_path / "p.pdf"))
        assert (tmp_path / "plain.png").read_bytes()[:4] == b"\x89PNG"
        assert (tmp_path / "p.pdf").read_bytes()[:4] == b"%PDF"

    def test_axes_of_the_caller(self) -> None:
        from matplotlib.figure import Figure  # noqa: PLC0415 - only this test needs it

        figure = Figure()
        ax = figure.subplots()
        assert heatmap(ax=ax)[1:] == (figure, ax)


class TestStatistics:
    def test_a_statistic_becomes_a_comparison(self) -> None:
        result = ComparisonResult(SEEDS, interval=[[None] * 2] * 2)
        std = comparison_matrix_from_cell_stat(result)
        assert isinstance(std, ComparisonResult)
        assert std["matrix"] == [[0.1, 0.05], [0.05, 0.0]]
        assert std["measure"] == "std of cosine"
        assert "cell_stats" not in std
        assert "interval" not in std
        assert comparison_matrix_from_cell_stat(SEEDS, "n")["matrix"] == [[2, 2], [2, 1]]
        assert heatmap(std)[1].axes[1].get_ylabel() == "std of cosine"

    @pytest.mark.parametrize(("field", "message"), [("stdd", "Did you mean 'std'"), ("scores", "got field='scores'")])
    def test_what_is_no_number_is_refused(self, field: str, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            comparison_matrix_from_cell_stat(SEEDS, field)
        with pytest.raises(ValueError, match="no cell_stats"):
            comparison_matrix_from_cell_stat(SQUARE, field)


@pytest.mark.parametrize(
    ("payload", "options", "error", "message"),
    [
        (7, {}, TypeError, "is a dict"),
        ({"measure": "x"}, {}, ValueError, "has a matrix"),
        ({**SQUARE, "model_ids": ["a"]}, {}, ValueError, r"1 rows .* 1 columns .* \[4, 4, 4, 4\]"),
        ({**SQUARE, "model_ids": list("aacd")}, {}, ValueError, r"\['a'\] stands twice"),
        (SQUARE, {"order": "size"}, ValueError, "'cluster'; got 'size'"),
        (SQUARE, {"order": ["a", "e"]}, ValueError, "names 'e'"),
        (WIDE, {"order": ["r9"]}, ValueError, "names 'r9'"),
        (SQUARE, {"pretty_groups": {"G": ["e"]}}, ValueError, "names 'e'"),
        (SQUARE, {"pretty_groups": {"G": ["a"], "H": ["a"]}}, ValueError, r"\['a'\] in two groups"),
        (SQUARE, {"scale": "power"}, ValueError, "scale_gamma above 0"),
        (SQUARE, {"scale": "power", "scale_gamma": -1}, ValueError, "scale_gamma above 0"),
        (SQUARE, {"scale": "lin"}, ValueError, "Did you mean 'linear'"),
        (SQUARE, {"vmin": 1, "vmax": 0}, ValueError, "vmin must be below vmax"),
        (SEEDS, {"vmax": 0}, ValueError, "vmax must be above 0"),
        (SQUARE, {"annot_fmt": "zz"}, ValueError, "annot_fmt='zz' is no format"),
        (SQUARE, {"cmap": "nope"}, ValueError, "not a colormap"),
        (SQUARE, {"dispersion_display": "stack"}, ValueError, "Did you mean 'stacked'"),
        (SQUARE, {"output_path": "plot.docx"}, ValueError, "not an image format"),
        (SQUARE, {"return_data": False, "return_fig_ax": False}, ValueError, "draw for nobody"),
        ({**SQUARE, "value": "intersection"}, {"percentages": True}, ValueError, "counts have none"),
    ],
)
def test_bad_input(payload, options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        heatmap(payload, **options)


class TestSimilarity:
    mapping = ParameterMap.from_specs({"w": spec((20, 5), "all")})

    def models(self):
        return {name: network(self.mapping, seed=seed) for seed, name in enumerate("abc")}

    def test_it_is_the_similarity_and_its_plot(self) -> None:
        models = self.models()
        options = {"measure": "spearman_signed", "part": "decoder-weight", "topk": 50}
        data = plot_similarity_heatmap(models, **options, order="name", show=False)
        assert data == compute_similarity_matrix(models, **options)
        assert json.loads(json.dumps(data)) == data

    def test_metric_is_a_second_name_of_measure(self) -> None:
        assert plot_similarity_heatmap(self.models(), metric="spearman", show=False)["measure"] == "spearman"
        with pytest.raises(TypeError, match="mean the same"):
            plot_similarity_heatmap(self.models(), metric="spearman", measure="cosine", show=False)

    def test_order_cluster_and_a_single_group_of_seeds(self) -> None:
        group = SeedModelGroup(tuple(self.models().values()), seed_values=(3, 1, 2))
        data = plot_similarity_heatmap(group, order="cluster", show=False)
        assert set(data["model_ids"]) == {"seed 1", "seed 2", "seed 3"}

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [({"clusters": True}, "'cluster'"), ({"measur": "cosine"}, "'measure'"), ({"cmap": "nope"}, "not a colormap")],
    )
    def test_mistakes_are_found_before_anything_is_compared(self, wrong: dict, message: str) -> None:
        for plot in (plot_similarity_heatmap, plot_similarity_heatmap_with_correlation):
            with pytest.raises((TypeError, ValueError), match=message):
                plot([None, None], **wrong)

    def test_correlations_stand_beside_the_rows(self, tmp_path: Path) -> None:
        path = tiny_data.save_bert(tmp_path / "base")
        models = {}
        for seed in (1, 2):
            trained = tiny_data.trainer(path, {"experiment_dir": str(tmp_path / str(seed)), "seed": seed}).train()
            models[f"seed {seed}"] = trained.load_model(trained.model_path)
        models["untold"] = models["seed 1"].with_original_base_model(models["seed 1"].base_model)
        models["untold"].gradiend = network(models["seed 1"].gradiend.mapping)
        found = correlations(models)
        assert list(found) == ["seed 1", "seed 2"]
        best = trained.get_training_stats()["best_score_checkpoint"]["correlation"]
        assert found["seed 2"] == pytest.approx(best)
        groups = {"one": SeedModelGroup((models["seed 2"], models["seed 1"])), "two": models["seed 1"]}
        assert correlations(groups) == {"one": found["seed 2"], "two": found["seed 1"]}
        ax = plot_similarity_heatmap_with_correlation(models, annot=False, show=False, return_fig_ax=True)[2]
        assert texts(ax) == [f"{one:.3g}" for one in found.values()] + ["corr"]
        own = {"row_metric": {"untold": 0.5}, "row_metric_label": "mine"}
        ax = plot_similarity_heatmap_with_correlation(models, annot=False, show=False, return_fig_ax=True, **own)[2]
        assert texts(ax) == ["0.5", "mine"]


class TestTopK:
    mapping = ParameterMap.from_specs({"w": spec((20, 5), "all")})

    def test_order_cluster(self) -> None:
        models = {str(seed): network(self.mapping, seed=seed) for seed in range(5)}
        by_order = plot_topk_overlap_heatmap(models, topk=20, order="cluster", show=False)
        assert by_order == plot_topk_overlap_heatmap(models, topk=20, cluster=True, show=False)


def test_a_payload_of_names_with_markup_is_drawn_as_text(tmp_path: Path) -> None:
    payload = {**SQUARE, "model_ids": ["$x^$", "_b", "<c>", "d\n\x07"]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        heatmap(payload, output_path=tmp_path / "plot")
    assert (tmp_path / "plot.png").is_file()
