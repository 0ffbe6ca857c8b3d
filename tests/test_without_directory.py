"""A trainer without an experiment directory: what it keeps, and what it leaves behind."""

import gc
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import tiny_data
import torch

from gradiend.evaluator import LMSThresholdPolicy

LENIENT = {"lrs": [0.1, 0.5], "selector": LMSThresholdPolicy(ratio=0.0)}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tiny_data.save_bert(tmp_path_factory.mktemp("base"))


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The temporary folder of this test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def same(one, other):
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.equal(first, second) for first, second in pairs)


def test_a_rewrite_finds_the_last_results(path, tmp_path):
    trainer = tiny_data.trainer(path).train()
    with pytest.raises(ValueError, match=r"no decoder results: run evaluate_decoder\(\) first"):
        trainer.rewrite_base_model(target_class="SG")
    strong = trainer.evaluate_decoder(**LENIENT)
    weak = trainer.evaluate_decoder(**LENIENT, target_class="SG", increase_target_probabilities=False)
    assert same(trainer.rewrite_base_model(target_class="PL"), trainer.rewrite_base_model(strong, "PL"))
    assert same(
        trainer.rewrite_base_model(target_class="SG", increase_target_probabilities=False),
        trainer.rewrite_base_model(weak, "SG", increase_target_probabilities=False),
    )
    assert Path(trainer.export_delta(target_class="SG", path=tmp_path)).is_file()


@pytest.mark.parametrize("change", ["train", "prune", "other model"])
def test_results_of_another_model_are_not_applied(path, change):
    trainer = tiny_data.trainer(path).train()
    trainer.evaluate_decoder(**LENIENT)
    other = None
    if change == "train":
        trainer.train(seed=1)
    elif change == "prune":
        trainer.get_model().prune_gradiend(topk=0.5)
    else:
        other = tiny_data.trainer(path).train(seed=1).get_model()
    for call in (trainer.rewrite_base_model, trainer.export_delta):
        where = {} if call == trainer.rewrite_base_model else {"path": "unused"}
        with pytest.raises(ValueError, match=r"the last evaluate_decoder\(\) were chosen for another model"):
            call(target_class="SG", base_model=other, **where)
    trainer.evaluate_decoder(**LENIENT, model_with_gradiend=other)
    assert trainer.rewrite_base_model(target_class="SG", base_model=other) is not None


@pytest.mark.parametrize("seeds", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_temporary_files_last_as_long_as_the_trainer(path, temporary, seeds):
    trainer = tiny_data.trainer(path, {"max_seeds": seeds, "save_only_best": False})
    for _ in range(2):
        trainer.train()
    trainer.unload_model()
    assert trainer.get_model().encode("the cat was old and [MASK] saw it .", "he") is not None
    assert trainer.get_training_stats() is not None
    assert len(list(temporary.iterdir())) == 1
    del trainer
    gc.collect()
    assert list(temporary.iterdir()) == []


def test_they_go_with_the_process(path, tmp_path):
    code = f"import tiny_data; trainer = tiny_data.trainer({path!r}).train(); print(trainer.model_path)"
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip().startswith(str(tmp_path))
    assert not list(tmp_path.glob("gradiend*"))


@pytest.mark.parametrize("name", ["experiment_dir", "output_dir", "seed_runs_dir"])
def test_an_empty_path_is_no_place(path, name):
    with pytest.raises(ValueError, match=f"{name} must not be empty"):
        tiny_data.trainer(path, {name: ""})
    with pytest.raises(ValueError, match=f"{name} must not be empty"):
        tiny_data.trainer(path).train(**{name: " "})
