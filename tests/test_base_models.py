"""What kind of model an instance is, and which base models are refused before any work."""

import pandas as pd
import pytest
import tiny
import torch
from torch import nn
from transformers import (
    AutoModelForMaskedLM,
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    BertLMHeadModel,
    BertModel,
    ElectraConfig,
    ElectraForCausalLM,
    FlaubertConfig,
    FlaubertWithLMHeadModel,
    RobertaConfig,
    RobertaForCausalLM,
    XLMConfig,
    XLMWithLMHeadModel,
    XLNetConfig,
    XLNetLMHeadModel,
)

from gradiend import ModelWithGradiend, TextPredictionTrainer, TrainingArguments
from gradiend.trainer.text import AutoModelForLM, TextPredictionModelWithGradiend

TEXT = "the baker saw [MASK] then ."
SMALL = {
    "vocab_size": 49,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
}


def loaded(model, tokenizer=None):
    return TextPredictionModelWithGradiend.from_pretrained(model, tokenizer=tokenizer or tiny.bert_tokenizer())


def vocabulary():
    return len(tiny.bert_tokenizer())


def config(cls, **settings):
    return cls(**{**SMALL, "vocab_size": vocabulary(), **settings})


def test_an_instance_is_what_its_class_says(tmp_path):
    """Its config may name the encoder that it was loaded from."""
    BertModel(tiny.bert().config).save_pretrained(tmp_path)
    model = AutoModelForMaskedLM.from_pretrained(tmp_path)
    model.config.architectures = ["BertModel"]
    found = loaded(model)
    assert not found.is_decoder_only_model
    assert not found.is_decoder_only_model
    assert tiny.bert_tokenizer().mask_token_id in found.objective.tokenize([TEXT], ["he"])[0].input_ids


@pytest.mark.parametrize(
    ("cls", "settings"),
    [(BertLMHeadModel, BertConfig), (RobertaForCausalLM, RobertaConfig), (ElectraForCausalLM, ElectraConfig)],
)
def test_a_decoder_of_a_masked_family_is_causal_if_it_attends_to_the_left_only(cls, settings, tmp_path):
    model = cls(config(settings, is_decoder=True))
    for found in (loaded(model), loaded(type("Own", (cls,), {})(model.config))):
        assert found.is_decoder_only_model
        assert found.objective.tokenize([TEXT], ["he"])[0].input_ids == tuple(
            tiny.bert_tokenizer()("the baker saw").input_ids[:-1]
        )
    model.save_pretrained(tmp_path)
    assert type(AutoModelForLM.from_pretrained(str(tmp_path))) is cls
    with pytest.raises(ValueError, match=r"attends to both sides.*is_decoder=True.*AutoModelForMaskedLM"):
        loaded(cls(config(settings)))


def test_a_masked_model_that_attends_to_the_left_only_is_refused():
    with pytest.raises(ValueError, match=r"attends to the left only.*is_decoder=False"):
        loaded(BertForMaskedLM(config(BertConfig, is_decoder=True)))


def test_a_permutation_model_sees_what_it_would_be_asked_for():
    settings = {"vocab_size": vocabulary(), "d_model": 16, "n_layer": 1, "n_head": 2, "d_inner": 16, "pad_token_id": 0}
    with pytest.raises(ValueError, match="attends to both sides"):
        loaded(XLNetLMHeadModel(XLNetConfig(**settings)))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("cls", "settings"), [(XLMWithLMHeadModel, XLMConfig), (FlaubertWithLMHeadModel, FlaubertConfig)]
)
def test_xlm_and_flaubert_follow_their_config(cls, settings, causal, tmp_path):
    sizes = {"emb_dim": 16, "n_layers": 1, "n_heads": 2, "n_langs": 1, "pad_index": 0, "max_position_embeddings": 40}
    model = cls(settings(vocab_size=vocabulary(), causal=causal, **sizes))
    model.save_pretrained(tmp_path)
    for found in (model, AutoModelForLM.from_pretrained(str(tmp_path))):
        assert type(found) is cls
        assert loaded(found).is_decoder_only_model == causal
        assert (4 in loaded(found).objective.tokenize([TEXT], ["he"])[0].input_ids) != causal


# Wrapped


def compiled_inside():
    model = tiny.bert()
    model.bert = torch.compile(model.bert, backend="eager")
    return model


def compiled_in_place():
    model = tiny.bert()
    model.compile(backend="eager")
    return model


def on_meta():
    with torch.device("meta"):
        return tiny.bert()


def offloaded():
    model = tiny.bert()
    model.hf_device_map = {"bert": "cpu", "cls": "disk"}
    return model


def quantized():
    model = tiny.bert()
    model.hf_quantizer = object()
    return model


def in_int8():
    model = tiny.bert()
    layer = model.bert.encoder.layer[0].attention.self.query
    layer.weight = nn.Parameter(layer.weight.mul(9).to(torch.int8), requires_grad=False)
    return model


class FullyShardedDataParallel(nn.Module):
    """The name of PyTorch's wrapper."""

    def __init__(self, model):
        super().__init__()
        self.module = model
        self.device, self.config, self.name_or_path = model.device, model.config, ""


class UsersWrapper(nn.Module):
    """A class of a user's own around a model, as training code often has it."""

    def __init__(self, model):
        super().__init__()
        self.inside = model
        self.device, self.config, self.name_or_path = model.device, model.config, ""


def with_leftover_setting():
    model = tiny.bert()
    model.config.quantization_config = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    return model


def for_inference():
    with torch.inference_mode():
        return tiny.bert()


WRAPPED = {
    "compiled inside": (compiled_inside, r"model\.bert\._orig_mod"),
    "compiled in place": (compiled_in_place, r"model\.compile\(\)"),
    "sharded": (lambda: FullyShardedDataParallel(tiny.bert()), r"FullyShardedDataParallel.*model\.module"),
    "meta": (on_meta, r"bert\.embeddings.*meta device.*device_map"),
    "disk": (offloaded, r"offloaded to disk"),
    "quantizer": (quantized, r"quantized.*float32"),
    "int8": (in_int8, r"quantized.*float32"),
    "quantization config": (with_leftover_setting, r"quantized.*float32"),
    "a user's wrapper": (lambda: UsersWrapper(tiny.bert()), r"UsersWrapper around a BertForMaskedLM.*model\.inside"),
    "inference mode": (for_inference, r"inference_mode\(\).*outside"),
}


@pytest.mark.parametrize(("make", "way_out"), WRAPPED.values(), ids=WRAPPED)
def test_wrapped_models_are_refused_before_any_work(make, way_out, tmp_path):
    model = make()
    with pytest.raises(ValueError, match=way_out):
        loaded(model)
    with pytest.raises(ValueError, match=way_out):
        loaded(tiny.bert()).with_original_base_model(model)
    rows = {"masked": [TEXT] * 4, "label": ["he", "she"] * 2, "label_class": ["m", "f"] * 2, "split": ["train"] * 4}
    args = TrainingArguments(experiment_dir=str(tmp_path), train_batch_size=1, max_steps=1)
    with pytest.raises(ValueError, match=way_out):
        TextPredictionTrainer(model, data=pd.DataFrame(rows), args=args).train()


TRANSPARENT = {
    "compiled": lambda model: torch.compile(model, backend="eager"),
    "parallel": nn.DataParallel,
    "both": lambda model: nn.DataParallel(torch.compile(model, backend="eager")),
}


@pytest.mark.parametrize("wrap", TRANSPARENT.values(), ids=TRANSPARENT)
def test_of_a_transparent_wrapper_the_model_inside_is_used(wrap, caplog):
    caplog.set_level("INFO")
    model = tiny.bert()
    wrapper = wrap(model)
    before = dict(vars(wrapper))
    with_gradiend = loaded(wrapper)
    assert with_gradiend.base_model is model
    assert vars(wrapper) == before
    (said,) = [record.getMessage() for record in caplog.records if "inside of" in record.getMessage()]
    assert said == f"The BertForMaskedLM inside of the {type(wrapper).__name__} is used."
    assert loaded(tiny.bert()).with_original_base_model(wrapper).base_model is model
    plain = loaded(tiny.bert()).create_gradients(TEXT, "he")
    assert torch.equal(with_gradiend.create_gradients(TEXT, "he"), plain)


def test_the_model_inside_of_distributed_data_parallel_is_used(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        wrapper = nn.parallel.DistributedDataParallel(tiny.bert().eval(), find_unused_parameters=True)
        found = loaded(wrapper)
        assert found.base_model is wrapper.module
        gradient = found.create_gradients(TEXT, "he")
        assert torch.equal(gradient, loaded(tiny.bert()).create_gradients(TEXT, "he"))
        # The wrapper still works.
        ids = torch.tensor([[1, 5, 6]])
        wrapper(input_ids=ids).logits.sum().backward()
        assert wrapper.module.get_input_embeddings().weight.grad is not None
        assert torch.equal(found.create_gradients(TEXT, "he"), gradient)
    finally:
        torch.distributed.destroy_process_group()


def test_a_quantized_checkpoint_is_refused_by_its_config(tmp_path):
    model = tiny.bert()
    model.config.quantization_config = {"quant_method": "gptq", "bits": 4}
    model.config.architectures = ["BertForMaskedLM"]
    model.config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"is quantized by gptq \(quantization_config\).*BitsAndBytesConfig.*float32"):
        AutoModelForLM.from_pretrained(str(tmp_path))


@pytest.mark.parametrize("given", [3, None, nn.Linear(2, 2)], ids=["number", "config", "layer"])
def test_what_is_no_language_model_is_said_by_its_type(given):
    given = BertConfig() if given is None else given
    with pytest.raises(TypeError, match=rf"name or path, or as a model .*; got {type(given).__name__}"):
        ModelWithGradiend.from_pretrained(given)


def test_a_model_with_a_second_head_names_the_class_without_it(tmp_path):
    model = BertForPreTraining(tiny.bert().config)
    with pytest.raises(ValueError, match=r"BertForPreTraining has a second head.*AutoModelForMaskedLM"):
        loaded(model)
    model.save_pretrained(tmp_path)
    tiny.bert_tokenizer().save_pretrained(tmp_path)
    assert not loaded(str(tmp_path)).is_decoder_only_model


@pytest.mark.parametrize("name", ["bert", "roberta", "gpt2", "gpt-neox"])
def test_a_model_without_a_tokenizer_asks_for_one(name, tmp_path):
    model = tiny.FAMILIES[name].build()
    model.save_pretrained(tmp_path)
    for given in (str(tmp_path), model, type(model).from_pretrained(tmp_path)):
        with pytest.raises(ValueError, match=rf"No tokenizer of the {type(model).__name__}.*tokenizer=tokenizer"):
            ModelWithGradiend.from_pretrained(given)


# Another architecture


OTHERS = {
    "another family": (tiny.FAMILIES["gpt2"].build, KeyError, r"no parameter bert\..*another architecture"),
    "another width": (
        lambda: tiny.FAMILIES["bert"].build(hidden_size=32),
        ValueError,
        r"has shape \(32, 32\), but the GRADIEND was made for \(16, 16\)",
    ),
}


@pytest.mark.parametrize(("make", "error", "message"), OTHERS.values(), ids=OTHERS)
def test_a_base_model_that_the_map_does_not_fit_is_refused(make, error, message, tmp_path):
    model = ModelWithGradiend.from_pretrained(
        tiny.bert(), tokenizer=tiny.bert_tokenizer(), params=["*layer.1*query.weight"]
    )
    model.save_pretrained(str(tmp_path))
    with pytest.raises(error, match=message):
        model.with_original_base_model(make())
    with pytest.raises(error, match=message):
        ModelWithGradiend.from_pretrained(str(tmp_path), base_model=make(), tokenizer=tiny.bert_tokenizer())


# Vocabulary and weights


def test_tokens_without_embeddings_are_refused():
    tokenizer, size = tiny.bert_tokenizer(), vocabulary()
    tokenizer.add_tokens(["sier", "xier"])
    message = rf"{size + 2} tokens.*embeddings for {size}.*'sier', 'xier'.*resize_token_embeddings\(len\(tokenizer\)\)"
    with pytest.raises(ValueError, match=message):
        loaded(tiny.bert(), tokenizer)
    model = tiny.bert()
    model.resize_token_embeddings(len(tokenizer))
    assert loaded(model, tokenizer).objective.tokenize([TEXT], ["sier"])[0].tokens == (size,)


def test_a_mask_token_without_embedding_is_refused():
    tokenizer = tiny.bert_tokenizer()
    tokenizer.add_special_tokens({"mask_token": "<hidden>"})
    with pytest.raises(ValueError, match=r"'<hidden>'.*resize_token_embeddings"):
        loaded(tiny.bert(), tokenizer)


def test_special_tokens_that_texts_never_become_need_no_embedding():
    tokenizer = tiny.bert_tokenizer()
    tokenizer.add_special_tokens({"extra_special_tokens": ["<image>"]})
    assert len(tokenizer) == vocabulary() + 1
    assert loaded(tiny.bert(), tokenizer).objective.tokenize([TEXT], ["he"])
    with pytest.raises(ValueError, match=r"'<image>'.*embeddings"):
        loaded(tiny.bert(), tokenizer).objective.tokenize(["the <image> saw [MASK] ."], ["he"])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_undefined_weights_are_refused_by_name(value, dtype, tmp_path):
    model = tiny.bert(dtype=dtype)
    with torch.no_grad():
        model.bert.encoder.layer[1].attention.self.query.bias[3] = value
    message = r"undefined or infinite weights in bert\.encoder\.layer\.1\.attention\.self\.query\.bias:"
    with pytest.raises(ValueError, match=message):
        loaded(model)
    with pytest.raises(ValueError, match=message):
        loaded(tiny.bert(dtype=dtype)).with_original_base_model(model)
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        loaded(str(tmp_path))
