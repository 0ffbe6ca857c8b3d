"""An experiment's file and flags: what is read, and every fault with its place, what was expected, and a way out."""

import json
import re
import runpy
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from gradiend import PrePruneConfig, TextPredictionConfig, TrainingArguments
from gradiend.experiment import (
    Corpus,
    DecoderEvaluation,
    Delta,
    Evaluation,
    Experiment,
    ExperimentError,
    FeatureClass,
    Report,
    Rewrite,
    experiment_schema,
    read_experiment,
)
from gradiend.experiment._fields import fields
from gradiend.experiment._record import experiment_dict
from gradiend.experiment._template import new_file
from gradiend.experiment.run import rows_from
from gradiend.util._argument_fields import plain

ROWS = "model: bert\nexperiment_dir: runs/x\ndata: {data: rows.csv}\n"
TEXT = "model: bert\nexperiment_dir: runs/x\ncorpus: "

FAULTS = {
    # structure
    "- a\n": ["x.yaml: expected keys such as model and data; found [\"a\"]."],
    "model: [": ["x.yaml:1:9: this is not YAML: expected the node content, but found '<stream end>'."],
    ROWS + "model: other\n": ['x.yaml:4:1: this is not YAML: found duplicate key "model".'],
    TEXT[:-8] + "data: {data: rows.csv, balance_texts: [The [MASK] ran.]}\n": [
        "x.yaml:3:44: this is not YAML: expected ',' or ']', but got '['. A text with [MASK] needs quotes: "
        '"… [MASK] …".'
    ],
    "": [
        "x.yaml: model is missing. Name or path of the base model, or of a GRADIEND to go on with.",
        "x.yaml: experiment_dir is missing. Folder of everything that the experiment writes.",
    ],
    # unknown keys
    ROWS + "trian: {}\n": ["x.yaml:4:1: trian is no key of an experiment. Did you mean 'train'?"],
    ROWS + "train: {max_step: 3}\n": ["x.yaml:4:9: max_step is no key of train. Did you mean 'max_steps'?"],
    ROWS + "train:\n  epochs: 3\n": ["x.yaml:5:3: epochs is no key of train. Did you mean 'num_train_epochs'?"],
    ROWS + "train: {pre_prune_config: {top_k: 1}}\n": [
        "x.yaml:4:28: top_k is no key of train.pre_prune_config. Did you mean 'topk'?"
    ],
    ROWS + "evaluate: {dekoder: {}}\n": ["x.yaml:4:12: dekoder is no key of evaluate. Did you mean 'decoder'?"],
    TEXT + "{base_data: a.txt, feature_targets: {a: {targets: [x], lemma: true}, b: [y]}}\n": [
        "x.yaml:3:64: lemma is no key of corpus.feature_targets.a. Did you mean 'use_lemma'?"
    ],
    TEXT + "{base_data: a.txt, feature_targets: {a: [x], b: [y]}, target_classes: [a, b]}\n": [
        "x.yaml:3:63: target_classes is no key of corpus. It is a key of data."
    ],
    # keys of which a conversion would leave another word
    TEXT + "{base_data: a.txt, feature_targets: {2020-01-01: [x], b: [y]}}\n": [
        'x.yaml:3:46: YAML reads this key as "2020-01-01", which is no text: quote it.'
    ],
    TEXT + "{base_data: a.txt, feature_targets: {007: [x], b: [y]}}\n": [
        "x.yaml:3:46: YAML reads this key as 7, which is no text: quote it."
    ],
    TEXT + "{base_data: a.txt, feature_targets: {+1: [x], b: [y]}}\n": [
        "x.yaml:3:46: YAML reads this key as 1, which is no text: quote it."
    ],
    TEXT + "{base_data: a.txt, feature_targets: {b: [y], 1_0: [x]}}\n": [
        "x.yaml:3:54: YAML reads this key as 10, which is no text: quote it."
    ],
    TEXT + "\n  base_data: a.txt\n  feature_targets:\n    b: [y]\n    0x1: [x]\n": [
        "x.yaml:7:5: YAML reads this key as 1, which is no text: quote it."
    ],
    TEXT + "{base_data: a.txt, feature_targets: {b: [y], True: [x]}}\n": [
        "x.yaml:3:54: YAML reads this key as true, which is no text: quote it."
    ],
    TEXT + "{base_data: a.txt, feature_targets: {1: [x], '1': [y]}}\n": [
        "x.yaml:3:46: YAML reads this key as 1, which is no text: quote it."
    ],
    # wrong types, with no conversion
    ROWS + "train:\n  max_steps: many\n": [
        'x.yaml:5:14: train.max_steps: expected a whole number; found "many".'
    ],
    ROWS + "train:\n  max_steps: 2.5\n": ["x.yaml:5:14: train.max_steps: expected a whole number; found 2.5."],
    ROWS + "train:\n  max_steps: true\n": ["x.yaml:5:14: train.max_steps: expected a whole number; found true."],
    ROWS + "train:\n  use_cache: yes\n": [
        "x.yaml:5:14: train.use_cache: expected true or false or 'always' or 'only_convergent'; found \"yes\"."
    ],
    ROWS + "train: 3\n": ["x.yaml:4:8: train: expected keys with values; found 3."],
    ROWS + "train: {pre_prune_config: {topk: many}}\n": [
        'x.yaml:4:34: train.pre_prune_config.topk: expected a whole number or a number; found "many".'
    ],
    ROWS + "evaluate: {decoder: {lrs: [0.1, x]}}\n": [
        'x.yaml:4:33: evaluate.decoder.lrs.1: expected a number; found "x".'
    ],
    ROWS + "evaluate: {decoder: {lrs: autoo}}\n": [
        "x.yaml:4:27: evaluate.decoder.lrs: expected 'auto' or a list; found \"autoo\"."
    ],
    ROWS + "report: {sentences: The}\n": ['x.yaml:4:21: report.sentences: expected a list; found "The".'],
    TEXT + "{base_data: a.txt, feature_targets: {a: x, b: [y]}}\n": [
        'x.yaml:3:49: corpus.feature_targets.a: expected a list or keys with values; found "x".'
    ],
    ROWS + "train: {criterion: mse}\n": [
        'x.yaml:4:20: train.criterion can be given in Python only, no file can hold it; found "mse".'
    ],
    # wrong values
    ROWS + "train: {source: alternativ}\n": [
        "x.yaml:4:17: source must be one of factual, alternative, diff; got 'alternativ'. Did you mean 'alternative'?"
    ],
    ROWS + "train: {optim: sgd}\n": ["x.yaml:4:16: train.optim: expected 'adamw' or 'adam'; found \"sgd\"."],
    ROWS + "train: {max_seeds: 0}\n": ["x.yaml:4:20: max_seeds must be an int of at least 1; got 0."],
    ROWS + "report: {sentences: [The end.]}\n": [
        "x.yaml:4:21: sentences need the place to predict, [MASK]; got 'The end.'."
    ],
    TEXT + "{base_data: a.txt, feature_targets: {he: [x], she: [y]}}\nevaluate: {decoder: {weaken: [hee]}}\n": [
        "x.yaml:4:30: evaluate.decoder.weaken must be one of he, she; got 'hee'. Did you mean 'he'?"
    ],
    TEXT + "{base_data: a.txt, feature_targets: {he: [x], she: [y]}}\nrewrite: {strengthen: [hee]}\n": [
        "x.yaml:4:23: rewrite.strengthen must be one of he, she; got 'hee'. Did you mean 'he'?"
    ],
    TEXT + "{base_data: a.txt, feature_targets: {he: [x], she: [y]}}\ndelta: {weaken: [he]}\n": [
        "x.yaml:4:17: delta.weaken has 'he', for which no step is looked for: evaluate.decoder.weaken is empty."
    ],
    TEXT + "{base_data: a.txt, feature_targets: {he: [x], she: [y]}}\n"
    "evaluate: {decoder: {strengthen: [], weaken: [he]}}\ndelta: {strengthen: [he]}\n": [
        "x.yaml:5:21: delta.strengthen has 'he', for which no step is looked for: evaluate.decoder.strengthen is empty."
    ],
    ROWS + "rewrite: {}\nevaluate: {decoder: null}\n": [
        "x.yaml:4:10: rewrite and delta need evaluate.decoder, which finds the step: it is null."
    ],
    ROWS + "train:\n\tmax_steps: 3\n": [
        "x.yaml:5:1: this is not YAML: found character '\\t' that cannot start any token. Use spaces."
    ],
    # sections that do not fit together
    TEXT[:-8]: ["x.yaml: data is missing: give rows (data.data), or text to make them from (corpus)."],
    ROWS + "corpus: {base_data: a.txt, feature_targets: {a: [x], b: [y]}}\n": [
        "x.yaml:3:14: data.data and corpus are both given: rows come either from a table or from raw text."
    ],
    TEXT + "{base_data: a.txt, feature_targets: {a: [x]}}\n": [
        "x.yaml:3:45: feature_targets contrasts at least two classes; it has a."
    ],
    ROWS + "train: {experiment_dir: elsewhere}\n": [
        "x.yaml:4:9: train.experiment_dir is `experiment_dir`, at the top, here."
    ],
    # several at once, in the order of the file
    ROWS + "train:\n  max_steps: many\n  lr: 3\nreport: {titel: x}\n": [
        'x.yaml:5:14: train.max_steps: expected a whole number; found "many".',
        "x.yaml:6:3: lr is no key of train. Did you mean 'learning_rate'?",
        "x.yaml:7:10: titel is no key of report. Did you mean 'title'?",
    ],
}  # fmt: skip

FLAGS = {
    ("train.max_steps", "many"): '--train.max-steps: train.max_steps: expected a whole number; found "many".',
    ("train.lr", "3"): "--train.lr: lr is no key of train. Did you mean 'learning_rate'?",
    ("train.max_steps", "["): "--train.max-steps:1:2: this is not YAML: expected the node content, but found "
    "'<stream end>'.",
    ("train.learning_rate", "fast"): '--train.learning-rate: learning_rate must be a finite number of at least 0, or '
    "\"auto\"; got 'fast'.",
    ("evaluate.decoder.weaken", "she"): '--evaluate.decoder.weaken: evaluate.decoder.weaken: expected a list; found '
    '"she".',
}  # fmt: skip


def read(tmp_path, text, flags=None):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    return read_experiment(path, flags)


@pytest.mark.parametrize(
    "targets",
    ["{0: [x], 1: [y]}", "{-1 : [x], b: [y]}", "\n    0: [x] # none\n    1  : [y]", "\n    ? 0\n    : [x]\n    1: [y]"],
)
def test_a_number_that_is_written_as_it_is_read_is_a_name(tmp_path, targets):
    experiment = read(tmp_path, TEXT + f"\n  base_data: a.txt\n  feature_targets: {targets}\n")
    assert all(isinstance(name, str) for name in experiment.corpus.feature_targets)
    assert set(experiment.corpus.feature_targets) <= {"-1", "0", "1", "b"}


def test_keys_that_another_mapping_gives_stand_there(tmp_path):
    merged = "feature_targets: {<<: &more {1: [x], 2: [z]}, b: [y]}"
    experiment = read(tmp_path, TEXT + f"{{base_data: a.txt, {merged}}}\n")
    assert set(experiment.corpus.feature_targets) == {"1", "2", "b"}


@pytest.mark.parametrize("text", FAULTS)
def test_faults_of_a_file(tmp_path, text):
    with pytest.raises(ExperimentError) as error:
        read(tmp_path, text)
    assert [line.replace(f"{tmp_path}/", "") for line in error.value.faults] == FAULTS[text]


@pytest.mark.parametrize("flag", FLAGS)
def test_faults_of_a_flag(tmp_path, flag):
    with pytest.raises(ExperimentError) as error:
        read(tmp_path, ROWS, dict([flag]))
    assert error.value.faults == [FLAGS[flag]]


def test_words_and_numbers_are_those_of_yaml_1_2(tmp_path):
    text = (
        TEXT + "{base_data: a.txt, feature_targets: {neg: [no, off], pos: [yes, on]}}\ntrain: {learning_rate: 1e-4}\n"
    )
    experiment = read(tmp_path, text)
    assert experiment.corpus.feature_targets == {"neg": ["no", "off"], "pos": ["yes", "on"]}
    assert experiment.train.learning_rate == 1e-4


WITH_ROWS = {"model": "bert", "experiment_dir": "runs/x", "data": TextPredictionConfig(data="rows.csv")}
WRONG = [
    (lambda: Corpus("a.txt", ["he", "they"]), "feature_targets must be a dict; got ['he', 'they']"),
    (lambda: Evaluation(decoder={"plot": False}), "decoder must be of the type DecoderEvaluation or None; got {'plot'"),
    (lambda: Experiment(**{**WITH_ROWS, "data": {"data": "x.csv"}}), "data must be of the type TextPredictionConfig;"),
    (lambda: Experiment(**WITH_ROWS, train={"max_steps": 3}), "train must be of the type TrainingArguments; got {"),
    (lambda: Experiment(**WITH_ROWS, rewrite=True), "rewrite must be of the type Rewrite or None; got True (bool)"),
    (lambda: Experiment(**{**WITH_ROWS, "experiment_dir": None}), "experiment_dir must be a path; got None"),
]


@pytest.mark.parametrize(("make", "message"), WRONG)
def test_sections_in_python_are_of_their_types(make, message):
    with pytest.raises(TypeError, match=re.escape(message)):
        make()


def test_a_single_name_in_python_is_no_list_of_letters():
    corpus = Corpus("a.txt", {"a": "he", "b": FeatureClass("they", use_lemma=True)})
    assert corpus.feature_targets == {"a": ["he"], "b": FeatureClass(["they"], use_lemma=True)}
    assert DecoderEvaluation(strengthen="she", weaken="he") == DecoderEvaluation(strengthen=["she"], weaken=["he"])
    assert Rewrite("she") == Rewrite(["she"])
    assert Delta(weaken="he") == Delta(weaken=["he"])
    assert Report(sentences="The [MASK].") == Report(sentences=["The [MASK]."])


def test_a_folder_may_be_a_path(tmp_path):
    experiment = Experiment(**{**WITH_ROWS, "experiment_dir": tmp_path})
    assert experiment.replace(delta=Delta()).train.experiment_dir == experiment.experiment_dir == str(tmp_path)


def test_texts_of_a_corpus_may_be_a_path_or_a_frame(tmp_path):
    texts = [f"{word} left {number}." for number in range(12) for word in ("He", "They")]
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    classes = {"a": "he", "b": "they"}
    made = [
        rows_from(Corpus(given, classes, neutral_max_size=0))[0]["a"]
        for given in (texts, tuple(texts), tmp_path / "texts.txt", pd.DataFrame({"text": texts}))
    ]
    for rows in made[1:]:
        pd.testing.assert_frame_equal(rows, made[0])
    assert rows_from(Corpus(texts, classes))[1] is None  # there is no neutral text


def test_file_flags_and_python_give_one_experiment(tmp_path):
    written = Experiment(
        model="bert", experiment_dir="runs/x", data=TextPredictionConfig(target_classes=["a", "b"]),
        corpus=Corpus("a.txt", {"a": ["x"], "b": FeatureClass(["y"], use_lemma=True)}, spacy_model="m"),
        train=TrainingArguments(use_cache=True, max_steps=7, pre_prune_config=PrePruneConfig(topk=0.1)),
    )  # fmt: skip
    file = read(
        tmp_path,
        TEXT + "{base_data: a.txt, feature_targets: {a: [x], b: {targets: [y], use_lemma: true}}, spacy_model: m}\n"
        "data: {target_classes: [a, b]}\ntrain: {max_steps: 7, pre_prune_config: {topk: 0.1}}\n",
    )
    flags = read_experiment(flags={
        "model": "bert", "experiment_dir": "runs/x", "data.target_classes": "[a, b]", "train.max_steps": "7",
        "corpus.base_data": "a.txt", "corpus.spacy_model": "m", "train.pre_prune_config.topk": "0.1",
        "corpus.feature_targets": "{a: [x], b: {targets: [y], use_lemma: true}}",
    })  # fmt: skip
    assert experiment_dict(file) == experiment_dict(flags) == experiment_dict(written)


def test_a_flag_wins_over_the_file_and_text_is_taken_as_it_is(tmp_path):
    experiment = read(tmp_path, ROWS + "train: {max_steps: 3}\n", {"train.max_steps": "9", "report.title": "007"})
    assert experiment.train.max_steps == 9
    assert experiment.report.title == "007"


def test_a_file_finishes_what_it_began_unless_it_says_otherwise(tmp_path):
    assert read(tmp_path, ROWS).train.use_cache is True
    assert read(tmp_path, ROWS + "train: {use_cache: false}\n").train.use_cache is False


def test_a_section_of_comments_is_an_absent_section(tmp_path):
    empty = read(tmp_path, ROWS + "train:\n  # max_steps: 3\nevaluate:\n")
    assert experiment_dict(empty) == experiment_dict(read(tmp_path, ROWS))


def test_a_resolved_experiment_reads_as_the_same(tmp_path):
    experiment = read(tmp_path, ROWS + "train: {torch_dtype: bfloat16, learning_rate: auto}\nrewrite: {}\n")
    (tmp_path / "run.json").write_text(json.dumps({"experiment": experiment_dict(experiment), "metrics": {}}))
    again = read_experiment(tmp_path / "run.json")
    assert experiment_dict(again) == experiment_dict(experiment)


def test_numbers_of_numpy_are_recorded(tmp_path):
    numbers = Experiment(
        **WITH_ROWS, train=TrainingArguments(use_cache=True, max_steps=np.int64(7)),
        evaluate=Evaluation(decoder=DecoderEvaluation(np.array([0.1, 1]), range(2), max_size_neutral=np.int64(5))),
    )  # fmt: skip
    recorded = experiment_dict(numbers)
    assert recorded["evaluate"]["decoder"]["lrs"] == [0.1, 1]
    assert recorded["evaluate"]["decoder"]["feature_factors"] == [0, 1]
    (tmp_path / "run.json").write_text(json.dumps({"experiment": plain(recorded), "metrics": {}}))
    assert plain(experiment_dict(read_experiment(tmp_path / "run.json"))) == plain(recorded)


@pytest.mark.parametrize("everything", [False, True])
def test_a_new_file_is_valid_and_documented(tmp_path, everything):
    text = new_file({("model",): "bert", ("data", "data"): "rows.csv"}, everything=everything)
    experiment = read(tmp_path, text)
    assert (experiment.model, experiment.data.data, experiment.corpus) == ("bert", "rows.csv", None)
    jsonschema.validate(json.loads(json.dumps(YAML(typ="safe").load(text))), experiment_schema())
    if everything:
        # Every comment that shows a default becomes a field when the # is removed.
        missing = [field.flag for field in fields() if f"{field.keys[-1]}:" not in text]
        assert missing == []


def test_the_schema_refuses_what_the_reader_refuses():
    schema = experiment_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    fine = {"model": "bert", "experiment_dir": "x", "data": {"data": "rows.csv"}}
    jsonschema.validate(fine, schema)
    for wrong in ({"trian": {}}, {"train": {"max_steps": "many"}}, {"train": {"optim": "sgd"}}, {"rewrite": True}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**fine, **wrong}, schema)


def test_every_field_has_a_sentence_and_a_kind():
    assert [field.flag for field in fields() if not field.sentence or not field.kind] == []


def test_the_schema_in_the_package_is_that_of_the_dataclasses():
    script = runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "write_schema.py"))
    assert experiment_schema() == json.loads(json.dumps(script["made_schema"]())), "run scripts/write_schema.py"
