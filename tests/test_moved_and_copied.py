"""Programs change their working folder, people move and copy experiments, and trainers are copied and pickled."""

import copy
import gc
import pickle
import shutil
from pathlib import Path

import pytest
import tiny_data

from gradiend import ModelWithGradiend, PrePruneConfig, SymmetricTrainerSuite, TextPredictionTrainer, TrainingArguments

SEEDS = {"max_seeds": 2, "min_convergent_seeds": None, "keep_seed_runs": True, "use_cache": True}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with a base model, and another folder beside it."""
    monkeypatch.chdir(tmp_path)
    tiny_data.save_bert("base")
    Path("other").mkdir()
    return tmp_path


def test_a_trainer_works_in_the_folder_that_it_was_made_for_wherever_the_program_goes(here, monkeypatch):
    trainer = tiny_data.trainer(str(here / "base"), {"experiment_dir": "run", **SEEDS})
    trainer.train()
    assert trainer.experiment_dir == "run"
    measured = trainer.evaluate_encoder()["correlation"]
    monkeypatch.chdir("other")
    assert trainer.experiment_dir == str(here / "run")
    assert trainer.evaluate_encoder(use_cache=False)["correlation"] == measured
    assert trainer.get_training_stats() is not None
    assert list(trainer.get_saved_seed_run_paths().values()) == [str(here / f"run/seeds/seed_{n}") for n in (0, 1)]
    trainer.train()
    assert trainer.reused
    trainer.evaluate_decoder(lrs=[0.01])
    assert not any(Path().iterdir())
    # What a call names itself starts where the program is.
    other = tiny_data.trainer(str(here / "base"), {"experiment_dir": str(here / "second")})
    other.train(output_dir="given")
    assert Path("given/config.json").is_file()
    assert other.model_path == "given"
    monkeypatch.chdir(here)
    assert other.model_path == str(here / "other/given")


def test_a_base_model_beside_the_program_is_found_from_another_folder(here, monkeypatch):
    trainer = tiny_data.trainer("base")
    monkeypatch.chdir("other")
    assert trainer.train().evaluate_encoder()["correlation"] is not None
    assert trainer.base_model_path == "base"


def test_the_trainer_of_a_seed_keeps_the_folder_too(here, monkeypatch):
    trainer = tiny_data.trainer(str(here / "base"), {"experiment_dir": "run", **SEEDS})
    trainer.train()
    view = trainer.multi_seed(selection="all_tried")
    before = view.trainer_of(0).experiment_dir
    monkeypatch.chdir("other")
    assert Path(view.trainer_of(0).experiment_dir) == here / before
    view.evaluate_encoder()
    assert not any(Path().iterdir())
    trainer.train(output_dir="given")
    later = trainer.multi_seed(selection="all_tried")
    assert Path(later.trainer_of(0).experiment_dir).parts[0] == "seeds"
    later.evaluate_encoder()
    assert not (here / "seeds").exists()


def test_pruning_ahead_keeps_its_gradients_with_the_experiment(here, monkeypatch):
    config = PrePruneConfig(topk=0.5, use_cached_gradients=True, n_samples=4)
    trainer = tiny_data.trainer(str(here / "base"), {"experiment_dir": "run", "pre_prune_config": config})
    monkeypatch.chdir("other")
    trainer.pre_prune()
    assert not any(Path().iterdir())
    assert any((here / "run").iterdir())


def test_a_suite_keeps_its_folder_too(here, monkeypatch):
    suite = SymmetricTrainerSuite(
        TextPredictionTrainer, "base", data=tiny_data.rows(), target_classes=["SG", "PL"],
        args=TrainingArguments(experiment_dir="run", **tiny_data.QUICK),
    )  # fmt: skip
    assert suite.experiment_dir == "run"
    monkeypatch.chdir("other")
    assert suite.experiment_dir == str(here / "run")


@pytest.mark.parametrize("carry", [shutil.move, shutil.copytree], ids=["moved", "copied"])
def test_the_seeds_of_an_experiment_go_with_it(here, carry):
    tiny_data.trainer("base", {"experiment_dir": "run", **SEEDS}).train()
    carry("run", "there")
    trainer = tiny_data.trainer("base", {"experiment_dir": "there", **SEEDS})
    assert trainer.get_saved_seed_run_paths() == {seed: f"there/seeds/seed_{seed}" for seed in (0, 1)}
    trainer.train()
    assert trainer.reused
    assert trainer.multi_seed(selection="all_tried").seed_values() == [0, 1]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))], ids=["deep", "pickle"])
@pytest.mark.parametrize("trained", [False, True])
def test_a_copy_of_a_trainer_is_a_trainer_of_its_own(here, copied, trained):
    trainer = tiny_data.trainer("base", {"experiment_dir": "run"})
    if trained:
        trainer.train()
    expected = copied(trainer)
    expected.training_args.experiment_dir = "copy"
    trainer.training_args.max_steps = 1
    del trainer
    gc.collect()
    assert expected.get_model() is not None
    result = expected.train().evaluate_encoder()
    assert expected.get_training_stats()["training_stats"]["global_step"] == tiny_data.QUICK["max_steps"]
    assert Path("copy/model/config.json").is_file()
    assert Path("run").exists() == trained
    assert result["correlation"] == tiny_data.trainer("base").train().evaluate_encoder()["correlation"]


def test_a_path_in_the_home_folder_is_written_out(here):
    with pytest.raises(ValueError, match=rf"experiment_dir='~/runs' .*: give '{Path('~/runs').expanduser()}'"):
        TrainingArguments(experiment_dir="~/runs")
    with pytest.raises(ValueError, match="save_directory='~/model'"):
        ModelWithGradiend.from_pretrained("base").save_pretrained(Path("~/model"))
    with pytest.raises(FileNotFoundError, match=str(Path("~/rows.csv").expanduser())):
        TextPredictionTrainer("base", data="~/rows.csv").combined_data  # noqa: B018
    with pytest.raises(FileNotFoundError, match=str(Path("~/bert").expanduser())):
        ModelWithGradiend.from_pretrained("~/bert")
    assert not Path("~").exists()
