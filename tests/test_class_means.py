"""The closed form: class means of gradients, scaled on other batches."""

import json
import math
from pathlib import Path

import pytest
import torch

from gradiend import (
    GradiendModel,
    TextFilterConfig,
    TextPredictionDataCreator,
    TextPredictionTrainer,
    TrainingArguments,
)
from gradiend.demo import model_path, sentences
from gradiend.trainer.core._class_means import initialize_from_class_means

N, PER_CLASS = 40, 3


def batches(n_batches=6, seed=0):
    """(label, source, target) of both classes, in turns."""
    generator = torch.Generator().manual_seed(seed)
    center = torch.randn(2, N, generator=generator, dtype=torch.float64)
    for number in range(n_batches):
        for label in (1.0, -1.0):
            source, target = label * center + torch.randn(2, N, generator=generator, dtype=torch.float64) + 0.3
            yield {"source": source, "target": target, "label": label, "batch_id": (label, number)}


def network(**kwargs):
    return GradiendModel(N, 1, torch_dtype=torch.float64, **kwargs)


def mean(rows, key, label, part):
    return torch.stack([row[key] for row in rows if row["label"] == label][part]).mean(0)


@pytest.mark.parametrize("activation", ["tanh", "id", "smht"])
def test_weights_are_class_means_and_calibration_batches_come_out_at_nine_tenths(activation):
    gradiend, rows = network(activation_encoder=activation), list(batches())
    initialize_from_class_means(gradiend, rows, PER_CLASS)
    first, later = slice(0, PER_CLASS), slice(PER_CLASS, PER_CLASS + 2)
    positive, negative = (mean(rows, "target", label, first) for label in (1.0, -1.0))
    assert torch.allclose(gradiend.decoder_linear.weight.view(-1), (positive - negative) / 2)
    assert torch.allclose(gradiend.decoder_linear.bias, (positive + negative) / 2)
    direction = mean(rows, "source", 1.0, first) - mean(rows, "source", -1.0, first)
    weight = gradiend.encoder_linear.weight.detach().view(-1)
    assert torch.allclose(weight / weight.norm(), direction / direction.norm())
    reach = math.atanh(0.9) if activation == "tanh" else 0.9
    for label in (1.0, -1.0):
        # The pre-activation is linear, so that of the mean source is the mean of the pre-activations.
        reached = weight @ mean(rows, "source", label, later) + gradiend.encoder_linear.bias
        assert reached.item() == pytest.approx(label * reach)


def test_the_order_of_the_classes_does_not_matter():
    in_turns, in_blocks = network(), network()
    initialize_from_class_means(in_turns, batches(), PER_CLASS)
    initialize_from_class_means(in_blocks, sorted(batches(), key=lambda batch: -batch["label"]), PER_CLASS)
    for name, tensor in in_turns.state_dict().items():
        assert torch.allclose(tensor, in_blocks.state_dict()[name]), name


def test_no_batch_serves_twice_and_identity_batches_are_skipped():
    plain, disturbed = network(), network()
    initialize_from_class_means(plain, batches(), PER_CLASS)
    nothing = {"source": torch.ones(N), "target": torch.ones(N), "label": 0.0, "batch_id": "identity"}
    repeated = [copy for batch in batches() for copy in (batch, nothing, batch)]
    initialize_from_class_means(disturbed, repeated, PER_CLASS)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, disturbed.state_dict()[name]), name


def test_only_what_is_needed_is_read():
    stream = batches(100)
    initialize_from_class_means(network(), stream, PER_CLASS)
    assert next(stream)["batch_id"] == (1.0, PER_CLASS + 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gradiend": GradiendModel(N, 2)}, "latent_dim=2"),
        ({"gradiend": GradiendModel(N, 1, activation_encoder="relu")}, "relu"),
        ({"gradiend": GradiendModel(N, 1, activation_decoder="tanh")}, "decoder activation id"),
        ({"batches": list(batches(4))}, "needs 5 batches of each class"),
        ({"batches": [{**batch, "source": torch.ones(N)} for batch in batches()]}, "no difference"),
    ],
    ids=["latents", "activation", "decoder", "few", "same"],
)
def test_what_has_no_closed_form(change, message):
    arguments = {"gradiend": network(), "batches": list(batches()), "per_class": PER_CLASS, **change}
    with pytest.raises(ValueError, match=message):
        initialize_from_class_means(**arguments)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"init": "class_mean"}, "'class_means'"),
        ({"init_samples": 0}, "init_samples"),
        ({"max_steps": 0}, "init='class_means'"),
    ],
)
def test_bad_arguments(fields, message):
    with pytest.raises(ValueError, match=message):
        TrainingArguments(**fields)


@pytest.fixture(scope="module")
def data():
    targets = [TextFilterConfig(["he", "she", "it"], id="3SG"), TextFilterConfig(["they"], id="3PL")]
    return TextPredictionDataCreator(sentences(800), feature_targets=targets).generate_training_data(80)


@pytest.mark.parametrize(("steps", "seeds"), [(0, 1), (4, 3)])
def test_a_run_on_the_demo_model(data, tmp_path, steps, seeds):
    """Training may end at the class means, or start there: a few steps keep what they have found."""
    args = TrainingArguments(
        experiment_dir=str(tmp_path), train_batch_size=8, init="class_means", init_samples=32, max_steps=steps,
        learning_rate=1e-5, max_seeds=seeds,
    )  # fmt: skip
    trainer = TextPredictionTrainer(str(model_path()), data=data, target_classes=["3SG", "3PL"], args=args).train()
    metrics = trainer.evaluate_encoder()
    assert metrics["correlation"] > 0.9
    assert metrics["mean_by_class"][1.0] > 0.5 > -0.5 > metrics["mean_by_class"][-1.0]
    written = json.loads((Path(trainer.model_path) / "training.json").read_text())
    assert len(written["losses"]) == steps
    assert written["training_stats"]["correlation"] > 0.9
