"""The demo does what it promises, seen from outside: with plain transformers on what it wrote.

Every day its experiment runs with fewer texts and steps; `make test-all` runs the command itself.
"""

import json
import time

import pandas as pd
import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from gradiend.cli._commands import app
from gradiend.demo import model_path
from gradiend.demo._experiment import CLASSES, write_experiment

OTHER = dict(zip(CLASSES, reversed(CLASSES), strict=True))
FILES = (
    "experiment.yaml run.json report.html data/training.csv data/neutral.csv model/config.json model/model.safetensors "
    "model/training.json seeds/seed_report.json training_convergence.png encoder_analysis.png probability_shifts.png "
    "encoded_values_split_test.csv encoded_values_split_test.json decoder_grid_cache.json "
    "rewritten/3SG/model.safetensors rewritten/3PL/tokenizer.json balance.png rewritten/balance/config.json"
).split()


FEWER = "--corpus.max-size-per-class 120 --corpus.neutral-max-size 60 --train.max-steps 40".split()


@pytest.fixture(scope="module", params=["fewer", pytest.param("whole", marks=pytest.mark.slow)])
def demo(request, tmp_path_factory):
    """(output directory, run.json, bytes of the embedded model before the run, processor seconds)."""
    before = (model_path() / "model.safetensors").read_bytes()
    output = tmp_path_factory.mktemp("demo")
    words = ["demo", "--output", str(output)] if request.param == "whole" else ["run", write_experiment(output), *FEWER]
    start = time.process_time()
    app.main([*words, "-q"], standalone_mode=False)
    seconds = time.process_time() - start
    return output, json.loads((output / "run.json").read_text()), before, seconds


def test_everything_is_where_it_says(demo):
    output, *_ = demo
    assert [name for name in FILES if not (output / name).is_file()] == []


def test_the_encoder_tells_the_classes_apart(demo):
    metrics = demo[1]["metrics"]
    assert metrics["correlation"]["value"] >= 0.95
    assert metrics["mean_by_class"]["3SG"] >= 0.5
    assert metrics["mean_by_class"]["3PL"] <= -0.5


@pytest.mark.parametrize("name", CLASSES)
def test_each_class_is_moved_and_the_rest_is_kept(demo, name):
    row = demo[1]["metrics"]["goals"][name]
    before, after = row["base"], row["value"]
    assert after >= before + 0.2 or after >= max(3 * before, 0.05)
    assert row["likelihood_ratio"]["value"] >= 0.99
    assert f"the highest P({name})" in row["why"]


def test_neither_class_is_preferred_and_the_rest_is_kept(demo):
    row = demo[1]["metrics"]["goals"]["balance"]
    assert row["value"] <= 0.75 * row["base"]
    assert row["measures"]["sum"] >= row["base_measures"]["sum"]
    assert row["likelihood_ratio"]["value"] >= 0.99


def test_it_takes_less_than_three_minutes(demo):
    phases = "data train evaluate_encoder evaluate_decoder side_effects rewrite report"
    assert set(demo[1]["phases"]) == set(phases.split())
    # Processor time on two cores: what else the machine does is not the demo's fault.
    assert demo[3] < 2 * 180


def probability(model, tokenizer, texts, words):
    """Mean over the texts of Σ p(word) at the mask, one text at a time."""
    total = 0.0
    with torch.no_grad():
        for text in texts:
            inputs = tokenizer(text, return_tensors="pt")
            logits = model(**inputs).logits[0, inputs["input_ids"][0] == tokenizer.mask_token_id]
            total += float(logits[0].softmax(-1)[tokenizer.convert_tokens_to_ids(words)].sum())
    return total / len(texts)


@pytest.mark.parametrize("name", CLASSES)
def test_the_saved_models_have_the_probabilities_that_were_reported(demo, name):
    output, record, *_ = demo
    data = pd.read_csv(output / "data" / "training.csv")
    rows = data[(data["label_class"] == OTHER[name]) & (data["split"] == "test")]
    directory = output / "rewritten" / name
    reported = record["metrics"]["goals"][name]
    for path, expected in ((directory, reported["value"]), (model_path(), reported["base"])):
        model, tokenizer = AutoModelForMaskedLM.from_pretrained(path).eval(), AutoTokenizer.from_pretrained(path)
        assert probability(model, tokenizer, rows["masked"], CLASSES[name]) == pytest.approx(expected, abs=1e-5)


def test_the_embedded_model_is_unchanged(demo):
    assert (model_path() / "model.safetensors").read_bytes() == demo[2]
