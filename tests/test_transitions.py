"""Which transitions and splits are encoded, and how encodings are spread over them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_data

from gradiend import TransitionSpec, identity, pair
from gradiend.evaluator import get_encoder_metrics_from_dataframe
from gradiend.evaluator.encoder_metrics import get_model_metrics
from gradiend.trainer import expand_transition_selection

WORDS = {**tiny_data.WORDS, "NEUT": ("it",)}
MEASURES = {
    "min": np.min,
    "max": np.max,
    "q1": lambda x: np.quantile(x, 0.25),
    "q3": lambda x: np.quantile(x, 0.75),
    "std": np.std,
    "n": len,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("transitions")
    path = tiny_data.save_bert(root / "base")
    return tiny_data.trainer(path, {"experiment_dir": str(root / "run")}, data=tiny_data.rows(WORDS)).train()


def encoded(trained, **asked):
    result = trained.evaluate_encoder(return_df=True, **asked)
    return result, result["encoder_df"]


def test_a_selection_becomes_directions_each_once_and_in_order():
    selection = [pair("A", "B"), identity("C"), TransitionSpec("B", "A"), ("A", "C"), pair("C", "A", symmetric=False)]
    expected = [("A", "B"), ("B", "A"), ("C", "C"), ("A", "C"), ("C", "A")]
    assert expand_transition_selection(selection) == expected
    assert expand_transition_selection(expected) == expected
    assert pair("A", "B") == TransitionSpec("A", "B", symmetric=True)
    assert identity("C") == TransitionSpec("C", "C")


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: pair("A", "A"), ValueError, "identity"),
        (lambda: pair("A", 3), TypeError, "alternative_class"),
        (lambda: pair("A", "B", symmetrical=True), TypeError, "symmetric"),
        (lambda: TransitionSpec("A", "B", symmetric="yes"), TypeError, "symmetric"),
        (lambda: expand_transition_selection([]), ValueError, "leave it out"),
        (lambda: expand_transition_selection("A→B"), TypeError, "pair"),
        (lambda: expand_transition_selection(pair("A", "B")), TypeError, "list"),
        (lambda: expand_transition_selection(["AB", ("A", "B", "C")]), TypeError, "'AB'"),
        (lambda: expand_transition_selection([pair("SG", "PLU")], ["SG", "PL"]), ValueError, "Did you mean 'PL'"),
    ],
)
def test_what_is_no_selection_is_refused(call, error, says):
    with pytest.raises(error, match=says):
        call()


def test_only_the_chosen_transitions_are_encoded_and_only_the_target_pair_has_labels(trained):
    chosen = [pair("SG", "PL"), identity("NEUT"), TransitionSpec("SG", "NEUT"), identity("SG")]
    result, frame = encoded(trained, transition_selection=chosen)
    rows = frame[frame["type"] == "training"]
    assert dict(rows.groupby("transition_id")["label"].unique().map(list)) == {
        "SG→PL": [1.0],
        "PL→SG": [-1.0],
        "NEUT→NEUT": [0.0],
        "SG→NEUT": [0.0],
        "SG→SG": [0.0],
    }
    assert (rows.loc[rows["transition_id"] == "SG→NEUT", "alternative"] == "it").all()
    assert (rows.loc[rows["source_id"] == rows["target_id"]].eval("factual == alternative")).all()
    usual, plain = encoded(trained)
    assert set(plain.loc[plain["type"] == "training", "transition_id"]) == {"SG→PL", "PL→SG"}
    # The chosen rows of the target pair are those of the usual evaluation, with the same encodings.
    key = ["input_text", "factual", "alternative"]
    both = plain[plain["label"] != 0].merge(rows[rows["label"] != 0], on=key)
    assert len(both) == (plain["label"] != 0).sum()
    np.testing.assert_allclose(both["encoded_x"], both["encoded_y"], rtol=1e-5)
    assert set(result["mean_by_eval_group"]) > set(usual["mean_by_eval_group"])


def test_ordinary_rows_are_named_by_their_transition_and_only_identities_as_identities(trained):
    # An existing tool names the groups of ordinary rows "SG (identity)".
    result, frame = encoded(trained)
    assert set(result["mean_by_eval_group"]) == {"SG→PL", "PL→SG", "neutral_training_masked"}
    assert (frame["eval_group"] != "").all()
    result, _ = encoded(trained, transition_selection=[pair("SG", "PL"), identity("NEUT")])
    assert {"SG→PL", "PL→SG", "NEUT (identity)"} < set(result["mean_by_eval_group"])
    with_others, frame = encoded(
        tiny_data.trainer(
            trained.base_model_path, trained.training_args.replace(add_identity_for_other_classes=True),
            data=tiny_data.rows(WORDS),
        ),
        model_with_gradiend=trained.get_model(), use_cache=False,
    )  # fmt: skip
    assert "NEUT (identity)" in with_others["mean_by_eval_group"]


@pytest.mark.parametrize("source", ["factual", "alternative", "diff"])
def test_the_columns_say_what_was_compared_and_what_was_read(trained, source):
    _, frame = encoded(trained, source=source)
    rows, neutral = frame[frame["type"] == "training"], frame[frame["type"] != "training"]
    assert (rows["factual_id"] == rows["source_id"]).all()
    # The label is that of the factual class, whatever the source.
    assert (rows["label"] == rows["factual_id"].map({"SG": 1.0, "PL": -1.0})).all()
    assert (rows["counterfactual_id"] == rows["target_id"]).all()
    assert (rows["transition_id"] == rows["source_id"] + "→" + rows["target_id"]).all()
    assert (rows["factual_token"] == rows["factual"]).all()
    assert (rows["alternative_token"] == rows["alternative"]).all()
    read = {"factual": "factual", "alternative": "alternative"}.get(source)
    expected = rows[read] if read else rows["factual"] + "→" + rows["alternative"]
    assert (rows["source_token"] == expected).all()
    assert set(frame["input_type"]) == {source}
    assert set(frame["data_split"]) == {"test"}
    assert (frame["template"] == frame["input_text"]).all()
    assert (neutral[["factual_id", "counterfactual_id", "transition_id"]] == "").all().all()


def test_several_splits_are_the_splits_one_by_one(trained):
    every, frame = encoded(trained, split="all")
    assert list(dict.fromkeys(frame["data_split"])) == ["train", "validation", "test"]
    _, part = encoded(trained, split=["Val", "test"])
    assert set(part["data_split"]) == {"validation", "test"}
    key = ["input_text", "factual", "alternative", "type"]
    for name in ("train", "validation", "test"):
        _, one = encoded(trained, split=name)
        own = frame[frame["data_split"] == name]
        assert list(map(tuple, own[key].to_numpy())) == list(map(tuple, one[key].to_numpy()))
        np.testing.assert_allclose(own["encoded"], one["encoded"], rtol=1e-5, atol=1e-7)
    assert "split_generalization" not in encoded(trained)[0]
    assert every["split_generalization"]["splits"] == ["train", "validation", "test"]
    assert every["n_samples"] == len(frame)
    # Each choice has a file of its own, which is read again.
    again, _ = encoded(trained, split="all", use_cache=True)
    assert again == {**every, "encoder_df": again["encoder_df"]}
    assert trained.get_encodings(split="all") is not None
    assert len(trained.get_encodings(split=["validation", "test"])) == len(part)
    assert len(trained.get_encodings()) < len(part)


def test_the_rows_of_several_splits_are_there_for_the_evaluator_too(trained):
    evaluate = trained.evaluator.evaluate_encoder
    every = evaluate(split="all", max_size=3)
    assert every["n_samples"] == 3 * 2 * 3
    assert every["split_generalization"]["splits"] == ["train", "validation", "test"]
    assert evaluate(split="all", max_size=3, use_cache=True) == every
    assert evaluate(split=["test", "val"])["n_samples"] == 32
    assert evaluate(split="tset")["n_samples"] == 0


def test_neutral_texts_are_in_no_split(trained):
    neutral = pd.DataFrame({"text": ["the cat saw the bread .", "a dog was near the river ."]})
    _, frame = encoded(trained, split="all", neutral_data_df=neutral)
    assert set(frame.loc[frame["type"] == "neutral_dataset", "data_split"]) == {""}
    again, _ = encoded(trained, split="all", neutral_data_df=neutral, use_cache=True)
    pd.testing.assert_frame_equal(again["encoder_df"], frame)


def test_a_selection_is_kept_apart_from_the_usual_encodings(trained):
    usual, _ = encoded(trained)
    chosen, _ = encoded(trained, transition_selection=[pair("SG", "PL"), identity("NEUT")])
    assert encoded(trained, use_cache=True)[0]["n_samples"] == usual["n_samples"]
    read = trained.get_encoder_metrics(use_cache=True, transition_selection=[("SG", "PL"), ("PL", "SG"), ("NEUT",) * 2])
    assert read["n_samples"] == chosen["n_samples"] > usual["n_samples"]


@pytest.mark.parametrize(
    ("asked", "error", "says"),
    [
        ({"split": []}, ValueError, "name splits"),
        ({"split": ["all", "test"]}, ValueError, "'all'"),
        ({"split": {"test"}}, TypeError, "list of names"),
        ({"split": ["test", "tset"]}, ValueError, "tset"),
        ({"transition_selection": [pair("SG", "NEUTR")]}, ValueError, "Did you mean 'NEUT'"),
        ({"transition_selection": [identity("NEUT")]}, ValueError, "add pair\\('SG', 'PL'\\)"),
        ({"transition_selections": []}, TypeError, "transition_selection"),
        ({"device": "gpu"}, ValueError, "device"),
    ],
)
def test_bad_choices_are_refused(trained, asked, error, says):
    with pytest.raises(error, match=says):
        trained.evaluate_encoder(**asked)


def test_the_model_is_on_another_device_for_the_evaluation_only(trained, monkeypatch):
    usual, _ = encoded(trained, use_cache=False)
    model = trained.get_model()
    places = []
    original = type(model).to
    monkeypatch.setattr(type(model), "to", lambda self, device: places.append(str(device)) or original(self, device))
    found, _ = encoded(trained, use_cache=False, device="cpu")
    assert found["correlation"] == usual["correlation"]
    trained.evaluate_decoder(lrs=[0.1], device="cpu")
    assert places == ["cpu", "cpu"]
    assert {str(one.device) for one in (*model.base_model.parameters(), *model.gradiend.parameters())} == {"cpu"}


def test_statistics_are_those_of_a_naive_loop(trained):
    result, frame = encoded(trained, split="all", transition_selection=[pair("SG", "PL"), identity("NEUT")])
    rows = frame[frame["type"] == "training"]
    assert result["training_rows"] == len(rows)
    for name, column in (("class", "label"), ("feature_class", "source_id")):
        for measure, function in MEASURES.items():
            expected = {key: function(rows.loc[rows[column] == key, "encoded"]) for key in rows[column].unique()}
            assert result[f"{measure}_by_{name}"] == pytest.approx(expected, rel=1e-6), measure
    for key in rows["source_id"].unique():
        own = rows[rows["source_id"] == key]
        expected = {word: own.loc[own["factual"] == word, "encoded"].mean() for word in own["factual"].unique()}
        assert result["mean_by_target"][key] == pytest.approx(expected, rel=1e-6)
    groups = frame.groupby("eval_group")["encoded"].mean().to_dict()
    assert result["mean_by_eval_group"] == pytest.approx(groups, rel=1e-6)
    assert result["label_value_to_class_name"] == {1.0: "SG", -1.0: "PL", 0.0: "NEUT"}


def test_agreement_between_splits_follows_its_formula():
    frame = pd.DataFrame(
        {
            "encoded": [0.8, 0.6, -0.5, -0.7, 0.4, 0.2, 0.1, 0.3, 0.0],
            "label": [1.0, 1.0, -1.0, -1.0, 1.0, 1.0, -1.0, -1.0, 0.0],
            "type": ["training"] * 8 + ["neutral_dataset"],
            "source_id": ["A", "A", "B", "B"] * 2 + ["neutral_dataset"],
            "data_split": ["train"] * 4 + ["test"] * 4 + [""],
        }
    )
    found = get_encoder_metrics_from_dataframe(frame)["split_generalization"]
    assert found["mean_by_split"]["A"] == pytest.approx({"train": 0.7, "test": 0.3})
    a, b = found["comparisons"]
    assert (a["class"], a["splits"]) == ("A", ["train", "test"])
    assert a["shift"] == pytest.approx(-0.4)
    assert a["agreement"] == pytest.approx(1 - 0.4 / 1.0)
    assert a["standardised_difference"] == pytest.approx(-0.4 / 0.1)
    # Means of opposite signs do not agree at all.
    assert b["agreement"] == pytest.approx(0.0, abs=1e-9)
    assert found["agreement"] == pytest.approx({"mean": 0.3, "worst": 0.0}, abs=1e-9)
    assert found["correlation_by_split"]["train"] > 0.9 > found["correlation_by_split"]["test"]
    assert "split_generalization" not in get_encoder_metrics_from_dataframe(frame[frame["data_split"] != "test"])
    more = pd.concat([frame, frame.drop(columns="data_split")], ignore_index=True)
    assert get_encoder_metrics_from_dataframe(more)["split_generalization"] == found


def test_metrics_with_statistics_come_back_from_their_file(trained):
    result, _ = encoded(trained, split="all")
    assert (
        get_model_metrics(Path(trained.experiment_dir) / "encoded_values_split_all.csv")["q1_by_class"]
        == result["q1_by_class"]
    )
