"""`ModelWithGradiend` over a plain module: encoding, base-space indices, directions, saving and loading."""

from __future__ import annotations

import json
from types import SimpleNamespace

import model_cases
import pytest
import tiny
import torch
from model_cases import KINDS, TinyBase, TinyModelWithGradiend, bits, model_with_gradiend, same_bits, spec

from gradiend.model import ModelWithGradiend, apply_delta
from gradiend.model.utils import write_gradiend_context

CLASSES = SimpleNamespace(target_classes=["F", "M"], all_classes=["F", "M", "N"])
DIRECTION = {"F": 1, "M": -1, "N": 0}


@pytest.fixture
def model():
    return model_with_gradiend(KINDS["mixed"])


def load(path=None, **kwargs):
    return TinyModelWithGradiend.from_pretrained(path, **kwargs)


class TestProperties:
    def test_defaults(self, model):
        assert (model.source, model.target) == ("factual", "diff")
        assert model.gradient_creator is model
        assert model.feature_class_encoding_direction is None
        assert (model.name_or_path, model.name) == ("tiny/base", "base")
        assert model.param_map_hash == model.gradiend.param_map_hash
        assert (len(model), model.pruned_length(), model.unpruned_length()) == (14, 14, 56)

    def test_without_a_recorded_name_the_base_model_is_asked(self):
        model = TinyModelWithGradiend(TinyBase("else/where"), model_cases.network(KINDS["mixed"]))
        assert (model.name_or_path, model.name) == ("else/where", "where")

    def test_only_the_gradiend_is_trained(self, model):
        assert {id(p) for p in model.parameters()} == {id(p) for p in model.gradiend.parameters()}
        assert dict(model.named_parameters()).keys() == {f"gradiend.{n}" for n, _ in model.gradiend.named_parameters()}

    def test_another_gradient_creator(self):
        base, gradiend = TinyBase(), model_cases.network(KINDS["mixed"])
        assert TinyModelWithGradiend(base, gradiend, gradient_creator=abs).gradient_creator is abs

    @pytest.mark.parametrize("side", ["source", "target"])
    def test_sides(self, side):
        base, gradiend = TinyBase(), model_cases.network(KINDS["mixed"])
        for given, kept in (("diff", "diff"), ("alternative", "alternative"), ("counterfactual", "alternative")):
            assert getattr(TinyModelWithGradiend(base, gradiend, **{side: given}), side) == kept
        with pytest.raises(ValueError, match=f"{side} must be one of factual, alternative, diff.*'factual'"):
            TinyModelWithGradiend(base, gradiend, **{side: "factal"})
        assert TinyModelWithGradiend(base, gradiend, target=None).target is None

    def test_no_other_method_is_abstract(self):
        assert ModelWithGradiend.__abstractmethods__ == {"create_gradients", "_save_model", "_load_model"}


class TestDirection:
    def test_it_is_set_once(self, model):
        model.set_feature_class_encoding_direction(DIRECTION)
        model.set_feature_class_encoding_direction(dict(DIRECTION))
        assert model.feature_class_encoding_direction == DIRECTION
        with pytest.raises(ValueError, match="contradicts"):
            model.set_feature_class_encoding_direction({"F": -1, "M": 1, "N": 0})
        assert model.feature_class_encoding_direction == DIRECTION

    def test_nobody_changes_it_from_outside(self, model):
        given = dict(DIRECTION)
        model.set_feature_class_encoding_direction(given)
        given["F"] = 0
        model.feature_class_encoding_direction["M"] = 0
        assert model.feature_class_encoding_direction == DIRECTION

    @pytest.mark.parametrize("bad", [{"F": 2}, {"F": "1"}, {"F": None}])
    def test_labels_are_signs(self, model, bad):
        with pytest.raises(ValueError, match=r"\+1, −1 or 0"):
            model.set_feature_class_encoding_direction(bad)

    @pytest.mark.parametrize("update", [True, False])
    def test_inverting_flips_it_if_asked(self, model, update):
        model.set_feature_class_encoding_direction(DIRECTION)
        gradient = torch.randn(14)
        encoded = model.encode(gradient)
        assert model.invert_encoding(update_direction=update)
        assert torch.equal(model.encode(gradient), -encoded)
        flipped = {"F": -1, "M": 1, "N": 0}
        assert model.feature_class_encoding_direction == (flipped if update else DIRECTION)

    def test_an_inversion_that_cannot_be_flips_nothing(self):
        model = model_with_gradiend(KINDS["mixed"], activation_encoder="relu")
        model.set_feature_class_encoding_direction(DIRECTION)
        assert not model.invert_encoding()
        assert model.feature_class_encoding_direction == DIRECTION


class TestEncode:
    def test_text_dict_and_vector_agree(self, model):
        flat = model.create_gradients("3", "5")
        full = model.gradiend.extract_gradients(model.base_model, return_dict=True)
        expected = model.gradiend.forward_encoder(flat)
        for encoded in (model.encode("3", "5"), model.encode("3", label="5"), model.encode(flat), model.encode(full)):
            assert torch.equal(encoded, expected)
            assert not encoded.requires_grad
        number = model.encode("3", "5", return_float=True)
        assert type(number) is float
        assert number == expected.item()

    def test_it_works_where_gradients_are_switched_off(self, model):
        expected = model.encode(model.create_gradients("3", "5"))
        with torch.no_grad():
            assert torch.equal(model.encode("3", "5"), expected)

    def test_bad_calls(self, model):
        with pytest.raises(AssertionError, match="label="):
            model.encode("3")
        with pytest.raises(ValueError, match="input_dim = 14"):
            model.encode(torch.zeros(3))
        with pytest.raises(KeyError, match=r"body\.dense\.bias"):
            model.encode({"input_ids": torch.zeros(3)})
        with pytest.raises(ValueError, match="one latent"):
            model_with_gradiend(KINDS["mixed"], latent_dim=2).encode(torch.zeros(14), return_float=True)


class TestTopk:
    def test_indices_are_those_of_the_unpruned_space_however_it_was_pruned(self):
        whole = model_with_gradiend(KINDS["all"])
        names = list(KINDS["all"])
        sizes = [36, 16, 4]
        importance = whole.get_weight_importance()
        naive = sorted(range(56), key=lambda i: -importance[i])
        assert whole.get_topk_weights(topk=10) == naive[:10]
        assert whole.get_topk_weights(topk=0.25) == naive[:14]
        pruned = whole.prune_gradiend(topk=20, inplace=False)
        assert pruned.get_topk_weights(topk=10) == naive[:10]
        assert pruned.get_topk_weights() == naive[:20]
        # Base space is the concatenation of the whole parameters in map order.
        place = naive[0]
        owner = next(i for i in range(3) if place < sum(sizes[: i + 1]))
        local = whole.gradiend.mapping.unflatten(whole.gradiend.get_weight_importance())[names[owner]]
        assert local.flatten()[place - sum(sizes[:owner])] == importance.max()

    @pytest.mark.parametrize("topk", [0, 3, 0.5, 99])
    def test_the_enhancer_mask_marks_the_local_topk(self, model, topk):
        mask = model.get_enhancer_mask(topk, part="decoder-bias")
        assert (mask.dtype, mask.shape) == (torch.bool, (14,))
        assert mask.nonzero().squeeze(1).tolist() == sorted(model.gradiend.get_topk_weights("decoder-bias", topk))


class TestPruneAndShare:
    def test_pruning_is_in_place_unless_told_otherwise(self, model):
        copy, mask = model.prune_gradiend(topk=5, inplace=False, return_mask=True)
        assert (len(model), len(copy), int(mask.sum())) == (14, 5, 5)
        assert copy.base_model is model.base_model
        assert model.prune_gradiend(topk=4) is model
        assert len(model) == 4
        same, mask = model.prune_gradiend(threshold=0.0, return_mask=True)
        assert same is model
        assert mask.tolist() == [True] * 4

    def test_another_base_model_shares_the_gradiend(self, model):
        model.set_feature_class_encoding_direction(DIRECTION)
        other = TinyBase()
        copy = model.with_original_base_model(other)
        assert type(copy) is TinyModelWithGradiend
        assert copy.base_model is other
        assert model.base_model is not other
        assert copy.gradiend is model.gradiend
        assert copy.feature_class_encoding_direction == DIRECTION
        model.invert_encoding()
        assert copy.feature_class_encoding_direction == DIRECTION

    def test_to_moves_both(self, model):
        with pytest.raises(TypeError, match="dtype is fixed at construction"):
            model.to(torch.float64)
        assert model.base_model.body.dense.weight.dtype == torch.float32
        assert model.to("meta") is model
        assert model.base_model.device.type == model.gradiend.device_encoder.type == "meta"
        assert model_with_gradiend(KINDS["mixed"]).cpu().base_model.device.type == "cpu"

    def test_devices_of_the_constructor(self):
        model = TinyModelWithGradiend(
            TinyBase(), model_cases.network(KINDS["mixed"]), base_model_device="meta", device_decoder="meta"
        )
        assert [device.type for device in places(model)] == ["cpu", "meta", "meta"]


def places(model):
    return model.gradiend.device_encoder, model.gradiend.device_decoder, model.base_model.device


class TestSaveAndLoad:
    @pytest.mark.parametrize("binary", [False, True])
    def test_round_trip(self, model, tmp_path, binary):
        model = TinyModelWithGradiend(model.base_model, model.gradiend, source="alternative", target="factual")
        model.set_feature_class_encoding_direction(DIRECTION)
        model.save_pretrained(str(tmp_path), use_safetensors=not binary, training={"steps": 1}, note=2)
        assert model.saved_with == {"use_safetensors": not binary, "training": {"steps": 1}, "note": 2}
        assert (tmp_path / "pytorch_model.bin").exists() == binary
        again = load(str(tmp_path))
        assert (again.source, again.target) == ("alternative", "factual")
        assert again.feature_class_encoding_direction == DIRECTION
        assert same_bits(bits(again.gradiend), bits(model.gradiend))
        assert again.gradiend.kwargs == {"base_model": "tiny/base", "note": 2, "training": {"steps": 1}}
        assert again.name_or_path == again.base_model.name_or_path == "tiny/base"
        loaded_with = TinyModelWithGradiend.loaded_with
        assert loaded_with == {"base_model_id": "tiny/base", "gradiend_kwargs": again.gradiend.kwargs}

    def test_the_context_file(self, model, tmp_path):
        model.save_pretrained(str(tmp_path))
        context = tmp_path / "gradiend_context.json"
        written = {"source": "factual", "target": "diff", "labels_of": "factual"}
        assert written.items() <= json.loads(context.read_text()).items()
        model.set_feature_class_encoding_direction(DIRECTION)
        model.save_pretrained(str(tmp_path))
        assert json.loads(context.read_text())["feature_class_encoding_direction"] == DIRECTION
        context.unlink()
        with pytest.raises(FileNotFoundError, match="has no gradiend_context"):
            load(str(tmp_path))

    def test_the_checkpoint_wins_over_the_arguments_that_shape_a_new_one(self, model, tmp_path):
        model.save_pretrained(str(tmp_path))
        again = load(str(tmp_path), source="diff", latent_dim=3, params=["nothing"], activation_encoder="relu")
        assert (again.source, again.gradiend.latent_dim, again.gradiend.activation_encoder) == ("factual", 1, "tanh")

    def test_the_feature_gives_the_direction_that_is_not_known(self, model, tmp_path):
        model.save_pretrained(str(tmp_path))
        assert load(str(tmp_path), feature_definition=CLASSES).feature_class_encoding_direction == DIRECTION
        assert load("tiny", feature_definition=CLASSES).feature_class_encoding_direction == DIRECTION
        model.set_feature_class_encoding_direction({"M": 1, "F": -1})
        model.save_pretrained(str(tmp_path))
        assert load(str(tmp_path), feature_definition=CLASSES).feature_class_encoding_direction == {"M": 1, "F": -1}
        with pytest.raises(ValueError, match="two target classes"):
            load("tiny", feature_definition=SimpleNamespace(target_classes=["a", "b", "c"], all_classes=None))

    def test_another_base_model_for_a_checkpoint(self, model, tmp_path):
        model.save_pretrained(str(tmp_path))
        for again in (load(str(tmp_path), base_model="other"), load(base_model="other", gradiend_model=str(tmp_path))):
            assert again.base_model.name_or_path == again.name_or_path == "other"
        instance = TinyBase("third")
        again = load(tmp_path, base_model=instance)
        assert again.base_model is instance
        assert again.name_or_path == "third"
        with pytest.raises(FileNotFoundError, match="tiny is no GRADIEND checkpoint"):
            load(base_model="other", gradiend_model="tiny")

    def test_only_a_checkpoint_if_one_is_required(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="no GRADIEND checkpoint"):
            load(str(tmp_path), require_gradiend_model=True)

    def test_where_to_load_from_is_given_once(self, tmp_path):
        with pytest.raises(TypeError, match="load_directory"):
            load(None)
        with pytest.raises(TypeError, match="mean the same"):
            load("tiny", gradiend_model="other")


class TestNew:
    def test_on_a_name_and_on_an_instance(self):
        model = load("some/base")
        assert (model.name_or_path, len(model), model.gradiend.latent_dim) == ("some/base", 56, 1)
        assert (model.source, model.target) == ("factual", "diff")
        base = TinyBase("mine")
        model = load(base, source="diff", target="alternative")
        assert model.base_model is base
        assert (model.name_or_path, model.source, model.target) == ("mine", "diff", "alternative")
        assert load(base_model="some/base").name_or_path == "some/base"

    def test_every_argument_reaches_the_network(self):
        model = load(
            "tiny", latent_dim=2, torch_dtype=torch.float16, activation_encoder="SMHT", activation_decoder="tanh",
            bias_decoder=False, params=["body.dense.*"], param_map=["*.weight"],
        )  # fmt: skip
        gradiend = model.gradiend
        assert (gradiend.latent_dim, gradiend.torch_dtype, gradiend.bias_decoder) == (2, torch.float16, False)
        assert (gradiend.activation_encoder, gradiend.activation_decoder) == ("smht", "tanh")
        assert list(gradiend.param_map) == ["body.dense.weight"]
        assert list(load("tiny", param_map=KINDS["mixed"]).gradiend.param_map) == list(KINDS["mixed"])

    def test_the_rest_goes_to_the_base_model(self):
        load("tiny", latent_dim=2, n_features=1, trust_remote_code=True, revision="x")
        loaded_with = TinyModelWithGradiend.loaded_with
        assert loaded_with == {
            "base_model_id": None, "gradiend_kwargs": None, "trust_remote_code": True, "revision": "x",
        }  # fmt: skip

    @pytest.mark.parametrize(("given", "latents"), [({}, 1), ({"latent_dim": 3}, 3), ({"latent_dim": None}, 1)])
    def test_n_features_is_tolerated(self, given, latents):
        assert load("tiny", n_features=1, **given).gradiend.latent_dim == latents

    @pytest.mark.parametrize("given", [{"pre_prune_config": object()}, {"lazy_init": True}])
    def test_pre_pruning_makes_no_weights_before(self, given):
        model = load("tiny", **given)
        assert model.gradiend.encoder is None
        assert model.prune_gradiend(topk=3, importance=torch.arange(56.0)).gradiend.is_built
        assert load("tiny", pre_prune_config=None).gradiend.is_built

    def test_what_cannot_be_saved_leaves_an_earlier_checkpoint_whole(self, tmp_path):
        load("tiny", source="alternative").save_pretrained(str(tmp_path))
        with pytest.raises(RuntimeError, match="no weights yet"):
            load("tiny", source="diff", lazy_init=True).save_pretrained(str(tmp_path))
        assert load(str(tmp_path)).source == "alternative"

    @pytest.mark.skipif(torch.cuda.is_available(), reason="the rule for a machine without GPUs")
    def test_devices(self, tmp_path):
        def types(source, **devices):
            return [device.type for device in places(load(source, **devices))]

        load("tiny").save_pretrained(str(tmp_path))
        for source in ("tiny", str(tmp_path)):
            assert types(source) == ["cpu", "cpu", "cpu"]
            assert types(source, device="meta", device_encoder="cpu") == ["cpu", "meta", "meta"]
            assert types(source, device_base_model="meta") == ["cpu", "cpu", "meta"]
            assert types(source, device_decoder="meta") == ["cpu", "meta", "cpu"]
        # An instance stays where it is, and its GRADIEND joins it.
        assert types(TinyBase().to("meta")) == ["meta", "meta", "meta"]
        assert types(TinyBase().to("meta"), device_encoder="cpu") == ["cpu", "meta", "meta"]

    @pytest.mark.parametrize("name", ["device", "device_encoder", "device_base_model"])
    def test_a_device_that_is_not_here_is_refused_before_anything_is_loaded(self, name):
        for place in ("cuda:99", torch.device("cuda", 99)):
            with pytest.raises(ValueError, match=r"no device 'cuda:99' here; the number of GPUs .* is \d+\."):
                load("nothing of this name", **{name: place})

    def test_a_map_of_another_model_is_refused_before_anything_is_built(self):
        with pytest.raises(KeyError, match="elsewhere"):
            load("tiny", param_map={"elsewhere": spec((2,), "all")})
        with pytest.raises(ValueError, match=r"\(4,\).*\(2,\)"):
            load("tiny", param_map={"body.dense.bias": spec((2,), "all")})


MISSPELLED = {
    "the constructor": (lambda model: TinyModelWithGradiend(model.base_model, model.gradiend, sorce="diff"), "source"),
    "encode": (lambda model: model.encode(torch.ones(14), retrun_float=True), "return_float"),
    "prune_gradiend": (lambda model: model.prune_gradiend(top_k=2), "topk"),
    "get_topk_weights": (lambda model: model.get_topk_weights(prt="decoder-bias"), "part"),
    "rewrite_base_model": (lambda model: model.rewrite_base_model(0.1, feature_facto=1.0), "feature_factor"),
    "GradiendModel.to": (lambda model: model.gradiend.to(device_encodr="cpu"), "device_encoder"),
    "GradiendModel.prune": (lambda model: model.gradiend.prune(treshold=0.1), "threshold"),
    "GradiendModel.from_pretrained": (lambda model: type(model.gradiend).from_pretrained("x", dtype=1), "torch_dtype"),
    "extract_gradients": (lambda model: model.gradiend.extract_gradients(model, retrn_dict=True), "return_dict"),
    "apply_delta": (lambda model: apply_delta(model.base_model, "x", strenght=2), "strength"),
    "write_gradiend_context": (lambda _: write_gradiend_context("x", "diff", targt="diff"), "target"),
}


@pytest.mark.parametrize("call", MISSPELLED)
def test_an_unknown_keyword_names_the_nearest(model, call):
    misspelled, meant = MISSPELLED[call]
    with pytest.raises(TypeError, match=rf"got an unknown argument '\w+'\. Did you mean '{meant}'\?"):
        misspelled(model)


def test_an_unknown_keyword_of_the_loading_names_the_nearest(tmp_path):
    tiny.bert().save_pretrained(tmp_path)
    tiny.bert_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(TypeError, match=r"from_pretrained got an unknown argument 'latent_dm'.* mean 'latent_dim'\?"):
        ModelWithGradiend.from_pretrained(str(tmp_path), latent_dm=2)
    with pytest.raises(TypeError, match=r"from_pretrained got an unknown argument 'latent_dm'.* mean 'latent_dim'\?"):
        ModelWithGradiend.from_pretrained(tiny.bert(), tokenizer=tiny.bert_tokenizer(), latent_dm=2)
