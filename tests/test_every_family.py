"""For every family of transformers that can be built here: a padded, mixed batch gives the numbers of single examples.

Families are built from their own default configs, with all sizes made small. One that cannot be is skipped with the
reason; `python -m pytest tests/test_every_family.py -rs -m ""` lists them.
"""

from __future__ import annotations

import contextlib
import logging

import pytest
import tiny
import torch
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

from gradiend.evaluator._language_score import LanguageModelingScore
from gradiend.gradients import GradientEngine, TokenizedWord, WordScorer, collate
from gradiend.model._context import Side
from gradiend.model._parameter_map import ParameterMap
from gradiend.objectives import Causal, Masked, objective_of
from gradiend.trainer.text.common.model_base import reachable_map

TEXTS = ["the baker saw the old river and then [MASK] sold the lamp .", "the dog and [MASK] then", "the [MASK] ."]
WORDS = (["he", "gardener", "cat"], ["walking", "she", "garden"])
NEUTRAL = [
    "the old nurse saw the river",
    "a cat was near the door of the house and then it was very tired",
    "the dog saw it",
]

SIZES = {
    1: "n_group topk_group num_groups n_groups mamba_n_groups n_shared_experts first_k_dense_replace num_hashes",
    2: "num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers num_attention_heads n_head n_heads "
    "num_heads encoder_attention_heads decoder_attention_heads num_key_value_heads num_kv_heads n_kv_heads "
    "num_experts_per_tok moe_topk moe_k top_k_experts linear_num_key_heads linear_num_value_heads",
    4: "num_experts num_local_experts n_routed_experts moe_num_experts n_experts",
    8: "head_dim d_head attention_head_size kv_channels d_kv q_lora_rank kv_lora_rank qk_rope_head_dim v_head_dim "
    "qk_nope_head_dim mamba_d_state state_size mamba_d_head mamba_head_dim ssm_state_size linear_key_head_dim "
    "linear_value_head_dim sliding_window local_attention attention_window_size hidden_size_per_layer_input "
    "global_head_dim swa_head_dim time_step_rank index_head_dim index_topk num_landmarks mamba_n_heads",
    16: "moe_intermediate_size shared_expert_intermediate_size embedding_size moe_ffn_hidden_size",
    32: "hidden_size d_model n_embd embed_dim dim emb_dim d_embed word_embed_proj_dim true_hidden_size ffn_dim d_ff "
    "intra_bottleneck_size lru_width hidden_dim intermediate_size n_inner d_inner encoder_ffn_dim decoder_ffn_dim "
    "ffn_hidden_size attention_hidden_size decoder_hidden_size",
    64: "max_position_embeddings n_positions n_ctx max_sequence_length entity_vocab_size vocab_size_per_layer_input "
    "num_buckets shape_vocab_size pronunciation_vocab_size shape_embed_dim pronunciation_embed_dim",
}
SMALL = {name: size for size, names in SIZES.items() for name in names.split()}
# Where sizes depend on each other.
DEPENDENT = {
    "CodeGen": {"n_head": 4, "rotary_dim": 8},
    "Flaubert": {"pad_index": 0},
    "GPTJ": {"rotary_dim": 8},
    "Helium": {"head_dim": 16},
    "HunYuan": {"head_dim": 16},
    "Mamba2": {"num_heads": 8},
    "Ministral": {"head_dim": 16},
    "Nemotron": {"num_key_value_heads": 2},
    "Nystromformer": {"segment_means_seq_len": 64},
    "Reformer": {"axial_pos_embds": False, "attn_layers": ["local", "lsh"], "hash_seed": 1},
    "SqueezeBert": {"embedding_size": 32},
    "XLM": {"pad_index": 0},
    "XLNet": {"d_head": 16},
    "Xmod": {"default_language": "en_XX"},
}
LARGEST = 3_000_000
"""Entries; a config that this leaves larger has sizes that no rule above knows."""

MAPPINGS = {False: MODEL_FOR_MASKED_LM_MAPPING, True: MODEL_FOR_CAUSAL_LM_MAPPING}


def families():
    """(causal, config class, model class) of each."""
    found = {}
    for causal, mapping in MAPPINGS.items():
        for config in mapping:
            for model in mapping[config] if isinstance(mapping[config], (list, tuple)) else [mapping[config]]:
                found[f"{model.__name__}-{config.__name__}-{'causal' if causal else 'masked'}"] = (
                    causal,
                    config,
                    model,
                )
    return found


FAMILIES = families()


def small_config(causal, config_class, model_class):
    """A config of the class with everything small."""
    defaults = config_class().to_dict()
    if "vocab_size" not in defaults:
        pytest.skip("its config is one of several models (text and images or sound)")
    layers = next(
        (defaults[key] for key in ("num_hidden_layers", "n_layer", "n_layers", "num_layers") if defaults.get(key)), None
    )
    settings = {"vocab_size": len(tiny.bert_tokenizer()), "pad_token_id": 0}
    for name, value in defaults.items():
        if name in SMALL and isinstance(value, int) and not isinstance(value, bool):
            settings[name] = min(value, SMALL[name])
        elif isinstance(value, list) and layers and len(value) == layers:
            settings[name] = [value[0], value[-1]]
        elif name in ("bos_token_id", "eos_token_id", "sep_token_id", "cls_token_id") and value is not None:
            settings[name] = 2
    if any("expert" in name for name in defaults):
        # Grouped matrix products have no double precision.
        settings["experts_implementation"] = "eager"
    if "initializer_range" in defaults:
        settings["initializer_range"] = 0.2
    if "is_decoder" in defaults:
        settings["is_decoder"] = causal
    if "causal" in defaults:
        settings["causal"] = causal
    for prefix, dependent in DEPENDENT.items():
        if config_class.__name__.startswith(prefix):
            settings |= {key: value for key, value in dependent.items() if key in defaults}
    config = config_class(**settings)
    with torch.device("meta"):
        size = sum(parameter.numel() for parameter in model_class(config).parameters())
    if size > LARGEST:
        pytest.skip(f"not made small: {size:,} entries")
    return config


def build(causal, config_class, model_class):
    """A tiny random model of the family; skips, with the reason, where there is none."""
    try:
        config = small_config(causal, config_class, model_class)
        torch.manual_seed(0)
        model = model_class(config).double()
        with tiny.TrueDouble(), torch.no_grad():
            ids = torch.tensor([[5, 6, 7, 8, 9, 10]])
            logits = [model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits for _ in range(2)]
            with torch.enable_grad():
                model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.sum().backward()
            model.zero_grad()
    except Exception as error:  # noqa: BLE001 - whatever a family's own code raises is a reason not to test it here
        pytest.skip(f"cannot be built from a small config: {type(error).__name__} {str(error)[:120]}")
    if model.get_output_embeddings() is None:
        pytest.skip("has no language-modelling head")
    if getattr(config, "is_encoder_decoder", False):
        pytest.skip("is an encoder–decoder model")
    if not torch.equal(*logits):
        pytest.skip("gives other numbers each time")
    if logits[0].shape[-1] < config.vocab_size or not logits[0].isfinite().all():
        pytest.skip("gives no logits of its vocabulary")
    return model.train()


def single(model, word):
    """−log p(word) by a pass of its own, as `tiny.naive_loss`, without a cache."""
    return tiny.naive_loss(model, word)


def check(name):
    """Everything about one family; whether its rows share passes."""
    causal, config_class, model_class = FAMILIES[name]
    model = build(causal, config_class, model_class)
    words = objective_of(model, tiny.bert_tokenizer())
    assert isinstance(words, Causal if causal else Masked)
    factual, alternative = (words.tokenize(TEXTS, side) for side in WORDS)
    with tiny.TrueDouble():
        mapping = reachable_map(model, objective_of(model, tiny.bert_tokenizer()))
        # A few parameters of every kind: the whole is no more of a proof.
        mapping = ParameterMap([entry for number, entry in enumerate(mapping) if number % 3 == 0 or number < 2])
        rows = [
            tiny.naive_gradient(model, mapping, lambda w=word: single(model, w)) for word in (*factual, *alternative)
        ]
        one_by_one = torch.stack(rows)
        differences = one_by_one[:3] - one_by_one[3:]
        engine = GradientEngine(model, mapping, words)
        found = engine.gradients(factual, alternative, [Side.ALTERNATIVE, Side.DIFF])
        for gradient, expected in zip(found, (one_by_one[3:].mean(0), differences.mean(0)), strict=True):
            assert tiny.distance(gradient, expected) <= 1e-5
        direction = torch.randn(1, mapping.size, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        slopes = engine.directional_derivatives([*factual, *alternative], direction)
        assert tiny.distance(slopes, -direction @ one_by_one.T) <= 1e-5
        model.eval()
        with torch.no_grad():
            everything: list[TokenizedWord] = [*factual, *alternative]
            alone = torch.stack([-single(model, word) for word in everything])
            together = engine.scorer.log_probs(collate(everything, 0))
            assert tiny.distance(together.exp(), alone.exp()) <= 1e-5
        score = {
            size: LanguageModelingScore(NEUTRAL, words, batch_size=size).measure(WordScorer(model, words)).lms
            for size in (1, 3)
        }
        assert score[3] == pytest.approx(score[1], rel=1e-5)
    return engine.scorer.pads


NAMED = ("FNet", "Funnel", "RoCBert", "HrmText", "XLNet")
"""Those that padding changes, that stop gradients inside, and that see what they are asked for."""
EVERYDAY = [name for number, name in enumerate(FAMILIES) if number % 8 == 0 or any(kind in name for kind in NAMED)]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in EVERYDAY else [pytest.mark.slow]) for name in FAMILIES]
)
@pytest.mark.filterwarnings("ignore")
def test_a_padded_batch_equals_single_examples(name, caplog):
    refused = contextlib.nullcontext()
    if any(kind in name for kind in ("XLNet", "CpmAnt", "ProphetNet")):
        refused = pytest.raises(ValueError, match="attends to both sides")
    with caplog.at_level(logging.INFO, logger="gradiend"), refused:
        pads = check(name)
        assert ("change with padding" in caplog.text) != pads


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_most_families_are_built():
    built = 0
    for causal, config_class, model_class in FAMILIES.values():
        with contextlib.suppress(pytest.skip.Exception):
            build(causal, config_class, model_class)
            built += 1
    assert built >= 170
