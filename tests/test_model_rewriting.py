"""θ' = θ + lr · decoder(ff): the copy, the original, every part, every dtype, and the way back."""

from __future__ import annotations

import copy

import model_cases
import pytest
import torch
from model_cases import KINDS, TinyBase, bits, model_with_gradiend, same_bits

from gradiend.model._rewriting import temporarily_updated

WEIGHT_PARTS = ("encoder-weight", "decoder-weight", "decoder-bias", "decoder-sum")


def expected_bits(model, update):
    """The naive rewrite: entry by entry, in float32 (float64 for a float64 model), rounded once."""
    expected = bits(model.base_model)
    position = 0
    for name, entry in model.gradiend.param_map.items():
        flat = expected[name].view(-1)
        wide = torch.float64 if flat.dtype == torch.float64 else torch.float32
        for place in model_cases.places(entry):
            flat[place] = (flat[place].to(wide) + update[position].to(wide)).to(flat.dtype)
            position += 1
    return expected


class TestRewrite:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
    def test_the_copy_is_the_formula_and_the_original_keeps_its_bits(self, kind, dtype):
        model = model_with_gradiend(KINDS[kind], dtype)
        before = bits(model.base_model)
        rewritten = model.rewrite_base_model(0.3, -1.0)
        decoded = model.gradiend.forward_decoder(torch.tensor([-1.0])).detach()
        assert same_bits(bits(rewritten), expected_bits(model, 0.3 * decoded))
        assert same_bits(bits(model.base_model), before)
        assert type(rewritten) is TinyBase
        assert not same_bits(bits(rewritten), before)

    def test_in_float64_nothing_is_rounded_to_float32(self):
        model = model_with_gradiend(KINDS["mixed"], torch.float64, torch_dtype=torch.float64)
        decoded = model.gradiend.forward_decoder(torch.tensor([0.1], dtype=torch.float64)).detach()
        assert same_bits(bits(model.rewrite_base_model(0.3, 0.1)), expected_bits(model, 0.3 * decoded))

    @pytest.mark.parametrize("part", WEIGHT_PARTS)
    def test_the_other_parts_add_their_weights_whatever_the_factor(self, part):
        model = model_with_gradiend(KINDS["mixed"])
        expected = expected_bits(model, 0.3 * model.gradiend.get_update_vector(part))
        for factor in (1.0, -2.0):
            assert same_bits(bits(model.rewrite_base_model(0.3, factor, part=part)), expected)

    def test_a_factor_is_a_number_a_list_or_a_tensor(self):
        model = model_with_gradiend(KINDS["mixed"], latent_dim=2)
        both = bits(model.rewrite_base_model(0.3, 0.5))
        for factor in ([0.5, 0.5], torch.tensor([0.5, 0.5]), torch.tensor(0.5)):
            assert same_bits(bits(model.rewrite_base_model(0.3, factor)), both)
        decoded = model.gradiend.forward_decoder(torch.tensor([0.5, -1.0])).detach()
        one_each = bits(model.rewrite_base_model(0.3, [0.5, -1.0]))
        assert same_bits(one_each, expected_bits(model, 0.3 * decoded))
        with pytest.raises(ValueError, match="latent_dim = 2"):
            model.rewrite_base_model(0.3, [1.0, 2.0, 3.0])

    @pytest.mark.parametrize("part", ["encoder-weight", "decoder-weight"])
    def test_a_matrix_is_no_direction(self, part):
        model = model_with_gradiend(KINDS["mixed"], latent_dim=2)
        with pytest.raises(ValueError, match="latent_dim 1"):
            model.rewrite_base_model(0.3, 1.0, part=part)

    @pytest.mark.parametrize("part", ["weights", "Decoder", ""])
    def test_another_part_is_refused(self, part):
        with pytest.raises(ValueError, match="decoder, encoder-weight"):
            model_with_gradiend(KINDS["mixed"]).rewrite_base_model(0.3, 1.0, part=part)

    def test_a_tensor_that_backbone_and_head_share_changes_in_both(self):
        model = model_with_gradiend(KINDS["all"])
        rewritten = model.rewrite_base_model(0.3, 1.0)
        assert rewritten.head.weight is rewritten.body["emb"].weight
        assert rewritten.head.weight.data_ptr() != model.base_model.head.weight.data_ptr()
        token = torch.tensor(3)
        by_hand = TinyBase()
        by_hand.load_state_dict(
            expected_bits(model, 0.3 * model.update_vector(1.0)) | {"head.weight": bits(rewritten)["body.emb.weight"]}
        )
        assert torch.equal(rewritten(token), by_hand(token))

    def test_back_and_forth_is_where_it_was(self):
        model = model_with_gradiend(KINDS["mixed"], torch.float64, torch_dtype=torch.float64)
        there = model.rewrite_base_model(0.3, 1.0)
        back = model.with_original_base_model(there).rewrite_base_model(-0.3, 1.0)
        for name, tensor in bits(back).items():
            torch.testing.assert_close(tensor, bits(model.base_model)[name], rtol=0, atol=1e-15)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
    def test_a_step_of_zero_changes_nothing_and_is_no_rewrite(self, dtype, tmp_path):
        model = model_with_gradiend(KINDS["mixed"], dtype)
        before = {name: tensor.clone() for name, tensor in bits(model.base_model).items()}
        with temporarily_updated(model.base_model, model.gradiend.mapping, 0 * model.update_vector(1.0)) as share:
            assert share == 0
            assert same_bits(before, bits(model.base_model))
        with pytest.raises(ValueError, match="step of 0 changes nothing"):
            model.rewrite_base_model(0.0, 1.0)
        with pytest.raises(ValueError, match="step of 0 changes nothing"):
            model.export_delta(tmp_path / "nothing.safetensors", 0.0, 1.0)
        assert not list(tmp_path.iterdir())

    def test_what_rounding_undoes_everywhere_is_an_error(self):
        model = model_with_gradiend(KINDS["mixed"], torch.bfloat16)
        with pytest.raises(ValueError, match=r"too small.*float32"):
            model.rewrite_base_model(1e-9, 1.0)
        model_with_gradiend(KINDS["mixed"], torch.float64).rewrite_base_model(1e-9, 1.0)

    @pytest.mark.parametrize("rate", [float("inf"), float("nan")])
    def test_an_update_that_is_not_finite_is_an_error(self, rate):
        with pytest.raises(ValueError, match="infinite or undefined"):
            model_with_gradiend(KINDS["mixed"]).rewrite_base_model(rate, 1.0)

    def test_a_base_model_that_does_not_fit_is_named(self):
        model = model_with_gradiend(KINDS["mixed"])
        with pytest.raises(KeyError, match=r"body.dense.bias.*another architecture"):
            model.with_original_base_model(torch.nn.Linear(2, 2)).rewrite_base_model(0.3, 1.0)
        wide = TinyBase()
        wide.body["dense"] = torch.nn.Linear(4, 5)
        with pytest.raises(ValueError, match=r"body.dense.bias has shape \(5,\).*\(4,\)"):
            model.with_original_base_model(wide).rewrite_base_model(0.3, 1.0)


class TestTemporarily:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
    def test_inside_it_is_the_rewritten_model_and_outside_the_same_bits(self, kind, dtype):
        model = model_with_gradiend(KINDS[kind], dtype)
        base, before = model.base_model, bits(model.base_model)
        rewritten = bits(model.rewrite_base_model(0.3, 1.0))
        with temporarily_updated(base, model.gradiend.mapping, 0.3 * model.update_vector(1.0)) as share:
            assert same_bits(bits(base), rewritten)
            assert 0.9 < share <= 1
            assert base.head.weight is base.body["emb"].weight
        assert same_bits(bits(base), before)

    def test_an_exception_inside_restores_too(self):
        model = model_with_gradiend(KINDS["mixed"])
        before = bits(model.base_model)
        with (
            pytest.raises(ZeroDivisionError),
            temporarily_updated(model.base_model, model.gradiend.mapping, torch.ones(14)),
        ):
            raise ZeroDivisionError
        assert same_bits(bits(model.base_model), before)

    def test_values_that_no_arithmetic_restores_come_back(self):
        model = model_with_gradiend(KINDS["all"])
        with torch.no_grad():
            model.base_model.body["dense"].bias.copy_(torch.tensor([1e-30, -0.0, float("inf"), 3e38]))
        before = bits(model.base_model)["body.dense.bias"]
        with temporarily_updated(model.base_model, model.gradiend.mapping, torch.full((56,), 1e38)):
            pass
        assert torch.equal(model.base_model.body["dense"].bias.view(torch.int32), before.view(torch.int32))

    def test_the_share_counts_what_changed(self):
        model = model_with_gradiend(KINDS["mixed"], torch.bfloat16)
        update = torch.zeros(14)
        update[:4], update[4:7] = 1.0, 1e-9
        with temporarily_updated(model.base_model, model.gradiend.mapping, update) as share:
            assert share == pytest.approx(4 / 14)

    def test_transposed_parameters(self):
        model = model_with_gradiend(KINDS["mixed"])
        straight, turned = copy.deepcopy(model.base_model), copy.deepcopy(model.base_model)
        with torch.no_grad():
            turned.body["dense"].weight = torch.nn.Parameter(turned.body["dense"].weight.T.contiguous().T)
        assert not turned.body["dense"].weight.is_contiguous()
        update = torch.arange(1.0, 15)
        with (
            temporarily_updated(straight, model.gradiend.mapping, update),
            temporarily_updated(turned, model.gradiend.mapping, update),
        ):
            assert same_bits(bits(turned), bits(straight))
        assert same_bits(bits(turned), bits(model.base_model))
