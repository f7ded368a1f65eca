"""The log of a training: lines of JSON, each over the steps since the one before."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perceive_ir._weights import write_atomically


@dataclass(frozen=True)
class Progress:
    """One line of the log."""

    step: int
    minutes: float
    rate: float
    losses: dict[str, float]
    """Means over the steps since the line before: weighted terms, and what else the stage tells."""
    wait: float
    """Share of the time spent on waiting for batches."""
    stage: str = ""


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a log; none where there is none yet."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def write_log(path: Path, progress: Progress) -> None:
    """Append one line of JSON; what is not finite becomes null."""
    line: dict[str, Any] = {"stage": progress.stage, "step": progress.step, "minutes": round(progress.minutes, 3)}
    line |= {"rate": progress.rate}
    line |= {k: round(v, 6) if math.isfinite(v) else None for k, v in progress.losses.items()}
    line["wait"] = round(progress.wait, 4)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def add_validation(path: Path, values: dict[str, float]) -> None:
    """Add measured values to the last line of the log."""
    if values:
        lines = read_log(path)
        lines[-1] |= values
        write_lines(path, lines)


def forget_log(path: Path, stage: str, step: int) -> None:
    """Drop the lines of steps that are made again."""
    write_lines(path, [line for line in read_log(path) if line["stage"] != stage or line["step"] <= step])


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    """Write a log anew."""
    write_atomically(path, "".join(json.dumps(line) + "\n" for line in lines).encode())
