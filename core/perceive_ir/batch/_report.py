"""The report of a folder: one page with everything in it, and the same as CSV and JSON beside it."""

from __future__ import annotations

import base64
import csv
import io
import json
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from perceive_ir._advice import one_line
from perceive_ir._errors import PerceiveIRError
from perceive_ir._recipe import Recipe, command_words
from perceive_ir._version import VERSION
from perceive_ir._vocabulary import TIERS, TYPE_TITLES, TYPES
from perceive_ir.batch._journal import HIDDEN, NOTHING, STATES, Journal, Row
from perceive_ir.files import natural
from perceive_ir.files._atomic import replacing
from perceive_ir.files._faults import writing

TEMPLATE = Path(__file__).with_name("report.html")
MOST_CARDS = 400
"""Pictures that the page shows; a longer one would be slow. CSV and JSON hold all."""


def report_path(output: Path) -> Path:
    """Return where the page of an output folder is."""
    return output / HIDDEN / "report.html"


def write_report(output: Path) -> Path:
    """Write the report of an output folder's last run; return the path of the page."""
    with Journal(output) as journal:
        asked = tuple(map(journal.noted, ("recipe hash", "weights")))
        rows = sorted(map(partial(of_run, asked), journal.rows(latest=True)), key=lambda row: natural(Path(row.name)))
        notes = {name: journal.noted(name) for name in ("source", "recipe", "options", "model", "device")}
        path = report_path(output)
        write_text(path.with_suffix(".csv"), as_csv(rows))
        write_text(path.with_suffix(".json"), as_json(rows, notes))
        write_text(path, page(rows, notes, journal))
    return path


def of_run(asked: tuple[str, ...], row: Row) -> Row:
    """Return a picture as the last run left it: what an earlier one made with another recipe or other weights waits."""
    return row if row.key == NOTHING or row.key[1:] == asked else Row(row.name, row.target)


def report_stopped(output: Path) -> None:
    """Write the report of a run that was stopped, if it began and the disk takes it; the stop comes first."""
    if (output / HIDDEN).is_dir():
        with suppress(PerceiveIRError):
            write_report(output)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with writing(path), replacing(path, force=True) as unfinished:
        unfinished.write_text(text, encoding="utf-8", errors="backslashreplace")


def as_json(rows: Sequence[Row], notes: Mapping[str, str]) -> str:
    """Return everything that is known as JSON."""
    about = {
        "software": f"napari-perceive-ir {VERSION}",
        **notes,
        "recipe": json.loads(notes["recipe"] or "{}"),
        "counts": counted(row.state for row in rows),
        "files": [
            {"input": row.name, "output": row.target, "state": row.state, "reason": row.reason, **row.key._asdict()}
            | dict(row.about)
            for row in rows
        ],
    }
    return json.dumps(about, indent=2, allow_nan=False) + "\n"


def as_csv(rows: Sequence[Row]) -> str:
    """Return a line for each picture."""
    graded = ("tier", "score")
    seen = (*graded, *(f"{kind}_severity" for kind in TYPES))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    times = ("read", "restore", "write")
    writer.writerow(
        ["input", "output", "state", "reason", *(f"{name}_before" for name in seen),
         *(f"{name}_after" for name in graded), *(f"seconds_{name}" for name in times), "notes"]
    )  # fmt: skip
    for row in rows:
        seconds = row.about.get("seconds", {})
        values = [*numbers(row.about.get("before"), len(seen)), *numbers(row.about.get("after"), len(graded))]
        writer.writerow(
            [csv_path(row.name), csv_path(row.target), row.state, row.reason, *values,
             *(seconds.get(name, "") for name in times), "; ".join(row.about.get("notes", ()))]
        )  # fmt: skip
    return stream.getvalue()


def csv_path(path: object) -> str:
    """Return a path for CSV; where a spreadsheet would take it for a formula, ``./`` before it says the same."""
    name = str(path)
    return f"./{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else name


def numbers(seen: Mapping[str, Any] | None, count: int) -> list[Any]:
    """Return what was seen, for CSV: the first of tier, score and severities."""
    severities = (seen or {}).get("condition", {})
    return [seen["tier"], seen["score"], *severities.values()][:count] if seen else [""] * count


def counted(states: Iterable[str]) -> dict[str, int]:
    """Count pictures by what became of them."""
    found = Counter(states)
    return {state: found[state] for state in STATES}


def page(rows: Sequence[Row], notes: Mapping[str, str], journal: Journal) -> str:
    """Return the page."""
    done = [row for row in rows if row.state == "done"]
    shown = sorted(done, key=score)[:MOST_CARDS]
    chosen = sorted(shown, key=lambda row: natural(Path(row.name)))
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(f"{len(done)} of {len(rows)} pictures restored"),
        source=text(notes["source"]),
        output=text(journal.output),
        numbers="".join(f'<div class="{state}"><b>{n}</b>{state}</div>' for state, n in chips(rows)),
        tiers=tier_bars(done),
        types=type_bars(rows),
        seconds=timing(done),
        trouble=trouble(rows),
        cards="\n".join(card(row, journal) for row in chosen),
        left_out=f"<p>The {len(shown)} of lowest quality are shown; all are in report.csv.</p>"
        * (len(done) > len(shown)),
        command=text(command(notes["recipe"], notes["options"])),
        recipe=escape(json.dumps(json.loads(notes["recipe"] or "{}"), indent=2)),
        made_by=text(f"napari-perceive-ir {VERSION}, model {notes['model']}, {notes['device']}"),
    )


def text(value: object) -> str:
    """Return text for a page."""
    return escape(one_line(value))


def command(recipe: str, options: str) -> str:
    """Return the command that does the same."""
    changed = Recipe.model_validate_json(recipe).changed() if recipe else {}
    words = [word for name, value in changed.items() for word in command_words(name, value)]
    return shlex.join(["perceive-ir", "batch", "IN", "OUT", *words, *shlex.split(options)])


def score(row: Row) -> float:
    """Return the quality of a picture before."""
    return float(row.about.get("before", {}).get("score", 0))


def chips(rows: Sequence[Row]) -> list[tuple[str, int]]:
    """Return the states that there are, with their counts."""
    found = counted(row.state for row in rows)
    return [(state, n) for state, n in found.items() if n or state == "done"]


def tier_bars(rows: Sequence[Row]) -> str:
    """Two bars: how many pictures were of each quality before, and are after."""
    return "".join(tier_bar(when, rows) for when in ("before", "after"))


def tier_bar(when: str, rows: Sequence[Row]) -> str:
    """One bar."""
    found = Counter(row.about[when]["tier"] for row in rows if row.about.get(when))
    parts = "".join(
        f'<i class="{tier}" style="flex:{found[tier]}" title="{tier}: {found[tier]}">{found[tier]}</i>'
        for tier in TIERS
        if found[tier]
    )
    return f'<div class="line"><span>{when}</span><div class="bar">{parts or "<em>not looked at</em>"}</div></div>'


def type_bars(rows: Sequence[Row]) -> str:
    """How many pictures had each type of damage, and how severe it was."""
    found: dict[str, list[float]] = {}
    for row in rows:
        for kind, severity in row.about.get("before", {}).get("condition", {}).items():
            if severity:
                found.setdefault(kind, []).append(severity)
    most = max((len(values) for values in found.values()), default=1)
    lines = [
        f'<div class="line"><span>{TYPE_TITLES[kind]}</span><div class="bar">'
        f'<i class="type" style="width:{60 * len(v) / most:.1f}%"></i>'
        f"<em>{len(v)} · severity {sum(v) / len(v):.2f}</em></div></div>"
        for kind, v in sorted(found.items(), key=lambda item: -len(item[1]))
    ]
    return "".join(lines) or '<p class="soft">No damage of a known type.</p>'


def timing(rows: Sequence[Row]) -> str:
    """Say how long a picture took."""
    parts = [
        f"{name} {sum(row.about['seconds'][name] for row in rows) / len(rows):.2f} s"
        for name in ("read", "restore", "write")
        if rows
    ]
    return ", ".join(parts) + " per picture; the three overlap" if parts else "no picture was restored"


def trouble(rows: Sequence[Row]) -> str:
    """A table of what failed or was left out, with reasons."""
    lines = [
        f'<tr class="{row.state}"><td>{text(row.name)}</td><td>{row.state}</td><td>{text(row.reason)}</td></tr>'
        for row in rows
        if row.state in ("failed", "skipped")
    ]
    if not lines:
        return ""
    body = "\n".join(lines)
    return (
        '<section class="panel wide"><h2>Not restored</h2><div class="scroll"><table>'
        f"<thead><tr><th>picture</th><th></th><th>why</th></tr></thead><tbody>\n{body}\n</tbody></table></div></section>"
    )


def card(row: Row, journal: Journal) -> str:
    """One picture: a slider between before and after, and what was seen."""
    before, after = journal.thumbnails(row.name)
    seen, again = row.about["before"], row.about.get("after")
    notes = "".join(f"<li>{text(note)}</li>" for note in row.about.get("notes", ()))
    seconds = row.about["seconds"]["restore"]
    shape = " × ".join(map(str, row.about["shape"]))
    return f"""<article class="card" data-score="{seen["score"]}" \
data-gain="{(again or seen)["score"] - seen["score"]:.4f}">
<div class="compare"><img alt="before" src="{embedded(before)}"><img alt="after" class="over" src="{embedded(after)}">
<span class="tag left">before</span><span class="tag right">after</span><div class="handle"></div>
<input type="range" min="0" max="100" value="50" step="0.1" aria-label="Before or after"></div>
<h3>{text(row.name)}</h3>
<p class="tiers">{chip(seen)}<span class="arrow">→</span>{chip(again) if again else "<em>not looked at</em>"}</p>
<p class="said">{text(seen["words"])}</p>
<p class="soft">{shape} {row.about["dtype"]} · {seconds:.2f} s</p>{f"<ul>{notes}</ul>" * bool(notes)}
</article>"""


def chip(seen: Mapping[str, Any]) -> str:
    """The quality of a picture."""
    return f'<span class="chip {seen["tier"]}">{seen["tier"]} <b>{seen["score"]:.2f}</b></span>'


def embedded(picture: bytes) -> str:
    """A picture inside the page."""
    return f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"
