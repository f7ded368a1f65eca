"""The page of the demonstration: one HTML file with everything in it."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from perceive_ir.commands._demo import Shown, decibels, verdict

if TYPE_CHECKING:
    from perceive_ir import Perception

TEMPLATE = Path(__file__).with_name("page.html")
QUALITY = 90
SIGNS = {"up": "▲", "down": "▼", "same": "="}
VIEWS = {"after": "Automatic", "after-task-given": "Task given", "clean": "Clean original", "map": "Quality map"}


def page(shown: Sequence[tuple[Shown, Mapping[str, NDArray[Any]]]], made_by: str) -> str:
    """Return the whole page as text."""
    template = Template(TEMPLATE.read_text(encoding="utf-8"))
    return template.substitute(
        made_by=escape(made_by),
        rows="\n".join(row(one) for one, _ in shown),
        cards="\n".join(card(one, pictures) for one, pictures in shown),
    )


def row(one: Shown) -> str:
    """A line of the summary."""
    found = one.decibels()
    before = found.pop("damaged")
    cells = "".join(f"<td>{gain(value, before)}</td>" for value in found.values()) + "<td>–</td>" * (2 - len(found))
    return (
        f'<tr><th scope="row"><a href="#{one.case.name}">{escape(one.case.title)}</a></th>'
        f"<td>{decibels(before)}</td>{cells}<td>{one.seconds:.1f} s</td></tr>"
    )


def gain(value: float, before: float) -> str:
    """A PSNR with what was won or lost against the damaged picture."""
    if not math.isfinite(value):
        return "identical"
    if not math.isfinite(before):
        return decibels(value)
    kind = verdict(value, before)
    return f'{value:.2f} <span class="{kind}">{SIGNS[kind]} {abs(value - before):.2f}</span>'


def card(one: Shown, pictures: Mapping[str, NDArray[Any]]) -> str:
    """One case: a slider between before and after, and what was seen and measured."""
    height, width = one.damaged.shape[:2]
    after = "".join(image(pictures[view], view, hidden=view != "after") for view in VIEWS if view in pictures)
    buttons = "".join(
        f'<button type="button" data-view="{view}" aria-pressed="{str(view == "after").lower()}">{label}</button>'
        for view, label in VIEWS.items()
        if view in pictures
    )
    return f"""<article class="card" id="{one.case.name}">
<h2>{escape(one.case.title)}</h2>
<p class="done">{escape(done_to(one))}</p>
<div class="compare" style="aspect-ratio:{width}/{height}">
{image(pictures["before"], "before")}
<div class="over">{after}</div>
<span class="tag left">before</span><span class="tag right">{VIEWS["after"]}</span>
<div class="handle"></div>
<input type="range" min="0" max="100" value="50" step="0.1" aria-label="Before or after">
</div>
<div class="views" role="group" aria-label="What to show on the right">{buttons}</div>
<p class="said"><b>The model says:</b> {escape(said(one))}</p>
{bars(one.auto.perception)}
<p class="measured">{measured(one)}</p>
</article>"""


def image(pixels: NDArray[Any], view: str, *, hidden: bool = False) -> str:
    """An image inside the page."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "WEBP", quality=QUALITY)
    data = base64.b64encode(stream.getvalue()).decode()
    words = VIEWS.get(view, "before")
    return f'<img data-view="{view}" alt="{words}"{" hidden" * hidden} src="data:image/webp;base64,{data}">'


def done_to(one: Shown) -> str:
    """Say what was done to the clean picture."""
    types = ", ".join(f"{name} of severity {value:g}" for name, value in one.case.types.items())
    return f"Added: {types}." if types else "Nothing was added: this picture should come back as it is."


def said(one: Shown) -> str:
    """Say what the model saw, and what it did about it."""
    words = one.auto.perception.words()
    return words + (f" – {one.auto.note}" if one.auto.note else "")


def bars(seen: Perception) -> str:
    """Probabilities of the quality tiers as one bar."""
    parts = "".join(
        f'<i class="{tier}" style="flex:{max(value, 0.001):.3f}" title="{tier} {value:.0%}"></i>'
        for tier, value in seen.tiers.items()
    )
    words = ", ".join(f"{tier} {value:.0%}" for tier, value in seen.tiers.items())
    return (
        f'<div class="tiers" role="img" aria-label="Quality: {words}">{parts}</div><p class="key">Quality: {words}</p>'
    )


def measured(one: Shown) -> str:
    """What was measured against the clean twin."""
    found = one.decibels()
    before = found.pop("damaged")
    if not math.isfinite(before):
        same = "identical to the input" if not math.isfinite(found["auto"]) else f"{found['auto']:.2f} dB to the input"
        return f"{same} · {one.seconds:.1f} s"
    names = {"auto": "automatic", "given": f"given {', '.join(one.case.tasks)}"}
    parts = [f"PSNR {before:.2f} dB before"] + [f"{gain(v, before)} dB {names[k]}" for k, v in found.items()]
    return " · ".join([*parts, f"{one.seconds:.1f} s"])
