"""Full disks, read-only folders, folders that go away: what was finished is kept, and the error says how to go on."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import tiny

from gradiend.util._files import read_json, replacing, write_json
from gradiend.util._tensor_files import write_tensors

HERE = Path(__file__).parent
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}"}


def mounts_a_disk():
    return sys.platform == "linux" and subprocess.run(["unshare", "-rm", "true"], check=False).returncode == 0


# Single files


def test_a_folder_that_goes_away_is_named_and_so_is_the_file(tmp_path):
    folder = tmp_path / "run"

    def write():
        with replacing(folder / "a.json") as temporary:
            shutil.rmtree(folder)
            temporary.write_text("1")

    with pytest.raises(OSError, match=r"a\.json could not be written to .*run .*removed while it was in use") as gone:
        write()
    assert gone.value.errno == errno.ENOENT
    assert "Everything that was finished before is kept" in str(gone.value)
    assert not folder.exists()


def test_an_error_of_another_file_stays_as_it_is(tmp_path):
    with pytest.raises(FileNotFoundError, match="other"), replacing(tmp_path / "a.json"):
        (tmp_path / "other").read_text()
    with pytest.raises(RuntimeError, match=r"^mine$"), replacing(tmp_path / "a.json"):
        raise RuntimeError("mine")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="only root can be another user")
def test_a_folder_of_somebody_else_is_an_error_that_says_so():
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        child = os.fork()
        if child == 0:
            os.seteuid(65534)
            try:
                write_json(f"{directory}/a.json", 1)
            except OSError as error:
                said = "a.json could not be written" in str(error) and "make this one so" in str(error)
                os._exit(0 if said and error.errno == errno.EACCES else 2)
            finally:
                os._exit(3)
        assert os.waitpid(child, 0)[1] == 0


# A small disk

ON_A_SMALL_DISK = """
import json, logging, pathlib, subprocess, sys
import torch
from test_caching import ARGUMENTS, NEUTRAL, rows
from gradiend import TextPredictionTrainer, TrainingArguments, get_logger
from gradiend.util._files import read_json, write_json
from gradiend.util._tensor_files import write_tensors

base, disk = sys.argv[1], pathlib.Path(sys.argv[2])
lines = []
class Kept(logging.Handler):
    def emit(self, record):
        if record.levelno >= logging.WARNING:
            lines.append(record.getMessage())
logging.getLogger("gradiend").addHandler(Kept())

def trainer(name):
    args = TrainingArguments(experiment_dir=str(disk / name), use_cache=True, **ARGUMENTS)
    more = {"target_classes": ["one", "many"], "eval_neutral_data": NEUTRAL}
    return TextPredictionTrainer(base, data=rows(), args=args, **more)

def plain(decoder):
    return {**decoder, "grid": {repr(key): entry for key, entry in decoder["grid"].items()}}

def said(call, kind=OSError):
    try:
        call()
    except kind as error:
        return [getattr(error, "errno", None), str(error)]

def measured(one):
    lines.clear()
    found = {"encoder": one.evaluate_encoder(), "decoder": plain(one.evaluate_decoder(lrs=[0.1, 1.0]))}
    return {**found, "lines": list(lines)}

first = trainer("run").train()
found = {}
write_json(disk / "kept.json", "old")
with open(disk / "filler", "wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(4096))
    except OSError:
        pass
found["full"] = measured(first)
found["train"] = said(trainer("other").train)
found["json"] = said(lambda: write_json(disk / "kept.json", "new" * 5000))
found["tensors"] = said(lambda: write_tensors(disk / "x.safetensors", {"x": torch.zeros(5000)}))
found["bin"] = said(lambda: write_tensors(disk / "x.bin", {"x": torch.zeros(5000)}))
results = first.evaluate_decoder(lrs=[0.1, 1.0])
goal = next(name for name in ("one", "many") if results[name]["learning_rate"] is not None)
found["rewrite"] = said(lambda: first.rewrite_base_model(results, strengthen=goal, output_dir=str(disk / "rewritten")))
found["delta"] = said(lambda: first.export_delta(results, strengthen=goal))
found["there"] = sorted(path.name for path in disk.iterdir())
found["kept"] = read_json(disk / "kept.json")
(disk / "filler").unlink()
found["room"] = measured(first)
subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
again = trainer("run")
found["read-only"] = measured(again)
lines.clear()
found["trained on read-only"] = [trainer("run").train().reused, list(lines)]
found["another on read-only"] = said(lambda: trainer("run").train(seed=5), (OSError, ValueError))
lines.clear()
found["new on read-only"] = [again.evaluate_encoder(split="validation")["n_samples"], list(lines)]
print(json.dumps(found, default=float))
"""


@pytest.mark.skipif(not mounts_a_disk(), reason="no small disk can be mounted here")
def test_a_full_and_a_read_only_disk_cost_no_result(tmp_path):
    base, disk = tmp_path / "base", tmp_path / "disk"
    tiny.bert().save_pretrained(base)
    tiny.bert_tokenizer().save_pretrained(base)
    disk.mkdir()
    command = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=700k tmpfs "$2" && exec "$0" -c "$3" "$1" "$2"']
    command += [sys.executable, str(base), str(disk), ON_A_SMALL_DISK]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    full, room, read_only = found["full"], found["room"], found["read-only"]
    # Evaluations return their results all the same, and say in a line that these are not kept.
    assert [len([line for line in full["lines"] if line.startswith(f"The {name}")]) for name in (
        "encodings are not kept", "measurements are not kept", "results are not kept",
    )] == [1, 1, 1]  # fmt: skip
    # Where everything is found, nothing has to be written.
    assert not [line for line in (*room["lines"], *read_only["lines"]) if "not kept" in line]
    for name in ("encoder", "decoder"):
        assert full[name] == room[name] == read_only[name]
    # The script that made them reads them where they are shared.
    assert found["trained on read-only"] == [True, []]
    assert "written to " in found["another on read-only"][1]
    rows, lines = found["new on read-only"]
    assert rows
    assert ["Read-only file system" in line for line in lines if "not kept" in line] == [True]
    # What needs room is refused before it is begun, or leaves the old file as it was.
    for name, text in (
        ("train", "The trained GRADIEND needs "), ("rewrite", "The rewritten models needs "), ("delta", " needs "),
        ("json", "kept.json could not be written to "), ("tensors", "x.safetensors could not be written to "),
        ("bin", "x.bin could not be written to "),
    ):  # fmt: skip
        number, said = found[name]
        assert number == errno.ENOSPC, said
        assert text in said
        assert "Everything that was finished before is kept." in said
    assert found["kept"] == "old"
    assert found["there"] == ["filler", "kept.json", "run"]


def test_a_write_that_fails_at_any_moment_costs_nothing_but_the_call():
    failing_writes("--first", "100", "--stride", "1000")


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_write_that_fails_at_every_moment_costs_nothing_but_the_call():
    failing_writes()


def failing_writes(*arguments):
    command = [sys.executable, str(HERE.parent / "scripts" / "failing_writes.py"), *arguments]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    wanted = "0 crashes, 0 other numbers, 0 other files, 0 leftovers"
    assert wanted in done.stdout, done.stdout[-3000:] + done.stderr[-3000:]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", object())
    assert read_json(tmp_path / "a.json") == 1
    write_tensors(tmp_path / "x.safetensors", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "x.safetensors"]
