"""The GRADIEND network: construction, activations, lazy weights, the two passes, inversion, placement."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from model_cases import randomise
from torch import nn

from gradiend.model import GradiendModel
from gradiend.model.layers import LargeLinear
from gradiend.model.utils import get_activation

FORMULAS = {
    "tanh": torch.tanh,
    "relu": F.relu,
    "leakyrelu": F.leaky_relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "elu": F.elu,
    "sigmoid": torch.sigmoid,
    "smht": lambda x: x.clamp(-1, 1),
    "id": lambda x: x,
}
ODD = ("tanh", "smht", "id")


def random_model(*args, seed=0, **kwargs):
    model = GradiendModel(*args, **kwargs)
    randomise(model, seed)
    return model


class TestConstruction:
    def test_defaults(self):
        model = GradiendModel(6, 2)
        assert (model.input_dim, model.latent_dim, model.torch_dtype) == (6, 2, torch.float32)
        assert (model.activation_encoder, model.activation_decoder, model.bias_decoder) == ("tanh", "id", True)
        assert model.kwargs == {}
        assert model.device_encoder == model.device_decoder == torch.device("cpu")
        assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == {
            "encoder.0.linear.weight": (2, 6),
            "encoder.0.linear.bias": (2,),
            "decoder.0.linear.weight": (6, 2),
            "decoder.0.linear.bias": (6,),
        }

    def test_keywords_are_kept_and_the_base_model_has_a_name(self):
        model = GradiendModel(6, 1, base_model="bert", note=3)
        assert model.kwargs == {"base_model": "bert", "note": 3}
        assert model.base_model_id == "bert"
        with pytest.raises(ValueError, match="base_model="):
            _ = GradiendModel(6, 1).base_model_id

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
    @pytest.mark.parametrize("n", [1, 10, 40_000])
    def test_all_weights_start_within_one_over_root_n(self, n, dtype):
        torch.manual_seed(0)
        model = GradiendModel(n, 3, torch_dtype=dtype)
        for parameter in model.parameters():
            assert parameter.dtype == dtype
            assert parameter.abs().max() <= n**-0.5 * (1 + torch.finfo(dtype).eps)
        if n > 100:
            assert float(model.decoder_linear.weight.detach().float().std()) == pytest.approx(
                n**-0.5 / math.sqrt(3), rel=0.05
            )

    def test_numpy_integers_are_sizes(self):
        model = GradiendModel(np.int64(6), np.int32(1))
        assert type(model.input_dim) is type(model.latent_dim) is int

    @pytest.mark.parametrize("name", ["input_dim", "latent_dim"])
    @pytest.mark.parametrize("value", [0, -1, 2.0, "3", None, True])
    def test_sizes_are_positive_ints(self, name, value):
        with pytest.raises(ValueError, match=f"{name} must be a positive int"):
            GradiendModel(**{"input_dim": 4, "latent_dim": 1, name: value})

    def test_the_dtype_is_a_floating_one(self):
        with pytest.raises(ValueError, match="floating-point"):
            GradiendModel(4, 1, torch_dtype=torch.int64)
        with pytest.raises(TypeError, match=r"torch\.float32"):
            GradiendModel(4, 1, torch_dtype="float16")


class TestActivations:
    @pytest.mark.parametrize("name", FORMULAS)
    @pytest.mark.parametrize("spelling", [str.lower, str.upper, str.title], ids=["lower", "upper", "title"])
    def test_every_name_in_any_case_on_both_sides(self, name, spelling):
        x = torch.linspace(-3, 3, 13)
        for encoder in (False, True):
            assert torch.equal(get_activation(spelling(name), encoder)(x), FORMULAS[name](x))
        model = random_model(4, 2, activation_encoder=spelling(name), activation_decoder=spelling(name))
        assert (model.activation_encoder, model.activation_decoder) == (name, name)

    @pytest.mark.parametrize("encoder", FORMULAS)
    @pytest.mark.parametrize("decoder", ["id", "tanh", "gelu"])
    @pytest.mark.parametrize("bias", [True, False])
    def test_the_network_is_its_formula(self, encoder, decoder, bias):
        model = random_model(5, 2, encoder, decoder, bias)
        state = {name.replace(".0.linear", ""): tensor for name, tensor in model.state_dict().items()}
        x = torch.randn(5, generator=torch.Generator().manual_seed(1))
        h = FORMULAS[encoder](state["encoder.weight"] @ x + state["encoder.bias"])
        y = FORMULAS[decoder](state["decoder.weight"] @ h + state.get("decoder.bias", torch.zeros(5)))
        decoded, encoded = model(x, return_encoded=True)
        for found, expected in ((encoded, h), (model.forward_encoder(x), h), (decoded, y), (model(x), y)):
            torch.testing.assert_close(found, expected)
        torch.testing.assert_close(model.forward_decoder(h), y)

    @pytest.mark.parametrize("falsy", ["", None])
    def test_a_falsy_decoder_activation_is_the_encoders(self, falsy):
        assert GradiendModel(4, 1, activation_encoder="GELU", activation_decoder=falsy).activation_decoder == "gelu"

    def test_an_unknown_name_is_refused_with_the_nearest(self):
        for arguments in ({"activation_encoder": "tahn"}, {"activation_decoder": "tahn"}):
            with pytest.raises(ValueError, match=r"tahn.*Did you mean 'tanh'"):
                GradiendModel(4, 1, **arguments)


class TestPasses:
    def test_a_batch_gives_each_rows_result(self):
        model, x = random_model(5, 2), torch.randn(3, 5)
        torch.testing.assert_close(model(x), torch.stack([model(row) for row in x]))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
    def test_results_have_the_models_dtype_whatever_comes_in(self, dtype):
        model = random_model(5, 1, torch_dtype=dtype)
        for given in (torch.float32, torch.float64, torch.bfloat16):
            decoded, encoded = model(torch.ones(5, dtype=given), return_encoded=True)
            assert decoded.dtype == encoded.dtype == dtype
            assert (decoded.shape, encoded.shape) == ((5,), (1,))

    def test_wrong_sizes_are_refused(self):
        model = GradiendModel(5, 2)
        for x in (torch.zeros(4), torch.zeros(5, 1), torch.tensor(1.0)):
            with pytest.raises(ValueError, match="input_dim = 5"):
                model(x)
        with pytest.raises(ValueError, match="latent_dim = 2"):
            model.forward_decoder(torch.zeros(3))
        with pytest.raises(TypeError, match="ParamMappedGradiendModel"):
            model({"a": torch.zeros(5)})

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
    def test_norms(self, dtype):
        model = random_model(50, 2, torch_dtype=dtype)
        for norm, name in ((model.encoder_norm, "encoder"), (model.decoder_norm, "decoder")):
            weight = model.state_dict()[f"{name}.0.linear.weight"].double()
            assert norm == pytest.approx(math.sqrt((weight * weight).sum()), rel=1e-6)


LAZY_USES = {
    "forward": lambda model: model(torch.zeros(6)),
    "forward_encoder": lambda model: model.forward_encoder(torch.zeros(6)),
    "forward_decoder": lambda model: model.forward_decoder(torch.zeros(1)),
    "importance": lambda model: model.get_weight_importance(),
    "update vector": lambda model: model.get_update_vector(),
    "topk": lambda model: model.get_topk_weights(),
    "norm": lambda model: model.encoder_norm,
    "invert": lambda model: model.invert_encoding(),
    "prune by weights": lambda model: model.prune(topk=2),
}


class TestLazy:
    @pytest.mark.parametrize("use", LAZY_USES)
    def test_use_before_the_weights_exist_is_an_error(self, use):
        with pytest.raises(RuntimeError, match="lazy_init"):
            LAZY_USES[use](GradiendModel(6, 1, lazy_init=True))

    def test_saving_is_an_error_and_leaves_no_file(self, tmp_path):
        with pytest.raises(RuntimeError, match="lazy_init"):
            GradiendModel(6, 1, lazy_init=True).save_pretrained(str(tmp_path / "new"))
        assert not (tmp_path / "new").exists()

    def test_nothing_exists_until_it_is_built(self):
        model = GradiendModel(6, 1, lazy_init=True, torch_dtype=torch.float16)
        assert model.encoder is None
        assert model.decoder is None
        assert not list(model.parameters())
        assert (len(model), model.pruned_length(), model.torch_dtype) == (6, 6, torch.float16)
        assert model.build() is model
        built = model.encoder_linear.weight
        assert (model.torch_dtype, built.shape) == (torch.float16, (1, 6))
        assert model.build().encoder_linear.weight is built

    def test_pruning_builds_at_the_pruned_size(self):
        model = GradiendModel(6, 1, lazy_init=True)
        small = model.prune(topk=2, importance=torch.tensor([0.0, 5, 1, 4, 2, 3]))
        assert small.encoder_linear.weight.shape == (1, 2)
        assert model.encoder is None
        assert model.prune(mask=torch.ones(6, dtype=torch.bool), inplace=True).is_built

    def test_building_later_gives_the_same_weights_as_building_now(self):
        torch.manual_seed(3)
        now = GradiendModel(6, 2)
        torch.manual_seed(3)
        later = GradiendModel(6, 2, lazy_init=True).build()
        assert all(torch.equal(one, two) for one, two in zip(now.parameters(), later.parameters(), strict=True))


class TestInversion:
    @pytest.mark.parametrize("encoder", ODD)
    @pytest.mark.parametrize("decoder", ["id", "gelu"])
    @pytest.mark.parametrize("bias", [True, False])
    def test_odd_encoders_negate_the_latent_and_keep_the_reconstruction(self, encoder, decoder, bias):
        model, x = random_model(5, 2, encoder, decoder, bias), torch.randn(4, 5)
        decoded, encoded = model(x, return_encoded=True)
        assert model.invert_encoding() is True
        inverted_decoded, inverted_encoded = model(x, return_encoded=True)
        assert torch.equal(inverted_encoded, -encoded)
        assert torch.equal(inverted_decoded, decoded)
        if bias:
            assert torch.equal(model.forward_decoder(torch.zeros(2)), FORMULAS[decoder](model.decoder_linear.bias))
        model.invert_encoding()
        assert torch.equal(model.forward_encoder(x), encoded)

    @pytest.mark.parametrize("encoder", sorted(set(FORMULAS) - set(ODD)))
    def test_other_encoders_are_left_as_they_are(self, encoder):
        model = random_model(5, 2, encoder)
        before = [parameter.detach().clone() for parameter in model.parameters()]
        assert model.invert_encoding() is False
        assert all(torch.equal(one, two) for one, two in zip(before, model.parameters(), strict=True))


class TestPlacement:
    """Only "cpu" and "meta" exist everywhere; they are two devices like any others to the bookkeeping."""

    @staticmethod
    def places(model):
        return model.device_encoder.type, model.device_decoder.type

    @pytest.mark.parametrize("lazy", [False, True])
    def test_each_half_has_its_device(self, lazy):
        def places(**devices):
            return self.places(GradiendModel(4, 1, lazy_init=lazy, **devices))

        assert places() == ("cpu", "cpu")
        assert places(device="meta") == ("meta", "meta")
        assert places(device="meta", device_encoder="cpu") == ("cpu", "meta")
        assert places(device_decoder="meta") == ("cpu", "meta")

    @pytest.mark.parametrize("lazy", [False, True])
    def test_to_moves_both_or_only_the_named_halves(self, lazy):
        model = GradiendModel(4, 1, lazy_init=lazy)
        assert model.to("meta") is model
        assert self.places(model) == ("meta", "meta")
        model = GradiendModel(4, 1, lazy_init=lazy)
        assert self.places(model.to()) == ("cpu", "cpu")
        assert self.places(model.to(device_decoder="meta")) == ("cpu", "meta")
        model = GradiendModel(4, 1, lazy_init=lazy)
        assert self.places(model.to("meta", device_encoder=torch.device("meta"))) == ("meta", "cpu")
        assert self.places(model.build()) == ("meta", "cpu")
        assert self.places(GradiendModel(4, 1, lazy_init=lazy).cpu()) == ("cpu", "cpu")

    def test_the_weights_say_where_they_are_and_of_which_dtype(self):
        model = GradiendModel(4, 1)
        nn.Sequential(model).to("meta")
        assert self.places(model) == ("meta", "meta")
        model = GradiendModel(4, 1)
        nn.Sequential(model).half()
        assert model.torch_dtype == torch.float16
        assert model.forward_encoder(torch.ones(4)).dtype == torch.float16

    def test_a_dtype_is_no_device(self):
        with pytest.raises(TypeError, match="torch_dtype="):
            GradiendModel(4, 1).to(torch.float16)


class TestLargeLinear:
    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("chunks", [(1, 1), (2, 3), (3, 2), (100, 100)])
    def test_chunks_do_not_change_the_product(self, chunks, bias):
        whole = LargeLinear(7, 5, bias=bias, dtype=torch.float64)
        chunked = LargeLinear(7, 5, bias, *chunks, dtype=torch.float64)
        chunked.load_state_dict(whole.state_dict())
        x = torch.randn(3, 7, dtype=torch.float64)
        torch.testing.assert_close(chunked(x), F.linear(x, whole.weight, whole.bias))
        torch.testing.assert_close(chunked(x[0]), whole(x[0]))

    def test_it_is_initialised_like_a_linear_layer(self):
        torch.manual_seed(5)
        ours = LargeLinear(7, 5)
        torch.manual_seed(5)
        theirs = nn.Linear(7, 5)
        assert torch.equal(ours.weight, theirs.weight)
        assert torch.equal(ours.bias, theirs.bias)

    def test_weight_and_bias_can_be_set(self):
        layer = LargeLinear(7, 5)
        layer.weight, layer.bias = torch.ones(2, 3), torch.arange(2.0)
        assert (layer.in_features, layer.out_features) == (3, 2)
        assert layer(torch.ones(3)).tolist() == [3.0, 4.0]
        layer.bias = None
        assert layer(torch.ones(3)).tolist() == [3.0, 3.0]
        assert [name for name, _ in layer.named_parameters()] == ["linear.weight"]
