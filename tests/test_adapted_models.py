"""Base models with a PEFT adapter: its matrices are trained on, rewritten, and saved as PEFT loads them."""

from __future__ import annotations

import copy
import json
import sys
import warnings
from pathlib import Path

import pytest
import tiny
import tiny_data
import torch
from hub_server import HubServer, client_at
from model_cases import bits, randomise, same_bits
from model_cases import logits_of_bert as logits
from model_cases import on_bert as on
from test_saved_rewrites import FACTOR, RATE, save
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, BitsAndBytesConfig

from gradiend import ModelWithGradiend, apply_delta, read_rewrite_record
from gradiend.experiment import describe
from gradiend.model._saved_rewrite import SavedRewriteError
from gradiend.trainer.text import AutoModelForLM, DecoderModelWithMLMHead, TextPredictionModelWithGradiend
from gradiend.util._digest import source_digest

peft = pytest.importorskip("peft")

# PEFT asks transformers in an old way.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

TEXTS = ["the baker saw [MASK] then .", "the old nurse was near [MASK] ."]
WHERE = {"target_modules": ["query", "value"]}
KINDS = {
    "LoRA": peft.LoraConfig(r=2, init_lora_weights=False, **WHERE),
    "LoRA everywhere": peft.LoraConfig(r=4, init_lora_weights=False, target_modules=["query", "value", "dense"]),
    "LoRA with biases": peft.LoraConfig(r=2, init_lora_weights=False, bias="all", **WHERE),
    "LoRA with norms": peft.LoraConfig(r=2, init_lora_weights=False, modules_to_save=["LayerNorm"], **WHERE),
    "DoRA": peft.LoraConfig(r=2, init_lora_weights=False, use_dora=True, **WHERE),
    "AdaLoRA": peft.AdaLoraConfig(init_r=2, target_r=2, total_step=9, init_lora_weights=False, **WHERE),
    "LoHa": peft.LoHaConfig(r=2, init_weights=False, **WHERE),
    "LoKr": peft.LoKrConfig(r=2, init_weights=False, **WHERE),
    "OFT": peft.OFTConfig(oft_block_size=8, r=0, init_weights=False, **WHERE),
    "IA3": peft.IA3Config(feedforward_modules=[], init_ia3_weights=False, **WHERE),
}
SLOW = pytest.mark.slow
QUICK = ("LoRA", "LoRA with biases", "LoRA with norms", "DoRA", "IA3")
every = pytest.mark.parametrize("kind", [pytest.param(name, marks=() if name in QUICK else SLOW) for name in KINDS])
QUERY = "bert.encoder.layer.0.attention.self.query"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    tiny.FAMILIES["bert"].build(hidden_size=64, intermediate_size=64).save_pretrained(folder)
    tiny.bert_tokenizer().save_pretrained(folder)
    return str(folder)


def plain(place, **kwargs):
    return AutoModelForMaskedLM.from_pretrained(place, **kwargs)


def settings_of(kind):
    # PEFT writes into its configurations.
    return copy.deepcopy(KINDS[kind])


def adapted(place, kind="LoRA", name="default", **kwargs):
    torch.manual_seed(1)
    model = peft.get_peft_model(plain(place, **kwargs), settings_of(kind), adapter_name=name)
    with torch.no_grad():
        for parameter in (p for n, p in model.named_parameters() if ".lora_A" in n or ".lora_B" in n):
            parameter.mul_(0.3)
    return model


def names(model):
    return [entry.name for entry in model.gradiend.mapping]


# Gradients and encodings


@pytest.mark.parametrize("kind", KINDS)
def test_the_map_is_the_adapter_and_its_gradients_are_those_of_autograd(place, kind):
    given = adapted(place, kind)
    inner = given.get_base_model()
    before = {name: parameter.requires_grad for name, parameter in given.named_parameters()}
    model = on(given)
    assert model.base_model is inner
    trained = [name for name, parameter in inner.named_parameters() if parameter.requires_grad]
    assert names(model) == [name for name in trained if name.startswith("bert.")]
    word = model.objective.tokenize(TEXTS[:1], ["he"])[0]
    expected = tiny.naive_gradient(inner, model.gradiend.mapping, lambda: tiny.naive_loss(given, word))
    assert tiny.distance(model.create_gradients(TEXTS[0], "he"), expected) < 1e-5
    assert {name: parameter.requires_grad for name, parameter in given.named_parameters()} == before
    assert "_hf_peft_config_loaded" not in vars(inner)


@every
def test_encodings_are_products_with_the_gradient_of_each_word(place, kind):
    model = on(adapted(place, kind))
    found = model.encode_texts(TEXTS, ["he", "she"], ["she", "he"], source="factual")
    gradients = [model.create_gradients(text, word) for text, word in zip(TEXTS, ["he", "she"], strict=True)]
    assert tiny.distance(found, torch.stack([model.gradiend.forward_encoder(g).detach() for g in gradients])) < 1e-5


def test_encodings_of_a_float32_adapter_in_a_bfloat16_model_need_no_backward_passes(place, caplog):
    caplog.set_level("INFO")
    model = on(adapted(place, dtype=torch.bfloat16))
    assert {parameter.dtype for parameter in model.engine.parameters.values()} == {torch.float32}
    model.encode_texts(TEXTS, ["he", "she"], ["she", "he"])
    assert "backward passes" not in caplog.text


def test_params_reach_what_the_adapter_leaves(place):
    model = on(adapted(place), params=["*layer.0*LayerNorm.weight", f"{QUERY}.base_layer.bias", f"{QUERY}.lora_B*"])
    assert len(names(model)) == 4
    word = model.objective.tokenize(TEXTS[:1], ["he"])[0]
    model.base_model.requires_grad_(True)
    expected = tiny.naive_gradient(
        model.base_model, model.gradiend.mapping, lambda: tiny.naive_loss(model.base_model, word)
    )
    assert tiny.distance(model.create_gradients(TEXTS[0], "he"), expected) < 1e-5


# Rewrites


@every
def test_a_saved_rewrite_is_an_adapter_that_plain_peft_loads(place, kind, tmp_path):
    given = adapted(place, kind)
    model = on(given)
    before, seen = bits(given), logits(given)
    rewritten = model.rewrite_base_model(RATE, FACTOR)
    assert not torch.equal(logits(rewritten), seen)
    out = Path(save(model, tmp_path / "out"))
    assert same_bits(bits(given), before)
    assert not (out / "config.json").exists()
    assert torch.equal(logits(peft.PeftModel.from_pretrained(plain(place), out)), logits(rewritten))
    assert torch.equal(logits(AutoModelForLM.from_pretrained(str(out))), logits(rewritten))
    rewritten.save_pretrained(tmp_path / "by hand")
    assert torch.equal(logits(peft.PeftModel.from_pretrained(plain(place), tmp_path / "by hand")), logits(rewritten))
    assert read_rewrite_record(out).base_model == place
    assert describe(out)["kind"] == "rewritten model"


def test_an_adapter_keeps_its_precision_in_a_bfloat16_model(place, tmp_path):
    model = on(adapted(place, dtype=torch.bfloat16))
    rewritten, out = model.rewrite_base_model(RATE, FACTOR), save(model, tmp_path / "out")
    loaded = AutoModelForLM.from_pretrained(out, torch_dtype=torch.bfloat16)
    assert same_bits(bits(loaded), bits(rewritten))
    by_peft = peft.PeftModel.from_pretrained(plain(place, dtype=torch.bfloat16), out).get_base_model()
    assert same_bits(bits(by_peft), bits(rewritten))


def test_a_rewrite_beyond_the_adapter_is_saved_with_the_whole_model(place, tmp_path, caplog):
    model = on(adapted(place), params=["*lora_*", "*LayerNorm*"])
    rewritten = model.rewrite_base_model(RATE, FACTOR)
    assert "also changes parameters outside of the adapter (bert.embeddings.LayerNorm.weight)" in caplog.text
    out = save(model, tmp_path / "out")
    for loaded in (plain(out), AutoModelForLM.from_pretrained(out)):
        assert torch.equal(logits(loaded), logits(rewritten))
    assert json.loads(Path(out, "adapter_config.json").read_text())["base_model_name_or_path"] == out


def test_a_model_without_a_name_is_saved_whole(place, tmp_path, monkeypatch):
    base = tiny.FAMILIES["bert"].build(hidden_size=64, intermediate_size=64)
    model = on(peft.get_peft_model(base, settings_of("LoRA")))
    rewritten = model.rewrite_base_model(RATE, FACTOR)
    assert torch.equal(logits(plain(save(model, tmp_path / "out"))), logits(rewritten))
    # An adapter in place of the whole model leaves no file of it, and what says that it is complete comes last.
    model, moved, replace = on(adapted(place)), [], Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, to: (moved.append(self.name), replace(self, to))[1])
    assert torch.equal(logits(AutoModelForLM.from_pretrained(save(model, tmp_path / "out"))),
                       logits(model.rewrite_base_model(RATE, FACTOR)))  # fmt: skip
    assert not (tmp_path / "out" / "model.safetensors").exists()
    assert moved[-2:] == ["adapter_config.json", "gradiend_rewrite.json"]


@pytest.mark.parametrize("changed", ["adapter_model", "model"])
def test_a_folder_with_other_weights_is_never_put_in_place(place, changed, tmp_path, monkeypatch):
    from safetensors.torch import load_file, save_file  # noqa: PLC0415

    from gradiend.model import _adapters  # noqa: PLC0415

    original = _adapters.save_adapted

    def damaged(model, directory, base, **kwargs):
        original(model, directory, base, **kwargs)
        file = Path(directory) / f"{changed}.safetensors"
        tensors = load_file(file)
        next(iter(tensors.values())).view(-1)[1] += 1
        save_file(tensors, file)

    monkeypatch.setattr(_adapters, "save_adapted", damaged)
    model = on(adapted(place), params=["*lora_*", "*LayerNorm*"])
    with pytest.raises(SavedRewriteError, match="was saved with other values of"):
        save(model, tmp_path / "out")
    assert not (tmp_path / "out" / "adapter_config.json").exists()


def test_a_delta_applies_to_every_form_of_the_model_and_is_undone(place, tmp_path):
    given = adapted(place)
    model = on(given)
    expected, before = logits(model.rewrite_base_model(RATE, FACTOR)), logits(given)
    path = model.export_delta(tmp_path / "d.safetensors", RATE, FACTOR)
    for form in (given, given.get_base_model(), torch.nn.DataParallel(given)):
        with apply_delta(form, path):
            assert torch.equal(logits(given), expected)
        assert torch.equal(logits(given), before)
    with pytest.raises(ValueError, match=rf"this model differs: it has no parameter {QUERY}\.lora_A\.default\.weight"):
        apply_delta(plain(place), path)


# Checkpoints


def same_after_loading(model, folder, **arguments):
    model.save_pretrained(str(folder))
    again = ModelWithGradiend.from_pretrained(str(folder), **arguments)
    assert torch.equal(again.create_gradients(TEXTS[0], "he"), model.create_gradients(TEXTS[0], "he"))
    assert torch.equal(logits(again.base_model), logits(model.base_model))
    return again


def files(folder):
    return {path.name for path in Path(folder).glob("*") if not path.name.startswith("tokenizer")}


def test_a_checkpoint_keeps_the_adapter_and_names_the_model(place, tmp_path):
    same_after_loading(on(adapted(place, name="mine")), tmp_path)
    assert files(tmp_path / "base_model") == {"adapter_config.json", "adapter_model.safetensors"}
    assert describe(tmp_path)["adapter"] == "mine"
    attached = plain(place)
    attached.add_adapter(settings_of("LoRA"), adapter_name="other")
    again = same_after_loading(on(attached), tmp_path)
    assert names(again)[0] == f"{QUERY}.lora_A.other.weight"


def test_a_checkpoint_on_an_adapter_s_folder_names_the_folder(place, tmp_path):
    adapted(place).save_pretrained(tmp_path / "adapter")
    model = ModelWithGradiend.from_pretrained(str(tmp_path / "adapter"))
    randomise(model.gradiend, scale=0.1)
    again = same_after_loading(model, tmp_path / "checkpoint")
    assert again.name_or_path == str(tmp_path / "adapter")
    assert not (tmp_path / "checkpoint" / "base_model").exists()
    torch.manual_seed(2)
    peft.get_peft_model(plain(place), settings_of("LoRA")).save_pretrained(tmp_path / "adapter")
    with pytest.raises(ValueError, match=r"is not the one that the GRADIEND in .* was trained on.*lora_A"):
        ModelWithGradiend.from_pretrained(str(tmp_path / "checkpoint"))


def test_an_adapter_on_a_hub_is_loaded_at_the_revision_that_is_asked_for(place, tmp_path):
    # The adapter's repository has no tokenizer: it is that of the plain model.
    given, folders = adapted(place), [tmp_path / "first", tmp_path / "second"]
    given.save_pretrained(folders[0])
    randomise(given)
    given.save_pretrained(folders[1])
    first, second = (AutoModelForLM.from_pretrained(folder).state_dict() for folder in folders)
    with HubServer() as hub, client_at(hub.endpoint, tmp_path / "home"):
        revision = hub.create("owner/adapter", folders[0])
        hub.commit("owner/adapter", folders[1])
        earlier, latest = (ModelWithGradiend.from_pretrained("owner/adapter", revision=one) for one in (revision, None))
        digests = [source_digest("owner/adapter")]
        assert same_bits(earlier.base_model.state_dict(), first)
        assert same_bits(latest.base_model.state_dict(), second)
        same_after_loading(earlier, tmp_path / "checkpoint")
        assert not (tmp_path / "checkpoint" / "base_model").exists()
        hub.commit("owner/adapter", folders[0])
        assert same_bits(AutoModelForLM.from_pretrained("owner/adapter").state_dict(), first)
        assert source_digest("owner/adapter") not in digests


def test_of_a_model_that_is_too_large_to_be_kept_the_adapter_is_kept(place, tmp_path, monkeypatch):
    monkeypatch.setattr("gradiend.trainer.text.common.model_base.LARGEST_STORED", 0)
    same_after_loading(on(adapted(place)), tmp_path / "given")
    assert files(tmp_path / "given" / "base_model") == {"adapter_config.json", "adapter_model.safetensors"}
    adapted(place).save_pretrained(tmp_path / "adapter")
    model = ModelWithGradiend.from_pretrained(str(tmp_path / "adapter"))
    randomise(model.gradiend, scale=0.1)
    same_after_loading(model, tmp_path / "named")
    assert not (tmp_path / "named" / "base_model").exists()


def test_a_checkpoint_keeps_a_model_that_no_name_loads(place, tmp_path):
    given = adapted(place)
    with torch.no_grad():
        given.get_base_model().bert.embeddings.LayerNorm.bias.add_(1)
    same_after_loading(on(given), tmp_path)
    assert "model.safetensors" in files(tmp_path / "base_model")


def test_another_model_under_an_adapter_s_folder_is_another_source(place, tmp_path):
    tiny.bert().save_pretrained(tmp_path / "base")
    peft.get_peft_model(plain(tmp_path / "base"), settings_of("LoRA")).save_pretrained(tmp_path / "adapter")
    before = source_digest(tmp_path / "adapter")
    assert source_digest(str(tmp_path / "adapter")) == before
    tiny.bert(seed=1).save_pretrained(tmp_path / "base")
    assert source_digest(tmp_path / "adapter") != before


@pytest.mark.parametrize("given", ["folder", pytest.param("PeftModel", marks=SLOW)])
def test_an_auxiliary_head_on_a_model_with_an_adapter(given, tmp_path):
    family = tiny.FAMILIES["llama"]
    family.build().save_pretrained(tmp_path / "base")
    family.tokenizer().save_pretrained(tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    lora = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    model = peft.get_peft_model(base, lora)
    if given == "folder":
        model.save_pretrained(tmp_path / "adapter")
        model = str(tmp_path / "adapter")
    trainer = tiny_data.trainer(model, {"experiment_dir": str(tmp_path / "run")})
    trainer.train_decoder_only_mlm_head(model, epochs=1)
    trainer.train()
    trained, again = trainer.get_model(), ModelWithGradiend.from_pretrained(str(tmp_path / "run" / "model"))
    assert type(again.base_model) is type(trained.base_model) is DecoderModelWithMLMHead
    words = (["he", "they"], ["they", "he"])
    assert torch.equal(again.encode_texts(TEXTS, *words), trained.encode_texts(TEXTS, *words))
    out = save(trained, tmp_path / "out")
    assert torch.equal(logits(AutoModelForLM.from_pretrained(out)), logits(trained.rewrite_base_model(RATE, FACTOR)))


# Whole runs


@pytest.mark.parametrize("quantized", [pytest.param(False, id="LoRA", marks=SLOW), pytest.param(True, id="QLoRA")])
def test_a_training_separates_two_classes(place, quantized, tmp_path):
    settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4") if quantized else None
    given = adapted(place, "LoRA everywhere", **({"quantization_config": settings} if quantized else {}))
    arguments = {"experiment_dir": str(tmp_path), "max_steps": 30, "eval_steps": 30}
    trainer = tiny_data.trainer(given, arguments)
    trainer.train()
    assert trainer.evaluate_encoder()["correlation"] > 0.9
    model = trainer.get_model()
    again = ModelWithGradiend.from_pretrained(str(tmp_path / "model"))
    words = (["he", "they"], ["they", "he"])
    assert torch.equal(again.encode_texts(TEXTS, *words), model.encode_texts(TEXTS, *words))
    results = trainer.evaluate_decoder(lrs=[1.0], selector=None)
    assert {"SG", "PL"} <= results.keys()
    out = save(model, tmp_path / "out")
    if quantized:
        from gradiend.model._quantized import keep_layout  # noqa: PLC0415

        base = plain(place, quantization_config=settings)
        keep_layout(base)
    else:
        base = plain(place)
    assert torch.equal(
        logits(peft.PeftModel.from_pretrained(base, out)), logits(model.rewrite_base_model(RATE, FACTOR))
    )


def test_a_causal_model_with_an_adapter(tmp_path):
    family = tiny.FAMILIES["llama"]
    base = family.build()
    given = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    model = TextPredictionModelWithGradiend.from_pretrained(given, tokenizer=family.tokenizer())
    randomise(model.gradiend, scale=0.1)
    assert model.is_decoder_only_model
    out = save(model, tmp_path / "out")
    assert torch.equal(
        logits(AutoModelForCausalLM.from_pretrained(out)), logits(model.rewrite_base_model(RATE, FACTOR))
    )


# Refusals


def merged(place):
    model = adapted(place)
    model.merge_adapter()
    return model


def switched_off(place):
    model = plain(place)
    model.add_adapter(settings_of("LoRA"))
    model.disable_adapters()
    return model


def two_active(place):
    model = plain(place)
    model.add_adapter(settings_of("LoRA"), adapter_name="a")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.add_adapter(settings_of("LoRA"), adapter_name="b")
    model.set_adapter(["a", "b"])
    return model


def prompts(place):
    return peft.get_peft_model(
        plain(place), peft.PromptTuningConfig(num_virtual_tokens=2, task_type="FEATURE_EXTRACTION")
    )


def invoked(place):
    model = adapted(place)
    model.peft_config["default"].alora_invocation_tokens = [1, 2]
    return model


def mixed(place):
    return peft.get_peft_model(plain(place), settings_of("LoRA"), mixed=True)


MERGE = "merge_and_unload() of the PeftModel gives a plain model with the adapter's weights in it."
KNOWN = "and the kinds that GRADIENDs can be made for are LORA, ADALORA, LOHA, LOKR, OFT and IA3. Merge it, if its kind"
REFUSED = {
    "merged": (merged, f"one whose adapter is merged but still attached: call unmerge_adapter(), or {MERGE}"),
    "switched off": (
        switched_off, "one with an adapter that is switched off: call enable_adapters(), or remove the adapter.",
    ),
    "two": (two_active, "one with several active adapters (a, b): choose one with set_adapter(name)."),
    "prompts": (prompts, f"one with an adapter of the kind PROMPT_TUNING, {KNOWN} can be merged: {MERGE}"),
    "aLoRA": (invoked, f"one with an adapter of the kind aLoRA, {KNOWN} can be merged: {MERGE}"),
    "mixed": (
        mixed, "wrapped by PEFT (PeftMixedModel): give what PeftMixedModel.merge_and_unload() returns, a plain model.",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_adapters_that_cannot_be_used_are_refused_before_any_work(place, make, message, tmp_path):
    model = make(place)
    trainer = tiny_data.trainer(model, {"experiment_dir": str(tmp_path)})
    for call in (lambda: on(model), lambda: on(plain(place)).with_original_base_model(model), trainer.train):
        with pytest.raises(ValueError, match="The base model is") as told:
            call()
        assert str(told.value) == f"The base model is {message}"


def test_the_way_out_of_a_merged_adapter_works(place):
    given = adapted(place)
    expected = logits(given)
    assert tiny.distance(logits(on(given.merge_and_unload()).base_model), expected) < 1e-5


def test_a_gradiend_of_another_layout_is_refused(place):
    query = f"{QUERY}.weight"
    on_plain, on_adapted = on(plain(place), params=[query]), on(adapted(place))
    on_base = on(adapted(place), params=[f"{QUERY}.base_layer.weight"])
    for model, other, message in (
        (on_plain, adapted(place), f"The base model has no parameter {query}: an adapter is attached to its layer"),
        (on_adapted, plain(place), "has, or has under another name"),
        (on_adapted, adapted(place, name="mine"), "that this one does not have, or has under another name"),
        (on_base, plain(place), "the GRADIEND was made for a model with an adapter attached"),
    ):
        with pytest.raises(KeyError, match=message.replace("has, or", "have, or")):
            model.with_original_base_model(other)


def test_a_folder_that_cannot_be_loaded_says_why(place, tmp_path, monkeypatch):
    adapted(place).save_pretrained(tmp_path)
    config = tmp_path / "adapter_config.json"
    content = json.loads(config.read_text())

    def write(**changed):
        config.write_text(json.dumps({**content, **changed}))

    write(base_model_name_or_path=None)
    with pytest.raises(ValueError, match=r"adapter_config\.json does not name the model .* base_model_name_or_path"):
        AutoModelForLM.from_pretrained(str(tmp_path))
    write(base_model_name_or_path=str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError, match=r"is for the model '.*gone', which is not there.*write its place into"):
        AutoModelForLM.from_pretrained(str(tmp_path))
    write(target_modules=["query"])
    with pytest.raises(ValueError, match=r"does not fit the BertForMaskedLM: it also has .*value\.lora_A"):
        AutoModelForLM.from_pretrained(str(tmp_path))
    write(target_modules=["nothing"])
    with pytest.raises(ValueError, match=r"does not fit the BertForMaskedLM: .*nothing"):
        AutoModelForLM.from_pretrained(str(tmp_path))
    write(r=3)
    with pytest.raises(ValueError, match=r"does not fit the BertForMaskedLM: .*size mismatch"):
        AutoModelForLM.from_pretrained(str(tmp_path))
    write()
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError) as told:
        AutoModelForLM.from_pretrained(str(tmp_path))
    hint = 'pip install peft (or, in a clone of this project, pip install ".[large]")'
    assert str(told.value) == f"The adapter in {tmp_path} needs peft: {hint}"
