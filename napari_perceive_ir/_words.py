"""Plain words for what the recipe names: entries of the dock and names of layers, read from the vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from perceive_ir import Recipe
from perceive_ir._vocabulary import DAMAGES

AUTOMATIC = "auto"
TASK_TITLES = {AUTOMATIC: "Automatic: all that is seen"} | {
    d.task: f"{d.task.capitalize()} a {d.adjective} picture" for d in DAMAGES
}
"""Entry of each task in the dock."""
_DONE = {AUTOMATIC: "restored"} | {d.task: d.participle for d in DAMAGES}


def result_name(source: str, tasks: Sequence[str]) -> str:
    """Name the restored layer after its source and what was done to it."""
    return f"{source} {' and '.join(_DONE[task] for task in tasks or (AUTOMATIC,))}"


def help_of(field: str) -> str:
    """Return what the recipe says about one of its fields."""
    return Recipe.model_fields[field].description or ""


def limits_of(field: str) -> tuple[float, float]:
    """Return the smallest and largest number that the recipe takes for a field."""
    schema: dict[str, Any] = Recipe.model_json_schema()["properties"][field]
    numbers = next(part for part in [schema, *schema.get("anyOf", ())] if "maximum" in part)
    return float(numbers["minimum"]), float(numbers["maximum"])
