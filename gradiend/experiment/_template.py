"""A file to begin with: the fields that a user decides, each with its sentence, and the rest as comments."""

from __future__ import annotations

import io
import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from gradiend._version import __version__
from gradiend.experiment._fields import SCHEMA_FILE, Keys, fields_at, section_of

WIDTH = 100
USUAL: dict[Keys, Any] = {
    ("model",): "bert-base-cased",
    ("experiment_dir",): "runs/my_feature",
    ("corpus", "base_data"): "corpus.txt",
    ("corpus", "feature_targets"): {"singular": ["he", "she", "it"], "plural": ["they"]},
    ("corpus", "preprocess", "split_to_sentences"): True,
    ("corpus", "preprocess", "min_chars"): 30,
    ("corpus", "preprocess", "max_chars"): 300,
    ("corpus", "max_size_per_class"): 2000,
    ("corpus", "neutral_max_size"): 1000,
    ("train", "learning_rate"): "auto",
    ("train", "max_steps"): 250,
    ("train", "train_batch_size"): 16,
    ("train", "pre_prune_config", "topk"): 0.01,
    ("evaluate", "decoder", "lrs"): "auto",
    ("rewrite",): {},
    ("report", "sentences"): ["The doctor said that [MASK] was late."],
}
"""The values of a new file, where the user gives no others."""
SHOWN: set[Keys] = {
    ("data", "data"), ("data", "target_classes"), ("data", "eval_neutral_data"), ("data", "balance_texts"),
    ("train", "seed"), ("train", "max_seeds"), ("train", "eval_steps"), ("evaluate", "decoder", "weaken"), ("delta",),
}  # fmt: skip
"""Further fields that a new file shows, as comments with their defaults."""


def new_file(values: Mapping[Keys, Any] | None = None, *, everything: bool = False, usual: bool = True) -> str:
    """The text of a file for `read_experiment`, in which the `values` (keys → value) are set.

    With `usual`, other fields get usual values, to be changed by the user; with `everything`, each field that is not
    set is there as a comment with its default.
    """
    given = dict(values or {})
    if usual:
        rows = any(keys in given for keys in (("data", "data"), ("data", "hf_dataset")))
        given = {keys: value for keys, value in USUAL.items() if not (rows and keys[0] == "corpus")} | given
    head = [
        f"# An experiment of gradiend {__version__}. Check it: gradiend run --dry-run FILE. Run it: gradiend run FILE",
        "# Lines with one # are fields that are not set; they show the default.",
        f"# yaml-language-server: $schema={SCHEMA_FILE}",
    ]
    return "\n".join([*head, *_section((), given, everything)]) + "\n"


def _section(above: Keys, given: Mapping[Keys, Any], everything: bool) -> Iterator[str]:
    margin = "  " * len(above)
    for name, field in fields_at(above).items():
        keys = field.keys
        is_set = any(other[: len(keys)] == keys for other in given)
        if not (everything or is_set or any(other[: len(keys)] == keys for other in SHOWN)):
            continue
        if not above:
            yield ""
        yield from (f"{margin}## {line}" for line in textwrap.wrap(field.sentence, WIDTH - len(margin)))
        if section_of(field.schema) is None or isinstance(given.get(keys), list):
            value = given.get(keys, field.default)
            yield f"{margin}{'' if keys in given else '# '}{name}: {as_yaml(value)}"
        elif given.get(keys) == {}:
            yield f"{margin}{name}: {{}}"
        else:
            below = list(_section(keys, given, everything))
            yield f"{margin}{'' if is_set else '# '}{name}:{'' if below else ' {}'}"
            yield from below if is_set else (line if line.lstrip().startswith("#") else f"# {line}" for line in below)


def as_yaml(value: Any) -> str:
    """A value as YAML on one line."""
    from ruamel.yaml import YAML  # noqa: PLC0415 - an optional package

    yaml = YAML()
    yaml.default_flow_style = True
    yaml.width = 10_000
    stream = io.StringIO()
    yaml.dump(json.loads(json.dumps(value)), stream)
    return stream.getvalue().removesuffix("\n").removesuffix("\n...").strip() or "null"
