"""Overlaps of top-k weights: the numbers are those of set arithmetic, and the figures show them."""

from __future__ import annotations

import logging
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

import gradiend
from gradiend import plot_topk_overlap_heatmap, plot_topk_overlap_venn
from gradiend.model.seed_group import SeedModelGroup
from gradiend.visualizer import Visualizer, compute_topk_sets, plot_topk_venn, topk
from gradiend.visualizer._matrix import ColorScale
from gradiend.visualizer.topk._venn import MOST_COLUMNS, VennOptions, upset_figure, venn_figure

pytest.importorskip("matplotlib")
pytest.importorskip("matplotlib_venn")
pytest.importorskip("venn")


class Ranked:
    """A model whose weights are ranked; all that the plots ask for."""

    def __init__(self, *indices: int) -> None:
        self.indices = indices

    def get_topk_weights(self, *, part: str, topk: int) -> list[int]:
        assert part in ("decoder-weight", "encoder-weight")
        chosen = self.indices if part == "decoder-weight" else tuple(reversed(self.indices))
        return list(chosen[: int(topk)])


MODELS = {
    "a": Ranked(5, 3, 1, 2, 9),
    "b": Ranked(3, 1, 7, 8, 2),
    "c": Ranked(3, 20, 21, 22, 23),
    "d": Ranked(1, 2, 3, 50, 51),
}
MATRIX = [[100.0, 60.0, 20.0, 60.0], [60.0, 100.0, 20.0, 60.0], [20.0, 20.0, 100.0, 20.0], [60.0, 60.0, 20.0, 100.0]]
UNEQUAL = {"a": Ranked(1, 2, 3, 4), "b": Ranked(1, 2), "c": Ranked(7, 8, 9)}


def heatmap(models=MODELS, **options):
    """(data, figure, axes of the matrix)."""
    return plot_topk_overlap_heatmap(models, **{"topk": 5, "show": False, "return_fig_ax": True, **options})


def numbers(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def kind(path: Path) -> bytes:
    return path.read_bytes()[:4]


class TestSets:
    def test_sets_intersection_and_union_ascend(self) -> None:
        per_model, common, union = compute_topk_sets(MODELS, topk=3)
        assert per_model == {"a": [1, 3, 5], "b": [1, 3, 7], "c": [3, 20, 21], "d": [1, 2, 3]}
        assert common == [3]
        assert union == [1, 2, 3, 5, 7, 20, 21]
        assert Visualizer.compute_topk_sets(MODELS, topk=3) == (per_model, common, union)

    def test_the_part_reaches_the_model(self) -> None:
        assert compute_topk_sets(MODELS, 1, "encoder-weight")[0] == {"a": [9], "b": [2], "c": [23], "d": [51]}

    def test_one_model_and_none(self) -> None:
        assert compute_topk_sets({"a": MODELS["a"]}, 2) == ({"a": [3, 5]}, [3, 5], [3, 5])
        assert compute_topk_sets({}) == ({}, [], [])

    @pytest.mark.parametrize(
        ("policy", "expected"), [("primary", [1, 3, 5]), ("union", [1, 3, 5, 7]), ("intersection", [1, 3])]
    )
    def test_seeds_become_one_set(self, policy: str, expected: list[int]) -> None:
        models = {"seeds": SeedModelGroup((MODELS["a"], MODELS["b"])), "one": MODELS["d"]}
        options = {"topk": 3, "seed_group_policy": policy}
        per_model = {"seeds": expected, "one": [1, 2, 3]}
        assert compute_topk_sets(models, **options)[0] == per_model
        assert plot_topk_overlap_venn(models, show=False, **options)["per_model"] == per_model
        assert plot_topk_overlap_heatmap(models, show=False, **options)["per_model"] == per_model

    def test_seeds_without_a_common_weight(self) -> None:
        group = SeedModelGroup((Ranked(1), Ranked(2)))
        with pytest.raises(ValueError, match="all seeds of 'g'"):
            compute_topk_sets({"g": group}, 1, seed_group_policy="intersection")
        for plot in (compute_topk_sets, plot_topk_overlap_venn, plot_topk_overlap_heatmap):
            with pytest.raises(ValueError, match="Did you mean 'union'"):
                plot({"g": group, "h": group}, seed_group_policy="unions")

    def test_a_list_is_numbered(self) -> None:
        assert list(compute_topk_sets(list(MODELS.values())[:2], 1)[0]) == ["model 1", "model 2"]

    def test_bad_input(self) -> None:
        with pytest.raises(TypeError, match="dict"):
            compute_topk_sets(7)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="positive"):
            compute_topk_sets(MODELS, 0)
        with pytest.raises(ValueError, match=r"selects no weight of \['e'\]"):
            compute_topk_sets({"a": MODELS["a"], "e": Ranked()})


class TestHeatmap:
    def test_the_result_is_the_documented_dict(self) -> None:
        data = plot_topk_overlap_heatmap(MODELS, topk=5, show=False)
        assert data["model_ids"] == list("abcd")
        assert data["matrix"] == MATRIX
        assert {name: data[name] for name in ("value", "topk", "part")} == {
            "value": "intersection",
            "topk": 5,
            "part": "decoder-weight",
        }
        assert data["per_model"] == compute_topk_sets(MODELS, 5)[0]
        assert set(data) == {"model_ids", "matrix", "per_model", "value", "topk", "part"}
        assert plot_topk_overlap_heatmap(MODELS, topk=5, show=False, return_data=False, return_fig_ax=True)[0] == {}

    @pytest.mark.parametrize(
        ("value", "percentages", "expected"),
        [
            ("intersection", True, [[100, 100, 0], [100, 100, 0], [0, 0, 100]]),
            ("intersection", False, [[4, 2, 0], [2, 2, 0], [0, 0, 3]]),
            ("intersection_frac", True, [[100, 100, 0], [100, 100, 0], [0, 0, 100]]),
            ("intersection_frac", False, [[1, 1, 0], [1, 1, 0], [0, 0, 1]]),
        ],
    )
    def test_values_of_sets_of_several_sizes(self, value: str, percentages: bool, expected: list) -> None:
        data, figure, ax = heatmap(UNEQUAL, value=value, percentages=percentages)
        assert data["matrix"] == expected
        assert ax.images[0].get_array().tolist() == expected
        digits = ".2f" if value == "intersection_frac" and not percentages else ".0f"
        assert numbers(ax) == [format(number, digits) for row in expected for number in row]
        assert ("%" in figure.axes[1].get_ylabel()) == percentages

    def test_order_cluster_and_groups_move_rows_and_columns_together(self) -> None:
        def ids(**options) -> list[str]:
            data, _, ax = heatmap(**options)
            positions = [list("abcd").index(name) for name in data["model_ids"]]
            assert data["matrix"] == np.array(MATRIX)[np.ix_(positions, positions)].tolist()
            assert list(data["per_model"]) == data["model_ids"]
            assert [tick.get_text() for tick in ax.get_yticklabels()] == data["model_ids"]
            assert [tick.get_text() for tick in ax.get_xticklabels()] == data["model_ids"]
            return data["model_ids"]

        assert ids(models=dict(reversed(MODELS.items())), order="name") == list("abcd")
        assert ids(order=["d", "b"]) == ["d", "b"]
        assert ids(cluster=True) == list("abdc")
        assert ids(pretty_groups={"G": ["d", "b"]}) == list("dbac")
        assert ids(pretty_groups={"G": ["c"], "H": ["b"]}, order="name") == list("cbad")

    def test_groups_are_named_on_two_sides(self) -> None:
        data, _, ax = heatmap(pretty_groups={"G": ["d", "b"]}, annot=False, group_label_rotation_right=90)
        assert data["pretty_groups"] == {"G": ["d", "b"], "Other": ["a", "c"]}
        assert numbers(ax) == ["G", "G", "Other", "Other"]
        assert [text.get_rotation() for text in ax.texts] == [0, 90, 0, 90]
        assert ax.get_xlim() == (-0.5, 3.5)

    def test_annotation(self) -> None:
        many = {str(number): Ranked(number, 99) for number in range(16)}
        assert numbers(heatmap(many)[2]) == []
        assert len(numbers(heatmap(many, annot=True)[2])) == 256
        assert numbers(heatmap(annot=False)[2]) == []
        assert numbers(heatmap(fmt=".2f")[2])[1] == "60.00"
        assert numbers(heatmap(annot_fmt=".1f")[2])[1] == "60.0"
        light, dark = (heatmap()[2].texts[position].get_color() for position in (0, 2))
        assert (light, dark) == ("black", "white")

    def test_the_scale_sets_small_overlaps_apart(self) -> None:
        def color(**options) -> float:
            return float(heatmap(**options)[2].images[0].norm(20.0))

        assert color() == pytest.approx(0.2)
        assert color(vmin=20, vmax=60) == 0.0
        assert color(scale="sqrt") == pytest.approx(0.2**0.5)
        assert color(scale="power", scale_gamma=0.25) == pytest.approx(0.2**0.25)
        assert color(scale="log", vmin=1.0) == pytest.approx(np.log(20) / np.log(100))
        assert color(scale="log") == 0.0

    def test_a_logarithmic_scale_survives_empty_overlaps(self) -> None:
        figure = heatmap(UNEQUAL, scale="log")[1]
        figure.canvas.draw()
        assert ColorScale(scale="log").norm(np.full((2, 2), 5.0))(5.0) == 1.0

    def test_a_metric_stands_beside_its_row(self) -> None:
        ax = heatmap(row_metric={"d": -0.5, "a": 0.25}, row_metric_label="corr", annot=False, order=["d", "b", "a"])[2]
        assert {text.get_text(): text.get_position()[1] for text in ax.texts} == {"-0.5": 0, "0.25": 2, "corr": 2.6}

    def test_names_title_and_sizes(self) -> None:
        options = {"tick_label_fontsize": 5, "annot_fontsize": 4, "cbar_fontsize": 3, "figsize": (7, 6)}
        _, figure, ax = heatmap(
            row_label_mapping={"a": "row"}, column_label_mapping={"a": "$column$"}, title="T", **options
        )
        assert ax.get_yticklabels()[0].get_text() == "row"
        assert ax.get_xticklabels()[0].get_text() == r"\$column\$"
        assert {ax.get_yticklabels()[0].get_fontsize(), ax.texts[0].get_fontsize()} == {5, 4}
        assert figure.axes[1].yaxis.label.get_fontsize() == 3
        assert figure.get_suptitle() == "T"
        assert figure.get_size_inches().tolist() == [7, 6]
        assert heatmap()[1].get_suptitle() == ""
        assert heatmap(title=True)[1].get_suptitle() == "Overlap of the top 5 by decoder-weight"
        grouped = heatmap(pretty_groups={"G": ["a"]}, group_label_fontsize=6, annot=False)[2]
        assert {text.get_fontsize() for text in grouped.texts} == {6}

    def test_the_colour_bar_moves(self) -> None:
        def gap_and_height(**options) -> tuple[float, float]:
            figure = heatmap(**options)[1]
            figure.canvas.draw()
            matrix, bar = (ax.get_position() for ax in figure.axes)
            return bar.x0 - matrix.x1, bar.height

        gap, height = gap_and_height()
        assert gap_and_height(cbar_pad=0.3)[0] > gap
        assert gap_and_height(cbar_shrink=0.4)[1] < height

    def test_seeds_are_names_too(self) -> None:
        seeds = {10: MODELS["a"], 9: MODELS["b"]}
        data, _, ax = heatmap(seeds, order="name", row_metric={9: 0.5}, annot=False)
        assert (data["model_ids"], set(data["per_model"])) == ([10, 9], {9, 10})
        assert [text.get_text() for text in ax.texts] == ["0.5", "corr"]
        assert set(plot_topk_overlap_venn(seeds, 3, show=False)["per_model"]) == {9, 10}

    def test_drawing_in_axes_of_the_caller(self) -> None:
        from matplotlib.figure import Figure  # noqa: PLC0415 - only this test needs it

        figure = Figure()
        ax = figure.subplots()
        assert heatmap(ax=ax)[1:] == (figure, ax)
        assert numbers(ax)[1] == "60"

    def test_files(self, tmp_path: Path) -> None:
        plot_topk_overlap_heatmap(MODELS, topk=5, show=False, output_path=tmp_path / "new" / "plain")
        plot_topk_overlap_heatmap(MODELS, topk=5, show=False, output_path=str(tmp_path / "p.pdf"))
        assert kind(tmp_path / "new" / "plain.png") == b"\x89PNG"
        assert kind(tmp_path / "p.pdf") == b"%PDF"

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"models": {"a": MODELS["a"]}}, "at least 2 models; got 1"),
            ({"value": "jaccard"}, "value must be one of"),
            ({"order": "size"}, "'input', 'name' or a list"),
            ({"order": ["a", "bb"]}, "names 'bb'"),
            ({"order": ["a", "a"]}, "twice"),
            ({"pretty_groups": {"G": ["z"]}}, "names 'z'"),
            ({"pretty_groups": {"G": ["a"], "H": ["a"]}}, r"\['a'\] in two groups"),
            ({"scale": "lin"}, "Did you mean 'linear'"),
            ({"scale": "power"}, "scale_gamma above 0"),
            ({"scale": "log", "vmin": 0}, "vmin above 0"),
            ({"fmt": "zz"}, "no format of a number"),
            ({"cmap": "nope"}, "not a colormap"),
            ({"output_path": "plot.docx"}, "not an image format"),
            ({"return_data": False, "return_fig_ax": False}, "draw for nobody"),
        ],
    )
    def test_bad_input(self, options: dict, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            heatmap(**options)


class TestVenn:
    @pytest.mark.parametrize("count", [2, 3, 4, 5])
    def test_every_region_has_its_number(self, count: int) -> None:
        rng = np.random.default_rng(count)
        sets = {str(i): sorted({int(x) for x in rng.integers(0, 400, size=300)}) for i in range(count)}
        ax = venn_figure(sets, VennOptions()).axes[0]
        found = [int(text.replace(",", "")) for text in numbers(ax) if text]
        expected = exact_sizes(sets).values()
        assert sorted(found) == sorted(number for number in expected if number or count <= 3)

    def test_the_result_is_the_documented_dict(self, tmp_path: Path) -> None:
        expected = dict(zip(("per_model", "intersection", "union"), compute_topk_sets(MODELS, 3), strict=True))
        expected |= {"topk": 3, "part": "decoder-weight"}
        path = tmp_path / "venn.pdf"
        assert plot_topk_overlap_venn(MODELS, topk=3, show=False, output_path=path) == expected
        assert kind(path) == b"%PDF"
        assert topk.plot_topk_overlap(MODELS, topk=3) == expected
        assert plot_topk_venn(MODELS, topk=3, output_path=tmp_path / "venn") is None
        assert kind(tmp_path / "venn.png") == b"\x89PNG"

    def test_options_act(self, tmp_path: Path) -> None:
        def image(**options) -> bytes:
            plot_topk_overlap_venn(list(MODELS.values())[:2], 3, output_path=tmp_path / "v.svg", show=False, **options)
            text = (tmp_path / "v.svg").read_text()
            return "\n".join(row for row in text.splitlines() if "date" not in row and "id=" not in row).encode()

        changes = [
            {"figsize": (4, 3)},
            {"circle_names_fontsize": 15},
            {"region_counts_fontsize": 5},
            {"patch_linewidth": 4},
            {"alpha": 0.9},
            {"title": "T"},
            {"label_mapping": {"model 1": "first"}},
        ]
        assert len({image(), *(image(**change) for change in changes)}) == 1 + len(changes)

    def test_one_display_name_for_two_models_hides_none(self) -> None:
        names = {"a": "same", "b": "same"}
        figure = venn_figure({"a": [1, 2], "b": [2]}, VennOptions(label_mapping=names))
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["same (2)", "same (1)"]

    @pytest.mark.parametrize("count", [0, 1, 7])
    def test_two_to_six_models(self, count: int) -> None:
        with pytest.raises(ValueError, match=f"2 to 6 models; got {count}"):
            plot_topk_overlap_venn({str(i): MODELS["a"] for i in range(count)}, show=False)

    @pytest.mark.parametrize(("package", "count"), [("matplotlib_venn", 3), ("venn", 4), ("matplotlib", 2)])
    def test_a_missing_package_is_named(self, monkeypatch: pytest.MonkeyPatch, package: str, count: int) -> None:
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ImportError, match=rf"needs {package}: pip install {package.replace('_', '-')} \("):
            plot_topk_overlap_venn(dict(list(MODELS.items())[:count]), 3, show=False)


def exact_sizes(sets: dict[str, list[int]]) -> dict[frozenset[str], int]:
    """How many elements exactly these sets have, combination by combination."""
    expected = {}
    for size in range(1, len(sets) + 1):
        for inside in combinations(sets, size):
            outside = set().union(*(sets[name] for name in sets if name not in inside))
            expected[frozenset(inside)] = len(set.intersection(*(set(sets[name]) for name in inside)) - outside)
    return expected


class TestBarsOfSix:
    def sets(self, members: int) -> dict[str, list[int]]:
        rng = np.random.default_rng(members)
        return {name: sorted({int(x) for x in rng.integers(0, 400, size=members)}) for name in "abcdef"}

    def drawn(self, sets) -> tuple[dict[frozenset[str], int], int]:
        """(combination of dots → number above them, the number of the last bar where that has no dots)."""
        bars, dots = upset_figure(sets, VennOptions()).axes
        above = [int(text.replace(",", "")) for text in numbers(bars)]
        assert above == [round(bar.get_height()) for bar in bars.patches]
        columns: dict[int, set[str]] = {}
        # Two collections a row: first the sets that lack it, then those that have it.
        for name, inside in zip(sets, dots.collections[1::2], strict=True):
            for place, _ in inside.get_offsets():
                columns.setdefault(round(place), set()).add(name)
        found = {frozenset(members): above[place] for place, members in columns.items()}
        return found, above[-1] if len(above) > len(columns) else 0

    def test_every_combination_has_its_bar(self) -> None:
        sets = self.sets(25)
        expected = {members: size for members, size in exact_sizes(sets).items() if size}
        assert len(expected) <= MOST_COLUMNS
        assert self.drawn(sets) == (expected, 0)

    def test_the_smallest_of_many_are_added_up_but_what_all_share_is_shown(self) -> None:
        sets = self.sets(200)
        expected = exact_sizes(sets)
        found, rest = self.drawn(sets)
        assert found.items() <= expected.items()
        assert frozenset(sets) in found
        assert sum(found.values()) + rest == sum(expected.values())
        others = [size for members, size in expected.items() if members not in found]
        assert rest == sum(others)
        assert max(others) <= sorted(found.values())[1]

    def test_no_two_numbers_touch(self) -> None:
        for scale in (1, 40):
            sets = {name: [scale * i + j for i in ids for j in range(scale)] for name, ids in self.sets(200).items()}
            figure = upset_figure(sets, VennOptions())
            figure.canvas.draw()
            boxes = [text.get_window_extent() for text in figure.axes[0].texts]
            assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))

    def test_options_act(self, tmp_path: Path) -> None:
        models = {name: Ranked(*indices) for name, indices in self.sets(25).items()}

        def image(**options) -> bytes:
            plot_topk_overlap_venn(models, 30, output_path=tmp_path / "u.svg", show=False, **options)
            text = (tmp_path / "u.svg").read_text()
            return "\n".join(row for row in text.splitlines() if "date" not in row and "id=" not in row).encode()

        changes = [
            {"circle_names_fontsize": 15},
            {"region_counts_fontsize": 5},
            {"patch_linewidth": 4},
            {"alpha": 0.9},
            {"label_mapping": {"a": "first"}},
        ]
        assert len({image(), *(image(**change) for change in changes)}) == 1 + len(changes)


class TestDoor:
    def test_unknown_keywords_are_refused_and_those_of_other_versions_taken(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        with pytest.raises(TypeError, match="Did you mean 'cluster'"):
            heatmap(clusters=True)
        with pytest.raises(TypeError, match="mean the same"):
            heatmap(fmt=".0f", annot_fmt=".1f")
        with caplog.at_level(logging.WARNING):
            assert heatmap(seed_aggregate="mean", annot_fmt=None)[0]["matrix"] == MATRIX
        assert "with and without seed_aggregate" in caplog.text

    def test_pyplot_keeps_no_figure(self, tmp_path: Path) -> None:
        import matplotlib.pyplot as plt  # noqa: PLC0415 - only this test needs it

        before, rc = plt.get_fignums(), dict(plt.rcParams)
        heatmap(output_path=tmp_path / "h")
        for count in (2, 4):
            plot_topk_overlap_venn(list(MODELS.values())[:count], 3, show=False, output_path=tmp_path / "v")
        assert (plt.get_fignums(), dict(plt.rcParams)) == (before, rc)

    def test_names_in_other_scripts_are_drawn_without_a_warning(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        plot_topk_overlap_venn(
            {"日本語": MODELS["a"], "\U000e0041_$x_1$": MODELS["b"]}, show=False, output_path=tmp_path / "v"
        )
        assert (tmp_path / "v.png").is_file()

    def test_the_package_exports_them(self) -> None:
        assert gradiend.plot_topk_overlap_heatmap is topk.plot_topk_overlap_heatmap
        assert gradiend.plot_topk_overlap_venn is topk.plot_topk_overlap_venn
