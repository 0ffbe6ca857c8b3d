"""Memory: what passes take, what an estimate says, what it advises, and layers that run again."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import tiny
import torch
from transformers import BertConfig, BertForMaskedLM

from gradiend import PrePruneConfig, TextPredictionTrainer, TrainingArguments
from gradiend.demo import model_path
from gradiend.gradients import GradientEngine, TokenizedWord, trace_memory
from gradiend.model import _topk as selection
from gradiend.model._context import Side
from gradiend.model.core.backbone import build_gradiend_from_base_model, select_parameters
from gradiend.objectives import Masked
from gradiend.trainer.core._memory import MemoryEstimate, MemoryUse, require_memory
from gradiend.trainer.core.pruning import pre_prune
from gradiend.trainer.text import TextPredictionModelWithGradiend
from gradiend.trainer.trainer import TrainingCallback

BOTH = [Side.ALTERNATIVE, Side.DIFF]


def deep_bert():
    """Twelve narrow layers, in training mode, with dropout."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=12, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, initializer_range=0.2,
    )  # fmt: skip
    return BertForMaskedLM(config).train()


def words(rows, length=31, seed=0):
    ids = torch.randint(5, 40, (rows, length), generator=torch.Generator().manual_seed(seed)).tolist()
    return [TokenizedWord(tuple(row), (3,), (7 + seed,)) for row in ids]


def engine_of(model):
    return GradientEngine(model, select_parameters(model), Masked(tiny.bert_tokenizer(), max_length=64))


def drop(side, place, gradient):
    del side, place, gradient


def peak(engine, rows):
    factual = words(rows)
    alternative = [TokenizedWord(word.input_ids, word.positions, (9,)) for word in factual]
    return trace_memory(engine.model, lambda: engine.stream(factual, alternative, BOTH, drop), rows)


class TestTrace:
    """A small run says what a large one takes."""

    def test_two_examples_tell_of_sixteen(self):
        engine = engine_of(deep_bert())
        peak(engine, 1)
        few, many = peak(engine, 2), peak(engine, 16)
        assert few.peak(16) == pytest.approx(many.peak(16), rel=0.02)
        assert few.peak(16) > 5 * few.peak(2)

    def test_checkpointed_layers_take_less_and_give_the_same(self):
        model = deep_bert()
        engine = engine_of(model)
        plain = engine.gradients(words(4), words(4, seed=1), BOTH)
        before = peak(engine, 8).peak(8)
        engine.checkpoints_layers = True
        again = engine.gradients(words(4), words(4, seed=1), BOTH)
        for one, other in zip(plain, again, strict=True):
            assert tiny.distance(other, one) < 1e-6
        assert peak(engine, 8).peak(8) < 0.5 * before
        assert model.training
        assert not any("forward" in vars(part) for part in model.modules())

    def test_layers_that_cannot_run_again_are_an_error(self):
        engine = engine_of(deep_bert())
        engine.model.bert.encoder.layer = torch.nn.ModuleList()
        engine.checkpoints_layers = True
        with pytest.raises(ValueError, match="no layers for gradient checkpointing"):
            engine.gradients(words(1), words(1), BOTH)


@pytest.mark.parametrize("batch_size", [8, 2])
def test_pre_pruning_holds_one_importance_vector_and_one_accumulator_at_most(batch_size, monkeypatch):
    """Beside what one pass over a batch takes. Gradients of full width would be seen in the trace."""
    monkeypatch.setattr(selection, "BLOCK", 1 << 12)
    base = tiny.bert()
    base.resize_token_embeddings(20_000)
    gradiend = build_gradiend_from_base_model(base, "tiny", param_map=["*layer*", "*word_emb*"], lazy_init=True)
    model = TextPredictionModelWithGradiend(base, gradiend, tiny.bert_tokenizer())
    items = [
        {"factual": inputs, "alternative": inputs, "feature_class_id": word}
        for word in ("he", "she") * 8
        for inputs in [model.create_inputs("the dog saw [MASK] .", word)]
    ]
    pre_prune(model, items, PrePruneConfig(topk=10), inplace=False)
    vector = 4 * len(model)
    one = [model.objective.tokenize(["the dog saw [MASK] ."], ["he"])[0]] * batch_size
    alone = trace_memory(base, lambda: model.engine.stream(one, one, [Side.FACTUAL], drop), 1).peak(1)
    config = PrePruneConfig(topk=10, batch_size=batch_size)
    used = trace_memory(base, lambda: pre_prune(model, items, config, inplace=False), 1).peak(1)
    vectors = 1 if batch_size == 8 else 2
    assert used >= vectors * vector
    assert used <= vectors * vector + alone + 0.3 * vector


@pytest.fixture(scope="module")
def data():
    texts = [f"the {noun} saw the house and [MASK] very old ." for noun in ("dog", "cat", "nurse", "sailor")]
    frames = [
        pd.DataFrame({"masked": texts * 5, "label": word, "label_class": name, "split": split})
        for name, word in (("A", "was"), ("B", "were"))
        for split in ("train", "validation", "test")
    ]
    return pd.concat(frames, ignore_index=True)


def trainer(data, model=None, **arguments):
    fast = {"train_batch_size": 4, "max_steps": 4, "learning_rate": 1e-3, "max_seeds": 1}
    args = TrainingArguments(**{**fast, **arguments})
    return TextPredictionTrainer(model or str(model_path()), data=data, target_classes=["A", "B"], args=args)


class TestEstimate:
    """Before a training."""

    def test_it_counts_the_network_exactly(self, data):
        unpruned = trainer(data).estimate_memory()
        steps = {use.name: 0 for use in unpruned.phases["training steps"]}
        for use in unpruned.phases["training steps"]:
            steps[use.name] += use.nbytes
        model = trainer(data).get_model()
        weights = sum(parameter.nbytes for parameter in model.gradiend.parameters())
        assert steps["GRADIEND weights"] == weights
        assert steps["optimizer state"] == 2 * weights
        assert steps["gradient buffers"] == 2 * 4 * len(model)
        base = [*model.base_model.parameters(), *model.base_model.buffers()]
        assert steps["base model"] == sum({id(tensor): tensor.nbytes for tensor in base}.values())
        assert unpruned.peak["cpu"] >= sum(steps.values())
        assert "on cpu, most during" in str(unpruned)

    @pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory of a process from /proc")
    @pytest.mark.parametrize(
        "case",
        [
            "unpruned",
            pytest.param("autograd", marks=pytest.mark.slow),
            pytest.param("activations", marks=pytest.mark.slow),
        ],
    )
    def test_it_is_within_15_percent_of_what_a_run_takes(self, case):
        script = Path(__file__).with_name("memory_run.py")
        done = subprocess.run([sys.executable, str(script), case], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["measured"] > 2**29
        assert found["estimated"] == pytest.approx(found["measured"], rel=0.15)

    def test_it_follows_the_arguments(self, data):
        whole = trainer(data).estimate_memory()
        pruned = trainer(data).estimate_memory(pre_prune_config=PrePruneConfig(topk=0.01))
        assert pruned.entries == round(0.01 * whole.entries)
        importance = next(use for use in pruned.phases["pre-pruning"] if use.name == "importance")
        assert importance.nbytes == 4 * whole.entries

        def named(estimate, name, phase="training steps"):
            return sum(use.nbytes for use in estimate.phases[phase] if use.name == name)

        assert named(trainer(data).estimate_memory(train_batch_size=8), "activations") > 1.5 * named(
            whole, "activations"
        )
        checkpointed = trainer(data).estimate_memory(gradient_checkpointing=True)
        assert named(checkpointed, "activations") < named(whole, "activations")
        half = trainer(data).estimate_memory(base_model_dtype="bfloat16")
        assert named(half, "base model") == pytest.approx(named(whole, "base model") / 2, rel=0.01)
        batches = PrePruneConfig(topk=0.01, batch_size=2, importance_dtype=torch.bfloat16)
        several = trainer(data).estimate_memory(pre_prune_config=batches)
        assert named(several, "accumulator", "pre-pruning") == 2 * whole.entries

    def test_a_training_before_changes_nothing(self, data):
        one = trainer(data, pre_prune_config=PrePruneConfig(topk=0.01))
        before = one.estimate_memory()
        one.train()
        one.get_model()
        assert one.estimate_memory().peak == before.peak

    def test_a_model_that_is_in_memory_is_checkpointed_too(self, data):
        loaded = trainer(data, gradient_checkpointing=True)
        before = loaded.estimate_memory().phases["training steps"]
        loaded.get_model()
        after = loaded.estimate_memory().phases["training steps"]
        assert [use.nbytes for use in before] == [use.nbytes for use in after]

    def test_a_model_that_is_in_memory_is_not_counted(self, data):
        loaded = trainer(data)
        loaded.get_model()

        def held(estimate):
            return [use.held for use in estimate.phases["training steps"] if use.name == "base model"]

        assert held(loaded.estimate_memory()) == [True]
        assert held(trainer(data).estimate_memory()) == [False]

    def test_what_will_not_fit_is_refused_with_advice(self):
        tera = 1 << 42
        estimate = MemoryEstimate(
            {
                "training steps": (
                    MemoryUse("base model", "cpu", tera, held=True),
                    MemoryUse("GRADIEND weights", "cpu", 100 * tera),
                    MemoryUse("activations", "cpu", 50 * tera),
                )
            },
            entries=1000,
        )
        with pytest.raises(MemoryError, match="on cpu, where") as error:
            require_memory(estimate, TrainingArguments())
        message = str(error.value)
        for way in ("PrePruneConfig(topk=1)", "train_batch_size from 32 to 1", "gradient_checkpointing", "bfloat16"):
            assert way in message

    def test_running_out_of_memory_says_what_to_lower(self, data):
        class Full(TrainingCallback):
            def on_step_end(self, step, loss, model, config, **kwargs):
                raise torch.OutOfMemoryError("CUDA out of memory.")

        with pytest.raises(MemoryError, match=r"Memory ran out .* To save .*: keep at most") as error:
            trainer(data).train(callbacks=[Full()])
        assert isinstance(error.value.__cause__, torch.OutOfMemoryError)


class TestArguments:
    """base_model_dtype and gradient_checkpointing reach the base model."""

    def test_the_type_of_the_base_model(self, data):
        model = trainer(data, base_model_dtype=torch.bfloat16).train().get_model()
        assert model.base_model.dtype == torch.bfloat16
        assert model.gradiend.torch_dtype == torch.float32
        with pytest.raises(ValueError, match=r"already, in torch\.float32"):
            trainer(data, trainer(data).get_model().base_model, base_model_dtype="bfloat16").get_model()
        with pytest.raises(ValueError, match="Did you mean 'bfloat16'"):
            TrainingArguments(base_model_dtype="bflot16")
        args = TrainingArguments(base_model_dtype="torch.bfloat16")
        assert TrainingArguments.from_dict(args.to_dict()).base_model_dtype == torch.bfloat16

    def test_running_layers_again_trains_the_same(self, data):
        weights = [
            trainer(data, gradient_checkpointing=flag).train().get_model().gradiend.decoder_linear.weight.detach()
            for flag in (False, True)
        ]
        assert tiny.distance(weights[1], weights[0]) < 1e-4
