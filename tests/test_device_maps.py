"""A base model on several devices: where things lie, what is refused, and the same numbers as on one device.

The two devices of `two_devices` refuse operators that mix them, as GPUs do, and the hooks are Accelerate's own.
"""

from __future__ import annotations

import copy
import json
import sys

import pytest
import tiny
import tiny_data
import torch
from accelerate import cpu_offload, dispatch_model
from torch import nn
from transformers import BertForMaskedLM
from two_devices import two_devices

from gradiend import PrePruneConfig, TrainingArguments
from gradiend.gradients import GradientEngine
from gradiend.model._context import Side
from gradiend.model.core.backbone import select_parameters
from gradiend.objectives import objective_of
from gradiend.objectives.causal_with_head import DecoderModelWithMLMHead, MLMHead
from gradiend.trainer.text import TextPredictionModelWithGradiend

FIRST, SECOND = "lazy:0", "lazy:1"
BERT_MAP = {"bert.embeddings": FIRST, "bert.encoder.layer.0": SECOND, "bert.encoder.layer.1": FIRST, "cls": FIRST}
BOTH = [Side.ALTERNATIVE, Side.DIFF]


def alternating(model) -> dict[str, str]:
    """Every second layer on another device; what follows the layers too, unless it is tied to the embeddings."""
    path, layers = next((path, part) for path, part in model.named_modules() if isinstance(part, nn.ModuleList))
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    places = {f"{path}.{number}": (SECOND, FIRST)[number % 2] for number in range(len(layers))}
    names = path.split(".")
    for depth, name in enumerate(names):
        above = ".".join(names[:depth])
        for other, _ in model.get_submodule(above).named_children():
            if other != name:
                places[f"{above}.{other}" if above else other] = FIRST if tied or "emb" in other else SECOND
    return places


def dispatched(model, places=None):
    """A copy of a model on two devices."""
    made = copy.deepcopy(model)
    skipped = made._skip_keys_device_placement
    return dispatch_model(made, alternating(made) if places is None else places, skip_keys=skipped)


def numbers_of(model, objective):
    """Gradients, encodings in both ways, and slopes and curvatures."""
    engine = GradientEngine(model, select_parameters(model), objective)
    texts = ["the dog [MASK] the old house .", "the cat [MASK] a house"]
    factual, alternative = objective.tokenize(texts, ["saw", "was"]), objective.tokenize(texts, ["was", "saw"])
    found = engine.gradients(factual, alternative, BOTH)
    directions = torch.randn(2, engine.mapping.size, generator=torch.Generator().manual_seed(0))
    found.append(engine.directional_derivatives(factual, directions))
    found += engine.token_derivatives(factual, directions[0])
    engine._forward_mode = False
    found.append(engine.directional_derivatives(factual, directions))
    return [tensor.cpu() for tensor in found], engine


def test_the_stand_in_refuses_what_gpus_refuse():
    with two_devices():
        one, other = torch.ones(2, device=FIRST), torch.ones(2, device=SECOND)
        with pytest.raises(RuntimeError, match="got tensors on lazy:0, lazy:1"):
            one + other
        assert (one.to(SECOND) + other).tolist() == [2, 2]


EVERYDAY = ("bert", True), ("modernbert", False), ("llama", False)
FAMILIES = [
    pytest.param(family, tied, marks=() if (family, tied) in EVERYDAY else pytest.mark.slow)
    for family in tiny.FAMILIES
    for tied in (True, False)
]


@pytest.mark.parametrize(("family", "tied"), FAMILIES)
def test_gradients_and_encodings_are_those_of_one_device(family, tied):
    family = tiny.FAMILIES[family]
    model = family.build(tied=tied)
    objective = objective_of(model, family.tokenizer())
    expected, plain = numbers_of(model, objective)
    with two_devices():
        divided = dispatched(model)
        found, engine = numbers_of(divided, objective)
        assert {str(parameter.device) for parameter in divided.parameters()} == {FIRST, SECOND}
    assert engine.scorer.narrows == plain.scorer.narrows
    for one, other in zip(found, expected, strict=True):
        assert tiny.distance(one, other) < 1e-5


def test_an_auxiliary_head_is_fed_from_the_last_device():
    family = tiny.FAMILIES["llama"]
    model = family.build(tied=False)
    head = MLMHead("", {"was": 0, "saw": 1}, "x", 2, torch.randn(2, 16), torch.zeros(2))
    expected, _ = numbers_of(
        with_head := DecoderModelWithMLMHead(model, head), objective_of(with_head, family.tokenizer())
    )
    with two_devices():
        divided = DecoderModelWithMLMHead(dispatched(model), head)
        found, _ = numbers_of(divided, objective_of(divided, family.tokenizer()))
    for one, other in zip(found, expected, strict=True):
        assert tiny.distance(one, other) < 1e-5


def whole_run(model):
    """Pre-pruning, training, encodings, grid, rewrite."""
    arguments = {
        **tiny_data.QUICK, "max_steps": 2, "pre_prune_config": PrePruneConfig(topk=0.2, n_samples=4),
        "encoder_eval_max_size": 4, "encoder_eval_train_max_size": 4, "decoder_eval_max_size_training_like": 4,
        "decoder_eval_max_size_neutral": 4,
    }  # fmt: skip
    trainer = tiny_data.trainer(model, arguments)
    trainer.train()
    trained = trainer.get_model()
    encodings = trainer.evaluate_encoder()
    grid = trainer.evaluate_decoder(lrs=[0.1])
    return trained, encodings["correlation"], grid["SG"], trained.rewrite_base_model(0.5, 1.0)


def test_a_whole_run_is_that_of_one_device(tmp_path):
    base, tokenizer = BertForMaskedLM.from_pretrained(tiny_data.save_bert(tmp_path / "base")), tiny.bert_tokenizer()
    given = {"tokenizer": tokenizer, "source": "alternative", "target": "diff"}
    plain = TextPredictionModelWithGradiend.from_pretrained(base, **given)
    begin = copy.deepcopy(plain.gradiend.state_dict())
    trained, correlation, chosen, rewritten = whole_run(plain)
    with two_devices():
        halves = {"device_encoder": SECOND, "device_decoder": FIRST}
        model = TextPredictionModelWithGradiend.from_pretrained(dispatched(base, BERT_MAP), **given, **halves)
        model.gradiend.load_state_dict(begin)
        other = whole_run(model)
        assert (str(other[0].gradiend.device_encoder), str(other[0].gradiend.device_decoder)) == (SECOND, FIRST)
        assert {str(parameter.device) for parameter in other[3].parameters()} == {FIRST, SECOND}
        other[0].save_pretrained(str(tmp_path / "model"))
        values = [parameter.detach().cpu() for parameter in other[3].parameters()]
    again = TextPredictionModelWithGradiend.from_pretrained(str(tmp_path / "model"))
    assert torch.equal(again.gradiend.mapping.base_indices(), trained.gradiend.mapping.base_indices())
    for name, weights in trained.gradiend.named_parameters():
        assert tiny.distance(again.gradiend.get_parameter(name).detach(), weights.detach()) < 1e-3, name
    assert other[1] == pytest.approx(correlation, abs=1e-4)
    assert other[2]["value"] == pytest.approx(chosen["value"], abs=1e-4)
    for one, same in zip(values, rewritten.parameters(), strict=True):
        torch.testing.assert_close(one, same.detach(), rtol=1e-4, atol=1e-6)


class TestPlacement:
    """What lies where, and stays there."""

    def test_a_divided_model_is_never_moved(self, caplog):
        with two_devices():
            base = dispatched(tiny.bert(), BERT_MAP)
            before = [parameter.device for parameter in base.parameters()]
            model = TextPredictionModelWithGradiend.from_pretrained(base, tokenizer=tiny.bert_tokenizer())
            assert {str(model.gradiend.device_encoder), str(model.gradiend.device_decoder)} == {FIRST}
            model.to(SECOND)
            assert [parameter.device for parameter in base.parameters()] == before
            assert str(model.gradiend.device_encoder) == SECOND
            assert "stays where its device map has put it" in caplog.text
            with pytest.raises(ValueError, match="device_base_model is for a base model on one device"):
                TextPredictionModelWithGradiend.from_pretrained(
                    base, tokenizer=model.tokenizer, device_base_model=FIRST
                )
            with pytest.raises(ValueError, match="base_model_device is for"):
                TextPredictionModelWithGradiend(base, model.gradiend, model.tokenizer, base_model_device=FIRST)

    def test_a_rewritten_copy_has_hooks_of_its_own(self):
        with two_devices():
            base = dispatched(tiny.bert(), BERT_MAP)
            model = TextPredictionModelWithGradiend.from_pretrained(base, tokenizer=tiny.bert_tokenizer())
            rewritten = model.rewrite_base_model(0.5, 1.0)
            inputs = torch.tensor([[2, 7, 3]], device=FIRST)
            assert not torch.equal(*(one(inputs).logits.cpu() for one in (base.eval(), rewritten.eval())))
            rewritten.to(FIRST)
            assert {str(parameter.device) for parameter in rewritten.parameters()} == {FIRST}
            assert {str(parameter.device) for parameter in base.parameters()} == {FIRST, SECOND}

    def test_a_model_is_loaded_onto_its_devices(self, tmp_path, monkeypatch):
        # The stand-ins are known in the thread that asks for them.
        monkeypatch.setenv("HF_DEACTIVATE_ASYNC_LOAD", "1")
        name = tiny_data.save_bert(tmp_path)
        plain = TextPredictionModelWithGradiend.from_pretrained(name)
        expected = plain.create_gradients("the dog [MASK] the house .", "saw")
        with two_devices():
            model = TextPredictionModelWithGradiend.from_pretrained(
                name, base_model_device_map=BERT_MAP, device_encoder=SECOND, device_decoder=FIRST
            )
            places = {name: str(parameter.device) for name, parameter in model.base_model.named_parameters()}
            found = model.create_gradients("the dog [MASK] the house .", "saw")
        assert {place for name, place in places.items() if "layer.0" in name} == {SECOND}
        assert {place for name, place in places.items() if "layer.0" not in name} == {FIRST}
        assert tiny.distance(found.cpu(), expected) < 1e-5

    def test_the_estimate_counts_what_each_device_has(self):
        with two_devices():
            model = TextPredictionModelWithGradiend.from_pretrained(
                dispatched(tiny.bert(), BERT_MAP), tokenizer=tiny.bert_tokenizer(), device_encoder=FIRST,
                device_decoder=SECOND,
            )  # fmt: skip
            found = {
                (use.name, use.device): use.nbytes
                for use in tiny_data.trainer(model).estimate_memory().phases["training steps"]
            }
            layer = sum(parameter.nbytes for parameter in model.base_model.bert.encoder.layer[0].parameters())
            tensors = [*model.base_model.parameters(), *model.base_model.buffers()]
        assert found["base model", SECOND] == layer
        assert found["base model", FIRST] == sum(tensor.nbytes for tensor in tensors) - layer
        assert found["gradient buffers", FIRST] == found["gradient buffers", SECOND] == 4 * len(model)
        assert found["GRADIEND weights", SECOND] == 2 * 4 * len(model)
        assert 0 < found["activations", SECOND] < found["activations", FIRST]

    def test_a_map_of_one_device_trains_the_same(self, tmp_path):
        name = tiny_data.save_bert(tmp_path)
        weights = [
            tiny_data.trainer(name, arguments).train().get_model().gradiend.encoder_linear.weight.detach()
            for arguments in ({}, {"base_model_device_map": {"": "cpu"}})
        ]
        assert torch.equal(*weights)


class TestRefused:
    """Before any work, with the way out."""

    def test_weights_that_are_not_there(self):
        model = cpu_offload(tiny.bert())
        with pytest.raises(ValueError, match=r"not in memory: .* on more or larger devices, in bfloat16"):
            TextPredictionModelWithGradiend.from_pretrained(model, tokenizer=tiny.bert_tokenizer())

    def test_one_weight_on_two_devices(self):
        with two_devices():
            model = dispatched(tiny.bert(), {**BERT_MAP, "cls": SECOND})
            with pytest.raises(ValueError, match=r"shares with another module, .* put both modules on one device"):
                TextPredictionModelWithGradiend.from_pretrained(model, tokenizer=tiny.bert_tokenizer())

    def test_a_map_without_accelerate(self, tmp_path, monkeypatch):
        name = tiny_data.save_bert(tmp_path)
        monkeypatch.setitem(sys.modules, "accelerate", None)
        with pytest.raises(ImportError, match="base_model_device_map needs accelerate: pip install accelerate"):
            TextPredictionModelWithGradiend.from_pretrained(name, base_model_device_map="auto")

    def test_a_map_for_a_model_that_is_loaded(self):
        trainer = tiny_data.trainer(tiny.bert(), {"base_model_device_map": "auto"})
        with pytest.raises(ValueError, match="is here already: give its name or path, or place it with accelerate"):
            trainer.train()

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"base_model_device_map": "atuo"}, ValueError, "Did you mean 'auto'"),
            ({"base_model_device_map": 3}, TypeError, "must be 'auto', or a dict"),
            ({"base_model_device_map": {}}, TypeError, "must be 'auto', or a dict"),
            ({"base_model_device_map": {"bert": "gpu"}}, ValueError, r"map\['bert'\] must be a device, such as"),
            ({"base_model_device_map": {"bert": True}}, TypeError, "must be a device, such as"),
            ({"base_model_device_map": {"bert": "disk"}}, ValueError, "weights have no gradients"),
            ({"base_model_device_map": {"bert": 0, "cls": "cpu"}}, ValueError, "'cls' on the CPU beside other devices"),
            ({"base_model_max_memory": {0: "1GiB"}}, ValueError, "needs base_model_device_map='auto'"),
            ({"base_model_device_map": "auto", "base_model_max_memory": "1GiB"}, TypeError, "must be a dict such as"),
            ({"base_model_device_map": "auto", "base_model_max_memory": {0: 0.5}}, TypeError, "got \\(0, 0.5\\)"),
        ],
    )
    def test_bad_arguments(self, arguments, error, message):
        with pytest.raises(error, match=message):
            TrainingArguments(**arguments)


def test_arguments_survive_json():
    args = TrainingArguments(base_model_device_map="auto", base_model_max_memory={0: "1GiB", 1: 2**30})
    again = TrainingArguments.from_dict(json.loads(json.dumps(args.to_dict())))
    assert again.base_model_max_memory == args.base_model_max_memory
    places = TrainingArguments(base_model_device_map={"bert": torch.device("cuda:1"), "cls": 1}).base_model_device_map
    assert places == {"bert": "cuda:1", "cls": 1}
