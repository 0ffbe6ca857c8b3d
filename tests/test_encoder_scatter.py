"""The interactive scatter shows every example, escapes what is foreign, and works without a network."""

from __future__ import annotations

import html
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gradiend.evaluator import Evaluator
from gradiend.visualizer import Visualizer, plot_encoder_scatter

pytest.importorskip("plotly")

EVIL = "</script><script>alert(1)</script> <img src=x onerror=alert(2)> %{y}"


@dataclass
class Run:
    experiment_dir: Path | None = None
    run_id: str | None = "demo"
    frame: pd.DataFrame | None = None

    def evaluate_encoder(self, *, split: str, return_df: bool) -> dict:
        assert return_df
        assert self.frame is not None
        return {"encoder_df": self.frame[self.frame["split"] == split]}


def frame(text: str = "a text", rows: int = 4) -> pd.DataFrame:
    he = pd.DataFrame({"encoded": np.linspace(0.5, 1.0, rows), "label": 1.0, "source_id": "he", "target_id": "she"})
    she = pd.DataFrame({"encoded": -he["encoded"], "label": -1.0, "source_id": "she", "target_id": "he"})
    both = pd.concat([he, she], ignore_index=True).assign(type="training")
    neutral = pd.DataFrame({"encoded": [0.1, -0.1], "label": 0.0, "type": "neutral_dataset"})
    return pd.concat([both, neutral], ignore_index=True).assign(input_text=text, split="test")


def scatter(data: pd.DataFrame | None = None, **options):
    return plot_encoder_scatter(None, frame() if data is None else data, **{"show": False, **options})


def names(figure) -> list[str]:
    return [trace.name for trace in figure.data]


def points(figure) -> dict[str, list[float]]:
    return {trace.name: list(trace.y) for trace in figure.data}


def test_every_example_is_a_point_of_its_colour() -> None:
    data = frame()
    assert points(scatter(data)) == {
        name: data.loc[data["label"] == label, "encoded"].tolist()
        for name, label in (("1", 1.0), ("0", 0.0), ("−1", -1.0))
    }
    assert names(scatter(color_by="type")) == ["training", "neutral_dataset"]
    assert names(scatter(label_name_mapping={1: "he", "-1.0": "she"})) == ["he", "0", "she"]


def test_figure_and_no_axes_on_request() -> None:
    figure, axes = scatter(return_fig_ax=True)
    assert axes is None
    assert names(figure) == names(scatter())


def test_groups_stand_side_by_side_within_their_jitter() -> None:
    for jitter in (0.0, 0.15, 0.4):
        figure = scatter(jitter_scale=jitter)
        assert figure.layout.xaxis.ticktext == ("he → she", "she → he", "neutral_dataset")
        x = np.concatenate([trace.x for trace in figure.data])
        assert np.abs(x - x.round()).max() <= jitter
    assert scatter(x_col="type").layout.xaxis.ticktext == ("training", "neutral_dataset")
    bare = frame()[["encoded", "label"]]
    assert scatter(bare).layout.xaxis.ticktext == ("label 1", "label −1", "label 0")


def test_the_hover_reads_chosen_columns() -> None:
    default = scatter().data[0].customdata[0]
    assert default.startswith("<b>encoding +0.500</b>, label 1<br>factual class: he<br>alternative class: she")
    assert "input_text: a text" in default
    assert scatter(hover_cols=["split"]).data[0].customdata[0].endswith("label 1<br>split: test")
    assert "text" not in scatter(hover_cols=[]).data[0].customdata[0]


def test_long_texts_are_cut_and_wrapped() -> None:
    text = scatter(frame("word " * 100), hover_text_max_chars=201).data[0].customdata[0]
    shown = text.split("input_text: ")[1]
    assert len(shown.replace("<br>", " ")) == 201
    assert shown.endswith("…")
    assert max(len(line) for line in shown.split("<br>")) <= 90
    assert len(scatter(frame("x" * 60)).data[0].customdata[0].split("input_text: ")[1]) == 50


def test_points_are_thinned_evenly_and_by_shares() -> None:
    data = frame(rows=500)
    assert sum(len(y) for y in points(scatter(data, max_points=100)).values()) == 100
    counts = {name: len(y) for name, y in points(scatter(data, max_points=101, stratify_by="label")).items()}
    assert counts == {"1": 50, "0": 1, "−1": 50}
    y = points(scatter(data, max_points=101, stratify_by="label"))["1"]
    assert (min(y), max(y)) == (0.5, 1.0)
    assert scatter(max_points=1000).to_dict() == scatter().to_dict()
    assert scatter(data, max_points=100).to_dict() == scatter(data, max_points=100).to_dict()
    assert sum(len(y) for y in points(scatter(data, max_points=2, stratify_by="label")).values()) == 2


def test_fifty_thousand_points_are_drawn_by_webgl() -> None:
    assert scatter(frame(rows=25_000)).data[0].type == "scattergl"
    assert scatter().data[0].type == "scatter"


def test_looks() -> None:
    figure = scatter(height=321, title="Mine", cmap="tab10")
    assert (figure.layout.height, figure.layout.title.text) == (321, "Mine")
    assert figure.data[0].marker.color == "#1f77b4"
    assert scatter().data[0].marker.color == "#0072B2"
    assert len({(trace.marker.color, trace.marker.symbol) for trace in scatter().data}) == 3
    assert scatter(title=False).layout.title.text is None
    assert plot_encoder_scatter(Run(), frame(), show=False).layout.title.text == "Encodings of demo"
    assert max(abs(limit) for limit in scatter(frame().assign(encoded=7.0)).layout.yaxis.range) > 7


def test_a_colour_column_of_many_values_keeps_a_readable_legend() -> None:
    data = pd.DataFrame({"encoded": 0.0, "label": 1.0, "word": [str(number) for number in range(60)] + ["0"]})
    assert len(names(scatter(data, color_by="word"))) == 41
    assert "other (20 values)" in names(scatter(data, color_by="word"))


def test_foreign_text_is_escaped_wherever_it_is_shown(tmp_path: Path) -> None:
    data = frame(EVIL).replace({"he": "<b>he</b>"}).rename(columns={"split": "<i>split</i>"})
    figure = scatter(
        data,
        color_by="source_id",
        title=EVIL,
        hover_cols=["<i>split</i>", "input_text"],
        hover_text_max_chars=500,
        output_path=tmp_path / "page",
    )
    hover = figure.data[0].customdata[0]
    assert html.escape(EVIL, quote=False) in hover.replace("<br>", " ").replace("  ", " ")
    assert not re.search(r"<(?!/?b>encoding|/?b>|br>)", hover)
    assert figure.data[0].name == "&lt;b&gt;he&lt;/b&gt;"
    assert figure.layout.xaxis.ticktext[0].startswith("&lt;b&gt;he")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "<img src=x" not in page


def test_the_page_is_whole_without_a_network(tmp_path: Path) -> None:
    scatter(output_path=tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert len(page) > 1_000_000
    assert not re.search(r"<(script|link)[^>]*(src|href)=", page)
    assert "sendChartToCloud" in page.split('"modeBarButtonsToRemove"')[1][:80]


def test_default_files(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", frame=frame())
    plot_encoder_scatter(run, show=False)
    assert plot_encoder_scatter(run, frame(), output_dir=tmp_path / "dir", show=False) is not None
    scatter(experiment_dir=tmp_path / "other")
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert found == [
        "dir/encoder_scatter.html",
        "other/encoder_analysis_scatter.html",
        "run/encoder_analysis_scatter.html",
    ]


def test_a_trainer_encodes_the_asked_split_and_the_delegates_reach_it() -> None:
    run = Run(frame=pd.concat([frame(), frame().assign(split="train", encoded=0.25)]))
    for plots in (Visualizer(run), Evaluator(run, visualizer_class=Visualizer)):
        assert set(points(plots.plot_encoder_scatter(split="train", show=False))["1"]) == {0.25}
    with pytest.raises(NotImplementedError):
        Evaluator(run).plot_encoder_scatter(show=False)
    assert points(plot_encoder_scatter(None, {"encoder_df": frame()}, show=False)) == points(scatter())


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (None, {"encoder_df": None}, "pass encoder_df or a trainer"),
        (frame().iloc[:0], {}, "empty or missing"),
        (frame().drop(columns="label"), {}, "no column 'label'"),
        (frame().assign(encoded=np.inf), {}, "10 of 10 encodings are not finite"),
        (frame(), {"color_by": "labl"}, "Did you mean 'label'"),
        (frame(), {"hover_cols": ["text"]}, "no column 'text'"),
        (frame(), {"stratify_by": "kind"}, "no column 'kind'"),
        (frame(), {"x_col": "kind"}, "no column 'kind'"),
        (frame(), {"max_points": 0}, "max_points must be at least 1"),
        (frame(), {"hover_text_max_chars": 0}, "at least 1"),
        (frame(), {"cmap": "nope"}, "not a colormap"),
        (frame(), {"output_path": "plot.png"}, "must end with .html"),
    ],
)
def test_bad_input(data: pd.DataFrame | None, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot_encoder_scatter(**{"encoder_df": data, "show": False, **options})


def test_without_plotly_there_is_a_warning_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.warns(UserWarning, match=r"needs plotly: pip install plotly \(") as caught:
        assert scatter(output_path=tmp_path / "page.html") is None
    assert caught[0].filename == __file__
    assert not list(tmp_path.iterdir())
