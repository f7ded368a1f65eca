"""``perceive-ir doctor``: what this machine has, and how fast it restores."""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from importlib.metadata import PackageNotFoundError, requires, version
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perceive_ir._advice import one_line, reason
from perceive_ir._errors import PerceiveIRError
from perceive_ir._recipe import Recipe
from perceive_ir.commands._report import say_json, say_table

if TYPE_CHECKING:
    import torch

    from perceive_ir import Restorer

SIDE = 512
"""Side of the picture whose restoration is timed."""
RUNS = 3
WORK = Recipe(task="denoise", severity=0.4)
GIB = 2**30


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False) -> None:
    """Say what this machine has, and how fast it restores."""
    found = examine()
    if as_json:
        say_json(found)
    else:
        say_table(table(found))


def examine() -> dict[str, Any]:
    """Collect everything, as plain values."""
    from perceive_ir._device import choose_device

    device = choose_device("auto")
    weights, problem = find_weights()
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": processor(),
        "memory": memory(),
        "devices": devices(),
        "device": str(device),
        "precisions": {name: precision(name, device) for name in ("float32", "bfloat16")},
        "speed": speed(device, problem),
        "tiles": tile_budget(device),
        "weights": weights,
        "weights_problem": problem,
        "versions": versions(),
    }


def processor() -> dict[str, Any]:
    """Count cores, and say which instructions that matter here they have."""
    import torch

    from perceive_ir._device import has_fast_bfloat16

    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "fast_bfloat16": has_fast_bfloat16(torch.device("cpu")),
    }


def memory() -> dict[str, float | None]:
    """Main memory in GiB."""
    from perceive_ir._device import free_memory

    try:
        total = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB, 1)
    except (AttributeError, ValueError, OSError):
        total = None
    return {"total_gib": total, "free_gib": round(free_memory() / GIB, 1)}


def devices() -> list[dict[str, Any]]:
    """List what networks can run on here."""
    import torch

    from perceive_ir._device import has_mps

    found: list[dict[str, Any]] = [{"name": "cpu", "about": platform.processor() or platform.machine()}]
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        about = f"{torch.cuda.get_device_name(number)}, {free / GIB:.1f} of {total / GIB:.1f} GiB free"
        found.append({"name": f"cuda:{number}", "about": about})
    return found + ([{"name": "mps", "about": "Apple GPU"}] if has_mps() else [])


def precision(name: str, device: torch.device) -> dict[str, bool]:
    """Try a number format on a small convolution; say whether it is what "auto" chooses."""
    import torch

    from perceive_ir._device import choose_precision

    wanted = choose_precision(name, device)
    try:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=wanted == torch.bfloat16):
            out = torch.nn.Conv2d(3, 8, 3, device=device)(torch.rand(1, 3, 64, 64, device=device))
        works = bool(out.float().isfinite().all())
    except RuntimeError:  # torch says so where a device lacks it
        works = False
    return {"works": works, "pays": works and choose_precision("auto", device) == wanted}


def speed(device: torch.device, problem: str) -> dict[str, Any]:
    """Time the compact model on a picture of 512 x 512, perception included, in the precisions that make sense."""
    import numpy as np

    picture = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    rates = {}
    for name in ("float32", "bfloat16"):
        if name == "float32" or precision(name, device)["pays"]:
            restorer = compact(name, device, problem)
            restorer.restore(picture, WORK)
            seconds = min(timed(restorer, picture) for _ in range(RUNS))
            rates[name] = round(SIDE * SIDE / 1e6 / seconds, 3)
    return {"picture": f"{SIDE} x {SIDE}", "megapixels_per_s": rates, "random_weights": bool(problem)}


def compact(precision: str, device: torch.device, problem: str) -> Restorer:
    """Load the compact model; without its weights, which speed does not depend on, the same networks."""
    from perceive_ir import Restorer, load
    from perceive_ir._weights import Card
    from perceive_ir.networks import System

    if problem:
        return Restorer(System(), Card("compact", "random"), device=str(device), precision=precision)
    return load("compact", device=str(device), precision=precision)


def timed(restorer: Restorer, picture: Any) -> float:
    """Seconds of one restoration."""
    start = time.perf_counter()
    restorer.restore(picture, WORK)
    return time.perf_counter() - start


def tile_budget(device: torch.device) -> dict[str, Any]:
    """Say how much memory tiles may take, and how large they would be in a picture of 100 megapixels."""
    from perceive_ir._device import memory_budget
    from perceive_ir._engine import DEFAULT_OVERLAP, LARGEST_TILE
    from perceive_ir._guide import CONDITION_STEP
    from perceive_ir._tiles import pick_tile
    from perceive_ir.networks import System

    net, budget = System().restorer, memory_budget("auto", device)
    choice = pick_tile(
        10_000, 10_000, halo=DEFAULT_OVERLAP, multiple=max(net.size_needs.multiple_of, CONDITION_STEP),
        bytes_per_pixel=net.bytes_per_pixel, budget_bytes=budget, largest=LARGEST_TILE[device.type],
    )  # fmt: skip
    return {"budget_gib": round(budget / GIB, 2), "tile": choice.tile, "batch": choice.batch}


def find_weights() -> tuple[dict[str, str], str]:
    """List the weights that are here, and say what is wrong with those of the compact model."""
    from perceive_ir._catalogue import available, find
    from perceive_ir._weights import load_system

    try:
        load_system(find("compact"))
        problem = ""
    except PerceiveIRError as error:
        problem = reason(error)
    return {name: str(path) for name, path in available().items()}, problem


def versions() -> dict[str, str]:
    """Versions of Python, of this distribution and of what it needs."""
    needed = [
        re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in requires("napari-perceive-ir") or () if ";" not in line
    ]
    found = {"python": sys.version.split()[0]}
    for name in ("napari-perceive-ir", *sorted(needed)):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def table(found: dict[str, Any]) -> Any:
    """Lay out what was found for reading."""
    from rich.table import Table
    from rich.text import Text

    rows = {
        "system": found["system"],
        "processor": "{cores} cores, {threads} threads, {instructions}".format(**found["processor"]),
        "memory": "{free_gib} of {total_gib} GiB free".format(**found["memory"]),
        "devices": "\n".join(f"{d['name']}: {d['about']}" for d in found["devices"]),
        "used by default": found["device"],
        "precisions": "\n".join(f"{name}: {judged(p)}" for name, p in found["precisions"].items()),
        "speed of compact": speed_words(found["speed"]),
        "tiles": "{tile} pixels a side, {batch} at once, within {budget_gib} GiB".format(**found["tiles"]),
        "weights": "\n".join(
            [*(f"{n}: {p}" for n, p in found["weights"].items()), *filter(None, [found["weights_problem"]])]
        ),
        "versions": fill(", ".join(f"{name} {number}" for name, number in found["versions"].items()), 88),
    }
    made = Table.grid(padding=(0, 3))
    for name, words in rows.items():
        made.add_row(Text(name, "bold"), Text("\n".join(one_line(line) for line in words.splitlines())))
    return made


def judged(precision: dict[str, bool]) -> str:
    """Say whether a number format is of use."""
    return "works and pays" if precision["pays"] else "works" if precision["works"] else "does not work here"


def speed_words(speed: dict[str, Any]) -> str:
    """Say the speeds."""
    rates = ", ".join(f"{rate:.2f} megapixels/s in {name}" for name, rate in speed["megapixels_per_s"].items())
    return f"{rates} (a picture of {speed['picture']})" + (", with random weights" if speed["random_weights"] else "")
