"""The memory of a training on several devices, and of one whose model is not loaded."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import tiny
import tiny_data
import torch
from transformers import BertConfig, LlamaConfig

from gradiend import PrePruneConfig, TrainingArguments
from gradiend.trainer import Layout, MemoryEstimate
from gradiend.trainer.core._layouts import Lies, MemoryUse
from gradiend.trainer.core._memory import fitting_layout, free_memory, require_memory
from gradiend.trainer.text import estimate_from_config

PRUNED = {"pre_prune_config": PrePruneConfig(topk=0.1, n_samples=8)}
STEPS = "training steps"


def named(estimate: MemoryEstimate, phase: str = STEPS) -> dict[str, int]:
    """Purpose → bytes in a phase, on all devices together."""
    found: dict[str, int] = {}
    for use in estimate.phases[phase]:
        found[use.name] = found.get(use.name, 0) + use.nbytes
    return found


@pytest.fixture(scope="module")
def estimate(tmp_path_factory) -> MemoryEstimate:
    return tiny_data.trainer(tiny_data.save_bert(tmp_path_factory.mktemp("base")), PRUNED).estimate_memory()


class TestLayouts:
    """What another layout makes of an estimate."""

    def test_one_device_holds_all(self, estimate):
        alone = estimate.for_layout(Layout())
        assert list(alone.peak.values()) == list(estimate.peak.values()) == [alone.fullest]
        assert {phase: named(alone, phase) for phase in alone.phases} == {
            phase: named(estimate, phase) for phase in estimate.phases
        }

    @pytest.mark.parametrize("n", [1, 2, 5])
    def test_a_map_divides_without_a_remainder(self, estimate, n):
        divided = estimate.for_layout(Layout("device_map", n))
        assert set(divided.devices) == {f"device {number}" for number in range(n)}
        for phase in estimate.phases:
            for name, nbytes in named(divided, phase).items():
                assert nbytes == pytest.approx(named(estimate, phase)[name], abs=n), (phase, name)

    def test_a_map_fills_the_devices_alike_beside_the_gradiend(self):
        uses = (MemoryUse("base model", "cuda:0", 90, lies=Lies.BASE), MemoryUse("w", "cuda:0", 10, lies=Lies.GRADIEND))
        estimate = MemoryEstimate({STEPS: uses}, 1)
        assert list(estimate.for_layout(Layout("device_map", 4)).peak.values()) == [25, 25, 25, 25]
        uses = (MemoryUse("base model", "cuda:0", 30, lies=Lies.BASE), MemoryUse("w", "cuda:0", 70, lies=Lies.GRADIEND))
        estimate = MemoryEstimate({STEPS: uses}, 1)
        assert list(estimate.for_layout(Layout("device_map", 4)).peak.values()) == [70, 10, 10, 10]

    def test_processes_share_a_batch_and_nothing_else(self, estimate):
        shared, alone = named(estimate.for_layout(Layout("data_parallel", 2))), named(estimate)
        activations, whole = shared.pop("activations"), alone.pop("activations")
        assert shared == alone
        assert 0.4 * whole < activations < 0.75 * whole
        pruning = "pre-pruning"
        assert named(estimate.for_layout(Layout("data_parallel", 2)), pruning) == named(estimate, pruning)

    def test_shards_divide_all_weights_and_gather_two_blocks(self, estimate):
        shards, alone = named(estimate.for_layout(Layout("sharded", 4))), named(estimate)
        model = tiny.bert()
        layer = sum(parameter.nbytes for parameter in model.bert.encoder.layer[0].parameters())
        rest = sum(parameter.nbytes for parameter in model.parameters()) - 2 * layer
        assert shards.pop("two gathered blocks") == 2 * max(layer, rest)
        assert {name: shards[name] for name in ("activations", "libraries")} == {
            name: alone[name] for name in ("activations", "libraries")
        }
        for name in ("base model", "GRADIEND weights", "optimizer state", "gradient buffers"):
            assert shards[name] == pytest.approx(alone[name] / 4, abs=4), name
        importance = named(estimate.for_layout(Layout("sharded", 4)), "pre-pruning")["importance"]
        assert importance == pytest.approx(named(estimate, "pre-pruning")["importance"] / 4, abs=4)

    def test_a_process_can_name_its_device(self, estimate):
        layout = Layout("sharded", 2)
        own = estimate.for_layout(layout, device="cpu")
        assert own.peak == {"cpu": estimate.for_layout(layout).fullest}
        require_memory(own.with_base_model(), TrainingArguments())

    def test_a_layout_of_a_layout_is_that_of_the_training(self, estimate):
        twice = estimate.for_layout(Layout("device_map", 3)).for_layout(Layout("data_parallel", 2))
        assert twice.phases == estimate.for_layout(Layout("data_parallel", 2)).phases

    def test_an_importance_on_a_named_device_stays_there(self, tmp_path):
        config = PrePruneConfig(topk=0.1, importance_device="cpu")
        found = estimate_from_config(BertConfig(num_hidden_layers=1), TrainingArguments(pre_prune_config=config))
        sharded = found.for_layout(Layout("sharded", 2))
        vector = 4 * round(10 * found.entries)
        assert sharded.peak["cpu"] == pytest.approx(vector, rel=1e-3)
        assert sharded.fullest == max(nbytes for device, nbytes in sharded.peak.items() if device != "cpu")

    @pytest.mark.parametrize(
        ("given", "error", "message"),
        [
            (("shard", 2), ValueError, "Did you mean 'sharded'"),
            (("sharded", 0), ValueError, "at least 1"),
            (("sharded", 2.0), TypeError, "whole number"),
            (("one_device", 2), ValueError, "Name another kind"),
        ],
    )
    def test_bad_layouts(self, given, error, message):
        with pytest.raises(error, match=message):
            Layout(*given)


class TestRefusal:
    """A training that does not fit is told where it would."""

    def test_the_smallest_layout_that_fits(self):
        base, weights = (
            MemoryUse("base model", "cuda:0", 60, lies=Lies.BASE), MemoryUse("w", "cuda:0", 10, lies=Lies.GRADIEND)
        )  # fmt: skip
        estimate = MemoryEstimate({STEPS: (base, weights)}, 1)
        assert fitting_layout(estimate, 35) == Layout("device_map", 2)
        assert fitting_layout(estimate, 35, processes_only=True) == Layout("sharded", 2)
        assert fitting_layout(estimate, 10) == Layout("device_map", 8)
        assert fitting_layout(estimate, 9) == Layout("sharded", 16)
        assert fitting_layout(estimate, 5) == Layout("sharded", 16)
        assert fitting_layout(estimate, 1) is None

    def test_the_message_names_it(self):
        free = free_memory(torch.device("cpu"))
        if free is None:
            pytest.skip("this system does not say what is free")
        uses = (MemoryUse("GRADIEND weights", "cpu", 3 * free, lies=Lies.GRADIEND),)
        with pytest.raises(MemoryError, match=r"Or run it sharded over 4 processes \(fsdp=True\), with .* for each"):
            require_memory(MemoryEstimate({STEPS: uses}, 1000), TrainingArguments())


class TestWithoutAModel:
    """From a config alone."""

    def test_it_is_the_estimate_of_the_loaded_model(self, tmp_path):
        name = tiny_data.save_bert(tmp_path)
        args = {**tiny_data.QUICK, **PRUNED}
        loaded = tiny_data.trainer(name, args).estimate_memory(layout=Layout("sharded", 2))
        config = BertConfig.from_pretrained(name)
        found = estimate_from_config(config, TrainingArguments(**args), n_tokens=16, layout=Layout("sharded", 2))
        assert found.entries == loaded.entries
        for phase in (STEPS, "pre-pruning"):
            one, other = named(found, phase), named(loaded, phase)
            assert one.pop("activations") == pytest.approx(other.pop("activations") / 1.25, rel=0.25)
            del other["libraries"]
            assert one == other

    def test_it_grows_with_the_batch_and_the_base_model_type(self):
        config = LlamaConfig(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2)
        small = estimate_from_config(config, TrainingArguments(base_model_dtype="bfloat16", train_batch_size=8))
        large = estimate_from_config(config, TrainingArguments(train_batch_size=32))
        assert named(large)["base model"] == pytest.approx(2 * named(small)["base model"], rel=1e-3)
        assert named(large)["activations"] > 3 * named(small)["activations"]
        checkpointed = estimate_from_config(config, TrainingArguments(gradient_checkpointing=True))
        assert named(checkpointed)["activations"] < named(large)["activations"]

    def test_the_script_prints_a_table(self):
        script = Path(__file__).parents[1] / "scripts" / "large_model_tables.py"
        config = LlamaConfig(hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=2)
        rows = [line.split("|")[1:-1] for line in runpy.run_path(str(script))["table"](config, 4)]
        assert len({len(row) for row in rows}) == 1
        assert [row[0].strip() for row in rows[2:]] == [
            "all", "1 %", "1 %, importance on the CPU", "0.1 %, importance on the CPU",
        ]  # fmt: skip
