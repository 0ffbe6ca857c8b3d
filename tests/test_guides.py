"""The Python of the guides on evaluation, plots and rewriting runs as written, on a tiny model."""

import re
from pathlib import Path

import pytest
from documents import DOCS, python_blocks
from test_caching import NEUTRAL, base, rows  # noqa: F401 - base is a fixture

from gradiend import (
    TextPredictionTrainer,
    TrainingArguments,
    plot_topk_overlap_heatmap,
    plot_topk_overlap_venn,
)

pytest.importorskip("matplotlib_venn")
pytest.importorskip("plotly")

ARGUMENTS = {
    "train_batch_size": 4,
    "max_steps": 10,
    "eval_steps": 10,
    "learning_rate": 1e-2,
    "decoder_eval_lrs": [1e-3, 1e-2],
}


@pytest.fixture(scope="module")
def names(base, tmp_path_factory):  # noqa: F811
    """What the guides call `trainer`, `args`, `model`, `rows`, and what was imported before."""
    data = rows().replace({"label_class": {"one": "3SG", "many": "3PL"}})
    args = TrainingArguments(experiment_dir=str(tmp_path_factory.mktemp("run")), **ARGUMENTS)
    seeds = args.replace(max_seeds=3, min_convergent_seeds=None, keep_seed_runs=True)
    trainer = TextPredictionTrainer(
        base, data=data, eval_neutral_data=NEUTRAL, target_classes=["3SG", "3PL"], args=seeds
    )
    trainer.train()
    return {
        "TextPredictionTrainer": TextPredictionTrainer,
        "plot_topk_overlap_heatmap": plot_topk_overlap_heatmap,
        "plot_topk_overlap_venn": plot_topk_overlap_venn,
        "trainer": trainer, "args": args.replace(max_seeds=1), "model": base, "rows": data,
        "correlations": dict.fromkeys(range(3), 0.9),
    }  # fmt: skip


def calls(name: str) -> list[str]:
    """Calls of the trainer between backticks in the text, in which nothing is left out."""
    text = re.sub(r"^ *```.*?^ *```", "", (DOCS / name).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    found = re.findall(r"`((?:\w+ = )?trainer\.\w+\([^`]*\)(?:\[[^`]*\])?)`", text)
    return [call for call in dict.fromkeys(found) if "…" not in call]


def run(code: str, names: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    monkeypatch.chdir(tmp_path)
    known = dict(names)
    exec(compile(code.replace("bert-base-cased", names["model"]), "guide", "exec"), known)
    return known


@pytest.mark.parametrize("code", python_blocks(DOCS / "evaluation.md"))
def test_the_evaluation_guide(code, names, tmp_path, monkeypatch):
    run(code, names, tmp_path, monkeypatch)


@pytest.mark.parametrize("code", python_blocks(DOCS / "plots.md"))
def test_the_guide_to_plots(code, names, tmp_path, monkeypatch):
    run(code, names, tmp_path, monkeypatch)


def test_the_guide_to_rewriting(names, tmp_path, monkeypatch):
    weak = next(call for call in calls("rewriting.md") if call.startswith("weak = "))
    known = run("\n".join([weak, *python_blocks(DOCS / "rewriting.md")]), names, tmp_path, monkeypatch)
    assert (tmp_path / "says-they" / "gradiend_rewrite.json").is_file()
    assert Path(known["path"]).is_file()


@pytest.mark.parametrize("call", sorted({call for name in ("evaluation.md", "plots.md") for call in calls(name)}))
def test_calls_in_the_text(call, names, tmp_path, monkeypatch):
    run("dec = trainer.evaluate_decoder()\n" * ("=dec" in call) + call, names, tmp_path, monkeypatch)
