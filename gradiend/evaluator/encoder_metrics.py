"""Metrics of encodings: correlation and class means with bootstrap intervals, accuracies, and a rank statistic."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gradiend.evaluator._encoder_statistics import DATA_SPLIT, group_means, split_generalization, spread
from gradiend.evaluator._encoding_files import kept_beside, read_frame, restored, write_metrics
from gradiend.evaluator._results import EncoderResult
from gradiend.util import PLACEHOLDER
from gradiend.util._bootstrap import (
    EQUAL,
    LEVEL,
    N_RESAMPLES,
    SEED,
    Floats,
    Groups,
    Weights,
    interval_of_mean,
    numbers_of_groups,
    resampled_weights,
    weight_chunks,
)
from gradiend.util._cache import FINGERPRINT
from gradiend.util._checks import require_whole
from gradiend.util.metrics import accuracy_score
from gradiend.util.paths import invalidate_encoder_metrics_cache

__all__ = [
    "correlation_interval", "get_correlation", "get_encoder_metrics_from_dataframe", "get_model_metrics",
    "invalidate_encoder_metrics_cache", "roc_auc",
]  # fmt: skip


def get_correlation(df: pd.DataFrame, encoded_col: str = "encoded", label_col: str = "label") -> float:
    """Pearson correlation of encodings and labels.

    Args:
        df: A frame with one row per example.
        encoded_col: The column of the encodings.
        label_col: The column of the labels.

    Returns:
        A number in [-1, 1]; 0.0 where the correlation is undefined: fewer than two rows, or a constant column.

    Raises:
        ValueError: A column is missing.
    """
    _require_columns(df, (encoded_col, label_col))
    return _pearson(df[encoded_col].to_numpy(np.float64), df[label_col].to_numpy(np.float64))


def get_encoder_metrics_from_dataframe(
    df: pd.DataFrame, *, neg_boundary: float = -0.5, pos_boundary: float = 0.5, neutral_boundary: float = 0.0,
    n_resamples: int = N_RESAMPLES,
) -> dict[str, Any]:  # fmt: skip
    """Correlation, accuracies and means of encoded examples.

    Three selections of rows are scored: `all_data`; `training_only`, the rows whose type does not start with
    "neutral" (identity rows with label 0 stay in); `target_classes_only`, the training rows whose label is not 0.
    The accuracies of `all_data` and `training_only` have three outcomes: +1 from `pos_boundary` on, −1 down from
    `neg_boundary`, otherwise 0. The accuracy of `target_classes_only` has two: +1 from `neutral_boundary` on, else −1.

    Args:
        df: A frame with one row per example and the columns encoded (float), label (+1, −1 or 0), type and,
            optionally, source_id and target_id (the factual and the alternative class), input_text and factual, which
            name the text of a row, and data_split.
        neg_boundary: Encodings up to this number count as −1.
        pos_boundary: Encodings from this number on count as +1.
        neutral_boundary: Encodings of target classes count as +1 from this number on.
        n_resamples: The number of resamples of the bootstrap intervals; 0 leaves the intervals out.

    Returns:
        n_samples, sample_counts, all_data, training_only, target_classes_only (each with correlation and accuracy),
        boundaries, correlation (of training_only), mean_by_class (keys are float labels), mean_by_type and
        abs_mean_by_type. roc_auc (of the labels +1 and −1) is about the training rows. A column held_out gives
        held_out_words (n_samples, correlation, correlation_interval, roc_auc), about the rows whose encoded words do
        not occur in the training split; undefined numbers are None. Neutral rows give neutral_mean_by_type; source_id
        gives mean_by_feature_class and label_value_to_class_name (labels that belong to one class only). Means by class
        leave neutral types out.

        min, max, q1, q3, std (of the population) and n, each with `_by_class` and `_by_feature_class`, have the keys of
        the means. mean_by_target is class → word → mean, mean_by_eval_group the mean of each transition ("A→B"; "A
        (identity)" where a word is its own alternative) and of each type of neutral rows; training_rows counts the
        training rows. A column data_split with several splits gives split_generalization: correlation_by_split,
        mean_by_split, agreement (mean, worst), and comparisons of two splits each, with the shift of a class's mean,
        the agreement `1 − |μa − μb| / (|μa| + |μb|)`, and the shift in standard deviations.

        correlation_interval, mean_by_class_interval and mean_by_feature_class_interval (the latter two with the keys of
        the means) are bootstrap intervals: low, high, level, n_resamples; or None, not estimable, where nothing
        varies, as with one text or equal encodings. Texts are drawn with replacement, each with all its rows; a text
        is input_text with the factual word in its place. Without input_text each row is a text of its own.

    Raises:
        TypeError: n_resamples is no whole number.
        ValueError: The frame is empty, lacks a column, holds a value that is not finite, has only neutral
            rows, fewer than two other rows, or only one label among them; the boundaries are out of order; or
            n_resamples is below 0.
    """
    require_whole("n_resamples", n_resamples, 0)
    _check(df, neg_boundary, pos_boundary)
    boundaries = {"neg_boundary": neg_boundary, "pos_boundary": pos_boundary, "neutral_boundary": neutral_boundary}
    encoded = df["encoded"].to_numpy(np.float64)
    label = df["label"].to_numpy(np.float64)
    kind = df["type"].astype(str)
    neutral = kind.str.startswith("neutral").to_numpy(bool)
    training = ~neutral
    _check_training(label[training], len(df))

    ternary = np.where(encoded >= pos_boundary, 1.0, np.where(encoded <= neg_boundary, -1.0, 0.0))
    binary = np.where(encoded >= neutral_boundary, 1.0, -1.0)
    target = training & (label != 0)
    values = pd.Series(encoded)

    def score(rows: NDArray[np.bool_], predicted: Floats) -> dict[str, float]:
        return {
            "correlation": _pearson(encoded[rows], label[rows]),
            "accuracy": accuracy_score(label[rows], predicted[rows]),
        }

    training_only = score(training, ternary)
    metrics = EncoderResult(
        n_samples=len(df), training_rows=int(training.sum()), sample_counts={"by_type": _counts(kind)},
        all_data=score(np.ones(len(df), dtype=bool), ternary), training_only=training_only,
        target_classes_only=score(target, binary), boundaries=boundaries, correlation=training_only["correlation"],
        roc_auc=roc_auc(encoded[training], label[training]),
        mean_by_class={float(key): value for key, value in _means(values[training], label[training]).items()},
        mean_by_type=_means(values, kind.to_numpy()), abs_mean_by_type=_means(values.abs(), kind.to_numpy()),
    )  # fmt: skip
    texts = text_numbers(df)
    if n_resamples:
        own = texts[training]
        metrics["correlation_interval"] = correlation_interval(
            encoded[training], label[training], texts=own, n_resamples=n_resamples
        )
        means = _mean_intervals(encoded[training], label[training], own, n_resamples)
        metrics["mean_by_class_interval"] = {float(key): interval for key, interval in means.items()}
    if "held_out" in df.columns:
        held_out = training & df["held_out"].to_numpy(bool)
        metrics["held_out_words"] = _held_out(encoded[held_out], label[held_out], texts[held_out], n_resamples)
    metrics |= spread(encoded[training], label[training], "class") | group_means(df, neutral)
    if DATA_SPLIT in df.columns and (compared := split_generalization(df[training])) is not None:
        metrics["split_generalization"] = compared
    if neutral.any():
        metrics["neutral_mean_by_type"] = _means(values[neutral], kind.to_numpy()[neutral])
    if "source_id" in df.columns:
        source = df["source_id"][training]
        _add_feature_classes(metrics, values[training], label[training], source, texts[training], n_resamples)
    return metrics


def get_model_metrics(
    csv_path: str | Path, *, use_cache: bool | None = None, neg_boundary: float = -0.5, pos_boundary: float = 0.5,
    neutral_boundary: float = 0.0,
) -> dict[str, Any]:  # fmt: skip
    """The metrics of a file of encodings, kept in a JSON file beside the file.

    The boundaries are those of `get_encoder_metrics_from_dataframe`.

    Args:
        csv_path: A file that `evaluate_encoder` wrote, or any CSV file with encoded, label and type.
        use_cache: False always computes the metrics. Otherwise metrics of the same encodings and boundaries are read.

    Returns:
        The dict that `get_encoder_metrics_from_dataframe` returns.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file holds no encodings that can be measured.
    """
    path = Path(csv_path)
    if not path.is_file():
        raise FileNotFoundError(f"There are no encodings in {path}: evaluate_encoder() writes them.")
    asked: Any = {"neg_boundary": neg_boundary, "pos_boundary": pos_boundary, "neutral_boundary": neutral_boundary}
    kept = kept_beside(path)
    if use_cache is not False and kept.get("boundaries") == asked:
        return restored(kept)
    frame = read_frame(path)
    try:
        metrics = get_encoder_metrics_from_dataframe(frame, **asked)
    except (TypeError, ValueError) as error:
        raise ValueError(f"The encodings in {path} cannot be measured: {error}") from error
    write_metrics(path, frame, metrics, kept.get(FINGERPRINT))
    return metrics


def correlation_interval(
    encoded: Floats, label: Floats, *, texts: Groups | None = None, n_resamples: int = N_RESAMPLES,
    level: float = LEVEL, seed: int = SEED,
) -> dict[str, Any] | None:  # fmt: skip
    """A percentile bootstrap interval of the Pearson correlation of `encoded` and `label`, both of shape (n,).

    Args:
        encoded: The encodings.
        label: The labels.
        texts: The text of each row, or another value that is equal for rows that belong together: texts are drawn with
            replacement, each with all its rows. Default: each row is a text of its own.
        n_resamples: The number of resamples; resamples with a constant column are left out.
        level: The share of the resamples within the interval.
        seed: The seed of the resamples.

    Returns:
        low, high, level, n_resamples (the number of resamples that count); None, not estimable, if no resample has a
        correlation, or if all have the same, as with one text or with encodings that are equal in each class.
    """
    resampled = _resampled(encoded, label, range(encoded.size) if texts is None else texts, n_resamples, seed)
    return None if resampled is None else _percentiles(resampled, level)


def correlation_interval_of_seeds(frames: Sequence[pd.DataFrame], aggregate: str = "mean") -> dict[str, Any] | None:
    """A percentile bootstrap interval of the mean or median correlation of several seeds, over seeds and texts.

    In each resample texts are drawn with replacement, the same for all seeds that have the same, and seeds are drawn
    with replacement. The frames of the seeds have the same rows in the same order, or other texts; neutral rows do not
    count. See `correlation_interval`; of another aggregate than mean and median there is no interval, None.
    """
    if aggregate not in ("mean", "median"):
        return None
    middle: Any = np.mean if aggregate == "mean" else np.median
    own = [frame[~frame["type"].astype(str).str.startswith("neutral")] for frame in frames]
    found = []
    for frame in own:
        encoded, label = (frame[name].to_numpy(np.float64) for name in ("encoded", "label"))
        resampled = _resampled(encoded, label, text_numbers(frame), N_RESAMPLES, SEED)
        if resampled is None:
            return None
        found.append(resampled)
    correlations = np.stack(found)
    drawn = np.random.default_rng(SEED).integers(0, len(own), correlations.T.shape).T
    return _percentiles(middle(np.take_along_axis(correlations, drawn, axis=0), axis=0), LEVEL)


def roc_auc(encoded: Floats, label: Floats) -> float | None:
    """The probability that a row of label +1 is encoded higher than a row of label −1; ties count half.

    This is the rank statistic of Mann and Whitney, (R₊ − n₊(n₊ + 1)/2) / (n₊ n₋), where R₊ is the sum of the mid-ranks
    of label +1: a number in [0, 1], or None unless both labels occur.
    """
    target = label != 0
    positive = label[target] > 0
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not n_positive or not n_negative:
        return None
    ranks = pd.Series(encoded[target]).rank().to_numpy()
    return float((ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def text_numbers(df: pd.DataFrame) -> NDArray[np.int64]:
    """The text of each row (the masked text with its factual word) as a number; a row without a text has its own."""
    if "input_text" not in df.columns:
        return np.arange(len(df))
    words = df["factual"] if "factual" in df.columns else [None] * len(df)
    filled: list[Hashable] = []
    for row, (text, word) in enumerate(zip(df["input_text"], words, strict=True)):
        known = text.replace(PLACEHOLDER, word) if isinstance(text, str) and isinstance(word, str) else text
        filled.append(known if isinstance(known, str) else row)
    return numbers_of_groups(filled)


def _held_out(encoded: Floats, label: Floats, texts: NDArray[np.int64], n_resamples: int) -> dict[str, Any]:
    defined = encoded.size > 1 and np.unique(label).size > 1
    return {
        "n_samples": int(encoded.size),
        "correlation": _pearson(encoded, label) if defined else None,
        "correlation_interval": correlation_interval(encoded, label, texts=texts, n_resamples=n_resamples),
        "roc_auc": roc_auc(encoded, label),
    }


def _add_feature_classes(
    metrics: dict[str, Any], encoded: pd.Series, label: Floats, source: pd.Series, texts: NDArray[np.int64],
    n_resamples: int,
) -> None:  # fmt: skip
    known = source.notna().to_numpy(bool)
    if not known.any():
        return
    classes = source[known].astype(str).to_numpy()
    metrics["sample_counts"]["training_by_feature_class"] = _counts(pd.Series(classes))
    metrics["mean_by_feature_class"] = _means(encoded[known], classes)
    metrics |= spread(encoded[known].to_numpy(), classes, "feature_class")
    if n_resamples:
        own = encoded[known].to_numpy()
        metrics["mean_by_feature_class_interval"] = _mean_intervals(own, classes, texts[known], n_resamples)
    names = pd.DataFrame({"label": label[known], "name": classes}).drop_duplicates()
    unique = names.drop_duplicates("label", keep=False)
    metrics["label_value_to_class_name"] = dict(zip(unique["label"].tolist(), unique["name"], strict=True))


def _pearson(x: Floats, y: Floats) -> float:
    # A constant column is recognised by its values: the rounding error of a mean would pass for variance.
    if x.size < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    dx, dy = _scaled(x), _scaled(y)
    return float(np.clip(dx @ dy / np.sqrt((dx @ dx) * (dy @ dy)), -1.0, 1.0))


def _scaled(values: Floats) -> Floats:
    """Values around 0, of which the largest is 1: their squares do not underflow, and sums do not lose digits."""
    centred: Floats = values - values.mean()
    return centred / np.abs(centred).max()


def _resampled(encoded: Floats, label: Floats, texts: Groups, n_resamples: int, seed: int) -> Floats | None:
    """The correlation in each resample of the texts; None where a column is constant."""
    if encoded.size < 2 or np.ptp(encoded) == 0 or np.ptp(label) == 0:
        return None
    x, y = _scaled(encoded), _scaled(label)
    found = [_correlations(x, y, weights) for weights in weight_chunks(texts, n_resamples, seed)]
    return np.concatenate(found) if found else np.zeros(0)


def _percentiles(correlations: Floats, level: float) -> dict[str, Any] | None:
    """The interval of the correlations that are known; None where they do not vary."""
    known = correlations[np.isfinite(correlations)]
    if not known.size or np.ptp(known) <= EQUAL:
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return _interval(float(low), float(high), level, int(known.size))


def _means(values: pd.Series, groups: NDArray[Any]) -> dict[Any, float]:
    return {key: float(mean) for key, mean in values.groupby(groups).mean().items()}


def _mean_intervals(
    values: Floats, groups: NDArray[Any], texts: NDArray[np.int64], n_resamples: int
) -> dict[Any, dict[str, Any] | None]:
    """Group → the interval of the mean of its rows, where the texts of the group are resampled; None: not estimable."""
    found = {}
    # The order is that of `_means`.
    for key in sorted(set(groups.tolist())):
        own = groups == key
        ends = interval_of_mean(values[own], resampled_weights(texts[own], n_resamples))
        found[key] = None if ends is None else _interval(*ends, LEVEL, n_resamples)
    return found


def _interval(low: float, high: float, level: float, n_resamples: int) -> dict[str, Any]:
    return {"low": low, "high": high, "level": level, "n_resamples": n_resamples}


def _counts(values: pd.Series) -> dict[str, int]:
    return {str(key): int(count) for key, count in values.value_counts(sort=False).items()}


def _require_columns(df: pd.DataFrame, columns: tuple[str, ...]) -> None:
    missing = [column for column in columns if column not in df.columns]
    if missing:
        raise ValueError(
            f"The encoder frame lacks column(s) {missing}; it has {list(df.columns)}. "
            "Pass the frame that evaluate_encoder(return_df=True) returns under 'encoder_df'."
        )


def _check(df: pd.DataFrame, neg_boundary: float, pos_boundary: float) -> None:
    if not neg_boundary <= pos_boundary:
        raise ValueError(
            f"neg_boundary ({neg_boundary}) must not exceed pos_boundary ({pos_boundary}): "
            "encodings between the two count as 0."
        )
    if df.empty:
        raise ValueError("The encoder frame is empty: no example was encoded. Check the split and max_size.")
    _require_columns(df, ("encoded", "label", "type"))
    for column in ("encoded", "label"):
        broken = int((~np.isfinite(df[column].to_numpy(np.float64))).sum())
        if broken:
            raise ValueError(
                f"{broken} of {len(df)} rows have a value in '{column}' that is not finite; "
                "if these are encodings, training has probably diverged: lower the learning rate."
            )


def _check_training(labels: Floats, n_rows: int) -> None:
    if labels.size == 0:
        raise ValueError(
            f"All encoder eval data is neutral ({n_rows} rows): nothing to correlate. "
            "Add rows of the target classes, with a type such as 'training'."
        )
    if labels.size < 2:
        raise ValueError(
            f"A correlation needs at least 2 non-neutral rows, got {labels.size}: "
            "evaluate a larger split, or raise max_size."
        )
    if np.unique(labels).size < 2:
        raise ValueError(
            f"The non-neutral rows hold only one label class ({labels[0]:g}): nothing to tell apart; "
            "evaluate rows of both target classes."
        )


def _correlations(x: Floats, y: Floats, weights: Weights) -> Floats:
    """The correlation of each resample, whose rows count as often as `weights` (resamples, n) says.

    NaN stands where a column is constant.
    """
    drawn = weights > 0
    constant = np.zeros(len(weights), bool)
    counts = weights.astype(np.float64)
    total = counts.sum(axis=1, keepdims=True)
    centred = []
    for values in (x, y):
        # A constant column is recognised by its values: the rounding error of a mean would pass for variance.
        high, low = np.where(drawn, values, -np.inf).max(axis=1), np.where(drawn, values, np.inf).min(axis=1)
        constant |= high == low
        centred.append(values - (counts @ values)[:, None] / total)
    a, b = centred
    squares = np.einsum("ij,ij,ij->i", counts, a, a) * np.einsum("ij,ij,ij->i", counts, b, b)
    products = np.einsum("ij,ij,ij->i", counts, a, b)
    undefined = constant | (squares == 0)
    return np.where(undefined, np.nan, np.clip(products / np.sqrt(np.where(undefined, 1.0, squares)), -1.0, 1.0))
