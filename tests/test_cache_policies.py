"""use_cache: what each policy takes, always with the whole fingerprint, and what it trains again."""

import shutil
from pathlib import Path

import pytest
import tiny_data

from gradiend import TrainingArguments


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tiny_data.save_bert(tmp_path_factory.mktemp("bert"))


def trained(path, directory, **fields):
    return tiny_data.trainer(path, {"experiment_dir": str(directory), "max_steps": 2, **fields}).train()


@pytest.mark.parametrize("wrong", ["sometimes", "only_converged", 1, None])
def test_other_values_are_refused(path, tmp_path, wrong):
    with pytest.raises(ValueError, match='use_cache must be True, False, "always" or "only_convergent"'):
        TrainingArguments(use_cache=wrong)
    if wrong is not None:
        trainer = tiny_data.trainer(path, {"experiment_dir": str(tmp_path)})
        with pytest.raises(ValueError, match="use_cache must be"):
            trainer.evaluate_encoder(use_cache=wrong)


def test_the_nearest_is_named():
    with pytest.raises(ValueError, match="Did you mean 'only_convergent'"):
        TrainingArguments(use_cache="only_converged")


def test_a_single_seed_is_taken_if_it_has_converged(path, tmp_path, caplog):
    caplog.set_level("INFO")
    fields = {"use_cache": "only_convergent", "normalize_gradiend": True}
    assert not trained(path, tmp_path, convergent_score_threshold=0.0, **fields).reused
    assert trained(path, tmp_path, convergent_score_threshold=0.0, **fields).reused
    again = trained(path, tmp_path, convergent_score_threshold=1.0, **fields)
    assert not again.reused
    assert "it has not converged: correlation" in caplog.text
    # Every policy compares everything that the training depends on: defect 11 of the existing tool.
    for policy in (True, "always", "only_convergent"):
        changed = {**fields, "use_cache": policy, "convergent_score_threshold": 0.0}
        assert trained(path, tmp_path, **changed).reused
        assert not trained(path, tmp_path, **changed, learning_rate=0.5).reused
        assert not trained(path, tmp_path, **changed).reused


def test_a_choice_is_made_again_if_nothing_says_whether_its_seeds_have_converged(path, tmp_path, caplog):
    caplog.set_level("INFO")
    fields = {"max_seeds": 2, "convergent_score_threshold": 0.0, "use_cache": True}
    assert not trained(path, tmp_path, **fields).reused
    shutil.rmtree(tmp_path / "seeds")
    assert trained(path, tmp_path, **fields).reused
    assert not trained(path, tmp_path, **fields, fail_on_non_convergence=True).reused
    assert "how many seeds have converged cannot be read" in caplog.text


def test_of_several_seeds_those_that_converged_stay(path, tmp_path):
    several = {"max_seeds": 3, "min_convergent_seeds": None, "saved_seed_runs": "all_tried", "use_cache": True}
    first = trained(path, tmp_path, **several).get_seed_report()
    scores = sorted(run["selection_score"] for run in first["runs"])
    between = (scores[-1] + scores[-2]) / 2
    fields = {**several, "convergent_score_threshold": between, "min_convergent_seeds": 2}
    weights = {run["seed"]: Path(run["output_dir"]) / "model.safetensors" for run in first["runs"]}
    times = {seed: file.stat().st_mtime_ns for seed, file in weights.items()}

    trainer = trained(path, tmp_path, **{**fields, "use_cache": "only_convergent"})
    report = trainer.get_seed_report()
    assert report["convergent_seeds"] == [first["best_seed"]]
    for run in report["runs"]:
        assert run["used_cache"] == (run["seed"] == first["best_seed"]) == (not run["trained"])
        assert (weights[run["seed"]].stat().st_mtime_ns == times[run["seed"]]) == run["used_cache"]

    # One of three has converged, and two should: the choice is not taken, while True takes it as it is.
    assert not trained(path, tmp_path, **{**fields, "use_cache": "only_convergent"}).reused
    assert trained(path, tmp_path, **fields).reused

    # "always" takes the choice that there is, whatever number or threshold is asked for now.
    other = {**fields, "min_convergent_seeds": 1, "convergent_score_threshold": 0.01, "max_seeds": 2}
    kept = trained(path, tmp_path, **{**other, "use_cache": "always"})
    assert kept.reused
    assert kept.get_seed_report()["max_seeds"] == 3
    assert not trained(path, tmp_path, **{**other, "use_cache": True}).reused


def test_evaluations_read_with_every_policy_but_false(path, tmp_path):
    trainer = trained(path, tmp_path, use_cache="only_convergent", convergent_score_threshold=0.0)
    file = tmp_path / "encoded_values_split_test.csv"
    trainer.evaluate_encoder()
    made = file.stat().st_mtime_ns
    for policy in (None, True, "always", "only_convergent"):
        trainer.evaluate_encoder(use_cache=policy)
        assert file.stat().st_mtime_ns == made
    trainer.evaluate_encoder(use_cache=False)
    assert file.stat().st_mtime_ns > made
