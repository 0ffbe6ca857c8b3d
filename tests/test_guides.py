"""The Python of the guides runs as written: start and find on the demo model, the others on a tiny model.

The demo model gets fewer texts than the guides say.
"""

import contextlib
import io
import re
import shlex
from pathlib import Path

import click
import pytest
from documents import DOCS, README, fenced, python_blocks
from test_caching import NEUTRAL, base, rows  # noqa: F401 - base is a fixture

from gradiend import (
    TextPredictionTrainer,
    TrainingArguments,
    plot_topk_overlap_heatmap,
    plot_topk_overlap_venn,
)
from gradiend.cli._commands import app
from gradiend.demo import model_path, sentences

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


def whole(name: str) -> list[str]:
    """The Python of a guide, block by block, or in one piece where later blocks use names of earlier ones."""
    blocks = python_blocks(DOCS / name)
    return ["\n".join(blocks)] if name == "compare.md" else blocks


def run(code: str, names: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    monkeypatch.chdir(tmp_path)
    # Trainings of a guide do not replace that of the fixture.
    known = {**names, "args": names["args"].replace(experiment_dir=str(tmp_path / "own"))}
    exec(compile(code.replace("bert-base-cased", names["model"]), "guide", "exec"), known)
    return known


def with_fewer_texts(code: str) -> str:
    """The code of start.md with less to measure; all else is as written."""
    return code.replace("sentences(1500)", "sentences(700)").replace("max_size=200", "max_size=80")


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """The folder in which start.md and then find.md have run, what they printed, and their names."""
    folder, names, printed = tmp_path_factory.mktemp("start"), {}, io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.chdir(folder)
        for page in ("start.md", "find.md"):
            exec(compile(with_fewer_texts("".join(python_blocks(DOCS / page))), page, "exec"), names)
    return folder, printed.getvalue(), names


def test_the_first_result(started):
    folder, printed, names = started
    assert names["encoder"]["correlation"] > 0.95
    assert names["results"]["3PL"]["value"] > 2 * names["results"]["3PL"]["base_value"]
    assert (folder / "runs" / "start" / "encoder_analysis.png").is_file()
    assert (folder / "says-they" / "config.json").is_file()
    before, after = re.findall(r"^\[\('(\w+)', [\d.]+\)", printed, re.MULTILINE)
    assert before in ("he", "she", "it")
    assert after == "they"


def test_the_guide_to_finding(started, monkeypatch):
    folder, printed, names = started
    monkeypatch.chdir(folder)
    assert "learning_rate=" in printed
    assert set(names["models"]) == {0, 1}
    assert float(printed.strip().splitlines()[-1]) > 0.5
    assert 0 < len(names["pruned"].get_model()) < 0.1 * len(names["trainer"].get_model())
    assert names["pruned"].evaluate_encoder()["correlation"] > 0.9


def test_what_responsible_use_puts_on_a_model_card(started, monkeypatch):
    folder, _, names = started
    monkeypatch.chdir(folder)
    known = {}
    exec("".join(python_blocks(DOCS / "responsible_use.md")), known)
    assert str(names["model_path"]()) in known["card"]
    assert "strengthen 3PL:" in known["card"]
    assert not [name for name in vars(known["record"]) if getattr(known["record"], name) is None]


def test_the_guide_to_the_command(tmp_path, monkeypatch):
    text = (DOCS / "command_line.md").read_text(encoding="utf-8")
    (short,) = re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    Path("novels.txt").write_text("\n".join(sentences(250)), encoding="utf-8")
    # One goal: to search for three, and for what else they move, takes half a minute.
    short = (
        short.replace("bert-base-cased", str(model_path()))
        + "evaluate: {side_effects: null, decoder: {strengthen: [plural]}}\n"
    )
    Path("experiment.yaml").write_text(short, encoding="utf-8")
    known = {}
    exec("".join(python_blocks(DOCS / "command_line.md")), known)
    assert known["run"].metrics["correlation"]["value"] > 0.9
    assert Path(known["run"].report_path).is_file()


GUIDES = ("measure.md", "plots.md", "compare.md")


@pytest.mark.parametrize("code", [code for name in GUIDES for code in whole(name)])
def test_the_guides_to_measuring_and_plots(code, names, tmp_path, monkeypatch):
    run(code, names, tmp_path, monkeypatch)


def test_the_guide_to_debiasing(started, monkeypatch):
    """On the demo model, which can be balanced; a tiny random model cannot."""
    folder, _, names = started
    monkeypatch.chdir(folder)
    known = dict(names)
    for code in python_blocks(DOCS / "debias.md"):
        exec(compile(code, "debias.md", "exec"), known)
    assert (folder / "prefers-neither" / "config.json").is_file()


def test_the_guide_to_rewriting(names, tmp_path, monkeypatch):
    weak = next(call for call in calls("rewrite.md") if call.startswith("weak = "))
    known = run("\n".join([weak, *python_blocks(DOCS / "rewrite.md")]), names, tmp_path, monkeypatch)
    assert (tmp_path / "says-they" / "gradiend_rewrite.json").is_file()
    assert Path(known["path"]).is_file()


@pytest.mark.parametrize("call", sorted({call for name in GUIDES for call in calls(name)}))
def test_calls_in_the_text(call, names, tmp_path, monkeypatch):
    run("dec = trainer.evaluate_decoder()\n" * ("=dec" in call) + call, names, tmp_path, monkeypatch)


def shell_lines() -> list[str]:
    """The lines of README and guides that call the command."""
    blocks = [block for page in (README, *sorted(DOCS.glob("*.md"))) for block in fenced(page, "sh")]
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return [line for line in dict.fromkeys(lines) if line.startswith("gradiend ")]


@pytest.mark.parametrize("line", shell_lines())
def test_the_command_knows_what_the_guides_type(line):
    name, *words = shlex.split(line, comments=True)[1:]
    command = app.get_command(click.Context(app), name)
    assert command is not None
    context = click.Context(command, token_normalize_func=app.context_settings["token_normalize_func"])
    command.make_parser(context).parse_args(list(words))
