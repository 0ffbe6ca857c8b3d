"""Decoder evaluations that find no rewrite, or one at the edge of the grid, and all that reads their results."""

import json

import pytest
import tiny_data
import torch
from everyday import every

from gradiend import TextPredictionConfig
from gradiend.evaluator import LMSThresholdPolicy, read_decoder_stats_file
from gradiend.experiment import Experiment, ExperimentRun
from gradiend.experiment.run import goal_metrics
from gradiend.trainer.text import TextPredictionModelWithGradiend
from gradiend.util.paths import resolve_decoder_stats_path

LENIENT = LMSThresholdPolicy(ratio=0.0)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tiny_data.save_bert(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def trained(path, tmp_path_factory):
    return tiny_data.trainer(path, {"experiment_dir": str(tmp_path_factory.mktemp("run"))}).train()


@pytest.fixture(scope="module")
def chosen(trained):
    """Results that have a rewrite for both classes."""
    return trained.evaluate_decoder(lrs=[0.1], selector=LENIENT, plot=True, show=False)


@pytest.fixture(scope="module")
def plotted(trained):
    return {"plotting_data": trained.analyze_decoder_for_plotting(lrs=[0.1]), "show": False}


ASKED = {
    "only 0": ({"lrs": [0.0]}, "leaves the model as it is"),
    "the default grid without an acceptable step": ({"selector": LMSThresholdPolicy(ratio=1.5)}, "None of the steps"),
    "an extractor of one's own": ({"lrs": [0.0], "summary_extractor": lambda grid: grid}, "leaves the model as it is"),
    "with a plot": ({"lrs": [0.0], "plot": True, "show": False}, "leaves the model as it is"),
    "a part whose factor is 0": ({"lrs": [1.0], "feature_factors": [0.0], "part": "decoder-weight"}, "as it is"),
}


@pytest.mark.parametrize("strengthen", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("asked", "reason"), every(2, ASKED.values()), ids=ASKED)
def test_nothing_chosen_is_said_everywhere(trained, plotted, asked, reason, strengthen, caplog):
    results = trained.evaluate_decoder(**asked, increase_target_probabilities=strengthen)
    for name in ("SG", "PL"):
        key = name if strengthen else f"{name}_weaken"
        assert results[key]["learning_rate"] is None
        assert reason in results[key]["reason"]
        assert f"There is no rewrite for {key}." in caplog.text
        for given in (results, None):
            for call in (trained.rewrite_base_model, trained.export_delta):
                with pytest.raises(ValueError, match=rf"no rewrite for '{key}'.*{reason}"):
                    call(given, name, increase_target_probabilities=strengthen)
        stats = read_decoder_stats_file(resolve_decoder_stats_path(trained.experiment_dir, metric_name=name))
        assert stats[key] == results[key]
    for marked in (None, "SG", ["SG", "PL"]):
        assert trained.plot_probability_shifts(
            decoder_results=results, target_class=marked, increase_target_probabilities=strengthen, **plotted
        )


def test_a_choice_at_the_edge_of_the_grid_is_said(trained, caplog):
    chosen = trained.evaluate_decoder(lrs=[0.1, 0.5, 0.0], selector=LENIENT)["SG"]
    edge, further = {
        0.5: ("0.5 is the largest step given", "lrs=[1.0, 2.5, 5.0] would show"),
        0.1: ("0.1 is the smallest step given", "lrs=[0.05, 0.17, 0.29] would show"),
    }[chosen["learning_rate"]]
    assert chosen["note"] == edge
    assert f"The rewrite for SG is at the edge of the grid: {edge}. {further}" in caplog.text
    rates = [chosen["learning_rate"] / 2, chosen["learning_rate"], chosen["learning_rate"] * 2]

    def best_in_the_middle(grid):
        return {k: {**entry, "middle": -abs(k[1] - rates[1])} if k != "base" else entry for k, entry in grid.items()}

    asked = {"lrs": rates, "selector": LENIENT, "summary_extractor": best_in_the_middle, "summary_metrics": "middle"}
    assert "note" not in trained.evaluate_decoder(**asked)["middle"]


def test_a_best_step_that_is_no_gain_is_said(trained, caplog):
    """Of two steps that are opposite, at most one raises P; the other one is chosen if it is the only one."""
    found = {}
    for step in (0.5, -0.5):
        caplog.clear()
        one = trained.evaluate_decoder(lrs=[step], selector=LENIENT, target_class="SG")["SG"]
        found[step] = one["value"] > one["base_value"]
        said = f"the best step has the value {one['value']:.4g}, and the base model {one['base_value']:.4g}"
        assert (f"The rewrite for SG does not do what it is for: {said}." in caplog.text) is not found[step]
    assert not all(found.values())


@pytest.mark.parametrize(("named", "other"), [("strengthen", "weaken"), ("weaken", "strengthen")])
def test_a_negative_step_does_not_turn_a_named_direction_round(trained, tmp_path, named, other):
    model = trained.get_model()
    for call in (model.rewrite_base_model, lambda *args, **named: model.export_delta(tmp_path / "d", *args, **named)):
        with pytest.raises(ValueError, match=rf"turn {named}='SG' round: .* or {other}='SG'"):
            call(-0.5, **{named: "SG"})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("factor", ["1", {"SG": 1.0}, ["SG"]])
def test_a_factor_that_is_no_number_leads_to_the_class(trained, factor):
    with pytest.raises(TypeError, match=r"feature_factor must be a number.*strengthen='<class>'"):
        trained.get_model().rewrite_base_model(0.5, factor)


def test_a_step_that_rounding_undoes_is_not_chosen(path):
    # Not the biases: they are 0, and any step changes a 0.
    model = TextPredictionModelWithGradiend.from_pretrained(path, params=["*layer.1*weight"])
    model.base_model.to(torch.bfloat16)
    trainer = tiny_data.trainer(model, {"base_model_dtype": "bfloat16"}).train()
    results = trainer.evaluate_decoder(lrs=[1e-12, 0.0], selector=LENIENT)
    assert results["SG"]["learning_rate"] is None
    json.dumps({name: entry for name, entry in results.items() if name != "grid"})


def test_the_command_has_no_goal_without_a_step(trained):
    run = ExperimentRun(Experiment("x", trained.experiment_dir, data=TextPredictionConfig(data="rows.csv")))
    run.decoder = trained.evaluate_decoder(lrs=[0.0])
    assert run.goals == []
    assert goal_metrics(run.decoder)["SG"]["learning_rate"] is None
    assert "leaves the model as it is" in goal_metrics(run.decoder)["SG"]["reason"]


CALLS = {
    "evaluate_decoder": lambda t, r, name: t.evaluate_decoder(target_class=name),
    "several": lambda t, r, name: t.evaluate_decoder(target_class=["SG", name]),
    "analyze_decoder_for_plotting": lambda t, r, name: t.analyze_decoder_for_plotting(class_ids=[name]),
    "rewrite_base_model": lambda t, r, name: t.rewrite_base_model(r, name),
    "from the files": lambda t, r, name: t.rewrite_base_model(target_class=name),
    "export_delta": lambda t, r, name: t.export_delta(r, ["SG", name]),
    "plot": lambda t, r, name: t.plot_probability_shifts(decoder_results=r, target_class=name, show=False),
    "classes of a plot": lambda t, r, name: t.plot_probability_shifts(
        decoder_results=r, class_ids=["SG", name], show=False
    ),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(("name", "order"), [("pl", "PL.*SG"), ("PLural", "PL.*SG"), ("sing", "SG.*PL")])
def test_a_wrong_class_lists_the_classes_nearest_first(trained, chosen, call, name, order):
    with pytest.raises(ValueError, match=f"(?=.*'{name}')(?=.*{order})"):
        call(trained, chosen, name)


def test_an_unknown_metric_lists_those_there_are(trained, caplog):
    assert list(trained.evaluate_decoder(lrs=[0.1], summary_metrics="SG_weken")) == ["grid"]
    assert "Nothing was measured for SG_weken: the entries of the grid have only SG_weaken, " in caplog.text


@pytest.mark.parametrize("name", [3, {"SG"}, {"SG": 1}])
def test_no_class_at_all(trained, name):
    with pytest.raises(TypeError, match="target_class must be a class name or a list of them"):
        trained.evaluate_decoder(target_class=name)
