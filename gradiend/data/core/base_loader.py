"""The door for texts: a list, a frame, a file, a data set of the hub or of a local folder."""

from __future__ import annotations

import random
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

import pandas as pd

from gradiend.data.core._datasets import is_data_set, load_hub_dataset, looks_like_hub_id, split_of
from gradiend.data.core._file_sources import CsvFile, DatasetRows, LineFile, ParquetFile
from gradiend.data.core._table_formats import CSV_SUFFIXES, JSON_SUFFIXES, format_of, suffixes
from gradiend.data.core._text_source import Columns, MemoryTexts, TextSource, make_chunk
from gradiend.util._checks import frame_hint, require_path, require_text, require_whole
from gradiend.util._keywords import known_keywords

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

BaseData: TypeAlias = "list[str] | pd.DataFrame | Dataset | DatasetDict | str | PathLike[str]"
"""Texts, a frame or data set with a text column, the path of a file or of a data set's folder, or a hub id."""

_LINES = (".txt", ".txt.gz")


@known_keywords("resolve_base_data")
def resolve_base_data(
    source: BaseData, text_column: str = "text", max_size: int | None = None, split: str = "train",
    seed: int | None = 42, hf_config: str | None = None, trust_remote_code: bool = False,
) -> list[str]:  # fmt: skip
    """Load texts, shuffle them with `seed` and keep the first `max_size`.

    Texts are stripped; missing and empty ones are dropped.

    Args:
        source: A list of texts; a DataFrame; a `Dataset` or `DatasetDict`; the path of a `.csv`, `.tsv`, `.parquet`,
            `.jsonl` or `.txt` file (one text a line), all but Parquet also with `.gz`; the folder of a data set; or the
            id of a data set on the Hugging Face hub.
        text_column: Column with the texts in a table; a plain text file has none and ignores it.
        max_size: Keep at most so many texts; None keeps all.
        split: Split of a data set.
        seed: Seed of the shuffle; None shuffles differently each time.
        hf_config: Config of a data set that has several.
        trust_remote_code: Let a data set of the hub run its own code; see `load_hub_dataset`.

    Raises:
        TypeError: `source`, one of the texts or an argument is of another type, or an argument is unknown.
        FileNotFoundError: The file, folder or data set does not exist.
        ValueError: The column, split or config is missing (the message lists those that are there), `max_size` is below
            1, or the file is of another kind, damaged or not UTF-8.
        ConnectionError: The hub cannot be reached.
        ImportError: pyarrow is needed for Parquet, or datasets for a data set, and is not installed.
    """
    require_whole("max_size", max_size, 1, none_means="for all")
    require_whole("seed", seed, None, none_means="for another order each time")
    opened = open_source(
        source, Columns(text_column), split=split, hf_config=hf_config, trust_remote_code=trust_remote_code
    )
    texts = [text for chunk in opened.chunks() for text in chunk.texts]
    random.Random(seed).shuffle(texts)
    return texts if max_size is None else texts[:max_size]


def open_source(
    source: BaseData, columns: Columns, *, split: str = "train", hf_config: str | None = None,
    trust_remote_code: bool = False,
) -> TextSource:  # fmt: skip
    """Find out what `source` is and that it can be read; arguments and errors are those of `resolve_base_data`."""
    require_text("text_column", columns.text)
    require_text("split", split)
    opened: TextSource
    if isinstance(source, pd.DataFrame):
        return _texts_of(source, columns, "The DataFrame", "DataFrame")
    if isinstance(source, list):
        _require_no_document(columns, "a list of texts")
        return MemoryTexts(make_chunk((0, 0), source), "list")
    if is_data_set(source):
        held = split_of(cast("Dataset", source), split, "The data set")
        opened = DatasetRows(held, "in memory", columns)
        opened.check()
        return opened
    if not isinstance(source, str | PathLike):
        raise TypeError(
            "Expected a list of texts, a DataFrame, a Dataset, the path of a file or folder, or a hub id; got "
            f"{type(source).__name__}" + frame_hint(source, "Turn another collection of texts into a list first.")
        )
    require_path("base_data", source)
    path = Path(source)
    is_hub_id = isinstance(source, str) and looks_like_hub_id(source)
    names_a_file = path.is_file() or str(source).lower().endswith((*suffixes(), *_LINES))
    if path.is_dir() or (is_hub_id and not names_a_file):
        dataset = load_hub_dataset(source, hf_config, split=split, trust_remote_code=trust_remote_code)
        opened = DatasetRows(cast("Dataset", dataset), str(source), columns)
    else:
        opened = _open_file(path, columns)
    opened.check()
    return opened


def _open_file(path: Path, columns: Columns) -> TextSource:
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no file or folder {str(path)!r}, and it is no hub id. Is it a text? Then pass a list of texts."
        )
    name = path.name.lower()
    if name.endswith(CSV_SUFFIXES):
        return CsvFile(path, columns)
    if name.endswith(".parquet"):
        return ParquetFile(path, columns)
    if name.endswith(JSON_SUFFIXES):
        return LineFile(path, columns)
    if name.endswith(_LINES):
        _require_no_document(columns, f"the text file {str(path)!r}")
        return LineFile(path, None)
    if known := format_of(path):
        return _texts_of(known.read(path), columns, f"The file {str(path)!r}", path.name)
    raise ValueError(
        f"Cannot tell what kind of file {str(path)!r} is; expected one of {', '.join((*suffixes(), *_LINES))} (text "
        "files have one text a line)."
    )


def _texts_of(frame: pd.DataFrame, columns: Columns, where: str, name: str) -> MemoryTexts:
    columns.require(frame.columns, where)
    return MemoryTexts(columns.chunk((0, 0), [frame[column].tolist() for column in columns.names]), name)


def _require_no_document(columns: Columns, where: str) -> None:
    if columns.document is not None:
        raise ValueError(
            f"document_column={columns.document!r} names a column, but {where} has none. Leave it out: each text "
            "(before it is cut into sentences) is then a document."
        )
