"""The documented helpers: kinds of models, freezing, weight files, context files, devices."""

from __future__ import annotations

import itertools
import json

import pytest
import tiny
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from gradiend.model import is_decoder_only_model
from gradiend.model._architecture import default_devices
from gradiend.model.utils import (
    freeze_params_until_target,
    load_model_weights,
    read_gradiend_context,
    resolve_device_config_for_model,
    save_model_weights,
    write_gradiend_context,
)


class TestDecoderOnly:
    def test_models_by_their_class_whatever_their_config_says(self):
        bert = tiny.bert()
        assert not is_decoder_only_model(bert)
        bert.config.architectures = ["BertLMHeadModel"]
        assert not is_decoder_only_model(bert)
        gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_positions=8, n_embd=4, n_layer=1, n_head=1))
        assert is_decoder_only_model(gpt2)
        gpt2.config.architectures = ["BertForMaskedLM"]
        assert is_decoder_only_model(gpt2)
        assert not is_decoder_only_model(type("Mine", (type(bert),), {})(bert.config))

    def test_modules_without_a_config_by_class(self):
        assert is_decoder_only_model(nn.Linear(2, 2))
        assert not is_decoder_only_model(type("TinyForMaskedLM", (nn.Module,), {})())

    def test_tokenizers_by_mask_token(self):
        tokenizer = tiny.bert_tokenizer()
        assert not is_decoder_only_model(tokenizer)
        tokenizer.mask_token = None
        assert is_decoder_only_model(tokenizer)


class TestFreezing:
    @staticmethod
    def trainable(*names):
        model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(4)))
        freeze_params_until_target(model, *names)
        return [name for name, parameter in model.named_parameters() if parameter.requires_grad]

    def test_what_comes_before_the_first_target_is_frozen(self):
        after = ["1.bias", "2.weight", "2.bias", "3.weight", "3.bias"]
        assert self.trainable("1.bias") == after
        assert self.trainable("3.weight", "1.bias") == after
        assert len(self.trainable("0.weight")) == 8

    def test_bad_names(self):
        with pytest.raises(AssertionError, match="at least one"):
            self.trainable()
        with pytest.raises(ValueError, match=r"'1.wieght'.*Did you mean '1.weight'"):
            self.trainable("2.weight", "1.wieght")


STATE = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(2, dtype=torch.bfloat16), "empty": torch.zeros(0)}


class TestWeightFiles:
    @pytest.mark.parametrize("use_safetensors", [None, True, False])
    def test_round_trip_in_one_file(self, tmp_path, use_safetensors):
        for previous in (True, False):
            save_model_weights(tmp_path / "new", {"old": torch.ones(1)}, use_safetensors=previous)
            save_model_weights(str(tmp_path / "new"), STATE, use_safetensors=use_safetensors)
            expected = "pytorch_model.bin" if use_safetensors is False else "model.safetensors"
            assert [path.name for path in (tmp_path / "new").iterdir()] == [expected]
            again = load_model_weights(str(tmp_path / "new"))
            assert again.keys() == STATE.keys()
            assert all(again[n].dtype == t.dtype and torch.equal(again[n], t) for n, t in STATE.items())

    @pytest.mark.parametrize("cut", [slice(None), slice(2, None), slice(0, 3)])
    def test_tied_tensors_go_to_a_bin_file_and_stay_tied(self, tmp_path, cut):
        whole = torch.arange(5.0)
        save_model_weights(tmp_path, {"a": whole, "b": whole[cut]})
        assert [path.name for path in tmp_path.iterdir()] == ["pytorch_model.bin"]
        again = load_model_weights(tmp_path)
        again["a"][2] = 9
        assert 9 in again["b"]
        with pytest.raises(ValueError, match=r"share memory.*use_safetensors"):
            save_model_weights(tmp_path, {"a": whole, "b": whole[cut]}, use_safetensors=True)

    def test_halves_of_one_tensor_are_not_tied(self, tmp_path):
        whole = torch.arange(6.0)
        save_model_weights(tmp_path, {"b": whole[3:], "a": whole[:3]}, use_safetensors=True)
        assert load_model_weights(tmp_path)["b"].tolist() == [3, 4, 5]

    def test_no_weights(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"model\.safetensors.*pytorch_model\.bin"):
            load_model_weights(tmp_path)


class TestContext:
    @pytest.mark.parametrize("target", ["factual", "diff", None])
    @pytest.mark.parametrize("direction", [None, {"F": 1, "M": -1, "ü": 0}])
    def test_round_trip(self, tmp_path, target, direction):
        path = write_gradiend_context(str(tmp_path), "alternative", target, direction)
        assert path == str(tmp_path / "gradiend_context.json")
        assert read_gradiend_context(str(tmp_path)) == ("alternative", target, direction)

    @pytest.mark.parametrize(
        "content",
        ["{", "[]", "{}", '{"source": "factual"}',
         '{"source": "fact", "target": "diff"}', '{"source": 1, "target": null}',
         '{"source": "diff", "target": "x"}',
         '{"source": "diff", "target": null, "feature_class_encoding_direction": {"a": 2}}',
         '{"source": "diff", "target": null, "feature_class_encoding_direction": [1]}'],
    )  # fmt: skip
    def test_a_bad_file_is_named(self, tmp_path, content):
        (tmp_path / "gradiend_context.json").write_text(content)
        with pytest.raises(ValueError, match=r"gradiend_context\.json"):
            read_gradiend_context(tmp_path)

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            (("fact", "diff"), ValueError, "source must be one of"),
            (("factual", "dif"), ValueError, "target must be one of"),
            (("factual", "diff", {"a": 2}), ValueError, "is \\+1, −1 or 0"),
            (("factual", "diff", ["a", "b"]), TypeError, "must map classes"),
        ],
    )
    def test_what_reading_would_refuse_is_not_written(self, tmp_path, arguments, error, message):
        with pytest.raises(error, match=message):
            write_gradiend_context(tmp_path, *arguments)
        assert not list(tmp_path.iterdir())

    def test_labels_come_back_as_ints(self, tmp_path):
        content = {"source": "diff", "target": None, "feature_class_encoding_direction": {"a": 1.0, "b": -1.0}}
        (tmp_path / "gradiend_context.json").write_text(json.dumps(content))
        direction = read_gradiend_context(tmp_path)[2]
        assert direction == {"a": 1, "b": -1}
        assert {type(label) for label in direction.values()} == {int}

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"gradiend_context\.json"):
            read_gradiend_context(tmp_path)


class TestDevices:
    @pytest.mark.parametrize(
        ("n_gpus", "same", "expected"),
        [
            (0, False, ("cpu", "cpu", "cpu")),
            (0, True, ("cpu", "cpu", "cpu")),
            (1, False, ("cuda:0", "cuda:0", "cuda:0")),
            (1, True, ("cuda:0", "cuda:0", "cuda:0")),
            (2, False, ("cuda:0", "cuda:1", "cuda:0")),
            (2, True, ("cuda:0", "cuda:0", "cuda:1")),
            (3, False, ("cuda:0", "cuda:1", "cuda:2")),
            (3, True, ("cuda:0", "cuda:0", "cuda:1")),
            (8, False, ("cuda:0", "cuda:1", "cuda:2")),
        ],
    )
    def test_the_rule_for_encoder_decoder_and_base_model(self, n_gpus, same, expected):
        assert default_devices(n_gpus, same) == expected

    @pytest.mark.skipif(torch.cuda.is_available(), reason="the rule for a machine without GPUs")
    def test_what_is_given_wins_over_device_and_device_over_the_rule(self):
        for device, *own in itertools.product((None, "meta"), (None, "cpu", torch.device("cuda", 3)), repeat=1):
            given = [own[0], None, None]
            found = resolve_device_config_for_model(device, *given)
            expected = [torch.device(place or device or "cpu") for place in given]
            assert list(found) == [*expected, False]

    @pytest.mark.parametrize(
        ("devices", "several"),
        [
            (("cuda:0", "cuda:0", "cuda:0"), False),
            (("cuda:0", "cuda:1", "cuda:0"), True),
            (("cuda:0", "cpu", "cpu"), False),
            (("meta", "cpu", "cpu"), False),
        ],
    )
    def test_the_last_entry_says_whether_that_takes_several_gpus(self, devices, several):
        assert resolve_device_config_for_model(None, *devices) == (*map(torch.device, devices), several)
