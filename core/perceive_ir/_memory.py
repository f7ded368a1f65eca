"""Memory that one tensor gives back is kept for the next: getting it from the system anew takes a tenth of the time.

Only for processes that are this project's own: the command line, and the workers that it starts.
"""

from __future__ import annotations

import ctypes
import os
import sys

LARGEST, KEPT = 2**25, 2**29
"""Bytes of the largest piece that is kept, which is what glibc allows, and of what is kept in all."""
VARIABLES = {
    "MALLOC_ARENA_MAX": "1",  # the heaps of other threads hold no large pieces
    "MALLOC_MMAP_THRESHOLD_": str(LARGEST),
    "MALLOC_TRIM_THRESHOLD_": str(KEPT),
}
"""The same for a process that is started."""
ARENA_MAX, MMAP_THRESHOLD, TRIM_THRESHOLD = -8, -3, -1
"""Numbers of glibc's malloc.h."""


def keep_memory() -> None:
    """Let this process keep memory, unless its user has decided otherwise; without glibc nothing happens."""
    if sys.platform != "linux" or any(name in os.environ for name in VARIABLES):
        return
    tune = getattr(ctypes.CDLL(None), "mallopt", None)
    if tune is not None:
        for parameter, value in ((ARENA_MAX, 1), (MMAP_THRESHOLD, LARGEST), (TRIM_THRESHOLD, KEPT)):
            tune(parameter, value)
