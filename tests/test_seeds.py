"""Several seeds: which has converged, which is kept, what is written, and that a seed is a seed to the bit."""

import random
from pathlib import Path

import numpy as np
import pytest
import tiny_data
import torch

from gradiend import TrainingArguments, load_training_stats, set_seed
from gradiend.trainer.core._seeds import SeedRun, best_run, judge, run_seeds
from gradiend.trainer.core.stats import convergence
from gradiend.trainer.text import TextPredictionModelWithGradiend

REPORT_KEYS = [
    "convergence_metric", "threshold", "convergent_mean_by_class_threshold", "min_convergent_seeds", "max_seeds",
    "seeds_tried", "convergent_count", "convergent_seeds", "best_seed", "best_selection_score",
    "best_seed_selection_strategy", "early_stop_reason", "split_resplit_strategy", "runs", "topk_stability",
]  # fmt: skip
RUN_KEYS = {
    "seed", "output_dir", "trained", "used_cache", "training_score", "eval_correlation", "selection_score",
    "convergence_metric", "convergence_metric_value", "threshold", "converged", "best_checkpoint_global_step",
    "correlation_interval", "mean_by_class", "convergent_mean_by_class_threshold",
    "convergent_min_target_class_abs_mean", "split_cycle_index", "split_cycle_length",
}  # fmt: skip


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tiny_data.save_bert(tmp_path_factory.mktemp("bert"))


def train(path, directory, **fields):
    arguments = {"max_seeds": 2, "min_convergent_seeds": None, "experiment_dir": str(directory), **fields}
    trainer = tiny_data.trainer(path, arguments)
    return trainer, trainer.train(), trainer.get_seed_report()


def without_places(report):
    return {**report, "runs": [{k: v for k, v in run.items() if k != "output_dir"} for run in report["runs"]]}


def test_the_same_seeds_give_the_same_bits(path, tmp_path):
    reports = []
    for name in ("a", "b"):
        torch.manual_seed(len(reports))  # whatever the generators did before
        random.seed(len(reports))
        reports.append(without_places(train(path, tmp_path / name)[2]))
    files = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("a", "b")]
    assert files[0] == files[1]
    assert reports[0] == reports[1]
    losses = [load_training_stats(tmp_path / name / "model")["losses"] for name in ("a", "b")]
    assert losses[0] == losses[1]


def test_a_seed_does_not_depend_on_those_before_it(path, tmp_path):
    train(path, tmp_path / "all", keep_seed_runs=True)
    alone = tiny_data.trainer(path, {"seed": 1, "max_seeds": 1, "output_dir": str(tmp_path / "alone")})
    alone.train()
    expected = (tmp_path / "alone" / "model.safetensors").read_bytes()
    assert (tmp_path / "all" / "seeds" / "seed_1" / "model.safetensors").read_bytes() == expected


def test_the_report_and_what_is_kept(path, tmp_path):
    trainer, result, report = train(path, tmp_path, convergent_score_threshold=0.01)
    assert result is trainer
    assert list(report) == REPORT_KEYS
    assert [set(run) for run in report["runs"]] == [RUN_KEYS, RUN_KEYS]
    assert report["seeds_tried"] == [0, 1]
    assert (report["convergence_metric"], report["threshold"], report["max_seeds"]) == ("correlation", 0.01, 2)
    assert report["min_convergent_seeds"] is None
    assert report["early_stop_reason"] is None
    for run in report["runs"]:
        assert run["selection_score"] == abs(run["eval_correlation"])
        assert run["convergence_metric_value"] == run["eval_correlation"]
        assert run["converged"] == (abs(run["eval_correlation"]) >= 0.01)
        assert run["trained"]
        assert not run["used_cache"]
        assert [entry.name for entry in Path(run["output_dir"]).iterdir()] == ["training.json"]
    best = max(report["runs"], key=lambda run: run["selection_score"])
    assert (report["best_seed"], report["best_selection_score"]) == (best["seed"], best["selection_score"])
    assert load_training_stats(tmp_path / "model")["training_args"]["seed"] == best["seed"]
    assert trainer.model_path == str(tmp_path / "model")
    found = trainer.selection_metrics(trainer.get_model(), trainer.training_args)["correlation"]
    assert found == pytest.approx(best["eval_correlation"], abs=1e-6)


def test_seeds_are_compared_by_what_their_training_has_encoded(path, tmp_path, monkeypatch):
    batches = []
    encode_words = TextPredictionModelWithGradiend.encode_words

    def counted(self, factual, *args, **kwargs):
        batches.append(len(factual))
        return encode_words(self, factual, *args, **kwargs)

    monkeypatch.setattr(TextPredictionModelWithGradiend, "encode_words", counted)
    _, _, report = train(path, tmp_path / "same", normalize_gradiend=False)
    assert batches == [16] * 4  # two evaluations of each seed's training, the second of which is the best
    batches.clear()
    trainer, _, again = train(path, tmp_path / "fewer", normalize_gradiend=False, seed_selection_eval_max_size=4)
    assert batches == [16, 16, 8, 16, 16, 8]
    assert [run["training_score"] for run in again["runs"]] == [run["training_score"] for run in report["runs"]]
    for _ in range(2):
        trainer.selection_metrics(trainer.get_model(), trainer.training_args)
    assert len(batches) == 8  # nothing is remembered beyond the training


def test_a_single_seed_is_compared_with_none_and_remembers_nothing(path, monkeypatch):
    monkeypatch.setattr("gradiend.trainer._preparation.gradiend_digest", None)
    assert list(tiny_data.trainer(path).train().get_training_stats()["training_stats"]["scores"]) == ["2", "4"]


def test_kept_runs_are_returned_by_seed(path, tmp_path):
    trainer, models, report = train(path, tmp_path, keep_seed_runs=True, seed=5, save_strategy="steps", save_steps=2)
    assert list(models) == [5, 6]
    assert models[5].base_model is models[6].base_model
    assert models[5].gradiend is not models[6].gradiend
    for run in report["runs"]:
        found = trainer.selection_metrics(models[run["seed"]], trainer.training_args)["correlation"]
        assert found == pytest.approx(run["eval_correlation"], abs=1e-6)
        assert Path(f"{run['output_dir']}_step_2").is_dir()
    best = tmp_path / "seeds" / f"seed_{report['best_seed']}_step_2" / "model.safetensors"
    assert (tmp_path / "model_step_2" / "model.safetensors").read_bytes() == best.read_bytes()


def test_dropped_runs_leave_no_weights(path, tmp_path):
    train(path, tmp_path, save_strategy="steps", save_steps=2)
    assert not list((tmp_path / "seeds").rglob("*.safetensors"))
    assert (tmp_path / "model_step_2").is_dir()


def test_a_folder_with_other_things_keeps_them(path, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("do not lose")
    (tmp_path / "mine" / "pytorch_model.bin").write_bytes(b"of an older model")
    train(path, tmp_path, output_dir=str(tmp_path / "mine"))
    assert (tmp_path / "mine" / "notes.txt").read_text() == "do not lose"
    assert not (tmp_path / "mine" / "pytorch_model.bin").exists()
    assert not list(tmp_path.glob(".mine*"))


@pytest.mark.parametrize("max_seeds", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_directory_may_be_a_path_object_or_end_in_a_slash(path, tmp_path, max_seeds):
    # The first evaluation scores higher than the last, so that the model that is kept is not the last.
    scores = {2: 0.9, 4: 0.1}
    fields = {
        "max_seeds": max_seeds, "min_convergent_seeds": None, "save_strategy": "steps", "save_steps": 2,
        "evaluate_fn": lambda config, training_stats: {"correlation": scores[training_stats["global_step"]]},
    }  # fmt: skip
    spellings = {"plain": str, "object": Path, "slash": lambda place: f"{place}/"}
    found = {}
    for name, spelled in spellings.items():
        home = tmp_path / name
        tiny_data.trainer(path, {**fields, "seed_runs_dir": spelled(home / "runs")}).train(
            output_dir=spelled(home / "out")
        )
        found[name] = {
            str(file.relative_to(home)): file.read_bytes() for file in home.rglob("*.safetensors") if file.is_file()
        }
    assert found["object"] == found["slash"] == found["plain"]
    assert found["plain"]["out/model.safetensors"] == found["plain"]["out_step_2/model.safetensors"]


def test_without_a_seed_every_run_is_another_and_can_be_repeated(path, tmp_path):
    _, models, report = train(path, tmp_path / "a", seed=None, keep_seed_runs=True)
    again = train(path, tmp_path / "b", seed=None)[2]
    assert report["seeds_tried"] != again["seeds_tried"]
    assert list(models) == report["seeds_tried"]
    repeated = train(path, tmp_path / "c", seed=report["seeds_tried"][0])[2]
    assert without_places(repeated) == without_places(report)


def test_one_run_without_a_seed_takes_the_generators_as_they_are(path):
    runs = []
    for _ in range(2):
        torch.manual_seed(0)
        runs.append(tiny_data.trainer(path, {"seed": None, "max_steps": 1, "learning_rate": 0.0}).train().get_model())
    start = [model.gradiend.encoder_linear.weight for model in runs]
    assert torch.equal(start[0].abs(), start[1].abs())


def test_set_seed_seeds_every_generator():
    drawn = []
    for _ in range(2):
        set_seed(3)
        drawn.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert drawn[0] == drawn[1]
    set_seed(None)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) != drawn[0]


def stats(losses=(1.0, 0.5), correlation=None, means=None):
    training = {"correlation": correlation, "mean_by_class": {} if means is None else {"2": means}}
    best = {} if correlation is None else {"correlation": correlation, "global_step": 2}
    return {"training_stats": training, "best_score_checkpoint": best, "losses": list(losses)}


class TestJudgement:
    @pytest.mark.parametrize(
        ("arguments", "evaluation", "value", "converged"),
        [
            ({}, {"correlation": 0.6}, 0.6, True),
            ({}, {"correlation": -0.6}, -0.6, True),
            ({}, {"correlation": 0.4}, 0.4, False),
            ({"convergent_score_threshold": 0.3}, {"correlation": 0.4}, 0.4, True),
            ({}, {}, 0.9, True),
            ({"convergent_metric": "loss", "convergent_score_threshold": 0.5}, {}, 0.5, True),
            ({"convergent_metric": "loss", "convergent_score_threshold": 0.4}, {"correlation": 1.0}, 0.5, False),
            ({"convergent_mean_by_class_threshold": 0.5},
             {"correlation": 1.0, "mean_by_class": {1.0: 0.6, -1.0: -0.6, 0.0: 0.0}}, 1.0, True),
            ({"convergent_mean_by_class_threshold": 0.5},
             {"correlation": 1.0, "mean_by_class": {1.0: 0.9, -1.0: -0.4}}, 1.0, False),
            ({"convergent_mean_by_class_threshold": 0.5}, {}, 0.9, True),
        ],
    )  # fmt: skip
    def test_metric_and_thresholds(self, arguments, evaluation, value, converged):
        known = stats(correlation=0.9, means={"1.0": 0.7, "-1.0": -0.7})
        run = judge(0, "", known, evaluation, TrainingArguments(**arguments))
        assert (run.convergence_metric_value, run.converged) == (value, converged)

    def test_nothing_measured_is_not_converged(self):
        outcome = convergence(TrainingArguments(), {}, {}, [1.0])
        assert (outcome.convergence_metric_value, outcome.converged) == (None, False)

    def test_a_single_training_says_whether_it_has_converged(self, path):
        trainer = tiny_data.trainer(path, {"convergent_score_threshold": 1e-6}).train()
        info = load_training_stats(trainer.model_path)["convergence_info"]
        assert info["converged"]
        assert info["convergence_metric_value"] is not None
        assert (info["convergence_metric"], info["threshold"]) == ("correlation", 1e-6)

    def run(self, seed, score, converged=True, correlation=None):
        return SeedRun(seed, "", score, correlation, "correlation", correlation, 0.5, converged)

    def test_the_best_run(self):
        run = self.run
        assert best_run([run(0, 0.9), run(1, 0.95)]).seed == 1
        assert best_run([run(0, 0.9), run(1, 0.9)]).seed == 0
        assert best_run([run(0, 0.9, correlation=-0.99), run(1, 0.95, correlation=0.5)]).seed == 0
        assert best_run([run(0, 0.6), run(1, 0.99, converged=False)]).seed == 0
        # Without evaluation the score is the negated loss: the smaller loss wins.
        assert best_run([run(0, -2.0), run(1, -0.5), run(2, -1.0)]).seed == 1
        assert best_run([run(0, None), run(1, -5.0)]).seed == 1
        assert best_run([run(0, float("nan")), run(1, -5.0), run(2, float("nan"))]).seed == 1

    @pytest.mark.parametrize(("wanted", "tried"), [(1, [7, 8]), (2, [7, 8, 9, 10]), (None, [7, 8, 9, 10, 11])])
    def test_it_stops_when_enough_have_converged(self, wanted, tried):
        arguments = TrainingArguments(seed=7, max_seeds=5, min_convergent_seeds=wanted)
        runs, reason = run_seeds(arguments, lambda seed: self.run(seed, 0.9, converged=seed % 2 == 0))
        assert [one.seed for one in runs] == tried
        assert (reason is None) == (len(tried) == 5)
