"""Splits that no column names: whole words, groups or texts go to one split each, and seeds take turns."""

from __future__ import annotations

import itertools
import logging
from collections import Counter

import pandas as pd
import pytest
import tiny_data

from gradiend import TextPredictionConfig, TextPredictionTrainer
from gradiend.trainer.text.prediction._text_data import TextData

MEN = [f"man{i}" for i in range(10)]
WOMEN = [f"woman{i}" for i in range(7)]
SPLITS = {"train", "validation", "test"}


def rows(**words) -> pd.DataFrame:
    """Six rows for each word, some with a capital; the split column is of no use."""
    given = words or {"M": MEN, "F": WOMEN}
    found = [
        (f"{name}{number} saw {word} and [MASK] .", word.title() if number % 3 == 0 else word, name, "train")
        for name, own in given.items()
        for word, number in itertools.product(own, range(6))
    ]
    return pd.DataFrame(found, columns=["masked", "label", "label_class", "split"])


def data(frame, **options) -> TextData:
    options = {"split_col": "heldout", "target_classes": ["M", "F"], **options}
    return TextData(TextPredictionConfig(data=frame, **options))


def words_by_split(frame: pd.DataFrame, column: str = "factual") -> dict[str, set[str]]:
    return {str(name): set(own[column].str.lower()) for name, own in frame.groupby("split")}


def disjoint(sets) -> bool:
    return all(not one & other for one, other in itertools.combinations(sets, 2))


class TestWholeWords:
    """split_col="heldout"."""

    def test_a_word_is_in_one_split_and_each_class_in_all(self):
        found = data(rows()).combined_data
        by_split = words_by_split(found)
        assert by_split.keys() == SPLITS
        assert disjoint(by_split.values())
        assert len(found) == len(rows())
        sizes = {name: Counter(word[:3] for word in own) for name, own in by_split.items()}
        # 80, 10 and 10 percent of ten men and seven women
        assert sizes == {
            "train": {"man": 8, "wom": 5}, "validation": {"man": 1, "wom": 1}, "test": {"man": 1, "wom": 1},
        }  # fmt: skip

    def test_alternatives_are_words_of_the_same_split(self):
        found = data(rows(), max_counterfactuals_per_sentence=3).combined_data
        own, others = words_by_split(found), words_by_split(found, "alternative")
        assert all(others[name] <= own[name] for name in SPLITS)

    @pytest.mark.parametrize("ratios", [(0.5, 0.25, 0.25), {"train": 0.5, "val": 0.25, "test": 0.25}])
    def test_ratios_are_of_the_words_of_each_class(self, ratios):
        frame = rows(M=MEN[:8], F=WOMEN[:4])
        by_split = words_by_split(data(frame, split_ratios=ratios).combined_data)
        assert {name: len(own) for name, own in by_split.items()} == {"train": 6, "validation": 3, "test": 3}
        single = {"split_train_ratio": 0.5, "split_val_ratio": 0.25, "split_test_ratio": 0.25}
        pd.testing.assert_frame_equal(
            data(frame, split_ratios=ratios).combined_data, data(frame, **single).combined_data
        )

    def test_a_split_of_no_share_has_no_rows(self):
        found = data(rows(M=MEN[:2], F=WOMEN[:2]), split_ratios={"train": 0.5, "test": 0.5}).combined_data
        assert words_by_split(found).keys() == {"train", "test"}

    def test_the_seed_of_the_data_decides_and_the_order_of_rows_does_not(self):
        frame = rows()
        first, again = (words_by_split(data(one).combined_data) for one in (frame, frame.sample(frac=1)))
        assert first == again
        drawn = [words_by_split(data(frame, random_state=seed).combined_data)["test"] for seed in range(6)]
        assert len({frozenset(own) for own in drawn}) > 1

    def test_a_word_has_one_split_whatever_pair_is_compared(self):
        frame = rows(M=MEN, F=WOMEN, N=["it", "this", "that"])
        pairs = [data(frame, target_classes=pair).combined_data for pair in (["M", "F"], ["N", "M"], ["F", "N"])]
        together = pd.concat(pairs).groupby(pd.concat(pairs)["factual"].str.lower())["split"].nunique()
        assert set(together) == {1}

    def test_a_word_of_two_classes_is_in_one_split(self):
        found = data(rows(M=[*MEN, "both"], F=[*WOMEN, "both"])).combined_data
        assert disjoint(words_by_split(found).values())

    def test_too_few_words_are_an_error_that_counts_them(self):
        with pytest.raises(ValueError, match=r"Class 'F' has 2 words to divide .*'Woman0'.* 3 splits"):
            _ = data(rows(M=MEN, F=WOMEN[:2])).combined_data
        # only the classes that are compared must be everywhere
        found = data(rows(M=MEN, F=WOMEN, other=["one"]))
        assert set(found.combined_data["split"]) == SPLITS
        assert found.other_data["factual_class"].unique().tolist() == ["other"]

    def test_shared_words_that_cannot_be_divided_are_an_error(self):
        shared = {"M": ["a", "b", "c"], "F": ["a", "b", "d"], "X": ["a", "b", "c", "d"]}
        with pytest.raises(ValueError, match=r"words that classes share leave the split .* without class"):
            _ = data(rows(**shared)).combined_data

    def test_merged_classes_count_together(self):
        frame = rows(a=["a1"], b=["b1", "b2"], c=["c1", "c2", "c3"])
        merged = {"first": ["a", "b"], "second": ["c"]}
        found = data(frame, class_merge_map=merged, target_classes=None).combined_data
        assert {name: len(own) for name, own in words_by_split(found).items()} == dict.fromkeys(SPLITS, 2)

    def test_a_table_for_each_class(self):
        frame = rows()
        tables = {name: own.drop(columns=["label_class", "split"]) for name, own in frame.groupby("label_class")}
        found = data({**tables, "none": frame.head(0)}).combined_data
        assert disjoint(words_by_split(found).values())
        assert words_by_split(found).keys() == SPLITS

    def test_the_given_table_is_not_changed_and_its_index_may_repeat(self):
        frame = rows().set_axis([0] * len(rows()))
        before = frame.copy()
        assert set(data(frame).combined_data["split"]) == SPLITS
        pd.testing.assert_frame_equal(frame, before)


class TestGroups:
    """split_group_col and split_group_key."""

    def test_a_column_of_groups(self):
        frame = rows().assign(topic=lambda own: own["masked"].str[1])
        found = data(frame, split_group_col="topic").combined_data
        topics = found.assign(topic=found["masked"].str[1]).groupby("topic")["split"].nunique()
        assert set(topics) == {1}
        assert all(set(own["factual_class"]) == {"M", "F"} for _, own in found.groupby("split"))

    def test_a_function_of_the_word(self):
        found = data(rows(), split_group_key=lambda word: int(word[-1]) // 2).combined_data
        stems = found.assign(stem=found["factual"].str[-1].astype(int) // 2).groupby("stem")["split"].nunique()
        assert set(stems) == {1}

    def test_a_function_of_the_column(self):
        frame = rows().assign(topic=lambda own: own["masked"].str[1])
        found = data(frame, split_group_col="topic", split_group_key=lambda topic: int(topic) // 2).combined_data
        assert set(found.groupby(found["masked"].str[1].astype(int) // 2)["split"].nunique()) == {1}

    def test_a_missing_column_is_an_error(self):
        for options in ({}, {"split_group_col": "label"}):
            with pytest.raises(TypeError, match=r"split_group_key must give a string.*it gives \['"):
                data(rows(), split_group_key=lambda word: [word], **options).combined_data  # noqa: B018
        with pytest.raises(ValueError, match="no column 'lemma'"):
            _ = data(rows(), split_group_col="lemma").combined_data


class TestPairs:
    """Explicit alternatives."""

    def paired(self, partner) -> pd.DataFrame:
        frame = rows(M=MEN[:6], F=WOMEN[:6])
        return frame.assign(alternative=[partner(word.lower(), at) for at, word in enumerate(frame["label"])])

    def test_paired_words_stay_together_and_keep_their_partners(self):
        def partner(word, _):
            return ("woman" if word.startswith("man") else "man") + word[-1]

        frame = self.paired(partner)
        found = data(frame, split_ratios=(0.5, 0.25, 0.25)).combined_data
        assert all({word[-1] for word in own} == {word[-1] for word in own if word.startswith("man")}
                   for own in words_by_split(found).values())  # fmt: skip
        assert (found["factual"].str[-1] == found["alternative"].str[-1]).all()
        assert disjoint(words_by_split(found).values())

    def test_sampled_alternatives_are_drawn_anew_from_the_split(self, caplog):
        frame = self.paired(lambda word, at: ("woman" if word.startswith("man") else "man") + str(at % 5))
        with caplog.at_level(logging.INFO):
            found = data(frame).combined_data
        assert "Alternatives are sampled anew" in caplog.text
        own, others = words_by_split(found), words_by_split(found, "alternative")
        assert disjoint(own.values())
        assert all(others[name] <= own[name] for name in SPLITS)
        assert len(found) == len(frame)

    def test_rows_that_differ_in_the_sampled_alternative_only_are_one_row(self):
        # a table of three classes has a row for each other class
        frame = rows(M=MEN[:3], F=WOMEN[:3])
        doubled = pd.concat([frame.assign(alternative=["x", "y"][at], alternative_class="N") for at in range(2)])
        assert len(data(doubled).combined_data) == len(frame)

    def test_columns_named_like_the_other_class_are_pairs(self):
        tables = {
            name: pd.DataFrame(
                [{"masked": f"{word} {i} [MASK]", name: f"{name}{word}", other: f"{other}{word}"}
                 for word in "abcdef" for i in range(3)]
            )
            for name, other in (("M", "F"), ("F", "M"))
        }  # fmt: skip
        found = data(tables).combined_data
        assert (found["factual"].str[1] == found["alternative"].str[1]).all()
        assert disjoint({word[1] for word in own} for own in words_by_split(found).values())

    def test_one_word_with_many_partners_leaves_nothing_to_divide(self):
        frame = pd.concat([rows(M=MEN[:6]).assign(alternative="she"), rows(F=WOMEN[:6]).assign(alternative="he")])
        # all men stand with "she", so that they would have to stay together
        with pytest.raises(ValueError, match=r"'[FM]' has 1 word to divide .*paired stay together"):
            _ = data(frame).combined_data


class TestTexts:
    """split_col=None."""

    def test_texts_are_divided_at_the_ratios_and_none_is_in_two_splits(self):
        frame = pd.concat([rows(), rows().assign(label="he", label_class="M")])
        found = data(frame, split_col=None).combined_data
        assert set(found.groupby("masked")["split"].nunique()) == {1}
        shares = found["split"].value_counts(normalize=True)
        assert shares["train"] == pytest.approx(0.8, abs=0.03)
        assert set(found["split"]) == SPLITS


class TestSeveralSeeds:
    """TextData.for_seed."""

    @pytest.mark.parametrize("split_col", ["heldout", None])
    def test_random_draws_another_split_for_each_seed(self, split_col):
        own = data(rows(), split_col=split_col)
        pd.testing.assert_frame_equal(own.for_seed(0, "random").combined_data, own.combined_data)
        tests = [frozenset(own.for_seed(at).rows("test")["masked"]) for at in range(5)]
        assert len(set(tests)) > 1
        assert tests[3] == frozenset(own.for_seed(3).rows("test")["masked"])

    @pytest.mark.parametrize("ratios", [None, (0.5, 0.2, 0.3), {"train": 0.6, "test": 0.4}])
    def test_in_a_balanced_cycle_every_word_is_tested_equally_often(self, ratios):
        own = data(rows(), split_ratios=ratios)
        # 70 seeds are a whole number of rounds for ten and for seven words
        found = [words_by_split(own.for_seed(at, "balanced_cycle").combined_data) for at in range(70)]
        assert all(disjoint(by_split.values()) for by_split in found)
        tested = Counter(word for by_split in found for word in by_split["test"])
        assert {tested[word] for word in MEN} == {tested[MEN[0]]}
        assert {tested[word] for word in WOMEN} == {tested[WOMEN[0]]}
        assert tested[MEN[0]] > 0

    def test_successive_seeds_test_other_words(self):
        own = data(rows())
        tests = [words_by_split(own.for_seed(at, "balanced_cycle").combined_data)["test"] for at in range(7)]
        assert disjoint(tests)
        assert tests[0] == words_by_split(own.combined_data)["test"]

    def test_pairs_take_their_turn_together(self):
        frame = rows(M=MEN[:6], F=WOMEN[:6])
        names = {"man": "woman", "woman": "man"}
        frame["alternative"] = [names[word.lower()[:-1]] + word[-1] for word in frame["label"]]
        own = data(frame)
        tests = [words_by_split(own.for_seed(at, "balanced_cycle").combined_data)["test"] for at in range(6)]
        assert sorted(word for one in tests for word in one) == sorted(MEN[:6] + WOMEN[:6])

    def test_the_data_is_read_once(self, tmp_path):
        file = tmp_path / "rows.csv"
        rows().to_csv(file, index=False)
        own = data(str(file))
        first = own.for_seed(1)
        file.unlink()
        assert set(first.combined_data["split"]) == SPLITS

    def test_a_column_of_splits_has_nothing_to_draw(self):
        with pytest.raises(ValueError, match=r"the column 'split' does.*heldout"):
            data(rows(), split_col="split").for_seed(1)

    @pytest.mark.parametrize(
        ("index", "strategy", "message"), [(-1, "random", "index"), (0, "cycle", "balanced_cycle")]
    )
    def test_bad_arguments(self, index, strategy, message):
        with pytest.raises(ValueError, match=message):
            data(rows()).for_seed(index, strategy)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"split_col": "split", "split_ratios": (0.5, 0.25, 0.25)}, ValueError, "ratios have no effect"),
        ({"split_col": "split", "split_train_ratio": 0.7}, ValueError, "ratios have no effect"),
        ({"split_col": None, "split_group_col": "topic"}, ValueError, "needs split_col='heldout'"),
        ({"split_col": "split", "split_group_key": str.lower}, ValueError, "needs split_col='heldout'"),
        ({"split_group_key": "lemma"}, TypeError, "split_group_key must be a function"),
        ({"split_train_ratio": 0.9}, ValueError, "must sum to 1"),
        ({"split_ratios": (0.5, 0.5)}, ValueError, "a share for each of train, validation and test"),
        ({"split_ratios": {"training": 1.0}}, ValueError, "Did you mean 'train'"),
        ({"split_ratios": "80/10/10"}, TypeError, "three numbers"),
        ({"split_ratios": (0.8, 0.1, 0.1), "split_train_ratio": 0.7}, ValueError, "Give either"),
        ({"split_ratios": (80, 10, 10)}, ValueError, "between 0 and 1"),
    ],
)  # fmt: skip
def test_bad_configurations(options, error, message):
    with pytest.raises(error, match=message):
        TextPredictionConfig(**{"split_col": "heldout", **options})


def test_a_training_on_held_out_words_judges_words_that_it_has_not_seen(tmp_path):
    forms = {"SG": ("he", "she", "cat", "dog"), "PL": ("they", "nurse", "baker", "sailor")}
    model = tiny_data.save_bert(tmp_path / "bert")
    trainer = tiny_data.trainer(model, data=tiny_data.rows(forms).drop(columns="split"), split_col="heldout")
    assert isinstance(trainer, TextPredictionTrainer)
    trainer.train(output_dir=str(tmp_path / "out"))
    result = trainer.evaluate_encoder()
    assert result["held_out_words"]["n_samples"] == len(trainer.modality.rows("test")) > 0
