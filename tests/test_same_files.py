"""Bytes of files: a run gives the same twice, and beside rewritten weights lies what transformers itself writes."""

import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import tiny_data
import torch

from gradiend import ModelWithGradiend, PostPruneConfig, PrePruneConfig

HOLD_TIMES_OR_PLACES = {"training.json", "seed_report.json", "gradiend_rewrite.json"}
"""Files of a run that hold seconds, or the absolute paths of other files of the run."""


def whole_run(base, root):
    """A training on two seeds, with pruning before and after; both evaluations, rewrites and deltas."""
    args = {
        "experiment_dir": str(root / "runs"),
        "pre_prune_config": PrePruneConfig(n_samples=8, topk=0.05),
        "post_prune_config": PostPruneConfig(topk=0.5),
        "max_seeds": 2,
        "min_convergent_seeds": None,
        "save_strategy": "steps",
        "save_steps": 2,
    }
    trainer = tiny_data.trainer(base, args, run_id="run").train()
    trainer.evaluate_encoder()
    results = trainer.evaluate_decoder(lrs=[1.0, 10.0])
    for name in ("SG", "PL"):
        trainer.rewrite_base_model(results, name, output_dir=str(root / name))
    trainer.export_delta(results, ["SG", "PL"])
    trainer.get_model().export_delta(str(root / "by_hand"), 1.0, -1.0)


def contents(root):
    """Name → bytes of the files below a folder."""
    return {str(file.relative_to(root)): file.read_bytes() for file in sorted(root.rglob("*")) if file.is_file()}


def test_the_same_run_gives_the_same_bytes_in_another_folder_and_process(tmp_path):
    base = tiny_data.save_bert(tmp_path / "bert")
    for name in ("first", "another one"):
        (tmp_path / name).mkdir()
    whole_run(base, tmp_path / "first")
    code = "import sys, pathlib, test_same_files as t; t.whole_run(sys.argv[1], pathlib.Path(sys.argv[2]))"
    command = [sys.executable, "-c", code, base, str(tmp_path / "another one")]
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(command, check=True, env=environment)
    first, again = contents(tmp_path / "first"), contents(tmp_path / "another one")
    assert first.keys() == again.keys()
    compared = [name for name in first if Path(name).name not in HOLD_TIMES_OR_PLACES]
    assert [(name, first[name], again[name]) for name in compared if first[name] != again[name]] == []
    for kept in ("SG/config.json", "SG/tokenizer.json", "runs/run/deltas/PL.safetensors", "runs/run/model/config.json"):
        assert kept in first


# Beside a rewritten model


def of_caller(name, dtype):
    """A model and a tokenizer as a caller may hold them: other padding, a length limit, settings for generation."""
    family = tiny.FAMILIES[name]
    model, tokenizer = family.build(dtype=dtype), family.tokenizer()
    tokenizer.padding_side = tokenizer.truncation_side = "left"
    tokenizer.backend_tokenizer.enable_truncation(7, direction="left")
    tokenizer.backend_tokenizer.enable_padding(pad_id=1, pad_token=tokenizer.convert_ids_to_tokens(1), length=9)
    tokenizer.chat_template = "{{ messages[0].content }}"
    if family.causal:
        model.generation_config.max_new_tokens = 17
        model.generation_config.do_sample = True
        model.config.use_cache = True
    return model, tokenizer


def without_weights(directory):
    """Name → bytes of what lies beside a model's weights, our record and card excepted."""
    found = contents(Path(directory))
    ours = ("model.safetensors", "gradiend_rewrite.json", "README.md")
    return {name: found[name] for name in found if name not in ours}


FAST = {("bert", torch.float32, False), ("gpt2", torch.bfloat16, True)}
CALLERS = list(itertools.product(("bert", "gpt2", "roberta", "llama"), (torch.float32, torch.bfloat16), (False, True)))


@pytest.mark.parametrize(
    ("name", "dtype", "by_name"),
    [pytest.param(*one, marks=() if one in FAST else pytest.mark.slow) for one in CALLERS],
    ids=str,
)
def test_beside_rewritten_weights_lies_what_transformers_writes(name, dtype, by_name, tmp_path):
    model, tokenizer = of_caller(name, dtype)
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "base")
    given = str(tmp_path / "base") if by_name else model
    if by_name:
        model = type(model).from_pretrained(given, dtype=dtype)
        tokenizer = type(tokenizer).from_pretrained(given)
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "plain")
    state = tokenizer.backend_tokenizer.to_str()
    settings = {} if by_name else {"tokenizer": tokenizer}
    loaded = ModelWithGradiend.from_pretrained(given, **settings, base_model_dtype=dtype if by_name else None)
    trainer = tiny_data.trainer(loaded, {"experiment_dir": str(tmp_path / "runs")}).train()
    trainer.evaluate_encoder()
    trainer.evaluate_decoder(lrs=[10.0])
    chosen = {"SG": {"learning_rate": 10.0, "feature_factor": 1.0}}
    path = trainer.rewrite_base_model(chosen, "SG", output_dir=str(tmp_path / "rewritten"))
    assert without_weights(path) == without_weights(tmp_path / "plain")
    assert tokenizer.backend_tokenizer.to_str() == state
    shutil.rmtree(path)
    # And as a user saves it.
    trainer.get_model().rewrite_base_model(10.0, 1.0).save_pretrained(path)
    loaded.tokenizer.save_pretrained(path)
    assert without_weights(path) == without_weights(tmp_path / "plain")
