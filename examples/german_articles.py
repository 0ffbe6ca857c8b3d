"""German articles: two cells of the paradigm against each other with the others as identity classes, then merged cases.

    python examples/german_articles.py MODEL ROWS.csv

MODEL is a German masked language model; ROWS.csv has masked, label, label_class (masc_nom … neut_gen) and split.
"""

import argparse

from gradiend import TextPredictionTrainer, TrainingArguments

CASES = {"nom": ["masc_nom", "fem_nom", "neut_nom"], "acc": ["masc_acc", "fem_acc", "neut_acc"]}


def report(trainer: TextPredictionTrainer) -> None:
    trainer.train()
    result = trainer.evaluate_encoder()
    means = ", ".join(f"{name} {mean:+.3f}" for name, mean in result["mean_by_feature_class"].items())
    print(
        f"correlation {result['correlation']:.3f}, of the target classes "
        f"{result['target_classes_only']['correlation']:.3f}; class means: {means}\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("rows")
    parser.add_argument("--steps", type=int, default=96)
    options = parser.parse_args()
    common = {
        "train_batch_size": 8,
        "max_steps": options.steps,
        "eval_steps": 24,
        "learning_rate": 1e-4,
        "max_seeds": 1,
    }

    args = TrainingArguments(add_identity_for_other_classes=True, **common)
    cells = TextPredictionTrainer(options.model, data=options.rows, target_classes=["masc_nom", "fem_nom"], args=args)
    print(cells.data_summary(options.model))
    report(cells)

    args = TrainingArguments(**common)
    cases = TextPredictionTrainer(options.model, data=options.rows, class_merge_map=CASES, args=args)
    print(cases.combined_data.groupby(["transition", "factual", "alternative"]).size().to_string())
    report(cases)


if __name__ == "__main__":
    main()
