"""Products by oneDNN are those of PyTorch, in passes and in both kinds of derivatives."""

import pytest
import tiny
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import BertConfig, BertForMaskedLM

from gradiend.gradients import GradientEngine, measurement_mode
from gradiend.gradients._model_modes import OneDnnProducts, onednn_is_faster
from gradiend.model._context import Side
from gradiend.model.core.backbone import select_parameters
from gradiend.objectives import Masked

ONEDNN = "mkldnn::_linear_pointwise"
TOKENIZER = tiny.bert_tokenizer()
WORDS = Masked(TOKENIZER, max_length=64)
TEXTS = ["the baker saw the old river and then [MASK] sold the bread .", "[MASK] was tired"]


def onednn_calls(work):
    """How often oneDNN was used, and the result."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        result = work()
    return sum(event.count for event in profiler.key_averages() if event.key == ONEDNN), result


def wide_bert(dtype=torch.float32):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(TOKENIZER), hidden_size=128, num_hidden_layers=1, num_attention_heads=2, intermediate_size=160
    )
    return BertForMaskedLM(config).to(dtype)


def random(*shape, **options):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), **options)


PRODUCTS = {
    "forward": lambda x, w, g: x @ w.T,
    "with a bias": lambda x, w, g: torch.nn.functional.linear(x, w, w[:, 0].contiguous()),
    "for the input": lambda x, w, g: g @ w,
    "for the weight": lambda x, w, g: g.T @ x,
    "of every second row": lambda x, w, g: x[::2] @ w.T,
    "of one row": lambda x, w, g: x[:1] @ w.repeat(4, 1).T,
}


SLOW_PRODUCTS = {
    "of an expanded gradient": lambda x, w, g: torch.ones(1, 1).to(g).expand_as(g) @ w,
    "of an expanded weight": lambda x, w, g: x @ torch.ones(1, 1).to(w).expand_as(w).T,
    "of every second column": lambda x, w, g: x[:, ::2] @ w[:, 1::2].T,
}


@pytest.mark.parametrize("product", SLOW_PRODUCTS.values(), ids=SLOW_PRODUCTS)
def test_strides_for_which_onednn_is_slow_are_left_to_pytorch(product):
    operands = random(33, 150), random(170, 150), random(33, 170)
    with OneDnnProducts():
        calls, found = onednn_calls(lambda: product(*operands))
    assert calls == 0
    torch.testing.assert_close(found, product(*operands))


@pytest.mark.parametrize("product", PRODUCTS.values(), ids=PRODUCTS)
def test_a_product_is_onednns_and_equal(product):
    operands = random(33, 150), random(170, 150), random(33, 170)
    with OneDnnProducts():
        calls, found = onednn_calls(lambda: product(*operands))
    exact = product(*(operand.double() for operand in operands))
    assert calls == 1
    assert found.dtype == torch.float32
    assert tiny.distance(found.double(), exact) <= 1e-6


OTHERS = {
    "float64": lambda: random(64, 64, dtype=torch.float64) @ random(64, 64, dtype=torch.float64),
    "bfloat16": lambda: random(64, 64).bfloat16() @ random(64, 64).bfloat16(),
    "integers": lambda: torch.arange(10000).view(100, 100) @ torch.arange(10000).view(100, 100),
    "small": lambda: random(4, 4) @ random(4, 4),
    "empty": lambda: random(0, 64) @ random(64, 64),
    "a matrix added": lambda: torch.addmm(random(64, 64), random(64, 64), random(64, 64)),
    "a bias with gaps": lambda: torch.addmm(random(64, 2)[:, 0], random(64, 64), random(64, 64)),
    "a scaled bias": lambda: torch.addmm(random(64), random(64, 64), random(64, 64), beta=0.5),
}


@pytest.mark.parametrize("product", OTHERS.values(), ids=OTHERS)
def test_every_other_product_is_left_as_it_is(product):
    with OneDnnProducts():
        calls, found = onednn_calls(product)
    assert calls == 0
    assert torch.equal(found, product())


def test_derivatives_of_a_model_are_those_of_float64():
    words, others = WORDS.tokenize(TEXTS, ["he", "she"]), WORDS.tokenize(TEXTS, ["it", "they"])

    def derivatives(model):
        engine = GradientEngine(model, select_parameters(model), WORDS)
        gradient = engine.gradients(words, others, [Side.DIFF])[0]
        direction = random(1, engine.mapping.size).to(engine.dtype)
        return gradient, engine.directional_derivatives(words, direction)

    with OneDnnProducts():
        calls, found = onednn_calls(lambda: derivatives(wide_bert()))
    assert calls > 12
    for ours, exact in zip(found, derivatives(wide_bert(torch.float64)), strict=True):
        assert tiny.distance(ours.double(), exact) <= 1e-5


@pytest.mark.skipif(not onednn_is_faster(), reason="on this processor PyTorch's own products are as fast")
def test_models_of_some_width_use_it_while_they_are_measured():
    for model, used in ((wide_bert(), True), (tiny.bert(), False), (wide_bert(torch.float64), False)):
        ids = torch.ones(2, 8, dtype=torch.long)
        with measurement_mode(model):
            calls, _ = onednn_calls(lambda model=model, ids=ids: model(ids))
        assert (calls > 0) == used
        assert onednn_calls(lambda model=model, ids=ids: model(ids))[0] == 0
