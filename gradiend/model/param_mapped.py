"""A GRADIEND that knows which base-model parameters its input dimensions are."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gradiend.model._architecture import Device
from gradiend.model._checkpoint import find_weights
from gradiend.model._parameter_map import ParameterMap, mapped_parameters
from gradiend.model._shards import Shards
from gradiend.model._topk import Selection
from gradiend.model.model import GradiendModel
from gradiend.util._keywords import strict_methods
from gradiend.util._tensor_files import range_reader


@strict_methods
class ParamMappedGradiendModel(GradiendModel):
    """`GradiendModel` whose input space is a map of base-model parameters; takes gradients flat or as a dict.

    Args:
        input_dim: The number of entries that `param_map` selects.
        latent_dim: The number of latent features.
        param_map: name → {"shape", "repr": "all" | "mask" | "indices", and "mask" (bool, the parameter's shape) or
            "indices" (flat, integer)}. Its order is the order of the input space.

    The other arguments are those of `GradiendModel`.

    Raises:
        ValueError: The map is bad or does not select input_dim entries, or `GradiendModel` refuses an argument.
        TypeError: The map is no dict.
    """

    _has_map = True
    mapping: ParameterMap
    _whole_of: ParameterMap | None = None
    """The map of this process that `_whole` belongs to."""
    _whole: ParameterMap

    def __init__(
        self, input_dim: int, latent_dim: int, param_map: Mapping[str, Mapping[str, Any]] | ParameterMap,
        activation_encoder: str = "tanh", activation_decoder: str = "id", bias_decoder: bool = True,
        torch_dtype: torch.dtype = torch.float32, device: Device = None, device_encoder: Device = None,
        device_decoder: Device = None, lazy_init: bool = False, **kwargs: Any,
    ) -> None:  # fmt: skip
        if not isinstance(param_map, (ParameterMap, Mapping)):
            raise TypeError(
                f"param_map must be a dict of name → shape and selection; got {type(param_map).__name__}. "
                "build_gradiend_from_base_model makes one from parameter names or wildcards."
            )
        mapping = param_map if isinstance(param_map, ParameterMap) else ParameterMap.from_specs(param_map)
        if mapping.size != input_dim:
            raise ValueError(f"param_map selects {mapping.size} entries, but input_dim is {input_dim}.")
        super().__init__(
            input_dim, latent_dim, activation_encoder, activation_decoder, bias_decoder, torch_dtype,
            device, device_encoder, device_decoder, lazy_init, **kwargs,
        )  # fmt: skip
        self.mapping = mapping

    def _facts(self) -> dict[str, object]:
        return {"covers": self.mapping.described(), **super()._facts()}

    @property
    def param_map(self) -> dict[str, dict[str, Any]]:
        """The map as the documented dict (see the constructor)."""
        return self.whole_map.specs()

    @property
    def param_map_hash(self) -> str:
        """The MD5 hex digest of names, shapes and selected entries, which saving and loading do not change."""
        return self.whole_map.hash

    def unpruned_length(self) -> int:
        """The number of entries of all mapped parameters, selected or not."""
        return self.whole_map.unpruned_size

    def flatten_gradient_dict(self, grad_dict: Mapping[str, Tensor]) -> Tensor:
        """Full-shape gradients by parameter name → (input_dim,). Raises KeyError for a missing name."""
        return self.mapping.flatten(grad_dict)

    def extract_gradients(
        self, model: nn.Module, return_dict: bool = False, target_device: Device = None
    ) -> Tensor | dict[str, Tensor]:
        """Copies of the `.grad` of the mapped parameters after a backward pass.

        Args:
            model: The base model.
            return_dict: Whether to return full-shape tensors by name instead of one vector.
            target_device: The device of the copies. Default: the device of the gradients.

        Returns:
            A vector (input_dim,) in map order and the GRADIEND's dtype, or the dict.

        Raises:
            RuntimeError: A mapped parameter has no gradient.
            KeyError: The model lacks a mapped parameter.
            ValueError: A mapped parameter has another shape.
        """
        parameters = mapped_parameters(model, self.mapping)
        gradients = {name: parameter.grad for name, parameter in parameters.items() if parameter.grad is not None}
        missing = [name for name in parameters if name not in gradients]
        if missing:
            shown = f"{', '.join(missing[:3])}{', …' if len(missing) > 3 else ''}"
            raise RuntimeError(f"No gradient has reached {shown}. Was backward() called on a loss of this model?")
        if return_dict:
            return {name: gradient.detach().to(target_device, copy=True) for name, gradient in gradients.items()}
        device = next(iter(gradients.values())).device if target_device is None else target_device
        flat = torch.empty(self.input_dim, dtype=self.torch_dtype, device=device)
        for entry, place in self.mapping.slices():
            flat[place] = entry.gather(gradients[entry.name].detach()).to(flat)
        return flat

    def forward_encoder(self, x: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Gradients, flat (…, input_dim) or by parameter name, → latent (…, latent_dim)."""
        return super().forward_encoder(self.flatten_gradient_dict(x) if isinstance(x, Mapping) else x)

    def forward(self, x: Tensor | Mapping[str, Tensor], return_encoded: bool = False) -> Any:
        """Encode and decode; a dict gives a dict of full-shape tensors with zeros outside the selection.

        Args:
            x: Gradients, flat (…, input_dim) or full-shape by parameter name.
            return_encoded: Whether to return the latent too.

        Returns:
            The decoded gradients, or (decoded gradients, latent (…, latent_dim)).
        """
        flat = x if isinstance(x, Tensor) else self.flatten_gradient_dict(x)
        decoded, encoded = super().forward(flat, return_encoded=True)
        if not isinstance(x, Tensor):
            decoded = self.mapping.unflatten(decoded)
        return (decoded, encoded) if return_encoded else decoded

    def without_weights(self) -> ParamMappedGradiendModel:
        """A GRADIEND of the same shape, map and devices whose weights do not exist yet; see `build`."""
        return self._without_weights(self.mapping, self.shards)

    def _without_weights(self, mapping: ParameterMap, shards: Shards | None) -> ParamMappedGradiendModel:
        # A shallow copy would share the dict in which nn.Module keeps submodules.
        empty = copy.copy(self)
        empty._modules = {"encoder": None, "decoder": None}
        empty._dtype, empty._drawn, empty.kwargs = self.torch_dtype, None, dict(self.kwargs)
        empty._device_encoder, empty._device_decoder = self.device_encoder, self.device_decoder
        empty.mapping, empty.shards, empty.input_dim = mapping, shards, mapping.size
        empty.total_dim = mapping.size if shards is None else shards.total(mapping.size)
        return empty

    # Several processes

    @property
    def whole_map(self) -> ParameterMap:
        """See `GradiendModel.whole_map`."""
        if self.shards is None:
            return self.mapping
        if self._whole_of is not self.mapping:
            self._whole_of, self._whole = self.mapping, self.shards.whole_map(self.mapping)
        return self._whole

    def sharded(self, shards: Shards) -> ParamMappedGradiendModel:
        """This process's part of a GRADIEND in one piece, which is copied."""
        part = self._without_weights(shards.own(self.mapping), shards)
        if self.is_built:
            part._create_layers()
            whole = {name: tensor.reshape(-1) for name, tensor in self.state_dict().items()}
            part.fill(lambda name: lambda start, stop: whole[name][start:stop])
            part._drawn = part.weights_digest() if self.seems_untrained else None
        return part

    def from_checkpoint(self, directory: str) -> ParamMappedGradiendModel:
        """A GRADIEND that an earlier state of this one was saved as, on the same devices, or in the same shards."""
        if self.shards is None:
            return ParamMappedGradiendModel.from_pretrained(directory, self.device_encoder, self.device_decoder)
        part = self._without_weights(self.mapping, self.shards)
        part._create_layers()
        weights = find_weights(directory)
        part.fill(lambda name: range_reader(weights, name))
        return part

    @torch.no_grad()
    def fill(self, reader: Callable[[str], Callable[[int, int], Tensor]]) -> None:
        """Fill this process's part; `reader(name)` gives a function that reads a range of the whole flat weight."""
        for name, parameter in self.named_parameters():
            read, start = reader(name), 0
            for part, shape in self._in_order(name, parameter):
                stop = start + math.prod(shape)
                if part is not None and stop > start:
                    part.copy_(read(start, stop).reshape(shape))
                start = stop

    def _keep_dimensions(self, selection: Selection) -> None:
        self.mapping = self.mapping.narrow_each(selection.masks())
        super()._keep_dimensions(selection)
