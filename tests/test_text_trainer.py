"""TextPredictionTrainer on the embedded model: inputs, seeds, evaluations, rewriting, errors."""

import json
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from everyday import every
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

from gradiend import (
    ModelWithGradiend,
    TextFilterConfig,
    TextPredictionConfig,
    TextPredictionDataCreator,
    TextPredictionTrainer,
    TrainingArguments,
)
from gradiend.demo import model_path, sentences
from gradiend.objectives.loading import AutoModelForLM
from gradiend.trainer.text import TextPredictionModelWithGradiend
from gradiend.visualizer import Visualizer

MODEL = str(model_path())
CLASSES = {"3SG": ["he", "she", "it"], "3PL": ["they"]}
FAST = {"train_batch_size": 8, "max_steps": 30, "learning_rate": 1e-3, "eval_steps": 15, "params": ["*encoder*"]}


def creator(texts):
    targets = [TextFilterConfig(targets=words, id=name) for name, words in CLASSES.items()]
    return TextPredictionDataCreator(base_data=texts, feature_targets=targets)


@pytest.fixture(scope="module")
def data():
    return creator(sentences(1500)).generate_training_data(max_size_per_class=150)


@pytest.fixture(scope="module")
def merged(data):
    frames = [frame.assign(label_class=name).drop(columns=name, errors="ignore") for name, frame in data.items()]
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="module")
def neutral():
    return creator(sentences(400)).generate_neutral_data(max_size=100)


def trainer(data, args=None, **kwargs):
    arguments = {"target_classes": list(CLASSES), **kwargs}
    return TextPredictionTrainer(model=MODEL, data=data, args=args or TrainingArguments(**FAST), **arguments)


@pytest.fixture(scope="module")
def trained(data, neutral, tmp_path_factory):
    directory = tmp_path_factory.mktemp("experiment")
    args = TrainingArguments(experiment_dir=str(directory), **FAST)
    return trainer(data, args, eval_neutral_data=neutral, run_id="run").train()


LRS = (0.0, 0.02, 0.05, 0.2)


@pytest.fixture(scope="module")
def results(trained):
    return trained.evaluate_decoder(lrs=LRS)


class TestInputs:
    """The same rows, whatever they come in."""

    def test_a_dict_a_table_and_files_give_the_same_rows(self, data, merged, tmp_path):
        merged.to_csv(tmp_path / "rows.csv", index=False)
        merged.to_parquet(tmp_path / "rows.parquet")
        inputs = [data, merged, str(tmp_path / "rows.csv"), tmp_path / "rows.parquet"]
        frames = [trainer(value).combined_data for value in inputs]
        columns = ["masked", "factual", "factual_class", "split"]
        expected = frames[0][columns].sort_values(columns, ignore_index=True)
        for frame in frames[1:]:
            pd.testing.assert_frame_equal(frame[columns].sort_values(columns, ignore_index=True), expected)

    def test_two_classes_need_not_be_named(self, data, merged):
        assert trainer(data, target_classes=None).target_classes == ["3SG", "3PL"]
        assert sorted(trainer(merged, target_classes=None).target_classes) == ["3PL", "3SG"]

    def test_a_config_object_does_the_same_as_its_fields(self, data):
        config = TextPredictionConfig(data=data, target_classes=["3PL", "3SG"], run_id="x")
        configured = TextPredictionTrainer(model=MODEL, config=config)
        assert configured.run_id == "x"
        assert configured.pair == ("3PL", "3SG")
        assert TextPredictionTrainer(model=MODEL, config=config, target_classes=["3SG", "3PL"]).pair == ("3SG", "3PL")
        assert config.target_classes == ["3PL", "3SG"]

    def test_the_model_is_not_loaded_before_it_is_needed(self, data):
        lazy = TextPredictionTrainer(model="no/such-model", data=data)
        assert lazy.target_classes == ["3SG", "3PL"]
        assert lazy.model_path == "no/such-model"


class TestTraining:
    """train() and what it leaves behind."""

    def test_the_files_are_where_the_documentation_says(self, trained):
        directory = Path(trained.experiment_dir)
        assert directory.name == "run"
        assert {path.name for path in (directory / "model").iterdir()} >= {
            "config.json", "model.safetensors", "training.json", "gradiend_context.json"
        }  # fmt: skip
        assert (directory / "training_convergence.png").is_file()
        report = json.loads((directory / "seeds" / "seed_report.json").read_text())
        assert report["seeds_tried"] == [0]
        assert report["convergent_count"] == 1
        assert report["runs"][0]["converged"] is True
        assert [path.name for path in (directory / "seeds" / "seed_0").iterdir()] == ["training.json"]

    def test_the_trained_model_is_used_and_can_be_loaded_again(self, trained, data):
        assert trained.model_path == str(Path(trained.experiment_dir) / "model")
        loaded = ModelWithGradiend.from_pretrained(trained.model_path)
        assert (loaded.source, loaded.target) == ("alternative", "diff")
        assert loaded.feature_class_encoding_direction == {"3SG": 1, "3PL": -1}
        rows = trained.combined_data.head(5)
        texts = rows["masked"], rows["factual"], rows["alternative"]
        assert torch.equal(loaded.encode_texts(*texts), trained.get_model().encode_texts(*texts))
        again = trainer(data).load_model(trained.model_path)
        assert torch.equal(again.encode_texts(*texts), loaded.encode_texts(*texts))

    def test_a_text_encodes_like_its_gradient(self, trained):
        model = trained.get_model()
        row = trained.combined_data.iloc[0]
        gradient = model.create_gradients(row["masked"], row["alternative"])
        as_dict = model.create_gradients(row["masked"], row["alternative"], return_dict=True)
        batched = model.encode_texts([row["masked"]], [row["factual"]], [row["alternative"]]).item()
        assert model.encode(gradient, return_float=True) == pytest.approx(batched, abs=1e-5)
        assert model.encode(as_dict, return_float=True) == pytest.approx(batched, abs=1e-5)
        assert model.encode(row["masked"], row["alternative"], return_float=True) == pytest.approx(batched, abs=1e-5)
        with pytest.raises(AssertionError, match="label"):
            model.encode(row["masked"])

    def test_only_the_parameters_asked_for_are_used(self, trained):
        names = list(trained.get_model().gradiend.param_map)
        assert names
        assert all("encoder" in name for name in names)

    def test_parameters_that_no_gradient_reaches_are_left_out(self, data):
        everything = trainer(data, TrainingArguments()).get_model()
        assert all("pooler" not in name for name in everything.gradiend.param_map)
        assert any("word_embeddings" in name for name in everything.gradiend.param_map)

    def test_seeds_are_tried_until_enough_have_converged(self, data, tmp_path):
        args = TrainingArguments(experiment_dir=str(tmp_path), max_seeds=3, min_convergent_seeds=2, **FAST)
        trainer(data, args).train()
        report = json.loads((tmp_path / "seeds" / "seed_report.json").read_text())
        assert report["seeds_tried"] == [0, 1]
        assert "2 of 2" in report["early_stop_reason"]
        scores = [run["selection_score"] for run in report["runs"]]
        assert report["best_selection_score"] == max(scores)
        assert report["best_seed"] == scores.index(max(scores))

    def test_seed_runs_can_be_kept(self, data, tmp_path):
        args = TrainingArguments(experiment_dir=str(tmp_path), seed=7, max_seeds=2, min_convergent_seeds=None, **FAST)
        models = trainer(data, args).train(keep_seed_runs=True)
        assert list(models) == [7, 8]
        weights = [model.gradiend.encoder_linear.weight for model in models.values()]
        assert not torch.equal(*weights)

    def test_the_same_seed_gives_the_same_bits(self, data, tmp_path):
        paths = []
        for name in "ab":
            args = TrainingArguments(experiment_dir=str(tmp_path / name), max_seeds=1, **FAST)
            paths.append(trainer(data, args).train().model_path)
        first, second = (Path(path, "model.safetensors").read_bytes() for path in paths)
        assert first == second

    def test_overrides_hold_for_one_training_and_change_nothing(self, data, tmp_path):
        args = TrainingArguments(**FAST)
        once = trainer(data, args)
        once.train(output_dir=str(tmp_path / "m"), max_steps=4, max_seeds=1)
        assert len(once.get_training_stats()["losses"]) == 4
        assert args.max_steps == 30

    def test_second_spellings_are_accepted_and_both_at_once_are_not(self, data, tmp_path):
        once = trainer(data)
        once.train(output=str(tmp_path / "m"), num_epochs=1, max_steps=2, max_seeds=1)
        assert once.model_path == str(tmp_path / "m")
        with pytest.raises(TypeError, match="'output' and 'output_dir', which mean the same"):
            once.train(output_dir="a", output="b")
        with pytest.raises(TypeError, match="Did you mean 'learning_rate'"):
            once.train(learning_rat=1e-3)

    def test_the_base_model_is_not_touched(self, trained):
        original = AutoModelForMaskedLM.from_pretrained(MODEL).state_dict()
        base = trained.get_model().base_model.state_dict()
        assert all(torch.equal(tensor, base[name]) for name, tensor in original.items())


class TestEncoder:
    """evaluate_encoder."""

    def test_training_rows_and_neutral_rows_are_encoded(self, trained):
        result = trained.evaluate_encoder(return_df=True)
        frame = result["encoder_df"]
        assert set(frame["type"]) == {"training", "neutral_training_masked", "neutral_dataset"}
        assert result["correlation"] > 0.8
        assert result["correlation"] == result["training_only"]["correlation"]
        test_rows = trained.combined_data.query("split == 'test'")
        assert set(frame.query("type == 'training'")["input_text"]) <= set(test_rows["masked"])
        neutral = frame[frame["type"] != "training"]
        assert (neutral["label"] == 0).all()
        assert not neutral["factual"].str.lower().isin(["he", "she", "it", "they"]).any()
        assert (Path(trained.experiment_dir) / "encoded_values_split_test.csv").is_file()

    def test_encodings_are_those_of_single_gradients(self, trained):
        model = trained.get_model()
        frame = trained.evaluate_encoder(return_df=True)["encoder_df"].groupby("type").head(3)
        for row in frame.itertuples():
            one = model.encode(model.create_gradients(row.input_text, row.alternative), return_float=True)
            assert row.encoded == pytest.approx(one, abs=1e-5)

    def test_a_given_frame_is_measured_not_encoded(self, trained):
        frame = pd.DataFrame({"encoded": [0.9, -0.8, 0.7], "label": [1.0, -1.0, 1.0], "type": "training"})
        assert trained.evaluate_encoder(encoder_df=frame)["n_samples"] == 3
        assert trained.evaluate_encoder(encoder_df={"encoder_df": frame})["n_samples"] == 3
        assert trained.evaluate_encoder(encoder_df=frame.head(0)) == {"n_samples": 0, "correlation": None}
        assert Path(trained.plot_encoder_distributions({"encoder_df": frame}, show=False)).is_file()
        for call in (trained.evaluate_encoder, trained.plot_encoder_distributions):
            with pytest.raises(ValueError, match="return_df=True"):
                call(encoder_df={"n_samples": 3})

    def test_neutral_texts_with_a_placeholder_are_left_out(self, trained):
        texts = ["the old dog saw the small house .", "the [MASK] dog saw the small house ."]
        frame = trained.evaluate_encoder(return_df=True, neutral_data_df=pd.DataFrame({"text": texts}))["encoder_df"]
        [masked] = frame.loc[frame["type"] == "neutral_dataset", "input_text"]
        assert masked.count("[MASK]") == 1
        assert masked.startswith("the old dog")

    def test_sizes_are_capped_per_variant(self, trained):
        frame = trained.evaluate_encoder(return_df=True, max_size=4)["encoder_df"]
        assert frame.groupby(["type", "label"]).size().max() == 4

    def test_the_source_can_be_chosen(self, trained):
        frames = [trained.evaluate_encoder(return_df=True, source=name)["encoder_df"] for name in ("factual", "diff")]
        factual, diff = (frame.query("type == 'training'")["encoded"] for frame in frames)
        assert not (factual == diff).all()
        # Source and alternative of a neutral row are the same word: their difference is nothing.
        resting = torch.tanh(trained.get_model().gradiend.encoder_linear.bias).item()
        neutral = frames[1].query("type != 'training'")["encoded"].tolist()
        assert neutral == pytest.approx([resting] * len(neutral), abs=1e-5)


class TestDecoder:
    """evaluate_decoder and rewrite_base_model."""

    def test_the_base_model_is_restored_to_the_same_bits(self, trained, results):
        original = AutoModelForMaskedLM.from_pretrained(MODEL).state_dict()
        base = trained.get_model().base_model.state_dict()
        assert all(torch.equal(tensor, base[name]) for name, tensor in original.items())

    def test_each_direction_is_measured_on_the_other_class_only(self, results):
        assert set(results) == {"3SG", "3PL", "grid"}
        grid = results["grid"]
        assert set(grid) == {"base", *((factor, lr) for factor in (-1.0, 1.0) for lr in LRS)}
        assert set(grid["base"]["probs_by_dataset"]) == {"3SG", "3PL"}
        for (factor, _), entry in [item for item in grid.items() if item[0] != "base"]:
            own = {} if "skipped" in entry else {"3PL" if factor < 0 else "3SG"}
            assert set(entry["probs_by_dataset"]) == set(own)

    def test_a_step_of_zero_is_the_base_model(self, results):
        base, still = results["grid"]["base"], results["grid"][-1.0, 0.0]
        assert still["lms"]["lms"] == base["lms"]["lms"]
        assert still["probs_by_dataset"]["3PL"] == base["probs_by_dataset"]["3PL"]

    def test_the_chosen_rewrite_raises_the_probability_and_keeps_the_score(self, results):
        for name, other in (("3SG", "3PL"), ("3PL", "3SG")):
            chosen = results[name]
            assert chosen["base_value"] == results["grid"]["base"]["probs_by_dataset"][other][name]
            assert chosen["value"] > chosen["base_value"]
            assert chosen["lms"] >= 0.99 * chosen["base_lms"]
            grid = [
                entry for key, entry in results["grid"].items() if key != "base" and key[0] == chosen["feature_factor"]
            ]
            allowed = [entry["probs"][other] for entry in grid if entry["lms"]["lms"] >= 0.99 * chosen["base_lms"]]
            assert chosen["value"] == max(allowed)

    def test_a_rewritten_model_has_the_probabilities_of_its_grid_point(self, trained, results, tmp_path):
        path = trained.rewrite_base_model(results, "3PL", output_dir=str(tmp_path / "m"))
        model, tokenizer = AutoModelForMaskedLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
        measured = trained.evaluate_base_model(model, tokenizer)
        assert measured["probs_by_dataset"]["3SG"]["3PL"] == pytest.approx(results["3PL"]["value"], abs=1e-5)
        assert measured["lms"]["lms"] == results["3PL"]["lms"]

    def test_weakening_is_measured_on_the_class_itself(self, trained):
        weak = trained.evaluate_decoder(lrs=LRS, increase_target_probabilities=False, target_class="3PL")
        assert set(weak) == {"3PL_weaken", "grid"}
        base = weak["grid"]["base"]["probs_by_dataset"]["3PL"]["3PL"]
        chosen = weak["3PL_weaken"]
        assert set(weak["grid"]["base"]["probs_by_dataset"]) == {"3PL"}
        assert chosen["base_value"] == 1 - base
        assert chosen["value"] > chosen["base_value"]
        model = trained.rewrite_base_model(weak, "3PL", increase_target_probabilities=False)
        measured = trained.evaluate_base_model(model, trained.get_model().tokenizer)
        assert measured["probs_factual"]["3PL"] == pytest.approx(1 - chosen["value"], abs=1e-5)

    @pytest.mark.parametrize("part", every(3, ["decoder-weight", "decoder-sum", "decoder-bias", "encoder-weight"]))
    def test_every_part_moves_both_ways_and_is_rewritten_as_measured(self, trained, part):
        results = trained.evaluate_decoder(lrs=[0.1], part=part)
        model = trained.get_model()
        for name, other in (("3SG", "3PL"), ("3PL", "3SG")):
            entry = results["grid"][-model.feature_class_encoding_direction[name], 0.1]
            chosen = {name: {**entry["id"], "part": part}}
            measured = trained.evaluate_base_model(trained.rewrite_base_model(chosen, name), model.tokenizer)
            assert measured["probs_by_dataset"][other] == pytest.approx(entry["probs_by_dataset"][other], abs=1e-5)

    def test_the_choice_is_that_of_a_plain_grid(self, trained):
        """Every candidate rewritten on a copy, and measured from the start in other batches."""
        rates, model = (0.0, 0.1, 2.0), trained.get_model()
        sizes = {"max_size_training_like": 10, "max_size_neutral": 20}
        results = trained.evaluate_decoder(lrs=rates, **sizes)

        def measured(base_model):
            return trained.evaluate_base_model(base_model, model.tokenizer, eval_batch_size=3, **sizes)

        base = measured(model.base_model)
        for name, other in (("3SG", "3PL"), ("3PL", "3SG")):
            factor = -model.feature_class_encoding_direction[name]
            plain = {}
            for lr in rates[1:]:
                found = measured(model.rewrite_base_model(lr, factor))
                assert results["grid"][factor, lr]["lms"]["lms"] == found["lms"]["lms"]
                if found["lms"]["lms"] >= 0.99 * base["lms"]["lms"]:
                    plain[lr] = found["probs_by_dataset"][other][name]
            best = max(plain, key=plain.get)
            assert 0 < len(plain) < len(rates) - 1
            assert (results[name]["learning_rate"], results[name]["feature_factor"]) == (best, factor)
            assert results[name]["value"] == pytest.approx(plain[best], abs=1e-5)

    def test_several_classes_give_several_models(self, trained, results):
        models = trained.rewrite_base_model(results, ["3SG", "3PL"])
        assert len(models) == 2
        paths = trained.rewrite_base_model(results, ["3SG", "3PL"], output_dir="anything")
        assert [Path(path).name for path in paths] == ["3SG", "3PL"]
        assert Path(paths[0]).parent == Path(trained.experiment_dir)

    def test_a_rewritten_model_never_overwrites_the_gradiend(self, trained, results):
        before = (Path(trained.model_path) / "model.safetensors").read_bytes()
        with pytest.raises(ValueError, match="holds a trained GRADIEND"):
            trained.rewrite_base_model(results, "3SG", output_dir=trained.model_path)
        named_like_it = {**results, "model": results["3SG"]}
        places = trained.rewrite_base_model(named_like_it, ["3PL", "model"], output_dir="anything")
        assert places[1].startswith(f"{trained.model_path}-")
        assert (Path(trained.model_path) / "model.safetensors").read_bytes() == before

    def test_a_plot_needs_everything_and_gets_it(self, trained):
        results = trained.evaluate_decoder(lrs=[0.05], plot=True, show=False)
        assert set(results["grid"][1.0, 0.05]["probs_by_dataset"]) == {"3SG", "3PL"}
        assert Path(results["plot_path"]).is_file()

    def test_a_plot_does_not_make_the_other_direction_a_candidate(self, trained):
        class Lowest:
            """Takes what moves the class down, as the default policy would if nothing else kept the score."""

            def select(self, metric, candidates, ctx):
                return min((c for c in candidates if metric in c.metrics), key=lambda c: c.metrics[metric])

        plain, plotted = (
            trained.evaluate_decoder(lrs=[0.02, 0.05], selector=Lowest(), plot=plot, show=False)
            for plot in (False, True)
        )
        assert plotted["3SG"]["feature_factor"] == -1.0
        assert plotted["3PL"]["feature_factor"] == 1.0
        assert {name: plotted[name] for name in CLASSES} == {name: plain[name] for name in CLASSES}

    def test_plots_have_the_configured_format(self, trained, data):
        args = trained.training_args
        vector = trainer(data, args, img_format="svg", run_id="run")
        vector.get_model(load_directory=trained.model_path)
        paths = [
            vector.plot_training_convergence(model_path=trained.model_path, class_spread="iqr", show=False),
            vector.evaluate_encoder(plot=True, plot_kwargs={"show": False})["plot_path"],
            vector.evaluate_decoder(lrs=[0.05], plot=True, show=False)["plot_path"],
        ]
        assert [Path(path).suffix for path in paths] == [".svg"] * 3
        assert all(Path(path).is_file() for path in paths)

    def test_a_plot_without_a_place_is_refused_before_the_work(self, trained, data):
        homeless = trainer(data)
        homeless.get_model = lambda: pytest.fail("work had begun")
        with pytest.raises(ValueError, match="experiment_dir"):
            homeless.evaluate_decoder(plot=True, show=False)
        with pytest.raises(ValueError, match="experiment_dir"):
            homeless.evaluate_encoder(plot=True, plot_kwargs={"show": False})

    def test_bad_requests(self, trained, results):
        with pytest.raises(ValueError, match=r"'3SQ' is no target class.*Did you mean '3SG'"):
            trained.evaluate_decoder(target_class="3SQ")
        with pytest.raises(ValueError, match="part must be one of"):
            trained.evaluate_decoder(part="encoder")
        with pytest.raises(ValueError, match=r"no '3SG_weaken'(?s:.*)increase_target_probabilities=False"):
            trained.rewrite_base_model(results, "3SG", increase_target_probabilities=False)
        with pytest.raises(ValueError, match="target_class"):
            trained.rewrite_base_model(results, [])
        for size in ("max_size_training_like", "max_size_neutral", "eval_batch_size"):
            with pytest.raises(ValueError, match=f"{size} must be a whole number of at least 1, or None .*; got 0"):
                trained.evaluate_decoder(**{size: 0})
            with pytest.raises(TypeError, match=f"{size} must be a whole number"):
                trained.evaluate_decoder(**{size: "3"})
        for call in (trained.encode, trained.evaluate_encoder):
            with pytest.raises(ValueError, match="max_size must be a whole number of at least 1"):
                call(max_size=0)
        for lrs in ("0.1", [0.1, float("nan")], float("inf")):
            with pytest.raises(ValueError, match="lrs must be one or several finite numbers"):
                trained.evaluate_decoder(lrs=lrs)
        with pytest.raises(ValueError, match=r"target_class=\[\] names no class"):
            trained.evaluate_decoder(target_class=[])
        with pytest.raises(ValueError, match="no token to score"):
            trained.evaluate_decoder(neutral_df=pd.DataFrame({"text": []}))
        with pytest.raises(
            ValueError, match="needs a column factual_class or label_class or factual_id; it has masked"
        ):
            trained.evaluate_decoder(training_like_df=pd.DataFrame({"masked": ["a [MASK] ."]}))
        rows = pd.DataFrame({"masked": ["a [MASK] .", "b [MASK] ."], "label": "he", "label_class": "3SG"})
        with pytest.raises(ValueError, match="training_like_df has no rows"):
            trained.evaluate_decoder(training_like_df=rows.head(0))
        for column, what in (("masked", "text in 'masked'"), ("label", "word in"), ("label_class", "class in")):
            with pytest.raises(ValueError, match=f"1 of 2 rows of training_like_df have no {what}"):
                trained.evaluate_decoder(training_like_df=rows.assign(**{column: [rows[column][0], None]}))
        for texts, message in ([None, "a b"], "1 rows without text"), (["a b", 3], "a text in each row; it has 3 "):
            with pytest.raises(ValueError, match=message):
                trained.evaluate_decoder(neutral_df=pd.DataFrame({"text": texts}))
        for nothing in ({}, {"grid": {"base": {}}}):
            with pytest.raises(ValueError, match="decoder_results has no grid of candidates"):
                trained.analyze_decoder_for_plotting(nothing)

    def test_rows_of_ones_own_may_have_the_columns_of_the_data(self, trained, merged):
        asked = {"lrs": np.array([0.02], np.float32), "target_class": "3SG"}
        unified = trained.combined_data[trained.combined_data["split"] == "test"]
        handed_in = merged[merged["split"] == "test"]
        expected = trained.evaluate_decoder(**asked, training_like_df=unified)["grid"]
        assert trained.evaluate_decoder(**asked, training_like_df=handed_in)["grid"] == expected
        by_id = handed_in.drop(columns="label").rename(columns={"label_class": "factual_id"}).assign(label=1.0)
        found = trained.evaluate_decoder(**asked, training_like_df=by_id)["grid"]
        assert found["base"]["probs_by_dataset"]["3PL"]["3SG"] == pytest.approx(
            expected["base"]["probs_by_dataset"]["3PL"]["3SG"], abs=0.05
        )

    def test_classes_without_texts_are_named(self, trained, merged, caplog):
        only = merged[(merged["split"] == "test") & (merged["label_class"] == "3SG")]
        results = trained.evaluate_decoder(lrs=[0.02], training_like_df=only)
        assert "3SG" not in results
        assert results["3PL"]["value"] > 0
        assert "Nothing was measured for 3SG: there are no texts of 3PL." in caplog.text


def rows(**changes):
    """Twenty good rows per class, with some of them changed."""
    frame = pd.DataFrame(
        {
            "masked": [f"the baker saw the dog {'very ' * (i % 20)}and [MASK] sold it ." for i in range(40)],
            "label": ["he"] * 20 + ["they"] * 20,
            "label_class": ["3SG"] * 20 + ["3PL"] * 20,
            "split": "train",
        }
    )
    for column, (number, value) in changes.items():
        frame.loc[number, column] = value
    return frame


BAD_INPUT = {
    "no [MASK] in a row": (rows(masked=(3, "no placeholder here")), {}, ValueError, r"\[MASK\]"),
    "unknown class": (rows(), {"target_classes": ["3SG", "3LP"]}, ValueError, "'3LP'.*3PL"),
    "one class only": (rows().head(20), {}, ValueError, "3PL"),
    "one class only, none named": (
        rows().head(20),
        {"target_classes": None},
        ValueError,
        "only the class 3SG: two classes",
    ),
    "three classes, none named": (
        pd.concat([rows(), rows().head(20).assign(label_class="1SG")]),
        {"target_classes": None},
        ValueError,
        "1SG, 3PL, 3SG: name the two",
    ),
    "missing column": (rows().drop(columns="label"), {}, ValueError, r"label.*masked"),
    "NaN text": (rows(masked=(5, None)), {}, ValueError, "masked"),
    "no training split": (rows().assign(split="test"), {}, ValueError, "train.*test"),
    "class smaller than a batch": (rows().head(25), {}, ValueError, "5 rows of class '3PL'.*reduce train_batch_size"),
    "missing file": ("no/such/file.csv", {}, FileNotFoundError, "file.csv"),
    "no data": (None, {}, ValueError, "data="),
    "a class twice": (rows(), {"target_classes": ["3SG", "3SG"]}, ValueError, "distinct|two|different"),
    "neutral data without text": (
        rows(),
        {"eval_neutral_data": pd.DataFrame({"texts": ["a"]})},
        ValueError,
        "column 'text'",
    ),
    "unknown argument": (rows(), {"masked_column": "m"}, TypeError, "Did you mean 'masked_col'"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_an_error_before_the_model_is_loaded(case):
    data, arguments, error, message = BAD_INPUT[case]
    with pytest.raises(error, match=f"(?s){message}"):
        # A model that does not exist: loading it would be another error.
        TextPredictionTrainer(
            model="no/such-model",
            data=data,
            args=TrainingArguments(**{**FAST, "train_batch_size": 10}),
            **{"target_classes": ["3SG", "3PL"], **arguments},
        ).train()


def test_words_that_the_tokenizer_does_not_know_are_an_error_before_training():
    data = rows(label=(slice(0, 19), "xylophagous☃"))
    with pytest.raises(ValueError, match=r"does not know 'xylophagous☃'.*has the words\.$"):
        trainer(data).train()


def test_words_with_letters_and_marks_apart_are_said_to_be_so():
    apart = unicodedata.normalize("NFD", "für☃")
    with pytest.raises(ValueError, match=f"does not know '{apart}'.* in the usual form, unicodedata.normalize"):
        trainer(rows(label=(slice(0, 19), apart))).train()


def test_a_causal_tokenizer_for_a_masked_model_is_an_error():
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    tokenizer.mask_token = None
    with pytest.raises(ValueError, match=r"no mask token.*causal model's tokenizer"):
        TextPredictionModelWithGradiend.from_pretrained(MODEL, tokenizer=tokenizer)


def test_the_seed_report_and_a_model_that_is_unloaded(trained, data, tmp_path):
    report = trained.get_seed_report()
    assert report["best_seed"] in [run["seed"] for run in report["runs"]]
    assert trainer(data).get_seed_report() is None
    before = trained.get_model()
    trained.unload_model()
    after = trained.get_model()
    assert after is not before
    assert torch.equal(after.gradiend.encoder_linear.weight, before.gradiend.encoder_linear.weight)
    given = TextPredictionTrainer(before, data=data, target_classes=list(CLASSES))
    given.unload_model()
    assert given.get_model() is before


def test_evaluator_and_plots_by_their_documented_calls(trained, tmp_path):
    small = {"max_size": 4}
    both = trained.evaluator.evaluate(kwargs_encoder=small, kwargs_decoder={"lrs": [0.1], "max_size_neutral": 5})
    assert both["encoder"] == trained.evaluate_encoder(**small)
    assert both["decoder"]["3SG"]["learning_rate"] == 0.1
    frame = trained.evaluate_encoder(return_df=True, **small)["encoder_df"]
    for number, plots in enumerate((trained, trained.evaluator, Visualizer(trained))):
        path = str(tmp_path / f"{number}.png")
        for encodings in (frame, {"encoder_df": frame}):
            assert plots.plot_encoder_distributions(encodings, show=False, output=path) == path
            assert plots.plot_encoder_scatter(encodings, show=False) is not None
    for measure in (trained.evaluator.evaluate_encoder, trained.get_encoder_metrics):
        assert measure(encoder_df={"encoder_df": frame}) == measure(encoder_df=frame)
    shared = Visualizer(trained).plot_topk_neuron_intersection(
        {"a": trained.load_model(trained.model_path), "b": trained.get_model()}
    )
    assert shared["per_model"]["a"] == shared["intersection"]


def test_without_validation_rows_training_rows_judge(data, caplog, tmp_path):
    only_train = {name: frame[frame["split"] == "train"] for name, frame in data.items()}
    judged = trainer(only_train).train(max_seeds=1, output_dir=str(tmp_path / "m"))
    assert "no validation split (present: train)" in caplog.text
    assert judged.get_training_stats()["training_stats"]["correlation"] > 0.5


def test_a_file_in_the_way_is_an_error_before_any_work(data, trained, results, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        trainer(data).train(output_dir=str(tmp_path / "file" / "model"))
    with pytest.raises(ValueError, match="is a file"):
        trained.rewrite_base_model(results, "3SG", output_dir=str(tmp_path / "file"))


MISTAKES = {
    "args as a dict": (lambda t, d: trainer(d, {"max_steps": 3}), TypeError, "TrainingArguments"),
    "no decoder results": (lambda t, d: t.rewrite_base_model([], "3SG"), TypeError, "evaluate_decoder"),
    "a number as class": (lambda t, d: t.rewrite_base_model({}, 1), TypeError, "class name"),
    "no candidate": (lambda t, d: t.rewrite_base_model({"grid": {}}, "3SG"), ValueError, "smaller lrs"),
    "words as learning rates": (lambda t, d: t.evaluate_decoder(lrs=["a"]), ValueError, "lrs must be"),
    "no learning rates": (lambda t, d: t.evaluate_decoder(lrs=[]), ValueError, "lrs must be"),
    "no rows wanted": (lambda t, d: t.evaluate_encoder(max_size=0), ValueError, "at least 1"),
    "a list of texts": (lambda t, d: t.get_model().encode(["a [MASK]"], "they"), TypeError, "one text"),
    "an unknown word": (lambda t, d: t.get_model().encode("a [MASK]", "☃"), ValueError, "does not know"),
    "a folder that is not there": (
        lambda t, d: ModelWithGradiend.from_pretrained("/nope"),
        FileNotFoundError,
        "no folder",
    ),
    "the experiment's folder": (
        lambda t, d: AutoModelForLM.from_pretrained(t.experiment_dir),
        FileNotFoundError,
        "Did you mean .*model",
    ),
    "a model without head": (
        lambda t, d: ModelWithGradiend.from_pretrained(AutoModel.from_pretrained(MODEL)),
        ValueError,
        "AutoModelForMaskedLM",
    ),
    "an empty table": (lambda t, d: trainer(pd.DataFrame(), target_classes=None).train(), ValueError, "no rows"),
    "a class not validated": (
        lambda t, d: trainer({n: f[(f["split"] == "train") | (n == "3SG")] for n, f in d.items()}).train(),
        ValueError,
        "validation split has no rows of class '3PL'",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_common_mistakes_are_explained(mistake, trained, data):
    make, error, message = MISTAKES[mistake]
    with pytest.raises(error, match=message):
        make(trained, data)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"learning_rat": 1}, TypeError, "Did you mean 'learning_rate'"),
        ({"num_epochs": 1, "num_train_epochs": 2}, TypeError, "mean the same"),
        ({"source": "factul"}, ValueError, "Did you mean 'factual'"),
        ({"target": 3}, TypeError, "target must be a string"),
        ({"optim": "adamx"}, ValueError, "Did you mean 'adam"),
        ({"eval_strategy": "step"}, ValueError, "Did you mean 'steps'"),
        ({"output_dir": 3}, TypeError, "output_dir must be a path"),
        ({"train_batch_size": 0}, ValueError, "train_batch_size must be an int of at least 1"),
        ({"decoder_eval_max_size_training_like": 0}, ValueError, "training_like must be an int of at least 1"),
        ({"decoder_eval_max_size_neutral": "10"}, ValueError, "neutral must be an int of at least 1"),
        ({"max_seeds": 0}, ValueError, "max_seeds"),
        ({"min_convergent_seeds": 4}, ValueError, "can never be reached"),
        ({"convergent_metric": "loss"}, ValueError, "convergent_score_threshold"),
        ({"learning_rate": float("nan")}, ValueError, "learning_rate"),
        ({"learning_rate": "1e-4"}, ValueError, "learning_rate"),
        ({"max_steps": 1.5}, ValueError, "max_steps must be an int"),
        ({"seed": "x"}, ValueError, "seed must be an int"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        TrainingArguments(**arguments)


def test_arguments_survive_json():
    args = TrainingArguments(num_epochs=7, torch_dtype=torch.float64, params=["*layer*"], metadata={"a": 1})
    again = TrainingArguments.from_dict(json.loads(json.dumps(args.to_dict())))
    assert again.to_dict() == args.to_dict()
    assert (again.num_train_epochs, again.torch_dtype) == (7, torch.float64)
    with pytest.raises(TypeError, match="Did you mean 'optim'"):
        TrainingArguments.from_dict({"optimm": "adam"})


def test_a_correlation_mapping_is_kept_and_a_contradiction_is_said(data, caplog):
    def build(mapping):
        caplog.clear()
        trainer = TextPredictionTrainer(MODEL, data=data, correlation_mapping=mapping, target_classes=["3SG", "3PL"])
        assert trainer.target_classes == ["3SG", "3PL"]
        return trainer.correlation_mapping, "changes nothing" in caplog.text

    assert build(None) == ({}, False)
    assert build({"3SG": 1, "3PL": -1, "other": 0}) == ({"3SG": 1, "3PL": -1, "other": 0}, False)
    assert build({"3SG": -1, "3PL": 1}) == ({"3SG": -1, "3PL": 1}, True)
    assert build({"x": 5.0}) == ({"x": 5.0}, True)


def test_class_ids_stand_for_the_target_classes(data):
    one = trainer(data)
    assert one.get_target_feature_classes() == one.target_classes == ["3SG", "3PL"]
    assert one.get_target_feature_class_ids() == [0, 1]
    assert one.map_target_feature_class_ids([1, 0, 7, "3SG"]) == ["3PL", "3SG", 7, "3SG"]
    assert one.map_target_feature_class_ids(None) is None


def test_the_base_model_of_an_earlier_checkpoint_is_not_loaded(trained, tmp_path):
    """A checkpoint whose base model has a name, where one was saved whose base model had none."""
    model = trained.get_model()
    nameless = AutoModelForMaskedLM.from_pretrained(MODEL)
    nameless.name_or_path = nameless.config._name_or_path = ""
    with torch.no_grad():
        next(nameless.parameters()).zero_()
    own = TextPredictionModelWithGradiend.from_pretrained(nameless, tokenizer=model.tokenizer, params=["*encoder*"])
    own.save_pretrained(str(tmp_path))
    assert not ModelWithGradiend.from_pretrained(str(tmp_path)).base_model.get_input_embeddings().weight.any()
    model.save_pretrained(str(tmp_path))
    loaded = ModelWithGradiend.from_pretrained(str(tmp_path))
    assert torch.equal(loaded.base_model.get_input_embeddings().weight, model.base_model.get_input_embeddings().weight)
