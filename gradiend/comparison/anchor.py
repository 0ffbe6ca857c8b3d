"""The anchor-aligned matrix: classes as rows, each read through all GRADIENDs that have the class in their pair.

With the pair (a, b) of a GRADIEND that encodes texts of a positive, and m its mean encoding in a column, the GRADIEND
contributes +m to the row a and −m to the row b. A cell aggregates the contributions of the GRADIENDs, each of which
counts once. Seen by the counterfactual class, texts change places, and m changes its sign; so the diagonal is positive
wherever GRADIENDs tell their classes apart, whatever they read (docs/method.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from gradiend.comparison._cells import Measured, aggregated, common, measured
from gradiend.comparison._encoded import Encoded, encode_pool
from gradiend.comparison._features import Models, Trainers, features_of
from gradiend.comparison._pool import N_NULLS, VIEWS, Settings, chosen, pool_of, view_of
from gradiend.comparison._result import ComparisonResult
from gradiend.comparison.cross_encoding import check_cache_options
from gradiend.util._bootstrap import N_RESAMPLES, Floats
from gradiend.util._checks import require_flag
from gradiend.util._keywords import known_keywords, one_of

AGGREGATES = ("mean", "min", "max", "std", "count", "raw_count")


@known_keywords("compute_anchor_aligned_encoding_matrix")
def compute_anchor_aligned_encoding_matrix(
    trainers: Trainers, feature_classes: Sequence[str] | None = None, *, alignment: str = "factual",
    aggregate: str = "mean", split: str = "test", max_size: int | None = None, include_other_classes: bool = False,
    null: str | None = "random", n_null: int = N_NULLS, n_resamples: int = N_RESAMPLES, models: Models | None = None,
    cache_only: bool = False, force_recompute: bool = False, allow_incomplete_cache: bool = False,
) -> ComparisonResult:  # fmt: skip
    """The anchor-aligned matrix of the rows of each trainer's own pair.

    Args:
        trainers, split, max_size, null, n_null, n_resamples, models: See
            `compute_gradiend_feature_cross_encoding_matrix`.
        feature_classes: The rows, and the columns if these are classes. Default: all classes of the pairs.
        alignment: The column of a text: its `factual` class, its `counterfactual` class (that of the alternative
            word), or its `transition`. `auto` is counterfactual if all GRADIENDs read the alternative word, else
            factual.
        aggregate: How the GRADIENDs' contributions become a cell: mean, min, max, std (of a sample), count (the number
            of GRADIENDs) or raw_count (the number of rows that they encode).
        include_other_classes: Whether a GRADIEND also counts on texts of classes that are not in its pair, with their
            own word as the alternative.
        cache_only: Must be False, because no encodings are kept in files.
        force_recompute: Without effect: encodings are always made.
        allow_incomplete_cache: Without effect, for the same reason.

    Returns:
        rows (classes) × columns, with `interval` and `null_level` for each cell, `n_matrix` (GRADIENDs of a cell),
        `raw_n_matrix` (rows that they encode), `alignment`, `aggregate`, `orientation`, `transitions_found`. A cell
        without contributions is NaN.

    Raises:
        TypeError, ValueError: As of `compute_gradiend_feature_cross_encoding_matrix`; or an unknown
            alignment or aggregate, or cache_only.
    """
    check_cache_options(
        cache_only=cache_only, force_recompute=force_recompute, allow_incomplete_cache=allow_incomplete_cache
    )
    require_flag("include_other_classes", include_other_classes)
    settings = Settings(split, max_size, null, n_null, n_resamples)
    return _View(
        trainers, models, settings, feature_classes, alignment, aggregate, include_other_classes=include_other_classes
    ).result()


@known_keywords("compute_dense_anchor_aligned_encoding_matrix")
def compute_dense_anchor_aligned_encoding_matrix(
    trainers: Trainers, feature_classes: Sequence[str] | None = None, *, alignment: str = "factual",
    aggregate: str = "mean", split: str = "test", max_size: int | None = None, null: str | None = "random",
    n_null: int = N_NULLS, n_resamples: int = N_RESAMPLES, models: Models | None = None,
) -> ComparisonResult:  # fmt: skip
    """The anchor-aligned matrix of the rows of all trainers: every GRADIEND counts in every column.

    The result and the errors are those of `compute_anchor_aligned_encoding_matrix`.

    Args:
        trainers, feature_classes, alignment, aggregate, split, max_size, null, n_null, n_resamples, models: See
            `compute_anchor_aligned_encoding_matrix`.
    """
    settings = Settings(split, max_size, null, n_null, n_resamples)
    return _View(trainers, models, settings, feature_classes, alignment, aggregate, dense=True).result()


@known_keywords("compute_anchor_aligned_encoding_std_matrix")
def compute_anchor_aligned_encoding_std_matrix(
    trainers: Trainers, feature_classes: Sequence[str] | None = None, *, alignment: str = "factual",
    split: str = "test", max_size: int | None = None, dense: bool = False, models: Models | None = None,
) -> ComparisonResult:  # fmt: skip
    """The standard deviation (of a sample) of anchor-aligned matrices over seeds.

    The n-th matrix is that of the n-th model of every trainer that has so many.

    Args:
        trainers, feature_classes, alignment, split, max_size: See `compute_anchor_aligned_encoding_matrix`.
        dense: Whether every GRADIEND counts in every column, see `compute_dense_anchor_aligned_encoding_matrix`.
        models: Id → the models of several seeds, unless the trainers give them.

    Returns:
        rows × columns, with `n_matrix`, the number of seeds of each cell.

    Raises:
        TypeError, ValueError: As of `compute_anchor_aligned_encoding_matrix`; or no trainer has two seeds.
    """
    require_flag("dense", dense)
    settings = Settings(split, max_size)
    view = _View(trainers, models, settings, feature_classes, alignment, "mean", dense=dense, fewest_models=2)
    seeds = view.measured(0).by_seed
    assert seeds is not None
    matrix, counts = (aggregated(seeds[None], how)[0] for how in ("std", "count"))
    payload = {**view.result(), "measure": "anchor_aligned_encoding_std", "aggregate": "std"}
    return ComparisonResult({**payload, "matrix": matrix.tolist(), "n_matrix": counts.astype(int).tolist()})


class _View:
    """The rows and columns of a matrix, and how mean encodings become its cells; making a view checks the arguments."""

    def __init__(
        self, trainers: Trainers, models: Models | None, settings: Settings, classes: Sequence[str] | None,
        alignment: str, aggregate: str, *, dense: bool = False, include_other_classes: bool = False,
        fewest_models: int = 1,
    ) -> None:  # fmt: skip
        one_of("alignment", alignment, [*VIEWS, "auto"])
        one_of("aggregate", aggregate, AGGREGATES)
        self.settings, self.dense, self.aggregate = settings, dense, aggregate
        self.features = features = features_of(trainers, models)
        if max(len(feature.models) for feature in features) < fewest_models:
            raise ValueError("A deviation over seeds needs at least two models of a trainer: models={id: [model, …]}.")
        self.pool = pool = pool_of(features, settings, include_other_classes=include_other_classes)
        self.alignment = alignment = view_of(alignment, features)
        anchors = list(dict.fromkeys(name for feature in features for name in feature.classes))
        self.rows = anchors if classes is None else chosen("feature_classes", classes, features, anchors)
        found = pool.seen(alignment).tolist()
        if alignment == "transition":
            self.columns = chosen("transitions", None, features, found)
        else:
            self.columns = self.rows if classes is not None else chosen("classes", None, features, [*anchors, *found])
        self.transitions = list(dict.fromkeys(pool.seen("transition")))
        self.flags = pool.flags(alignment, self.columns)
        first, second = (np.array([feature.classes[place] for feature in features], object) for place in (0, 1))
        named = np.array(self.rows, object)[:, None]
        # (anchors, features)
        self._signs = (named == first).astype(np.float64) - (named == second)
        owned = pool.owned if not dense else np.ones_like(pool.owned)
        # (features, columns)
        self._sizes = owned.T.astype(np.float64) @ self.flags

    @cached_property
    def encoded(self) -> Encoded:
        """The encodings of every text of the pool by every GRADIEND, which take long."""
        return encode_pool(self.features, self.pool, self.settings)

    def cells(self, found: Floats) -> Floats:
        """Mean encodings (L, features, columns) → (L, anchors, columns)."""
        rows = []
        for signs in self._signs:
            own = signs != 0
            contributions = VIEWS[self.alignment] * signs[own][:, None] * found[:, own]
            if self.aggregate == "raw_count":
                rows.append(np.broadcast_to(self._sizes[own].sum(axis=0), (len(found), found.shape[2])))
            else:
                rows.append(aggregated(contributions, self.aggregate))
        return np.stack(rows, axis=1)

    def measured(self, n_resamples: int) -> Measured:
        """The cells of the matrix, with intervals and null levels."""
        return measured(self.encoded, self.flags, self.cells, owned=not self.dense, n_resamples=n_resamples)

    def result(self) -> ComparisonResult:
        """The payload."""
        found = self.measured(self.settings.n_resamples)
        raw = [self._sizes[signs != 0].sum(axis=0).astype(int).tolist() for signs in self._signs]
        counts = [(self._sizes[signs != 0] > 0).sum(axis=0).tolist() for signs in self._signs]
        payload = {
            "measure": f"{'dense_' if self.dense else ''}anchor_aligned_encoding", "model_ids": self.rows,
            "matrix": found.matrix.tolist(), "rows": self.rows, "columns": self.columns, "column_ids": self.columns,
            "alignment": self.alignment, "aggregate": self.aggregate, "n_matrix": counts, "raw_n_matrix": raw,
            "transitions_found": self.transitions,
        }  # fmt: skip
        return ComparisonResult({**payload, **common(self.encoded, found, self.settings)})
