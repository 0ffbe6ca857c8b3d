"""Three seeds of a pruned GRADIEND for he and she: what pruning costs, and what it saves.

    python examples/pruned_seeds.py MODEL ROWS.csv NEUTRAL.csv --output runs/pruned_seeds

MODEL is a name or a folder; ROWS.csv has the columns masked, label, label_class (masculine, feminine) and split;
NEUTRAL.csv has a column text. Three rows are printed: all entries of the model (one seed); 1 % of them, chosen by
gradients before training (the best of three seeds); and a tenth of those, chosen by weights after it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gradiend import PostPruneConfig, PrePruneConfig, TextPredictionTrainer, TrainingArguments

LRS = [0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]


def size_in_mib(directory: str) -> float:
    return sum(path.stat().st_size for path in Path(directory).rglob("*") if path.is_file()) / 2**20


def describe(name: str, trainer: TextPredictionTrainer, directory: str) -> str:
    encoder = trainer.evaluate_encoder()
    bare = trainer.evaluate_encoder(exclude_params="*embeddings*")
    interval = encoder["correlation_interval"]
    shown = "not estimable" if interval is None else f"{interval['low']:.4f}, {interval['high']:.4f}"
    means = " / ".join(f"{encoder['mean_by_feature_class'][c]:+.2f}" for c in trainer.target_classes)
    decoder = trainer.evaluate_decoder(lrs=LRS)
    shifts = []
    for target in trainer.target_classes:
        if target in decoder:
            row = decoder[target]
            shifts.append(f"{row['base_value']:.3f} → {row['value']:.3f} (LMS {row['lms'] / row['base_lms']:.3f})")
        else:
            shifts.append("no step keeps the LMS")
    size = size_in_mib(directory)
    return (
        f"| {name} | {len(trainer.get_model()):,} | {size:.1f} MiB | {encoder['correlation']:.4f} "
        f"[{shown}] | {bare['correlation']:.4f} | {means} | {' | '.join(shifts)} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("rows")
    parser.add_argument("neutral")
    parser.add_argument("--output", default="runs/pruned_seeds")
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    print("| entries | n | checkpoint | correlation [95 %] | without embeddings | means | P(masculine) | P(feminine) |")
    print("|---|---|---|---|---|---|---|---|")
    for seeds, pruning in ((1, None), (3, PrePruneConfig(n_samples=64, topk=0.01, source="diff"))):
        args = TrainingArguments(
            experiment_dir=f"{options.output}/{'all' if pruning is None else 'pruned'}",
            train_batch_size=16,
            max_steps=options.steps,
            learning_rate=1e-4,
            eval_steps=options.steps // 2,
            encoder_eval_train_max_size=50,
            seed_selection_eval_max_size=50,
            decoder_eval_max_size_training_like=100,
            max_seeds=seeds,
            min_convergent_seeds=None,
            pre_prune_config=pruning,
        )
        trainer = TextPredictionTrainer(
            options.model, data=options.rows, eval_neutral_data=options.neutral, eval_neutral_max_rows=500,
            target_classes=["masculine", "feminine"], args=args,
        )  # fmt: skip
        trainer.train()
        print(describe("all" if pruning is None else "1 %, pre-pruned", trainer, trainer.model_path), flush=True)
    trainer.post_prune(PostPruneConfig(topk=0.1))
    directory = f"{options.output}/post_pruned"
    trainer.get_model().save_pretrained(directory)
    print(describe("0.1 %, post-pruned", trainer, directory))


if __name__ == "__main__":
    main()
