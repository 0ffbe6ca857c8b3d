"""Matrices of GRADIENDs and texts: their numbers are those of a loop over rows, and hang on nothing else."""

from __future__ import annotations

import copy
import itertools
import math

import encoding_cases
import numpy as np
import pandas as pd
import pytest
import tiny
import tiny_data
import torch
from documents import DOCS, python_blocks

from gradiend import PositiveFeatureDefinition, PositiveTrainerSuite, TextPredictionTrainer
from gradiend.comparison import (
    build_cross_task_encoder_summary,
    compute_anchor_aligned_encoding_matrix,
    compute_gradiend_feature_cross_encoding_matrix,
    compute_gradiend_transition_cross_encoding_matrix,
    compute_trainer_pair_encoding_matrix,
    cross_encoding,
    load_saved_cross_encoding_inputs,
    plot_cross_encoding_heatmap,
    plot_gradiend_feature_cross_encoding_heatmap,
    plot_gradiend_transition_cross_encoding_heatmap,
)
from gradiend.comparison._encoded import encode_pool
from gradiend.comparison._features import features_of
from gradiend.comparison._pool import Settings, pool_of
from gradiend.comparison._projections import (
    WHOLE,
    Directions,
    GradientReader,
    RandomDirections,
    project,
)
from gradiend.gradients import GradientEngine
from gradiend.model._context import Side
from gradiend.model._parameter_map import ParameterMap
from gradiend.model.seed_group import SeedModelGroup
from gradiend.util._bootstrap import interval_of_mean, resampled_weights

SOURCES = ("factual", "alternative", "diff")
TEST = Settings("test", None)
QUICKLY = {"n_null": 20, "n_resamples": 100}
WITHOUT = {"null": None, "n_resamples": 0}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tiny_data.save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def suite(path):
    """The trainers of all pairs."""
    return encoding_cases.trainers(path, source="factual")


@pytest.fixture(scope="module")
def mixed(suite):
    """Models that read different sides."""
    return encoding_cases.reading(suite, SOURCES)


@pytest.fixture(scope="module")
def pairs(path):
    """Two features, each present or absent."""
    found = {}
    for name, word in (("male", "he"), ("many", "they")):
        data = encoding_cases.rows({name: (word,), f"non_{name}": ("it" if name == "male" else "she",)})
        found[name] = encoding_cases.trainer(path, (name, f"non_{name}"), data=data, source="factual")
    return found


@pytest.fixture(scope="module")
def saved(path, tmp_path_factory):
    """(a folder of runs, their trainers), with the encodings of the test split in files."""
    directory = tmp_path_factory.mktemp("runs")
    trainers = encoding_cases.trainers(path, experiment_dir=str(directory), source="alternative", use_cache=True)
    for one in trainers.values():
        one.evaluate_encoder(split="test")
    return directory, trainers


@pytest.fixture(scope="module")
def naive(suite, mixed):
    """(the distinct rows, what each model encodes them as), from a loop."""
    rows = encoding_cases.naive_pool(suite)
    return rows, encoding_cases.naive_encodings(suite, rows, mixed)


def close(found, expected, tolerance=1e-5):
    np.testing.assert_allclose(np.asarray(found, float), np.asarray(expected, float), atol=tolerance)


def pruned(models):
    """Models of other entries each."""
    parts = ("encoder-weight", "decoder-weight", "decoder-sum")
    return {
        name: model.prune_gradiend(topk=0.3, part=part, inplace=False)
        for (name, model), part in zip(models.items(), parts, strict=False)
    }


def inverted(model):
    other = copy.copy(model)
    other._modules = {**model._modules, "gradiend": copy.deepcopy(model.gradiend)}
    assert other.invert_encoding(update_direction=False)
    return other


class TestNumbers:
    @pytest.mark.parametrize("with_pruned", [False, True])
    def test_cells_are_means_of_a_loop_over_rows(self, suite, mixed, naive, with_pruned):
        models, (rows, encodings) = mixed, naive
        if with_pruned:
            models = pruned(mixed)
            encodings = encoding_cases.naive_encodings(suite, rows, models)
        for compute, column in (
            (compute_gradiend_feature_cross_encoding_matrix, "source_id"),
            (compute_gradiend_transition_cross_encoding_matrix, "transition"),
        ):
            found = compute(suite, models=models, **WITHOUT)
            expected = encodings.groupby(rows[column]).mean().T
            close(found.to_frame()[list(expected)], expected)
            assert found["n_matrix"][0] == [int((rows[column] == name).sum()) for name in found["columns"]]
        assert found["transitions_found"] == list(dict.fromkeys(rows["transition"]))
        assert set(found["columns"]) == {f"{a}→{b}" for a, b in itertools.permutations("HST", 2)}

    @pytest.mark.slow
    def test_a_column_may_be_the_class_whose_word_is_read(self, suite):
        models = encoding_cases.reading(suite, ["alternative"] * 3)
        rows = encoding_cases.naive_pool(suite)
        expected = -encoding_cases.naive_encodings(suite, rows, models).groupby(rows["target_id"]).mean().T
        found = compute_gradiend_feature_cross_encoding_matrix(suite, alignment="auto", models=models, **WITHOUT)
        assert found["alignment"] == "counterfactual"
        close(found.to_frame()[list(expected)], expected)
        for name, cells in found.to_frame().iterrows():
            first, second = name.split("__")
            assert cells[first] > 0 > cells[second]

    def test_pairs_have_the_rows_of_their_own_trainer(self, suite, mixed, naive):
        rows, encodings = naive
        positive = {name: one.target_classes[0] for name, one in suite.items()}
        up, down = (
            pd.DataFrame(
                {
                    pair: encodings[rows[pair].astype(bool) & ((rows["source_id"] == positive[pair]) == wanted)].mean()
                    for pair in suite
                }
            )
            for wanted in (True, False)
        )
        for metric, expected in {
            "positive_mean": up, "negative_mean": down, "positive_minus_negative": up - down,
        }.items():  # fmt: skip
            found = compute_trainer_pair_encoding_matrix(
                suite, metric=metric, positive_class=positive, models=mixed, **WITHOUT
            )
            close(found["matrix"], expected)
        scaled = compute_trainer_pair_encoding_matrix(
            suite, positive_class=positive, normalize=True, models=mixed, **WITHOUT
        )
        close(scaled["matrix"], (up - down).div(np.diag(up - down), axis=0))

    def test_the_summary_has_the_cells_of_the_transition_matrix(self, suite, mixed, naive):
        table = build_cross_task_encoder_summary(suite, n_resamples=100, models=mixed)
        found = compute_gradiend_transition_cross_encoding_matrix(suite, models=mixed, **QUICKLY)
        close(table["mean"], np.concatenate(found["matrix"]))
        rows, encodings = naive
        spread = encodings.groupby(rows["transition"]).std()
        close(table["std"], [spread.loc[row.transition, row.id] for row in table.itertuples()])
        cells = [cell or [math.nan, math.nan] for row in found["interval"] for cell in row]
        close(table[["low", "high"]], cells)
        assert (table["source_class"] + "→" + table["target_class"] == table["transition"]).all()

    def test_one_pass_of_gradients_gives_the_numbers_of_forward_mode(self, suite, mixed):
        models = list(pruned(mixed).values())
        pool = pool_of(features_of(suite), TEST)
        words = list(dict.fromkeys(pool.words[Side.FACTUAL]))[:9]
        few = [Directions(one.gradiend.mapping, [one.gradiend.encoder_linear.weight.detach()]) for one in models]
        many = [Directions(one.mapping, list(one.given) * 2) for one in few]
        for one, other in zip(project(models[0], words, few), project(models[0], words, many), strict=True):
            assert other.shape == (2, len(words))
            assert tiny.distance(other, one.expand(2, -1)) < 1e-5


class TestWhatACellHangsOn:
    def test_an_inverted_gradiend_has_the_same_cells(self, suite, mixed):
        others = {name: inverted(model) for name, model in mixed.items()}
        for compute in (
            compute_gradiend_feature_cross_encoding_matrix,
            compute_gradiend_transition_cross_encoding_matrix,
            compute_anchor_aligned_encoding_matrix,
        ):
            before, after = (compute(suite, models=models, **QUICKLY) for models in (mixed, others))
            close(after["matrix"], before["matrix"])
            close(after["null_level"], before["null_level"])
            signs = [(before["orientation"][name], after["orientation"][name]) for name in suite]
            assert all(one == [-other[0]] for one, other in signs)

    def test_no_call_changes_another_one_and_no_file_is_written(self, saved):
        directory, trainers = saved

        def files():
            return {file: file.read_bytes() for file in directory.rglob("*") if file.is_file()}

        before = files()
        first = compute_anchor_aligned_encoding_matrix(trainers, **WITHOUT)
        compute_gradiend_transition_cross_encoding_matrix(trainers, **WITHOUT)
        compute_gradiend_feature_cross_encoding_matrix(trainers, max_size=2, **QUICKLY)
        build_cross_task_encoder_summary(trainers)
        assert compute_anchor_aligned_encoding_matrix(trainers, **WITHOUT) == first
        assert files() == before

    def test_the_order_of_trainers_does_not_matter(self, suite):
        turned = dict(reversed(suite.items()))
        found, other = (compute_gradiend_feature_cross_encoding_matrix(one, **WITHOUT) for one in (suite, turned))
        close(other.to_frame().loc[list(suite), found["columns"]], found["matrix"])

    def test_the_pool_has_each_row_once_and_at_most_so_many_of_a_class(self, suite):
        features = features_of(suite)
        whole, small = pool_of(features, TEST), pool_of(features, Settings("test", 3))
        key = ["masked", "factual", "alternative", "source_id", "target_id"]
        expected = encoding_cases.naive_pool(suite)
        assert sorted(map(tuple, whole.rows.to_numpy())) == sorted(map(tuple, expected[key].to_numpy()))
        assert whole.owned.sum(axis=0).tolist() == [int(expected[name].sum()) for name in suite]
        twice = pool_of(features_of({"one": suite["H__S"], "other": suite["H__S"]}), TEST)
        assert len(twice) == int(expected["H__S"].sum()) == len(twice.words[Side.FACTUAL])
        assert twice.owned.all()
        assert small.rows["source_id"].value_counts().to_dict() == dict.fromkeys("HST", 3)
        assert small.rows.equals(pool_of(features, Settings("test", 3)).rows)
        places = {row: place for place, row in enumerate(map(tuple, whole.rows.to_numpy()))}
        for place, row in enumerate(map(tuple, small.rows.to_numpy())):
            assert (small.owned[place] == whole.owned[places[row]]).all()
            assert small.words[Side.FACTUAL][place] == whole.words[Side.FACTUAL][places[row]]

    def test_several_seeds_count_by_the_mean_of_their_means(self, suite):
        one, other = (name for name in list(suite)[:2])
        parts = (None, {one: pruned({one: suite[one].get_model()})[one]})
        single = [compute_gradiend_feature_cross_encoding_matrix(suite, models=m, **WITHOUT) for m in parts]
        seeds = (suite[one].get_model(), parts[1][one])
        for group in (list(seeds), SeedModelGroup(seeds)):
            found = compute_gradiend_feature_cross_encoding_matrix(suite, models={one: group}, **QUICKLY)
            close(found["matrix"], np.mean([some["matrix"] for some in single], axis=0))
            assert found["multi_seed"]
            cells = found["cell_stats"][0]
            close([cell["scores"] for cell in cells], np.transpose([some["matrix"][0] for some in single]))
            close([cell["std"] for cell in cells], np.std([some["matrix"][0] for some in single], axis=0))
            assert [cell["n"] for cell in found["cell_stats"][1]] == [1, 1, 1]
            assert [len(found["orientation"][name]) for name in (one, other)] == [2, 1]


class TestIntervalsAndNullLevels:
    def test_an_interval_is_that_of_the_mean_over_texts(self, suite, mixed, naive):
        found = compute_gradiend_feature_cross_encoding_matrix(suite, null=None, models=mixed)
        key = ["input_text", "factual", "alternative", "source_id", "target_id"]
        rows, encodings = naive
        # The resamples are drawn for the pool's own order of the texts.
        order = [list(map(tuple, rows.rename(columns={"masked": "input_text"})[key].to_numpy())).index(row)
                 for row in map(tuple, pool_of(features_of(suite), TEST).rows.to_numpy())]  # fmt: skip
        rows, encodings = rows.iloc[order], encodings.iloc[order]
        weights = resampled_weights(rows["masked"].to_numpy())
        for row, name in enumerate(suite):
            for column, of_class in enumerate(found["columns"]):
                own = np.flatnonzero(rows["source_id"] == of_class)
                expected = interval_of_mean(encodings[name].to_numpy()[own], weights[:, own])
                close(found["interval"][row][column], expected)
                low, high = found["interval"][row][column]
                assert low <= found["matrix"][row][column] <= high

    @pytest.mark.parametrize("null", ["random", "shuffle"])
    def test_trained_pairs_rise_above_the_null_level(self, suite, mixed, null):
        found = compute_anchor_aligned_encoding_matrix(suite, models=mixed, null=null, n_null=20, n_resamples=0)
        assert (np.diag(found["matrix"]) > np.diag(np.array(found["null_level"]))).all()
        assert found["null"] == {"kind": null, "n": 20, "quantile": 0.95}

    def test_random_directions_are_orthogonal_and_of_the_given_norm(self):
        directions = RandomDirections(count=5, norm=3.0, seed=1)
        matrix = directions.project(torch.eye(50, dtype=torch.float64), directions.signs(50))
        torch.testing.assert_close(matrix @ matrix.T, 9 * torch.eye(5, dtype=torch.float64))
        gradients = torch.randn(4, 50, dtype=torch.float64)
        torch.testing.assert_close(directions.project(gradients, directions.signs(50)), matrix @ gradients.T)

    def test_a_null_encoding_is_that_of_the_direction_and_centred(self, suite):
        (name, one), *_ = suite.items()
        features = features_of({name: one})
        pool, model = pool_of(features, TEST), one.get_model()
        found = encode_pool(features, pool, Settings("test", None, "random", 20))
        gradients = torch.cat(
            [model.engine.gradients([w], [w], [Side.FACTUAL])[0][None] for w in pool.words[Side.FACTUAL]]
        )
        norm = float(model.gradiend.encoder_linear.weight.detach().norm())
        directions = RandomDirections(20, norm, 42)
        expected = directions.project(gradients, directions.signs(gradients.shape[1]))
        first = torch.from_numpy(pool.rows["source_id"].to_numpy() == one.target_classes[0])
        middle = (expected[:, first].mean(1, keepdim=True) + expected[:, ~first].mean(1, keepdim=True)) / 2
        close(found.nulls[:, 0], torch.tanh(expected - middle))

    @pytest.mark.slow
    def test_shuffled_labels_give_the_same_numbers_in_one_pass_and_in_many(self, suite, monkeypatch):
        features = features_of(suite, encoding_cases.reading(suite, SOURCES))[1:]
        pool = pool_of(features, TEST)
        found = encode_pool(features, pool, Settings("test", None, "shuffle", 20))
        size = sum(model.gradiend.encoder_linear.weight.nbytes for one in features for model in one.models)
        monkeypatch.setattr("gradiend.comparison._encoded.NULL_BYTES", 7 * size)
        again = encode_pool(features, pool, Settings("test", None, "shuffle", 20))
        close(again.values, found.values)
        close(again.nulls, found.nulls)
        assert np.abs(found.nulls).max() > 0.01
        # Of shuffled labels, half tell the classes apart the wrong way round.
        first, second = pool.sides(features)
        gaps = [
            found.nulls[:, own, first[:, own]].mean(axis=1) - found.nulls[:, own, second[:, own]].mean(axis=1)
            for own in range(2)
        ]
        assert all(2 < (gap > 0).sum() < 18 for gap in gaps)


class TestMaps:
    def test_a_union_has_the_entries_of_all_maps_and_knows_where_they_are(self):
        model = tiny.bert()
        mappings = [tiny.mixed_map(model)]
        generator = torch.Generator().manual_seed(0)
        mappings += [mappings[0].narrow(torch.rand(mappings[0].size, generator=generator) < 0.05) for _ in range(2)]
        union = ParameterMap.union(mappings[1:], WHOLE)
        parameters = dict(model.named_parameters())
        flat = union.flatten(parameters)
        for mapping in mappings[1:]:
            torch.testing.assert_close(flat[union.places(mapping)], mapping.flatten(parameters))
        sets = [set(mapping.base_indices().tolist()) for mapping in mappings[1:]]
        assert set(union.base_indices().tolist()) >= sets[0] | sets[1]
        assert union.size < union.unpruned_size
        for entry in union:
            assert entry.representation == "all" or entry.num_selected < 0.2 * entry.numel
        assert ParameterMap.union(mappings[:1] * 2) is mappings[0]
        assert mappings[0].places(mappings[0]) is None

    def test_each_word_is_differentiated_once_for_all(self, suite, mixed, monkeypatch):
        seen = []
        gradients = GradientEngine.gradients

        def counted(engine, factual, *args, **kwargs):
            seen.extend(factual)
            return gradients(engine, factual, *args, **kwargs)

        monkeypatch.setattr(GradientEngine, "gradients", counted)
        compute_gradiend_transition_cross_encoding_matrix(suite, models=mixed, **QUICKLY)
        pool = pool_of(features_of(suite), TEST)
        assert len(seen) == len(set(seen)) == len({*pool.words[Side.FACTUAL], *pool.words[Side.ALTERNATIVE]})

    def test_few_gradients_are_held_at_once(self, suite, monkeypatch):
        models = [one.get_model() for one in suite.values()]
        maps = [model.gradiend.mapping for model in models]
        monkeypatch.setattr("gradiend.comparison._projections.BUFFER", 3 * maps[0].size * 4)
        words = pool_of(features_of(suite), TEST).words[Side.FACTUAL][:8]
        sizes = GradientReader(models[0], maps).read(words, lambda batch, values: torch.tensor(values.shape), "")
        assert [tuple(size.tolist()) for _, size in sizes] == [(3, maps[0].size), (3, maps[0].size), (2, maps[0].size)]


class TestPositivePairs:
    def test_the_name_of_the_negative_class_says_which_is_positive(self, pairs):
        found = compute_trainer_pair_encoding_matrix(pairs, **QUICKLY)
        assert found["positive_class"] == {"male": "male", "many": "many"}
        assert (np.diag(found["matrix"]) > np.diag(np.array(found["null_level"]))).all()
        assert found["rows"] == found["columns"] == ["male", "many"]

    def test_another_positive_class_turns_row_and_column(self, pairs):
        found, turned = (
            compute_trainer_pair_encoding_matrix(pairs, positive_class=given, **WITHOUT)["matrix"]
            for given in (None, {"many": "non_many"})
        )
        close(turned, np.array(found) * [[1, -1], [-1, 1]])

    def test_merged_classes_with_one_name_have_columns_of_their_own_and_the_suite_says_which_is_positive(self, path):
        words = {"male": "he", "non_male": "it", "many": "they", "non_many": "she", "old": "old", "non_old": "new"}
        suite = PositiveTrainerSuite(
            TextPredictionTrainer,
            model=path,
            data=encoding_cases.rows({name: (word,) for name, word in words.items()}),
            positive_feature_definitions=[PositiveFeatureDefinition(one, f"non_{one}") for one in list(words)[::2]],
            mode="all_but_one",
            run_id="features",
            args=encoding_cases.arguments(source="factual"),
        )
        suite.train()
        found = compute_trainer_pair_encoding_matrix(suite, **WITHOUT)
        assert found["rows"] == list(suite)
        assert list(found["pair_by_trainer"].values()) == [["positive", "negative"]] * 3
        matrix = np.array(found["matrix"])
        assert (np.diag(matrix) > 0).all()
        assert all(np.ptp(row) > 1e-2 for row in matrix)


class TestSavedInputs:
    def test_saved_runs_have_the_cells_of_their_trainers(self, saved):
        directory, trainers = saved
        loaded = load_saved_cross_encoding_inputs(directory)
        assert list(loaded) == sorted(trainers)
        assert len({id(one.model.base_model) for one in loaded.values()}) == 1
        for compute in (compute_gradiend_transition_cross_encoding_matrix, compute_anchor_aligned_encoding_matrix):
            close(compute(loaded, **WITHOUT)["matrix"], compute(trainers, **WITHOUT)["matrix"])
        with pytest.raises(ValueError, match="null='random'"):
            compute_anchor_aligned_encoding_matrix(loaded, null="shuffle")

    def test_rows_of_version_0_2_get_the_class_of_their_text(self, saved, tmp_path):
        """There, a GRADIEND that reads the alternative word has rows with the class of this word twice."""
        directory, _ = saved
        (tmp_path / "H__S").mkdir()
        (tmp_path / "H__S" / "model").symlink_to(directory / "H__S" / "model")
        written = pd.read_csv(directory / "H__S" / "encoded_values_split_test.csv")
        old = written.assign(source_id=written["target_id"], factual_id="", counterfactual_id="")
        old.to_csv(tmp_path / "H__S" / "encoded_values_split_test.csv", index=False)
        found, expected = (
            load_saved_cross_encoding_inputs(place, ["H__S"])["H__S"].rows for place in (tmp_path, directory)
        )
        pd.testing.assert_frame_equal(found, expected)

    def test_what_is_missing_is_named(self, saved, tmp_path):
        directory, _ = saved
        with pytest.raises(FileNotFoundError, match="has no run"):
            load_saved_cross_encoding_inputs(tmp_path)
        with pytest.raises(FileNotFoundError, match="_split_validation"):
            load_saved_cross_encoding_inputs(directory, ["H__S"], split="val")
        (tmp_path / "H__S").mkdir()
        (tmp_path / "H__S" / "model").symlink_to(directory / "H__S" / "model")
        for name in ("encoded_values_split_test.csv", "encoded_values_max_size_3_split_test.csv"):
            (tmp_path / "H__S" / name).write_text("input_text,factual\na,b\n")
        with pytest.raises(ValueError, match="several files"):
            load_saved_cross_encoding_inputs(tmp_path)
        (tmp_path / "H__S" / "encoded_values_max_size_3_split_test.csv").unlink()
        with pytest.raises(ValueError, match="does not say input_text"):
            load_saved_cross_encoding_inputs(tmp_path)


class TestFigures:
    """What is drawn is the matrix; `plot_comparison_heatmap` has tests of its own."""

    @pytest.fixture(autouse=True)
    def _matplotlib(self):
        pytest.importorskip("matplotlib")

    def test_each_plot_shows_its_matrix(self, suite, mixed, tmp_path):
        options = {"models": mixed, **WITHOUT}
        for plot, compute, more in (
            (plot_gradiend_feature_cross_encoding_heatmap, compute_gradiend_feature_cross_encoding_matrix, {}),
            (plot_gradiend_transition_cross_encoding_heatmap, compute_gradiend_transition_cross_encoding_matrix, {}),
            (plot_cross_encoding_heatmap, compute_anchor_aligned_encoding_matrix, {"alignment": "counterfactual"}),
            (
                plot_cross_encoding_heatmap,
                compute_trainer_pair_encoding_matrix,
                {"metric": "positive_mean", "positive_class": {name: name[0] for name in suite}},
            ),
        ):
            expected = compute(suite, **options, **more)
            path = tmp_path / f"{compute.__name__}.png"
            computed = plot(suite, show=False, output_path=path, **options, **more)
            given = plot(expected, show=False)
            assert path.stat().st_size > 1000
            for drawn in (computed, given):
                assert (drawn["rows"], drawn["columns"]) == (expected["rows"], expected["columns"])
                close(drawn["matrix"], expected["matrix"], 0)

    def test_the_anchor_aligned_matrix_needs_no_list_of_classes_and_no_evaluation(self, suite):
        drawn, figure, _ = plot_cross_encoding_heatmap(
            suite, run_evaluation=False, cluster=True, show=False, return_fig_ax=True, **WITHOUT
        )
        assert sorted(drawn["rows"]) == ["H", "S", "T"]
        assert any("mean encoding" in ax.get_ylabel() for ax in figure.axes)

    @pytest.mark.parametrize(
        ("options", "error", "says"),
        [
            ({"spilt": "test"}, TypeError, "'split'"),
            ({"cmap": "colours"}, ValueError, "colours"),
            ({"metric": "positive_mean", "feature_classes": ["H"]}, TypeError, "different matrices"),
            ({"run_evaluation": None}, TypeError, "run_evaluation"),
        ],
    )
    def test_bad_options_are_refused_before_anything_is_encoded(self, options, error, says):
        with pytest.raises(error, match=says):
            plot_cross_encoding_heatmap({"no": "trainer"}, **options)

    def test_a_finished_matrix_is_not_computed_again(self):
        finished = {"measure": "m", "matrix": [[1.0]], "rows": ["a"], "columns": ["b"]}
        with pytest.raises(TypeError, match="finished matrix and split"):
            plot_cross_encoding_heatmap(finished, split="test")


def test_the_example_of_the_guide_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = python_blocks(DOCS / "compare_encodings.md")
    args = encoding_cases.arguments(experiment_dir=str(tmp_path))
    names = {"model": path, "rows": encoding_cases.rows(), "args": args}
    exec(compile(code, "compare_encodings.md", "exec"), names)
    assert (tmp_path / "encodings.csv").is_file()
    assert (np.diag(names["found"]["matrix"]) > 0).all()


class NoTexts:
    """A trainer whose data are no texts."""

    run_id, target_classes = "numbers", ("a", "b")

    def __init__(self, model):
        self.model = model

    def get_model(self):
        return self.model

    def create_eval_data(self, model, **options):
        return []


BAD = [
    (lambda s: compute_gradiend_feature_cross_encoding_matrix({}), ValueError, "no trainer"),
    (lambda s: compute_gradiend_feature_cross_encoding_matrix("runs"), TypeError, "list of trainers"),
    (lambda s: compute_gradiend_feature_cross_encoding_matrix({"a": 3}), TypeError, "has no get_model"),
    (lambda s: compute_gradiend_feature_cross_encoding_matrix([s["H__S"]] * 2), ValueError, "of another one"),
    (lambda s: compute_gradiend_feature_cross_encoding_matrix(s, ["X"]), ValueError, "no rows; there are: H, S, T"),
    (lambda s: compute_gradiend_feature_cross_encoding_matrix(s, "H"), TypeError, "list of names"),
    (lambda s: compute_gradiend_feature_cross_encoding_matrix(s, split="nowhere"), ValueError, "No trainer has rows"),
    (lambda s: compute_gradiend_feature_cross_encoding_matrix(s, max_size=0), ValueError, "at least 1"),
    (lambda s: compute_gradiend_feature_cross_encoding_matrix(s, null="shufle"), ValueError, "'shuffle'"),
    (lambda s: compute_gradiend_feature_cross_encoding_matrix(s, n_null=19), ValueError, "at least 20"),
    (lambda s: compute_gradiend_feature_cross_encoding_matrix(s, n_resamples=-1), ValueError, "at least 0"),
    (lambda s: compute_gradiend_feature_cross_encoding_matrix(s, models={"H_S": 1}), ValueError, "mean 'H__S'"),
    (lambda s: compute_gradiend_feature_cross_encoding_matrix(s, models={"H__S": 1}), TypeError, "with a GRADIEND"),
    (lambda s: compute_gradiend_feature_cross_encoding_matrix(s, models={"H__S": []}), ValueError, "none"),
    (lambda s: compute_gradiend_feature_cross_encoding_matrix(s, alignment="transition"), ValueError, "alignment"),
    (lambda s: compute_gradiend_feature_cross_encoding_matrix(s, spilt="test"), TypeError, "'split'"),
    (lambda s: compute_gradiend_transition_cross_encoding_matrix(s, cache_only=True), ValueError, "not possible"),
    (lambda s: compute_gradiend_transition_cross_encoding_matrix(s, ["H→H"]), ValueError, "H→S"),
    (compute_trainer_pair_encoding_matrix, ValueError, "positive_class="),
    (lambda s: compute_trainer_pair_encoding_matrix(s, positive_class={"H__S": "X"}), ValueError, "the pair is H ↔ S"),
    (lambda s: compute_trainer_pair_encoding_matrix(s, metric="mean"), ValueError, "metric"),
    (lambda s: compute_trainer_pair_encoding_matrix(s, encoder_eval="cached"), ValueError, "not possible"),
    (lambda s: load_saved_cross_encoding_inputs("x", "H__S"), TypeError, "list of run ids"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "says"), BAD)
def test_bad_input_is_refused_and_the_way_out_named(suite, call, error, says):
    with pytest.raises(error, match=says):
        call(suite)


def test_gradiends_of_different_base_models_are_not_compared(suite, tmp_path):
    tiny.bert(seed=1).save_pretrained(tmp_path)
    tiny.bert_tokenizer().save_pretrained(tmp_path)
    other = encoding_cases.trainer(str(tmp_path), ("H", "S"))
    with pytest.raises(ValueError, match="different base models"):
        compute_gradiend_feature_cross_encoding_matrix({**suite, "other": other})


def test_what_cannot_be_encoded_together_is_refused(suite, mixed, path):
    with pytest.raises(TypeError, match="no texts with words"):
        compute_gradiend_feature_cross_encoding_matrix({"numbers": NoTexts(suite["H__S"].get_model())})
    with pytest.raises(ValueError, match="must read one source"):
        compute_gradiend_feature_cross_encoding_matrix(suite, models={"H__S": list(mixed.values())})
    (other,) = encoding_cases.reading({"H__S": suite["H__S"]}, ["factual"]).values()
    other.objective = copy.copy(other.objective)
    other.objective.__class__ = type("Other", (type(other.objective),), {})
    with pytest.raises(ValueError, match="in different ways"):
        compute_gradiend_feature_cross_encoding_matrix(suite, models={"H__T": other})
    untrained = tiny_data.trainer(path, run_id="new")
    with pytest.raises(ValueError, match="not trained"):
        compute_gradiend_feature_cross_encoding_matrix([untrained])


def test_the_older_name_is_the_same_function():
    assert cross_encoding.compute_cross_encoding_matrix is compute_trainer_pair_encoding_matrix
