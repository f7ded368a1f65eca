"""The recipe: one frozen value that says what to do, for script, dock, command line, folder and cluster alike."""

from __future__ import annotations

import json
import math
import os
import shlex
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from perceive_ir._vocabulary import TASKS, TIERS

Severity = Annotated[float, Field(ge=0, le=1)]
Strength = Annotated[float, Field(ge=0, le=1.5)]
EVEN: Mapping[str, float] = {"low": 1.0, "medium": 1.0, "high": 1.0}
"""Strength per tier when the whole picture is treated alike."""
SPARING: Mapping[str, float] = {"low": 1.0, "medium": 1.0, "high": 0.0}
"""Strength per tier when regions are treated apart: what is good stays."""
LONGEST = 80
"""Characters of a wrong value that a message repeats."""


class Recipe(BaseModel):
    """What to do with a picture; see the fields' descriptions. Unknown fields are refused by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(default="compact", description="Catalogue name or path of the weights.")
    task: str | tuple[str, ...] = Field(
        default="auto", description="'auto' for all perceived damage, or one task or several."
    )
    severity: Literal["auto"] | Severity = Field(
        default="auto",
        description="0..1 for the chosen task; with task 'auto' it scales what is perceived (0.5 = as perceived).",
    )
    handling: Literal["image", "region", "painted"] = Field(
        default="image", description="One condition for the picture, one per region, or one per painted label."
    )
    painted: Mapping[int, tuple[str, Severity]] = Field(
        default_factory=dict, description="Task and severity of each painted label."
    )
    strength: Strength = Field(
        default=1.0, description="How much of the change is applied; 1 as restored, 0 as it was."
    )
    tier_strength: Mapping[str, Strength] = Field(
        default_factory=lambda: dict(EVEN), description="Strength in regions of low, medium and high quality."
    )
    value_range: Literal["auto", "dtype", "percentile"] | tuple[float, float] = Field(
        default="auto", description="Which values count as black and white."
    )
    axes: str = Field(default="auto", description="Meaning of the array's axes, such as YXC or TZCYX.")
    tile: Literal["auto"] | Annotated[int, Field(ge=16)] = Field(
        default="auto", description="Side of a tile in pixels."
    )
    overlap: Literal["auto", "exact"] | Annotated[int, Field(ge=0)] = Field(
        default="auto", description="Context around a tile in pixels; 'exact' for all that the network sees."
    )
    memory: Literal["auto"] | Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default="auto", description="Memory for tiles in GiB."
    )
    device: str = Field(
        default="auto", description="cpu, cuda, cuda:1 or mps.", examples=["auto", "cpu", "cuda", "mps"]
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="Number format of the network."
    )

    @model_validator(mode="before")
    @classmethod
    def _spare_good_regions(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("handling") == "region" and "tier_strength" not in values:
            return {**values, "tier_strength": dict(SPARING)}
        return values

    @field_validator("model", mode="before")
    @classmethod
    def _path_as_text(cls, value: Any) -> Any:
        return os.fspath(value) if isinstance(value, os.PathLike) else value

    @field_validator("task", mode="before")
    @classmethod
    def _known_tasks(cls, value: Any) -> Any:
        names = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (value,)
        for name in names:
            if name not in TASKS and (name != "auto" or len(names) > 1):
                raise ValueError(f"expected 'auto' or tasks out of {', '.join(TASKS)}")
        if not names:
            raise ValueError("expected 'auto' or at least one task")
        return names[0] if len(names) == 1 else tuple(dict.fromkeys(names))

    @field_validator("painted")
    @classmethod
    def _known_painted_tasks(cls, value: Mapping[int, tuple[str, float]]) -> Mapping[int, tuple[str, float]]:
        for label, (task, _) in value.items():
            if task not in TASKS:
                raise ValueError(f"label {label}: expected a task out of {', '.join(TASKS)}, got {task!r}")
        return dict(sorted(value.items()))

    @field_validator("tier_strength")
    @classmethod
    def _all_tiers(cls, value: Mapping[str, float]) -> Mapping[str, float]:
        unknown = sorted(set(value) - set(TIERS))
        if unknown:
            raise ValueError(f"expected tiers out of {', '.join(TIERS)}, got {unknown[0]!r}")
        return {tier: value.get(tier, 1.0) for tier in TIERS}

    @field_validator("value_range")
    @classmethod
    def _rising(cls, value: str | tuple[float, float]) -> str | tuple[float, float]:
        if isinstance(value, tuple) and not (value[0] < value[1] and math.isfinite(value[1] - value[0])):
            raise ValueError("expected finite (low, high) with low < high")
        return value

    @field_validator("axes", mode="after")
    @classmethod
    def _upper_case(cls, value: str) -> str:
        return "auto" if value.lower() == "auto" else value.upper()

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @property
    def tasks(self) -> tuple[str, ...]:
        """The chosen tasks; empty for 'auto'."""
        if self.task == "auto":
            return ()
        return (self.task,) if isinstance(self.task, str) else self.task

    def changed(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults, as plain values."""
        base = Recipe(handling=self.handling).model_dump(mode="json")
        values = self.model_dump(mode="json")
        return {k: v for k, v in values.items() if v != base[k] or (k == "handling" and v != "image")}

    def to_python(self, image: str = "image", labels: str = "", region: tuple[slice, slice] | None = None) -> str:
        """Return Python that runs this recipe on a variable, on another one with labels, and on a region."""
        values = {name: self.model_dump()[name] for name in self.changed()}
        if region is not None:
            values = {"region": tuple(slice(one.start, one.stop) for one in region), **values}
        arguments = (f", labels={labels}" if labels else "") + "".join(f", {n}={v!r}" for n, v in values.items())
        return f"import perceive_ir as pir\n\nrestored = pir.restore({image}{arguments})\n"

    def to_command(
        self, source: str = "INPUT", output: str = "OUTPUT", region: tuple[slice, slice] | None = None
    ) -> str:
        """Return the command line that runs this recipe on a file, or on a region of it."""
        words = ["perceive-ir", "restore", source, "-o", output]
        if region is not None:
            words += ["--region", ",".join(f"{one.start}:{one.stop}" for one in region)]
        for name, value in self.changed().items():
            words += command_words(name, value)
        return shlex.join(words)


def make_recipe(recipe: Recipe | Mapping[str, Any] | None = None, **fields: Any) -> Recipe:
    """Build a recipe from another one and changed fields; mistakes become one line.

    A field that is given overrides the recipe; the strength per tier follows a changed handling unless it is given.
    """
    base = dict(recipe) if isinstance(recipe, Mapping) else recipe.changed() if recipe is not None else {}
    if isinstance(recipe, Recipe):
        base = {name: getattr(recipe, name) for name in base}
    try:
        return Recipe(**{**base, **fields})
    except ValidationError as error:
        raise ValueError(one_line(error)) from None


def one_line(error: ValidationError) -> str:
    """Say the first mistake: field, value and what was expected."""
    mistake = error.errors(include_url=False)[0]
    name = str(mistake["loc"][0]) if mistake["loc"] else "recipe"
    if mistake["type"] == "extra_forbidden":
        return f"unknown recipe field {name!r}; known fields: {', '.join(Recipe.model_fields)}"
    reasons = [e["msg"].removeprefix("Value error, ") for e in error.errors() if e["loc"][:1] == mistake["loc"][:1]]
    given = " ".join(repr(mistake["input"]).split())
    given = given if len(given) <= LONGEST else given[:LONGEST] + "…"
    return f"{name}: {'; or '.join(dict.fromkeys(reasons))} (got {given})"


def command_words(name: str, value: Any) -> list[str]:
    """Turn one field into options of the command line."""
    option = "--" + name.replace("_", "-")
    if name == "task" and isinstance(value, list):
        return [word for task in value for word in (option, task)]
    if name == "value_range" and isinstance(value, list):
        return [option, f"{value[0]!r},{value[1]!r}"]
    return [option, json.dumps(value) if isinstance(value, dict) else str(value)]
