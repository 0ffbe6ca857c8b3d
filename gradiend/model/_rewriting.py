"""θ' = θ + update on the mapped entries: computed in float32 and rounded once to the parameter's dtype.

A float64 parameter is computed in float64: through float32 even an update of zero would change it.
"""

from __future__ import annotations

import copy
import logging
from abc import ABC
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Self

from gradiend.model._architecture import parse_rewrite_part
from gradiend.model._context import Side, moving_factor, one_goal, parse_direction
from gradiend.model._parameter_map import MappedParameter, ParameterMap, mapped_parameters
from gradiend.model._rewrite_files import RewriteChoice, RewriteRecord, delta_of, write_delta
from gradiend.model.param_mapped import ParamMappedGradiendModel
from gradiend.util._digest import hash_model_weights
from gradiend.util._keywords import known_keywords

logger = logging.getLogger(__name__)

Factor = float | Sequence[float] | Tensor
"""One number for all latents, or one for each."""


@torch.no_grad()
def rewritten_entries(
    base_model: nn.Module, mapping: ParameterMap, update: Tensor
) -> Iterator[tuple[MappedParameter, nn.Parameter, Tensor, Tensor]]:
    """Each mapped parameter with its entries, their values, and the values after `update` (mapping.size,).

    The errors are those of `mapped_parameters`.
    """
    parameters = mapped_parameters(base_model, mapping)
    for entry, place in mapping.slices():
        old = entry.gather(parameters[entry.name].detach())
        wide = torch.promote_types(old.dtype, torch.float32)
        yield entry, parameters[entry.name], old, (old.to(wide) + update[place].to(old.device, wide)).to(old.dtype)


@torch.no_grad()
def add_update(base_model: nn.Module, mapping: ParameterMap, update: Tensor) -> float:
    """Add `update` to the mapped entries of `base_model`, in place; returns the share of them that it changed."""
    changed = 0
    for entry, parameter, old, new in rewritten_entries(base_model, mapping, update):
        changed += int((new != old).sum())
        entry.put(parameter, new)
    return changed / mapping.size


def share_changed(base_model: nn.Module, mapping: ParameterMap, update: Tensor) -> float:
    """The share of the mapped entries whose value `add_update` would change. Raises as `refuse_no_change`."""
    changed = sum(int((new != old).sum()) for *_, old, new in rewritten_entries(base_model, mapping, update))
    refuse_no_change(changed / mapping.size, update)
    return changed / mapping.size


@torch.no_grad()
def updated_parameters(base_model: nn.Module, mapping: ParameterMap, update: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Name and new values of each mapped parameter, what `add_update` makes of it; `base_model` stays as it is."""
    for entry, parameter, _, new in rewritten_entries(base_model, mapping, update):
        whole = parameter.detach().clone()
        entry.put(whole, new)
        yield entry.name, whole


def finite_step(update: Tensor, learning_rate: float) -> Tensor:
    """learning_rate · update, in float32 at least. Raises ValueError if an entry is infinite or undefined."""
    step = learning_rate * update.to(torch.promote_types(update.dtype, torch.float32))
    if not step.isfinite().all():
        raise ValueError(
            f"The update has infinite or undefined entries (learning_rate={learning_rate}): use smaller factors, or "
            "check the GRADIEND's weights."
        )
    return step


def refuse_no_change(share: float, update: Tensor) -> None:
    """Raise ValueError for an update that changes no entry: a step of 0, or one of which rounding leaves nothing."""
    if share:
        return
    if not bool(update.any()):
        raise ValueError(
            "A step of 0 changes nothing: there is no rewritten model, and no delta to export. Use another "
            "learning_rate."
        )
    raise ValueError(
        "The update is too small for the base model's dtype: rounding leaves every entry as it was. "
        "Use a larger learning_rate, or load the base model in float32."
    )


@contextmanager
def temporarily_updated(base_model: nn.Module, mapping: ParameterMap, update: Tensor) -> Iterator[float]:
    """`add_update` for the duration of a with-block; yields the share changed, and restores the same bits."""
    parameters = mapped_parameters(base_model, mapping)
    saved = {entry.name: entry.gather(parameters[entry.name].detach()).clone() for entry in mapping}
    try:
        yield add_update(base_model, mapping, update)
    finally:
        with torch.no_grad():
            for entry in mapping:
                entry.put(parameters[entry.name], saved[entry.name])


class RewritesBaseModel(nn.Module, ABC):
    """A base model and its GRADIEND, as far as a rewrite needs them.

    θ' = θ + learning_rate · decoder(feature_factor) is made as a copy, as a file, and as a record of how it was made.
    """

    base_model: Any
    gradiend: ParamMappedGradiendModel
    _target: Side | None
    _direction: dict[str, int] | None
    _recorded_base: str
    """Name or path by which a checkpoint finds the base model again; empty where it has none."""

    @property
    def target(self) -> str | None:
        """What the decoder reproduces."""
        return None if self._target is None else self._target.value

    def set_target(self, target: str | None) -> None:
        """Say what the decoder reproduces from now on; None: it is not trained. Raises ValueError for another."""
        self._target = None if target is None else Side.parse("target", target)

    @property
    def param_map_hash(self) -> str:
        """See `ParamMappedGradiendModel.param_map_hash`."""
        return self.gradiend.param_map_hash

    @property
    def name_or_path(self) -> str:
        """Name or path of the base model: what a checkpoint records, else what the model itself says."""
        return self._recorded_base or self.base_model.name_or_path

    @property
    def name(self) -> str:
        """The last part of `name_or_path`."""
        return Path(self.name_or_path).name

    @property
    def feature_class_encoding_direction(self) -> dict[str, int] | None:
        """Class → label it is trained to encode as: +1, −1 or 0; None if unknown."""
        return None if self._direction is None else dict(self._direction)

    def set_feature_class_encoding_direction(self, direction: Mapping[str, int]) -> None:
        """Set the direction, once; the same again is fine.

        Raises:
            ValueError: A different one is already set, or a label is not +1, −1 or 0.
        """
        parsed = parse_direction(direction)
        if self._direction is not None and self._direction != parsed:
            raise ValueError(
                f"This model already encodes {self._direction}; {parsed} contradicts it. "
                "Train a new GRADIEND for other classes."
            )
        self._direction = parsed

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
                another part than decoder the step has the sign of that factor, as in the decoder evaluation.
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
