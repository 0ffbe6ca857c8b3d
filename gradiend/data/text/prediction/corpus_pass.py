"""One pass over a corpus: blocks of texts, matched here or in other processes, in their order."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from gradiend.data.core.text_stream import TextBlock
from gradiend.data.text.prediction.block_matcher import BlockMatcher, MatchedBlock
from gradiend.data.text.prediction.match_workers import MatchWorkers, can_be_sent

logger = logging.getLogger(__name__)

_WORTH_PROCESSES = 200_000
"""Texts after which other processes help, where their number is left to us."""


@contextmanager
def matched_blocks(
    texts: Iterable[TextBlock], matcher: BlockMatcher, n_processes: int | None
) -> Iterator[Iterator[MatchedBlock]]:
    """Give the matched blocks of a corpus, in their order.

    Args:
        texts: The corpus.
        matcher: What is done with a block.
        n_processes: Processes that match, beside this one, which reads the texts and collects the results; 1 matches
            in this process. None begins in this process; where texts are cut into sentences, it goes on after 200 000
            texts in as many others as there are cores (four at most). Finding words alone costs less than sending
            the texts. A `custom_filter` or a spaCy pipeline stays in this process.
    """
    blocks = iter(texts)
    wanted = n_processes or (min(4, os.cpu_count() or 1) if matcher.cuts_texts else 1)
    if wanted > 1 and not can_be_sent(matcher):
        if n_processes is not None:
            logger.warning(
                "n_processes=%d: a custom_filter or spaCy pipeline stays in this process; using one.", n_processes
            )
        wanted = 1
    if wanted == 1:
        yield map(matcher, blocks)
        return
    workers: list[MatchWorkers] = []

    def in_turn() -> Iterator[MatchedBlock]:
        """Blocks matched here first, then by the workers."""
        n_texts = 0
        while n_processes is None and n_texts < _WORTH_PROCESSES:
            block = next(blocks, None)
            if block is None:
                return
            n_texts += len(block.texts)
            yield matcher(block)
        workers.append(MatchWorkers(matcher, wanted))
        yield from workers[0].map(blocks)

    try:
        yield in_turn()
    finally:
        for pool in workers:
            pool.close()
