"""Restore an OME-Zarr of many gigabytes in full, by its chunks; print how long it takes, and the most memory used.

    python scripts/benchmark_zarr.py --gigabytes 2

The stack (ZYX, float32, planes of 2048²) is noise on a pattern, made on the spot. Memory is that of the whole process,
so a small stack and a large one should end with the same number.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import zarr

import perceive_ir as pir
from perceive_ir._memory import keep_memory
from perceive_ir._ome_zarr import restore_ome_zarr

SIDE, CHUNK = 2048, 512
RECIPE = pir.Recipe(task="denoise", severity=0.4)


def main() -> None:
    """Measure and print JSON."""
    wish = options()
    keep_memory()
    planes = max(1, round(wish.gigabytes * 1e9 / (4 * SIDE**2)))
    with tempfile.TemporaryDirectory(dir=wish.folder) as place:
        source, target = Path(place, "in.zarr"), Path(place, "out.zarr")
        make(source, planes)
        before, start = peak(), time.perf_counter()
        for _ in restore_ome_zarr(source, target, RECIPE):
            pass
        seconds, stack = time.perf_counter() - start, zarr.open_group(target, mode="r")["0"]
        assert stack.shape == (planes, SIDE, SIDE), stack.shape
        changed = float(
            np.abs(stack[-1, :CHUNK, :CHUNK] - zarr.open_group(source, mode="r")["0"][-1, :CHUNK, :CHUNK]).mean()
        )
    found = {
        "gigabytes": round(planes * SIDE**2 * 4 / 1e9, 2), "planes": planes, "seconds": round(seconds, 1),
        "megapixels_per_second": round(planes * SIDE**2 / 1e6 / seconds, 2), "mean_change": round(changed, 4),
        "peak_gigabytes_before": round(before, 2), "peak_gigabytes": round(peak(), 2),
    }  # fmt: skip
    print(json.dumps(found, indent=2))


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2)
    parser.add_argument("--folder", help="where to make the stacks; by default where temporary files are")
    return parser.parse_args()


def make(folder: Path, planes: int) -> None:
    """Write a stack of one level."""
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 0.2, 0.2]}]}
    about = {"ome": {"version": "0.5", "multiscales": [{"name": "stack", "axes": axes, "datasets": [level]}]}}
    group = zarr.open_group(folder, mode="w", zarr_format=3, attributes=about)
    chunks, names = (1, CHUNK, CHUNK), ["z", "y", "x"]
    stack = group.create_array("0", shape=(planes, SIDE, SIDE), chunks=chunks, dtype="float32", dimension_names=names)
    random, (y, x) = np.random.default_rng(0), np.mgrid[:SIDE, :SIDE] / 40
    for n in range(planes):
        stack[n] = 0.5 + 0.3 * np.sin(x + n / 5) * np.cos(y) + random.normal(0, 0.06, x.shape)


def peak() -> float:
    """Return the most memory that this process ever had, in gigabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    main()
