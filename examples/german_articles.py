"""German articles: four pairs of cells of the paradigm, each with the others as identity classes, then merged cases.

    python examples/german_articles.py MODEL ROWS.csv --output runs/german_articles

MODEL is a German masked language model; ROWS.csv has masked, label, label_class (masc_nom … neut_gen) and split. The
overlap of the four GRADIENDs' most important weights is drawn into topk_overlap.png.
"""

import argparse

from gradiend import (
    ModelWithGradiend,
    PrePruneConfig,
    TextPredictionTrainer,
    TrainingArguments,
    plot_topk_overlap_heatmap,
)

PAIRS = [("masc_nom", "fem_nom"), ("masc_nom", "neut_nom"), ("masc_acc", "fem_acc"), ("masc_dat", "fem_dat")]
CASES = {"nom": ["masc_nom", "fem_nom", "neut_nom"], "acc": ["masc_acc", "fem_acc", "neut_acc"]}


def report(trainer: TextPredictionTrainer) -> None:
    trainer.train()
    result = trainer.evaluate_encoder()
    means = ", ".join(f"{name} {mean:+.3f}" for name, mean in result["mean_by_feature_class"].items())
    pair = " against ".join(trainer.target_classes)
    print(
        f"{pair}: correlation {result['correlation']:.3f}, of the target classes "
        f"{result['target_classes_only']['correlation']:.3f}; class means: {means}\n",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("rows")
    parser.add_argument("--output", default="runs/german_articles")
    parser.add_argument("--steps", type=int, default=480)
    options = parser.parse_args()
    common = TrainingArguments(
        train_batch_size=8,
        max_steps=options.steps,
        eval_steps=120,
        learning_rate=1e-4,
        max_seeds=1,
        encoder_eval_train_max_size=10,
    )

    models: dict[str, ModelWithGradiend] = {}
    for pair in PAIRS:
        name = "-".join(pair)
        args = common.replace(
            experiment_dir=f"{options.output}/{name}",
            add_identity_for_other_classes=True,
            pre_prune_config=PrePruneConfig(n_samples=64, topk=0.1, source="diff"),
        )
        cells = TextPredictionTrainer(options.model, data=options.rows, target_classes=pair, args=args)
        if not models:
            print(cells.data_summary(options.model))
        report(cells)
        models[name] = cells.get_model()
    overlap = plot_topk_overlap_heatmap(models, topk=1000, output_path=f"{options.output}/topk_overlap.png", show=False)
    print("share of the top 1,000 weights in common, in %:")
    for name, row in zip(overlap["model_ids"], overlap["matrix"], strict=True):
        print(f"  {name:20} " + " ".join(f"{value:5.1f}" for value in row))

    args = common.replace(experiment_dir=f"{options.output}/cases")
    cases = TextPredictionTrainer(options.model, data=options.rows, class_merge_map=CASES, args=args)
    print(cases.combined_data.groupby(["transition", "factual", "alternative"]).size().to_string())
    report(cases)


if __name__ == "__main__":
    main()
