"""A training that diverges is not taken for one that has converged, and what it leaves replaces nothing."""

import json
from pathlib import Path

import pytest
import tiny_data
import torch

from gradiend.trainer import TrainingCallback, train_core
from gradiend.trainer.core.stats import divergence


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tiny_data.save_bert(tmp_path_factory.mktemp("base"))


FURTHER = [(5, "best"), (30, "best"), (2, "no"), (5, "no")]


def info(trainer):
    return trainer.get_training_stats()["convergence_info"]


@pytest.mark.parametrize(
    ("steps", "save"),
    [(2, "best"), (30, "no"), *(pytest.param(*one, marks=pytest.mark.slow) for one in FURTHER)],
)
def test_a_loss_that_grows_is_no_convergence(path, steps, save, caplog):
    arguments = {"learning_rate": 10.0, "max_steps": steps, "save_strategy": save, "convergent_score_threshold": 0.0}
    trainer = tiny_data.trainer(path, arguments).train()
    assert info(trainer)["converged"] is False
    assert "loss rose from" in info(trainer)["reason"]
    assert "Lower learning_rate (now 10)" in info(trainer)["reason"]
    assert "has diverged and does not count as converged: its loss rose" in caplog.text


def test_every_seed_says_so(path, tmp_path, caplog):
    arguments = {"learning_rate": 10.0, "max_seeds": 2, "experiment_dir": str(tmp_path), "max_steps": 6}
    tiny_data.trainer(path, arguments).train()
    report = json.loads((tmp_path / "seeds" / "seed_report.json").read_text())
    assert report["convergent_count"] == 0
    assert all("loss rose from" in run["reason"] for run in report["runs"])
    assert "None of 2 seeds has converged (seed 0: its loss rose" in caplog.text


SOUND = {
    "a few steps": {"max_steps": 1},
    "hardly any change": {"learning_rate": 1e-7, "max_steps": 40},
    "long": {"learning_rate": 1e-2, "max_steps": 100},
    "one example at a time": {"train_batch_size": 1, "max_steps": 60},
    "identity rows": {"add_identity_for_other_classes": True, "max_steps": 30},
    "class means": {"init": "class_means", "init_samples": 8, "max_steps": 0},
    "on from class means": {"init": "class_means", "init_samples": 8, "max_steps": 30},
    "another loss": {"criterion": torch.nn.L1Loss(), "max_steps": 30},
    "the encoder alone": {"supervised_encoder": True, "max_steps": 30},
    "the decoder alone": {"supervised_decoder": True, "convergent_score_threshold": 1e9, "max_steps": 30},
}


@pytest.mark.parametrize("arguments", SOUND.values(), ids=SOUND)
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3))])
def test_sound_trainings_have_not_diverged(path, arguments, seed):
    lenient = {"convergent_score_threshold": 0.0, "seed": seed, "do_eval": True}
    found = info(tiny_data.trainer(path, {**lenient, **arguments}).train())
    assert "reason" not in found


def test_a_training_that_changes_no_weight_has_not_converged_whatever_a_random_start_gives(path):
    found = info(tiny_data.trainer(path, {"learning_rate": 0, "convergent_score_threshold": 0.0}).train())
    assert not found["converged"]
    assert found["reason"] == "no step has changed a weight (learning_rate=0)"


def test_a_training_that_goes_on_has_not_diverged(path):
    trainer = tiny_data.trainer(path, {"max_steps": 60, "learning_rate": 1e-2}).train()
    trained = trainer.get_model()
    again = tiny_data.trainer(path, {"max_steps": 60, "convergent_score_threshold": 0.0}).train(model=trained)
    assert info(again)["converged"] is True


def test_the_rule():
    assert divergence([1.0], [2.1], [1.0]) is not None
    assert divergence([1.0], [2.0], [0.5]) is None  # not more than twice the first
    assert divergence([0.001], [1.9], [1.0]) is None  # large, as the gradients of these batches are
    assert divergence([], [], []) is None


class Blow(TrainingCallback):
    """Makes a weight infinite after a step."""

    def __init__(self, step, value):
        self.step, self.value = step, value

    def on_step_begin(self, step, model, **kwargs):
        if step == self.step:
            with torch.no_grad():
                model.gradiend.decoder_linear.bias[0] = self.value


@pytest.mark.parametrize("value", [float("inf"), pytest.param(float("nan"), marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"save_strategy": "no"},
        *(pytest.param(one, marks=pytest.mark.slow) for one in ({"do_eval": False}, {"save_only_best": False})),
    ],
)
def test_weights_that_are_not_finite_replace_nothing(path, tmp_path, value, arguments):
    args = {"experiment_dir": str(tmp_path), **arguments}
    good = tiny_data.trainer(path, args).train()
    before = {file: file.read_bytes() for file in Path(good.model_path).glob("*.safetensors")}
    trainer = tiny_data.trainer(path, {**args, "learning_rate": 1e-2})
    with pytest.raises(FloatingPointError, match="Lower learning_rate"):
        trainer.train(callbacks=[Blow(4, value)])
    assert {file: file.read_bytes() for file in Path(good.model_path).glob("*.safetensors")} == before


def test_the_weights_are_looked_at_after_the_last_step_too(path, tmp_path):
    """The loss of the last step is that before it."""
    model = tiny_data.trainer(path).get_model()
    gradient = torch.full((len(model.gradiend),), 1e-3)
    batches = [{"source": gradient, "target": gradient, "label": 1.0}] * 2
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    with pytest.raises(FloatingPointError, match=r"has diverged: .* infinite or undefined entries"):
        train_core(
            model, batches, output_dir=str(tmp_path / "model"), max_steps=1, learning_rate=1e39, weight_decay=0.0
        )
    assert [file.name for file in (tmp_path / "model").iterdir()] == ["config.json"]
