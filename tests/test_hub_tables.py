"""Data sets as trainer input: local folders in the layouts of a hub repository and of save_to_disk."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from gradiend import TextPredictionConfig, TextPredictionTrainer, TrainingArguments
from gradiend.demo import model_path, sentences
from gradiend.trainer.text.prediction.unified_data import load_hf_per_class, resolve_dataframe

datasets = pytest.importorskip("datasets")

WORDS = {"masc_nom": "der", "fem_nom": "die", "neut_nom": "das"}
SPLITS = {"train": 4, "validation": 2, "test": 2}


def rows(name: str, split: str) -> pd.DataFrame:
    masked = [f"{name} {split} {i}: da war [MASK] ." for i in range(SPLITS[split])]
    return pd.DataFrame({"masked": masked, name: WORDS[name]})


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """The cache of `datasets` in a folder of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
        datasets.disable_progress_bars()
        yield
        datasets.enable_progress_bars()


@pytest.fixture(scope="module")
def per_class(tmp_path_factory) -> Path:
    """A hub repository with a config for each class."""
    folder = tmp_path_factory.mktemp("articles")
    card = ["---", "configs:"]
    for name in WORDS:
        card += [f"- config_name: {name}", "  data_files:"]
        for split in SPLITS:
            (folder / name).mkdir(exist_ok=True)
            rows(name, split).to_csv(folder / name / f"{split}.csv", index=False)
            card += [f"  - split: {split}", f"    path: {name}/{split}.csv"]
    (folder / "README.md").write_text("\n".join([*card, "---"]))
    return folder


@pytest.fixture(scope="module")
def merged(tmp_path_factory) -> Path:
    """A hub repository with one table for all classes, and one with neutral texts beside it."""
    folder = tmp_path_factory.mktemp("merged")
    for split in SPLITS:
        frames = [rows(name, split).rename(columns={name: "label"}).assign(label_class=name) for name in WORDS]
        pd.concat(frames).to_json(folder / f"{split}.jsonl", orient="records", lines=True)
    return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """What save_to_disk writes, in one sub-folder for each class."""
    folder = tmp_path_factory.mktemp("saved")
    for name in WORDS:
        splits = {split: datasets.Dataset.from_pandas(rows(name, split)) for split in SPLITS}
        datasets.DatasetDict(splits).save_to_disk(str(folder / name))
    return folder


def trainer(data=None, **fields) -> TextPredictionTrainer:
    return TextPredictionTrainer("no/such-model", data=data, **{"target_classes": ["masc_nom", "fem_nom"], **fields})


def expected(data) -> pd.DataFrame:
    columns = ["masked", "split", "factual_class", "alternative_class", "factual", "alternative", "transition"]
    return data[columns].sort_values(columns, ignore_index=True)


@pytest.fixture(scope="module")
def frames() -> dict[str, pd.DataFrame]:
    return {name: pd.concat([rows(name, split).assign(split=split) for split in SPLITS]) for name in WORDS}


def test_every_layout_gives_the_same_rows(per_class, merged, saved, frames) -> None:
    reference = expected(trainer(frames).combined_data)
    assert reference.groupby("split").size().to_dict() == {"train": 8, "validation": 4, "test": 4}
    roads = [trainer(str(folder)) for folder in (per_class, merged, saved)]
    roads += [trainer(hf_dataset=str(merged)), trainer(hf_dataset=str(per_class), hf_subset=list(WORDS))]
    for road in roads:
        pd.testing.assert_frame_equal(expected(road.combined_data), reference, check_dtype=False)
        assert sorted(road.all_classes) == sorted(WORDS)
        assert set(road.other_data["factual_class"]) == {"neut_nom"}


def test_configs_and_splits_can_be_chosen(per_class, merged) -> None:
    two = trainer(str(per_class), hf_subset=["fem_nom", "masc_nom"], target_classes=None, hf_splits=["val", "test"])
    assert two.target_classes == ["fem_nom", "masc_nom"]
    assert set(two.combined_data["split"]) == {"validation", "test"}
    assert set(trainer(hf_dataset=str(merged), hf_splits=["train"]).combined_data["split"]) == {"train"}
    one = trainer(hf_dataset=str(merged), hf_subset="default")
    assert set(one.combined_data["split"]) == set(SPLITS)


def test_tables_per_class(per_class) -> None:
    tables = load_hf_per_class(str(per_class))
    assert list(tables) == list(WORDS)
    assert tables["masc_nom"].groupby("split").size().to_dict() == SPLITS
    only = load_hf_per_class(str(per_class), ["fem_nom"], ["train"])
    assert {name: len(table) for name, table in only.items()} == {"fem_nom": 4}
    renamed = load_hf_per_class(str(per_class), "neut_nom", split_col="part")["neut_nom"]
    assert set(renamed["part"]) == set(SPLITS)


def test_a_split_column_of_the_data_itself_stays(tmp_path) -> None:
    pd.DataFrame({"masked": ["a [MASK]", "b [MASK]"], "split": ["test", "val"]}).to_csv(tmp_path / "train.csv")
    assert load_hf_per_class(str(tmp_path), "default")["default"]["split"].tolist() == ["test", "val"]


def test_neutral_texts_and_single_tables(merged, tmp_path) -> None:
    texts = pd.DataFrame({"text": [f"Es regnet {i}." for i in range(5)]})
    texts.to_csv(tmp_path / "train.csv", index=False)
    neutral = trainer(pd.DataFrame(), eval_neutral_data=str(tmp_path), eval_neutral_max_rows=3).neutral_data
    assert neutral["text"].tolist() == texts["text"].tolist()[:3]
    assert len(resolve_dataframe(str(merged))) == 12
    assert len(resolve_dataframe(str(merged), "val")) == 6
    assert len(resolve_dataframe(str(merged), "test", 1)) == 1


def test_json_lines_keep_words_as_words(tmp_path) -> None:
    table = pd.DataFrame({"masked": ["[MASK] 1", "[MASK] 2"], "label": ["null", "2020-01-01"], "n": ["01", "1"]})
    for name in ("t.jsonl", "t.jsonl.gz"):
        table.to_json(tmp_path / name, orient="records", lines=True)
        pd.testing.assert_frame_equal(resolve_dataframe(tmp_path / name), table)
    table.to_csv(tmp_path / "t.csv.gz", index=False)
    assert resolve_dataframe(tmp_path / "t.csv.gz")["label"].tolist() == ["null", "2020-01-01"]


def test_both_names_of_the_data(merged, frames, caplog) -> None:
    both = trainer(frames, hf_dataset=str(merged), hf_splits=["train"])
    assert set(both.combined_data["split"]) == {"train"}
    assert "hf_dataset" in caplog.text


def test_classes_of_a_data_set_can_be_merged(per_class) -> None:
    both = trainer(
        str(per_class), target_classes=None, class_merge_map={"mf": ["masc_nom", "fem_nom"], "n": ["neut_nom"]}
    )
    assert both.combined_data["transition"].value_counts().to_dict() == {"mf→n": 16, "n→mf": 8}


BAD = {
    "an unknown class": (lambda folder: load_hf_per_class(folder, ["masc"]), ValueError, "masc_nom"),
    "an unknown split": (lambda folder: load_hf_per_class(folder, splits=["dev"]), ValueError, "dev.*train"),
    "a missing column": (
        lambda folder: load_hf_per_class(folder, masked_col="text"), ValueError, "'masc_nom'.*no column 'text'.*masked"
    ),
    "several configs as one table": (lambda folder: trainer(hf_dataset=folder).combined_data, ValueError, "fem_nom"),
    "no such folder": (lambda folder: trainer(folder + "/x/y").combined_data, FileNotFoundError, "no folder"),
    "a folder as a Path": (lambda folder: trainer(Path(folder)).combined_data, FileNotFoundError, "as a string"),
    "a list": (lambda folder: trainer([folder]).combined_data, TypeError, "got list"),
    "no text column": (
        lambda folder: trainer({}, eval_neutral_data=folder).neutral_data, ValueError, "config"
    ),
    "remote code": (
        lambda folder: trainer(folder, dataset_trust_remote_code=True).combined_data, ValueError, "trust_remote_code"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_data_sets(case, per_class) -> None:
    make, error, message = BAD[case]
    if case == "remote code" and int(datasets.__version__.split(".")[0]) < 4:
        pytest.skip("this version of datasets can run remote code")
    with pytest.raises(error, match=message):
        make(str(per_class))


def test_the_documented_configuration_trains_as_written(tmp_path) -> None:
    data, neutral = tmp_path / "data", tmp_path / "neutral"
    for name, word in (("masc_nom", "he"), ("fem_nom", "she")):
        texts = [f"The baker said {'very ' * i}loud that [MASK] was in the garden." for i in range(40)]
        splits = {"train": texts[:20], "validation": texts[20:30], "test": texts[30:]}
        rows = {split: pd.DataFrame({"masked": part, name: word}) for split, part in splits.items()}
        datasets.DatasetDict({split: datasets.Dataset.from_pandas(part) for split, part in rows.items()}).save_to_disk(
            str(data / name)
        )
    neutral.mkdir()
    pd.DataFrame({"text": sentences(30)}).to_csv(neutral / "train.csv", index=False)

    config = TextPredictionConfig(
        data=str(data),
        target_classes=["masc_nom", "fem_nom"],
        masked_col="masked",
        split_col="split",
        eval_neutral_data=str(neutral),
    )
    args = TrainingArguments(train_batch_size=4, max_steps=2, learning_rate=1e-4, params=["*layer.0*"], max_seeds=1)
    configured = TextPredictionTrainer(model=str(model_path()), config=config, args=args)
    configured.train()
    assert len(configured.get_training_stats()["losses"]) == 2
    frame = configured.evaluate_encoder(return_df=True)["encoder_df"]
    assert set(frame["type"]) == {"training", "neutral_training_masked", "neutral_dataset"}
