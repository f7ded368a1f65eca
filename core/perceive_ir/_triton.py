"""Keeps triton, a compiler for GPUs that torch imports wherever it can, out of a process that draws with Mesa.

Each brings an LLVM of its own, and the second to be loaded ends the process: napari on a machine whose graphics Mesa
computes would die of the import of torchvision.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

TRITON, CANVAS = "triton", "vispy"
"""What is kept out, and what a process has imported that draws."""


@contextmanager
def without_triton() -> Iterator[None]:
    """Import libraries in here that import triton by the way; nothing of ours needs it where there is a canvas."""
    if TRITON in sys.modules or CANVAS not in sys.modules:
        yield
        return
    from torch.utils import _triton

    sys.modules[TRITON] = None  # type: ignore[assignment]  # how Python marks what must not be imported
    try:
        yield
    finally:
        del sys.modules[TRITON]
        _triton.has_triton_package.cache_clear()  # who asks later may find it
