"""The results of evaluations: the documented dicts, which show themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gradiend.evaluator._goals import goal_entries
from gradiend.evaluator._selection import BASE, BaseContext, described_ratio
from gradiend.util import BALANCE, WEAKENED
from gradiend.util._display import UNKNOWN, Result, Table, facts, number, with_interval


class EncoderResult(Result):
    """Metrics of encodings, see `get_encoder_metrics_from_dataframe`."""

    def _tables(self) -> tuple[str, Sequence[Table]]:
        if not self["n_samples"]:
            return "Encoder", [Table("", (), [], "no rows were encoded.")]
        own, neutral = self["target_classes_only"], self.get("neutral_mean_by_type", {})
        held_out, frame = self.get("held_out_words"), self.get("encoder_df")
        known = {
            "correlation": with_interval(self["correlation"], self.get("correlation_interval")),
            "AUC": number(self["roc_auc"]),
            "accuracy on target classes": number(own["accuracy"]),
            "words not trained on": self._held_out(held_out) if held_out and held_out["n_samples"] else None,
            "agreement between splits": self._agreement(),
            "mean of neutral texts": ", ".join(f"{name} {mean:+.2f}" for name, mean in neutral.items()),
            "plot": self.get("plot_path"),
            "frame": None if frame is None else f"{len(frame):,} rows in 'encoder_df'",
        }
        return f"Encoder: {self['n_samples']:,} rows encoded", [facts("", known), self._classes()]

    def _agreement(self) -> str | None:
        found = self.get("split_generalization", {}).get("agreement")
        return None if found is None else f"{number(found['mean'])}, {number(found['worst'])} at worst"

    def _held_out(self, found: Mapping[str, Any]) -> str:
        interval = found["correlation_interval"]
        return f"correlation {with_interval(found['correlation'], interval)}, {found['n_samples']:,} rows"

    def _classes(self) -> Table:
        names, means = "mean_by_feature_class", self.get("mean_by_feature_class")
        labels = {name: label for label, name in self.get("label_value_to_class_name", {}).items()}
        if means is None:
            names, means = "mean_by_class", self["mean_by_class"]
            labels = {label: label for label in means}
        ends = self.get(f"{names}_interval", {})
        counts = self["sample_counts"].get("training_by_feature_class", {})
        rows = [
            [name, number(labels.get(name), "+g"), counts.get(name, ""), with_interval(mean, ends.get(name), "+.2f")]
            for name, mean in sorted(means.items(), key=lambda item: -(labels.get(item[0]) or 0))
        ]
        return Table("", ["class", "label", "rows", "mean encoding"], rows)


class DecoderResult(Result):
    """The chosen rewrites and the grid that was measured, see `DecoderEvaluator.evaluate_decoder`."""

    def _tables(self) -> tuple[str, Sequence[Table]]:
        chosen = {name: one for name, one in goal_entries(self).items() if "learning_rate" in one}
        rows = [self._row(name, one) for name, one in chosen.items()]
        why = ("why", "reason", "note")
        notes = [f"{name}: {one[key]}" for name, one in chosen.items() for key in why if one.get(key)]
        header = ["goal", "measured", "before", "after", "step", "factor", "likelihood kept"]
        n_measured = sum(key != BASE for key in self["grid"])
        paths = self.get("plot_paths") or [self.get("plot_path")]
        last = facts("", {"grid": f"{n_measured} measured rewrites", "plot": ", ".join(str(p) for p in paths if p)})
        return "Decoder: the chosen rewrites", [Table("", header, rows, "\n".join(notes) or "none."), last]

    @staticmethod
    def _row(name: str, one: Mapping[str, Any]) -> list[object]:
        if one["learning_rate"] is None:
            measured = UNKNOWN
        elif name == BALANCE:
            measured = "gap of the classes"
        elif "value_interval" not in one:
            measured = name
        else:
            measured = f"P({name})" if one["strengthen"] else f"1 - P({name.removesuffix(WEAKENED)})"
        base = one.get("base_lms")
        is_known = one.get("likelihood_ratio") is not None or (one.get("lms") is not None and base)
        kept = described_ratio(one, BaseContext(base)) if is_known else UNKNOWN
        before, after = number(one.get("base_value")), number(one["value"])
        return [name, measured, before, after, number(one["learning_rate"], "g"), _factor(one["feature_factor"]), kept]


class EvaluationResult(Result):
    """The results of encoder and decoder together, see `Trainer.evaluate`."""

    def _tables(self) -> tuple[str, Sequence[Table]]:
        tables: list[Table] = []
        for part in ("encoder", "decoder"):
            heading, (first, *rest) = self[part]._tables()
            tables += [replace(first, title=heading), *rest]
        return "Evaluation", tables


def _factor(factor: Any) -> str:
    return ", ".join(format(one, "g") for one in factor) if isinstance(factor, Sequence) else number(factor, "g")
