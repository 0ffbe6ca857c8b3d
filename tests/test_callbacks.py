"""Callbacks as documented: positional calls, what they save and when, early stopping, and event files."""

import importlib.util
import logging

import pandas as pd
import pytest
import tiny_data

from gradiend import TrainingArguments, load_training_stats
from gradiend.evaluator import get_encoder_metrics_from_dataframe
from gradiend.trainer import (
    CheckpointCallback,
    EarlyStoppingCallback,
    EvaluationCallback,
    LoggingCallback,
    NormalizationCallback,
    TensorBoardCallback,
    TrainingCallback,
    WandbCallback,
    get_default_callbacks,
)
from gradiend.trainer.core._callback import TrainingControl
from gradiend.trainer.core.callbacks import GROUPED, inverted_result, record_evaluation


class Saving:
    """Remembers where it was saved."""

    def __init__(self):
        self.paths = []

    def save_pretrained(self, path):
        self.paths.append(path)


def test_every_hook_can_be_called_by_position():
    callback = TrainingCallback()
    callback.on_train_begin({})
    callback.on_epoch_begin(0, {})
    callback.on_step_begin(1, {})
    assert callback.on_step_end(1, 0.5, None, {}) is None
    callback.on_epoch_end(0, None, {})
    callback.on_train_end({})


class TestEvaluation:
    def test_when_it_runs(self):
        callback = EvaluationCallback(lambda **_: {"correlation": 0.5}, n_evaluation=5)
        assert (callback.n_evaluation, callback.do_eval, callback.last_eval_step) == (5, True, -1)
        stats = {}
        assert callback.on_step_end(0, 0.1, None, {}, stats) == {"correlation": 0.5}
        assert callback.on_step_end(3, 0.1, None, {}, stats) is None
        assert callback.on_step_end(3, 0.1, None, {}, stats, last_iteration=True) == {"correlation": 0.5}
        assert callback.last_eval_step == 3
        assert stats["scores"] == {0: 0.5, 3: 0.5}

    def test_it_never_runs_with_do_eval_false(self):
        def fail(**kwargs):
            pytest.fail("called")

        assert EvaluationCallback(fail, do_eval=False).on_step_end(0, 0.1, None, {}, {}) is None


@pytest.mark.parametrize("make", [lambda: EvaluationCallback(None, 0), lambda: LoggingCallback(n_loss_report=0)])
def test_intervals_are_at_least_one_step(make):
    with pytest.raises(ValueError, match="counts steps, at least 1; got 0"):
        make()


def test_what_is_recorded_of_an_inverted_encoding_is_what_that_encoding_gives():
    rows = pd.DataFrame({"encoded": [-0.9, -0.3, 0.1, 0.7, 0.8], "label": [1, 1, 1, -1, -1], "type": "training"})
    rows["source_id"] = rows["label"].map({1: "a", -1: "b"})
    result = get_encoder_metrics_from_dataframe(rows)
    measured = get_encoder_metrics_from_dataframe(rows.assign(encoded=-rows["encoded"]))
    by_hand, by_sign = {}, {}
    record_evaluation(by_hand, 5, measured)
    record_evaluation(by_sign, 5, inverted_result(result))
    kinds = [f"{what}_by_{name}" for what in ("mean", "min", "max", "q1", "q3", "std", "n") for name in GROUPED]
    assert set(by_sign) == {"correlation", "scores", "label_value_to_class_name", *kinds}
    assert by_sign["correlation"] == pytest.approx(by_hand["correlation"])
    for key in kinds:
        assert by_sign[key][5] == pytest.approx(by_hand[key][5]), key


class TestCheckpoints:
    @pytest.mark.parametrize(("given", "step"), [(False, 0), (True, 7), (3, 3)])
    def test_intervals(self, given, step):
        callback = CheckpointCallback("out", checkpoints=given, checkpoint_interval=7)
        assert callback.checkpoint_step == step
        assert (callback.output, callback.keep_only_best, callback.use_loss_for_best) == ("out", True, False)
        assert callback.best_score is None

    def test_a_better_score_is_saved_from_step_2_on(self):
        callback, model = CheckpointCallback("out"), Saving()
        for step, score, saved in ((1, 0.9, 0), (2, 0.5, 1), (3, -0.7, 2), (4, 0.6, 2), (5, 0.7, 2)):
            callback.on_step_end(step, 0.1, model, {}, {"correlation": score})
            assert len(model.paths) == saved
        assert callback.best_score == -0.7
        assert set(model.paths) == {"out_best"}

    def test_the_lowest_loss(self):
        callback, model = CheckpointCallback("out", use_loss_for_best=True), Saving()
        for step, loss in ((2, 0.5), (3, 0.7), (4, 0.2)):
            callback.on_step_end(step, loss, model, {}, {"correlation": 0.9})
        assert callback.best_score == 0.2
        assert len(model.paths) == 2

    def test_periodic_ones_come_in_addition(self):
        callback, model = CheckpointCallback("out", checkpoints=2), Saving()
        for step in range(1, 5):
            callback.on_step_end(step, 0.1, model, {}, {"correlation": 0.5})
        assert model.paths == ["out_step_2", "out_best", "out_step_4"]

    @pytest.mark.parametrize(("only_best", "path"), [(True, "out_best"), (False, "out_epoch_1")])
    def test_an_epoch_without_evaluation_is_saved_once(self, only_best, path):
        callback, model = CheckpointCallback("out", keep_only_best=only_best), Saving()
        callback.on_epoch_end(0, model, {}, {}, [])
        assert model.paths == [path]


class TestDefaults:
    @pytest.mark.parametrize("config", [TrainingArguments(output_dir="x"), {"output_dir": "x"}])
    def test_four_in_order(self, config):
        kinds = [EvaluationCallback, NormalizationCallback, CheckpointCallback, LoggingCallback]
        assert [type(callback) for callback in get_default_callbacks(config)] == kinds

    def test_logging_needs_no_model(self, caplog):
        callback = LoggingCallback(n_loss_report=2)
        assert (callback.n_loss_report, callback.loss_only) == (2, False)
        losses = [1.0, 3.0]
        with caplog.at_level(logging.INFO):
            callback.on_step_end(2, 3.0, None, {}, losses, {"correlation": 0.25})
        callback.on_epoch_end(0, None, {}, {"total": 1.0})
        assert "mean loss 2" in caplog.text
        assert "0.250" in caplog.text
        assert losses == []


class TestEarlyStopping:
    def stopped_at(self, callback, scores):
        callback.on_train_begin({})
        control = TrainingControl()
        for number, score in enumerate(scores):
            callback.on_step_end(number, 0.1, None, {}, {"correlation": score}, control)
            if control.should_stop:
                return number
        return None

    def test_patience(self):
        assert self.stopped_at(EarlyStoppingCallback(2), [0.1, 0.2, 0.2, 0.15, 0.9]) == 3
        assert self.stopped_at(EarlyStoppingCallback(2), [0.1, 0.1, 0.2, 0.2, 0.3]) is None
        assert self.stopped_at(EarlyStoppingCallback(1), [0.5, -0.6]) is None
        assert self.stopped_at(EarlyStoppingCallback(1, min_improvement=0.2), [0.5, 0.6]) == 1

    def test_threshold(self):
        assert self.stopped_at(EarlyStoppingCallback(None, threshold=0.9), [0.5, -0.95, 0.1]) == 1

    def test_every_training_starts_anew(self):
        callback = EarlyStoppingCallback(2)
        assert self.stopped_at(callback, [0.9, 0.1]) is None
        assert self.stopped_at(callback, [0.2, 0.1]) is None

    def test_steps_without_evaluation_do_not_count(self):
        callback, control = EarlyStoppingCallback(1), TrainingControl()
        for step in range(5):
            callback.on_step_end(step, 0.1, None, {}, None, control)
        assert not control.should_stop

    @pytest.mark.parametrize(
        "arguments",
        [{"patience": None}, {"patience": 0}, {"min_improvement": -1.0}, {"threshold": 0.0}, {"threshold": 1.5}],
    )
    def test_bad_arguments(self, arguments):
        with pytest.raises(ValueError, match=r"patience|min_improvement|threshold"):
            EarlyStoppingCallback(**arguments)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tiny_data.save_bert(tmp_path_factory.mktemp("bert"))


def test_a_training_ends_early_and_keeps_the_best(path):
    scores = iter([0.9, 0.5, 0.4, 0.99])
    trainer = tiny_data.trainer(path, {"max_steps": 20, "evaluate_fn": lambda **_: {"correlation": next(scores)}})
    stats = load_training_stats(trainer.train(callbacks=[EarlyStoppingCallback(patience=2)]).model_path)
    assert len(stats["losses"]) == 6
    assert stats["best_score_checkpoint"]["correlation"] == 0.9


def test_tensorboard_writes_what_the_statistics_say(path, tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    fields = {"experiment_dir": str(tmp_path), "max_seeds": 2, "min_convergent_seeds": None}
    tiny_data.trainer(path, fields).train(callbacks=[TensorBoardCallback(loss_every=1)])
    for seed in (0, 1):
        events = reader.EventAccumulator(str(tmp_path / "seeds" / "tensorboard" / f"seed_{seed}"))
        events.Reload()
        stats = load_training_stats(tmp_path / "seeds" / f"seed_{seed}")
        losses = [event.value for event in events.Scalars("train/loss")]
        assert losses == pytest.approx(stats["losses"])
        logged = {event.step: event.value for event in events.Scalars("eval/correlation")}
        assert logged == pytest.approx({int(step): score for step, score in stats["training_stats"]["scores"].items()})
        assert {"eval/mean/SG", "eval/mean/PL", "eval/encoder_norm"} <= set(events.Tags()["scalars"])


@pytest.mark.parametrize(("kind", "package"), [(TensorBoardCallback, "tensorboard"), (WandbCallback, "wandb")])
def test_a_missing_package_says_what_to_install(kind, package, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr("gradiend.util._imports.find_spec", lambda name: None if name == package else find_spec(name))
    with pytest.raises(
        ImportError, match=rf'needs {package}: pip install {package} \(or, .* pip install "\.\[tracking\]"\)'
    ):
        kind()


def test_losses_are_reported_at_least_every_step():
    with pytest.raises(ValueError, match="loss_every"):
        WandbCallback(loss_every=0)
