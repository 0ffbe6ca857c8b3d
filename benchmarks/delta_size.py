"""Size, time and effect of deltas, from all weights of a model down to a few: he/she, rewritten towards "he".

    python benchmarks/delta_size.py MODEL ROWS.csv NEUTRAL.csv

MODEL is the folder of a masked language model; ROWS.csv has the columns masked, label, label_class (masculine,
feminine) and split; NEUTRAL.csv has a column text. A GRADIEND over all weights is trained for a few steps and pruned by
its decoder weights; the rewrite of each is exported as a delta, applied and undone.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from gradiend import TextPredictionTrainer, TrainingArguments, apply_delta, read_delta

RATES = {1.0: 0.2, 0.1: 0.3, 0.01: 1.0, 0.001: 1.5, 0.0001: 2.0}
"""Share of the entries that are kept → learning rate."""
MIB = 2**20


def main() -> None:
    """Train, prune, export, apply, measure, undo; one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("rows")
    parser.add_argument("neutral")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--dtype", default="float32", help="of the base model while it is rewritten")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as directory:
        arguments = TrainingArguments(
            experiment_dir=directory,
            train_batch_size=16,
            max_steps=options.steps,
            max_seeds=1,
            learning_rate=1e-4,
            eval_steps=options.steps,
            encoder_eval_train_max_size=50,
        )
        trainer = TextPredictionTrainer(
            options.model, data=options.rows, eval_neutral_data=options.neutral,
            target_classes=["masculine", "feminine"], args=arguments,
        )  # fmt: skip
        model = trainer.train().get_model()
        base = model.base_model.to(getattr(torch, options.dtype))
        base.save_pretrained(Path(directory) / "full")
        full = sum(path.stat().st_size for path in (Path(directory) / "full").glob("*.safetensors"))
        before = {name: parameter.detach().clone() for name, parameter in base.named_parameters()}

        def measured() -> tuple[float, float]:
            result = trainer.evaluate_base_model(
                base, model.tokenizer, max_size_training_like=100, max_size_neutral=300
            )
            return result["probs"]["feminine"], result["lms"]["lms"]

        print(f"{options.dtype}: {len(model)} entries in the map; the whole model takes {full / MIB:.1f} MiB\n")
        print(
            f"{'kept':<7}{'learning rate':>16}{'values stored':>16}{'size':>12}{'of the model':>15}"
            f"{'apply':>9}{'undo':>8}{'P(he) on she texts':>21}{'LMS':>9}"
        )
        probability, lms = measured()
        print(f"{'base':<83}{probability:>21.3f}   {lms:.4f}")
        for kept, rate in RATES.items():
            pruned = model.prune_gradiend(topk=kept, inplace=False) if kept < 1 else model
            path = pruned.export_delta(f"{directory}/{kept}.safetensors", rate, -1.0)
            size, stored = Path(path).stat().st_size, read_delta(path).num_entries
            start = time.perf_counter()
            applied = apply_delta(base, path)
            after = time.perf_counter()
            probability, lms = measured()
            last = time.perf_counter()
            applied.undo()
            end = time.perf_counter()
            assert all(torch.equal(parameter, before[name]) for name, parameter in base.named_parameters())
            print(
                f"{kept:<7g}{rate:>16g}{stored:>16}{size / MIB:>8.2f} MiB{100 * size / full:>13.2f} %"
                f"{1000 * (after - start):>6.0f} ms{1000 * (end - last):>5.0f} ms{probability:>21.3f}   {lms:.4f}"
            )


if __name__ == "__main__":
    main()
