"""Measure how far a tiled restoration lies from the whole one, with the weights of the package, float32.

python scripts/measure_seams.py
"""

from __future__ import annotations

import sys

import numpy as np

from perceive_ir import TASKS, degrade, load
from perceive_ir._vocabulary import type_of
from perceive_ir.samples import load_sample


def main() -> None:
    """Print the largest difference in units of the value range, per task and overlap."""
    model = load("compact", device="cpu", precision="float32")
    clean = load_sample("lake")[:384, :512]
    for tasks in (*((task,) for task in TASKS), ("denoise", "derain", "dehaze")):  # the last: all specialists
        image = clean
        for task in reversed(tasks):
            image = degrade(image, type_of(task), 0.6)
        image = image.astype(np.float32) / 255
        fields = {"task": tasks, "severity": 0.6}
        whole = model.restore(image, tile=512, **fields).image
        default = np.abs(model.restore(image, tile=128, **fields).image - whole).max()
        exact = np.abs(model.restore(image, tile=128, overlap="exact", **fields).image - whole).max()
        sys.stdout.write(f"| {' + '.join(tasks)} | {default:.1e} | {exact:.1e} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
