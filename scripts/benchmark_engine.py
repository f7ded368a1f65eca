"""Measure the engine: speed beside other networks, memory and time of large pictures.

    python scripts/benchmark_engine.py speed      # medians of interleaved runs, one process
    python scripts/benchmark_engine.py memory     # peak memory above the caller's arrays, one process per size
    python scripts/benchmark_engine.py start      # import and load times, best of three fresh processes
    python scripts/benchmark_engine.py kept       # what it is worth to keep the memory that tensors give back
    python scripts/benchmark_engine.py compile    # what torch.compile is worth, one process per row

Networks other than compact have random weights here: only their speed is measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perceive_ir import Restorer

RECIPE = {"task": "denoise", "severity": 0.4}
LIMIT = 1800
"""Seconds after which a network that is being compiled is given up."""


def picture(height: int, width: int) -> object:
    """Make a noisy uint8 picture."""
    import numpy as np

    random = np.random.default_rng(0)
    return random.integers(0, 256, (height, width, 3), dtype=np.uint8)


def timed(run: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds that a call takes."""
    start = clock()
    run()
    return clock() - start


def interleaved(
    runs: dict[str, Callable[[], object]], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Median seconds of each call, the calls taken in turn after one warm-up."""
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            times[name].append(timed(run, clock))
    return {name: median(values) for name, values in times.items()}


def others() -> dict[str, Callable[[], object]]:
    """Two networks that people use, from spandrel, on 512²."""
    import torch
    from spandrel.architectures.DRUNet import DRUNet
    from spandrel.architectures.NAFNet import NAFNet

    image = torch.rand(1, 3, 512, 512).to(memory_format=torch.channels_last)
    nets = {
        "NAFNet-32 (GoPro sizes)": NAFNet(
            width=32, middle_blk_num=1, enc_blk_nums=[1, 1, 1, 28], dec_blk_nums=[1, 1, 1, 1]
        ),
        "DRUNet": DRUNet(in_nc=4, out_nc=3, act_mode="R"),
    }
    runs = {}
    for name, net in nets.items():
        net = net.eval().to(memory_format=torch.channels_last)
        given = torch.cat([image, image[:, :1]], dim=1) if name == "DRUNet" else image

        def run(net: object = net, given: object = given) -> None:
            with torch.inference_mode():
                net(given)

        runs[name] = run
    return runs


def speed(repeats: int = 1) -> None:
    """Print a table of speeds on 512²: compact and restormer through the engine and bare, and two other networks."""
    from perceive_ir.commands._benchmark import bare

    image = picture(512, 512)
    small, large = model("compact"), model("restormer")
    seen = small.perceive(image)
    runs = {
        "compact, engine": lambda: small.restore(image, perception=seen, **RECIPE),
        "compact, bare": bare(small, image, seen)[0],
        "compact, engine with perception": lambda: small.restore(image, **RECIPE),
        **others(),
        "restormer, engine": lambda: large.restore(image, perception=seen, **RECIPE),
        "restormer, bare": bare(large, image, seen)[0],
    }
    sys.stdout.write("| 512², float32 | seconds | MP/s |\n|---|---|---|\n")
    for name, value in interleaved(runs, repeats).items():
        sys.stdout.write(f"| {name} | {value:.2f} | {0.262144 / value:.3f} |\n")


def model(name: str) -> Restorer:
    """Return the shipped model, or the Restormer type at full size with random weights."""
    from perceive_ir import Restorer, load
    from perceive_ir._weights import Card
    from perceive_ir.networks import System, SystemConfig

    if name == "compact":
        return load(name, device="cpu", precision="float32")
    return Restorer(System(SystemConfig(backbone=name)), Card(name, "random"), device="cpu", precision="float32")


def memory() -> None:
    """Print peak memory and time of 1, 10 and 100 megapixels, each in its own process."""
    sys.stdout.write("| MP | seconds | s/MP | peak GB above the caller's arrays |\n|---|---|---|---|\n")
    for side in (1000, 3162, 10000):
        line = subprocess.run(
            [sys.executable, __file__, "one", str(side)], check=True, capture_output=True, text=True
        ).stdout
        found = json.loads(line)
        mp = side * side / 1e6
        sys.stdout.write(f"| {mp:.0f} | {found['seconds']:.1f} | {found['seconds'] / mp:.2f} | {found['gb']:.2f} |\n")
        sys.stdout.flush()


def one(side: int) -> None:
    """Restore one picture and print the seconds and the peak memory above what was there before."""
    import numpy as np

    from perceive_ir import load

    restorer = load("compact", device="cpu")
    tile = np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), dtype=np.uint8)
    image = np.tile(tile, (side // 1000 + 1, side // 1000 + 1, 1))[:side, :side].copy()
    restorer.restore(image[:64, :64], **RECIPE)
    before, peak, stop = resident(), [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.05):
            peak[0] = max(peak[0], resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    seconds = timed(lambda: restorer.restore(image, **RECIPE))
    stop.set()
    watcher.join()
    sys.stdout.write(json.dumps({"seconds": seconds, "gb": (peak[0] - before) / 1e9}))


def resident() -> int:
    """Bytes of main memory that this process holds (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def start() -> None:
    """Print import and load times."""
    probes = {
        "import perceive_ir": "import perceive_ir",
        "import torch": "import torch",
        "pir.load() beyond importing torch": "import perceive_ir; perceive_ir.load()",
        "discovering the plugin": "import npe2; npe2.PluginManifest.from_distribution('napari-perceive-ir')",
        "import npe2": "import npe2",
    }
    for name, code in probes.items():
        setup = "import torch\n" if "beyond" in name else ""
        program = f"import time\n{setup}t = time.perf_counter()\n{code}\nprint(time.perf_counter() - t)"
        times = [
            float(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout)
            for _ in range(3)
        ]
        sys.stdout.write(f"| {name} | {min(times):.2f} s |\n")


def kept() -> None:
    """Print seconds and page faults of a picture in processes that keep nothing, what glibc keeps, and what we keep."""
    from perceive_ir._memory import VARIABLES

    plain = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    ways = {"nothing": {"MALLOC_TRIM_THRESHOLD_": "65536"}, "as glibc does": {}, "kept": VARIABLES}
    for way, variables in ways.items():
        for side in (256, 512, 1024):
            command = [sys.executable, __file__, "again", str(side)]
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=plain | variables)
            sys.stdout.write(f"| {way} | {side}² | {done.stdout.strip()} |\n")


def again(side: int) -> None:
    """Print the least of four times of a picture, and the page faults of the last."""
    import resource

    import perceive_ir as pir

    image, model = picture(side, side), pir.load(device="cpu", precision="float32")
    seen = model.perceive(image)
    times, faults = [], 0
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        times.append(timed(lambda: model.restore(image, perception=seen, **RECIPE)))
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    sys.stdout.write(f"{min(times[1:]):.3f} s | {faults}")


def compiled(side: int = 128) -> None:
    """Print what torch.compile is worth for a tile and for a training step: processor time of one thread."""
    sys.stdout.write(f"| {side}², float32 | as it is | compiled | times as fast | compiling, by the clock |\n")
    sys.stdout.write("|---|---|---|---|---|\n")
    for what, name in product(("restore", "learn"), ("compact", "restormer")):
        with TemporaryDirectory() as cache:  # nothing was compiled before
            command = [sys.executable, __file__, "compiled-one", str(side), what, name]
            fresh = {**os.environ, "OMP_NUM_THREADS": "1", "TORCHINDUCTOR_CACHE_DIR": cache}
            try:
                done = subprocess.run(command, check=True, capture_output=True, text=True, env=fresh, timeout=LIMIT)
                said = done.stdout.strip()
            except subprocess.TimeoutExpired:
                said = f"| not done within {LIMIT} s | |"
        sys.stdout.write(f"| {name}, {what} | {said} |\n")
        sys.stdout.flush()


def compiled_one(side: int, what: str, name: str) -> None:
    """Print the row of one network; ``what`` is "restore" or "learn"."""
    import torch

    from perceive_ir.networks import Signals

    network, made = model(name).system.restorer, torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, side, side, generator=made).to(memory_format=torch.channels_last)
    signals = Signals(torch.tensor([[0.4] + [0.0] * 7]))  # noise
    network.train(what == "learn").requires_grad_(what == "learn")
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-6, fused=True)

    def restore(network: Callable[..., torch.Tensor]) -> None:
        with torch.inference_mode():
            network(image, signals)

    def learn(network: Callable[..., torch.Tensor]) -> None:
        optimiser.zero_grad()
        (network(image, signals) - image).abs().mean().backward()
        optimiser.step()

    run, faster = {"restore": restore, "learn": learn}[what], torch.compile(network)
    try:
        first = timed(lambda: run(faster))
    except torch._dynamo.exc.BackendCompilerFailed as error:
        sys.stdout.write(f"| not compiled: {str(error).splitlines()[0]} | |")
        return
    found = interleaved({"plain": lambda: run(network), "compiled": lambda: run(faster)}, 3, time.process_time)
    ratio = found["plain"] / found["compiled"]
    sys.stdout.write(f"{found['plain']:.3f} s | {found['compiled']:.3f} s | {ratio:.2f} | {first:.0f} s")


if __name__ == "__main__":
    sized = {
        name: lambda run=run: run(int(sys.argv[2]), *sys.argv[3:])
        for name, run in {"one": one, "again": again, "compiled-one": compiled_one}.items()
    }
    chosen = {"speed": speed, "memory": memory, "start": start, "kept": kept, "compile": compiled, **sized}
    chosen[sys.argv[1] if len(sys.argv) > 1 else "speed"]()
