"""One step of a GRADIEND: what is trained, and by which arithmetic.

A usual network (one latent, mean squared error, an optimizer with Adam's formula) takes analytic steps: the formula of
the gradient is known, so no autograd graph is needed. On a CPU the update runs in chunks that stay in the cache. For
GPUs the same step is one function of whole vectors, which `torch.compile` turns into a few kernels. Every other network
needs autograd.

One half can be trained alone, on the labels (docs/method.md, "Supervised halves"):

    encoder alone:  loss(act_enc(W_e · s + b_e), y)        decoder alone:  loss(act_dec(W_d · y + b_d), t)

with the label y of the batch: +1, −1 or 0. The other half gets no gradient, so no optimizer changes it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from gradiend.model._activations import ACTIVATIONS
from gradiend.model.model import GradiendModel
from gradiend.model.model_with_gradiend import ModelWithGradiend
from gradiend.model.utils import get_activation
from gradiend.trainer.core._optimizers import BETAS, OPTIMIZERS
from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.util.logging import get_logger

logger = get_logger(__name__)

CHUNK = 1 << 18
"""Entries per chunk of the update on a CPU, so that the dozen float32 vectors of a chunk stay in the cache."""


class GradiendOptimizer(Protocol):
    """Trains a GRADIEND in place."""

    def step(self, source: Tensor, target: Tensor) -> Tensor:
        """One update on flat gradients (input_dim,); returns the loss before the update, ()."""

    def invert(self) -> None:
        """Negate the first moments of the weights that `GradiendModel.invert_encoding` negates."""

    def state_dict(self) -> dict[str, Any]:
        """What the optimizer remembers between steps; tensors may be those that it goes on changing."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Undo `state_dict`."""


class AutogradOptimizer:
    """An optimizer of torch on the autograd graph of the network."""

    def __init__(
        self, gradiend: GradiendModel, arguments: TrainingArguments, predict: Callable[[Tensor], Tensor]
    ) -> None:
        self.gradiend = gradiend
        self.predict = predict
        """Makes the prediction, which the loss compares with the target."""
        assert arguments.criterion is not None
        self.criterion = arguments.criterion
        size = gradiend.latent_dim if arguments.supervised_encoder else gradiend.input_dim
        nothing = next(gradiend.parameters()).detach().new_zeros(size)
        tried = self.criterion(nothing, nothing)
        if not isinstance(tried, Tensor) or tried.numel() != 1:
            what = f"shape {tuple(tried.shape)}" if isinstance(tried, Tensor) else f"a {type(tried).__name__}"
            raise TypeError(f"criterion must return a tensor of one number; it returned {what}.")
        self.kind = OPTIMIZERS[arguments.optim]
        self.optimizer = self.kind.create(
            gradiend.parameters(), lr=arguments.learning_rate, betas=BETAS, eps=arguments.adam_epsilon,
            weight_decay=arguments.weight_decay,
        )  # fmt: skip

    @torch.enable_grad()
    def step(self, source: Tensor, target: Tensor) -> Tensor:
        """See `GradiendOptimizer.step`."""
        predicted = self.predict(source)
        loss = self.criterion(predicted, target.to(predicted))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        # An activation such as tanh hides an infinite source; zero times infinity does not.
        return loss.detach() + source.detach().mul(0).sum().to(loss)

    def state_dict(self) -> dict[str, Any]:
        return self.optimizer.state_dict()["state"]

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": dict(state)})

    def invert(self) -> None:
        for parameter in self.gradiend.inverted_parameters():
            for name in self.kind.moments if parameter in self.optimizer.state else ():
                self.optimizer.state[parameter][name].neg_()


def steps_analytically(gradiend: GradiendModel, arguments: TrainingArguments) -> bool:
    """Whether the analytic step is right for the network and the arguments; the weights need not exist."""
    return (
        gradiend.latent_dim == 1
        and ACTIVATIONS[gradiend.activation_encoder].slope is not None
        and gradiend.activation_decoder == "id"
        and gradiend.torch_dtype in (torch.float32, torch.float64)
        and gradiend.device_encoder == gradiend.device_decoder
        and type(arguments.criterion) is nn.MSELoss
        and arguments.criterion.reduction == "mean"
        and OPTIMIZERS[arguments.optim].decoupled is not None
    )


class _Adam:
    """Adam's or AdamW's update of one parameter, slice by slice (Kingma & Ba 2015; Loshchilov & Hutter 2019).

    The fused kernel of torch reads and writes each vector once. The classes of torch.optim call the same kernel, but
    on whole parameters only, after the gradient of length n has been written to memory.
    """

    def __init__(self, parameter: Tensor, arguments: TrainingArguments) -> None:
        self.values = parameter.detach().view(-1)
        self.first = torch.zeros_like(self.values)
        self.second = torch.zeros_like(self.values)
        self.kernel = torch._fused_adamw_ if OPTIMIZERS[arguments.optim].decoupled else torch._fused_adam_
        self.settings: dict[str, Any] = {
            "lr": float(arguments.learning_rate),
            "beta1": BETAS[0],
            "beta2": BETAS[1],
            "weight_decay": float(arguments.weight_decay),
            "eps": float(arguments.adam_epsilon),
        }

    def update(self, place: slice, gradient: Tensor, step: Tensor) -> None:
        """Update `values[place]` with `gradient`; `step` counts from 1."""
        parts = [self.values[place]], [gradient], [self.first[place]], [self.second[place]]
        self.kernel(*parts, [], [step], amsgrad=False, maximize=False, **self.settings)


class AnalyticOptimizer:
    """The closed-form gradient of the one-latent MSE objective, with the update, in cache-sized chunks.

    With p = W_e·s + b_e, h = act(p), r = W_d h + b_d − t and loss = Σ r² / n:
        ∂W_d = 2 r h / n,  ∂b_d = 2 r / n,  δ = act'(p) Σ 2 r W_d / n,  ∂W_e = δ s,  ∂b_e = δ.
    One pass over W_e and s gives p, one pass over the decoder gives r and updates the decoder, and one pass over W_e
    updates W_e: about 22 n numbers are read or written. h, δ and the loss stay tensors, so a step never waits for them.

    The loss that a step returns has p − p added to it: 0, or undefined if the source gradient is infinite or undefined
    anywhere, which tanh would hide.
    """

    def __init__(self, gradiend: GradiendModel, arguments: TrainingArguments) -> None:
        self.gradiend = gradiend
        slope = ACTIVATIONS[gradiend.activation_encoder].slope
        assert slope is not None
        self.slope = slope
        self.activation = get_activation(gradiend.activation_encoder)
        encoder, decoder = gradiend.encoder_linear, gradiend.decoder_linear
        self.encoder_weight = _Adam(encoder.weight, arguments)
        assert encoder.bias is not None
        self.encoder_bias = _Adam(encoder.bias, arguments)
        self.decoder_weight = _Adam(decoder.weight, arguments)
        self.decoder_bias = None if decoder.bias is None else _Adam(decoder.bias, arguments)
        values = self.encoder_weight.values
        self.steps = torch.zeros((), dtype=torch.float32, device=values.device)
        # A process of a sharded GRADIEND may have no entry.
        size = max(1, min(CHUNK, len(values)) if values.device.type == "cpu" else len(values))
        self.chunks = [slice(start, min(start + size, len(values))) for start in range(0, len(values), size)]
        self.scratch = torch.empty(2, size, dtype=values.dtype, device=values.device)
        self.entries, self.team = gradiend.total_dim, encoder.team

    @torch.no_grad()
    def step(self, source: Tensor, target: Tensor) -> Tensor:
        """See `GradiendOptimizer.step`."""
        self.steps += 1
        source, target = (tensor.to(self.encoder_weight.values) for tensor in (source, target))
        n = self.entries
        before = self.gradiend.encoder_linear(source).squeeze()
        latent = self.activation(before)
        squares, backward = torch.zeros_like(latent), torch.zeros_like(latent)
        for place in self.chunks:
            residual, gradient = self.scratch[:, : place.stop - place.start]
            weight = self.decoder_weight.values[place]
            if self.decoder_bias is None:
                torch.neg(target[place], out=residual)
            else:
                torch.sub(self.decoder_bias.values[place], target[place], out=residual)
            residual.addcmul_(weight, latent)
            squares += residual @ residual
            backward += residual @ weight
            residual *= 2 / n
            self.decoder_weight.update(place, torch.mul(residual, latent, out=gradient), self.steps)
            if self.decoder_bias is not None:
                self.decoder_bias.update(place, residual, self.steps)
        squares, backward = self.team.sum_(torch.stack([squares, backward]))
        delta = 2 / n * backward * self.slope(latent)
        for place in self.chunks:
            gradient = torch.mul(source[place], delta, out=self.scratch[0, : place.stop - place.start])
            self.encoder_weight.update(place, gradient, self.steps)
        self.encoder_bias.update(slice(None), delta.reshape(1), self.steps)
        return squares / n + (before - before)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "moments": [[part.first, part.second] for part in self._parts]}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.steps.copy_(state["steps"])
        for part, (first, second) in zip(self._parts, state["moments"], strict=True):
            part.first.copy_(first)
            part.second.copy_(second)

    @property
    def _parts(self) -> list[_Adam]:
        parts = (self.encoder_weight, self.encoder_bias, self.decoder_weight, self.decoder_bias)
        return [part for part in parts if part is not None]

    def invert(self) -> None:
        for state in (self.encoder_weight, self.encoder_bias, self.decoder_weight):
            state.first.neg_()


class SampledOptimizer(AnalyticOptimizer):
    """The analytic step of a network that has only a sample of the entries, which estimates both sums over entries.

    Each sampled entry counts `weights` (sampled entries,) times; the loss is a mean over all `entries`.
    """

    def __init__(self, gradiend: GradiendModel, arguments: TrainingArguments, weights: Tensor, entries: int) -> None:
        super().__init__(gradiend, arguments)
        self.weights = weights.to(self.encoder_weight.values)
        self.entries = entries

    @torch.no_grad()
    def step(self, source: Tensor, target: Tensor) -> Tensor:
        """See `GradiendOptimizer.step`; the gradients are (sampled entries,)."""
        self.steps += 1
        source, target = (tensor.to(self.encoder_weight.values) for tensor in (source, target))
        before = self.gradiend.encoder_linear(source * self.weights).squeeze()
        latent = self.activation(before)
        weight, everywhere = self.decoder_weight.values, slice(None)
        residual = weight * latent - target
        if self.decoder_bias is not None:
            residual += self.decoder_bias.values
        weighted = residual * self.weights
        loss, backward = weighted @ residual / self.entries, weighted @ weight
        residual *= 2 / self.entries
        self.decoder_weight.update(everywhere, residual * latent, self.steps)
        if self.decoder_bias is not None:
            self.decoder_bias.update(everywhere, residual, self.steps)
        delta = 2 / self.entries * backward * self.slope(latent)
        self.encoder_weight.update(everywhere, source * delta, self.steps)
        self.encoder_bias.update(everywhere, delta.reshape(1), self.steps)
        return loss + (before - before)


State = tuple[Tensor, Tensor, Tensor]
"""A flat parameter, its first moments and its second moments."""


class CompiledOptimizer(AnalyticOptimizer):
    """The analytic optimizer with a step that `torch.compile` fuses; without a compiler it makes the plain step."""

    def __init__(self, gradiend: GradiendModel, arguments: TrainingArguments) -> None:
        super().__init__(gradiend, arguments)
        self.states = [(part.values, part.first, part.second) for part in self._parts]
        self.options = {**self.encoder_weight.settings, "decoupled": OPTIMIZERS[arguments.optim].decoupled}
        self.compiles = True

    @torch.no_grad()
    def step(self, source: Tensor, target: Tensor) -> Tensor:
        """See `GradiendOptimizer.step`; the first one compiles."""
        if not self.compiles:
            return super().step(source, target)
        source, target = (tensor.to(self.encoder_weight.values) for tensor in (source, target))
        try:
            loss = compiled_step()(
                self.states, source, target, self.steps + 1, self.activation, self.slope, self.options
            )
        except torch._dynamo.exc.TorchDynamoException as error:
            logger.warning("torch_compile has no effect here: %s", str(error).strip().splitlines()[0])
            self.compiles = False
            return super().step(source, target)
        self.steps += 1
        return loss


def fused_step(
    states: Sequence[State], source: Tensor, target: Tensor, step: Tensor, activation: nn.Module,
    slope: Callable[[Tensor], Tensor], options: Mapping[str, Any],
) -> Tensor:  # fmt: skip
    """One update in place, see `AnalyticOptimizer` for the formulas; returns the loss before the update, ().

    `states` are those of the encoder's weight and bias, the decoder's weight and, if there is one, the decoder's bias.
    `source` and `target` are (n,), `step` () counts from 1, and `options` are the keywords of `adam_`.
    """
    encoder, encoder_bias, decoder, *rest = states
    before = encoder[0] @ source + encoder_bias[0].squeeze()
    latent = activation(before)
    residual = decoder[0] * latent - target
    for bias in rest:
        residual = residual + bias[0]
    squares, backward = (residual * residual).sum(), (residual * decoder[0]).sum()
    scale = 2 / source.numel()
    delta = scale * backward * slope(latent)
    adam_(decoder, scale * latent * residual, step, **options)
    for bias in rest:
        adam_(bias, scale * residual, step, **options)
    adam_(encoder, delta * source, step, **options)
    adam_(encoder_bias, delta.reshape(1), step, **options)
    return squares / source.numel() + (before - before)


def adam_(
    state: State, gradient: Tensor, step: Tensor, *, lr: float, beta1: float, beta2: float, weight_decay: float,
    eps: float, decoupled: bool,
) -> None:  # fmt: skip
    """Adam (Kingma & Ba 2015) or, with `decoupled` weight decay, AdamW (Loshchilov & Hutter 2019), in place."""
    values, first, second = state
    # 1 − βᵗ, exact in the weights' own type.
    left1, left2 = (-torch.expm1(step.to(values.dtype) * math.log(beta)) for beta in (beta1, beta2))
    if not decoupled:
        gradient = gradient + weight_decay * values
    first.lerp_(gradient, 1 - beta1)
    second.copy_(beta2 * second + (1 - beta2) * gradient * gradient)
    kept = 1 - lr * weight_decay if decoupled else 1.0
    values.copy_(kept * values - lr / left1 * first / ((second / left2).sqrt() + eps))


@functools.cache
def compiled_step() -> Callable[..., Tensor]:
    """`fused_step`, compiled at its first call; it is made on demand, because importing the compiler takes seconds."""
    return torch.compile(fused_step, fullgraph=True)


def optimizer_for(gradiend: GradiendModel, arguments: TrainingArguments) -> GradiendOptimizer:
    """The optimizer of the half or halves that the arguments train.

    The steps of both halves are analytic or, with torch_compile, compiled where this is possible; all others use
    autograd.

    Raises:
        ValueError: A supervised mode with several latents: a label is one number.
    """
    if arguments.supervised:
        if gradiend.latent_dim != 1:
            raise ValueError(
                f"supervised_encoder and supervised_decoder need latent_dim=1, since a label is one number; this "
                f"GRADIEND has {gradiend.latent_dim} latents."
            )
        half = gradiend.forward_encoder if arguments.supervised_encoder else gradiend.forward_decoder
        return AutogradOptimizer(gradiend, arguments, half)
    if steps_analytically(gradiend, arguments):
        compiles = arguments.torch_compile and gradiend.shards is None
        return (CompiledOptimizer if compiles else AnalyticOptimizer)(gradiend, arguments)
    if arguments.torch_compile:
        activations = " or ".join(name for name, entry in ACTIVATIONS.items() if entry.slope is not None)
        optimizers = " or ".join(name for name, entry in OPTIMIZERS.items() if entry.decoupled is not None)
        known = f"one latent, {activations}, a decoder without activation, MSE, and {optimizers}"
        logger.warning("torch_compile has no effect: it is for %s.", known)
    return AutogradOptimizer(gradiend, arguments, gradiend)


def resolve_target(model: ModelWithGradiend, arguments: TrainingArguments, *, new: bool) -> None:
    """Set a model's target to that of the arguments, unless a trained GRADIEND has one already.

    A `new` GRADIEND, which has not been trained, gets no target if its encoder alone is trained.
    """
    if new and arguments.supervised_encoder:
        model.set_target(None)
    elif model.target is None and not arguments.supervised_encoder:
        model.set_target(arguments.target)


def gradient_arguments(model: ModelWithGradiend, arguments: TrainingArguments, cache_dir: str | None) -> dict[str, Any]:
    """Keywords of `create_gradient_training_dataset` that differ from the defaults.

    A half that is not trained needs no gradient; `cache_dir` is the directory in which gradients are kept, if any.
    """
    given: dict[str, Any] = {}
    if arguments.supervised:
        given["source"] = None if arguments.supervised_decoder else model.source
        given["target"] = None if arguments.supervised_encoder else model.target
    if arguments.bf16:
        given["bf16"] = True
    if cache_dir is not None:
        given |= {"cache_dir": cache_dir, "use_cached_gradients": True}
    return given


def training_pair(batch: Mapping[str, Any], arguments: TrainingArguments) -> tuple[Tensor, Tensor]:
    """(input, wanted output) of one step, both flat."""
    needed = ("source", "label") if arguments.supervised_encoder else ("source", "target")
    needed = ("label", "target") if arguments.supervised_decoder else needed
    missing = [name for name in needed if batch.get(name) is None]
    if missing:
        raise KeyError(f"A training batch needs {' and '.join(needed)}; {' and '.join(missing)} is missing from it.")
    first, second = (label_of(batch) if name == "label" else batch[name].reshape(-1) for name in needed)
    return first, second


def label_of(batch: Mapping[str, Any]) -> Tensor:
    """The label of a batch, (1,): its number, or the mean of its examples' labels."""
    return torch.as_tensor(batch["label"], dtype=torch.float64).mean().reshape(1)
