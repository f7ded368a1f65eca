"""``perceive-ir demo``: sample pictures damaged, perceived and restored, with a page that shows what came of it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perceive_ir._recipe import Recipe
from perceive_ir._vocabulary import task_of
from perceive_ir.commands._options import takes_recipe
from perceive_ir.commands._report import progress, say, say_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from perceive_ir import QualityMap, Restorer, Result

    Pixels = NDArray[Any]

LEDGER = "measurements.json"
"""Marks a folder that a demonstration may write into again."""


@dataclass(frozen=True)
class Case:
    """A sample picture and what is done to it."""

    name: str
    title: str
    sample: str
    types: Mapping[str, float] = field(default_factory=dict)

    @property
    def tasks(self) -> tuple[str, ...]:
        """What undoes the damage."""
        return tuple(task_of(name) for name in self.types)


CASES = (
    Case("noise", "Noise", "tulips", {"noise": 0.45}),
    Case("haze", "Haze", "lake", {"haze": 0.45}),
    Case("rain", "Rain", "hills", {"rain": 0.4}),
    Case("lowlight", "Low light", "palace", {"lowlight": 0.45}),
    Case("blur", "Blur", "van", {"blur": 0.4}),
    Case("mixture", "Haze and noise together", "hills", {"haze": 0.35, "noise": 0.25}),
    Case("nuclei", "Fluorescence, noisy", "nuclei", {"noise": 0.5}),
    Case("tissue", "Stained tissue, noisy and compressed", "tissue", {"noise": 0.25, "jpeg": 0.5}),
    Case("clean", "Nothing wrong", "van"),
)


@dataclass(frozen=True)
class Shown:
    """A case with everything that came of it."""

    case: Case
    clean: Pixels
    damaged: Pixels
    auto: Result
    given: Result | None
    """With the task given; None for the clean picture."""
    map: QualityMap
    seconds: float
    """Of perceiving and restoring automatically."""

    def decibels(self) -> dict[str, float]:
        """PSNR to the clean twin; infinite for equal pictures."""
        found = {"damaged": psnr(self.damaged, self.clean), "auto": psnr(self.auto.image, self.clean)}
        return found if self.given is None else {**found, "given": psnr(self.given.image, self.clean)}

    def to_dict(self) -> dict[str, Any]:
        """Return what was measured and seen, as plain values."""
        return {
            "case": self.case.name,
            "sample": self.case.sample,
            "damage": dict(self.case.types),
            "tasks_given": list(self.case.tasks),
            "psnr": {k: round(v, 3) if math.isfinite(v) else "equal" for k, v in self.decibels().items()},
            "seen": self.auto.perception.words(),
            "note": self.auto.note,
            "seconds": round(self.seconds, 3),
            "perception": self.auto.perception.to_dict(),
        }


@takes_recipe("model", "device", "precision")
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the pictures and the page.")],
    recipe: Recipe,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are no demonstration.")] = False,
) -> None:
    """Damage and restore sample pictures, measure, and write a page that shows it."""
    from perceive_ir import load

    folder_for(output, force)
    restorer = load(recipe.model, device=recipe.device, precision=recipe.precision)
    shown = []
    with progress() as bar:
        task = bar.add_task("restoring", total=len(CASES), unit="pictures")
        for one in run(restorer):
            write_pictures(one, output)
            shown.append(one)
            bar.advance(task)
    write_text(output / LEDGER, json.dumps([one.to_dict() for one in shown], indent=2) + "\n")
    write_page(shown, restorer, output)
    say_table(table(shown))
    say(f"Open {output / 'index.html'} in a browser; the pictures lie beside it.")


def folder_for(output: Path, force: bool) -> None:
    """Make the folder; one that holds something else than a demonstration is left alone."""
    if output.is_dir() and any(output.iterdir()) and not (output / LEDGER).exists() and not force:
        raise ValueError(f"{output} holds other files; give another folder, or --force")
    output.mkdir(parents=True, exist_ok=True)
    if not (output / LEDGER).exists():
        write_text(output / LEDGER, "[]\n")


def run(restorer: Restorer) -> Iterator[Shown]:
    """Damage, perceive and restore every case: automatically, and with the task given."""
    from perceive_ir import degrade
    from perceive_ir.samples import load_sample

    for case in CASES:
        clean = load_sample(case.sample)
        damaged = degrade(clean, case.types, seed=1) if case.types else clean
        start = time.perf_counter()
        auto = restorer.restore(damaged)
        seconds = time.perf_counter() - start
        given = restorer.restore(damaged, perception=auto.perception, task=case.tasks) if case.tasks else None
        yield Shown(case, clean, damaged, auto, given, restorer.quality_map(damaged), seconds)


def psnr(picture: Pixels, clean: Pixels) -> float:
    """Peak signal-to-noise ratio of uint8 pictures in dB."""
    import numpy as np

    error = float(np.mean((picture.astype(np.float64) - clean.astype(np.float64)) ** 2))
    return 10 * math.log10(255**2 / error) if error else math.inf


def pictures(one: Shown) -> dict[str, Pixels]:
    """Return all pictures of a case by name."""
    from perceive_ir.commands._map import What
    from perceive_ir.commands._paint import draw

    axes = "YX" if one.damaged.ndim == 2 else "YXC"
    found = {"before": one.damaged, "after": one.auto.image}
    if one.given is not None:
        found |= {"after-task-given": one.given.image, "clean": one.clean}
    return {**found, "map": draw(one.damaged, axes, one.map, What.tiers)}


def write_pictures(one: Shown, output: Path) -> None:
    """Write the pictures as PNG; the results say how they were made."""
    from perceive_ir.files import write_image

    made = {"after": one.auto, "after-task-given": one.given}
    for name, pixels in pictures(one).items():
        result = made.get(name)
        about = result.to_dict() if result is not None else None
        write_image(output / f"{one.case.name}-{name}.png", pixels, description=about, force=True)


def write_page(shown: list[Shown], restorer: Restorer, output: Path) -> None:
    """Write the page."""
    from perceive_ir.commands._page import page

    card = restorer.card
    precision = str(restorer.precision).removeprefix("torch.")
    made_by = f"model {card.name} {card.version} ({card.digest[:12]}), {restorer.device}, {precision}"
    write_text(output / "index.html", page([(one, pictures(one)) for one in shown], made_by))


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    from perceive_ir.files._atomic import replacing
    from perceive_ir.files._faults import writing

    with writing(path), replacing(path, force=True) as partial:
        partial.write_text(text, encoding="utf-8")


def table(shown: list[Shown]) -> Any:
    """Lay out what was measured for reading."""
    from rich.table import Table
    from rich.text import Text

    made = Table(
        "picture", "damage (severity)", "what the model saw", title="PSNR to the clean twin in dB", title_style=""
    )
    for name in ("damaged", "automatic", "task given", "seconds"):
        made.add_column(name, justify="right")
    for one in shown:
        found = one.decibels()
        before = found.pop("damaged")
        cells = [change(value, before) for value in found.values()] + [Text("")] * (2 - len(found))
        damage = ", ".join(f"{name} {value:g}" for name, value in one.case.types.items()) or "none"
        words = one.auto.perception.words() + (f" ({one.auto.note})" if one.auto.note else "")
        made.add_row(one.case.title, damage, Text(words), decibels(before), *cells, f"{one.seconds:.1f}")
    return made


def decibels(value: float) -> str:
    """Write a PSNR."""
    return f"{value:.2f}" if math.isfinite(value) else "–"


def verdict(value: float, before: float) -> str:
    """Say whether a PSNR rose, fell or stayed, as it is printed."""
    won = round(value - before, 2)
    return "up" if won > 0 else "down" if won < 0 else "same"


def change(value: float, before: float) -> Any:
    """Write a PSNR with what was won or lost, in green or red."""
    from rich.text import Text

    if not math.isfinite(value):
        return Text("identical")
    if not math.isfinite(before):
        return Text(decibels(value))
    colour = {"up": "green", "down": "red", "same": ""}[verdict(value, before)]
    return Text(f"{value:.2f} ({value - before:+.2f})", colour)
