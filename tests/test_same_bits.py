"""scripts/same_bits.py sees any difference in a file, says where it is, and tells caches and figures apart."""

import json
import runpy
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

SCRIPT = runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "same_bits.py"))
FILES = {
    "training.json": {"loss": [0.5, 0.25], "time": {"total": 3.0}, "output_dir": "ROOT/model"},
    "grid.json": {"fingerprint": {"rows": "blake2b:1"}, "lms": float("nan")},
    "data.csv": "a,b\n1,2\n",
    "model.safetensors": {"weight": torch.tensor([1.0, float("nan")]), "bias": torch.zeros(2, dtype=torch.bfloat16)},
    "plot.png": b"pixels",
    "cache/gradients/diff_1.safetensors": {"gradient": torch.ones(2)},
    "rows.parquet": pd.DataFrame({"masked": ["a", "b"]}),
}


def side(root, changes):
    """The files of one side, some of them with another content (None: no such file)."""
    for name, content in {**FILES, **changes}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, str):
            path.write_text(content)
        elif isinstance(content, pd.DataFrame):
            content.to_parquet(path)
        elif content is not None and path.suffix == ".safetensors":
            save_file(content, path, metadata={"format": "pt"})
        elif content is not None:
            path.write_text(json.dumps(content).replace("ROOT", str(root)))
    return SCRIPT["Side"](root, root / "tree")


def differences(tmp_path, changes):
    return SCRIPT["compare"](side(tmp_path / "old", {}), side(tmp_path / "new", changes))


def test_places_and_durations_are_no_difference(tmp_path):
    changes = {"training.json": {"loss": [0.5, 0.25], "time": {"total": 9.0}, "output_dir": "ROOT/model"}}
    assert differences(tmp_path, changes) == {"numbers and files": [], "figures": [], "cache files": []}


@pytest.mark.parametrize(
    ("name", "content", "section", "said"),
    [
        ("training.json", {**FILES["training.json"], "loss": [0.5, 0.5]}, 0, "/loss/1: '0.25' → '0.5', relative 1"),
        ("training.json", {"loss": [0.5, 0.25]}, 0, "/output_dir: is gone"),
        ("data.csv", "a,b\n1,3\n", 0, "line 2: '1,2' → '1,3'"),
        ("model.safetensors", {**FILES["model.safetensors"], "weight": torch.tensor([1.0, 2.0])}, 0, "weight: ‖new"),
        ("model.safetensors", {**FILES["model.safetensors"], "bias": -torch.zeros(2).bfloat16()}, 0, "bias: ‖new"),
        ("rows.parquet", pd.DataFrame({"masked": ["a", "c"]}), 0, "row 1, masked: 'b' → 'c'"),
        ("new.json", {}, 0, "is new"),
        ("plot.png", b"other", 1, "bytes: 6 → 5 bytes"),
        ("grid.json", {**FILES["grid.json"], "fingerprint": {"rows": "blake2b:2"}}, 2, "/fingerprint/rows"),
        ("cache/gradients/diff_1.safetensors", None, 2, "is gone"),
    ],
)  # fmt: skip
def test_a_difference_is_placed_and_sized(tmp_path, name, content, section, said):
    found = differences(tmp_path, {name: content})
    lines = {name: lines for name, lines in found.items() if lines}
    assert list(lines) == [SCRIPT["SECTIONS"][section]]
    (line,) = lines[SCRIPT["SECTIONS"][section]]
    assert line.startswith(name)
    assert said in line
