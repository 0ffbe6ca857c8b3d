"""Base models in 8 and 4 bits: what is not quantized is trained on, rewritten and saved."""

from __future__ import annotations

import copy
import logging
import sys

import pytest
import tiny
import tiny_data
import torch
from model_cases import logits_of_bert as logits
from model_cases import on_bert as on
from test_saved_rewrites import RATE, save
from transformers import AutoModelForMaskedLM, BitsAndBytesConfig, GPTQConfig

from gradiend import ModelWithGradiend, apply_delta
from gradiend.experiment import describe
from gradiend.model._base_model import BaseDigest
from gradiend.model._quantized import is_quantized
from gradiend.trainer.text import AutoModelForLM
from gradiend.util._digest import base_model_digest

pytest.importorskip("bitsandbytes")

TEXTS = ["the baker saw [MASK] then .", "the old nurse was near [MASK] ."]
NORM = "bert.encoder.layer.1.output.LayerNorm.weight"
MATRIX = "bert.encoder.layer.1.output.dense.weight"
SETTINGS = {
    "8 bits": {"load_in_8bit": True},
    "4 bits": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "4 bits, scales in 8": {"load_in_4bit": True, "bnb_4bit_use_double_quant": True},
    "4 bits in bfloat16": {"load_in_4bit": True, "bnb_4bit_quant_storage": torch.bfloat16},
}
SLOW = pytest.mark.slow
QUICK = ("8 bits", "4 bits")
every = pytest.mark.parametrize(
    "settings", [pytest.param(SETTINGS[n], id=n, marks=() if n in QUICK else SLOW) for n in SETTINGS]
)


def config(settings):
    return BitsAndBytesConfig(**settings)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    tiny.FAMILIES["bert"].build(hidden_size=64, intermediate_size=128).save_pretrained(folder)
    tiny.bert_tokenizer().save_pretrained(folder)
    return str(folder)


def load(place, settings):
    return AutoModelForMaskedLM.from_pretrained(place, quantization_config=config(settings))


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_gradients_are_those_of_autograd_on_all_that_is_not_quantized(place, settings):
    base = load(place, settings)
    model = on(base)
    names = [entry.name for entry in model.gradiend.mapping]
    assert names == [n for n, p in base.named_parameters() if n.startswith("bert.") and not is_quantized(p)]
    assert NORM in names
    assert MATRIX not in names
    word = model.objective.tokenize(TEXTS[:1], ["he"])[0]
    expected = tiny.naive_gradient(base, model.gradiend.mapping, lambda: tiny.naive_loss(base, word))
    assert tiny.distance(model.create_gradients(TEXTS[0], "he"), expected) < 1e-5


@every
def test_encodings_are_products_with_the_gradient_of_each_word(place, settings, caplog):
    caplog.set_level("INFO")
    model = on(load(place, settings))
    found = model.encode_texts(TEXTS, ["he", "she"], ["she", "he"], source="factual")
    gradients = [model.create_gradients(text, word) for text, word in zip(TEXTS, ["he", "she"], strict=True)]
    assert tiny.distance(found, torch.stack([model.gradiend.forward_encoder(g).detach() for g in gradients])) < 1e-5
    assert ("per-word backward passes" in caplog.text) == ("load_in_8bit" in settings)


@every
def test_passes_change_no_bit_even_after_inference_of_the_user_s_own(place, settings):
    base = load(place, settings)
    model = on(base)
    before, exact = base_model_digest(base), logits(base)
    with torch.no_grad():
        base.eval()(input_ids=torch.tensor([[2, 5, 3]]))
    model.create_gradients(TEXTS[0], "he")
    model.encode_texts(TEXTS, ["he", "she"], ["she", "he"])
    assert base_model_digest(base) == before
    # Some processors pack weights at the first inference, which rounds their scales and stops gradients.
    packed = load(place, settings)
    with torch.no_grad():
        logits(packed)
    packed.state_dict()
    assert tiny.distance(on(packed).create_gradients(TEXTS[0], "he"), on(base).create_gradients(TEXTS[0], "he")) < 0.15
    assert tiny.distance(logits(packed), exact) < 0.15


@pytest.mark.parametrize(("name", "steps"), [pytest.param("8 bits", 8, marks=SLOW), ("4 bits", 20)])
def test_a_training_by_name_separates_two_classes_and_comes_back(place, name, steps, tmp_path, caplog):
    settings = config(SETTINGS[name])
    model = ModelWithGradiend.from_pretrained(place, quantization_config=settings, source="alternative")
    trainer = tiny_data.trainer(model, {"experiment_dir": str(tmp_path), "max_steps": steps, "eval_steps": 20})
    trainer.train()
    assert trainer.evaluate_encoder()["correlation"] > 0.9
    trained, folder = trainer.get_model(), tmp_path / "model"
    assert not (folder / "base_model").exists()
    again = ModelWithGradiend.from_pretrained(str(folder))
    words = (["he", "they"], ["they", "he"])
    assert torch.equal(again.encode_texts(TEXTS, *words), trained.encode_texts(TEXTS, *words))
    assert not BaseDigest.of(again.base_model).differences(BaseDigest.of(trained.base_model))
    assert describe(folder)["held in"] == {"8 bits": "8 bits", "4 bits": "4 bits (nf4)"}[name]
    ModelWithGradiend.from_pretrained(str(folder), base_model=AutoModelForMaskedLM.from_pretrained(place))
    assert "is not the one that the GRADIEND" in caplog.text
    assert MATRIX.replace("1.output", "0.attention.self").replace("dense", "query") in caplog.text


@every
def test_a_rewrite_is_saved_for_plain_transformers_and_as_a_delta(place, settings, tmp_path):
    model = on(load(place, settings))
    before = base_model_digest(model.base_model)
    rewritten = model.rewrite_base_model(RATE, -1.0)
    assert tiny.distance(logits(rewritten), logits(model.base_model)) > 1e-3
    saved = AutoModelForMaskedLM.from_pretrained(save(model, tmp_path / "out"))
    assert torch.equal(logits(saved), logits(rewritten))
    fresh = load(place, settings)
    with apply_delta(fresh, model.export_delta(tmp_path / "d.safetensors", RATE, -1.0)):
        assert torch.equal(logits(fresh), logits(rewritten))
    assert torch.equal(logits(fresh), logits(model.base_model))
    assert base_model_digest(model.base_model) == before


@every
def test_a_folder_of_quantized_weights_is_a_base_model(place, settings, tmp_path):
    base = load(place, settings)
    base.save_pretrained(tmp_path / "quantized")
    tiny.bert_tokenizer().save_pretrained(tmp_path / "quantized")
    model = ModelWithGradiend.from_pretrained(str(tmp_path / "quantized"))
    assert torch.equal(logits(model.base_model), logits(base))
    # A model in memory that no name loads is kept beside the GRADIEND, quantized as it is.
    base.config._name_or_path = base.name_or_path = ""
    kept = on(base)
    kept.save_pretrained(str(tmp_path / "kept"))
    again = ModelWithGradiend.from_pretrained(str(tmp_path / "kept"))
    # Where two copies of weights lie in memory decides, on some processors, in which order products are added up.
    assert tiny.distance(again.create_gradients(TEXTS[0], "he"), kept.create_gradients(TEXTS[0], "he")) < 1e-5


@pytest.mark.parametrize("name", ["8 bits", "4 bits"])
def test_other_scales_of_the_same_codes_are_another_base_model(place, name):
    base = load(place, SETTINGS[name])
    other = copy.deepcopy(base)
    layer = other.get_submodule(MATRIX.removesuffix(".weight"))
    scales = layer.weight.SCB if name == "8 bits" else layer.weight.quant_state.absmax
    scales.mul_(2)
    assert torch.equal(layer.weight, base.get_submodule(MATRIX.removesuffix(".weight")).weight)
    (changed,) = BaseDigest.of(other).differences(BaseDigest.of(base))
    assert changed.startswith(MATRIX.removesuffix(".weight"))
    assert base_model_digest(other) != base_model_digest(base)


def test_that_inputs_are_cast_is_said_once(place, caplog):
    model = on(load(place, SETTINGS["8 bits"]))
    caplog.clear()
    for _ in range(3):
        model.create_gradients(TEXTS[0], "he")
    said = [record for record in caplog.records if record.name.startswith("bitsandbytes")]
    assert len(said) <= 1
    logging.getLogger("bitsandbytes.autograd._functions").filters.clear()


# Refusals


def test_quantized_weights_in_params_are_refused(place):
    base = load(place, SETTINGS["4 bits"])
    with pytest.raises(
        ValueError, match=r"name quantized weights \('\*query\.weight'\), which have no gradients"
    ) as told:
        on(base, params=["*LayerNorm*", "*query.weight"])
    assert str(told.value).endswith(
        "What can be mapped here is called like bert.embeddings.word_embeddings.weight, "
        "bert.embeddings.position_embeddings.weight, bert.embeddings.token_type_embeddings.weight. Or attach an "
        "adapter (PEFT), or load the model without quantization_config."
    )
    mapped = on(base, params=["*layer.1.output*"]).gradiend.mapping
    assert [entry.name.removeprefix("bert.encoder.layer.1.output.") for entry in mapping_sorted(mapped)] == [
        "LayerNorm.bias", "LayerNorm.weight", "dense.bias",
    ]  # fmt: skip


def mapping_sorted(mapping):
    return sorted(mapping, key=lambda entry: entry.name)


def test_a_gradiend_of_unquantized_weights_is_refused_on_quantized_ones(place, tmp_path):
    model = on(AutoModelForMaskedLM.from_pretrained(place), params=[MATRIX])
    model.save_pretrained(str(tmp_path))
    for quantized in (load(place, SETTINGS["4 bits"]), load(place, SETTINGS["8 bits"])):
        for call in (
            model.with_original_base_model,
            lambda base: ModelWithGradiend.from_pretrained(
                str(tmp_path), base_model=base, tokenizer=tiny.bert_tokenizer()
            ),
        ):
            with pytest.raises(
                ValueError, match=f"{MATRIX} is quantized in this base model.*without quantization_config"
            ):
                call(quantized)
    path = model.export_delta(tmp_path / "d.safetensors", RATE, 1.0)
    with pytest.raises(ValueError, match=f"this model differs: {MATRIX} (has shape|is torch.int8)"):
        apply_delta(load(place, SETTINGS["4 bits"]), path)


def test_another_quantizer_is_refused_before_loading(place):
    asked = (
        r"is quantized by gptq \(quantization_config\), and its layers pass no gradients on here\. .*BitsAndBytesConfig"
    )
    with pytest.raises(ValueError, match=asked):
        AutoModelForLM.from_pretrained(place, quantization_config=GPTQConfig(bits=4))
    with pytest.raises(ValueError, match=r"is quantized by an unknown method"):
        AutoModelForLM.from_pretrained(place, quantization_config={"bits": 4})


def test_the_stored_form_wins_and_is_said(place, tmp_path, caplog):
    load(place, SETTINGS["8 bits"]).save_pretrained(tmp_path)
    AutoModelForLM.from_pretrained(str(tmp_path), quantization_config=config(SETTINGS["4 bits"]))
    assert f"{tmp_path} is stored in 8 bits, and is loaded so: quantization_config has no effect." in caplog.text


def test_without_bitsandbytes_one_sentence_says_what_to_install(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    hint = 'needs bitsandbytes: pip install bitsandbytes (or, in a clone of this project, pip install ".[large]")'
    with pytest.raises(ImportError) as told:
        ModelWithGradiend.from_pretrained(place, quantization_config=config({"load_in_4bit": True}))
    assert str(told.value) == f"{place}, which is quantized, {hint}"
