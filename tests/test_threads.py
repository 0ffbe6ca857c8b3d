"""Several threads, trainers or processes with one base model get the numbers of one alone, and leave it as it was."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tiny
import tiny_data
import torch
from transformers import AutoModelForMaskedLM

from gradiend import ModelWithGradiend, apply_delta
from gradiend.evaluator import LMSThresholdPolicy
from gradiend.trainer.core.callbacks import TrainingCallback

TEXTS = [
    ("the old nurse was near the door and then [MASK] saw the bread .", "she"),
    ("the baker saw the cat and [MASK] sold the lamp .", "they"),
    ("[MASK] was tired .", "he"),
]


def model_on(base, **kwargs):
    torch.manual_seed(1)
    return ModelWithGradiend.from_pretrained(base, tokenizer=tiny.bert_tokenizer(), **kwargs)


def state(base):
    """What calls change for a while and put back."""
    return {
        "training": [part.training for part in base.modules()],
        "flags": [(p.requires_grad, p.grad is None, p._version >= 0) for p in base.parameters()],
        "hooks": [(len(part._forward_hooks), "forward" in vars(part)) for part in base.modules()],
        "bits": [p.detach().clone() for p in base.parameters()],
    }


def require_state(base, before):
    now = state(base)
    assert all(torch.equal(one, other) for one, other in zip(now.pop("bits"), before["bits"], strict=True))
    assert now == {name: value for name, value in before.items() if name != "bits"}


def in_threads(calls):
    with ThreadPoolExecutor(len(calls)) as pool:
        started = threading.Barrier(len(calls))
        return [one.result() for one in [pool.submit(lambda call=call: (started.wait(), call())[1]) for call in calls]]


def weights(trainer):
    return [p.detach().clone() for p in trainer.get_model().gradiend.parameters()]


def all_equal(found, expected):
    return all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tiny_data.save_bert(tmp_path_factory.mktemp("base"))


@pytest.mark.parametrize("call", ["backward", "forward mode"])
def test_encodings_from_threads_have_the_bits_of_one_thread(call):
    base = tiny.bert()
    models = [model_on(base, source="alternative"), model_on(base, params=["*layer.1*"]), model_on(tiny.bert(seed=1))]
    before = state(base)

    def encoded(number):
        model, (text, word) = models[number % 3], TEXTS[number // 3 % 3]
        if call == "backward":
            return model.encode(text, word)
        return model.encode([text, TEXTS[0][0]], factual=word, alternative="they")

    expected = [encoded(number) for number in range(9)]
    found = in_threads([lambda: [encoded(number) for number in [*range(9), *range(9)]]] * 3)
    assert all(all_equal(own, [*expected, *expected]) for own in found)
    require_state(base, before)


def test_two_trainings_at_the_same_time_are_those_of_one_after_the_other(path):
    base = AutoModelForMaskedLM.from_pretrained(path).train()
    first, second = {"seed": 0}, {"seed": 7, "params": ["*layer.0*"], "learning_rate": 1e-2}
    before = state(base)
    expected = [weights(tiny_data.trainer(base, given).train()) for given in (first, second)]
    found = in_threads(
        [lambda given=given: weights(tiny_data.trainer(base, given).train()) for given in (first, second)]
    )
    assert all(all_equal(own, alone) for own, alone in zip(found, expected, strict=True))
    require_state(base, before)


def test_two_trainers_in_turns_are_those_alone(path, tmp_path):
    base = AutoModelForMaskedLM.from_pretrained(path)
    chosen = {"lrs": [0.5], "selector": LMSThresholdPolicy(ratio=0.0)}

    def trainer(name, place):
        given = {"seed": 0} if name == "A" else {"seed": 7, "params": ["*layer.0*"]}
        return tiny_data.trainer(base, {**given, "do_eval": False, "experiment_dir": str(tmp_path / place / name)})

    def measured(one):
        return weights(one), one.evaluate_encoder(split="test"), one.evaluate_decoder(**chosen)

    alone = {name: measured(trainer(name, "alone").train()) for name in "AB"}
    both = {name: trainer(name, "both") for name in "AB"}
    for one in both.values():
        one.train()
    encodings = {name: one.evaluate_encoder(split="test") for name, one in both.items()}
    both["A"].rewrite_base_model(decoder_results=both["A"].evaluate_decoder(**chosen), target_class="SG")
    for name, one in both.items():
        own, encoder, decoder = measured(one)
        assert all_equal(own, alone[name][0])
        assert encodings[name] == encoder == alone[name][1]
        assert decoder == alone[name][2]


def test_nobody_sees_a_rewrite_that_another_thread_measures(tmp_path):
    base = tiny.bert()
    model = model_on(base)
    expected = [model.encode(*TEXTS[0]), model.create_gradients(*TEXTS[0])]
    file = model.export_delta(tmp_path, 50.0, 1.0)
    same_file = Path(file).read_bytes()
    inside, over = threading.Event(), threading.Event()

    def rewritten():
        with model.temporarily_rewritten(50.0, 1.0):
            inside.set()
            over.wait(0.5)
        return []

    def others():
        inside.wait()
        found = [model.encode(*TEXTS[0]), model.create_gradients(*TEXTS[0])]
        again = model.export_delta(tmp_path / "again", 50.0, 1.0)
        # The bare model inside has the weights of the model with its head.
        apply_delta(base.bert, file).undo()
        over.set()
        return [*found, Path(again).read_bytes()]

    _, found = in_threads([rewritten, others])
    assert all_equal(found[:2], expected)
    assert found[2] == same_file


def test_a_callback_may_encode_with_the_model_that_is_trained(path):
    """A lock of a thread does not stop the thread itself."""

    class Encodes(TrainingCallback):
        def on_step_end(self, model=None, **kwargs):
            found.append(model.encode(*TEXTS[0]))

    found = []
    plain = weights(tiny_data.trainer(path).train())
    assert all_equal(weights(tiny_data.trainer(path).train(callbacks=[Encodes()])), plain)
    assert len(found) == tiny_data.QUICK["max_steps"]


FORKED = """
import os, threading, torch
torch.set_num_threads(1)
import tiny
from gradiend import ModelWithGradiend
from gradiend.gradients import measurement_mode
torch.manual_seed(1)
model = ModelWithGradiend.from_pretrained(tiny.bert(), tokenizer=tiny.bert_tokenizer())
text = "the old nurse was near the door and then [MASK] saw the bread ."
expected = model.encode(text, "she"), model.encode([text], factual="she", alternative="they")
inside, over = threading.Event(), threading.Event()
def measure():
    with measurement_mode(model.base_model):
        inside.set()
        over.wait()
thread = threading.Thread(target=measure)
thread.start()
inside.wait()
child = os.fork()
if not child:
    found = model.encode(text, "she"), model.encode([text], factual="she", alternative="they")
    os._exit(0 if all(map(torch.equal, found, expected)) else 1)
over.set()
thread.join()
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_is_not_stopped_by_a_thread_that_it_does_not_have():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    command = [sys.executable, "-W", "ignore", "-c", FORKED]
    done = subprocess.run(command, env=environment, timeout=60, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
