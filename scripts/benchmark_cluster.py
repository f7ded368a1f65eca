"""The rate of a folder of small pictures on workers of this machine, beside that of one process.

    python scripts/benchmark_cluster.py --count 200 --side 256 --workers 1 2

Each worker is a process with one thread for its network, and so is the one process. What is measured is the run alone:
workers have started and loaded the model before. It says something only where nothing else is busy.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import dask
import tifffile
import torch
from distributed import Client, LocalCluster

import perceive_ir as pir
from benchmark_batch import RECIPE, picture
from perceive_ir._memory import VARIABLES, keep_memory
from perceive_ir.batch import Batch, run


def main() -> None:
    """Measure and print JSON."""
    wish = options()
    torch.set_num_threads(1)
    keep_memory()
    with tempfile.TemporaryDirectory(dir=wish.folder) as place:
        source, few = Path(place, "in"), Path(place, "few")
        for folder, count in ((source, wish.count), (few, 4 * max(wish.workers))):
            folder.mkdir()
            for number in range(count):
                pixels = picture(number, wish.side)
                tifffile.imwrite(folder / f"{number}.tif", pixels, compression="zstd", compressionargs={"level": 1})
        model = {"restorer": pir.load(device="cpu")}
        timed(Batch(few, Path(place, "warm"), RECIPE), model)
        rates = {"one process": timed(Batch(source, Path(place, "here"), RECIPE), model)}
        for workers in wish.workers:
            with (
                dask.config.set({"distributed.nanny.pre-spawn-environ": VARIABLES}),
                LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
                Client(cluster) as client,
            ):
                timed(Batch(few, Path(place, f"warm{workers}"), RECIPE), {"client": client})
                done = Batch(source, Path(place, f"out{workers}"), RECIPE)
                rates[f"workers: {workers}"] = timed(done, {"client": client})
    print(json.dumps({"pictures": wish.count, "side": wish.side, "pictures_per_second": rates}, indent=2))


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--folder", help="where to make the folders; by default where temporary files are")
    return parser.parse_args()


def timed(batch: Batch, crew: dict[str, Any]) -> float:
    """Run; return how many pictures were done in a second."""
    events = run(batch, **crew)
    next(events)  # by now the model is loaded
    start = time.perf_counter()
    last = [event.progress for event in events][-1]
    assert last.done == last.total, last
    return round(last.done / (time.perf_counter() - start), 2)


if __name__ == "__main__":
    main()
