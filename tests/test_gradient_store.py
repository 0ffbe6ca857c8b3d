"""Gradients that are kept are the gradients that would be computed."""

import os
import subprocess
import sys

import pytest
import torch

from gradiend import TextFilterConfig, TextPredictionDataCreator, TextPredictionTrainer, TrainingArguments
from gradiend.demo import model_path, sentences
from gradiend.gradients import GradientEngine
from gradiend.trainer.core._kept_gradients import FEWEST, GradientStore
from gradiend.trainer.core.dataset import WINDOW, take_turns


def test_what_is_read_back_has_the_same_bits(tmp_path):
    store = GradientStore(10**6, tmp_path)
    kept = {number: torch.randn(2, 100) for number in range(5)}
    for number, pair in kept.items():
        store.keep(number, tuple(pair))
    for number, pair in kept.items():
        source, target = store.get(number)
        assert torch.equal(source, pair[0])
        assert torch.equal(target, pair[1])
    assert store.get("unknown") is None


def test_a_store_keeps_what_fits_and_leaves_nothing_behind(tmp_path):
    store = GradientStore(2 * 448 * FEWEST + 50, tmp_path)
    for number in range(FEWEST + 2):
        store.keep(number, tuple(torch.full((2, 100), float(number))))
    assert [store.get(number) is not None for number in range(FEWEST + 2)] == [*[True] * FEWEST, False, False]
    assert len(store) == FEWEST
    store.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("limit", [0, 3 * 4 * FEWEST - 1])
def test_nothing_is_kept_without_room(tmp_path, limit):
    store = GradientStore(limit, tmp_path)
    store.keep("a", (torch.ones(3),))
    assert store.get("a") is None
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_other_gradients_are_refused(tmp_path):
    store = GradientStore(10**4, tmp_path)
    store.keep("a", (torch.ones(3), torch.ones(3)))
    for strange in [(torch.ones(3),), (torch.ones(4), torch.ones(4)), (torch.ones(3).double(), torch.ones(3).double())]:
        with pytest.raises(ValueError, match="This store holds"):
            store.keep("b", strange)


def test_seeds_use_nearly_the_same_batches():
    """After any number of steps, two seeds differ by less than a window per class in what they have used."""
    groups = [range(100), range(60)]
    first, second = (list(take_turns(groups, 0, seed)) for seed in (0, 1))
    assert first != second
    assert set(first) == set(second)
    for steps in range(len(first)):
        assert len(set(first[:steps]) - set(second[:steps])) <= 2 * WINDOW


@pytest.fixture(scope="module")
def data():
    targets = [TextFilterConfig(["he", "she", "it"], id="3SG"), TextFilterConfig(["they"], id="3PL")]
    return TextPredictionDataCreator(sentences(600), feature_targets=targets).generate_training_data(60)


def test_seeds_that_share_gradients_are_the_seeds_one_after_the_other(data, tmp_path, monkeypatch):
    """The same bits for every seed; and three seeds of several epochs cost the gradients of one epoch."""
    plain, calls = GradientEngine.gradients, []
    monkeypatch.setattr(GradientEngine, "gradients", lambda self, *a, **k: calls.append(1) or plain(self, *a, **k))
    results, counts = {}, {}
    for limit in (0, 10**9):
        calls.clear()
        args = TrainingArguments(
            experiment_dir=str(tmp_path / str(limit)), train_batch_size=8, max_steps=14, learning_rate=1e-3,
            params=["*layer.1*"], max_seeds=3, min_convergent_seeds=None, keep_seed_runs=True, do_eval=False,
            kept_gradients_size=limit,
        )  # fmt: skip
        trainer = TextPredictionTrainer(str(model_path()), data=data, target_classes=["3SG", "3PL"], args=args)
        results[limit] = trainer.train()
        counts[limit] = len(calls)
    for seed, model in results[0].items():
        for name, tensor in model.gradiend.state_dict().items():
            assert torch.equal(tensor, results[10**9][seed].gradiend.state_dict()[name]), (seed, name)
    n_batches = 2 * 6  # 48 training rows of each class, in batches of 8
    assert counts[10**9] <= n_batches < counts[0]


def test_a_disk_that_takes_no_more_ends_the_keeping_and_not_the_training(tmp_path, caplog):
    """A write beyond the limit of the process fails as on a full disk."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    store = GradientStore(10**6, tmp_path)
    store.keep(0, (torch.full((2000,), 0.0),))
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3 * 8000 + 100, before[1]))
        for number in range(1, 6):
            store.keep(number, (torch.full((2000,), float(number)),))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [store.get(number) is not None for number in range(6)] == [*[True] * 3, *[False] * 3]
    assert all(torch.equal(store.get(number)[0], torch.full((2000,), float(number))) for number in range(3))
    (line,) = caplog.messages
    assert "takes no more kept gradients (File too large): 3 batches are kept" in line
    assert store.capacity(1, 2000, torch.float32) == 3


def test_a_file_that_cannot_be_made_keeps_nothing(tmp_path, caplog):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    store, absent = GradientStore(10**6, tmp_path), GradientStore(10**6, tmp_path / "absent")
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        store.keep(0, (torch.ones(2000),))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    absent.keep(0, (torch.ones(2000),))
    assert (store.get(0), absent.get(0)) == (None, None)
    assert len(caplog.messages) == 1


ON_A_SMALL_DISK = """
import sys, torch
from pathlib import Path
from gradiend.trainer.core._kept_gradients import FEWEST, GradientStore
store = GradientStore(FEWEST * 4000, sys.argv[1])
store.keep(0, (torch.full((1000,), 0.0),))
Path(sys.argv[1], "other").write_bytes(bytes(100_000 - 24_000))
for number in range(1, FEWEST):
    store.keep(number, (torch.full((1000,), float(number)),))
kept = [number for number in range(FEWEST) if store.get(number) is not None]
assert all(bool((store.get(number)[0] == number).all()) for number in kept)
print(len(kept))
"""


@pytest.mark.slow
def test_a_disk_that_others_fill_does_not_end_the_process(tmp_path):
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(tmp_path)]
    if os.name != "posix" or subprocess.run(mount, check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("only root can mount a small file system")
    try:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", ON_A_SMALL_DISK, str(tmp_path)]
        done = subprocess.run(command, env=environment, timeout=60, capture_output=True, text=True, check=False)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
    assert done.returncode == 0, done.stderr
    assert 1 <= int(done.stdout) < FEWEST
