"""``perceive-ir models``: which weights are here, and what they say of themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from perceive_ir._advice import one_line, reason
from perceive_ir.commands._inputs import finish
from perceive_ir.commands._report import complain, say, say_json, say_table


def models(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the models that can be loaded by name, add one, or export one."""
    if context.invoked_subcommand is not None:
        return
    from perceive_ir._catalogue import CATALOGUE, available

    found = [describe(name, path) for name, path in available().items()]
    if as_json:
        say_json(found)
    elif any("error" not in model for model in found):
        say_table(table(found))
    for model in found:
        if "error" in model:
            complain(f"{model['path']}: {model['error']}")
    for entry in CATALOGUE.values():
        if all(model["name"] != entry.name for model in found) and not as_json:
            say(f"not here: {entry.name}, {entry.about}; {entry.remedy}")
    finish(sum("error" in model for model in found))


def describe(name: str, path: Path) -> dict[str, Any]:
    """Return what a weights file says of itself, read from its head alone."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            about = dict(file.metadata() or {})
        card = json.loads(about["card"])
        said = {key: card.get(key, "") for key in ("version", "licence", "data", "scores", "notes")}
    except KeyError:
        return {"name": name, "path": str(path), "error": "not a weights file of this project; take it out of there"}
    except (SafetensorError, OSError, ValueError, AttributeError) as error:
        return {"name": name, "path": str(path), "error": f"not readable ({reason(error, path)}); get it again"}
    return {"name": name, **said, "path": str(path), "sha256": about.get("digest", "")}


def table(found: list[dict[str, Any]]) -> Any:
    """Lay out the models for reading."""
    from rich.table import Column, Table
    from rich.text import Text

    made = Table("name", "version", "licence", "scores", Column("path", overflow="fold"), show_lines=True)
    for model in found:
        if "error" not in model:
            words = (model["name"], model["version"], model["licence"], "\n".join(flat(model["scores"])), model["path"])
            made.add_row(*(Text(str(word)) for word in words))
    return made


def flat(scores: Any, before: str = "") -> Iterator[str]:
    """One line per score, whatever their nesting."""
    if isinstance(scores, Mapping):
        for name, value in scores.items():
            yield from flat(value, f"{before}{name} ")
    elif scores != "":
        yield one_line(f"{before}{scores:.4g}" if isinstance(scores, float) else f"{before}{scores}")
