"""Caches: the same is never computed twice, and no number comes back that was made from something else."""

import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from everyday import every

from gradiend import PostPruneConfig, PrePruneConfig, TextPredictionTrainer, TrainingArguments
from gradiend.evaluator import EncoderEvaluator, LMSThresholdPolicy, get_model_metrics, read_decoder_stats_file
from gradiend.evaluator._language_score import LanguageModelingScore
from gradiend.evaluator._measurements import TextMeasurement
from gradiend.evaluator._probabilities import ClassProbabilities
from gradiend.evaluator.encoder_metrics import invalidate_encoder_metrics_cache
from gradiend.trainer import EarlyStoppingCallback
from gradiend.trainer._preparation import TrainingPlan
from gradiend.trainer._saved_training import seeds_parts, training_parts
from gradiend.trainer.text import TextPredictionModelWithGradiend
from gradiend.util._argument_fields import plain
from gradiend.util._cache import differences
from gradiend.util.paths import resolve_decoder_stats_path

WORDS = {"one": ["he", "she"], "many": ["they"]}
ARGUMENTS = {
    "train_batch_size": 4, "max_steps": 3, "learning_rate": 1e-2, "eval_steps": 2, "max_seeds": 1, "eval_batch_size": 8,
    "params": ["*layer.1*"],
}  # fmt: skip
LRS = [0.01, 0.1]


def rows():
    """Eight training rows and four of each other split per class."""
    things = ["lamp", "river", "cat", "dog", "house", "door", "bread", "baker"]
    found = []
    for name, words in WORDS.items():
        for split, number in (("train", 8), ("validation", 4), ("test", 4)):
            found += [
                {
                    "masked": f"the {things[i]} in the {things[(i + len(split)) % 8]} was old and [MASK] saw it .",
                    "split": split, "label_class": name, "label": words[i % len(words)],
                }
                for i in range(number)
            ]  # fmt: skip
    return pd.DataFrame(found)


NEUTRAL = pd.DataFrame({"text": ["the old lamp was near the door .", "the river was on the house ,"] * 3})


def no_evaluation(config, training_stats):
    return {"correlation": None}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    directory = str(tmp_path_factory.mktemp("base"))
    model = tiny.bert()
    # It says "the" where it does not know better, so that its language-modelling score is not 0.
    with torch.no_grad():
        model.cls.predictions.bias[tiny.bert_tokenizer().convert_tokens_to_ids("the")] += 4
    model.save_pretrained(directory)
    tiny.bert_tokenizer().save_pretrained(directory)
    return directory


@pytest.fixture
def make(base, tmp_path):
    """A trainer on the experiment of the test; other data, models and arguments are keywords."""

    def make(data=None, model=base, neutral=NEUTRAL, **arguments):
        args = TrainingArguments(**{"experiment_dir": str(tmp_path), "use_cache": True, **ARGUMENTS, **arguments})
        data = rows() if data is None else data
        return TextPredictionTrainer(
            model=model, data=data, target_classes=["one", "many"], args=args, eval_neutral_data=neutral
        )

    return make


@pytest.fixture
def work(monkeypatch):
    """What was computed: a list that grows by one word per training, encoding and measurement."""
    done = []

    def counted(owner, name, word):
        original = getattr(owner, name)

        def counting(self, *args, **kwargs):
            done.append(word)
            return original(self, *args, **kwargs)

        monkeypatch.setattr(owner, name, counting)

    counted(TextPredictionTrainer, "_train", "train")
    counted(TextPredictionTrainer, "_analyze_encoder", "encode")
    counted(LanguageModelingScore, "measure", "lms")
    counted(ClassProbabilities, "rows", "probabilities")
    return done


def counts(work):
    """How often a model was measured on the neutral texts, and on the rows of a dataset class."""
    return work.count("lms"), work.count("probabilities")


class TestTraining:
    """train(use_cache=True)."""

    def test_the_same_is_trained_once(self, make, work):
        first = make().train()
        weights = {path: path.stat().st_mtime_ns for path in Path(first.model_path).iterdir()}
        again = make()
        assert again.train() is again
        assert work == ["train"]
        assert again.model_path == first.model_path
        assert again.target_classes == ["one", "many"]
        assert {path: path.stat().st_mtime_ns for path in Path(again.model_path).iterdir()} == weights
        assert torch.equal(
            again.get_model().gradiend.encoder_linear.weight, first.get_model().gradiend.encoder_linear.weight
        )

    @pytest.mark.parametrize(
        ("change", "said"),
        every(
            2,
            [
                ({"learning_rate": 1e-3}, "learning_rate was 0.01 and is 0.001"),
                ({"seed": 1}, "seed was 0 and is 1"),
                ({"source": "factual"}, "source was 'alternative'"),
                ({"train_batch_size": 2}, "train_batch_size"),
                ({"data": rows().iloc[1:]}, "other rows"),
                ({"data": rows().replace({"label": {"she": "he"}})}, "other rows"),
            ],
        ),
    )
    def test_what_matters_trains_again(self, make, work, caplog, change, said):
        make().train()
        with caplog.at_level(logging.INFO):
            make(**change).train()
        assert work == ["train", "train"]
        assert [said in record.message for record in caplog.records if "is not used" in record.message] == [True]

    @pytest.mark.parametrize(
        "change",
        [
            {"init": "class_means"}, {"init": "class_means", "init_samples": 8}, {"bf16": True},
            {"base_model_dtype": "float64"}, {"torch_dtype": "float64"}, {"pre_prune_config": PrePruneConfig(topk=0.5)},
            {"pre_prune_config": PrePruneConfig(topk=0.5, dataset=[{"factual": "a"}])},
            {"pre_prune_config": PrePruneConfig(topk=0.5, dataset=[{"factual": "b"}])},
            {"post_prune_config": PostPruneConfig(topk=0.5)}, {"criterion": torch.nn.L1Loss()},
            {"callbacks": [EarlyStoppingCallback(patience=2)]}, {"callbacks": [EarlyStoppingCallback(patience=3)]},
            {"evaluate_fn": no_evaluation}, {"evaluate_fn": dict},
        ],
    )  # fmt: skip
    def test_what_a_training_depends_on(self, make, base, change):
        assert differences(*(self.parts(make, base, training_parts, one) for one in ({}, change)))
        assert differences(*(self.parts(make, base, seeds_parts, one) for one in ({}, change)))

    def test_values_of_one_setting_are_told_apart(self, make, base):
        for first, second in (
            ({"callbacks": [EarlyStoppingCallback(2)]}, {"callbacks": [EarlyStoppingCallback(3)]}),
            *(
                [{"pre_prune_config": PrePruneConfig(topk=0.5, dataset=[{"factual": text}])} for text in pair]
                for pair in ("ab", [object(), object()])
            ),
        ):
            found = [plain(self.parts(make, base, training_parts, one)) for one in (first, first, second)]
            assert differences(found[1], found[2])
            if "pre_prune_config" not in first or isinstance(first["pre_prune_config"].dataset[0]["factual"], str):
                assert not differences(found[0], found[1])

    @pytest.mark.parametrize(
        "change",
        [
            {"gradient_checkpointing": True}, {"kept_gradients_size": 0}, {"use_cached_gradients": True},
            {"encoder_decoder_same_device": True}, {"eval_batch_size": 1}, {"output_dir": "elsewhere"},
            {"torch_compile": True},
        ],
    )  # fmt: skip
    def test_speed_memory_and_places_do_not_matter(self, make, base, change):
        for parts in (training_parts, seeds_parts):
            assert not differences(*(self.parts(make, base, parts, one) for one in ({}, change)))

    def test_how_the_importance_is_computed_does_not_matter_but_what_it_is(self, make, base):
        def config(**options):
            return {"pre_prune_config": PrePruneConfig(**{"topk": 0.5, **options})}

        for change in ({"batch_size": 1}, {"importance_device": "cpu"}, {"use_cached_gradients": True}):
            assert not differences(
                *(self.parts(make, base, training_parts, one) for one in (config(), config(**change)))
            )
        for change in ({"n_samples": 8}, {"source": "diff"}, {"topk": 0.4}, {"importance_dtype": "bfloat16"}):
            assert differences(*(self.parts(make, base, training_parts, one) for one in (config(), config(**change))))

    def test_one_training_is_no_choice_among_seeds_and_the_log_says_so(self, make, base):
        one, several = self.parts(make, base, training_parts, {}), self.parts(make, base, seeds_parts, {"max_seeds": 3})
        [why] = differences(several, one)
        assert why.startswith("it was made without max_seeds, min_convergent_seeds")
        [why] = differences(one, several)
        assert why.startswith("it was made with max_seeds, ")

    def parts(self, make, base, parts, change):
        """What a training with other arguments or callbacks depends on."""
        arguments = {name: value for name, value in change.items() if name != "callbacks"}
        trainer = make(**arguments)
        plan = TrainingPlan(trainer.training_args, "model", base, callbacks=change.get("callbacks"))
        return plain(parts(trainer, plan))

    def test_other_classes_matter_where_they_are_trained_on(self, make, work):
        other = pd.DataFrame(
            {
                "masked": [f"the {word} [MASK] it" for word in tiny.WORDS[2:14]],
                "split": ["train"] * 8 + ["test"] * 4,
                "label": "saw",
                "label_class": "verb",
            }
        )
        fewer = pd.concat([rows(), other.iloc[:-1]], ignore_index=True)
        changed = pd.concat([rows(), other.assign(masked=other["masked"] + " .")], ignore_index=True)
        for data, expected in ((fewer, 1), (changed, 1)):
            make(data=data).train()
            assert len(work) == expected
        for data, expected in ((fewer, 2), (changed, 3), (changed, 3)):
            make(data=data, add_identity_for_other_classes=True).train()
            assert len(work) == expected

    def test_another_base_model_trains_again(self, make, work, tmp_path):
        other = str(tmp_path / "other")
        tiny.bert(seed=1).save_pretrained(other)
        tiny.bert_tokenizer().save_pretrained(other)
        make().train()
        make(model=other).train()
        # The same name with other weights, too.
        tiny.bert(seed=2).save_pretrained(other)
        make(model=other).train()
        assert work == ["train"] * 3

    @pytest.mark.parametrize(
        "change",
        every(2, [
            {"encoder_eval_max_size": 2}, {"eval_batch_size": 2}, {"decoder_eval_lrs": [0.1]}, {"metadata": {"a": 1}},
            {"data": rows().iloc[:-1]}, {"neutral": None},
        ]),
    )  # fmt: skip
    def test_what_only_evaluations_read_does_not(self, make, work, change):
        make().train()
        make(**change).train()
        assert work == ["train"]

    def test_a_changed_or_unmarked_model_is_not_trusted(self, make, work):
        path = Path(make().train().model_path)
        model = make().load_model(str(path))
        model.invert_encoding()
        model.save_pretrained(str(path))
        make().train()
        assert work == ["train", "train"]
        (path / "fingerprint.json").unlink()
        make().train()
        assert work == ["train"] * 3

    def test_without_use_cache_everything_is_trained_again(self, make, work):
        make().train()
        make(use_cache=False).train()
        assert work == ["train", "train"]

    def test_a_changed_cap_is_called_as_the_user_calls_it(self, make, caplog):
        make(max_seeds=2, encoder_eval_max_size=3).train()
        with caplog.at_level(logging.INFO):
            make(max_seeds=2, encoder_eval_max_size=2).train()
        assert "seed_selection_eval_max_size (by default encoder_eval_max_size) was 3 and is 2" in caplog.text

    def test_seeds(self, make, work, caplog):
        several = {"max_seeds": 2, "min_convergent_seeds": None}
        make(**several).train()
        assert work == ["train", "train"]
        make(**several).train()
        assert work == ["train", "train"]
        make(**several, keep_seed_runs=True).train()
        models = make(**several, keep_seed_runs=True).train()
        assert list(models) == [0, 1]
        assert work == ["train"] * 4
        # The kept runs are those of the same single trainings, whatever is done with them.
        make(max_seeds=2, min_convergent_seeds=1, convergent_score_threshold=0.0, keep_seed_runs=True).train()
        assert work == ["train"] * 4

    def test_an_interrupted_series_of_seeds_goes_on(self, make, work, monkeypatch):
        several = {"max_seeds": 2, "min_convergent_seeds": None}
        one = make(**several)
        train = TextPredictionTrainer._train

        def interrupted(self, output_dir, args, **kwargs):
            if args.seed == 1:
                raise KeyboardInterrupt
            return train(self, output_dir=output_dir, args=args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(TextPredictionTrainer, "_train", interrupted)
            with pytest.raises(KeyboardInterrupt):
                one.train()
        resumed = make(**several).train()
        assert work == ["train", "train"]
        report = json.loads((Path(resumed.experiment_dir) / "seeds" / "seed_report.json").read_text())
        assert [(run["used_cache"], run["trained"]) for run in report["runs"]] == [(True, False), (False, True)]


class TestEncoder:
    """evaluate_encoder, get_encodings, get_encoder_metrics."""

    def test_the_same_is_encoded_once(self, make, work):
        trained = make().train()
        first = trained.evaluate_encoder(return_df=True)
        again = make().train()
        second = again.evaluate_encoder(return_df=True)
        assert work == ["train", "encode"]
        pd.testing.assert_frame_equal(second.pop("encoder_df"), first["encoder_df"], check_exact=True)
        first.pop("encoder_df")
        assert second == first
        pd.testing.assert_frame_equal(again.get_encodings(), trained.get_encodings(), check_exact=True)
        assert again.get_encoder_metrics(use_cache=True) == first
        assert again.get_encodings(max_size=2) is None
        assert again.get_encoder_metrics(split="train", use_cache=True) is None
        assert work == ["train", "encode"]

    def test_what_matters_is_encoded_again(self, make, work, caplog):
        trained = make().train()
        first = trained.evaluate_encoder()
        changes = [
            ({}, {"source": "factual"}),
            ({}, {"split": "train"}),
            ({}, {"max_size": 2}),
            ({}, {"exclude_params": "*attention*"}),
            ({}, {"neutral_data_df": NEUTRAL.head(2)}),
            ({"neutral": NEUTRAL.head(3)}, {}),
            ({"data": rows().iloc[:-1]}, {}),
            ({"encoder_eval_balance": False}, {}),
        ]
        for number, (changed, asked) in enumerate(changes, 2):
            other = make(**changed).train()
            other.evaluate_encoder(**asked)
            assert work == ["train"] + ["encode"] * number, (changed, asked)
            other.evaluate_encoder(**asked)
            assert work == ["train"] + ["encode"] * number, (changed, asked)
        assert make().train().evaluate_encoder() == first

    def test_a_changed_model_has_its_own_numbers(self, make, work):
        trained = make().train()
        first = trained.evaluate_encoder()
        model = trained.get_model()
        with torch.no_grad():
            model.gradiend.encoder_linear.weight.neg_()
        assert trained.get_encodings() is None
        assert trained.evaluate_encoder()["correlation"] == pytest.approx(-first["correlation"], abs=0.3)
        with torch.no_grad():
            next(model.base_model.parameters()).add_(0.01)
        trained.evaluate_encoder()
        assert work == ["train", "encode", "encode", "encode"]

    def test_a_frame_is_never_answered_from_another(self, make, work):
        trained = make().train()
        frame = trained.evaluate_encoder(return_df=True)["encoder_df"]
        flipped = frame.assign(encoded=-frame["encoded"])
        flipped_metrics = trained.evaluate_encoder(encoder_df=flipped, use_cache=True)
        assert flipped_metrics["correlation"] == pytest.approx(-trained.evaluate_encoder()["correlation"])
        evaluator = EncoderEvaluator()
        assert evaluator.evaluate_encoder(trained, encoder_df=flipped, use_cache=True) == flipped_metrics
        assert trained.get_encoder_metrics(encoder_df=frame.head(0)) is None
        assert work == ["train", "encode"]

    def test_the_evaluator_keeps_metrics_of_its_own(self, make, monkeypatch):
        trained = make().train()
        evaluator = EncoderEvaluator()
        first = evaluator.evaluate_encoder(trained, split="test", max_size=3)
        assert json.loads((Path(trained.experiment_dir) / "encoded_values_max_size_3_split_test.json").read_text())
        rows_of = trained.create_eval_data(trained.get_model(), split="train")
        monkeypatch.setattr(type(trained), "create_eval_data", lambda *_, **__: pytest.fail("created data"))
        assert evaluator.evaluate_encoder(trained, split="test", max_size=3) == first
        given = evaluator.evaluate_encoder(trained, eval_data=rows_of, split="test", max_size=3)
        assert given["n_samples"] == len(rows_of) != first["n_samples"]

    def test_the_evaluator_notices_rows_of_other_classes(self, make):
        other = pd.DataFrame(
            {"masked": [f"the {word} [MASK] it" for word in tiny.WORDS[2:10]], "split": "test", "label": "saw"}
        ).assign(label_class="verb")
        found = []
        for text in ("", " ."):
            data = pd.concat([rows(), other.assign(masked=other["masked"] + text)], ignore_index=True)
            trained = make(data=data).train()
            asked = {"split": "test", "include_other_classes": True}
            found.append(EncoderEvaluator().evaluate_encoder(trained, use_cache=True, **asked))
        assert found[0]["n_samples"] == found[1]["n_samples"]
        assert found[0]["mean_by_feature_class"] != found[1]["mean_by_feature_class"]

    def test_edited_files_are_not_trusted(self, make, work):
        trained = make().train()
        trained.evaluate_encoder()
        path = Path(trained.experiment_dir) / "encoded_values_split_test.csv"
        path.write_text(path.read_text().replace("0.", "0.1", 1))
        assert trained.get_encodings() is None
        trained.evaluate_encoder()
        invalidate_encoder_metrics_cache(path)
        assert trained.get_encodings() is None
        assert work == ["train", "encode"] or work == ["train", "encode", "encode"]

    def test_a_cache_needs_a_place(self, make):
        homeless = make(experiment_dir=None)
        homeless.get_model = lambda: pytest.fail("the model was touched")
        for call in (homeless.evaluate_encoder, homeless.get_encoder_metrics, homeless.evaluate_decoder):
            with pytest.raises(ValueError, match=r"use_cache=True.*experiment_dir"):
                call(use_cache=True)
        with pytest.raises(ValueError, match=r"use_cache=True.*experiment_dir"):
            EncoderEvaluator().evaluate_encoder(homeless, use_cache=True)
        with pytest.raises(ValueError, match="encoder_df"):
            make(use_cache=False).get_encoder_metrics()


class TestMetricsOfAFile:
    """get_model_metrics."""

    def test_they_follow_file_and_boundaries(self, tmp_path):
        path = tmp_path / "encoded.csv"
        frame = pd.DataFrame({"encoded": [0.9, -0.8, 0.2, -0.1], "label": [1.0, -1.0, 1.0, -1.0], "type": "training"})
        frame.to_csv(path, index=False)
        first = get_model_metrics(path)
        kept = path.with_suffix(".json")
        written = kept.stat().st_mtime_ns
        assert get_model_metrics(str(path), use_cache=True) == first
        assert first["mean_by_class"][1.0] == pytest.approx(0.55)
        assert kept.stat().st_mtime_ns == written
        assert get_model_metrics(path, pos_boundary=0.1)["all_data"]["accuracy"] == 0.75
        frame.assign(encoded=-frame["encoded"]).to_csv(path, index=False)
        assert get_model_metrics(path)["correlation"] == pytest.approx(-first["correlation"])
        with pytest.raises(FileNotFoundError, match="evaluate_encoder"):
            get_model_metrics(tmp_path / "no.csv")


class TestDecoder:
    """evaluate_decoder, evaluate_base_model."""

    def test_the_same_is_measured_once(self, make, work):
        trained = make().train()
        first = trained.evaluate_decoder(lrs=LRS)
        measured = list(work)
        second = make().train().evaluate_decoder(lrs=LRS)
        assert work == measured
        assert second == first
        assert {path.name for path in (Path(trained.experiment_dir) / "decoder").iterdir()} == {
            "base.json", "1.0_0.01.json", "1.0_0.1.json", "-1.0_0.01.json", "-1.0_0.1.json",
        }  # fmt: skip

    def test_one_more_rate_is_one_more_measurement_per_class(self, make, work):
        trained = make().train()
        trained.evaluate_decoder(lrs=LRS)
        work.clear()
        grid = trained.evaluate_decoder(lrs=[*LRS, 0.001])["grid"]
        assert len(grid) == 7
        # The base model is measured too, text by text, to be compared with.
        assert counts(work) == (3, 4)

    def test_an_interrupted_grid_goes_on(self, make, work, monkeypatch):
        trained = make().train()
        on = TextMeasurement.on
        calls = []

        def interrupted(self, datasets):
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return on(self, datasets)

        with monkeypatch.context() as patch:
            patch.setattr(TextMeasurement, "on", interrupted)
            with pytest.raises(KeyboardInterrupt):
                trained.evaluate_decoder(lrs=LRS)
        work.clear()
        resumed = trained.evaluate_decoder(lrs=LRS)
        assert counts(work) == (4, 5)
        assert resumed == make(use_cache=False).train().evaluate_decoder(lrs=LRS)

    def test_what_matters_is_measured_again(self, make, work, caplog):
        trained = make().train()
        trained.evaluate_decoder(lrs=[0.1], target_class="one")
        both = (2, 2)
        for changed, asked in (
            ({}, {"training_like_df": trained.combined_data.groupby("factual_class").head(3)}),
            ({}, {"neutral_df": NEUTRAL.head(1)}),
            ({"neutral": NEUTRAL.head(2)}, {}),
            ({}, {"max_size_training_like": 2}),
            ({"data": rows().iloc[:-1]}, {}),
        ):
            other = make(**changed).train()
            for expected in (both, (0, 0)):
                work.clear()
                other.evaluate_decoder(lrs=[0.1], target_class="one", **asked)
                assert counts(work) == expected, (changed, asked)
        other.evaluate_decoder(lrs=[0.1], target_class="one")
        model = other.get_model()
        with torch.no_grad():
            model.gradiend.decoder_linear.weight.mul_(2)
        work.clear()
        other.evaluate_decoder(lrs=[0.1], target_class="one")
        assert counts(work) == both
        with torch.no_grad():
            next(model.base_model.parameters()).add_(0.01)
        work.clear()
        other.evaluate_decoder(lrs=[0.1], target_class="one")
        assert counts(work) == both

    def test_parts_do_not_answer_for_each_other(self, make, work):
        trained = make().train()
        results = [
            trained.evaluate_decoder(lrs=[0.1], target_class="one", part=p) for p in ("decoder", "decoder-weight")
        ]
        work.clear()
        for part, result in zip(("decoder", "decoder-weight"), results, strict=True):
            assert trained.evaluate_decoder(lrs=[0.1], target_class="one", part=part) == result
        assert work == []

    def test_a_plot_measures_what_is_missing(self, make, work):
        trained = make().train()
        trained.evaluate_decoder(lrs=[0.1], selector=LMSThresholdPolicy(ratio=0.0))
        work.clear()
        plotted = trained.evaluate_decoder(lrs=[0.1], plot=True, show=False)
        # Each candidate lacks one dataset, and no LMS; the base model is measured to be compared with.
        assert counts(work) == (0, 4)
        assert all(set(entry["probs_by_dataset"]) == {"one", "many"} for entry in plotted["grid"].values())
        fresh = make(use_cache=False).train().evaluate_decoder(lrs=[0.1], plot=True, show=False)
        assert fresh["grid"] == plotted["grid"]
        work.clear()
        assert trained.analyze_decoder_for_plotting(lrs=[0.1])["plotting_data"] == fresh["grid"]
        assert work == []

    def test_finished_results_are_completed(self, make, work):
        trained = make(use_cache=False).train()
        results = trained.evaluate_decoder(lrs=[0.1], selector=LMSThresholdPolicy(ratio=0.0))
        work.clear()
        completed = trained.analyze_decoder_for_plotting(results, lrs=[0.1])
        assert counts(work) == (0, 4)
        assert set(completed["plotting_data"]) == set(results["grid"])

    @pytest.mark.parametrize("grid", [{"lrs": [0.1]}, {"lrs": [0.05, 0.1], "feature_factors": [0.5, -0.5]}])
    def test_finished_results_have_their_own_grid(self, make, work, grid):
        trained = make(use_cache=False).train()
        results = trained.evaluate_decoder(**grid, selector=LMSThresholdPolicy(ratio=0.0))
        work.clear()
        completed = trained.analyze_decoder_for_plotting(results)
        assert set(completed["plotting_data"]) == set(results["grid"])
        assert "lms" not in work

    def test_a_collapsed_candidate_is_not_measured_further(self, make, work):
        trained = make().train()
        strict, lenient = LMSThresholdPolicy(ratio=1.5), LMSThresholdPolicy(ratio=0.0)
        grid = trained.evaluate_decoder(lrs=LRS, target_class="one", selector=strict)["grid"]
        assert counts(work) == (3, 1)
        entry = next(entry for key, entry in grid.items() if key != "base")
        assert "LMS" in entry["skipped"]
        assert entry["probs_by_dataset"] == {}
        work.clear()
        assert trained.evaluate_decoder(lrs=LRS, target_class="one", selector=strict)["grid"] == grid
        assert work == []
        complete = trained.evaluate_decoder(lrs=LRS, target_class="one", selector=lenient)
        assert counts(work) == (0, 3)
        assert not any("skipped" in entry for entry in complete["grid"].values())
        # The step along the gradient of the first class's own word makes that word less likely.
        assert complete["one"]["feature_factor"] == -1.0

    def test_what_was_measured_stays_when_a_stricter_policy_wants_more(self, make, work):
        trained = make().train()
        lenient = {"lrs": [0.1], "feature_factors": [1, -1], "selector": LMSThresholdPolicy(ratio=0.0)}
        first = trained.evaluate_decoder(**lenient, target_class="one")
        trained.evaluate_decoder(**{**lenient, "selector": LMSThresholdPolicy(ratio=1.5)})
        work.clear()
        assert trained.evaluate_decoder(**lenient, target_class="one")["one"] == first["one"]
        assert work == []

    def test_a_choice_that_is_no_longer_made_is_not_kept(self, make):
        trained = make().train()
        lenient = {"lrs": [0.1], "selector": LMSThresholdPolicy(ratio=0.0)}
        weak = trained.evaluate_decoder(**lenient, increase_target_probabilities=False)
        trained.evaluate_decoder(**lenient)
        strict = trained.evaluate_decoder(lrs=[0.1], target_class="one", selector=LMSThresholdPolicy(ratio=1.5))
        assert strict["one"]["learning_rate"] is None
        with pytest.raises(ValueError, match=r"no rewrite for 'one'.*None of the steps 0.1 keeps 1.5"):
            trained.rewrite_base_model(target_class="one")
        # What was not asked for again stands.
        trained.rewrite_base_model(target_class="many")
        assert trained.rewrite_base_model(target_class="one", increase_target_probabilities=False)
        found = read_decoder_stats_file(resolve_decoder_stats_path(trained.experiment_dir, metric_name="one"))
        assert found["one_weaken"] == weak["one_weaken"]

    def test_a_policy_of_ones_own_sees_every_candidate(self, make):
        class Choosy(LMSThresholdPolicy):
            """May choose anything."""

            def select(self, metric, candidates, ctx):
                return super().select(metric, candidates, ctx) or candidates[0]

        grid = make().train().evaluate_decoder(lrs=LRS, selector=Choosy(ratio=1.5))["grid"]
        assert not any("skipped" in entry for entry in grid.values())

    def test_the_files_are_enough_to_rewrite(self, make):
        trained = make().train()
        lenient = {"lrs": [0.1], "selector": LMSThresholdPolicy(ratio=0.0)}
        strong = trained.evaluate_decoder(**lenient)
        weak = trained.evaluate_decoder(**lenient, increase_target_probabilities=False)
        for name in ("one", "many"):
            found = read_decoder_stats_file(resolve_decoder_stats_path(trained.experiment_dir, metric_name=name))
            assert found[name] == strong[name]
            assert found[f"{name}_weaken"] == weak[f"{name}_weaken"]
            assert found["grid"].keys() >= weak["grid"].keys()
            for strengthen, results in ((True, strong), (False, weak)):
                fresh = make().train()
                chosen = fresh.rewrite_base_model(target_class=name, increase_target_probabilities=strengthen)
                given = fresh.rewrite_base_model(results, name, increase_target_probabilities=strengthen)
                for one, other in zip(chosen.parameters(), given.parameters(), strict=True):
                    assert torch.equal(one, other)
        # The choice is not applied to a GRADIEND that is another by now, unless that is asked for.
        fresh.post_prune(PostPruneConfig(topk=0.5))
        for call in (fresh.rewrite_base_model, fresh.export_delta):
            with pytest.raises(ValueError, match=r"decoder_stats_.*another model \(other GRADIEND\).*evaluate_decoder"):
                call(target_class="one")
            assert call(strong, target_class="one")
        # Other weights: what was chosen for the old ones is gone.
        make(learning_rate=1e-3).train()
        assert not Path(resolve_decoder_stats_path(trained.experiment_dir, metric_name="one")).exists()

    def test_a_place_of_ones_own(self, make, work, tmp_path):
        homeless = make(experiment_dir=None, use_cache=False).train()
        place = tmp_path / "mine" / "results.json"
        first = homeless.evaluate_decoder(lrs=[0.1], output_path=str(place), use_cache=True)
        work.clear()
        assert homeless.evaluate_decoder(lrs=[0.1], output_path=str(place), use_cache=True) == first
        assert work == []
        assert read_decoder_stats_file(place)["grid"] == first["grid"]

    def test_one_base_model(self, make, work):
        trained = make().train()
        model = trained.get_model()
        work.clear()
        first = trained.evaluate_base_model(model.base_model, model.tokenizer, model_id="plain")
        assert set(first) == {"probs_by_dataset", "probs", "probs_factual", "probs_interval", "lms"}
        assert trained.evaluate_base_model(model.base_model, model.tokenizer, model_id="plain") == first
        assert counts(work) == (1, 2)
        rewritten = model.rewrite_base_model(1.0, 1.0)
        other = trained.evaluate_base_model(rewritten, model.tokenizer, model_id="plain")
        assert other["probs"] != first["probs"]
        few = trained.combined_data.head(4)
        trained.evaluate_base_model(model.base_model, model.tokenizer, model_id="plain", training_like_df=few)
        assert counts(work) == (3, 5)


class TestEncoderExtras:
    """What the numbers are worth: held-out words, and parameters left out."""

    def test_words_that_training_has_not_seen(self, make):
        data = rows()
        test = data["split"] == "test"
        data.loc[test & (data["label"] == "she"), "label"] = "It"
        data = data.assign(
            alternative=data["label_class"].map({"one": "they", "many": "he"}),
            alternative_class=data["label_class"].map({"one": "many", "many": "one"}),
        )
        trained = make(data=data).train()
        by_factual = trained.evaluate_encoder(source="factual", return_df=True)
        frame = by_factual["encoder_df"]
        assert set(frame["factual"][frame["held_out"]]) == {"It"}
        found = by_factual["held_out_words"]
        assert (found["n_samples"], found["correlation"], found["roc_auc"]) == (2, None, None)
        # The alternatives of those rows were seen.
        assert trained.evaluate_encoder()["held_out_words"]["n_samples"] == 0
        assert trained.evaluate_encoder(source="diff")["held_out_words"]["n_samples"] == 0

    def test_parameters_left_out_have_no_say(self, make):
        trained = make().train()
        model = trained.get_model()
        names = list(model.gradiend.param_map)
        kept = [name for name in names if "attention" not in name]
        found = trained.evaluate_encoder(exclude_params=["*attention*"], return_df=True, use_cache=False)["encoder_df"]
        zeroed = trained.load_model(trained.model_path)
        with torch.no_grad():
            for entry, place in zeroed.gradiend.mapping.slices():
                if entry.name not in kept:
                    zeroed.gradiend.encoder_linear.weight[:, place] = 0
        expected = trained.evaluate_encoder(zeroed, return_df=True, use_cache=False)["encoder_df"]
        np.testing.assert_allclose(found["encoded"], expected["encoded"], atol=1e-6)
        assert list(trained.get_model().gradiend.param_map) == names
        assert isinstance(zeroed, TextPredictionModelWithGradiend)
        with pytest.raises(ValueError, match="matches no"):
            trained.evaluate_encoder(exclude_params="*nothing*")
        with pytest.raises(ValueError, match="leaves nothing"):
            trained.evaluate_encoder(exclude_params="*")
