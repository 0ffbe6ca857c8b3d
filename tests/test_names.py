"""Class names and run ids of any kind: nothing is written outside the folder, and nothing is lost to a name."""

from pathlib import Path

import pandas as pd
import pytest
import tiny_data

from gradiend import TextPredictionTrainer, read_rewrite_record
from gradiend.evaluator import LMSThresholdPolicy, read_decoder_stats_file
from gradiend.trainer.text import TextPredictionModelWithGradiend
from gradiend.util import paths
from gradiend.util._files import read_checked_json
from gradiend.util.paths import name_in, safe_name, safe_path

SAFE = [
    "3SG",
    "C++",
    "n't",
    "%",
    "masculine nominative",
    "Männlich",
    "一人称",
    "he,she",
    "v1.2",
    "it-3",
    "ſ",
    "a" * 150,
]
UNSAFE = [
    "../../x", "/abs/x", "a/b", "a\\b", "..", ".", "", " ", ".hidden", "x.", "x ", "CON", "con.txt", "LPT1", "nul",
    "a\0b", "a\nb", "a:b", "a*", 'a"b', "<a>", "a|b", "a?", "x" * 300, "ä" * 200, "~/x/..", "C:\\x", "\ud800",
]  # fmt: skip


@pytest.mark.parametrize("name", SAFE)
def test_a_safe_name_stays(name):
    assert safe_name(name) == name


@pytest.mark.parametrize("name", UNSAFE)
def test_any_other_name_becomes_one_entry_of_the_folder(name, tmp_path):
    safe = safe_name(name)
    assert safe != name
    assert safe == safe_name(name)
    assert safe_name(safe) == safe
    (tmp_path / safe).write_text("")
    assert [path.name for path in tmp_path.iterdir()] == [safe]
    assert len(f"decoder_stats_metric_name_{safe}_weaken.json".encode()) < 240


def test_different_names_are_different_files():
    assert len({safe_name(name).casefold() for name in [*SAFE, *UNSAFE]}) == len(SAFE) + len(UNSAFE)


def test_names_that_differ_only_by_case_and_our_own_are_told_apart(tmp_path):
    (tmp_path / "Male").mkdir()
    other = name_in(tmp_path, "male")
    assert other.startswith("male-")
    assert name_in(tmp_path, "Male") == "Male"
    (tmp_path / other).mkdir()
    assert name_in(tmp_path, "male") == other
    assert name_in(tmp_path / "missing", "male") == "male"
    assert name_in(tmp_path, "FEMALE", ".safetensors", ["Female.safetensors"]).startswith("FEMALE-")
    assert name_in(tmp_path, "Mu\u0308ll") == "Mu\u0308ll"
    (tmp_path / "M\u00fcll").mkdir()
    assert name_in(tmp_path, "Mu\u0308ll") != "Mu\u0308ll"
    for own in ("model", "Model", "seeds", "cache", "decoder", "deltas"):
        assert name_in(tmp_path, own).startswith(f"{own}-")


@pytest.mark.parametrize("run_id", ["../../x", "/abs/x", "..", "a/../../b", "a//b", "model", "x/", "CON", "n" * 300])
def test_a_run_stays_inside_the_experiment(run_id, tmp_path, path):
    root = tmp_path / "exp"
    trainer = tiny_data.trainer(path, {"experiment_dir": str(root)}, run_id=run_id).train()
    assert Path(trainer.model_path).resolve().is_relative_to(root.resolve())
    folder = Path(trainer.experiment_dir).name
    assert read_checked_json(root / "names.json") == {folder: run_id}
    assert {entry.name for entry in root.iterdir()} == {folder, "names.json"}
    assert list(tmp_path.iterdir()) == [root]


def test_a_run_may_be_a_subfolder():
    assert safe_path("bert/seed 1") == "bert/seed 1"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tiny_data.save_bert(tmp_path_factory.mktemp("base"))


def named(first, second):
    rows = tiny_data.rows()
    return rows.assign(label_class=rows["label_class"].map({"SG": first, "PL": second}))


@pytest.mark.parametrize(
    "classes",
    [
        ("../../x", "/abs/x"),
        ("Male", "male"),
        ("a\0b", ".."),
        *(
            pytest.param(one, marks=pytest.mark.slow)
            for one in (("a/b", "a_b"), ("model", "seeds"), ("CON", "x" * 300))
        ),
    ],
)
def test_a_whole_run_with_odd_class_names(classes, path, tmp_path):
    root = tmp_path / "deep" / "exp"
    trainer = TextPredictionTrainer(
        path, data=named(*classes), target_classes=list(classes),
        args=tiny_data.trainer(path, {"experiment_dir": str(root)}).training_args,
    )  # fmt: skip
    trainer.train()
    trainer.evaluate_encoder()
    lenient = {"lrs": [0.1, 0.5], "selector": LMSThresholdPolicy(ratio=0.0)}
    results = trainer.evaluate_decoder(**lenient)
    weak = trainer.evaluate_decoder(**lenient, increase_target_probabilities=False)
    for name in classes:
        found = read_decoder_stats_file(paths.resolve_decoder_stats_path(str(root), metric_name=name))
        assert (found[name], found[f"{name}_weaken"]) == (results[name], weak[f"{name}_weaken"])
        assert trainer.rewrite_base_model(target_class=name) is not None
    places = trainer.rewrite_base_model(results, list(classes), output_dir="anything")
    assert trainer.rewrite_base_model(results, list(classes), output_dir="anything") == places
    assert [read_rewrite_record(place).choice.target_class for place in places] == list(classes)
    deltas = trainer.export_delta(results, list(classes))
    assert len({*places, *deltas}) == 4
    for place in (*places, *deltas):
        assert Path(place).resolve().is_relative_to(root.resolve())
    assert TextPredictionModelWithGradiend.from_pretrained(trainer.model_path) is not None
    assert [entry.name for entry in tmp_path.iterdir()] == ["deep"]
    assert [entry.name for entry in (tmp_path / "deep").iterdir()] == ["exp"]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("grid", "line"), "cannot be called 'grid'.*grid, summary, plot_path, plot_paths, fingerprint"),
        (("a", "summary"), "'summary'"),
        (("plot_path", "a"), "'plot_path'"),
        (("plot_paths", "a"), "'plot_paths'"),
        (("fingerprint", "a"), "'fingerprint'"),
        (("a", "a_weaken"), "'a_weaken' beside 'a'"),
        (("a_factual", "a"), "'a_factual' beside 'a'"),
    ],
)
def test_names_that_results_use_are_refused_at_the_start(classes, message, path):
    with pytest.raises(ValueError, match=message):
        TextPredictionTrainer(path, data=named(*classes), target_classes=list(classes))
    trainer = TextPredictionTrainer(path, data=named(*classes))
    with pytest.raises(ValueError, match=message):
        trainer.train(max_steps=1, max_seeds=1)


def test_a_name_that_no_file_can_hold_is_refused_at_the_start(path):
    with pytest.raises(ValueError, match="lone surrogate"):
        TextPredictionTrainer(path, data=tiny_data.rows(), target_classes=["\ud800", "a"])


def test_a_class_whose_name_ends_like_a_key_is_weakened_by_its_own(path, tmp_path):
    trainer = TextPredictionTrainer(
        path, data=named("a_weaken", "b"), target_classes=["a_weaken", "b"],
        args=tiny_data.trainer(path, {"experiment_dir": str(tmp_path)}).training_args,
    ).train()  # fmt: skip
    lenient = {"lrs": [0.1], "selector": LMSThresholdPolicy(ratio=0.0)}
    trainer.evaluate_decoder(**lenient)
    trainer.evaluate_decoder(**lenient, increase_target_probabilities=False)
    place = str(tmp_path / "weaker")
    trainer.rewrite_base_model(None, "a_weaken", increase_target_probabilities=False, output_dir=place)
    assert read_rewrite_record(place).choice.direction == "weaken"


def test_measurements_of_other_models_stay_inside_too(path, tmp_path):
    root = tmp_path / "exp"
    trainer = tiny_data.trainer(path, {"experiment_dir": str(root), "use_cache": True})
    model = trainer.get_model()
    for name in ("../../x", "org/model"):
        trainer.evaluate_base_model(model.base_model, model.tokenizer, model_id=name)
    assert [entry.name for entry in tmp_path.iterdir()] == ["exp"]
    assert len(list((root / "decoder").iterdir())) == 2
    assert pd.Series([entry.is_file() for entry in (root / "decoder").iterdir()]).all()
