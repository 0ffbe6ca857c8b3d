"""A whole experiment: the same numbers by file, flags and Python; done once; stopped and gone on; recorded."""

import dataclasses
import json
import logging
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from gradiend import TextFilterConfig, TextPredictionDataCreator, TextPredictionTrainer, TrainingArguments
from gradiend.cli import main
from gradiend.cli._commands import app
from gradiend.cli._output import _told
from gradiend.demo import model_path, sentences
from gradiend.experiment import (
    ExperimentRun,
    describe,
    plan_run,
    read_experiment,
    read_record,
    run_experiment,
)
from gradiend.model import read_rewrite_record
from gradiend.model._rewrite_files import write_rewrite_record

CLASSES = {"3SG": ["he", "she", "it"], "3PL": ["they"]}
BALANCE = ["That evening [MASK] went home.", "In the end [MASK] won.", "At noon [MASK] had a rest."]
ARGS = {
    "train_batch_size": 8, "max_steps": 16, "learning_rate": 1e-3, "eval_steps": 8, "max_seeds": 1,
    "encoder_eval_train_max_size": 10,
}  # fmt: skip
FLAGS = {
    "model": str(model_path()), "corpus.feature_targets": json.dumps(CLASSES), "corpus.max_size_per_class": "50",
    "corpus.neutral_max_size": "20", "evaluate.side_effects.top_k": "2",
    "evaluate.side_effects.max_size_neutral": "10",
    "data.balance_texts": json.dumps(BALANCE), "rewrite": "{}", "delta": "{}",
    "report.sentences": '["Then [MASK] began to sing."]',
    **{f"train.{name}": str(value) for name, value in ARGS.items()},
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with text, and the file of an experiment on it."""
    place = tmp_path_factory.mktemp("experiment")
    (place / "text.txt").write_text("\n".join(sentences(600)))
    (place / "x.yaml").write_text(
        f"""
model: {model_path()}
experiment_dir: {place / "run"}
corpus:
  base_data: {place / "text.txt"}
  feature_targets: {{3SG: [he, she, it], 3PL: [they]}}
  max_size_per_class: 50
  neutral_max_size: 20
data:
  balance_texts: {json.dumps(BALANCE)}
train: {json.dumps(ARGS)}
evaluate: {{side_effects: {{top_k: 2, max_size_neutral: 10}}}}
rewrite: {{}}
delta: {{}}
report: {{sentences: ["Then [MASK] began to sing."]}}
"""
    )
    return place


@pytest.fixture(scope="module")
def run(folder):
    return run_experiment(read_experiment(folder / "x.yaml"), command="gradiend run x.yaml")


def by_command(*words):
    """Exit code of a command that runs in this process."""
    try:
        app.main(args=[str(word) for word in words], prog_name="gradiend", standalone_mode=False)
    except SystemExit as end:
        return end.code
    return 0


def in_process(*words):
    """The command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "gradiend", *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        # A shell starts jobs in the background with Ctrl-C ignored, and processes of these inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )  # fmt: skip


def weights(path):
    return load_file(path / "model.safetensors")


# Numbers


def test_everything_is_where_it_says(run):
    files = (
        "data/training.csv data/neutral.csv model/model.safetensors training_convergence.png encoder_analysis.png "
        "probability_shifts.png balance.png run.json report.html"
    )
    assert [name for name in files.split() if not (run.directory / name).is_file()] == []
    assert run.rewritten.keys() == run.deltas.keys() == {"3SG", "3PL", "balance"}
    assert all((Path(path) / "config.json").is_file() for path in run.rewritten.values())
    assert all(Path(path).is_file() for path in run.deltas.values())
    metrics = run.metrics
    assert metrics["converged"]
    assert metrics["correlation"]["value"] > 0.9
    assert metrics["goals"]["3SG"]["value"] > 3 * metrics["goals"]["3SG"]["base"]


def test_python_gives_the_same_numbers(run, folder, tmp_path):
    creator = TextPredictionDataCreator(
        str(folder / "text.txt"), feature_targets=[TextFilterConfig(words, id=name) for name, words in CLASSES.items()]
    )
    rows = creator.generate_training_data(max_size_per_class=50)
    trainer = TextPredictionTrainer(
        str(model_path()), data=rows, eval_neutral_data=creator.generate_neutral_data(max_size=20),
        target_classes=list(CLASSES), balance_texts=BALANCE,
        args=TrainingArguments(experiment_dir=str(tmp_path), **ARGS),
    )  # fmt: skip
    trainer.train()
    encoder = trainer.evaluate_encoder()
    decoder = trainer.evaluate_decoder(lrs="auto", target_class=[*CLASSES, "balance"])
    found = run.metrics
    assert encoder["correlation"] == found["correlation"]["value"]
    assert encoder["mean_by_feature_class"] == found["mean_by_class"]
    for goal, entry in found["goals"].items():
        assert {name: decoder[goal][name] for name in ("value", "learning_rate", "lms")} == {
            name: entry[name] for name in ("value", "learning_rate", "lms")
        }
    rewritten = trainer.rewrite_base_model(decoder, strengthen="3SG")
    own = rewritten.state_dict()
    saved = weights(Path(run.rewritten["3SG"]))
    assert all(torch.equal(own[name], value) for name, value in saved.items())


def test_flags_and_a_record_give_the_same_numbers(run, folder, tmp_path, capsys):
    flags = [word for name, text in FLAGS.items() for word in (f"--{name.replace('_', '-')}", text)]
    flags += ["--corpus.base-data", folder / "text.txt", "--experiment-dir", tmp_path]
    assert by_command("run", *flags, "--json", "--quiet") == 0
    printed = json.loads(capsys.readouterr().out)
    expected = json.loads(run.record.path.read_text())["metrics"]
    assert printed["metrics"] == expected
    # Nothing that a number depends on differs between the flags and the record of the file: all is found done.
    again = run_experiment(read_experiment(run.record.path, {"experiment_dir": str(tmp_path)}))
    content = json.loads(again.record.path.read_text())
    assert content["metrics"] == expected
    steps = "train evaluate_encoder evaluate_decoder side_effects rewrite delta".split()
    assert all(content["phases"][step]["reused"] for step in steps)


# Done once, stopped, gone on


def test_what_is_done_is_not_done_again(run, folder, capfd):
    kept = [*(run.directory / "model").iterdir(), *(run.directory / "decoder").iterdir()]
    kept += [path for place in run.rewritten.values() for path in Path(place).iterdir()] + list(
        map(Path, run.deltas.values())
    )
    before = {path: path.stat().st_mtime_ns for path in kept}
    assert by_command("run", folder / "x.yaml") == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == before
    out, err = capfd.readouterr()
    parts = "train, evaluate_encoder, evaluate_decoder, side_effects, rewrite, delta"
    assert parts in out.replace("\n", " ").replace("  ", " ")
    assert "holds this rewrite already" in err
    record = read_record(run.directory)
    assert record["metrics"] == json.loads(json.dumps(run.metrics))
    assert record["phases"]["train"]["seconds"] == run.record.content["phases"]["train"]["seconds"]


def test_a_dry_run_says_what_is_done_and_writes_nothing(run, folder, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in run.directory.rglob("*")}
    plan = plan_run(read_experiment(folder / "x.yaml"))
    assert {path: path.stat().st_mtime_ns for path in run.directory.rglob("*")} == before
    assert plan.steps["train"] == f"done: {run.directory / 'model'}"
    assert plan.steps["evaluate"].startswith("encodings done; steps: ")
    assert plan.memory is None
    fresh = plan_run(read_experiment(folder / "x.yaml", {"experiment_dir": str(tmp_path / "new")}))
    assert set(fresh.steps.values()) == {"to do"}
    assert fresh.memory.peak["cpu"] > 2**20
    assert 0 < fresh.seconds < 600
    assert not (tmp_path / "new").exists()
    other = plan_run(read_experiment(folder / "x.yaml", {"train.max_steps": "25"}))
    assert other.steps["train"] == "to do"
    assert other.memory is not None
    assert 0 < other.seconds < 600


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_stopped_run_says_how_to_go_on_and_then_gives_the_same_numbers(run, folder, tmp_path, sent, code):
    words = "run", folder / "x.yaml", "--experiment-dir", tmp_path / "stopped"
    process = in_process(*words)
    for line in process.stderr:
        if "Training a GRADIEND" in line:
            process.send_signal(sent)
            break
    out, err = process.communicate()
    assert process.returncode == code
    assert out == ""
    why = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}[sent]
    assert re.search(rf"Stopped by {why} during train\. .* kept.*\. To go on: gradiend run {folder / 'x.yaml'}", err)
    assert "Traceback" not in err
    if sent == signal.SIGINT:
        assert by_command(*words, "-q") == 0
        expected = json.loads(run.record.path.read_text())["metrics"]
        assert read_record(tmp_path / "stopped")["metrics"] == expected


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"evaluate.decoder.strengthen": "[3SH]"}, r"evaluate.decoder.strengthen must be one of .*Did you mean '3SG'"),
        ({"evaluate.decoder.weaken": "[balance]"}, "evaluate.decoder.weaken must be one of 3SG, 3PL"),
        ({"model": "/no/model"}, "There is no folder /no/model"),
        ({"corpus.base_data": "no.txt"}, "no file or folder 'no.txt'"),
        ({"rewrite.weaken": "[3SG]"}, "rewrite.weaken has '3SG', for which no step is looked for"),
        ({"evaluate.decoder": "null"}, "need evaluate.decoder, which finds the step"),
        ({"data.balance_texts": "null", "evaluate.decoder.strengthen": "[balance]"}, "balance_texts"),
    ],
)
def test_what_later_steps_would_refuse_is_refused_before_the_training(folder, tmp_path, flags, message):
    with pytest.raises((ValueError, OSError), match=message):
        run_experiment(read_experiment(folder / "x.yaml", {"experiment_dir": str(tmp_path), **flags}))
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("flags", [{"model": "/no/model"}, {"corpus.base_data": "no.txt"}])
def test_a_dry_run_looks_for_model_and_text(folder, tmp_path, flags):
    with pytest.raises(OSError, match="There is no f"):
        plan_run(read_experiment(folder / "x.yaml", {"experiment_dir": str(tmp_path / "new"), **flags}))


# What is printed


def test_results_are_json_on_stdout_and_quiet_is_quiet(run, folder, capfd):
    assert by_command("evaluate", folder / "x.yaml", "--json", "--quiet") == 0
    out, err = capfd.readouterr()
    assert json.loads(out)["metrics"]["correlation"] == run.metrics["correlation"]
    assert err == ""


def test_a_training_that_has_not_converged_has_an_exit_code_of_its_own(run, folder, tmp_path, capsys):
    del run
    flags = ["--train.max-steps", "1", "--train.learning-rate", "0", "--experiment-dir", tmp_path]
    assert by_command("train", folder / "x.yaml", *flags, "-q") == 3
    assert "NOT converged" in capsys.readouterr().out


def test_a_goal_without_a_step_is_said(run, folder, tmp_path, capsys):
    del run
    flags = ["--experiment-dir", tmp_path, "--evaluate.decoder.lrs", "[0]", "--train.max-steps", "12"]
    assert by_command("evaluate", folder / "x.yaml", *flags, "-q") == 0
    assert "no step" in capsys.readouterr().out


def test_weakening_is_told_as_the_probability_of_the_class(run, folder, tmp_path, capsys):
    del run
    flags = ["--experiment-dir", tmp_path, "--evaluate.decoder.weaken", "[3SG]", "--evaluate.side-effects", "null"]
    flags += ["--evaluate.decoder.lrs", "[0.01]", "--evaluate.decoder.strengthen", "[balance]"]
    assert by_command("run", folder / "x.yaml", *flags, "-q") == 0
    table = capsys.readouterr().out
    found = read_record(tmp_path)["metrics"]["goals"]["3SG_weaken"]
    before, after = (f"{1 - found[name]:.3f}" for name in ("base", "value"))
    assert re.search(rf"weaken 3SG .* {before} +{after} ", table)
    assert describe(tmp_path)["goal 3SG_weaken"].startswith(f"{before} → {after} ")
    rewritten = describe(tmp_path / "rewritten" / "3SG_weaken")
    assert [rewritten[name] for name in ("goal", "measured", "of", "before")] == [
        "weaken 3SG", 1 - found["value"], "P(3SG) on texts of 3SG", 1 - found["base"]
    ]  # fmt: skip
    assert describe(tmp_path / "deltas" / "balance.safetensors")["goal"] == "balance"
    place = tmp_path / "rewritten" / "3SG_weaken"
    record = read_rewrite_record(place)
    assert record.choice is not None
    write_rewrite_record(place, dataclasses.replace(record, choice=dataclasses.replace(record.choice, facts=None)))
    assert describe(place)["measured"] == 1 - found["value"]
    write_rewrite_record(place, dataclasses.replace(record, choice=dataclasses.replace(record.choice, value=None)))
    assert describe(place)["measured"] is None
    assert "of" not in describe(place)


def test_a_class_whose_name_ends_like_the_key_of_weakening_is_told_as_a_class():
    trainer = SimpleNamespace(target_classes=("he_weaken", "she"), strengthens_on_other_classes=True)
    run = SimpleNamespace(trainer=trainer)
    assert _told(run, "he_weaken") == ("he_weaken", "P(he_weaken) on she texts")
    assert _told(run, "he_weaken_weaken") == ("weaken he_weaken", "P(he_weaken) on he_weaken texts")


def test_the_record_says_how_it_was_made(run):
    record = read_record(run.directory / "run.json")
    assert record["command"]
    assert record["versions"]["torch"] == torch.__version__
    assert record["seeds"] == [0]
    assert record["data"]["rows"]["train"] == {"3SG": 40, "3PL": 40}
    assert record["finished"] >= record["started"]
    assert record["phases"]["train"]["peak_memory_bytes"]["cpu"] > 2**20
    assert Path(record["experiment"]["corpus"]["base_data"]).is_absolute()


@pytest.mark.parametrize(
    ("of", "kind"),
    [("run", "run"), ("run/run.json", "run"), ("run/model", "GRADIEND"), ("run/rewritten/3SG", "rewritten model"),
     ("run/deltas/3SG.safetensors", "delta")],
)  # fmt: skip
def test_info(run, folder, of, kind, capsys):
    assert by_command("info", folder / of, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kind"] == kind
    assert str(model_path()) in (found.get("base model"), found.get("model"))
    del run


def test_info_of_something_else(tmp_path):
    with pytest.raises(ValueError, match=r"is no folder of an experiment \(no run.json, no model/\)"):
        describe(tmp_path)


def test_compare(run, capsys, tmp_path):
    assert by_command("compare", run.directory, run.record.path, "--html", tmp_path / "c.html") == 0
    assert "correlation" in capsys.readouterr().out
    assert "3SG" in (tmp_path / "c.html").read_text()


def test_init_writes_a_file_that_runs_dry_and_keeps_one_that_is_there(tmp_path, capsys):
    rows = tmp_path / "rows.csv"
    rows.write_text("masked,label,label_class,split\n" + "".join(
        f"{text} {i},{word},{name},{split}\n"
        for name, word, text in (("3SG", "he", "Then [MASK] was here"), ("3PL", "they", "Then [MASK] were here"))
        for i, split in enumerate(["train"] * 8 + ["validation"] * 2 + ["test"] * 2)
    ))  # fmt: skip
    file = tmp_path / "new" / "x.yaml"
    words = "--model", model_path(), "--data.data", rows, "--experiment-dir", tmp_path / "run"
    words = *words, "--train.train-batch-size", "4"
    assert by_command("init", file, *words, "--train.learning-rate", "1e-3") == 0
    assert json.loads((file.parent / "experiment.schema.json").read_text())["title"]
    assert by_command("run", file, "--dry-run", "--json") == 0
    plan = json.loads(capsys.readouterr().out.split("\n", 1)[1])
    assert plan["steps"]["data"].startswith("there: train 16")
    with pytest.raises(Exception, match="is there already: choose another name, or replace it with --force"):
        by_command("init", file)


def test_estimate(run, folder, capsys):
    del run
    assert by_command("estimate", folder / "x.yaml", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["peak_memory_bytes"]["cpu"] > 2**20


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_code_for_a_shell(shell, capsys):
    assert by_command("completion", shell) == 0
    assert "_GRADIEND_COMPLETE" in capsys.readouterr().out


def test_a_shell_completes_flags():
    done = subprocess.run(
        [Path(sys.executable).with_name("gradiend")], capture_output=True, text=True, check=True,
        env={**os.environ, "_GRADIEND_COMPLETE": "bash_complete", "COMP_WORDS": "gradiend run --train.max",
             "COMP_CWORD": "2"},
    )  # fmt: skip
    assert "--train.max-steps" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "--train.max-step", "3"), "Did you mean one of: '--train.max-seeds', '--train.max-steps'"),
        (("run", "no.yaml"), "does not exist"),
        (("run",), "Name a file"),
        (("rum",), "No such command 'rum'"),
        (("run", "--train.max-steps", "many"), "model is missing"),
        (("info", "."), "is no folder of an experiment"),
    ],
)
def test_unknown_flags_and_missing_files_are_refused(words, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gradiend", *words])
    with pytest.raises(SystemExit) as end:
        main()
    out, err = capsys.readouterr()
    assert (end.value.code, out) == (1 if words[0] == "info" else 2, "")
    assert message in " ".join(err.split())


# The live view


def test_the_live_view_shows_this_machine_what_there_is(run, folder, tmp_path, caplog):
    again = ExperimentRun(read_experiment(folder / "x.yaml", {"experiment_dir": str(tmp_path), "report": "null"}))
    pages = []
    with again.watched() as live:
        again.make_data()
        live.update()
        changed = again.changed

        def keep():
            changed()
            pages.append(urllib.request.urlopen(live.address).read().decode())

        live.update, again.changed = keep, keep
        again.train()
        again.evaluate()
        asked = urllib.request.Request(live.address, headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(asked)
        address = live.address
    assert address.startswith("http://127.0.0.1:")
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(address)
    assert len(pages) >= 4
    assert "<svg" in pages[0]
    assert len(pages[-1]) > len(pages[0])
    assert not list(tmp_path.glob("*.live.html"))
    # Watching changes no number, and the training is found done without it.
    assert again.metrics["goals"] == run.metrics["goals"]
    with caplog.at_level(logging.INFO):
        assert run_experiment(again.experiment, "train").trainer.reused
