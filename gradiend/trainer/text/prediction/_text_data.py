"""The data of a text feature: from the source that the configuration names to the rows of a split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from gradiend.data import unified
from gradiend.data._summary import DataSummary, summarise
from gradiend.data.text._preprocess import LONG_CHARACTERS
from gradiend.data.unified import UNIFIED_FACTUAL, UNIFIED_FACTUAL_CLASS, UNIFIED_MASKED, UNIFIED_SPLIT
from gradiend.data.unified._casing import own_spellings
from gradiend.data.unified._parsed_tables import of_other_class
from gradiend.data.unified._schema import class_name, listed, rows_by_split, usual_data, usual_frame, usual_texts
from gradiend.data.unified._word_splits import HELD_OUT, Division, divided
from gradiend.evaluator._goals import check_class_names
from gradiend.evaluator.encoder import EncoderData
from gradiend.objectives import MAX_LENGTH, kind_of, with_saved_head
from gradiend.trainer.core._memory import Probe
from gradiend.trainer.core._modality import Modality
from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.trainer.text.common.model_base import TextModelWithGradiend, kind_saved_in, require_objective
from gradiend.trainer.text.prediction import _rows
from gradiend.trainer.text.prediction._memory_probe import probe_training
from gradiend.trainer.text.prediction.config import LABEL, TextPredictionConfig
from gradiend.trainer.text.prediction.dataset import TextTrainingDataset
from gradiend.trainer.text.prediction.model_with_gradiend import TextPredictionModelWithGradiend
from gradiend.util._checks import require_whole
from gradiend.util._digest import digest_frame, frame_part
from gradiend.util._keywords import ALL_SPLITS, nearest, normalize_split_name, split_names
from gradiend.util.logging import get_logger
from gradiend.util.paths import MLM_HEAD

logger = get_logger(__name__)

Data = pd.DataFrame | Mapping[str, pd.DataFrame]
"""One table, or one for each class."""
CARD_WORDS = 12
"""Words of a class that a card lists."""


class TextData(Modality):
    """Texts with a masked word; frames are read when they are first needed, and kept.

    Args:
        config: Names the data and its columns.
        division: How rows are divided into splits. Default: as the configuration says.
        single: The data whose rows this data divides anew, for one of several seeds. Default: this data is not that of
            one seed.
    """

    def __init__(
        self, config: TextPredictionConfig, division: Division | None = None, single: TextData | None = None
    ) -> None:
        self.config = config
        self.division = config.division() if division is None else division
        """How rows are divided into splits; None where a column of the data says so."""
        self._target_classes = config.target_classes
        self._frames: dict[tuple[str, str], pd.DataFrame] = {}
        self._dropped: dict[tuple[str, str], Counter[str]] = {}
        self.trained_head: str | None = None
        """Directory of the auxiliary head that the trainer has trained; None without a head."""
        self.reader: TextData = self
        """The `TextData` that reads the table or data set: this one, or an earlier one of the same source."""
        self._single: TextData = self if single is None else single
        if single is not None:
            # The rows are read now, so that those of a seed are the same whatever becomes of the file.
            self._given = single._given
        self._of_seeds: dict[tuple[int, str], TextData] = {}
        self._neutral: tuple[Any, pd.DataFrame] | None = None
        """(the neutral data that the configuration named when it was read, its texts)."""

    @property
    def seed(self) -> int:
        """The seed of the data: `config.random_state`, or 0."""
        return self.config.random_state or 0

    @property
    def target_classes(self) -> list[str]:
        """The two classes: the given classes, else the two merged classes, else those in the data."""
        if self._target_classes is None:
            found = self.config.pair() or self.all_classes
            if len(found) < 2:
                only = f"only the class {found[0]}" if found else "no rows"
                raise ValueError(f"The data has {only}: two classes are needed, to tell apart.")
            if len(found) > 2:
                raise ValueError(
                    f"The data has the classes {', '.join(found)}: name the two to tell apart with "
                    "target_classes=[…], the one to be encoded positive first."
                )
            check_class_names(found)
            self._target_classes = list(found)
        return list(self._target_classes)

    @property
    def all_classes(self) -> list[str]:
        """All classes: the given classes, else the merged classes and the target classes, else those in the data."""
        if self.config.all_classes is not None:
            return list(self.config.all_classes)
        if self.config.class_merge_map is not None:
            return list(dict.fromkeys([*map(class_name, self.config.class_merge_map), *(self.config.pair() or ())]))
        return unified.classes_in(self._data, self.config.columns())

    @property
    def combined_data(self) -> pd.DataFrame:
        """The unified frame: masked, split, factual_class, alternative_class, factual, alternative, transition."""
        return self._unified(self.target_classes)

    def described(self) -> str:
        pair = self._target_classes or self.config.pair()
        frame = None if pair is None else self._frames.get(unified.parse_pair(pair))
        if frame is None:
            return "not read yet"
        sizes = frame[UNIFIED_SPLIT].value_counts()
        return f"{len(frame):,} rows: {', '.join(f'{split} {size:,}' for split, size in sizes.items())}"

    @property
    def plot_style(self) -> Mapping[str, Any]:
        """`img_format` and `img_dpi` of the configuration."""
        return {"img_format": self.config.img_format, "dpi": self.config.img_dpi}

    @property
    def _data(self) -> Data:
        """The data that the configuration names, with a split for each row."""
        return self._divided[0]

    @property
    def cycle_length(self) -> int:
        return self._divided[1]

    @cached_property
    def _divided(self) -> tuple[Data, int]:
        """(the data with a split for each row, after how many seeds a balanced cycle of splits begins again)."""
        if self.division is None:
            return self._given, 1
        merge = self.config.class_merge()
        return divided(
            self._given, self.config.columns(), self.division, needed=self.config.pair(),
            name_of=str if merge is None else lambda base: merge.name_of(base) or base,
        )  # fmt: skip

    @cached_property
    def _given(self) -> Data:
        """The data that the configuration names, as it is."""
        if self.reader is not self:
            return self.reader._given
        loaded = self.config.source().load(self.config.columns())
        data = usual_data(loaded, self.config.masked_col, self.config.mask_placeholder)
        self._require_known_classes(data)
        return data

    def for_seed(self, index: int | None, strategy: str = "random") -> TextData:
        """See `Modality.for_seed` and `Division.for_seed`; the data is read once, and this object stays as it is."""
        if index is None:
            self._single.trained_head = self.trained_head
            return self._single
        division = self.config.division()
        if division is None:
            raise ValueError(
                f"Splits can be drawn anew for each seed only where no column says them: the column "
                f"{self.config.split_col!r} does. Use split_col={HELD_OUT!r} (whole words) or None (texts)."
            )
        made, key = self._single._of_seeds, (index, strategy)
        if key not in made:
            made[key] = TextData(self.config, division.for_seed(index, strategy), self._single)
        made[key].trained_head = self.trained_head
        return made[key]

    def usual_texts(self, texts: Sequence[Any], name: str) -> list[Any]:
        """The texts of the argument `name` of a call, with `[MASK]` for the placeholder of the configuration."""
        return usual_texts(texts, self.config.mask_placeholder, name)

    def usual_frame(self, frame: pd.DataFrame, name: str) -> pd.DataFrame:
        """The frame of the argument `name` of a call, see `usual_texts`."""
        own = self.config.mask_placeholder
        return usual_frame(frame, self.config.masked_col, own, f" of {name}", usual_too=True)

    def _require_known_classes(self, data: Data) -> None:
        """Raise a ValueError if the data lacks a class of all_classes."""
        if not (self.config.all_classes and (found := unified.classes_in(data, self.config.columns()))):
            return
        columns = self.config.columns()
        tables = data.values() if isinstance(data, Mapping) else [data]
        with_others = [table for table in tables if columns.alternative_class in table]
        others = {class_name(name) for table in with_others for name in table[columns.alternative_class].dropna()}
        known = [*found, *sorted(others - set(found)), *map(class_name, self.config.class_merge_map or ())]
        for name in self.config.all_classes:
            if name not in known:
                raise ValueError(
                    f"all_classes has {name!r}, but the data has no rows of it; it has: {listed(found)}."
                    f"{nearest(name, known)}"
                )

    def _unified(self, pair: Sequence[str]) -> pd.DataFrame:
        """The unified frame of two classes."""
        key = unified.parse_pair(pair)
        if key not in self._frames:
            self._dropped[key] = Counter()
            self._frames[key] = unified.to_unified(
                self._data, pair=key, columns=self.config.columns(),
                max_counterfactuals_per_sentence=self.config.max_counterfactuals_per_sentence, seed=self.seed,
                merge=self.config.class_merge(), dropped=self._dropped[key],
            )  # fmt: skip
            self._say_if_long(self._frames[key][UNIFIED_MASKED])
        return self._frames[key]

    def _say_if_long(self, texts: pd.Series) -> None:
        """Warn once if rows are paragraphs instead of sentences."""
        n_long = int((texts.str.len() > LONG_CHARACTERS).sum())
        if not n_long or len(self._frames) > 1:
            return
        logger.warning(
            "%d of %d rows are longer than %d characters; the longest has %d words. A model reads only a window around "
            "the first placeholder: cut texts into sentences before their words are masked (preprocess_texts with "
            "TextPreprocessConfig(split_to_sentences=True), or TextPredictionDataCreator(…, preprocess=…)).",
            n_long, len(texts), LONG_CHARACTERS, len(max(texts, key=len).split()),
        )  # fmt: skip

    @cached_property
    def other_data(self) -> pd.DataFrame:
        """Unified rows of the classes that are no target: each word with itself as the alternative."""
        return unified.other_classes(
            self._data, pair=self.target_classes, columns=self.config.columns(), merge=self.config.class_merge(),
            only=self.config.all_classes,
        )  # fmt: skip

    @property
    def neutral_data(self) -> pd.DataFrame | None:
        """The neutral texts (column `text`); None if the configuration names none.

        If the configuration names other texts later, these are read.

        Raises:
            ValueError: The data has no column `text`, or each text has a word that is excluded.
        """
        if self._single is not self:
            return self._single.neutral_data
        config, source = self.config, self.config.eval_neutral_data
        if source is None:
            return None
        if self._neutral is None or self._neutral[0] is not source:
            found = _rows.checked_neutral(
                source, config.eval_neutral_max_rows, trust_remote_code=config.dataset_trust_remote_code
            )
            self._neutral = source, _rows.without_words(found, config.eval_neutral_additional_excluded_words or ())
        return self._neutral[1]

    def rows(self, split: str, include_other_classes: bool = False) -> pd.DataFrame:
        """Unified rows of a split, followed by the rows of other classes if these are included."""
        rows = unified.require_split(self.combined_data, split)
        if not include_other_classes:
            return rows
        others = self.other_data
        others = others[others[UNIFIED_SPLIT] == normalize_split_name(split)]
        return pd.concat([rows, others], ignore_index=True) if len(others) else rows

    def has_split(self, split: str) -> bool:
        return normalize_split_name(split) in set(self.combined_data[UNIFIED_SPLIT])

    def summary(self, tokenizer: Any, include_other_classes: bool) -> DataSummary:
        """See `TextPredictionTrainer.data_summary`."""
        rows, classes = self.combined_data, self.target_classes
        dropped = Counter(self._dropped[unified.parse_pair(classes)])
        if include_other_classes:
            rows = pd.concat([rows, self.other_data], ignore_index=True)
            classes += [name for name in self.all_classes if name not in classes]
            for base in self.config.bases_of(classes):
                del dropped[of_other_class(base)]
        documents = unified.documents_of(self._data, self.config.columns())
        if documents is not None:
            rows = rows.merge(documents, on=[UNIFIED_MASKED, UNIFIED_SPLIT], how="left")
        return summarise(rows, classes=classes, dropped=dropped, tokenizer=tokenizer)

    def check_training_data(self, arguments: TrainingArguments) -> None:
        """See `Modality.check_training_data`: every class needs a batch of rows, and the targets rows to judge by."""
        self.config.eval_targets(self.target_classes)
        train = self.rows("train", arguments.add_identity_for_other_classes)
        sizes = train[UNIFIED_FACTUAL_CLASS].value_counts()
        for name in dict.fromkeys([*self.target_classes, *sizes.index]):
            if sizes.get(name, 0) < arguments.train_batch_size:
                other = "" if name in self.target_classes else ", or leave the class out (all_classes=[…])"
                raise ValueError(
                    f"The training split has {sizes.get(name, 0)} rows of class {name!r}, fewer than one batch "
                    f"(train_batch_size={arguments.train_batch_size}): reduce train_batch_size, or collect more "
                    f"rows{other}."
                )
        if arguments.do_eval:
            evaluated = self.rows(self.evaluation_split())[UNIFIED_FACTUAL_CLASS]
            for name in self.target_classes:
                if name not in set(evaluated):
                    raise ValueError(
                        f"The validation split has no rows of class {name!r}, so no training can be judged: add some."
                    )
            if not self.has_split("validation"):
                present = ", ".join(dict.fromkeys(self.combined_data[UNIFIED_SPLIT]))
                logger.warning(
                    "There is no validation split (present: %s): trainings are judged on training rows.%s", present,
                    "" if self.has_split("test") else " Evaluations need a test split.",
                )  # fmt: skip
        self.neutral_data  # noqa: B018 - the texts are read here, so that a bad file costs no training

    def evaluation_split(self) -> str:
        """The name validation, or train if the data has no validation rows."""
        return "validation" if self.has_split("validation") else "train"

    def examples(
        self, model_or_tokenizer: Any, split: str, batch_size: int, class_pair: Sequence[str] | None = None,
        max_size: int | None = None, include_other_classes: bool = False, balance_column: str = "feature_class_id",
    ) -> TextTrainingDataset:  # fmt: skip
        """See `TextPredictionTrainer.create_training_data`."""
        if isinstance(model_or_tokenizer, TextModelWithGradiend):
            tokenizer, objective = model_or_tokenizer.tokenizer, model_or_tokenizer.objective
        else:
            tokenizer = model_or_tokenizer
            objective = kind_of(tokenizer)(tokenizer, max_length=MAX_LENGTH)
        if class_pair is None or tuple(class_pair) == tuple(self.target_classes):
            rows = self.labelled_rows(split, include_other_classes)
        elif include_other_classes:
            raise ValueError(
                f"include_other_classes adds the classes beside the target classes ({listed(self.target_classes)}): "
                "leave class_pair out."
            )
        else:
            rows = _rows.labelled(unified.require_split(self._unified(class_pair), split), class_pair)
        rows = _rows.scorable_rows(rows, objective, "training", labelled=True)
        rows = _rows.told_apart(rows, objective, "training")
        return TextTrainingDataset(
            rows.rename(columns={"source_id": "factual_id", "target_id": "alternative_id"}), tokenizer, batch_size,
            max_size=max_size, balance_column=balance_column, seed=self.seed, objective=objective,
        )  # fmt: skip

    def eval_data(
        self, model: Any, split: str | Sequence[str], max_size: int | None = None, include_other_classes: bool = False
    ) -> EncoderData:
        """See `Modality.eval_data`; there are no rows if the data has no such split."""
        if not isinstance(model, TextModelWithGradiend):
            raise TypeError(f"model_with_gradiend must be a model with a GRADIEND; got {model!r:.60}.")
        require_whole("max_size", max_size, 1, none_means="for all rows")
        frames = [_rows.labelled(self.combined_data.head(0), self.target_classes)]
        frames += [
            self.capped(self.labelled_rows(name, include_other_classes), "feature_class_id", max_size)
            for name in self.splits_of(split)
            if self.has_split(name)
        ]
        return _rows.encoder_data(pd.concat(frames[1:] or frames, ignore_index=True), model)

    def check_model(self, model: Any, arguments: TrainingArguments) -> None:
        require_objective(model, arguments.prediction_objective)

    def memory_probe(self, trainer: Any, model: Any, arguments: TrainingArguments) -> Probe | None:
        known = isinstance(model, TextPredictionModelWithGradiend)
        return probe_training(trainer, model, arguments) if known else None

    def labelled_rows(self, split: str, include_other_classes: bool = False) -> pd.DataFrame:
        """The rows of a split with labels and ids, see `labelled`."""
        others = [name for name in self.all_classes if name not in self.target_classes] if include_other_classes else ()
        return _rows.labelled(self.rows(split, include_other_classes), self.target_classes, others)

    def splits_of(self, split: str | Sequence[str]) -> list[str]:
        """The names of one split or of several; for "all" those in the data, train, validation and test first."""
        names = split_names(split)
        if names != [ALL_SPLITS]:
            return names
        known = list(dict.fromkeys(self.combined_data[UNIFIED_SPLIT]))
        usual = [name for name in ("train", "validation", "test") if name in known]
        return [*usual, *(name for name in known if name not in usual)]

    def frames_of(self, directions: Sequence[tuple[str, str]]) -> list[pd.DataFrame]:
        """The unified rows of each direction (factual class, alternative class), of all splits."""
        targets, order = self.target_classes, self.all_classes
        frames = []
        for factual, alternative in directions:
            name = unified.transition_id(factual, alternative)
            if factual != alternative:
                between = {factual, alternative}
                # One order for both directions, so that they come from one frame.
                ordered = targets if between == set(targets) else sorted(between, key=order.index)
                frame = self._unified(ordered)
            elif factual in targets:
                frame = _rows.with_own_word(self.combined_data)
            else:
                frame = self.other_data
            frames.append(frame[frame[unified.UNIFIED_TRANSITION] == name])
        return frames

    def class_words(self) -> dict[str, list[str]]:
        """Class → words of the class; see `TextPredictionTrainer._get_decoder_eval_targets`."""
        if (targets := self.config.eval_targets(self.target_classes)) is not None:
            return targets
        data, names = self.combined_data, self.target_classes
        if not self.config.decoder_eval_restrict_to_target_classes:
            data = pd.concat([data, self.other_data], ignore_index=True)
            names = [*names, *self.other_data[UNIFIED_FACTUAL_CLASS].unique()]
        words: dict[str, list[str]] = {}
        for name in names:
            own = data[data[UNIFIED_FACTUAL_CLASS] == name]
            spelled = own_spellings(own[UNIFIED_MASKED].tolist(), own[UNIFIED_FACTUAL].tolist())
            words[name] = [word for word, _ in Counter(spelled).most_common()]
        return words

    def card_facts(self) -> dict[str, Any]:
        words = {name: own for name, own in self.class_words().items() if name in self.target_classes}
        return {
            "words": {name: own[:CARD_WORDS] for name, own in words.items()},
            "n_words": {name: len(own) for name, own in words.items()},
            "rows": rows_by_split(self.combined_data),
        }

    def has_neutral_texts(self) -> bool | None:
        return self.neutral_data is not None

    @cached_property
    def shared_words(self) -> list[str]:
        """The words that both target classes have, if no words are given for them."""
        if isinstance(self.config.decoder_eval_targets, Mapping):
            return []
        words = self.class_words()
        first, second = (words[name] for name in self.target_classes)
        return [word for word in first if word in second]

    @property
    def row_wise(self) -> bool:
        """Whether the decoder evaluation scores the two words of each row instead of the words of classes."""
        if self.config.decoder_eval_targets is None:
            return self.config.decoder_eval_restrict_to_target_classes and bool(self.shared_words)
        return self.config.decoder_eval_targets == LABEL

    def sampled(self, rows: pd.DataFrame, most: int | None) -> pd.DataFrame:
        """At most `most` rows, which the seed of the data chooses, in the order of the frame."""
        return rows if most is None or len(rows) <= most else rows.sample(most, random_state=self.seed).sort_index()

    def capped(self, rows: pd.DataFrame, column: str, max_size: int | None) -> pd.DataFrame:
        """At most `max_size` rows for each value of a column; the seed of the data chooses them, the order stays."""
        if max_size is None or rows.empty:
            return rows
        shuffled = rows.sample(frac=1, random_state=self.seed)
        return shuffled.groupby(column, sort=False).head(max_size).sort_index()

    def data_parts(
        self, *splits: str, include_other_classes: bool = False, transitions: Sequence[tuple[str, str]] | None = None
    ) -> dict[str, Any]:
        wanted = {name for split in splits for name in self.splits_of(split)}
        frames = {"rows": self.combined_data}
        if include_other_classes:
            frames["rows of other classes"] = self.other_data
        if transitions is not None:
            frames["rows of the transitions"] = pd.concat(self.frames_of(transitions), ignore_index=True)
        chosen = {name: digest_frame(frame[frame[UNIFIED_SPLIT].isin(wanted)]) for name, frame in frames.items()}
        return {**chosen, "data seed": self.seed}

    def measurement_parts(self) -> dict[str, Any]:
        ignored = list(self.config.decoder_eval_ignore_tokens or ())
        parts = {"ignored words": ignored, "neutral texts": frame_part(self.neutral_data)}
        return {**parts, "scored words": "those of each row"} if self.row_wise else parts

    def head_directory(self, experiment_dir: str | None) -> str | None:
        """Directory of the head that the trainer has trained, or of the one in the experiment directory, or None."""
        found = self.trained_head or (experiment_dir and str(Path(experiment_dir) / MLM_HEAD))
        return found if found and kind_saved_in(found) is not None else None

    def with_head(self, model: Any, directory: str) -> Any:
        return with_saved_head(model, directory)
