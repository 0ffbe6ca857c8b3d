"""The model that a trainer works on."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from gradiend.model._checkpoint import is_checkpoint
from gradiend.model._hub import at_hand
from gradiend.model.model_with_gradiend import ModelWithGradiend
from gradiend.trainer._models import load
from gradiend.trainer._preparation import SharesWork, TrainingPlan, model_directory
from gradiend.trainer._saved_training import data_of_choice, saved_choice
from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.trainer.core.stats import known_of_training
from gradiend.util._argument_fields import changed_fields
from gradiend.util._leftovers import temporary_folder
from gradiend.util._lock import ExperimentLocked, written_by
from gradiend.util._processes import processes
from gradiend.util.logging import get_logger
from gradiend.util.paths import (
    ADAPTER_CONFIG,
    CONFIG_FILE,
    CONTEXT,
    FINGERPRINT_FILE,
    MODEL_DIR,
    has_saved_model,
    seen_from,
    working_folder,
)

logger = get_logger(__name__)

LOCAL_MODEL = (CONFIG_FILE, ADAPTER_CONFIG, f"{MODEL_DIR}/{CONFIG_FILE}")
"""A folder that is given as a model, or as the experiment of a model, has at least one of these files."""


def refuse_name_of_model(model: Any, places: Iterable[str | None]) -> None:
    """Raise ValueError if a new folder would have the name of a model on a hub.

    From then on, the folder would be loaded in place of the model. A new folder inside the folder of that name counts
    too, because making it also makes the outer folder.
    """
    if not isinstance(model, (str, Path)):
        return
    here = working_folder() or Path()
    wanted = Path(os.path.normpath(here / model))
    for place in places:
        if place is None or not Path(os.path.normpath(here / place)).is_relative_to(wanted):
            continue
        # A folder alone is no model: the lock of this call may have made the folder.
        if not any(os.path.isfile(wanted / name) for name in LOCAL_MODEL):
            raise ValueError(
                f"The folder {place} would have the name of the model, {model}, and would be loaded in its place from "
                f"then on: choose another one, such as runs/{Path(place).name}."
            )


class CurrentModel:
    """The model that a trainer works on: given by the user, pruned by a call, trained, or found trained."""

    def __init__(self, trainer: Any, given: Any) -> None:
        self.belong_to(trainer)
        self._made_in = working_folder()
        self.named = given
        """The model, name or path that the user gave."""
        self.last_start: Any = None
        """The model, name or path that a training of this trainer has started from; None before."""
        self._directory: str | None = None
        self._working_folder = working_folder()
        self.model: ModelWithGradiend | None = given if isinstance(given, ModelWithGradiend) else None
        """The model in memory; None until it is needed."""
        self.pruned: ModelWithGradiend | None = None
        """The model that `Trainer.pre_prune` has prepared for the next training."""
        self.shared: SharesWork | None = None
        """What the trainer shares with the other trainers of its suite; None without a suite."""
        self._made_by: bytes | None = None

    def belong_to(self, trainer: Any) -> None:
        """Make this the current model of a trainer."""
        # A weak reference: in a circle of references, models would stay in memory until Python looks for circles.
        self._trainer_of: Any = weakref.ref(trainer)

    @property
    def belongs_to_none(self) -> bool:
        """Whether this is a copy or was unpickled, and `belong_to` was not called yet."""
        return self._trainer_of is None

    def __getstate__(self) -> dict[str, Any]:
        """What a deep copy and a pickle have: all but the trainer, of which they have a copy too."""
        return {**self.__dict__, "_trainer_of": None}

    @cached_property
    def _given(self) -> Any:
        return at_hand(self.named)

    @property
    def given(self) -> Any:
        """What the user gave; for a GRADIEND on a hub, which the first access downloads, its local folder."""
        if not isinstance(self._given, (str, Path)):
            return self._given
        place = seen_from(self._made_in, str(self._given))
        return place if place != str(self._given) and Path(place).exists() else self._given

    @property
    def directory(self) -> str | None:
        """Directory of the trained model; None before a training."""
        return None if self._directory is None else seen_from(self._working_folder, self._directory)

    @directory.setter
    def directory(self, directory: str | None) -> None:
        self._directory, self._working_folder = directory, working_folder()

    @property
    def started_from(self) -> Any:
        """The model, name or path that the last training started from."""
        return self.given if self.last_start is None else self.last_start

    @property
    def _trainer(self) -> Any:
        return self._trainer_of()

    @property
    def given_path(self) -> str:
        """Name or path of the model that was given."""
        return self.named if isinstance(self.named, str) else str(getattr(self.named, "name_or_path", self.named))

    @property
    def path(self) -> str:
        """The given model before training, the directory of the trained GRADIEND afterwards."""
        return self.directory or (self.given if isinstance(self.given, str) else self.given_path)

    @cached_property
    def temporary(self) -> str:
        """Directory of a trained model for which the user names none; it lasts as long as the trainer or process."""
        team = processes()
        directory = team.agreed(lambda: temporary_folder(tempfile.gettempdir()))
        if team.first:
            weakref.finalize(self._trainer, shutil.rmtree, directory, ignore_errors=True)
        return str(directory / MODEL_DIR)

    def start(self, model: Any = None) -> tuple[Any, bool]:
        """(the start of a training, whether `Trainer.pre_prune` made this start); `model` wins if it is given."""
        if model is not None:
            return at_hand(model), False
        return (self.given, False) if self.pruned is None else (self.pruned, True)

    def get(self, **kwargs: Any) -> ModelWithGradiend:
        """The model, which is loaded with these keywords if it is not in memory."""
        self._take_earlier()
        if self.model is None:
            self._require_own()
            if not is_checkpoint(self.path):
                logger.warning("This GRADIEND is new: its weights are random. %s", self.why_untrained())
            self.model = self.load(self._trainer.resolve_model_path(self.directory or self.given), **kwargs)
        return self.model

    def remember(self) -> None:
        """Remember which training the model in the directory is of, see `SavedTraining.mark`."""
        self._made_by = None if self.directory is None else _fingerprint(self.directory)

    @contextmanager
    def own_files(self) -> Iterator[None]:
        """Read files of the trained model in a with-block: ExperimentLocked is raised if they are of another training.

        A training removes the record of the one before it first, so that a record which is still there afterwards says
        that nothing else was read.
        """
        try:
            yield
        finally:
            self._require_own()

    def _require_own(self) -> None:
        """Raise ExperimentLocked if another training has replaced the model in the directory, or is about to."""
        if self.directory is not None and self._made_by not in (None, _fingerprint(self.directory)):
            raise ExperimentLocked(
                f"The model that this trainer trained in {self.directory} is not there any more: another run trained "
                f"there{written_by(self.directory)}. Give each its own experiment_dir, or take what is there now with "
                "get_model(load_directory=…)."
            )

    def load(self, source: Any, model_class: type[ModelWithGradiend] | None = None, **kwargs: Any) -> Any:
        """Another model; it shares the base model in memory if it was trained on that one. The current model stays."""
        base = self.started_from if self.shared is None else self.shared.any_model or self.started_from
        return load(self._trainer, source, model_class, self._trainer.training_args, base, **kwargs)

    def take(self, directory: str) -> None:
        """Make the trained model in a directory the current model."""
        self.directory, self.model = directory, None
        self.remember()

    def unload(self) -> None:
        """Free the model in memory, unless it is the instance that was given."""
        self.model = self.given if self.directory is None and isinstance(self.given, ModelWithGradiend) else None

    def exists(self) -> bool:
        """Whether there is a model in memory, or a trained model that `get` would load."""
        self._take_earlier()
        return self.model is not None or is_checkpoint(self.path)

    def state(self) -> tuple[str, str | None]:
        """(whether the model is trained, in words; the directory of the trained model or None).

        Only the names of files are looked at, and no weights or data are read. A model that an earlier training has
        left is therefore said to be there, and not compared.
        """
        if self.directory is not None:
            gone = "" if has_saved_model(self.directory) else ", where it is not any more"
            return f"trained, in {self.directory}{gone}", self.directory
        if self.pruned is not None:
            return "pruned, not trained", None
        if self.model is not None and self.model.gradiend.is_built and not self.model.gradiend.seems_untrained:
            return "a trained GRADIEND", None
        given = self.__dict__.get("_given", self.named)
        if isinstance(given, (str, Path)) and (Path(given) / CONTEXT).is_file():
            return "a trained GRADIEND", str(given)
        output = model_directory(self._trainer, self._trainer.placed_args)
        there = output is not None and has_saved_model(output)
        return f"not trained{f'; a trained model is in {output}' if there else ''}", None

    def _earlier(self) -> str | None:
        """The directory in which a training would put its model, if it holds a trained model."""
        output = model_directory(self._trainer, self._trainer.placed_args)
        return output if output is not None and is_checkpoint(output) else None

    def _take_earlier(self) -> None:
        """Take the model in the experiment directory, if there is no other and a training would make the same model."""
        if self.directory is not None or self.pruned is not None:
            return
        if self.model is not None and not (self.model is self.given and self.model.gradiend.is_untrained):
            return
        output = None if is_checkpoint(self.path) else self._earlier()
        if output is None or self._why_not(output):
            return
        self.take(output)
        trainer = self._trainer
        trainer.modality = data_of_choice(trainer, TrainingPlan(trainer.placed_args, output, *self.start()))
        logger.info(
            "The model in %s was trained from the same model and data, with the same arguments: it is used.", output
        )

    def _why_not(self, output: str) -> list[str]:
        """Why the model in `output` is not the model that a training would make; an empty list if it is."""
        plan = TrainingPlan(self._trainer.placed_args, output, *self.start())
        try:
            found = saved_choice(self._trainer, plan)
        except ValueError as error:
            return [f"what this trainer would train from cannot be told: {error}"]
        return found.why_not_current()

    def why_untrained(self) -> str:
        """How to get a trained model, and why a model in the experiment directory is not used."""
        output = self._earlier()
        if output is None:
            wanted = model_directory(self._trainer, self._trainer.placed_args)
            now = "" if wanted is None else written_by(wanted)
            running = f"A model is being trained or saved{now}. " if now else ""
            return f"{running}Call train() first, or get_model(load_directory=…) for a trained one."
        why = self._why_not(output)
        reason = f"it was not trained from what this trainer has ({'; '.join(why)})" if why else "it is not in use"
        return (
            f"There is a trained model in {output}, but {reason}. Call get_model(load_directory={output!r}) to use it "
            "all the same, or train() first."
        )


def facts_of(trainer: Any) -> dict[str, object | None]:
    """What the display of a trainer shows: its model, classes, data, state, seeds and arguments."""
    given, args, classes = trainer.current.named, trainer.training_args, trainer._target_classes
    # Only the models of transformers have a name for certain.
    named = given if isinstance(given, (str, Path)) else f"{type(given).__name__} {getattr(given, 'name_or_path', '')}"
    state, directory = trainer.current.state()
    signs = [f"{name} ({sign})" for name, sign in zip(classes or (), ("+1", "-1"), strict=False)]
    return {
        "model": named,
        "classes": ", ".join(signs) or "those in the data",
        "data": trainer.modality.described(),
        "run": trainer.run_id,
        "state": state,
        **(known_of_training(directory) if directory else {}),
        "seeds": _seeds(args),
        "arguments": ", ".join(f"{name}={text}" for name, text in changed_fields(args).items()),
    }


def _seeds(args: TrainingArguments) -> str:
    """The seeds that a training tries, in words."""
    first = "a drawn one" if args.seed is None else str(args.seed)
    if args.max_seeds == 1:
        return first
    until = "" if args.min_convergent_seeds is None else f", until {args.min_convergent_seeds} converged"
    return f"{first} and up to {args.max_seeds - 1} more{until}"


def _fingerprint(directory: str) -> bytes | None:
    """The record of what a trained model was made from, as it is on disk."""
    path = Path(directory) / FINGERPRINT_FILE
    return path.read_bytes() if path.is_file() else None
