"""A user's script, unchanged for one process or several: what each process finds goes to a JSON file."""

import json
import logging
import os
import signal
import sys
from pathlib import Path

import test_caching

from gradiend import PostPruneConfig, PrePruneConfig, TextPredictionTrainer, TrainingArguments
from gradiend.trainer import TrainingCallback


class Trouble(TrainingCallback):
    """Ends the second process at a step of the second seed."""

    only_watches = True

    def __init__(self, kind, step):
        self.kind, self.step = kind, step

    def on_step_end(self, step, *args, config=None, **kwargs):
        if step != self.step or config.seed != 1 or os.environ.get("RANK") != "1":
            return
        if self.kind == "fail":
            raise ValueError("no more steps in process 1")
        os.kill(os.getpid(), signal.SIGKILL if self.kind == "kill" else signal.SIGTERM)


def run(base, directory, *, fsdp=False, callbacks=(), only_trains=False):
    """Train two seeds, encode and, unless it only trains, measure rewrites, save one and export a delta."""
    logging.basicConfig()
    goes_on = []
    handler = logging.Handler()
    handler.emit = lambda record: goes_on.append(record) if "goes on after step" in record.getMessage() else None
    logging.getLogger("gradiend").addHandler(handler)
    logging.getLogger("gradiend").setLevel(logging.INFO)
    args = TrainingArguments(
        experiment_dir=str(directory), use_cache=True, train_batch_size=5, max_steps=12, learning_rate=1e-2,
        eval_steps=4, max_seeds=2, min_convergent_seeds=None, eval_batch_size=3, params=["*layer.1*"], save_steps=3,
        pre_prune_config=PrePruneConfig(n_samples=6, topk=0.3, batch_size=2),
        post_prune_config=PostPruneConfig(topk=0.5), fsdp=fsdp,
    )  # fmt: skip
    trainer = TextPredictionTrainer(
        model=base, data=test_caching.rows(), target_classes=["one", "many"], args=args,
        eval_neutral_data=test_caching.NEUTRAL,
    )  # fmt: skip
    trainer.train(callbacks=list(callbacks))
    encoder = trainer.evaluate_encoder(return_df=True)
    result = {"encoded": encoder["encoder_df"]["encoded"].tolist(), "resumed": bool(goes_on)}
    if only_trains:
        return result
    decoder = trainer.evaluate_decoder(lrs=test_caching.LRS, plot=False)
    found = trainer.evaluate_decoder(lrs="auto", plot=False, increase_target_probabilities=False)
    place = trainer.rewrite_base_model(decoder, target_class="one", output_dir=str(directory / "rewritten"))
    delta = trainer.export_delta(decoder, target_class="one", path=str(directory / "delta.safetensors"))
    return {
        **result,
        "correlation": encoder["correlation"],
        "seed": trainer.get_seed_report()["best_seed"],
        "grid": {repr(key): [entry["lms"], entry["probs_by_dataset"]] for key, entry in decoder["grid"].items()},
        "chosen": {name: decoder[name]["learning_rate"] for name in ("one", "many")},
        "found_steps": {name: found[f"{name}_weaken"]["learning_rate"] for name in ("one", "many")},
        "files": [Path(place).name, Path(delta).name],
    }


if __name__ == "__main__":
    base, directory = sys.argv[1], Path(sys.argv[2])
    given = dict(text.split("=") for text in sys.argv[3:])
    fsdp, only_trains = given.pop("fsdp", None) == "True", given.pop("only", None) == "train"
    result = run(
        base,
        directory,
        fsdp=fsdp,
        only_trains=only_trains,
        callbacks=[Trouble(kind, int(step)) for kind, step in given.items()],
    )
    Path(f"{directory}_{os.environ.get('RANK', '0')}.json").write_text(json.dumps(result))
