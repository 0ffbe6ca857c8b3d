"""The evaluations and plots of one trainer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gradiend.evaluator.decoder import DecoderEvaluator
from gradiend.evaluator.encoder import EncoderEvaluator


def _of_visualizer(name: str) -> Callable[..., Any]:
    """The method that calls a plot of the visualizer."""

    def method(self: Evaluator, *args: Any, **kwargs: Any) -> Any:
        if self._visualizer is None:
            raise NotImplementedError("This Evaluator has no plots: construct it with visualizer_class=Visualizer.")
        return getattr(self._visualizer, name)(*args, **kwargs)

    method.__name__, method.__qualname__ = name, f"Evaluator.{name}"
    method.__doc__ = f"See `gradiend.visualizer.{name}`."
    return method


class Evaluator:
    """Encoder and decoder evaluation of a trainer, and the plots of both.

    Args:
        trainer: A `Trainer`.
        encoder_evaluator: The evaluator of the encoder. Default: `EncoderEvaluator()`.
        decoder_evaluator: The evaluator of the decoder. Default: `DecoderEvaluator()`.
        visualizer_class: A class whose constructor takes the trainer; without it, plots raise NotImplementedError.
    """

    plot_training_convergence = _of_visualizer("plot_training_convergence")
    plot_encoder_distributions = _of_visualizer("plot_encoder_distributions")
    plot_encoder_scatter = _of_visualizer("plot_encoder_scatter")
    plot_encoder_by_target = _of_visualizer("plot_encoder_by_target")
    plot_encoder_strip_by_split = _of_visualizer("plot_encoder_strip_by_split")
    plot_probability_shifts = _of_visualizer("plot_probability_shifts")

    def __init__(
        self, trainer: Any, encoder_evaluator: EncoderEvaluator | None = None,
        decoder_evaluator: DecoderEvaluator | None = None, visualizer_class: Callable[[Any], Any] | None = None,
    ) -> None:  # fmt: skip
        self.trainer = trainer
        self.encoder_evaluator = encoder_evaluator or EncoderEvaluator()
        self.decoder_evaluator = decoder_evaluator or DecoderEvaluator()
        self._visualizer = None if visualizer_class is None else visualizer_class(trainer)

    def evaluate_encoder(self, **kwargs: Any) -> dict[str, Any]:
        """Evaluate the encoder, see `EncoderEvaluator.evaluate_encoder`."""
        return self.encoder_evaluator.evaluate_encoder(self.trainer, **kwargs)

    def evaluate_decoder(self, **kwargs: Any) -> dict[str, Any]:
        """Evaluate the decoder, see `DecoderEvaluator.evaluate_decoder`."""
        return self.decoder_evaluator.evaluate_decoder(self.trainer, **kwargs)

    def evaluate(
        self, *, kwargs_encoder: Mapping[str, Any] | None = None, kwargs_decoder: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """Evaluate encoder and decoder, see `Trainer.evaluate`."""
        return self.trainer.evaluate(kwargs_encoder=kwargs_encoder, kwargs_decoder=kwargs_decoder, **kwargs)
