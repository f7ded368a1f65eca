"""What to do with a picture, decided from the wish (recipe) and the data (perception); pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from perceive_ir._perception import PRESENT, SLIGHT, Perception
from perceive_ir._quality_map import QualityMap
from perceive_ir._recipe import Recipe
from perceive_ir._vocabulary import TIERS, TONAL_TYPES, TYPE_TITLES, TYPES, task_of, type_of

AS_PERCEIVED = 0.5
"""Severity that, with task "auto", leaves the perceived condition as it is."""
GENTLE = 0.5
"""Share of the expected severities that is used where the damage is of no known type."""
LEFT, UNDONE = SLIGHT, 0.3
"""Severity of haze and low light below which they are left where nobody asked, and from which they are wholly undone.

A little of both belongs to many scenes, and to undo what is not there spoils a picture.
"""

NOISY = 0.05
"""Severity of noise beside which blur is left where nobody asked."""

WHOLE = 0.75
"""Share of the whole picture's severity in that of a cell, for haze and low light that the whole picture has."""

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Decision:
    """Condition of a whole picture, and why."""

    condition: Mapping[str, float]
    note: str = ""

    @property
    def unchanged(self) -> bool:
        """Whether there is nothing to do."""
        return not any(self.condition.values())

    def vector(self) -> Tensor:
        """Return severities (1, T)."""
        return torch.tensor([[self.condition[t] for t in TYPES]])


def decide(recipe: Recipe, seen: Perception) -> Decision:
    """Find the condition of a whole picture."""
    if recipe.tasks:
        return Decision(chosen(recipe, seen.severities))
    factor = 1.0 if recipe.severity == "auto" else recipe.severity / AS_PERCEIVED
    if seen.tier == "high":
        return Decision(dict.fromkeys(TYPES, 0.0), "unchanged: the picture is perceived as of high quality")
    if seen.unknown:
        gently = {t: min(1.0, s * seen.types[t] * gentle(t) * factor) for t, s in seen.severities.items()}
        return Decision(gently, "damage of no known type: restored gently")
    condition = {t: min(1.0, float(restrained(t, s)) * factor) for t, s in seen.condition.items()}
    if blur_is_left(seen):
        condition["blur"] = 0.0
    return Decision(condition, left_alone(seen))


def restrained(kind: str, severity: float | NDArray[Any]) -> float | NDArray[Any]:
    """How much of a type is undone where nobody asked for it: all, but of slight haze and low light less or nothing."""
    if kind not in TONAL_TYPES:
        return severity
    return severity * np.clip((severity - LEFT) / (UNDONE - LEFT), 0, 1)


def blur_is_left(seen: Perception) -> bool:
    """Whether blur is left where nobody asked: beside noise what is smooth looks blurred, and little is gained."""
    return seen.condition["blur"] > 0 and seen.condition["noise"] >= NOISY


def left_alone(seen: Perception) -> str:
    """Say which slight change of light is left, or blur beside noise, and what would undo it."""
    notes = [
        f"slight {TYPE_TITLES[t]} is left, as it may belong to the scene; task {task_of(t)} undoes it"
        for t in TONAL_TYPES
        if 0 < seen.condition[t] < LEFT
    ]
    if blur_is_left(seen):
        notes.append("blur is left beside noise, where it may belong to the scene; task deblur undoes it")
    return "; ".join(notes)


def gentle(kind: str) -> float:
    """Share of the expected severity of a type where the damage is of no known type; light and contrast are left."""
    return 0.0 if kind in TONAL_TYPES else GENTLE


def most(recipe: Recipe, decided: Decision, kind: str) -> float:
    """Return how severe a type is told to be at most."""
    if recipe.handling != "painted":
        return decided.condition[kind]
    return max((severity for task, severity in recipe.painted.values() if type_of(task) == kind), default=0.0)


def chosen(recipe: Recipe, severities: Mapping[str, float]) -> dict[str, float]:
    """Condition for chosen tasks: the given severity, or as it is read, which says how much if at all."""
    types = {type_of(task) for task in recipe.tasks}
    fixed = recipe.severity
    return {t: (severities[t] if fixed == "auto" else fixed) if t in types else 0.0 for t in TYPES}


def region_condition(recipe: Recipe, qmap: QualityMap, whole: Mapping[str, float]) -> Array:
    """Condition of each cell (T, h, w) of a plane's quality map; ``whole`` is the condition of the whole picture.

    A cell alone shows little of haze and low light: where the whole picture has one of them, so has every cell, about
    as strong as in the whole. A severity that is given holds everywhere.
    """
    if recipe.tasks and recipe.severity != "auto":
        given = chosen(recipe, whole)
        return np.stack([np.full(qmap.tier_labels.shape, given[t], np.float32) for t in TYPES])
    factor = 1.0 if recipe.tasks or recipe.severity == "auto" else recipe.severity / AS_PERCEIVED
    cells = cells_of_tasks(recipe, qmap) if recipe.tasks else cells_as_perceived(qmap, factor)
    for row, kind in enumerate(TYPES):
        if kind in TONAL_TYPES and whole[kind]:
            own = np.minimum(1, qmap.severities[row] * factor)
            cells[row] = (1 - WHOLE) * own + WHOLE * whole[kind]
    return cells


def cells_of_tasks(recipe: Recipe, qmap: QualityMap) -> Array:
    """Severities of the chosen types (T, h, w) as they are read, less where a type is in doubt."""
    types = {type_of(task) for task in recipe.tasks}
    mine = np.array([t in types for t in TYPES])[:, None, None]
    return np.where(mine, qmap.severities * np.minimum(1, qmap.types / PRESENT), 0).astype(np.float32)


def cells_as_perceived(qmap: QualityMap, factor: float) -> Array:
    """Severities (T, h, w) as a picture of its own would be treated, cell by cell."""
    unknown = (qmap.types < PRESENT).all(axis=0)
    shares = np.array([gentle(t) for t in TYPES], np.float32)[:, None, None]
    known = np.stack([restrained(t, c) for t, c in zip(TYPES, qmap.condition, strict=True)])
    noise, blur = TYPES.index("noise"), TYPES.index("blur")
    known[blur] *= known[noise] < NOISY
    condition = np.where(unknown, qmap.severities * qmap.types * shares, known)
    good = qmap.tier_labels == TIERS.index("high") + 1
    return np.where(good, 0, np.minimum(1, condition * factor)).astype(np.float32)


def painted_condition(recipe: Recipe, labels: NDArray[np.integer], step: int) -> Array:
    """Condition (T, h, w) of cells of ``step`` pixels: the mean over each cell of what its labels ask for."""
    height, width = (-(-n // step) for n in labels.shape)
    out = np.zeros((len(TYPES), height, width), np.float32)
    for label, (task, severity) in recipe.painted.items():
        share = cell_means(labels == label, step)
        out[TYPES.index(type_of(task))] += severity * share
    return out.clip(0, 1)


def cell_means(mask: NDArray[np.bool_], step: int) -> Array:
    """Share of each cell that a mask covers; the picture continues beyond its edge as it ends."""
    height, width = (-n % step for n in mask.shape)
    whole = np.pad(mask, ((0, height), (0, width)), mode="edge").astype(np.float32)
    rows, columns = whole.shape[0] // step, whole.shape[1] // step
    means: Array = whole.reshape(rows, step, columns, step).mean(axis=(1, 3))
    return means


def enlarge(cells: Array, ratio: int, size: tuple[int, int]) -> Tensor:
    """Interpolate cells (K, h, w) to cells ``ratio`` times finer (K, *size), continued at the edges."""
    fine = F.interpolate(torch.from_numpy(cells)[None], scale_factor=ratio, mode="bilinear", align_corners=False)[0]
    rows = torch.arange(size[0]).clamp_max(fine.shape[1] - 1)
    columns = torch.arange(size[1]).clamp_max(fine.shape[2] - 1)
    return fine[:, rows][:, :, columns]


def tier_weights(recipe: Recipe, qmap: QualityMap, rows: slice, columns: slice = slice(None)) -> Array:
    """Strength of some rows and columns (h, w) of a plane: each tier's own, blended softly by the tier map."""
    strengths = np.array([recipe.tier_strength[t] for t in TIERS], np.float32)
    cells = np.tensordot(strengths, qmap.probabilities, axes=1)  # (h, w)
    return sample_rows(cells, qmap.stride, rows, qmap.shape[1], columns)


def sample_rows(cells: Array, stride: int, rows: slice, width: int, columns: slice = slice(None)) -> Array:
    """Interpolate cells bilinearly at some pixels; cell centres lie at (i + 0.5) * stride."""
    down, up = positions(np.arange(rows.start, rows.stop, rows.step), stride, cells.shape[0])
    left, right = positions(np.arange(width)[columns], stride, cells.shape[1])
    vertical: Array = cells[down[0]] * (1 - down[1])[:, None] + cells[up[0]] * down[1][:, None]
    result: Array = vertical[:, left[0]] * (1 - left[1]) + vertical[:, right[0]] * left[1]
    return result


def positions(pixels: NDArray[np.integer], stride: int, count: int) -> tuple[tuple[NDArray[np.intp], Array], ...]:
    """Neighbouring cells of each pixel, and the weight of the second."""
    place = np.clip((pixels + 0.5) / stride - 0.5, 0, count - 1)
    first = np.floor(place).astype(np.intp)
    weight = (place - first).astype(np.float32)
    return (first, weight), (np.minimum(first + 1, count - 1), weight)
