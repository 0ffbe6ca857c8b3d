"""Results to read: JSON, short reprs."""

import json

import numpy as np
import pytest
import tiny_data

from gradiend import TextPredictionConfig, TrainingArguments, apply_delta, read_delta
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
    assert f"input_dim={len(model)}" in repr(model.gradiend)
    assert repr(model.gradiend) in repr(model)
    assert f"feature_class_encoding_direction={model.feature_class_encoding_direction}" in repr(model)
    assert "BertForMaskedLM" in repr(model)
    assert "target_classes=['SG', 'PL']" in repr(trainer)
    data = trainer.create_eval_data(model)
    for thing in (delta, *delta.changes, model, model.gradiend, trainer, trainer.config, trainer.training_args, data):
        assert len(repr(thing)) < 600
        assert "tensor(" not in repr(thing)


def test_a_configuration_shows_what_was_set():
    assert repr(TrainingArguments()) == "TrainingArguments()"
    assert repr(TrainingArguments(max_steps=3, optim="adam")) == "TrainingArguments(max_steps=3, optim='adam')"
    data = {"SG": tiny_data.rows(), "PL": tiny_data.rows()}
    assert repr(TextPredictionConfig(data=data)) == (
        "TextPredictionConfig(data={'SG': <table of 80 rows>, 'PL': <table of 80 rows>})"
    )
