"""What works without the optional packages: results come first, plots are left out with the way to get them."""

import re
import sys

import pytest
import tiny_data

from gradiend.cli._commands import app
from gradiend.evaluator import LMSThresholdPolicy
from gradiend.experiment import read_record
from gradiend.visualizer import plot_topk_overlap_heatmap, plot_topk_overlap_venn

HINT = 'pip install matplotlib (or, in a clone of this project, pip install ".[plot]")'


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tiny_data.save_bert(tmp_path_factory.mktemp("base"))
    return tiny_data.trainer(path, {"experiment_dir": str(tmp_path_factory.mktemp("run"))}).train()


@pytest.fixture
def without_matplotlib(monkeypatch):
    for name in ("matplotlib", "matplotlib_venn", "venn", "plotly"):
        monkeypatch.setitem(sys.modules, name, None)


def test_evaluations_with_a_plot_give_their_results(trained, without_matplotlib, caplog):
    lenient = {"lrs": [0.1], "selector": LMSThresholdPolicy(ratio=0.0)}
    encoder = trained.evaluate_encoder(plot=True)
    decoder = trained.evaluate_decoder(plot=True, **lenient)
    effects = trained.evaluate_side_effects(decoder, "SG", plot=True)
    assert "plot_path" not in encoder
    assert decoder.keys() == {"SG", "PL", "grid"}
    assert set(effects["kind"]) == {"divergence", "gained", "lost", "class"}
    said = [record.message for record in caplog.records if "left out" in record.message]
    assert said == ["The plot is left out. A plot needs matplotlib: " + HINT] * 3
    # Before the work, while there is time to stop it.
    assert caplog.records[0].message == said[0]


def test_training_needs_no_plots(trained, without_matplotlib, tmp_path):
    arguments = {"experiment_dir": str(tmp_path)}
    assert tiny_data.trainer(trained.base_model_path, arguments).train().get_training_stats()["losses"]


class Never:
    """Whatever is asked of it comes too early."""

    def get_topk_weights(self, **kwargs):
        raise AssertionError("computed before the package was looked for")


def test_plots_that_are_asked_for_are_errors_at_once(trained, without_matplotlib, monkeypatch):
    models = {"a": Never(), "b": Never()}
    monkeypatch.setattr(trained, "_analyze_encoder", lambda *args, **kwargs: Never().get_topk_weights())
    for plot in (
        trained.plot_encoder_distributions,
        lambda: trained.plot_probability_shifts(decoder_results={"grid": {}}),
        trained.plot_training_convergence,
        lambda: plot_topk_overlap_venn(models),
        lambda: plot_topk_overlap_heatmap(models),
    ):
        with pytest.raises(ImportError, match=re.escape(f"A plot needs matplotlib: {HINT}")):
            plot()


@pytest.mark.slow
def test_the_demo_runs_without_figures(without_matplotlib, tmp_path, capsys):
    app.main(["demo", "--output", str(tmp_path), "-q"], standalone_mode=False)
    assert "The encoder tells the classes apart" in capsys.readouterr().out
    assert read_record(tmp_path)["metrics"]["goals"].keys() == {"3SG", "3PL", "balance"}
    assert not list(tmp_path.glob("*.png"))
