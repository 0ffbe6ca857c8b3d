"""Deltas: applied and undone to the same bits, on any copy of the base model and on no other model."""

from __future__ import annotations

import copy
import json
import math
import subprocess
import sys

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from model_cases import KINDS, TinyBase, bits, model_with_gradiend, spec
from safetensors.torch import load_file, save_file
from tiny import FAMILIES, bert, bert_tokenizer
from torch import nn

import gradiend
from gradiend import apply_delta, export_delta, read_delta
from gradiend.model._parameter_map import MappedParameter, ParameterMap
from gradiend.trainer.text import TextPredictionModelWithGradiend
from gradiend.util._tensor_files import read_header

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def identical(one, other) -> bool:
    """Equal names and bytes: −0.0 is not 0.0, an undefined number equals itself."""
    return one.keys() == other.keys() and all(
        tensor.dtype == other[name].dtype
        and torch.equal(tensor.flatten().view(torch.uint8), other[name].flatten().view(torch.uint8))
        for name, tensor in one.items()
    )


def moved(model, share=1.0, seed=1):
    """A copy in which about `share` of the entries have another value."""
    generator = torch.Generator().manual_seed(seed)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            chosen = torch.rand(parameter.shape, generator=generator) < share
            parameter += 0.3 * (chosen * torch.randn(parameter.shape, generator=generator)).to(parameter.dtype)
    return other


def between(base, rewritten, strength):
    """The naive definition: θ + s (θ' − θ) in float32 (float64 for float64), rounded once."""
    result = bits(base)
    for name, new in bits(rewritten).items():
        old = result[name]
        wide = torch.float64 if old.dtype == torch.float64 else torch.float32
        result[name] = (old.to(wide) + strength * (new.to(wide) - old.to(wide))).to(old.dtype)
    return result


class TestLaws:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_applied_it_is_the_rewritten_model_and_undone_the_base_model(self, kind, dtype, tmp_path):
        model = model_with_gradiend(KINDS[kind], dtype)
        before = bits(model.base_model)
        path = model.export_delta(tmp_path, 0.3, -1.0)
        assert identical(bits(model.base_model), before)
        rewritten = bits(model.rewrite_base_model(0.3, -1.0))
        base = TinyBase(dtype=dtype)
        applied = apply_delta(base, path)
        assert identical(bits(base), rewritten)
        assert not identical(bits(base), before)
        applied.undo()
        assert identical(bits(base), before)
        applied.undo()
        assert identical(bits(base), before)

    @given(
        share=st.floats(0.02, 1), dtype=st.sampled_from(DTYPES), strength=st.sampled_from([-1.0, 0.0, 0.5, 1.0, 3.0])
    )
    @settings(max_examples=60, deadline=None)
    def test_any_share_any_strength(self, tmp_path_factory, share, dtype, strength):
        base = TinyBase(dtype=dtype)
        rewritten = moved(base, share)
        path = export_delta(base, rewritten, tmp_path_factory.getbasetemp() / "any.safetensors")
        before, expected = bits(base), between(base, rewritten, strength)
        with apply_delta(base, path, strength):
            assert identical(bits(base), bits(rewritten) if strength == 1 else expected)
        assert identical(bits(base), before)

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_each_parameter_takes_the_form_that_is_smaller(self, dtype, tmp_path):
        base = TinyBase(dtype=dtype)
        few, many = moved(base, 0.2), moved(base, 1.0)
        indices_pay = {}
        for name, rewritten in (("few", few), ("many", many)):
            tensors = load_file(export_delta(base, rewritten, tmp_path / f"{name}.safetensors"))
            changed = (rewritten.body["emb"].weight != base.body["emb"].weight).sum().item()
            indices_pay[name] = changed * (4 + dtype.itemsize) < 36 * dtype.itemsize
            assert ("body.emb.weight/indices" in tensors) == indices_pay[name]
            assert tensors["body.emb.weight/values"].shape == (changed if indices_pay[name] else 36,)
        assert indices_pay == {"few": True, "many": False}

    def test_only_what_changed_is_stored(self, tmp_path):
        model = model_with_gradiend(KINDS["all"], torch.bfloat16)
        path = model.export_delta(tmp_path / "d.safetensors", 3e-4, 1.0)
        rewritten = model.rewrite_base_model(3e-4, 1.0)
        changed = {name: int((new != bits(model.base_model)[name]).sum()) for name, new in bits(rewritten).items()}
        assert 0 < sum(changed.values()) < 20
        assert read_delta(path).num_entries == sum(changed.values())
        assert {name.split("/")[0] for name in load_file(path)} == {name for name, count in changed.items() if count}

    def test_signed_zeros_and_infinities_are_kept(self, tmp_path):
        base = TinyBase()
        rewritten = copy.deepcopy(base)
        with torch.no_grad():
            base.body["dense"].bias.copy_(torch.tensor([0.0, -0.0, math.inf, 1.0]))
            rewritten.body["dense"].bias.copy_(torch.tensor([-0.0, 0.0, math.inf, math.inf]))
        before = bits(base)
        path = export_delta(base, rewritten, tmp_path)
        for strength in (1, 0.5, 0):
            with apply_delta(base, path, strength):
                assert strength != 1 or identical(bits(base), bits(rewritten))
                assert not base.body["dense"].bias.isnan().any()
            assert identical(bits(base), before)

    def test_an_exception_inside_restores(self, tmp_path):
        base = TinyBase()
        path, before = export_delta(base, moved(base), tmp_path), bits(base)
        with pytest.raises(ZeroDivisionError), apply_delta(base, path):
            raise ZeroDivisionError
        assert identical(bits(base), before)

    def test_an_interruption_in_the_middle_leaves_the_model_as_it_was(self, tmp_path, monkeypatch):
        base, puts = TinyBase(), iter((True, False))
        export_delta(base, moved(base), tmp_path)
        model, put = copy.deepcopy(base), MappedParameter.put

        def interrupted(self, tensor, values):
            if not next(puts, True):
                raise KeyboardInterrupt
            put(self, tensor, values)

        with monkeypatch.context() as patch:
            patch.setattr(MappedParameter, "put", interrupted)
            with pytest.raises(KeyboardInterrupt):
                apply_delta(model, tmp_path)
        assert next(puts, None) is None
        assert identical(bits(model), bits(base))
        with apply_delta(model, tmp_path):
            assert not identical(bits(model), bits(base))
        assert identical(bits(model), bits(base))

    def test_it_survives_saving_loading_and_a_copy_of_the_file(self, tmp_path):
        model, tokenizer = bert(), bert_tokenizer()
        wrapped = TextPredictionModelWithGradiend.from_pretrained(model, tokenizer=tokenizer, params=["*layer.1*"])
        path = wrapped.export_delta(tmp_path / "here.safetensors", 0.5, 1.0)
        (tmp_path / "there").mkdir()
        (tmp_path / "here.safetensors").rename(tmp_path / "there" / "gradiend_delta.safetensors")
        rewritten = wrapped.rewrite_base_model(0.5, 1.0)
        model.save_pretrained(tmp_path / "base")
        rewritten.save_pretrained(tmp_path / "rewritten")
        base = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "base")
        with apply_delta(base, tmp_path / "there"):
            base.save_pretrained(tmp_path / "applied")
        assert path == str(tmp_path / "here.safetensors")
        assert identical(
            load_file(tmp_path / "applied" / "model.safetensors"),
            load_file(tmp_path / "rewritten" / "model.safetensors"),
        )

    def test_transposed_parameters_keep_their_layout(self, tmp_path):
        base = TinyBase()
        path, rewritten = export_delta(base, moved(base, 0.2), tmp_path), bits(moved(base, 0.2))
        with torch.no_grad():
            base.body["dense"].weight = nn.Parameter(base.body["dense"].weight.T.contiguous().T)
        with apply_delta(base, path):
            assert identical({n: p.contiguous() for n, p in bits(base).items()}, rewritten)
            assert not base.body["dense"].weight.is_contiguous()


class TestSeveral:
    def test_they_add_up_and_are_undone_in_reverse(self, tmp_path):
        base = TinyBase()
        one, other = moved(base, 0.5, seed=1), moved(base, 0.5, seed=2)
        paths = [export_delta(base, one, tmp_path / "1"), export_delta(base, other, tmp_path / "2")]
        before, half = bits(base), between(base, other, 0.5)
        with apply_delta(base, paths[0]):
            with apply_delta(base, paths[1], 0.5):
                for name, now in bits(base).items():
                    summed = bits(one)[name] + 0.5 * (bits(other)[name] - before[name])
                    torch.testing.assert_close(now, summed, rtol=0, atol=1e-6)
                    only_second = bits(one)[name] == before[name]
                    assert torch.equal(now[only_second], half[name][only_second])
                    only_first = bits(other)[name] == before[name]
                    assert torch.equal(now[only_first], bits(one)[name][only_first])
            assert identical(bits(base), bits(one))
        assert identical(bits(base), before)

    def test_three_over_the_same_entries(self, tmp_path):
        base = TinyBase()
        others = [moved(base, seed=seed) for seed in range(3)]
        paths = [export_delta(base, other, tmp_path / str(number)) for number, other in enumerate(others)]
        before = bits(base)
        with apply_delta(base, paths[0]), apply_delta(base, paths[1]), apply_delta(base, paths[2]):
            for name, now in bits(base).items():
                summed = sum((bits(other)[name] for other in others), start=-2 * before[name])
                torch.testing.assert_close(now, summed, rtol=0, atol=1e-6)
        assert identical(bits(base), before)

    def test_above_one_that_fits_another_models_delta_is_refused_too(self, tmp_path):
        base, foreign = TinyBase(), other_values(TinyBase())
        path = export_delta(foreign, moved(foreign), tmp_path / "foreign")
        with apply_delta(base, export_delta(base, moved(base, seed=2), tmp_path / "own")):
            now = bits(base)
            with pytest.raises(ValueError, match=r"in 1 of 4 parameters.*body.dense.weight holds other values"):
                apply_delta(base, path)
            assert identical(bits(base), now)

    def test_one_below_another_cannot_be_undone_first(self, tmp_path):
        base = TinyBase()
        before = bits(base)
        lower = apply_delta(base, export_delta(base, moved(base, seed=1), tmp_path / "1"))
        upper = apply_delta(base, export_delta(TinyBase(), moved(TinyBase(), seed=2), tmp_path / "2"))
        with pytest.raises(RuntimeError, match=r"later.*undo that one first"):
            lower.undo()
        upper.undo()
        lower.undo()
        assert identical(bits(base), before)

    def test_the_same_twice_is_refused(self, tmp_path):
        base = TinyBase()
        path = export_delta(base, moved(base), tmp_path)
        for strength in (0.5, 1.0):
            with apply_delta(base, path, strength):
                now = bits(base)
                with pytest.raises(ValueError, match=r"applied to the model already.*strength=2"):
                    apply_delta(base, path)
                assert identical(bits(base), now)
        apply_delta(base, path)
        with pytest.raises(ValueError, match="applied to the model already"):
            apply_delta(copy.deepcopy(base), path)

    def test_a_model_whose_weights_were_loaded_again_is_a_base_model_again(self, tmp_path):
        base = TinyBase()
        path, before = export_delta(base, moved(base), tmp_path), copy.deepcopy(base.state_dict())
        apply_delta(base, path)
        base.load_state_dict(before)
        with apply_delta(base, path):
            assert identical(bits(base), bits(moved(TinyBase())))


def other_values(base):
    with torch.no_grad():
        base.body["dense"].weight[0, 0] += 1e-3
    return base


def other_shape(base):
    base.body["dense"] = nn.Linear(4, 5)
    return base


def untied(base):
    base.head.weight = nn.Parameter(base.head.weight.detach().clone())
    return base


def wrapped(base):
    model = model_with_gradiend(KINDS["all"])
    model.base_model = base
    return model


OTHER_MODELS = {
    "one value": (other_values, r"tiny/base.*differs \(in 1 of 4 parameters\): body.dense.weight holds other values"),
    "a shape": (other_shape, r"body.dense.weight has shape \(5, 4\) instead of \(4, 4\)"),
    "a dtype": (lambda base: base.to(torch.bfloat16), r"body.emb.weight is torch.bfloat16, not torch.float32: load"),
    "another architecture": (lambda base: nn.Linear(2, 2), r"no parameter body.emb.weight;.*and 1 more"),
    "untied": (untied, "body.emb.weight and head.weight are separate tensors, but one"),
    "the wrapper": (wrapped, "of a ModelWithGradiend: to its base_model"),
}


class TestRefusal:
    @pytest.mark.parametrize("case", OTHER_MODELS)
    def test_another_model_is_refused_and_stays_as_it_is(self, case, tmp_path):
        change, message = OTHER_MODELS[case]
        path = export_delta(TinyBase(), moved(TinyBase()), tmp_path)
        model = change(TinyBase())
        before = bits(model)
        with pytest.raises(ValueError, match=message):
            apply_delta(model, path)
        assert identical(bits(model), before)

    def test_a_value_that_the_delta_does_not_touch_may_differ(self, tmp_path):
        base = TinyBase()
        rewritten = copy.deepcopy(base)
        with torch.no_grad():
            rewritten.body["dense"].bias += 1
        with apply_delta(other_values(TinyBase()), export_delta(base, rewritten, tmp_path)):
            pass

    def test_a_tied_model_for_a_delta_of_an_untied_one(self, tmp_path):
        base = untied(TinyBase())
        path = export_delta(base, moved(base), tmp_path)
        with pytest.raises(ValueError, match=r"body.emb.weight and head.weight are one tensor, but separate"):
            apply_delta(TinyBase(), path)

    def test_undoing_after_a_conversion_is_refused(self, tmp_path):
        base = TinyBase()
        applied = apply_delta(base, export_delta(base, moved(base), tmp_path))
        base.to(torch.float16)
        with pytest.raises(RuntimeError, match=r"converted from torch.float32 to torch.float16"):
            applied.undo()


def damaged(key, value):
    """The file with one field of its header changed."""

    def damage(path):
        tensors = load_file(path)
        content = json.loads(read_header(path)["gradiend_delta"])
        place = content["parameters"][0] if key in content["parameters"][0] else content
        if value is None:
            del place[key]
        else:
            place[key] = value
        save_file(tensors, path, {"gradiend_delta": json.dumps(content)})

    return damage


def cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


DAMAGES = {
    "cut": (cut, "not a safetensors file"),
    "no delta": (lambda path: save_file({"x": torch.ones(1)}, path), "is no delta"),
    "a later version": (damaged("format_version", 2), "format_version is 2"),
    "no version": (damaged("format_version", None), "'format_version' is missing"),
    "a parameter renamed": (damaged("name", "other"), "'other/values' is missing"),
    "another shape": (damaged("shape", [2]), r"must lie in \[0, 2\)|values torch.float32"),
    "another dtype": (damaged("dtype", "float16"), "of float16 belong there"),
    "no parameters": (damaged("parameters", 3), "gradiend_delta.safetensors"),
    "an odd record": (damaged("rewrite", {"format_version": 1}), "fields of the rewrite record"),
}

BASE = TinyBase()
BAD_CALLS = {
    "a name instead of a model": (lambda path: apply_delta("bert-base", path), TypeError, "needs a loaded model"),
    "no file": (lambda path: apply_delta(BASE, path / "none"), FileNotFoundError, "no file .*none"),
    "strength as text": (lambda path: apply_delta(BASE, path, "1"), TypeError, "strength must be a number"),
    "strength as bool": (lambda path: apply_delta(BASE, path, True), TypeError, "strength must be a number"),
    "infinite strength": (lambda path: apply_delta(BASE, path, math.inf), ValueError, "strength must be finite"),
    "overflow": (lambda path: apply_delta(BASE, path, 1e39), ValueError, "out of the range of torch.float32"),
    "two equal models": (lambda path: export_delta(BASE, TinyBase(), path), ValueError, "equals the base model"),
    "two architectures": (lambda path: export_delta(BASE, nn.Linear(2, 2), path), ValueError, "not the same param"),
    "two dtypes": (
        lambda path: export_delta(BASE, moved(TinyBase(dtype=torch.float16)), path),
        ValueError,
        "shapes and dtypes",
    ),
    "a part": (lambda path: model_with_gradiend(KINDS["all"]).export_delta(path, 1, 1, "x"), ValueError, "part must"),
    "too small": (
        lambda path: model_with_gradiend(KINDS["all"], torch.bfloat16).export_delta(path, 1e-9, 1.0),
        ValueError,
        "too small",
    ),
    "a step of zero": (
        lambda path: model_with_gradiend(KINDS["all"]).export_delta(path, 0.0, 1.0),
        ValueError,
        "no delta to export",
    ),
    "not finite": (
        lambda path: model_with_gradiend(KINDS["all"]).export_delta(path, math.nan, 1.0),
        ValueError,
        "infinite or undefined",
    ),
}


class TestBadInput:
    @pytest.mark.parametrize("case", DAMAGES)
    def test_a_damaged_file_is_named(self, case, tmp_path):
        damage, message = DAMAGES[case]
        base = TinyBase()
        export_delta(base, moved(base, 0.3), tmp_path)
        damage(tmp_path / "gradiend_delta.safetensors")
        with pytest.raises(ValueError, match=message) as error:
            apply_delta(base, tmp_path)
        assert "gradiend_delta.safetensors" in str(error.value)
        assert identical(bits(base), bits(TinyBase()))

    @pytest.mark.parametrize("case", BAD_CALLS)
    def test_a_bad_call_says_what_is_wrong_and_changes_nothing(self, case, tmp_path):
        call, kind, message = BAD_CALLS[case]
        export_delta(BASE, moved(BASE, 0.3), tmp_path)
        written = (tmp_path / "gradiend_delta.safetensors").read_bytes()
        with pytest.raises(kind, match=message):
            call(tmp_path)
        assert identical(bits(BASE), bits(TinyBase()))
        assert (tmp_path / "gradiend_delta.safetensors").read_bytes() == written


@pytest.mark.parametrize("family", FAMILIES)
def test_with_or_without_its_head_the_backbone_is_the_same(family, tmp_path):
    family = FAMILIES[family]
    model = family.build(tied=True).eval()
    tokenizer = family.tokenizer()
    full = TextPredictionModelWithGradiend.from_pretrained(model, tokenizer=tokenizer)
    nn.init.normal_(full.gradiend.decoder[0].linear.bias)
    path = full.export_delta(tmp_path, 0.5, 1.0)
    rewritten = full.rewrite_base_model(0.5, 1.0).eval()
    backbone = getattr(model, model.base_model_prefix)
    words = torch.tensor([tokenizer("the baker saw").input_ids])
    with torch.no_grad():
        expected = getattr(rewritten, model.base_model_prefix)(words).last_hidden_state
        before = backbone(words).last_hidden_state
        with apply_delta(copy.deepcopy(backbone), path) as applied:
            assert applied.delta.rewrite.learning_rate == 0.5
        with apply_delta(backbone, path):
            assert torch.equal(backbone(words).last_hidden_state, expected)
            assert torch.equal(model(words).logits, rewritten(words).logits)
        assert torch.equal(backbone(words).last_hidden_state, before)
        alone = export_delta(backbone, getattr(rewritten, model.base_model_prefix), tmp_path / "alone")
        with apply_delta(model, alone):
            assert torch.equal(model(words).logits, rewritten(words).logits)


def test_tied_weights_are_stored_once(tmp_path):
    base = TinyBase()
    tensors = load_file(export_delta(base, moved(base), tmp_path))
    assert {name.split("/")[0] for name in tensors} == {
        "body.emb.weight",
        "body.dense.weight",
        "body.dense.bias",
        "head.bias",
    }
    with apply_delta(base, tmp_path):
        assert base.head.weight is base.body["emb"].weight


def test_the_file_says_from_what_and_how(tmp_path):
    model = model_with_gradiend(KINDS["mixed"], latent_dim=2)
    delta = read_delta(model.export_delta(tmp_path, 0.3, [0.5, -1.0]))
    assert (delta.base_model, delta.backbone_prefix) == ("tiny/base", "body.")
    assert delta.base_model_fingerprint == delta.rewrite.base_model_fingerprint
    assert (delta.rewrite.learning_rate, delta.rewrite.feature_factor, delta.rewrite.part) == (
        0.3,
        [0.5, -1.0],
        "decoder",
    )
    assert delta.rewrite.param_map_hash == ParameterMap.from_specs(KINDS["mixed"]).hash
    assert delta.rewrite.gradiend_version == gradiend.__version__
    assert 0.9 < delta.rewrite.share_changed <= 1
    assert read_delta(export_delta(TinyBase(), moved(TinyBase()), tmp_path)).rewrite is None


def test_a_pruned_gradiend_gives_a_small_delta(tmp_path):
    shape = {"body.emb.weight": (9, 4), "body.dense.weight": (4, 4)}
    model = model_with_gradiend({name: spec(size, "all") for name, size in shape.items()})
    model.prune_gradiend(topk=3)
    assert read_delta(model.export_delta(tmp_path, 0.3, 1.0)).num_entries == 3


PLAIN = """
import sys
import torch
from transformers import AutoModelForMaskedLM
from gradiend import apply_delta

base, rewritten, delta = sys.argv[1:]
model = AutoModelForMaskedLM.from_pretrained(base)
expected = AutoModelForMaskedLM.from_pretrained(rewritten).state_dict()
before = {name: value.clone() for name, value in model.state_dict().items()}
with apply_delta(model, delta):
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
assert "gradiend.trainer" not in sys.modules
"""


def test_in_another_process_with_plain_transformers(tmp_path):
    model = bert(dtype=torch.bfloat16)
    wrapped = TextPredictionModelWithGradiend.from_pretrained(model, tokenizer=bert_tokenizer())
    model.save_pretrained(tmp_path / "base")
    wrapped.rewrite_base_model(0.5, 1.0).save_pretrained(tmp_path / "rewritten")
    path = wrapped.export_delta(tmp_path / "delta", 0.5, 1.0)
    arguments = [sys.executable, "-c", PLAIN, str(tmp_path / "base"), str(tmp_path / "rewritten"), path]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
