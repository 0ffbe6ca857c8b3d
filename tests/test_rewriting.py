"""From decoder results to models and deltas: which rewrite, where to, in which order things are refused."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import tiny_data
from model_cases import bits, randomise, same_bits
from tiny import bert, bert_tokenizer
from transformers import AutoModelForMaskedLM, AutoTokenizer

import gradiend
from gradiend import TextPredictionTrainer, TrainingArguments, apply_delta, read_delta, read_rewrite_record
from gradiend.evaluator._grid import write_decoder_stats
from gradiend.trainer.text import TextPredictionModelWithGradiend
from gradiend.util._argument_fields import plain
from gradiend.util._digest import hash_model_weights, model_parts

RESULTS = {
    "old": {
        "value": 0.7, "learning_rate": 0.2, "feature_factor": -1.0, "strengthen": True, "lms": 0.4, "base_lms": 0.41,
        "part": "decoder",
    },
    "new": {"value": 0.6, "learning_rate": 0.1, "feature_factor": 1.0, "strengthen": True},
    "old_weaken": {"value": 0.9, "learning_rate": 0.3, "feature_factor": 1.0, "strengthen": False},
    "combined_score": {"value": 0.5, "learning_rate": 0.05, "feature_factor": 1.0, "part": "decoder-bias"},
    "grid": {"base": {"id": "base"}},
}  # fmt: skip

NO_ROWS = pd.DataFrame({"masked": [], "label": [], "label_class": [], "split": []})


@pytest.fixture(scope="module")
def model():
    model = TextPredictionModelWithGradiend.from_pretrained(bert(), tokenizer=bert_tokenizer(), params=["*layer.1*"])
    randomise(model.gradiend, scale=0.1)
    return model


def trainer_of(model, directory=None, **arguments):
    args = TrainingArguments(experiment_dir=None if directory is None else str(directory), **arguments)
    return TextPredictionTrainer(model, data=NO_ROWS, target_classes=["old", "new"], args=args)


@pytest.fixture
def trainer(model, tmp_path):
    return trainer_of(model, tmp_path / "experiment")


def rewritten_bits(model, rate, factor, **part):
    return bits(model.rewrite_base_model(rate, factor, **part))


def write_results(path, results, model):
    """Decoder results as an evaluation of `model` writes them."""
    write_decoder_stats(path, results, fingerprint=plain(model_parts(model)))


def say_direction(model, target="diff"):
    """A copy that encodes "old" positive, of a decoder that reproduces `target`."""
    copied = model.with_original_base_model(model.base_model)
    copied.set_feature_class_encoding_direction({"old": 1, "new": -1, "other": 0})
    copied.set_target(target)
    return copied


class TestByClass:
    """`strengthen` and `weaken` say the class; the model knows its factor."""

    @pytest.mark.parametrize(("target", "strengthens_first"), [("diff", -1.0), ("factual", -1.0), ("alternative", 1.0)])
    def test_the_factor_is_the_one_of_the_labels(self, model, tmp_path, target, strengthens_first):
        knowing = say_direction(model, target)
        for goal, factor in (
            ({"strengthen": "old"}, strengthens_first),
            ({"weaken": "new"}, strengthens_first),
            ({"strengthen": "new"}, -strengthens_first),
            ({"weaken": "old"}, -strengthens_first),
        ):
            expected = rewritten_bits(model, 0.2, factor)
            assert same_bits(bits(knowing.rewrite_base_model(learning_rate=0.2, **goal)), expected)
            path = knowing.export_delta(tmp_path / "class.safetensors", learning_rate=0.2, **goal)
            with apply_delta(model.base_model, path):
                assert same_bits(bits(model.base_model), expected)
            assert read_delta(path).rewrite.feature_factor == factor

    def test_the_step_of_another_part_has_the_sign(self, model):
        found = say_direction(model).rewrite_base_model(0.2, part="decoder-weight", strengthen="old")
        assert same_bits(bits(found), rewritten_bits(model, -0.2, -1.0, part="decoder-weight"))

    @pytest.mark.parametrize("target", ["diff", "factual", "alternative"])
    def test_it_moves_the_model_that_way(self, tmp_path, target):
        args = {
            "init": "class_means",
            "init_samples": 16,
            "max_steps": 0,
            "target": target,
            "experiment_dir": str(tmp_path / "run"),
        }
        args |= {"train_batch_size": 4, "max_seeds": 1}
        trainer = tiny_data.trainer(tiny_data.save_bert(tmp_path / "bert"), TrainingArguments(**args)).train()
        trained = trainer.get_model()

        def odds(base_model):
            found = trainer.evaluate_base_model(base_model, trained.tokenizer)["probs_by_dataset"]
            return sum(row["SG"] / row["PL"] for row in found.values())

        before = odds(trained.base_model)
        size = 0.05 / float(trained.update_vector(1.0).norm())
        for goal in ({"strengthen": "SG"}, {"weaken": "PL"}):
            assert odds(trained.rewrite_base_model(size, **goal)) > before
        for goal in ({"strengthen": "PL"}, {"weaken": "SG"}):
            assert odds(trained.rewrite_base_model(size, **goal)) < before

    def test_neither_both_or_an_unknown_class(self, model, tmp_path):
        knowing = say_direction(model)
        calls = (knowing.rewrite_base_model, lambda *a, **k: knowing.export_delta(tmp_path / "x.safetensors", *a, **k))
        for call in calls:
            with pytest.raises(TypeError, match="one of feature_factor=…, strengthen='<class>' and weaken='<class>'"):
                call(0.1)
            with pytest.raises(TypeError, match="a feature_factor and a class"):
                call(0.1, 1.0, strengthen="old")
            with pytest.raises(TypeError, match=r"strengthen='old' and weaken='new' are two rewrites"):
                call(0.1, strengthen="old", weaken="new")
            for name in ("odl", "other"):
                with pytest.raises(ValueError, match=f"'{name}' is no target class of this model; they are old, new"):
                    call(0.1, strengthen=name)
        with pytest.raises(ValueError, match="does not know which class it encodes positive"):
            model.rewrite_base_model(0.1, strengthen="old")
        assert not list(tmp_path.iterdir())

    def test_a_misspelt_keyword_names_the_nearest(self, trainer, model, tmp_path):
        for call, wrong, right in (
            (lambda **given: model.rewrite_base_model(0.1, **given), "strenghten", "strengthen"),
            (lambda **given: model.rewrite_base_model(strengthen="old", **given), "lr", "learning_rate"),
            (lambda **given: model.export_delta(tmp_path / "x.safetensors", 0.1, **given), "weeken", "weaken"),
            (lambda **given: trainer.rewrite_base_model(RESULTS, **given), "strenghten", "strengthen"),
            (lambda **given: trainer.export_delta(RESULTS, **given), "weeken", "weaken"),
            (trainer.evaluate_decoder, "lr", "lrs"),
            (trainer.evaluate_decoder, "learning_rates", "lrs"),
            (lambda **given: model.encode("the [MASK]", **given), "factaul", "factual"),
        ):
            with pytest.raises(TypeError, match=rf"unknown argument '{wrong}'\. Did you mean '{right}'"):
                call(**{wrong: "old"})

    def test_of_a_trainer_it_is_short_for_the_class_and_its_direction(self, trainer, model, tmp_path):
        assert same_bits(bits(trainer.rewrite_base_model(RESULTS, strengthen="old")), rewritten_bits(model, 0.2, -1.0))
        assert same_bits(bits(trainer.rewrite_base_model(RESULTS, weaken="old")), rewritten_bits(model, 0.3, 1.0))
        several = trainer.rewrite_base_model(RESULTS, strengthen=["old", "new"])
        assert same_bits(bits(several[1]), rewritten_bits(model, 0.1, 1.0))
        path = trainer.export_delta(RESULTS, weaken="old", path=tmp_path / "weak.safetensors")
        assert read_delta(path).rewrite.choice.direction == "weaken"
        with pytest.raises(TypeError, match="are two rewrites"):
            trainer.rewrite_base_model(RESULTS, strengthen="old", weaken="new")
        with pytest.raises(TypeError, match="target_class says which class already"):
            trainer.export_delta(RESULTS, "old", weaken="new", path=tmp_path)
        with pytest.raises(ValueError, match="old, old_weaken, combined_score, new but no 'odl'"):
            trainer.rewrite_base_model(RESULTS, strengthen="odl")


class TestWhichRewrite:
    def test_a_class_is_strengthened_or_weakened_as_the_results_say(self, trainer, model):
        strong = trainer.rewrite_base_model(RESULTS, "old")
        assert same_bits(bits(strong), rewritten_bits(model, 0.2, -1.0))
        weak = trainer.rewrite_base_model(RESULTS, "old", increase_target_probabilities=False)
        assert same_bits(bits(weak), rewritten_bits(model, 0.3, 1.0))
        for strengthen in (True, False):
            by_key = trainer.rewrite_base_model(RESULTS, "old_weaken", increase_target_probabilities=strengthen)
            assert same_bits(bits(by_key), bits(weak))

    def test_another_metric_and_another_part(self, trainer, model):
        found = trainer.rewrite_base_model(RESULTS, "combined_score")
        assert same_bits(bits(found), rewritten_bits(model, 0.05, 1.0, part="decoder-bias"))

    def test_several_give_a_list_and_need_no_directory_in_memory(self, model):
        found = trainer_of(model).rewrite_base_model(RESULTS, ["old", "new"])
        expected = [rewritten_bits(model, 0.2, -1.0), rewritten_bits(model, 0.1, 1.0)]
        assert all(same_bits(bits(one), other) for one, other in zip(found, expected, strict=True))

    def test_the_nested_form_of_older_versions(self, trainer, model):
        found = trainer.rewrite_base_model({"summary": RESULTS, "grid": {}}, "old")
        assert same_bits(bits(found), rewritten_bits(model, 0.2, -1.0))

    def test_another_model_can_be_rewritten(self, trainer, model):
        other = model.with_original_base_model(bert(seed=5))
        found = trainer.rewrite_base_model(RESULTS, "old", base_model=other)
        assert same_bits(bits(found), rewritten_bits(other, 0.2, -1.0))


class TestSaved:
    def test_plain_transformers_loads_model_and_tokenizer(self, trainer, model, tmp_path):
        path = trainer.rewrite_base_model(RESULTS, "old", output_dir=str(tmp_path / "old"))
        assert path == str(tmp_path / "old")
        loaded = AutoModelForMaskedLM.from_pretrained(path)
        assert same_bits(bits(loaded), rewritten_bits(model, 0.2, -1.0))
        assert AutoTokenizer.from_pretrained(path).get_vocab() == model.tokenizer.get_vocab()

    def test_the_record_says_from_what_and_how(self, trainer, model, tmp_path):
        path = trainer.rewrite_base_model(RESULTS, "old", output_dir=str(tmp_path / "old"))
        record = read_rewrite_record(path)
        assert record.base_model_fingerprint == hash_model_weights(model.base_model)
        assert record.gradiend_fingerprint == hash_model_weights(model.gradiend)
        assert record.param_map_hash == model.param_map_hash
        assert (record.learning_rate, record.feature_factor, record.part) == (0.2, -1.0, "decoder")
        choice = record.choice
        assert (choice.target_class, choice.direction) == ("old", "strengthen")
        assert (choice.value, choice.lms, choice.base_lms) == (0.7, 0.4, 0.41)
        assert choice.gradiend_path is None
        assert record.gradiend_version == gradiend.__version__
        again = model.rewrite_base_model(record.learning_rate, record.feature_factor, record.part)
        assert same_bits(bits(again), bits(AutoModelForMaskedLM.from_pretrained(path)))
        before, after = bits(model.base_model), bits(again)
        mapped = [entry.name for entry in model.gradiend.mapping]
        changed = sum(int((after[name] != before[name]).sum()) for name in mapped)
        assert record.share_changed == changed / len(model)

    def test_a_trained_checkpoint_is_named(self, model, tmp_path):
        model.base_model.save_pretrained(tmp_path / "base")
        model.tokenizer.save_pretrained(tmp_path / "base")
        fresh = TextPredictionModelWithGradiend.from_pretrained(str(tmp_path / "base"))
        fresh.save_pretrained(str(tmp_path / "checkpoint"))
        trainer = trainer_of(str(tmp_path / "checkpoint"))
        path = trainer.rewrite_base_model(RESULTS, "old", False, output_dir=str(tmp_path / "out"))
        record = read_rewrite_record(path)
        assert record.choice.gradiend_path == str(tmp_path / "checkpoint")
        assert (record.choice.direction, record.base_model) == ("weaken", str(tmp_path / "base"))

    def test_several_go_to_the_experiment(self, trainer):
        root = Path(trainer.experiment_dir)
        paths = trainer.rewrite_base_model(RESULTS, ["old", "new"], output_dir="anything")
        assert paths == [str(root / "old"), str(root / "new")]
        assert [read_rewrite_record(path).choice.target_class for path in paths] == ["old", "new"]
        weak = trainer.rewrite_base_model(RESULTS, "old", False, output_dir="")
        assert weak == str(root / "old_weaken")

    def test_a_list_of_one_goes_to_the_output_itself(self, model, tmp_path):
        path = str(tmp_path / "one")
        assert trainer_of(model).rewrite_base_model(RESULTS, ["old"], output_dir=path) == [path]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("{", "not valid JSON"),
            ("[]", "JSON object, not list"),
            ('{"format_version": 9}', "format_version is 9"),
            ('{"format_version": 1, "base_model": "x"}', "fields of the rewrite record"),
            ('{"format_version": 1, "choice": {"class": "x"}}', "fields of the rewrite record"),
        ],
    )
    def test_a_damaged_record_is_named(self, content, message, tmp_path):
        (tmp_path / "gradiend_rewrite.json").write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match=message) as error:
            read_rewrite_record(tmp_path)
        assert "gradiend_rewrite.json" in str(error.value)

    def test_a_directory_without_record(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"no gradiend_rewrite.json"):
            read_rewrite_record(tmp_path)


class TestFromTheExperiment:
    @pytest.mark.parametrize(
        ("file", "call"),
        [
            ("decoder_stats_metric_name_old.json", {}),
            ("decoder_stats_metric_name_score.json", {"decoder_stats_metric_name": "score"}),
            ("decoder_stats_lrs_0.1_0.2_metric_name_old_part_decoder.json", {"lrs": [0.1, 0.2], "part": "decoder"}),
            ("decoder_grid_cache.json", {}),
        ],
    )
    def test_omitted_results_are_read(self, file, call, trainer, model):
        write_results(Path(trainer.experiment_dir) / file, RESULTS, model)
        found = trainer.rewrite_base_model(target_class="old", **call)
        assert same_bits(bits(found), rewritten_bits(model, 0.2, -1.0))

    def test_the_weakening_has_a_file_of_its_own(self, trainer, model):
        root = Path(trainer.experiment_dir)
        write_results(root / "decoder_stats_metric_name_old.json", {"old": RESULTS["old"], "grid": {}}, model)
        write_results(root / "decoder_stats_metric_name_old_weaken.json", RESULTS, model)
        found = trainer.rewrite_base_model(target_class="old", increase_target_probabilities=False)
        assert same_bits(bits(found), rewritten_bits(model, 0.3, 1.0))

    def test_looking_for_results_creates_nothing(self, trainer):
        with pytest.raises(ValueError, match=r"no decoder results.*run evaluate_decoder\(\) first"):
            trainer.rewrite_base_model(target_class="old")
        with pytest.raises(ValueError, match=r"run evaluate_decoder\(increase_target_probabilities=False\) first"):
            trainer.rewrite_base_model(weaken="old")
        assert not Path(trainer.experiment_dir).exists()


class TestDeltas:
    def test_a_delta_is_the_rewritten_model(self, trainer, model, tmp_path):
        path = trainer.export_delta(RESULTS, "old", path=tmp_path / "old.safetensors")
        assert path == str(tmp_path / "old.safetensors")
        base = bert()
        with apply_delta(base, path) as applied:
            assert same_bits(bits(base), rewritten_bits(model, 0.2, -1.0))
        assert applied.delta.rewrite.choice.value == 0.7
        assert same_bits(bits(base), bits(model.base_model))

    def test_places(self, trainer, model, tmp_path):
        deltas = Path(trainer.experiment_dir) / "deltas"
        assert trainer.export_delta(RESULTS, "old") == str(deltas / "old.safetensors")
        weak = trainer.export_delta(RESULTS, ["old"], increase_target_probabilities=False)
        assert weak == [str(deltas / "old_weaken.safetensors")]
        both = trainer_of(model).export_delta(RESULTS, ["old", "new"], path=tmp_path)
        assert [read_delta(path).rewrite.learning_rate for path in both] == [0.2, 0.1]
        write_results(Path(trainer.experiment_dir) / "decoder_grid_cache.json", RESULTS, model)
        assert trainer.export_delta(target_class="new") == str(deltas / "new.safetensors")


BAD = {
    "no class": (lambda t, d: t.rewrite_base_model(RESULTS), ValueError, "needs the class"),
    "no class, no results": (lambda t, d: t.rewrite_base_model(), ValueError, "needs the class"),
    "an empty list": (lambda t, d: t.rewrite_base_model(RESULTS, []), ValueError, "needs the class"),
    "an empty name": (lambda t, d: t.rewrite_base_model(RESULTS, ""), ValueError, "needs the class"),
    "a number as class": (lambda t, d: t.rewrite_base_model(RESULTS, 1), TypeError, "class name"),
    "a number in the list": (lambda t, d: t.rewrite_base_model(RESULTS, ["old", 1]), TypeError, "contains 1"),
    "a list as results": (lambda t, d: t.rewrite_base_model([], "old"), TypeError, "evaluate_decoder"),
    "an unknown class": (lambda t, d: t.rewrite_base_model(RESULTS, "olf"), ValueError, r"no 'olf'.*mean 'old'"),
    "not weakened": (lambda t, d: t.rewrite_base_model(RESULTS, "new", False), ValueError, r"'new_weaken'.*=False"),
    "one of two unknown": (lambda t, d: t.rewrite_base_model(RESULTS, ["old", "x"]), ValueError, "no 'x'"),
    "no candidate": (lambda t, d: t.rewrite_base_model({"grid": {}}, "old"), ValueError, "smaller lrs"),
    "a number as summary": (lambda t, d: t.rewrite_base_model({"old": 0.3}, "old"), ValueError, "no learning_rate and"),
    "an unknown part": (
        lambda t, d: t.rewrite_base_model({"old": {**RESULTS["old"], "part": "x"}}, "old"), ValueError, "part must be",
    ),
    "no results, nowhere": (lambda t, d: t.rewrite_base_model(target_class="old"), ValueError, "experiment_dir"),
    "an empty output": (lambda t, d: t.rewrite_base_model(RESULTS, "old", output_dir=""), ValueError, "output_dir"),
    "several outputs": (lambda t, d: t.rewrite_base_model(RESULTS, ["old", "new"], output_dir="x"), ValueError, "exp"),
    "a file as output": (lambda t, d: t.rewrite_base_model(RESULTS, "old", output_dir=str(d)), ValueError, "is a file"),
    "a misspelt keyword": (
        lambda t, d: t.rewrite_base_model(RESULTS, "old", lr=[1]), TypeError, "unknown argument 'lr'.*takes any",
    ),
    "a delta nowhere": (lambda t, d: t.export_delta(RESULTS, "old"), ValueError, "export_delta needs path"),
    "two deltas, one file": (
        lambda t, d: t.export_delta(RESULTS, ["old", "new"], path="x.safetensors"), ValueError, "is one file, for 2",
    ),
    "a delta below a file": (lambda t, d: t.export_delta(RESULTS, "old", path=d), ValueError, "is a file"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_refused_before_any_model_is_loaded(case, tmp_path):
    call, kind, message = BAD[case]
    (tmp_path / "file").write_text("")
    # Loading this model would be an OSError.
    trainer = trainer_of(str(tmp_path / "no model here"))
    with pytest.raises(kind, match=message):
        call(trainer, tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_damaged_file_of_results_is_named(trainer):
    path = Path(trainer.experiment_dir) / "decoder_grid_cache.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    with pytest.raises(ValueError, match=r"decoder_grid_cache.json"):
        trainer.rewrite_base_model(target_class="old")
