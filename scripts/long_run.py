"""Memory and open files of long work: they must not grow.

    python scripts/long_run.py [--steps 20000] [--candidates 200] [--encodings 5000]

A tiny random BERT is trained, measured under a grid of rewrites, and asked for encodings one by one. Resident memory
and open files are printed at every tenth of each; the script fails if either has grown after the first tenth.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

from gradiend import ModelWithGradiend, TextPredictionTrainer, TrainingArguments
from gradiend.evaluator import LMSThresholdPolicy
from gradiend.trainer.core.callbacks import TrainingCallback

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WHO, WHERE, HOW = ("baker", "nurse", "sailor", "cat", "dog"), ("house", "river", "door", "lamp"), ("old", "new")
WORDS = ["the", "was", "near", "and", "then", "saw", "bread", ".", "he", "she", "they", *WHO, *WHERE, *HOW]
NOISE = 8 * 2**20
"""Bytes by which the resident memory may vary: the allocator returns memory in pieces."""


def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with one token for each word."""
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *WORDS])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ends = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=64, **names)


def rows() -> pd.DataFrame:
    """40 rows of each of two classes."""
    found = [
        {
            "masked": f"the {how} {who} was near the {where} and then [MASK] saw the bread .",
            "label": words[number % len(words)],
            "label_class": name,
            "split": ("train", "train", "train", "validation", "test")[number % 5],
        }
        for name, words in (("SG", ("he", "she")), ("PL", ("they",)))
        for number, (who, where, how) in enumerate(itertools.product(WHO, WHERE, HOW))
    ]
    return pd.DataFrame(found)


class Meter:
    """Prints resident memory and open files at every tenth of `total` units of work, and keeps them."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total = what, total
        self.seen: list[tuple[int, int]] = []

    def done(self, count: int) -> None:
        """Look at the process if `count` units are a whole number of tenths."""
        if count % max(1, self.total // 10):
            return
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.seen.append((pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd"))))
        memory, files = self.seen[-1]
        print(f"{self.what:10} {count:6,} of {self.total:6,}   {memory / 2**20:7.1f} MiB   {files:3} open files")

    def require_flat(self) -> None:
        """Raise AssertionError if memory or open files have grown after the first tenth."""
        (memory, files), *later = self.seen
        grown = max(after for after, _ in later) - memory
        assert grown <= NOISE, f"{self.what}: the memory has grown by {grown / 2**20:.1f} MiB."
        assert max(after for _, after in later) <= files, f"{self.what}: files stay open."


class Watch(TrainingCallback):
    """Tells a meter of every step."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter

    def on_step_end(self, step: int, loss: float, model: Any, config: Any, **kwargs: Any) -> None:
        """See `TrainingCallback`."""
        del loss, model, config, kwargs
        self.meter.done(step)


def training(trainer: TextPredictionTrainer, steps: int) -> Meter:
    """Train for `steps` steps, with an evaluation now and then."""
    meter = Meter("training", steps)
    trainer.train(max_steps=steps, eval_steps=max(1, steps // 50), callbacks=[Watch(meter)])
    return meter


def grid(trainer: TextPredictionTrainer, candidates: int) -> Meter:
    """Measure a grid, a tenth of the candidates in each call."""
    meter = Meter("grid", candidates)
    rates = [0.001 * (1 + number) for number in range(candidates // 2)]
    for tenth in range(10):
        some = rates[tenth * len(rates) // 10 : (tenth + 1) * len(rates) // 10]
        trainer.evaluate_decoder(lrs=some, selector=LMSThresholdPolicy(ratio=0.0), use_cache=True)
        meter.done((tenth + 1) * candidates // 10)
    return meter


def encoding(model: Any, count: int) -> Meter:
    """Encode one text after the other."""
    meter = Meter("encodings", count)
    texts = rows()["masked"].tolist()
    for number in range(1, count + 1):
        text, word = texts[number % len(texts)], ("he", "she", "they")[number % 3]
        if number % 2:
            model.encode(text, word)
        else:
            model.encode(text, factual=word, alternative="they")
        meter.done(number)
    return meter


def main() -> None:
    """Run the three, and require that all of them are flat."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--candidates", type=int, default=200)
    parser.add_argument("--encodings", type=int, default=5_000)
    asked = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = BertConfig(
        vocab_size=len(SPECIAL) + len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as directory:
        model = ModelWithGradiend.from_pretrained(BertForMaskedLM(config), tokenizer=tokenizer())
        arguments = TrainingArguments(
            train_batch_size=4, learning_rate=1e-4, experiment_dir=directory, num_train_epochs=1, kept_gradients_size=0
        )
        trainer = TextPredictionTrainer(model, data=rows(), target_classes=["SG", "PL"], args=arguments)
        works: list[Callable[[], Meter]] = [
            lambda: training(trainer, asked.steps),
            lambda: grid(trainer, asked.candidates),
            lambda: encoding(trainer.get_model(), asked.encodings),
        ]
        for work in works:
            work().require_flat()


if __name__ == "__main__":
    main()
