"""The most important dimensions by name: they are the weights of the base model at the places that they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from model_cases import model_with_gradiend, spec

from gradiend.util._files import read_json

SPECS = {
    "body.emb.weight": spec((9, 4), "mask", [1, 5, 6, 7, 20, 35]),
    "body.dense.bias": spec((4,), "all"),
    "body.dense.weight": spec((4, 4), "indices", [9, 2, 11, 4]),
}
KEYS = """rank part importance local_input_index base_global_index param_name flat_index_in_param param_row param_col
    coords param_shape param_numel""".split()


@pytest.mark.parametrize("part", ["encoder-weight", "decoder-weight", "decoder-bias", "decoder-sum"])
@pytest.mark.parametrize("topk", [1, 5, 0.5, 100])
def test_rows_name_the_weights_by_falling_importance(part: str, topk: float) -> None:
    model = model_with_gradiend(SPECS, latent_dim=2)
    rows = model.get_topk_feature_metadata(part, topk)
    assert all(list(row) == KEYS for row in rows)
    local = model.gradiend.get_topk_weights(part, topk)
    assert [row["local_input_index"] for row in rows] == local
    assert [row["base_global_index"] for row in rows] == model.get_topk_weights(part, topk)
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    importance = model.get_weight_importance(part)
    assert [row["importance"] for row in rows] == importance[torch.tensor(local)].tolist()
    # A gradient that marks each entry with its name tells where it really is.
    names = list(SPECS)
    marked = {
        name: 1000.0 * number + torch.arange(float(np.prod(SPECS[name]["shape"]))).view(SPECS[name]["shape"])
        for number, name in enumerate(names)
    }
    flat = model.gradiend.flatten_gradient_dict(marked)
    for row in rows:
        name, index = row["param_name"], row["flat_index_in_param"]
        assert flat[row["local_input_index"]] == 1000 * names.index(name) + index
        assert float(marked[name][tuple(row["coords"])]) == 1000 * names.index(name) + index
        assert tuple(row["param_shape"]) == tuple(marked[name].shape)
        assert row["param_numel"] == marked[name].numel()
        assert row["part"] == part
        matrix = marked[name].dim() == 2
        assert [row["param_row"], row["param_col"]] == (row["coords"] if matrix else [None, None])


def test_both_kinds_of_file_hold_the_rows(tmp_path: Path) -> None:
    model = model_with_gradiend(SPECS)
    rows = model.get_topk_feature_metadata(topk=8)
    assert model.export_topk_features(tmp_path / "new" / "top.json", topk=8) == str(tmp_path / "new" / "top.json")
    assert read_json(tmp_path / "new" / "top.json") == rows
    frame = pd.read_csv(model.export_topk_features(tmp_path / "top.CSV", topk=8))
    assert list(frame.columns) == KEYS
    for name in ("rank", "local_input_index", "param_name", "flat_index_in_param"):
        assert frame[name].tolist() == [row[name] for row in rows]
    written = frame["param_row"].tolist()
    assert ["" if np.isnan(row) else str(int(row)) for row in written] == [
        "" if row["param_row"] is None else str(row["param_row"]) for row in rows
    ]
    assert ".0" not in (tmp_path / "top.CSV").read_text().split("\n")[1].split(",")[7]


def test_another_file_is_refused_before_any_weight_is_ranked(tmp_path: Path) -> None:
    model = model_with_gradiend(SPECS)
    for name in ("top.txt", "top"):
        with pytest.raises(ValueError, match=r"\.json or \.csv"):
            model.export_topk_features(tmp_path / name)
    with pytest.raises(ValueError, match="part must be one of"):
        model.export_topk_features(tmp_path / "top.csv", part="decoder")
    with pytest.raises(TypeError, match="Did you mean 'topk'"):
        model.get_topk_feature_metadata(top_k=3)
    assert not list(tmp_path.iterdir())


def test_keep_idx_is_a_mask() -> None:
    model = model_with_gradiend(SPECS)
    keep = [7, 2, 3]
    pruned = model.prune_gradiend(keep_idx=keep, inplace=False)
    mask = torch.zeros(len(model), dtype=torch.bool)
    mask[keep] = True
    by_mask = model.prune_gradiend(mask=mask, inplace=False)
    assert pruned.gradiend.weights_hash() == by_mask.gradiend.weights_hash()
    assert pruned.param_map_hash == by_mask.param_map_hash
    both, kept = model.prune_gradiend(keep_idx=torch.tensor(keep), topk=2, inplace=False, return_mask=True)
    assert len(both) == 2
    assert set(kept.nonzero().flatten().tolist()) < set(keep)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"keep_idx": [14]}, ValueError, r"\[0, 14\)"),
        ({"keep_idx": [-1]}, ValueError, r"\[0, 14\)"),
        ({"keep_idx": []}, ValueError, "keep nothing"),
        ({"keep_idx": [0.5]}, TypeError, "list of input dimensions"),
        ({"keep_idx": [[1]]}, TypeError, "list of input dimensions"),
        ({"keep_idx": [1], "mask": torch.ones(14, dtype=torch.bool)}, ValueError, "one of them"),
    ],
)
def test_bad_keep_idx(options: dict, error: type[Exception], message: str) -> None:
    model = model_with_gradiend(SPECS)
    with pytest.raises(error, match=message):
        model.prune_gradiend(**options)
    assert len(model) == 14
