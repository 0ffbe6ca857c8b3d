"""A user's script, unchanged for one process or several: what it finds goes to a JSON file of each process."""

import json
import os
import sys
from pathlib import Path

import test_caching
import torch

from gradiend import PostPruneConfig, PrePruneConfig, TextPredictionTrainer, TrainingArguments


def run(base: str, directory: Path, **arguments: object) -> dict[str, object]:
    """Train two seeds, evaluate, rewrite and export a delta."""
    args = TrainingArguments(
        experiment_dir=str(directory), use_cache=True, train_batch_size=5, max_steps=12, learning_rate=1e-2,
        eval_steps=4, max_seeds=2, min_convergent_seeds=None, eval_batch_size=3,
        **arguments,
    )  # fmt: skip
    trainer = TextPredictionTrainer(
        model=base, data=test_caching.rows(), target_classes=["one", "many"], args=args,
        eval_neutral_data=test_caching.NEUTRAL,
    )  # fmt: skip
    trainer.train()
    encoder = trainer.evaluate_encoder(return_df=True)
    decoder = trainer.evaluate_decoder(lrs=test_caching.LRS, plot=False)
    auto = trainer.evaluate_decoder(lrs="auto", plot=False, increase_target_probabilities=False)
    path = trainer.rewrite_base_model(decoder, target_class="one", output_dir=str(directory / "rewritten"))
    delta = trainer.export_delta(decoder, target_class="one", path=str(directory / "delta.safetensors"))
    return {
        "encoded": encoder["encoder_df"]["encoded"].tolist(), "correlation": encoder["correlation"],
        "grid": {repr(key): [entry["lms"], entry["probs_by_dataset"]] for key, entry in decoder["grid"].items()},
        "chosen": {name: decoder[name]["learning_rate"] for name in ("one", "many")},
        "auto": {name: auto[f"{name}_weaken"]["learning_rate"] for name in ("one", "many")},
        "paths": [str(path), str(delta)],
    }  # fmt: skip


if __name__ == "__main__":
    base, directory = sys.argv[1], Path(sys.argv[2])
    more = dict(text.split("=") for text in sys.argv[3:])
    given = {"pre": PrePruneConfig(n_samples=6, topk=0.3, batch_size=2), "post": PostPruneConfig(topk=0.5)}
    found = run(
        base,
        directory,
        params=["*layer.1*"],
        pre_prune_config=given["pre"],
        post_prune_config=given["post"],
        **{name: value == "True" for name, value in more.items()},
    )
    found["threads"] = torch.get_num_threads()
    Path(f"{directory}_{os.environ.get('RANK', '0')}.json").write_text(json.dumps(found))
