"""Training one half alone on the labels: what is trained, what is not, and where it converges."""

import json
import logging

import pytest
import tiny_data
import torch

from gradiend import ModelWithGradiend, TrainingArguments, load_training_stats
from gradiend.trainer import train_core
from gradiend.trainer.text import TextPredictionModelWithGradiend


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tiny_data.save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def untrained(path):
    torch.manual_seed(0)
    return TextPredictionModelWithGradiend.from_pretrained(path, source="alternative", param_map=["*layer.1*"])


def halves(model):
    return [
        [parameter.detach().clone() for parameter in half.parameters()]
        for half in (model.gradiend.encoder, model.gradiend.decoder)
    ]


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


ENCODER = {"supervised_encoder": True, "max_steps": 60, "eval_steps": 20, "learning_rate": 0.01, "weight_decay": 0.0}
DECODER = {
    "supervised_decoder": True, "convergent_score_threshold": 1.0, "max_steps": 150, "learning_rate": 0.01,
    "weight_decay": 0.0,
}  # fmt: skip


def test_the_encoder_learns_the_labels_and_the_decoder_stays(path, untrained):
    trainer = tiny_data.trainer(path, ENCODER)
    before = halves(untrained)
    model = trainer.train(model=untrained).get_model()
    encoder, decoder = halves(model)
    assert not same(encoder, before[0])
    assert same(decoder, before[1])
    metrics = trainer.evaluate_encoder()
    assert metrics["correlation"] > 0.95
    assert metrics["mean_by_class"][1.0] == pytest.approx(1.0, abs=0.25)
    assert metrics["mean_by_class"][-1.0] == pytest.approx(-1.0, abs=0.25)
    assert load_training_stats(trainer.model_path)["losses"][-1] < 0.1


def test_the_decoder_learns_the_mean_gradients_and_the_encoder_stays(path, untrained):
    """The optimum for labels ±1: W_d is half the difference of the class means of the target, b_d their mean."""
    trainer = tiny_data.trainer(path, DECODER)
    before = halves(untrained)
    model = trainer.train(model=untrained).get_model()
    encoder, decoder = halves(model)
    assert same(encoder, before[0])
    assert not same(decoder, before[1])
    data = trainer.create_training_data(untrained)
    batches = list(trainer.create_gradient_training_dataset(data, untrained))
    means = {
        label: torch.stack([batch["target"] for batch in batches if batch["label"] == label]).mean(0)
        for label in (1.0, -1.0)
    }
    for label, mean in means.items():
        decoded = model.gradiend.forward_decoder(torch.tensor([label]))
        start = untrained.gradiend.forward_decoder(torch.tensor([label]))
        assert (decoded - mean).norm() < 0.2 * (start - mean).norm()
    stats = load_training_stats(trainer.model_path)
    assert "scores" not in stats["training_stats"]
    assert stats["convergence_info"]["convergence_metric"] == "loss"


def test_one_half_after_the_other(path, tmp_path):
    trainer = tiny_data.trainer(path, {**ENCODER, "experiment_dir": str(tmp_path)})
    first = trainer.train().get_model()
    assert first.target is None
    loaded = ModelWithGradiend.from_pretrained(str(tmp_path / "model"))
    assert loaded.target is None
    arguments = TrainingArguments(**{**tiny_data.QUICK, **DECODER, "max_steps": 3})
    second = tiny_data.trainer(path, arguments).train(model=loaded).get_model()
    assert second.target == "diff"
    assert same(halves(second)[0], halves(first)[0])
    assert not same(halves(second)[1], halves(first)[1])


def test_a_half_that_is_not_trained_is_said_and_nothing_is_missed(path, tmp_path, caplog):
    quick = {"max_steps": 2, "experiment_dir": str(tmp_path)}
    trainer = tiny_data.trainer(path, {**DECODER, **quick}).train()
    # No evaluation, so no plot of one, and no word about it.
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert not list(tmp_path.glob("*.png"))
    trainer.evaluate_encoder()
    assert "left the encoder as it was" in caplog.text
    caplog.clear()
    tiny_data.trainer(path, {**ENCODER, **quick}).train().evaluate_decoder(lrs=[0.1])
    assert "decoder of this GRADIEND is not trained" in caplog.text
    assert (tmp_path / "training_convergence.png").is_file()


def test_only_the_gradients_that_are_needed_are_computed(path, untrained):
    trainer = tiny_data.trainer(path)
    data = trainer.create_training_data(untrained)
    for sides in ({"source": None}, {"target": None}):
        batch = next(iter(trainer.create_gradient_training_dataset(data, untrained, **sides)))
        assert set(batch) & {"source", "target"} == {"source", "target"} - set(sides)


def test_seeds_of_a_supervised_decoder_are_judged_by_their_loss(path, tmp_path):
    few = {**DECODER, "max_steps": 4, "max_seeds": 2, "min_convergent_seeds": None, "experiment_dir": str(tmp_path)}
    trainer = tiny_data.trainer(path, few).train()
    report = json.loads((tmp_path / "seeds" / "seed_report.json").read_text())
    assert report["convergence_metric"] == "loss"
    scores = [run["selection_score"] for run in report["runs"]]
    assert all(score == -run["convergence_metric_value"] for score, run in zip(scores, report["runs"], strict=True))
    assert report["best_seed"] == scores.index(max(scores))
    assert trainer.get_model().target == "diff"


def test_several_latents_are_refused_before_any_step(path):
    with pytest.raises(ValueError, match="latent_dim=1"):
        tiny_data.trainer(path, {**ENCODER, "latent_dim": 2}).train()


def test_a_batch_without_what_its_step_needs_is_named(untrained, tmp_path):
    batch = {"source": torch.zeros(len(untrained.gradiend))}
    for arguments, missing in ((TrainingArguments(), "target"), (TrainingArguments(supervised_encoder=True), "label")):
        with pytest.raises(KeyError, match=missing):
            train_core(untrained, [batch], arguments, output_dir=str(tmp_path), max_steps=1)
