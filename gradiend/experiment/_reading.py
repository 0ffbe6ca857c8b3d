"""A file and flags → an `Experiment`: everything is checked before anything starts, and every error has its place."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gradiend.experiment._fields import HIDDEN, ExperimentError, Keys, class_names, fields, fields_at, flag_of
from gradiend.experiment.sections import Experiment
from gradiend.util import PLACEHOLDER
from gradiend.util._files import read_checked_json
from gradiend.util._imports import require_package
from gradiend.util._keywords import nearest

PYTHON_ONLY = {"is_instance_of", "callable_type", "needs_python_object"}
"""Kinds of errors for values that a file cannot hold, such as a function."""
_MISSING = object()
_LINE_END = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
"""What ends a line in YAML."""


def read_experiment(path: str | Path | None = None, flags: Mapping[str, str] | None = None) -> Experiment:
    """The experiment in a YAML or JSON file, changed by flags.

        experiment = read_experiment("experiment.yaml", {"train.max_steps": "500"})

    A `run.json` is such a file too: the experiment that it records is read. Numbers and words are those of YAML 1.2, so
    that `1e-5` is a number, and `no` and `on` are words.

    Args:
        path: The file; None takes everything from the flags.
        flags: Keys joined by dots → the value as YAML text. A flag wins over the file.

    Raises:
        ExperimentError: The file or a flag does not fit. The message has a line for each fault: file, line and column,
            or the flag; what was expected; what was found; for an unknown key the nearest.
        FileNotFoundError: There is no such file.
        ImportError: pydantic or ruamel.yaml is missing.
    """
    return validate(_Source.of(None if path is None else Path(path), flags or {}))


@functools.cache
def validator() -> Any:
    """The validator of experiments. Raises ImportError if pydantic, which makes it, or ruamel.yaml is missing."""
    for package in ("pydantic", "ruamel.yaml"):
        require_package(package, "Reading an experiment", "cli")
    from pydantic import TypeAdapter  # noqa: PLC0415 - an optional package

    return TypeAdapter(Experiment)


def validate(source: _Source) -> Experiment:
    """The experiment of a parsed file, see `read_experiment`."""
    from pydantic import ValidationError  # noqa: PLC0415 - an optional package

    tree = source.tree
    for path in HIDDEN:
        if _found(tree, path) is not _MISSING:
            raise ExperimentError([f"{source.place(path)}: {'.'.join(path)} is `experiment_dir`, at the top, here."])
    for section in ("data", "train", "evaluate"):
        # A section whose fields are all comments.
        if section in tree and tree[section] is None:
            del tree[section]
    train = tree.get("train")
    if isinstance(train, dict):
        # A file describes one experiment, which is finished by running it again.
        train.setdefault("use_cache", True)
    try:
        # Values are those of JSON, with no conversion: `true` is not 1, and "500" is no number.
        return validator().validate_json(json.dumps(tree, default=str), strict=True)
    except ValidationError as error:
        raise ExperimentError(_faults(source, error.errors(include_url=False))) from None


class _Source:
    """A parsed file and flags: plain values, and the place of every key."""

    def __init__(self, tree: Any, marked: Any, name: str | None, flags: Mapping[Keys, str]) -> None:
        self.tree = tree
        self.marked = marked
        self.name = name
        self.flags = flags

    @classmethod
    def of(cls, path: Path | None, flags: Mapping[str, str]) -> _Source:
        """Read the file and put the flags into its values."""
        try:
            text = "" if path is None else path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ExperimentError([f"{path}: this is not a text in UTF-8 ({error})."]) from None
        marked = {} if path is None else _parse(text, str(path))
        marked = {} if marked is None else marked
        if not isinstance(marked, dict):
            raise ExperimentError([f"{path}: expected keys such as model and data; found {_short(marked)}."])
        if isinstance(marked.get("experiment"), dict) and "metrics" in marked:
            if path is not None and path.suffix == ".json":
                try:
                    read_checked_json(path)
                except ValueError as error:
                    raise ExperimentError([str(error)]) from None
            marked = marked["experiment"]
        _require_text_keys(marked, str(path), _LINE_END.split(text))
        tree = json.loads(json.dumps(marked, default=str))
        by_path = {tuple(key.split(".")): text for key, text in flags.items()}
        for keys, text in by_path.items():
            _put(tree, keys, flag_value(keys, text))
        return cls(tree, marked, None if path is None else str(path), by_path)

    def place(self, path: Keys, *, of_value: bool = False) -> str:
        """`file:line:column` of a key (or its value) or the nearest key above it, or the flag that gave the value."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.flags:
                return flag_of(path[:end])
        node: Any = self.marked
        mark = None
        for key in path:
            if isinstance(node, dict) and key in node:
                mark = node.lc.value(key) if of_value else node.lc.key(key)  # type: ignore[attr-defined]  # ruamel.yaml's dicts know where a key stands
                node = node[key]
            elif isinstance(node, list) and key.isdigit() and int(key) < len(node):
                mark = node.lc.item(int(key))  # type: ignore[attr-defined]
                node = node[int(key)]
            else:
                break
        if self.name is None:
            return "flags"
        return self.name if mark is None else f"{self.name}:{mark[0] + 1}:{mark[1] + 1}"


def _parse(text: str, name: str) -> Any:
    from ruamel.yaml import YAML  # noqa: PLC0415 - an optional package
    from ruamel.yaml.error import MarkedYAMLError, YAMLError  # noqa: PLC0415

    try:
        return YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        place = name if mark is None else f"{name}:{mark.line + 1}:{mark.column + 1}"
        problem = str(error.problem).splitlines()[0].split(" with value")[0].rstrip(".") if error.problem else "unclear"
        line = text.splitlines()[mark.line] if mark is not None and mark.line < len(text.splitlines()) else ""
        quotes = ' A text with [MASK] needs quotes: "… [MASK] …".' if PLACEHOLDER in line else ""
        spaces = " Use spaces." if "\\t" in problem else ""
        raise ExperimentError([f"{place}: this is not YAML: {problem}.{quotes}{spaces}"]) from None
    except (YAMLError, RecursionError) as error:
        raise ExperimentError([f"{name}: this is not YAML: {error}."]) from None


def flag_value(path: Keys, text: str) -> Any:
    """The value of a flag. A field that is text takes it as it is; other fields read it as YAML."""
    known = {one.keys: one for one in fields()}.get(path)
    if known is not None and known.kind in ("text", "text or null"):
        return None if text == "null" and known.kind != "text" else text
    value = _parse(text, flag_of(path))
    _require_text_keys(value, flag_of(path), _LINE_END.split(text))
    return json.loads(json.dumps(value, default=str))


def _require_text_keys(node: Any, name: str, lines: Sequence[str]) -> None:
    """Raise ExperimentError for a key that YAML reads as a date, a truth value or such, or that is there twice.

    Keys are names, such as those of classes: of `007` and `+7` the number 7 would be left, of `True` the word `true`.
    A number that is written as Python writes it is the same as text. `lines` are those of the source.
    """
    if isinstance(node, list):
        for value in node:
            _require_text_keys(value, name, lines)
    elif isinstance(node, dict):
        for key, value in node.items():
            # Keys that `<<` takes from another mapping are judged there.
            if not isinstance(key, str) and key in (node.lc.data or ()):  # type: ignore[attr-defined]
                line, column = node.lc.key(key)  # type: ignore[attr-defined]
                as_written = re.match(rf"{re.escape(str(key))}\s*([:,}}#]|$)", lines[line][column:])
                whole = isinstance(key, int) and not isinstance(key, bool)
                if not whole or str(key) in node or as_written is None:
                    place = f"{name}:{line + 1}:{column + 1}"
                    raise ExperimentError(
                        [f"{place}: YAML reads this key as {_short(key)}, which is no text: quote it."]
                    )
            _require_text_keys(value, name, lines)


def _put(tree: dict[str, Any], path: Keys, value: Any) -> None:
    for key in path[:-1]:
        below = tree.get(key)
        tree[key] = below if isinstance(below, dict) else {}
        tree = tree[key]
    tree[path[-1]] = value


def _found(tree: Any, path: Keys) -> Any:
    for key in path:
        if isinstance(tree, dict) and key in tree:
            tree = tree[key]
        elif isinstance(tree, list) and key.isdigit() and int(key) < len(tree):
            tree = tree[int(key)]
        else:
            return _MISSING
    return tree


# Faults


def _faults(source: _Source, errors: Sequence[Any]) -> list[str]:
    """One line for each place, in the order of the file."""
    by_place: dict[Keys, list[Any]] = {}
    for error in errors:
        by_place.setdefault(_real(source.tree, error["loc"]), []).append(error)
    # A union gives an error for each of its kinds: for a mapping, what is wrong inside says more.
    inside = {path for path in by_place if any(other[: len(path)] == path != other for other in by_place)}
    order = {path: number for number, path in enumerate(_all_keys(source.tree))}
    found = sorted((path for path in by_place if path not in inside), key=lambda path: order.get(path, -1))
    return [_fault(source, path, by_place[path]) for path in found]


def _all_keys(tree: Any, above: Keys = ()) -> Iterator[Keys]:
    for key, value in tree.items() if isinstance(tree, dict) else ():
        yield (*above, key)
        yield from _all_keys(value, (*above, key))


def _real(tree: Any, location: Sequence[Any]) -> Keys:
    """The keys of the file in an error's location, in which pydantic also names the kinds of value that it tried."""
    path: list[str] = []
    for key in location:
        there = (isinstance(tree, dict) and key in tree) or (isinstance(tree, list) and isinstance(key, int))
        if there:
            tree = tree[key] if not isinstance(tree, list) or key < len(tree) else None
            path.append(str(key))
        elif isinstance(tree, dict) and not _is_kind(key):
            path.append(str(key))
            break
    return tuple(path)


def _is_kind(key: Any) -> bool:
    """Whether a part of a location names a kind of value that was tried, such as `float` or `list[str]`."""
    text = str(key)
    return not text.isidentifier() or text in {"str", "int", "float", "bool", "none", "nullable"} | class_names()


def _fault(source: _Source, path: Keys, errors: Sequence[Any]) -> str:
    kinds = {error["type"] for error in errors}
    name, place = ".".join(path), source.place(path)
    if kinds & {"unexpected_keyword_argument", "extra_forbidden"}:
        where = f"of {'.'.join(path[:-1])}" if path[:-1] else "of an experiment"
        owners = [name for name in fields_at(()) if path[-1] in fields_at((name,)) and (name,) != path[:-1]]
        hint = nearest(path[-1], fields_at(path[:-1])) or (f" It is a key of {' and '.join(owners)}." if owners else "")
        return f"{place}: {path[-1]} is no key {where}.{hint}"
    if kinds & {"missing", "missing_argument"}:
        sentence = fields_at(path[:-1])[path[-1]].sentence
        return f"{source.place(path[:-1])}: {name} is missing. {sentence}".rstrip()
    found, at_value = _found(source.tree, path), source.place(path, of_value=True)
    if "value_error" in kinds or "assertion_error" in kinds:
        message = str(next(error for error in errors if "error" in error.get("ctx", {}))["ctx"]["error"])
        # A check of a section names the field that it is about first.
        first = message.split(" ", maxsplit=1)[0].strip(":,.").split("=")[0]
        inner = (*path, *first.split("."))
        at_field = source.place(inner, of_value=True)
        return f"{at_field if _found(source.tree, inner) is not _MISSING else place}: {message}"
    if kinds <= PYTHON_ONLY:
        return f"{at_value}: {name} can be given in Python only, no file can hold it; found {_short(found)}."
    wanted = dict.fromkeys(_expected(error) for error in errors if error["type"] not in PYTHON_ONLY)
    return f"{at_value}: {name}: expected {' or '.join(wanted)}; found {_short(found)}."


def _expected(error: Mapping[str, Any]) -> str:
    names = {
        "int_type": "a whole number", "int_from_float": "a whole number", "float_type": "a number",
        "string_type": "text", "bool_type": "true or false", "list_type": "a list", "dict_type": "keys with values",
        "dataclass_type": "keys with values", "mapping_type": "keys with values", "none_required": "null",
        "is_sequence_of": "a list", "sequence_str": "a list", "tuple_type": "a list",
    }  # fmt: skip
    if error["type"] == "literal_error":
        return str(error["ctx"]["expected"])
    return names.get(error["type"], str(error["msg"]).removeprefix("Input should be ").removeprefix("a valid "))


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}…"
