"""Free memory of a device, and memory that can be given back."""

from __future__ import annotations

import ctypes
import platform
from pathlib import Path

import torch

CGROUP = Path("/sys/fs/cgroup")


def free_memory(device: torch.device) -> int | None:
    """The number of bytes that can still be allocated on a device; None if the number is unknown."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type != "cpu":
        return None
    limits, machine = [], Path("/proc/meminfo")
    if machine.is_file():
        fields = dict(line.split(":", 1) for line in machine.read_text().splitlines())
        limits += [int(fields["MemAvailable"].split()[0]) * 1024] if "MemAvailable" in fields else []
    most, used = CGROUP / "memory.max", CGROUP / "memory.current"
    if most.is_file() and used.is_file() and most.read_text().strip() != "max":
        # The system gives cached files up when memory is short.
        counts = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        limits.append(int(most.read_text()) - int(used.read_text()) + int(counts.get("inactive_file", 0)))
    return min(limits, default=None)


def return_freed_memory() -> None:
    """Give the memory that glibc keeps for later allocations back to the system; other C libraries are left alone.

    After many tensors of some megabytes were made and freed, no large tensor could use that memory.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
