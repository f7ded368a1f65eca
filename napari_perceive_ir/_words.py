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
HANDLING_TITLES = {"image": "The picture as a whole", "region": "Region by region", "painted": "As labels are painted"}
"""Entry of each handling in the dock."""
_DONE = {AUTOMATIC: "restored"} | {d.task: d.participle for d in DAMAGES}


def result_name(source: str, tasks: Sequence[str]) -> str:
    """Name the restored layer after its source and what was done to it."""
    return f"{source} {' and '.join(_DONE[task] for task in tasks or (AUTOMATIC,))}"


def help_of(field: str) -> str:
    """Return what the recipe says about one of its fields."""
    return Recipe.model_fields[field].description or ""


def choices_of(field: str) -> tuple[str, ...]:
    """Return the words that the recipe takes for a field, or examples of them where it takes others too."""
    schema = schema_of(field)
    return tuple(schema["enum"] if "enum" in schema else schema["examples"])


def limits_of(field: str) -> tuple[float, float]:
    """Return the smallest and largest number that the recipe takes for a field, or for each value of one."""
    schema = schema_of(field)
    parts = [schema, *schema.get("anyOf", ()), schema.get("additionalProperties", {})]
    numbers = next(part for part in parts if "maximum" in part)
    return float(numbers["minimum"]), float(numbers["maximum"])


def schema_of(field: str) -> dict[str, Any]:
    """Return what pydantic says of a field of the recipe."""
    schema: dict[str, Any] = Recipe.model_json_schema()["properties"][field]
    return schema


def sentence(text: str) -> str:
    """Make a sentence of a note or a message."""
    return text and f"{text[0].upper()}{text[1:]}."
