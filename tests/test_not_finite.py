"""Infinite and undefined numbers stop a call, which names the text, the class or the parameter."""

import pandas as pd
import pytest
import tiny
import tiny_data
import torch

from gradiend import GradiendModel, ModelWithGradiend, PrePruneConfig, TrainingArguments, apply_delta
from gradiend.trainer.core import _step
from gradiend.trainer.core._step import AnalyticOptimizer, CompiledOptimizer, SampledOptimizer, fused_step
from gradiend.trainer.core.pruning import pre_prune

GOOD, BAD = "the old nurse was near the door and then [MASK] saw it .", "the nurse saw the lamp and [MASK] sold it ."
NEUTRAL = pd.DataFrame({"text": ["the old nurse was near the door ."] * 4})
WEIGHT = "bert.encoder.layer.0.output.dense.weight"


def overflowing():
    """A model with finite weights whose numbers overflow in every text with a lamp."""
    base = tiny.bert()
    with torch.no_grad():
        base.bert.embeddings.word_embeddings.weight[tiny.bert_tokenizer().convert_tokens_to_ids("lamp")] = 3e38
    return base


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = ModelWithGradiend.from_pretrained(overflowing(), tokenizer=tiny.bert_tokenizer(), params=["*layer.1*"])
    model.gradiend.mark_trained()
    model.set_feature_class_encoding_direction({"SG": 1, "PL": -1})
    return model


def rows(where):
    """Rows of which those of one class and split stand near a lamp."""
    data = tiny_data.rows()
    data["masked"] = data["masked"].str.replace("lamp", "house")
    chosen = (data["label_class"] == where[0]) & (data["split"] == where[1])
    data.loc[data.index[chosen][:1], "masked"] = BAD
    return data


def trainer(model, where, **arguments):
    return tiny_data.trainer(model, {"do_eval": False, **arguments}, data=rows(where))


@pytest.mark.parametrize(
    "call",
    [
        lambda model: model.encode(BAD, "she"),
        lambda model: model.encode([GOOD, BAD], factual="she", alternative="they"),
        lambda model: model.create_gradients(BAD, "she"),
        lambda model: model.mask_and_encode("lamp lamp lamp"),
    ],
    ids=["word", "texts", "gradient", "masked"],
)
def test_an_encoding_that_is_no_number_names_its_text(model, call):
    assert model.encode(GOOD, "she").isfinite().all()
    with pytest.raises(FloatingPointError, match=r"lamp.* is infinite or undefined: .*float32, or leave this text out"):
        call(model)


def test_a_gradient_that_is_given_is_looked_at(model):
    gradient = torch.zeros(len(model))
    gradient[3] = -torch.inf
    with pytest.raises(FloatingPointError, match="gradient to encode has infinite"):
        model.encode(gradient)


def test_an_evaluation_names_row_classes_and_text(model):
    with pytest.raises(FloatingPointError, match=r"^Row \d+, SG → PL: The gradient of '\w+' in '.*lamp"):
        trainer(model, ("SG", "test")).evaluate_encoder(split="test", model_with_gradiend=model)
    with pytest.raises(FloatingPointError, match=r"unchanged model gives no numbers \(NaN\) for a text of 'PL'.*lamp"):
        trainer(model, ("PL", "test")).evaluate_decoder(lrs=[0.1], model_with_gradiend=model, neutral_df=NEUTRAL)
    with pytest.raises(FloatingPointError, match=r"for a neutral text, '.*lamp"):
        trainer(model, ("PL", "test")).evaluate_decoder(lrs=[0.1], model_with_gradiend=model)


def test_pre_pruning_and_class_means_name_the_class(model):
    examples = trainer(model, ("PL", "train")).create_training_data(model, split="train", batch_size=1)
    with pytest.raises(FloatingPointError, match=r"examples of class \d is infinite or undefined \(.*lamp"):
        pre_prune(model, examples, PrePruneConfig(n_samples=48, topk=0.5, batch_size=4), inplace=False)
    arguments = {"init": "class_means", "init_samples": 16, "max_steps": 1}
    with pytest.raises(FloatingPointError, match=r"gradient of the class with the label -1 \(batch"):
        trainer(model, ("PL", "train"), **arguments).train()


def test_weights_that_have_become_infinite_are_named(tmp_path):
    model = ModelWithGradiend.from_pretrained(tiny.bert(), tokenizer=tiny.bert_tokenizer(), params=["*layer.1*"])
    with torch.no_grad():
        model.base_model.get_parameter(WEIGHT)[0, 0] = torch.inf
    calls = [
        lambda: model.encode(GOOD, "she"),
        lambda: model.encode([GOOD], factual="she", alternative="they"),
        lambda: model.rewrite_base_model(1.0, 1.0),
        lambda: model.export_delta(tmp_path, 1.0, 1.0),
        lambda: model.with_original_base_model(tiny.bert()).with_original_base_model(model.base_model),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=f"undefined or infinite weights in {WEIGHT}"):
            call()
    assert not list(tmp_path.iterdir())


def test_a_step_out_of_the_range_of_the_dtype_makes_no_model(tmp_path):
    base = tiny.bert(dtype=torch.float16)
    model = ModelWithGradiend.from_pretrained(base, tokenizer=tiny.bert_tokenizer(), params=[WEIGHT])
    model.gradiend.decoder_linear.weight.data.fill_(1.0)
    before = [p.clone() for p in base.parameters()]
    for call in (model.rewrite_base_model, lambda *step: model.export_delta(tmp_path, *step)):
        with pytest.raises(ValueError, match=rf"weights of {WEIGHT} out of the range of torch\.float16"):
            call(1e5, 1.0)
    with pytest.raises(ValueError, match="out of the range"), model.temporarily_rewritten(1e5, 1.0):
        pass
    assert all(map(torch.equal, base.parameters(), before))
    file = model.export_delta(tmp_path, 1e4, 1.0)
    with pytest.raises(ValueError, match=r"strength=50 drives weights of .* out of the range"):
        apply_delta(base, file, strength=50)
    assert all(map(torch.equal, base.parameters(), before))


@pytest.mark.parametrize("bad", [torch.inf, -torch.inf, torch.nan])
@pytest.mark.parametrize("activation", ["tanh", "id"])
@pytest.mark.parametrize("optimizer", [AnalyticOptimizer, CompiledOptimizer, SampledOptimizer])
def test_the_loss_shows_a_source_that_is_not_finite(optimizer, activation, bad, monkeypatch):
    """The hyperbolic tangent of an infinite number is finite."""
    monkeypatch.setattr(_step, "compiled_step", lambda: fused_step)
    network = GradiendModel(50, 1, activation_encoder=activation)
    sampled = (torch.ones(50), 50) if optimizer is SampledOptimizer else ()
    steps = optimizer(network, TrainingArguments(torch_compile=True), *sampled)
    source, target = torch.randn(2, 50)
    assert steps.step(source, target).isfinite()
    source[7] = bad
    assert not steps.step(source, target).isfinite()
