"""A training that was stopped goes on where it stopped, and ends with the bits of one that nothing disturbed."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import torch
from test_caching import ARGUMENTS, NEUTRAL, base, make, rows  # noqa: F401 - fixtures
from torch.utils.data import DataLoader

from gradiend import PostPruneConfig, PrePruneConfig, TextPredictionTrainer, TrainingArguments
from gradiend.trainer import TrainingCallback
from gradiend.util._interruption import Interrupted

STEPS = 14
LONG = {"max_steps": STEPS, "eval_steps": 5, "save_steps": 1}


@pytest.fixture(autouse=True)
def ctrl_c():
    """Ctrl-C works, also where the tests run in the background and it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Stops(TrainingCallback):
    """Sends this process a signal at a step, and notes the steps that were taken."""

    only_watches = True

    def __init__(self, step=None, number=signal.SIGTERM):
        self.step, self.number, self.taken = step, number, []

    def on_step_end(self, step, *args, **kwargs):
        self.taken.append(step)
        if step == self.step:
            os.kill(os.getpid(), self.number)


class Remembers(TrainingCallback):
    """Ends a training by what it has seen: its losses, a label and a counter."""

    def __init__(self):
        self.losses, self.seen, self.last = [], {}, None

    def on_step_end(self, step, loss, model, config, control=None, **kwargs):
        self.losses.append(float(loss))
        self.seen[step % 3] = self.seen.get(step % 3, 0) + 1
        self.last = (step, torch.tensor([loss]))
        if len(self.losses) == STEPS - 3:
            control.should_stop = True


def everything(folder):
    """Name → bytes of all files but figures and times."""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file() and path.suffix not in {".png", ".pdf"}:
            found[str(path.relative_to(folder))] = path.read_bytes()
    for name, content in found.items():
        if name.endswith("training.json"):
            content = json.loads(content)
            content["time"] = {}
            content["training_stats"].get("learning_rate_search", {"cost": {}})["cost"].pop("seconds", None)
            arguments = content["training_args"]
            for place in ("experiment_dir", "output_dir"):
                arguments[place] = None if arguments[place] is None else Path(arguments[place]).name
            found[name] = {key: value for key, value in content.items() if key not in {"checksum"}}
        if name.endswith("seed_report.json"):
            content = json.loads(content)
            found[name] = [
                {key: run[key] for key in ("seed", "selection_score", "converged")} for run in content["runs"]
            ]
    return found


def weights(trainer):
    return [tensor.clone() for tensor in trainer.get_model().gradiend.state_dict().values()]


CASES = {
    "plain": {},
    "autograd": {"optim": "adam", "latent_dim": 2},
    "epochs": {"max_steps": -1, "num_train_epochs": 6},
    "pruned before and after": {
        "pre_prune_config": PrePruneConfig(topk=0.5, n_samples=4), "post_prune_config": PostPruneConfig(topk=0.5),
    },
    "kept gradients": {"use_cached_gradients": True},
    "start found": {"init": "class_means", "init_samples": 4, "train_batch_size": 2},
    "rate found": {"learning_rate": "auto"},
    "checkpoints": {"save_strategy": "steps", "save_steps": 4, "save_total_limit": 2},
    "two seeds": {
        "max_seeds": 2, "min_convergent_seeds": None, "pre_prune_config": PrePruneConfig(topk=0.5, n_samples=4),
    },
}  # fmt: skip


EVERYDAY = {"autograd", "pruned before and after", "rate found", "two seeds"}


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[] if case in EVERYDAY else pytest.mark.slow) for case in CASES]
)
def test_a_training_that_is_stopped_often_ends_with_the_same_bits(make, tmp_path, case):  # noqa: F811
    given = {**LONG, **CASES[case]}
    calm, undisturbed = make(experiment_dir=str(tmp_path / "calm" / "run"), **given), Stops()
    calm.train(callbacks=[Remembers(), undisturbed])
    disturbed = {"experiment_dir": str(tmp_path / "disturbed" / "run"), **given}
    taken = []
    for step in (7,):
        stops = Stops(step)
        with pytest.raises(Interrupted, match=rf"SIGTERM\. The training has taken {step} of") as stopped:
            make(**disturbed).train(callbacks=[Remembers(), stops])
        assert stopped.value.code == 143
        taken += stops.taken
    trainer, rest = make(**disturbed), Stops()
    trainer.train(callbacks=[Remembers(), rest])
    # No step is taken twice.
    assert taken + rest.taken == undisturbed.taken
    for one, other in zip(weights(calm), weights(trainer), strict=True):
        assert torch.equal(one, other)
    assert calm.get_training_stats()["losses"] == trainer.get_training_stats()["losses"]
    assert everything(tmp_path / "calm") == everything(tmp_path / "disturbed")


class Shuffled(TextPredictionTrainer):
    """Trains on batches whose order is drawn from the global generator when an epoch begins."""

    def create_gradient_training_dataset(self, raw_training_data, model_with_gradiend, **kwargs):
        made = super().create_gradient_training_dataset(raw_training_data, model_with_gradiend, **kwargs)
        batches = [{key: value for key, value in batch.items() if key != "batch_id"} for batch in made]
        return DataLoader(batches, batch_size=1, shuffle=True, collate_fn=lambda items: items[0])


def test_data_that_draws_its_order_is_read_in_the_same_order(base, tmp_path):  # noqa: F811
    def train(name, *callbacks):
        args = TrainingArguments(experiment_dir=str(tmp_path / name), use_cache=True, **{**ARGUMENTS, **LONG})
        trainer = Shuffled(base, data=rows(), target_classes=["one", "many"], args=args, eval_neutral_data=NEUTRAL)
        trainer.train(callbacks=callbacks)
        return trainer.get_training_stats()["losses"]

    expected = train("calm")
    with pytest.raises(Interrupted):
        train("stopped", Stops(10))
    assert train("stopped") == expected


def test_another_training_does_not_go_on_from_there(make, caplog):  # noqa: F811
    with pytest.raises(Interrupted):
        make(**LONG).train(callbacks=[Stops(10)])
    taken = Stops()
    with caplog.at_level(logging.INFO, logger="gradiend"):
        make(**{**LONG, "weight_decay": 0.5}).train(callbacks=[taken])
    assert taken.taken == list(range(1, STEPS + 1))
    assert "is not used (weight_decay was 0.01 and is 0.5)" in caplog.text


def test_a_damaged_state_costs_steps_and_nothing_else(make, tmp_path, caplog):  # noqa: F811
    with pytest.raises(Interrupted):
        make(**LONG).train(callbacks=[Stops(10)])
    (state,) = (tmp_path / "model_resume").iterdir()
    state.write_bytes(state.read_bytes()[:-100])
    with caplog.at_level(logging.INFO, logger="gradiend"):
        make(**LONG).train(callbacks=[taken := Stops()])
    assert len(taken.taken) == STEPS
    assert f"The state in {state} is not used" in caplog.text
    assert not state.parent.exists()


def test_states_are_kept_at_the_asked_times(make, tmp_path):  # noqa: F811
    seen = []

    class Sees(TrainingCallback):
        only_watches = True

        def on_step_begin(self, step, *args, **kwargs):
            seen.append(sorted(path.name for path in (tmp_path / "model_resume").glob("*")))

    make(max_steps=9, save_steps=3, save_minutes=60).train(callbacks=[Sees()])
    name = [f"step_{step}.safetensors" for step in (3, 6)]
    assert seen == [[]] * 3 + [[name[0]]] * 3 + [[name[1]]] * 3
    assert not (tmp_path / "model_resume").exists()


def test_without_resume_nothing_is_kept(make, tmp_path):  # noqa: F811
    with pytest.raises(KeyboardInterrupt):
        make(**{**LONG, "resume": False}).train(callbacks=[Stops(10, signal.SIGINT)])
    assert not (tmp_path / "model_resume").exists()


def test_resume_finds_what_is_done_without_use_cache(make):  # noqa: F811
    make(**{**LONG, "use_cache": False}).train(callbacks=[first := Stops()], resume=True)
    make(**{**LONG, "use_cache": False}).train(callbacks=[second := Stops()], resume=True)
    assert (len(first.taken), len(second.taken)) == (STEPS, 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"resume": True, "experiment_dir": None}, "resume=True keeps the state .* give experiment_dir or output_dir"),
        ({"max_minutes": 5, "use_cache": False}, "max_minutes=5 keeps the state"),
        ({"resume": True, "seed": None}, "a seed"),
    ],
)
def test_what_cannot_be_resumed_is_refused(make, given, message):  # noqa: F811
    with pytest.raises(ValueError, match=message):
        make(**given).train()


def test_the_end_of_the_time_stops_and_the_next_call_goes_on(make):  # noqa: F811
    with pytest.raises(Interrupted, match=r"max_minutes=0\.0001") as stopped:
        make(**LONG).train(max_minutes=0.0001)
    assert stopped.value.code == 4
    taken = [Stops() for _ in range(2)]
    with pytest.raises(Interrupted):
        make(**LONG).train(max_minutes=0.02, callbacks=[taken[0], Slow()])
    make(**LONG).train(callbacks=[taken[1]])
    assert 0 < len(taken[0].taken) < STEPS
    assert taken[0].taken + taken[1].taken == list(range(2, STEPS + 1))


class Slow(TrainingCallback):
    """Makes the time of a training pass."""

    only_watches = True

    def on_step_end(self, *args, **kwargs):
        time.sleep(0.3)


class WithFile(TrainingCallback):
    """Holds what no file can keep."""

    def __init__(self):
        self.file = sys.stderr


def test_a_callback_that_cannot_be_kept_is_named(make, caplog, tmp_path):  # noqa: F811
    with pytest.raises(Interrupted, match="No state of it is kept yet"):
        make(**LONG).train(callbacks=[WithFile(), Stops(10)])
    assert "WithFile" in caplog.text
    assert "state_dict" in caplog.text
    assert not (tmp_path / "model_resume").exists()


def test_a_state_that_cannot_be_written_costs_no_training(make, tmp_path, caplog):  # noqa: F811
    (tmp_path / "model_resume").write_text("a file where a folder should be")
    make(**LONG).train(callbacks=[taken := Stops()])
    assert len(taken.taken) == STEPS
    assert caplog.text.count("The state of the training is not kept") == 1


def test_a_best_model_that_is_gone_is_an_error(make, tmp_path):  # noqa: F811
    class Removes(TrainingCallback):
        only_watches = True

        def on_train_end(self, *args, **kwargs):
            shutil.rmtree(tmp_path / "model_best")

    with pytest.raises(RuntimeError, match=r"model_best does not hold the best model, of step \d+, any more"):
        make(**LONG).train(callbacks=[Removes()])


class Breaks(TrainingCallback):
    """Makes the GRADIEND infinite before a step."""

    only_watches = True

    def on_step_begin(self, step, *args, model=None, **kwargs):
        if step == 12:
            with torch.no_grad():
                model.gradiend.encoder_linear.weight.fill_(torch.inf)


def test_numbers_that_are_none_stop_at_their_step_and_keep_the_last_good_state(make, tmp_path):  # noqa: F811
    message = (
        r"nan at step 12, on batch \(\d, \d\) of class (one|many)\..* Still there: the best model, of step \d+, in .*"
    )
    with pytest.raises(FloatingPointError, match=message + r"and the state after step 11 in"):
        make(**LONG).train(callbacks=[Breaks()])
    assert [path.name for path in (tmp_path / "model_resume").iterdir()] == ["step_11.safetensors"]


@contextmanager
def passes(trainer, last=None, number=signal.SIGINT):
    """Count the passes of the base model; before the one after `last`, the process is asked to stop."""
    counted = []

    def count(*args):
        if len(counted) == last:
            os.kill(os.getpid(), number)
        counted.append(1)

    handle = trainer.get_model().base_model.register_forward_pre_hook(count)
    try:
        yield counted
    finally:
        handle.remove()


def test_encodings_go_on_where_they_were_stopped(make, tmp_path):  # noqa: F811
    given = {"eval_batch_size": 1, "save_minutes": 0.0}
    make(**given).train()
    trainer = make(**given)
    with passes(trainer) as all_of_them:
        expected = trainer.evaluate_encoder(use_cache=False, return_df=True)
    stopped = make(**given)
    with passes(stopped, 3 * len(all_of_them) // 4), pytest.raises(KeyboardInterrupt):
        stopped.evaluate_encoder(use_cache=False)
    assert list(tmp_path.glob("*.unfinished.safetensors"))
    again = make(**given)
    with passes(again) as rest:
        found = again.evaluate_encoder(use_cache=False, return_df=True)
    assert len(rest) < len(all_of_them)
    pd.testing.assert_frame_equal(found.pop("encoder_df"), expected.pop("encoder_df"), check_exact=True)
    assert found == expected
    assert not list(tmp_path.glob("*.unfinished.safetensors"))


def test_an_evaluation_that_is_stopped_says_what_is_kept(make, tmp_path):  # noqa: F811
    make().train()
    trainer = make()
    with passes(trainer, 20, signal.SIGTERM), pytest.raises(Interrupted, match=r"SIGTERM\. What is finished is kept\."):
        trainer.evaluate_decoder(lrs=[0.01, 0.02, 0.03])
    kept = list((tmp_path / "decoder").glob("*.json"))
    expected = make(use_cache=False).evaluate_decoder(lrs=[0.01, 0.02, 0.03])
    again = make()
    assert again.evaluate_decoder(lrs=[0.01, 0.02, 0.03]) == expected
    assert kept


SCRIPT = """
import test_resume, test_caching, sys
from gradiend import TextPredictionTrainer, TrainingArguments
args = TrainingArguments(experiment_dir=sys.argv[2], use_cache=True, **{**test_caching.ARGUMENTS, **test_resume.LONG})
trainer = TextPredictionTrainer(sys.argv[1], data=test_caching.rows(), target_classes=["one", "many"], args=args)
trainer.train(callbacks=[test_resume.Stops(int(sys.argv[3]), int(sys.argv[4]))])
print("done")
"""


def test_a_script_ends_with_one_line_and_no_traceback(base, tmp_path):  # noqa: F811
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here.parent}{os.pathsep}{here}", "TQDM_DISABLE": "1"}
    command = [sys.executable, "-c", SCRIPT, base, str(tmp_path), "5", str(int(signal.SIGINT))]
    stopped = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert (stopped.returncode, stopped.stdout) == (130, "")
    last = stopped.stderr.splitlines()[-1]
    assert last.startswith(
        "Stopped by Ctrl-C. The training has taken 5 of 14 steps. Its state after step 5 is kept in "
    )
    assert last.endswith("The same call goes on from there.")
    assert "Traceback" not in stopped.stderr
