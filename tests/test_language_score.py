"""Scores on neutral texts, their ratios with standard errors, and the derivatives that give a first step."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import tiny
import torch

from gradiend.evaluator import LikelihoodPolicy
from gradiend.evaluator._language_score import FIRST_BLOCK, LanguageModelingScore, Ratio, Scored, TextScores
from gradiend.evaluator._measurements import TextMeasurement
from gradiend.evaluator._probabilities import ClassProbabilities
from gradiend.evaluator._selection import BaseContext, Candidate
from gradiend.gradients import GradientEngine, WordScorer, collate
from gradiend.model._rewriting import temporarily_updated
from gradiend.objectives import Causal, Masked

KINDS = {
    "masked": (tiny.bert, Masked(tiny.bert_tokenizer(), max_length=64)),
    "causal": (tiny.FAMILIES["gpt2"].build, Causal(tiny.gpt2_tokenizer(), max_length=64)),
}
ROWS = pd.DataFrame({"masked": ["then [MASK] saw it ."], "factual": ["he"], "factual_class": ["a"]})
TEXTS = [f"the {one} saw the old {two} and was tired ." for one in tiny.WORDS[:9] for two in tiny.WORDS[9:13]]


@pytest.fixture(params=KINDS)
def kind(request):
    make, objective = KINDS[request.param]
    return make().eval(), objective


def test_the_scores_of_each_text_are_those_of_the_text_alone(kind):
    model, objective = kind
    together = LanguageModelingScore(TEXTS, objective, in_blocks=True).measure(WordScorer(model, objective))
    for number in (0, 7):
        alone = LanguageModelingScore([TEXTS[number]], objective, in_blocks=True)
        one = alone.measure(WordScorer(model, objective))
        assert one.tokens[0] == together.tokens[number]
        if objective.name == "causal":
            assert one.loss[0] == pytest.approx(together.loss[number], rel=1e-4)


def test_blocks_score_every_token_once():
    texts = [" ".join(tiny.WORDS[:20])] * 200
    objective = KINDS["masked"][1]
    score = LanguageModelingScore(texts, objective, in_blocks=True)
    sizes = [sum(len(word.tokens) for _, word in block) for block in score.blocks]
    assert sum(sizes) == score.n_tokens == 200 * len(objective.tokenizer(texts[0])["input_ids"]) - 400
    assert sizes[0] == pytest.approx(FIRST_BLOCK, abs=5)
    parts = [score.measure(WordScorer(KINDS["masked"][0](), objective), [b]) for b in range(len(score.blocks))]
    whole = score.measure(WordScorer(KINDS["masked"][0](), objective))
    assert sum(part.n_tokens for part in parts) == whole.n_tokens


def simulated(seed, n_texts=400):
    generator = np.random.default_rng(seed)
    tokens = generator.integers(3, 30, n_texts).astype(float)
    hard = generator.gamma(2, 2, n_texts)
    base = tokens * hard
    moved = base + tokens * generator.normal(0.03, 0.2, n_texts)
    return TextScores(tokens, moved, np.floor(0.3 * tokens)), TextScores(tokens, base, np.floor(0.4 * tokens))


def test_the_standard_error_is_what_samples_of_texts_show():
    """Against the spread of the ratio over 300 samples of texts, which the formula must predict from each sample."""
    found = [own.likelihood_ratio(base) for own, base in map(simulated, range(300))]
    spread = float(np.std([ratio.value for ratio in found]))
    assert np.mean([ratio.standard_error for ratio in found]) == pytest.approx(spread, rel=0.15)
    held = [ratio.lower_bound() <= np.mean([r.value for r in found]) for ratio in found]
    assert np.mean(held) == pytest.approx(0.95, abs=0.04)


def test_the_likelihood_ratio_is_that_of_the_two_scores():
    own, base = simulated(0)
    mean, before = (float(s.loss.sum() / s.tokens.sum()) for s in (own, base))
    assert own.likelihood_ratio(base).value == pytest.approx((1 + before) / (1 + mean))
    assert own.accuracy_ratio(base).value == pytest.approx(own.hits.sum() / base.hits.sum())


def on_a_line(seed, steps, n_texts=600):
    """Scores of the base model and of models θ + lr · v: what text i loses is a_i lr + b_i lr², mostly the same a_i."""
    generator = np.random.default_rng(seed)
    tokens = generator.integers(3, 30, n_texts).astype(float)
    base = tokens * generator.gamma(2, 2, n_texts)
    slope, curvature = tokens * generator.normal(0.0, 0.3, n_texts), tokens * generator.gamma(1, 0.06, n_texts)
    losses = [base, *(base + step * slope + step**2 * curvature for step in steps)]
    return [TextScores(tokens, loss, None) for loss in losses]


def first_texts(scores, n_texts):
    few = np.arange(len(scores.tokens)) < n_texts
    return TextScores(scores.tokens * few, scores.loss * few, None)


def test_a_model_that_was_scored_on_more_corrects_the_ratio_of_few_texts():
    """The corrected ratios spread about the ratios on all texts as their errors say, a fraction of the plain ones."""
    corrected, plain, whole = [], [], []
    for seed in range(200):
        base, own, other = on_a_line(seed, (1.0, 1.2))
        few = [first_texts(one, 60) for one in (base, own, other)]
        more = Scored((few[2], few[0]), (other, base))
        corrected.append(few[1].likelihood_ratio(few[0], more))
        plain.append(few[1].likelihood_ratio(few[0]))
        whole.append(own.likelihood_ratio(base))
    away = [(one.value - all_.value) / one.own_error for one, all_ in zip(corrected, whole, strict=True)]
    assert np.std(away) == pytest.approx(1.0, abs=0.25)
    assert np.mean(away) == pytest.approx(0.0, abs=0.25)
    errors = [np.mean([ratio.standard_error for ratio in found]) for found in (corrected, plain, whole)]
    assert errors[0] < 1.2 * errors[2] < 0.5 * errors[1]
    assert all(one.is_settled_by_another for one in corrected)
    assert not any(one.is_settled_by_another for one in plain)
    spread = np.std([one.value for one in corrected])
    assert errors[0] == pytest.approx(spread, rel=0.2)


def test_a_model_that_was_scored_on_no_more_corrects_nothing():
    base, own, other = on_a_line(0, (1.0, 1.2))
    found = own.likelihood_ratio(base, Scored((other, base), (other, base)))
    assert found.value == pytest.approx(own.likelihood_ratio(base).value, rel=1e-12)
    assert found.standard_error == pytest.approx(own.likelihood_ratio(base).standard_error, rel=0.01)


def test_a_model_that_loses_elsewhere_is_of_little_use():
    base, own, _ = on_a_line(0, (1.0, 1.2))
    _, elsewhere, _ = on_a_line(1, (1.0, 1.2))
    other = TextScores(base.tokens, elsewhere.loss / elsewhere.tokens * base.tokens, None)
    few = [first_texts(one, 60) for one in (base, own, other)]
    found = few[1].likelihood_ratio(few[0], Scored((few[2], few[0]), (other, base)))
    assert not found.is_settled_by_another
    assert found.own_error == pytest.approx(few[1].likelihood_ratio(few[0]).standard_error, rel=0.2)


def test_scores_come_back_from_lists():
    for own in simulated(0, n_texts=7):
        few = first_texts(own, 4)
        back = TextScores.from_dict(json.loads(json.dumps(few.to_dict())), 7)
        assert back.loss.tolist() == few.loss.tolist()
        assert back.tokens.tolist() == few.tokens.tolist()


def test_where_nothing_varies_no_error_can_be_estimated():
    _, base = simulated(1)
    assert base.likelihood_ratio(base) == Ratio(1.0, None)
    lost = TextScores(base.tokens, np.where(base.tokens > 20, np.inf, base.loss), None)
    assert lost.likelihood_ratio(base) == Ratio(0.0, None)
    own, base = simulated(1, n_texts=1)
    assert own.likelihood_ratio(base).standard_error is None
    described = own.likelihood_ratio(base).to_dict()
    assert described["low"] is described["high"] is None


def test_the_first_step_loses_what_may_be_lost(kind):
    """In a direction in which the loss rises, and for a loss so small that it is linear or quadratic in the step."""
    model, objective = kind
    mapping = tiny.mixed_map(model)
    score = LanguageModelingScore(TEXTS[:2], objective, in_blocks=True)
    rows = ClassProbabilities(ROWS, {"a": ["he"], "b": ["they"]}, objective, batch_size=8)
    measurement = TextMeasurement(WordScorer(model, objective), rows, score)
    base = measurement.base([])
    direction = torch.randn(mapping.size, generator=torch.Generator().manual_seed(0))
    words = [word for _, word in score.blocks[0]]
    slopes, _ = GradientEngine(model, mapping, objective).token_derivatives(words, direction)
    direction = -direction * float(slopes.mean().sign())
    step = measurement.first_step(mapping, direction, 0.9999)
    with temporarily_updated(model, mapping, step * direction):
        after = measurement.lms()
    assert 1 - after["lms"]["likelihood_ratio"]["value"] == pytest.approx(1e-4, rel=0.1)
    assert after["lms"]["base_lms"] == pytest.approx(base["lms"]["lms"])


def test_token_derivatives_are_those_of_finite_differences(kind):
    model, objective = kind
    model = model.double()
    mapping = tiny.mixed_map(model)
    direction = torch.randn(mapping.size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    words = objective.tokenize(["the lamp and [MASK] were old .", "then [MASK] saw it ."], ["he", "they"])
    slopes, curvatures = GradientEngine(model, mapping, objective).token_derivatives(words, direction)

    def predictions(step):
        found = []
        with temporarily_updated(model, mapping, step * direction), torch.no_grad():
            for word in words:
                logits = WordScorer(model, objective).site_logits(collate([word], objective.pad_token_id))
                found.append(logits.log_softmax(-1))
        return found

    eps = 1e-5
    middle, above, below = predictions(0.0), predictions(eps), predictions(-eps)
    order = sorted(range(len(words)), key=lambda i: -len(words[i].input_ids))
    for row, number in enumerate(order):
        token = words[number].tokens[0]
        slope = (above[number] - below[number])[0] / (2 * eps)
        assert float(slopes[row]) == pytest.approx(float(slope[token]), rel=1e-3)
        p = middle[number][0].exp()
        variance = float((p * slope**2).sum() - (p * slope).sum() ** 2)
        assert float(curvatures[row]) == pytest.approx(variance, rel=1e-3)


def candidate(step, value, ratio, error=0.0005):
    scores = {"lms": 0.4, "likelihood_ratio": {"value": ratio, "standard_error": error}}
    return Candidate({"feature_factor": 1.0, "learning_rate": step}, 0.4, {"m": value}, scores)


def test_the_likelihood_policy_holds_ratio_and_lower_bound():
    policy = LikelihoodPolicy()
    rows = [candidate(0.1, 0.3, 0.995), candidate(0.2, 0.4, 0.9905), candidate(0.3, 0.5, 0.9895)]
    assert policy.select("m", rows, BaseContext(0.4)).id["learning_rate"] == 0.2
    # A ratio that is not known well enough is not held: 0.9905 − 1.645 · 0.002 < 0.988.
    unsure = [candidate(0.1, 0.3, 0.995), candidate(0.2, 0.4, 0.9905, error=0.002)]
    assert policy.select("m", unsure, BaseContext(0.4)).id["learning_rate"] == 0.1
    assert LikelihoodPolicy(ratio=0.98).select("m", rows, BaseContext(0.4)).id["learning_rate"] == 0.3
    assert policy.select("m", rows[2:], BaseContext(0.4)) is None


def test_without_ratios_the_likelihood_policy_compares_the_scores():
    plain = Candidate({"feature_factor": 1.0, "learning_rate": 0.1}, 0.396, {"m": 0.5})
    assert LikelihoodPolicy().select("m", [plain], BaseContext(0.4)) is plain
    assert LikelihoodPolicy().select("m", [plain], BaseContext(0.41)) is None


def test_tokens_are_scored_until_the_question_is_answered():
    policy = LikelihoodPolicy(resolution=0.003)
    assert policy.enough(Ratio(0.9905, 0.0012)) is None
    assert "0.00099" in policy.enough(Ratio(0.9905, 0.00099))
    assert "from the limit" in policy.enough(Ratio(0.97, 0.004))
    assert "from the limit" in policy.enough(Ratio(0.999, 0.002))
    assert LikelihoodPolicy(resolution=0.0005).enough(Ratio(0.9905, 0.00099)) is None


@pytest.mark.parametrize(
    "wrong", [{"ratio": 0.0}, {"ratio": 1.1}, {"resolution": 0.0}, {"ratio": 0.5, "resolution": 0.6}]
)
def test_a_policy_that_could_hold_nothing_is_refused(wrong):
    with pytest.raises(ValueError, match="ratio"):
        LikelihoodPolicy(**wrong)


def test_a_lower_bound_is_a_normal_quantile_away():
    assert Ratio(1.0, 0.1).lower_bound() == pytest.approx(1 - 0.1 * 1.6449, abs=1e-4)
    assert math.isclose(Ratio(0.9, None).lower_bound(), 0.9)
