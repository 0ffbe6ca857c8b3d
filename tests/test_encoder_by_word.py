"""The plots of encodings by word and by split: order, colours, points, names of outliers, pages, bad input."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_data

from gradiend.util._keywords import split_order
from gradiend.visualizer import plot_encoder_by_target, plot_encoder_strip_by_split
from gradiend.visualizer._style import OKABE_ITO
from gradiend.visualizer.encoder_by_word import outliers, word_places, word_rows

pytest.importorskip("matplotlib")

WORDS = {"train": ("king", "boy"), "validation": ("uncle",), "test": ("actor", "duke")}
PARTNERS = {"king": "queen", "boy": "girl", "uncle": "aunt", "actor": "actress", "duke": "duchess"}


def frame(splits: bool = True) -> pd.DataFrame:
    """Three rows for each word, one with a capital; the first class is M."""
    found = []
    for name, own in WORDS.items():
        for word in own:
            for number in range(3):
                for kind, label, text in (("F", -1.0, PARTNERS[word]), ("M", 1.0, word)):
                    spelled = text.title() if number == 0 else text
                    found.append((label * (0.5 + 0.1 * number), label, kind, spelled, "training", "a text", name))
    found.append((0.0, 0.0, "neutral_dataset", "cat", "neutral_dataset", "a text", "test"))
    columns = ["encoded", "label", "source_id", "factual", "type", "input_text", "data_split"]
    rows = pd.DataFrame(found, columns=columns)
    return rows if splits else rows.drop(columns="data_split")


@dataclass
class Run:
    """A trainer that says which splits it has encoded."""

    experiment_dir: Path | None = None
    run_id: str | None = "demo"
    encoded: list = field(default_factory=list)

    def evaluate_encoder(self, *, split, return_df: bool) -> dict:
        assert return_df
        self.encoded.append(split)
        rows = frame()
        return {"encoder_df": rows if split == "all" else rows[rows["data_split"] == split]}


def words(data=None, **options):
    return plot_encoder_by_target(
        None, frame() if data is None else data, **{"show": False, "return_fig_ax": True, **options}
    )


def strips(data=None, **options):
    options = {"show": False, "return_fig_ax": True, **options}
    return plot_encoder_strip_by_split(None, frame() if data is None else data, **options)


def ticks(ax) -> list[str]:
    return [label.get_text() for label in ax.get_xticklabels()]


def points(ax) -> list[tuple[str, np.ndarray]]:
    """The colour and the points of each collection of points."""
    from matplotlib.colors import to_hex  # noqa: PLC0415 - optional

    return [(to_hex(one.get_facecolor()[0]).upper(), np.asarray(one.get_offsets())) for one in ax.collections]


class TestWords:
    """plot_encoder_by_target."""

    def test_words_stand_in_their_class_those_of_the_training_first(self):
        _, ax = words()
        assert ticks(ax) == [
            "boy", "king", "uncle", "actor", "duke", "girl", "queen", "aunt", "actress", "duchess",
        ]  # fmt: skip
        assert [text.get_text() for text in ax.texts] == ["M", "F"]
        assert [text.get_text() for text in ax.figure.legends[0].get_texts()] == ["train", "validation", "test"]

    def test_frames_with_equal_row_numbers_may_be_put_together(self):
        both = pd.concat([frame(), frame()])
        pd.testing.assert_frame_equal(word_rows(both, "factual"), word_rows(both.reset_index(drop=True), "factual"))

    def test_every_row_is_a_point_in_the_colour_of_its_split(self):
        _, ax = words()
        places = word_places(word_rows(frame(), "factual"))
        colors = dict(zip(("train", "validation", "test"), OKABE_ITO, strict=False))
        drawn = points(ax)
        assert len(drawn) == len(places)
        for (kind, word), (color, own) in zip(places, drawn, strict=True):
            rows = frame()
            mine = rows[(rows["source_id"] == kind) & (rows["factual"].str.lower() == word)]
            assert sorted(own[:, 1]) == pytest.approx(sorted(mine["encoded"]))
            assert np.abs(own[:, 0] - places[kind, word]).max() < 0.5
            assert color == colors[mine["data_split"].iloc[0]].upper()

    def test_a_word_of_several_splits_has_a_strip_for_each(self):
        rows = frame()
        rows = pd.concat([rows, rows[rows["factual"].str.lower() == "king"].assign(data_split="test")])
        _, ax = words(rows)
        assert len(points(ax)) == 11
        assert ticks(ax)[:2] == ["boy", "king"]

    def test_without_splits_there_is_one_colour_and_no_legend(self):
        figure, ax = words(frame(splits=False))
        assert {color for color, _ in points(ax)} == {OKABE_ITO[0].upper()}
        assert not figure.legends
        assert ticks(ax)[:5] == ["actor", "boy", "duke", "king", "uncle"]

    @pytest.mark.parametrize("style", ["box", "violin"])
    def test_boxes_and_violins_of_the_same_words(self, style):
        _, ax = words(plot_style=style)
        assert len(ticks(ax)) == 10
        assert len(ax.patches if style == "box" else ax.collections) == 10

    @pytest.mark.parametrize("style", ["strip", "box", "violin"])
    def test_single_and_equal_values_are_drawn(self, style):
        rows = frame().drop_duplicates(["source_id", "data_split"]).assign(encoded=0.5)
        _, ax = words(pd.concat([rows, rows.head(1)]), plot_style=style)
        assert ticks(ax)

    def test_the_most_frequent_words_are_drawn(self, caplog):
        rows = frame()
        rows = pd.concat([rows, rows[rows["factual"].isin(["duke", "aunt"])]])
        with caplog.at_level("INFO"):
            _, ax = words(rows, max_words=1)
        assert ticks(ax) == ["duke", "aunt"]
        assert "2 of 10 words are drawn" in caplog.text

    def test_a_trainer_encodes_its_splits_and_gives_the_place(self, tmp_path):
        run = Run(tmp_path)
        path = plot_encoder_by_target(run, show=False)
        assert run.encoded == ["all"]
        assert path == str(tmp_path / "encoder_by_target.png")
        _, ax = plot_encoder_by_target(Run(), split="validation", show=False, return_fig_ax=True)
        assert ticks(ax) == ["uncle", "aunt"]
        assert plot_encoder_by_target(run, frame(), img_format="svg", show=False).endswith("encoder_by_target.svg")

    def test_names_of_the_corpus_are_never_parsed(self, tmp_path):
        rows = frame().replace({"factual": {"boy": "$\\nope$"}, "source_id": {"M": "_$x$"}})
        assert plot_encoder_by_target(None, rows, output=tmp_path / "a", show=False)

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"plot_style": "bars"}, ValueError, "strip, box, violin"),
            ({"max_words": 0}, ValueError, "max_words"),
            ({"target_col": "word"}, ValueError, "no column 'word'"),
            ({"data": frame().head(0)}, ValueError, "empty or missing"),
            ({"data": frame().tail(1)}, ValueError, "no row with a class and a word"),
            ({"data": frame().assign(encoded=np.nan)}, ValueError, "not finite"),
            ({"return_fig_ax": False}, ValueError, "would draw for nobody"),
        ],
    )
    def test_bad_input(self, options, error, message):
        with pytest.raises(error, match=message):
            words(**options)

    def test_nothing_to_plot(self):
        with pytest.raises(ValueError, match="pass encoder_df or a trainer"):
            plot_encoder_by_target(output="a.png", show=False)


class TestPage:
    """plot_encoder_by_target(interactive=True)."""

    def test_a_page_shows_the_texts_and_escapes_them(self, tmp_path):
        pytest.importorskip("plotly")
        rows = frame().assign(input_text="<img src=x onerror=alert(1)>")
        run = Run(tmp_path)
        figure = plot_encoder_by_target(run, rows, interactive=True, show=False)
        assert [trace.name for trace in figure.data] == ["train", "validation", "test"]
        assert sum(len(trace.y) for trace in figure.data) == len(rows) - 1
        assert figure.layout.xaxis.ticktext[:2] == ("boy", "king")
        page = (tmp_path / "encoder_by_target.html").read_text(encoding="utf-8")
        assert "<img src=x" not in page
        assert "word: king" in figure.data[0].customdata[-1] or "word: king" in "".join(figure.data[0].customdata)

    def test_a_word_of_two_classes_has_two_places(self):
        pytest.importorskip("plotly")
        rows = pd.concat([frame(), frame().head(1).assign(factual="boy")])
        figure = plot_encoder_by_target(None, rows, interactive=True, show=False)
        assert {"boy (M)", "boy (F)"} <= set(figure.layout.xaxis.ticktext)

    def test_the_file_is_a_page(self):
        pytest.importorskip("plotly")
        with pytest.raises(ValueError, match=r"output must end with \.html, because interactive=True"):
            plot_encoder_by_target(None, frame(), interactive=True, output="a.png", show=False)

    def test_without_plotly_there_is_a_warning(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "plotly", None)
        monkeypatch.setattr("gradiend.visualizer._encoder_scatter.find_spec", lambda name: None)
        with pytest.warns(UserWarning, match="needs plotly: pip install plotly"):
            assert plot_encoder_by_target(None, frame(), interactive=True) is None


class TestStrips:
    """plot_encoder_strip_by_split."""

    def test_a_point_is_the_mean_of_a_word(self):
        _, ax = strips()
        assert ticks(ax) == ["M", "F"]
        assert [sorted(own[:, 1]) for _, own in points(ax)] == [
            pytest.approx([label * 0.6] * n) for label in (1, -1) for n in (2, 1, 2)
        ]
        # the splits of a class stand side by side
        middles = [own[:, 0].mean() for _, own in points(ax)]
        assert middles == sorted(middles)

    def test_or_a_row(self):
        _, ax = strips(aggregate_targets=False)
        assert [len(own) for _, own in points(ax)] == [6, 3, 6, 6, 3, 6]

    @pytest.mark.parametrize(("rule", "named"), [("iqr", ["w9"]), ("zscore", ["w9"]), (None, [])])
    def test_words_that_lie_apart_are_named(self, rule, named):
        rows = pd.DataFrame(
            [(0.8 + 0.01 * n if n < 9 else -0.9, 1.0, "M", f"w{n}", "test") for n in range(10)],
            columns=["encoded", "label", "source_id", "factual", "data_split"],
        )
        _, ax = strips(rows, label_outliers=rule, outlier_k=None if rule == "iqr" else 2.0)
        assert [text.get_text() for text in ax.texts] == named

    @pytest.mark.parametrize(
        ("options", "named"),
        [
            ({"label_samples": 1}, ["w2"]), ({"label_samples": 2}, ["w1", "w3"]),
            ({"label_samples": 9}, ["w0", "w1", "w2", "w3", "w4"]), ({"label_words": [" W4", "w7"]}, ["w4"]),
            ({"label_words": ["w1"], "label_samples": 2}, ["w1", "w3"]),
        ],
    )  # fmt: skip
    def test_samples_and_chosen_words_are_named_once(self, options, named):
        rows = pd.DataFrame(
            [(0.1 * n, 1.0, "M", f"w{n}", "test") for n in range(5)],
            columns=["encoded", "label", "source_id", "factual", "data_split"],
        )
        _, ax = strips(rows, **options)
        assert [text.get_text() for text in ax.texts] == named

    def test_a_trainer_gives_the_place(self, tmp_path):
        assert plot_encoder_strip_by_split(Run(tmp_path), show=False) == str(tmp_path / "encoder_strip_by_split.png")

    @pytest.mark.parametrize(
        ("options", "message"),
        [({"label_outliers": "mad"}, "iqr, zscore"), ({"outlier_k": 0.0}, "must be positive")],
    )
    def test_bad_input(self, options, message):
        with pytest.raises(ValueError, match=message):
            strips(**options)


def test_outliers_are_those_of_the_formulas():
    rng = np.random.default_rng(0)
    values = rng.standard_t(2, 60)
    low, high = np.quantile(values, [0.25, 0.75])
    by_quartiles = (values < low - 1.5 * (high - low)) | (values > high + 1.5 * (high - low))
    assert set(outliers(values, "iqr", 1.5)) == set(np.flatnonzero(by_quartiles))
    by_deviation = np.abs(values - values.mean()) > 2 * values.std()
    found = outliers(values, "zscore", 2.0)
    assert set(found) == set(np.flatnonzero(by_deviation))
    assert found[0] == np.abs(values - values.mean()).argmax()
    assert outliers(np.ones(9), "iqr", 1.5) == outliers(np.ones(9), "zscore", 3.0) == []


def test_other_splits_come_last_by_their_names():
    rows = frame().assign(data_split=lambda own: own["data_split"].replace({"train": "zoo", "validation": "ape"}))
    assert split_order(word_rows(rows, "factual")["split"]) == ["test", "ape", "zoo"]


def test_a_trained_trainer_draws_its_words(tmp_path):
    model = tiny_data.save_bert(tmp_path / "bert")
    forms = {"SG": ("he", "she", "cat", "dog"), "PL": ("they", "nurse", "baker", "sailor")}
    trainer = tiny_data.trainer(
        model, {"experiment_dir": str(tmp_path / "run")}, tiny_data.rows(forms), split_col="heldout", run_id="held"
    )
    trainer.train()
    figure, ax = trainer.plot_encoder_by_target(show=False, return_fig_ax=True)
    assert sorted(ticks(ax)) == sorted(word for own in forms.values() for word in own)
    assert len(figure.legends[0].get_texts()) == 3
    path = trainer.plot_encoder_strip_by_split(show=False)
    assert Path(path).is_file()
    assert Path(path).parent == Path(trainer.experiment_dir)
