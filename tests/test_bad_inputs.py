"""Bad inputs, made from the signatures of the public API: each works as documented, or is an error that says why.

For every parameter of every call, values are taken by its annotation: a wrong type, a number that is undefined,
negative or huge, an empty or nested collection, a path that is none. An error is of a documented type, is raised in
this package and not in a library below it, and names the parameter or the value.
"""

from __future__ import annotations

import copy
import inspect
import itertools
import logging
import math
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import tiny_data
import torch

import gradiend
from gradiend.evaluator import LikelihoodPolicy, LMSThresholdPolicy, LMSTimesMetricPolicy
from gradiend.util._files import UnwrittenError
from gradiend.visualizer import (
    plot_balance,
    plot_encoder_distributions,
    plot_encoder_scatter,
    plot_probability_shifts,
    plot_side_effects,
    plot_topk_overlap_heatmap,
    plot_topk_overlap_venn,
    plot_training_convergence,
)

ALLOWED = (TypeError, ValueError, KeyError, FileNotFoundError, AssertionError, UnwrittenError)
OURS = (str(Path(gradiend.__file__).parent), __file__)
HUGE = 10**30
TEXT = "the old nurse was near the door and then [MASK] saw the bread ."

VALUES: dict[str, list[Any]] = {
    "int": [2.5, "10", True, -1, HUGE, math.nan, [1]],
    "float": ["0.5", math.nan, math.inf, -1.0, [0.1], True, HUGE],
    "str": [3, b"x", "", " ", "no such value", ["a"], "a\0b", "\ud800"],
    "bool": ["yes", 2, math.nan],
    "Sequence": ["text", 3, [3, None], [[["a"]]], {"a", "b"}, {"a": 1}, []],
    "Mapping": [[1], "text", {1: 2}, {"a": None}, {"a": {"b": [[]]}}, {}],
    "Path": [3, "", "a\0b", "/proc/none/x", "a" * 300, "no/such/place"],
    "Callable": [3, "name", None],
    "Tensor": [[1], torch.zeros(2, 2, 2), torch.full((3,), math.nan), torch.zeros(0), "text"],
    "DataFrame": [{"a": 1}, "text", pd.DataFrame(), pd.DataFrame({"x": [None]}), [[1]]],
    "dtype": ["float33", int, 3, torch.int8],
    "Device": ["no such device", -7, 2.5, ["cpu"]],
    "Literal": ["no such value", 3],
    "Any": [3, math.nan, "no such value", [], [[3]], {"a": 1}],
}  # fmt: skip
ALWAYS = [object()]


@dataclass
class Call:
    """A public call that works, with arguments of which one is replaced by a bad value."""

    name: str
    function: Callable[..., Any]
    given: dict[str, Any]
    signature: inspect.Signature
    skipped: tuple[str, ...] = ()

    def cases(self) -> Iterator[tuple[str, Any]]:
        """(parameter, bad value) for each parameter, and an unknown keyword."""
        for name, parameter in self.signature.parameters.items():
            if name in ("self", "cls", *self.skipped) or parameter.kind is parameter.VAR_POSITIONAL:
                continue
            if parameter.kind is not parameter.VAR_KEYWORD:
                for value in values_for(str(parameter.annotation)):
                    yield name, value
        yield "no_such_keyword", 1


def values_for(annotation: str) -> list[Any]:
    """Bad values for an annotation, each once."""
    chosen = [value for kind, values in VALUES.items() if kind in annotation for value in values]
    if "PathLike" in annotation or "BaseData" in annotation:
        chosen += VALUES["Path"]
    return list({repr(value): value for value in [*chosen, *ALWAYS, None]}.values())


@dataclass
class World:
    """What the calls are made on."""

    folder: Path
    base: Any
    model: Any
    trainer: Any
    results: Any
    encodings: Any


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    trainer = tiny_data.trainer(tiny_data.save_bert(folder / "base"), {"experiment_dir": str(folder / "experiment")})
    trainer.train()
    model = trainer.get_model()
    results = trainer.evaluate_decoder(lrs=[0.5], selector=LMSThresholdPolicy(ratio=0.0), target_class="SG")
    encodings = trainer.evaluate_encoder(split="test", return_df=True)["encoder_df"]
    return World(folder, model.base_model, model, trainer, results, encodings)


def of(name: str, function: Callable[..., Any], given: dict[str, Any] | None = None, *skipped: str) -> Call:
    return Call(name, function, given or {}, inspect.signature(function), skipped)


def constructors(world: World) -> list[Call]:
    mapped = world.model.gradiend
    rows = tiny_data.rows()
    targets = [gradiend.TextFilterConfig("he"), gradiend.TextFilterConfig("they")]
    return [
        of("TrainingArguments", gradiend.TrainingArguments),
        of("TrainerConfig", gradiend.TrainerConfig),
        of("TextPredictionConfig", gradiend.TextPredictionConfig),
        of("PrePruneConfig", gradiend.PrePruneConfig, {"topk": 0.5}),
        of("PostPruneConfig", gradiend.PostPruneConfig, {"topk": 0.5}),
        of("LRSearchConfig", gradiend.LRSearchConfig),
        of("TextFilterConfig", gradiend.TextFilterConfig, {"targets": "he"}),
        of("TextPreprocessConfig", gradiend.TextPreprocessConfig),
        of("TextPredictionDataCreator", gradiend.TextPredictionDataCreator,
           {"base_data": ["He left ."], "feature_targets": targets, "output_dir": str(world.folder / "made")}),
        of("TextPredictionTrainer", gradiend.TextPredictionTrainer,
           {"model": world.model, "data": rows, "target_classes": ["SG", "PL"]}),
        of("GradiendModel", gradiend.GradiendModel, {"input_dim": 6, "latent_dim": 1}),
        of("ParamMappedGradiendModel", gradiend.ParamMappedGradiendModel,
           {"input_dim": len(mapped), "latent_dim": 1, "param_map": mapped.mapping}),
        of("ModelWithGradiend", type(world.model),
           {"base_model": world.base, "gradiend": mapped, "tokenizer": world.model.tokenizer}),
        of("ModelWithGradiend.from_pretrained", gradiend.ModelWithGradiend.from_pretrained,
           {"load_directory": world.base, "tokenizer": world.model.tokenizer}),
        of("LMSThresholdPolicy", LMSThresholdPolicy),
        of("LikelihoodPolicy", LikelihoodPolicy),
        of("LMSTimesMetricPolicy", LMSTimesMetricPolicy),
        of("GradientTrainingDataset", gradiend.GradientTrainingDataset,
           {"training_data": [], "gradient_creator": world.model}),
    ]  # fmt: skip


def functions(world: World) -> list[Call]:
    delta = world.model.export_delta(world.folder / "delta.safetensors", 1.0, 1.0)
    base, rewritten = world.base, world.model.rewrite_base_model(1.0, 1.0)
    return [
        of("apply_delta", gradiend.apply_delta, {"model": copy.deepcopy(base), "path": delta, "strength": 0.0}),
        of("export_delta", gradiend.export_delta,
           {"base_model": base, "rewritten": rewritten, "path": world.folder / "other"}),
        of("read_delta", gradiend.read_delta, {"path": delta}),
        of("read_rewrite_record", gradiend.read_rewrite_record, {"directory": world.folder}),
        of("load_training_stats", gradiend.load_training_stats, {"model_path": world.trainer.model_path}),
        of("preprocess_texts", gradiend.preprocess_texts, {"texts": ["He left ."]}),
        of("resolve_base_data", gradiend.resolve_base_data, {"source": ["He left ."]}),
        of("set_seed", gradiend.set_seed, {"seed": 0}),
        of("get_logger", gradiend.get_logger, {"name": "gradiend"}),
        of("create_model_with_gradiend", gradiend.create_model_with_gradiend,
           {"model": base, "model_class": type(world.model), "tokenizer": world.model.tokenizer}),
    ]  # fmt: skip


def methods(world: World) -> list[Call]:
    model, trainer = world.model, world.trainer
    network = model.gradiend
    rewrite = {"decoder_results": world.results, "target_class": "SG"}
    return [
        of("GradiendModel.prune", network.prune, {"topk": 0.5}, "inplace"),
        of("GradiendModel.get_topk_weights", network.get_topk_weights),
        of("GradiendModel.get_weight_importance", network.get_weight_importance),
        of("GradiendModel.get_update_vector", network.get_update_vector),
        of("GradiendModel.forward_encoder", network.forward_encoder, {"x": torch.zeros(len(network))}),
        of("GradiendModel.forward_decoder", network.forward_decoder, {"h": torch.zeros(1)}),
        of("GradiendModel.save_pretrained", copy.deepcopy(network).save_pretrained,
           {"save_directory": world.folder / "saved"}),
        of("GradiendModel.from_pretrained", gradiend.ParamMappedGradiendModel.from_pretrained,
           {"load_directory": trainer.model_path}),
        of("ModelWithGradiend.encode", model.encode, {"input": TEXT, "label": "she"}),
        of("ModelWithGradiend.create_gradients", model.create_gradients, {"text": TEXT, "label": "she"}),
        of("ModelWithGradiend.mask_and_encode", model.mask_and_encode, {"text": "the old nurse ."}),
        of("ModelWithGradiend.rewrite_base_model", model.rewrite_base_model,
           {"learning_rate": 1.0, "feature_factor": 1.0}),
        of("ModelWithGradiend.export_delta", model.export_delta,
           {"path": world.folder / "d", "learning_rate": 1.0, "feature_factor": 1.0}),
        of("ModelWithGradiend.prune_gradiend", model.prune_gradiend, {"topk": 0.5, "inplace": False}, "inplace"),
        of("ModelWithGradiend.get_enhancer_mask", model.get_enhancer_mask, {"topk": 3}),
        of("ModelWithGradiend.get_topk_weights", model.get_topk_weights),
        of("ModelWithGradiend.set_target", copy.copy(model).set_target, {"target": "diff"}),
        of("ModelWithGradiend.save_pretrained", model.save_pretrained, {"save_directory": str(world.folder / "model")}),
        of("Trainer.evaluate_encoder", trainer.evaluate_encoder, {"encoder_df": world.encodings}, "plot_kwargs"),
        of("Trainer.evaluate_decoder", trainer.evaluate_decoder,
           {"lrs": [0.5], "target_class": "SG", "use_cache": True}),
        of("Trainer.rewrite_base_model", trainer.rewrite_base_model, rewrite),
        of("Trainer.export_delta", trainer.export_delta, {**rewrite, "path": str(world.folder / "deltas")}),
        of("Trainer.encode", trainer.encode, {"max_size": 2}),
        of("Trainer.evaluate_side_effects", trainer.evaluate_side_effects, {**rewrite, "use_cache": True}),
        of("Trainer.create_training_data", trainer.create_training_data, {"model_or_tokenizer": model}),
        of("Trainer.create_eval_data", trainer.create_eval_data, {"model_with_gradiend": model}),
        of("Trainer.load_model", trainer.load_model, {"load_directory": trainer.model_path}),
        of("Trainer.get_training_stats", trainer.get_training_stats),
    ]  # fmt: skip


def plots(world: World) -> list[Call]:
    quiet = {"show": False}
    models = {"a": world.model, "b": world.model}
    place = {"output": str(world.folder / "plot.png"), **quiet}
    path = {"output_path": str(world.folder / "plot.png"), **quiet}
    return [
        of("plot_topk_overlap_heatmap", plot_topk_overlap_heatmap, {"models": models, **path}, "ax", "vmin", "vmax"),
        of("plot_topk_overlap_venn", plot_topk_overlap_venn, {"models": models, **path}),
        of("plot_encoder_distributions", plot_encoder_distributions,
           {"trainer": world.trainer, "encoder_df": world.encodings, **place}),
        of("plot_encoder_scatter", plot_encoder_scatter,
           {"encoder_df": world.encodings, "output_path": str(world.folder / "plot.html"), **quiet}),
        of("plot_probability_shifts", plot_probability_shifts,
           {"trainer": world.trainer, "decoder_results": world.results, "target_class": "SG", **place}),
        of("plot_training_convergence", plot_training_convergence, {"trainer": world.trainer, **place}),
        of("plot_balance", plot_balance, {"decoder_results": world.results, **place}),
        of("plot_side_effects", plot_side_effects, {**place}),
    ]  # fmt: skip


GROUPS = {"constructors": constructors, "functions": functions, "methods": methods, "plots": plots}


def fault(call: Call, name: str, value: Any) -> str | None:
    """What is wrong with the outcome of a call with a bad value; None if it works or explains itself."""
    start = time.perf_counter()
    try:
        call.function(**{**call.given, name: value})
        problem = None
    except Exception as error:  # noqa: BLE001 - the error is what is tested
        problem = fault_of(error, [*call.signature.parameters, name], value)
    finally:
        plt.close("all")
    seconds = time.perf_counter() - start
    return f"it takes {seconds:.1f} s" if seconds > 5 else problem


def leaves(value: Any) -> Iterator[Any]:
    """A value and what is in it."""
    yield value
    if isinstance(value, (list, set, dict, bytes)):
        for part in [*value, *(value.values() if isinstance(value, dict) else ())]:
            yield from leaves(part)


def fault_of(error: Exception, names: list[str], value: Any) -> str | None:
    frames = traceback.extract_tb(error.__traceback__)
    said, kind = str(error), type(error).__name__
    where = f"{kind} in {frames[-1].filename}:{frames[-1].lineno}: {said[:150]}"
    if not isinstance(error, ALLOWED):
        return f"another type, {where}"
    if isinstance(error, (FileNotFoundError, UnwrittenError)) and "site-packages" not in frames[-1].filename:
        return None
    if not frames[-1].filename.startswith(OURS):
        return f"raised in a library, {where}"
    shown = [said_so for one in leaves(value) for said_so in (repr(one)[:40], str(one)[:40], type(one).__name__)]
    named = [*names, *(name.replace("_", " ") for name in names), *shown]
    if not said or not any(one in said for one in named if one.strip()):
        return f"it names neither argument nor value, {where}"
    return None


SAMPLED = {"methods": 4, "plots": 16}
"""Group of calls that take long → of how many cases one is tried every day."""


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder for what is written to relative paths; nothing is logged or shown."""
    monkeypatch.chdir(tmp_path)
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def faults(world: World, group: str, *, every: int) -> tuple[int, list[str]]:
    """(number of cases, what is wrong) of every `every`-th case of a group."""
    count, wrong = 0, []
    for call in GROUPS[group](world):
        for name, value in itertools.islice(call.cases(), 0, None, every):
            count += 1
            if (problem := fault(call, name, value)) is not None:
                wrong.append(f"{call.name}({name}={value!r:.60}): {problem}")
    return count, wrong


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("everything", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_bad_input_works_or_is_an_error_that_says_why(world, elsewhere, group, everything):
    count, wrong = faults(world, group, every=1 if everything else SAMPLED.get(group, 1))
    assert not wrong, "\n".join(wrong)
    assert count >= {"constructors": 1900, "functions": 250, "methods": 300, "plots": 50}[group]
