"""Seeds with splits of their own: each is what it is alone, and the splits of the chosen one stay in use."""

import pytest
import tiny_data

from gradiend import PrePruneConfig, TextPredictionTrainer
from gradiend.trainer import Modality

FORMS = {"SG": ("he", "she", "cat", "dog"), "PL": ("they", "nurse", "baker", "sailor")}
RESPLIT = {"split_resplit_per_seed": True, "max_seeds": 3, "min_convergent_seeds": None, "saved_seed_runs": "all_tried"}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tiny_data.save_bert(tmp_path_factory.mktemp("bert"))


def trainer(path, directory, kind=tiny_data.trainer, **fields) -> TextPredictionTrainer:
    data = tiny_data.rows(FORMS).drop(columns="split")
    arguments = {**RESPLIT, "experiment_dir": str(directory), **fields}
    return kind(path, arguments, data=data, split_col="heldout", split_ratios=(0.5, 0.25, 0.25))


@pytest.fixture(scope="module")
def trained(path, tmp_path_factory):
    made = trainer(path, tmp_path_factory.mktemp("run"), use_cache=True)
    made.train()
    return made


def words(own, split) -> set[str]:
    return set(own.modality.rows(split)["factual"])


def targets(frame):
    return frame[~frame["type"].str.startswith("neutral")]


def runs(own) -> dict[int, dict]:
    return {run["seed"]: run for run in own.get_seed_run_entries()}


@pytest.mark.parametrize("pruning", [None, PrePruneConfig(n_samples=8, topk=0.3)])
def test_a_seed_is_a_training_on_its_own_splits(path, tmp_path, pruning):
    together = trainer(path, tmp_path / "together", max_seeds=2, pre_prune_config=pruning)
    together.train()
    data = together.modality.for_seed(1).combined_data
    frame = data.rename(columns={"factual": "label", "factual_class": "label_class"})
    arguments = {"seed": 1, "output_dir": str(tmp_path / "alone"), "pre_prune_config": pruning}
    alone = tiny_data.trainer(path, arguments, data=frame)
    alone.train()
    saved = tmp_path / "together" / "seeds" / "seed_1" / "model.safetensors"
    assert saved.read_bytes() == (tmp_path / "alone" / "model.safetensors").read_bytes()


def test_the_trainer_keeps_the_splits_of_the_chosen_seed(trained):
    index = runs(trained)[trained.get_seed_report()["best_seed"]]["split_cycle_index"]
    chosen = trained.modality.for_seed(index)
    assert words(trained, "test") == set(chosen.rows("test")["factual"])
    assert targets(trained.evaluate_encoder(return_df=True)["encoder_df"])["held_out"].all()


def test_another_trainer_finds_the_model_and_its_splits(path, trained):
    again = trainer(path, trained.training_args.experiment_dir, use_cache=True)
    again.get_model()
    assert words(again, "test") == words(trained, "test")
    third = trainer(path, trained.training_args.experiment_dir, use_cache=True)
    third.train()
    assert third.reused
    assert words(third, "test") == words(trained, "test")


def test_seeds_that_are_done_are_not_trained_again(path, tmp_path):
    trainer(path, tmp_path, max_seeds=2, use_cache=True).train()
    again = trainer(path, tmp_path, max_seeds=2, use_cache=True, convergent_score_threshold=0.01)
    again.train()
    assert not again.reused
    assert [run["used_cache"] for run in again.get_seed_run_entries()] == [True, True]


def test_a_training_without_is_one_on_the_first_splits(path, tmp_path):
    both = trainer(path, tmp_path / "both")
    first = words(both, "test")
    both.train()
    both.train(split_resplit_per_seed=False, max_seeds=1)
    assert words(both, "test") == first
    with_splits = trainer(path, tmp_path / "one", max_seeds=1)
    with_splits.train()
    files = [tmp_path / name / "model" / "model.safetensors" for name in ("both", "one")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_view_evaluates_each_seed_on_its_own_splits(trained):
    view = trained.multi_seed("all_tried")
    for seed, run in runs(trained).items():
        own = trained.modality.for_seed(run["split_cycle_index"])
        assert words(view.trainer_of(seed), "test") == set(own.rows("test")["factual"])
    result = view.evaluate_encoder(return_df=True)
    frame = targets(result["encoder_df"])
    assert {seed: set(own["factual"]) for seed, own in frame.groupby("seed")} == {
        seed: words(view.trainer_of(seed), "test") for seed in (0, 1, 2)
    }
    assert frame["held_out"].all()


class FailsAtSeedOne(TextPredictionTrainer):
    """A trainer whose seed 1 diverges."""

    def _train(self, output_dir, args, model, model_with_gradiend_cls, callbacks, ready=None):
        args = args.replace(learning_rate=10.0) if args.seed == 1 else args
        return super()._train(output_dir, args, model, model_with_gradiend_cls, callbacks, ready)


def failing(path, arguments, data, **config):
    args = tiny_data.trainer(path, arguments).training_args
    return FailsAtSeedOne(path, data=data, target_classes=["SG", "PL"], args=args, **config)


def test_in_a_balanced_cycle_splits_without_a_converged_seed_have_another(path, tmp_path):
    own = trainer(
        path, tmp_path, failing, max_seeds=6, split_resplit_strategy="balanced_cycle", convergent_metric="loss",
        convergent_score_threshold=1.0,
    )  # fmt: skip
    own.train()
    found = own.get_seed_run_entries()
    assert [run["seed"] for run in found if not run["converged"]] == [1]
    assert [run["split_cycle_index"] for run in found] == [0, 1, 2, 3, 1, 0]
    assert {run["split_cycle_length"] for run in found} == {4}


def test_what_cannot_be_is_refused_before_any_work(path, tmp_path):
    of_column = tiny_data.trainer(path, {**RESPLIT, "experiment_dir": str(tmp_path)})
    with pytest.raises(ValueError, match="the column 'split' does"):
        of_column.train()
    pruned = trainer(path, tmp_path)
    pruned.pre_prune(PrePruneConfig(n_samples=4, topk=0.5))
    with pytest.raises(ValueError, match="give pre_prune_config"):
        pruned.train()
    with pytest.raises(ValueError, match="this kind of data draws none"):
        Modality().for_seed(0)
    few = trainer(path, tmp_path, train_batch_size=32)
    with pytest.raises(ValueError, match="fewer than one batch"):
        few.train()
    assert not (tmp_path / "seeds").exists()
