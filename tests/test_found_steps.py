"""evaluate_decoder(lrs="auto") and the goal "balance", on a tiny trained model."""

import copy
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
import tiny_data
import torch

from gradiend import (
    TextFilterConfig,
    TextPredictionDataCreator,
    TextPredictionTrainer,
    TrainingArguments,
    apply_delta,
)
from gradiend.demo import model_path, sentences
from gradiend.evaluator import LikelihoodPolicy, LMSThresholdPolicy
from gradiend.evaluator._goals import BalanceGoal
from gradiend.evaluator._measurements import BalanceOfClasses, TextMeasurement
from gradiend.evaluator._selection import BaseContext
from gradiend.gradients import WordScorer
from gradiend.objectives import Masked

WORDS = {"SG": ["he", "she", "it"], "PL": ["they"]}
TEXTS = ["That evening [MASK] went home.", "In the end [MASK] won.", "For a long time [MASK] said nothing."]
NEUTRAL = TextPredictionDataCreator(
    sentences(), feature_targets=[TextFilterConfig([*WORDS["SG"], *WORDS["PL"]], id="words")]
).generate_neutral_data(max_size=60)  # fmt: skip
COARSE = LikelihoodPolicy(resolution=0.01)
"""What so few texts can tell."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A GRADIEND in closed form on the embedded model."""
    directory = tmp_path_factory.mktemp("run")
    return trainer(directory, use_cache=True).train()


def trainer(directory, **arguments):
    args = TrainingArguments(
        experiment_dir=str(directory), max_steps=0, init="class_means", max_seeds=1, train_batch_size=8,
        init_samples=8, eval_batch_size=16, **arguments,
    )  # fmt: skip
    return TextPredictionTrainer(
        str(model_path()), data=tiny_data.rows(), target_classes=["SG", "PL"], args=args, decoder_eval_targets=WORDS,
        eval_neutral_data=NEUTRAL,
    )  # fmt: skip


def found(trained, **options):
    given = {"selector": COARSE, "use_cache": False, **options}
    return trained.evaluate_decoder(lrs="auto", **given)


@pytest.fixture(scope="module")
def results(trained):
    return found(trained)


def test_the_step_keeps_the_likelihood_and_moves_the_class(trained, results):
    for name in trained.target_classes:
        chosen = results[name]
        assert chosen["value"] > chosen["base_value"]
        ratio = chosen["likelihood_ratio"]
        assert ratio["value"] >= 0.99
        assert ratio["value"] - 1.6449 * ratio["standard_error"] >= 0.99 - COARSE.resolution - 1e-4
        assert f"{chosen['learning_rate']:.4g} has the highest P({name})" in chosen["why"]
        assert "note" not in chosen


def test_no_measured_step_that_is_allowed_is_better(trained, results):
    policy, base = COARSE, results["grid"]["base"]
    for name, other in zip(trained.target_classes, reversed(trained.target_classes), strict=True):
        allowed = [
            entry["probs"][other]
            for key, entry in results["grid"].items()
            if key != "base" and key[0] == results[name]["feature_factor"] and "lms" in entry
            and policy.why_refused(entry["lms"], BaseContext(base["lms"]["lms"])) is None
        ]  # fmt: skip
        assert results[name]["value"] == max(allowed)


def test_later_steps_of_a_line_need_few_tokens_and_agree_with_all(trained, results):
    later = {key: entry for key, entry in results["grid"].items() if "same tokens" in str(entry.get("lms"))}
    assert later
    exact = LikelihoodPolicy(resolution=1e-6)
    for (factor, step), entry in later.items():
        whole = trained.evaluate_decoder(lrs=[step], feature_factors=[factor], selector=exact, use_cache=False)
        scores, all_scores = entry["lms"], whole["grid"][factor, step]["lms"]
        assert scores["n_tokens"] < all_scores["n_tokens"] / 2
        ratio, exact_ratio = scores["likelihood_ratio"], all_scores["likelihood_ratio"]
        assert abs(ratio["value"] - exact_ratio["value"]) < 2 * ratio["standard_error"]
    assert not any("scores_by_text" in entry for entry in results["grid"].values())


def test_the_search_is_the_same_twice(trained, results):
    assert found(trained) == results


def test_an_interrupted_search_goes_on_where_it_stopped(trained, results, monkeypatch):
    shutil.rmtree(Path(trained.experiment_dir) / "decoder")
    measured = []
    lms = TextMeasurement.lms

    def interrupted(self, other=()):
        measured.append(1)
        if len(measured) == 3:
            raise KeyboardInterrupt
        return lms(self, other)

    with monkeypatch.context() as patch:
        patch.setattr(TextMeasurement, "lms", interrupted)
        with pytest.raises(KeyboardInterrupt):
            found(trained, use_cache=True)
    measured.clear()
    monkeypatch.setattr(TextMeasurement, "lms", lambda self, other=(): measured.append(1) or lms(self, other))
    again = found(trained, use_cache=True)
    assert {key: again[key] for key in trained.target_classes} == {key: results[key] for key in trained.target_classes}
    whole = len(measured)
    measured.clear()
    monkeypatch.setattr(TextMeasurement, "hold_base", None)
    assert found(trained, use_cache=True)["grid"] == again["grid"]
    assert measured == []
    monkeypatch.undo()
    monkeypatch.setattr(TextMeasurement, "lms", lambda self, other=(): measured.append(1) or lms(self, other))
    found(trained)
    assert len(measured) == whole + 2


def test_the_accuracy_rule_can_be_searched_too(trained):
    chosen = found(trained, selector=LMSThresholdPolicy(0.9))["SG"]
    assert chosen["lms"] >= 0.9 * chosen["base_lms"]


def test_weakening_is_searched_along_the_other_direction(trained, results):
    weaker = found(trained, target_class="SG", increase_target_probabilities=False)
    assert weaker["SG_weaken"]["feature_factor"] == -results["SG"]["feature_factor"]
    assert weaker["SG_weaken"]["value"] > weaker["SG_weaken"]["base_value"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"summary_metrics": ["SG"]}, "give lrs, the steps"),
        ({"target_class": "balance"}, "texts that fit every class"),
        ({"target_class": "balance", "balance_texts": ["no placeholder"]}, "needs a \\[MASK\\]"),
        ({"target_class": "balance", "balance_texts": []}, "no text"),
        ({"target_class": "imbalance", "increase_target_probabilities": False}, "imbalance"),
        ({"target_class": "SG", "balance_texts": TEXTS}, 'belongs to the goal "balance"'),
        (
            {"target_class": "balance", "balance_texts": TEXTS, "increase_target_probabilities": False},
            "goal of its own",
        ),
    ],
)
def test_what_cannot_be_searched_is_said_before_the_work(trained, wrong, message):
    with pytest.raises(ValueError, match=message):
        found(trained, **wrong)


@pytest.mark.parametrize("policy", [LikelihoodPolicy(1.0, 0.01), LMSThresholdPolicy(0.0)])
def test_a_policy_may_ask_for_all_of_the_score_or_for_none(trained, policy):
    chosen = found(trained, selector=policy, target_class="SG")["SG"]
    assert chosen["learning_rate"] > 0
    assert chosen["lms"] >= (policy.ratio if isinstance(policy, LMSThresholdPolicy) else 0.99) * chosen["base_lms"]


class Greedy:
    """A policy of a user's own, which reads the score of every candidate."""

    def select(self, metric, candidates, ctx):
        kept = [one for one in candidates if one.lms > 0.9 * ctx.base_lms]
        return max(kept, key=lambda one: one.metrics[metric], default=None)


def test_steps_are_searched_for_a_policy_of_ones_own(trained):
    results = found(trained, selector=Greedy(), target_class="SG")
    chosen, grid = results["SG"], results["grid"]
    assert chosen["lms"] > 0.9 * chosen["base_lms"]
    values = [
        entry["probs"]["PL"]
        for key, entry in grid.items()
        if key != "base" and entry["lms"]["lms"] > 0.9 * chosen["base_lms"]
    ]
    assert chosen["value"] == max(values)
    assert chosen["value"] > chosen["base_value"]


def test_another_word_than_auto_is_no_step(trained):
    with pytest.raises(ValueError, match="lrs"):
        trained.evaluate_decoder(lrs="automatic")


# Balance


def test_the_measures_are_those_of_the_definition():
    objective = Masked(tiny.bert_tokenizer(), max_length=64)
    words = {"one": ["he", "she"], "many": ["they", "she"]}
    measure = BalanceOfClasses(TEXTS, words, objective, batch_size=2)
    model = tiny.bert().eval()
    found = measure.summary(measure.measure(WordScorer(model, objective)))
    rows = []
    with torch.no_grad():
        for text in TEXTS:
            capital = text.startswith("[MASK]")
            p = {}
            for word in ("he", "she", "they"):
                item = objective.tokenize([text], [word.capitalize() if capital else word])[0]
                p[word] = float((-tiny.naive_loss(model, item)).exp())
            one, many = p["he"] + p["she"], p["they"] + p["she"]
            assert found["by_text"][text] == pytest.approx({"one": one, "many": many}, rel=1e-4)
            rows.append([(1 - abs(one - many)) * sum(p.values()), abs(one - many) / (one + many), one + many])
    expected = dict(zip(("balance", "gap", "sum"), np.mean(rows, axis=0), strict=True))
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-4)


@pytest.fixture(scope="module")
def balanced(trained):
    return found(trained, target_class="balance", balance_texts=TEXTS)


def test_balance_lowers_the_gap_and_keeps_sum_and_likelihood(trained, balanced):
    chosen = balanced["balance"]
    assert chosen["value"] < chosen["base_value"]
    assert chosen["measures"]["sum"] >= chosen["base_measures"]["sum"]
    assert chosen["likelihood_ratio"]["value"] >= 0.99
    assert set(chosen["probs_factual"]) == set(chosen["base_probs_factual"]) == set(trained.target_classes)
    allowed = [
        entry["balance"]["gap"] for key, entry in balanced["grid"].items()
        if key != "base" and "balance" in entry and entry["balance"]["sum"] >= chosen["base_measures"]["sum"]
    ]  # fmt: skip
    assert chosen["value"] == min(allowed)
    assert "the smallest gap" in chosen["why"]


def test_a_rewrite_that_widens_the_gap_is_no_balance(trained, balanced):
    base = balanced["grid"]["base"]["balance"]
    entry = next(entry for key, entry in balanced["grid"].items() if key != "base" and "balance" in entry)
    goal = BalanceGoal("balance", True, ("balance", *trained.target_classes), 0.0)
    for gap, total, why in (
        (base["gap"] + 0.01, base["sum"], "brings the classes closer together: the gap is"),
        (base["gap"] - 0.01, base["sum"] - 0.01, "leaves the classes together as likely as before"),
    ):
        grid = {"base": {"balance": base}, (1.0, 0.1): {**entry, "balance": {**base, "gap": gap, "sum": total}}}
        assert goal.candidates(grid, None) == []
        assert why in goal.why_none(grid)
    grid = {"base": {"balance": base}, (1.0, 0.1): {**entry, "balance": {**base, "gap": base["gap"] - 0.01}}}
    assert len(goal.candidates(grid, None)) == 1
    assert goal.why_none(grid) is None


def test_balance_is_rewritten_and_exported_like_a_class(trained, balanced, tmp_path):
    rewritten = trained.rewrite_base_model(balanced, "balance")
    path = trained.export_delta(balanced, "balance", path=tmp_path / "balance.safetensors")
    changed = copy.deepcopy(trained.get_model().base_model)
    apply_delta(changed, path)
    for name, tensor in rewritten.state_dict().items():
        assert torch.equal(tensor, changed.state_dict()[name])


def test_there_is_a_figure_of_the_balance(trained, balanced, tmp_path):
    path = tmp_path / "balance.png"
    assert trained.plot_balance(balanced, output=str(path), show=False) == str(path)
    assert path.stat().st_size > 10_000
    with pytest.raises(ValueError, match="balance_texts"):
        trained.plot_balance({"grid": {}}, output=str(path), show=False)


def test_given_steps_are_tried_with_a_few_factors(trained):
    grid = trained.evaluate_decoder(lrs=[0.01], target_class="balance", balance_texts=TEXTS, use_cache=False)["grid"]
    assert {key[0] for key in grid if key != "base"} == {0.0, 0.3, -0.3}


def test_the_rows_of_the_classes_serve_on_request(trained):
    measured = trained.evaluate_decoder(
        lrs=[0.01], target_class="balance", balance_texts="target_rows", use_cache=False
    )["grid"]["base"]["balance"]
    assert measured["n_texts"] == len(set(trained.combined_data.query("split == 'test'")["masked"]))


def test_without_a_decoder_bias_factor_0_is_no_direction(tmp_path):
    without = trainer(tmp_path, bias_decoder=False).train()
    given = {"target_class": "balance", "balance_texts": TEXTS, "use_cache": False}
    with pytest.raises(ValueError, match="decoder's bias, and this GRADIEND has none"):
        without.evaluate_decoder(lrs=[0.1], feature_factors=[0.0], **given)
    grid = without.evaluate_decoder(lrs=[0.01], **given)["grid"]
    assert {key[0] for key in grid if key != "base"} == {1.0, -1.0}


# Intervals


def test_every_probability_has_an_interval(results):
    for key, entry in results["grid"].items():
        for dataset, means in entry["probs_by_dataset"].items():
            for name, mean in means.items():
                low, high = entry["probs_interval"][dataset][name]
                assert low <= mean <= high
                if key != "base":
                    moved = mean - results["grid"]["base"]["probs_by_dataset"][dataset][name]
                    low, high = entry["probs_change_interval"][dataset][name]
                    assert low <= moved <= high


@pytest.mark.parametrize("strengthen", [True, False])
def test_the_intervals_of_a_choice_are_those_of_its_value(trained, strengthen):
    chosen = found(trained, target_class="SG", increase_target_probabilities=strengthen)
    chosen = chosen["SG" if strengthen else "SG_weaken"]
    assert chosen["value_interval"][0] <= chosen["value"] <= chosen["value_interval"][1]
    assert chosen["base_value_interval"][0] <= chosen["base_value"] <= chosen["base_value_interval"][1]
    low, high = chosen["change_interval"]
    assert low <= chosen["value"] - chosen["base_value"] <= high


def test_an_unchanged_model_has_no_change_to_estimate(trained):
    grid = trained.evaluate_decoder(lrs=[0.0], use_cache=False)["grid"]
    unchanged = grid[1.0, 0.0]
    assert all(value is None for names in unchanged["probs_change_interval"].values() for value in names.values())
    assert unchanged["lms"]["likelihood_ratio"] == {"value": 1.0, "standard_error": None, "low": None, "high": None}
