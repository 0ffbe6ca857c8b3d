"""Several seeds as one result: the report, the overlap of their weights, the view, and what is refused."""

import copy
import itertools
import json
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_data

from gradiend import TrainingArguments
from gradiend.evaluator.encoder_metrics import correlation_interval, correlation_interval_of_seeds
from gradiend.report import write_report
from gradiend.trainer import MultiSeedTrainerView, SeedModelGroup, is_multi_seed_view
from gradiend.trainer._seed_aggregates import Aggregation
from gradiend.trainer._seed_stability import overlaps_with, stability_verdict, topk_stability
from gradiend.trainer.core.stats import overlap_sentence

SEEDS = {
    "max_seeds": 3, "min_convergent_seeds": None, "convergent_score_threshold": 0.01, "seed_stability_topk": 60,
    "analyze_seed_stability": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tiny_data.save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def trainer(path, tmp_path_factory):
    place = tmp_path_factory.mktemp("seeds")
    trained = tiny_data.trainer(path, {**SEEDS, "experiment_dir": str(place), "use_cache": True}, run_id="r")
    assert trained.train() is trained
    return trained


@pytest.fixture(scope="module")
def evaluated(trainer):
    """(view, result of its encoder evaluation)."""
    view = trainer.multi_seed(return_per_seed=True)
    return view, view.evaluate_encoder(return_df=True)


class Ranked:
    """A model whose top weights are given."""

    def __init__(self, *indices):
        self.indices = indices

    def get_topk_weights(self, *, part, topk):
        assert (part, topk) == ("encoder-weight", 4)
        return list(self.indices)


class TestStability:
    def test_it_is_what_sets_say(self):
        sets = {0: {1, 2, 3, 4}, 1: {3, 4, 5}, 7: {4, 8, 9, 10}}
        found = topk_stability({seed: Ranked(*own) for seed, own in sets.items()}, 4, "encoder-weight", 50)
        pairs = list(itertools.combinations(sets.values(), 2))
        overlap = [len(a & b) / min(len(a), len(b)) for a, b in pairs]
        jaccard = [len(a & b) / len(a | b) for a, b in pairs]
        union = set.union(*sets.values())
        seen = [sum(index in own for own in sets.values()) for index in union]
        expected = {
            "computed": True, "num_runs": 3, "run_ids": ["seed_0", "seed_1", "seed_7"], "seeds": [0, 1, 7], "topk": 4,
            "part": "encoder-weight", "topk_size_by_run": {"seed_0": 4, "seed_1": 3, "seed_7": 4},
            "mean_topk_size": 11 / 3, "union_size": len(union), "intersection_size": 1,
            "parameters_seen_once": seen.count(1), "parameters_seen_in_all_runs": seen.count(3),
            "mean_presence_fraction": np.mean(seen) / 3, "mean_pairwise_overlap_fraction": np.mean(overlap),
            "min_pairwise_overlap_fraction": min(overlap), "max_pairwise_overlap_fraction": max(overlap),
            "pairwise_overlap_std": np.std(overlap), "mean_pairwise_jaccard": np.mean(jaccard),
            "pairwise_jaccard_std": np.std(jaccard), "random_overlap_fraction": 4 / 50, "stable_from": 0.54,
            "verdict": "unclear",
        }  # fmt: skip
        for name, value in expected.items():
            assert found[name] == (pytest.approx(value) if isinstance(value, float) else value), name
        assert [row["overlap_fraction"] for row in found["pairwise_overlap_rows"]] == pytest.approx(overlap)
        interval = found["mean_pairwise_overlap_interval"]
        assert min(overlap) <= interval["low"] < np.mean(overlap) < interval["high"] <= max(overlap)
        assert overlaps_with(7, found) == pytest.approx({0: 1 / 4, 1: 1 / 3, 7: 1.0})
        assert overlaps_with(5, found) == {}

    def test_one_pair_has_no_interval_and_equal_sets_overlap_wholly(self):
        models = {0: Ranked(1, 2), 1: Ranked(2, 1), 2: Ranked(1, 2)}
        for seeds, verdict, why in (((0, 1), "unclear", "it takes three"), ((0, 1, 2), "stable", "not below 0.52")):
            found = topk_stability({seed: models[seed] for seed in seeds}, 4, "encoder-weight", 50)
            assert found["mean_pairwise_overlap_interval"] is None
            assert found["mean_pairwise_overlap_fraction"] == found["mean_presence_fraction"] == 1.0
            assert found["verdict"] == verdict
            assert f"{verdict.capitalize()}: " in (told := overlap_sentence(found))
            assert why in told
        assert "all weights" in overlap_sentence(topk_stability(models, 4, "encoder-weight", 2))

    @pytest.mark.parametrize(
        ("interval", "random", "verdict"),
        [
            ((0.6, 0.9), 0.2, "stable"), ((0.59, 0.9), 0.2, "unclear"), ((0.3, 0.6), 0.2, "unclear"),
            ((0.3, 0.59), 0.2, "unstable"), ((1.0, 1.0), 1.0, "unclear"), (None, 0.0, "unclear"),
        ],
    )  # fmt: skip
    def test_the_verdict_is_by_the_interval(self, interval, random, verdict):
        assert stability_verdict(interval, random) == (verdict, (1 + random) / 2)

    def test_random_sets_overlap_as_is_said_and_are_unstable(self):
        drawn = np.random.default_rng(0)
        models = {seed: Ranked(*drawn.choice(40, 10 + seed % 2, replace=False).tolist()) for seed in range(60)}
        found = topk_stability(models, 4, "encoder-weight", 40)
        assert found["mean_pairwise_overlap_fraction"] == pytest.approx(found["random_overlap_fraction"], abs=0.01)
        assert found["verdict"] == "unstable"

    def test_the_report_has_it_and_shows_it(self, trainer, tmp_path):
        report = trainer.get_seed_report()
        models = trainer.multi_seed().seed_models()
        expected = topk_stability(models, 60, "decoder-weight", models[0].gradiend.input_dim)
        assert report["topk_stability"] == json.loads(json.dumps(expected))
        told = overlap_sentence(expected)
        assert told.startswith("3 seeds share")
        assert "of their top 60 by" in told
        assert "of their top 50 % by" in overlap_sentence({**expected, "topk": 0.5})
        assert f". {expected['verdict'].capitalize()}: " in told
        page = Path(write_report(tmp_path / "page.html", trainer)).read_text(encoding="utf-8")
        for shown in (repr(report), repr(trainer.multi_seed().table()), page):
            assert told in " ".join(shown.split())
        assert report["convergent_seeds"] == [0, 1, 2]
        for run in report["runs"]:
            assert run["correlation_interval"]["low"] <= run["eval_correlation"] <= run["correlation_interval"]["high"]
            assert set(run["mean_by_class"]) == {"SG", "PL"}
            least = min(map(abs, run["mean_by_class"].values()))
            assert run["convergent_min_target_class_abs_mean"] == pytest.approx(least)
            assert run["best_checkpoint_global_step"] in (2, 4)

    def test_another_topk_is_compared_without_training(self, trainer, path):
        again = tiny_data.trainer(path, trainer.training_args.replace(seed_stability_topk=0.5), run_id="r").train()
        assert again.reused
        assert again.get_seed_report()["topk_stability"]["topk"] == 0.5
        tiny_data.trainer(path, trainer.training_args, run_id="r").train()  # as it was


class TestAggregation:
    def test_numbers_through_nested_dicts(self):
        results = [
            {
                "a": 1.0,
                "b": {"c": 2, "t": "x"},
                "t": "x",
                "f": True,
                "learning_rate": 0.1,
                "n": None,
                "x_interval": None,
            },
            {"a": 4.0, "b": {"c": 4, "t": "y"}, "t": "x", "f": True, "learning_rate": 0.2, "n": 3.0, "only": 1},
        ]
        results[1]["x_interval"] = (0, 1)
        found = Aggregation("mean").combined(results)
        assert found == {
            "a": 2.5, "b": {"c": 3.0}, "t": "x", "f": True, "learning_rate": None, "n": None, "x_interval": None,
        }  # fmt: skip
        assert Aggregation("max", own={"a": sum}).combined(results)["a"] == 5.0
        assert Aggregation("median").combined(results[:1]) == results[0]

    @pytest.mark.parametrize(
        ("dispersion", "expected"),
        [
            ("none", {}),
            ("std", {"std": 1.5}),
            ("range", {"range_half_width": 1.5}),
            ("minmax", {"minmax": [1.0, 4.0]}),
        ],
    )  # fmt: skip
    def test_the_spread(self, dispersion, expected):
        found = Aggregation("median", dispersion).stats([{"a": {"b": 1.0}, "id": 3}, {"a": {"b": 4.0}, "id": 3}])
        assert found == {"a.b": {"mean": 2.5, "aggregate": 2.5, "n": 2, "min": 1.0, "max": 4.0, **expected}}

    def test_frames_are_matched_by_rows_and_turned(self):
        rows = [("a [MASK]", "he", 1.0), ("b [MASK]", "they", -1.0), ("b [MASK]", "they", -1.0)]
        first = pd.DataFrame(rows, columns=["input_text", "factual", "label"]).assign(
            alternative="x", type="training", encoded=[0.5, -0.5, -0.7]
        )
        second = first.iloc[[2, 0, 1]].assign(encoded=[0.3, -0.9, 0.1])  # its correlation is negative
        found = Aggregation("mean", "minmax").frame([first, second])
        # The second of two equal rows is the one that comes second in each frame.
        assert found["encoded"].tolist() == pytest.approx([0.7, -0.4, -0.4])
        assert found["encoded_min"].tolist() == pytest.approx([0.5, -0.5, -0.7])
        assert found["label"].tolist() == first["label"].tolist()
        with pytest.raises(ValueError, match="other rows"):
            Aggregation().frame([first, second.assign(factual="she")])

    def test_the_interval_of_seeds_is_that_of_one_seed_if_all_are_equal(self):
        noise = np.random.default_rng(0).normal(size=40)
        labels = np.where(np.arange(40) % 2, 1.0, -1.0)
        frame = pd.DataFrame({"encoded": labels + noise, "label": labels, "type": "training"})
        one = correlation_interval(frame["encoded"].to_numpy(), labels)
        assert correlation_interval_of_seeds([frame, frame]) == pytest.approx(one)
        worse = frame.assign(encoded=labels + 4 * noise)
        both = correlation_interval_of_seeds([frame, worse])
        assert both["high"] - both["low"] > one["high"] - one["low"]
        assert correlation_interval_of_seeds([frame, worse], "min") is None


class TestView:
    def test_the_encoder_is_that_of_each_seed(self, trainer, evaluated):
        view, result = evaluated
        per_seed = result["seeds"]["per_seed"]
        assert list(per_seed) == view.seed_values() == result["seeds"]["values"] == [0, 1, 2]
        correlations = []
        for seed, model in view.seed_models().items():
            alone = trainer.evaluate_encoder(model, use_cache=False)
            assert per_seed[seed]["correlation"] == pytest.approx(alone["correlation"], abs=1e-6)
            correlations.append(alone["correlation"])
        assert result["correlation"] == pytest.approx(np.mean(correlations), abs=1e-6)
        stat = result["seeds"]["stats"]["correlation"]
        assert stat["std"] == pytest.approx(np.std(correlations), abs=1e-6)  # std is the default with the analysis
        assert (result["seeds"]["n"], stat["n"]) == (3, 3)
        interval = result["correlation_interval"]
        assert interval["low"] < result["correlation"] < interval["high"]
        assert len(result["encoder_df"]) == result["n_samples"]
        assert "encoded_std" in result["encoder_df"]
        assert "Encoder: 32 rows" in repr(result)
        assert "3 seeds" in repr(view)

    def test_decoder_table_and_choices(self, evaluated, tmp_path):
        view, _ = evaluated
        result = view.evaluate_decoder(lrs=[0.05])
        choices = result["seeds"]["choices"]["SG"]
        assert [one["seed"] for one in choices] == [0, 1, 2]
        assert result["SG"]["value"] == pytest.approx(np.mean([one["value"] for one in choices]))
        assert "Decoder" in repr(result)
        assert "reason" not in result["SG"]  # there was one step to choose
        both = view.evaluate_decoder(lrs=[0.01, 0.05])
        for goal in ("SG", "PL"):
            rates = {one["learning_rate"] for one in both["seeds"]["choices"][goal]}
            entry = both[goal]
            assert (entry["learning_rate"], entry["feature_factor"]).count(None) == (2 if len(rates) > 1 else 0)
            if len(rates) > 1:
                with pytest.raises(ValueError, match="Seeds have chosen different rewrites"):
                    view.trainer.rewrite_base_model(both, strengthen=goal)
        assert any(entry.get("reason") for entry in (both["SG"], both["PL"]))  # or nothing was tested
        view.evaluate_decoder(lrs=[0.05])
        assert set(view.evaluate(kwargs_decoder={"lrs": [0.05]})) == {"encoder", "decoder"}
        table = view.table()
        frame = table.to_frame()
        report = view.get_seed_report()
        assert frame["correlation"].tolist() == [run["eval_correlation"] for run in report["runs"]]
        assert frame["SG after"].tolist() == [one["value"] for one in choices]
        assert frame.loc[frame["best"], "overlap_with_best"].tolist() == [1.0]
        assert frame.columns.tolist()[:8] == [
            "seed", "best", "converged", "correlation", "low", "high", "mean SG", "mean PL",
        ]  # fmt: skip
        assert "(best)" in repr(table)
        assert "overlap with best" in repr(table)
        pd.testing.assert_frame_equal(pd.read_csv(table.to_csv(tmp_path / "t.csv")), frame)

    def test_models_paths_and_helpers(self, trainer):
        view = trainer.multi_seed(aggregate="median", dispersion="range")
        group = view.get_model(gradiend_only=True)
        assert isinstance(group, SeedModelGroup)
        assert group.seed_values[0] == trainer.get_seed_report()["best_seed"]
        assert (group.aggregate, group.dispersion) == ("median", "range")
        assert view.seed_paths() == trainer.get_saved_seed_run_paths()
        best = trainer.get_seed_report()["best_seed"]
        assert trainer.get_best_seed_run_path() == view.seed_paths()[best]
        assert [run["seed"] for run in trainer.get_seed_run_entries()] == [0, 1, 2]
        one = trainer.multi_seed("best").get_model()
        assert one.base_model is not None
        assert is_multi_seed_view(view)
        assert not is_multi_seed_view(trainer)
        assert copy.copy(view).seed_values() == [0, 1, 2]

    @pytest.mark.slow
    def test_plots_are_drawn_for_each_seed(self, trainer, tmp_path):
        pytest.importorskip("matplotlib")
        view = trainer.multi_seed()
        drawn = view.plot_training_convergence(show=False)
        assert len(set(drawn["paths"])) == 3
        assert all(Path(path).parent.name == f"seed_{seed}" for seed, path in enumerate(drawn["paths"]))
        assert drawn["path"] == drawn["paths"][trainer.get_seed_report()["best_seed"]]
        view.plot_training_convergence(show=False, output=str(tmp_path / "c.png"))
        assert sorted(path.name for path in tmp_path.iterdir()) == [f"c_seed_{seed}.png" for seed in range(3)]
        both = view.evaluate_encoder(plot=True, plot_kwargs={"show": False, "output": str(tmp_path / "d.png")})
        assert [Path(path).name for path in both["plot_paths"]] == [f"d_seed_{seed}.png" for seed in range(3)]

    def test_a_function_of_ones_own(self, trainer):
        view = trainer.multi_seed()
        view.register_seed_aggregator("correlation", list)
        assert len(view.evaluate_encoder()["correlation"]) == 3
        with pytest.raises(TypeError, match="function"):
            view.register_seed_aggregator("correlation", 3)

    def test_nothing_of_the_trainer_changes_also_in_threads(self, trainer):
        before = (trainer.training_args.to_dict(), trainer.experiment_dir, trainer.model_path, trainer.current.model)
        files = {path: path.read_bytes() for path in Path(trainer.experiment_dir).glob("*") if path.is_file()}
        found, seen = [], set()

        def evaluate():
            found.append(trainer.multi_seed().evaluate_encoder(use_cache=False)["correlation"])

        threads = [threading.Thread(target=evaluate) for _ in range(2)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            seen.add((trainer.experiment_dir, trainer.training_args.experiment_dir, trainer.run_id))
            threads[0].join(0.01)
        for thread in threads:
            thread.join()
        assert len(seen) <= 1
        assert found[0] == found[1]
        assert (trainer.training_args.to_dict(), trainer.experiment_dir, trainer.model_path) == before[:3]
        assert trainer.current.model is before[3]
        assert files == {path: path.read_bytes() for path in Path(trainer.experiment_dir).glob("*") if path.is_file()}

    def test_evaluations_of_seeds_are_cached_each_by_itself(self, trainer):
        view = trainer.multi_seed()
        first = view.evaluate_encoder()
        places = [Path(view.trainer_of(seed).experiment_dir) / "encoded_values_split_test.csv" for seed in (0, 1, 2)]
        times = [place.stat().st_mtime_ns for place in places]
        assert view.evaluate_encoder()["correlation"] == first["correlation"]
        assert [place.stat().st_mtime_ns for place in places] == times
        assert len({place.read_bytes() for place in places}) == 3

    @pytest.mark.parametrize("name", ["train", "rewrite_base_model", "export_delta", "pre_prune", "encode", "to"])
    def test_what_belongs_to_one_model_is_refused(self, trainer, name):
        with pytest.raises(AttributeError, match=rf"view\.trainer_of\(seed\)\.{name}"):
            getattr(trainer.multi_seed(), name)

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"selection": "convergent"}, "selection must be one of all_convergent"),
            ({"aggregate": "average"}, "aggregate must be one of mean"),
            ({"dispersion": "sd"}, "dispersion must be one of none"),
            ({"aggregate": "min", "dispersion": "range"}, "minmax"),
        ],
    )
    def test_bad_values_are_named(self, trainer, fields, message):
        with pytest.raises(ValueError, match=message):
            trainer.multi_seed(**fields)

    def test_arguments_of_one_model_are_refused(self, trainer):
        view = trainer.multi_seed()
        with pytest.raises(TypeError, match="model_with_gradiend"):
            view.evaluate_encoder(model_with_gradiend=3)
        with pytest.raises(TypeError, match="decoder_results"):
            view.plot_probability_shifts(decoder_results={})
        with pytest.raises(ValueError, match="Seed 9 is not selected"):
            view.trainer_of(9)
        with pytest.raises(AttributeError, match="neither has TextPredictionTrainer"):
            view.nothing  # noqa: B018


class TestNeverASilentFallBack:
    """Defects 11 and 13 of the existing tool."""

    def test_without_a_report(self, path):
        with pytest.raises(ValueError, match=r"There is no report of several seeds: call train\(\)"):
            MultiSeedTrainerView(tiny_data.trainer(path).train())

    def test_none_converged_and_weights_that_were_not_kept(self, path, tmp_path):
        fields = {"max_seeds": 2, "convergent_score_threshold": 1.0, "experiment_dir": str(tmp_path)}
        trainer = tiny_data.trainer(path, fields).train()
        with pytest.raises(ValueError, match="None of 2 seeds has converged"):
            trainer.multi_seed()
        with pytest.raises(FileNotFoundError, match="saved_seed_runs='all_tried'"):
            trainer.multi_seed("all_tried")
        view = trainer.multi_seed("best")
        assert view.seed_paths() == {trainer.get_seed_report()["best_seed"]: str(tmp_path / "model")}
        assert view.evaluate_encoder()["seeds"]["n"] == 1
        assert trainer.title_mark() == " †"

    def test_a_missing_folder(self, path, tmp_path):
        fields = {**SEEDS, "max_seeds": 2, "experiment_dir": str(tmp_path), "max_steps": 2}
        trainer = tiny_data.trainer(path, fields).train()
        best = trainer.get_seed_report()["best_seed"]
        (tmp_path / "seeds" / f"seed_{1 - best}" / "config.json").unlink()
        with pytest.raises(FileNotFoundError, match=f"The weights of seed {1 - best} are not there"):
            trainer.multi_seed()


class TestWhatIsKept:
    @pytest.mark.parametrize(
        ("fields", "kept"),
        [
            ({}, "best_only"),
            ({"keep_seed_runs": True}, "all_tried"),
            ({"analyze_seed_stability": True}, "all_convergent"),
            ({"saved_seed_runs": "all_convergent"}, "all_convergent"),
            ({"keep_seed_runs": True, "saved_seed_runs": "all_tried"}, "all_tried"),
        ],
    )
    def test_the_default(self, fields, kept):
        assert TrainingArguments(**fields).seeds_that_stay == kept
        assert TrainingArguments(**fields).replace(seed=3).seeds_that_stay == kept

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"saved_seed_runs": "best"}, "Did you mean 'best_only'"),
            ({"keep_seed_runs": True, "saved_seed_runs": "best_only"}, "give one of them"),
            ({"analyze_seed_stability": True, "saved_seed_runs": "best_only"}, "removes"),
            ({"analyze_seed_stability": True, "max_seeds": 1}, "at least 2"),
            ({"seed_stability_part": "decoder"}, "seed_stability_part"),
        ],
    )
    def test_what_does_not_fit_together(self, fields, message):
        with pytest.raises(ValueError, match=message):
            TrainingArguments(**fields)

    def test_only_seeds_that_converged_keep_their_weights(self, path, tmp_path):
        scores = {0: 0.1, 1: 0.9}
        fields = {
            "max_seeds": 2, "min_convergent_seeds": None, "experiment_dir": str(tmp_path), "normalize_gradiend": False,
            "saved_seed_runs": "all_convergent", "convergent_metric": "correlation", "fail_on_non_convergence": True,
        }  # fmt: skip

        class Judged(type(tiny_data.trainer(path))):
            def create_eval_data(self, *args, **kwargs):
                return ()

        def judged(config, training_stats):
            del training_stats
            return {"correlation": scores[config["seed"] if isinstance(config, dict) else config.seed]}

        arguments = TrainingArguments(**{**tiny_data.QUICK, **fields}, evaluate_fn=judged)
        trainer = Judged(path, data=tiny_data.rows(), target_classes=["SG", "PL"], args=arguments)
        assert trainer.train() is trainer
        assert list(trainer.get_saved_seed_run_paths()) == [1]
        assert trainer.multi_seed().seed_values() == [1]


class TestTooFewConverged:
    @pytest.mark.parametrize("seeds", [1, pytest.param(2, marks=pytest.mark.slow)])
    def test_it_is_an_error_on_request_with_everything_saved(self, path, tmp_path, seeds):
        fields = {"max_seeds": seeds, "convergent_score_threshold": 1.0, "fail_on_non_convergence": True}
        trainer = tiny_data.trainer(path, {**fields, "experiment_dir": str(tmp_path)})
        with pytest.raises(RuntimeError, match=f"0 of {seeds} seeds have converged.*seed 0: correlation 0"):
            trainer.train()
        assert (tmp_path / "model" / "config.json").is_file()

    @pytest.mark.slow
    def test_too_few_to_compare(self, path, tmp_path, caplog):
        fields = {"max_seeds": 2, "analyze_seed_stability": True, "convergent_score_threshold": 1.0}
        trainer = tiny_data.trainer(path, {**fields, "experiment_dir": str(tmp_path)})
        with pytest.raises(RuntimeError, match="needs 1 converged seeds; 0 of 2"):
            trainer.train()
        assert "the first seed that converges is the last" in caplog.text
        assert trainer.get_seed_report()["topk_stability"] == {"computed": False}
