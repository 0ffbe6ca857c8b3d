"""How much memory a training will need on each device and for what, and what to lower if that is too much."""

from __future__ import annotations

import ctypes
import math
import platform
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from gradiend.model._parameter_map import ParameterMap
from gradiend.model._topk import topk_count
from gradiend.model.param_mapped import ParamMappedGradiendModel
from gradiend.trainer.core._layouts import Kind, Layout, Lies, MemoryUse, Phases, ProbedPass
from gradiend.trainer.core._optimizers import OPTIMIZERS
from gradiend.trainer.core._step import steps_analytically
from gradiend.trainer.core.arguments import TrainingArguments
from gradiend.util._display import Shown, Table
from gradiend.util._processes import processes

GIB = 2**30
BASE_MODEL = "base model"
RUNTIME = 100 * 2**20
"""Bytes that libraries, the tokenizer and buffers of operators need on the CPU beside tensors (measured)."""
PRE_PRUNING, STEPS, EVALUATION, SAVING = "pre-pruning", "training steps", "evaluation", "loading the best model"
NETWORK = "GRADIEND weights", "optimizer state", "gradients of the GRADIEND", "gradient buffers", "the best weights"
"""Purposes whose memory is in proportion to the entries of the GRADIEND."""

DEVICES_OF_A_MACHINE = 8

CGROUP = Path("/sys/fs/cgroup")


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be allocated on a device; None where that cannot be found out."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type != "cpu":
        return None
    limits = [psutil.virtual_memory().available, _free_in_the_container()]
    return min(value for value in limits if value is not None)


def _free_in_the_container() -> int | None:
    limit, used = CGROUP / "memory.max", CGROUP / "memory.current"
    if not limit.is_file() or not used.is_file() or limit.read_text().strip() == "max":
        return None
    # Cached files are given up when memory is short.
    counts = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    return int(limit.read_text()) - int(used.read_text()) + int(counts.get("inactive_file", 0))


def return_freed_memory() -> None:
    """Give memory that the C library keeps for later allocations back to the system, where the library is glibc.

    Many tensors of some megabytes, made and freed, leave a heap that no large tensor can use.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


@dataclass(frozen=True)
class Probe:
    """The passes of a training over the base model; None for a pass that does not happen."""

    step: ProbedPass | None
    importance: ProbedPass | None = None
    evaluation: ProbedPass | None = None


@dataclass(frozen=True, repr=False)
class MemoryEstimate(Shown):
    """What each phase of a training holds at its worst moment, beyond what the process held before."""

    phases: Phases
    """Phase → what it uses memory for."""
    entries: int
    """Entries of the GRADIEND's map that are trained."""
    block: int = 0
    """Bytes of the largest block of the base model, of which a sharded training gathers two at a time."""
    measured: Phases | None = None
    """The phases on the devices where the training was looked at, if `phases` are those of another layout."""

    @property
    def peak(self) -> dict[str, int]:
        """Device → bytes that the most demanding phase needs beyond what the process holds now."""
        return {device: max(self._total(uses, device) for uses in self.phases.values()) for device in self.devices}

    @property
    def devices(self) -> list[str]:
        """The devices that the training uses."""
        return list(dict.fromkeys(use.device for uses in self.phases.values() for use in uses))

    def worst_phase(self, device: str) -> str:
        """The most demanding phase on a device."""
        return max(self.phases, key=lambda phase: self._total(self.phases[phase], device))

    @property
    def named(self) -> set[str]:
        """Devices that the arguments name (`importance_device`), in every layout."""
        return {use.device for uses in self.phases.values() for use in uses if use.lies is Lies.NAMED}

    @property
    def fullest(self) -> int:
        """The peak of the fullest device, apart from those that the arguments name."""
        return max(nbytes for device, nbytes in self.peak.items() if device not in self.named)

    def with_base_model(self) -> MemoryEstimate:
        """The same estimate for a process that has loaded the base model."""
        phases = {
            phase: tuple(replace(use, held=use.held or use.name == BASE_MODEL) for use in uses)
            for phase, uses in self.phases.items()
        }
        return replace(self, phases=phases)

    def for_layout(self, layout: Layout, device: str | None = None) -> MemoryEstimate:
        """The estimate of the same training in another layout, for processes that hold nothing before.

        `device` names the device of this process, if all devices of the layout hold the same.
        """
        measured = self.measured or self.phases
        return replace(self, phases=layout.place(measured, self.block, device), measured=measured)

    def __str__(self) -> str:
        lines = []
        for device, total in self.peak.items():
            phase = self.worst_phase(device)
            parts = self._purposes(self.phases[phase], device)
            lines.append(f"about {size(total)} on {device}, most during {phase}: {parts}")
        return "; ".join(lines)

    def _tables(self) -> tuple[str, Sequence[Table]]:
        rows = [
            [device, phase, size(self._total(uses, device)), self._purposes(uses, device)]
            for device in self.devices
            for phase, uses in self.phases.items()
        ]
        peaks = ", ".join(f"{size(total)} on {device}" for device, total in self.peak.items())
        header = ["device", "phase", "memory", "for"]
        return f"Memory of a training of {self.entries:,} entries: about {peaks}", [Table("", header, rows, wraps=True)]

    @staticmethod
    def _purposes(uses: tuple[MemoryUse, ...], device: str) -> str:
        by_name: Counter[str] = Counter()
        for use in uses:
            if use.device == device and not use.held:
                by_name[use.name] += use.nbytes
        return ", ".join(f"{name} {size(nbytes)}" for name, nbytes in by_name.most_common() if nbytes)

    @staticmethod
    def _total(uses: tuple[MemoryUse, ...], device: str) -> int:
        return sum(use.nbytes for use in uses if use.device == device and not use.held)


def size(nbytes: float) -> str:
    """Bytes as text: `1.50 GiB`, `12 MiB`."""
    return f"{nbytes / GIB:.2f} GiB" if nbytes >= GIB / 10 else f"{nbytes / 2**20:.0f} MiB"


def estimate_training(
    base_model: Any, gradiend: ParamMappedGradiendModel, arguments: TrainingArguments, probe: Probe | None, *,
    n_classes: int = 2, base_held: bool = False,
) -> MemoryEstimate:  # fmt: skip
    """The memory that a training will need; without a `probe`, activations are left out.

    `gradiend` is the network before pruning, whose weights need not exist. `n_classes` classes share the examples of
    pre-pruning. `base_held`: the base model was in memory before the call of the training.
    """
    probe = probe or Probe(None)
    on_base = str(base_model.device)
    on_each: Counter[str] = Counter()
    for tensor in {id(tensor): tensor for tensor in [*base_model.parameters(), *base_model.buffers()]}.values():
        on_each[str(tensor.device)] += tensor.nbytes
    base = [MemoryUse(BASE_MODEL, device, nbytes, base_held, Lies.BASE) for device, nbytes in on_each.items()]
    config, full = arguments.pre_prune_config, len(gradiend)
    entries = full if config is None or config.topk is None else topk_count(config.topk, full)
    weights = _weights(gradiend, entries)
    kept = OPTIMIZERS[arguments.optim].state
    state = [replace(use, name="optimizer state", nbytes=kept * use.nbytes) for use in weights]
    if not steps_analytically(gradiend, arguments):
        state += [replace(use, name="gradients of the GRADIEND", nbytes=2 * use.nbytes) for use in weights]
    wide = torch.promote_types(next(base_model.parameters()).dtype, torch.float32).itemsize
    buffers = [replace(use, name="gradient buffers", nbytes=entries * wide) for use in weights]
    training = [*base, *weights, *state, *buffers]
    phases: dict[str, tuple[MemoryUse, ...]] = {}
    if config is not None:
        device = on_base if config.importance_device is None else str(torch.device(config.importance_device))
        vector = full * (config.importance_dtype or torch.float32).itemsize
        lies = Lies.FIRST if device in on_each else Lies.NAMED
        uses = [*base, MemoryUse("importance", device, vector, lies=lies)]
        if math.ceil(config.n_samples / n_classes) > config.batch_size:
            # A class with several batches needs a vector of its own.
            uses.append(MemoryUse("accumulator", device, vector, lies=lies))
        phases[PRE_PRUNING] = (*uses, *_passes(probe.importance, on_base, Lies.PRUNING))
    phases[STEPS] = (*training, *_passes(probe.step, on_base, Lies.STEP))
    if arguments.do_eval and probe.evaluation is not None:
        tangents = _tangents(base_model, gradiend.mapping) if entries < full else []
        phases[EVALUATION] = (*training, *tangents, *_passes(probe.evaluation, on_base, Lies.ENCODING))
    if arguments.do_eval and arguments.save_strategy == "best":
        # Read from a file that is mapped into memory while it is copied.
        loaded = [replace(use, name="the best weights", nbytes=2 * use.nbytes) for use in weights]
        phases[SAVING] = (*base, *weights, *loaded)
    return MemoryEstimate(phases, entries, largest_block(base_model))


def _weights(gradiend: ParamMappedGradiendModel, entries: int) -> list[MemoryUse]:
    k, width = gradiend.latent_dim, gradiend.torch_dtype.itemsize
    halves = (
        (str(gradiend.device_encoder), (k * entries + k) * width),
        (str(gradiend.device_decoder), (k + gradiend.bias_decoder) * entries * width),
    )
    return [MemoryUse("GRADIEND weights", device, nbytes, lies=Lies.GRADIEND) for device, nbytes in halves]


def _passes(found: ProbedPass | None, on_base: str, lies: Lies) -> list[MemoryUse]:
    uses = [MemoryUse("libraries", on_base, RUNTIME)] if on_base == "cpu" else []
    peaks = {} if found is None else found.peaks()
    return uses + [MemoryUse("activations", device, n, lies=lies, probed=found) for device, n in peaks.items()]


def _tangents(base_model: Any, mapping: ParameterMap) -> list[MemoryUse]:
    """The dense directions of encodings; the trace of an unpruned map lacks float32 ones, which are views."""
    parameters = dict(base_model.named_parameters())
    on_each: Counter[str] = Counter()
    for parameter in (parameters[entry.name] for entry in mapping):
        on_each[str(parameter.device)] += parameter.nbytes if parameter.dtype == torch.float32 else 0
    return [MemoryUse("tangents", device, nbytes, lies=Lies.ENCODING) for device, nbytes in on_each.items()]


def largest_block(base_model: nn.Module) -> int:
    """Bytes of the largest layer of a model, or of all its parameters outside of layers, if these are more."""
    layers = [part for part in base_model.modules() if isinstance(part, GradientCheckpointingLayer)]
    inside = [{id(parameter): parameter.nbytes for parameter in layer.parameters()} for layer in layers]
    rest = sum(p.nbytes for p in base_model.parameters() if not any(id(p) in layer for layer in inside))
    return max([rest, *(sum(layer.values()) for layer in inside)])


def require_memory(estimate: MemoryEstimate, arguments: TrainingArguments) -> None:
    """Raise MemoryError for a training that needs more than is free.

    The message says what to lower by how much, and which layout would fit on several devices like this one.
    """
    for device in estimate.devices:
        free = free_memory(torch.device(device))
        if free is not None and device == "cpu":
            # The processes of a machine share its memory.
            free //= processes().on_this_machine
        missing = estimate.peak[device]
        if free is not None and missing > free:
            raise MemoryError(
                f"This training needs {size(missing)} more on {device}, where {size(free)} are free: {estimate}. "
                f"{advice(estimate, arguments, device, missing - free)}{_other_layout(estimate, device, free)}"
            )


def _other_layout(estimate: MemoryEstimate, device: str, free: int) -> str:
    """A sentence about the smallest layout that would fit; empty if none would."""
    if device in estimate.named:
        return ""
    # What this device holds of the base model would lie elsewhere.
    held = max(
        sum(use.nbytes for use in uses if use.held and use.device == device) for uses in estimate.phases.values()
    )
    layout = fitting_layout(estimate, free + held, processes_only=torch.device(device).type == "cpu")
    if layout is None:
        return ""
    return f" Or run it {layout}, with {size(free + held)} for each: see docs/large_models.md."


def fitting_layout(estimate: MemoryEstimate, room: int, *, processes_only: bool = False) -> Layout | None:
    """The layout with the fewest devices, of `room` bytes each, on which a training fits; None if none of 64 does.

    A device map divides a model among the devices of one machine, of which there are 8 at most; there is none with
    `processes_only`.
    """
    for n in (2, 4, 8, 16, 32, 64):
        kinds: tuple[Kind, ...] = ("device_map", "data_parallel", "sharded")
        for kind in kinds[1 if processes_only or n > DEVICES_OF_A_MACHINE else 0 :]:
            layout = Layout(kind, n)
            if estimate.for_layout(layout).fullest <= room:
                return layout
    return None


def advice(estimate: MemoryEstimate, arguments: TrainingArguments, device: str, excess: int) -> str:
    """What to lower, and by how much, so that the most demanding phase takes `excess` bytes less."""
    phase = estimate.worst_phase(device)
    found: Counter[str] = Counter()
    for use in estimate.phases[phase]:
        if use.device == device:
            found[use.name] += use.nbytes
    entries, activations = sum(found[name] for name in NETWORK), found["activations"]
    ways: list[tuple[int, str]] = []
    if entries:
        left = max(1, int(estimate.entries * (1 - excess / entries)))
        way = f"keep at most {left} entries with PrePruneConfig(topk={left}), or fewer parameters (params=)"
        ways.append((entries, way))
    ways.append((activations, _smaller_batches(arguments, phase, activations, excess)))
    if "importance" in found:
        half = (found["importance"] + found["accumulator"]) // 2
        ways.append((half, f"PrePruneConfig(importance_dtype=torch.bfloat16) saves {size(half)}"))
    if "accumulator" in found:
        whole = found["accumulator"]
        ways.append((whole, f"a larger PrePruneConfig(batch_size=) than a class has samples saves {size(whole)}"))
    if arguments.base_model_dtype is None and BASE_MODEL in found:
        half = found[BASE_MODEL] // 2
        ways.append((half, f"base_model_dtype=torch.bfloat16 saves {size(half)}"))
    ways.sort(key=lambda way: -way[0])
    return f"To save {size(excess)}: " + "; ".join(text for saved, text in ways if saved and text) + "."


def _smaller_batches(arguments: TrainingArguments, phase: str, activations: int, excess: int) -> str:
    if phase == PRE_PRUNING:
        assert arguments.pre_prune_config is not None
        name, now = "PrePruneConfig(batch_size=)", arguments.pre_prune_config.batch_size
    else:
        name = "eval_batch_size" if phase == EVALUATION else "train_batch_size"
        now = arguments.eval_batch_size if phase == EVALUATION else arguments.train_batch_size
    other = "" if arguments.gradient_checkpointing or phase == EVALUATION else ", or set gradient_checkpointing=True"
    if now == 1 or not activations:
        return other.removeprefix(", or ")
    fitting = max(1, int(now * (1 - excess / activations)))
    return f"lower {name} from {now} to {fitting}{other}"


@contextmanager
def explained_memory_errors(latest: Any, arguments: TrainingArguments) -> Iterator[None]:
    """Turn an allocator's error inside the block into a MemoryError that says what to lower.

    `latest` is called without arguments and gives the `MemoryEstimate` of the training, or None.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        estimate = latest()
        # The allocator of the CPU has no exception class.
        failed = isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator" in str(error)
        if not failed or estimate is None or error.__cause__ is not None:
            raise
        device = max(estimate.devices, key=lambda name: estimate.peak[name])
        missing = estimate.peak[device]
        raise MemoryError(
            f"Memory ran out during the training, which was expected to need {estimate}. "
            f"{advice(estimate, arguments, device, missing // 4)}"
        ) from error
