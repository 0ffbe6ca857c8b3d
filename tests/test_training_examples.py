"""The training examples of the documentation as written, but for names of models, classes and files."""

import json

import pytest
import tiny
import tiny_data

from gradiend import TextPredictionTrainer, TrainingArguments
from gradiend.model import ModelWithGradiend


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tiny_data.save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    path = tmp_path_factory.mktemp("gpt2")
    tiny.FAMILIES["gpt2"].build().save_pretrained(path)
    tiny.gpt2_tokenizer().save_pretrained(path)
    return str(path)


def test_core_classes_text_prediction_trainer(path):
    training_data = tiny_data.rows()
    neutral_data = training_data[["masked"]].assign(text="the old lamp was near the door of the house .")
    args = TrainingArguments(
        train_batch_size=4,
        max_steps=30,
        learning_rate=1e-4,
    )
    trainer = TextPredictionTrainer(
        model=path,
        data=training_data,
        eval_neutral_data=neutral_data,
        args=args,
    )
    trainer.train()
    enc_result = trainer.evaluate_encoder(plot=True)
    assert set(enc_result["mean_by_feature_class"]) >= {"SG", "PL"}


def test_trainer_basic_usage(gpt2, tmp_path):
    args = TrainingArguments(
        experiment_dir=str(tmp_path / "results"),
        train_batch_size=24,
        num_epochs=10,
        learning_rate=1e-3,
    )
    trainer = TextPredictionTrainer(
        model=gpt2,
        args=args,
        run_id="runs/experiment_gpt2",
        data=tiny_data.rows(),
        target_classes=["SG", "PL"],
    )
    trainer.train()
    directory = tmp_path / "results" / "runs" / "experiment_gpt2"
    assert trainer.experiment_dir == str(directory)
    assert trainer.model_path == str(directory / "model")
    assert trainer.base_model_path == gpt2
    enc_results = trainer.evaluate_encoder(split="test", max_size=1000)
    assert enc_results["n_samples"]
    trainer.plot_training_convergence()
    assert (directory / "training_convergence.png").is_file()
    model = trainer.get_model()
    assert trainer.get_model() is model
    model = trainer.get_model(load_directory=trainer.model_path)
    assert isinstance(model, ModelWithGradiend)
    assert trainer.cpu() is trainer


def test_trainer_multi_seed_training(path, tmp_path):
    args = TrainingArguments(
        max_seeds=5,
        min_convergent_seeds=2,
        convergent_metric="correlation",
        convergent_score_threshold=0.5,
    )
    assert args.get("max_seeds") == 5
    trainer = tiny_data.trainer(path, args)
    overrides = {"train_batch_size": 4, "max_steps": 20, "learning_rate": 0.01, "experiment_dir": str(tmp_path)}
    assert trainer.train(**overrides) is trainer
    report = json.loads((tmp_path / "seeds" / "seed_report.json").read_text())
    assert report["convergent_count"] >= 2
    assert len(report["runs"]) < 5


def test_training_can_be_overridden(path, tmp_path):
    """_train is the documented override point: called with keywords, returns the directory."""
    called = {}

    class Own(TextPredictionTrainer):
        def _train(self, output_dir, args, model, model_with_gradiend_cls, callbacks):
            called.update(output_dir=output_dir, model=model, callbacks=callbacks)
            return super()._train(
                output_dir=output_dir, args=args.replace(max_steps=1), model=model,
                model_with_gradiend_cls=model_with_gradiend_cls, callbacks=callbacks,
            )  # fmt: skip

        def post_training(self, model):
            called["trained"] = model

    args = TrainingArguments(**{**tiny_data.QUICK, "output_dir": str(tmp_path / "out")})
    trainer = Own(path, data=tiny_data.rows(), target_classes=["SG", "PL"], args=args).train()
    assert called["trained"] is trainer.get_model()
    assert called["output_dir"] == trainer.model_path == str(tmp_path / "out")
    assert len(trainer.get_training_stats()["losses"]) == 1
