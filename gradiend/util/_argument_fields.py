"""Dataclasses of arguments: fields that check, save, show and document their values."""

from __future__ import annotations

import ast
import copy
import dataclasses
import inspect
import itertools
import reprlib
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeVar

import pandas as pd
from typing_extensions import Self

from gradiend.util._checks import require_flag
from gradiend.util._display import UNSHOWABLE, Shown, Table

T = TypeVar("T", bound=type)

REQUIRED = "required"
SHORT = reprlib.Repr()
SHORT.maxlist = SHORT.maxtuple = 12
SHORT.maxother = 200


def argument(
    default: Any, parse: Callable[[str, Any], Any] | None = None, *, optional: bool | None = None,
    affects: Literal["training", "seeds", "neither"] = "training", save: Callable[[Any], Any] | None = copy.deepcopy,
) -> Any:  # fmt: skip
    """A field of `Arguments`; a bool as `default` makes a field without `parse` a flag, which is True or False.

    Args:
        default: The default of the field.
        parse: (name, value) → the value that is kept; raises for a wrong value.
        optional: Whether None may be given, which is not parsed. Default: True if None is the default.
        affects: What depends on the field: every training, only the choice among several seeds, or neither (a place, a
            speed, an evaluation).
        save: Value → its JSON form; None leaves the field out of saved arguments.
    """
    optional = default is None if optional is None else optional
    known = {"parse": parse, "optional": optional, "affects": affects, "save": save}
    return dataclasses.field(default=default, metadata=known)


def checked(check: Callable[..., object], *limits: Any) -> Callable[[str, Any], Any]:
    """A parser that keeps a value as it is, unless `check(name, value, *limits)` raises."""

    def parse(name: str, value: Any) -> Any:
        check(name, value, *limits)
        return value

    return parse


class ShowsChanges(Shown):
    """A dataclass that shows only the fields that differ from their defaults; a notebook shows these defaults too."""

    def __repr__(self) -> str:
        try:
            given = [f"{name}={text}" for name, text in changed_fields(self).items()]
        except UNSHOWABLE:
            return object.__repr__(self)
        return f"{type(self).__name__}({', '.join(given)})"

    def _tables(self) -> tuple[str, Sequence[Table]]:
        usual = defaults_of(self)
        rows = [[name, text, usual[name]] for name, text in changed_fields(self).items()]
        note = "" if rows else "All arguments have their defaults."
        return type(self).__name__, [Table("", ["argument", "value", "default"], rows, note)]


@dataclasses.dataclass(repr=False)
class Arguments(ShowsChanges):
    """A dataclass whose fields parse and save their values, see `argument`; a plain field takes any value."""

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value, parse = vars(self)[item.name], item.metadata.get("parse")
            if parse is None:
                if isinstance(item.default, bool):
                    require_flag(item.name, value)
            elif value is not None or not item.metadata.get("optional"):
                setattr(self, item.name, parse(item.name, value))

    @classmethod
    def names(cls, *affecting: str) -> list[str]:
        """The names of all arguments, or of the arguments whose `affects` is one of `affecting`."""
        fields = dataclasses.fields(cls)
        return [f.name for f in fields if not affecting or f.metadata.get("affects", "training") in affecting]

    def to_dict(self) -> dict[str, Any]:
        """The arguments in their JSON form: types and masks become text and numbers; data and code are left out."""
        saves = {item.name: item.metadata.get("save", copy.deepcopy) for item in dataclasses.fields(self)}
        given = {name: vars(self)[name] for name, save in saves.items() if save is not None}
        return {name: None if value is None else saves[name](value) for name, value in given.items()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Undo `to_dict`. Raises TypeError for an unknown key, ValueError for a bad value."""
        return cls(**content)


def field_sentences(cls: type) -> dict[str, str]:
    """Name of a field → the text under the field in the source, fields of bases first. {} without source."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        file = Path(getattr(sys.modules.get(base.__module__), "__file__", None) or "")
        if not dataclasses.is_dataclass(base) or not file.is_file():
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        bodies = [node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == base.__name__]
        for field, text in itertools.pairwise(bodies[0] if bodies else []):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                found[ast.unparse(field.target)] = " ".join(str(text.value.value).split())
    return found


def field_default(item: dataclasses.Field[Any]) -> str:
    """The default of a field as Python source, or that there is none."""
    if item.default_factory is not dataclasses.MISSING:
        return repr(item.default_factory())
    return REQUIRED if item.default is dataclasses.MISSING else repr(item.default)


def fields_in_docstring(cls: T) -> T:
    """Decorate a dataclass: the docstring, which `help` shows, ends with every field, its default and its text."""
    texts = field_sentences(cls)
    if cls.__doc__ is not None and texts:
        lines = [
            f"    {item.name} ({usual if usual == REQUIRED else f'default {usual}'}): {texts.get(item.name, '')}"
            for item in dataclasses.fields(cls)
            for usual in [field_default(item)]
        ]
        cls.__doc__ = "\n".join([inspect.cleandoc(cls.__doc__), "", "Args:", *lines])
    return cls


def defaults_of(instance: Any) -> dict[str, str]:
    """Field → default of a dataclass, as text."""
    usual = {item.name: field_default(item) for item in dataclasses.fields(instance)}
    # A constructor may turn a default into another value; some configurations have no default as a whole.
    with suppress(TypeError, ValueError):
        usual |= {name: _shown(value) for name, value in vars(type(instance)()).items()}
    return usual


def changed_fields(instance: Any) -> dict[str, str]:
    """Field → value of a dataclass, as text, where it differs from the default; tables by size."""
    usual = defaults_of(instance)
    shown = {item.name: _shown(vars(instance)[item.name]) for item in dataclasses.fields(instance)}
    return {name: text for name, text in shown.items() if text != usual[name]}


def _shown(value: Any) -> str:
    if value is None or isinstance(value, (str, Path)):
        return repr(value)
    if isinstance(value, pd.DataFrame):
        return f"<table of {len(value)} rows>"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key!r}: {_shown(item)}' for key, item in value.items())}}}"
    return SHORT.repr(value)


def plain(value: Any) -> Any:
    """`value` in the types of JSON: tensors and NumPy scalars become numbers, other objects become their repr."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(vars(value))
    # A tensor exists only where torch is loaded, and configurations must not load it.
    torch = sys.modules.get("torch")
    if (torch is not None and isinstance(value, torch.Tensor)) or type(value).__module__ == "numpy":
        return value.tolist()
    return value if value is None or isinstance(value, (bool, int, float, str)) else repr(value)
