"""A training of half a GiB or more in a process of its own; prints estimate and measurement, in bytes, as JSON.

Called by test_memory.py as `python memory_run.py CASE`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import tiny
import tiny_data
import torch
from transformers import BertConfig, BertForMaskedLM

from gradiend import PrePruneConfig, TrainingArguments

MANY_ENTRIES = {"vocab_size": 120_000, "hidden_size": 96, "num_hidden_layers": 1, "intermediate_size": 96}
MANY_ACTIVATIONS = {"vocab_size": 400, "hidden_size": 256, "num_hidden_layers": 12, "intermediate_size": 4096}
FILLER = " the old lamp was in the house ." * 55
CASES = {
    "unpruned": (MANY_ENTRIES, {"train_batch_size": 4}),
    "autograd": (MANY_ENTRIES, {"train_batch_size": 4, "criterion": torch.nn.L1Loss()}),
    "activations": (
        MANY_ACTIVATIONS,
        {"train_batch_size": 24, "pre_prune_config": PrePruneConfig(topk=0.01, n_samples=8)},
    ),
}


def resident(kind: str = "VmRSS") -> int:
    """Bytes that this process holds now; with `VmHWM`, the most that it has held since it began.

    What getrusage knows of the most begins with what the process held that started this one.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(kind):
            return int(line.split()[1]) * 1024
    raise RuntimeError("This system does not tell the memory of a process.")


def main() -> None:
    """Estimate, train, measure."""
    torch.set_num_threads(1)
    shape, arguments = CASES[sys.argv[1]]
    with tempfile.TemporaryDirectory() as directory:
        torch.manual_seed(0)
        BertForMaskedLM(BertConfig(num_attention_heads=4, **shape)).save_pretrained(directory)
        tiny.bert_tokenizer().save_pretrained(directory)
        args = TrainingArguments(
            output_dir=f"{directory}/out", max_steps=2, max_seeds=1, learning_rate=1e-4, save_strategy="no", **arguments
        )
        rows = tiny_data.rows()
        trainer = tiny_data.trainer(directory, args, rows.assign(masked=rows["masked"] + FILLER))
        held = resident()
        estimate = trainer.estimate_memory()
        print(estimate, file=sys.stderr)
        estimated = estimate.peak["cpu"]
        trainer.train()
        measured = resident("VmHWM") - held
    print(json.dumps({"estimated": estimated, "measured": measured, "held": held}))


if __name__ == "__main__":
    main()
