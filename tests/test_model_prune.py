"""Pruning: which dimensions stay, and that nothing else changes."""

from __future__ import annotations

import model_cases
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_cases import KINDS, same_bits

from gradiend.model import GradiendModel

N = 12
quick = settings(deadline=None, max_examples=60)
few_values = st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=N, max_size=N)
criteria = st.fixed_dictionaries(
    {
        "mask": st.none() | st.lists(st.booleans(), min_size=N, max_size=N),
        "threshold": st.none() | st.sampled_from([-1.0, 0.5, 1.0, 5.0]),
        "topk": st.none() | st.integers(0, N + 2) | st.floats(0.01, 1.0),
    }
)


def random_model(n=N, latent_dim=1, **kwargs):
    model = GradiendModel(n, latent_dim, **kwargs)
    model_cases.randomise(model)
    return model


def naive_kept(importance, mask, threshold, topk):
    left = [i for i in range(N) if mask is None or mask[i]]
    if threshold is not None:
        left = [i for i in left if importance[i] >= threshold]
    if topk is not None and left:
        count = topk if isinstance(topk, int) else round(topk * len(left))
        left = sorted(left, key=lambda i: -importance[i])[: max(1, count)]
    return sorted(left)


@quick
@given(few_values, criteria)
def test_criteria_apply_in_the_order_mask_threshold_topk(importance, given_criteria):
    arguments = {key: value for key, value in given_criteria.items() if value is not None}
    kept = naive_kept(importance, **given_criteria)
    if "mask" in arguments:
        arguments["mask"] = torch.tensor(arguments["mask"])
    model = random_model()
    if not arguments or not kept:
        with pytest.raises(ValueError, match="criterion" if not arguments else "nothing"):
            model.prune(**arguments, importance=torch.tensor(importance))
        return
    small, mask = model.prune(**arguments, importance=torch.tensor(importance), return_mask=True)
    assert mask.nonzero().squeeze(1).tolist() == kept
    assert (mask.dtype, mask.shape) == (torch.bool, (N,))
    assert small.input_dim == len(small) == small.pruned_length() == len(kept)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.uint8, torch.bool, torch.float16], ids=str)
def test_an_importance_of_any_dtype_counts_by_its_values(dtype):
    importance = torch.tensor([-3, 0, 5, -1, 5, 2, -7, 1, 0, 0, -2, 4]).to(dtype)
    values = importance.tolist()
    for topk in (1, 4, 9):
        kept = sorted(sorted(range(N), key=lambda i: -values[i])[:topk])
        mask = random_model().prune(topk=topk, importance=importance, return_mask=True)[1]
        assert mask.nonzero().squeeze(1).tolist() == kept


@pytest.mark.parametrize("latent_dim", [1, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_the_weights_of_the_kept_dimensions_stay(latent_dim, bias):
    model = random_model(latent_dim=latent_dim, bias_decoder=bias)
    before = model_cases.bits(model)
    keep = torch.arange(N) % 3 != 0
    small = model.prune(mask=keep)
    assert same_bits(model_cases.bits(model), before)
    expected = {
        name: tensor if name == "encoder.0.linear.bias" else tensor[:, keep] if "encoder" in name else tensor[keep]
        for name, tensor in before.items()
    }
    assert same_bits(model_cases.bits(small), expected)
    # A pruned network is the whole one on inputs that are zero elsewhere.
    x = torch.randn(N) * keep
    torch.testing.assert_close(small.forward_encoder(x[keep]), model.forward_encoder(x))
    torch.testing.assert_close(small(x[keep]), model(x)[keep])


def test_inplace_returns_the_same_object_and_a_copy_shares_nothing():
    model = random_model()
    copy = model.prune(topk=1.0)
    assert copy is not model
    assert not {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in copy.parameters()}
    assert model.prune(topk=5, inplace=True) is model
    assert len(model) == 5
    same, mask = model.prune(topk=4, inplace=True, return_mask=True)
    assert same is model
    assert int(mask.sum()) == 4


@pytest.mark.parametrize("part", ["encoder-weight", "decoder-weight", "decoder-bias", "decoder-sum"])
def test_the_importance_of_a_part_decides(part):
    model = random_model(latent_dim=2)
    _, mask = model.prune(topk=4, part=part, return_mask=True)
    assert mask.nonzero().squeeze(1).tolist() == sorted(model.get_topk_weights(part, 4))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("topk", [1, 3, 0.5])
def test_prune_then_map_is_map_then_select(kind, topk):
    model = model_cases.network(KINDS[kind])
    generator = torch.Generator().manual_seed(4)
    full = {name: torch.randn(entry["shape"], generator=generator) for name, entry in KINDS[kind].items()}
    small, mask = model.prune(topk=topk, return_mask=True)
    assert torch.equal(small.flatten_gradient_dict(full), model.flatten_gradient_dict(full)[mask])
    assert torch.equal(small.mapping.base_indices(), model.mapping.base_indices()[mask])
    assert list(small.param_map) == list(model.param_map)
    assert small.unpruned_length() == model.unpruned_length()
    assert small.param_map_hash != model.param_map_hash
    decoded = small(full)
    assert sum(int(tensor.count_nonzero()) for tensor in decoded.values()) == len(small)


def test_pruning_twice_is_pruning_once():
    model = model_cases.network(KINDS["mixed"])
    first, second = (torch.arange(size) % step != 0 for size, step in ((14, 3), (9, 4)))
    both = first.clone()
    both[first] = second
    twice, once = model.prune(mask=first).prune(mask=second), model.prune(mask=both)
    assert twice.param_map_hash == once.param_map_hash
    assert same_bits(model_cases.bits(twice), model_cases.bits(once))


def test_a_lazy_map_is_narrowed_before_weights_exist():
    model = model_cases.ParamMappedGradiendModel(14, 1, KINDS["mixed"], lazy_init=True)
    small = model.prune(topk=0.5, importance=torch.arange(14.0))
    assert small.encoder_linear.weight.shape == (1, 7)
    assert torch.equal(small.mapping.base_indices(), model.mapping.base_indices()[7:])
    assert model.encoder is None


TRUE = torch.ones(N, dtype=torch.bool)
BAD = {
    "no criterion": ({}, "criterion"),
    "mask of integers": ({"mask": TRUE.int()}, "bool"),
    "mask of another length": ({"mask": TRUE[1:]}, r"shape \(12,\)"),
    "2-D mask": ({"mask": TRUE.unsqueeze(0)}, r"shape \(12,\)"),
    "list as mask": ({"mask": [True] * N}, "got list"),
    "empty mask": ({"mask": ~TRUE}, "nothing"),
    "threshold above all": ({"threshold": 1e9}, "nothing"),
    "negative topk": ({"topk": -1}, "negative"),
    "float topk above one": ({"topk": 1.01}, r"\(0, 1\]"),
    "float topk of zero": ({"topk": 0.0}, r"\(0, 1\]"),
    "another part": ({"topk": 1, "part": "decoder"}, "part must be one of"),
    "another part with importance": ({"topk": 1, "part": "x", "importance": TRUE.float()}, "part must be one of"),
    "short importance": ({"topk": 1, "importance": torch.ones(3)}, r"shape \(12,\)"),
    "undefined importance": ({"topk": 1, "importance": torch.full((N,), torch.nan)}, "NaN"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("inplace", [False, True])
def test_bad_criteria_are_refused_and_nothing_changes(case, inplace):
    arguments, words = BAD[case]
    model = random_model()
    with pytest.raises(ValueError, match=words):
        model.prune(**arguments, inplace=inplace)
    assert len(model) == N


def test_small_and_large_counts():
    model = random_model()
    assert [len(model.prune(topk=topk)) for topk in (0, 1, N, N + 1, 0.001, 1.0, 0.125, 0.375)] == [
        1, 1, N, N, 1, N, 2, 4,
    ]  # fmt: skip
