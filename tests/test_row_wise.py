"""The decoder evaluation row by row (`decoder_eval_targets="label"`), and the rows that it is asked for."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
import tiny_data
import torch

from gradiend import TextPredictionConfig
from gradiend.evaluator import LikelihoodPolicy
from gradiend.evaluator._row_wise import RowWiseProbabilities
from gradiend.gradients import WordScorer
from gradiend.objectives import Masked

SHARED = {"SG": ("he", "they"), "PL": ("they", "it")}
ROWS = pd.DataFrame(
    {
        "masked": ["then [MASK] saw it .", "[MASK] was tired", "the dog and [MASK] were old !", "a cat saw [MASK] ."],
        "factual": ["he", "They", "they", "it"],
        "factual_class": ["SG", "SG", "PL", "PL"],
        "alternative": ["it", "It", "gardener", "he"],
        "alternative_class": ["PL", "PL", "SG", "SG"],
    }
)
COARSE = LikelihoodPolicy(ratio=0.5, resolution=0.1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("rowwise")
    path = tiny_data.save_bert(root / "base")
    return made(path, root / "run").train()


def made(path, directory=None, data=None, **fields):
    args = {"learning_rate": 1e-2, **({} if directory is None else {"experiment_dir": str(directory)})}
    data = tiny_data.rows(SHARED) if data is None else data
    return tiny_data.trainer(path, args, data=data, **{"decoder_eval_targets": "label", **fields})


def like(trained, **fields):
    """A trainer of the same model with other settings of the decoder evaluation."""
    other = made(trained.base_model_path, trained.experiment_dir, **fields)
    other.get_model(load_directory=trained.model_path)
    return other


def naive(model, objective, text, word):
    with torch.no_grad():
        return math.exp(-float(tiny.naive_loss(model, objective.tokenize([text], [word])[0])))


def test_each_row_has_the_probabilities_of_its_own_two_words():
    model, objective = tiny.bert().eval(), Masked(tiny.bert_tokenizer(), max_length=64)
    measured = RowWiseProbabilities(ROWS, ["SG", "PL"], objective, batch_size=2)
    scores = measured.scores(WordScorer(model, objective))
    for side in ("factual", "alternative"):
        pairs = zip(ROWS["masked"], ROWS[side], strict=True)
        expected = [naive(model, objective, text, word) for text, word in pairs]
        np.testing.assert_allclose(scores[f"p_{side}"], expected, rtol=1e-4)
    means = measured.measure(WordScorer(model, objective))
    for name in ("SG", "PL"):
        own = scores[scores["factual_class"] == name]
        other = {"SG": "PL", "PL": "SG"}[name]
        assert means[name] == pytest.approx({name: own["p_factual"].mean(), other: own["p_alternative"].mean()})


def test_the_evaluation_is_about_the_words_of_each_row(trained):
    result = trained.evaluate_decoder(lrs=[0.1, 1.0], selector=COARSE)
    rows, _ = trained._get_decoder_eval_dataframe(None)
    rows = rows[rows["factual"] != rows["alternative"]]
    model, objective = trained.get_model(), Masked(tiny.bert_tokenizer(), max_length=64)
    model.base_model.eval()
    for name, own in rows.groupby("factual_class"):
        found = result["grid"]["base"]["probs_by_dataset"][name]
        expected = [naive(model.base_model, objective, *row) for row in own[["masked", "alternative"]].to_numpy()]
        (other,) = {"SG", "PL"} - {name}
        assert found[other] == pytest.approx(np.mean(expected), rel=1e-4)
    assert {"SG", "PL", "grid"} <= set(result)


def test_classes_that_share_words_are_scored_row_by_row_and_the_log_says_so(trained, caplog):
    inferred = like(trained, decoder_eval_targets=None)
    with caplog.at_level("INFO"):
        found = inferred.evaluate_decoder(lrs=[0.1], selector=COARSE, use_cache=False)
    assert "share the words 'they'" in caplog.text
    by_label = trained.evaluate_decoder(lrs=[0.1], selector=COARSE, use_cache=False)
    assert found["grid"]["base"]["probs"] == by_label["grid"]["base"]["probs"]
    # Words that are given are taken as they are given, and classes without shared words stay as they were.
    words = {name: list(own) for name, own in SHARED.items()}
    caplog.clear()
    with caplog.at_level("INFO"):
        of_classes = like(trained, decoder_eval_targets=words).evaluate_decoder(lrs=[0.1], selector=COARSE)
        assert not made("unused", data=tiny_data.rows(), decoder_eval_targets=None).modality.row_wise
    assert "row by row" not in caplog.text
    assert of_classes["grid"]["base"]["probs"] != by_label["grid"]["base"]["probs"]


def test_a_search_for_the_step_and_its_plot_work_row_by_row_and_are_read_again(trained, monkeypatch):
    asked = {"lrs": "auto", "selector": COARSE, "plot": True, "show": False}
    first = trained.evaluate_decoder(use_cache=False, **asked)
    assert Path(first["plot_path"]).is_file()
    # Measurements that are read compute nothing.
    monkeypatch.setattr(RowWiseProbabilities, "rows", None)
    again = trained.evaluate_decoder(use_cache=True, **asked)
    assert again["SG"] == first["SG"]
    assert again["grid"].keys() == first["grid"].keys()


def test_measurements_of_classes_are_not_read_row_by_row(trained):
    words = {name: list(own) for name, own in SHARED.items()}
    asked = {"lrs": [0.3], "selector": COARSE, "use_cache": True}
    by_class = like(trained, decoder_eval_targets=words).evaluate_decoder(**asked)
    by_row = trained.evaluate_decoder(**asked)
    assert by_class["grid"]["base"]["probs"] != by_row["grid"]["base"]["probs"]


def test_the_file_of_scores_has_every_row_before_and_after_the_chosen_rewrites(trained):
    exporting = like(trained, decoder_eval_export_row_wise_csv=True)
    result = exporting.evaluate_decoder(lrs=[0.1, 0.3], selector=COARSE)
    scores = pd.read_csv(Path(trained.experiment_dir) / "decoder_row_wise_scores.csv")
    chosen = {name: result[name] for name in ("SG", "PL") if result[name]["learning_rate"] is not None}
    assert set(scores["goal"]) == {"base", *chosen}
    assert chosen
    base = scores[scores["goal"] == "base"]
    for name, entry in chosen.items():
        own = scores[scores["goal"] == name]
        assert list(own["masked"]) == list(base["masked"])
        assert set(own["learning_rate"]) == {entry["learning_rate"]}
        # A class is strengthened on the texts of the other class, where its words are the alternatives.
        others = own["factual_class"] != name
        assert own.loc[others, "p_alternative"].mean() == pytest.approx(entry["value"], rel=1e-5)
        before = base.loc[base["factual_class"] != name, "p_alternative"].mean()
        assert before == pytest.approx(entry["base_value"], rel=1e-5)
    # The base model is as it was.
    again = trained.evaluate_decoder(lrs=[0.1, 0.3], selector=COARSE, use_cache=False)
    assert again["grid"]["base"]["probs"] == result["grid"]["base"]["probs"]


def test_a_file_of_scores_without_rows_is_said_to_be_left_out(trained, caplog):
    plain = like(trained, data=tiny_data.rows(), decoder_eval_targets=None, decoder_eval_export_row_wise_csv=True)
    path = Path(trained.experiment_dir) / "decoder_row_wise_scores.csv"
    path.unlink(missing_ok=True)
    with caplog.at_level("WARNING"):
        plain.evaluate_decoder(lrs=[0.1], selector=COARSE, use_cache=False)
    assert "decoder_eval_export_row_wise_csv has no effect" in caplog.text
    assert not path.exists()


def test_rows_of_ones_own_need_their_alternatives(trained):
    asked = {"lrs": [0.1], "selector": COARSE, "use_cache": False}
    rows = ROWS.rename(columns={"factual": "label", "factual_class": "label_class"}).iloc[[0, 3]]
    found = trained.evaluate_decoder(training_like_df=rows.drop(columns="alternative_class"), **asked)
    assert set(found["grid"]["base"]["probs_by_dataset"]) == {"SG", "PL"}
    with pytest.raises(ValueError, match="its alternative"):
        trained.evaluate_decoder(training_like_df=rows.drop(columns="alternative"), **asked)
    with pytest.raises(ValueError, match="PL→PL"):
        trained.evaluate_decoder(training_like_df=rows.assign(alternative_class="PL"), **asked)
    same = rows.assign(alternative=["he", "he"])
    with pytest.raises(ValueError, match="'SG' the word and its alternative"):
        trained.evaluate_decoder(training_like_df=same, **asked)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"decoder_eval_targets": "labels"}, "Did you mean 'label'"),
        ({"decoder_eval_targets": "label", "decoder_eval_restrict_to_target_classes": False}, "restrict"),
        (
            {"decoder_eval_targets": {"SG": ["he"], "PL": ["it"]}, "decoder_eval_export_row_wise_csv": True},
            "row by row",
        ),
    ],
)
def test_a_configuration_that_contradicts_itself_is_refused(fields, says):
    with pytest.raises(ValueError, match=says):
        TextPredictionConfig(**fields)


def test_balance_of_classes_that_share_words_is_refused(trained):
    with pytest.raises(ValueError, match="share 'they'"):
        trained.evaluate_decoder(target_class="balance", balance_texts=["then [MASK] was old ."], lrs=[0.1])


def test_a_file_of_scores_needs_a_place(trained):
    homeless = made(trained.base_model_path, decoder_eval_export_row_wise_csv=True)
    homeless.get_model(load_directory=trained.model_path)
    with pytest.raises(ValueError, match="needs a place"):
        homeless.evaluate_decoder(lrs=[0.1])


# The rows, the plot and the score that an evaluation is asked for


def test_the_splits_of_a_decoder_evaluation(trained):
    asked = {"lrs": [0.1], "selector": COARSE, "use_cache": False}
    rows = {name: trained._get_decoder_eval_dataframe(None, split=name)[0] for name in ("validation", "test", "all")}
    given = trained.evaluate_decoder(training_like_df=rows["validation"], **asked)["grid"]["base"]
    assert trained.evaluate_decoder(split="validation", **asked)["grid"]["base"]["probs"] == given["probs"]
    both, _ = trained._get_decoder_eval_dataframe(None, split=["validation", "test"])
    assert len(both) == len(rows["validation"]) + len(rows["test"]) < len(rows["all"])
    of_both = trained.evaluate_decoder(split=["validation", "test"], **asked)["grid"]["base"]
    assert of_both["probs"] != given["probs"]


def test_max_size_is_a_second_name(trained):
    asked = {"lrs": [0.1], "selector": COARSE, "use_cache": False}
    one = trained.evaluate_decoder(max_size=2, **asked)["grid"]["base"]
    assert one == trained.evaluate_decoder(max_size_training_like=2, **asked)["grid"]["base"]
    assert one != trained.evaluate_decoder(**asked)["grid"]["base"]


@pytest.mark.parametrize(
    ("asked", "error", "says"),
    [
        ({"max_size": 2, "max_size_training_like": 3}, ValueError, "second name"),
        ({"max_size": 0}, ValueError, "max_size_training_like"),
        ({"split": "tset"}, ValueError, "tset"),
        ({"split": 3}, TypeError, "list of names"),
        ({"split": "test", "training_like_df": ROWS}, ValueError, "leave one of them out"),
        ({"decoder_lms_mode": "classification_accuracy"}, ValueError, "lm"),
        ({"plot_kwargs": {"figsiz": (3, 3)}}, TypeError, "figsize"),
    ],
)
def test_what_an_evaluation_cannot_do_is_refused(trained, asked, error, says):
    with pytest.raises(error, match=says):
        trained.evaluate_decoder(lrs=[0.1], **asked)


def test_the_plot_takes_its_arguments(trained, tmp_path):
    path = tmp_path / "shifts.pdf"
    result = trained.evaluate_decoder(
        lrs=[0.1], selector=COARSE, plot=True, plot_kwargs={"output": str(path), "show": False}, decoder_lms_mode="lm"
    )
    assert result["plot_path"] == str(path)
    assert path.is_file()
