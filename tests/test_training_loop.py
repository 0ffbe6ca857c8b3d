"""The loop, its callbacks and its files, on synthetic gradients."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
import tiny_data
import torch

from gradiend import TrainingArguments, load_training_stats
from gradiend.model.core.backbone import build_gradiend_from_base_model
from gradiend.trainer import (
    CheckpointCallback,
    EvaluationCallback,
    LoggingCallback,
    NormalizationCallback,
    TrainingCallback,
    get_default_callbacks,
    set_seed,
    train_core,
)
from gradiend.trainer.core._step import AnalyticOptimizer
from gradiend.trainer.core.dataset import GradientBatches, compose_batches, take_turns
from gradiend.trainer.text import TextPredictionModelWithGradiend


def new_model(seed=0):
    base = tiny.bert()
    set_seed(seed)
    gradiend = build_gradiend_from_base_model(base, "tiny", param_map=["*layer.0*"])
    return TextPredictionModelWithGradiend(base, gradiend, tiny.bert_tokenizer())


class Synthetic(GradientBatches):
    """Two classes whose gradients are ±direction plus noise."""

    def __init__(self, size, n_batches=20):
        generator = torch.Generator().manual_seed(0)
        self.direction = torch.randn(size, generator=generator) / size**0.5
        self.signs = [1.0, -1.0] * (n_batches // 2)
        self.noise = 0.3 * torch.randn(n_batches, size, generator=generator) / size**0.5

    def __len__(self):
        return len(self.signs)

    def epoch(self, index, seed):
        order = np.random.default_rng([seed, index]).permutation(len(self))
        for number in order:
            gradient = self.signs[number] * self.direction + self.noise[number]
            yield {"source": gradient, "target": gradient, "label": self.signs[number]}


def correlation_of(model, data):
    """An evaluate_fn: encodings of the batches against their labels."""

    def evaluate(config, training_stats):
        encoded = [float(model.encode(batch["source"])) for batch in data]
        labels = [batch["label"] for batch in data]
        means = {
            sign: float(np.mean([e for e, s in zip(encoded, labels, strict=True) if s == sign])) for sign in (1.0, -1.0)
        }
        return {"correlation": float(np.corrcoef(encoded, labels)[0, 1]), "mean_by_class": means}

    return evaluate


def run(tmp_path, model=None, **overrides):
    model = model or new_model()
    data = Synthetic(len(model.gradiend))
    arguments = {"learning_rate": 1e-2, "max_steps": 30, "eval_steps": 10, "evaluate_fn": correlation_of(model, data)}
    path = train_core(
        model, data, TrainingArguments(), output_dir=str(tmp_path / "model"), **{**arguments, **overrides}
    )
    return model, data, path


def test_a_run_learns_and_writes_what_it_did(tmp_path):
    model, data, path = run(tmp_path)
    stats = load_training_stats(path)
    assert stats["training_stats"]["correlation"] > 0.99
    assert list(stats["training_stats"]["scores"]) == ["10", "20", "30"]
    assert set(stats["training_stats"]["encoder_norms"]) == {"10", "20", "30"}
    assert len(stats["losses"]) == 30
    assert stats["losses"][-1] < stats["losses"][0]
    assert stats["training_args"]["max_steps"] == 30
    loaded = TextPredictionModelWithGradiend._sharing(
        model, model.base_model, type(model.gradiend).from_pretrained(path)
    )
    gradient = next(iter(data))["source"]
    assert torch.equal(loaded.encode(gradient), model.encode(gradient))
    assert not Path(f"{path}_best").exists()


def test_the_same_seed_gives_the_same_bits(tmp_path):
    first, _, _ = run(tmp_path / "a")
    second, _, _ = run(tmp_path / "b")
    other, _, _ = run(tmp_path / "c", seed=5)
    for one, two, three in zip(first.parameters(), second.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
        assert not torch.equal(one, three)


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_the_first_class_encodes_positive_whatever_the_start(tmp_path, seed):
    model, data, path = run(tmp_path, new_model(seed))
    result = correlation_of(model, data)(None, None)
    assert result["correlation"] > 0.99
    assert load_training_stats(path)["best_score_checkpoint"]["correlation"] > 0.99
    assert result["mean_by_class"][1.0] > 0 > result["mean_by_class"][-1.0]


def test_a_training_that_is_not_evaluated_still_encodes_the_first_class_positive(tmp_path):
    raw = {"do_eval": False, "save_strategy": "no"}
    signs = {True: [], False: []}
    for normalize, seen in signs.items():
        for seed in range(4):
            path = tmp_path / f"{normalize}{seed}"
            model, data, _ = run(path, new_model(seed), normalize_gradiend=normalize, **raw)
            seen.append(correlation_of(model, data)(None, None)["correlation"] > 0)
    assert all(signs[True])
    assert not all(signs[False])


def test_without_normalisation_a_start_on_the_wrong_side_stays_there(tmp_path):
    negative = []
    for seed in range(4):
        model, data, _ = run(tmp_path / str(seed), new_model(seed), normalize_gradiend=False)
        negative.append(correlation_of(model, data)(None, None)["correlation"] < 0)
    assert any(negative)
    assert not all(negative)


def test_the_best_model_is_kept_not_the_last(tmp_path):
    """Evaluations that fall from step to step: the first one saved, after step 2, is the result."""
    model = new_model()
    states, scores = {}, iter([0.9, 0.8, 0.7])

    def falling(config, training_stats):
        states[training_stats["global_step"]] = model.gradiend.encoder_linear.weight.detach().clone()
        return {"correlation": next(scores)}

    _, _, path = run(tmp_path, model, evaluate_fn=falling)
    assert torch.equal(model.gradiend.encoder_linear.weight, states[10])
    assert load_training_stats(path)["best_score_checkpoint"]["global_step"] == 10


def test_save_strategy_no_keeps_the_last(tmp_path):
    model = new_model()
    states, scores = {}, iter([0.9, 0.8, 0.7])

    def falling(config, training_stats):
        states[training_stats["global_step"]] = model.gradiend.encoder_linear.weight.detach().clone()
        return {"correlation": next(scores)}

    run(tmp_path, model, evaluate_fn=falling, save_strategy="no")
    assert torch.equal(model.gradiend.encoder_linear.weight, states[30])


def test_a_weak_negative_encoding_is_inverted_at_the_end(tmp_path):
    """−0.3 is not clear enough to invert during training; the result is made positive all the same."""
    model = new_model()
    states, scores = [], iter([-0.3, -0.2, -0.1])

    def slightly_negative(config, training_stats):
        states.append(model.gradiend.encoder_linear.weight.detach().clone())
        return {"correlation": next(scores), "mean_by_class": {1.0: -0.4, -1.0: 0.2}}

    _, _, path = run(tmp_path, model, evaluate_fn=slightly_negative)
    assert torch.equal(model.gradiend.encoder_linear.weight, -states[0])
    stats = load_training_stats(path)
    assert stats["best_score_checkpoint"]["correlation"] == 0.3
    # Step 10 was kept: its figures are those of the inverted model, the others stay as they were measured.
    assert stats["training_stats"]["scores"] == {"10": 0.3, "20": -0.2, "30": -0.1}
    assert stats["training_stats"]["mean_by_class"]["10"] == {"1.0": 0.4, "-1.0": -0.2}
    assert stats["training_stats"]["mean_by_class"]["30"] == {"1.0": -0.4, "-1.0": 0.2}
    assert stats["training_stats"]["correlation"] == -0.1


def test_an_encoding_that_cannot_be_inverted_keeps_its_signs_in_the_report(tmp_path, caplog):
    base = tiny.bert()
    gradiend = build_gradiend_from_base_model(base, "tiny", param_map=["*layer.0*"], activation_encoder="sigmoid")
    model = TextPredictionModelWithGradiend(base, gradiend, tiny.bert_tokenizer())
    _, _, path = run(tmp_path, model, evaluate_fn=lambda **_: {"correlation": -0.3})
    assert "cannot be inverted" in caplog.text
    assert load_training_stats(path)["best_score_checkpoint"]["correlation"] == -0.3


def test_a_best_model_that_an_interrupted_run_left_is_not_taken(tmp_path):
    stranger = new_model(seed=9)
    stranger.save_pretrained(str(tmp_path / "model_best"))
    model = new_model()
    run(tmp_path, model, evaluate_fn=None, save_strategy="no")
    assert not torch.equal(model.gradiend.encoder_linear.weight, stranger.gradiend.encoder_linear.weight)
    assert not (tmp_path / "model_best").exists()


def test_steps_and_epochs_are_saved_when_asked_for(tmp_path):
    run(tmp_path, save_strategy="steps", save_steps=20, save_only_best=False, max_steps=-1, num_train_epochs=2)
    assert (tmp_path / "model_step_20" / "config.json").is_file()
    assert (tmp_path / "model_step_40" / "config.json").is_file()
    assert (tmp_path / "model_epoch_1" / "config.json").is_file()
    assert (tmp_path / "model_epoch_2" / "config.json").is_file()


def test_whole_epochs_unless_max_steps(tmp_path):
    _, _, path = run(tmp_path, max_steps=-1, num_train_epochs=2)
    assert len(load_training_stats(path)["losses"]) == 2 * 20
    _, _, path = run(tmp_path, max_steps=25)
    assert len(load_training_stats(path)["losses"]) == 25


def test_callbacks_see_every_event_with_the_documented_keywords(tmp_path):
    events = []

    class Recorder(TrainingCallback):
        def on_train_begin(self, config, **kwargs):
            events.append("train begin")

        def on_epoch_begin(self, epoch, config, **kwargs):
            events.append(f"epoch {epoch} begin")

        def on_step_begin(self, step, config, **kwargs):
            events.append(f"step {step} begin")

        def on_step_end(self, step, loss, model, config, **kwargs):
            keywords = (
                "training_stats eval_result losses last_losses last_iteration best_score_checkpoint epoch control"
            )
            assert set(keywords.split()) <= set(kwargs)
            assert kwargs["losses"][-1] == loss
            assert (kwargs["eval_result"] is not None) == (step % 10 == 0)
            assert kwargs["last_iteration"] == (step == 20)
            events.append(f"step {step} end")

        def on_epoch_end(self, epoch, model, config, **kwargs):
            events.append(f"epoch {epoch} end")

        def on_train_end(self, config, **kwargs):
            events.append("train end")

    run(tmp_path, max_steps=20, callbacks=[Recorder()])
    steps = [event for number in range(1, 21) for event in (f"step {number} begin", f"step {number} end")]
    assert events == ["train begin", "epoch 0 begin", *steps, "epoch 0 end", "train end"]


def test_a_callback_can_stop_the_training(tmp_path):
    class Stopper(TrainingCallback):
        def on_step_end(self, step, loss, model, config, **kwargs):
            kwargs["control"].should_stop = step == 7

    _, _, path = run(tmp_path, callbacks=[Stopper()])
    assert len(load_training_stats(path)["losses"]) == 7


def test_a_training_that_float16_cannot_hold_says_so(tmp_path):
    path = tiny_data.save_bert(tmp_path / "bert")
    trainer = tiny_data.trainer(path, {"torch_dtype": "float16", "output_dir": str(tmp_path / "out")})
    with pytest.raises(
        FloatingPointError,
        match=r"became nan at step 2, on batch \(1, 0\) of class PL\. float16 .* set torch_dtype to bfloat16",
    ):
        trainer.train()


def test_the_epsilon_of_a_float16_training_is_the_one_that_was_set(tmp_path):
    arguments = {"torch_dtype": "float16", "adam_epsilon": 1e-3, "output_dir": str(tmp_path / "out")}
    trained = tiny_data.trainer(tiny_data.save_bert(tmp_path / "bert"), arguments).train()
    assert all(parameter.isfinite().all() for parameter in trained.get_model().gradiend.parameters())


def test_an_infinite_loss_stops_at_once(tmp_path):
    model = new_model()
    data = Synthetic(len(model.gradiend))
    data.direction[0] = torch.inf
    with pytest.raises(FloatingPointError, match=r"at step 1\. Lower learning_rate"):
        train_core(model, data, TrainingArguments(), output_dir=str(tmp_path / "model"))


def test_bad_calls_are_errors_before_any_step(tmp_path):
    model = new_model()
    data = Synthetic(len(model.gradiend))
    with pytest.raises(ValueError, match="Did you mean 'learning_rate'"):
        train_core(model, data, learning_rat=1e-3, output_dir=str(tmp_path))
    with pytest.raises(ValueError, match="training data is empty"):
        train_core(model, [], output_dir=str(tmp_path))
    with pytest.raises(ValueError, match="output_dir"):
        train_core(model, data)


def test_any_sized_iterable_of_gradients_will_do(tmp_path):
    model = new_model()
    batches = list(Synthetic(len(model.gradiend)))
    path = train_core(model, batches, max_steps=30, output_dir=str(tmp_path / "m"))
    assert len(load_training_stats(path)["losses"]) == 30


class TestCallbacks:
    """Each on its own, called as the documentation shows."""

    def test_the_defaults(self):
        kinds = [type(callback) for callback in get_default_callbacks({"eval_steps": 7})]
        assert kinds == [EvaluationCallback, NormalizationCallback, CheckpointCallback, LoggingCallback]
        assert get_default_callbacks({"eval_steps": 7})[0].n_evaluation == 7

    def test_evaluation_is_due_at_multiples_and_at_the_end(self):
        calls = []

        def evaluate(config, training_stats):
            calls.append(len(calls))
            return {"correlation": 0.5, "mean_by_class": {1.0: 0.4}}

        callback = EvaluationCallback(evaluate, n_evaluation=10)
        assert callback.last_eval_step == -1
        stats: dict = {}
        results = [
            callback.on_step_end(
                step=step, loss=1.0, model=None, config={}, training_stats=stats, last_iteration=step == 23
            )
            for step in (0, 5, 10, 23)
        ]
        assert [result is not None for result in results] == [True, False, True, True]
        assert stats["scores"] == {0: 0.5, 10: 0.5, 23: 0.5}
        assert stats["mean_by_class"][23] == {1.0: 0.4}
        assert stats["correlation"] == 0.5
        assert callback.last_eval_step == 23

    def test_evaluation_can_be_switched_off(self):
        callback = EvaluationCallback(lambda **_: pytest.fail("called"), n_evaluation=1, do_eval=False)
        assert callback.on_step_end(step=1, loss=1.0, model=None, config={}, training_stats={}) is None

    def test_normalisation_inverts_weights_and_figures(self):
        model = new_model()
        gradient = torch.randn(len(model.gradiend))
        stats = {"correlation": -0.8, "scores": {3: -0.8}}
        optimizer = AnalyticOptimizer(model.gradiend, TrainingArguments())
        optimizer.step(gradient, gradient)
        before, decoded = model.encode(gradient), model.gradiend(gradient)
        moments = optimizer.encoder_weight.first.clone()
        result = NormalizationCallback().on_step_end(
            optimizer=optimizer,
            step=3, loss=1.0, model=model, config={}, training_stats=stats,
            eval_result={"correlation": -0.8, "mean_by_class": {1.0: -0.9, -1.0: 0.7}},
        )  # fmt: skip
        assert torch.equal(model.encode(gradient), -before)
        assert torch.equal(optimizer.encoder_weight.first, -moments)
        assert torch.allclose(model.gradiend(gradient), decoded)
        assert stats["scores"] == {3: 0.8}
        assert stats["mean_by_class"][3] == {1.0: 0.9, -1.0: -0.7}
        assert result["correlation"] == 0.8

    @pytest.mark.parametrize(
        ("normalize", "correlation"), [(True, -0.4), (True, 0.9), (False, -0.9), (True, float("nan"))]
    )
    def test_normalisation_leaves_other_encodings_alone(self, normalize, correlation):
        model = new_model()
        before = model.gradiend.encoder_linear.weight.clone()
        NormalizationCallback(normalize).on_step_end(
            step=1, loss=1.0, model=model, config={}, training_stats={}, eval_result={"correlation": correlation}
        )
        assert torch.equal(model.gradiend.encoder_linear.weight, before)

    def test_an_encoder_that_is_not_odd_is_left_and_said(self, caplog):
        base = tiny.bert()
        gradiend = build_gradiend_from_base_model(base, "tiny", param_map=["*layer.0*"], activation_encoder="relu")
        model = TextPredictionModelWithGradiend(base, gradiend, tiny.bert_tokenizer())
        before = gradiend.encoder_linear.weight.clone()
        NormalizationCallback().on_step_end(
            step=1, loss=1.0, model=model, config={}, training_stats={}, eval_result={"correlation": -0.9}
        )
        assert torch.equal(gradiend.encoder_linear.weight, before)
        assert "cannot be inverted" in caplog.text

    def test_checkpoints_follow_the_absolute_correlation(self, tmp_path):
        saved = []

        class Recorder:
            def save_pretrained(self, path):
                saved.append(Path(path).name)

        callback = CheckpointCallback(str(tmp_path / "m"), checkpoints=4)
        assert (callback.checkpoint_step, callback.best_score) == (4, None)
        for step, correlation in enumerate([0.9, float("nan"), 0.5, 0.6, -0.7, 0.8], start=1):
            callback.on_step_end(
                step=step, loss=1.0, model=Recorder(), config={}, training_stats={"correlation": correlation}
            )
        assert saved == ["m_best", "m_step_4", "m_best", "m_best", "m_best"]
        assert callback.best_score == 0.8

    def test_the_loss_can_decide(self, tmp_path):
        saved = []

        class Recorder:
            def save_pretrained(self, path):
                saved.append(path)

        callback = CheckpointCallback(str(tmp_path / "m"), use_loss_for_best=True)
        for step, loss in enumerate([1.0, 0.5, 0.6, 0.4], start=1):
            callback.on_step_end(step=step, loss=loss, model=Recorder(), config={}, training_stats={})
        assert len(saved) == 2
        assert callback.best_score == 0.4

    def test_without_evaluation_an_epoch_saves_once(self, tmp_path):
        saved = []

        class Recorder:
            def save_pretrained(self, path):
                saved.append(path)

        callback = CheckpointCallback(str(tmp_path / "m"))
        callback.on_epoch_end(epoch=0, model=Recorder(), config={}, training_stats={}, losses=[])
        assert saved == [str(tmp_path / "m_best")]

    def test_logging_reports_the_mean_loss(self, caplog):
        losses = [1.0, 3.0]
        with caplog.at_level("INFO", logger="gradiend"):
            LoggingCallback(n_loss_report=2).on_step_end(step=2, loss=3.0, model=None, config={}, last_losses=losses)
        assert "step 2: mean loss 2" in caplog.text
        assert losses == []


class TestBatches:
    """Composition and order of batches."""

    def test_every_row_is_in_a_batch_of_its_own_class(self):
        groups = [np.arange(0, 23), np.arange(100, 107)]
        composed = compose_batches(groups, 5, seed=1)
        assert [len(group) for group in composed] == [5, 2]
        for group, batches in zip(groups, composed, strict=True):
            assert set(np.concatenate(batches)) == set(group)
            assert all(len(batch) == 5 for batch in batches)

    def test_composition_depends_on_the_data_seed_alone(self):
        groups = [np.arange(50)]
        first, again, other = (compose_batches(groups, 5, seed) for seed in (1, 1, 2))
        assert all(np.array_equal(a, b) for a, b in zip(first[0], again[0], strict=True))
        assert not all(np.array_equal(a, b) for a, b in zip(first[0], other[0], strict=True))

    def test_classes_take_turns_and_smaller_ones_are_cycled(self):
        order = list(take_turns([range(4), range(2)], epoch=0, seed=3))
        assert [group for group, _ in order] == [0, 1] * 4
        assert sorted(number for group, number in order if group == 0) == [0, 1, 2, 3]
        assert sorted(number for group, number in order if group == 1) == [0, 0, 1, 1]

    def test_the_order_changes_with_epoch_and_seed(self):
        orders = {tuple(take_turns([range(20)], epoch, seed)) for epoch, seed in ((0, 0), (1, 0), (0, 1))}
        assert len(orders) == 3


def test_training_statistics_are_plain_json(tmp_path):
    _, _, path = run(tmp_path)
    content = json.loads((Path(path) / "training.json").read_text())
    assert set(content) == {
        "training_stats",
        "best_score_checkpoint",
        "training_args",
        "time",
        "losses",
        "convergence_info",
        "checksum",
        "format_version",
        "of_weights",
    }
