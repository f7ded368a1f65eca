"""The rate of a folder of small pictures, beside perceive + restore on the same pictures in memory, in one run.

    python scripts/benchmark_batch.py --count 1000 --side 256

Pictures are made on the spot, in a TIFF that is compressed fast. In memory they are batched as the folder engine
batches them; the difference is what reading, checking, writing and the journal cost where they do not overlap. The
second look at each result, which a folder's report tells, is work of its own: it is measured in memory too.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

import perceive_ir as pir
from perceive_ir._engine import look_at
from perceive_ir.batch import Batch, Journal, run
from perceive_ir.samples import load_sample, sample_names

RECIPE = pir.Recipe(task="denoise")
"""A task is given, so that the network runs on every picture."""


def main() -> None:
    """Measure and print JSON."""
    wish = options()
    model = pir.load(wish.model, device=wish.device, precision=wish.precision)
    pixels = [picture(number, wish.side) for number in range(wish.count)]
    at_once = max(1, model.pixels_at_once // wish.side**2)
    in_memory(model, pixels[: 2 * at_once], at_once)  # warm
    with tempfile.TemporaryDirectory(dir=wish.folder) as place:
        source = Path(place, "in")
        source.mkdir()
        for number, image in enumerate(pixels):
            tifffile.imwrite(source / f"{number}.tif", image, compression="zstd", compressionargs={"level": 1})
        seconds: dict[str, tuple[float, float]] = {}
        stages = {}
        for name, again in (("in_memory", False), ("in_memory_with_second_look", True)):
            with timed(seconds, name):
                in_memory(model, pixels, at_once, again)
        for name, again in (("folder", False), ("folder_with_second_look", True)):
            batch = Batch(source, Path(place, name), RECIPE, workers=wish.workers, look_again=again)
            with timed(seconds, name):
                last = [event.progress for event in run(batch, model)][-1]
            assert last.done == wish.count, last
            stages[name] = spent(batch.output)
        with timed(seconds, "nothing_left_to_do"):
            list(run(batch, model))
    show(wish, model, seconds, stages)


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--model", default="compact")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--folder", help="where to make the folders; by default where temporary files are")
    return parser.parse_args()


def picture(number: int, side: int) -> NDArray[np.uint8]:
    """Cut a square out of a sample and make it noisy, otherwise for each number."""
    rng, names = np.random.default_rng(number), [name for name in sample_names() if load_sample(name).ndim == 3]
    sample = load_sample(names[number % len(names)])
    rows, columns = (np.arange(side) + rng.integers(0, 1000) for _ in "yx")
    cut = sample[np.ix_(rows % sample.shape[0], columns % sample.shape[1])]
    return (cut + rng.normal(0, 20, cut.shape)).clip(0, 255).astype(np.uint8)


def in_memory(model: pir.Restorer, pixels: list[NDArray[np.uint8]], at_once: int, again: bool = False) -> None:
    """Perceive and restore pictures that are in memory, and perceive the results too if wanted."""
    for first in range(0, len(pixels), at_once):
        subjects = [look_at(image) for image in pixels[first : first + at_once]]
        results = list(model.restore_all(subjects, model.perceive_all(subjects), RECIPE))
        if again:
            model.perceive_all([look_at(result.image) for _, result in results], brief=True)


@contextmanager
def timed(seconds: dict[str, tuple[float, float]], name: str) -> Iterator[None]:
    """Note how long the block took, by the clock and of all processors' time."""
    start, work = time.perf_counter(), time.process_time()
    yield
    seconds[name] = time.perf_counter() - start, time.process_time() - work


def spent(output: Path) -> dict[str, float]:
    """Return the seconds of all pictures by stage; reading and writing run beside the rest."""
    with Journal(output) as journal:
        parts = [row.about["seconds"] for row in journal.rows()]
    return {name: round(sum(part[name] for part in parts), 3) for name in ("read", "restore", "write")}


def show(
    wish: argparse.Namespace, model: pir.Restorer, seconds: dict[str, tuple[float, float]], stages: dict[str, Any]
) -> None:
    """Print what was measured; where other programs are busy, the processors' time says more than the clock."""
    same = {name: name.replace("folder", "in_memory") for name in stages}
    clock, work = ({name: values[n] for name, values in seconds.items()} for n in (0, 1))
    found = {
        "pictures": wish.count,
        "side": wish.side,
        "device": str(model.device),
        "precision": str(model.precision),
        "seconds": {name: round(value, 3) for name, value in clock.items()},
        "processor_seconds": {name: round(value, 3) for name, value in work.items()},
        "pictures_per_second": {name: round(wish.count / value, 2) for name, value in clock.items()},
        "rate_over_memory": {name: round(clock["in_memory"] / clock[name], 4) for name in stages},
        "rate_over_the_same_work_in_memory": {name: round(clock[same[name]] / clock[name], 4) for name in stages},
        "rate_over_memory_by_processor": {name: round(work["in_memory"] / work[name], 4) for name in stages},
        "seconds_by_stage": stages,
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
