"""The dict of a comparison as a heatmap needs it: names and cells in the order of the figure, and their texts.

The order is as given, by name, as listed, by likeness, or in groups.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradiend.util._keywords import nearest

Matrix = NDArray[np.float64]

OTHER_GROUP = "Other"
ORDERS = ("input", "name", "cluster")
DISPLAYS = ("none", "stacked", "corner_glyph")
CELLS = ("matrix", "cell_stats", "interval", "null_level", "same_seed_null", "n_matrix", "raw_n_matrix")
"""The keys of a payload that have something for each cell."""

MEANINGS = {
    "cosine": "|cosine|",
    "cosine_signed": "cosine",
    "spearman": "|rank correlation|",
    "spearman_signed": "rank correlation",
    "mass_overlap": "shared importance",
}


@dataclass(frozen=True)
class Payload:
    """A comparison with its names."""

    content: Mapping[str, Any]
    rows: list[str]
    columns: list[str]
    matrix: Matrix
    row_groups: Mapping[str, Sequence[str]]
    column_groups: Mapping[str, Sequence[str]]

    @classmethod
    def parse(cls, content: Any) -> Payload:
        """The documented dict.

        Raises:
            TypeError: It is no dict.
            ValueError: It has no matrix, or the names do not fit the matrix.
        """
        if not isinstance(content, Mapping):
            raise TypeError(f"A comparison is a dict with measure, matrix and names; got {type(content).__name__}.")
        if "matrix" not in content:
            raise ValueError(f"A comparison has a matrix; this dict has {', '.join(map(str, content)) or 'nothing'}.")
        rows = _names(content, "rows", "model_ids")
        columns = _names(content, "columns", "column_ids", "model_ids")
        numbers = [[np.nan if one is None else float(one) for one in row] for row in content["matrix"]]
        if not rows or not columns or [len(row) for row in numbers] != [len(columns)] * len(rows):
            raise ValueError(
                f"The matrix must have a row for each of {len(rows)} rows and a number for each of {len(columns)} "
                f"columns (rows, columns or model_ids); its rows have the lengths {[len(row) for row in numbers]}."
            )
        for names, axis in ((rows, "row"), (columns, "column")):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"Each {axis} needs a name of its own; {twice} stands twice.")
        return cls(content, rows, columns, np.array(numbers), {}, {})

    @property
    def square(self) -> bool:
        """Whether rows and columns have the same names, and so one order."""
        return self.rows == self.columns

    @property
    def signed(self) -> bool:
        """Whether the numbers can be negative."""
        known = self.matrix[~np.isnan(self.matrix)]
        return str(self.content.get("measure", "")).endswith("_signed") or bool((known < 0).any())

    @property
    def meaning(self) -> str:
        """The meaning of the numbers, for the colour bar."""
        measure = str(self.content.get("measure", "value"))
        if measure == "topk_overlap":
            return "shared weights" if self.counts else "share of the smaller set"
        return MEANINGS.get(measure, measure)

    @property
    def counts(self) -> bool:
        """Whether the numbers count weights."""
        return self.content.get("value") == "intersection"

    def arranged(
        self, order: str | Sequence[str], cluster: bool, groups: Mapping[str, Sequence[str]] | None
    ) -> Payload:  # fmt: skip
        """The same comparison with its rows and columns in another order, see `plot_comparison_heatmap`."""
        rows, columns = self._ordered(order if isinstance(order, str) else [str(name) for name in order])
        groups = {title: [str(name) for name in group] for title, group in (groups or {}).items()}
        if cluster or order == "cluster":
            rows, columns = self._clustered(rows, columns)
        row_groups, column_groups = self._grouped(rows, columns, groups)
        rows = [name for members in row_groups.values() for name in members] or rows
        columns = [name for members in column_groups.values() for name in members] or columns
        picked = ([self.rows.index(name) for name in rows], [self.columns.index(name) for name in columns])
        content: Any = copied(self.content)
        for key in CELLS:
            cells = content.get(key)
            if isinstance(cells, Sequence | np.ndarray) and len(cells) == len(self.rows):
                content[key] = [[cells[row][column] for column in picked[1]] for row in picked[0]]
        for key, names in (("rows", rows), ("columns", columns), ("column_ids", columns), ("model_ids", rows)):
            if key in content and (key != "model_ids" or [str(name) for name in content[key]] == self.rows):
                content[key] = names
        if groups:
            both = {"rows": row_groups, "columns": column_groups}
            content["pretty_groups"] = row_groups if self.square else both
        return Payload(content, rows, columns, self.matrix[np.ix_(*picked)], row_groups, column_groups)

    def _ordered(self, order: str | Sequence[str]) -> tuple[list[str], list[str]]:
        if isinstance(order, str) or self.square:
            return chosen_order(self.rows, order), chosen_order(self.columns, order)
        require_known("order", order, [*self.rows, *self.columns])
        rows, columns = ([name for name in order if name in names] for names in (self.rows, self.columns))
        return chosen_order(self.rows, rows or "input"), chosen_order(self.columns, columns or "input")

    def _clustered(self, rows: list[str], columns: list[str]) -> tuple[list[str], list[str]]:
        picked = np.ix_([self.rows.index(name) for name in rows], [self.columns.index(name) for name in columns])
        matrix = self.matrix[picked]
        if not self.square:
            return clustered(rows, distances(matrix)), clustered(columns, distances(matrix.T))
        if np.array_equal(matrix, matrix.T) and not np.isnan(matrix).any():
            # A similarity says itself how near two names are.
            names = clustered(rows, float(matrix.max()) - matrix)
        else:
            names = clustered(rows, distances(np.concatenate([matrix, matrix.T], axis=1)))
        return names, names

    def _grouped(
        self, rows: list[str], columns: list[str], groups: Mapping[str, Sequence[str]]
    ) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """The groups of the rows and of the columns; of an axis without a name in a group, none."""
        found = []
        members = [name for group in groups.values() for name in group]
        require_known("pretty_groups", members, list(dict.fromkeys([*rows, *columns])))
        for names in (rows, columns):
            own = {title: [name for name in group if name in names] for title, group in groups.items()}
            found.append(complete_groups(names, own) if any(own.values()) else {})
        return found[0], found[1]

    def spreads(self) -> list[list[float | list[float] | None]]:
        """The spread of each cell over seeds: a number, [low, high], or None for a cell with one score.

        Raises:
            ValueError: The comparison has no seeds.
        """
        stats = self.content.get("cell_stats")
        if not stats:
            raise ValueError("dispersion_display and seed_annotation show several seeds: compare SeedModelGroups.")
        return [[_spread(cell) for cell in row] for row in stats]

    def widths(self) -> Matrix:
        """Half of the width of the spread of each cell, 0 for a cell with one score."""
        return np.array(
            [[(one[1] - one[0]) / 2 if isinstance(one, list) else one or 0.0 for one in row] for row in self.spreads()]
        )

    def notes(self) -> str:
        """The meaning of the numbers of several seeds, in one line."""
        stats = [cell for row in self.content.get("cell_stats", []) for cell in row if cell]
        counts = sorted({cell["n"] for cell in stats})
        number = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        pairing = str(self.content.get("seed_pairing_mode", "")).replace("_", " ")
        named = {"std": "standard deviation", "range_half_width": "half of the range", "minmax": "range"}
        kinds = [text for key, text in named.items() if any(key in cell for cell in stats)]
        spread = f"; ±: {kinds[0]}" if kinds and kinds[0] != "range" else ""
        about = f"{self.content.get('seed_aggregate', 'mean')} of {number} scores"
        return about + (f" of pairs of seeds ({pairing})" if pairing else " of seeds") + spread


def _names(content: Mapping[str, Any], *keys: str) -> list[str]:
    """The names under the first of some keys that has names; [] without any."""
    given = (content[key] for key in keys if content.get(key) is not None)
    return next((names for one in given if (names := [str(name) for name in one])), [])


def copied(content: Mapping[str, Any]) -> Any:
    """A shallow copy, of the same class if that is a dict."""
    return copy.copy(content) if isinstance(content, dict) else dict(content)


def _spread(cell: Mapping[str, Any] | None) -> float | list[float] | None:
    if cell is None or cell.get("n", 0) < 2:
        return None
    for key in ("std", "range_half_width"):
        if key in cell:
            return float(cell[key])
    low, high = cell.get("minmax", (cell["min"], cell["max"]))
    return [float(low), float(high)]


def cell_texts(payload: Payload, written: str, factor: float, display: str) -> list[list[str]]:
    """The text of each cell: its number and, if `display` is "stacked", its spread below."""
    texts = [["–" if np.isnan(one) else _number(one * factor, written) for one in row] for row in payload.matrix]
    if display != "stacked":
        return texts
    spreads = payload.spreads()
    return [
        [text + _below(spread, written, factor) for text, spread in zip(*pair, strict=True)]
        for pair in zip(texts, spreads, strict=True)
    ]


def _below(spread: float | list[float] | None, written: str, factor: float) -> str:
    if spread is None:
        return ""
    if isinstance(spread, float):
        return f"\n±{_number(spread * factor, written)}"
    return "\n" + " … ".join(_number(limit * factor, written) for limit in spread)


def _number(value: float, written: str) -> str:
    text = format(value, written)
    # What is rounded to zero has no sign.
    return text.replace("-", "−" if text.strip("-0.%") else "")


# Orders


def chosen_order(names: Sequence[str], order: str | Sequence[str]) -> list[str]:
    """Return `names` in the order "input" (also for "cluster") or "name", or the names in a list, in its order."""
    if isinstance(order, str):
        if order not in ORDERS:
            raise ValueError(
                f"order must be 'input', 'name' or a list of models, or 'cluster'; got {order!r}."
                f"{nearest(order, ORDERS)}"
            )
        return sorted(names, key=str) if order == "name" else list(names)
    require_known("order", order, names)
    if len(set(order)) < len(order):
        raise ValueError(f"order names a model twice: {list(order)}.")
    return list(order)


def clustered(names: Sequence[str], distance: Matrix) -> list[str]:
    """Reorder `names` so that those at small distances stand together (average linkage)."""
    # At equal distances names stay in the order of the input; the leaves of scipy's linkage would not.
    clusters = [[position] for position in range(len(names))]
    while len(clusters) > 1:
        pairs = [(i, j) for i in range(len(clusters)) for j in range(i + 1, len(clusters))]
        first, second = min(pairs, key=lambda pair: distance[np.ix_(clusters[pair[0]], clusters[pair[1]])].mean())
        clusters[first] += clusters.pop(second)
    return [names[position] for position in clusters[0]] if clusters else []


def distances(matrix: Matrix) -> Matrix:
    """The root mean square distances of each two rows over the columns that both have; the largest if there is none."""
    known = ~np.isnan(matrix)
    filled = np.where(known, matrix, 0.0)
    both = known[:, None, :] & known[None, :, :]
    squares = np.where(both, (filled[:, None, :] - filled[None, :, :]) ** 2, 0.0).sum(-1)
    counts = both.sum(-1)
    found: Matrix = np.sqrt(np.divide(squares, counts, out=np.full(counts.shape, -1.0), where=counts > 0).clip(0))
    return np.where(counts > 0, found, found.max(initial=0.0))


def complete_groups(names: Sequence[str], groups: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return `groups` without empty ones, and with a group of the names that are in no other group."""
    members = [name for group in groups.values() for name in group]
    require_known("pretty_groups", members, names)
    twice = sorted({name for name in members if members.count(name) > 1})
    if twice:
        raise ValueError(f"pretty_groups has {twice} in two groups; a model stands in one place.")
    complete = {title: list(group) for title, group in groups.items() if group}
    rest = [name for name in names if name not in members]
    return {**complete, **({OTHER_GROUP: [*complete.get(OTHER_GROUP, []), *rest]} if rest else {})}


def require_known(option: str, given: Iterable[str], names: Sequence[str]) -> None:
    """Raise ValueError for a name that is none of `names`."""
    for name in given:
        if name not in names:
            hint = nearest(str(name), [str(known) for known in names])
            raise ValueError(f"{option} names {name!r}, but the models are {list(names)}.{hint}")
