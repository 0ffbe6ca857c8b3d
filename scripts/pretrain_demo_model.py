"""Rebuilds `gradiend/demo/model`: a small BERT pre-trained from scratch on the demo grammar.

Run from the repository root: `python scripts/pretrain_demo_model.py`. One core needs about five minutes.
"""

from __future__ import annotations

import argparse
import re
import string
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm
from transformers import BertConfig, BertForMaskedLM, BertTokenizer

from gradiend.demo import model_path
from gradiend.demo._grammar import PRONOUNS_3PL, PRONOUNS_3SG, sentences

CORPUS_SEED: Final = 1
HELD_OUT_SEED: Final = 2
CLASSES: Final = {"3SG": PRONOUNS_3SG, "3PL": PRONOUNS_3PL}
SPECIAL_TOKENS: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
COMMON_ENDINGS: Final = ("##s", "##es", "##ed", "##er", "##ing", "##ly", "##ion", "##al", "##en", "##ness")
MAX_LENGTH: Final = 64
PRONOUN_RATE: Final = 0.5


@dataclass(frozen=True)
class Settings:
    """What a rebuild may vary."""

    sentences: int = 60_000
    epochs: float = 5.0
    batch_size: int = 64
    learning_rate: float = 1.5e-3
    warmup: float = 0.06
    weight_decay: float = 0.01
    hidden_size: int = 128
    layers: int = 3
    heads: int = 4
    seed: int = 0
    threads: int = 1  # a batch is too small for more to help, and another number rounds differently


def build_tokenizer(texts: list[str]) -> BertTokenizer:
    """Every word of the texts is one token; other words fall back to letters and common endings.

    A vocabulary learned by merges would give the same words, but its order differs from run to run.
    """
    words = Counter(word for text in texts for word in re.findall(r"\w+|[^\w\s]", text.lower()))
    letters = string.ascii_lowercase + string.digits
    pieces = [*letters, *string.punctuation, *("##" + letter for letter in letters), *COMMON_ENDINGS]
    by_frequency = sorted(words, key=lambda word: (-words[word], word))
    vocabulary = dict.fromkeys([*SPECIAL_TOKENS, *pieces, *by_frequency])
    return BertTokenizer(vocab={token: index for index, token in enumerate(vocabulary)}, model_max_length=MAX_LENGTH)


def build_model(settings: Settings, tokenizer: BertTokenizer) -> BertForMaskedLM:
    return BertForMaskedLM(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=settings.hidden_size,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            intermediate_size=4 * settings.hidden_size,
            max_position_embeddings=MAX_LENGTH,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            pad_token_id=tokenizer.pad_token_id,
            tie_word_embeddings=True,
        )
    )


def pad(rows: list[list[int]], pad_id: int) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=pad_id)


def batches(rows: list[list[int]], size: int, generator: torch.Generator) -> Iterator[list[list[int]]]:
    """One epoch in random order; rows of a batch have similar lengths (sorted within pools of 50 batches)."""
    order = torch.randperm(len(rows), generator=generator).tolist()
    for start in range(0, len(order), 50 * size):
        pool = sorted(order[start : start + 50 * size], key=lambda index: len(rows[index]))
        chunks = [pool[i : i + size] for i in range(0, len(pool), size)]
        for chunk in torch.randperm(len(chunks), generator=generator).tolist():
            yield [rows[index] for index in chunks[chunk]]


def draw_scored(ids: Tensor, rate: Tensor | float, tokenizer: BertTokenizer, generator: torch.Generator) -> Tensor:
    """Which tokens are scored: each with the probability `rate`, special ones never."""
    specials = torch.tensor([tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id])
    return (torch.rand(ids.shape, generator=generator) < rate) & ~torch.isin(ids, specials)


def mask_tokens(ids: Tensor, tokenizer: BertTokenizer, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """BERT's masking: 15 % of the tokens are scored, of these 80 % [MASK], 10 % random, 10 % unchanged.

    Pronouns, at most one a text, are scored more often: agreement over a distance is learned from them alone.
    """
    pronouns = torch.tensor(tokenizer.convert_tokens_to_ids([*PRONOUNS_3SG, *PRONOUNS_3PL]))
    rate = torch.where(torch.isin(ids, pronouns), PRONOUN_RATE, 0.15)
    scored = draw_scored(ids, rate, tokenizer, generator)
    action = torch.rand(ids.shape, generator=generator)
    random_ids = torch.randint(len(SPECIAL_TOKENS), len(tokenizer), ids.shape, generator=generator)
    masked = torch.where(scored & (action < 0.8), tokenizer.mask_token_id, ids)
    return torch.where(scored & (action >= 0.9), random_ids, masked), scored


def scored_logits(model: BertForMaskedLM, ids: Tensor, scored: Tensor) -> Tensor:
    """Logits (number of scored tokens, vocabulary): the head runs on no other position."""
    attention_mask = torch.ne(ids, SPECIAL_TOKENS.index("[PAD]")).long()
    hidden = model.bert(input_ids=ids, attention_mask=attention_mask).last_hidden_state
    return model.cls(hidden[scored])


def train(model: BertForMaskedLM, rows: list[list[int]], tokenizer: BertTokenizer, settings: Settings) -> None:
    generator = torch.Generator().manual_seed(settings.seed)
    steps = int(settings.epochs * len(rows) / settings.batch_size)
    warmup = max(1, int(settings.warmup * steps))
    decayed = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=settings.learning_rate,
        betas=(0.9, 0.98),
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, max(0.0, (steps - step) / (steps - warmup)))
    )
    model.train()
    smooth = None
    with tqdm(total=steps, desc="pre-training", unit="step", mininterval=1.0) as progress:
        while progress.n < steps:
            for batch in batches(rows, settings.batch_size, generator):
                ids = pad(batch, tokenizer.pad_token_id)
                inputs, scored = mask_tokens(ids, tokenizer, generator)
                loss = F.cross_entropy(scored_logits(model, inputs, scored), ids[scored])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                smooth = loss.item() if smooth is None else 0.98 * smooth + 0.02 * loss.item()
                progress.set_postfix(loss=f"{smooth:.3f}", refresh=False)
                progress.update()
                if progress.n == steps:
                    break
    model.eval()


@torch.no_grad()
def masked_token_quality(model: BertForMaskedLM, tokenizer: BertTokenizer, texts: list[str]) -> tuple[float, float]:
    """Mean loss and accuracy on 15 % of the tokens, all replaced by [MASK]."""
    generator = torch.Generator().manual_seed(0)
    losses, hits = [], []
    for start in range(0, len(texts), 256):
        ids = pad(tokenizer(texts[start : start + 256])["input_ids"], tokenizer.pad_token_id)
        scored = draw_scored(ids, 0.15, tokenizer, generator)
        logits = scored_logits(model, torch.where(scored, tokenizer.mask_token_id, ids), scored)
        losses.append(F.cross_entropy(logits, ids[scored], reduction="none"))
        hits.append((logits.argmax(-1) == ids[scored]).float())
    return torch.cat(losses).mean().item(), torch.cat(hits).mean().item()


@torch.no_grad()
def class_probabilities(
    model: BertForMaskedLM, tokenizer: BertTokenizer, texts: list[str], words: tuple[str, ...]
) -> dict[str, float]:
    """Mean P(class) at the masked pronoun of those texts whose pronoun is one of the words."""
    pronoun = re.compile(rf"\b({'|'.join(words)})\b", re.IGNORECASE)
    masked = [pronoun.sub(tokenizer.mask_token, text) for text in texts if pronoun.search(text)]
    ids = pad(tokenizer(masked)["input_ids"], tokenizer.pad_token_id)
    probabilities = scored_logits(model, ids, ids == tokenizer.mask_token_id).softmax(-1)
    return {
        name: probabilities[:, tokenizer.convert_tokens_to_ids(list(members))].sum(-1).mean().item()
        for name, members in CLASSES.items()
    }


def report(model: BertForMaskedLM, tokenizer: BertTokenizer, texts: list[str]) -> None:
    any_pronoun = re.compile(rf"\b({'|'.join((*PRONOUNS_3SG, *PRONOUNS_3PL))})\b", re.IGNORECASE)
    neutral = [text for text in texts if not any_pronoun.search(text)]
    for name, part in {"all held-out texts": texts, "neutral held-out texts": neutral}.items():
        loss, accuracy = masked_token_quality(model, tokenizer, part)
        print(f"{name}: {len(part)}, loss {loss:.3f}, masked-token accuracy {accuracy:.3f}")
    for name, words in CLASSES.items():
        probabilities = class_probabilities(model, tokenizer, texts, words)
        print(f"on {name} texts:", ", ".join(f"P({key}) {value:.3f}" for key, value in probabilities.items()))


def parse_arguments() -> tuple[Settings, Path]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, default=model_path(), help="folder to write the model to")
    for name, default in vars(Settings()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    arguments = vars(parser.parse_args())
    output = arguments.pop("output")
    return Settings(**arguments), output


def main() -> None:
    settings, output = parse_arguments()
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    corpus = sentences(settings.sentences, CORPUS_SEED)
    known = set(corpus)
    held_out = [text for text in sentences(6_000, HELD_OUT_SEED) if text not in known]
    tokenizer = build_tokenizer(corpus)
    model = build_model(settings, tokenizer)
    print(f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens")
    train(model, tokenizer(corpus)["input_ids"], tokenizer, settings)
    report(model, tokenizer, held_out)
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    for path in output.iterdir():
        path.chmod(0o644)  # safetensors writes for the owner only; a package is read by everyone
    print(f"saved to {output}")


if __name__ == "__main__":
    main()
