"""What each GRADIEND says of the texts of all features: matrices of GRADIENDs and classes, transitions or pairs.

Every matrix comes from one pool of rows, which all GRADIENDs encode (`gradiend.comparison._encoded`). No file is read
or written, so a matrix does not depend on what was called before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from gradiend.comparison._cells import measured, result_of
from gradiend.comparison._encoded import Encoded, encode_pool
from gradiend.comparison._features import Feature, Models, Trainers, features_of, positive_classes
from gradiend.comparison._pool import N_NULLS, VIEWS, Flags, Settings, chosen, pool_of, view_of
from gradiend.comparison._result import ComparisonResult
from gradiend.comparison._saved_inputs import load_saved_cross_encoding_inputs as load_saved_cross_encoding_inputs
from gradiend.util._bootstrap import N_RESAMPLES, Floats
from gradiend.util._checks import require_flag
from gradiend.util._keywords import known_keywords, one_of

METRICS = ("positive_minus_negative", "positive_mean", "negative_mean")
NO_FILES = (
    "no encodings are kept in files: encodings of a pool beside those of an evaluation made results depend on what was "
    "called before. Leave the argument out"
)


@known_keywords("compute_gradiend_feature_cross_encoding_matrix")
def compute_gradiend_feature_cross_encoding_matrix(
    trainers: Trainers, feature_classes: Sequence[str] | None = None, *, alignment: str = "factual",
    split: str = "test", max_size: int | None = None, null: str | None = "random", n_null: int = N_NULLS,
    n_resamples: int = N_RESAMPLES, models: Models | None = None,
) -> ComparisonResult:  # fmt: skip
    """The mean encoding of the texts of each class by each GRADIEND.

    Args:
        trainers: Id → trainer, a list of trainers with run ids, or a suite. Their GRADIENDs share one base model.
        feature_classes: The columns. Default: all classes that the texts have.
        alignment: Whether a text counts for its `factual` class, or for its `counterfactual` class (that of the
            alternative word), with the opposite sign. `auto` is counterfactual if all GRADIENDs read the alternative
            word, else factual.
        split: The split whose rows are encoded, those of all trainers together.
        max_size: How many rows of each factual class are encoded, chosen at random, always the same ones.
        null: What the null level is made of: `random`, encoders of the same norm in random directions; `shuffle`, the
            closed form of training gradients with shuffled labels, which costs a pass over training rows; or None.
        n_null: The number of null GRADIENDs for each GRADIEND, at least 20.
        n_resamples: The number of resamples of the texts for the intervals; 0 leaves the intervals out.
        models: Id → the model to take instead of the trainer's, a list of models of several seeds, or a
            `SeedModelGroup`. A cell is the mean of the seeds' means, and `cell_stats` has their spread.

    Returns:
        rows (ids) × columns (classes), with `interval` and `null_level` for each cell, `n_matrix` (rows of a cell) and
        `orientation` (id → the signs of its models: each GRADIEND is turned so that the texts of its first class
        encode positive, whatever word its source reads).

    Raises:
        TypeError: Something that is no trainer, or whose data are no texts.
        ValueError: Different base models, no rows, an unknown class, a GRADIEND that is not trained.
    """
    settings = Settings(split, max_size, null, n_null, n_resamples)
    one_of("alignment", alignment, ("factual", "counterfactual", "auto"))
    features = features_of(trainers, models)
    view = view_of(alignment, features)
    encoded, names, columns = _columns(features, settings, view, "feature_classes", feature_classes)
    found = measured(encoded, columns, lambda cells: VIEWS[view] * cells, n_resamples=n_resamples)
    return result_of("gradiend_feature_cross_encoding", encoded, found, names, columns, settings, alignment=view)


@known_keywords("compute_gradiend_transition_cross_encoding_matrix")
def compute_gradiend_transition_cross_encoding_matrix(
    trainers: Trainers, transitions: Sequence[str] | None = None, *, split: str = "test", max_size: int | None = None,
    null: str | None = "random", n_null: int = N_NULLS, n_resamples: int = N_RESAMPLES, models: Models | None = None,
    cache_only: bool = False, force_recompute: bool = False, allow_incomplete_cache: bool = False,
) -> ComparisonResult:  # fmt: skip
    """The mean encoding of each directed transition, `factual class→alternative class`, by each GRADIEND.

    Args:
        trainers, split, max_size, null, n_null, n_resamples, models: See
            `compute_gradiend_feature_cross_encoding_matrix`.
        transitions: The columns, such as `["he→she", "she→he"]`. Default: all that the rows have.
        cache_only: Must be False, because no encodings are kept in files.
        force_recompute: Without effect: encodings are always made.
        allow_incomplete_cache: Without effect, for the same reason.

    Returns:
        rows (ids) × columns (transitions), as in `compute_gradiend_feature_cross_encoding_matrix`, with
        `transitions_found`.

    Raises:
        TypeError, ValueError: As of `compute_gradiend_feature_cross_encoding_matrix`; or cache_only.
    """
    check_cache_options(
        cache_only=cache_only, force_recompute=force_recompute, allow_incomplete_cache=allow_incomplete_cache
    )
    settings = Settings(split, max_size, null, n_null, n_resamples)
    features = features_of(trainers, models)
    encoded, names, columns = _columns(features, settings, "transition", "transitions", transitions)
    found = measured(encoded, columns, n_resamples=n_resamples)
    return result_of(
        "gradiend_transition_cross_encoding", encoded, found, names, columns, settings,
        transitions_found=list(dict.fromkeys(encoded.pool.seen("transition"))),
    )  # fmt: skip


@known_keywords("compute_trainer_pair_encoding_matrix")
def compute_trainer_pair_encoding_matrix(
    trainers: Trainers, *, metric: str = "positive_minus_negative", positive_class: Mapping[str, str] | None = None,
    normalize: bool = False, split: str = "test", max_size: int | None = None, null: str | None = "random",
    n_null: int = N_NULLS, n_resamples: int = N_RESAMPLES, models: Models | None = None, encoder_eval: str = "auto",
    allow_incomplete: bool = False,
) -> ComparisonResult:  # fmt: skip
    """What each GRADIEND (row) encodes on the texts of each trainer's pair (column), one class of which is positive.

    Args:
        trainers, split, max_size, null, n_null, n_resamples, models: See
            `compute_gradiend_feature_cross_encoding_matrix`.
        metric: `positive_mean`, the mean encoding of the texts of the pair's positive class; `negative_mean`, that of
            the other class; or `positive_minus_negative`, their difference.
        positive_class: Id → the positive class of the pair. Default: that of the suite's definition of the pair, or `x`
            where the other class is `non_x`.
        normalize: Whether each row is divided by its diagonal cell.
        encoder_eval: `auto` or `recompute`, which mean the same, because no encodings are kept in files.
        allow_incomplete: Whether a pair may lack rows of a class; its cells are then NaN.

    Returns:
        ids × ids, as in `compute_gradiend_feature_cross_encoding_matrix`, with `pair_by_trainer`, `positive_class` and
        `value`, which is the metric. Each GRADIEND is turned so that its positive class encodes positive.

    Raises:
        TypeError, ValueError: As of `compute_gradiend_feature_cross_encoding_matrix`; or
            encoder_eval="cached", a pair whose positive class is not known or which has no rows of a class, or a
            diagonal of 0 with `normalize`.
    """
    one_of("metric", metric, METRICS)
    require_flag("normalize", normalize)
    if encoder_eval == "cached":
        raise ValueError(f"encoder_eval='cached' is not possible: {NO_FILES}.")
    one_of("encoder_eval", encoder_eval, ("auto", "recompute"))
    settings = Settings(split, max_size, null, n_null, n_resamples)
    features = features_of(trainers, models)
    positive = positive_classes(features, positive_class, trainers)
    pool = pool_of(features, settings)
    first = [positive[feature.id] == feature.classes[0] for feature in features]
    sides = pool.sides(features)
    # Rows belong to a pair by their owner: merged classes have one name in several pairs.
    pairs = [np.where(first, *order) for order in (sides, sides[::-1])]
    for feature, *counts in zip(features, *(side.sum(axis=0) for side in pairs), strict=True):
        if not all(counts) and not allow_incomplete:
            raise ValueError(
                f"The pair of {feature.id!r} ({feature.label}) lacks rows of a class in the split {split!r}: choose "
                "another split, or allow_incomplete=True for cells without a number."
            )

    def cells(found: Floats) -> Floats:
        up, down = np.split(found, 2, axis=2)
        chosen_cells = {"positive_mean": up, "negative_mean": down}.get(metric, up - down)
        return chosen_cells / np.diagonal(chosen_cells, axis1=1, axis2=2)[..., None] if normalize else chosen_cells

    encoded = encode_pool(features, pool, settings)
    ids = [feature.id for feature in features]
    with np.errstate(divide="ignore", invalid="ignore"):
        found = measured(encoded, np.concatenate(pairs, axis=1), cells, first=first, n_resamples=n_resamples)
    bad = [name for name, row in zip(ids, np.isfinite(found.matrix), strict=True) if not row.any()]
    if normalize and bad:
        raise ValueError(f"normalize=True divides by the diagonal, which is 0 or unknown for {', '.join(bad)}.")
    columns = {"positive_mean": pairs[0], "negative_mean": pairs[1]}.get(metric, pairs[0] | pairs[1])
    return result_of(
        "trainer_pair_encoding", encoded, found, ids, columns, settings,
        value=metric, normalize=normalize, positive_class=positive,
    )  # fmt: skip


compute_cross_encoding_matrix = compute_trainer_pair_encoding_matrix
"""The older name of `compute_trainer_pair_encoding_matrix`."""


@known_keywords("build_cross_task_encoder_summary")
def build_cross_task_encoder_summary(
    trainers: Trainers, *, split: str = "test", max_size: int | None = None, n_resamples: int = N_RESAMPLES,
    models: Models | None = None,
) -> pd.DataFrame:  # fmt: skip
    """A table of what every GRADIEND encodes on every transition, a row for each of both.

    Args:
        trainers, split, max_size, n_resamples, models: See `compute_gradiend_feature_cross_encoding_matrix`.

    Returns:
        The columns id, first_class, second_class, source, transition, source_class, target_class, n (rows), mean, std
        (over rows, of a sample), low and high (the interval of the mean over texts). Each GRADIEND is turned so that
        the texts of its first class encode positive.

    Raises:
        TypeError, ValueError: As of `compute_gradiend_feature_cross_encoding_matrix`.
    """
    settings = Settings(split, max_size, n_resamples=n_resamples)
    features = features_of(trainers, models)
    encoded, names, columns = _columns(features, settings, "transition", "transitions", None)
    pool = encoded.pool
    found = measured(encoded, columns, n_resamples=n_resamples)
    oriented = encoded.values * found.signs[:, None]
    rows = []
    for number, feature in enumerate(features):
        of_rows = oriented[encoded.owner == number].mean(axis=0)
        for column, name in enumerate(names):
            place = np.flatnonzero(columns[:, column])
            low, high = found.interval[number][column] or (np.nan, np.nan)
            rows.append({
                "id": feature.id, "first_class": feature.classes[0], "second_class": feature.classes[1],
                "source": feature.side.value, "transition": name, "source_class": pool.rows["source_id"][place[0]],
                "target_class": pool.rows["target_id"][place[0]], "n": len(place),
                "mean": found.matrix[number, column],
                "std": of_rows[place].std(ddof=1) if len(place) > 1 else np.nan, "low": low, "high": high,
            })  # fmt: skip
    return pd.DataFrame(rows)


def check_cache_options(*, cache_only: bool, **others: bool) -> None:
    """Raise ValueError for cache_only, and TypeError for an option that is neither True nor False."""
    for name, value in {"cache_only": cache_only, **others}.items():
        require_flag(name, value)
    if cache_only:
        raise ValueError(f"cache_only=True is not possible: {NO_FILES}.")


def _columns(
    features: Sequence[Feature], settings: Settings, view: str, what: str, wanted: Sequence[str] | None
) -> tuple[Encoded, list[str], Flags]:
    """The encoded pool of some features, and its columns in a view: their names, and the rows that count in each."""
    pool = pool_of(features, settings)
    names = chosen(what, wanted, features, pool.seen(view).tolist())
    return encode_pool(features, pool, settings), names, pool.flags(view, names)
