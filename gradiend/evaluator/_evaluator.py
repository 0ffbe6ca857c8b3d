"""The evaluations and plots of one trainer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gradiend.evaluator.decoder import DecoderEvaluator
from gradiend.evaluator.encoder import EncoderEvaluator
from gradiend.visualizer._encodings import Encodings


class Evaluator:
    """Encoder and decoder evaluation of a trainer, and the plots of both.

    Args:
        trainer: A `Trainer`.
        encoder_evaluator: The evaluator of the encoder. Default: `EncoderEvaluator()`.
        decoder_evaluator: The evaluator of the decoder. Default: `DecoderEvaluator()`.
        visualizer_class: A class whose constructor takes the trainer; without it, plots raise NotImplementedError.
    """

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

    def plot_training_convergence(self, **kwargs: Any) -> str:
        """Plot the training, see `gradiend.visualizer.plot_training_convergence`."""
        return self._plots().plot_training_convergence(**kwargs)

    def plot_encoder_distributions(self, encoder_df: Encodings | None = None, **kwargs: Any) -> str:
        """Plot the distributions of encodings, see `gradiend.visualizer.plot_encoder_distributions`."""
        return self._plots().plot_encoder_distributions(encoder_df=encoder_df, **kwargs)

    def plot_encoder_scatter(self, encoder_df: Encodings | None = None, **kwargs: Any) -> Any:
        """Plot every encoding, see `gradiend.visualizer.plot_encoder_scatter`."""
        return self._plots().plot_encoder_scatter(encoder_df=encoder_df, **kwargs)

    def plot_encoder_by_target(self, encoder_df: Encodings | None = None, **kwargs: Any) -> Any:
        """Plot the encodings of each word, see `gradiend.visualizer.plot_encoder_by_target`."""
        return self._plots().plot_encoder_by_target(encoder_df=encoder_df, **kwargs)

    def plot_encoder_strip_by_split(self, encoder_df: Encodings | None = None, **kwargs: Any) -> Any:
        """Plot strips of words, see `gradiend.visualizer.plot_encoder_strip_by_split`."""
        return self._plots().plot_encoder_strip_by_split(encoder_df=encoder_df, **kwargs)

    def plot_probability_shifts(self, **kwargs: Any) -> Any:
        """Plot the effect of rewrites, see `gradiend.visualizer.plot_probability_shifts`."""
        return self._plots().plot_probability_shifts(**kwargs)

    def _plots(self) -> Any:
        if self._visualizer is None:
            raise NotImplementedError("This Evaluator has no plots: construct it with visualizer_class=Visualizer.")
        return self._visualizer
