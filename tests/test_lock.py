"""One run at a time writes to a folder; a second one waits or is refused, and a dead one leaves nothing."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
import tiny
from test_caching import ARGUMENTS, rows

from gradiend import ExperimentLocked, TextPredictionTrainer, TrainingArguments
from gradiend.util._files import made_aside, replacing, write_json
from gradiend.util._leftovers import Process, temporary_folder
from gradiend.util._lock import Holder, writing

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked and killed")

HOLDS = """
import sys, time
from gradiend.util._lock import writing
with writing(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""
ASKS = """
import sys
from gradiend.util._lock import ExperimentLocked, writing
try:
    with writing(sys.argv[1], 0):
        print("held")
except ExperimentLocked as error:
    print(error)
"""
WITHOUT_KERNEL_LOCKS = """
import errno, fcntl, os
def flock(*args):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
fcntl.flock = flock
"""
"""What some network file systems answer."""


def started(code, *arguments):
    """A Python process that runs `code` up to its first line of output."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], env=environment, text=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout.readline() == "held\n", process.communicate()[1]
    return process


def asked(folder, first=""):
    """What a process gets that does not wait for the lock: "held", or the error."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", first + ASKS, str(folder)]
    return subprocess.run(command, check=True, env=environment, capture_output=True, text=True).stdout


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of `tmp_path / "run"` until its input ends or it is killed."""
    process = started(HOLDS, tmp_path / "run")
    yield process
    process.kill()
    process.communicate()


def test_a_second_run_is_refused_with_who_holds_the_lock_and_since_when(tmp_path, holder):
    with pytest.raises(ExperimentLocked) as refused, writing(tmp_path / "run", 0):
        pass
    since = Holder.of(tmp_path / "run").since
    assert f"process {holder.pid} on " in str(refused.value)
    assert "python" in str(refused.value)
    assert since in str(refused.value)
    assert "lock_wait_minutes" in str(refused.value)


def test_a_second_run_waits_with_one_line_until_the_first_has_ended(tmp_path, holder, caplog):
    threading.Timer(0.5, holder.kill).start()
    began = time.monotonic()
    with caplog.at_level(logging.INFO, logger="gradiend"), writing(tmp_path / "run"):
        assert 0.4 < time.monotonic() - began < 5
        assert Holder.of(tmp_path / "run").process == Process.this()
    (line,) = [record.message for record in caplog.records if "waiting" in record.message]
    assert f"process {holder.pid} on " in line
    assert not list((tmp_path / "run").iterdir())


def test_a_call_that_writes_nothing_leaves_no_folder(tmp_path):
    with pytest.raises(KeyError), writing(tmp_path / "new" / "run"):
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_the_lock_of_a_killed_run_ends_with_it(tmp_path, holder):
    holder.kill()
    holder.wait()
    assert (tmp_path / "run" / ".lock.json").is_file()
    assert Holder.of(tmp_path / "run") is None
    with writing(tmp_path / "run", 0):
        pass
    assert not list((tmp_path / "run").iterdir())


def test_a_thread_may_take_its_lock_again_and_threads_exclude_each_other(tmp_path):
    inside, most = [], []

    def work():
        with writing(tmp_path), writing(tmp_path, 0):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.02)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 5


def test_a_thread_is_refused_what_another_thread_of_its_process_holds(tmp_path):
    held, over = threading.Event(), threading.Event()

    def hold():
        with writing(tmp_path):
            held.set()
            over.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        with pytest.raises(ExperimentLocked, match="another thread of this process"), writing(tmp_path, 0):
            pass
    finally:
        over.set()
        thread.join()


def test_a_forked_child_holds_nothing_and_releases_nothing(tmp_path):
    pipe = os.pipe()
    with writing(tmp_path):
        child = os.fork()
        if child == 0:
            try:
                with writing(tmp_path, 0):
                    os._exit(2)
            except ExperimentLocked:
                os.read(pipe[0], 1)
                os._exit(0)
            finally:
                os._exit(3)
        time.sleep(0.2)
        assert f"process {os.getpid()} on " in asked(tmp_path)
    # The child still lives, and does not keep what its parent has given back.
    free = started(HOLDS, tmp_path)
    free.communicate("")
    os.write(pipe[1], b".")
    assert os.waitpid(child, 0)[1] == 0
    for end in pipe:
        os.close(end)


def test_without_locks_of_the_kernel_a_file_of_the_holder_is_the_lock(tmp_path):
    first = started(WITHOUT_KERNEL_LOCKS + HOLDS, tmp_path)
    try:
        assert f"process {first.pid} on " in asked(tmp_path, WITHOUT_KERNEL_LOCKS)
    finally:
        first.send_signal(signal.SIGKILL)
        first.communicate()
    assert asked(tmp_path, WITHOUT_KERNEL_LOCKS) == "held\n"


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="another user writes, whom only root can be")
@pytest.mark.parametrize("mode", [0o555, 0o000])
def test_a_folder_that_takes_no_files_needs_no_lock(mode):
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(mode)
        child = os.fork()
        if child == 0:
            try:
                os.seteuid(65534)
                with writing(directory, 0), writing(f"{directory}/new", 0):
                    os._exit(0)
            finally:
                os._exit(3)
        assert os.waitpid(child, 0)[1] == 0
        assert not list(Path(directory).iterdir())


# A trainer


def trainer_in(folder, base, **more):
    args = TrainingArguments(experiment_dir=str(folder), use_cache=True, **{**ARGUMENTS, **more})
    return TextPredictionTrainer(base, data=rows(), target_classes=["one", "many"], args=args)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    directory = tmp_path_factory.mktemp("base")
    tiny.bert().save_pretrained(directory)
    tiny.bert_tokenizer().save_pretrained(directory)
    return str(directory)


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory):
    trainer = trainer_in(tmp_path_factory.mktemp("trained"), base).train()
    trainer.evaluate_encoder()
    return trainer


def test_calls_that_write_are_refused_and_calls_that_read_are_not(base, trained):
    folder = trained.experiment_dir
    other = trainer_in(folder, base, lock_wait_minutes=0)
    process = started(HOLDS, folder)
    try:
        for call in (
            other.train, other.tune_learning_rate, other.evaluate_encoder, lambda: other.evaluate_decoder(lrs=[0.1]),
            lambda: other.evaluate_side_effects(strengthen="one"), lambda: other.export_delta(strengthen="one"),
            lambda: other.rewrite_base_model(strengthen="one", output_dir=f"{folder}/rewritten"),
            lambda: other.train(experiment_dir=folder, max_steps=2),
        ):  # fmt: skip
            with pytest.raises(ExperimentLocked, match=f"process {process.pid} "):
                call()
        assert len(other.get_encodings()) == len(trained.get_encodings()) > 0
        assert other.get_model().param_map_hash == trained.get_model().param_map_hash
    finally:
        process.communicate("")
    assert other.train() is other


def test_a_model_that_another_run_has_replaced_is_not_used_in_its_place(base, tmp_path):
    first = trainer_in(tmp_path, base).train()
    second = trainer_in(tmp_path, base, learning_rate=0.02).train()
    # In memory it still has its own.
    assert first.evaluate_encoder()["n_samples"]
    first.unload_model()
    with pytest.raises(ExperimentLocked, match="is not there any more: another run trained there"):
        first.evaluate_encoder()
    assert second.evaluate_encoder()["n_samples"]
    # The same training makes the same model.
    assert first.train().evaluate_encoder()["n_samples"]


def test_a_reader_during_a_training_gets_one_model_or_an_error_that_says_what_goes_on(base, tmp_path):
    """A process trains again with another learning rate; its reader never sees a mixture of both."""
    rates = (0.01, 0.02)
    losses = {}
    for rate in rates:
        stats = trainer_in(tmp_path / str(rate), base, learning_rate=rate).train().get_training_stats()
        losses[rate] = stats["losses"]
    folder = tmp_path / "run"
    child = os.fork()
    if child == 0:
        try:
            for rate in (*rates, rates[0]):
                trainer_in(folder, base, learning_rate=rate).train().evaluate_encoder()
            os._exit(0)
        finally:
            os._exit(1)
    found, weights = set(), {}
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        for rate in rates:
            reader = trainer_in(folder, base, learning_rate=rate)
            with contextlib.suppress(ExperimentLocked):
                if not reader.has_model():
                    continue
                model = reader.get_model()
                encodings = reader.get_encodings()
            found.add(rate)
            digest = float(model.gradiend.encoder_linear.weight.detach().double().sum())
            assert weights.setdefault(rate, digest) == digest
            assert encodings is None or len(encodings)
    assert found
    assert len(set(weights.values())) == len(weights)


# Leftovers


def dead_process():
    """The mark of a process of this machine that has ended."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    started = Process.this().started
    os.waitpid(child, 0)
    return f"gradiend-{child}-{started}-{Process.this().host}-0123abcd"


def test_what_a_dead_process_has_left_is_removed_by_the_next_run_and_nothing_else(tmp_path):
    dead = dead_process()
    other_host = dead.replace(Process.this().host, "00000000")
    gone = [
        tmp_path / f".model.json.{dead}", tmp_path / "seeds" / "seed_0" / f".config.{dead}",
        tmp_path / "1" / f".x.{dead}", tmp_path / f".old.{other_host}",
    ]  # fmt: skip
    stay = [
        tmp_path / f".young.{other_host}", tmp_path / "seeds" / "seed_0" / ".config.json.x1", tmp_path / ".model.new",
        tmp_path / "1" / "2" / f".not_ours.{dead}", tmp_path / "notes.txt",
    ]  # fmt: skip
    for path in (*gone, *stay):
        (path / "inside").mkdir(parents=True)
    long_ago = time.time() - 2 * 24 * 3600
    os.utime(gone[-1], (long_ago, long_ago))
    with made_aside(tmp_path / "own") as own:
        own.mkdir()
        with writing(tmp_path):
            assert own.is_dir()
    assert [path for path in gone if path.exists()] == []
    assert [path for path in stay if not path.exists()] == []


def test_a_killed_write_leaves_what_the_next_run_removes(tmp_path):
    child = os.fork()
    if child == 0:
        with replacing(tmp_path / "file.json") as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert [path.read_text() for path in tmp_path.rglob("*") if path.is_file()] == ["half"]
    with writing(tmp_path):
        write_json(tmp_path / "file.json", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["file.json"]


def test_temporary_folders_of_dead_processes_are_removed_and_those_of_living_ones_stay(tmp_path):
    (tmp_path / dead_process()).mkdir()
    first = temporary_folder(tmp_path)
    second = temporary_folder(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([first, second])
    assert first.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("starts", [1, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_two_processes_in_one_folder_neither_crash_nor_mix(starts):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "scripts" / "two_writers.py"), "--starts", str(starts)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert f"{starts} starts of two processes: 0 crashes, 0 mixed results, 0 leftovers" in done.stdout, done.stderr
