"""A run as text: Python for napari's console and a command line, which give the same pixels."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_perceive_ir._labels import labels_index
from napari_perceive_ir._placement import level0
from napari_perceive_ir._words import AUTOMATIC
from perceive_ir._recipe import make_recipe

if TYPE_CHECKING:
    from napari.layers import Image, Labels

    from napari_perceive_ir._run import RunPlan
    from perceive_ir import Recipe

PLAIN = ("YX", "YXC")
"""Axes of a plane that files need not be told."""


@dataclass(frozen=True)
class Copied:
    """A run as text."""

    text: str
    first: str = ""
    """What has to be done before it runs."""


def as_python(source: Image, plan: RunPlan, labels: Labels | None = None) -> Copied:
    """Return Python for napari's console, where ``viewer`` is at hand."""
    plane = plan.part.index if plan.part and plan.part.plane else ()
    lines = [f"image = {data_of(source, plane)}"]
    if labels is not None:
        index, order = labels_index(labels, source, plan.recipe.axes, plan.part)
        turned = "" if order == sorted(order) else f".transpose({', '.join(map(str, order))})"
        lines.append(f"labels = {data_of(labels, index if plane else ())}{turned}")
    text = plan.recipe.to_python(labels="" if labels is None else "labels", region=plan.region)
    head, call = text.split("\n\n")
    return Copied("\n".join([head, "", *lines, call]))


def as_command(source: Image, plan: RunPlan, labels: Labels | None = None) -> Copied:
    """Return a command line, and which layers must be saved before it runs: those that are not in a file."""
    picture, stem = file_of(source), safe(source.name)
    part, wanted = f" {plan.part.plane_words}" if plan.part and plan.part.plane else "", []
    if part or picture is None:
        picture = f"{safe(source.name + part)}.tif"
        wanted.append(f"{part.strip() + ' of ' if part else ''}“{source.name}” as {picture}")
    command = for_files(plan).to_command(picture, f"{stem}_restored.tif", plan.region)
    if labels is not None:  # painted in napari, so that a file may be older
        own = part if labels.ndim == source.ndim else ""
        marks = f"{safe(labels.name + own)}.tif"
        wanted.append(f"{own.strip() + ' of ' if own else ''}“{labels.name}” as {marks}")
        command += f" --labels {shlex.quote(marks)}"
    return Copied(command + "\n", f"First save {' and '.join(wanted)}." if wanted else "")


def for_files(plan: RunPlan) -> Recipe:
    """Return the recipe with the axes of a file: a plane may be saved alone, or as a stack of one."""
    if plan.part is None or not plan.part.plane:
        return plan.recipe
    alone = "".join(axis for axis in plan.recipe.axes if axis not in plan.part.plane)
    return make_recipe(plan.recipe, axes=AUTOMATIC if alone in PLAIN else alone)


def data_of(layer: Any, index: Sequence[slice]) -> str:
    """Return Python for the array of a layer or a part of it."""
    level = "[0]" if layer.multiscale else ""
    whole = level0(layer).shape
    parts = [
        ":" if (one.start, one.stop) == (0, n) else f"{one.start}:{one.stop}"
        for one, n in zip(index, whole, strict=False)
    ]
    return f"viewer.layers[{layer.name!r}].data{level}" + (f"[{', '.join(parts)}]" if parts else "")


def file_of(layer: Any) -> str | None:
    """Return the file that a layer was opened from, alone."""
    path = layer.source.path
    return path if path and layer.source.parent is None else None


def safe(name: str) -> str:
    """Make a name of a file out of the name of a layer."""
    return re.sub(r"[^\w.-]+", "_", name).strip("_") or "picture"
