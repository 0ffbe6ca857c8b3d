"""The top-k weights of several models as sets of indices, and the heatmap of the overlaps of each two models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from gradiend.model.seed_group import SeedModelGroup
from gradiend.util._keywords import one_of
from gradiend.visualizer._arrangement import Matrix, chosen_order, clustered, complete_groups
from gradiend.visualizer._matrix import DrawnMatrix, HeatmapOptions
from gradiend.visualizer._output import plot_keywords

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DEFAULT_PART = "decoder-weight"


class RanksWeights(Protocol):
    """The part of a model that the top-k plots need."""

    def get_topk_weights(self, *, part: str, topk: Any) -> Iterable[int]:
        """Return the indices of the most important weights, in the unpruned space, so that models are comparable."""


Models = Mapping[str, RanksWeights | SeedModelGroup] | Sequence[RanksWeights | SeedModelGroup]

POLICIES = ("primary", "union", "intersection")
"""How the top-k weights of several seeds become one set."""


def named_models(models: Models, least: int = 1, most: int | None = None) -> dict[str, Any]:
    """Return `models` by name, `least` to `most`; models of a sequence are called `model 1`, `model 2`, …."""
    if isinstance(models, Mapping):
        named = dict(models)
    elif isinstance(models, Sequence) and not isinstance(models, str):
        named = {f"model {number}": model for number, model in enumerate(models, start=1)}
    else:
        raise TypeError(f"models must be a dict {{name: model}} or a list of models; got {type(models).__name__}.")
    if len(named) < least or (most is not None and len(named) > most):
        wanted = f"at least {least}" if most is None else f"{least} to {most}"
        more = "" if most is None or len(named) < least else " plot_topk_overlap_heatmap takes any number."
        raise ValueError(f"This plot compares {wanted} models; got {len(named)}.{more}")
    return named


def topk_sets(
    models: Mapping[str, Any], topk: float, part: str, seed_group_policy: str = "primary"
) -> dict[str, list[int]]:
    """Return the top-k indices of each model, or of the seeds of a group by a policy of `POLICIES`, ascending."""
    one_of("seed_group_policy", seed_group_policy, POLICIES)
    if topk <= 0:
        raise ValueError(f"topk must be a positive number of weights (or a share up to 1.0); got {topk}.")
    sets = {}
    for name, given in models.items():
        group = tuple(given) if isinstance(given, SeedModelGroup) else (given,)
        chosen = group[:1] if seed_group_policy == "primary" else group
        of_seeds = [{int(index) for index in model.get_topk_weights(part=part, topk=topk)} for model in chosen]
        together = set.intersection(*of_seeds) if seed_group_policy == "intersection" else set().union(*of_seeds)
        if not together and all(of_seeds):
            raise ValueError(
                f"No weight is among the top {topk} of all seeds of {name!r}: take a larger topk, or another "
                "seed_group_policy."
            )
        sets[name] = sorted(together)
    empty = [name for name, indices in sets.items() if not indices]
    if empty:
        raise ValueError(f"get_topk_weights(part={part!r}, topk={topk}) selects no weight of {empty}.")
    return sets


@plot_keywords
def compute_topk_sets(
    models: Models, topk: float = 100, part: str = DEFAULT_PART, seed_group_policy: str = "primary"
) -> tuple[dict[str, list[int]], list[int], list[int]]:
    """Compute the top-k weights of each model, the weights common to all models, and the weights of any model.

    Args:
        models: {name: model}; a model needs only `get_topk_weights(part=, topk=)`.
        topk: How many weights of each model, or which share of them.
        part: The part whose weights are ranked, e.g. decoder-weight.
        seed_group_policy: Of a SeedModelGroup, the set of its "primary" (best) model, or the "union" or "intersection"
            of the sets of its seeds.

    Returns:
        {name: indices}, their intersection, their union; indices ascending, in the unpruned space.

    Raises:
        TypeError: models is neither a mapping nor a sequence.
        ValueError: topk is not positive, or a model has no weight to select.
    """
    per_model = topk_sets(named_models(models, least=0), topk, part, seed_group_policy)
    sets = [set(indices) for indices in per_model.values()]
    common = set.intersection(*sets) if sets else set()
    return per_model, sorted(common), sorted(set().union(*sets))


def intersections(sets: Iterable[Sequence[int]]) -> Matrix:
    """Return |A ∩ B| for each pair of sets."""
    members = [set(indices) for indices in sets]
    return np.array([[len(a & b) for b in members] for a in members], dtype=np.float64)


def shares(counts: Matrix) -> Matrix:
    """Return |A ∩ B| / min(|A|, |B|) from counts: 1 if one set contains the other, also if their sizes differ."""
    sizes = np.diag(counts)
    share: Matrix = counts / np.minimum(sizes[:, None], sizes[None, :])
    return share


def combination_sizes(sets: Mapping[str, Sequence[int]]) -> dict[frozenset[str], int]:
    """Count the elements that only the sets of a combination have, for each combination with such elements."""
    owners: dict[int, list[str]] = {}
    for name, indices in sets.items():
        for index in indices:
            owners.setdefault(index, []).append(name)
    return dict(Counter(map(frozenset, owners.values())))


VALUES = ("intersection", "intersection_frac")


@plot_keywords
def plot_topk_overlap_heatmap(
    models: Models, topk: float = 1000, part: str = DEFAULT_PART, value: str = "intersection",
    order: str | Sequence[str] = "input", cluster: bool = False, annot: bool | str = "auto", fmt: str | None = None,
    figsize: tuple[float, float] | None = None, cmap: str = "viridis", vmin: float | None = None,
    vmax: float | None = None, title: bool | str | None = False, output_path: str | Path | None = None,
    show: bool = True, return_data: bool = True, return_fig_ax: bool = False, ax: Axes | None = None,
    pretty_groups: Mapping[str, Sequence[str]] | None = None, scale: str = "linear", scale_gamma: float | None = None,
    annot_fontsize: float | None = None, tick_label_fontsize: float | None = None,
    group_label_fontsize: float | None = None, group_label_rotation_top: float = 0,
    group_label_rotation_right: float = 0, cbar_pad: float | None = None, cbar_fontsize: float | None = None,
    cbar_shrink: float | None = None, percentages: bool = True, row_metric: Mapping[str, float] | None = None,
    row_metric_label: str | None = "corr", row_metric_cmap: str = "magma", row_metric_vmin: float | None = None,
    row_metric_vmax: float | None = None, row_label_mapping: Mapping[str, str] | None = None,
    column_label_mapping: Mapping[str, str] | None = None, seed_group_policy: str = "primary",
) -> Any:  # fmt: skip
    """Plot how many of the top-k weights each two models share.

    Every argument that is not described here is that of `plot_comparison_heatmap`: order, annot, figsize, cmap, vmin,
    vmax, title, output_path, show, return_data, return_fig_ax, ax, pretty_groups, scale, scale_gamma, annot_fontsize,
    tick_label_fontsize, group_label_fontsize, group_label_rotation_top, group_label_rotation_right, cbar_pad,
    cbar_fontsize, cbar_shrink, row_metric, row_metric_label, row_metric_cmap, row_metric_vmin, row_metric_vmax,
    row_label_mapping and column_label_mapping.

    Args:
        models: {name: model}, two or more; a model needs only `get_topk_weights(part=, topk=)`.
        topk: How many weights of each model, or which share of them.
        part: The part whose weights are ranked, e.g. decoder-weight.
        value: "intersection" (`|A ∩ B|`) or "intersection_frac" (`|A ∩ B| / min(|A|, |B|)`).
        percentages: Show either value in percent of the smaller set, 0 to 100; False shows counts or fractions.
        cluster: Put models beside each other that share many of their weights: by average linkage on the shares
            `|A ∩ B| / min(|A|, |B|)`, whatever `value` is. `order="cluster"` does the same.
        fmt: Format of the numbers in the cells, e.g. ".1f" (`annot_fmt` is another name of this argument).
        seed_group_policy: Of a SeedModelGroup, the set of its "primary" (best) model, or the "union" or "intersection"
            of the sets of its seeds.

    Returns:
        {per_model: {name: indices}, model_ids: names in the order of the rows, matrix: rows of numbers, value, topk,
        part}, and pretty_groups where given.

    Raises:
        ValueError: There are fewer than two models; a value, order, scale, group or format is unknown; or the file is
            no image.
        ImportError: matplotlib is not installed.
    """
    options = HeatmapOptions.of(locals())
    path = options.path(output_path)
    one_of("value", value, VALUES)
    colors = options.colors()
    written = options.number_format("fmt", fmt, counts=value == "intersection")

    named = named_models(models, least=2)
    names = chosen_order(list(named), order)
    sets = topk_sets({name: named[name] for name in names}, topk, part, seed_group_policy)
    if cluster or order == "cluster":
        names = clustered(names, 1.0 - shares(intersections(sets.values())))
    groups = {} if pretty_groups is None else complete_groups(names, pretty_groups)
    names = [name for members in groups.values() for name in members] or names
    sets = {name: sets[name] for name in names}
    counts = intersections(sets.values())
    matrix = shares(counts) if percentages or value == "intersection_frac" else counts
    matrix = 100.0 * matrix if percentages else matrix
    meaning = "shared weights" if value == "intersection" else "share of the smaller set"
    if percentages:
        meaning = "shared weights in % (of the smaller set)"
    texts = [[format(float(number), written) for number in row] for row in matrix]
    shown = [str(name) for name in names]
    drawn = DrawnMatrix(matrix, shown, shown, texts, meaning, colors, groups, groups, options)
    data: dict[str, Any] = {"per_model": sets, "model_ids": names, "matrix": matrix.tolist()}
    data |= {"value": value, "topk": topk, "part": part, **({"pretty_groups": groups} if groups else {})}
    return drawn.deliver(drawn.draw(f"Overlap of the top {topk:,} by {part}"), path, data)
