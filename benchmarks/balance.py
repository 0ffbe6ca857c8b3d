"""A model that prefers neither he nor she: the goal "balance" on sentences about occupations.

    python benchmarks/balance.py MODEL ROWS NEUTRAL [--three]

ROWS is a CSV of he and she (masked, label, label_class, split), NEUTRAL one of neutral texts. A GRADIEND is trained
(1 % of the entries), a rewrite is chosen on sentences about half of the occupations, and judged on sentences about the
other half and on neutral texts that the choice has not seen. Printed for the base model and the rewrite: the measures
of docs/debias.md, P of the right word on the test rows, and the likelihood ratio. With --three, *they* is a third
class.
"""

from __future__ import annotations

import argparse
import tempfile
from typing import Any

import pandas as pd

from gradiend import PrePruneConfig, TextPredictionTrainer, TrainingArguments
from gradiend.evaluator import LikelihoodPolicy

OCCUPATIONS = [
    "nurse",
    "engineer",
    "teacher",
    "doctor",
    "cook",
    "lawyer",
    "farmer",
    "secretary",
    "soldier",
    "baker",
    "painter",
    "librarian",
    "pilot",
    "cleaner",
    "banker",
    "writer",
    "driver",
    "dancer",
    "judge",
    "servant",
    "sailor",
    "tailor",
    "clerk",
    "musician",
    "gardener",
    "surgeon",
    "actor",
    "merchant",
    "scientist",
    "singer",
    "carpenter",
    "student",
    "guard",
    "captain",
    "weaver",
    "poet",
]
PREDICATES = (
    "said that [MASK] had seen it", "knew that [MASK] could do it", "thought that [MASK] would be late",
    "was sure that [MASK] had lost it",
)  # fmt: skip


def sentences(occupations: list[str]) -> list[str]:
    """One sentence an occupation."""
    return [f"The {name} {PREDICATES[number % len(PREDICATES)]}." for number, name in enumerate(occupations)]


def show(name: str, entry: dict[str, Any]) -> None:
    """Print one line of measures."""
    found = entry["balance"]
    measures = "  ".join(
        f"{key} {found[key]:.3f} [{found['interval'][key][0]:.3f}, {found['interval'][key][1]:.3f}]"
        for key in ("gap", "difference", "sum", "balance")
    )
    right = "  ".join(f"P({key}) on its rows {value:.3f}" for key, value in entry["probs_factual"].items())
    ratio = entry["lms"].get("likelihood_ratio")
    kept = "" if ratio is None else f"  likelihood {ratio['value']:.4f} ± {ratio['standard_error']:.4f}"
    print(f"{name:32} {measures}  {right}{kept}", flush=True)


def main() -> None:
    """Train, choose, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("rows")
    parser.add_argument("neutral")
    parser.add_argument("--three", action="store_true", help="also they")
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    given = parser.parse_args()
    words = {"masculine": ["he"], "feminine": ["she"], **({"they": ["they"]} if given.three else {})}
    neutral = pd.read_csv(given.neutral)
    own, fresh = neutral.iloc[::2].head(900), neutral.iloc[1::2].head(900)
    chosen_by, judged_by = sentences(OCCUPATIONS[::2]), sentences(OCCUPATIONS[1::2])
    with tempfile.TemporaryDirectory() as directory:
        trainer = TextPredictionTrainer(
            model=given.model, data=given.rows, target_classes=["masculine", "feminine"], decoder_eval_targets=words,
            decoder_eval_restrict_to_target_classes=not given.three, eval_neutral_data=own,
            args=TrainingArguments(
                experiment_dir=directory, max_steps=given.steps, learning_rate=given.learning_rate, train_batch_size=16,
                max_seeds=1, eval_steps=given.steps, encoder_eval_train_max_size=100,
                decoder_eval_max_size_training_like=100, pre_prune_config=PrePruneConfig(n_samples=64, topk=0.01),
            ),
        )  # fmt: skip
        correlation = trainer.train().evaluate_encoder(max_size=100)["correlation"]
        print(f"{given.model}: correlation {correlation:.3f}")
        results = trainer.evaluate_decoder(lrs="auto", target_class="balance", balance_texts=chosen_by)
        grid, best = results["grid"], results["balance"]
        show("base, sentences of the choice", grid["base"])
        if best["learning_rate"] is None:
            print(best["reason"])
            return
        point = best["feature_factor"], best["learning_rate"]
        show(f"factor {point[0]:g}, lr {point[1]:g}", grid[point])
        print(f"{len(grid) - 1} rewrites measured. {best['why']}")
        judged = trainer.evaluate_decoder(
            lrs=[point[1]], feature_factors=[point[0]], target_class="balance", balance_texts=judged_by,
            neutral_df=fresh, selector=LikelihoodPolicy(0.5, 1e-3), use_cache=False,
        )["grid"]  # fmt: skip
        show("base, other occupations", judged["base"])
        show("rewritten, fresh neutral texts", judged[point])
        before, after = (judged[key]["balance"]["difference"] for key in ("base", point))
        print(f"mean difference on the other occupations: {after / before:.3f} of the base model's")


if __name__ == "__main__":
    main()
