"""A mode that the caller has switched on around a call changes no number."""

import contextlib
from pathlib import Path

import pytest
import tiny
import tiny_data
import torch
from safetensors.torch import load_file
from transformers import BertForMaskedLM

from gradiend import ModelWithGradiend, PrePruneConfig, apply_delta
from gradiend.evaluator import LMSThresholdPolicy
from gradiend.util._isolation import plain_modes

TEXT = "the old nurse was near the door and then [MASK] saw the bread ."
PRUNED = {"pre_prune_config": PrePruneConfig(n_samples=8, topk=0.5), "do_eval": False}
OTHERS = {
    "autograd": {"latent_dim": 2, "bf16": True, "do_eval": False},
    "encoder alone": {"supervised_encoder": True, "do_eval": False},
}


@contextlib.contextmanager
def switched(switch, value, before):
    switch(value)
    try:
        yield
    finally:
        switch(before)


MODES = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "inference_mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "float64": lambda: switched(torch.set_default_dtype, torch.float64, torch.float32),
    "bfloat16": lambda: switched(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "meta": lambda: switched(torch.set_default_device, "meta", None),
    "deterministic": lambda: switched(torch.use_deterministic_algorithms, True, False),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tiny_data.save_bert(tmp_path_factory.mktemp("base"))


def slow(name):
    return pytest.param(name, marks=pytest.mark.slow)


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def trained(path, directory, arguments):
    return tiny_data.trainer(path, {**arguments, "experiment_dir": str(directory)}).train()


def everything(path, directory):
    """What a user gets from one base model: numbers, weights and the bytes of a delta."""
    trainer = trained(path, directory, PRUNED)
    model = trainer.get_model()
    loaded = ModelWithGradiend.from_pretrained(trainer.model_path)
    grid = trainer.evaluate_decoder(lrs=[0.5], selector=LMSThresholdPolicy(ratio=0.0))
    saved = trainer.rewrite_base_model(grid, strengthen="SG", output_dir=str(directory / "saved"))
    delta = model.export_delta(directory / "delta.safetensors", 1.0, 1.0)
    with plain_modes():
        base = BertForMaskedLM.from_pretrained(path)
    apply_delta(base, delta)
    return {
        "weights": weights(model.gradiend),
        "word": model.encode(TEXT, "she"),
        "texts": model.encode([TEXT], factual="she", alternative="they"),
        "gradient": model.create_gradients(TEXT, "she"),
        "encodings": trainer.evaluate_encoder(split="test"),
        "grid": grid,
        "saved": load_file(Path(saved) / "model.safetensors"),
        "update": model.update_vector(1.0),
        "applied": weights(base),
        "annotated": trainer.annotate_data(split="test").to_dict("list"),
        "rewritten": weights(model.rewrite_base_model(1.0, 1.0)),
        "delta": Path(delta).read_bytes(),
        "loaded": [loaded.encode(TEXT, "she"), weights(loaded.base_model)],
    }


def require_same(found, expected, where=""):
    assert type(found) is type(expected), where
    if isinstance(expected, torch.Tensor):
        assert (found.dtype, found.device) == (expected.dtype, expected.device), where
        assert torch.equal(found, expected), where
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for name, value in expected.items():
            require_same(found[name], value, f"{where}/{name}")
    elif isinstance(expected, list):
        for number, value in enumerate(expected):
            require_same(found[number], value, f"{where}/{number}")
    else:
        assert found == expected or (found != found and expected != expected), where


@pytest.fixture(scope="module")
def alone(path, tmp_path_factory):
    return everything(path, tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module")
def others_alone(path, tmp_path_factory):
    return {name: weights(trained(path, tmp_path_factory.mktemp("a"), OTHERS[name]).get_model()) for name in OTHERS}


@pytest.mark.parametrize("mode", [slow(name) if name in {"bfloat16", "no_grad"} else name for name in MODES])
def test_a_mode_around_the_calls_changes_no_bit(path, tmp_path, alone, mode):
    with MODES[mode]():
        found = everything(path, tmp_path)
    require_same(found, alone)


@pytest.mark.parametrize("mode", ["autocast", "no_grad", slow("inference_mode"), slow("float64")])
@pytest.mark.parametrize("name", OTHERS)
def test_a_mode_around_other_trainings_changes_no_bit(path, tmp_path, others_alone, name, mode):
    with MODES[mode]():
        found = weights(trained(path, tmp_path, OTHERS[name]).get_model())
    require_same(found, others_alone[name])


def test_the_caller_s_modes_are_as_before(path):
    model = ModelWithGradiend.from_pretrained(path)
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode(), MODES["float64"](), torch.device("meta"):
        model.encode(TEXT, "she")
        assert torch.is_autocast_enabled("cpu")
        assert torch.is_inference_mode_enabled()
        assert torch.get_default_dtype() is torch.float64
        assert torch.get_default_device().type == "meta"


def test_a_dtype_that_a_hook_has_switched_on_stays_until_the_outermost_block_ends():
    with MODES["float64"]():
        with plain_modes():
            torch.set_default_dtype(torch.bfloat16)
            with plain_modes():
                assert torch.get_default_dtype() is torch.bfloat16
            assert torch.get_default_dtype() is torch.bfloat16
        assert torch.get_default_dtype() is torch.float64


def test_weights_that_were_made_in_inference_mode_are_refused():
    with torch.inference_mode():
        base = tiny.bert()
    with pytest.raises(ValueError, match=r"made under torch\.inference_mode\(\).*load it outside of that"):
        ModelWithGradiend.from_pretrained(base, tokenizer=tiny.bert_tokenizer())
