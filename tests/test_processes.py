"""Several processes find what one finds: torchrun on the CPU, with the whole model in each, and with shards (FSDP2)."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import processes_run
import pytest
import test_caching
import torch
from safetensors.torch import load_file
from test_caching import base  # noqa: F401 - a fixture

from gradiend import ModelWithGradiend, TextPredictionTrainer, TrainingArguments

HERE = Path(__file__).parent
LAYOUTS = {"data": (), "sharded": ("fsdp=True",)}


def launch(*command, timeout=200):
    """Run a script in two processes of one thread each, as a user would."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.run(
        [*torchrun, *command], env=environment, cwd=HERE, capture_output=True, text=True, timeout=timeout, check=False
    )


def launch_script(*arguments, **options):
    return launch(str(HERE / "processes_run.py"), *map(str, arguments), **options)


@pytest.fixture(scope="module")
def one(base, tmp_path_factory):  # noqa: F811
    """What one process finds, and its folder."""
    directory = tmp_path_factory.mktemp("one") / "run"
    return processes_run.run(base, directory), directory


@pytest.fixture(scope="module", params=LAYOUTS)
def several(request, base, tmp_path_factory):  # noqa: F811
    """What each of two processes finds, and their folder."""
    directory = tmp_path_factory.mktemp("several") / "run"
    done = launch_script(base, directory, *LAYOUTS[request.param])
    assert not done.returncode, done.stderr
    found = [json.loads(Path(f"{directory}_{rank}.json").read_text()) for rank in range(2)]
    return found, directory, done.stderr


def farthest(found, expected):
    """The largest distance of two numbers at the same place; everything else must be equal."""
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        return max([farthest(found[key], expected[key]) for key in expected], default=0.0)
    if isinstance(expected, list):
        return max([farthest(*pair) for pair in zip(found, expected, strict=True)], default=0.0)
    if isinstance(expected, float):
        return abs(found - expected)
    assert found == expected
    return 0.0


def test_all_processes_find_the_same(several):
    (first, second), _, _ = several
    assert first == second


def test_encodings_and_metrics_are_those_of_one_process(one, several):
    (expected, _), ((found, _), *_) = one, several
    assert farthest(found["encoded"], expected["encoded"]) <= 1e-5
    assert farthest(found["correlation"], expected["correlation"]) <= 1e-4
    assert farthest(found["grid"], expected["grid"]) <= 1e-4


def test_the_same_steps_are_chosen(one, several):
    (expected, _), ((found, _), *_) = one, several
    assert found["chosen"] == expected["chosen"]
    assert found["seed"] == expected["seed"]
    for name, step in expected["found_steps"].items():
        assert found["found_steps"][name] == pytest.approx(step, rel=0.02)


def test_files_have_the_same_names_keys_and_shapes_and_nearly_the_same_values(one, several):
    (_, expected), (_, directory, _) = one, several
    # The steps of a search have names of three digits.
    names = [
        {str(path.relative_to(place)) for path in place.rglob("*") if not path.name.startswith("likelihood_")}
        for place in (expected, directory)
    ]
    assert names[0] == names[1]
    for name in sorted(names[0]):
        if name.endswith(".safetensors"):
            one, other = load_file(expected / name), load_file(directory / name)
            assert {key: (t.shape, t.dtype) for key, t in one.items()} == {
                key: (t.shape, t.dtype) for key, t in other.items()
            }
            for key, tensor in one.items():
                if tensor.is_floating_point():
                    assert float((other[key] - tensor).norm()) <= 1e-3 * float(tensor.norm()), (name, key)
                else:
                    # Which entries pruning keeps.
                    assert torch.equal(other[key], tensor), (name, key)


def test_one_process_reads_what_shards_have_trained_and_trains_none(several, tmp_path):
    """With the same arguments, fsdp=True among them."""
    (found, _), directory, _ = several
    model = ModelWithGradiend.from_pretrained(str(directory / "model"))
    trainer = TextPredictionTrainer(
        model=str(directory / "model"), data=test_caching.rows(), target_classes=["one", "many"],
        args=TrainingArguments(fsdp=True, experiment_dir=str(tmp_path)),
    )  # fmt: skip
    assert trainer.get_model().param_map_hash == model.param_map_hash
    assert trainer.evaluate_encoder()["correlation"] == pytest.approx(found["correlation"], abs=1e-4)
    with pytest.raises(ValueError, match="fsdp=True divides a model over processes: start the script with torchrun"):
        trainer.train()


def test_the_first_process_alone_shows_progress(several):
    *_, printed = several
    assert len(re.findall("seed 0: step 12/12.* took", printed)) == 1


def test_truths_in_each_of_two_processes():
    done = launch("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "two_processes.py")
    assert not done.returncode, done.stdout[-6000:]


@pytest.mark.parametrize("layout", ["data", pytest.param("sharded", marks=pytest.mark.slow)])
def test_a_killed_process_ends_all_and_the_next_run_goes_on(layout, one, base, tmp_path):  # noqa: F811
    """The second process is killed in the middle of the second seed."""
    directory = tmp_path / "run"
    began = time.monotonic()
    killed = launch_script(base, directory, *LAYOUTS[layout], "kill=7", "only=train")
    assert killed.returncode
    assert "exitcode  : -9" in killed.stderr
    assert time.monotonic() - began < 100
    assert list(directory.glob("**/step_*.safetensors"))
    done = launch_script(base, directory, *LAYOUTS[layout], "only=train")
    assert not done.returncode, done.stderr
    found = json.loads(Path(f"{directory}_0.json").read_text())
    assert found["resumed"]
    assert not list(directory.glob("**/*_resume"))
    assert farthest(found["encoded"], one[0]["encoded"]) <= 1e-5


@pytest.mark.slow
def test_an_error_of_one_process_is_told(base, tmp_path):  # noqa: F811
    done = launch_script(base, tmp_path / "run", "fail=3")
    assert done.returncode
    assert "ValueError: no more steps in process 1" in done.stderr


@pytest.mark.slow
def test_sigterm_ends_all_processes_and_keeps_the_state(base, tmp_path):  # noqa: F811
    directory = tmp_path / "run"
    done = launch_script(base, directory, "signal=7")
    assert done.returncode
    assert "The same call goes on from there" in done.stderr
    assert list(directory.glob("**/step_*.safetensors"))
