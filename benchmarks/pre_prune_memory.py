"""Pre-prune a Llama of 1.1 billion parameters to 1 % and train five steps, within 12 GiB of process memory on the CPU.

    python benchmarks/pre_prune_memory.py

The weights are random and made in bfloat16 (the shape of TinyLlama); the texts are short sentences. Prints what
`trainer.estimate_memory()` says before, and what the process held at its peak. `--layers 2` is a quick trial.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from gradiend import PrePruneConfig, TextPredictionTrainer, TrainingArguments
from gradiend.model.core.backbone import build_gradiend_from_base_model
from gradiend.trainer.text import TextPredictionModelWithGradiend

GIB = 2**30
LIMIT = 12 * GIB
NOUNS = ["nurse", "sailor", "baker", "friend", "teacher", "doctor", "painter", "singer"]
ENDINGS = ["was tired .", "sold the bread .", "went home .", "saw the river ."]


def tokenizer(*, masked: bool = False) -> PreTrainedTokenizerFast:
    """Every word of the sentences is a token; BOS comes first; with a mask and padding where `masked`."""
    names = {"pad_token": "[PAD]", "mask_token": "[MASK]"} if masked else {}
    words = ["the", "said", "that", "he", "she", *NOUNS, *" ".join(ENDINGS).split()]
    known = dict.fromkeys([*names.values(), "<unk>", "<s>", "</s>", *words])
    vocabulary = {word: number for number, word in enumerate(known)}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])])
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>", **names)


def rows() -> pd.DataFrame:
    """Short sentences with `he` or `she` masked, in all splits."""
    texts = [f"the {noun} said that [MASK] {ending}" for noun in NOUNS for ending in ENDINGS]
    frames = [
        pd.DataFrame({"masked": texts, "label": word, "label_class": name, "split": split})
        for name, word in (("masculine", "he"), ("feminine", "she"))
        for split in ("train", "validation")
    ]
    return pd.concat(frames, ignore_index=True)


def llama(layers: int) -> LlamaConfig:
    """The config of the model."""
    return LlamaConfig(
        vocab_size=32000, hidden_size=2048, num_hidden_layers=layers, num_attention_heads=32, num_key_value_heads=4,
        intermediate_size=5632, max_position_embeddings=2048, tie_word_embeddings=False,
    )  # fmt: skip


def model(layers: int) -> TextPredictionModelWithGradiend:
    """The base model in bfloat16, and a GRADIEND over its backbone whose weights do not exist yet."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        base = LlamaForCausalLM(llama(layers))
    finally:
        torch.set_default_dtype(before)
    gradiend = build_gradiend_from_base_model(base, "random-llama", lazy_init=True)
    return TextPredictionModelWithGradiend(base, gradiend, tokenizer(), source="alternative", target="diff")


def resident() -> int:
    """Bytes that this process holds now."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024


def peak() -> int:
    """The most bytes that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> int:
    """Print estimate and peak; 1 if the peak is above the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=22)
    parser.add_argument("--importance-dtype", default="float32", choices=["float32", "bfloat16"])
    options = parser.parse_args()
    torch.manual_seed(0)
    held = resident()
    made = model(options.layers)
    n_parameters = sum(parameter.numel() for parameter in made.base_model.parameters())
    print(f"{n_parameters / 1e9:.2f} billion parameters in {made.base_model.dtype}; {len(made)} entries in the map")
    print(f"held: {held / GIB:.2f} GiB before the model, {resident() / GIB:.2f} GiB with it (peak {peak() / GIB:.2f})")
    config = PrePruneConfig(topk=0.01, importance_dtype=getattr(torch, options.importance_dtype))
    with tempfile.TemporaryDirectory() as directory:
        args = TrainingArguments(
            output_dir=f"{directory}/model", train_batch_size=8, max_steps=5, max_seeds=1, learning_rate=1e-4,
            pre_prune_config=config, eval_batch_size=8, encoder_eval_train_max_size=8,
        )  # fmt: skip
        trainer = TextPredictionTrainer(made, data=rows(), target_classes=["masculine", "feminine"], args=args)
        before = resident()
        estimate = trainer.estimate_memory()
        print(f"estimate: {estimate}", flush=True)
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
        trained = len(trainer.get_model())
    above = (peak() - before) / GIB
    print(f"trained {trained} entries, pre-pruning and 5 steps with evaluation in {seconds:.0f} s")
    print(f"estimate {estimate.peak['cpu'] / GIB:.2f} GiB above what was held, measured {above:.2f} GiB")
    print(f"peak of the process: {peak() / GIB:.2f} GiB (limit {LIMIT / GIB:.0f})")
    return int(peak() > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
