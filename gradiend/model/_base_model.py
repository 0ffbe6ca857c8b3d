"""The base model of a GRADIEND: how a call names the base model, and whether it has the weights of the training.

A name or path does not identify a model: it can change in memory, be loaded with other settings of its config, and its
folder can be overwritten. A fixed sample of every parameter is small enough for every checkpoint, and can be compared
with the same model in another dtype, which a hash of all bits cannot. In the same dtype the sum of each parameter also
finds changes that the sample misses, such as a single trained embedding.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self

from gradiend.model._architecture import Device
from gradiend.model._parameter_map import bits
from gradiend.model._shards import whole
from gradiend.util._digest import named_weights, settings_of
from gradiend.util._hooks import hooks_of
from gradiend.util._isolation import exclusive
from gradiend.util._keywords import nearest, resolve_keywords
from gradiend.util._tensor_files import read_header, read_tensors, write_tensors
from gradiend.util.paths import BASE_DIGEST

ENTRIES = 256
"""The number of entries that are sampled of a parameter; a smaller parameter is sampled whole."""
_GOLDEN_RATIO = 0x9E3779B97F4A7C15
"""2⁶⁴ divided by the golden ratio: its multiples, modulo 2⁶⁴, lie evenly and hit no stride of a matrix."""

SETTING = "config."
"""The beginning of the name of a setting, among the names of `BaseDigest.differences`."""
VERSION = "transformers_version"
"""The key of the version that a config is of, among the settings."""

BASE_REVISION = "base_model_revision"
"""Key of a checkpoint's metadata: the commit of the hub that the base model was loaded from."""
GRADIEND_ARGUMENTS = (
    "latent_dim", "torch_dtype", "param_map", "params", "activation_encoder", "activation_decoder", "bias_decoder",
    "lazy_init",
)  # fmt: skip
"""The keywords of `ModelWithGradiend.from_pretrained` that shape a new GRADIEND."""


def resolve_directory(
    load_directory: Any, base_model: Any, kwargs: Mapping[str, Any]
) -> tuple[Any, Any, dict[str, Any]]:
    """(load_directory, base_model of a checkpoint or None, other keywords); none or two directories are a TypeError."""
    rest = resolve_keywords("ModelWithGradiend.from_pretrained", kwargs, [*kwargs, "load_directory"])
    second = rest.pop("load_directory", None)
    if load_directory is not None and second is not None:
        raise TypeError("from_pretrained got load_directory and gradiend_model, which mean the same: give one.")
    load_directory = second if load_directory is None else load_directory
    if load_directory is None:
        load_directory, base_model = base_model, None
    if load_directory is None:
        raise TypeError("from_pretrained needs load_directory (a checkpoint or a base model), or base_model.")
    return load_directory, base_model, rest


def split_gradiend_arguments(arguments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(arguments that shape a new GRADIEND and are not None, the rest).

    `n_features` is the trainers' name of latent_dim; if both are given, latent_dim wins. With a pre_prune_config,
    weights are made after the pruning only.
    """
    rest = dict(arguments)
    n_features = rest.pop("n_features", None)
    lazy = rest.pop("pre_prune_config", None) is not None
    shape = {key: value for key in GRADIEND_ARGUMENTS if (value := rest.pop(key, None)) is not None}
    if n_features is not None:
        shape.setdefault("latent_dim", n_features)
    if lazy:
        shape["lazy_init"] = True
    return shape, rest


def load_base_model(cls: Any, place: Any, arguments: Mapping[str, Any], **recorded: Any) -> tuple[Any, ...]:
    """The result of `cls._load_model`; an error about an unknown keyword is raised in the name of `from_pretrained`."""
    try:
        return cls._load_model(place, **recorded, **arguments)
    except TypeError as error:
        unknown = [name for name in arguments if f"unexpected keyword argument {name!r}" in str(error)]
        if not unknown:
            raise
        taken = [inspect.signature(call).parameters for call in (cls.from_pretrained, cls._load_model)]
        hint = nearest(unknown[0], [*GRADIEND_ARGUMENTS, *taken[0], *taken[1]])
        raise TypeError(
            f"from_pretrained got an unknown argument {unknown[0]!r}, which the loading of the base model does not "
            f"take either.{hint} ({error})"
        ) from error


def identity_of(base_model: Any) -> str:
    """The name or path that finds a base model again: the argument, or `name_or_path` of an instance, or ""."""
    # Only the models of transformers have a name for certain.
    return str(base_model if isinstance(base_model, (str, Path)) else getattr(base_model, "name_or_path", ""))


def device_of(base_model: Any) -> Device:
    """The device of a base model that is an instance; None for a name or path. Raises TypeError for another object."""
    if isinstance(base_model, (str, Path)):
        return None
    if not hasattr(base_model, "device"):
        raise TypeError(
            "A base model is given by its name or path, or as a model with a device, such as a transformers model; got "
            f"{type(base_model).__name__}."
        )
    return base_model.device


@dataclass(frozen=True)
class BaseDigest:
    """A sample of a base model's parameters, which tells the base model from others."""

    entries: dict[str, Tensor]
    """Parameter name → up to `ENTRIES` entries, in the parameter's dtype, on the CPU."""
    shapes: dict[str, list[int]]
    """Parameter name → shape."""
    sums: dict[str, int]
    """Parameter name → sum of all entries, their bits read as integers, modulo 2⁶⁴."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Class and settings of the config, see `settings_of`; {} where they are unknown, as in an older checkpoint."""
    hooks: list[str] = field(default_factory=list)
    """The hooks of the model, see `hooks_of`."""

    @classmethod
    @torch.no_grad()
    def of(cls, base_model: Any) -> Self:
        """The sample of a model in memory, with the scales of quantized weights; a shared tensor counts once."""
        entries, shapes, sums = {}, {}, {}
        with exclusive(base_model):
            for name, parameter in named_weights(base_model):
                shapes[name] = list(parameter.shape)
                flat = whole(parameter.detach()).reshape(-1)
                places = torch.tensor(sampled_places(flat.numel()), dtype=torch.int64, device=flat.device)
                entries[name] = flat[places].cpu()
                # A sum of integers does not depend on the order of addition.
                sums[name] = int(bits(flat).sum(dtype=torch.int64))
        return cls(entries, shapes, sums, settings_of(base_model), hooks_of(base_model))

    def differences(self, other: BaseDigest) -> list[str]:
        """Names of the parameters and settings in which two models differ, or that only one model has.

        Parameters of equal dtype must be equal; those of different dtypes, equal up to rounding to the coarser dtype.
        The names of settings begin with `SETTING`.
        """
        names = dict.fromkeys([*self.entries, *other.entries])
        return [*(name for name in names if not self._agrees(other, name)), *self._other_settings(other)]

    def _other_settings(self, other: BaseDigest) -> list[str]:
        mine, its = self.settings, other.settings
        # Configs of another version of transformers have other names and defaults.
        if not mine or not its or mine.get(VERSION) != its.get(VERSION):
            return []
        return [f"{SETTING}{name}" for name in dict.fromkeys([*mine, *its]) if mine.get(name) != its.get(name)]

    def _agrees(self, other: BaseDigest, name: str) -> bool:
        if name not in self.entries or name not in other.entries or self.shapes[name] != other.shapes[name]:
            return False
        mine, its = self.entries[name], other.entries[name]
        if mine.dtype == its.dtype and self.sums[name] != other.sums[name]:
            return False
        tolerance = {"rtol": 0.0, "atol": 0.0}
        if mine.dtype != its.dtype and mine.is_floating_point() and its.is_floating_point():
            coarser = max(torch.finfo(mine.dtype), torch.finfo(its.dtype), key=lambda info: info.eps)
            tolerance = {"rtol": coarser.eps, "atol": coarser.smallest_normal * coarser.eps}
        return torch.allclose(mine.double(), its.double(), **tolerance, equal_nan=True)

    def save(self, directory: str | Path) -> None:
        """Write the sample into a checkpoint."""
        header = {"shapes": json.dumps(self.shapes), "sums": json.dumps(self.sums)}
        header |= {name: json.dumps(part) for name in ("settings", "hooks") if (part := getattr(self, name))}
        write_tensors(Path(directory) / BASE_DIGEST, self.entries, header)

    @classmethod
    def load(cls, directory: str | Path) -> Self | None:
        """The sample of a checkpoint; None for a checkpoint without a sample. Raises ValueError for a damaged file."""
        path = Path(directory) / BASE_DIGEST
        if not path.is_file():
            return None
        entries = read_tensors(path)
        try:
            header = read_header(path)
            shapes, sums = json.loads(header["shapes"]), json.loads(header["sums"])
            settings, hooks = json.loads(header.get("settings", "{}")), json.loads(header.get("hooks", "[]"))
        except (KeyError, ValueError, RecursionError) as error:
            raise ValueError(f"{path} does not say shapes and sums of the parameters: it is damaged.") from error
        if not all(isinstance(part, dict) and part.keys() == entries.keys() for part in (shapes, sums)):
            raise ValueError(f"{path} names other parameters than it samples: it is damaged.")
        return cls(entries, shapes, sums, settings, hooks)


def sampled_places(size: int) -> list[int]:
    """The sampled places of a parameter of `size` entries, which are the same for every model."""
    if size <= ENTRIES:
        return list(range(size))
    return [(index * _GOLDEN_RATIO % 2**64) * size >> 64 for index in range(ENTRIES)]


def differing(names: Sequence[str]) -> str:
    """A text with the numbers of parameters and settings that differ, and with the names of up to three of each."""
    settings = [name.removeprefix(SETTING) for name in names if name.startswith(SETTING)]
    parameters = [name for name in names if not name.startswith(SETTING)]
    return " and ".join(
        f"{len(found)} {what}{'s differ' if len(found) > 1 else ' differs'} ({listed}{', …' if len(found) > 3 else ''})"
        for what, found in (("parameter", parameters), ("setting", settings))
        if found and (listed := ", ".join(found[:3]))
    )
