"""What a GRADIEND network is built from: sizes, activations, dtype."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from typing_extensions import Self

from gradiend.model.activations import activation_name


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
        cls,
        input_dim: Any,
        latent_dim: Any,
        activation_encoder: str,
        activation_decoder: str | None,
        bias_decoder: bool,
        torch_dtype: Any,
    ) -> Self:
        """Check the arguments of `GradiendModel`; a falsy activation_decoder means the encoder's.

        Raises:
            ValueError: A dimension that is not a positive int, an unknown activation, or an integer dtype.
            TypeError: torch_dtype is not a dtype.
        """
        for name, value in (("input_dim", input_dim), ("latent_dim", latent_dim)):
            if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
                raise ValueError(f"{name} must be a positive int; got {value!r}.")
        if not isinstance(torch_dtype, torch.dtype):
            raise TypeError(f"torch_dtype must be a torch dtype such as torch.float32; got {torch_dtype!r}.")
        if not torch_dtype.is_floating_point:
            raise ValueError(f"torch_dtype must be a floating-point type; got {torch_dtype}.")
        return cls(
            int(input_dim),
            int(latent_dim),
            activation_name(activation_encoder),
            activation_name(activation_decoder or activation_encoder),
            bool(bias_decoder),
            torch_dtype,
        )

    def to_json(self) -> dict[str, Any]:
        """With the dtype as its name, e.g. "float32"."""
        return {**vars(self), "torch_dtype": str(self.torch_dtype).removeprefix("torch.")}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Parse what `to_json` gave; keys that are not ours are ignored.

        Raises:
            ValueError: A missing key or a bad value.
            TypeError: torch_dtype does not name a dtype.
        """
        names = list(cls.__dataclass_fields__)
        missing = [name for name in names if name not in content]
        if missing:
            raise ValueError(f"the architecture lacks {', '.join(missing)}.")
        name = str(content["torch_dtype"]).removeprefix("torch.")
        return cls.parse(**{**{name: content[name] for name in names}, "torch_dtype": torch.__dict__.get(name, name)})

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """The tensors of the weight file and their shapes."""
        n, k = self.input_dim, self.latent_dim
        shapes: dict[str, tuple[int, ...]] = {
            "encoder.0.linear.weight": (k, n),
            "encoder.0.linear.bias": (k,),
            "decoder.0.linear.weight": (n, k),
        }
        if self.bias_decoder:
            shapes["decoder.0.linear.bias"] = (n,)
        return shapes
