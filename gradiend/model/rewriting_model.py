"""The part of a `ModelWithGradiend` that changes base-model weights: updates, rewritten copies, deltas."""

from __future__ import annotations

import copy
import logging
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self

from gradiend.model.context import moving_factor, one_goal
from gradiend.model.delta import delta_of
from gradiend.model.delta_file import write_delta
from gradiend.model.param_mapped import ParamMappedGradiendModel
from gradiend.model.parts import parse_rewrite_part
from gradiend.model.rewrite_record import RewriteChoice, RewriteRecord
from gradiend.model.rewriting import add_update, finite_step, refuse_no_change, share_changed, updated_parameters
from gradiend.util._digest import hash_model_weights
from gradiend.util.keywords import known_keywords

logger = logging.getLogger(__name__)

Factor = float | Sequence[float] | Tensor
"""One number for all latents, or one each."""


class RewritesBaseModel:
    """θ' = θ + learning_rate · decoder(feature_factor), as a copy, as a file, and as a record of how it was made."""

    base_model: Any
    gradiend: ParamMappedGradiendModel

    @property
    @abstractmethod
    def name_or_path(self) -> str:
        """Name or path of the base model."""

    @property
    @abstractmethod
    def param_map_hash(self) -> str:
        """Hash of the map, see `ParamMappedGradiendModel.param_map_hash`."""

    @property
    @abstractmethod
    def target(self) -> str | None:
        """What the decoder reproduces."""

    @property
    @abstractmethod
    def feature_class_encoding_direction(self) -> dict[str, int] | None:
        """Class → label."""

    @torch.no_grad()
    def update_vector(self, feature_factor: Factor, part: str = "decoder") -> Tensor:
        """The direction of a rewrite in the input space: decoder(feature_factor), or the weights called `part`.

        Args:
            feature_factor: The latent that `part="decoder"` decodes: a scalar for all latents, or latent_dim entries.
            part: decoder, decoder-weight, decoder-bias, decoder-sum or encoder-weight.

        Returns:
            (input_dim,), on the decoder's device.

        Raises:
            ValueError: Another part or number of factors; or a weight part of a GRADIEND with several latents, where
                it is a matrix.
        """
        part = parse_rewrite_part(part)
        if part == "decoder":
            factor = torch.as_tensor(feature_factor, dtype=torch.float64).reshape(-1)
            if factor.numel() == 1:
                factor = factor.expand(self.gradiend.latent_dim)
            return self.gradiend.forward_decoder(factor)
        update = self.gradiend.get_update_vector(part)
        if update.numel() != len(self.gradiend):
            raise ValueError(
                f"part={part!r} is one direction only for latent_dim 1; use part='decoder' with a factor each."
            )
        return update

    @known_keywords("ModelWithGradiend.rewrite_base_model")
    def rewrite_base_model(
        self,
        learning_rate: float,
        feature_factor: Factor | None = None,
        part: str = "decoder",
        *,
        strengthen: str | None = None,
        weaken: str | None = None,
    ) -> Any:
        """A changed copy of the base model: θ' = θ + learning_rate · decoder(feature_factor) on the mapped entries.

            model.rewrite_base_model(learning_rate=0.1, strengthen="feminine")

        Computed in float32 (float64 for a float64 model) and rounded once; a tensor that backbone and head share
        changes in both.

        Args:
            learning_rate: Step size.
            feature_factor: See `update_vector`; used by `part="decoder"` only.
            part: See `update_vector`.
            strengthen: Instead of a factor: the class to make more likely. The model knows the factor, ±1; with
                another part than decoder the step has its sign, as in the decoder evaluation.
            weaken: Instead of a factor: the class to make less likely.

        Returns:
            The copy; this model's base model is untouched.

        Raises:
            TypeError: Not one of feature_factor, strengthen and weaken.
            ValueError: A bad part, a class that the model does not tell apart, an update that is not finite, or one
                that changes no entry: it is 0, or rounding to the parameters' dtype undoes it everywhere.
        """
        learning_rate, feature_factor = self._size_and_factor(learning_rate, feature_factor, part, strengthen, weaken)
        model, step = self._for_rewriting(), self._step(learning_rate, feature_factor, part)
        rewritten = copy.deepcopy(model.base_model)
        share = add_update(rewritten, model.gradiend.mapping, step)
        refuse_no_change(share, step)
        logger.info("The rewrite changed %.1f %% of the mapped entries.", 100 * share)
        return rewritten

    @known_keywords("ModelWithGradiend.export_delta")
    def export_delta(
        self,
        path: str | Path,
        learning_rate: float,
        feature_factor: Factor | None = None,
        part: str = "decoder",
        *,
        choice: RewriteChoice | None = None,
        strengthen: str | None = None,
        weaken: str | None = None,
    ) -> str:
        """Write the entries that `rewrite_base_model` changes, without a copy of the base model; see `apply_delta`.

        Args:
            path: A file that ends in .safetensors, or a directory for gradiend_delta.safetensors.
            learning_rate: See `rewrite_base_model`.
            feature_factor: See `update_vector`.
            part: See `update_vector`.
            choice: How the numbers were chosen, kept in the file.
            strengthen: See `rewrite_base_model`.
            weaken: See `rewrite_base_model`.

        Returns:
            The path of the file.

        Raises:
            TypeError, ValueError: See `rewrite_base_model`.
        """
        learning_rate, feature_factor = self._size_and_factor(learning_rate, feature_factor, part, strengthen, weaken)
        record = self.rewrite_record(learning_rate, feature_factor, part, choice=choice)
        base_model, step = self._for_rewriting().base_model, self._step(learning_rate, feature_factor, part)
        changed = updated_parameters(base_model, self.gradiend.mapping, step)
        return write_delta(path, delta_of(base_model, changed, record))

    def rewrite_record(
        self,
        learning_rate: float,
        feature_factor: Factor,
        part: str = "decoder",
        *,
        choice: RewriteChoice | None = None,
    ) -> RewriteRecord:
        """From what and how `rewrite_base_model` makes a model; arguments and errors as in `export_delta`."""
        base_model, step = self._for_rewriting().base_model, self._step(learning_rate, feature_factor, part)
        share = share_changed(base_model, self.gradiend.mapping, step)
        factors = torch.as_tensor(feature_factor, dtype=torch.float64).squeeze().tolist()
        hashes = hash_model_weights(base_model), hash_model_weights(self.gradiend), self.param_map_hash
        return RewriteRecord(self.name_or_path, *hashes, float(learning_rate), factors, part, share, choice)

    def _size_and_factor(
        self, learning_rate: float, factor: Factor | None, part: str, strengthen: str | None, weaken: str | None
    ) -> tuple[float, Factor]:
        """Step size and feature factor of a rewrite that may name a class instead of a factor."""
        goal = one_goal(strengthen, weaken)
        if (goal is None) == (factor is None):
            raise TypeError(
                "A rewrite needs one of feature_factor=…, strengthen='<class>' and weaken='<class>'; got "
                + ("none." if goal is None else "a feature_factor and a class.")
            )
        if goal is None:
            return learning_rate, factor if factor is not None else 0.0
        name, up = goal
        factor = moving_factor(self.feature_class_encoding_direction, self.target, name, strengthen=up)
        # Only the decoder knows a feature factor; the other parts move both ways through the sign of the step.
        return (learning_rate if parse_rewrite_part(part) == "decoder" else learning_rate * factor), factor

    def _step(self, learning_rate: float, feature_factor: Factor, part: str) -> Tensor:
        return finite_step(self.update_vector(feature_factor, part), learning_rate)

    def _for_rewriting(self) -> Self:
        """This model, or a copy around the base model that a rewrite changes where gradients are made with another."""
        return self
