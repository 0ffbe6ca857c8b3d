"""Draw the images of README and docs/plots.md from what `gradiend demo --output runs/demo` wrote.

    python scripts/draw_documentation_images.py runs/demo docs/images

Those of the README are the demo's own. The overlap of top-k weights needs several models: GRADIENDs of three seeds are
trained on the rows of the demo, which takes a minute. The picture of the report needs Chromium.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import pandas as pd
from check_report import check, find_browser
from PIL import Image

from gradiend import TextPredictionTrainer, TrainingArguments, plot_topk_overlap_heatmap, plot_topk_overlap_venn
from gradiend.demo import model_path
from gradiend.visualizer import plot_encoder_distributions

CLASSES = ["3SG", "3PL"]
SEEDS = 3
TOPK = 1000
OF_THE_DEMO = {
    "probability_shifts.png": "demo_probability_shifts.png", "encoder_analysis.png": "demo_encodings.png",
    "balance.png": "demo_balance.png",
}  # fmt: skip

REPORT_HEIGHT = 2010
"""Pixels of the report that its picture shows: to the end of the encodings."""


def train_seeds(rows: Path, directory: str) -> TextPredictionTrainer:
    return TextPredictionTrainer(
        model=str(model_path()),
        data=str(rows),
        target_classes=CLASSES,
        args=TrainingArguments(
            experiment_dir=directory,
            train_batch_size=16,
            max_steps=100,
            learning_rate=1e-3,
            eval_steps=50,
            encoder_eval_train_max_size=40,
            seed_selection_eval_max_size=40,
            max_seeds=SEEDS,
            min_convergent_seeds=SEEDS,
            keep_seed_runs=True,
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path)
    parser.add_argument("images", type=Path)
    options = parser.parse_args()

    for drawn, name in OF_THE_DEMO.items():
        shutil.copyfile(options.demo / drawn, options.images / name)
    browser = find_browser()
    if browser is not None:
        with tempfile.TemporaryDirectory() as shots:
            check(options.demo / "report.html", browser, Path(shots), REPORT_HEIGHT)
            picture = Image.open(Path(shots) / "report_wide_light.png").convert("RGB").quantize(256)
            picture.save(options.images / "demo_report.png", optimize=True)
    with tempfile.TemporaryDirectory() as directory:
        trainer = train_seeds(options.demo / "data" / "training.csv", directory)
        plot_encoder_distributions(
            trainer,
            pd.read_csv(options.demo / "encoded_values_split_test.csv"),
            output=options.images / "encodings_split",
            title="he/she/it and they",
            paired_legend_labels=["3SG -> 3PL", "3PL -> 3SG"],
            legend_group_mapping={"neutral text": ["neutral_training_masked", "neutral_dataset"]},
            legend_name_mapping={"3SG": "he/she/it", "3PL": "they"},
            dpi=80,
            show=False,
        )
        models = {f"seed {seed}": model for seed, model in trainer.train().items()}
        correlations = {
            name: trainer.evaluate_encoder(model, max_size=100)["correlation"] for name, model in models.items()
        }
        overlap = plot_topk_overlap_heatmap(
            models,
            topk=TOPK,
            row_metric=correlations,
            output_path=options.images / "topk_overlap",
            show=False,
        )
        shared = plot_topk_overlap_venn(models, topk=TOPK, output_path=options.images / "topk_venn", show=False)
        names = overlap["model_ids"]
        print(f"Of the top {TOPK:,} weights of {len(names)} seeds, {len(shared['intersection']):,} are common to all.")
        for name, row in zip(names, overlap["matrix"], strict=True):
            shares = ", ".join(f"{other} {share:.1f} %" for other, share in zip(names, row, strict=True))
            print(f"{name} (correlation {correlations[name]:.3f}): {shares}")


if __name__ == "__main__":
    main()
