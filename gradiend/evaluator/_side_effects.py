"""Side effects of a rewrite: divergence and tokens on neutral texts, other classes, predictions for single sentences.

Logits of the whole vocabulary are compared a few positions at a time and never kept for all positions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradiend.data.text._neutral_masking import mask_random_words
from gradiend.data.unified._schema import UNIFIED_FACTUAL, UNIFIED_FACTUAL_CLASS, UNIFIED_MASKED
from gradiend.evaluator._language_score import tokenize_texts
from gradiend.evaluator._probabilities import ClassProbabilities
from gradiend.gradients import Objective, TokenizedWord, WordBatch, WordScorer, batches_by_length, measurement_mode
from gradiend.util import PLACEHOLDER
from gradiend.util._bootstrap import Floats, Interval, Weights, intervals_of_means, numbers_of_groups, resampled_weights
from gradiend.util._checks import require_texts

DIVERGENCE, GAINED, LOST, CLASS, PREDICTION = "divergence", "gained", "lost", "class", "prediction"
"""The kinds of rows of the result."""
COLUMNS = (
    "kind", "group", "name", "token_id", "context", "before", "after", "change", "low", "high", "n", "n_texts",
    "example", "example_before", "example_after",
)  # fmt: skip
NEUTRAL_TEXTS = "neutral texts"
"""The context of class probabilities at placeholders of neutral texts."""
TARGET, OTHER = "target classes", "other classes"
"""The groups of the trainer's own classes and of other classes; other GRADIENDs have groups of their own."""
N_PREDICTIONS = 5
"""How many tokens are reported for a sentence, before and after."""
SEED = 0
"""Seed of the words that are masked in neutral texts."""

_KEPT_LOGITS = 1 << 26
"""How many logits of the unchanged model are kept while the model is rewritten (256 MiB in float32)."""
_COMPARED_LOGITS = 1 << 22
"""How many pairs of logits are compared at once, in double precision."""

Numbered = tuple[NDArray[np.int64], WordBatch]
"""The numbers of the scored positions of a batch, and the batch."""
Rewritten = Callable[[], AbstractContextManager[Any]]
"""A function whose context changes the scorer's model in place and restores the model."""


@dataclass(frozen=True)
class ClassTexts:
    """Classes, and the rows on which their probabilities are measured."""

    groups: Mapping[str, str]
    """Class → the group that the class is reported under."""
    words: Mapping[str, Sequence[str]]
    """Class → words."""
    rows: pd.DataFrame
    """Rows with the columns masked, factual and factual_class, which becomes the context."""

    def n_texts(self, context: str) -> int:
        """The number of texts, which may have several rows each, in a context."""
        rows = self.rows[self.rows[UNIFIED_FACTUAL_CLASS] == context]
        pairs = zip(rows[UNIFIED_MASKED], rows[UNIFIED_FACTUAL], strict=True)
        return len({text.replace(PLACEHOLDER, word, 1) for text, word in pairs})


class ScoredPositions:
    """Positions of texts whose logits are compared, in batches of at most `batch_size` texts.

    `words` are (number of a text, a word with the positions and their tokens).
    """

    def __init__(self, words: Sequence[tuple[int, TokenizedWord]], objective: Objective, batch_size: int) -> None:
        self._vocabulary_size = objective.vocabulary_size or len(objective.tokenizer)
        most = max(len(word.positions) for _, word in words)
        batch_size = max(1, min(batch_size, _KEPT_LOGITS // (most * self._vocabulary_size)))
        made = batches_by_length([word for _, word in words], batch_size, objective.pad_token_id)
        # A position is a number: its place in `texts` and `tokens`, which follow the order of the batches.
        self.batches: list[Numbered] = []
        texts: list[int] = []
        places: list[int] = []
        for indices, batch in made:
            chosen = [words[index] for index in indices.tolist()]
            start = len(texts)
            for text, word in chosen:
                # Labels stand at the predicted tokens, wherever the objective reads their logits.
                predicted = (objective.inputs_of(word)["labels"] >= 0).nonzero().squeeze(1).tolist()
                texts += [text] * len(predicted)
                places += predicted
            self.batches.append((np.arange(start, len(texts)), batch))
        self.texts = np.array(texts)
        """The text of each position."""
        self.places = np.array(places)
        """The number of the predicted token in its text."""

    def __len__(self) -> int:
        """Number of positions."""
        return len(self.texts)

    @torch.no_grad()
    def compare(
        self, scorer: WordScorer, rewritten: Rewritten, consume: Callable[[NDArray[np.int64], Tensor, Tensor], None]
    ) -> None:
        """Call `consume` with numbers of positions (s,) and log p of every token before and after, (s, vocabulary).

        Log p are in float64. See `Rewritten`.
        """
        for group in self._groups():
            moved = [(numbers, batch.to(scorer.device)) for numbers, batch in group]
            with measurement_mode(scorer.model):
                before = [scorer.site_logits(batch) for _, batch in moved]
            with rewritten(), measurement_mode(scorer.model):
                for (numbers, batch), old in zip(moved, before, strict=True):
                    new = scorer.site_logits(batch)
                    rows = max(1, _COMPARED_LOGITS // new.shape[-1])
                    for start in range(0, len(numbers), rows):
                        sites = batch.score_sites[start : start + rows]
                        old_log_p, new_log_p = (logits[sites].double().log_softmax(-1) for logits in (old, new))
                        if bool(new_log_p.isnan().any()):
                            raise ValueError(
                                "The rewritten model gives no numbers (NaN): the step is too large for its dtype. "
                                "Choose a smaller step, or load the model in float32."
                            )
                        consume(numbers[start : start + rows], old_log_p, new_log_p)

    def _groups(self) -> Iterator[list[Numbered]]:
        """Batches whose logits of the unchanged model may be kept together; the model is rewritten once for a group."""
        group: list[Numbered] = []
        kept = 0
        for numbers, batch in self.batches:
            logits = len(batch.site_rows) * self._vocabulary_size
            if group and kept + logits > _KEPT_LOGITS:
                yield group
                group, kept = [], 0
            group.append((numbers, batch))
            kept += logits
        yield group


class _Movement:
    """How far the distributions moved: sums over positions, and for each token the position where it moved most."""

    def __init__(self, positions: ScoredPositions, n_texts: int) -> None:
        self._texts = positions.texts
        self.divergence = np.zeros(n_texts)
        """The divergence KL(base ‖ rewritten) in nats, summed over the positions of each text."""
        self._sums: Tensor | None = None
        self._extremes: dict[str, _Extremes] = {GAINED: _Extremes(1), LOST: _Extremes(-1)}
        self._n_positions = len(positions)

    def add(self, numbers: NDArray[np.int64], before: Tensor, after: Tensor) -> None:
        """See `ScoredPositions.compare`."""
        p, q = before.exp(), after.exp()
        # A token that the base model excludes has a probability of 0, and counts nothing.
        divergence = torch.where(p > 0, p * (before - after), 0.0).sum(1)
        np.add.at(self.divergence, self._texts[numbers], divergence.cpu().numpy())
        sums = torch.stack([p.sum(0), q.sum(0)])
        self._sums = sums if self._sums is None else self._sums + sums
        for extremes in self._extremes.values():
            extremes.add(numbers, p, q)

    @property
    def means(self) -> Tensor:
        """The mean probability of each token before and after, (2, vocabulary)."""
        assert self._sums is not None
        return self._sums / self._n_positions

    def most_moved(self, top_k: int) -> dict[str, list[int]]:
        """The tokens whose mean probability rose most, and those whose mean probability fell most."""
        change = self.means[1] - self.means[0]
        found = {}
        for kind, extremes in self._extremes.items():
            best = (extremes.sign * change).topk(min(top_k, len(change)))
            found[kind] = best.indices[best.values > 0].tolist()
        return found

    def example(self, kind: str, token: int) -> tuple[int, float, float]:
        """(position, p before, p after) where a token rose (fell) most."""
        return self._extremes[kind].of(token)


class _Extremes:
    """For each token, the position where its probability rose (sign 1) or fell (sign −1) most."""

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self._change: Tensor | None = None
        self._found: tuple[Tensor, ...] = ()

    def add(self, numbers: NDArray[np.int64], p: Tensor, q: Tensor) -> None:
        change, row = (self.sign * (q - p)).max(0)
        found = (torch.from_numpy(numbers).to(row.device)[row], *(x.gather(0, row[None])[0] for x in (p, q)))
        if self._change is None:
            self._change, self._found = change, found
            return
        larger = change > self._change
        self._change = torch.where(larger, change, self._change)
        self._found = tuple(torch.where(larger, new, old) for new, old in zip(found, self._found, strict=True))

    def of(self, token: int) -> tuple[int, float, float]:
        position, before, after = (values[token].item() for values in self._found)
        return int(position), before, after


class SideEffects:
    """Everything that is measured of a rewrite, tokenized once; every error of the texts and words comes here.

    Divergence and the `top_k` tokens that gained, and that lost, are measured on the neutral texts, but for places of
    ignored words; classes on their rows; predictions at the `[MASK]` of the sentences.

    Raises:
        ValueError: There are no neutral texts, or none of their tokens can be scored; a sentence without `[MASK]`, or
            with nothing before it where the model needs a beginning; words that the tokenizer does not know; or
            classes with the same words.
    """

    def __init__(
        self, objective: Objective, neutral_texts: Sequence[str], *, ignored: Collection[str],
        classes: Sequence[ClassTexts], sentences: Sequence[str], top_k: int, batch_size: int,
    ) -> None:  # fmt: skip
        self.objective = objective
        self.texts = list(neutral_texts)
        self.sentences = list(sentences)
        self.classes = list(classes)
        self.top_k = top_k
        words = objective.neutral_words(list(tokenize_texts(self.texts, objective, ignored)))
        if not any(len(word.tokens) for _, word in words):
            raise ValueError(
                "The neutral texts contain no token to score. Give neutral texts of several words each "
                "(eval_neutral_data, or neutral_df with a column 'text')."
            )
        self.positions = ScoredPositions(words, objective, batch_size)
        some_word = next(word for own in self.classes for words in own.words.values() for word in words)
        asked = [(number, _placeholder(objective, text, some_word)) for number, text in enumerate(self.sentences)]
        self.asked = ScoredPositions(asked, objective, batch_size) if asked else None
        self.probabilities = []
        for own in self.classes:
            for values in own.words.values():
                objective.require_known(values)
            self.probabilities.append(ClassProbabilities(own.rows, own.words, objective, batch_size=batch_size))

    def measure(self, scorer: WordScorer, rewritten: Rewritten) -> pd.DataFrame:
        """All rows of the result, see `TextPredictionTrainer.evaluate_side_effects`."""
        rows = [*self._neutral_rows(scorer, rewritten), *self._class_rows(scorer, rewritten)]
        if self.asked is not None:
            rows += self._prediction_rows(self.asked, scorer, rewritten)
        types = dict.fromkeys(COLUMNS, "float64") | dict.fromkeys(("token_id", "n", "n_texts"), "Int64")
        types |= dict.fromkeys(("kind", "group", "name", "context", "example"), "object")
        empty = {name: "" if kind == "object" else None for name, kind in types.items()}
        return pd.DataFrame([{**empty, **row} for row in rows], columns=list(COLUMNS)).astype(types)

    def _neutral_rows(self, scorer: WordScorer, rewritten: Rewritten) -> Iterator[dict[str, Any]]:
        # A text that occurs twice is one text.
        same = numbers_of_groups(self.texts)
        positions, n_texts = self.positions, len(self.texts)
        moved = _Movement(positions, n_texts)
        positions.compare(scorer, rewritten, moved.add)
        chosen = moved.most_moved(self.top_k)
        tokens = [token for own in chosen.values() for token in own]
        changes = np.zeros((n_texts, len(tokens)))

        def add(numbers: NDArray[np.int64], before: Tensor, after: Tensor) -> None:
            change = (after[:, tokens].exp() - before[:, tokens].exp()).cpu().numpy()
            np.add.at(changes, positions.texts[numbers], change)

        # Sums of all tokens for all texts would not fit into memory, so that the chosen tokens have a second pass.
        positions.compare(scorer, rewritten, add)
        counts = np.bincount(positions.texts, minlength=n_texts)
        sums = np.column_stack([moved.divergence, changes])
        intervals = _intervals_over_texts(sums, counts, same)
        size = {"n": len(positions), "n_texts": len(np.unique(same[counts > 0]))}
        mean = float(moved.divergence.sum() / len(positions))
        yield {
            "kind": DIVERGENCE, "name": "KL(base ‖ rewritten)", "context": NEUTRAL_TEXTS, "before": 0.0, "after": mean,
            "change": mean, **_ends(intervals[0]), **size,
        }  # fmt: skip
        before, after = moved.means.cpu().numpy()
        kinds = [kind for kind, own in chosen.items() for _ in own]
        for kind, token, interval in zip(kinds, tokens, intervals[1:], strict=True):
            position, example_before, example_after = moved.example(kind, token)
            yield {
                "kind": kind, "name": self._shown(token), "token_id": token, "context": NEUTRAL_TEXTS,
                "before": before[token], "after": after[token], "change": after[token] - before[token],
                **_ends(interval), **size, "example": self._with_placeholder(position),
                "example_before": example_before, "example_after": example_after,
            }  # fmt: skip

    def _class_rows(self, scorer: WordScorer, rewritten: Rewritten) -> Iterator[dict[str, Any]]:
        before = [{name: one.rows(scorer, name) for name in one.datasets} for one in self.probabilities]
        with rewritten():
            after = [{name: one.rows(scorer, name) for name in one.datasets} for one in self.probabilities]
        for own, one, old, new in zip(self.classes, self.probabilities, before, after, strict=True):
            for context in one.datasets:
                intervals = intervals_of_means(new[context] - old[context], one.weights(context))
                means = old[context].mean(axis=0), new[context].mean(axis=0)
                for name, was, is_now, interval in zip(one.classes, *means, intervals, strict=True):
                    yield {
                        "kind": CLASS, "group": own.groups[name], "name": name, "context": context, "before": was,
                        "after": is_now, "change": is_now - was, **_ends(interval), "n": len(old[context]),
                        "n_texts": own.n_texts(context),
                    }  # fmt: skip

    def _prediction_rows(
        self, asked: ScoredPositions, scorer: WordScorer, rewritten: Rewritten
    ) -> Iterator[dict[str, Any]]:
        found: dict[int, list[dict[str, Any]]] = {}

        def add(numbers: NDArray[np.int64], before: Tensor, after: Tensor) -> None:
            for number, p, q in zip(numbers.tolist(), before.exp(), after.exp(), strict=True):
                best = [x.topk(min(N_PREDICTIONS, len(x))).indices.tolist() for x in (q, p)]
                found[int(asked.texts[number])] = [
                    {"name": self._shown(token), "token_id": token, "before": float(p[token]), "after": float(q[token])}
                    for token in dict.fromkeys([*best[0], *best[1]])
                ]

        asked.compare(scorer, rewritten, add)
        for number, sentence in enumerate(self.sentences):
            for row in found[number]:
                change = row["after"] - row["before"]
                yield {"kind": PREDICTION, "context": sentence, **row, "change": change, "n": 1, "n_texts": 1}

    def _shown(self, token: int) -> str:
        """A token as text, with a space in front where it begins a word in vocabularies that know this.

        A token that is no whole text has its name in the vocabulary, and a number without a name is written as such.
        """
        tokenizer = self.objective.tokenizer
        if token >= len(tokenizer):
            return f"token {token}"
        name, text = str(tokenizer.convert_ids_to_tokens(token)), tokenizer.decode([token])
        if not text.strip() or "\ufffd" in text:
            return name
        # Some decoders drop the space before the first word.
        return " " + text.lstrip(" ▁") if name[0] in "Ġ▁" else text

    def _with_placeholder(self, position: int) -> str:
        """The text of a position with the placeholder instead of the token there."""
        text = self.texts[self.positions.texts[position]]
        encoded = self.objective.encode_cut([text])
        begin, end = encoded["offset_mapping"][0][self.positions.places[position]]
        # Some tokenizers count the space before a word to the word.
        begin += len(text[begin:end]) - len(text[begin:end].lstrip())
        return text[:begin] + PLACEHOLDER + text[end:]


def neutral_rows(texts: Sequence[str], ignored: Collection[str]) -> pd.DataFrame:
    """Rows for class probabilities at neutral places: a random word of each text masked, or the text's own `[MASK]`."""
    _, masked, words = mask_random_words(texts, ignored, SEED)
    own = [text for text in texts if PLACEHOLDER in text]
    # A word with a capital gives class words a capital wherever the place asks for one.
    columns = {UNIFIED_MASKED: [*masked, *own], UNIFIED_FACTUAL: [*words, *["X"] * len(own)]}
    return pd.DataFrame({**columns, UNIFIED_FACTUAL_CLASS: NEUTRAL_TEXTS})


def require_sentences(sentences: Any) -> list[str]:
    """The sentences as a list; None gives none. TypeError: no list of texts. ValueError: one without `[MASK]`."""
    given = [] if sentences is None else list(require_texts("sentences", sentences))
    for sentence in given:
        if PLACEHOLDER not in sentence:
            raise ValueError(f"sentences need the place to predict, {PLACEHOLDER}; got {sentence!r:.80}.")
    return list(dict.fromkeys(given))


def _placeholder(objective: Objective, sentence: str, some_word: str) -> TokenizedWord:
    """The one position at the placeholder of a sentence.

    A mask token is one token wherever it stands. Without mask tokens, `some_word` shows where a word begins.
    """
    word = objective.tokenizer.mask_token or some_word
    if not objective.scorable([sentence], [word])[0]:
        raise ValueError(f"{objective.unscorable}: put a word before the placeholder of {sentence!r:.80}.")
    item = objective.tokenize([sentence], [word])[0]
    # Tokens after the first are not predicted from the sentence alone.
    return TokenizedWord(item.input_ids, item.positions[:1], item.tokens[:1])


def _intervals_over_texts(sums: Floats, counts: NDArray[np.int64], same: NDArray[np.int64]) -> list[Interval | None]:
    """Intervals of Σ sums / Σ counts for each column of `sums` (texts, columns), with texts resampled.

    `counts` are the positions of each text; texts with the same number in `same` are drawn together.
    """
    kept = counts > 0
    # The mean over positions is the mean of the texts' means, weighted by their numbers of positions.
    weights: Weights = resampled_weights(same[kept]) * counts[kept]
    return intervals_of_means(sums[kept] / counts[kept, None], weights)


def _ends(interval: Interval | None) -> dict[str, float]:
    """The columns low and high; NaN where the interval is not estimable."""
    low, high = (np.nan, np.nan) if interval is None else interval
    return {"low": low, "high": high}
