"""Data sets of the hub: local folders in the layouts of hub repositories, offline."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import pandas as pd
import pytest

datasets = pytest.importorskip("datasets")

from gradiend.data.core._datasets import hub_config_names, load_hub_dataset  # noqa: E402


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def frame(word: str, n: int = 3) -> pd.DataFrame:
    return pd.DataFrame({"masked": [f"[MASK] no. {i}" for i in range(n)], "label": [word] * n})


def write(path: Path, data: pd.DataFrame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        data.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        data.to_parquet(path)
    else:
        lines = "".join(json.dumps(row) + "\n" for row in data.to_dict("records"))
        path.write_bytes(gzip.compress(lines.encode()) if path.suffix == ".gz" else lines.encode())


def repository(folder: Path, suffix: str = "csv", splits: tuple[str, ...] = ("train", "test")) -> Path:
    """Two configs in sub-folders, listed in the card."""
    card = ["---", "configs:"]
    for config, word in (("masc", "he"), ("fem", "she")):
        card += [f"- config_name: {config}", "  data_files:"]
        for split in splits:
            write(folder / config / f"{split}.{suffix}", frame(f"{word}-{split}"))
            card += [f"  - split: {split}", f"    path: {config}/{split}.{suffix}"]
    (folder / "README.md").write_text("\n".join([*card, "---", ""]))
    return folder


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl", "jsonl.gz"])
def test_configs_and_splits_of_a_repository(tmp_path: Path, suffix: str) -> None:
    folder = repository(tmp_path / "repo", suffix)
    assert hub_config_names(folder) == ["masc", "fem"]
    everything = load_hub_dataset(str(folder), "fem")
    assert {split: set(part["label"]) for split, part in everything.items()} == {
        "train": {"she-train"},
        "test": {"she-test"},
    }
    part = load_hub_dataset(folder, "masc", split="test")
    pd.testing.assert_frame_equal(part.to_pandas(), frame("he-test"))
    assert len(load_hub_dataset(folder, "masc", split="train[:1]+test")) == 4


def test_words_that_pandas_takes_for_missing_stay_words(tmp_path: Path) -> None:
    words = ["NA", "null", "None", "nan", ""]
    write(tmp_path / "train.csv", pd.DataFrame({"masked": "[MASK] came", "label": words}))
    assert load_hub_dataset(tmp_path, split="train")["label"][:] == [*words[:-1], None]
    write(tmp_path / "test.csv", pd.DataFrame({"masked": "[MASK] came", "label": words}))
    write(tmp_path / "validation.csv", frame("null"))
    assert set(load_hub_dataset(tmp_path, split="val")["label"]) == {"null"}


def test_a_folder_without_a_card_has_one_config(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", frame("he"))
    write(tmp_path / "test.csv", frame("she"))
    assert hub_config_names(tmp_path) == ["default"]
    assert sorted(load_hub_dataset(tmp_path)) == ["test", "train"]


def test_saved_datasets_are_loaded_too(tmp_path: Path) -> None:
    whole = {name: datasets.Dataset.from_pandas(frame(name)) for name in ("train", "validation")}
    datasets.DatasetDict(whole).save_to_disk(tmp_path / "classes" / "fem")
    datasets.DatasetDict(whole).save_to_disk(tmp_path / "classes" / "masc")
    whole["train"].save_to_disk(tmp_path / "alone")
    assert hub_config_names(tmp_path / "classes") == ["fem", "masc"]
    assert hub_config_names(tmp_path / "classes" / "fem") == hub_config_names(tmp_path / "alone") == ["default"]
    assert load_hub_dataset(tmp_path / "classes", "masc", split="val")["label"][:] == ["validation"] * 3
    assert sorted(load_hub_dataset(tmp_path / "classes" / "fem")) == ["train", "validation"]
    assert len(load_hub_dataset(tmp_path / "alone")) == len(load_hub_dataset(tmp_path / "alone", split="train")) == 3
    table = [
        ((tmp_path / "classes", None), {}, "Name the config.*fem, masc"),
        ((tmp_path / "classes", "mask"), {}, "no config 'mask'.*fem, masc.*'masc'"),
        ((tmp_path / "alone", "masc"), {}, "no config 'masc'.*default"),
        ((tmp_path / "alone",), {"split": "test"}, "'test'.*train"),
        ((tmp_path / "classes", "fem"), {"split": "test"}, "'test'.*train, validation"),
    ]
    for args, kwargs, message in table:
        with pytest.raises(ValueError, match=message):
            load_hub_dataset(*args, **kwargs)


@pytest.mark.parametrize(("present", "asked"), [("val", "validation"), ("validation", "val")])
def test_the_validation_split_has_two_names(tmp_path: Path, present: str, asked: str) -> None:
    folder = repository(tmp_path, splits=("train", present))
    found = set(load_hub_dataset(folder, "fem", split=asked)["label"])
    assert found == {f"she-{present}"}


def test_what_is_missing_is_named_with_what_is_there(tmp_path: Path) -> None:
    folder = repository(tmp_path / "repo")
    (tmp_path / "empty").mkdir()
    (tmp_path / "script").mkdir()
    (tmp_path / "script" / "script.py").write_text("raise AssertionError('was run')")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "train.parquet").write_bytes(b"PAR1 no")
    table = [
        ((folder,), {}, ValueError, "Name the config.*masc, fem"),
        ((folder, "fam"), {}, ValueError, "no config 'fam'.*masc, fem.*'fem'"),
        ((folder, "fem"), {"split": "validation"}, ValueError, "no split 'validation'.*train, test"),
        ((folder, "fem"), {"split": "train[:x]"}, ValueError, "cannot be read"),
        ((folder, "fem"), {"trust_remote_code": True}, ValueError, "datasets<4"),
        ((folder / "README.md",), {}, ValueError, "is a file"),
        ((tmp_path / "empty",), {}, FileNotFoundError, "no data files"),
        ((tmp_path / "script",), {}, ValueError, "script"),
        ((tmp_path / "broken",), {}, ValueError, "cannot be read"),
        ((tmp_path / "none",), {}, FileNotFoundError, "no folder"),
        (("no such thing",), {}, FileNotFoundError, "no folder"),
        (("owner/name",), {}, ConnectionError, "cannot be reached.*HF_HUB_OFFLINE"),
    ]
    for args, kwargs, error, message in table:
        with pytest.raises(error, match=message):
            load_hub_dataset(*args, **kwargs)
    for name, error, message in [
        ("owner/name", ConnectionError, "cannot be reached"),
        (tmp_path / "empty", FileNotFoundError, "no data files"),
        (tmp_path / "script", ValueError, "script"),
    ]:
        with pytest.raises(error, match=message):
            hub_config_names(name)


def test_without_the_package_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.setattr("gradiend.util.optional.find_spec", lambda name: None)
    for call in (load_hub_dataset, hub_config_names):
        with pytest.raises(ImportError, match=r"needs datasets: pip install datasets \("):
            call(tmp_path)
