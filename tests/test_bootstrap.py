"""The bootstrap over texts against plain loops."""

import numpy as np
import pytest

from gradiend.util._bootstrap import interval_of_mean, intervals_of_means, resampled_weights

TEXTS = ["a", "b", "a", "c", "d", "c", "a", "e"]
VALUES = np.array([0.1, 0.9, 0.2, 0.5, 0.4, 0.6, 0.3, 0.8])


def test_rows_of_one_text_are_drawn_together():
    weights = resampled_weights(TEXTS, 50)
    assert weights.shape == (50, 8)
    assert (weights[:, [0, 3]] == weights[:, [2, 5]]).all()
    # As many texts are drawn as there are: a, b, c, d, e stand in columns 0, 1, 3, 4, 7.
    assert (weights[:, [0, 1, 3, 4, 7]].sum(axis=1) == 5).all()


def test_the_interval_is_that_of_a_loop_over_resamples():
    generator = np.random.default_rng(3)
    names = sorted(set(TEXTS))
    means = []
    for drawn in generator.integers(0, 5, (300, 5)):
        rows = [i for number in drawn for i, text in enumerate(TEXTS) if text == names[number]]
        means.append(VALUES[rows].mean())
    weights = resampled_weights(TEXTS, 300, seed=3)
    assert interval_of_mean(VALUES, weights) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))
    assert interval_of_mean(VALUES, weights, 0.5) == pytest.approx(tuple(np.quantile(means, [0.25, 0.75])))


def test_columns_share_their_resamples_and_equal_the_single_ones():
    weights = resampled_weights(TEXTS)
    columns = np.stack([VALUES, 1e-20 * VALUES, VALUES**2], axis=1)
    found = intervals_of_means(columns, weights)
    assert found == [pytest.approx(interval_of_mean(column, weights)) for column in columns.T]
    assert found[1] == pytest.approx(tuple(1e-20 * end for end in found[0]), rel=1e-9, abs=0)
    # Before → after: a shift that is the same in every text has no uncertainty, however much the texts differ.
    assert interval_of_mean((VALUES + 0.25) - VALUES, weights) is None


@pytest.mark.parametrize(
    ("texts", "values"),
    [(["a"] * 3, [1.0, 2, 3]), (["a", "b"], [0.1, 0.1]), (["a", "b", "a", "b"], [1.0, 1, 3, 3]), ([], [])],
    ids=["one text", "equal values", "equal means of texts", "nothing"],
)
def test_where_nothing_varies_nothing_is_estimated(texts, values):
    assert interval_of_mean(np.array(values), resampled_weights(texts)) is None


def test_a_seed_gives_the_same_resamples_and_any_value_may_name_a_text():
    assert (resampled_weights(TEXTS, 20) == resampled_weights(TEXTS, 20)).all()
    assert not (resampled_weights(TEXTS, 20) == resampled_weights(TEXTS, 20, seed=1)).all()
    assert resampled_weights([("a", 1), ("a", 2), ("a", 1)], 5).shape == (5, 3)
