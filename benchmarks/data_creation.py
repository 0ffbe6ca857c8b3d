"""Raw text to training data: time and memory against the existing tool, and where the time goes.

    python benchmarks/data_creation.py CORPUS.txt[.gz] [--other PYTHON] [--sizes 100000 1000000]

CORPUS is split into sentences and repeated (each copy ends in its number) to as many as each size says. PYTHON is the
interpreter of an environment with version 0.2.3 of the existing tool, which is used through its public API alone.
Every measurement is a process of its own; those of the two tools alternate, and the table shows medians. Seconds are
processor time of all processes, since other work on the machine does not change them; wall clock is beside it.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

from gradiend import TextFilterConfig
from gradiend.data.core._text_source import Columns, stream_texts
from gradiend.data.core.base_loader import open_source
from gradiend.data.text._preprocess import split_sentences
from gradiend.data.text.prediction._collector import BlockMatcher
from gradiend.data.text.prediction._matcher import SurfaceMatcher

WORDS = [
    "he", "they", "she", "it", "we", "you", "who", "him", "her", "them", "us", "me",
    "my", "his", "their", "our", "your", "which", "that", "this", "these", "those", "what", "I",
]  # fmt: skip

CREATE = """
import json, logging, resource, sys, time
sys.tracebacklimit = 0
logging.disable(logging.CRITICAL)
path, words, options, arguments, as_list = json.loads(sys.argv[1])
from gradiend import TextFilterConfig, TextPredictionDataCreator
classes = [TextFilterConfig([word], id=word) for word in words]
texts = [line.rstrip() for line in open(path, encoding="utf-8")] if as_list else path
wall, processor = time.perf_counter(), time.process_time()
creator = TextPredictionDataCreator(texts, feature_targets=classes, **options)
frames = creator.generate_training_data(balance=False, min_rows_per_class_for_split=0, **arguments)
wall, own = time.perf_counter() - wall, time.process_time() - processor
children = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({
    "wall": wall, "processor": own + children.ru_utime + children.ru_stime,
    "rows": sum(map(len, frames.values())), "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
}))
"""

RARE = "whilst"
"""A word that few sentences have, so that a class of it keeps the search going to the end of the corpus."""

Result = dict[str, float]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--other", help="python of the environment of the existing tool")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--other-size", type=int, help="sentences given to both tools; the first size if left out")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.other:
            compare(options, Path(folder))
        grow(options, Path(folder))
        bounds(options, Path(folder))


def compare(options: argparse.Namespace, folder: Path) -> None:
    """Both tools on the same list of sentences, every match kept."""
    size = options.other_size or options.sizes[0]
    path = write_sentences(options.corpus, folder, size)
    print(f"{size} sentences in a list, every match kept; medians of {options.repeats} alternating runs")
    print("filters  tool    processor s   wall s   us/sentence  peak MiB     rows")
    for n_filters in (2, len(WORDS)):
        other, ours = [], []
        for _ in range(options.repeats):
            # the other tool drops sentences with fewer than ten words before the found one unless told otherwise
            other.append(run(options.other, path, WORDS[:n_filters], {"min_left_context_words": 0}, as_list=True))
            ours.append(run(sys.executable, path, WORDS[:n_filters], {}, as_list=True))
        seconds = [report(n_filters, name, size, results) for name, results in (("0.2.3", other), ("ours", ours))]
        print(f"{n_filters:7}  ratio   {seconds[0] / seconds[1]:11.1f}")
    print("(0.2.3 repeats masked texts)\n")


def grow(options: argparse.Namespace, folder: Path) -> None:
    """Our tool on files of growing size: at most 1 000 rows a class, a rare class keeps it reading to the end."""
    words = [*WORDS, RARE]
    print(f"a text file, {len(words)} filters, at most 1000 rows a class")
    print("sentences  processor s   wall s   sentences/s  peak MiB     rows")
    for size in options.sizes:
        path = write_sentences(options.corpus, folder, size)
        arguments = {"max_size_per_class": 1000}
        middle = median([run(sys.executable, path, words, {}, arguments) for _ in range(options.repeats)])
        print(
            f"{size:9}  {middle['processor']:11.2f}  {middle['wall']:7.2f}  "
            f"{size / middle['wall']:11.0f}  {middle['mib']:8.0f}  {middle['rows']:7.0f}"
        )
    print()


def bounds(options: argparse.Namespace, folder: Path) -> None:
    """Where the time goes, in this process."""
    size = options.sizes[0]
    path = write_sentences(options.corpus, folder, size)
    source = open_source(path, Columns("text"))
    start = time.process_time()
    blocks = list(stream_texts(source, 42))
    parts = {"reading and shuffling": time.process_time() - start}
    for n_filters in (2, len(WORDS)):
        matcher = BlockMatcher(SurfaceMatcher([TextFilterConfig([word], id=word) for word in WORDS[:n_filters]]))
        start = time.process_time()
        for block in blocks:
            matcher(block)
        parts[f"finding the words of {n_filters} filters"] = time.process_time() - start
    start = time.process_time()
    n_sentences = sum(1 for line in lines_of(options.corpus) for _ in split_sentences(line))
    splitting = (time.process_time() - start) / n_sentences
    print("microseconds a sentence")
    for name, seconds in parts.items():
        print(f"{seconds / size * 1e6:6.2f}  {name}")
    print(f"{splitting * 1e6:6.2f}  splitting paragraphs into sentences (not part of the runs above)")


def run(
    python: str, path: Path, words: list[str], options: dict, arguments: dict | None = None, *, as_list: bool = False
) -> Result:
    """Create training data in a process of its own."""
    environment = {"HF_HUB_OFFLINE": "1", "MPLBACKEND": "Agg", "TQDM_DISABLE": "1"}
    if python == sys.executable:
        environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    job = json.dumps([str(path), words, options, arguments or {}, as_list])
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-c", CREATE, job], env=inherited | environment, capture_output=True, text=True, check=False,
        cwd=path.parent,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{python} made no data:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def report(n_filters: int, name: str, size: int, results: list[Result]) -> float:
    """Print a row and return its seconds."""
    middle = median(results)
    print(
        f"{n_filters:7}  {name:6}  {middle['processor']:11.2f}  {middle['wall']:7.2f}  "
        f"{middle['processor'] / size * 1e6:11.1f}  {middle['mib']:8.0f}  {middle['rows']:7.0f}",
        flush=True,
    )
    return middle["processor"]


def median(results: list[Result]) -> Result:
    """The median of each number."""
    return {key: statistics.median(result[key] for result in results) for key in results[0]}


def lines_of(corpus: Path) -> Iterator[str]:
    """The lines of a text file, compressed or not."""
    opener = gzip.open if corpus.suffix == ".gz" else open
    with opener(corpus, "rt", encoding="utf-8") as lines:
        yield from lines


def write_sentences(corpus: Path, folder: Path, size: int) -> Path:
    """The first `size` sentences, one a line; after the last of the corpus from the beginning, with a number."""
    path = folder / f"{size}.txt"
    if not path.exists():
        again = (
            sentence if copy == 0 else f"{sentence} {copy}"
            for copy in count()
            for line in lines_of(corpus)
            for sentence in split_sentences(line)
        )
        with path.open("w", encoding="utf-8") as stream:
            stream.writelines(f"{sentence}\n" for sentence in islice(again, size))
    return path


if __name__ == "__main__":
    main()
