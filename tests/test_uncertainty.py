"""Bootstrap interval and ROC-AUC against plain loops; held-out words."""

import numpy as np
import pandas as pd
import pytest

from gradiend.data import hold_out_words
from gradiend.evaluator import get_encoder_metrics_from_dataframe, get_model_metrics
from gradiend.evaluator.encoder_metrics import correlation_interval, roc_auc


def example(n, noise, seed=0):
    generator = np.random.default_rng(seed)
    label = np.where(np.arange(n) % 2, 1.0, -1.0)
    return label + noise * generator.standard_normal(n), label


@pytest.mark.parametrize("ties", [False, True])
def test_the_area_is_the_share_of_pairs_in_the_right_order(ties):
    encoded, label = example(31, 2.0)
    label[:4] = 0
    if ties:
        encoded = np.round(encoded)
    pairs = [(a > b) + (a == b) / 2 for a in encoded[label > 0] for b in encoded[label < 0]]
    assert roc_auc(encoded, label) == pytest.approx(np.mean(pairs))
    assert roc_auc(-encoded, label) == pytest.approx(1 - np.mean(pairs))
    assert roc_auc(encoded[label >= 0], label[label >= 0]) is None


def test_the_interval_is_that_of_resampled_correlations():
    encoded, label = example(40, 1.0)
    found = correlation_interval(encoded, label, n_resamples=200)
    generator = np.random.default_rng(0)
    chosen = generator.integers(0, 40, (200, 40))
    low, high = np.quantile([np.corrcoef(encoded[i], label[i])[0, 1] for i in chosen], [0.025, 0.975])
    assert (found["low"], found["high"]) == pytest.approx((low, high))
    assert found == correlation_interval(1e-30 * encoded, label, n_resamples=200) | {
        name: pytest.approx(found[name]) for name in ("low", "high")
    }


def test_the_interval_covers_the_truth_and_narrows_with_rows():
    # Label ±1 and noise σ: the correlation is 1 / √(1 + σ²).
    covered = 0
    for seed in range(40):
        found = correlation_interval(*example(100, 1.0, seed), n_resamples=300)
        covered += found["low"] <= 1 / np.sqrt(2) <= found["high"]
    assert covered >= 34
    widths = [
        correlation_interval(*example(n, 1.0))["high"] - correlation_interval(*example(n, 1.0))["low"]
        for n in (50, 5000)
    ]
    assert widths[1] < widths[0] / 5


def test_undefined_intervals_are_none_and_constant_resamples_do_not_count():
    assert correlation_interval(np.ones(5), np.array([1.0, -1, 1, -1, 1])) is None
    assert correlation_interval(np.array([1.0]), np.array([1.0])) is None
    assert correlation_interval(np.array([1.0, -1.0, 0.0]), np.array([1.0, -1.0, 1.0]))["n_resamples"] < 1000


def test_where_nothing_varies_nothing_is_estimated():
    encoded, label = example(12, 1.0)
    assert correlation_interval(encoded, label, texts=["one text"] * 12) is None
    # Encodings that are equal in each class correlate perfectly, whatever is drawn.
    assert correlation_interval(0.9 * label, label) is None
    frame = pd.DataFrame({"encoded": 0.9 * label, "label": label, "type": "training", "source_id": "a"})
    metrics = get_encoder_metrics_from_dataframe(frame)
    assert metrics["correlation_interval"] is None
    assert metrics["mean_by_class_interval"] == {-1.0: None, 1.0: None}
    # The two labels differ, so the mean over both varies.
    assert (
        metrics["mean_by_feature_class_interval"]["a"]["low"]
        < 0
        < metrics["mean_by_feature_class_interval"]["a"]["high"]
    )


def test_intervals_resample_texts_and_not_rows(tmp_path):
    # Two words of each sentence are masked, one of each class, and each row has two alternatives.
    generator = np.random.default_rng(5)
    sentences = [f"Number {i}: {{}} saw {{}}." for i in range(8)]
    rows = []
    for sentence in sentences:
        common = generator.standard_normal()
        for masked, word, label in (
            (sentence.format("[MASK]", "they"), "he", 1.0), (sentence.format("he", "[MASK]"), "they", -1.0),
        ):  # fmt: skip
            for alternative in ("she", "it"):
                encoded = label + common + 0.1 * generator.standard_normal()
                rows.append((masked, word, alternative, label, encoded, word))
    columns = ["input_text", "factual", "alternative", "label", "encoded", "source_id"]
    frame = pd.DataFrame(rows, columns=columns).assign(type="training")
    frame = frame.sample(frac=1, random_state=0).reset_index(drop=True)
    found = get_encoder_metrics_from_dataframe(frame, n_resamples=200)

    text = [masked.replace("[MASK]", word) for masked, word in zip(frame["input_text"], frame["factual"], strict=True)]
    first = list(dict.fromkeys(text))
    assert len(first) == 8
    draws = np.random.default_rng(0).integers(0, 8, (200, 8))
    resampled = [pd.concat([frame[np.array(text) == first[number]] for number in draw]) for draw in draws]
    correlations = [np.corrcoef(one["encoded"], one["label"])[0, 1] for one in resampled]
    assert between(found["correlation_interval"]) == pytest.approx(tuple(np.quantile(correlations, [0.025, 0.975])))
    alone = get_encoder_metrics_from_dataframe(frame.drop(columns="input_text"), n_resamples=200)
    assert alone["correlation_interval"] == correlation_interval(
        frame["encoded"].to_numpy(), frame["label"].to_numpy(), n_resamples=200
    )
    assert found["mean_by_class_interval"].keys() == found["mean_by_class"].keys()
    for name, label in (("he", 1.0), ("they", -1.0)):
        # A class has all eight texts, which stand in another order in its own rows.
        own = frame[frame["label"] == label]
        order = list(dict.fromkeys(np.array(text)[own.index]))
        means = [
            np.mean([own["encoded"][np.array(text)[own.index] == order[n]].mean() for n in draw]) for draw in draws
        ]
        expected = pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))
        assert between(found["mean_by_class_interval"][label]) == expected
        assert between(found["mean_by_feature_class_interval"][name]) == expected
        # What is common to the rows of a text must not count once for each row.
        widths = [np.ptp(between(one["mean_by_class_interval"][label])) for one in (found, alone)]
        assert widths[0] > 1.2 * widths[1]
    assert not {name for name in get_encoder_metrics_from_dataframe(frame, n_resamples=0) if name.endswith("interval")}

    frame.to_csv(tmp_path / "encoded_values.csv", index=False)
    made = get_model_metrics(tmp_path / "encoded_values.csv")
    assert made["mean_by_class_interval"].keys() == {-1.0, 1.0}
    assert get_model_metrics(tmp_path / "encoded_values.csv") == made


def between(interval):
    return interval["low"], interval["high"]


def test_metrics_carry_both_and_the_held_out_rows():
    encoded, label = example(20, 0.3)
    frame = pd.DataFrame({"encoded": encoded, "label": label, "type": "training", "held_out": np.arange(20) < 8})
    metrics = get_encoder_metrics_from_dataframe(frame)
    assert metrics["correlation_interval"]["low"] <= metrics["correlation"] <= metrics["correlation_interval"]["high"]
    assert metrics["roc_auc"] == 1.0
    held_out = metrics["held_out_words"]
    assert held_out["n_samples"] == 8
    assert held_out["correlation"] == get_encoder_metrics_from_dataframe(frame[:8])["correlation"]
    none = get_encoder_metrics_from_dataframe(frame.assign(held_out=False), n_resamples=0)
    assert "correlation_interval" not in none
    assert none["held_out_words"] == {
        "n_samples": 0, "correlation": None, "correlation_interval": None, "roc_auc": None,
    }  # fmt: skip


ROWS = pd.DataFrame(
    {
        "masked": [f"{i} [MASK]" for i in range(12)],
        "split": ["train"] * 8 + ["test"] * 4,
        "label": ["he", "she", "it", "He", "they", "we", "they", "we", "he", "they", "she", "we"],
        "label_class": ["s", "s", "s", "s", "p", "p", "p", "p", "s", "p", "s", "p"],
    }
)


class TestHoldingOutWords:
    """hold_out_words."""

    def test_their_rows_go_to_the_test_split(self):
        held = hold_out_words(ROWS, ["HE", "we"])
        training = set(held.loc[held["split"] == "train", "label"].str.lower())
        assert training == {"she", "it", "they"}
        moved = held["label"].str.lower().isin(["he", "we"])
        assert set(held.loc[moved, "split"]) == {"test"}
        pd.testing.assert_frame_equal(held.drop(columns="split"), ROWS.drop(columns="split"))
        assert ROWS["split"].tolist()[:8] == ["train"] * 8

    def test_a_share_is_chosen_by_seed_and_leaves_every_class_some(self):
        chosen = hold_out_words(ROWS, share=0.4, seed=1)
        pd.testing.assert_frame_equal(chosen, hold_out_words(ROWS, share=0.4, seed=1))
        training = chosen[chosen["split"] == "train"]
        assert set(training["label_class"]) == {"s", "p"}
        unseen = set(ROWS["label"].str.lower()) - set(training["label"].str.lower())
        assert len(unseen) == 2

    def test_spaces_around_a_word_and_an_empty_column_of_alternatives_do_not_matter(self):
        rows = ROWS.assign(label=" " + ROWS["label"] + " ", alternative=float("nan"))
        assert hold_out_words(rows, [" he"])["split"].tolist() == hold_out_words(ROWS, ["he"])["split"].tolist()

    def test_splits_may_be_categories(self):
        rows = ROWS.assign(split=pd.Categorical(["train"] * len(ROWS)))
        assert set(hold_out_words(rows, ["he"])["split"]) == {"train", "test"}

    def test_alternatives_count_too(self):
        rows = ROWS.assign(alternative=["they"] * 4 + ["she"] * 4 + ["they", "he", "we", "he"])
        held = hold_out_words(rows, ["she"])
        assert set(held.loc[held["split"] == "train", "label"].str.lower()) == {"he", "it"}

    @pytest.mark.parametrize(
        ("words", "options", "message"),
        [
            (["him"], {}, "'him'"),
            (["they", "we"], {}, "class 'p'"),
            (None, {"share": 1.5}, "share"),
            (["he"], {"word_col": "token"}, "token"),
        ],
    )
    def test_bad_requests(self, words, options, message):
        with pytest.raises(ValueError, match=message):
            hold_out_words(ROWS, words, **options)

    def test_a_class_of_one_word_cannot_be_held_out(self):
        with pytest.raises(ValueError, match="several words"):
            hold_out_words(ROWS[ROWS["label"].isin(["they"])])
