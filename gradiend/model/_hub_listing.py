"""A list of the GRADIENDs, deltas and rewritten models in a repository or folder, made without reading weights."""

from __future__ import annotations

import glob
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import pandas as pd

from gradiend.model._base_model import BASE_REVISION
from gradiend.model._checkpoint import is_checkpoint
from gradiend.model._checkpoint_files import CONFIG, FOLDERS, LISTED, WEIGHTS, read_config
from gradiend.model._context import read_gradiend_context
from gradiend.model._hub import download_files, folder_of, repository_files
from gradiend.model._hub_place import HubPlace, taught
from gradiend.model._rewrite_files import HEADER, RewriteChoice, read_rewrite_record
from gradiend.util._checks import require_path
from gradiend.util._display import UNKNOWN, Shown, Table, number
from gradiend.util._files import read_json
from gradiend.util._keywords import known_keywords
from gradiend.util._tensor_files import read_header
from gradiend.util.paths import ADAPTER_CONFIG, CONTEXT, DELTA_FILE, ENCODED_VALUES, MODEL_DIR, REWRITE_RECORD, TRAINING

logger = logging.getLogger(__name__)

METRICS = f"{ENCODED_VALUES}*_split_test.json"
"""The file beside a checkpoint with the metrics of its encodings."""


@dataclass(frozen=True)
class ListedGradiend:
    """A GRADIEND, a delta or a rewritten model in a repository or folder."""

    subfolder: str
    """The `subfolder=` that loads it: a folder, or the file of a delta; empty for the top of the repository."""
    kind: Literal["GRADIEND", "delta", "rewritten model"]
    """The kind of this entry."""
    classes: tuple[str, ...]
    """The classes of a GRADIEND, first the class that is encoded positive; or the class that a rewrite moves."""
    base_model: str | None
    """The name or path of the base model."""
    base_model_revision: str | None
    """The commit of the base model on a hub, if it is known."""
    entries: int | None
    """The number of the base model's entries that a GRADIEND reads or a rewrite changes; None if it is not recorded."""
    size: int
    """The bytes of its files."""
    correlation: float | None
    """The correlation of encodings and labels in the test split, else in validation; None if neither is recorded."""
    goal: str | None = None
    """The aim of a rewrite: strengthen, weaken or balance; None if it is not known, and for a GRADIEND."""


class GradiendList(Shown, list[ListedGradiend]):
    """The result of `list_gradiends`, in the order of the subfolders; it shows itself and becomes a frame."""

    def __init__(self, entries: Iterable[ListedGradiend], place: str) -> None:
        super().__init__(sorted(entries, key=lambda one: one.subfolder))
        self.place = place
        """The folder, or the repository with its commit."""

    def to_frame(self) -> pd.DataFrame:
        """A frame with a row for each entry; its columns are the fields of `ListedGradiend`."""
        return pd.DataFrame([asdict(one) for one in self], columns=list(ListedGradiend.__dataclass_fields__))

    def _tables(self) -> tuple[str, Sequence[Table]]:
        header = ["subfolder", "kind", "classes", "entries", "MB", "correlation", "base model"]
        rows = [
            [
                one.subfolder or "(top)",
                one.kind,
                f"{one.goal or ''} {(' ↔ ' if one.kind == 'GRADIEND' else ', ').join(one.classes)}".strip() or UNKNOWN,
                UNKNOWN if one.entries is None else f"{one.entries:,}",
                f"{one.size / 1e6:,.2f}",
                number(one.correlation),
                one.base_model or UNKNOWN,
            ]
            for one in self
        ]
        return f"{self.place}: {len(self)} found", [Table("", header, rows)] if rows else []


@known_keywords("list_gradiends", suggest=False)
def list_gradiends(place: str | Path, revision: str | None = None) -> GradiendList:
    """The GRADIENDs, deltas and rewritten models in a repository on a hub or a folder; weights are not downloaded.

        for one in list_gradiends("owner/name"):
            print(one.subfolder, one.classes)

    Args:
        place: A folder, `owner/name`, or `hf://owner/name@revision/subfolder`.
        revision: The branch, tag or commit of a repository. Default: the main branch.

    Raises:
        FileNotFoundError: There is no such folder, repository or revision; or there is no connection to a hub.
        PermissionError: The login of this machine may not read the repository.
        ConnectionError: The hub cannot be reached, or fails.
        ValueError: A downloaded file is not the one that the hub lists.
    """
    require_path("place", place)
    at = HubPlace.of(place, revision=revision)
    if at is None:
        root = Path(place)
        if not root.is_dir():
            raise FileNotFoundError(
                f"There is no folder {place}, and it names no repository on a hub (owner/name, hf://owner/name)."
            )
        sizes = {path.relative_to(root).as_posix(): path.stat().st_size for path in root.rglob("*") if path.is_file()}
        headers = {name: _header(root / name) for name in _delta_files(sizes)}
        return GradiendList(_found(root, sizes, headers), str(place))
    with taught(at):
        from huggingface_hub import HfApi  # noqa: PLC0415 - slow to import

        at = replace(at, revision=HfApi().repo_info(at.repository, revision=at.revision).sha)
        below = f"{at.path}/" if at.path else ""
        sizes = {name: size for name, size in repository_files(at).items() if name.startswith(below)}
        names = [name for name in sizes if PurePosixPath(name).name in (CONFIG, CONTEXT, TRAINING, REWRITE_RECORD)]
        patterns = [glob.escape(name) for name in names]
        patterns += [f"{glob.escape(below)}{METRICS}", f"{glob.escape(below)}*/{METRICS}"]
        at, root = download_files(at, patterns)
        headers = {name.removeprefix(below): _header_there(at, name) for name in _delta_files(sizes)}
    sizes = {name.removeprefix(below): size for name, size in sizes.items()}
    return GradiendList(_found(root / at.path, sizes, headers), str(at))


def _found(root: Path, sizes: Mapping[str, int], headers: Mapping[str, Any]) -> Iterator[ListedGradiend]:
    """Yield what the small files below `root` describe; `sizes` also has the files that were not downloaded."""
    folders = {folder_of(name) for name in sizes}
    for name in sorted(folders | headers.keys()):
        try:
            if headers.get(name) is not None:
                yield _delta(name, headers[name], sizes)
            elif f"{name}/{REWRITE_RECORD}".lstrip("/") in sizes:
                yield _rewritten(root, name, sizes)
            elif is_checkpoint(root / name):
                yield _gradiend(root, name, sizes)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            logger.warning("%s is left out, because a file of it holds something else: %s", name or root, error)


def _gradiend(root: Path, name: str, sizes: Mapping[str, int]) -> ListedGradiend:
    folder = root / name
    config = read_config(folder)
    metadata = config.get("metadata") or {}
    direction = (read_gradiend_context(folder)[2] if (folder / CONTEXT).is_file() else None) or {}
    signs = sorted((item for item in direction.items() if item[1]), key=lambda item: -item[1])
    is_run = PurePosixPath(name).name == MODEL_DIR
    own = [f"{name}/{file}".lstrip("/") for file in (CONFIG, TRAINING, *LISTED)]
    below = tuple(f"{name}/{one}/".lstrip("/") for one in FOLDERS)
    return ListedGradiend(
        subfolder=folder_of(name) if is_run else name, kind="GRADIEND", classes=tuple(label for label, _ in signs),
        base_model=metadata.get("base_model"), base_model_revision=metadata.get(BASE_REVISION),
        entries=config["architecture"].get("input_dim"),
        size=sum(size for file, size in sizes.items() if file in own or file.startswith(below)),
        correlation=_correlation(folder),
    )  # fmt: skip


def _correlation(folder: Path) -> float | None:
    """The correlation in the metrics beside a checkpoint, else the correlation in its training.json."""
    for path in sorted(folder.parent.glob(METRICS)):
        value = read_json(path).get("correlation")
        if value is not None:
            return float(value)
    training = read_json(folder / TRAINING) if (folder / TRAINING).is_file() else {}
    outcome = training.get("convergence_info") or {}
    value = outcome.get("convergence_metric_value") if outcome.get("convergence_metric") == "correlation" else None
    return None if value is None else float(value)


def _rewritten(root: Path, name: str, sizes: Mapping[str, int]) -> ListedGradiend:
    record = read_rewrite_record(root / name)
    size = sum(size for file, size in sizes.items() if folder_of(file) == name)
    return _of_choice(record.choice, subfolder=name, kind="rewritten model", base_model=record.base_model, size=size)


def _delta(name: str, header: str, sizes: Mapping[str, int]) -> ListedGradiend:
    content = json.loads(header)
    choice = (content.get("rewrite") or {}).get("choice")
    choice = None if choice is None else RewriteChoice(**choice)
    entries = sum(int(one["num_entries"]) for one in content["parameters"])
    return _of_choice(
        choice, subfolder=name, kind="delta", base_model=content["base_model"], entries=entries, size=sizes[name]
    )


def _of_choice(choice: RewriteChoice | None, *, entries: int | None = None, **known: Any) -> ListedGradiend:
    """A rewrite with what is known of it; the class and the goal are those that a decoder evaluation chose."""
    classes, goal = ((), None) if choice is None else ((choice.target_class,), choice.direction)
    return ListedGradiend(
        classes=classes, base_model_revision=None, entries=entries, correlation=None, goal=goal, **known
    )


def _delta_files(sizes: Mapping[str, int]) -> list[str]:
    """The files that may be deltas: safetensors files that belong to no model."""
    paths = [PurePosixPath(name) for name in sizes if name.endswith(".safetensors")]
    models = {PurePosixPath(name).parent for name in sizes if PurePosixPath(name).name in (CONFIG, ADAPTER_CONFIG)}
    return [
        str(path)
        for path in paths
        if path.name == DELTA_FILE or (path.parent not in models and path.name not in (*LISTED, WEIGHTS))
    ]


def _header(path: Path) -> str | None:
    try:
        return read_header(path).get(HEADER)
    except ValueError:
        return None


def _header_there(at: HubPlace, name: str) -> str | None:
    """The text in the header of a safetensors file of a repository, whose tensors are not downloaded."""
    from huggingface_hub import HfApi  # noqa: PLC0415
    from huggingface_hub.errors import SafetensorsParsingError  # noqa: PLC0415

    try:
        return HfApi().parse_safetensors_file_metadata(at.repository, name, revision=at.revision).metadata.get(HEADER)
    except SafetensorsParsingError:
        return None
