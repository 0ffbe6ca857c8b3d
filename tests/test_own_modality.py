"""A modality of a user's own: a `Trainer` that has the six documented methods and nothing else, on digits."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from model_cases import TinyBase, TinyModelWithGradiend
from torch import nn

from gradiend import GradientTrainingDataset, PostPruneConfig, PrePruneConfig, TrainingArguments
from gradiend.evaluator.encoder import encoded_frame
from gradiend.trainer import Modality, Trainer

DIGITS = {"low": "1", "high": "5"}
OTHER = {"low": "high", "high": "low"}
LABELS = {"low": 1, "high": -1}


class Base(TinyBase):
    """Says which digit follows a digit."""

    def save_pretrained(self, directory: str) -> None:
        Path(directory).mkdir(parents=True, exist_ok=True)
        torch.save(self.state_dict(), Path(directory) / "weights.pt")


class DigitModel(TinyModelWithGradiend):
    def forward(self, pair):
        return self.create_gradients(*pair)

    @classmethod
    def _load_model(cls, load_directory, base_model_id=None, gradiend_kwargs=None, **kwargs):
        return (load_directory if isinstance(load_directory, nn.Module) else Base(base_model_id or load_directory),)


class DigitTrainer(Trainer):
    default_model_with_gradiend_cls = DigitModel

    def create_training_data(self, model, split="train", batch_size=None, max_size=None, include_other_classes=False):
        contexts = {"train": range(6), "validation": range(6, 8), "test": range(8, 9)}[split]
        return [
            {
                "factual": (str(context), DIGITS[name]),
                "alternative": (str(context), DIGITS[OTHER[name]]),
                "label": LABELS[name],
                "feature_class_id": number,
                "factual_id": name,
                "alternative_id": OTHER[name],
            }
            for context in contexts
            for number, name in enumerate(DIGITS)
        ][:max_size]

    def create_gradient_training_dataset(self, examples, model, source="model", target="model"):
        sides = {"source": model.source if source == "model" else source}
        sides["target"] = model.target if target == "model" else target
        return GradientTrainingDataset(examples, model, device="cpu", **sides)

    def evaluate_base_model(self, model, tokenizer, training_like_df=None, neutral_df=None, eval_batch_size=None):
        assert tokenizer is None
        with torch.no_grad():
            probabilities = {
                name: {
                    word: float(model(torch.tensor(rows["context"].tolist())).softmax(-1)[:, int(digit)].mean())
                    for word, digit in DIGITS.items()
                }
                for name, rows in training_like_df.groupby("label_class")
            }
            lms = float(model(torch.arange(9)).softmax(-1).max(-1).values.mean())
        return {
            "probs_by_dataset": probabilities,
            "probs": {name: found[OTHER[name]] for name, found in probabilities.items()},
            "probs_factual": {name: found[name] for name, found in probabilities.items()},
            "lms": {"lms": lms},
        }

    def _get_decoder_eval_dataframe(self, tokenizer, cached_training_like_df=None, **kwargs):
        rows = pd.DataFrame([{"context": context, "label_class": name} for context in range(9) for name in DIGITS])
        return rows if cached_training_like_df is None else cached_training_like_df, rows

    def _get_decoder_eval_targets(self):
        return {name: [digit] for name, digit in DIGITS.items()}

    def _analyze_encoder(self, model, split="test", max_size=None):
        data = self.create_eval_data(model, split=split, max_size=max_size)
        return pd.DataFrame(
            {
                "encoded": model.encode(item["source"], return_float=True), "label": item["label"], "type": "training",
                "source_id": item["factual_id"], "target_id": item["alternative_id"],
            }
            for item in data
        )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    directory = tmp_path_factory.mktemp("digits")
    args = TrainingArguments(
        experiment_dir=str(directory), max_steps=20, eval_steps=10, learning_rate=1e-3, max_seeds=2, use_cache=True,
        train_batch_size=1, init="class_means", init_samples=4,
        pre_prune_config=PrePruneConfig(n_samples=8, topk=0.8), post_prune_config=PostPruneConfig(topk=0.9),
    )  # fmt: skip
    return DigitTrainer("tiny/base", target_classes=["low", "high"], args=args).train()


def test_it_is_trained_and_its_seeds_are_compared(trained):
    assert len(trained.get_model()) == round(0.9 * round(0.8 * (36 + 16 + 4)))
    report = trained.get_seed_report()
    assert report["runs"][-1]["converged"]
    assert abs(report["best_selection_score"]) > 0.9
    assert (Path(trained.experiment_dir) / "training_convergence.png").is_file()
    loaded = DigitModel.from_pretrained(trained.model_path)
    assert loaded.feature_class_encoding_direction == {"low": 1, "high": -1}


def test_its_encodings_are_evaluated(trained):
    result = trained.evaluate_encoder(return_df=True)
    assert result["correlation"] > 0.9
    assert set(result["mean_by_feature_class"]) == {"low", "high"}
    assert trained.encode() == pytest.approx(result["encoder_df"]["encoded"].tolist())
    assert trained.evaluator.encoder_evaluator.evaluate_encoder(trained, split="test")["correlation"] == pytest.approx(
        result["correlation"]
    )
    assert Path(trained.plot_encoder_distributions(show=False)).is_file()


def test_further_latents_have_columns_of_their_own(tmp_path):
    args = TrainingArguments(output_dir=str(tmp_path), max_steps=2, eval_steps=1, max_seeds=1, train_batch_size=1)
    trainer = DigitTrainer("tiny/base", target_classes=["low", "high"], args=args, n_features=2).train()
    model = trainer.get_model()
    data = trainer.create_eval_data(model, split="validation")
    frame = encoded_frame(model, data)
    assert frame[["encoded", "latent_1"]].to_numpy().tolist() == [
        model.encode(item["source"]).tolist() for item in data
    ]


def test_a_split_without_examples_has_no_encodings(trained, monkeypatch):
    monkeypatch.setattr(DigitTrainer, "create_training_data", lambda self, model, **options: [])
    assert trained.encode() == []


def test_its_models_are_rewritten(trained):
    results = trained.evaluate_decoder(lrs=[0.1, 1.0, 3.0])
    base = results["grid"]["base"]["probs"]
    for name, other in OTHER.items():
        assert results[name]["value"] > base[other]
        rewritten = trained.rewrite_base_model(target_class=name)
        rows, _ = trained._get_decoder_eval_dataframe(None)
        measured = trained.evaluate_base_model(rewritten, None, training_like_df=rows)
        assert measured["probs"][other] == pytest.approx(results[name]["value"], abs=1e-6)
    place = trained.rewrite_base_model(results, "low", output_dir=str(Path(trained.experiment_dir) / "more low"))
    assert (Path(place) / "gradiend_rewrite.json").is_file()


def test_nothing_is_done_twice(trained):
    again = DigitTrainer("tiny/base", target_classes=["low", "high"], args=trained.training_args)
    again.train()
    assert again.reused
    assert again.evaluate_encoder() == trained.evaluate_encoder()


def test_a_modality_says_what_the_six_methods_do_not(tmp_path):
    class Digits(Modality):
        version = "first"

        @property
        def target_classes(self):
            return ["low", "high"]

        def evaluation_split(self):
            return "test"

        def check_training_data(self, arguments):
            if arguments.train_batch_size > 6:
                raise ValueError("there are six digits of a class")

        def data_parts(self, *splits, include_other_classes=False):
            return {"digits": self.version}

    class Informed(DigitTrainer):
        modality = Digits()

    args = TrainingArguments(
        experiment_dir=str(tmp_path), max_steps=2, max_seeds=1, use_cache=True, train_batch_size=1, learning_rate=1e-3
    )
    assert Informed("tiny/base", args=args).target_classes == ["low", "high"]
    with pytest.raises(ValueError, match="six digits"):
        Informed("tiny/base", args=args).train(train_batch_size=8)
    assert not Informed("tiny/base", args=args).train().reused
    assert Informed("tiny/base", args=args).train().reused
    Digits.version = "second"
    assert not Informed("tiny/base", args=args).train().reused
