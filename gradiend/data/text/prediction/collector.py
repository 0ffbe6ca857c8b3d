"""The pass over the corpus: sentences with words of exactly one class become masked examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tqdm.auto import tqdm

from gradiend.data.core.text_stream import Text
from gradiend.data.text.filter_config import TextFilterConfig
from gradiend.data.text.prediction.block_matcher import SEVERAL_CLASSES, BlockMatcher, Match, MatchedBlock
from gradiend.data.text.prediction.corpus_pass import matched_blocks
from gradiend.data.text.prediction.filter_engine import mask_sentence
from gradiend.data.text.prediction.surface_matcher import Hit, SurfaceMatcher
from gradiend.data.text.prediction.tag_resolver import TagResolver
from gradiend.data.text.prediction.token_exclusion import TokenExclusion
from gradiend.data.text.preprocess import TextPreprocessConfig, iter_segments
from gradiend.data.text.spacy_sentences import SpacySentences
from gradiend.util.placeholder import PLACEHOLDER

OTHER_TAGS = "with a class word that has other tags"
AMBIGUOUS = "with a word that fits several classes"
HAS_MASK = "with the mask in the text"
DUPLICATE = "repeating a masked text"
CLASS_FULL = "of a class already full"
BALANCING = "to balance the classes"


class MaskedExample(NamedTuple):
    """A sentence with its class words masked."""

    masked: str
    label: str
    """The first masked word, in the casing of the sentence."""
    word: str
    """The target that the label spells, in the user's spelling; the label again where a lemma was sought."""
    frame: str
    """The sentence with the words of all classes masked: the same for all examples of a sentence, and for all with one
    masked text. It must not be in two splits."""
    document: object
    """The document that the sentence comes from."""


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
    n_texts: int = 0
    """Texts that were read."""
    n_segments: int = 0
    """Segments that were read, without those that preprocessing dropped."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Segments that have a class word, or were dropped before it was looked for, by reason."""


def collect_examples(
    texts: Iterable[Text],
    configs: Sequence[TextFilterConfig],
    *,
    preprocess: TextPreprocessConfig | None,
    masks: Collection[str],
    limit: int | None,
    resolver: TagResolver,
    splitter: SpacySentences | None = None,
    n_processes: int | None = 1,
) -> Collected:
    """Find the examples of all classes in one pass; stop when every class is full.

    A sentence with words of two classes is dropped: whichever is masked, the other one would tell the class.
    Where tags decide the class of all of them, it gives one example for each class instead, with the words of
    that class masked: which article a noun has says nothing about the article of another.
    Memory grows with the examples that are kept, not with the corpus.

    Args:
        texts: The corpus.
        configs: The classes.
        preprocess: How texts are cut and filtered; None takes them as they are.
        masks: Sentences that contain one of these already are dropped.
        limit: Examples a class at most.
        resolver: Narrows found words to the classes whose tags hold; always in this process.
        splitter: Splits into sentences in place of the rules.
        n_processes: Processes that match; see `matched_blocks`. The examples are the same for any number.

    Returns:
        The examples and the counts of what was dropped.
    """
    matcher = BlockMatcher(
        configs,
        preprocess,
        splitter,
        keep_several=resolver.reader is not None,
        keep_all=resolver.needs_every_sentence,
    )
    collected = Collected([ClassExamples(config, limit) for config in configs])
    with (
        matched_blocks(texts, matcher, n_processes) as blocks,
        tqdm(desc="Creating training data", unit=" texts", delay=1.0) as bar,
    ):
        for block in blocks:
            collected.n_texts += block.n_texts
            collected.n_segments += block.n_segments
            collected.dropped.update(block.dropped)
            for match, hits in _resolved(block, matcher.surface, resolver):
                if hits:
                    reason = _add(collected.classes, match, hits, masks)
                    if reason is not None:
                        collected.dropped[reason] += 1
            bar.set_postfix_str(_counts(collected.classes), refresh=False)
            bar.update(block.n_texts)
            if all(found.is_full for found in collected.classes):
                break
    return collected


def collect_neutral(
    texts: Iterable[Text],
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
    with tqdm(texts, desc="Creating neutral data", unit=" texts", delay=1.0) as bar:
        segments = iter_segments((text for text, _ in bar), preprocess, dropped, splitter)
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


def _resolved(block: MatchedBlock, surface: SurfaceMatcher, resolver: TagResolver) -> Iterator[tuple[Match, list[Hit]]]:
    """The matches of a block with the hits that count."""
    found = [(match.segment, surface.hits_at(match.segment, match.places)) for match in block.matches]
    yield from zip(block.matches, resolver.resolve_batch(found), strict=True)


def _add(classes: Sequence[ClassExamples], match: Match, hits: Sequence[Hit], masks: Collection[str]) -> str | None:
    """Add the examples of a segment to their classes, or return why there is none."""
    by_class: dict[int, list[Hit]] = {}
    for hit in hits:
        if not hit.targets:
            return OTHER_TAGS
        owner = hit.targets[0].class_index
        if len(hit.targets) > 1 and any(target.class_index != owner for target in hit.targets):
            return AMBIGUOUS
        by_class.setdefault(owner, []).append(hit)
    if len(by_class) > 1 and any(target.tags is None for hit in hits for target in hit.targets):
        return SEVERAL_CLASSES
    if any(mask in match.segment for mask in masks):
        return HAS_MASK
    frame = None if len(by_class) == 1 else _mask_all(match, hits)
    reasons = [_add_to_class(classes[index], match, own, frame) for index, own in by_class.items()]
    return None if None in reasons else reasons[0]


def _add_to_class(found: ClassExamples, match: Match, hits: Sequence[Hit], frame: str | None) -> str | None:
    if found.is_full:
        return CLASS_FULL
    masked = mask_sentence(match.segment, [(hit.start, hit.end) for hit in hits], found.config.mask)
    if masked in found.by_text:
        return DUPLICATE
    if frame is None:
        # the same string twice takes the memory of one
        frame = masked if found.config.mask == PLACEHOLDER else _mask_all(match, hits)
    label, target = hits[0].text, hits[0].targets[0]
    word = label if target.is_lemma else target.word
    found.by_text[masked] = MaskedExample(masked, label, word, frame, match.document)
    return None


def _mask_all(match: Match, hits: Iterable[Hit]) -> str:
    return mask_sentence(match.segment, [(hit.start, hit.end) for hit in hits], PLACEHOLDER)


def _counts(classes: Sequence[ClassExamples]) -> str:
    return ", ".join(
        f"{found.config.id} {len(found.by_text)}" + (f"/{found.limit}" if found.limit is not None else "")
        for found in classes
    )
