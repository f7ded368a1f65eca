"""A process of this project keeps the memory that tensors give back."""

import os
import subprocess
import sys

import pytest

from perceive_ir._memory import VARIABLES

FAULTS = """
import resource, torch
from perceive_ir._memory import keep_memory

keep_memory()
torch.set_num_threads(1)
for n in range(40):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    pieces = [torch.ones(6_000_000) for _ in range(4)]
    del pieces
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(**variables: str) -> int:
    """Return how often a process had to get memory for the last four pieces of 24 MB."""
    own = {name: value for name, value in os.environ.items() if name not in VARIABLES} | variables
    done = subprocess.run([sys.executable, "-c", FAULTS], env=own, check=True, capture_output=True, text=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be told")
def test_memory_is_kept_unless_the_user_decides_otherwise() -> None:
    assert faults() < 100 < 10_000 < faults(MALLOC_TRIM_THRESHOLD_="65536")
    assert faults(**VARIABLES) < 100
