"""Backbone and head, and names or wildcards of parameters."""

from __future__ import annotations

import pytest
import tiny
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from model_cases import KINDS, SHAPES, TinyBase
from torch import nn

from gradiend.model.core import (
    build_gradiend_from_base_model,
    debug_param_overlap,
    get_backbone_module,
    split_backbone_vs_head_params,
)
from gradiend.model.core.backbone import matching_names

NAMES = list(SHAPES)


class Wrapped(nn.Module):
    """The backbone is called base_model; one parameter name is a regular expression for another."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(2, 3)
        self.base_model = nn.ModuleDict({"layer0": nn.Linear(3, 3), "layer0x": nn.Linear(2, 2)})


def mapped(*patterns, **kwargs):
    return list(build_gradiend_from_base_model(TinyBase(), "tiny", list(patterns) or None, **kwargs).param_map)


class TestBackbone:
    def test_by_prefix_by_name_or_the_whole(self):
        base, wrapped, plain = TinyBase(), Wrapped(), nn.Linear(2, 2)
        assert get_backbone_module(base) is base.body
        assert get_backbone_module(wrapped) is wrapped.base_model
        assert get_backbone_module(plain) is plain
        bert = tiny.bert()
        assert get_backbone_module(bert) is bert.bert
        assert get_backbone_module(bert.bert) is bert.bert

    @pytest.mark.parametrize("tied", [True, False])
    def test_a_shared_tensor_belongs_to_the_backbone(self, tied):
        bert = tiny.bert(tied=tied)
        backbone, head = split_backbone_vs_head_params(bert)
        everything = dict(bert.named_parameters())
        assert [*backbone, *(entry["name"] for entry in head)] == list(everything)
        assert all(name.startswith("bert.") for name in backbone)
        assert all(parameter is everything[name] for name, parameter in backbone.items())
        names = {entry["name"] for entry in head}
        assert ("cls.predictions.decoder.weight" in names) == (not tied)
        for entry in head:
            parameter = everything[entry["name"]]
            assert (entry["shape"], entry["numel"]) == (tuple(parameter.shape), parameter.numel())
        assert debug_param_overlap(bert) == {
            "model": len(everything), "backbone": len(backbone), "head": len(head), "shared": int(tied),
        }  # fmt: skip


class TestNames:
    def test_all_backbone_parameters_by_default(self):
        model = build_gradiend_from_base_model(TinyBase(), "tiny")
        assert {name: entry["shape"] for name, entry in model.param_map.items()} == SHAPES
        assert {entry["repr"] for entry in model.param_map.values()} == {"all"}
        assert (model.input_dim, model.latent_dim, model.base_model_id) == (56, 1, "tiny")
        assert model.torch_dtype == torch.float32

    @pytest.mark.parametrize(
        ("patterns", "expected"),
        [
            (["*"], NAMES),
            (["body.dense.bias", "body.emb.weight"], [NAMES[0], NAMES[2]]),
            (["*weight"], NAMES[:2]),
            (["body.*.weight"], NAMES[:2]),
            (["*dense*", "body.dense.bias"], NAMES[1:]),
            (["*e*w*"], NAMES[:2]),
        ],
    )
    def test_a_wildcard_takes_every_match_in_the_models_order(self, patterns, expected):
        assert mapped(*patterns) == expected
        assert mapped(params=patterns) == expected
        if len(patterns) == 1:
            assert mapped(params=patterns[0]) == expected

    def test_params_first_then_param_map(self):
        assert mapped("*weight", params=["body.dense.*"]) == ["body.dense.weight"]
        with pytest.raises(ValueError, match="emb"):
            mapped("*emb*", params=["body.dense.*"])

    def test_a_dot_is_a_dot_and_a_name_is_the_whole_name(self):
        model = Wrapped()
        assert list(build_gradiend_from_base_model(model, "w", ["*layer0.*"]).param_map) == [
            "base_model.layer0.weight",
            "base_model.layer0.bias",
        ]
        for pattern in ("base_model.layer0", "layer0.weight", "base_model.layer0.weigh.", "base_model.layer?.bias", ""):
            with pytest.raises(ValueError, match="matches no backbone parameter"):
                build_gradiend_from_base_model(model, "w", [pattern])

    @settings(deadline=None, max_examples=80)
    @given(
        st.text(alphabet="ab.*", max_size=5),
        st.lists(st.text(alphabet="ab.", min_size=1, max_size=6), min_size=1, max_size=5, unique=True),
    )
    @example("a", ["ab", "a", "ba"])
    def test_a_wildcard_means_any_substring(self, pattern, names):
        def naive(pattern, name):
            if not pattern:
                return not name
            if pattern[0] == "*":
                return any(naive(pattern[1:], name[start:]) for start in range(len(name) + 1))
            return bool(name) and pattern[0] == name[0] and naive(pattern[1:], name[1:])

        expected = [name for name in names if naive(pattern, name)]
        if expected:
            assert matching_names(names, [pattern]) == expected
        else:
            with pytest.raises(ValueError, match="matches no backbone parameter"):
                matching_names(names, [pattern])

    def test_a_head_parameter_or_a_misspelt_one_is_an_error_that_helps(self):
        with pytest.raises(ValueError, match=r"head\.bias.*matches no backbone parameter.*body\.emb\.weight"):
            mapped("head.bias")
        with pytest.raises(ValueError, match=r"Did you mean 'body\.dense\.bias'"):
            mapped("body.dense.bais")

    def test_the_documented_dict_is_taken_as_it_is(self):
        specs = KINDS["mixed"]
        model = build_gradiend_from_base_model(TinyBase(), "tiny", specs)
        assert list(model.param_map) == list(specs)
        assert len(model) == 14
        fewer = build_gradiend_from_base_model(TinyBase(), "tiny", specs, params=["*weight"])
        assert list(fewer.param_map) == ["body.emb.weight", "body.dense.weight"]
        assert build_gradiend_from_base_model(TinyBase(), "tiny", model.mapping).param_map_hash == model.param_map_hash

    def test_arguments_reach_the_network(self):
        model = build_gradiend_from_base_model(
            TinyBase(), "tiny", latent_dim=3, torch_dtype=torch.float64, device_encoder="cpu", device_decoder="meta",
            lazy_init=True, activation_encoder="gelu", note=1,
        )  # fmt: skip
        assert (model.latent_dim, model.torch_dtype, model.activation_encoder) == (3, torch.float64, "gelu")
        assert (model.device_decoder.type, model.is_built) == ("meta", False)
        assert model.kwargs == {"base_model": "tiny", "note": 1}
