"""Our forward-mode rules against PyTorch's own, for every kind of call."""

import pytest
import torch
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import layer_norm, scaled_dot_product_attention

from gradiend.gradients import _forward_mode
from gradiend.gradients._forward_mode import ForwardModeRules

ROWS, HEADS, QUERIES, KEYS, WIDTH = 3, 4, 5, 7, 8


def tensors(n_key_heads=HEADS, moving="qkv"):
    """(query, key, value), each with its tangent or None, with the strides that models give them."""
    torch.manual_seed(0)
    shapes = {"q": (ROWS, QUERIES, HEADS, WIDTH)} | dict.fromkeys("kv", (ROWS, KEYS, n_key_heads, WIDTH))
    return [
        tuple(
            torch.randn(shape, dtype=torch.float64).transpose(1, 2) if has else None for has in (True, name in moving)
        )
        for name, shape in shapes.items()
    ]


def with_tangent(pairs, mask_tangent=None, **options):
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), forward_ad.dual_level():
        duals = [primal if tangent is None else forward_ad.make_dual(primal, tangent) for primal, tangent in pairs]
        if mask_tangent is not None:
            options["attn_mask"] = forward_ad.make_dual(options["attn_mask"], mask_tangent)
        return forward_ad.unpack_dual(scaled_dot_product_attention(*duals, **options))


def lengths(*sizes):
    return torch.arange(KEYS) < torch.tensor(sizes).view(-1, 1, 1, 1)


@pytest.mark.parametrize("at_once", [1, 1 << 20], ids=["row by row", "together"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"attn_mask": lengths(7, 2, 1)},
        {"attn_mask": torch.randn(QUERIES, KEYS, dtype=torch.float64)},
        {"attn_mask": torch.randn(ROWS, HEADS, QUERIES, KEYS, dtype=torch.float64)},
        {"is_causal": True},
        {"scale": 0.3},
        {"enable_gqa": True, "n_key_heads": 2},
        {"moving": "q"},
        {"moving": "k"},
        {"moving": "v", "attn_mask": lengths(3, 3, 3)},
    ],
    ids=["plain", "lengths", "bias", "bias of heads", "causal", "scale", "grouped", "query", "key", "value"],
)
def test_output_and_tangent_are_those_of_the_plain_rule(options, at_once, monkeypatch):
    monkeypatch.setattr(_forward_mode, "SCORES_AT_ONCE", at_once)
    own = {name: options[name] for name in ("n_key_heads", "moving") if name in options}
    options = {name: value for name, value in options.items() if name not in own}
    pairs = tensors(**own)
    expected = with_tangent(pairs, **options)
    with ForwardModeRules():
        found = with_tangent(pairs, **options)
    torch.testing.assert_close(found.primal, expected.primal)
    torch.testing.assert_close(found.tangent, expected.tangent)
    assert expected.tangent.abs().max() > 0.1


@pytest.mark.parametrize(
    "options",
    [
        {"attn_mask": lengths(7, 0, 7)},  # a row that may look nowhere gives zeros, by PyTorch's convention
        {
            "attn_mask": torch.zeros(QUERIES, KEYS, dtype=torch.float64),
            "mask_tangent": torch.ones(QUERIES, KEYS).double(),
        },
    ],
    ids=["looks nowhere", "moving mask"],
)
def test_calls_that_the_rule_does_not_cover_are_left_alone(options):
    pairs = tensors()
    expected = with_tangent(pairs, **options)
    with ForwardModeRules():
        found = with_tangent(pairs, **options)
    torch.testing.assert_close(found.primal, expected.primal, equal_nan=True)
    torch.testing.assert_close(found.tangent, expected.tangent, equal_nan=True)


def test_without_a_tangent_it_is_the_usual_attention():
    pairs = tensors(moving="")
    with ForwardModeRules():
        assert with_tangent(pairs).tangent is None


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_a_layer_norm_and_its_tangent_have_the_dtype_of_the_input(dtype, device):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    torch.manual_seed(0)
    shapes = [(3, 5, 8), (8,), (8,)]
    exact = [tuple(torch.randn(shape, dtype=torch.float64, device=device) for _ in range(2)) for shape in shapes]

    def tangent(of_type):
        with torch.no_grad(), forward_ad.dual_level():
            duals = [forward_ad.make_dual(*(one.to(of_type) for one in pair)) for pair in exact]
            return forward_ad.unpack_dual(layer_norm(duals[0], (8,), *duals[1:], 1e-5)).tangent

    expected = tangent(torch.float64)
    with ForwardModeRules():
        found = tangent(dtype)
    assert found.dtype is dtype
    assert (found.double() - expected).norm() / expected.norm() < max(8 * torch.finfo(dtype).eps, 1e-12)
