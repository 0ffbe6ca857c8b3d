"""The GRADIEND network: gradients → a few latent numbers → gradients."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Self

from gradiend.model.activations import ACTIVATIONS, get_activation
from gradiend.model.architecture import Architecture
from gradiend.model.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from gradiend.model.devices import Device, cuda_device
from gradiend.model.layers import LargeLinear
from gradiend.model.parameter_map import ParameterMap
from gradiend.model.parts import parse_weight_part, weight_importance, weight_update_vector
from gradiend.model.selection import Selection, ranking, select_dimensions, topk_count
from gradiend.util._digest import digest_tensors


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
        ValueError: A dimension that is not a positive int, an unknown activation, or an integer dtype.
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
        parsed = Architecture.parse(
            input_dim, latent_dim, activation_encoder, activation_decoder, bias_decoder, torch_dtype
        )
        self.input_dim, self.latent_dim = parsed.input_dim, parsed.latent_dim
        self.activation_encoder, self.activation_decoder = parsed.activation_encoder, parsed.activation_decoder
        self.bias_decoder = parsed.bias_decoder
        self._dtype = parsed.torch_dtype
        default = "cpu" if device is None else device
        self._device_encoder = torch.device(default if device_encoder is None else device_encoder)
        self._device_decoder = torch.device(default if device_decoder is None else device_decoder)
        self.kwargs = kwargs
        self._drawn: str | None = None
        """Digest of the weights as they were drawn, while nothing is known to have changed them."""
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
            self._drawn = self._digest()
        return self

    @property
    def is_untrained(self) -> bool:
        """Whether the weights are still the random ones that were drawn: not trained, loaded or changed in any way.

        Pruning an untrained GRADIEND leaves it untrained.
        """
        if self._drawn is not None and self._drawn != self._digest():
            self._drawn = None
        return self._drawn is not None

    def mark_trained(self) -> None:
        """Say that the weights are the result of a training, even if that has left every one of them as it was."""
        self._drawn = None

    def _digest(self) -> str:
        # Tensors on the meta device have shapes only, for whoever asks what a model would take.
        return digest_tensors((name, tensor) for name, tensor in self.named_parameters() if not tensor.is_meta)

    def _create_layers(self) -> None:
        n, k, dtype, bias = self.input_dim, self.latent_dim, self.torch_dtype, self.bias_decoder
        # Uninitialised: the caller fills them, and filling n entries twice costs time.
        encoder = nn.utils.skip_init(LargeLinear, n, k, dtype=dtype, device=self.device_encoder)
        decoder = nn.utils.skip_init(LargeLinear, k, n, bias=bias, dtype=dtype, device=self.device_decoder)
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

    def __repr__(self) -> str:
        shape = f"input_dim={self.input_dim}, latent_dim={self.latent_dim}, bias_decoder={self.bias_decoder}"
        lazy = "" if self.is_built else ", without weights yet"
        activations = f"activation_encoder={self.activation_encoder!r}, activation_decoder={self.activation_decoder!r}"
        return f"{type(self).__name__}({shape}, {activations}, torch_dtype={self.torch_dtype}{lazy})"

    @property
    def base_model_id(self) -> str:
        """Name or path of the base model. Raises ValueError if it was never given."""
        if "base_model" not in self.kwargs:
            raise ValueError("This GRADIEND does not know its base model: it was built without base_model=….")
        return self.kwargs["base_model"]

    @property
    def encoder_norm(self) -> float:
        """L2 norm of W_e."""
        return _norm(self.encoder_linear.weight)

    @property
    def decoder_norm(self) -> float:
        """L2 norm of W_d."""
        return _norm(self.decoder_linear.weight)

    # Placement. The weights, once they exist, say where they are and in which dtype: no second record can go stale.

    @property
    def torch_dtype(self) -> torch.dtype:
        """Of all weights."""
        return self.encoder_linear.weight.dtype if self.is_built else self._dtype

    @property
    def device_encoder(self) -> torch.device:
        """Where the encoder is, or will be built."""
        return self.encoder_linear.weight.device if self.is_built else self._device_encoder

    @property
    def device_decoder(self) -> torch.device:
        """Where the decoder is, or will be built."""
        return self.decoder_linear.weight.device if self.is_built else self._device_decoder

    def to(  # type: ignore[override]
        self, device: Any = None, *, device_encoder: Device = None, device_decoder: Device = None
    ) -> Self:
        """Move both halves, or only those with a device of their own. Before the weights exist, it says where they go.

        Args:
            device: Of both halves; ignored where one of the next two is given.
            device_encoder: Of the encoder; None leaves it where it is.
            device_decoder: Of the decoder; None leaves it where it is.

        Returns:
            self.

        Raises:
            TypeError: A dtype.
        """
        if isinstance(device, torch.dtype):
            raise TypeError(
                "The dtype is fixed at construction: pass torch_dtype= to the constructor or from_pretrained."
            )
        if device_encoder is None and device_decoder is None:
            device_encoder = device_decoder = device
        if device_encoder is not None:
            self._device_encoder = torch.device(device_encoder)
            if self.encoder is not None:
                self.encoder.to(self._device_encoder)
        if device_decoder is not None:
            self._device_decoder = torch.device(device_decoder)
            if self.decoder is not None:
                self.decoder.to(self._device_decoder)
        return self

    def cpu(self) -> Self:
        """Move both halves to the CPU. Returns self."""
        return self.to("cpu")

    def cuda(self, device: Any = None) -> Self:
        """Move both halves to a CUDA device (None: the current one; int: its index). Returns self."""
        return self.to(cuda_device(device))

    # The network

    def forward_encoder(self, x: Tensor) -> Tensor:
        """(…, input_dim) → latent (…, latent_dim).

        Raises:
            TypeError: Not a tensor.
            ValueError: A wrong size.
            RuntimeError: The weights do not exist yet.
        """
        self.encoder_linear  # noqa: B018 - the teaching error before weights exist
        if not isinstance(x, Tensor):
            raise TypeError(
                f"Expected a tensor of length input_dim = {self.input_dim}; got {type(x).__name__}. "
                "Dicts of gradients need a ParamMappedGradiendModel."
            )
        if x.shape[-1:] != (self.input_dim,):
            raise ValueError(f"Expected gradients of length input_dim = {self.input_dim}; got shape {tuple(x.shape)}.")
        assert self.encoder is not None
        return self.encoder(x.to(self.device_encoder, self.torch_dtype))

    def forward_decoder(self, h: Tensor) -> Tensor:
        """Latent (…, latent_dim) → (…, input_dim).

        Raises:
            ValueError: A wrong size.
            RuntimeError: The weights do not exist yet.
        """
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
            Decoded (…, input_dim), or (decoded, latent (…, latent_dim)), in the GRADIEND's dtype.

        Raises:
            ValueError: A wrong size.
            RuntimeError: The weights do not exist yet.
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
        if not ACTIVATIONS[self.activation_encoder].odd:
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
        return weight_importance(part, *self._weights())

    def get_update_vector(self, part: str = "decoder-weight") -> Tensor:
        """A signed copy of the weights as one vector, in the GRADIEND's dtype.

        Args:
            part: encoder-weight or decoder-weight (latent_dim · input_dim entries, W_d row by row), decoder-bias or
                decoder-sum (row sum of W_d plus b_d), input_dim entries each.

        Raises:
            ValueError: Another part.
        """
        return weight_update_vector(part, *self._weights())

    def _weights(self) -> tuple[Tensor, Tensor, Tensor]:
        """W_e, W_d and b_d, zeros without a decoder bias."""
        encoder, decoder = self.encoder_linear.weight.detach(), self.decoder_linear.weight.detach()
        bias = self.decoder_linear.bias
        return encoder, decoder, decoder.new_zeros(self.input_dim) if bias is None else bias.detach()

    def get_topk_weights(self, part: str = "decoder-weight", topk: int | float = 1000) -> list[int]:
        """Input dimensions by falling importance (ties: the lower index first).

        Args:
            part: See `get_weight_importance`.
            topk: How many (clipped to input_dim), or a proportion in (0, 1]; at least one is returned.

        Raises:
            ValueError: Another part, a negative number, or a float outside (0, 1].
        """
        importance = self.get_weight_importance(part)
        return ranking(importance, topk_count(topk, self.input_dim)).tolist()

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
            ValueError: No criterion, a wrong mask or importance, another part, a bad topk, or nothing left.
            RuntimeError: The weights do not exist yet, and threshold or topk came without importance.
        """
        parse_weight_part(part)
        if importance is None and (topk is not None or threshold is not None):
            importance = self.get_weight_importance(part)
        selection = select_dimensions(self.input_dim, importance, mask=mask, threshold=threshold, topk=topk)
        model = self if inplace else copy.deepcopy(self)
        if selection.count < self.input_dim:
            model._keep_dimensions(selection)
        model.build()
        return (model, selection.mask()) if return_mask else model

    @torch.no_grad()
    def _keep_dimensions(self, selection: Selection) -> None:
        self.input_dim = selection.count
        if not self.is_built:
            return
        keep, untrained = selection.mask(), self.is_untrained
        encoder, decoder = self.encoder_linear, self.decoder_linear
        encoder.weight = encoder.weight.detach()[:, keep.to(self.device_encoder)].contiguous()
        on_decoder = keep.to(self.device_decoder)
        decoder.weight = decoder.weight.detach()[on_decoder].contiguous()
        if decoder.bias is not None:
            decoder.bias = decoder.bias.detach()[on_decoder].contiguous()
        if untrained:
            self._drawn = self._digest()

    # Persistence

    def save_pretrained(self, save_directory: str, use_safetensors: bool | None = None, **kwargs: Any) -> None:
        """Write `config.json` and the weights (`model.safetensors`, or `pytorch_model.bin`), atomically each.

        Args:
            save_directory: Created if missing.
            use_safetensors: False writes `pytorch_model.bin`; None and True write `model.safetensors` (safetensors is
                a hard dependency, so True never lacks it).
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
        return cls._from_checkpoint(read_checkpoint(load_directory), torch_dtype, device_encoder, device_decoder)

    @classmethod
    def _from_checkpoint(
        cls,
        checkpoint: Checkpoint,
        torch_dtype: torch.dtype | None,
        device_encoder: Device,
        device_decoder: Device,
        **arguments: Any,
    ) -> Self:
        """Build the model without initialising it, and take the checkpoint's tensors over."""
        architecture = {**vars(checkpoint.architecture), **arguments}
        architecture["torch_dtype"] = torch_dtype or checkpoint.architecture.torch_dtype
        model = cls(**architecture, device_encoder=device_encoder, device_decoder=device_decoder, lazy_init=True)
        # Not through the constructor: metadata may have names that are arguments of it.
        model.kwargs.update(checkpoint.metadata)
        if checkpoint.training is not None:
            model.kwargs["training"] = checkpoint.training
        devices = {"encoder": model.device_encoder, "decoder": model.device_decoder}
        model._create_layers()
        placed = {
            name: tensor.to(devices[name.split(".")[0]], model.torch_dtype)
            for name, tensor in checkpoint.tensors.items()
        }
        model.load_state_dict(placed, assign=True)
        return model


def _norm(weight: Tensor) -> float:
    wide = torch.promote_types(weight.dtype, torch.float32)
    return float(torch.linalg.vector_norm(weight.detach(), dtype=wide))
