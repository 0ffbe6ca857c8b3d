"""he or she: train a GRADIEND on your own masked or causal language model and table, and print what it found.

    python examples/he_she.py MODEL ROWS.csv NEUTRAL.csv --output runs/he_she

MODEL is a name or a folder; ROWS.csv has the columns masked, label, label_class (masculine, feminine) and split;
NEUTRAL.csv has a column text.

A causal model predicts the word from what stands left of it, which often does not tell he from she. Its correlation
then says that the encoder knows which of the two words is asked for, not that the model knew the answer. With
--mlm-head, an auxiliary head that also reads two tokens to the right is trained first, and gradients are those of its
loss; what is measured and rewritten is the causal model itself.
"""

from __future__ import annotations

import argparse

from gradiend import TextPredictionTrainer, TrainingArguments, setup_logging


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("rows")
    parser.add_argument("neutral")
    parser.add_argument("--output", default="runs/he_she")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--mlm-head", action="store_true", help="causal models: train an auxiliary head first")
    options = parser.parse_args()
    setup_logging()

    trainer = TextPredictionTrainer(
        model=options.model,
        data=options.rows,
        eval_neutral_data=options.neutral,
        eval_neutral_max_rows=500,
        target_classes=["masculine", "feminine"],
        args=TrainingArguments(
            experiment_dir=options.output,
            train_batch_size=16,
            max_steps=options.steps,
            learning_rate=1e-4,
            eval_steps=20,
            encoder_eval_train_max_size=50,
            seed_selection_eval_max_size=50,
            decoder_eval_max_size_training_like=100,
            decoder_eval_lrs="auto",
        ),
    )
    if options.mlm_head:
        trainer.train_decoder_only_mlm_head(options.model)
    trainer.train()
    encoder = trainer.evaluate_encoder(plot=True, plot_kwargs={"show": False})
    means = ", ".join(f"{name} {mean:+.3f}" for name, mean in encoder["mean_by_feature_class"].items())
    print(f"correlation on the test split: {encoder['correlation']:.3f}; class means: {means}")
    decoder = trainer.evaluate_decoder(plot=True, show=False)
    for name, other in (("masculine", "feminine"), ("feminine", "masculine")):
        row = decoder[name]
        if row["learning_rate"] is None:
            print(f"towards {name}: {row['reason']}")
            continue
        print(
            f"towards {name}, on {other} texts: P {row['base_value']:.3f} -> {row['value']:.3f} at learning rate "
            f"{row['learning_rate']:g}, {row['likelihood_ratio']['value']:.2%} of the likelihood kept"
        )


if __name__ == "__main__":
    main()
