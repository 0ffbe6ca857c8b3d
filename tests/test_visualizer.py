"""Figures carry the data that they were given, files land where they should, bad input is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from everyday import every

from gradiend import TextPredictionTrainer
from gradiend.visualizer import (
    plot_encoder_distributions,
    plot_probability_shifts,
    plot_training_convergence,
)
from gradiend.visualizer._encodings import encoding_groups, merged, ordered, paired
from gradiend.visualizer._output import FigureOptions
from gradiend.visualizer._style import DISTINCT, OKABE_ITO, distinct_colors, shown, signed, text_color
from gradiend.visualizer.convergence import convergence_figure, training_curves
from gradiend.visualizer.encoder_distributions import MAX_POINTS, Names, distribution_figure
from gradiend.visualizer.probability_shifts import shift_curves, shift_figure

pytest.importorskip("matplotlib")

# Machado et al. 2009, full severity; on linear RGB.
COLOUR_VISIONS = {
    "normal": np.eye(3),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def linear(color: str) -> np.ndarray:
    """Linear RGB of an sRGB hex colour."""
    c = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* (D65) of linear RGB."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ np.clip(rgb, 0, 1)
    xyz = xyz / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


STATS = {
    "scores": {0: 0.1, 50: 0.8, 100: 0.97},
    "mean_by_class": {0: {1.0: 0.1, -1.0: 0.0}, 50: {1.0: 0.6, -1.0: -0.5}, 100: {1.0: 0.99, -1.0: -0.98}},
    "mean_by_feature_class": {0: {"he": 0.1, "she": 0.0}, 50: {"he": 0.6, "she": -0.5}, 100: {"he": 0.99}},
    "label_value_to_class_name": {1.0: "he", -1.0: "she"},
}
RUN = {"training_stats": STATS, "best_score_checkpoint": {"global_step": 100, "correlation": 0.97}}
WITH_OTHERS = {
    **STATS,
    "mean_by_class": {0: {0.0: 0.05, -1.0: 0.0, 1.0: 0.1}},
    "mean_by_feature_class": {0: {"he": 0.1, "she": 0.0, "it": 0.02, "they": 0.08}},
}
STRANGE = "_$x_1^2$ and $5"


@dataclass
class Run:
    """What the plots ask of a trainer."""

    experiment_dir: Path | None = None
    run_id: str | None = "demo"
    pair: tuple[str, str] | None = ("she", "he")
    target_classes: tuple[str, ...] | None = ("he", "she")
    stats: dict | None = None

    def get_training_stats(self) -> dict | None:
        return self.stats


def encodings(scale: float = 1.0, others: bool = False) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [(scale * 0.99, 1.0, "training", "he", "she")] * 30
    rows += [(-scale * 0.99, -1.0, "training", "she", "he")] * 20
    rows += [(value, 0.0, "neutral_dataset", None, None) for value in np.tanh(rng.normal(size=40))]
    rows += [(value, 0.0, "neutral_training_masked", None, None) for value in np.tanh(rng.normal(size=10))]
    if others:
        rows += [(0.2, 0.0, "training", "it", "it")] * 5
    return pd.DataFrame(rows, columns=["encoded", "label", "type", "source_id", "target_id"])


def grid_entry(factor: float, rate: float, classes: tuple[str, ...]) -> dict:
    step = factor * rate
    probabilities = {
        dataset: {name: 0.4 + (0.3 if name == dataset else 0.0) + step * (i - 0.5) for i, name in enumerate(classes)}
        for dataset in classes
    }
    return {
        "id": {"feature_factor": factor, "learning_rate": rate},
        "probs_by_dataset": probabilities,
        "lms": {"lms": 0.4 - abs(step)},
    }


def make_grid(classes: tuple[str, ...] = ("he", "she"), rates: tuple[float, ...] = (0.001, 0.01, 0.1)) -> dict:
    grid = {(f, r): grid_entry(f, r, classes) for f in (-1.0, 1.0) for r in rates}
    return {"base": grid_entry(0.0, 0.0, classes), **grid}


def summary(factor: float, rate: float) -> dict:
    return {"feature_factor": factor, "learning_rate": rate, "value": 0.5, "lms": 0.39, "base_lms": 0.4}


def results(**summaries: dict) -> dict:
    return {"grid": make_grid(), **summaries}


def legend_labels(figure) -> list[str]:
    legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend())]
    return [text.get_text() for legend in legends for text in legend.get_texts()]


def line(ax, label: str):
    return next(found for found in ax.lines if found.get_label() == label)


def image_kind(path: str | Path) -> bytes:
    return Path(path).read_bytes()[:4]


def _ends(band: Any) -> tuple[float, float]:
    """Lower and upper end of what was shaded."""
    heights = band.get_paths()[0].vertices[:, 1]
    return heights.min(), heights.max()


PNG, PDF = b"\x89PNG", b"%PDF"
INSIDE = FigureOptions(legend_loc="lower right", legend_bbox_to_anchor=(1.0, 0.0), legend_ncol=3)


class TestConvergence:
    @pytest.mark.parametrize("stats", [RUN, STATS, json.loads(json.dumps(RUN)), json.loads(json.dumps(STATS))])
    def test_the_lines_are_the_statistics(self, stats: dict) -> None:
        figure = convergence_figure(training_curves(stats))
        correlation, means = figure.axes
        assert list(correlation.lines[0].get_xdata()) == [0, 50, 100]
        assert list(correlation.lines[0].get_ydata()) == [0.1, 0.8, 0.97]
        assert list(line(means, "he").get_ydata()) == [0.1, 0.6, 0.99]
        assert list(line(means, "she").get_ydata()) == [0.0, -0.5, -0.98]
        assert legend_labels(figure)[:2] == ["he", "she"]

    def test_the_best_step_is_marked_in_every_panel_unless_unwanted(self) -> None:
        figure = convergence_figure(training_curves(RUN))
        for ax in figure.axes:
            assert [100.0, 100.0] in [list(found.get_xdata()) for found in ax.lines]
        assert legend_labels(figure)[-1] == "best step 100\n(correlation 0.970)"
        assert len(legend_labels(convergence_figure(training_curves(RUN), best_step=False))) == 2
        assert len(legend_labels(convergence_figure(training_curves(STATS)))) == 2

    @pytest.mark.parametrize("kind", ["minmax", "iqr", "ci95"])
    def test_what_is_shaded_are_the_encodings_around_the_mean(self, kind: str) -> None:
        drawn = {1.0: np.array([0.2, 0.5, 0.6, 0.9]), -1.0: np.array([-0.8, -0.5, -0.4])}
        recorded = [("min", np.min), ("max", np.max), ("std", np.std), ("n", len), ("mean", np.mean)]
        recorded += [(f"q{i}", lambda own, i=i: np.quantile(own, i / 4)) for i in (1, 3)]
        stats = {f"{what}_by_class": {5: {label: of(own) for label, own in drawn.items()}} for what, of in recorded}
        figure = convergence_figure(
            training_curves(json.loads(json.dumps(stats, default=float)), spread=kind), band="x"
        )
        (ax,) = figure.axes
        for own, (low, high) in zip(drawn.values(), (_ends(band) for band in ax.collections), strict=False):
            error = 1.96 * own.std(ddof=1) / np.sqrt(own.size)
            expected = {
                "minmax": (own.min(), own.max()), "iqr": np.quantile(own, [0.25, 0.75]),
                "ci95": (own.mean() - error, own.mean() + error),
            }  # fmt: skip
            assert (low, high) == pytest.approx(expected[kind])
        assert "x" in legend_labels(figure)

    def test_a_spread_that_was_not_recorded_and_an_unknown_one(self, tmp_path: Path) -> None:
        for given, message in (("ci95", "have no spread of '1.0'"), ("ci90", "Did you mean 'ci95'")):
            with pytest.raises(ValueError, match=message):
                plot_training_convergence(training_stats=RUN, class_spread=given, output=tmp_path / "x", show=False)

    def test_string_steps_are_sorted_as_numbers(self) -> None:
        curve = training_curves({"scores": {"100": 0.9, "20": 0.2, "3.0": 0.1}}).correlation
        assert curve is not None
        assert curve.steps == (3.0, 20.0, 100.0)
        assert curve.values == (0.1, 0.2, 0.9)

    def test_a_class_missing_at_a_step_and_a_null_leave_gaps_only_there(self) -> None:
        curves = training_curves({**STATS, "scores": {"0": None, "50": 0.5}})
        she = next(curve for curve in curves.by_feature_class if curve.name == "she")
        assert she.steps == (0.0, 50.0)
        assert curves.correlation is not None
        assert np.isnan(curves.correlation.values[0])
        convergence_figure(curves).canvas.draw()

    def test_feature_classes_have_a_panel_where_they_outnumber_the_labels(self) -> None:
        def panels(stats: dict, **options: bool) -> int:
            return len(convergence_figure(training_curves(stats), **options).axes)

        assert panels(STATS) == 2
        assert panels(WITH_OTHERS) == 3
        assert panels(STATS, mean_by_feature_class=True) == 3
        assert panels(WITH_OTHERS, mean_by_feature_class=False) == 2
        assert panels(STATS, mean_by_class=False) == 1
        assert panels(STATS, correlation=False) == 1

    def test_labels_come_positive_negative_zero_and_share_colours_with_their_class(self) -> None:
        figure = convergence_figure(training_curves(WITH_OTHERS))
        assert legend_labels(figure) == ["he", "she", "label 0", "it", "they"]
        by_label, by_class = figure.axes[1:]
        assert line(by_label, "he").get_color() == line(by_class, "he").get_color()
        colors = {found.get_color() for found in by_class.lines if not found.get_label().startswith("_")}
        assert len(colors) == 4

    @pytest.mark.parametrize("mapping", [{1: "male"}, {"1.0": "male"}, {1.0: "male"}, {"he": "male"}])
    def test_display_names_by_label_or_class(self, mapping: dict) -> None:
        assert legend_labels(convergence_figure(training_curves(STATS, mapping))) == ["male", "she"]

    def test_a_legend_stands_beside_the_panels_unless_a_place_is_asked_for(self) -> None:
        beside = convergence_figure(training_curves(RUN))
        assert (len(beside.legends), beside.axes[0].get_legend()) == (1, None)
        inside = convergence_figure(training_curves(RUN), options=INSIDE)
        assert not inside.legends
        assert legend_labels(inside) == legend_labels(beside)

    def test_the_legend_options_of_the_door_act(self, tmp_path: Path) -> None:
        images = {
            Path(
                plot_training_convergence(training_stats=RUN, output=tmp_path / str(i), show=False, **options)
            ).read_bytes()
            for i, options in enumerate(
                ({}, {"legend_loc": "center"}, {"legend_ncol": 2}, {"legend_bbox_to_anchor": (0.5, 0.5)})
            )
        }
        assert len(images) == 4

    def test_given_stats_need_no_data_of_the_trainer(self, tmp_path: Path) -> None:
        trainer = TextPredictionTrainer("unused", data=str(tmp_path / "gone.csv"))
        path = plot_training_convergence(trainer=trainer, training_stats=RUN, output=tmp_path / "a", show=False)
        assert image_kind(path) == PNG

    def test_default_file_and_explicit_file(self, tmp_path: Path) -> None:
        trainer = Run(experiment_dir=tmp_path / "run", stats=RUN)
        assert plot_training_convergence(trainer, show=False) == str(tmp_path / "run" / "training_convergence.png")
        other = plot_training_convergence(trainer, experiment_dir=tmp_path / "x", img_format="pdf", show=False)
        assert other == str(tmp_path / "x" / "training_convergence.pdf")
        assert image_kind(other) == PDF
        explicit = plot_training_convergence(trainer, output=tmp_path / "deep" / "plot.pdf", show=False)
        assert explicit == str(tmp_path / "deep" / "plot.png")
        assert image_kind(explicit) == PNG
        assert [path.name for path in (tmp_path / "deep").iterdir()] == ["plot.png"]

    def test_a_dot_that_names_no_image_format_stays(self, tmp_path: Path) -> None:
        path = plot_training_convergence(training_stats=RUN, output=tmp_path / "run.v1.2", show=False)
        assert path == str(tmp_path / "run.v1.2.png")

    def test_model_path_reads_training_json(self, tmp_path: Path) -> None:
        (tmp_path / "training.json").write_text(json.dumps(RUN))
        path = plot_training_convergence(model_path=tmp_path, output=tmp_path / "plot", show=False)
        assert image_kind(path) == PNG

    def test_size_and_resolution(self, tmp_path: Path) -> None:
        figure = convergence_figure(training_curves(RUN), options=FigureOptions(figsize=(3, 4), title="T"))
        assert figure.get_size_inches().tolist() == [3, 4]
        assert figure.get_suptitle() == "T"
        small, large = (
            plot_training_convergence(training_stats=RUN, output=tmp_path / str(dpi), dpi=dpi, show=False)
            for dpi in (40, 160)
        )
        assert Path(small).stat().st_size < Path(large).stat().st_size

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({}, "pass training_stats, model_path or a trainer"),
            ({"trainer": Run()}, "no training.json yet"),
            ({"training_stats": {}}, "no evaluated step"),
            ({"training_stats": {"scores": {"last": 1.0}}}, "keyed by step"),
            (
                {"training_stats": STATS, "plot_correlation": False, "plot_mean_by_class": False},
                "nothing to plot",
            ),
            ({"training_stats": RUN, "img_format": "pgn"}, "Did you mean 'png'"),
            ({"training_stats": RUN, "output": None}, "output, experiment_dir"),
        ],
    )
    def test_bad_input(self, tmp_path: Path, options: dict, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            plot_training_convergence(**{"output": tmp_path / "plot", "show": False, **options})
        assert not list(tmp_path.iterdir())

    def test_a_wrong_model_path(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"no .*training\.json"):
            plot_training_convergence(model_path=tmp_path, output=tmp_path / "plot", show=False)
        (tmp_path / "training.json").write_text("[]")
        with pytest.raises(ValueError, match=r"training\.json must hold a JSON object, not list"):
            plot_training_convergence(model_path=tmp_path, output=tmp_path / "plot", show=False)


class TestEncoderDistributions:
    def test_groups_hold_all_values_in_the_order_of_the_pair(self) -> None:
        groups = encoding_groups(encodings(others=True), first_classes=("she", "he"))
        assert [group.key for group in groups] == [
            "she -> he",
            "he -> she",
            "neutral_training_masked",
            "neutral_dataset",
        ]
        assert [group.values.size for group in groups] == [20, 30, 10, 40]

    def test_identity_rows_come_when_asked_for(self) -> None:
        groups = encoding_groups(encodings(others=True), target_and_neutral_only=False)
        assert [group.key for group in groups][:3] == ["he -> she", "she -> he", "it -> it"]

    def test_frames_without_class_columns_are_grouped_by_label(self) -> None:
        frame = encodings()
        keys = [group.key for group in encoding_groups(frame.drop(columns=["source_id", "target_id"]))]
        assert keys[:2] == ["label +1", "label -1"]
        assert [group.key for group in encoding_groups(frame.drop(columns="target_id"))][:2] == ["he", "she"]

    def test_points_and_median_are_the_encodings(self) -> None:
        groups = encoding_groups(encodings())
        ax = distribution_figure(groups).axes[0]
        drawn = {part.get_label(): part.get_offsets() for part in ax.collections if "_child" not in part.get_label()}
        for position, group in enumerate(groups):
            points = drawn[group.key]
            assert np.asarray(points[:, 1]).tolist() == np.sort(group.values).tolist()
            assert np.abs(points[:, 0] - position).max() < 0.5
        medians = [found.get_ydata()[0] for found in ax.lines if len(found.get_ydata()) == 1]
        assert medians == [np.median(group.values) for group in groups]

    def test_constant_encodings_are_seen(self) -> None:
        ax = distribution_figure(encoding_groups(encodings())).axes[0]
        points = next(part for part in ax.collections if part.get_label() == "he -> she").get_offsets()
        assert np.ptp(points[:, 0]) > 0.2
        assert set(points[:, 1]) == {0.99}

    def test_one_row_a_group_is_enough(self) -> None:
        frame = encodings().groupby("type").head(1)
        assert len(distribution_figure(encoding_groups(frame)).axes[0].get_xticks()) == 3

    def test_many_points_are_sampled_evenly_with_the_extremes(self) -> None:
        values = np.random.default_rng(1).uniform(-1, 1, size=20_000)
        frame = pd.DataFrame({"encoded": values, "label": 1.0, "type": "training"})
        points = distribution_figure(encoding_groups(frame)).axes[0].collections[-1].get_offsets()
        points = np.asarray(points)[:, 1]
        assert len(points) == MAX_POINTS
        assert (points.min(), points.max()) == (values.min(), values.max())
        assert np.median(points) == pytest.approx(np.median(values), abs=0.01)

    @pytest.mark.parametrize(("scale", "limit"), [(1.0, 1.05), (0.01, 1.05), (3.0, 1.05 * 2.97)])
    def test_the_axis_is_that_of_tanh_unless_encodings_leave_it(self, scale: float, limit: float) -> None:
        frame = encodings(scale)
        ax = distribution_figure(encoding_groups(frame)).axes[0]
        assert ax.get_ylim() == pytest.approx((-limit, limit))

    def test_ticks_name_transitions_and_the_legend_names_classes(self) -> None:
        figure = distribution_figure(encoding_groups(encodings()), names=Names({"he": "male"}))
        ticks = [text.get_text() for text in figure.axes[0].get_xticklabels()]
        assert ticks[0] == "male\n-> she\nn = 30\nmean +0.99"
        assert ticks[1] == "she\n-> male\nn = 20\nmean −0.99"
        assert legend_labels(figure) == [
            "male (+1)",
            "she (−1)",
            "neutral (training text)",
            "neutral (corpus)",
            "median",
        ]

    def test_order_by_group_or_class(self) -> None:
        groups = encoding_groups(encodings())
        keys = [group.key for group in ordered(groups, ["neutral_dataset", "she"])]
        assert keys == ["neutral_dataset", "she -> he", "he -> she", "neutral_training_masked"]

    @pytest.mark.parametrize("colors", [{"he": "#123456"}, {"he -> she": "#123456"}, ["#123456", "r", "g", "b"]])
    def test_colours_of_the_user_act(self, colors: dict | list) -> None:
        ax = distribution_figure(encoding_groups(encodings()), colors=colors).axes[0]
        points = next(part for part in ax.collections if part.get_label() == "he -> she")
        assert points.get_facecolor()[0, :3] == pytest.approx(np.array([0x12, 0x34, 0x56]) / 255)

    def test_every_option_of_the_door_acts(self, tmp_path: Path) -> None:
        def image(pair: tuple[str, str] | None = ("he", "she"), **options: object) -> bytes:
            options = {"output": tmp_path / "plot", "show": False, "dpi": 50, "figsize": (5, 3), **options}
            return Path(plot_encoder_distributions(Run(pair=pair), encodings(others=True), **options)).read_bytes()

        plain = image()
        assert image() == plain
        changes = [
            {"pair": ("she", "he")},
            {"title": "T"},
            {"title": False},
            {"violin_order": ["neutral_dataset"]},
            {"paired_legend_labels": ["he", "she"]},
            {"legend_name_mapping": {"he": "male"}},
            {"legend_name_mapping": {"he → she": "male"}},
            {"legend_group_mapping": {"pronoun": ["he", "she"]}},
            {"title_fontsize": 20},
            {"label_fontsize": 5},
            {"axis_label_fontsize": 14},
            {"legend_fontsize": 6},
            {"colors": {"he": "red"}},
            {"legend_loc": "center"},
            {"legend_ncol": 2},
            {"legend_bbox_to_anchor": (0.5, 0.5)},
            {"cmap": "viridis"},
            {"dpi": 70},
            {"figsize": (6, 3)},
            {"target_and_neutral_only": False},
        ]
        images = [image(**change) for change in changes]
        assert len({plain, *images}) == 1 + len(changes)

    def test_pairs_are_halves_of_one_violin(self) -> None:
        groups = encoding_groups(encodings())
        violins = paired(groups, ["he → she", "she", "neutral_dataset", "neutral_training_masked"])
        assert [[group.key for group in violin] for violin in violins] == [
            ["he -> she", "she -> he"],
            ["neutral_dataset", "neutral_training_masked"],
        ]
        figure = distribution_figure(groups, violins=violins)
        ax = figure.axes[0]
        assert [text.get_text() for text in ax.get_xticklabels()] == [
            "he\n<-> she\nn = 30 | 20\nmean +0.99 | −0.99",
            "neutral (corpus)\n| neutral (training text)\nn = 40 | 10\nmean −0.04 | +0.52",
        ]
        for key, low, high in (("he -> she", -0.5, 0.0), ("she -> he", 0.0, 0.5)):
            x = next(part for part in ax.collections if part.get_label() == key).get_offsets()[:, 0]
            assert low <= x.min() < x.max() <= high
        assert len(paired(groups, None)) == 4
        assert [len(violin) for violin in paired(groups, ["she", "neutral_dataset"])] == [1, 2, 1]

    def test_merged_groups_are_one_with_all_their_values(self) -> None:
        groups = encoding_groups(encodings())
        members = {"pronoun": ["he -> she", "she"], "neutral": ["neutral_training_masked", "neutral_dataset"]}
        one, neutral = merged(groups, members)
        assert (one.key, neutral.key, one.neutral, neutral.neutral) == ("pronoun", "neutral", False, True)
        assert sorted(one.values) == sorted([*groups[0].values, *groups[1].values])
        assert legend_labels(distribution_figure([one, neutral])) == ["pronoun", "neutral", "median"]
        assert legend_labels(distribution_figure(merged(groups, {"H": ["he"]})))[0] == "H (+1)"
        assert merged(groups, {"H": ["it"]}, ignore_missing=True) == groups

    def test_default_files(self, tmp_path: Path) -> None:
        trainer, frame = Run(experiment_dir=tmp_path / "run", pair=None), encodings()
        assert plot_encoder_distributions(trainer, frame, show=False) == str(tmp_path / "run" / "encoder_analysis.png")
        in_dir = plot_encoder_distributions(trainer, frame, output_dir=tmp_path / "out", show=False)
        assert in_dir == str(tmp_path / "out" / "demo_encoder_distributions.png")
        unnamed = plot_encoder_distributions(Run(run_id=None), frame, output_dir=tmp_path / "out", show=False)
        assert unnamed == str(tmp_path / "out" / "encoder_distributions.png")
        assert {image_kind(in_dir), image_kind(unnamed)} == {PNG}
        replaced = plot_encoder_distributions(
            trainer, frame, output=tmp_path / "plot.jpg", img_format="pdf", show=False
        )
        assert replaced == str(tmp_path / "plot.pdf")
        assert image_kind(replaced) == PDF

    @pytest.mark.parametrize(
        ("frame", "options", "message"),
        [
            (None, {}, "empty or missing"),
            (encodings().iloc[:0], {}, "empty or missing"),
            (encodings().drop(columns="type"), {}, "has no column 'type'"),
            (encodings().assign(encoded=np.nan), {}, "100 of 100 encodings are not finite"),
            (encodings(others=True).query("source_id == 'it'"), {}, "Only identity rows"),
            (encodings(), {"violin_order": ["he -> sh"]}, "Did you mean 'he -> she'"),
            (encodings(), {"violin_order": ["him"]}, "violin_order names 'him'"),
            (encodings(), {"paired_legend_labels": ["he"]}, "left and right halves"),
            (encodings(), {"paired_legend_labels": ["he", "he -> she"]}, "'he -> she' twice"),
            (encodings(), {"paired_legend_labels": ["he", "sh"]}, "paired_legend_labels names 'sh'"),
            (encodings().assign(target_id=["a", "b"] * 50), {"paired_legend_labels": ["he", "she"]}, "several groups"),
            (encodings(), {"legend_group_mapping": {"G": ["it"]}}, "legend_group_mapping names 'it'"),
            (encodings(), {"legend_group_mapping": {"G": ["he"], "H": ["he -> she"]}}, "in 'G' and 'H'"),
            (encodings(), {"colors": ["red"]}, "1 colours for 4"),
            (encodings(), {"cmap": "nope"}, "not a colormap"),
            (encodings(), {"img_format": "docx"}, "not an image format"),
            (encodings(), {"output": None}, "output, output_dir"),
        ],
    )
    def test_bad_input(self, tmp_path: Path, frame: pd.DataFrame | None, options: dict, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            plot_encoder_distributions(Run(), frame, **{"output": tmp_path / "plot", "show": False, **options})
        assert not list(tmp_path.iterdir())

    def test_a_panel_for_each_split_has_its_rows_and_those_of_no_split(self) -> None:
        rows = encodings()
        rows["data_split"] = np.where(rows["type"] == "neutral_dataset", "", np.tile(["test", "train"], 50))
        rows.loc[rows["source_id"] == "she", "data_split"] = "train"
        figure, axes = plot_encoder_distributions(
            Run(), rows, show=False, return_fig_ax=True, split_plot_mode="facets", paired_legend_labels=["he", "she"]
        )
        assert [ax.get_title(loc="left") for ax in axes] == ["train", "test"]
        for ax in axes:
            own = rows[rows["data_split"].isin(["", ax.get_title(loc="left")])]
            drawn = {
                one.get_label(): np.sort(one.get_offsets()[:, 1]) for one in ax.collections if len(one.get_offsets())
            }
            groups = own.groupby(own["source_id"].fillna(own["type"]))["encoded"]
            names = {"he": "he -> she", "she": "she -> he"}
            assert {key: len(value) for key, value in drawn.items() if key[0] != "_"} == {
                names.get(str(name), name): len(values) for name, values in groups
            }
        assert "n = 15 | 0\nmean +0.99 | –" in axes[1].get_xticklabels()[0].get_text()
        assert figure.get_size_inches()[1] > 5

    def test_neutral_text_can_be_left_out(self) -> None:
        figure, _ = plot_encoder_distributions(
            Run(), encodings(), show=False, return_fig_ax=True, include_neutral=False
        )
        assert legend_labels(figure) == ["she (−1)", "he (+1)", "median"]

    @pytest.mark.parametrize(
        ("rows", "options", "message"),
        [
            (encodings(), {"split_plot_mode": "facets"}, "in a column 'data_split'"),
            (encodings(), {"split_plot_mode": "facet"}, "Did you mean 'facets'"),
            (encodings().tail(50), {"include_neutral": False}, "Only neutral text is left"),
        ],
    )
    def test_facets_without_splits_and_nothing_left(self, rows: pd.DataFrame, options: dict, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            plot_encoder_distributions(Run(), rows, show=False, return_fig_ax=True, **options)


class TestProbabilityShifts:
    def test_the_lines_are_the_grid(self) -> None:
        grid = make_grid()
        figure = shift_figure(shift_curves(grid, {}))
        lms, he, she = figure.axes
        steps = [-0.1, -0.01, -0.001, 0.0, 0.001, 0.01, 0.1]
        by_step = {0.0 if key == "base" else key[0] * key[1]: entry for key, entry in grid.items()}
        for ax, dataset in ((he, "he"), (she, "she")):
            for name in ("he", "she"):
                found = line(ax, f"P({name})")
                assert list(found.get_xdata()) == steps
                assert list(found.get_ydata()) == [by_step[s]["probs_by_dataset"][dataset][name] for s in steps]
        shares = [100 * by_step[s]["lms"]["lms"] / by_step[0.0]["lms"]["lms"] for s in steps]
        assert list(line(lms, "LMS").get_ydata()) == pytest.approx(shares)

    @pytest.mark.parametrize("scores", every(2, [[0.4, 0.41], [0.399, 0.2], [0.0, 0.0], [0.398, 0.397], [0.4, 0.6]]))
    def test_the_limit_is_seen_whatever_the_steps_cost(self, scores) -> None:
        grid = make_grid()
        for key, score in zip([key for key in grid if key != "base"][-2:], scores, strict=True):
            grid[key] = {**grid[key], "lms": {"lms": score}}
        lms = shift_figure(shift_curves(grid, {})).axes[0]
        low, high = lms.get_ylim()
        assert low < 99.0 < 100.0 < high
        assert low >= 94.0
        shares = [100 * entry["lms"]["lms"] / grid["base"]["lms"]["lms"] for entry in grid.values()]
        assert high > max(shares)
        marked = [found for found in lms.lines if found.get_marker() == "v"]
        assert sum(len(found.get_xdata()) for found in marked) == sum(share < low for share in shares)

    def test_without_the_base_model_the_lms_is_drawn_as_it_is(self) -> None:
        grid = make_grid()
        del grid["base"]
        lms = shift_figure(shift_curves(grid, {})).axes[0]
        assert lms.get_ylabel() == "LMS"
        assert max(line(lms, "LMS").get_ydata()) < 1

    @pytest.mark.parametrize("rates", [(0.001, 0.01, 0.1), (0.01, 0.02, 0.03, 0.05, 0.1, 0.2), (0.3,)])
    def test_every_measured_step_is_labelled(self, rates) -> None:
        entry = make_grid()[1.0, 0.1]
        grid = {"base": make_grid()["base"]}
        for factor in (1.0, -1.0):
            for rate in rates:
                grid[factor, rate] = {**entry, "id": {"feature_factor": factor, "learning_rate": rate}}
        *upper, lowest = shift_figure(shift_curves(grid, {})).axes
        steps = sorted([0.0, *(sign * rate for sign in (1, -1) for rate in rates)])
        for ax in (*upper, lowest):
            assert sorted(ax.get_xticks()) == pytest.approx(steps)
        shown = {text.get_text() for text in lowest.get_xticklabels()}
        assert shown == {f"{step:g}".replace("-", "−") if step else "base" for step in steps}

    def test_base_values_and_the_lms_limit_are_drawn(self) -> None:
        lms, he, _ = shift_figure(shift_curves(make_grid(), {})).axes

        def levels(ax) -> list[float]:
            return sorted(found.get_ydata()[0] for found in ax.lines if list(found.get_xdata()) == [0, 1])

        assert levels(lms) == pytest.approx([99.0, 100.0])
        assert levels(he) == pytest.approx([0.4, 0.7])

    def test_points_that_keep_the_lms_are_filled(self) -> None:
        lms = shift_figure(shift_curves(make_grid(), {})).axes[0]
        filled = next(found for found in lms.lines if found.get_linestyle() == "None")
        assert sorted(filled.get_xdata()) == [-0.001, 0.0, 0.001]

    def test_selected_candidates_are_marked_in_every_panel(self) -> None:
        dec = results(he=summary(-1.0, 0.01), she=summary(1.0, 0.02))
        figure = shift_figure(shift_curves(dec["grid"], dec))
        for ax in figure.axes:
            vertical = {found.get_xdata()[0] for found in ax.lines if list(found.get_ydata()) == [0, 1]}
            assert vertical == {-0.01, 0.02}
        assert legend_labels(figure)[-2:] == [
            "selected, he strengthened: factor −1, lr 0.01\n(value 0.500, LMS 0.390)",
            "selected, she strengthened: factor +1, lr 0.02\n(value 0.500, LMS 0.390)",
        ]

    def test_a_weakened_class_is_marked_with_its_probability(self) -> None:
        dec = results(he_weaken={**summary(1.0, 0.01), "value": 0.983})
        figure = shift_figure(shift_curves(dec["grid"], dec, strengthen=False))
        assert legend_labels(figure)[-1].startswith("selected, he weakened: factor +1, lr 0.01\n(value 0.017, ")

    def test_the_limit_is_that_of_the_choice(self) -> None:
        dec = results(he={**summary(-1.0, 0.01), "least_share": 0.9, "why": "…"})
        figure = shift_figure(shift_curves(dec["grid"], dec))
        (limit,) = [
            one for one in figure.axes[0].lines if str(one.get_label()).startswith("90% of the base model's LMS")
        ]
        assert set(limit.get_ydata()) == {90.0}
        assert figure.axes[0].get_ylim()[0] < 90

    @pytest.mark.parametrize("asked", [{"least_share": 0.0}, {}])
    def test_a_choice_without_a_limit_has_no_line(self, asked) -> None:
        dec = results(he={**summary(-1.0, 0.01), **asked, "why": "…"})
        curves = shift_curves(dec["grid"], dec)
        assert curves.limit is None
        figure = shift_figure(curves)
        assert not [one for one in figure.axes[0].lines if "% of the base model's" in str(one.get_label())]
        assert figure.axes[0].get_ylim()[0] > 90

    def test_target_class_and_direction_choose_the_mark(self) -> None:
        dec = results(he=summary(-1.0, 0.01), she=summary(1.0, 0.1), he_weaken=summary(1.0, 0.001))
        only = shift_curves(dec["grid"], dec, target_classes=["she"])
        assert [(chosen.name, chosen.step) for chosen in only.selected] == [("she", 0.1)]
        weaken = shift_curves(dec["grid"], dec, strengthen=False)
        assert [(chosen.name, chosen.step) for chosen in weaken.selected] == [("he", 0.001)]

    @pytest.mark.parametrize("rates", every(2, [[0.05], [0.001, 0.003, 0.3], [*np.logspace(-3, 0, 21)]]))
    def test_the_axis_ends_near_the_largest_step(self, rates: tuple) -> None:
        for ax in shift_figure(shift_curves(make_grid(rates=rates), {})).axes:
            low, high = ax.get_xlim()
            assert max(rates) < high < 2 * max(rates)
            assert low == -high
            assert 0.0 in ax.get_xticks()

    def test_one_direction_and_missing_datasets(self) -> None:
        grid = {key: value for key, value in make_grid().items() if key == "base" or key[0] < 0}
        del grid[-1.0, 0.01]["probs_by_dataset"]["he"]
        figure = shift_figure(shift_curves(grid, {}))
        assert list(line(figure.axes[1], "P(he)").get_xdata()) == [-0.1, -0.001, 0.0]
        assert figure.axes[0].get_xlim()[1] < 0.001

    def test_class_ids_and_trainer_restrict_panels_and_lines(self) -> None:
        classes = ("he", "she", "it", "they")
        curves = shift_curves(make_grid(classes), {}, class_ids=["it", "he"])
        assert (curves.datasets, curves.classes) == (("it", "he"), ("it", "he"))
        assert len(shift_figure(shift_curves(make_grid(classes), {})).axes) == 5

    def test_other_feature_factors_have_lines_of_their_own(self) -> None:
        grid = make_grid() | {(2.0, 0.01): grid_entry(2.0, 0.01, ("he", "she"))}
        ax = shift_figure(shift_curves(grid, {})).axes[0]
        drawn = [list(found.get_xdata()) for found in ax.lines if found.get_label() == "LMS"]
        assert drawn == [[-0.1, -0.01, -0.001, 0.0, 0.001, 0.01, 0.1], [0.0, 0.02]]

    @pytest.mark.parametrize(("name", "kind"), every(3, [("p.pdf", PDF), ("p.png", PNG), ("plain", PNG)]))
    def test_the_output_comes_back_unchanged(self, tmp_path: Path, name: str, kind: bytes) -> None:
        output = tmp_path / "new" / name
        assert plot_probability_shifts(Run(), results(), output=output, show=False) is output
        assert image_kind(output) == kind
        text = str(tmp_path / name)
        data = {"plotting_data": make_grid()}
        assert plot_probability_shifts(plotting_data=data, output=text, show=False) is text
        assert image_kind(text) == kind

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({}, "pass decoder_results"),
            ({"decoder_results": {"he": summary(1.0, 0.1)}}, "grid under 'grid'"),
            ({"plotting_data": make_grid()}, "grid under 'plotting_data'"),
            ({"decoder_results": results(), "class_ids": ["it"]}, "no class 'it'; it has he, she"),
            ({"decoder_results": {"grid": {"base": {"lms": {"lms": 0.4}}}}}, "no probabilities"),
            (
                {"decoder_results": results(she=summary(1, 0.1)), "target_class": "he"},
                r"no summary 'he'.*\['she'\]",
            ),
            ({"decoder_results": results(), "output": None}, "pass output"),
            ({"decoder_results": results(), "output": "plot.docx"}, "not an image format"),
        ],
    )
    def test_bad_input(self, tmp_path: Path, options: dict, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            plot_probability_shifts(**{"output": tmp_path / "plot.png", "show": False, **options})
        assert not list(tmp_path.iterdir())


class TestStyle:
    def test_strange_names_are_drawn_literally(self, tmp_path: Path) -> None:
        stats = {**STATS, "label_value_to_class_name": {1.0: STRANGE, -1.0: r"\frac{$"}}
        figure = convergence_figure(training_curves(stats))
        figure.canvas.draw()
        assert legend_labels(figure)[0].replace("\u200b", "").replace(r"\$", "$") == STRANGE
        frame = encodings().replace({"he": STRANGE, "she": "$\\undefined$"})
        plot_encoder_distributions(Run(run_id="$\\nope$"), frame, output=tmp_path / "a", show=False)
        data = {"plotting_data": make_grid((STRANGE, "$\\undefined$"))}
        plot_probability_shifts(plotting_data=data, output=tmp_path / "b.png", show=False)

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("short", "short"),
            ("masculine_nominative", "masculine_\nnominative"),
            ("two\n words ", "two words"),
            ("a" * 30, "aaaaaaaaaaaa\naaaaaaaaaaaa\naaaaaa"),
            ("$1", r"\$1"),
            ("_a", "\u200b_a"),
            ("", ""),
        ],
    )
    def test_wrapping(self, name: str, expected: str) -> None:
        assert shown(name, width=12) == expected

    @pytest.mark.parametrize("name", ["x" * 500, "many words " * 40, "under_score_" * 40])
    def test_long_names_fit_and_keep_both_ends(self, name: str) -> None:
        lines = shown(name, width=20, lines=2).split("\n")
        assert len(lines) <= 2
        assert all(len(text) <= 20 for text in lines)
        assert "…" in "".join(lines)
        assert lines[0][:5] == name[:5]
        assert lines[-1][-4:] == name.strip()[-4:]

    def test_numbers_have_a_true_minus_and_no_negative_zero(self) -> None:
        assert [signed(value, ".2f") for value in (0.5, -0.5, -0.001)] == ["+0.50", "−0.50", "0.00"]

    def test_colours(self) -> None:
        assert distinct_colors(3) == list(OKABE_ITO[:3])
        assert distinct_colors(16) == list(DISTINCT)
        assert len(set(distinct_colors(20))) == 20
        assert len(set(distinct_colors(40, "viridis"))) == 40
        assert distinct_colors(2, "tab10") == ["#1f77b4", "#ff7f0e"]
        assert distinct_colors(0) == []

    @pytest.mark.parametrize("vision", COLOUR_VISIONS)
    def test_colours_are_told_apart_with_every_colour_vision(self, vision: str) -> None:
        seen = [lab(COLOUR_VISIONS[vision] @ linear(color)) for color in DISTINCT]
        apart = min(float(np.linalg.norm(one - other)) for one, other in combinations(seen, 2))
        assert apart > 16

    def test_numbers_are_written_in_the_colour_that_is_read_more_easily(self) -> None:
        assert [text_color(color) for color in ((1, 1, 0), (0.2, 0.1, 0.4), (0, 0, 0), (1, 1, 1))] == [
            "black",
            "white",
            "white",
            "black",
        ]


class TestScreen:
    def test_show_hands_the_finished_figure_to_pyplot(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import matplotlib.pyplot as plt  # noqa: PLC0415 - only this test needs it

        plt.switch_backend("Agg")
        seen = []
        monkeypatch.setattr(plt, "show", lambda: seen.append([plt.figure(i) for i in plt.get_fignums()]))
        path = plot_training_convergence(training_stats=RUN, output=tmp_path / "a", title="Mine", show=True)
        assert Path(path).is_file()
        assert plot_training_convergence(training_stats=RUN) == ""
        assert plot_probability_shifts(decoder_results=results()) is None
        assert [len(figures) for figures in seen] == [1, 1, 1]
        assert seen[0][0].get_suptitle() == "Mine"
        assert plt.get_fignums() == []

    def test_saving_neither_imports_pyplot_nor_does_the_package_import_matplotlib(self, tmp_path: Path) -> None:
        code = (
            "import sys\n"
            "from gradiend.visualizer import plot_training_convergence\n"
            "assert 'matplotlib' not in sys.modules\n"
            "stats = {'scores': {0: 0.1, 1: 0.9}}\n"
            f"plot_training_convergence(training_stats=stats, output={str(tmp_path / 'a')!r}, show=False)\n"
            "assert 'matplotlib.pyplot' not in sys.modules\n"
        )
        subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)

    def test_figures_come_back_when_asked_for(self, tmp_path: Path) -> None:
        figure, axes = plot_training_convergence(training_stats=RUN, show=False, return_fig_ax=True)
        assert figure.axes == axes
        figure, ax = plot_encoder_distributions(Run(), encodings(), show=False, return_fig_ax=True)
        assert figure.axes == [ax]
        figure, axes = plot_probability_shifts(
            decoder_results=results(), output=tmp_path / "p.png", show=False, return_fig_ax=True
        )
        assert (figure.axes, len(axes)) == (axes, 3)
        assert (tmp_path / "p.png").is_file()

    def test_an_unknown_keyword_is_refused_and_a_second_spelling_taken(self) -> None:
        with pytest.raises(TypeError, match="Did you mean 'violin_order'"):
            plot_encoder_distributions(Run(), encodings(), show=False, violin_orders=[])
        figure, _ = plot_encoder_distributions(
            Run(), encodings(), show=False, return_fig_ax=True, class_label_mapping={"he": "male"}
        )
        assert "male (+1)" in legend_labels(figure)

    def test_without_matplotlib_the_error_says_what_to_install(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        with pytest.raises(ImportError, match=r"needs matplotlib: pip install matplotlib \("):
            plot_training_convergence(training_stats=RUN, output=tmp_path / "a", show=False)
