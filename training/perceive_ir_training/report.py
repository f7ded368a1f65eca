"""A measurement of a model as text, JSON and Markdown, and in short."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from perceive_ir._weights import write_atomically
from perceive_ir_training.gate import NEEDED
from perceive_ir_training.perceiving import MARKS

PERCEPTION = "perception"
"""Name by which perception is chosen beside the sets."""
GATES = {
    "gate": "Gate of the tiers",
    "gate_of_slight_damage": "Gate of the tiers, slight damage in the place of what a half-trained restorer leaves",
}
WIDE = 240
"""Columns of text that goes to a file or a pipe."""
OWN = ("input", "auto", "given")
Values = Mapping[str, Any]
"""What `benchmark` returns, or what was read from its JSON."""


@dataclass(frozen=True)
class Table:
    """Cells as text, under a title."""

    title: str
    columns: tuple[str, ...]
    rows: list[list[str]]


# ---- short


def summary(values: Values) -> dict[str, Any]:
    """Return the scores that a weights file carries."""
    short: dict[str, Any] = {
        "measured_with": "perceive-ir benchmark quality",
        "unit": "PSNR in dB and SSIM: input, auto, task given",
    }
    if values["settings"]["limit"] is not None:
        short["pictures per set"] = values["settings"]["limit"]
    for name, score in values["sets"].items():
        marks = [score["means"][way] for way in OWN if way in score["means"]]
        short[name] = {unit: [mark[unit] for mark in marks] for unit in ("psnr", "ssim")}
    if values[PERCEPTION]:
        short[PERCEPTION] = dict(headlines(values[PERCEPTION]))
    return short


def headlines(seen: Values) -> Iterator[tuple[str, Any]]:
    """Name the numbers of perception that stand for all."""
    single, clean, absent = seen["single"], seen["clean"], seen["told_absent"]
    yield "single types named first", single["first"]
    for degree, found in single["first_by_degree"].items():
        yield f"single types named first, {degree}", found
    yield "single types of highest probability", single["likeliest"]
    yield "single types and nothing else seen", single["exact"]
    yield "F1 on mixtures of two", seen["mixtures"]["f1"]
    yield "error of the severity", single["error"]
    yield "rank correlation of the severity", single["rank"]
    yield "clean pictures in which damage is seen", clean["false_alarms"]
    yield "clean pictures taken for high quality", clean["high"]
    yield "told more changes no less", seen["told_more"]["rises"]
    yield "change by an absent type, clean picture (of 255)", absent["clean"]
    yield "change by an absent type, damaged picture (of 255)", absent["damaged"]
    for key, name in gates_in(seen).items():
        yield name.lower(), "passed" if seen[key]["passed"] else f"missed: {', '.join(seen[key]['missed'])}"


def card_scores(measured: dict[str, Any]) -> dict[str, Any]:
    """Return what a weights file carries of a JSON file: the short form of a measurement, anything else as it is."""
    short = measured.get("scores")
    return short if isinstance(short, dict) else measured


# ---- lay out


def tables(values: Values) -> Iterator[Table]:
    """Lay out a measurement."""
    if "suite" in values:
        yield paper_table(values)
        yield set_table(values["sets"])
        return
    if values["sets"]:
        yield set_table(values["sets"])
        rows = list(classical_rows(values["sets"]))
        if rows:
            yield Table("Classical methods, PSNR / SSIM", ("set", "method", "result", "auto - method"), rows)
    clean = {name: score for name, score in values["sets"].items() if score["task"] is None}
    if clean:
        columns = ("set", "pictures", "mean PSNR", "worst PSNR", "untouched")
        yield Table("Clean pictures in", columns, [clean_row(name, score) for name, score in clean.items()])
    if values[PERCEPTION]:
        yield from perception_tables(values[PERCEPTION])


def paper_table(values: Values) -> Table:
    """Put our rows under those that papers report."""
    ways = {"auto": "measured here", "given": "measured here, task given"}
    rows = [[f"{name}, published", *decibels(row)] for name, row in values["published"].items()]
    rows += [[f"{values['model']['name']}, {ways[way]}", *decibels(row)] for way, row in values["measured"].items()]
    title = f"Protocol of the papers, {values['suite']}: PSNR in dB; what is published was not measured here"
    return Table(title, ("model", *values["sets"], "average"), rows)


def decibels(row: Sequence[float]) -> list[str]:
    """Write a row as papers do."""
    return [f"{value:.2f}" for value in row]


def set_table(sets: Values) -> Table:
    """One row for each set."""
    columns = ("set", "pictures", "input", "auto", "task given", "best classical", "s/MP")
    rows = []
    for name, score in sets.items():
        means = score["means"]
        best = max((way for way in means if way not in OWN), key=lambda way: means[way]["psnr"], default=None)
        cells = [mark(means.get(way)) for way in OWN]
        rows.append([
            name, str(len(score["pictures"])), *cells, f"{mark(means[best])} {best}" if best else "",
            f"{score['seconds_per_megapixel']:.2f}",
        ])  # fmt: skip
    return Table("Pictures, PSNR / SSIM", columns, rows)


def classical_rows(sets: Values) -> Iterator[list[str]]:
    """One row for each classical method of each set."""
    for name, score in sets.items():
        means = score["means"]
        for way in means:
            if way not in OWN:
                yield [name, way, mark(means[way]), f"{means['auto']['psnr'] - means[way]['psnr']:+.2f} dB"]


def clean_row(name: str, score: Values) -> list[str]:
    """How a set of clean pictures came back."""
    count = len(score["pictures"])
    psnr = score["means"]["auto"]["psnr"]
    return [name, str(count), f"{psnr:.2f}", f"{score['worst_auto']:.2f}", f"{score['untouched']} of {count}"]


def perception_tables(seen: Values) -> Iterator[Table]:
    """Lay out what is perceived, by type, and how the model obeys."""
    count = seen["pictures"]
    title = f"Perception and obedience; photographs: {count['photos']}, micrographs: {count['microscopy']}"
    yield Table(title, ("measure", "value"), [[name, number(value)] for name, value in headlines(seen)])
    columns = ("type", "samples", "named first", "likeliest", "found", "exact", "error", "rank", "F1 mixed")
    types = seen["single"]["types"]
    yield Table("What is perceived, by type", columns, [seen_row(kind, seen) for kind in types])
    told = ", ".join(f"{s:g}" for s in seen["told_more"]["told"])
    reactions = ("type", "no less", f"change told {told}", "absent, clean", "absent, damaged")
    title = "What is done when told, by type; changes in grey levels of 255"
    yield Table(title, reactions, [told_row(kind, seen) for kind in types])
    for key, name in gates_in(seen).items():
        gate = seen[key]
        rows = [
            [n, number(gate[n]), f"{least:.2f}", "no" if n in gate["missed"] else "yes"] for n, least in NEEDED.items()
        ]
        yield Table(name, ("criterion", "value", "needed", "met"), rows)


def gates_in(seen: Values) -> dict[str, str]:
    """Return the gates that were measured, and how they are called; older measurements have one."""
    return {key: name for key, name in GATES.items() if key in seen}


def seen_row(kind: str, seen: Values) -> list[str]:
    """How one type is perceived."""
    single = seen["single"]["types"][kind]
    ways = [single[name] for name in MARKS]
    return [kind, str(single["samples"]), *map(number, ways), number(seen["mixtures"]["types"].get(kind))]


def told_row(kind: str, seen: Values) -> list[str]:
    """What the model does when it is told one type."""
    more, absent = seen["told_more"]["types"][kind], seen["told_absent"]["types"][kind]
    changes = ", ".join(f"{change:.1f}" for change in more["changes"])
    return [kind, number(more["rises"]), changes, number(absent["clean"]), number(absent["damaged"])]


def mark(value: Values | None) -> str:
    """Write PSNR and SSIM."""
    return f"{value['psnr']:.2f} / {value['ssim']:.3f}" if value else ""


def number(value: Any) -> str:
    """Write a number; nothing where nothing could be measured."""
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def heading(values: Values) -> str:
    """Say which model was measured."""
    model, settings = values["model"], values["settings"]
    quick = f", at most {settings['limit']} pictures per set" if settings["limit"] is not None else ""
    return f"{model['name']}, version {model['version']} ({settings['device']}, {settings['precision']}{quick})"


# ---- write


def check_output(format: str, output: Path | None) -> None:
    """Refuse, before any work is done, a format that is not known and a file that cannot be written."""
    if format not in FORMATS:
        raise ValueError(f"expected a format out of {', '.join(FORMATS)}, got {format!r}")
    if output is not None and (output.is_dir() or not output.absolute().parent.is_dir()):
        raise ValueError(f"cannot write {output}: it has to be a file in a folder that exists")


def write(values: Values, format: str, output: Path | None) -> None:
    """Write a measurement to a file, or print it."""
    if output is not None:
        write_atomically(output, FORMATS[format](values).encode())
    elif format == "text" and sys.stdout.isatty():
        sys.stdout.write(as_text(values, shutil.get_terminal_size().columns))
    else:
        sys.stdout.write(FORMATS[format](values))


def as_text(values: Values, width: int = WIDE) -> str:
    """Write tables for reading."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    page = StringIO()
    console = Console(file=page, width=width, color_system=None)
    console.print(Text(heading(values)), soft_wrap=True)
    for table in tables(values):
        made = RichTable(title=table.title, title_justify="left", box=box.SIMPLE_HEAD)
        for column in table.columns:
            made.add_column(Text(column), overflow="fold")
        for row in table.rows:
            made.add_row(*map(Text, row))
        console.print(made)
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines()) + "\n"


def as_json(values: Values) -> str:
    """Write everything, per set and per picture."""
    return json.dumps(values, indent=1, allow_nan=False) + "\n"


def as_markdown(values: Values) -> str:
    """Write Markdown tables."""
    parts = [f"**{heading(values)}**"]
    for table in tables(values):
        lines = [table.columns, tuple("---" for _ in table.columns), *table.rows]
        parts.append(f"### {table.title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join(parts) + "\n"


FORMATS: Mapping[str, Callable[[Values], str]] = {"text": as_text, "json": as_json, "markdown": as_markdown}
