"""The pass over the corpus: sentences with words of exactly one class become masked examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from tqdm.auto import tqdm

from gradiend.data.core.text_stream import TextBlock
from gradiend.data.text.filter_config import TextFilterConfig
from gradiend.data.text.prediction.block_matcher import SEVERAL_CLASSES, BlockMatcher, Match, MatchedBlock
from gradiend.data.text.prediction.corpus_pass import matched_blocks
from gradiend.data.text.prediction.examples import Examples
from gradiend.data.text.prediction.filter_engine import replace_places
from gradiend.data.text.prediction.surface_matcher import Hit, SurfaceMatcher
from gradiend.data.text.prediction.tag_resolver import TagResolver
from gradiend.data.text.prediction.token_exclusion import TokenExclusion
from gradiend.data.text.preprocess import TextPreprocessConfig
from gradiend.data.text.spacy_sentences import SpacySentences
from gradiend.util.placeholder import PLACEHOLDER

OTHER_TAGS = "with a class word that has other tags"
AMBIGUOUS = "with a word that fits several classes"
HAS_MASK = "with the mask in the text"
DUPLICATE = "repeating a masked text"
CLASS_FULL = "of a class already full"
BALANCING = "to balance the classes"


@dataclass
class ClassExamples:
    """What was found for one class, in corpus order."""

    config: TextFilterConfig
    limit: int | None
    examples: Examples = field(default_factory=Examples)
    seen: set[str] = field(default_factory=set)
    """The masked texts."""

    @property
    def is_full(self) -> bool:
        """Whether nothing more is wanted."""
        return self.limit is not None and len(self.examples) >= self.limit

    def add(self, segment: str, hits: Sequence[Hit], frame: str | None, document: object) -> str | None:
        """Mask the words of this class in a segment, or return why it is not wanted.

        Args:
            segment: The segment.
            hits: The words of this class in it, one at least.
            frame: The segment with the words of all classes masked; None if these are all.
            document: Where the segment comes from.
        """
        if self.is_full:
            return CLASS_FULL
        places = [(hit.start, hit.end) for hit in hits]
        masked = replace_places(segment, places, self.config.mask)
        if masked in self.seen:
            return DUPLICATE
        self.seen.add(masked)
        if frame is None:
            # the same string twice takes the memory of one
            frame = masked if self.config.mask == PLACEHOLDER else replace_places(segment, places, PLACEHOLDER)
        label, target = hits[0].text, hits[0].targets[0]
        self.examples.masked.append(masked)
        self.examples.label.append(label)
        self.examples.word.append(label if target.is_lemma else target.word)
        self.examples.frame.append(frame)
        self.examples.document.append(document)
        return None


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
    texts: Iterable[TextBlock],
    configs: Sequence[TextFilterConfig],
    *,
    preprocess: TextPreprocessConfig | None,
    masks: Collection[str],
    limit: int | None,
    resolver: TagResolver,
    keep_several: bool = False,
    splitter: SpacySentences | None = None,
    n_processes: int | None = 1,
) -> Collected:
    """Find the examples of all classes in one pass; stop when every class is full.

    A sentence with words of two classes is dropped: whichever is masked, the other one would tell the class.
    Where tags decide the class of all of them, or on request, it gives one example for each class instead, with the
    words of that class masked: which article a noun has says nothing about the article of another.
    Memory grows with the examples that are kept, not with the corpus.

    Args:
        texts: The corpus.
        configs: The classes.
        preprocess: How texts are cut and filtered; None takes them as they are.
        masks: Sentences that contain one of these already are dropped.
        limit: Examples a class at most.
        resolver: Narrows found words to the classes whose tags hold; always in this process.
        keep_several: Drop no sentence because of words of several classes.
        splitter: Splits into sentences in place of the rules.
        n_processes: Processes that match; see `matched_blocks`. The examples are the same for any number.

    Returns:
        The examples and the counts of what was dropped.
    """
    matcher = BlockMatcher(
        configs,
        preprocess,
        splitter,
        keep_several=keep_several or resolver.reader is not None,
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
                    reason = _add(collected.classes, match, hits, masks, keep_several)
                    if reason is not None:
                        collected.dropped[reason] += 1
            bar.set_postfix_str(_counts(collected.classes), refresh=False)
            bar.update(block.n_texts)
            if all(found.is_full for found in collected.classes):
                break
    return collected


def collect_neutral(
    texts: Iterable[TextBlock],
    excluded: Sequence[TextFilterConfig],
    *,
    preprocess: TextPreprocessConfig | None,
    masks: Collection[str],
    limit: int | None,
    exclusion: TokenExclusion,
    splitter: SpacySentences | None,
    n_processes: int | None = 1,
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
        n_processes: Processes that cut and match; see `matched_blocks`.

    Returns:
        The segments, and the number of dropped ones by reason.
    """
    matcher = BlockMatcher(excluded, preprocess, splitter, keep_several=True, keep_all=True)
    neutral: list[str] = []
    dropped: Counter[str] = Counter()
    with (
        matched_blocks(texts, matcher, n_processes) as blocks,
        tqdm(desc="Creating neutral data", unit=" texts", delay=1.0) as bar,
    ):
        for segment, is_excluded in exclusion.split(_without_words(blocks, masks, dropped, bar)):
            if is_excluded:
                dropped["with an excluded tag or lemma"] += 1
            else:
                neutral.append(segment)
                if limit is not None and len(neutral) >= limit:
                    break
    return neutral, dropped


def _without_words(
    blocks: Iterable[MatchedBlock], masks: Collection[str], dropped: Counter[str], bar: tqdm[NoReturn]
) -> Iterator[str]:
    """The segments without a match."""
    for block in blocks:
        dropped.update(block.dropped)
        for match in block.matches:
            if _has_any(match.segment, masks):
                dropped[HAS_MASK] += 1
            elif match.places:
                dropped["with an excluded word"] += 1
            else:
                yield match.segment
        bar.update(block.n_texts)


def _has_any(segment: str, masks: Collection[str]) -> bool:
    for mask in masks:  # noqa: SIM110 (a generator takes three times as long, and this runs for each segment)
        if mask in segment:
            return True
    return False


def _resolved(block: MatchedBlock, surface: SurfaceMatcher, resolver: TagResolver) -> Iterator[tuple[Match, list[Hit]]]:
    """The matches of a block with the hits that count."""
    found = [(match.segment, surface.hits_at(match.segment, match.places)) for match in block.matches]
    yield from zip(block.matches, resolver.resolve_batch(found), strict=True)


def _add(
    classes: Sequence[ClassExamples], match: Match, hits: Sequence[Hit], masks: Collection[str], keep_several: bool
) -> str | None:
    """Add the examples of a segment to their classes, or return why there is none."""
    by_class: dict[int, list[Hit]] = {}
    for hit in hits:
        if not hit.targets:
            return OTHER_TAGS
        owner = hit.targets[0].class_index
        if len(hit.targets) > 1 and any(target.class_index != owner for target in hit.targets):
            return AMBIGUOUS
        by_class.setdefault(owner, []).append(hit)
    if len(by_class) > 1 and not keep_several and any(target.tags is None for hit in hits for target in hit.targets):
        return SEVERAL_CLASSES
    if _has_any(match.segment, masks):
        return HAS_MASK
    frame = None
    if len(by_class) > 1:
        frame = replace_places(match.segment, [(hit.start, hit.end) for hit in hits], PLACEHOLDER)
    reasons = [classes[index].add(match.segment, own, frame, match.document) for index, own in by_class.items()]
    return None if None in reasons else reasons[0]


def _counts(classes: Sequence[ClassExamples]) -> str:
    return ", ".join(
        f"{found.config.id} {len(found.examples)}" + (f"/{found.limit}" if found.limit is not None else "")
        for found in classes
    )
