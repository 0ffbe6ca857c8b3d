"""A rewritten model on disk is the base model with the update, or it is not there."""

from pathlib import Path

import pytest
import tiny
import torch
from model_cases import bits, randomise, same_bits
from test_rewriting import RESULTS, trainer_of
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, BertForMaskedLM

from gradiend import ModelWithGradiend, read_rewrite_record
from gradiend.model._saved_rewrite import SavedRewriteError

RATE, FACTOR = RESULTS["old"]["learning_rate"], RESULTS["old"]["feature_factor"]
MAPPED, OTHER = "bert.encoder.layer.1.output.dense.weight", "bert.encoder.layer.0.output.dense.weight"


def model_on(base, tokenizer=None, **kwargs):
    model = ModelWithGradiend.from_pretrained(base, tokenizer=tokenizer or tiny.bert_tokenizer(), **kwargs)
    randomise(model.gradiend, scale=0.1)
    return model


def equal(one, other):
    return same_bits(bits(one), bits(other))


def save(model, directory):
    return trainer_of(model).rewrite_base_model(decoder_results=RESULTS, target_class="old", output_dir=str(directory))


class SavesOtherwise(BertForMaskedLM):
    """A model whose save_pretrained does not save what is in memory."""

    change = staticmethod(lambda state: state)

    def save_pretrained(self, save_directory, **kwargs):
        state = {name: tensor.clone() for name, tensor in self.state_dict().items()}
        super().save_pretrained(save_directory, state_dict=self.change(state), **kwargs)


def lost(state):
    """The model remembers the weights that it was loaded with."""
    return {**state, MAPPED: tiny.bert().state_dict()[MAPPED]}


def one_bit(state):
    state[OTHER].view(-1)[3] = torch.nextafter(state[OTHER].view(-1)[3], torch.tensor(9.0))
    return state


def zero(state):
    state[MAPPED].view(-1)[5] = 0.0
    return state


def rounded(state):
    return {name: tensor.bfloat16() for name, tensor in state.items()}


def absent(state):
    return {name: tensor for name, tensor in state.items() if name != OTHER}


@pytest.mark.parametrize("change", [lost, one_bit, zero, rounded, absent])
@pytest.mark.parametrize("earlier", [False, True])
def test_other_weights_than_the_rewritten_ones_are_never_put_in_place(tmp_path, change, earlier, monkeypatch):
    model = model_on(SavesOtherwise(tiny.bert().config), params=["*layer.1*"])
    model.base_model.load_state_dict(tiny.bert().state_dict())
    if earlier:
        save(model, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr(SavesOtherwise, "change", staticmethod(change))
    named = MAPPED if change in (lost, zero) else OTHER if change in (one_bit, absent) else "weight"
    with pytest.raises(SavedRewriteError, match=named):
        save(model, tmp_path / "out")
    assert {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


SAVES = {
    "tied": ("bert", {}, {}),
    "separate": ("bert", {"tied": False}, {}),
    "bfloat16": ("llama", {"dtype": torch.bfloat16}, {}),
    "sharded": ("gpt2", {}, {"max_shard_size": "2KB"}),
    "other names": ("mixtral", {}, {}),
}


@pytest.mark.parametrize("kind", SAVES)
def test_what_is_loaded_is_the_rewritten_model(tmp_path, kind, monkeypatch):
    name, made, options = SAVES[kind]
    family = tiny.FAMILIES[name]
    base = family.build(**made)
    original = type(base).save_pretrained
    monkeypatch.setattr(type(base), "save_pretrained", lambda self, place, **kw: original(self, place, **kw, **options))
    model = model_on(base, family.tokenizer())
    place = save(model, tmp_path / "a" / "out")
    loader = AutoModelForCausalLM if family.causal else AutoModelForMaskedLM
    assert equal(loader.from_pretrained(place, dtype="auto"), model.rewrite_base_model(RATE, FACTOR))
    assert read_rewrite_record(place).learning_rate == RATE
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["out"]
    assert (len(list(Path(place).glob("*.safetensors"))) > 1) == (kind == "sharded")


def test_an_earlier_model_in_the_folder_goes_and_the_user_s_files_stay(tmp_path, monkeypatch):
    out = tmp_path / "out"
    base = tiny.bert()
    original = BertForMaskedLM.save_pretrained
    with monkeypatch.context() as sharded:
        sharded.setattr(
            BertForMaskedLM, "save_pretrained", lambda self, place: original(self, place, max_shard_size="2KB")
        )
        save(model_on(base, params=["*layer.0*"]), out)
    (out / "notes.txt").write_text("mine")
    (out / "runs").mkdir()
    (out / "vocab.txt").write_text("of an earlier tokenizer")
    model = model_on(base, params=["*layer.1*"])
    save(model, out)
    names = {path.name for path in out.iterdir()}
    assert {"notes.txt", "runs", "model.safetensors", "config.json"} <= names
    assert not {name for name in names if "-of-" in name or "index" in name} | {"vocab.txt"} & names
    assert equal(AutoModelForMaskedLM.from_pretrained(out), model.rewrite_base_model(RATE, FACTOR))


@pytest.mark.parametrize("after", range(8))
def test_a_run_that_ends_while_files_are_moved_leaves_no_mixture(tmp_path, after, monkeypatch):
    """Whatever is done of the moves: the folder is readable with one model in it, or it is not readable."""
    out = tmp_path / "out"
    old, new = (model_on(tiny.bert(), params=[f"*layer.{number}*"]) for number in (0, 1))
    save(old, out)
    done = []

    def counted(act):
        def call(self, *args, **kwargs):
            if any(Path(place).parent == out for place in (self, *args)):
                if len(done) == after:
                    raise KeyboardInterrupt
                done.append(self)
            return act(self, *args, **kwargs)

        return call

    with monkeypatch.context() as stopped:
        for name in ("replace", "unlink"):
            stopped.setattr(Path, name, counted(getattr(Path, name)))
        with pytest.raises(KeyboardInterrupt):
            save(new, out)
    if (out / "config.json").is_file():
        found = AutoModelForMaskedLM.from_pretrained(out)
        assert any(equal(found, model.rewrite_base_model(RATE, FACTOR)) for model in (old, new))
    save(new, out)
    assert equal(AutoModelForMaskedLM.from_pretrained(out), new.rewrite_base_model(RATE, FACTOR))
