"""What a GPU makes of the parts that cost time: one command, a few minutes, a table.

    python benchmarks/gpu.py MODEL ROWS.csv [--layers 12] [--steps 20]

A model of BERT-base's size with random weights (a GPT-2 of the same size with --causal) takes the tokenizer of MODEL.
Every line is one configuration of the public API: seconds a training step (batch of 16), or a row that is encoded; the
peak of the device's memory; and for the GRADIEND step alone the fraction of the memory bandwidth, plain and fused by
`torch_compile=True`. First it is checked that gradients and encodings on the device are those of the CPU.
"""

from __future__ import annotations

import argparse
import tempfile
from typing import Any

import torch
from gradiend_step import measure
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel
from workload import BATCH, Clock, read_rows, seconds

from gradiend import PrePruneConfig, TextPredictionTrainer, TrainingArguments
from gradiend.trainer.text import TextPredictionModelWithGradiend

VOCABULARY = 30_522
TRAININGS: dict[str, dict[str, Any]] = {
    "train, all entries": {},
    "train, all entries, fused step": {"torch_compile": True},
    "train, all entries, bf16 passes": {"bf16": True},
    "train, all entries, bf16 + fused": {"bf16": True, "torch_compile": True},
    "train, all entries, checkpointed": {"gradient_checkpointing": True},
    "train, 1 %": {"pre_prune_config": PrePruneConfig(n_samples=16, topk=0.01)},
    "train, 1 %, bf16 passes": {"pre_prune_config": PrePruneConfig(n_samples=16, topk=0.01), "bf16": True},
}


def make_model(folder: str, tokenizer: str, layers: int, *, causal: bool) -> None:
    """Write a model with random weights, and the tokenizer beside it."""
    words = AutoTokenizer.from_pretrained(tokenizer)
    torch.manual_seed(0)
    if causal:
        model: Any = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_layer=layers))
    else:
        model = BertForMaskedLM(BertConfig(vocab_size=VOCABULARY, num_hidden_layers=layers))
    model.save_pretrained(folder)
    words.save_pretrained(folder)


def compare_devices(folder: str, rows: Any, device: str) -> None:
    """Print how far gradients and encodings on the device are from those on the CPU."""
    found = []
    for place in ("cpu", device):
        torch.manual_seed(0)
        model = TextPredictionModelWithGradiend.from_pretrained(folder, params=["*.0.*"], device="cpu")
        model.to(place)
        some = rows.head(8)
        texts, words = some["masked"].tolist(), some["label"].tolist()
        encoded = model.encode_texts(texts, words, words, source="factual", batch_size=8)
        found.append((model.create_gradients(texts[0], words[0]).cpu(), encoded.cpu()))
    for name, one, other in zip(("gradient", "encodings"), *found, strict=True):
        print(f"{name} on {device} against the CPU: relative difference {float((one - other).norm() / one.norm()):.1e}")


def time_training(folder: str, rows: Any, steps: int, options: dict[str, Any]) -> TextPredictionTrainer:
    """Print a line of seconds a step, and return the trainer."""
    name, arguments = next(iter(options.items()))
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    clock = Clock()
    with tempfile.TemporaryDirectory() as output:
        args = TrainingArguments(
            output_dir=output, train_batch_size=BATCH, max_steps=steps, learning_rate=1e-5, do_eval=False, max_seeds=1,
            min_convergent_seeds=1, **arguments,
        )  # fmt: skip
        trainer = TextPredictionTrainer(folder, data=rows, target_classes=["masculine", "feminine"], args=args)
        trainer.train(callbacks=[clock])
        trainer.get_model()
    print(f"{name:34}{clock.median_step()['seconds'] * 1e3:9.2f} ms a step{peak()}", flush=True)
    return trainer


def time_encoding(trainer: TextPredictionTrainer, name: str) -> None:
    """Print a line of seconds a row."""
    data = trainer.create_eval_data(trainer.get_model(), split="test", max_size=100)
    data.encode(trainer.get_model(), batch_size=32)
    taken = seconds(lambda: data.encode(trainer.get_model(), batch_size=32)) / len(data)
    print(f"{name:34}{taken * 1e3:9.2f} ms a row{peak()}", flush=True)


def peak() -> str:
    """The peak of the device's memory since the last reset."""
    if not torch.cuda.is_available():
        return ""
    return f", peak {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="whose tokenizer is used")
    parser.add_argument("rows", help="CSV with masked, label, label_class, split")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--causal", action="store_true")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000_000, 109_000_000])
    given = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"device: {torch.cuda.get_device_name() if device == 'cuda' else device}, torch {torch.__version__}")
    rows = read_rows(given.rows, 0)
    for n in given.sizes:
        for compiled in (False, True):
            print("fused: " if compiled else "plain: ", end="")
            measure(n, 9, compiled=compiled, device=device)
    with tempfile.TemporaryDirectory(prefix="gradiend_gpu_") as folder:
        make_model(folder, given.model, given.layers, causal=given.causal)
        compare_devices(folder, rows, device)
        for name, options in TRAININGS.items():
            trainer = time_training(folder, rows, given.steps, {name: options})
            if name in ("train, all entries", "train, 1 %"):
                time_encoding(trainer, name.replace("train", "encode"))
            del trainer


if __name__ == "__main__":
    main()
