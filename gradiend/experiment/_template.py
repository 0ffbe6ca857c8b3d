"""A file to begin with: the fields that a user decides, each with its sentence, and the rest as comments."""

from __future__ import annotations

import dataclasses
import io
import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, get_type_hints

from gradiend._version import __version__
from gradiend.experiment._fields import HIDDEN, Keys, Option, dataclass_of, options
from gradiend.experiment.sections import Experiment
from gradiend.util._argument_fields import field_sentences

WIDTH = 100
SCHEMA_FILE = "experiment.schema.json"
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
    """The text of a file for `read_experiment`.

    Args:
        values: Keys → value of the fields that are set.
        everything: Whether every field is there, those that are not set as comments with their defaults.
        usual: Whether fields that are not in `values` get usual values, to be changed by the user.
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
    by_keys = {option.keys: option for option in options()}
    return "\n".join([*head, *_section(Experiment, (), given, by_keys, everything)]) + "\n"


def _section(
    cls: type, above: Keys, given: Mapping[Keys, Any], known: Mapping[Keys, Option], everything: bool
) -> Iterator[str]:
    hints, sentences, margin = get_type_hints(cls), field_sentences(cls), "  " * len(above)
    for item in dataclasses.fields(cls):
        keys = (*above, item.name)
        inner = dataclass_of(hints[item.name])
        is_set = any(other[: len(keys)] == keys for other in given)
        shown = everything or is_set or any(other[: len(keys)] == keys for other in SHOWN)
        if not shown or keys in HIDDEN or (inner is None and keys not in known):
            continue
        if not above:
            yield ""
        text = textwrap.wrap(sentences.get(item.name, ""), WIDTH - len(margin))
        yield from (f"{margin}## {line}" for line in text)
        if inner is None:
            value = given[keys] if keys in given else _default_of(known[keys])
            yield f"{margin}{'' if keys in given else '# '}{item.name}: {as_yaml(value)}"
        elif given.get(keys) == {}:
            yield f"{margin}{item.name}: {{}}"
        else:
            below = list(_section(inner, keys, given, known, everything))
            yield f"{margin}{'' if is_set else '# '}{item.name}:{'' if below else ' {}'}"
            yield from below if is_set else (line if line.lstrip().startswith("#") else f"# {line}" for line in below)


def _default_of(option: Option) -> Any:
    return None if option.default is dataclasses.MISSING else option.default


def as_yaml(value: Any) -> str:
    """A value as YAML on one line."""
    from ruamel.yaml import YAML  # noqa: PLC0415 - an optional package

    yaml = YAML()
    yaml.default_flow_style = True
    yaml.width = 10_000
    stream = io.StringIO()
    yaml.dump(json.loads(json.dumps(value)), stream)
    return stream.getvalue().removesuffix("\n").removesuffix("\n...").strip() or "null"
