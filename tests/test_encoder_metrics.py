"""Metrics of encodings and of labels, against hand-computed values and naive references."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradiend.evaluator.encoder_metrics import get_correlation, get_encoder_metrics_from_dataframe
from gradiend.util.metrics import accuracy_score, f1_score, precision_score, recall_score

COLUMNS = ["encoded", "label", "type", "source_id", "target_id"]


def frame(*rows: tuple) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=COLUMNS)


@pytest.fixture
def mixed() -> pd.DataFrame:
    return frame(
        (0.9, 1.0, "training", "he", "she"),
        (0.5, 1.0, "training", "he", "she"),  # on the boundary: +1
        (-0.8, -1.0, "training", "she", "he"),
        (0.0, -1.0, "training", "she", "he"),  # on the neutral boundary: +1 of two outcomes
        (0.2, 0.0, "training", "they", "they"),
        (-0.5, 0.0, "neutral_training_masked", None, None),  # on the boundary: -1 of three outcomes
        (0.7, 0.0, "neutral_dataset", None, None),
        (-0.1, 0.0, "neutral_dataset", None, None),
    )


def test_every_number_of_a_mixed_frame(mixed: pd.DataFrame) -> None:
    metrics = get_encoder_metrics_from_dataframe(mixed)

    def pearson(rows: slice | list[int]) -> float:
        part = mixed.iloc[rows]
        return float(np.corrcoef(part["encoded"], part["label"])[0, 1])

    assert metrics["n_samples"] == 8
    assert metrics["sample_counts"] == {
        "by_type": {"training": 5, "neutral_training_masked": 1, "neutral_dataset": 2},
        "training_by_feature_class": {"he": 2, "she": 2, "they": 1},
    }
    assert metrics["boundaries"] == {"neg_boundary": -0.5, "pos_boundary": 0.5, "neutral_boundary": 0.0}
    assert metrics["all_data"]["accuracy"] == 5 / 8
    assert metrics["training_only"]["accuracy"] == 4 / 5
    assert metrics["target_classes_only"]["accuracy"] == 3 / 4
    assert metrics["all_data"]["correlation"] == pytest.approx(pearson(slice(None)), abs=1e-12)
    assert metrics["training_only"]["correlation"] == pytest.approx(pearson(slice(0, 5)), abs=1e-12)
    assert metrics["target_classes_only"]["correlation"] == pytest.approx(pearson(slice(0, 4)), abs=1e-12)
    assert metrics["correlation"] == metrics["training_only"]["correlation"]
    assert metrics["mean_by_class"] == pytest.approx({1.0: 0.7, -1.0: -0.4, 0.0: 0.2})
    assert metrics["mean_by_feature_class"] == pytest.approx({"he": 0.7, "she": -0.4, "they": 0.2})
    assert metrics["mean_by_type"] == pytest.approx(
        {"training": 0.16, "neutral_training_masked": -0.5, "neutral_dataset": 0.3}
    )
    assert metrics["abs_mean_by_type"] == pytest.approx(
        {"training": 0.48, "neutral_training_masked": 0.5, "neutral_dataset": 0.4}
    )
    assert metrics["neutral_mean_by_type"] == pytest.approx({"neutral_training_masked": -0.5, "neutral_dataset": 0.3})
    assert metrics["label_value_to_class_name"] == {1.0: "he", -1.0: "she", 0.0: "they"}


def test_boundaries_belong_to_the_outcomes_beside_them() -> None:
    values = (0.3, 1), (0.29, 0), (-0.2, -1), (-0.19, 0), (0.31, -1)
    rows = frame(*[(value, label, "training", "a", "b") for value, label in values])
    metrics = get_encoder_metrics_from_dataframe(rows, pos_boundary=0.3, neg_boundary=-0.2, neutral_boundary=0.31)
    assert metrics["training_only"]["accuracy"] == 4 / 5
    assert metrics["target_classes_only"]["accuracy"] == 1 / 3


def test_metrics_survive_json_and_are_plain_numbers(mixed: pd.DataFrame) -> None:
    metrics = get_encoder_metrics_from_dataframe(mixed)
    assert all(type(key) is float for key in metrics["mean_by_class"])
    restored = json.loads(json.dumps(metrics))
    assert restored["mean_by_class"]["1.0"] == metrics["mean_by_class"][1]


def test_required_columns_suffice_and_row_order_and_index_do_not_matter(mixed: pd.DataFrame) -> None:
    few = get_encoder_metrics_from_dataframe(mixed[["encoded", "label", "type"]])
    assert "mean_by_feature_class" not in few
    assert "label_value_to_class_name" not in few
    shuffled = get_encoder_metrics_from_dataframe(mixed.sample(frac=1.0, random_state=1))
    full = get_encoder_metrics_from_dataframe(mixed)
    assert shuffled["mean_by_class"] == pytest.approx(full["mean_by_class"])
    assert shuffled["mean_by_feature_class"] == pytest.approx(full["mean_by_feature_class"])
    assert shuffled["correlation"] == pytest.approx(full["correlation"])


def test_without_neutral_rows_there_are_no_neutral_means(mixed: pd.DataFrame) -> None:
    metrics = get_encoder_metrics_from_dataframe(mixed[mixed["type"] == "training"])
    assert "neutral_mean_by_type" not in metrics
    assert metrics["all_data"] == metrics["training_only"]


def test_a_label_shared_by_classes_has_no_name() -> None:
    rows = frame(
        (0.9, 1, "training", "a", "b"),
        (-0.9, -1, "training", "b", "a"),
        (0.1, 0, "training", "c", "c"),
        (0.2, 0, "training", "d", "d"),
    )
    assert get_encoder_metrics_from_dataframe(rows)["label_value_to_class_name"] == {1.0: "a", -1.0: "b"}


TRAINING = (0.9, 1.0, "training", "a", "b")
NEUTRAL = (0.1, 0.0, "neutral_dataset", None, None)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((), "empty"),
        ((NEUTRAL, NEUTRAL), "All encoder eval data is neutral"),
        ((TRAINING, NEUTRAL), "at least 2 non-neutral"),
        ((TRAINING, TRAINING, NEUTRAL), "only one label class"),
        ((TRAINING, (math.nan, -1.0, "training", "b", "a")), "1 of 2 rows .*'encoded'.*diverged"),
    ],
)
def test_bad_frames(rows: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        get_encoder_metrics_from_dataframe(frame(*rows))


def test_a_missing_column_names_those_present(mixed: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match=r"\['type'\].*'source_id'"):
        get_encoder_metrics_from_dataframe(mixed.drop(columns="type"))
    with pytest.raises(ValueError, match=r"\['score'\]"):
        get_correlation(mixed, encoded_col="score")


def test_boundaries_out_of_order(mixed: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="must not exceed"):
        get_encoder_metrics_from_dataframe(mixed, neg_boundary=0.5, pos_boundary=-0.5)


def pairs(encoded: list[float], label: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"encoded": encoded, "label": label})


@pytest.mark.parametrize(
    ("encoded", "label"),
    [([], []), ([0.3], [1.0]), ([0.1] * 3, [1.0, -1.0, 1.0]), ([0.1, 0.2], [1.0, 1.0])],
    ids=["no row", "one row", "constant encoding", "constant label"],
)
def test_an_undefined_correlation_is_zero(encoded: list[float], label: list[float]) -> None:
    assert get_correlation(pairs(encoded, label)) == 0.0


def test_correlation_of_tiny_encodings_does_not_underflow() -> None:
    assert get_correlation(pairs([1e-200, -1e-200, 2e-200], [1.0, -1.0, 1.0])) == pytest.approx(
        np.corrcoef([1, -1, 2], [1, -1, 1])[0, 1]
    )


@given(
    st.lists(st.tuples(st.integers(-1000, 1000), st.sampled_from([-1, 0, 1])), min_size=3, max_size=30),
    st.integers(1, 50),
    st.integers(-50, 50),
)
def test_correlation_is_pearson_and_blind_to_scale_and_offset(rows: list, scale: int, offset: int) -> None:
    encoded = [float(value) for value, _ in rows]
    label = [float(value) for _, value in rows]
    found = get_correlation(pairs(encoded, label))
    if len(set(encoded)) > 1 and len(set(label)) > 1:
        assert found == pytest.approx(np.corrcoef(encoded, label)[0, 1], abs=1e-9)
    changed = [-scale * value + offset for value in encoded]
    assert get_correlation(pairs(changed, label)) == pytest.approx(-found, abs=1e-9)


TRUE = ["cat", "cat", "cat", "dog", "dog", "owl"]
PREDICTED = ["cat", "cat", "dog", "dog", "owl", "dog"]
# cat: hits 2, predicted 2, actual 3 · dog: 1, 3, 2 · owl: 0, 1, 1


@pytest.mark.parametrize(
    ("average", "precision", "recall", "f1"),
    [
        ("macro", (1 + 1 / 3 + 0) / 3, (2 / 3 + 1 / 2 + 0) / 3, (4 / 5 + 2 / 5 + 0) / 3),
        ("weighted", (3 * 1 + 2 / 3) / 6, (2 + 1) / 6, (3 * 4 / 5 + 2 * 2 / 5) / 6),
        ("micro", 1 / 2, 1 / 2, 1 / 2),
    ],
)
def test_averages_of_three_classes(average: str, precision: float, recall: float, f1: float) -> None:
    assert precision_score(TRUE, PREDICTED, average=average) == pytest.approx(precision)
    assert recall_score(TRUE, PREDICTED, average=average) == pytest.approx(recall)
    assert f1_score(TRUE, PREDICTED, average=average) == pytest.approx(f1)
    assert accuracy_score(TRUE, PREDICTED) == 1 / 2


@pytest.mark.parametrize("labels", [(0, 1), (-1, 1), (False, True), ("no", "yes")])
def test_binary_scores_the_positive_label(labels: tuple) -> None:
    low, high = labels
    true, predicted = [high, high, high, low, low], [high, low, low, high, low]
    assert precision_score(true, predicted) == 1 / 2
    assert recall_score(true, predicted) == 1 / 3
    assert f1_score(true, predicted) == 2 / 5


@pytest.mark.parametrize(("zero_division", "expected"), [("warn", 0.0), (0, 0.0), (1, 1.0)])
def test_zero_division(zero_division: str | int, expected: float) -> None:
    assert precision_score([1, 0], [0, 0], zero_division=zero_division) == expected
    assert recall_score([0, 0], [1, 0], zero_division=zero_division) == expected
    assert f1_score([0, 0], [0, 0], zero_division=zero_division) == expected
    for average in ("binary", "micro", "macro", "weighted"):
        assert f1_score([], [], average=average, zero_division=zero_division) == expected


def test_accuracy_of_nothing_is_zero() -> None:
    assert accuracy_score([], []) == 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: accuracy_score([1], [1, 0]), "1 labels and y_pred 2"),
        (lambda: f1_score([1], [1, 0]), "1 labels and y_pred 2"),
        (lambda: accuracy_score([[1, 0]], [[1, 0]]), "one-dimensional"),
        (lambda: precision_score([0, 1, 2], [0, 1, 2]), "at most two labels"),
        (lambda: recall_score([0, 1], [0, 1], average="samples"), "average must be"),
        (lambda: recall_score([0, 1], [0, 1], zero_division=2), "zero_division must be"),
    ],
)
def test_bad_label_input(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_micro_scores_and_weighted_recall_are_the_accuracy(rows: list) -> None:
    true, predicted = [row[0] for row in rows], [row[1] for row in rows]
    accuracy = accuracy_score(true, predicted)
    assert f1_score(true, predicted, average="micro") == pytest.approx(accuracy)
    assert recall_score(true, predicted, average="weighted") == pytest.approx(accuracy)
