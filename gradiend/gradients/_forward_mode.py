"""Forward-mode derivatives of functions for which PyTorch's own rule is missing, slow or of another dtype.

Attention: fused kernels have no forward-mode rule, and PyTorch's rule for the mathematical form writes the scores to
memory some twenty times. With S = scale · Q Kᵀ + mask, P = softmax(S), O = P V and tangents marked by a dot:

    Ṡ = scale · (Q̇ Kᵀ + Q K̇ᵀ)        M = P ∘ Ṡ        Ȯ = M V + P V̇ − rowsum(M) ∘ O
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from gradiend.util._isolation import FORWARD_MODE, exclusive

SCORES_AT_ONCE = 1 << 20
"""Scores that are computed together, so that the scores and their tangents stay in a processor's cache."""


@contextmanager
def dual_level() -> Iterator[None]:
    """Inside the block, tensors may have tangents; another thread waits, because PyTorch has one level for all."""
    with exclusive(FORWARD_MODE), forward_ad.dual_level():
        yield


class ForwardModeRules(TorchFunctionMode):
    """Inside the block, two functions of dual tensors have other forward-mode rules than PyTorch's.

    `scaled_dot_product_attention` computes its tangent by the formula above. For calls that the formula does not cover
    (dropout, a mask with a tangent, a position that may look nowhere) PyTorch's mathematical form is called by name:
    `sdpa_kernel` would choose it for every thread of the process. `layer_norm` of bfloat16 and float16 works in
    float32: on a GPU PyTorch's rule gives a float32 tangent, which the next product refuses.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        kwargs = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            result = _attention(*args, **kwargs)
            return _mathematical(*args, **kwargs) if result is None else result
        if func is functional.layer_norm:
            return _layer_norm(*args, **kwargs)
        return func(*args, **kwargs)


def _layer_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    wide = torch.promote_types(input.dtype, torch.float32)
    weight, bias = (None if tensor is None else tensor.to(wide) for tensor in (weight, bias))
    return functional.layer_norm(input.to(wide), list(normalized_shape), weight, bias, eps).to(input.dtype)


def _attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Tensor | None:  # fmt: skip
    """The output with its tangent, (B, H, L, E); None for a call that the formula does not cover."""
    if dropout_p or query.dim() != 4:
        return None
    duals = [forward_ad.unpack_dual(tensor) for tensor in (query, key, value)]
    if all(dual.tangent is None for dual in duals):
        return None
    mask = _additive_mask(attn_mask, is_causal, query, key)
    if mask is None:
        return None
    tangents = [torch.zeros_like(dual.primal) if dual.tangent is None else dual.tangent for dual in duals]
    tensors = [tensor for dual, tangent in zip(duals, tangents, strict=True) for tensor in (dual.primal, tangent)]
    if enable_gqa and key.shape[1] != query.shape[1]:
        repeats = query.shape[1] // key.shape[1]
        tensors[2:] = [tensor.repeat_interleave(repeats, 1) for tensor in tensors[2:]]
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    scores = query.shape[1] * query.shape[2] * key.shape[2]
    rows = max(1, SCORES_AT_ONCE // scores)
    parts = []
    for start in range(0, len(query), rows):
        some = slice(start, start + rows)
        own_mask = mask if len(mask) == 1 else mask[some]
        q, q_dot, k, k_dot, v, v_dot = (tensor[some] for tensor in tensors)
        parts.append(_rows_with_tangent(q * factor, q_dot * factor, k, k_dot, v, v_dot, own_mask))
    output, tangent = (torch.cat(some) for some in zip(*parts, strict=True))
    return forward_ad.make_dual(output, tangent)


def _mathematical(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """Attention in PyTorch's mathematical form, the only one that has a forward-mode rule."""
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = _added(attn_mask, query)
    return torch._scaled_dot_product_attention_math(
        query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
    )[0]


def _rows_with_tangent(
    q: Tensor, q_dot: Tensor, k: Tensor, k_dot: Tensor, v: Tensor, v_dot: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """O and Ȯ for queries that are scaled already."""
    attention = (q @ k.mT).add_(mask).softmax(-1)
    # Q̇ Kᵀ + Q K̇ᵀ is computed as one product.
    moved = (torch.cat([q_dot, q], -1) @ torch.cat([k, k_dot], -1).mT).mul_(attention)
    output = attention @ v
    tangent = (moved @ v).add_(attention @ v_dot).sub_(moved.sum(-1, keepdim=True) * output)
    return output, tangent


def _additive_mask(given: Tensor | None, is_causal: bool, query: Tensor, key: Tensor) -> Tensor | None:
    """The term that is added to the scores, broadcastable to (B, H, L, S); None if a row of it lets nothing through."""
    if given is not None and (is_causal or forward_ad.unpack_dual(given).tangent is not None):
        return None
    mask = query.new_zeros(1, 1, 1, 1) if given is None else given
    if is_causal:
        allowed = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
        mask = allowed[None, None]
    if mask.dtype == torch.bool:
        mask = _added(mask, query)
    mask = mask.reshape((1,) * (4 - mask.dim()) + tuple(mask.shape))
    return mask if bool((mask > -torch.inf).any(-1).all()) else None


def _added(mask: Tensor, query: Tensor) -> Tensor:
    """A bool mask as a term that is added to the scores: 0 or −∞."""
    return query.new_zeros(mask.shape).masked_fill_(~mask, -torch.inf)
