"""The shape of a GRADIEND network: sizes, dtype, named parts, devices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from typing_extensions import Self

from gradiend.model._activations import activation_name
from gradiend.util._keywords import known_keywords, nearest, one_of
from gradiend.util._processes import processes

Device = torch.device | str | int | None

WEIGHT_PARTS: tuple[str, ...] = ("encoder-weight", "decoder-weight", "decoder-bias", "decoder-sum")
"""The parts of a GRADIEND that give an importance."""
REWRITE_PARTS: tuple[str, ...] = ("decoder", *WEIGHT_PARTS)
"""The parts of a GRADIEND that a rewrite can add to the base model."""

MOST_WEIGHTS = 2**48
"""Entries of a weight matrix above which a shape is a mistake."""
FLOATS = ("float32", "bfloat16", "float16", "float64")


def parse_weight_part(part: str) -> str:
    """`part`, which must be one of `WEIGHT_PARTS`. Raises ValueError for another part."""
    return one_of("part", part, WEIGHT_PARTS)


def parse_rewrite_part(part: str) -> str:
    """`part`, which must be one of `REWRITE_PARTS`. Raises ValueError for another part."""
    return one_of("part", part, REWRITE_PARTS)


def parse_dtype(name: str, value: Any) -> torch.dtype:
    """The floating-point dtype that `value` is or names ("torch." may be left out); errors name the argument `name`."""
    if not isinstance(value, str):
        return require_float(name, value)
    known = {key: getattr(torch, key) for key in FLOATS}
    found = value.removeprefix("torch.")
    if found not in known:
        raise ValueError(
            f"{name} must be a floating-point dtype ({', '.join(FLOATS)}); got {value!r}.{nearest(found, FLOATS)}"
        )
    return known[found]


def require_float(name: str, value: Any) -> torch.dtype:
    """Raise TypeError for a value that is no dtype, and ValueError for a dtype that is not floating point."""
    if not isinstance(value, torch.dtype):
        raise TypeError(f"{name} must be a torch dtype, such as torch.float32; got {value!r}.")
    if not value.is_floating_point:
        raise ValueError(f"{name} must be a floating-point dtype; got {value}.")
    return value


@dataclass(frozen=True)
class Architecture:
    """The parsed arguments of `GradiendModel`, and the `architecture` of config.json."""

    input_dim: int
    latent_dim: int
    activation_encoder: str
    activation_decoder: str
    bias_decoder: bool
    torch_dtype: torch.dtype

    @classmethod
    def parse(
        cls, input_dim: Any, latent_dim: Any, activation_encoder: str, activation_decoder: str | None,
        bias_decoder: bool, torch_dtype: Any,
    ) -> Self:  # fmt: skip
        """Check the arguments of `GradiendModel`, whose docstring lists the errors."""
        for name, value in (("input_dim", input_dim), ("latent_dim", latent_dim)):
            if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
                raise ValueError(f"{name} must be a positive int; got {value!r}.")
        if int(input_dim) * int(latent_dim) > MOST_WEIGHTS:
            raise ValueError(
                f"input_dim={input_dim} and latent_dim={latent_dim} are too large: no machine has room for the weights."
            )
        return cls(
            int(input_dim), int(latent_dim), activation_name(activation_encoder),
            activation_name(activation_decoder or activation_encoder), bool(bias_decoder),
            require_float("torch_dtype", torch_dtype),
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """The fields; the dtype becomes its name, such as "float32"."""
        return {**vars(self), "torch_dtype": str(self.torch_dtype).removeprefix("torch.")}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Undo `to_json`; other keys are ignored. Raises ValueError or TypeError for values that do not fit."""
        names = list(cls.__dataclass_fields__)
        missing = [name for name in names if name not in content]
        if missing:
            raise ValueError(f"the architecture lacks {', '.join(missing)}.")
        name = str(content["torch_dtype"]).removeprefix("torch.")
        return cls.parse(**{**{name: content[name] for name in names}, "torch_dtype": torch.__dict__.get(name, name)})

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name → shape of each tensor of the weight file."""
        n, k = self.input_dim, self.latent_dim
        shapes: dict[str, tuple[int, ...]] = {
            "encoder.0.linear.weight": (k, n),
            "encoder.0.linear.bias": (k,),
            "decoder.0.linear.weight": (n, k),
        }
        return {**shapes, "decoder.0.linear.bias": (n,)} if self.bias_decoder else shapes


def parse_device(name: str, value: Any) -> torch.device:
    """The device that `value` is, or that its name or number means; errors name the argument `name`.

    Raises TypeError or ValueError for another value.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, torch.device)):
        raise TypeError(f"{name} must be a device, such as 'cpu' or 'cuda:0'; got {value!r:.60}.")
    try:
        return torch.device(value)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{name} must be a device, such as 'cpu' or 'cuda:0'; got {value!r:.60}: {reason}") from error


def cuda_device(device: Device = None) -> torch.device:
    """The device that `.cuda(device)` means: the current device for None, the GPU with an index, or a device."""
    return torch.device("cuda" if device is None else device)


def gpu_count() -> int:
    """The number of GPUs that PyTorch can use here."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def require_devices(places: Iterable[torch.device]) -> None:
    """Raise ValueError for a CUDA device that is not here."""
    count = gpu_count()
    for place in places:
        if place.type == "cuda" and (place.index or 0) >= count:
            raise ValueError(
                f"There is no device {str(place)!r} here; the number of GPUs that PyTorch finds is {count}. Give "
                "another device, such as 'cpu', or install PyTorch with support for CUDA and a driver."
            )


def default_devices(n_gpus: int, encoder_decoder_same_device: bool) -> tuple[str, str, str]:
    """Devices of (encoder, decoder, base model), each as large as the others, on a machine with `n_gpus` GPUs."""
    if n_gpus == 0:
        return "cpu", "cpu", "cpu"
    second = f"cuda:{min(1, n_gpus - 1)}"
    if encoder_decoder_same_device:
        return "cuda:0", "cuda:0", second
    return "cuda:0", second, "cuda:2" if n_gpus > 2 else "cuda:0"


@known_keywords("resolve_device_config_for_model", suggest=False)
def resolve_device_config_for_model(
    device: Device = None, device_encoder: Device = None, device_decoder: Device = None,
    device_base_model: Device = None, encoder_decoder_same_device: bool = False,
) -> tuple[torch.device, torch.device, torch.device, bool]:  # fmt: skip
    """The devices of encoder, decoder and base model: their own argument, else `device`, else `default_devices`.

    Args:
        device: The device of each of the three that has no argument of its own.
        device_encoder, device_decoder, device_base_model: The device of one of the three.
        encoder_decoder_same_device: Whether `default_devices` puts encoder and decoder on one GPU.

    Returns:
        (encoder, decoder, base model, whether several GPUs are used).

    Raises TypeError or ValueError for an argument that is no device.
    """
    n_gpus = gpu_count()
    rule = default_devices(n_gpus, encoder_decoder_same_device)
    if n_gpus and processes().count > 1:
        # Each process has a GPU of its own.
        rule = (f"cuda:{torch.cuda.current_device()}",) * 3
    given = {"device_encoder": device_encoder, "device_decoder": device_decoder, "device_base_model": device_base_model}
    encoder, decoder, base_model = (
        parse_device(name, own) if own is not None else parse_device("device", ruled if device is None else device)
        for (name, own), ruled in zip(given.items(), rule, strict=True)
    )
    gpus = {place for place in (encoder, decoder, base_model) if place.type == "cuda"}
    return encoder, decoder, base_model, len(gpus) > 1
