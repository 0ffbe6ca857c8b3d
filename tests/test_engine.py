"""The engine gives the numbers of plain per-example autograd."""

import itertools
import random

import pytest
import tiny
import torch

from gradiend.gradients import GradientEngine, WordScorer, batches_by_length, collate
from gradiend.gradients._tokens import even_batches
from gradiend.model._context import Side
from gradiend.model.core.backbone import select_parameters
from gradiend.objectives import Masked

TEXTS = [
    "the baker saw the old river and then [MASK] sold the bread .",
    "[MASK] was tired",
    "the lamp near the door was old , and [MASK] was in the house on the river of the sailor .",
    "when the dog saw it , [MASK] sold a very very old house !",
]
FACTUAL = ["he", "she", "it", "gardener"]
SAME_LENGTH = ["they", "they", "they", "gardener"]
MIXED_LENGTH = ["they", "walking", "garden", "it"]
TOKENIZER = tiny.bert_tokenizer()
WORDS = Masked(TOKENIZER, max_length=64)
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def engine_for(model, mapping=None):
    return GradientEngine(model, mapping or select_parameters(model), WORDS)


def references(model, mapping, factual, alternative):
    def mean(words):
        return sum(tiny.naive_loss(model, word) for word in words) / len(words)

    return {
        Side.FACTUAL: tiny.naive_gradient(model, mapping, lambda: mean(factual)),
        Side.ALTERNATIVE: tiny.naive_gradient(model, mapping, lambda: mean(alternative)),
        Side.DIFF: tiny.naive_gradient(model, mapping, lambda: mean(factual) - mean(alternative)),
    }


@pytest.mark.parametrize("alternative", [SAME_LENGTH, MIXED_LENGTH], ids=["same length", "mixed length"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("partial", [False, True], ids=["whole parameters", "masks and indices"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_gradients_equal_autograd(tied, partial, dtype, alternative):
    model = tiny.bert(tied=tied, dtype=dtype)
    mapping = tiny.mixed_map(model) if partial else select_parameters(model)
    words = WORDS.tokenize(TEXTS, FACTUAL), WORDS.tokenize(TEXTS, alternative)
    expected = references(model, mapping, *words)
    engine = engine_for(model, mapping)
    for sides in (
        [Side.ALTERNATIVE, Side.DIFF],
        [Side.DIFF, Side.DIFF],
        [Side.FACTUAL, Side.ALTERNATIVE],
        [Side.FACTUAL],
    ):
        out = [torch.full((mapping.size,), torch.nan, dtype=dtype) for _ in sides]
        for side, gradient in zip(sides, engine.gradients(*words, sides, out=out), strict=True):
            assert tiny.distance(gradient, expected[side]) <= TOLERANCE[dtype]


class WithoutForwardRule(torch.nn.Module):
    """The same numbers as `inner`, through a function that has a backward rule only."""

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(context, hidden):
            return hidden.clone()

        @staticmethod
        def backward(context, gradient):
            return gradient

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, hidden):
        return self.Function.apply(self.inner(hidden))


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("batch_size", [1, 3, 32])
@pytest.mark.parametrize("forward_mode", [True, False], ids=["forward mode", "per-word backward"])
def test_directional_derivatives_equal_autograd(tied, batch_size, forward_mode, caplog):
    model = tiny.bert(tied=tied, dtype=torch.float64)
    if not forward_mode:
        model.cls.predictions.transform = WithoutForwardRule(model.cls.predictions.transform)
    mapping = tiny.mixed_map(model)
    words = [*WORDS.tokenize(TEXTS, FACTUAL), *WORDS.tokenize(TEXTS, MIXED_LENGTH)]
    directions = torch.randn(3, mapping.size, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    gradients = [tiny.naive_gradient(model, mapping, lambda w=word: -tiny.naive_loss(model, w)) for word in words]
    expected = directions @ torch.stack(gradients).T
    with caplog.at_level("INFO", logger="gradiend"):
        found = engine_for(model, mapping).directional_derivatives(words, directions, batch_size)
    assert ("No forward-mode rule" in caplog.text) != forward_mode
    assert tiny.distance(found, expected) <= 1e-10


def test_the_model_is_left_as_it_was_found():
    model = tiny.bert()
    model.bert.embeddings.requires_grad_(False)
    model.bert.encoder.layer[0].eval()
    model.cls.predictions.bias.grad = torch.ones_like(model.cls.predictions.bias)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    flags = [parameter.requires_grad for parameter in model.parameters()]
    modes = [module.training for module in model.modules()]
    engine = engine_for(model)
    words = WORDS.tokenize(TEXTS, FACTUAL), WORDS.tokenize(TEXTS, MIXED_LENGTH)
    first = engine.gradients(*words, [Side.DIFF])[0]
    engine.directional_derivatives(words[0], first[None])
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(model.cls.predictions.bias.grad, torch.ones_like(model.cls.predictions.bias))
    assert all(p.grad is None for name, p in model.named_parameters() if name != "cls.predictions.bias")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    # Dropout is on in the model: two passes agree only because the engine switches it off.
    assert torch.equal(engine.gradients(*words, [Side.DIFF])[0], first)


def test_frozen_mapped_parameters_still_get_their_gradient():
    model = tiny.bert()
    words = WORDS.tokenize(TEXTS, FACTUAL), WORDS.tokenize(TEXTS, SAME_LENGTH)
    free = engine_for(model).gradients(*words, [Side.DIFF])[0].clone()
    model.requires_grad_(False)
    assert torch.equal(engine_for(model).gradients(*words, [Side.DIFF])[0], free)


def test_a_caller_without_gradients_still_gets_them():
    engine, words = engine_for(tiny.bert()), WORDS.tokenize(TEXTS, FACTUAL)
    expected = engine.gradients(words, words, [Side.FACTUAL])[0]
    with torch.no_grad():
        assert torch.equal(engine.gradients(words, words, [Side.FACTUAL])[0], expected)
        assert not torch.is_grad_enabled()


def test_parameters_that_a_batch_does_not_reach_count_as_zero():
    model = tiny.bert(tied=False)
    unused = torch.nn.Parameter(torch.ones(5))
    model.bert.register_parameter("unused", unused)
    mapping = select_parameters(model, param_map=["bert.unused", "*word_embeddings*"])
    assert mapping[0].name == "bert.unused"
    words = WORDS.tokenize(TEXTS, FACTUAL), WORDS.tokenize(TEXTS, SAME_LENGTH)
    gradient = engine_for(model, mapping).gradients(*words, [Side.FACTUAL], out=[torch.full((mapping.size,), 7.0)])[0]
    assert torch.equal(gradient[:5], torch.zeros(5))
    assert gradient[5:].abs().sum() > 0


class MixesPositions(torch.nn.Module):
    """The transform of a head, of hidden states that depend on all positions."""

    def __init__(self, transform):
        super().__init__()
        self.transform = transform

    def forward(self, hidden):
        return self.transform(hidden + hidden.mean(1, keepdim=True))


def test_a_head_that_mixes_positions_is_given_full_logits(caplog):
    model = tiny.bert().eval()
    model.cls.predictions.transform = MixesPositions(model.cls.predictions.transform)
    words = WORDS.tokenize(TEXTS, FACTUAL)
    scorer = WordScorer(model, WORDS)
    with caplog.at_level("INFO", logger="gradiend"), torch.no_grad():
        # One at a time: with such a head, padding itself changes the numbers.
        found = torch.cat([scorer.log_probs(collate([word], 0)) for word in words])
        expected = torch.stack([-tiny.naive_loss(model, word) for word in words])
    assert torch.allclose(found, expected, atol=1e-5)
    assert caplog.text.count("full logits are computed") == 1


def test_a_model_is_checked_once_and_again_with_other_modules(caplog):
    model, passes = tiny.bert().eval(), []
    model.register_forward_pre_hook(lambda *_: passes.append(1))
    batch = collate(WORDS.tokenize(TEXTS, FACTUAL), 0)
    with torch.no_grad():
        first = WordScorer(model, WORDS).log_probs(batch)
        assert len(passes) > 1
        passes.clear()
        assert torch.equal(WordScorer(model, WORDS).log_probs(batch), first)
        assert len(passes) == 1
        model.cls.predictions.transform = MixesPositions(model.cls.predictions.transform)
        caplog.set_level("INFO", logger="gradiend")
        assert not torch.equal(WordScorer(model, WORDS).log_probs(batch), first)
    assert "full logits are computed" in caplog.text


def test_log_probs_do_not_depend_on_the_batch():
    model = tiny.bert().eval()
    words = [*WORDS.tokenize(TEXTS, FACTUAL), *WORDS.tokenize(TEXTS, MIXED_LENGTH), *WORDS.tokenize(TEXTS, SAME_LENGTH)]
    scorer = WordScorer(model, WORDS)
    with torch.no_grad():
        expected = torch.stack([-tiny.naive_loss(model, word) for word in words])
        for batch_size in (1, 2, 7, 32):
            found = torch.full((len(words),), torch.nan)
            for indices, batch in batches_by_length(words, batch_size, 0):
                found[indices] = scorer.log_probs(batch)
            assert torch.allclose(found, expected, atol=1e-5)


def test_words_with_the_same_input_are_one_row_and_one_site():
    words = [*WORDS.tokenize(TEXTS, FACTUAL), *WORDS.tokenize(TEXTS, SAME_LENGTH)]
    batch = collate(words, 0)
    assert len(batch.input_ids) == len(TEXTS)
    assert len(batch.site_rows) == sum(len(word.positions) for word in words[: len(TEXTS)])
    assert batch.input_ids.shape[1] == max(len(word.input_ids) for word in words)
    rows_at_a_time = [len(part.input_ids) for _, part in batches_by_length(words, 3, 0)]
    assert rows_at_a_time == [3, 1]


def greatest_cost(lengths, ends):
    return max((end - start) * lengths[start] for start, end in itertools.pairwise([0, *ends]))


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_batches_of_several_processes_cost_about_the_same(n, count):
    """No other division into as many batches of at most four items has a smaller greatest cost."""
    lengths = sorted(random.Random(n).choices(range(3, 40), k=n), reverse=True)
    found = even_batches(lengths, 4, count)
    assert [place for batch in found for place in range(n)[batch]] == list(range(n))
    ends = [batch.stop for batch in found]
    others = [[*cuts, n] for cuts in itertools.combinations(range(1, n), len(found) - 1)]
    possible = [one for one in others if all(b - a <= 4 for a, b in itertools.pairwise([0, *one]))]
    assert greatest_cost(lengths, ends) == min(greatest_cost(lengths, one) for one in possible)


@pytest.mark.parametrize("n", [60, 128, 512])
def test_two_processes_wait_little_for_each_other_and_pad_no_more_than_one(n):
    lengths = sorted((max(5, int(random.Random(seed).gauss(28, 9))) for seed in range(n)), reverse=True)

    def costs(count):
        return [len(range(n)[batch]) * lengths[batch.start] for batch in even_batches(lengths, 32, count)]

    # `Processes.compute` gives each round of batches out in the other direction.
    first = sum(cost for place, cost in enumerate(costs(2)) if place % 4 in (0, 3))
    assert max(first, sum(costs(2)) - first) <= 1.05 * sum(costs(1)) / 2


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_bfloat16_autocast_stays_near(tied):
    """Matrix products with 8 bits of mantissa: within 3 % of float32, and not equal, so that it is in force."""
    engine = engine_for(tiny.bert(tied=tied))
    words = WORDS.tokenize(TEXTS, FACTUAL), WORDS.tokenize(TEXTS, SAME_LENGTH)
    sides = [Side.ALTERNATIVE, Side.DIFF]
    for precise, rounded in zip(
        engine.gradients(*words, sides), engine.gradients(*words, sides, bf16=True), strict=True
    ):
        assert rounded.dtype == torch.float32
        assert 0 < tiny.distance(rounded, precise) < 0.03
