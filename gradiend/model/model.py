"""The GRADIEND network: gradients → a few latent numbers → gradients."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Self

from gradiend.model.activations import ODD_ACTIVATIONS, activation_name, get_activation
from gradiend.model.checkpoint import Architecture, Checkpoint, read_checkpoint, write_checkpoint
from gradiend.model.layers import LargeLinear
from gradiend.model.parameter_map import ParameterMap
from gradiend.model.parts import parse_weight_part
from gradiend.model.selection import select_dimensions, topk_count

Device = torch.device | str | None


class GradiendModel(nn.Module):
    """Encoder and decoder of Drechsel et al. 2025 (https://arxiv.org/abs/2502.01406), weights only.

        h = act_enc(W_e · x + b_e)        W_e: (latent_dim, input_dim)
        ŷ = act_dec(W_d · h + b_d)        W_d: (input_dim, latent_dim)

    Args:
        input_dim: Number of gradient entries n.
        latent_dim: Number of latent features k, normally 1.
        activation_encoder: tanh, relu, leakyrelu, gelu, silu, elu, sigmoid, smht (hard tanh) or id, in any case.
        activation_decoder: The same names; falsy means the encoder's.
        bias_decoder: Whether the decoder has a bias.
        torch_dtype: Of all weights.
        device: For both halves, unless the next two say otherwise. Default: the CPU.
        device_encoder: Where the encoder lives.
        device_decoder: Where the decoder lives.
        lazy_init: Create no weights yet; pruning (at the pruned size) or `build` does. Until then `encoder` and
            `decoder` are None and any use raises RuntimeError.
        **kwargs: Kept in `self.kwargs` and in the saved metadata (e.g. `base_model`).

    Raises:
        ValueError: A dimension that is not a positive int, or an unknown activation.
    """

    def __init__(
        self,
        input_dim: int,
        latent_dim: int,
        activation_encoder: str = "tanh",
        activation_decoder: str = "id",
        bias_decoder: bool = True,
        torch_dtype: torch.dtype = torch.float32,
        device: Device = None,
        device_encoder: Device = None,
        device_decoder: Device = None,
        lazy_init: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        for name, value in (("input_dim", input_dim), ("latent_dim", latent_dim)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive int; got {value!r}.")
        self.input_dim, self.latent_dim = input_dim, latent_dim
        self.activation_encoder = activation_name(activation_encoder)
        self.activation_decoder = activation_name(activation_decoder or activation_encoder)
        self.bias_decoder = bool(bias_decoder)
        self.torch_dtype = torch_dtype
        self.device_encoder = torch.device(device_encoder or device or "cpu")
        self.device_decoder = torch.device(device_decoder or device or "cpu")
        self.kwargs = kwargs
        self.encoder: nn.Sequential | None = None
        self.decoder: nn.Sequential | None = None
        if not lazy_init:
            self.build()

    def build(self) -> Self:
        """Create the weights if there are none yet: all of them uniform within ±1/√input_dim.

        The decoder shares the encoder's scale; the usual default for a layer with one input would start it about
        √input_dim times larger than the gradients that it has to reproduce.
        """
        if not self.is_built:
            self._create_layers()
            bound = self.input_dim**-0.5
            with torch.no_grad():
                for parameter in self.parameters():
                    parameter.uniform_(-bound, bound)
        return self

    def _create_layers(self) -> None:
        n, k, dtype = self.input_dim, self.latent_dim, self.torch_dtype
        encoder = LargeLinear(n, k, dtype=dtype, device=self.device_encoder)
        decoder = LargeLinear(k, n, bias=self.bias_decoder, dtype=dtype, device=self.device_decoder)
        self.encoder = nn.Sequential(encoder, get_activation(self.activation_encoder))
        self.decoder = nn.Sequential(decoder, get_activation(self.activation_decoder))

    @property
    def is_built(self) -> bool:
        """Whether the weights exist (False between a lazy construction and `build` or `prune`)."""
        return self.encoder is not None

    @property
    def encoder_linear(self) -> LargeLinear:
        """W_e and b_e. Raises RuntimeError before the weights exist."""
        return self._built_linear(self.encoder)

    @property
    def decoder_linear(self) -> LargeLinear:
        """W_d and b_d. Raises RuntimeError before the weights exist."""
        return self._built_linear(self.decoder)

    def _built_linear(self, half: nn.Sequential | None) -> LargeLinear:
        if half is None:
            raise RuntimeError(
                "This GRADIEND has no weights yet (lazy_init=True): prune it, or call build() for the full size."
            )
        linear = half[0]
        assert isinstance(linear, LargeLinear)
        return linear

    def __len__(self) -> int:
        """The current input_dim."""
        return self.input_dim

    def pruned_length(self) -> int:
        """The current input_dim."""
        return self.input_dim

    def extra_repr(self) -> str:
        """Shown in the module's repr."""
        return f"input_dim={self.input_dim}, latent_dim={self.latent_dim}, dtype={self.torch_dtype}"

    @property
    def base_model_id(self) -> str:
        """Name or path of the base model. Raises ValueError if it was never given."""
        if "base_model" not in self.kwargs:
            raise ValueError("This GRADIEND does not know its base model: it was built without base_model=….")
        return self.kwargs["base_model"]

    @property
    def encoder_norm(self) -> float:
        """L2 norm of W_e."""
        return float(self.encoder_linear.weight.detach().norm())

    @property
    def decoder_norm(self) -> float:
        """L2 norm of W_d."""
        return float(self.decoder_linear.weight.detach().norm())

    # Placement

    def to(  # type: ignore[override]
        self, device: Any = None, *, device_encoder: Device = None, device_decoder: Device = None
    ) -> Self:
        """Move both halves to `device`, or each to its own; a side that is None stays where it is. Returns self."""
        if isinstance(device, torch.dtype):
            raise TypeError(
                "The dtype is fixed at construction: pass torch_dtype= to the constructor or from_pretrained."
            )
        if device_encoder is not None or device is not None:
            self.device_encoder = torch.device(device_encoder if device_encoder is not None else device)
        if device_decoder is not None or device is not None:
            self.device_decoder = torch.device(device_decoder if device_decoder is not None else device)
        if self.encoder is not None and self.decoder is not None:
            self.encoder.to(self.device_encoder)
            self.decoder.to(self.device_decoder)
        return self

    def cpu(self) -> Self:
        """Move both halves to the CPU. Returns self."""
        return self.to("cpu")

    def cuda(self, device: Any = None) -> Self:
        """Move both halves to a CUDA device (None: the current one; int: its index). Returns self."""
        return self.to(torch.device("cuda", device) if isinstance(device, int) else (device or "cuda"))

    # The network

    def forward_encoder(self, x: Tensor) -> Tensor:
        """(…, input_dim) → latent (…, latent_dim). Raises ValueError for a wrong size."""
        self.encoder_linear  # noqa: B018 - the teaching error before weights exist
        if x.shape[-1:] != (self.input_dim,):
            raise ValueError(f"Expected gradients of length input_dim = {self.input_dim}; got shape {tuple(x.shape)}.")
        assert self.encoder is not None
        return self.encoder(x.to(self.device_encoder, self.torch_dtype))

    def forward_decoder(self, h: Tensor) -> Tensor:
        """Latent (…, latent_dim) → (…, input_dim). Raises ValueError for a wrong size."""
        self.decoder_linear  # noqa: B018 - the teaching error before weights exist
        if h.shape[-1:] != (self.latent_dim,):
            raise ValueError(f"Expected latents of length latent_dim = {self.latent_dim}; got shape {tuple(h.shape)}.")
        assert self.decoder is not None
        return self.decoder(h.to(self.device_decoder, self.torch_dtype))

    def forward(self, x: Tensor, return_encoded: bool = False) -> Any:
        """Encode and decode.

        Args:
            x: (…, input_dim) gradients.
            return_encoded: Also return the latent.

        Returns:
            Decoded (…, input_dim), or (decoded, latent (…, latent_dim)).
        """
        encoded = self.forward_encoder(x)
        decoded = self.forward_decoder(encoded)
        return (decoded, encoded) if return_encoded else decoded

    @torch.no_grad()
    def invert_encoding(self) -> bool:
        """Negate the latent and keep the reconstruction: W_e, b_e and W_d change sign, b_d stays.

        Returns:
            Whether it was done: it cannot be for an encoder activation that is not odd.
        """
        if self.activation_encoder not in ODD_ACTIVATIONS:
            return False
        for parameter in self.inverted_parameters():
            parameter.neg_()
        return True

    def inverted_parameters(self) -> list[nn.Parameter]:
        """W_e, b_e and W_d: what `invert_encoding` negates."""
        bias = self.encoder_linear.bias
        assert bias is not None
        return [self.encoder_linear.weight, bias, self.decoder_linear.weight]

    # Importance and updates read off the weights

    def get_weight_importance(self, part: str = "decoder-weight") -> Tensor:
        """Importance of each input dimension: (input_dim,) float32 on the CPU, higher is more important.

        Args:
            part: encoder-weight (column-wise L1 of W_e), decoder-weight (row-wise L1 of W_d), decoder-bias (|b_d|,
                zeros without a bias) or decoder-sum (|row sum of W_d + b_d|).

        Raises:
            ValueError: Another part.
        """
        part = parse_weight_part(part)
        with torch.no_grad():
            if part == "encoder-weight":
                importance = self.encoder_linear.weight.abs().sum(0)
            elif part == "decoder-weight":
                importance = self.decoder_linear.weight.abs().sum(1)
            elif part == "decoder-bias":
                importance = self._decoder_bias().abs()
            else:
                importance = (self.decoder_linear.weight.sum(1) + self._decoder_bias()).abs()
        return importance.float().cpu()

    def get_update_vector(self, part: str = "decoder-weight") -> Tensor:
        """A signed copy of the weights as one vector: W_e or W_d flattened (latent_dim · input_dim entries, W_d row by
        row), b_d, or the row sum of W_d plus b_d (input_dim entries).

        Raises:
            ValueError: Another part.
        """
        part = parse_weight_part(part)
        with torch.no_grad():
            if part == "encoder-weight":
                return self.encoder_linear.weight.flatten().clone()
            if part == "decoder-weight":
                return self.decoder_linear.weight.flatten().clone()
            if part == "decoder-bias":
                return self._decoder_bias().clone()
            return self.decoder_linear.weight.sum(1) + self._decoder_bias()

    def _decoder_bias(self) -> Tensor:
        linear = self.decoder_linear
        return linear.weight.new_zeros(self.input_dim) if linear.bias is None else linear.bias.detach()

    def get_topk_weights(self, part: str = "decoder-weight", topk: int | float = 1000) -> list[int]:
        """Input dimensions by falling importance, the first `topk` (a number, or a proportion in (0, 1]).

        Raises:
            ValueError: Another part, a negative number, or a float outside (0, 1].
        """
        importance = self.get_weight_importance(part)
        count = topk_count(topk, self.input_dim)
        return torch.sort(importance, descending=True, stable=True).indices[:count].tolist()

    # Pruning

    def prune(
        self,
        *,
        topk: int | float | None = None,
        threshold: float | None = None,
        mask: Tensor | None = None,
        part: str = "decoder-weight",
        importance: Tensor | None = None,
        inplace: bool = False,
        return_mask: bool = False,
    ) -> Any:
        """Drop input dimensions for good; criteria apply in the order mask → threshold → topk.

        Args:
            topk: Keep this many (int) or this proportion (float in (0, 1]) of what is left.
            threshold: Keep importance ≥ threshold.
            mask: Keep these; (input_dim,) bool.
            part: The weights that importance is read off, see `get_weight_importance`.
            importance: (input_dim,) to use instead.
            inplace: Change this model; otherwise a copy is returned and this one keeps its size.
            return_mask: Also return what was kept, (old input_dim,) bool on the CPU.

        Returns:
            The pruned model, or (model, mask).

        Raises:
            ValueError: No criterion, a wrong mask, a bad topk, or nothing left.
            RuntimeError: The weights do not exist yet, and neither importance nor a mask alone decides.
        """
        parse_weight_part(part)
        if importance is None and (topk is not None or threshold is not None):
            importance = self.get_weight_importance(part)
        keep = select_dimensions(self.input_dim, importance, mask=mask, threshold=threshold, topk=topk)
        model = self if inplace else copy.deepcopy(self)
        if not keep.all():
            model._keep_dimensions(keep)
        model.build()
        return (model, keep) if return_mask else model

    @torch.no_grad()
    def _keep_dimensions(self, keep: Tensor) -> None:
        self.input_dim = int(keep.sum())
        if not self.is_built:
            return
        encoder, decoder = self.encoder_linear, self.decoder_linear
        encoder.weight = encoder.weight.detach()[:, keep.to(self.device_encoder)].contiguous()
        on_decoder = keep.to(self.device_decoder)
        decoder.weight = decoder.weight.detach()[on_decoder].contiguous()
        if decoder.bias is not None:
            decoder.bias = decoder.bias.detach()[on_decoder].contiguous()

    # Persistence

    def save_pretrained(self, save_directory: str, use_safetensors: bool | None = None, **kwargs: Any) -> None:
        """Write `config.json` and the weights (`model.safetensors`, or `pytorch_model.bin`), atomically each.

        Args:
            save_directory: Created if missing.
            use_safetensors: False writes `pytorch_model.bin`; None and True write `model.safetensors`.
            **kwargs: More metadata for config.json; `training` goes to training.json instead.

        Raises:
            RuntimeError: The weights do not exist yet.
        """
        metadata = {**self.kwargs, **kwargs}
        training = metadata.pop("training", None)
        self.encoder_linear  # noqa: B018 - the teaching error before any file is written
        write_checkpoint(
            save_directory,
            Checkpoint(self._architecture(), self.state_dict(), self._mapping(), metadata, training),
            use_safetensors=use_safetensors,
        )

    def _architecture(self) -> Architecture:
        return Architecture(
            input_dim=self.input_dim,
            latent_dim=self.latent_dim,
            activation_encoder=self.activation_encoder,
            activation_decoder=self.activation_decoder,
            bias_decoder=self.bias_decoder,
            torch_dtype=self.torch_dtype,
        )

    def _mapping(self) -> ParameterMap | None:
        return None

    @classmethod
    def from_pretrained(
        cls,
        load_directory: str,
        device_encoder: Device = None,
        device_decoder: Device = None,
        torch_dtype: torch.dtype | None = None,
    ) -> Self:
        """Load what `save_pretrained` wrote.

        Args:
            load_directory: The checkpoint.
            device_encoder: Where to put the encoder.
            device_decoder: Where to put the decoder.
            torch_dtype: Instead of the saved one.

        Raises:
            FileNotFoundError: No config.json or no weights.
            ValueError: A file that does not fit the configuration; the message names it.
        """
        checkpoint = read_checkpoint(load_directory)
        return cls._from_checkpoint(
            checkpoint,
            device_encoder=device_encoder,
            device_decoder=device_decoder,
            torch_dtype=torch_dtype or checkpoint.architecture.torch_dtype,
        )

    @classmethod
    def _from_checkpoint(cls, checkpoint: Checkpoint, **arguments: Any) -> Self:
        """Build the model without initialising it, and adopt the checkpoint's tensors."""
        architecture = {**vars(checkpoint.architecture), **arguments}
        metadata = dict(checkpoint.metadata)
        if checkpoint.training is not None:
            metadata["training"] = checkpoint.training
        model = cls(**architecture, lazy_init=True, **metadata)
        model._create_layers()
        model.load_state_dict({name: tensor.to(model.torch_dtype) for name, tensor in checkpoint.tensors.items()})
        return model
