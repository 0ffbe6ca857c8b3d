"""The pass over the corpus: sentences with words of exactly one class become masked examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from tqdm.auto import tqdm

from gradiend.data.text.filter_config import TextFilterConfig
from gradiend.data.text.prediction.filter_engine import mask_sentence
from gradiend.data.text.prediction.surface_matcher import Hit, SurfaceMatcher
from gradiend.data.text.prediction.tag_resolver import TagResolver
from gradiend.data.text.prediction.token_exclusion import TokenExclusion
from gradiend.data.text.preprocess import TextPreprocessConfig, iter_segments
from gradiend.data.text.spacy_sentences import SpacySentences
from gradiend.util.placeholder import PLACEHOLDER

SEVERAL_CLASSES = "with words of several classes"
OTHER_TAGS = "with a class word that has other tags"
AMBIGUOUS = "with a word that fits several classes"
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
    """The target that the label spells, in the user's spelling; the label again where a lemma was sought."""
    frame: str
    """The sentence with the words of all classes masked: the same for all examples of a sentence, and for all with one
    masked text. It must not be in two splits."""


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
    resolver: TagResolver,
    splitter: SpacySentences | None,
) -> Collected:
    """Find the examples of all classes in one pass; stop when every class is full.

    A sentence with words of two classes is dropped: whichever is masked, the other one would tell the class.
    Where tags decide the class of all of them, it gives one example for each class instead, with the words of
    that class masked: which article a noun has says nothing about the article of another.

    Args:
        texts: The corpus.
        configs: The classes.
        preprocess: How texts are cut and filtered; None takes them as they are.
        masks: Sentences that contain one of these already are dropped.
        limit: Examples a class at most.
        resolver: Narrows found words to the classes whose tags hold.
        splitter: Splits into sentences in place of the rules.

    Returns:
        The examples and the counts of what was dropped.
    """
    matcher = SurfaceMatcher(configs)
    collected = Collected([ClassExamples(config, limit) for config in configs])
    with tqdm(texts, desc="Creating training data", unit="text", delay=1.0) as bar:
        segments = iter_segments(bar, preprocess, collected.dropped, splitter)
        for segment, hits in resolver.resolve((segment, matcher.find(segment)) for segment in segments):
            if collected.n_segments % _REFRESH_EVERY == 0:
                bar.set_postfix_str(_counts(collected.classes), refresh=False)
            collected.n_segments += 1
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
    excluded: Sequence[TextFilterConfig],
    *,
    preprocess: TextPreprocessConfig | None,
    masks: Collection[str],
    limit: int | None,
    exclusion: TokenExclusion,
    splitter: SpacySentences | None,
) -> tuple[list[str], Counter[str]]:
    """Find segments without any of the excluded words and tokens, in corpus order.

    Args:
        texts: The corpus.
        excluded: The words that must not occur.
        preprocess: How texts are cut and filtered; None takes them as they are.
        masks: Segments that contain one of these are dropped.
        limit: Stop after so many.
        exclusion: Finds tokens that must not occur by tags and lemmas, in what has none of the words.
        splitter: Splits into sentences in place of the rules.

    Returns:
        The segments, and the number of dropped ones by reason.
    """
    matcher = SurfaceMatcher(excluded)
    neutral: list[str] = []
    dropped: Counter[str] = Counter()
    with tqdm(texts, desc="Creating neutral data", unit="text", delay=1.0) as bar:
        segments = iter_segments(bar, preprocess, dropped, splitter)
        candidates = (segment for segment in segments if not _has_excluded(segment, matcher, masks, dropped))
        for segment, is_excluded in exclusion.split(candidates):
            if is_excluded:
                dropped["with an excluded tag or lemma"] += 1
            else:
                neutral.append(segment)
                if limit is not None and len(neutral) >= limit:
                    break
    return neutral, dropped


def _has_excluded(segment: str, matcher: SurfaceMatcher, masks: Collection[str], dropped: Counter[str]) -> bool:
    if any(mask in segment for mask in masks):
        dropped[HAS_MASK] += 1
    elif matcher.find(segment):
        dropped["with an excluded word"] += 1
    else:
        return False
    return True


def _add(classes: Sequence[ClassExamples], segment: str, hits: Sequence[Hit], masks: Collection[str]) -> str | None:
    """Add the examples of a segment to their classes, or return why there is none."""
    by_class: dict[int, list[Hit]] = {}
    for hit in hits:
        if not hit.targets:
            return OTHER_TAGS
        owners = {target.class_index for target in hit.targets}
        if len(owners) > 1:
            return AMBIGUOUS
        by_class.setdefault(owners.pop(), []).append(hit)
    if len(by_class) > 1 and any(target.tags is None for hit in hits for target in hit.targets):
        return SEVERAL_CLASSES
    if any(mask in segment for mask in masks):
        return HAS_MASK
    frame = mask_sentence(segment, [(hit.start, hit.end) for hit in hits], PLACEHOLDER)
    reasons = [_add_to_class(classes[index], segment, own, frame) for index, own in by_class.items()]
    return None if None in reasons else reasons[0]


def _add_to_class(found: ClassExamples, segment: str, hits: Sequence[Hit], frame: str) -> str | None:
    if found.is_full:
        return CLASS_FULL
    masked = mask_sentence(segment, [(hit.start, hit.end, hit.text) for hit in hits], found.config.mask)
    if masked in found.by_text:
        return DUPLICATE
    target = hits[0].targets[0]
    word = hits[0].text if target.is_lemma else target.word
    # the same string twice takes the memory of one
    found.by_text[masked] = MaskedExample(masked, hits[0].text, word, masked if masked == frame else frame)
    return None


def _counts(classes: Sequence[ClassExamples]) -> str:
    return ", ".join(
        f"{found.config.id} {len(found.by_text)}" + (f"/{found.limit}" if found.limit is not None else "")
        for found in classes
    )
