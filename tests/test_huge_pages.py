"""Importing the package makes PyTorch take large tensors in huge pages, unless the user has said otherwise."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
FAULTS = """
import torch, gradiend, resource
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.zeros(16 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(
    not SETTING.exists() or "[never]" in SETTING.read_text(), reason="this system has no transparent huge pages"
)
@pytest.mark.parametrize(
    ("said", "fewer"), [({}, True), pytest.param({"THP_MEM_ALLOC_ENABLE": "0"}, "[always]", marks=pytest.mark.slow)]
)
def test_large_tensors_come_in_huge_pages(said, fewer):
    environment = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"} | said
    done = subprocess.run([sys.executable, "-c", FAULTS], env=environment, capture_output=True, text=True, check=True)
    pages = (64 << 20) // os.sysconf("SC_PAGESIZE")
    expected = fewer is True or fewer in SETTING.read_text()
    assert (int(done.stdout) < pages / 4) == expected
