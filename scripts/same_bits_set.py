"""The fixed set of `same_bits.py`: runs of the public API that write files and numbers into the current folder.

    python same_bits_set.py CASE [CASE …] [--models DIR]

Each case has a folder of its own. What calls return is written there too, in `results/`, so that files are all that is
to be compared. DIR is a folder of local models, data and a spaCy pipeline (see `same_bits.py`); what it lacks, and
everything without it, is done with the embedded model, or left out with a line that says so.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from gradiend import (
    ModelWithGradiend,
    PostPruneConfig,
    PrePruneConfig,
    TextFilterConfig,
    TextPredictionDataCreator,
    TextPredictionTrainer,
    TextPreprocessConfig,
    TrainingArguments,
    apply_delta,
)
from gradiend.demo import model_path, sentences
from gradiend.visualizer import compute_topk_sets

WORDS = {"3SG": ["he", "she", "it"], "3PL": ["they"]}
ARTICLES = {"masc_nom": ("der", "Nom", "Masc"), "fem_nom": ("die", "Nom", "Fem"), "masc_acc": ("den", "Acc", "Masc")}
LRS = [0.02, 0.1]


@dataclass(frozen=True)
class Local:
    """A folder of local models and data, as far as there is one."""

    root: Path | None

    def find(self, name: str) -> Path | None:
        """A file or folder in it."""
        path = None if self.root is None else self.root / name
        return path if path is not None and path.exists() else None

    def english(self, masked: bool = True) -> tuple[str, dict[str, Any]]:
        """A model, and rows of two classes with neutral texts; the embedded model and its texts if need be."""
        model = self.find("models/minilm-mlm" if masked else "models/gpt-small-en")
        rows, neutral = self.find("data/english_gender.csv"), self.find("data/english_neutral.csv")
        if model and rows and neutral:
            table = pd.read_csv(rows).groupby(["label_class", "split"], sort=True).head(24).reset_index(drop=True)
            texts = pd.read_csv(neutral).head(24)
            return str(model), {"data": table, "eval_neutral_data": texts, "target_classes": ["masculine", "feminine"]}
        created = embedded_creator("embedded/data")
        data: dict[str, Any] = {"data": created.generate_training_data(max_size_per_class=150)}
        data |= {"eval_neutral_data": created.generate_neutral_data(max_size=60), "target_classes": list(WORDS)}
        return embedded_model() if masked else random_causal_model("embedded/causal"), data


def embedded_creator(folder: str) -> TextPredictionDataCreator:
    """Rows in the language of the embedded model."""
    classes = [TextFilterConfig(targets=words, id=name) for name, words in WORDS.items()]
    return TextPredictionDataCreator(base_data=sentences(2000), feature_targets=classes, output_dir=folder)


def embedded_model(folder: str = "embedded/model") -> str:
    """A copy of the embedded model where both sides have it: its own folder is part of what caches digest."""
    if not Path(folder).is_dir():
        shutil.copytree(model_path(), folder)
    return folder


def random_causal_model(folder: str) -> str:
    """A GPT-2 with random weights and the embedded model's words, where there is no local causal model."""
    tokenizer = AutoTokenizer.from_pretrained(model_path())
    tokenizer.mask_token = None
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=64, n_layer=2, n_head=2, n_positions=128)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def keep(case: str, name: str, value: Any) -> None:
    """Write what a call returned: a frame as CSV, tensors as safetensors, anything else as JSON."""
    folder = Path(case) / "results"
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(value, pd.DataFrame):
        value.to_csv(folder / f"{name}.csv", index=False)
    elif isinstance(value, Mapping) and value and all(isinstance(one, torch.Tensor) for one in value.values()):
        tensors = {key: one.detach().clone().contiguous() for key, one in value.items()}
        save_file(tensors, folder / f"{name}.safetensors")
    else:
        (folder / f"{name}.json").write_text(json.dumps(plain(value), indent=1, ensure_ascii=False))


def plain(value: Any) -> Any:
    """A value as JSON has it; floats keep every bit."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(one) for one in value]
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, torch.Tensor | np.generic):
        return plain(value.tolist())
    if isinstance(value, pd.DataFrame):
        return plain(value.to_dict("records"))
    return value if isinstance(value, bool | int | float | str | None) else type(value).__name__


def trainer_of(case: str, model: str, data: Mapping[str, Any], **arguments: Any) -> TextPredictionTrainer:
    """A trainer of a few steps that writes into the folder of a case."""
    given: dict[str, Any] = {
        "experiment_dir": case,
        "train_batch_size": 8,
        "max_steps": 4,
        "eval_steps": 2,
        "learning_rate": 1e-3,
        "encoder_eval_train_max_size": 4,
        "encoder_eval_max_size": 8,
        "seed_selection_eval_max_size": 4,
        "decoder_eval_max_size_training_like": 8,
        "decoder_eval_max_size_neutral": 8,
        "decoder_eval_lrs": LRS,
        "max_seeds": 1,
    }
    return TextPredictionTrainer(model=model, **data, args=TrainingArguments(**(given | arguments)))


def everything(case: str, trainer: TextPredictionTrainer, *, grid: bool = True, save: bool = True) -> None:
    """Train, encode, measure rewrites, rewrite, export a delta and apply it, each with its files."""
    trainer.train()
    keep(case, "stats", trainer.get_training_stats())
    keep(case, "weights", trainer.get_model().gradiend.state_dict())
    keep(case, "data_summary", str(trainer.data_summary()))
    keep(case, "encoder", trainer.evaluate_encoder(return_df=True, plot=save, plot_kwargs={"show": False}))
    keep(case, "encoder_val", trainer.evaluate_encoder(split="validation", max_size=6))
    if not grid:
        return
    found = trainer.evaluate_decoder(plot=save, show=False)
    keep(case, "decoder", found)
    keep(
        case,
        "weaken",
        trainer.evaluate_decoder(lrs=LRS[:1], part="decoder-weight", increase_target_probabilities=False),
    )
    first, second = trainer.target_classes
    model = trainer.get_model()
    with apply_delta(model.base_model, model.export_delta(f"{case}/by_hand.safetensors", 0.1, strengthen=second), 0.5):
        keep(case, "half_way", dict(model.base_model.named_parameters()) if save else {})
    chosen = [name for name in (first, second) if found.get(name, {}).get("learning_rate") is not None]
    for name in chosen:
        trainer.export_delta(found, strengthen=name)
        if save:
            trainer.rewrite_base_model(found, strengthen=name, output_dir=f"{case}/rewritten/{name}")
    keep(case, "restored", dict(model.base_model.named_parameters()) if save else {})


def demo(case: str, _: Local) -> None:
    """`gradiend demo`."""
    subprocess.run([sys.executable, "-m", "gradiend", "demo", "--output", case], check=True)


def masked(case: str, local: Local) -> None:
    """A masked model, three seeds on 1 % of the entries; then a tenth of these."""
    pruned = PrePruneConfig(n_samples=16, topk=0.01, source="diff")
    model, data = local.english()
    seeds = {"max_seeds": 3, "min_convergent_seeds": None, "pre_prune_config": pruned}
    trainer = trainer_of(case, model, data, **seeds)
    everything(case, trainer, save=False)
    keep(case, "seeds", trainer.get_seed_report())
    trainer.post_prune(PostPruneConfig(topk=0.1))
    trainer.get_model().save_pretrained(f"{case}/post_pruned")
    loaded = ModelWithGradiend.from_pretrained(f"{case}/post_pruned")
    keep(case, "post_pruned", loaded.gradiend.state_dict())
    keep(case, "post_pruned_encoder", trainer.evaluate_encoder(exclude_params="*embeddings*"))
    keep(case, "topk", compute_topk_sets({"one": trainer.get_model(), "two": loaded}, topk=50, part="decoder-weight"))
    again = trainer_of(case, model, data, **seeds, use_cache=True).train()
    keep(case, "reused", {"reused": again.reused, "encoder": again.evaluate_encoder()["correlation"]})


def masked_all(case: str, local: Local) -> None:
    """A masked model, all entries of two layers, with factual source and an optimizer of plain Adam."""
    model, data = local.english()
    layers = ["*layer.0*", "*layer.1*"]
    everything(case, trainer_of(case, model, data, max_steps=4, params=layers, source="factual", optim="adam"))


def causal(case: str, local: Local) -> None:
    """A causal model as it is."""
    everything(case, trainer_of(case, *local.english(masked=False), learning_rate=1e-4))


def causal_head(case: str, local: Local) -> None:
    """A causal model with an auxiliary head that also reads to the right."""
    model, data = local.english(masked=False)
    trainer = trainer_of(case, model, data, learning_rate=1e-4)
    trainer.train_decoder_only_mlm_head(model, epochs=1, max_size=64)
    everything(case, trainer, save=False)


def identity(case: str, local: Local) -> None:
    """Two of several classes; words of the others are trained against themselves."""
    model, gold = local.find("models/german-bert-small"), local.find("data/german_articles_gold.csv")
    if not model or not gold:
        print(f"{case}: no German model or table; left out")
        return
    rows = pd.read_csv(gold)
    classes = ["masc_nom", "fem_nom", "neut_nom", "masc_acc"]
    rows = rows[rows["label_class"].isin(classes)].groupby(["label_class", "split"], sort=True).head(12)
    data = {"data": rows, "target_classes": classes[:2], "all_classes": classes}
    trainer = trainer_of(case, str(model), data, add_identity_for_other_classes=True)
    everything(case, trainer, save=False)
    keep(case, "all_classes", trainer.evaluate_encoder(return_df=True, split="validation"))


def variants(case: str, _: Local) -> None:
    """Other ways to train, on the embedded model."""
    model, data = Local(None).english()
    ways: dict[str, dict[str, Any]] = {
        "class_means": {"init": "class_means", "init_samples": 16, "max_steps": 0},
        "double": {"torch_dtype": "float64", "target": "alternative", "source": "diff"},
        "two_latents": {"latent_dim": 2, "activation_encoder": "gelu"},
        "supervised_encoder": {"supervised_encoder": True},
        "supervised_decoder": {"supervised_decoder": True, "convergent_score_threshold": 1.0},
        "kept_gradients": {"use_cached_gradients": True, "num_train_epochs": 2, "max_steps": -1, "train_max_size": 32},
        "pruned_after": {"post_prune_config": PostPruneConfig(topk=0.05), "save_strategy": "steps", "save_steps": 3},
    }
    for name, arguments in ways.items():
        trainer = trainer_of(f"{case}/{name}", model, data, **arguments).train()
        keep(f"{case}/{name}", "weights", trainer.get_model().gradiend.state_dict())
        if name != "supervised_decoder":
            keep(f"{case}/{name}", "encoder", trainer.evaluate_encoder(return_df=True))


def data(case: str, local: Local) -> None:
    """Rows and neutral texts from plain text, in all formats."""
    for form in ("per_class", "unified", "minimal"):
        creator = embedded_creator(f"{case}/{form}")
        keep(f"{case}/{form}", "rows", creator.generate_training_data(max_size_per_class=100, format=form))
    keep(case, "neutral", creator.generate_neutral_data(max_size=200, additional_excluded_words=["old"]))
    novels = local.find("data/english_novels.txt.gz")
    if novels:
        words = [TextFilterConfig(["he", "she"], id="one"), TextFilterConfig(["they"], id="several")]
        cut = TextPreprocessConfig(split_to_sentences=True, min_chars=20, max_chars=200)
        creator = TextPredictionDataCreator(
            str(novels),
            feature_targets=words,
            preprocess=cut,
            base_max_size=4000,
            output_dir=f"{case}/novels",
            output_format="parquet",
            use_cache=True,
        )
        keep(f"{case}/novels", "rows", creator.generate_training_data(format="unified", balance=False))
        keep(f"{case}/novels", "neutral", creator.generate_neutral_data(max_size=500))


def data_spacy(case: str, local: Local) -> None:
    """Rows of classes that only tags tell apart."""
    pipeline, captions = local.find("spacy/de_ud"), local.find("data/german_captions.txt.gz")
    if not pipeline or not captions:
        print(f"{case}: no German pipeline or text; left out")
        return
    tags = {"pos": "DET", "Number": "Sing"}
    classes = [
        TextFilterConfig(word, spacy_tags={**tags, "Case": form, "Gender": gender}, id=name)
        for name, (word, form, gender) in ARTICLES.items()
    ]
    creator = TextPredictionDataCreator(
        str(captions), spacy_model=str(pipeline), feature_targets=classes, base_max_size=1500, output_dir=case
    )
    keep(case, "rows", creator.generate_training_data(format="unified", min_rows_per_class_for_split=0))
    excluded = [{"pos": "PRON"}]
    keep(case, "neutral", creator.generate_neutral_data(max_size=100, excluded_spacy_tags=excluded))


CASES: dict[str, Callable[[str, Local], None]] = {
    function.__name__: function
    for function in (demo, masked, masked_all, causal, causal_head, identity, variants, data, data_spacy)
}


def main() -> None:
    """Run the cases that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", choices=CASES)
    parser.add_argument("--models", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in given.cases:
        start = sum(os.times()[:4])
        try:
            CASES[name](name, Local(given.models))
        except Exception as error:  # noqa: BLE001 # the other cases are to be compared all the same
            Path(name).mkdir(exist_ok=True)
            (Path(name) / "error.txt").write_text("".join(traceback.format_exception(error)))
            print(f"{name}: {type(error).__name__}: {error}")
        print(f"{name}: {sum(os.times()[:4]) - start:.0f} s of a processor", flush=True)


if __name__ == "__main__":
    main()
