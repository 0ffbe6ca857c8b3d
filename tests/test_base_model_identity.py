"""A GRADIEND belongs to the weights and to the labels that it was trained on, not to a name."""

from __future__ import annotations

import json
import logging
import re
import shutil
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path

import pytest
import tiny
import tiny_data
import torch
from everyday import every
from model_cases import bits, same_bits
from tokenizers import normalizers
from transformers import BertForMaskedLM, BertLMHeadModel, MptConfig, MptForCausalLM

from gradiend import ModelWithGradiend, ParamMappedGradiendModel, TextPredictionTrainer, TrainingArguments
from gradiend.model._base_model import BaseDigest
from gradiend.objectives.causal_with_head import MLMHead
from gradiend.trainer.text import DecoderModelWithMLMHead, InstructTokenizerWrapper, TextPredictionModelWithGradiend
from gradiend.trainer.text.common import model_base
from gradiend.util._cache import SETTINGS, differences

TEXT, WORD = "the old baker was near the house and then [MASK] saw the bread .", "he"
LAYER = ["*layer.1*"]


@pytest.fixture
def path(tmp_path) -> str:
    return tiny_data.save_bert(tmp_path / "bert")


def changed_bert(path, dtype=torch.float32):
    """The model at `path` as it is after a training in memory: one parameter differs, the name is the same."""
    model = type(tiny.bert()).from_pretrained(path, dtype=dtype)
    with torch.no_grad():
        model.cls.predictions.bias.add_(torch.linspace(-1, 1, model.cls.predictions.bias.numel()).to(dtype))
    return model


def on(base, path, **kwargs) -> TextPredictionModelWithGradiend:
    return TextPredictionModelWithGradiend.from_pretrained(
        base, tokenizer=tiny.bert_tokenizer(), params=LAYER, **kwargs
    )


class Halved(BertForMaskedLM):
    """A class of a user's own, with the weights of its parent and other predictions."""

    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        return type(output)(**{**output, "logits": output.logits / 2})


class TestSettings:
    """Equal weights give other predictions with another class or config, so these belong to the base model too."""

    @pytest.mark.parametrize(
        ("kind", "settings"),
        [
            (BertForMaskedLM, {"hidden_act": "relu"}),
            (BertForMaskedLM, {"num_attention_heads": 4}),
            (BertLMHeadModel, {"is_decoder": True}),
        ],
    )
    def test_a_checkpoint_loads_the_settings_that_it_was_trained_with(self, path, tmp_path, kind, settings):
        base = kind.from_pretrained(path, **settings)
        model = on(base, path)
        model.save_pretrained(str(tmp_path / "model"))
        again = TextPredictionModelWithGradiend.from_pretrained(str(tmp_path / "model"))
        assert type(again.base_model) is kind
        assert torch.equal(again.create_gradients(TEXT, WORD), model.create_gradients(TEXT, WORD))
        plain = on(BertForMaskedLM.from_pretrained(path), path)
        assert tiny.distance(plain.create_gradients(TEXT, WORD), model.create_gradients(TEXT, WORD)) > 0.01

    def test_what_changes_no_prediction_is_not_stored(self, path, tmp_path):
        base = BertForMaskedLM.from_pretrained(path, output_attentions=True, hidden_dropout_prob=0.3)
        base.config.use_cache, base.config.pad_token_id = False, 3
        on(base, path).save_pretrained(str(tmp_path / "model"))
        assert not (tmp_path / "model" / "base_model").exists()
        TextPredictionModelWithGradiend.from_pretrained(str(tmp_path / "model"))

    def test_the_dtype_of_a_config_within_the_config_is_no_setting(self, tmp_path):
        config = MptConfig(d_model=32, n_heads=2, n_layers=1, vocab_size=50)
        MptForCausalLM(config).save_pretrained(tmp_path)
        single, double = (MptForCausalLM.from_pretrained(tmp_path, dtype=one) for one in (torch.float32, torch.float64))
        assert single.config.to_dict()["attn_config"] != double.config.to_dict()["attn_config"]
        assert BaseDigest.of(single).differences(BaseDigest.of(double)) == []

    def test_a_base_model_with_other_settings_is_an_error_unless_given(self, path, tmp_path, caplog):
        on(path, path).save_pretrained(str(tmp_path / "model"))
        config = json.loads((Path(path) / "config.json").read_text())
        (Path(path) / "config.json").write_text(json.dumps({**config, "hidden_act": "relu"}))
        with pytest.raises(ValueError, match=r"not the one .* 1 setting differs \(hidden_act\)"):
            TextPredictionModelWithGradiend.from_pretrained(str(tmp_path / "model"))
        TextPredictionModelWithGradiend.from_pretrained(str(tmp_path / "model"), base_model=path)
        assert "1 setting differs (hidden_act)" in caplog.text

    def test_a_class_of_a_users_own_has_to_be_given(self, path, tmp_path):
        model = on(Halved.from_pretrained(path), path)
        model.save_pretrained(str(tmp_path / "model"))
        with pytest.raises(ValueError, match=r"1 setting differs \(class\)"):
            TextPredictionModelWithGradiend.from_pretrained(str(tmp_path / "model"))
        again = TextPredictionModelWithGradiend.from_pretrained(
            str(tmp_path / "model"), base_model=Halved.from_pretrained(path)
        )
        assert torch.equal(again.create_gradients(TEXT, WORD), model.create_gradients(TEXT, WORD))

    @pytest.mark.parametrize("left_out", ["settings", "version"])
    def test_settings_that_nobody_knows_are_not_compared(self, path, tmp_path, left_out):
        digest = BaseDigest.of(BertForMaskedLM.from_pretrained(path))
        other = BaseDigest.of(BertForMaskedLM.from_pretrained(path, hidden_act="relu"))
        assert digest.differences(other) == ["config.hidden_act"]
        known = {} if left_out == "settings" else {**digest.settings, "transformers_version": "4.1"}
        replace(digest, settings=known).save(tmp_path)
        assert BaseDigest.load(tmp_path).settings == known
        assert BaseDigest.load(tmp_path).differences(other) == []

    def test_what_was_measured_with_other_settings_is_measured_again(self, path, tmp_path):
        def measured(folder, **settings):
            trainer = tiny_data.trainer(
                on(BertForMaskedLM.from_pretrained(path, **settings), path),
                {"experiment_dir": str(tmp_path / folder), "use_cache": True},
            )
            return trainer.train().evaluate_decoder(lrs=[0.5], target_class="SG")["SG"]["base_value"]

        before = measured("one")
        assert measured("one", hidden_act="relu") == measured("other", hidden_act="relu") != before

    def test_a_fingerprint_of_an_older_version_says_nothing_of_settings(self):
        assert differences({"format": 3, SETTINGS: "a"}, {"format": 3}) == []
        assert differences({"format": 3, SETTINGS: "a"}, {"format": 3, SETTINGS: "b"}) != []


class TestAnInstance:
    @pytest.mark.parametrize(
        ("seeds", "dtype"),
        every(3, [(1, torch.float32), (2, torch.float32), (1, torch.bfloat16), (2, torch.bfloat16)]),
    )
    def test_it_is_the_one_that_is_trained_evaluated_and_rewritten(self, path, tmp_path, seeds, dtype):
        base = changed_bert(path, dtype)
        args = {"experiment_dir": str(tmp_path / "runs"), "max_seeds": seeds, "min_convergent_seeds": None}
        trainer = tiny_data.trainer(on(base, path, source="alternative"), args).train()
        trained = trainer.get_model()
        assert trained.base_model is base
        rewritten = trained.rewrite_base_model(0.5, 1.0)
        assert torch.equal(rewritten.cls.predictions.bias, base.cls.predictions.bias)
        assert rewritten.dtype is dtype
        again = ModelWithGradiend.from_pretrained(trainer.model_path)
        assert same_bits(bits(again.base_model), bits(base))
        assert again.encode(TEXT, WORD, return_float=True) == trained.encode(TEXT, WORD, return_float=True)

    def test_kept_seed_runs_share_it(self, path, tmp_path):
        base = changed_bert(path)
        args = {"max_seeds": 2, "min_convergent_seeds": None, "keep_seed_runs": True, "output_dir": str(tmp_path / "m")}
        models = tiny_data.trainer(on(base, path), args).train()
        assert [model.base_model for model in models.values()] == [base, base]

    def test_a_plain_instance_too(self, path, tmp_path):
        base = changed_bert(path)
        trainer = tiny_data.trainer(base, {"output_dir": str(tmp_path / "m"), "max_seeds": 2}).train()
        assert trainer.get_model().base_model is base

    def test_one_that_equals_what_its_name_loads_is_not_stored(self, path, tmp_path):
        on(type(tiny.bert()).from_pretrained(path), path).save_pretrained(str(tmp_path / "same"))
        assert not (tmp_path / "same" / "base_model").exists()
        on(changed_bert(path), path).save_pretrained(str(tmp_path / "changed"))
        assert (tmp_path / "changed" / "base_model" / "model.safetensors").is_file()
        # What lay there belongs to the earlier model.
        on(path, path).save_pretrained(str(tmp_path / "changed"))
        assert not (tmp_path / "changed" / "base_model").exists()

    def test_one_that_changed_after_loading_by_name_is_stored(self, path, tmp_path):
        model = on(path, path)
        with torch.no_grad():
            model.base_model.cls.predictions.bias.fill_(0.3)
        model.save_pretrained(str(tmp_path / "m"))
        again = ModelWithGradiend.from_pretrained(str(tmp_path / "m"))
        assert (again.base_model.cls.predictions.bias == 0.3).all()
        # A copy in another place stores it again: the name still loads the unchanged one.
        again.save_pretrained(str(tmp_path / "n"))
        assert (ModelWithGradiend.from_pretrained(str(tmp_path / "n")).base_model.cls.predictions.bias == 0.3).all()

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
    def test_one_entry_of_a_large_table_makes_it_another(self, tmp_path, dtype):
        base = tiny.FAMILIES["bert"].build(vocab_size=5000, dtype=dtype)
        base.save_pretrained(tmp_path / "bert")
        base = type(base).from_pretrained(tmp_path / "bert", dtype=dtype)
        with torch.no_grad():
            base.get_input_embeddings().weight[4998, 7] += 1
        on(base, None).save_pretrained(str(tmp_path / "m"))
        assert same_bits(bits(ModelWithGradiend.from_pretrained(str(tmp_path / "m")).base_model), bits(base))

    def test_a_large_one_is_asked_for_when_it_is_loaded(self, path, tmp_path, monkeypatch, caplog):
        monkeypatch.setattr(model_base, "LARGEST_STORED", 1000)
        base = changed_bert(path)
        on(base, path).save_pretrained(str(tmp_path / "m"))
        assert not (tmp_path / "m" / "base_model").exists()
        with pytest.raises(ValueError, match=r"not the one that .* trained on: 1 parameter differs .*base_model="):
            ModelWithGradiend.from_pretrained(str(tmp_path / "m"))
        with caplog.at_level(logging.WARNING):
            found = ModelWithGradiend.from_pretrained(
                str(tmp_path / "m"), base_model=base, tokenizer=tiny.bert_tokenizer()
            )
        assert found.base_model is base
        assert not caplog.records

    def test_without_a_name_a_large_one_is_said_to_be_missing(self, path, tmp_path, monkeypatch, caplog):
        monkeypatch.setattr(model_base, "LARGEST_STORED", 1000)
        with caplog.at_level(logging.WARNING):
            on(tiny.bert(), path).save_pretrained(str(tmp_path / "m"))
        assert "too large to be kept" in caplog.text

    def test_its_tokenizer_comes_back(self, path, tmp_path):
        tokenizer = tiny.bert_tokenizer().__class__.from_pretrained(path)
        word = tokenizer.tokenize(WORD)[0]
        tokenizer.add_special_tokens({"additional_special_tokens": [word + word]})
        base = type(tiny.bert()).from_pretrained(path)
        base.resize_token_embeddings(len(tokenizer))
        base.save_pretrained(path)
        model = TextPredictionModelWithGradiend.from_pretrained(path, tokenizer=tokenizer, params=LAYER)
        model.save_pretrained(str(tmp_path / "m"))
        again = ModelWithGradiend.from_pretrained(str(tmp_path / "m"))
        assert again.tokenizer.get_vocab() == tokenizer.get_vocab()
        assert not (tmp_path / "m" / "base_model").exists()

    @pytest.mark.parametrize("by_name", [True, False])
    def test_its_tokenizer_comes_back_when_the_place_that_it_was_from_is_gone(self, path, tmp_path, by_name):
        tokenizer = tiny.bert_tokenizer()
        tokenizer.backend_tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
        tokenizer.save_pretrained(tmp_path / "cased")
        given = str(tmp_path / "cased") if by_name else tokenizer
        TextPredictionModelWithGradiend.from_pretrained(path, tokenizer=given, params=LAYER).save_pretrained(
            str(tmp_path / "m")
        )
        ModelWithGradiend.from_pretrained(str(tmp_path / "m")).save_pretrained(str(tmp_path / "copy"))
        for gone in ("cased", "m"):
            shutil.rmtree(tmp_path / gone)
        again = ModelWithGradiend.from_pretrained(str(tmp_path / "copy")).tokenizer
        assert again.tokenize("The he") == tokenizer.tokenize("The he") == ["[UNK]", "he"]

    def test_a_chat_wrapper_comes_back(self, tmp_path):
        base, tokenizer = tiny.FAMILIES["llama"].build(max_position_embeddings=300), tiny.llama_tokenizer()
        tokenizer.chat_template = "{{ messages[1].role }} : {{ messages[1].content }} ."
        for part in (base, tokenizer):
            part.save_pretrained(tmp_path / "llama")
        wrapped = InstructTokenizerWrapper(tokenizer, "asker", "answerer")
        model = TextPredictionModelWithGradiend.from_pretrained(str(tmp_path / "llama"), tokenizer=wrapped)
        model.save_pretrained(str(tmp_path / "m"))
        again = ModelWithGradiend.from_pretrained(str(tmp_path / "m")).tokenizer
        assert isinstance(again, InstructTokenizerWrapper)
        assert again.prompt("a b") == wrapped.prompt("a b")


def doubled(module, arguments, output):
    return output * 2


def with_a_hook(base):
    base.bert.encoder.layer[1].attention.output.dense.register_forward_hook(doubled)
    return "doubled on bert.encoder.layer.1.attention.output.dense"


def with_a_pre_hook(base):
    hook = partial(lambda factor, module, arguments: (arguments[0] * factor, *arguments[1:]), 2)
    base.bert.encoder.layer[0].attention.output.dense.register_forward_pre_hook(hook)
    return ".*<lambda> on bert.encoder.layer.0.attention.output.dense"


def with_an_own_forward(base):
    dense = base.bert.encoder.layer[0].output.dense

    @wraps(dense.forward)
    def without_bias(hidden):
        return torch.nn.functional.linear(hidden, dense.weight)

    dense.forward = without_bias
    return "Linear.forward on bert.encoder.layer.0.output.dense"


class TestHooks:
    """No file holds hooks, so a checkpoint must not be loaded without them in silence."""

    @pytest.mark.parametrize("change", [with_a_hook, with_a_pre_hook, with_an_own_forward])
    def test_they_are_told_of_when_a_gradiend_is_saved_and_when_it_is_loaded_without(
        self, path, tmp_path, caplog, change
    ):
        base = BertForMaskedLM.from_pretrained(path)
        with torch.no_grad():
            base.bert.encoder.layer[0].output.dense.bias[::2] += 1.0
        base.save_pretrained(path)
        told = change(base)
        model = on(base, path)
        gradients = model.create_gradients(TEXT, WORD)
        for _ in range(2):
            model.save_pretrained(str(tmp_path / "model"))
        assert len(caplog.records) == 1
        assert re.search(f"no file holds: {told}. If they", caplog.text)
        assert not (tmp_path / "model" / "base_model").exists()
        caplog.clear()
        plain = TextPredictionModelWithGradiend.from_pretrained(str(tmp_path / "model"))
        assert re.search(f"that this one lacks: {told}. If they", caplog.text)
        assert tiny.distance(plain.create_gradients(TEXT, WORD), gradients) > 0.01
        caplog.clear()
        again = TextPredictionModelWithGradiend.from_pretrained(str(tmp_path / "model"), base_model=base)
        assert not caplog.records
        assert torch.equal(again.create_gradients(TEXT, WORD), gradients)

    def test_those_of_libraries_are_not(self, path, tmp_path, caplog):
        base = BertForMaskedLM.from_pretrained(path)
        base.enable_input_require_grads()
        model = on(base, path)
        model.create_gradients(TEXT, WORD)
        model.save_pretrained(str(tmp_path / "model"))
        ModelWithGradiend.from_pretrained(str(tmp_path / "model"))
        assert not caplog.records

    def test_what_was_measured_without_is_measured_again(self, path, tmp_path):
        def measured(change):
            base = BertForMaskedLM.from_pretrained(path)
            change(base)
            trainer = tiny_data.trainer(on(base, path), {"experiment_dir": str(tmp_path / "run"), "use_cache": True})
            return trainer.train().evaluate_decoder(lrs=[0.5], target_class="SG")["SG"]["base_value"]

        assert measured(lambda base: None) != measured(with_a_hook)


class TestAnotherBaseModel:
    @pytest.fixture
    def saved(self, path, tmp_path) -> str:
        on(path, path).save_pretrained(str(tmp_path / "m"))
        return str(tmp_path / "m")

    def test_a_folder_that_was_overwritten_is_an_error(self, path, saved):
        tiny.bert(seed=3).save_pretrained(path)
        with pytest.raises(ValueError, match=r"is not the one that the GRADIEND in .* was trained on"):
            ModelWithGradiend.from_pretrained(saved)

    def test_one_that_is_asked_for_is_taken_with_one_warning(self, path, saved, tmp_path, caplog):
        tiny.bert(seed=3).save_pretrained(tmp_path / "other")
        tiny.bert_tokenizer().save_pretrained(tmp_path / "other")
        with caplog.at_level(logging.WARNING):
            found = ModelWithGradiend.from_pretrained(saved, base_model=str(tmp_path / "other"))
        assert len(caplog.records) == 1
        assert "was trained on" in caplog.text
        # From now on it belongs to that model.
        found.save_pretrained(str(tmp_path / "again"))
        caplog.clear()
        again = ModelWithGradiend.from_pretrained(str(tmp_path / "again"))
        assert not caplog.records
        assert same_bits(bits(again.base_model), bits(found.base_model))

    def test_with_original_base_model_warns_once_and_only_of_other_weights(self, path, saved, tmp_path, caplog):
        model = ModelWithGradiend.from_pretrained(saved)
        with caplog.at_level(logging.WARNING):
            model.with_original_base_model(type(tiny.bert()).from_pretrained(path))
            assert not caplog.records
            moved = model.with_original_base_model(tiny.bert(seed=3))
        assert len(caplog.records) == 1
        moved.save_pretrained(str(tmp_path / "moved"))
        again = ModelWithGradiend.from_pretrained(str(tmp_path / "moved"))
        assert same_bits(bits(again.base_model), bits(tiny.bert(seed=3)))
        # The model that it was made from still belongs to its own.
        model.save_pretrained(str(tmp_path / "first"))
        assert same_bits(bits(ModelWithGradiend.from_pretrained(str(tmp_path / "first")).base_model), bits(tiny.bert()))

    def test_a_moved_one_is_named_by_base_model(self, path, saved, tmp_path):
        Path(path).rename(tmp_path / "elsewhere")
        with pytest.raises(FileNotFoundError, match=r"is not there\. If it was moved, .*base_model="):
            ModelWithGradiend.from_pretrained(saved)
        found = ModelWithGradiend.from_pretrained(saved, base_model=str(tmp_path / "elsewhere"))
        assert found.name_or_path == str(tmp_path / "elsewhere")

    def test_a_head_on_other_weights_is_an_error(self, tmp_path):
        base, tokenizer = tiny.FAMILIES["gpt2"].build(), tiny.gpt2_tokenizer()
        for part in (base, tokenizer):
            part.save_pretrained(tmp_path / "gpt2")
        base = type(base).from_pretrained(tmp_path / "gpt2")
        width = base.get_output_embeddings().weight.shape[1]
        head = MLMHead(str(tmp_path / "gpt2"), ["he", "she"], "x", 2, torch.zeros(2, width), torch.zeros(2))
        DecoderModelWithMLMHead(base, head).save_pretrained(tmp_path / "head")
        DecoderModelWithMLMHead.from_pretrained(tmp_path / "head")
        with torch.no_grad():
            base.get_output_embeddings().weight.mul_(2)
        with pytest.raises(ValueError, match=r"trained on other weights.*base_model="):
            DecoderModelWithMLMHead.from_pretrained(tmp_path / "head", base_model=base)


class TestTheDigest:
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_rounding_to_another_dtype_is_no_difference(self, dtype):
        exact, rounded = tiny.bert(), tiny.bert(dtype=dtype)
        assert BaseDigest.of(exact).differences(BaseDigest.of(rounded)) == []
        assert BaseDigest.of(rounded).differences(BaseDigest.of(rounded.to(torch.float32))) == []

    def test_the_smallest_step_in_one_dtype_is_one(self):
        model = tiny.bert(dtype=torch.bfloat16)
        before = BaseDigest.of(model)
        with torch.no_grad():
            bias = model.cls.predictions.bias
            bias[0] = torch.nextafter(bias[0], torch.tensor(9.0, dtype=bias.dtype))
        assert BaseDigest.of(model).differences(before) == ["cls.predictions.bias"]

    def test_it_survives_saving_and_names_other_shapes(self, tmp_path):
        digest = BaseDigest.of(tiny.bert())
        digest.save(tmp_path)
        assert BaseDigest.load(tmp_path).differences(digest) == []
        wider = tiny.bert()
        wider.resize_token_embeddings(wider.config.vocab_size + 8)
        assert "bert.embeddings.word_embeddings.weight" in digest.differences(BaseDigest.of(wider))
        assert BaseDigest.load(tmp_path / "nothing") is None

    def test_every_sampled_place_is_inside_and_a_sparse_change_is_seen(self):
        weight = torch.nn.Linear(1000, 1000, bias=False)
        before = BaseDigest.of(weight)
        with torch.no_grad():
            chosen = torch.randperm(1_000_000, generator=torch.Generator().manual_seed(0))[:50_000]
            weight.weight.view(-1)[chosen] += 1.0
        changed = (BaseDigest.of(weight).entries["weight"] != before.entries["weight"]).sum()
        # A twentieth of the entries has changed, and so have about 13 of the 256 sampled ones.
        assert 5 <= changed <= 25


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    home = tmp_path_factory.mktemp("labels")
    path = tiny_data.save_bert(home / "bert")
    args = TrainingArguments(
        experiment_dir=str(home / "runs"), train_batch_size=4, max_steps=0, init="class_means", init_samples=4,
        params=LAYER, source="alternative", max_seeds=1,
    )  # fmt: skip
    return TextPredictionTrainer(path, data=tiny_data.rows(), target_classes=["SG", "PL"], args=args).train()


class TestLabels:
    """Which class encodes positive, for checkpoints of other versions; the marks are those that 0.2.3 writes."""

    @staticmethod
    def as_0_2(directory):
        """Take our mark from a checkpoint and put those of 0.2.x on it."""
        tiny.without_checksums(directory)
        context, config = directory / "gradiend_context.json", directory / "config.json"
        content = json.loads(context.read_text())
        del content["labels_of"]
        context.write_text(json.dumps(content))
        content = json.loads(config.read_text())
        content["metadata"] |= {"prediction_objective": "auto", "decoder_sequence_cloze_rhs_window": -1}
        config.write_text(json.dumps(content))

    def test_one_of_0_2_with_source_alternative_is_turned_once(self, trained, tmp_path):
        ours = trained.get_model()
        ours.save_pretrained(str(tmp_path / "theirs"), labels_of="alternative")
        assert not same_bits(bits(ours.gradiend), weights_in(tmp_path / "theirs"))
        self.as_0_2(tmp_path / "theirs")
        read = ModelWithGradiend.from_pretrained(str(tmp_path / "theirs"))
        assert same_bits(bits(read.gradiend), bits(ours.gradiend))
        assert read.feature_class_encoding_direction == {"SG": 1, "PL": -1}
        assert trained.evaluate_encoder(read)["correlation"] > 0.9
        read.save_pretrained(str(tmp_path / "again"))
        again = ModelWithGradiend.from_pretrained(str(tmp_path / "again"))
        assert same_bits(bits(again.gradiend), bits(ours.gradiend))

    def test_its_feature_moves_the_right_way(self, trained, tmp_path):
        trained.get_model().save_pretrained(str(tmp_path / "theirs"), labels_of="alternative")
        self.as_0_2(tmp_path / "theirs")
        read = ModelWithGradiend.from_pretrained(str(tmp_path / "theirs"))
        results = trained.evaluate_decoder(lrs=[1e-4], feature_factors=[-1.0, 1.0])
        read_trainer = tiny_data.trainer(read, {"source": "alternative"})
        theirs = read_trainer.evaluate_decoder(lrs=[1e-4], feature_factors=[-1.0, 1.0])
        assert theirs["grid"][-1.0, 1e-4]["probs"] == results["grid"][-1.0, 1e-4]["probs"]
        before, after = (results["grid"][key]["probs_by_dataset"]["PL"]["SG"] for key in ("base", (-1.0, 1e-4)))
        assert after > before

    def test_other_sources_and_our_own_stay(self, trained, tmp_path):
        model = trained.get_model()
        model.save_pretrained(str(tmp_path / "ours"))
        assert same_bits(bits(ModelWithGradiend.from_pretrained(str(tmp_path / "ours")).gradiend), bits(model.gradiend))
        factual = on(trained.base_model_path, None, source="factual")
        factual.save_pretrained(str(tmp_path / "factual"), labels_of="alternative")
        self.as_0_2(tmp_path / "factual")
        read = ModelWithGradiend.from_pretrained(str(tmp_path / "factual"))
        assert same_bits(bits(read.gradiend), bits(factual.gradiend))

    def test_one_without_a_mark_is_read_as_it_is_and_this_is_said(self, trained, tmp_path, caplog):
        trained.get_model().save_pretrained(str(tmp_path / "m"))
        tiny.without_checksums(tmp_path / "m")
        context = tmp_path / "m" / "gradiend_context.json"
        content = json.loads(context.read_text())
        del content["labels_of"]
        context.write_text(json.dumps(content))
        with caplog.at_level(logging.INFO):
            read = ModelWithGradiend.from_pretrained(str(tmp_path / "m"))
        assert "labelled by the factual word" in caplog.text
        assert same_bits(bits(read.gradiend), bits(trained.get_model().gradiend))

    def test_one_that_cannot_be_inverted_changes_its_signs(self, path, tmp_path, caplog):
        model = on(path, path, source="alternative", activation_encoder="sigmoid")
        model.set_feature_class_encoding_direction({"SG": 1, "PL": -1, "other": 0})
        with pytest.raises(ValueError, match="sigmoid does not allow"):
            model.save_pretrained(str(tmp_path / "m"), labels_of="alternative")
        model.save_pretrained(str(tmp_path / "m"))
        self.as_0_2(tmp_path / "m")
        with caplog.at_level(logging.WARNING):
            read = ModelWithGradiend.from_pretrained(str(tmp_path / "m"))
        assert read.feature_class_encoding_direction == {"SG": -1, "PL": 1, "other": 0}
        assert "cannot be inverted" in caplog.text
        read.save_pretrained(str(tmp_path / "again"))
        again = ModelWithGradiend.from_pretrained(str(tmp_path / "again"))
        assert again.feature_class_encoding_direction == read.feature_class_encoding_direction

    def test_unknown_labels_are_refused(self, path, tmp_path):
        model = on(path, path)
        with pytest.raises(ValueError, match="'factual' or 'alternative'"):
            model.save_pretrained(str(tmp_path / "m"), labels_of="diff")
        model.save_pretrained(str(tmp_path / "m"))
        tiny.without_checksums(tmp_path / "m")
        context = tmp_path / "m" / "gradiend_context.json"
        context.write_text(context.read_text().replace('"labels_of": "factual"', '"labels_of": "both"'))
        with pytest.raises(ValueError, match=r"gradiend_context.json: labels_of must be"):
            ModelWithGradiend.from_pretrained(str(tmp_path / "m"))

    def test_results_that_another_tool_left_are_not_applied(self, trained, tmp_path):
        results = trained.evaluate_decoder(lrs=[1e-4])
        for file in Path(trained.experiment_dir).glob("decoder*.json"):
            content = json.loads(file.read_text())
            del content["fingerprint"], content["checksum"]
            file.write_text(json.dumps(content))
        fresh = tiny_data.trainer(trained.get_model(), {"experiment_dir": trained.experiment_dir})
        with pytest.raises(ValueError, match="does not say which model"):
            fresh.rewrite_base_model(target_class="SG")
        assert fresh.rewrite_base_model(results, target_class="SG") is not None


def weights_in(directory):
    """The bits of a GRADIEND as they lie on disk."""
    return bits(ParamMappedGradiendModel.from_pretrained(str(directory)))
