"""The pass over the corpus: sentences with words of exactly one class become masked examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from tqdm.auto import tqdm

from gradiend.data.text.filter_config import TextFilterConfig
from gradiend.data.text.prediction.filter_engine import mask_sentence
from gradiend.data.text.prediction.surface_matcher import Hit, SurfaceMatcher
from gradiend.data.text.preprocess import TextPreprocessConfig, iter_segments

SEVERAL_CLASSES = "with words of several classes"
HAS_MASK = "with the mask in the text"
DUPLICATE = "repeating a masked text"
CLASS_FULL = "of a class already full"
BALANCING = "to balance the classes"

_REFRESH_EVERY = 512


@dataclass(frozen=True, slots=True)
class MaskedExample:
    """A sentence with its class words masked."""

    masked: str
    label: str
    """The first masked word, in the casing of the sentence."""
    word: str
    """The target that the label spells, in the user's spelling."""


@dataclass
class ClassExamples:
    """What was found for one class, in corpus order; no masked text twice."""

    config: TextFilterConfig
    limit: int | None
    by_text: dict[str, MaskedExample] = field(default_factory=dict)

    @property
    def is_full(self) -> bool:
        """Whether nothing more is wanted."""
        return self.limit is not None and len(self.by_text) >= self.limit

    @property
    def examples(self) -> list[MaskedExample]:
        """The examples in corpus order."""
        return list(self.by_text.values())


@dataclass
class Collected:
    """The result of a pass over the corpus."""

    classes: list[ClassExamples]
    n_segments: int = 0
    """Segments that were read, without those that preprocessing dropped."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Segments that have a class word, or were dropped before it was looked for, by reason."""


def collect_examples(
    texts: Collection[str],
    configs: Sequence[TextFilterConfig],
    *,
    preprocess: TextPreprocessConfig | None,
    masks: Collection[str],
    limit: int | None,
) -> Collected:
    """Find the examples of all classes in one pass; stop when every class is full.

    A sentence with words of two classes is dropped: whichever is masked, the other one would tell the class.

    Args:
        texts: The corpus.
        configs: The classes.
        preprocess: How texts are cut and filtered; None takes them as they are.
        masks: Sentences that contain one of these already are dropped.
        limit: Examples a class at most.

    Returns:
        The examples and the counts of what was dropped.
    """
    matcher = SurfaceMatcher(configs)
    collected = Collected([ClassExamples(config, limit) for config in configs])
    with tqdm(texts, desc="Creating training data", unit="text", delay=1.0) as bar:
        for segment in iter_segments(bar, preprocess, collected.dropped):
            if collected.n_segments % _REFRESH_EVERY == 0:
                bar.set_postfix_str(_counts(collected.classes), refresh=False)
            collected.n_segments += 1
            hits = matcher.find(segment)
            if not hits:
                continue
            reason = _add(collected.classes, segment, hits, masks)
            if reason is not None:
                collected.dropped[reason] += 1
            elif all(found.is_full for found in collected.classes):
                break
        bar.set_postfix_str(_counts(collected.classes))
    return collected


def collect_neutral(
    texts: Collection[str],
    excluded: TextFilterConfig,
    *,
    preprocess: TextPreprocessConfig | None,
    masks: Collection[str],
    limit: int | None,
) -> tuple[list[str], Counter[str]]:
    """Find segments without any of the excluded words, in corpus order.

    Args:
        texts: The corpus.
        excluded: The words that must not occur.
        preprocess: How texts are cut and filtered; None takes them as they are.
        masks: Segments that contain one of these are dropped.
        limit: Stop after so many.

    Returns:
        The segments, and the number of dropped ones by reason.
    """
    matcher = SurfaceMatcher([excluded])
    neutral: list[str] = []
    dropped: Counter[str] = Counter()
    with tqdm(texts, desc="Creating neutral data", unit="text", delay=1.0) as bar:
        for segment in iter_segments(bar, preprocess, dropped):
            if any(mask in segment for mask in masks):
                dropped[HAS_MASK] += 1
            elif matcher.find(segment):
                dropped["with an excluded word"] += 1
            else:
                neutral.append(segment)
                if limit is not None and len(neutral) >= limit:
                    break
    return neutral, dropped


def _add(classes: Sequence[ClassExamples], segment: str, hits: Sequence[Hit], masks: Collection[str]) -> str | None:
    """Add an example to its class, or return why not."""
    indices = {target.class_index for hit in hits for target in hit.targets}
    if len(indices) > 1:
        return SEVERAL_CLASSES
    if any(mask in segment for mask in masks):
        return HAS_MASK
    found = classes[indices.pop()]
    if found.is_full:
        return CLASS_FULL
    masked = mask_sentence(segment, [(hit.start, hit.end, hit.text) for hit in hits], found.config.mask)
    if masked in found.by_text:
        return DUPLICATE
    found.by_text[masked] = MaskedExample(masked, hits[0].text, hits[0].targets[0].word)
    return None


def _counts(classes: Sequence[ClassExamples]) -> str:
    return ", ".join(
        f"{found.config.id} {len(found.by_text)}" + (f"/{found.limit}" if found.limit is not None else "")
        for found in classes
    )
