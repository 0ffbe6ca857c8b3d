"""The parameter map: what it selects, in which order, and what narrowing it does."""

from __future__ import annotations

import math

import model_cases
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from model_cases import KINDS, spec

from gradiend.model import ParamMappedGradiendModel
from gradiend.model._parameter_map import MappedParameter, ParameterMap

quick = settings(deadline=None, max_examples=60)


def tensors(specs, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(entry["shape"], generator=generator) for name, entry in specs.items()}


def naive_flatten(specs, full):
    return torch.tensor([full[name].flatten()[i] for name, entry in specs.items() for i in model_cases.places(entry)])


@st.composite
def specs_and_mask(draw):
    specs = draw(model_cases.specs())
    size = sum(model_cases.selected(entry) for entry in specs.values())
    return specs, torch.tensor(draw(st.lists(st.booleans(), min_size=size, max_size=size)), dtype=torch.bool)


@quick
@given(model_cases.specs())
def test_flatten_takes_the_selected_entries_in_map_order(specs):
    full = tensors(specs)
    mapping = ParameterMap.from_specs(specs)
    flat = mapping.flatten({**full, "head.weight": torch.ones(2)})
    assert torch.equal(flat, naive_flatten(specs, full))
    assert mapping.size == len(flat)
    assert mapping.unpruned_size == sum(tensor.numel() for tensor in full.values())
    assert torch.equal(torch.cat([full[name].flatten() for name in specs])[mapping.base_indices()], flat)


@quick
@given(model_cases.specs())
def test_unflatten_inverts_flatten_and_is_zero_elsewhere(specs):
    mapping = ParameterMap.from_specs(specs)
    flat = torch.arange(1.0, mapping.size + 1)
    full = mapping.unflatten(flat)
    assert {name: tuple(tensor.shape) for name, tensor in full.items()} == {n: e["shape"] for n, e in specs.items()}
    assert torch.equal(mapping.flatten(full), flat)
    assert sum(int(tensor.count_nonzero()) for tensor in full.values()) == mapping.size


@quick
@given(specs_and_mask())
@example((KINDS["indices"], torch.tensor([True, True, False, True])))  # in an order of their own: rare otherwise
def test_narrow_then_flatten_is_flatten_then_select(case):
    specs, keep = case
    full = tensors(specs)
    mapping = ParameterMap.from_specs(specs)
    narrowed = mapping.narrow(keep)
    assert narrowed.size == int(keep.sum())
    assert torch.equal(narrowed.base_indices(), mapping.base_indices()[keep])
    if keep.any():
        assert torch.equal(narrowed.flatten(full), mapping.flatten(full)[keep])
    assert list(narrowed.specs()) == list(specs)


@quick
@given(model_cases.specs(), st.sampled_from(["mask", "indices"]))
def test_the_hash_ignores_the_representation(specs, kind):
    ordered = {
        name: {**entry, "indices": entry["indices"].sort().values} if entry["repr"] == "indices" else entry
        for name, entry in specs.items()
    }
    rewritten = {name: spec(entry["shape"], kind, model_cases.places(entry)) for name, entry in ordered.items()}
    compact = ParameterMap([entry.compact() for entry in ParameterMap.from_specs(ordered)])
    assert ParameterMap.from_specs(ordered).hash == ParameterMap.from_specs(rewritten).hash == compact.hash


@quick
@given(specs_and_mask())
def test_the_hash_changes_with_every_change_of_the_selection(case):
    specs, keep = case
    mapping = ParameterMap.from_specs(specs)
    assert (mapping.narrow(keep).hash == mapping.hash) == bool(keep.all())


def test_the_hash_depends_on_names_shapes_and_orders():
    a, b = spec((2, 3), "all"), spec((4,), "indices", [1, 3])
    variants = [
        {"a": a, "b": b},
        {"b": b, "a": a},
        {"a": a, "c": b},
        {"a": spec((3, 2), "all"), "b": b},
        {"a": a, "b": spec((4,), "indices", [3, 1])},
        {"a": a, "b": spec((5,), "indices", [1, 3])},
    ]
    assert len({ParameterMap.from_specs(variant).hash for variant in variants}) == len(variants)


@quick
@given(model_cases.specs())
def test_compact_keeps_the_selection_in_the_fewest_bytes(specs):
    for entry in ParameterMap.from_specs(specs):
        compact = entry.compact()
        assert torch.equal(compact.indices(), entry.indices())
        in_order = bool((entry.indices().diff() > 0).all())
        if compact.representation == "all":
            assert entry.num_selected == entry.numel
        elif compact.representation == "mask":
            assert 4 * entry.num_selected * 1.1 > entry.numel
        else:
            assert 4 * entry.num_selected * 1.1 <= entry.numel or not in_order


def test_indices_of_more_entries_than_int32_counts_are_int64():
    shape = (2**16, 2**16)
    for numel_shape, dtype in ((shape, torch.int64), ((2**10, 2**10), torch.int32)):
        entry = MappedParameter("w", numel_shape, torch.tensor([0, math.prod(numel_shape) - 1]))
        assert entry.compact().selection.dtype == dtype


@quick
@given(model_cases.specs())
def test_put_writes_the_selected_entries_whatever_the_strides(specs):
    for entry in ParameterMap.from_specs(specs):
        values = torch.arange(1.0, entry.num_selected + 1)
        turned = torch.zeros(entry.shape[::-1]).permute(*reversed(range(len(entry.shape))))
        for target in (torch.zeros(entry.shape), turned):
            entry.put(target, values)
            assert torch.equal(target, entry.scatter(values))


GOOD = spec((4,), "all")
BAD_SPECS = {
    "no dict": (["a"], "must be a dict"),
    "no shape": ({"repr": "all"}, "lacks shape"),
    "no repr": ({"shape": (4,)}, "lacks repr"),
    "unknown repr": ({"shape": (4,), "repr": "indexes"}, "Did you mean 'indices'"),
    "no mask": ({"shape": (4,), "repr": "mask"}, "no tensor 'mask'"),
    "mask of integers": ({"shape": (4,), "repr": "mask", "mask": torch.ones(4, dtype=torch.uint8)}, "bool of shape"),
    "mask of another shape": ({"shape": (4,), "repr": "mask", "mask": torch.ones(2, 2, dtype=torch.bool)}, r"\(2, 2\)"),
    "float indices": ({"shape": (4,), "repr": "indices", "indices": torch.ones(1)}, "1-D integer"),
    "bool indices": ({"shape": (4,), "repr": "indices", "indices": torch.ones(4, dtype=torch.bool)}, "1-D integer"),
    "2-D indices": ({"shape": (4,), "repr": "indices", "indices": torch.zeros(1, 1, dtype=torch.int64)}, "1-D integer"),
    "index too large": (spec((4,), "indices", [4]), r"\[0, 4\)"),
    "negative index": (spec((4,), "indices", [-1]), r"\[0, 4\)"),
    "index twice": (spec((4,), "indices", [1, 1]), "twice"),
}


@pytest.mark.parametrize("case", BAD_SPECS)
def test_a_bad_entry_is_refused_by_name(case):
    bad, words = BAD_SPECS[case]
    with pytest.raises(ValueError, match=words) as error:
        ParamMappedGradiendModel(5, 1, {"good.weight": GOOD, "bad.weight": bad})
    assert "bad.weight" in str(error.value)


def test_the_map_and_input_dim_must_agree():
    with pytest.raises(ValueError, match="selects 4 entries, but input_dim is 5"):
        ParamMappedGradiendModel(5, 1, {"a": GOOD})
    with pytest.raises(TypeError, match="build_gradiend_from_base_model"):
        ParamMappedGradiendModel(4, 1, ["a"])


def test_tensors_that_do_not_fit_are_refused():
    mapping = ParameterMap.from_specs({"a": GOOD, "b": spec((2, 2), "all")})
    with pytest.raises(KeyError, match="b"):
        mapping.flatten({"a": torch.zeros(4)})
    with pytest.raises(ValueError, match=r"b has shape \(2, 2\).*\(4,\)"):
        mapping.flatten({"a": torch.zeros(4), "b": torch.zeros(4)})
    with pytest.raises(ValueError, match="8 entries"):
        mapping.unflatten(torch.zeros(7))


class TestMappedModel:
    def test_a_dict_gives_what_the_flat_vector_gives(self):
        model = model_cases.network(KINDS["mixed"], latent_dim=2)
        full = tensors(KINDS["mixed"])
        flat = model.flatten_gradient_dict(full)
        assert torch.equal(model.forward_encoder(full), model.forward_encoder(flat))
        decoded, encoded = model(full, return_encoded=True)
        flat_decoded, flat_encoded = model(flat, return_encoded=True)
        assert torch.equal(encoded, flat_encoded)
        assert {name: tensor.shape for name, tensor in decoded.items()} == {n: t.shape for n, t in full.items()}
        assert torch.equal(model.flatten_gradient_dict(decoded), flat_decoded)
        assert torch.equal(model(full)["body.emb.weight"], decoded["body.emb.weight"])
        assert int(decoded["body.emb.weight"].count_nonzero()) == 3

    def test_the_documented_map_comes_back(self):
        for specs in KINDS.values():
            model = model_cases.network(specs)
            assert list(model.param_map) == list(specs)
            for name, entry in model.param_map.items():
                assert entry.keys() == specs[name].keys()
                assert (entry["shape"], entry["repr"]) == (specs[name]["shape"], specs[name]["repr"])
                assert model_cases.places(entry) == model_cases.places(specs[name])
        assert model_cases.network(KINDS["mixed"]).unpruned_length() == 36 + 16 + 4

    @pytest.mark.parametrize("kind", KINDS)
    def test_extract_gradients_copies_what_backward_left(self, kind):
        base = model_cases.TinyBase()
        base(torch.arange(3)).square().sum().backward()
        model = model_cases.network(KINDS[kind])
        grads = {name: parameter.grad for name, parameter in base.named_parameters()}
        full = model.extract_gradients(base, return_dict=True)
        flat = model.extract_gradients(base)
        assert list(full) == list(KINDS[kind])
        assert all(torch.equal(tensor, grads[name]) for name, tensor in full.items())
        assert torch.equal(flat, naive_flatten(KINDS[kind], grads))
        base.zero_grad(set_to_none=False)
        assert bool(flat.any())
        assert all(tensor.any() for tensor in full.values())

    def test_extract_gradients_goes_to_the_target_device(self):
        base = model_cases.TinyBase()
        base(torch.arange(3)).square().sum().backward()
        model = model_cases.network(KINDS["mixed"])
        assert model.extract_gradients(base, target_device=torch.device("meta")).device.type == "meta"
        on_meta = model.extract_gradients(base, return_dict=True, target_device=torch.device("meta"))
        assert {tensor.device.type for tensor in on_meta.values()} == {"meta"}

    def test_extract_gradients_names_what_is_missing(self):
        model = model_cases.network(KINDS["mixed"])
        with pytest.raises(RuntimeError, match=r"body.dense.bias, body.emb.weight, body.dense.weight.*backward"):
            model.extract_gradients(model_cases.TinyBase())
        with pytest.raises(KeyError, match=r"body.dense.bias.*another architecture"):
            model.extract_gradients(torch.nn.Linear(2, 2))
        other = model_cases.network({"body.dense.bias": spec((5,), "all")})
        with pytest.raises(ValueError, match=r"\(4,\).*\(5,\)"):
            other.extract_gradients(model_cases.TinyBase())
