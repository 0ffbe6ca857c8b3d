"""TrainingArguments: every field changes the run, bad values are named, and they survive a round trip."""

import dataclasses
import json

import numpy as np
import pytest
import tiny_data
import torch
from torch import nn

from gradiend import (
    TextFilterConfig,
    TextPredictionDataCreator,
    TextPredictionTrainer,
    TrainingArguments,
    load_training_stats,
)
from gradiend.model._architecture import default_devices, resolve_device_config_for_model
from gradiend.trainer.core.callbacks import EarlyStoppingCallback
from gradiend.trainer.text import TextPredictionModelWithGradiend
from gradiend.util._argument_fields import field_sentences


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tiny_data.save_bert(tmp_path_factory.mktemp("bert"))


def creator(**fields):
    return TextPredictionDataCreator(["He met her."], feature_targets=[TextFilterConfig(["he"], id="3SG")], **fields)


def run(path, **fields):
    """(trained model, training.json, trainer)."""
    trainer = tiny_data.trainer(path, fields).train()
    return trainer.get_model(), load_training_stats(trainer.model_path), trainer


@pytest.fixture(scope="module")
def usual(path):
    return run(path)


def weights(model):
    return torch.cat([parameter.detach().reshape(-1).double() for parameter in model.parameters()])


OTHER_WEIGHTS = {
    "source": "factual",
    "target": "factual",
    "train_batch_size": 3,
    "train_max_size": 16,
    "learning_rate": 2e-3,
    "max_steps": 3,
    "weight_decay": 0.5,
    "adam_epsilon": 1e-2,
    "optim": "adam",
    "criterion": nn.L1Loss(),
    "params": ["*layer.1*"],
    "activation_encoder": "SMHT",
    "activation_decoder": "tanh",
    "bias_decoder": False,
    "latent_dim": 2,
    "torch_dtype": torch.float64,
    "seed": 1,
    "supervised_encoder": True,
}


@pytest.mark.parametrize("field", OTHER_WEIGHTS)
def test_another_value_gives_other_weights(path, usual, field):
    extra = {"weight_decay": 0.5} if field == "optim" else {}
    before = run(path, **extra)[0] if extra else usual[0]
    model, stats, _ = run(path, **{field: OTHER_WEIGHTS[field]}, **extra)
    one, two = weights(before), weights(model)
    assert one.shape != two.shape or not torch.equal(one, two)
    assert stats["training_args"].get(field, "not serialised") != TrainingArguments().get(field)


class TestWhereEachFieldActs:
    def test_the_shape_of_the_network(self, path):
        fields = {
            "latent_dim": 2,
            "activation_encoder": "relu",
            "activation_decoder": "tanh",
            "bias_decoder": False,
            "torch_dtype": "bfloat16",
            "params": ["*layer.1.output*"],
        }
        model, _, _ = run(path, source="diff", target="alternative", **fields)
        gradiend = model.gradiend
        assert (gradiend.latent_dim, gradiend.bias_decoder, gradiend.torch_dtype) == (2, False, torch.bfloat16)
        assert (gradiend.activation_encoder, gradiend.activation_decoder) == ("relu", "tanh")
        assert all("layer.1.output" in name for name in gradiend.param_map)
        assert (model.source, model.target) == ("diff", "alternative")

    def test_n_features_of_the_trainer_is_the_latent_dim_unless_the_arguments_say_it(self, path):
        assert tiny_data.trainer(path, n_features=3).get_model().gradiend.latent_dim == 3
        assert tiny_data.trainer(path, {"latent_dim": 2}, n_features=3).get_model().gradiend.latent_dim == 2

    def test_epochs_and_steps(self, path):
        # 24 rows a class and 4 a batch: 12 batches an epoch.
        assert len(run(path, max_steps=-1, num_train_epochs=2)[1]["losses"]) == 24
        assert len(run(path, max_steps=-1, num_train_epochs=1, train_batch_size=8)[1]["losses"]) == 6
        assert len(run(path, max_steps=-1, num_epochs=1, train_max_size=16)[1]["losses"]) == 4

    def test_when_it_is_evaluated(self, path, usual):
        assert list(usual[1]["training_stats"]["scores"]) == ["2", "4"]
        assert list(run(path, eval_steps=1)[1]["training_stats"]["scores"]) == ["1", "2", "3", "4"]
        for fields in ({"do_eval": False}, {"eval_strategy": "no"}):
            assert "scores" not in run(path, **fields)[1]["training_stats"]
        own = run(path, evaluate_fn=lambda **_: {"correlation": 0.25})[1]["training_stats"]
        assert own["scores"] == {"2": 0.25, "4": 0.25}

    def test_the_first_class_is_made_positive_unless_told_otherwise(self, path):
        signs = {True: [], False: []}
        for normalize, found in signs.items():
            for seed in range(3):
                stats = run(path, seed=seed, normalize_gradiend=normalize)[1]
                found.append(stats["best_score_checkpoint"]["correlation"] > 0)
        assert all(signs[True])
        assert not all(signs[False])

    def test_how_many_rows_are_evaluated(self, path):
        counted = []

        class Counting(TextPredictionModelWithGradiend):
            def encode_words(self, factual, alternative, **kwargs):
                counted.append((len(factual), kwargs["batch_size"]))
                return super().encode_words(factual, alternative, **kwargs)

        fields = {"encoder_eval_train_max_size": 3, "eval_batch_size": 5}
        tiny_data.trainer(path, fields).train(model_with_gradiend_cls=Counting)
        assert set(counted) == {(6, 5)}
        counted.clear()
        fields = {"max_seeds": 2, "min_convergent_seeds": None, "do_eval": False}
        for more, rows in (({}, 16), ({"encoder_eval_max_size": 2}, 4), ({"seed_selection_eval_max_size": 1}, 2)):
            tiny_data.trainer(path, {**fields, **more}).train(model_with_gradiend_cls=Counting)
            assert {number for number, _ in counted} == {rows}
            counted.clear()

    def test_the_rows_of_evaluate_encoder(self, path):
        data = tiny_data.rows().drop(index=range(76, 80))  # one test row fewer of the second class
        for fields, counts in (
            ({}, [7, 7]),
            ({"encoder_eval_balance": False}, [8, 7]),
            ({"encoder_eval_max_size": 2}, [2, 2]),
        ):
            frame = tiny_data.trainer(path, fields, data).train().evaluate_encoder(return_df=True)["encoder_df"]
            labels = frame.loc[frame["type"] == "training", "label"].value_counts()
            assert [labels[1.0], labels[-1.0]] == counts

    def test_other_classes_come_along_as_identity_rows(self, path):
        data = tiny_data.rows({**tiny_data.WORDS, "IT": ("it",)})
        args = TrainingArguments(**tiny_data.QUICK)
        trainer = TextPredictionTrainer(path, data=data, target_classes=["SG", "PL"], args=args)
        model = trainer.get_model()
        for include, labels in ((False, {1.0: 8, -1.0: 8}), (True, {1.0: 8, -1.0: 8, 0.0: 8})):
            found = trainer.create_eval_data(model, "val", include_other_classes=include).rows
            assert found["label"].value_counts().to_dict() == labels
            capped = trainer.create_eval_data(model, "val", max_size=3, include_other_classes=include).rows
            assert set(capped["source_id"].value_counts()) == {3}
        plain = trainer.train().get_model()
        identity = trainer.train(add_identity_for_other_classes=True).get_model()
        assert not torch.equal(weights(plain), weights(identity))
        assert len(trainer.create_eval_data(model, "nowhere")) == 0

    def test_the_grid_of_evaluate_decoder(self, path):
        fields = {
            "decoder_eval_lrs": [0.5, 0.25],
            "decoder_eval_feature_factors": [1.0, -2.0],
            "decoder_eval_max_size_training_like": 2,
            "decoder_eval_max_size_neutral": 3,
        }
        trainer = tiny_data.trainer(path, fields).train()
        sizes = []
        prepare = trainer.prepare_base_model_evaluation

        def recording(model, tokenizer, rows, neutral, **kwargs):
            sizes.append((rows["factual_class"].value_counts().max(), len(neutral), kwargs["eval_batch_size"]))
            return prepare(model, tokenizer, rows, neutral, **kwargs)

        trainer.prepare_base_model_evaluation = recording
        grid = trainer.evaluate_decoder()["grid"]
        assert {key for key in grid if key != "base"} <= {(f, lr) for f in (1.0, -2.0) for lr in (0.5, 0.25)}
        assert len(grid) > 1
        assert set(sizes) == {(2, 3, 32)}

    def test_which_checkpoints_there_are(self, path, tmp_path):
        def directories(name, **fields):
            run(path, experiment_dir=str(tmp_path / name), **fields)
            return sorted(entry.name for entry in (tmp_path / name).iterdir() if entry.is_dir())

        assert directories("best") == ["model"]
        steps = {"save_strategy": "steps", "save_steps": 3, "max_steps": 7}
        assert directories("steps", **steps) == ["model", "model_step_3", "model_step_6"]
        epochs = {"save_only_best": False, "max_steps": -1, "num_train_epochs": 2, "train_batch_size": 24}
        assert directories("epochs", **epochs) == ["model", "model_epoch_1", "model_epoch_2"]
        assert directories("deleted", delete_models=True, **steps) == ["model"]
        assert (tmp_path / "deleted" / "model" / "model.safetensors").is_file()

    def test_the_last_model_is_kept_with_save_strategy_no(self, path):
        kept = {}
        for strategy in ("best", "no"):
            scores = iter([0.9, 0.1])

            def falling(scores=scores, **_):
                return {"correlation": next(scores)}

            kept[strategy] = run(path, save_strategy=strategy, evaluate_fn=falling)[0]
        assert not torch.equal(weights(kept["best"]), weights(kept["no"]))

    def test_places(self, path, tmp_path):
        run(path, output_dir=str(tmp_path / "here"))
        assert (tmp_path / "here" / "config.json").is_file()
        run(path, experiment_dir=str(tmp_path / "there"), max_seeds=2, seed_runs_dir=str(tmp_path / "seeds elsewhere"))
        assert (tmp_path / "there" / "model" / "config.json").is_file()
        assert (tmp_path / "seeds elsewhere" / "seed_report.json").is_file()

    def test_metadata_is_written_down(self, path):
        assert run(path, metadata={"why": "because"})[1]["training_args"]["metadata"] == {"why": "because"}

    def test_what_the_loading_of_the_model_gets(self, path):
        seen = {}

        class Recording(TextPredictionModelWithGradiend):
            @classmethod
            def from_pretrained(cls, load_directory=None, **kwargs):
                seen.update(kwargs)
                return super().from_pretrained(load_directory, **kwargs)

        fields = {"trust_remote_code": True, "encoder_decoder_same_device": True}
        tiny_data.trainer(path, fields).train(model_with_gradiend_cls=Recording)
        assert {name: seen[name] for name in fields} == fields

    def test_what_an_existing_network_keeps_is_said(self, path, usual, caplog):
        model = usual[0]
        tiny_data.trainer(path).train(model=model)
        assert not caplog.records
        fields = {"source": "factual", "latent_dim": 2, "activation_encoder": "id", "params": ["*layer.1*"]}
        tiny_data.trainer(path, fields).train(model=model)
        message = caplog.records[0].message
        assert "keeps source='alternative', latent_dim=1, activation_encoder='tanh', its map" in message
        assert "source='factual', latent_dim=2, activation_encoder='id', params" in message


class TestDevices:
    @pytest.mark.parametrize(
        ("n_gpus", "same", "places"),
        [
            (0, False, ("cpu", "cpu", "cpu")),
            (1, False, ("cuda:0", "cuda:0", "cuda:0")),
            (2, False, ("cuda:0", "cuda:1", "cuda:0")),
            (3, False, ("cuda:0", "cuda:1", "cuda:2")),
            (2, True, ("cuda:0", "cuda:0", "cuda:1")),
            (1, True, ("cuda:0", "cuda:0", "cuda:0")),
        ],
    )
    def test_the_rule(self, n_gpus, same, places):
        assert default_devices(n_gpus, same) == places

    def test_an_own_argument_wins(self):
        encoder, decoder, base, several = resolve_device_config_for_model("cpu", device_decoder="meta")
        assert (encoder.type, decoder.type, base.type, several) == ("cpu", "meta", "cpu", False)

    def test_each_part_goes_where_it_is_sent(self, path):
        model = TextPredictionModelWithGradiend.from_pretrained(path, device="cpu", device_decoder="meta")
        assert model.gradiend.encoder_linear.weight.device.type == "cpu"
        assert model.gradiend.decoder_linear.weight.device.type == "meta"
        assert model.base_model.device.type == "cpu"


NEAREST = {
    "optim": ("adamw_torch", "adamw"),
    "eval_strategy": ("step", "steps"),
    "save_strategy": ("bests", "best"),
    "source": ("factul", "factual"),
    "target": ("dif", "diff"),
    "convergent_metric": ("corelation", "correlation"),
    "activation_encoder": ("tnah", "tanh"),
    "activation_decoder": ("rleu", "relu"),
    "torch_dtype": ("torch.float23", "float32"),
}


class TestBadValues:
    @pytest.mark.parametrize("field", NEAREST)
    def test_closed_sets_name_the_nearest(self, field):
        wrong, nearest = NEAREST[field]
        with pytest.raises(ValueError, match=f"Did you mean '{nearest}'"):
            TrainingArguments(**{field: wrong})

    @pytest.mark.parametrize("field", ["source", "target", "optim", "eval_strategy", "save_strategy", "torch_dtype"])
    def test_closed_sets_are_strings(self, field):
        with pytest.raises((TypeError, ValueError), match=field):
            TrainingArguments(**{field: 3})

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"max_seeds": 0}, "max_seeds"),
            ({"min_convergent_seeds": 0}, "min_convergent_seeds"),
            ({"min_convergent_seeds": 4}, "can never be reached"),
            ({"train_batch_size": 0}, "train_batch_size"),
            ({"learning_rate": -1.0}, "learning_rate"),
            ({"latent_dim": 0}, "latent_dim"),
            ({"convergent_metric": "loss"}, "convergent_score_threshold"),
            ({"supervised_decoder": True}, "convergent_score_threshold"),
            ({"supervised_encoder": True, "supervised_decoder": True}, "one half each"),
            ({"target": None}, "supervised_encoder"),
        ],
    )
    def test_other_values_are_refused(self, fields, message):
        with pytest.raises(ValueError, match=message):
            TrainingArguments(**fields)

    @pytest.mark.parametrize("field", ["do_eval", "bf16", "keep_seed_runs", "supervised_encoder", "delete_models"])
    def test_flags_are_true_or_false(self, field):
        with pytest.raises(TypeError, match=field):
            TrainingArguments(**{field: "no"})

    def test_numbers_of_numpy_are_numbers(self):
        """Seeds come from np.arange, rates from np.logspace; files hold Python's own numbers."""
        given = {"seed": np.int64(3), "max_steps": np.int32(5), "learning_rate": np.float32(0.5)}
        args = TrainingArguments(**given, decoder_eval_lrs=(step for step in (0.5, 0.1)))
        assert (args.seed, args.max_steps, args.learning_rate, args.decoder_eval_lrs) == (3, 5, 0.5, [0.5, 0.1])
        assert json.loads(json.dumps(args.to_dict()))["seed"] == 3
        for wrong in ({"seed": np.bool_(True)}, {"max_steps": np.float64(5)}, {"learning_rate": np.float32("nan")}):
            with pytest.raises(ValueError, match="must be"):
                TrainingArguments(**wrong)

    @pytest.mark.parametrize(
        ("wrong", "ours"),
        [
            ("lr", "'learning_rate'"),
            ("batch_size", "'train_batch_size' or 'eval_batch_size'"),
            ("epochs", "'num_train_epochs'"),
            ("steps", "'max_steps'"),
            ("max_step", "'max_steps'"),
            ("gradient_accumulation_steps", "'train_batch_size'"),
            ("optimizer", "'optim'"),
            ("seeds", "'max_seeds'"),
            ("dtype", "'torch_dtype' or 'base_model_dtype'"),
            ("prune", "'pre_prune_config' or 'post_prune_config'"),
        ],
    )
    def test_names_of_other_tools_lead_to_the_field(self, path, wrong, ours):
        for call in (
            lambda: TrainingArguments(**{wrong: 1}),
            lambda: TrainingArguments().replace(**{wrong: 1}),
            lambda: TrainingArguments.from_dict({wrong: 1}),
            lambda: tiny_data.trainer(path).train(**{wrong: 1}),
        ):
            with pytest.raises(TypeError, match=rf"Did you mean {ours}\?"):
                call()

    @pytest.mark.parametrize(
        ("call", "wrong", "message"),
        [
            (
                lambda **k: TextPredictionTrainer("m", **k),
                "learning_rate",
                "'learning_rate' is an argument of Training",
            ),
            (lambda **k: TextPredictionTrainer("m", **k), "experiment_dir", "'experiment_dir' is an argument of Train"),
            (lambda **k: TextPredictionTrainer("m", **k), "lr", "TrainingArguments has 'learning_rate'"),
            (TrainingArguments, "target_classes", "'target_classes' is an argument of TextPredictionConfig"),
            (TrainingArguments, "lrs", "'lrs' is an argument of evaluate_decoder"),
            (TrainingArguments, "topk", "'topk' is an argument of PrePruneConfig and PostPruneConfig"),
            (creator, "keep_several_classes", "'keep_several_classes' is an argument of generate_training_data"),
            (creator, "max_size_per_class", "'max_size_per_class' is an argument of generate_training_data"),
            (lambda **k: creator().generate_training_data(**k), "preprocess", "argument of TextPredictionDataCreator"),
        ],
    )
    def test_a_misplaced_argument_leads_to_the_call_that_takes_it(self, call, wrong, message):
        with pytest.raises(TypeError, match=message):
            call(**{wrong: 1})

    def test_what_has_no_counterpart_is_said(self):
        with pytest.raises(TypeError, match=r"'warmup_steps'\. There is no such thing here: learning_rate stays the"):
            TrainingArguments(warmup_steps=10)

    def test_an_unknown_field_names_the_nearest(self):
        for make in (
            lambda: TrainingArguments(learnig_rate=1.0),
            lambda: TrainingArguments.from_dict({"learnig_rate": 1.0}),
        ):
            with pytest.raises(TypeError, match="learning_rate"):
                make()


class TestRoundTrip:
    def test_everything_survives(self):
        arguments = TrainingArguments(
            torch_dtype=torch.float16, params=["*layer*"], seed=None, convergent_score_threshold=0.7, metadata={"a": 1}
        )
        content = json.loads(json.dumps(arguments.to_dict()))
        assert content["torch_dtype"] == "torch.float16"
        assert "criterion" not in content
        again = TrainingArguments.from_dict(content)
        assert again.to_dict() == arguments.to_dict()
        assert again.torch_dtype is torch.float16

    def test_defaults_after_construction(self):
        arguments = TrainingArguments()
        assert arguments.torch_dtype is torch.float32
        assert isinstance(arguments.criterion, nn.MSELoss)
        assert arguments.convergent_score_threshold == 0.5
        assert TrainingArguments(seed=None).seed is None
        assert TrainingArguments(supervised_encoder=True).target is None
        decoder = TrainingArguments(supervised_decoder=True, convergent_score_threshold=0.1)
        assert decoder.convergent_metric == "loss"

    def test_the_threshold_of_another_metric_is_not_taken_over(self):
        with pytest.raises(ValueError, match="convergent_score_threshold"):
            TrainingArguments().replace(supervised_decoder=True)
        assert TrainingArguments(supervised_encoder=True).replace(supervised_encoder=False).target == "diff"

    def test_get_and_assignment(self):
        arguments = TrainingArguments()
        arguments.learning_rate = 0.5
        assert arguments.get("learning_rate") == 0.5
        assert arguments.get("nothing", 3) == 3

    def test_every_field_has_its_documentation(self):
        texts = field_sentences(TrainingArguments)
        for field in dataclasses.fields(TrainingArguments):
            assert texts.get(field.name), field.name


@pytest.fixture(scope="module")
def by_default(path):
    return run(path, eval_steps=TrainingArguments().eval_steps, max_steps=60)


class TestTheCurveOfAShortTraining:
    """eval_steps left out means 250 for what is kept, and enough looks in between for a curve."""

    def test_the_default_is_as_documented(self):
        assert TrainingArguments().eval_steps == 250
        assert json.loads(json.dumps(TrainingArguments().to_dict()))["eval_steps"] == 250

    def test_there_are_ten_points(self, by_default):
        stats = by_default[1]["training_stats"]
        steps = [str(step) for step in range(6, 61, 6)]
        assert list(stats["scores"]) == steps
        assert list(stats["mean_by_class"]) == steps
        assert list(stats["encoder_norms"]) == steps

    def test_the_model_is_the_one_of_a_single_evaluation(self, path, by_default):
        once = run(path, eval_steps=250, max_steps=60)
        assert list(once[1]["training_stats"]["scores"]) == ["60"]
        assert torch.equal(weights(by_default[0]), weights(once[0]))
        for key in ("best_score_checkpoint", "losses", "convergence_info"):
            assert by_default[1][key] == once[1][key]
        assert by_default[1]["training_stats"]["correlation"] == once[1]["training_stats"]["correlation"]

    @pytest.mark.parametrize("given", [60, 30, 250])
    def test_what_the_user_says_is_what_runs(self, path, given):
        fields = TrainingArguments(eval_steps=given).replace(seed=0).eval_steps
        scores = run(path, eval_steps=fields, max_steps=60)[1]["training_stats"]["scores"]
        assert [int(step) for step in scores] == sorted({*range(given, 61, given), 60})

    def test_patience_counts_evaluations_only(self, path):
        trainer = tiny_data.trainer(path, {"max_steps": 40, "eval_steps": TrainingArguments().eval_steps})
        trainer.train(callbacks=[EarlyStoppingCallback(patience=1, min_improvement=2.0)])
        assert load_training_stats(trainer.model_path)["training_stats"]["global_step"] == 40

    def test_hardly_any_steps_have_no_curve(self, path):
        scores = run(path, eval_steps=TrainingArguments().eval_steps, max_steps=8)[1]["training_stats"]["scores"]
        assert list(scores) == ["8"]
