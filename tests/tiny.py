"""Tiny random language models with tokenizers of their own, and naive references."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

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


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """‖found − expected‖ / ‖expected‖."""
    return float((found - expected).norm() / expected.norm())
