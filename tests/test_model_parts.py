"""What is read off the weights: importance, update vectors, the top-k."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_cases import randomise

from gradiend.model import GradiendModel

PARTS = ("encoder-weight", "decoder-weight", "decoder-bias", "decoder-sum")
N = 7


def random_model(latent_dim=1, **kwargs):
    model = GradiendModel(N, latent_dim, **kwargs)
    randomise(model)
    return model


def weights(model):
    """W_e, W_d and b_d as nested lists of float64."""
    state = {name: tensor.double() for name, tensor in model.state_dict().items()}
    bias = state.get("decoder.0.linear.bias", torch.zeros(N, dtype=torch.float64))
    return state["encoder.0.linear.weight"].tolist(), state["decoder.0.linear.weight"].tolist(), bias.tolist()


def naive_importance(model, part):
    W_e, W_d, b_d = weights(model)
    return {
        "encoder-weight": [sum(abs(row[i]) for row in W_e) for i in range(N)],
        "decoder-weight": [sum(abs(w) for w in W_d[i]) for i in range(N)],
        "decoder-bias": [abs(b) for b in b_d],
        "decoder-sum": [abs(sum(W_d[i]) + b_d[i]) for i in range(N)],
    }[part]


def naive_update(model, part):
    W_e, W_d, b_d = weights(model)
    return {
        "encoder-weight": [w for row in W_e for w in row],
        "decoder-weight": [w for row in W_d for w in row],
        "decoder-bias": b_d,
        "decoder-sum": [sum(W_d[i]) + b_d[i] for i in range(N)],
    }[part]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("latent_dim", [1, 3])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_importance_and_update_vector_are_their_formulas(part, latent_dim, bias, dtype):
    model = random_model(latent_dim, bias_decoder=bias, torch_dtype=dtype)
    importance, update = model.get_weight_importance(part), model.get_update_vector(part)
    assert (importance.dtype, importance.shape, importance.requires_grad) == (torch.float32, (N,), False)
    assert importance.tolist() == pytest.approx(naive_importance(model, part), rel=1e-6)
    assert (update.dtype, update.requires_grad) == (dtype, False)
    assert update.tolist() == pytest.approx(naive_update(model, part), rel=1e-2 if dtype == torch.bfloat16 else 1e-6)


@pytest.mark.parametrize("part", PARTS)
def test_update_vectors_are_copies(part):
    model = random_model()
    before = naive_update(model, part)
    model.get_update_vector(part).fill_(9)
    assert naive_update(model, part) == before


def test_the_default_part_is_the_decoder_weight():
    model = random_model()
    assert torch.equal(model.get_weight_importance(), model.get_weight_importance("decoder-weight"))
    assert torch.equal(model.get_update_vector(), model.get_update_vector("decoder-weight"))
    assert model.get_topk_weights() == model.get_topk_weights("decoder-weight", 1000)


@pytest.mark.parametrize("method", ["get_weight_importance", "get_update_vector", "get_topk_weights"])
@pytest.mark.parametrize("part", ["decoder", "Decoder-Weight", "weight", ""])
def test_another_part_is_refused(method, part):
    with pytest.raises(ValueError, match="encoder-weight, decoder-weight, decoder-bias, decoder-sum"):
        getattr(random_model(), method)(part)


few_values = st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=12)


def with_importances(values):
    """A model whose decoder-weight importances are `values`."""
    model = GradiendModel(len(values), 1)
    with torch.no_grad():
        model.decoder_linear.weight.copy_(torch.tensor(values).unsqueeze(1))
    return model


@settings(deadline=None, max_examples=80)
@given(few_values, st.integers(0, 15))
def test_topk_is_the_head_of_a_stable_sort(values, topk):
    naive = sorted(range(len(values)), key=lambda i: -values[i])
    found = with_importances(values).get_topk_weights(topk=topk)
    assert found == naive[: max(1, topk)]
    assert all(type(index) is int for index in found)


@pytest.mark.parametrize(
    ("topk", "count"),
    [(0.1, 10), (1.0, 100), (0.125, 12), (0.135, 14), (1e-9, 1), (np.float32(0.1), 10), (np.int64(3), 3), (1, 1)],
)
def test_a_float_is_a_proportion_rounded_half_to_even_and_at_least_one(topk, count):
    assert len(GradiendModel(100, 1).get_topk_weights(topk=topk)) == count


@pytest.mark.parametrize(
    ("topk", "error"),
    [(1.5, ValueError), (0.0, ValueError), (-0.1, ValueError), (float("nan"), ValueError), (-1, ValueError),
     ("3", TypeError), (None, TypeError), (True, TypeError)],
)  # fmt: skip
def test_other_topk_are_refused(topk, error):
    with pytest.raises(error, match="topk"):
        random_model().get_topk_weights(topk=topk)
