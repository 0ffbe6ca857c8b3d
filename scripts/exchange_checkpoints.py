"""Do GRADIEND checkpoints travel between this version and another installed one?

    python scripts/exchange_checkpoints.py PYTHON_OF_THE_OTHER_ENVIRONMENT

Each side saves small networks with known weights, loads what the other saved, and compares latents, decoded vectors
and the parameter map with those that the writer had. Needs the documented API on the other side, nothing else.

With --trained MODEL (at least 256 positions) each side trains a GRADIEND on sentences of two classes with each source,
and evaluates its own and the other's: the correlation, and P of each class before and after it is strengthened. Ours
are saved both as they are and for 0.2.x (`labels_of="alternative"`).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from gradiend import GradiendModel, ParamMappedGradiendModel, TextPredictionTrainer, TrainingArguments

SHAPES = {"layer.weight": (8, 5), "layer.bias": (8,), "embedding.weight": (10, 5)}
PLACES = {
    "layer.weight": [0, 1, 2, 3, 5, 8, 13, 21, 22, 23, 30, 34, 39],
    "layer.bias": [2, 3, 5],
    "embedding.weight": [],
}
ACTIVATIONS = ("tanh", "relu", "leakyrelu", "gelu", "silu", "elu", "sigmoid", "smht", "id")
TOLERANCE = 1e-5


def entry(shape: tuple[int, ...], kind: str, places: list[int]) -> dict[str, Any]:
    """One parameter of a map, in the documented form."""
    indices = torch.tensor(places, dtype=torch.int64)
    mask = torch.zeros(shape, dtype=torch.bool)
    mask.view(-1)[indices] = True
    return {"shape": shape, "repr": kind, **({} if kind == "all" else {kind: mask if kind == "mask" else indices})}


def build(name: str) -> Any:
    """The network of a case, e.g. "mask float16": a map and anything that differs from the defaults."""
    kind, _, option = name.partition(" ")
    arguments: dict[str, Any] = {"base_model": "some/model"}
    latent_dim = 3 if option == "3 latents" else 1
    if option in ("float16", "bfloat16", "float64"):
        arguments["torch_dtype"] = getattr(torch, option)
    elif option == "no bias":
        arguments["bias_decoder"] = False
    elif option.partition(" ")[0] in ("encoder", "decoder"):
        side, _, activation = option.partition(" ")
        arguments[f"activation_{side}"] = activation
    if kind == "plain":
        model = GradiendModel(20, latent_dim, **arguments)
    else:
        kinds = (
            dict(zip(SHAPES, ("mask", "all", "indices"), strict=True))
            if kind == "mixed"
            else dict.fromkeys(SHAPES, kind)
        )
        param_map = {name: entry(shape, kinds[name], PLACES[name]) for name, shape in SHAPES.items()}
        size = sum(len(PLACES[name]) if kinds[name] != "all" else math.prod(SHAPES[name]) for name in SHAPES)
        model = ParamMappedGradiendModel(size, latent_dim, param_map, **arguments)
    generator = torch.Generator().manual_seed(len(name))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model.prune(topk=0.4) if option == "pruned" else model


def cases() -> list[str]:
    """Names of all cases."""
    kinds = ("plain", "all", "mask", "indices", "mixed")
    options = ("float16", "bfloat16", "float64", "no bias", "3 latents", "bin")
    activations = [f"plain {side} {name}" for side in ("encoder", "decoder") for name in ACTIVATIONS]
    return [*kinds, *(f"mixed {option}" for option in options), "all pruned", "mixed pruned", *activations]


def results(model: Any) -> dict[str, torch.Tensor]:
    """What the two versions must agree on."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    with torch.no_grad():
        flat = torch.randn(len(model), generator=generator)
        found["latent"] = model.forward_encoder(flat.to(model.torch_dtype))
        found["decoded"] = model.forward(flat.to(model.torch_dtype))
        if isinstance(model, ParamMappedGradiendModel):
            full = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
            found["flat"] = model.flatten_gradient_dict(full)
            full = {name: tensor.to(model.torch_dtype) for name, tensor in full.items()}
            found["latent of a dict"] = model.forward_encoder(full)
            found |= model.forward(full)
    return {name: tensor.double() for name, tensor in found.items()}


def write(directory: Path) -> None:
    """Save every case, and its results beside it."""
    for name in cases():
        model = build(name)
        model.save_pretrained(str(directory / name), use_safetensors=False if name.endswith("bin") else None)
        torch.save(results(model), directory / f"{name}.results")


def read(directory: Path) -> dict[str, Any]:
    """For every case the largest difference of a result, or what loading said."""
    report: dict[str, Any] = {}
    for name in cases():
        expected = torch.load(directory / f"{name}.results")
        try:
            cls = GradiendModel if name.startswith("plain") else ParamMappedGradiendModel
            found = results(cls.from_pretrained(str(directory / name)))
        except (ValueError, RuntimeError, TypeError, KeyError, OSError) as error:
            words = " ".join(str(error).replace(str(directory), "").split())
            report[name] = f"{type(error).__name__}: {words[:200]}"
            continue
        report[name] = max(
            float((found[key] - expected[key]).abs().max()) if found[key].shape == expected[key].shape else float("inf")
            for key in expected
            if expected[key].numel() or found[key].numel()
        )
    return report


ROWS = pd.DataFrame(
    [
        {"masked": f"The {who} said that [MASK] {verb} {how} .", "label": word, "label_class": name, "split": split}
        for who, split in {
            "nurse": "train", "baker": "train", "sailor": "train", "girl": "train", "boy": "validation", "man": "test",
        }.items()
        for how in ("tired", "late", "cold", "happy")
        for word, verb, name in (("she", "was", "3SG"), ("they", "were", "3PL"))
    ]
)  # fmt: skip
STEP = 0.05
"""Small beside the weights, so that the direction of the update decides and not its size."""


def trainer_of(model: str, directory: Path, source: str) -> TextPredictionTrainer:
    """A trainer of the two classes, by the API that both versions have."""
    args = TrainingArguments(
        experiment_dir=str(directory), train_batch_size=8, max_steps=40, learning_rate=1e-4, source=source, max_seeds=1,
        eval_steps=20,
    )  # fmt: skip
    return TextPredictionTrainer(model, data=ROWS, target_classes=["3SG", "3PL"], args=args)


def train(model: str, directory: Path) -> None:
    """Train with every source, and keep the checkpoints."""
    for source in ("factual", "alternative"):
        trainer = trainer_of(model, directory / source, source)
        trainer.train()
        trained = trainer.get_model()
        # 0.2.x reads the source from here, not from the context.
        training = json.loads((directory / source / "model" / "training.json").read_text())
        shutil.copytree(directory / source / "model", directory / f"{source} checkpoint")
        if hasattr(trained, "base_arguments"):
            path = str(directory / f"{source} checkpoint for 0.2.x")
            trained.save_pretrained(path, labels_of="alternative", training=training)


def evaluate(directory: Path) -> dict[str, Any]:
    """Correlation, and P of each class on the texts of the other, before and after it is strengthened."""
    report = {}
    for checkpoint in sorted(directory.glob("* checkpoint*")):
        trainer = trainer_of(str(checkpoint), directory / "evaluations" / checkpoint.name, checkpoint.name.split()[0])
        line = {"correlation": trainer.evaluate_encoder()["correlation"]}
        results = trainer.evaluate_decoder(lrs=[STEP], use_cache=False)
        for name, other in (("3SG", "3PL"), ("3PL", "3SG")):
            chosen = (float(results[name]["feature_factor"]), STEP)
            before, after = (results["grid"][key]["probs_by_dataset"][other][name] for key in ("base", chosen))
            line[f"P({name})"] = f"{before:.4f} → {after:.4f}"
        report[checkpoint.name] = line
    return report


def run(python: str, *arguments: str) -> str:
    """This script under another Python, without this directory's package in the way."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1", "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [python, __file__, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=tempfile.gettempdir(),
    )
    if done.returncode:
        raise SystemExit(f"{python} failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return done.stdout


def table(columns: Mapping[str, Mapping[str, Any]]) -> str:
    """One line a case, one column a direction; messages below."""
    notes: list[str] = []

    def cell(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:.0e}" if value <= TOLERANCE else f"differs by {value:.2g}"
        if value not in notes:
            notes.append(value)
        return f"error ({notes.index(value) + 1})"

    lines = [f"{'case':26}" + "".join(f"{title:>22}" for title in columns)]
    lines += [f"{name:26}" + "".join(f"{cell(column[name]):>22}" for column in columns.values()) for name in cases()]
    return "\n".join([*lines, *(f"({number}) {note}" for number, note in enumerate(notes, 1))])


def exchange_trained(python: str, model: str) -> None:
    """Print what each version says of its own trained checkpoints and of the other's."""
    with tempfile.TemporaryDirectory() as ours, tempfile.TemporaryDirectory() as theirs:
        train(model, Path(ours))
        run(python, "train", theirs, model)
        for writer, directory in (("this version", ours), ("the other", theirs)):
            found = {"this version": evaluate(Path(directory))}
            found["the other"] = json.loads(run(python, "evaluate", directory).splitlines()[-1])
            for reader, report in found.items():
                for checkpoint, line in report.items():
                    shown = ", ".join(
                        f"{key} {value:+.3f}" if isinstance(value, float) else f"{key} {value}"
                        for key, value in line.items()
                    )
                    print(f"{writer} wrote, {reader} reads: {checkpoint}: {shown}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", help="Python of an environment with another gradiend; or, internally, write or read")
    parser.add_argument("directory", nargs="?", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("model", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("--trained", metavar="MODEL", help="exchange trained checkpoints of this model instead")
    arguments = parser.parse_args()
    if arguments.trained:
        exchange_trained(arguments.python, arguments.trained)
    elif arguments.python == "train":
        train(arguments.model, arguments.directory)
    elif arguments.python == "evaluate":
        print(json.dumps(evaluate(arguments.directory)))
    elif arguments.python == "write":
        write(arguments.directory)
    elif arguments.python == "read":
        print(json.dumps(read(arguments.directory)))
    else:
        with tempfile.TemporaryDirectory() as ours, tempfile.TemporaryDirectory() as theirs:
            write(Path(ours))
            run(arguments.python, "write", theirs)
            to_other = json.loads(run(arguments.python, "read", ours).splitlines()[-1])
            print(table({"other → this": read(Path(theirs)), "this → other": to_other}))


if __name__ == "__main__":
    sys.tracebacklimit = 0
    main()
