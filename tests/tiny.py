"""Tiny random language models with tokenizers of their own, and naive references."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch.overrides import TorchFunctionMode
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

from gradiend.model._parameter_map import MappedParameter, ParameterMap
from gradiend.model.core.backbone import select_parameters

WORDS = """
the a baker nurse sailor lamp river cat dog house saw sold was were and then when he she it they who old new bread door
near in on of to very tired , . ! ? ' gar ##den ##er wal ##king
""".split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def bert_tokenizer() -> PreTrainedTokenizerFast:
    """An uncased WordPiece tokenizer; "garden", "gardener" and "walking" have two and three tokens."""
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **names)


def bert(*, tied: bool = True, dtype: torch.dtype = torch.float32, seed: int = 0) -> BertForMaskedLM:
    """A random BERT with two layers of width 16, in training mode (with dropout), as a user may leave it."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(SPECIAL) + len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        tie_word_embeddings=tied,
        initializer_range=0.3,
    )
    return BertForMaskedLM(config).to(dtype).train()


# Families: one tiny model and fitting tokenizer each.

PIECES = """
the baker nurse sailor lamp river cat dog house saw sold was and then when he she it they old garden wal very
""".split()
LETTERS = [*"abcdefghijklmnopqrstuvwxyz.,!"]
SUFFIXES = [("e", "r"), ("i", "n"), ("in", "g"), ("k", "ing")]


def bpe(space: str, special: Sequence[str], pre_tokenizer: Any, **names: Any) -> tuple[Tokenizer, Callable[[str], int]]:
    """A BPE whose words are one token each after a space; "gardener" has two and "walked" many tokens."""
    merges = []
    for word in PIECES:
        prefix = space
        for letter in word:
            if (prefix, letter) not in merges:
                merges.append((prefix, letter))
            prefix += letter
    merges += SUFFIXES
    tokens = [*special, space, *LETTERS, *("".join(pair) for pair in merges)]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, **names))
    tokenizer.pre_tokenizer = pre_tokenizer
    return tokenizer, vocabulary.__getitem__


def roberta_tokenizer(**names: Any) -> PreTrainedTokenizerFast:
    """Byte-level BPE with <mask>, which takes the space before it along."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer, number = bpe("Ġ", special, pre_tokenizers.ByteLevel(add_prefix_space=False), unk_token="<unk>")
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", number("</s>")), ("<s>", number("<s>")), add_prefix_space=False
    )
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        cls_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        sep_token="</s>",
        unk_token="<unk>",
        mask_token=AddedToken("<mask>", lstrip=True, special=True, normalized=False),
        model_max_length=64,
    )


def gpt2_tokenizer(*, bos: bool = True) -> PreTrainedTokenizerFast:
    """Byte-level BPE without mask or padding token, and without BOS where asked (Qwen)."""
    tokenizer, _ = bpe("Ġ", ["<|endoftext|>"], pre_tokenizers.ByteLevel(add_prefix_space=False))
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=end if bos else None, eos_token=end, model_max_length=64
    )


def llama_tokenizer() -> PreTrainedTokenizerFast:
    """BPE on "▁" for spaces, also before the first word, with a BOS token in front."""
    pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer, number = bpe("▁", ["<unk>", "<s>", "</s>"], pre_tokenizer, unk_token="<unk>", fuse_unk=True)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", number("<s>"))])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", model_max_length=64
    )


@dataclass(frozen=True)
class Family:
    """How to make one: the model class, its config with other than the common settings, and its tokenizer."""

    model: str
    config: str
    tokenizer: Callable[[], PreTrainedTokenizerFast]
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def causal(self) -> bool:
        return not self.model.endswith("MaskedLM")

    @property
    def long_word(self) -> str:
        """A word of three tokens."""
        return "gardener" if self.tokenizer is bert_tokenizer else "walker"

    def build(self, *, tied: bool = True, dtype: torch.dtype = torch.float32, seed: int = 0, **settings: Any) -> Any:
        """A random model in training mode, with dropout where the family has any."""
        torch.manual_seed(seed)
        common = {
            "vocab_size": len(self.tokenizer()),
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "max_position_embeddings": 64,
            "initializer_range": 0.3,
            "tie_word_embeddings": tied,
            "bos_token_id": None,
            "eos_token_id": None,
            "pad_token_id": None,
        }
        config = getattr(transformers, self.config)(**{**common, **self.settings, **settings})
        return getattr(transformers, self.model)(config).to(dtype).train()


GROUPED = {"num_key_value_heads": 1, "head_dim": 8}
FAMILIES = {
    "bert": Family("BertForMaskedLM", "BertConfig", bert_tokenizer, {"pad_token_id": 0}),
    "roberta": Family(
        "RobertaForMaskedLM", "RobertaConfig", roberta_tokenizer, {"max_position_embeddings": 66, "pad_token_id": 1}
    ),
    "distilbert": Family(
        "DistilBertForMaskedLM",
        "DistilBertConfig",
        bert_tokenizer,
        {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "pad_token_id": 0},
    ),
    "modernbert": Family(
        "ModernBertForMaskedLM",
        "ModernBertConfig",
        roberta_tokenizer,
        {
            "local_attention": 6,
            "global_attn_every_n_layers": 2,
            "pad_token_id": 1,
            "cls_token_id": 0,
            "sep_token_id": 2,
        },
    ),
    "electra": Family("ElectraForMaskedLM", "ElectraConfig", bert_tokenizer, {"embedding_size": 8, "pad_token_id": 0}),
    "gpt2": Family("GPT2LMHeadModel", "GPT2Config", gpt2_tokenizer, {"n_inner": 32}),
    "opt": Family("OPTForCausalLM", "OPTConfig", gpt2_tokenizer, {"ffn_dim": 32, "word_embed_proj_dim": 16}),
    "gpt-neox": Family("GPTNeoXForCausalLM", "GPTNeoXConfig", gpt2_tokenizer),
    "llama": Family("LlamaForCausalLM", "LlamaConfig", llama_tokenizer, GROUPED),
    "qwen2": Family("Qwen2ForCausalLM", "Qwen2Config", lambda: gpt2_tokenizer(bos=False), GROUPED),
    "qwen3": Family("Qwen3ForCausalLM", "Qwen3Config", lambda: gpt2_tokenizer(bos=False), GROUPED),
    "gemma2": Family(
        "Gemma2ForCausalLM",
        "Gemma2Config",
        llama_tokenizer,
        {**GROUPED, "query_pre_attn_scalar": 8, "sliding_window": 4, "final_logit_softcapping": 3.0},
    ),
    "mixtral": Family(
        "MixtralForCausalLM",
        "MixtralConfig",
        llama_tokenizer,
        {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 1, "experts_implementation": "eager"},
    ),
}


class TrueDouble(TorchFunctionMode):
    """float64 stays float64 where the code of a model casts to float32 inside (norms, softmax, rotations)."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        is_double = bool(args) and isinstance(args[0], torch.Tensor) and args[0].dtype == torch.float64
        if is_double and function is torch.Tensor.float:
            return args[0]
        if is_double and function is torch.Tensor.to and torch.float32 in args[1:]:
            args = tuple(torch.float64 if value is torch.float32 else value for value in args)
        if is_double and kwargs.get("dtype") is torch.float32:
            kwargs["dtype"] = torch.float64
        return function(*args, **kwargs)


def naive_loss(model, word) -> torch.Tensor:
    """−log p(word) of one tokenized word, from a forward pass of its own, without padding."""
    log_probs = model(input_ids=torch.tensor([word.input_ids])).logits[0].log_softmax(-1)
    return -sum(log_probs[position, token] for position, token in zip(word.positions, word.tokens, strict=True))


def naive_gradient(model, mapping, loss_of) -> torch.Tensor:
    """The gradient of loss_of() by plain autograd, flat in map order; unreached parameters count as zero."""
    model.eval()
    parameters = dict(model.named_parameters())
    tensors = [parameters[entry.name] for entry in mapping]
    gradients = torch.autograd.grad(loss_of(), tensors, allow_unused=True)
    full = {
        entry.name: torch.zeros_like(tensor) if gradient is None else gradient
        for entry, tensor, gradient in zip(mapping, tensors, gradients, strict=True)
    }
    return mapping.flatten(full).detach()


def mixed_map(model) -> ParameterMap:
    """all, indices and mask side by side, in another order than the model's."""
    generator = torch.Generator().manual_seed(1)
    entries = []
    for number, entry in enumerate(reversed(select_parameters(model))):
        if number % 3 == 1:
            indices = torch.randperm(entry.numel, generator=generator)[: max(1, entry.numel // 5)].sort().values
            entry = MappedParameter(entry.name, entry.shape, indices)
        elif number % 3 == 2:
            entry = MappedParameter(entry.name, entry.shape, torch.rand(entry.numel, generator=generator) < 0.6)
        entries.append(entry)
    return ParameterMap(entries)


def without_checksums(directory: str | Path) -> None:
    """Make a checkpoint one of an older version, whose JSON files say nothing of how they and others were written."""
    for path in Path(directory).glob("*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        older = {key: value for key, value in content.items() if key not in {"checksum", "files"}}
        path.write_text(json.dumps(older), encoding="utf-8")


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """‖found − expected‖ / ‖expected‖."""
    return float((found - expected).norm() / expected.norm())
