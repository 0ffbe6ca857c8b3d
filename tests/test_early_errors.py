"""Wrong values are noticed before the work, whatever they are for."""

import os
import sys

import pandas as pd
import pytest
import tiny_data
import torch

from gradiend import PostPruneConfig, PrePruneConfig
from gradiend.trainer import EarlyStoppingCallback, TrainingCallback
from gradiend.trainer.text import TextTrainingDataset
from gradiend.util._files import require_directory


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tiny_data.save_bert(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def trained(path):
    return tiny_data.trainer(path).train()


NAN = float("nan")


def forgets_to_return(config, training_stats):
    dict(correlation=0.5)  # noqa: C408 - the mistake


FIELDS = [
    *({"convergent_score_threshold": value} for value in ("a", NAN, 2.0, -1, [0.5], True)),
    *({"convergent_mean_by_class_threshold": value} for value in ("a", NAN, -1, [1])),
    {"convergent_metric": "loss", "convergent_score_threshold": -1.0},
    *({"criterion": value} for value in ("mse", torch.nn.MSELoss, torch.nn.MSELoss(reduction="none"), 3)),
    *({"evaluate_fn": value} for value in ("a", 3, lambda **_: None, lambda **_: 0.5, lambda: {}, forgets_to_return)),
    *({"seed": value} for value in ("a", -1, 1.5, True, 2**70)),
    *({name: True} for name in ("max_seeds", "num_train_epochs", "latent_dim", "max_steps", "kept_gradients_size")),
    *({name: True} for name in ("learning_rate", "weight_decay", "adam_epsilon")),
    {"kept_gradients_size": -1}, {"metadata": [1]}, {"bias_decoder": "no"}, {"bias_decoder": 0},
    *({"params": value} for value in ([3], [], 3)),
    *({"decoder_eval_lrs": value} for value in ("a", [], [NAN], ["1"], float("inf"))),
    *({"decoder_eval_feature_factors": value} for value in (["x"], [], NAN, "1.0")),
    {"init": "class_means", "supervised_encoder": True},
    {"init": "class_means", "supervised_decoder": True, "convergent_score_threshold": 1.0},
    *({name: "a\0b"} for name in ("experiment_dir", "output_dir", "seed_runs_dir")),
    {"pre_prune_config": {"topk": 10, "threshold": NAN}},
    {"pre_prune_config": {"topk": 10, "importance_device": "gpu"}},
    {"pre_prune_config": {"topk": 10, "dataset": 3}}, {"post_prune_config": {"threshold": NAN}},
    {"post_prune_config": {"mask": torch.zeros(3, dtype=torch.bool)}},
    {"post_prune_config": {"topk": 10, "part": "decoder-bias"}, "bias_decoder": False},
]  # fmt: skip


@pytest.mark.parametrize("fields", FIELDS, ids=",".join)
def test_training_arguments_are_refused_at_once(path, fields):
    within = ("mask", "threshold", "importance_device", "dataset")
    with pytest.raises((TypeError, ValueError)) as error:
        tiny_data.trainer(path, fields)
    assert any(name in str(error.value) for name in (*fields, *within))


class Count(TrainingCallback):
    """How many steps were taken."""

    steps = 0

    def on_step_begin(self, **kwargs):
        self.steps += 1


def test_a_place_that_cannot_be_written_to_is_refused_before_the_training(path, tmp_path):
    (tmp_path / "file").write_text("")
    for fields in (
        {"experiment_dir": str(tmp_path / "file")},
        {"output_dir": str(tmp_path / "file" / "deeper")},
        {"seed_runs_dir": str(tmp_path / "file"), "max_seeds": 2},
        {"experiment_dir": str(tmp_path / ("x" * 300))},
    ):
        count = Count()
        with pytest.raises(ValueError, match="Choose another place"):
            tiny_data.trainer(path, fields).train(callbacks=[count])
        assert count.steps == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused(tmp_path):
    (tmp_path / "shut").mkdir(mode=0o500)
    with pytest.raises(ValueError, match="read-only"):
        require_directory(tmp_path / "shut" / "deeper")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc takes no files of anybody's")
def test_a_place_that_takes_no_files_is_refused_before_the_work(path):
    count = Count()
    with pytest.raises(ValueError, match=r"Nothing can be written to /proc/here/model: /proc .* Choose another place"):
        tiny_data.trainer(path, {"experiment_dir": "/proc/here"}).train(callbacks=[count])
    assert count.steps == 0


@pytest.mark.parametrize("supervised", [{}, {"supervised_encoder": True}])
def test_a_criterion_that_gives_no_tensor_is_refused_before_the_training(path, supervised):
    count = Count()
    arguments = {"criterion": lambda decoded, target: float((decoded - target).square().mean()), **supervised}
    with pytest.raises(TypeError, match="criterion must return a tensor of one number; it returned a float"):
        tiny_data.trainer(path, arguments).train(callbacks=[count])
    assert count.steps == 0


def test_a_wrong_class_key_names_those_there_are(path):
    config = PrePruneConfig(topk=50, feature_class_key="wrong")
    with pytest.raises(KeyError, match=r"no 'wrong': name the key of their class with .*They have .*feature_class_id"):
        tiny_data.trainer(path, {"pre_prune_config": config}).train()


def test_a_step_is_not_asked_of_a_rewrite_that_was_chosen(trained):
    with pytest.raises(TypeError, match=r"unknown argument 'lr'.*ModelWithGradiend\.rewrite_base_model") as error:
        trained.rewrite_base_model({}, "SG", lr=0.1)
    assert "Did you mean" not in str(error.value)
    with pytest.raises(TypeError, match=r"unknown argument 'lr'. Did you mean 'lrs'"):
        trained.evaluate_decoder(lr=0.1)


def test_a_mask_of_another_length_is_refused_before_the_training(path):
    count = Count()
    config = PostPruneConfig(mask=torch.ones(3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"shape \(3,\), but the GRADIEND .* has 50 input dimensions"):
        tiny_data.trainer(path, {"pre_prune_config": PrePruneConfig(topk=50), "post_prune_config": config}).train(
            callbacks=[count]
        )
    assert count.steps == 0
    fits = PostPruneConfig(mask=torch.arange(50) < 20)
    trainer = tiny_data.trainer(path, {"pre_prune_config": PrePruneConfig(topk=50), "post_prune_config": fits}).train()
    assert len(trainer.get_model()) == 20


def test_a_threshold_above_every_weight_does_not_cost_the_training(path, caplog):
    trainer = tiny_data.trainer(path, {"post_prune_config": PostPruneConfig(threshold=1e9)}).train()
    assert "stays as it is, unpruned: Pruning would keep nothing" in caplog.text
    assert trainer.evaluate_encoder()["n_samples"] > 0


def test_words_for_other_classes_do_not_cost_the_training(path):
    trainer = tiny_data.trainer(path, decoder_eval_targets={"sg": ["he"], "PL": ["they"]})
    with pytest.raises(ValueError, match=r"no words for the target class 'SG'; it has: 'sg', 'PL'\. Did you mean 'sg'"):
        trainer.train()
    assert trainer.get_model() is None or trainer.get_model().gradiend.is_untrained


@pytest.mark.parametrize("result", [{"correlation": "0.5"}, 0.5, [0.5], None])
def test_a_wrong_result_of_an_evaluation_is_named(path, result):
    with pytest.raises(TypeError, match="evaluate_fn must return a dict whose 'correlation' is a number or None"):
        tiny_data.trainer(path, {"evaluate_fn": lambda **_: result}).train()


class NoSelector:
    """Has no select."""


CALLS = [
    {"selector": NoSelector()}, {"selector": 3}, {"summary_extractor": {}}, {"summary_metrics": 3},
    {"summary_metrics": [3]}, {"summary_metrics": []}, {"summary_metrics": "grid"}, {"target_class": 3},
    {"increase_target_probabilities": "yes"}, {"plot": "no"}, {"output_path": 3}, {"output_path": ""},
    {"output_path": "/"}, {"lrs": "a"}, {"lrs": 1j}, {"lrs": [True]}, {"feature_factors": [None]}, {"part": "body"},
    {"target_class": "nobody"},
    {"training_like_df": pd.DataFrame({"a": [1]})}, {"neutral_df": pd.DataFrame({"a": [1]})},
]  # fmt: skip


@pytest.mark.parametrize("asked", CALLS, ids=",".join)
def test_arguments_of_the_decoder_evaluation_are_looked_at_first(trained, asked, monkeypatch):
    monkeypatch.setattr(trained, "prepare_base_model_evaluation", lambda *args, **kwargs: pytest.fail("measured"))
    with pytest.raises((TypeError, ValueError)):
        trained.evaluate_decoder(**asked)


def test_misspelt_keywords_of_evaluations_are_refused(trained, monkeypatch):
    frame = pd.DataFrame({"encoded": [1.0, -1.0], "label": [1, -1], "type": "training"})
    for asked in ({"splt": "test"}, {"splt": "test", "encoder_df": frame}):
        with pytest.raises(TypeError, match=r"evaluate_encoder got an unknown argument 'splt'. Did you mean 'split'\?"):
            trained.evaluator.evaluate_encoder(**asked)
    monkeypatch.setattr(trained, "create_eval_data", lambda *args, **kwargs: pytest.fail("encoded"))
    for number, error in (("10", TypeError), (-1, ValueError)):
        with pytest.raises(error, match="n_resamples must be a whole number"):
            trained.evaluator.evaluate_encoder(n_resamples=number)
    for call in (trained.evaluate_decoder, trained.evaluator.evaluate_decoder):
        with pytest.raises(TypeError, match=r"^evaluate_decoder got an unknown argument 'lr'. Did you mean 'lrs'\?"):
            call(lr=0.1)


@pytest.mark.parametrize(
    ("callbacks", "match"),
    [
        (EarlyStoppingCallback(), "must be a list"),
        ([EarlyStoppingCallback], r"Is it EarlyStoppingCallback\(…\)\?"),
        ([None], "subclasses of Tr"),
    ],
)
def test_what_is_no_callback_is_refused(path, callbacks, match):
    with pytest.raises(TypeError, match=match):
        tiny_data.trainer(path).train(callbacks=callbacks)


@pytest.mark.parametrize("name", ["max_size_training_like", "max_size_neutral", "eval_batch_size"])
@pytest.mark.parametrize("value", [0, -1, "8"])
def test_sizes_of_an_evaluation_of_a_base_model_are_whole_numbers(trained, name, value):
    model = trained.get_model()
    with pytest.raises((TypeError, ValueError), match=name):
        trained.evaluate_base_model(model.base_model, model.tokenizer, **{name: value})


def test_other_classes_are_those_beside_the_target_classes(trained):
    with pytest.raises(ValueError, match="leave class_pair out"):
        trained.create_training_data(trained.get_model(), class_pair=("PL", "SG"), include_other_classes=True)


def test_sizes_of_data_are_whole_numbers(trained):
    with pytest.raises(ValueError, match="max_size"):
        trained.get_decoder_mlm_training_data(max_size=0)
    model = trained.get_model()
    rows = trained.create_training_data(model).data
    with pytest.raises(ValueError, match="batch_size"):
        TextTrainingDataset(rows, model.tokenizer, 0)


def test_a_layout_is_no_text(trained):
    with pytest.raises(TypeError, match="layout must be a"):
        trained.estimate_memory(layout="sharded")
