"""The pass over the corpus: sentences with class words become masked examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from tqdm.auto import tqdm

from gradiend.data.core.text_stream import TextBlock
from gradiend.data.text.filter_config import TextFilterConfig
from gradiend.data.text.prediction.block_matcher import BlockMatcher, MatchedBlock
from gradiend.data.text.prediction.class_words import Labels
from gradiend.data.text.prediction.corpus_pass import matched_blocks
from gradiend.data.text.prediction.examples import Examples
from gradiend.data.text.prediction.masking import HAS_MASK, Masker, has_any
from gradiend.data.text.prediction.tag_resolver import TagResolver
from gradiend.data.text.prediction.token_exclusion import TokenExclusion
from gradiend.data.text.preprocess import TextPreprocessConfig
from gradiend.data.text.spacy_sentences import SpacySentences

BALANCING = "to balance the classes"


@dataclass
class Collected:
    """The result of a pass over the corpus."""

    examples: list[Examples]
    """Of each class."""
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
    keep_several: bool = True,
    with_documents: bool = False,
    splitter: SpacySentences | None = None,
    n_processes: int | None = 1,
) -> Collected:
    """Find the examples of all classes in one pass; stop when every class is full.

    A sentence with words of several classes gives an example for each, with the words of that class masked. Unless
    they are kept, such a sentence is dropped, since whichever is masked, the other one tells the class; but not where
    tags decide the class of all of them: which article a noun has says nothing about the article of another.
    Memory grows with the examples that are kept, not with the corpus.

    Args:
        texts: The corpus.
        configs: The classes.
        preprocess: How texts are cut and filtered; None takes them as they are.
        masks: Sentences that contain one of these already are dropped.
        limit: Examples a class at most.
        resolver: Narrows found words to the classes whose tags hold; always in this process.
        keep_several: Drop no sentence because of words of several classes.
        with_documents: Keep the document of each example.
        splitter: Splits into sentences in place of the rules.
        n_processes: Processes that match; see `matched_blocks`. The examples are the same for any number.

    Returns:
        The examples and the counts of what was dropped.
    """
    matcher = BlockMatcher(configs, preprocess, splitter, keep_all=resolver.needs_every_sentence)
    masker = Masker(
        configs,
        Labels(matcher.surface, resolver),
        masks=masks,
        limit=limit,
        keep_several=keep_several,
        with_documents=with_documents,
    )
    collected = Collected([])
    with (
        matched_blocks(texts, matcher, n_processes) as blocks,
        tqdm(desc="Creating training data", unit=" texts", delay=1.0) as bar,
    ):
        for block in blocks:
            collected.n_texts += block.n_texts
            collected.n_segments += block.n_segments
            collected.dropped.update(block.dropped)
            masker.add(block)
            bar.set_postfix_str(_counts(configs, masker.sizes, limit), refresh=False)
            bar.update(block.n_texts)
            if masker.is_full:
                break
    collected.dropped.update(masker.dropped)
    collected.examples = masker.examples()
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
    matcher = BlockMatcher(excluded, preprocess, splitter, keep_all=True)
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
        excluded = set(block.places.number.tolist())
        for number, segment in enumerate(block.segments):
            if has_any(segment, masks):
                dropped[HAS_MASK] += 1
            elif number in excluded:
                dropped["with an excluded word"] += 1
            else:
                yield segment
        bar.update(block.n_texts)


def _counts(configs: Sequence[TextFilterConfig], sizes: Sequence[int], limit: int | None) -> str:
    wanted = "" if limit is None else f"/{limit}"
    return ", ".join(f"{config.id} {size}{wanted}" for config, size in zip(configs, sizes, strict=True))
