"""The GRADIEND network: gradients → a few latent numbers → gradients.

The file is one class, which is long since it is the documented network: a third of it says what its methods do.
"""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Self

from gradiend.model._activations import ACTIVATIONS
from gradiend.model._architecture import Architecture, Device, cuda_device, parse_device, parse_weight_part
from gradiend.model._checkpoint import Checkpoint, read_checkpoint, refuse_other_model, write_checkpoint
from gradiend.model._hub import local_folder
from gradiend.model._parameter_map import ParameterMap
from gradiend.model._shards import Shards
from gradiend.model._topk import Selection, ranking, select_dimensions, topk_count, weight_importance
from gradiend.model.layers import LargeLinear
from gradiend.util._bits import add_bits, add_blocks, digest_weights
from gradiend.util._checks import require_path
from gradiend.util._digest import hash_model_weights
from gradiend.util._display import Shown, Table, facts
from gradiend.util._files import require_room, weights_size
from gradiend.util._imports import LATER
from gradiend.util._keywords import strict_methods
from gradiend.util._processes import ONE, by_first
from gradiend.util._tensor_files import Pieces

ENCODER_WEIGHT, ENCODER_BIAS = "encoder.0.linear.weight", "encoder.0.linear.bias"
"""Names in the state of a GRADIEND."""


@strict_methods
class GradiendModel(Shown, nn.Module):
    """Encoder and decoder of Drechsel et al. 2025 (https://arxiv.org/abs/2502.01406), weights only.

        h = act_enc(W_e · x + b_e)        W_e: (latent_dim, input_dim)
        ŷ = act_dec(W_d · h + b_d)        W_d: (input_dim, latent_dim)

    Args:
        input_dim: The number n of gradient entries.
        latent_dim: The number k of latent features, normally 1.
        activation_encoder: tanh, relu, leakyrelu, gelu, silu, elu, sigmoid, smht (hard tanh) or id, in any case.
        activation_decoder: One of the same names; a falsy value means the activation of the encoder.
        bias_decoder: Whether the decoder has a bias.
        torch_dtype: The dtype of all weights.
        device: The device of encoder and decoder, unless they have a device of their own. Default: the CPU.
        device_encoder, device_decoder: The device of one of the two.
        lazy_init: Whether only pruning (at the pruned size) or `build` creates the weights. Until then `encoder` and
            `decoder` are None and any use raises RuntimeError.
        **kwargs: Further metadata (such as `base_model`), which `self.kwargs` and the checkpoint keep.

    Raises ValueError for a dimension that is no positive int, an unknown activation, or an integer dtype.
    """

    _has_map = False
    mapping: ParameterMap | None = None
    shards: Shards | None = None
    """The division of the entries over processes; None for a GRADIEND in one piece."""

    def __init__(
        self, input_dim: int, latent_dim: int, activation_encoder: str = "tanh", activation_decoder: str = "id",
        bias_decoder: bool = True, torch_dtype: torch.dtype = torch.float32, device: Device = None,
        device_encoder: Device = None, device_decoder: Device = None, lazy_init: bool = False, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        parsed = Architecture.parse(
            input_dim, latent_dim, activation_encoder, activation_decoder, bias_decoder, torch_dtype
        )
        self.input_dim, self.latent_dim = parsed.input_dim, parsed.latent_dim
        self.total_dim = self.input_dim
        """The number of entries of all processes that have a part of a sharded GRADIEND."""
        self.activation_encoder, self.activation_decoder = parsed.activation_encoder, parsed.activation_decoder
        self.bias_decoder = parsed.bias_decoder
        self._dtype = parsed.torch_dtype
        default = "cpu" if device is None else device
        self._device_encoder, self._device_decoder = (
            parse_device("device", default) if own is None else parse_device(name, own)
            for name, own in (("device_encoder", device_encoder), ("device_decoder", device_decoder))
        )
        self.kwargs = kwargs
        self._drawn: str | None = None
        """The digest of the random weights; None if the weights are known to have changed."""
        self.encoder: nn.Sequential | None = None
        self.decoder: nn.Sequential | None = None
        if not lazy_init:
            self.build()

    def build(self) -> Self:
        """Create the weights, uniform within ±1/√input_dim, if there are no weights yet.

        The decoder has the scale of the encoder, because the usual default for a layer with one input would make the
        decoder about √input_dim times larger than the gradients that it has to reproduce.
        """
        if not self.is_built:
            self._create_layers()
            bound = self.total_dim**-0.5
            with torch.no_grad():
                for name, parameter in self.named_parameters():
                    for part, shape in self._in_order(name, parameter):
                        # Every process draws the numbers of all parts, so that sharding changes no number.
                        (parameter.new_empty(shape) if part is None else part).uniform_(-bound, bound)
            self._drawn = self.weights_digest()
        return self

    def _in_order(self, name: str, parameter: Tensor) -> Iterator[tuple[Tensor | None, tuple[int, ...]]]:
        """Yield the parts of a parameter in the order of the whole parameter, each with its shape.

        A part that another process has is None.
        """
        if self.shards is None or name == ENCODER_BIAS:
            yield parameter, tuple(parameter.shape)
            return
        assert self.mapping is not None
        rows = parameter.unbind(0) if name == ENCODER_WEIGHT else [parameter]
        counts = self.shards.counts(self.mapping)
        for row in rows:
            for rank, place in self.shards.places(counts):
                shape = (place.stop - place.start, *row.shape[1:])
                yield row[place] if rank == self.shards.team.rank else None, shape

    @property
    def is_untrained(self) -> bool:
        """Whether the weights are still random: not trained, loaded or changed in another way than by pruning."""
        if self._drawn is not None and self._drawn != self.weights_digest():
            self._drawn = None
        return self._drawn is not None

    @property
    def seems_untrained(self) -> bool:
        """Whether nothing is known to have changed the random weights; unlike `is_untrained`, no weight is read."""
        return self._drawn is not None

    def mark_trained(self) -> None:
        """Mark the weights as the result of a training, even of a training that has changed no weight."""
        self._drawn = None

    def weights_hash(self) -> str:
        """The SHA-256 of the weights, see `hash_model_weights`, which does not depend on how they are sharded."""
        if self.shards is None:
            return hash_model_weights(self)
        digest = hashlib.sha256()
        for name, tensor in sorted(self.whole_state().items()):
            if isinstance(tensor, Pieces):
                add_blocks(digest, name, tensor, tensor.blocks())
            else:
                add_bits(digest, name, tensor)
        return self.shards.team.agreed(digest.hexdigest)

    def weights_digest(self) -> str:
        """A digest of the weights; of a sharded GRADIEND, the same in every process."""
        # Tensors on the meta device, which memory estimates use, have no values.
        tensors = sorted((name, tensor) for name, tensor in self.named_parameters() if not tensor.is_meta)
        own = digest_weights(tensors)
        return own if self.shards is None else ", ".join(self.shards.team.exchanged(own))

    def _create_layers(self) -> None:
        n, k, dtype, bias = self.input_dim, self.latent_dim, self.torch_dtype, self.bias_decoder
        # The caller fills the weights, because filling n entries twice would cost time.
        with warnings.catch_warnings():
            # A process of a sharded GRADIEND may have no entry.
            warnings.filterwarnings("ignore", "Initializing zero-element tensors", UserWarning)
            encoder = nn.utils.skip_init(LargeLinear, n, k, dtype=dtype, device=self.device_encoder)
            decoder = nn.utils.skip_init(LargeLinear, k, n, bias=bias, dtype=dtype, device=self.device_decoder)
        self.encoder = nn.Sequential(encoder, ACTIVATIONS[self.activation_encoder].module())
        self.decoder = nn.Sequential(decoder, ACTIVATIONS[self.activation_decoder].module())
        if self.shards is not None:
            encoder.team = self.shards.team

    @property
    def is_built(self) -> bool:
        """Whether the weights exist, which is False between a lazy construction and `build` or `prune`."""
        return self.encoder is not None

    @property
    def encoder_linear(self) -> LargeLinear:
        """The layer with W_e and b_e. Raises RuntimeError before the weights exist."""
        return self._built_linear(self.encoder)

    @property
    def decoder_linear(self) -> LargeLinear:
        """The layer with W_d and b_d. Raises RuntimeError before the weights exist."""
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

    def _tables(self) -> tuple[str, Sequence[Table]]:
        headline = f"{type(self).__name__}: {self.input_dim:,} entries → {self.latent_dim} → {self.input_dim:,} entries"
        return headline, [facts("", self._facts())]

    def _facts(self) -> dict[str, object]:
        """The facts that a person should know of the network; no weight is read."""
        places = dict.fromkeys((str(self.device_encoder), str(self.device_decoder)))
        weights = f"{str(self.torch_dtype).removeprefix('torch.')} on {' and '.join(places)}"
        if not self.is_built:
            weights = f"not made yet; {weights}"
        elif self.seems_untrained:
            weights = f"random, not trained; {weights}"
        bias = "with" if self.bias_decoder else "without"
        return {
            "activation": f"{self.activation_encoder}, decoder {self.activation_decoder} {bias} bias",
            "weights": weights,
            "base model": self.kwargs.get("base_model"),
        }

    @property
    def base_model_id(self) -> str:
        """The name or path of the base model. Raises ValueError if neither is known."""
        if "base_model" not in self.kwargs:
            raise ValueError("This GRADIEND does not know its base model: it was built without base_model=….")
        return self.kwargs["base_model"]

    @property
    def encoder_norm(self) -> float:
        """The L2 norm of W_e."""
        return self._norm(self.encoder_linear.weight)

    @property
    def decoder_norm(self) -> float:
        """The L2 norm of W_d."""
        return self._norm(self.decoder_linear.weight)

    def _norm(self, weight: Tensor) -> float:
        wide = torch.promote_types(weight.dtype, torch.float32)
        norm = torch.linalg.vector_norm(weight.detach(), dtype=wide)
        if self.shards is not None:
            norm = self.shards.team.sum_(norm.square()).sqrt()
        return float(norm)

    # Placement. Dtype and devices are read off the weights, once these exist, because a second record could be wrong.

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype of all weights."""
        return self.encoder_linear.weight.dtype if self.is_built else self._dtype

    @property
    def device_encoder(self) -> torch.device:
        """The device on which the encoder is or will be built."""
        return self.encoder_linear.weight.device if self.is_built else self._device_encoder

    @property
    def device_decoder(self) -> torch.device:
        """The device on which the decoder is or will be built."""
        return self.decoder_linear.weight.device if self.is_built else self._device_decoder

    def to(  # type: ignore[override]
        self, device: Any = None, *, device_encoder: Device = None, device_decoder: Device = None
    ) -> Self:
        """Move encoder and decoder, and return self; weights that do not exist yet are later made there.

        Args:
            device: The device of both; ignored if encoder or decoder gets a device of its own.
            device_encoder: The device of the encoder; None leaves the encoder where it is.
            device_decoder: The device of the decoder; None leaves the decoder where it is.

        Raises TypeError for a dtype, which is fixed at construction.
        """
        if isinstance(device, torch.dtype):
            raise TypeError(
                "The dtype is fixed at construction: pass torch_dtype= to the constructor or from_pretrained."
            )
        if device_encoder is None and device_decoder is None:
            device_encoder = device_decoder = device
        if device_encoder is not None:
            self._device_encoder = parse_device("device_encoder", device_encoder)
            if self.encoder is not None:
                self.encoder.to(self._device_encoder)
        if device_decoder is not None:
            self._device_decoder = parse_device("device_decoder", device_decoder)
            if self.decoder is not None:
                self.decoder.to(self._device_decoder)
        return self

    def cpu(self) -> Self:
        """Move encoder and decoder to the CPU. Returns self."""
        return self.to("cpu")

    def cuda(self, device: Any = None) -> Self:
        """Move encoder and decoder to a CUDA device (None: the current device; int: an index). Returns self."""
        return self.to(cuda_device(device))

    # The network

    def forward_encoder(self, x: Tensor) -> Tensor:
        """(…, input_dim) → latent (…, latent_dim). Raises TypeError for no tensor; see also `forward`."""
        return self._through(self.encoder, x, "input_dim", self.input_dim)

    def forward_decoder(self, h: Tensor) -> Tensor:
        """Latent (…, latent_dim) → (…, input_dim). Raises TypeError for no tensor; see also `forward`."""
        return self._through(self.decoder, h, "latent_dim", self.latent_dim)

    def _through(self, half: nn.Sequential | None, values: Any, name: str, size: int) -> Tensor:
        """The output of encoder or decoder for values, whose last dimension must be `size`."""
        weight = self._built_linear(half).weight
        if not isinstance(values, Tensor):
            hint = " Dicts of gradients need a ParamMappedGradiendModel." if isinstance(values, Mapping) else ""
            raise TypeError(f"Expected a tensor of length {name} = {size}; got {type(values).__name__}.{hint}")
        if values.shape[-1:] != (size,):
            raise ValueError(f"Expected a tensor of length {name} = {size}; got shape {tuple(values.shape)}.")
        assert half is not None
        return half(values.to(weight.device, weight.dtype))

    def forward(self, x: Tensor, return_encoded: bool = False) -> Any:
        """Encode and decode.

        Args:
            x: The gradients, (…, input_dim).
            return_encoded: Whether to return the latent too.

        Returns:
            The decoded gradients (…, input_dim), or (decoded gradients, latent (…, latent_dim)), in the GRADIEND's
            dtype.

        Raises:
            ValueError: The input has a wrong size.
            RuntimeError: The weights do not exist yet (lazy_init).
        """
        encoded = self.forward_encoder(x)
        decoded = self.forward_decoder(encoded)
        return (decoded, encoded) if return_encoded else decoded

    @torch.no_grad()
    def invert_encoding(self) -> bool:
        """Negate the latent and keep the reconstruction: W_e, b_e and W_d change sign, and b_d stays.

        Returns whether the encoder was inverted; only odd encoder activations allow it.
        """
        if not ACTIVATIONS[self.activation_encoder].odd:
            return False
        for parameter in self.inverted_parameters():
            parameter.neg_()
        return True

    def inverted_parameters(self) -> list[nn.Parameter]:
        """W_e, b_e and W_d, which `invert_encoding` negates."""
        bias = self.encoder_linear.bias
        assert bias is not None
        return [self.encoder_linear.weight, bias, self.decoder_linear.weight]

    # Importance and updates read off the weights

    def get_weight_importance(self, part: str = "decoder-weight") -> Tensor:
        """The importance of each input dimension, (input_dim,) float32 on the CPU; higher is more important.

        Args:
            part: encoder-weight (column-wise L1 of W_e), decoder-weight (row-wise L1 of W_d), decoder-bias (`|b_d|`,
                zeros without a bias) or decoder-sum (`|row sum of W_d + b_d|`).

        Raises ValueError for an unknown part.
        """
        own = weight_importance(part, *self._weights())
        if self.shards is None:
            return own
        assert self.mapping is not None
        # The first process alone gets the blocks, and gives them to the others.
        blocks = [*self.shards.pieces(self.mapping, own, (self.total_dim,)).blocks()]
        importance = torch.cat(blocks) if blocks else torch.empty(self.total_dim, dtype=own.dtype)
        self.shards.team.take_over([importance])
        return importance

    def get_update_vector(self, part: str = "decoder-weight") -> Tensor:
        """A signed copy of the weights as one vector, in the GRADIEND's dtype.

        Args:
            part: encoder-weight or decoder-weight (latent_dim · input_dim entries, W_d row by row), or decoder-bias or
                decoder-sum (row sum of W_d plus b_d), which have input_dim entries.

        Raises ValueError for an unknown part.
        """
        W_e, W_d, b_d = self._weights()
        part = parse_weight_part(part)
        if part == "encoder-weight":
            return W_e.flatten().clone()
        if part == "decoder-weight":
            return W_d.flatten().clone()
        return b_d.clone() if part == "decoder-bias" else W_d.sum(1) + b_d

    def _weights(self) -> tuple[Tensor, Tensor, Tensor]:
        """W_e, W_d and b_d; without a decoder bias, b_d is zero."""
        encoder, decoder = self.encoder_linear.weight.detach(), self.decoder_linear.weight.detach()
        bias = self.decoder_linear.bias
        return encoder, decoder, decoder.new_zeros(self.input_dim) if bias is None else bias.detach()

    def get_topk_weights(self, part: str = "decoder-weight", topk: int | float = 1000) -> list[int]:
        """The most important input dimensions, by falling importance; ties go to the lower index.

        Args:
            part: See `get_weight_importance`.
            topk: A number (up to input_dim), or a proportion in (0, 1]; at least one dimension is returned.

        Raises ValueError for an unknown part, a negative number, or a proportion outside (0, 1].
        """
        importance = self.get_weight_importance(part)
        return ranking(importance, topk_count(topk, len(importance))).tolist()

    # Pruning

    def prune(
        self, *, topk: int | float | None = None, threshold: float | None = None, mask: Tensor | None = None,
        part: str = "decoder-weight", importance: Tensor | None = None, inplace: bool = False,
        return_mask: bool = False,
    ) -> Any:  # fmt: skip
        """Remove input dimensions for good; the criteria apply in the order mask → threshold → topk.

        Args:
            topk: The number (int) or proportion (float in (0, 1]) of the remaining dimensions to keep.
            threshold: The least importance of a dimension to keep.
            mask: The dimensions that may stay, (input_dim,) bool.
            part: The weights that give the importance, see `get_weight_importance`.
            importance: The importance, (input_dim,), instead of the importance of `part`.
            inplace: Whether to change this model instead of a copy.
            return_mask: Whether to return the mask of kept dimensions, (old input_dim,) bool on the CPU, too.

        Returns:
            The pruned model, or (model, mask).

        Raises:
            ValueError: No criterion, a wrong mask or importance, an unknown part, a bad topk, or nothing left.
            RuntimeError: The weights do not exist yet, and threshold or topk came without importance.
        """
        parse_weight_part(part)
        if importance is None and (topk is not None or threshold is not None):
            importance = weight_importance(part, *self._weights())
        team = ONE if self.shards is None else self.shards.team
        places = () if self.mapping is None else [place for _, place in self.mapping.slices()]
        selection = select_dimensions(
            self.input_dim, importance, mask=mask, threshold=threshold, topk=topk, places=places, team=team
        )
        model = self if inplace else copy.deepcopy(self)
        if selection.count < self.total_dim:
            model._keep_dimensions(selection)
        model.build()
        return (model, selection.mask()) if return_mask else model

    @torch.no_grad()
    def _keep_dimensions(self, selection: Selection) -> None:
        untrained = self.is_built and self.is_untrained
        self.total_dim = selection.count
        self.input_dim = self.total_dim if self.shards is None or self.mapping is None else self.mapping.size
        if not self.is_built:
            return
        keep = selection.mask()
        encoder, decoder = self.encoder_linear, self.decoder_linear
        encoder.weight = encoder.weight.detach()[:, keep.to(self.device_encoder)].contiguous()
        on_decoder = keep.to(self.device_decoder)
        decoder.weight = decoder.weight.detach()[on_decoder].contiguous()
        if decoder.bias is not None:
            decoder.bias = decoder.bias.detach()[on_decoder].contiguous()
        if untrained:
            self._drawn = self.weights_digest()

    # Persistence

    def save_pretrained(self, save_directory: str, use_safetensors: bool | None = None, **kwargs: Any) -> None:
        """Write `config.json` and the weights (`model.safetensors` or `pytorch_model.bin`), each file atomically.

        A README.md, the card, says what is known of it, unless there is one that a person edited.

        Args:
            save_directory: The directory, which is created if it is missing.
            use_safetensors: False writes `pytorch_model.bin`; None and True write `model.safetensors`.
            **kwargs: Further metadata for config.json; `training` is written to training.json instead.

        Raises:
            RuntimeError: The weights do not exist yet.
            ValueError: The directory holds a model of transformers.
        """
        require_path("save_directory", save_directory)
        refuse_other_model(save_directory)
        self._write(save_directory, use_safetensors, **kwargs)

    def _write(self, save_directory: str, use_safetensors: bool | None = None, **kwargs: Any) -> None:
        """`save_pretrained` into a directory that the caller has checked, whatever the caller has put there since."""
        metadata = {**self.kwargs, **kwargs}
        training, facts = metadata.pop("training", None), metadata.pop("card", None)
        self.encoder_linear  # noqa: B018 - raises before any file is written
        require_room(save_directory, weights_size(self), "The GRADIEND")
        checkpoint = Checkpoint(self._architecture(), self.whole_state(), self.whole_map, metadata, training, facts)
        # The first process writes; of a sharded GRADIEND, all processes hand over what they have.
        write = write_checkpoint if self.shards is not None else by_first(write_checkpoint)
        write(save_directory, checkpoint, use_safetensors=use_safetensors)
        LATER["cards"]().renew(save_directory)

    def _architecture(self) -> Architecture:
        given = {name: getattr(self, name) for name in Architecture.__dataclass_fields__}
        return Architecture(**{**given, "input_dim": self.total_dim})

    @property
    def whole_map(self) -> ParameterMap | None:
        """The map of all processes; `mapping` of a GRADIEND in one piece."""
        return self.mapping

    def whole_state(self) -> dict[str, Any]:
        """The state of all processes, whose tensors are in pieces; `state_dict` of a GRADIEND in one piece."""
        state, shards, mapping, total = dict(self.state_dict()), self.shards, self.mapping, self.total_dim
        if shards is None:
            return state
        assert mapping is not None
        encoder = state[ENCODER_WEIGHT]
        rows = [shards.pieces(mapping, row, (total,)) for row in encoder]
        in_pieces = {
            name: shards.pieces(mapping, tensor, (total, *tensor.shape[1:]))
            for name, tensor in state.items()
            if name not in (ENCODER_WEIGHT, ENCODER_BIAS)
        }
        whole = Pieces(encoder.dtype, (len(encoder), total), lambda: chain.from_iterable(row.blocks() for row in rows))
        return {**state, **in_pieces, ENCODER_WEIGHT: whole}

    @classmethod
    def from_pretrained(
        cls, load_directory: str, device_encoder: Device = None, device_decoder: Device = None,
        torch_dtype: torch.dtype | None = None, *, verify: bool = True, subfolder: str | None = None,
        revision: str | None = None,
    ) -> Self:  # fmt: skip
        """Load a checkpoint that `save_pretrained` wrote, without the base model.

        Args:
            load_directory: The checkpoint: a folder, or a place on a hub, see `ModelWithGradiend.from_pretrained`.
            device_encoder, device_decoder: The devices of encoder and decoder.
            torch_dtype: The dtype of the weights. Default: the saved dtype.
            verify: Whether to compare the files with their checksums, which reads all bits once more.
            subfolder: The folder of the checkpoint below `load_directory`.
            revision: The branch, tag or commit of a repository.

        Raises:
            FileNotFoundError: No config.json, no weights, or, for a `ParamMappedGradiendModel`, no parameter map.
            ValueError: A file was damaged or changed, or does not fit the configuration; the message names the file.
        """
        folder = local_folder(load_directory, subfolder, revision, verify=verify)
        checkpoint = read_checkpoint(folder, with_mapping=cls._has_map, verify=verify)
        arguments: dict[str, Any] = {"param_map": checkpoint.mapping} if cls._has_map else {}
        arguments |= vars(checkpoint.architecture) | ({"torch_dtype": torch_dtype} if torch_dtype else {})
        model = cls(**arguments, device_encoder=device_encoder, device_decoder=device_decoder, lazy_init=True)
        # The constructor takes no metadata, because metadata may have the names of its arguments.
        model.kwargs.update(checkpoint.metadata)
        if checkpoint.training is not None:
            model.kwargs["training"] = checkpoint.training
        if checkpoint.facts:
            model.kwargs["card"] = checkpoint.facts
        devices = {"encoder": model.device_encoder, "decoder": model.device_decoder}
        model._create_layers()
        tensors = checkpoint.tensors.items()
        placed = {name: tensor.to(devices[name.split(".")[0]], model.torch_dtype) for name, tensor in tensors}
        model.load_state_dict(placed, assign=True)
        return model
