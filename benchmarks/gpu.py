"""What a GPU makes of the parts that cost time: one command, under 8 minutes on one H100, a report in markdown.

    python benchmarks/gpu.py > report.md
    python benchmarks/gpu.py --quick            # tiny models, also on a CPU: shows that everything runs
    python benchmarks/gpu.py --processes 4      # of the layouts; by default one process a GPU

BERT-base, GPT-2-medium and a Llama of 1.1 billion parameters get random weights and a tokenizer on the spot; nothing is
downloaded. First the device is measured: the bandwidth by a copy, the matrix peak by one large product in each type.
Then every row is one configuration of the public API on batches of 32 texts of 64 tokens: milliseconds a training step,
an encoded row, or a measured decoder step; the peak of the device's memory; the fraction of the matrix peak (operations
counted by torch, in the type of the row's passes) and, for training steps, the fraction of the bandwidth that the
traffic of the GRADIEND step alone comes to. Several devices add the layouts: the base model over all of them
(`base_model_device_map="auto"`), and this script under torchrun, as data parallel and with `fsdp=True`.
After --minutes no further row begins, and the report names those that were left out. A layout that fails has a row that
says so, its error goes to stderr, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from gradiend_step import TRAFFIC, step_and_bandwidth
from pre_prune_memory import ENDINGS, NOUNS, llama, tokenizer
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, BertConfig, GPT2Config, PretrainedConfig
from workload import Clock, count_operations, seconds

from gradiend import PrePruneConfig, TextPredictionTrainer, TrainingArguments
from gradiend.trainer.text import TextPredictionModelWithGradiend

BATCH, WORDS = 32, 58
"""Texts of a batch, and the words beside the sentence that is asked about: 64 tokens in all."""
PRUNED = {"pre_prune_config": PrePruneConfig(n_samples=16, topk=0.01)}
ROWS: dict[str, dict[str, Any]] = {
    "all entries": {},
    "all entries, fused step": {"torch_compile": True},
    "all entries, bf16 passes": {"bf16": True},
    "all entries, bf16 passes, fused step": {"bf16": True, "torch_compile": True},
    "all entries, checkpointed": {"gradient_checkpointing": True},
    "1 %": PRUNED,
    "1 %, bf16 passes": {**PRUNED, "bf16": True},
    "1 %, checkpointed": {**PRUNED, "gradient_checkpointing": True},
    "1 %, device map": {**PRUNED, "base_model_device_map": "auto"},
    "1 %, data parallel": PRUNED,
    "1 %, fsdp": {**PRUNED, "fsdp": True},
}
"""Name → training arguments."""
EVALUATED = {"all entries", "1 %", "1 %, device map", "1 %, data parallel"}
"""Rows whose trained model is encoded with; on one process decoder steps are measured too."""
QUICK = {"1 %", "1 %, checkpointed", "all entries, bf16 passes"}
LAYOUTS = ("1 %, device map", "1 %, data parallel", "1 %, fsdp")
LAUNCHED = LAYOUTS[1:]
"""Layouts of several processes."""
STEPS: dict[str, Any] = {"lrs": [1e-4, 1e-3], "feature_factors": [1.0, -1.0]}


@dataclasses.dataclass(frozen=True)
class Model:
    """A model to measure: its config, as it is and tiny, the type of its weights, and its rows on one device."""

    config: PretrainedConfig
    tiny: dict[str, Any]
    rows: tuple[str, ...]
    dtype: torch.dtype = torch.float32

    @property
    def masked(self) -> bool:
        """Whether it predicts masked words."""
        return isinstance(self.config, BertConfig)

    def write(self, folder: Path, device: str, *, quick: bool) -> None:
        """Write the model with random weights, and its tokenizer."""
        if quick:
            self.config.update(self.tiny)
        torch.manual_seed(0)
        kind = AutoModelForMaskedLM if self.masked else AutoModelForCausalLM
        with torch.device(device):
            kind.from_config(self.config, dtype=self.dtype).save_pretrained(folder)
        tokenizer(masked=self.masked).save_pretrained(folder)


SINGLE = tuple(name for name in ROWS if name not in LAYOUTS)
MODELS = {
    "BERT-base": Model(
        BertConfig(),
        {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
        SINGLE,
    ),
    "GPT-2-medium": Model(
        GPT2Config(n_embd=1024, n_layer=24, n_head=16),
        {"n_embd": 32, "n_layer": 2, "n_head": 2},
        ("1 %", "1 %, bf16 passes", "1 %, checkpointed", "all entries, fused step"),
    ),
    "Llama of 1.1 B": Model(
        llama(layers=22),
        {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "head_dim": 8},
        ("1 %", "1 %, checkpointed"),
        torch.bfloat16,
    ),
}


def rows() -> pd.DataFrame:
    """Texts of 64 words with `he` or `she` masked near the end, in all splits."""
    sentences = [f"the {noun} {ending}" for noun in NOUNS for ending in ENDINGS]
    filler = " ".join([*sentences, *sentences]).split()
    texts = [
        " ".join([*filler[number : number + WORDS - 3], "the", noun, "said that [MASK]", ending])
        for number, (noun, ending) in enumerate((noun, ending) for noun in NOUNS for ending in ENDINGS)
    ]
    frames = [
        pd.DataFrame({"masked": texts * 2, "label": word, "label_class": name, "split": split})
        for name, word in (("masculine", "he"), ("feminine", "she"))
        for split in ("train", "validation", "test")
    ]
    return pd.concat(frames, ignore_index=True)


class CountedClock(Clock):
    """When each step ended; the operations of the second one are counted, and it is not timed."""

    flops = 0

    def __init__(self, *, counts: bool) -> None:
        super().__init__()
        self.counts = counts
        self.open: Any = None

    def on_step_end(self, step: int, *_: Any, **__: Any) -> None:
        """Note the time; the first step begins to count, and the second ends it."""
        if self.open is not None:
            self.open.__exit__(None, None, None)
            self.flops, self.open = self.open.get_total_flops(), None
        super().on_step_end()
        if step <= 2:
            self.ends = self.ends[-1:]
        if self.counts and step == 1:
            self.open = count_operations()
            self.open.__enter__()


def counted(work: Callable[[], Any]) -> tuple[int, float]:
    """(operations of a first call, seconds of a second one)."""
    with count_operations() as counter:
        work()
    return counter.get_total_flops(), seconds(work)


def measured(folder: str, output: str, row: str, steps: int, texts: int) -> dict[str, dict[str, float]]:
    """Train, encode, measure decoder steps; what → seconds of one, its operations and bytes, and the peak in bytes."""
    reset_peak()
    # Each process of a layout would count its own share only; a compiled step cannot be looked into.
    single = row not in LAUNCHED
    clock = CountedClock(counts=single and "torch_compile" not in ROWS[row])
    args = TrainingArguments(
        output_dir=output, train_batch_size=BATCH, max_steps=steps + 2, learning_rate=1e-5, do_eval=False, max_seeds=1,
        min_convergent_seeds=1, eval_batch_size=BATCH, **ROWS[row],
    )  # fmt: skip
    neutral = pd.DataFrame({"text": [" ".join(text.split()[:WORDS]) for text in rows()["masked"][:texts]]})
    trainer = TextPredictionTrainer(
        folder, data=rows(), target_classes=["masculine", "feminine"], eval_neutral_data=neutral, args=args
    )
    trainer.train(callbacks=[clock])
    step = clock.median_step()["seconds"]
    model = trainer.get_model()
    found = {"training step": {"seconds": step, "flops": clock.flops, "bytes": TRAFFIC * 4 * len(model)}}
    found["training step"]["peak"] = peak()
    if row in EVALUATED:
        reset_peak()
        data = trainer.create_eval_data(model, split="test", max_size=2 * texts)
        flops, taken = counted(lambda: data.encode(model, batch_size=BATCH))
        n = len(data)
        found["encoded row"] = {"seconds": taken / n, "flops": single * flops / n, "peak": peak()}
    if row in EVALUATED and single:
        reset_peak()
        flops, taken = counted(lambda: trainer.evaluate_decoder(**STEPS, use_cache=False, max_size_training_like=texts))
        n = 1 + len(STEPS["lrs"]) * len(STEPS["feature_factors"])
        found["decoder step"] = {"seconds": taken / n, "flops": flops / n, "peak": peak()}
    return found


def in_processes(count: int, *words: str) -> dict[str, dict[str, float]]:
    """What this script, launched by torchrun, measures; the first process prints it. Nothing if it fails."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    done = subprocess.run([sys.executable, *launcher, __file__, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr.strip()[-5000:], file=sys.stderr)
        return {}
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def reset_peak() -> None:
    """Free what nothing holds, and begin to watch the memory of all devices."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        for device in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(device)


def peak() -> int:
    """The largest peak of a device's memory, in bytes; 0 without a GPU."""
    if not torch.cuda.is_available():
        return 0
    return max(torch.cuda.max_memory_allocated(device) for device in range(torch.cuda.device_count()))


# The device


def copied_bytes_per_second(device: str, size: int) -> float:
    """Bytes that a copy of `size` numbers reads and writes in a second: the best of five."""
    source, target = torch.rand(size, device=device), torch.empty(size, device=device)
    return 2 * 4 * size / min(seconds(lambda: target.copy_(source)) for _ in range(6))


def products_per_second(device: str, size: int, dtype: torch.dtype) -> float:
    """Operations a second of a product of two square matrices: the best of five."""
    left, right = (torch.rand(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / min(seconds(lambda: left @ right) for _ in range(6))


def differences(folder: str, device: str) -> Iterator[str]:
    """How far gradients and encodings on the device are from those on the CPU, a line each."""
    found = []
    some = rows().head(8)
    texts, words = some["masked"].tolist(), some["label"].tolist()
    for place in ("cpu", device):
        torch.manual_seed(0)
        model = TextPredictionModelWithGradiend.from_pretrained(folder, params=["*.0.*"], device="cpu")
        model.to(place)
        encoded = model.encode_texts(texts, words, words, source="factual", batch_size=8)
        found.append((model.create_gradients(texts[0], words[0]).cpu(), encoded.cpu()))
    for name, one, other in zip(("gradient", "encodings"), *found, strict=True):
        far = float((one - other).norm() / one.norm())
        yield f"- {name} on {device} against the CPU: relative difference {far:.1e}"


# The report


def line(*cells: object) -> None:
    """Print a row of a markdown table."""
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def share(part: float, whole: float) -> str:
    """A fraction in percent; a dash where there is nothing to compare."""
    return f"{part / whole:.2%}" if part else "–"


def planned(processes: int, *, quick: bool) -> Iterator[tuple[str, str]]:
    """(model, row), in their order; layouts of several devices come last."""
    compiles = torch.cuda.is_available()
    for name, model in MODELS.items():
        chosen = [row for row in model.rows if compiles or "torch_compile" not in ROWS[row]]
        yield from ((name, row) for row in chosen if row in QUICK or not quick)
    if processes > 1:
        for name in MODELS:
            yield from ((name, row) for row in LAYOUTS if row in LAUNCHED or torch.cuda.device_count() > 1)


def report_device(device: str, *, quick: bool) -> tuple[float, dict[torch.dtype, float]]:
    """Print what the device can do, whether its numbers are right, and the GRADIEND step alone; (bandwidth, rates)."""
    bandwidth = copied_bytes_per_second(device, 1 << (20 if quick else 28))
    print(f"- copy: {bandwidth / 1e9:.1f} GB/s")
    rates = {}
    for dtype in (torch.float32, torch.bfloat16):
        rates[dtype] = products_per_second(device, 256 if quick else 8192, dtype)
        print(f"- products in {str(dtype).removeprefix('torch.')}: {rates[dtype] / 1e12:.2f} TFLOP/s")
    with tempfile.TemporaryDirectory() as folder:
        MODELS["BERT-base"].write(Path(folder), device, quick=quick)
        print(*differences(folder, device), sep="\n")
    print("\n### The GRADIEND step alone\n")
    line("entries", "step", "ms", "GB/s", "of the copy's bandwidth")
    line(*["---"] * 5)
    for n in (10_000,) if quick else (1_000_000, 100_000_000):
        for compiled in (False, True) if device == "cuda" else (False,):
            step, _ = step_and_bandwidth(n, 9, compiled=compiled, device=device)
            moved = TRAFFIC * 4 * n / step
            kind = "fused" if compiled else "plain"
            line(f"{n:,}", kind, f"{1e3 * step:.2f}", f"{moved / 1e9:.1f}", share(moved, bandwidth))
    return bandwidth, rates


def report(given: argparse.Namespace) -> int:
    """Measure and print; 1 if a layout failed."""
    begin = time.monotonic()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} thread(s) of a CPU"
    print(f"## {name}, torch {torch.__version__}, {given.processes} process(es) in layouts\n")
    bandwidth, rates = report_device(device, quick=given.quick)
    print("\n### Models\n")
    line("model", "row", "one", "ms", "of matrix peak", "GRADIEND step, of bandwidth", "peak GiB")
    line(*["---"] * 7)
    left_out: list[str] = []
    failed = 0
    known: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="gradiend_gpu_") as folder:
        for model, row in planned(given.processes, quick=given.quick):
            if time.monotonic() - begin > 60 * given.minutes:
                left_out.append(f"{model}, {row}")
                continue
            place = Path(folder) / model
            if not place.exists():
                MODELS[model].write(place, device, quick=given.quick)
            with tempfile.TemporaryDirectory(dir=folder) as output:
                words = (str(place), output, row, given.steps, 2 if given.quick else 30)
                if row in LAUNCHED:
                    found = in_processes(given.processes, "--row", *map(str, words))
                else:
                    found = measured(*words)
            if not found:
                failed = 1
                line(model, row, "failed", *["–"] * 4)
            # Layers that run again, or a second time in another process, are no useful work: all rows have the same.
            operations = {what: numbers["flops"] for what, numbers in found.items()} | known.get(model, {})
            known[model] = operations
            dtype = torch.bfloat16 if ROWS[row].get("bf16") else MODELS[model].dtype
            devices = given.processes if row in LAYOUTS else 1
            for what, numbers in found.items():
                taken = numbers["seconds"]
                # All devices share the products; the traffic is that of one process, on its device.
                products = share(operations[what] / taken / devices, rates[dtype])
                traffic = share(numbers.get("bytes", 0) / taken, bandwidth)
                line(model, row, what, f"{1e3 * taken:.2f}", products, traffic, f"{numbers['peak'] / 2**30:.2f}")
    print()
    if left_out:
        print(f"Not run within {given.minutes:g} minutes: {'; '.join(left_out)}.")
    if given.processes < 2:
        print("Layouts of several devices were not run: there is one device.")
    print(f"{time.monotonic() - begin:.0f} s in all.")
    return failed


def main(words: list[str] | None = None) -> int:
    """Print the report; with --row, as a process of a layout, the measurements of one row; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny models and few steps")
    parser.add_argument("--steps", type=int, default=20, help="training steps that are timed")
    parser.add_argument("--minutes", type=float, default=7.0)
    parser.add_argument("--processes", type=int, default=max(1, torch.cuda.device_count()))
    parser.add_argument("--row", nargs=5, metavar=("FOLDER", "OUTPUT", "ROW", "STEPS", "TEXTS"), help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    if given.row:
        folder, output, row, steps, texts = given.row
        found = measured(folder, output, row, int(steps), int(texts))
        if os.environ.get("RANK", "0") == "0":
            print(json.dumps(found))
        return 0
    given.steps = 3 if given.quick else given.steps
    return report(given)


if __name__ == "__main__":
    sys.exit(main())
