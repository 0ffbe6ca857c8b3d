"""For every family of masked and causal models, the engine gives the numbers of plain per-example autograd."""

import contextlib

import pytest
import tiny
import torch
from transformers import (
    BartConfig,
    BertConfig,
    BertForTokenClassification,
    BertModel,
    CLIPConfig,
    LlavaConfig,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTMAEConfig,
    WhisperConfig,
)
from transformers.models.bert.modeling_bert import BertPooler

from gradiend.gradients import GradientEngine, encode_words
from gradiend.model._context import Side
from gradiend.model._parameter_map import ParameterMap
from gradiend.model.core.backbone import select_parameters
from gradiend.model.param_mapped import ParamMappedGradiendModel
from gradiend.objectives import Causal, Masked, objective_of
from gradiend.trainer.text import AutoModelForLM, TextPredictionModelWithGradiend
from gradiend.trainer.text.common.model_base import reachable_map

TEXTS = [
    "the baker saw the old river and then [MASK] sold the lamp.",
    "when the dog saw it, [MASK] sold a very very old house!",
    "the lamp was old, and [MASK] was in the house on the river and the sailor was old.",
    "the cat and [MASK]",
]
FACTUAL = ["he", "she", "gardener", "it"]
ALTERNATIVE = ["they", "walking", "it", "they"]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}

every_family = pytest.mark.parametrize("family", list(tiny.FAMILIES.values()), ids=list(tiny.FAMILIES))
either_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str, indirect=True)
KINDS = {
    (tied, dtype): f"{'tied' if tied else 'untied'}-{dtype}"
    for tied in (True, False)
    for dtype in (torch.float32, torch.float64)
}
EVERYDAY = {(True, torch.float32), (False, torch.float64)}


@pytest.fixture
def dtype(request):
    """A dtype; float64 all through the model's code."""
    with tiny.TrueDouble() if request.param == torch.float64 else contextlib.nullcontext():
        yield request.param


def tokenized(family):
    """(factual, alternative); one text has a word of three tokens."""
    words = objective_of(family.build(), family.tokenizer())
    factual = [{"gardener": family.long_word}.get(word, word) for word in FACTUAL]
    return words.tokenize(TEXTS, factual), words.tokenize(TEXTS, ALTERNATIVE)


def engine_for(model, mapping, family):
    return GradientEngine(model, mapping, objective_of(model, family.tokenizer()))


def naive(model, mapping, words):
    """(N, n) gradient of each word's own loss."""
    return torch.stack(
        [tiny.naive_gradient(model, mapping, lambda w=word: tiny.naive_loss(model, w)) for word in words]
    )


def by_side(model, mapping, factual, alternative):
    """(N, n) gradients of every example, by side."""
    f, a = naive(model, mapping, factual), naive(model, mapping, alternative)
    return {Side.FACTUAL: f, Side.ALTERNATIVE: a, Side.DIFF: f - a}


@every_family
@pytest.mark.parametrize(
    ("tied", "dtype"),
    [pytest.param(*kind, marks=[] if kind in EVERYDAY else pytest.mark.slow, id=KINDS[kind]) for kind in KINDS],
    indirect=["dtype"],
)
def test_gradients_and_derivatives_equal_autograd(family, tied, dtype, caplog):
    caplog.set_level("INFO", logger="gradiend")
    model = family.build(tied=tied, dtype=dtype)
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tied
    factual, alternative = tokenized(family)
    assert {len(word.tokens) for word in (*factual, *alternative)} == {1, 2, 3}
    whole, mixed = select_parameters(model), tiny.mixed_map(model)
    on_whole = by_side(model, whole, factual, alternative)
    on_mixed = {
        side: torch.stack([mixed.flatten(whole.unflatten(row)) for row in rows]) for side, rows in on_whole.items()
    }
    for mapping, expected in ((whole, on_whole), (mixed, on_mixed)):
        engine = engine_for(model, mapping, family)
        for sides in ([Side.ALTERNATIVE, Side.DIFF], [Side.FACTUAL]):
            for side, gradient in zip(sides, engine.gradients(factual, alternative, sides), strict=True):
                assert gradient.dtype == dtype
                assert tiny.distance(gradient, expected[side].mean(0)) <= TOLERANCE[dtype]
        directions = torch.randn(3, mapping.size, dtype=dtype, generator=torch.Generator().manual_seed(2))
        slopes = -directions @ torch.cat([expected[Side.FACTUAL], expected[Side.ALTERNATIVE]]).T
        for batch_size in (1, 7) if mapping is mixed else (32,):
            found = engine.directional_derivatives([*factual, *alternative], directions, batch_size)
            assert tiny.distance(found, slopes) <= TOLERANCE[dtype]
        assert engine.scorer.narrows
    assert "No forward-mode rule" not in caplog.text


@pytest.mark.parametrize("name", ["roberta", "gpt2"])
@either_dtype
@pytest.mark.parametrize("latent_dim", [1, 3])
def test_encodings_are_those_of_each_gradient_alone(name, latent_dim, dtype):
    family = tiny.FAMILIES[name]
    model = family.build(dtype=dtype)
    mapping = tiny.mixed_map(model)
    torch.manual_seed(0)
    gradiend = ParamMappedGradiendModel(mapping.size, latent_dim, mapping, torch_dtype=dtype)
    factual, alternative = tokenized(family)
    expected = by_side(model, mapping, factual, alternative)
    engine = engine_for(model, mapping, family)
    for side in Side:
        with torch.no_grad():
            alone = torch.stack([gradiend.encoder(gradient) for gradient in expected[side]])
        for batch_size in (1, 7, 32):
            found = encode_words(engine, gradiend, factual, alternative, side, batch_size=batch_size)
            assert found.shape == (len(TEXTS), latent_dim)
            assert tiny.distance(found, alone) <= TOLERANCE[dtype]


def padded(inputs, side, pad_token_id):
    """A batch of 1-D inputs padded on one side."""
    length = max(len(item["input_ids"]) for item in inputs)
    fill = {"input_ids": pad_token_id, "attention_mask": 0, "labels": -100}
    rows = {}
    for name, value in fill.items():
        padding = [torch.full((length - len(item[name]),), value) for item in inputs]
        rows[name] = torch.stack(
            [
                torch.cat([pad, item[name]][:: 1 if side == "left" else -1])
                for pad, item in zip(padding, inputs, strict=True)
            ]
        )
    return rows


@every_family
def test_left_and_right_padding_give_the_gradient_of_the_mean(family):
    base = family.build()
    model = TextPredictionModelWithGradiend.from_pretrained(base, tokenizer=family.tokenizer())
    factual, _ = tokenized(family)
    expected = naive(base, model.gradiend.mapping, factual).mean(0)
    inputs = [model.objective.inputs_of(word) for word in factual]
    for side in ("left", "right"):
        assert tiny.distance(model(padded(inputs, side, 0)), expected) <= 1e-5
    single = torch.stack([model(item) for item in inputs])
    assert tiny.distance(single.mean(0), expected) <= 1e-5
    made = model.create_gradients(TEXTS[0], FACTUAL[0])
    assert tiny.distance(made, single[0]) <= 1e-6


@pytest.mark.parametrize("name", [name for name in tiny.FAMILIES if name != "mixtral"])
def test_bfloat16_models_give_float32_gradients_close_to_those_of_float32(name):
    """Without a mixture of experts: rounding sends tokens to other experts."""
    family = tiny.FAMILIES[name]
    model = family.build()
    factual, alternative = tokenized(family)
    mapping = select_parameters(model)
    directions = torch.randn(2, mapping.size, generator=torch.Generator().manual_seed(2))
    results = []
    # The same rounded weights in both: what is compared is the arithmetic.
    for dtype in (torch.bfloat16, torch.float32):
        engine = engine_for(model.to(torch.bfloat16).to(dtype), mapping, family)
        [gradient] = engine.gradients(factual, alternative, [Side.ALTERNATIVE])
        derivatives = engine.directional_derivatives(factual, directions)
        assert gradient.dtype == derivatives.dtype == torch.float32
        results.append((gradient, derivatives))
    for half, full in zip(*results, strict=True):
        assert half.isfinite().all()
        assert tiny.distance(half, full) <= 0.06


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_a_model_that_returns_tuples_gives_the_same(name):
    family = tiny.FAMILIES[name]
    factual, alternative = tokenized(family)
    gradients = []
    for return_dict in (True, False):
        model = family.build()
        model.config.return_dict = return_dict
        engine = engine_for(model, select_parameters(model), family)
        gradients.append(engine.gradients(factual, alternative, [Side.DIFF])[0])
        assert engine.scorer.narrows
    assert torch.equal(*gradients)


def test_experts_that_no_token_is_routed_to_count_as_zero():
    family = tiny.FAMILIES["mixtral"]
    model = family.build(seed=1)
    words, _ = tokenized(family)
    name = "model.layers.1.mlp.experts.down_proj"
    mapping = select_parameters(model, param_map=[name])
    gradient = mapping.unflatten(engine_for(model, mapping, family).gradients(words[:1], words[:1], [Side.FACTUAL])[0])
    silent = [not expert.any() for expert in gradient[name]]
    assert any(silent)
    assert not all(silent)
    assert name in [entry.name for entry in reachable_map(model, objective_of(model, family.tokenizer()))]


def test_without_a_forward_mode_rule_encodings_come_from_backward_passes(caplog):
    """The grouped matrix product of experts has none."""
    family = tiny.FAMILIES["mixtral"]
    model = family.build(experts_implementation="grouped_mm")
    mapping = tiny.mixed_map(model)
    words, _ = tokenized(family)
    directions = torch.randn(3, mapping.size, generator=torch.Generator().manual_seed(2))
    with caplog.at_level("INFO", logger="gradiend"):
        found = engine_for(model, mapping, family).directional_derivatives(words, directions)
    assert caplog.text.count("No forward-mode rule") == 1
    assert tiny.distance(found, directions @ -naive(model, mapping, words).T) <= 1e-5


def bert_with_pooler():
    model = tiny.bert()
    model.bert.pooler = BertPooler(model.config)
    return model


def test_parameters_that_no_gradient_reaches_are_left_out_of_the_default_map(caplog):
    with caplog.at_level("INFO", logger="gradiend"):
        model = bert_with_pooler()
        mapping = reachable_map(model, objective_of(model, tiny.bert_tokenizer()))
    assert not [entry.name for entry in mapping if "pooler" in entry.name]
    assert len(mapping) == len(select_parameters(tiny.bert()))
    assert caplog.text.count("Left out of the map") == 1


@pytest.mark.parametrize(
    "asked",
    [
        {"param_map": ["bert.pooler.dense.weight"]},
        {"params": "bert.pooler.dense.weight"},
        {"params": ["bert.pooler.dense.weight", "bert.encoder*"]},
        {"params": ["*pooler*"]},
    ],
)
def test_asking_for_a_parameter_that_no_gradient_reaches_is_an_error(asked):
    model = bert_with_pooler()
    with pytest.raises(ValueError, match=r"No gradient ever reaches bert\.pooler\.dense"):
        reachable_map(model, objective_of(model, tiny.bert_tokenizer()), **asked)


def test_a_map_of_which_a_batch_reaches_nothing_has_zero_gradient():
    model = bert_with_pooler()
    mapping = ParameterMap([entry for entry in select_parameters(model) if "pooler" in entry.name])
    words, _ = tokenized(tiny.FAMILIES["bert"])
    engine = engine_for(model, mapping, tiny.FAMILIES["bert"])
    assert not engine.gradients(words, words, [Side.FACTUAL])[0].any()
    assert not engine.directional_derivatives(words, torch.ones(1, mapping.size)).any()


def test_a_parameter_without_entries_in_the_map_changes_nothing():
    model = tiny.bert()
    whole = select_parameters(model)
    generator = torch.Generator().manual_seed(3)
    keep = torch.cat([torch.rand(e.numel, generator=generator) < 0.3 * (".0." not in e.name) for e in whole])
    assert 0 in [entry.num_selected for entry in whole.narrow(keep)]
    words, _ = tokenized(tiny.FAMILIES["bert"])
    everything, some = (
        engine_for(model, m, tiny.FAMILIES["bert"]).gradients(words, words, [Side.FACTUAL])[0]
        for m in (whole, whole.narrow(keep))
    )
    assert torch.equal(everything[keep], some)


UNSUPPORTED = {
    "an encoder–decoder model": [T5Config(), BartConfig(), WhisperConfig()],
    "a model that reads images": [
        CLIPConfig(),
        ViTConfig(),
        LlavaConfig(),
        ViTMAEConfig(architectures=["ViTMAEForPreTraining"]),
    ],
    "a classifier": [BertConfig(architectures=["BertForSequenceClassification"])],
}


@pytest.mark.parametrize(("kind", "config"), [(kind, c) for kind, configs in UNSUPPORTED.items() for c in configs])
def test_encoder_decoder_vision_models_and_classifiers_are_refused_by_their_config_alone(kind, config, tmp_path):
    config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=rf"{kind}; only masked and causal \(decoder-only\) language models"):
        AutoModelForLM.from_pretrained(str(tmp_path))


def test_a_loaded_encoder_decoder_model_is_refused():
    model = T5ForConditionalGeneration(
        T5Config(vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0)
    )
    with pytest.raises(ValueError, match=r"T5ForConditionalGeneration.* is an encoder–decoder model"):
        TextPredictionModelWithGradiend.from_pretrained(model, tokenizer=tiny.bert_tokenizer())


def test_a_loaded_classifier_is_refused():
    with pytest.raises(ValueError, match=r"BertForTokenClassification\) is a classifier; only .* a label of the text"):
        TextPredictionModelWithGradiend.from_pretrained(
            BertForTokenClassification(tiny.bert().config), tokenizer=tiny.bert_tokenizer()
        )


def test_a_checkpoint_without_language_modelling_head_is_refused(tmp_path):
    BertModel(tiny.bert().config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"has no weights for cls\.predictions.*would be random"):
        AutoModelForLM.from_pretrained(str(tmp_path))


@every_family
def test_every_family_loads_with_its_own_kind(family, tmp_path):
    family.build().save_pretrained(tmp_path)
    model = AutoModelForLM.from_pretrained(str(tmp_path))
    assert type(model).__name__ == family.model
    assert isinstance(objective_of(model, family.tokenizer()), Causal if family.causal else Masked)


@pytest.mark.parametrize(("name", "limit"), [("roberta", 20), ("gpt2", 22), ("bert", 22), ("llama", 22)])
def test_inputs_are_as_long_as_the_model_has_positions_for(name, limit):
    """RoBERTa's first two positions are never used."""
    family = tiny.FAMILIES[name]
    model = family.build(max_position_embeddings=22).eval()
    words = objective_of(model, family.tokenizer())
    [word] = words.tokenize(["the cat saw the dog and " * 10 + "[MASK]" + " was old" * 20], ["they"])
    assert len(word.input_ids) + family.causal == limit
    with torch.no_grad():
        assert tiny.naive_loss(model, word) > 0
