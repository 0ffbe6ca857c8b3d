"""Print the tables of docs/large_models.md: what fits where, computed from the shapes of models that nobody has loaded.

`python scripts/large_model_tables.py` takes minutes; `--model 1B` prints one model's table.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import torch
from transformers import LlamaConfig

from gradiend import PrePruneConfig, TrainingArguments
from gradiend.trainer import Layout, MemoryEstimate
from gradiend.trainer.core._memory import GIB, fitting_layout
from gradiend.trainer.text import estimate_from_config

ROOM = 80 * GIB
USABLE = 0.9
"""Share of a device that a training may fill: the rest is for gaps between tensors and for what operators use."""
COMMON: dict[str, Any] = {"vocab_size": 128_256, "num_key_value_heads": 8, "max_position_embeddings": 8192}
CONFIGS: dict[str, dict[str, Any]] = {
    "1B": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
           "tie_word_embeddings": True},
    "8B": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32},
    "70B": {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64},
}  # fmt: skip
KEPT = {
    "all": None,
    "1 %": PrePruneConfig(topk=0.01),
    "1 %, importance on the CPU": PrePruneConfig(topk=0.01, importance_device="cpu"),
    "0.1 %, importance on the CPU": PrePruneConfig(topk=0.001, importance_device="cpu"),
}
LAYOUTS = {
    "1 device": Layout(),
    "map over 4": Layout("device_map", 4),
    "map over 8": Layout("device_map", 8),
    "data parallel, 8": Layout("data_parallel", 8),
    "sharded over 4": Layout("sharded", 4),
    "sharded over 8": Layout("sharded", 8),
}


def table(config: LlamaConfig, n_tokens: int) -> Iterator[str]:
    """The lines of a model's table in Markdown."""
    yield "| kept entries | " + " | ".join(LAYOUTS) + " | fewest devices |"
    yield "|---" * (len(LAYOUTS) + 2) + "|"
    for name, pruning in KEPT.items():
        arguments = TrainingArguments(
            base_model_dtype=torch.bfloat16, gradient_checkpointing=True, pre_prune_config=pruning
        )
        estimate = estimate_from_config(config, arguments, n_tokens=n_tokens)
        yield (
            f"| {name} | " + " | ".join(cell(estimate, layout) for layout in LAYOUTS.values()) + f" | {few(estimate)} |"
        )


def cell(estimate: MemoryEstimate, layout: Layout) -> str:
    """GiB on the fullest device, in bold where they fit."""
    nbytes = estimate.for_layout(layout).fullest
    text = f"{nbytes / GIB:,.0f}" if nbytes >= 10 * GIB else f"{nbytes / GIB:.1f}"
    return f"**{text}**" if nbytes <= USABLE * ROOM else text


def few(estimate: MemoryEstimate) -> str:
    """The smallest layout that fits."""
    if estimate.fullest <= USABLE * ROOM:
        return "1"
    layout = fitting_layout(estimate, int(USABLE * ROOM))
    return "more than 64" if layout is None else f"{layout.n}, {layout.kind}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=CONFIGS, help="one model; default: all")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of the longest texts")
    given = parser.parse_args()
    for name in CONFIGS if given.model is None else [given.model]:
        config = LlamaConfig(**{**COMMON, **CONFIGS[name]})
        print(f"\n{name}, GiB on the fullest of devices with {ROOM // GIB} GiB:\n")
        for line in table(config, given.tokens):
            print(line, flush=True)


if __name__ == "__main__":
    main()
