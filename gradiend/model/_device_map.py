"""Base models on several devices: the map that says which part lies where, and what such a model must not get.

Accelerate does the work: `device_map` of transformers' `from_pretrained` puts the parts of a model on devices, and
hooks move what one part computes to the next. Gradients appear where the parameters are, and are gathered from there.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from gradiend.model._architecture import parse_device
from gradiend.util._imports import require_package
from gradiend.util._keywords import one_of

RULES = "auto", "balanced", "balanced_low_0", "sequential"
"""The maps that Accelerate makes itself, by their names in transformers."""
MAPPED = "{} is for a base model on one device, and a device map places this one: leave it out."


def parse_device_map(name: str, value: Any) -> str | dict[str, int | str]:
    """A device map: one of `RULES`, or module → device. Errors name the argument `name`.

    Raises TypeError for neither, and ValueError for another rule, a device that PyTorch does not know, or parts that
    would be offloaded, to a disk or to the CPU beside other devices: offloaded weights have no gradients.
    """
    if isinstance(value, str):
        one_of(name, value, RULES)
        return value
    if not isinstance(value, Mapping) or not value or not all(isinstance(module, str) for module in value):
        raise TypeError(f"{name} must be 'auto', or a dict such as {{'model.layers.0': 0}}; got {value!r:.60}.")
    places: dict[str, int | str] = {}
    for module, device in value.items():
        if device in ("disk", "meta"):
            raise ValueError(
                f"{name} puts {module!r} on {device!r}, where weights have no gradients: take one such as 'cuda:0'."
            )
        # Without a GPU, PyTorch does not know what a number means.
        is_number = isinstance(device, int) and not isinstance(device, bool)
        places[module] = device if is_number else str(parse_device(f"{name}[{module!r}]", device))
    if "cpu" in places.values() and set(places.values()) != {"cpu"}:
        on_cpu = [module for module, device in places.items() if device == "cpu"]
        raise ValueError(
            f"{name} puts {on_cpu[0]!r} on the CPU beside other devices, which offloads its weights, so that they have "
            "no gradients: put it on one of the other devices, or all parts on the CPU."
        )
    return places


def parse_max_memory(name: str, value: Any) -> dict[int | str, int | str]:
    """Device → the most that a device map may put there, in bytes or as "40GiB". Raises TypeError for anything else."""
    if not isinstance(value, Mapping) or not value:
        raise TypeError(f"{name} must be a dict such as {{0: '40GiB', 1: '70GiB'}}; got {value!r:.60}.")
    if bad := [
        item for item in value.items() if any(isinstance(x, bool) or not isinstance(x, (int, str)) for x in item)
    ]:
        raise TypeError(
            f"{name} must have devices as keys, and bytes or texts such as '40GiB' as values; got {bad[0]}."
        )
    # In JSON and TOML, keys are texts.
    return {int(key) if isinstance(key, str) and key.isdecimal() else key: most for key, most in value.items()}


def placement(device_map: Any, max_memory: Any) -> dict[str, Any]:
    """The keywords of transformers' `from_pretrained` for `base_model_device_map` and `base_model_max_memory`."""
    if device_map is None:
        return {}
    require_package("accelerate", "base_model_device_map", "large")
    most = {} if max_memory is None else {"max_memory": parse_max_memory("base_model_max_memory", max_memory)}
    return {"device_map": parse_device_map("base_model_device_map", device_map), **most}


def is_dispatched(model: nn.Module) -> bool:
    """Whether Accelerate's hooks move what a model computes between devices; such a model must not be moved."""
    return any("_hf_hook" in vars(part) for part in model.modules())


def is_mapped(base_model: Any, arguments: Mapping[str, Any], device: Any) -> bool:
    """Whether a device map places a base model.

    A base model in memory is asked itself; of a name or path, the keywords of `ModelWithGradiend.from_pretrained` tell.
    Raises ValueError for a map together with a `device` for the whole base model.
    """
    by_name = not isinstance(base_model, nn.Module)
    keywords = "base_model_device_map", "device_map"
    mapped = any(map(arguments.get, keywords)) if by_name else is_dispatched(base_model)
    if mapped and device is not None:
        raise ValueError(MAPPED.format("device_base_model"))
    return mapped


def refuse_divided_ties(model: nn.Module) -> None:
    """Raise ValueError for a device map that puts two modules with one weight (tied embeddings) on two devices."""
    for path, part in model.named_modules():
        hook: dict[str, Any] = vars(vars(part)["_hf_hook"]) if "_hf_hook" in vars(part) else {}
        if hook.get("execution_device") is None:
            continue
        place = torch.device(hook["execution_device"])
        for name, parameter in part.named_parameters(recurse=False):
            if not _same(place, parameter.device):
                raise ValueError(
                    f"The device map puts {path} on {place}, but {name}, a weight that it shares with another module, "
                    f"is on {parameter.device}: put both modules on one device."
                )


def _same(one: torch.device, other: torch.device) -> bool:
    return one.type == other.type and (None in (one.index, other.index) or one.index == other.index)


def copy_of(base_model: Any) -> Any:
    """A deep copy of a model, whose parts lie on the devices of the original's parts."""
    made = copy.deepcopy(base_model)
    places = vars(base_model).get("hf_device_map")
    if places is None or not is_dispatched(base_model):
        return made
    # What Accelerate has put on the original, such as its `to`, would still act on the original.
    from accelerate import dispatch_model  # noqa: PLC0415 - an optional package, which has dispatched the original
    from accelerate.hooks import remove_hook_from_submodules  # noqa: PLC0415

    skipped = vars(base_model)["_hf_hook"].skip_keys
    remove_hook_from_submodules(made)
    return dispatch_model(made, places, skip_keys=skipped, force_hooks=True)
