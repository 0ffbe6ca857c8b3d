"""Results to read: JSON, and what objects of a whole run show."""

import json
import re
import shutil

import numpy as np
import pytest
import tiny_data

from gradiend import TextPredictionConfig, TrainingArguments, apply_delta, read_delta
from gradiend.evaluator import read_decoder_stats_file
from gradiend.util import convert_tuple_keys_recursively, restore_tuple_keys_recursively


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    root = tmp_path_factory.mktemp("reading")
    args = {"experiment_dir": str(root / "run"), "max_seeds": 2, "min_convergent_seeds": None}
    args["decoder_eval_lrs"] = np.array([0.01, 0.1], dtype=np.float32)
    return tiny_data.trainer(tiny_data.save_bert(root / "bert"), args).train()


def test_results_are_json_as_they_are(trainer):
    model = trainer.get_model()
    for result in (
        trainer.training_args.to_dict(),
        trainer.get_training_stats(),
        trainer.get_seed_report(),
        trainer.evaluate_encoder(),
        trainer.get_encoder_metrics(use_cache=True),
        trainer.encode(),
        trainer.evaluate_base_model(model.base_model, model.tokenizer),
        trainer.data_summary().to_dict(),
    ):
        json.dumps(result)


@pytest.mark.parametrize("options", [{}, {"feature_factors": np.array([1, -1])}, {"lrs": np.float64(0.1)}])
def test_decoder_results_are_json_but_for_the_documented_keys_of_the_grid(trainer, options):
    result = trainer.evaluate_decoder(**options)
    json.dumps({**result, "grid": list(result["grid"].values())})
    text = json.dumps(convert_tuple_keys_recursively(result))
    assert restore_tuple_keys_recursively(json.loads(text)) == result


def test_reprs_are_short(trainer, tmp_path):
    model = trainer.get_model()
    delta = read_delta(model.export_delta(tmp_path / "delta.safetensors", 0.1, 1.0))
    with apply_delta(model.base_model, delta, strength=0.5) as applied:
        shown = repr(applied)
    assert shown == f"AppliedDelta({delta!r}, strength=0.5)"
    assert repr(applied) == f"AppliedDelta({delta!r}, undone)"
    name = model.base_model.name_or_path
    assert repr(delta) == (
        f"Delta({delta.num_entries:,} entries of {len(delta.changes)} parameters of {name!r}, "
        "learning_rate=0.1, feature_factor=1.0)"
    )
    training = trainer.create_training_data(model)
    batches = trainer.create_gradient_training_dataset(training, model)
    assert repr(training) == "TextTrainingDataset(48 examples in batches of 4)"
    assert repr(batches) == "TextGradientBatches(12 batches of 4, source=alternative, target=diff)"
    data, results = trainer.create_eval_data(model), trainer.evaluate()
    things = [delta, *delta.changes, model, model.gradiend, trainer, trainer.config, trainer.training_args, data]
    things += [results, trainer.get_training_stats(), trainer.get_seed_report(), trainer.estimate_memory()]
    for thing in (*things, training, batches, results["encoder"], results["decoder"], model.rewrite_record(0.1, 1.0)):
        assert len(repr(thing)) < 2000
        assert "tensor(" not in repr(thing)
        assert " object at " not in repr(thing)


def test_a_whole_run_is_shown(trainer):
    """The numbers are those of the results; `test_display.py` has whole texts."""
    shown, stats, report = repr(trainer), trainer.get_training_stats(), trainer.get_seed_report()
    assert "data         80 rows: train 48, validation 16, test 16" in shown
    assert f"state trained, in {trainer.model_path}" in words(trainer)
    assert f"kept seed    {report['best_seed']}" in shown
    correlation = stats["convergence_info"]["convergence_metric_value"]
    assert f"correlation {correlation:.3f}, at least 0.5 is asked for" in shown
    assert f"Training: 4 steps\n  converged      {'yes' if stats['convergence_info']['converged'] else 'no'};" in repr(
        stats
    )
    for run in report["runs"]:
        mark = " (kept)" if run["seed"] == report["best_seed"] else "       "
        answer = "yes" if run["converged"] else "no "
        assert re.search(rf"{run['seed']}{re.escape(mark)}  {answer} +{run['eval_correlation']:.3f}", repr(report))
    encoder = trainer.evaluate_encoder()
    interval = encoder["correlation_interval"]
    shown = f"{encoder['correlation']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"
    assert f"correlation                 {shown}" in repr(encoder)
    assert repr(trainer.get_encoder_metrics(use_cache=True)) == repr(encoder)
    decoder = trainer.evaluate_decoder()
    read = read_decoder_stats_file(f"{trainer.experiment_dir}/decoder_grid_cache.json")
    assert repr(read).split("\n  grid")[0] == repr(decoder).split("\n  grid")[0]  # the file has earlier entries too
    model = trainer.get_model()
    assert "classes     SG (+1), PL (-1)" in repr(model)
    assert f"{len(model):,} entries → 1 → {len(model):,} entries" in repr(model)


def test_a_model_that_was_moved_away_is_named(tmp_path):
    trainer = tiny_data.trainer(tiny_data.save_bert(tmp_path / "bert"), {"experiment_dir": str(tmp_path / "run")})
    assert "state not trained seeds" in words(trainer)
    trainer.train()
    again = tiny_data.trainer(str(tmp_path / "bert"), trainer.training_args)
    assert f"data not read yet state not trained; a trained model is in {trainer.model_path} seeds" in words(again)
    given = tiny_data.trainer(trainer.model_path)
    assert "state a trained GRADIEND converged" in words(given)
    (tmp_path / "run/model/training.json").write_text("{")
    assert "converged unknown: training.json is damaged seeds" in words(trainer)
    shutil.rmtree(tmp_path / "run")
    assert f"state trained, in {trainer.model_path}, where it is not any more seeds" in words(trainer)


def words(thing) -> str:
    """What a thing shows on one line, whatever its longest path is."""
    return " ".join(repr(thing).split())


def test_a_configuration_shows_what_was_set():
    assert repr(TrainingArguments()) == "TrainingArguments()"
    assert repr(TrainingArguments(max_steps=3, optim="adam")) == "TrainingArguments(max_steps=3, optim='adam')"
    data = {"SG": tiny_data.rows(), "PL": tiny_data.rows()}
    assert repr(TextPredictionConfig(data=data)) == (
        "TextPredictionConfig(data={'SG': <table of 80 rows>, 'PL': <table of 80 rows>})"
    )
