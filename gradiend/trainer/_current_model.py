"""The model that a trainer works on."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from functools import cached_property
from pathlib import Path
from typing import Any

from gradiend.model._checkpoint import is_checkpoint
from gradiend.model.model_with_gradiend import ModelWithGradiend
from gradiend.trainer._preparation import TrainingPlan, load, model_directory
from gradiend.trainer._saved_training import SavedTraining, seeds_parts, training_parts
from gradiend.util.logging import get_logger
from gradiend.util.paths import MODEL_DIR

logger = get_logger(__name__)


class CurrentModel:
    """The model that a trainer works on: the one that was given, pruned by a call, trained, or found trained.

    Args:
        trainer: Whose model.
        given: Name or path of a base model or checkpoint, or a model.
    """

    def __init__(self, trainer: Any, given: Any) -> None:
        # Not the trainer itself: in a circle of references, models would stay in memory until Python looks for circles.
        self._trainer_of = weakref.ref(trainer)
        self.given = given
        self.started_from = given
        """What the last training started from."""
        self.directory: str | None = None
        """Of the trained model; None before a training."""
        self.model: ModelWithGradiend | None = given if isinstance(given, ModelWithGradiend) else None
        """The model in memory; None until it is needed."""
        self.pruned: ModelWithGradiend | None = None
        """What `Trainer.pre_prune` has prepared for the next training."""

    @property
    def _trainer(self) -> Any:
        return self._trainer_of()

    @property
    def given_path(self) -> str:
        """The model that was given, by name or path."""
        return self.given if isinstance(self.given, str) else str(getattr(self.given, "name_or_path", self.given))

    @property
    def path(self) -> str:
        """The given model before training, the directory of the trained GRADIEND afterwards."""
        return self.directory or self.given_path

    @cached_property
    def temporary(self) -> str:
        """Directory of a trained model that has no other; it lasts as long as the trainer, or this process."""
        directory = tempfile.mkdtemp(prefix="gradiend_")
        weakref.finalize(self._trainer, shutil.rmtree, directory, ignore_errors=True)
        return str(Path(directory) / MODEL_DIR)

    @property
    def is_given(self) -> bool:
        """Whether no call has made another model of the one that was given."""
        return self.directory is None and self.pruned is None

    def start(self, model: Any = None) -> tuple[Any, bool]:
        """(what a training starts from, whether a call has pruned it); `model` is one that the training is given."""
        if model is not None:
            return model, False
        return (self.given, False) if self.pruned is None else (self.pruned, True)

    def get(self, **kwargs: Any) -> ModelWithGradiend:
        """The model, loaded with these keywords if it is not in memory."""
        self._take_earlier()
        if self.model is None:
            if not is_checkpoint(self.path):
                logger.warning("This GRADIEND is new: its weights are random. %s", self.why_untrained())
            self.model = self.load(self._trainer.resolve_model_path(self.directory or self.given), **kwargs)
        return self.model

    def load(self, source: Any, model_class: type[ModelWithGradiend] | None = None, **kwargs: Any) -> Any:
        """Another model, around the base model in memory where it was trained on that; the current one stays."""
        return load(self._trainer, source, model_class, self._trainer.training_args, self.started_from, **kwargs)

    def take(self, directory: str) -> None:
        """Go on with the trained model in a directory."""
        self.directory, self.model = directory, None

    def unload(self) -> None:
        """Let go of the model in memory, unless it is the one that was given."""
        self.model = self.given if self.directory is None and isinstance(self.given, ModelWithGradiend) else None

    def exists(self) -> bool:
        """Whether there is a model in memory, or a trained one that `get` would load."""
        self._take_earlier()
        return self.model is not None or is_checkpoint(self.path)

    def has_earlier(self) -> bool:
        """Whether a trained model lies where a training would put its own."""
        output = model_directory(self._trainer, self._trainer.training_args)
        return output is not None and is_checkpoint(output)

    def _take_earlier(self) -> None:
        """Go on with the model in the experiment directory, if there is no other and a training would make the same."""
        if not self.is_given:
            return
        if self.model is not None and not (self.model is self.given and self.model.gradiend.is_untrained):
            return
        if is_checkpoint(self.path) or not self.has_earlier() or self._why_not_earlier():
            return
        output = model_directory(self._trainer, self._trainer.training_args)
        assert output is not None
        self.take(output)
        logger.info(
            "The model in %s was trained from the same model and data, with the same arguments: it is used.", output
        )

    def _why_not_earlier(self) -> list[str]:
        """Why the model in the experiment directory is not what a training would make; nothing if it is."""
        args = self._trainer.training_args
        output = model_directory(self._trainer, args)
        assert output is not None
        parts = training_parts if args.max_seeds == 1 else seeds_parts
        try:
            return SavedTraining(
                output, parts(self._trainer, TrainingPlan(args, output, *self.start()))
            ).why_not_current()
        except ValueError as error:
            return [f"what this trainer would train from cannot be told: {error}"]

    def why_untrained(self) -> str:
        """How to come to a trained model, and why one that lies in the experiment directory was not taken."""
        if not self.has_earlier():
            return "Call train() first, or get_model(load_directory=…) for a trained one."
        output, why = model_directory(self._trainer, self._trainer.training_args), self._why_not_earlier()
        reason = f"it was not trained from what this trainer has ({'; '.join(why)})" if why else "it is not in use"
        return (
            f"There is a trained model in {output}, but {reason}. Call get_model(load_directory={output!r}) to use it "
            "all the same, or train() first."
        )
