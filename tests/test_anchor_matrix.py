"""The anchor-aligned matrix: a positive diagonal whatever GRADIENDs read, and the numbers of a loop."""

from __future__ import annotations

import encoding_cases
import numpy as np
import pandas as pd
import pytest
import tiny_data

from gradiend.comparison import (
    compute_anchor_aligned_encoding_matrix,
    compute_anchor_aligned_encoding_std_matrix,
    compute_dense_anchor_aligned_encoding_matrix,
)
from gradiend.comparison._cells import aggregated

SOURCES = ("factual", "alternative", "diff")
WITHOUT = {"null": None, "n_resamples": 0}
COLUMNS = {"factual": "source_id", "counterfactual": "target_id", "transition": "transition"}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tiny_data.save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def suite(path):
    return encoding_cases.trainers(path, source="factual")


@pytest.fixture(scope="module")
def mixed(suite):
    """Models that read different sides."""
    return encoding_cases.reading(suite, SOURCES)


@pytest.fixture(scope="module")
def naive(suite, mixed):
    """(the distinct rows, what each model encodes them as), from a loop."""
    rows = encoding_cases.naive_pool(suite)
    return rows, encoding_cases.naive_encodings(suite, rows, mixed)


def contributions(suite, naive, anchor, name, alignment, *, dense=False):
    """What each GRADIEND with `anchor` in its pair says of a column."""
    rows, encodings = naive
    found = []
    for one, trainer in suite.items():
        own = (rows[COLUMNS[alignment]] == name) & (dense | rows[one].astype(bool))
        if anchor in trainer.target_classes and own.any():
            sign = 1 if anchor == trainer.target_classes[0] else -1
            view = -1 if alignment == "counterfactual" else 1
            found.append((sign * view * encodings.loc[own, one].mean(), int(own.sum())))
    return found


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("alignment", COLUMNS)
def test_cells_are_those_of_a_loop_over_gradiends(suite, mixed, naive, alignment, dense):
    compute = compute_dense_anchor_aligned_encoding_matrix if dense else compute_anchor_aligned_encoding_matrix
    matrices = {
        how: compute(suite, alignment=alignment, aggregate=how, models=mixed, **WITHOUT)
        for how in ("mean", "count", *(() if dense else ("min", "max", "std", "raw_count")))
    }
    found = matrices["mean"]
    assert found["rows"] == ["H", "S", "T"]
    for row, anchor in enumerate(found["rows"]):
        for column, name in enumerate(found["columns"]):
            given = contributions(suite, naive, anchor, name, alignment, dense=dense)
            values, sizes = ([one[place] for one in given] for place in (0, 1))
            expected = {
                "mean": np.mean(values) if values else np.nan,
                "min": min(values, default=np.nan),
                "max": max(values, default=np.nan),
                "std": np.std(values, ddof=1) if len(values) > 1 else np.nan,
                "count": len(values),
                "raw_count": sum(sizes),
            }
            cells = {how: matrix["matrix"][row][column] for how, matrix in matrices.items()}
            for how, cell in cells.items():
                np.testing.assert_allclose(cell, expected[how], atol=1e-5, err_msg=f"{how} of {anchor}, {name}")
            assert (found["n_matrix"][row][column], found["raw_n_matrix"][row][column]) == (len(values), sum(sizes))


@pytest.mark.parametrize("alignment", ["factual", "counterfactual", "auto"])
@pytest.mark.parametrize("source", SOURCES)
def test_the_diagonal_is_positive_whatever_is_read_and_however_it_is_seen(suite, source, alignment):
    models = encoding_cases.reading(suite, [source] * 3)
    found = compute_anchor_aligned_encoding_matrix(suite, alignment=alignment, models=models, **WITHOUT)
    matrix = np.array(found["matrix"])
    assert (np.diag(matrix) > 0.1).all()
    assert (matrix[~np.eye(3, dtype=bool)] < 0).all()
    if alignment == "auto":
        assert found["alignment"] == ("counterfactual" if source == "alternative" else "factual")


@pytest.mark.parametrize(
    "source", ["alternative", *(pytest.param(one, marks=pytest.mark.slow) for one in ("factual", "diff"))]
)
def test_a_trained_suite_has_a_positive_diagonal_at_default_settings(path, source):
    """With rows that say one word each, as a labelled table does, and trainers that make the alternative themselves."""
    trainers = encoding_cases.trainers(path, source=source)
    found = compute_anchor_aligned_encoding_matrix(trainers)
    matrix, level = np.array(found["matrix"]), np.array(found["null_level"])
    assert (np.diag(matrix) > np.diag(level)).all()
    assert all(found["interval"][place][place][0] > 0 for place in range(3))
    assert found["columns"] == ["H", "S", "T"]


def test_a_trainer_with_many_rows_counts_as_much_as_one_with_few(suite, mixed, path):
    """Otherwise a cell would be the mean over rows."""
    data = encoding_cases.rows()
    of_test = (data["split"] == "test") & (data["label_class"] == "T")
    few = pd.concat([data[~of_test], data[of_test].head(1)])
    small = encoding_cases.trainer(path, ("H", "T"), data=few, source="factual")
    given = {**suite, "H__T": small}
    models = {**mixed, "H__T": small.get_model()}
    found = compute_anchor_aligned_encoding_matrix(given, models=models, **WITHOUT)
    rows = encoding_cases.naive_pool(given)
    pairs = rows, encoding_cases.naive_encodings(given, rows, models)
    values = contributions(given, pairs, "T", "T", "factual")
    assert len({size for _, size in values}) == 2
    assert found.to_frame().loc["T", "T"] == pytest.approx(np.mean([value for value, _ in values]), abs=1e-5)


def test_the_std_over_seeds_is_that_of_their_matrices(suite, mixed):
    seeds = {name: [one.get_model(), mixed[name]] for name, one in suite.items() if name == "H__S"}
    seeds["H__S"][1] = encoding_cases.reading({"H__S": suite["H__S"]}, ["factual"])["H__S"].prune_gradiend(
        topk=0.2, inplace=False
    )
    matrices = [
        compute_anchor_aligned_encoding_matrix(suite, models={"H__S": model}, **WITHOUT)["matrix"]
        for model in seeds["H__S"]
    ]
    only = compute_anchor_aligned_encoding_matrix({"H__S": suite["H__S"]}, models={"H__S": seeds["H__S"][1]}, **WITHOUT)
    found = compute_anchor_aligned_encoding_std_matrix(suite, models=seeds).to_frame()
    # Only one trainer has a second seed, so the second matrix is that of this trainer alone.
    second = only.to_frame().reindex(index=["H", "S", "T"], columns=["H", "S", "T"]).to_numpy()
    expected = aggregated(np.array([[matrices[0], second]]), "std")[0]
    np.testing.assert_allclose(found.to_numpy(), expected, atol=1e-5)
    assert found.loc["T"].isna().all()
    assert not found.loc["H", ["H", "S"]].isna().any()
    with pytest.raises(ValueError, match="at least two models"):
        compute_anchor_aligned_encoding_std_matrix(suite)


def test_chosen_classes_are_rows_and_columns_in_their_order(suite):
    whole = compute_anchor_aligned_encoding_matrix(suite, **WITHOUT).to_frame()
    found = compute_anchor_aligned_encoding_matrix(suite, ["T", "H"], **WITHOUT)
    assert found["rows"] == found["columns"] == ["T", "H"]
    np.testing.assert_allclose(found["matrix"], whole.loc[["T", "H"], ["T", "H"]])


def test_other_classes_are_read_with_their_own_word(suite):
    """Texts of a class that is not in the pair say something of the pair's rows too."""
    one = {"H__S": suite["H__S"]}
    plain = compute_anchor_aligned_encoding_matrix(one, **WITHOUT)
    found = compute_anchor_aligned_encoding_matrix(one, include_other_classes=True, **WITHOUT)
    assert (plain["rows"], plain["columns"]) == (["H", "S"], ["H", "S"])
    assert (found["rows"], found["columns"]) == (["H", "S"], ["H", "S", "T"])
    frame = found.to_frame()
    np.testing.assert_allclose(frame[["H", "S"]], plain["matrix"])
    assert frame.loc["H", "T"] == -frame.loc["S", "T"]
    assert found["transitions_found"][-1] == "T→T"


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"alignment": "factul"}, ValueError, "'factual'"),
        ({"aggregate": "median"}, ValueError, "aggregate"),
        ({"feature_classes": ["X"]}, ValueError, "feature_classes has 'X'"),
        ({"feature_classes": []}, ValueError, "each once"),
        ({"include_other_classes": 1}, TypeError, "True or False"),
        ({"cache_only": True}, ValueError, "not possible"),
        ({"allignment": "factual"}, TypeError, "'alignment'"),
    ],
)
def test_bad_input_is_refused_and_the_way_out_named(suite, options, error, says):
    with pytest.raises(error, match=says):
        compute_anchor_aligned_encoding_matrix(suite, **options)
