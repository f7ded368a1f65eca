"""``perceive-ir benchmark speed``: the whole way beside the bare network on the same tiles, in one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perceive_ir._recipe import Recipe
from perceive_ir.commands._report import progress, say_json, say_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from perceive_ir import Perception, Restorer

WORK = Recipe(task="denoise", severity=0.4)
"""A task is given, so that the network runs whatever the picture looks like."""
AUTO = "auto"


def speed(
    size: Annotated[list[int], typer.Option(help="Side of a square picture in pixels; repeatable.")] = [512, 1024],  # noqa: B006
    precision: Annotated[
        list[str] | None, typer.Option(help="float32 or bfloat16; repeatable.", show_default="those that pay")
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Runs of each; the median counts.")] = 3,
    model: Annotated[str, typer.Option(help="Catalogue name or path of the weights.")] = "compact",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 or mps.")] = AUTO,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure how fast pictures are restored, beside the bare network on the same tiles."""
    for side in size:
        if side < 1:
            raise ValueError(f"expected a --size of 1 pixel or more, got {side}")

    from perceive_ir import load

    rows = []
    with progress() as bar:
        for name in precision or useful_precisions(device):
            restorer = load(model, device=device, precision=name)
            task = bar.add_task(name, total=len(size), unit="sizes")
            for side in size:
                rows.append({"precision": name, **measure(restorer, side, repeat)})
                bar.advance(task)
    if as_json:
        say_json({"model": restorer.card.name, "device": str(restorer.device), "repeat": repeat, "runs": rows})
    else:
        say_table(table(rows))


def useful_precisions(device: str) -> list[str]:
    """Return float32, and bfloat16 where it pays."""
    from perceive_ir._device import choose_device, has_fast_bfloat16

    return ["float32", "bfloat16"] if has_fast_bfloat16(choose_device(device)) else ["float32"]


def measure(restorer: Restorer, side: int, repeat: int) -> dict[str, Any]:
    """Time a picture of ``side`` x ``side``: medians in seconds, and the ratio of the way to the bare network."""
    import numpy as np

    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    seen = restorer.perceive(image)
    network, tiles = bare(restorer, image, seen)
    runs = {
        "bare": network,
        "pipeline": lambda: restorer.restore(image, WORK, perception=seen),
        "perceived": lambda: restorer.restore(image, WORK),
    }
    seconds = interleaved(runs, repeat, restorer)
    return {
        "side": side,
        **tiles,
        "seconds": {name: round(value, 5) for name, value in seconds.items()},
        "pipeline_over_bare": round(seconds["pipeline"] / seconds["bare"], 4),
        "megapixels_per_s": round(side * side / 1e6 / seconds["perceived"], 4),
    }


def bare(restorer: Restorer, image: NDArray[Any], seen: Perception) -> tuple[Callable[[], object], dict[str, Any]]:
    """Return a call of the network alone on tiles like those that the engine cuts, and what these are."""
    import torch

    from perceive_ir._decision import decide
    from perceive_ir._output import Output
    from perceive_ir.images import parse_layout

    decided = decide(WORK, seen)
    job = restorer.plan(image, parse_layout(image.shape), WORK, seen, decided)
    signals = restorer.guide(Output(job, keep_residual=False)).signals([])  # one condition for all tiles
    full, rest = divmod(job.plan.count, job.batch)
    batches = [
        torch.rand(n, 3, *job.plan.tile_shape, device=restorer.device).to(memory_format=torch.channels_last)
        for n in [job.batch] * full + [rest] * (rest > 0)
    ]

    def run() -> None:
        for batch in batches:
            restorer.residuals(batch, signals)

    return run, {"tile": list(job.plan.tile_shape), "tiles": job.plan.count, "batch": job.batch}


def interleaved(runs: Mapping[str, Callable[[], object]], repeat: int, restorer: Restorer) -> dict[str, float]:
    """Median seconds of each call after one warm-up; the calls take turns, so that all see the same machine."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeat + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            wait(restorer)
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in times.items()}


def wait(restorer: Restorer) -> None:
    """Let a GPU finish: it works on while Python goes on."""
    import torch

    if restorer.device.type == "cuda":
        torch.cuda.synchronize(restorer.device)
    elif restorer.device.type == "mps":
        torch.mps.synchronize()


def table(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Lay out the measurements for reading."""
    from rich.table import Table

    made = Table(title="seconds are medians; the ratio is pipeline / bare network")
    for name in ("precision", "size", "tiles", "bare network", "pipeline", "ratio", "with perception", "megapixels/s"):
        made.add_column(name, justify="left" if name == "precision" else "right")
    for row in rows:
        seconds, (height, width) = row["seconds"], row["tile"]
        made.add_row(
            row["precision"], f"{row['side']}²", f"{row['tiles']} x {height}x{width}", f"{seconds['bare']:.3f} s",
            f"{seconds['pipeline']:.3f} s", f"{row['pipeline_over_bare']:.3f}", f"{seconds['perceived']:.3f} s",
            f"{row['megapixels_per_s']:.2f}",
        )  # fmt: skip
    return made
