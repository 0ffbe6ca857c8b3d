"""Peak memory of one gradient pass over a BERT of base size: plain training code against the engine.

    python benchmarks/memory_of_gradients.py

Every measurement is a process of its own, on one thread; the table shows medians of three. Needs about 3 GB.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable

import torch
from tokenizers import Tokenizer, models
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

from gradiend.gradients import GradientEngine, TokenizedWord, WordScorer, collate
from gradiend.model._context import Side
from gradiend.model._parameter_map import MappedParameter, ParameterMap
from gradiend.model.core.backbone import select_parameters
from gradiend.objectives import Masked

ROWS, LENGTH, REPEATS = 16, 64, 3
MIB = 2**20
# Words are made of random ids here, so any tokenizer with a mask token will do.
TOKENIZER = PreTrainedTokenizerFast(
    tokenizer_object=Tokenizer(models.WordLevel({"[PAD]": 0, "[MASK]": 1})), mask_token="[MASK]", pad_token="[PAD]"
)
OBJECTIVE = Masked(TOKENIZER, max_length=LENGTH)

Words = list[TokenizedWord]


def words(model: BertForMaskedLM, seed: int) -> Words:
    """One scored token in each of 16 random rows of 64; the rows are the same for every seed."""
    rows = torch.randint(model.config.vocab_size, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
    tokens = torch.randint(model.config.vocab_size, (ROWS,), generator=torch.Generator().manual_seed(seed))
    return [
        TokenizedWord(tuple(row), (i % LENGTH,), (token,))
        for i, (row, token) in enumerate(zip(rows.tolist(), tokens.tolist(), strict=True))
    ]


def plain(model: BertForMaskedLM) -> None:
    """Forward and backward with labels=, as in any training loop; all gradients are kept."""
    model.eval()
    batch = collate(words(model, 1), 0)
    labels = torch.full_like(batch.input_ids, -100)
    labels[batch.site_rows, batch.site_positions] = batch.score_tokens
    model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=labels).loss.backward()


def plain_narrowed(model: BertForMaskedLM) -> None:
    """The same with logits at the scored positions only, as the engine has them."""
    model.eval()
    (-WordScorer(model, OBJECTIVE).log_probs(collate(words(model, 1), 0)).mean()).backward()


def engine(model: BertForMaskedLM, mapping: ParameterMap) -> None:
    """What a training step needs: the gradient of the alternative, and factual minus alternative."""
    GradientEngine(model, mapping, OBJECTIVE).gradients(words(model, 1), words(model, 2), [Side.ALTERNATIVE, Side.DIFF])


def hundredth(model: BertForMaskedLM) -> ParameterMap:
    """1 % of the entries of every parameter."""
    entries = []
    for entry in select_parameters(model):
        step = min(100, entry.numel)
        entries.append(MappedParameter(entry.name, entry.shape, torch.arange(0, entry.numel, step, dtype=torch.int32)))
    return ParameterMap(entries)


PASSES: dict[str, Callable[[BertForMaskedLM], None]] = {
    "the model alone": lambda model: None,  # noqa: ARG005
    "plain forward and backward": plain,
    "plain, scored positions only": plain_narrowed,
    "engine, 1 % of the entries": lambda model: engine(model, hundredth(model)),
    "engine, all entries": lambda model: engine(model, select_parameters(model)),
}


def measure(name: str) -> tuple[int, int]:
    """(peak resident memory of this process, size of the model), in bytes, after one pass."""
    torch.manual_seed(0)
    model = BertForMaskedLM(BertConfig())
    PASSES[name](model)
    size = sum(parameter.numel() * parameter.itemsize for parameter in model.parameters())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, size


def in_a_process(name: str) -> tuple[int, int]:
    """`measure` in a fresh process."""
    command = [sys.executable, __file__, "--pass", name]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    peak, size = subprocess.check_output(command, env=environment, text=True).split()
    return int(peak), int(size)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pass", dest="name", choices=list(PASSES), help="measure this one here")
    name = parser.parse_args().name
    if name is not None:
        print(*measure(name))
        return
    runs = {name: [in_a_process(name) for _ in range(REPEATS)] for name in PASSES}
    size = runs["the model alone"][0][1]
    peaks = {name: statistics.median(peak for peak, _ in found) for name, found in runs.items()}
    reference = peaks["plain forward and backward"]
    print(f"BERT-base, random, float32, {size / MIB:.0f} MiB; {ROWS} rows of {LENGTH} tokens; medians of {REPEATS}")
    print(f"{'':30} {'peak MiB':>9} {'above plain, % of model':>24}")
    for name, peak in peaks.items():
        print(f"{name:30} {peak / MIB:9.0f} {100 * (peak - reference) / size:+24.1f}")


if __name__ == "__main__":
    main()
