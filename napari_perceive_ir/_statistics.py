"""Numbers of a quality map: shares of the area, scores and damage, of all of it or of a region, and plane by plane."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from perceive_ir._vocabulary import TIERS, TYPE_TITLES, TYPES

if TYPE_CHECKING:
    from perceive_ir import QualityMap

NO_TYPE = "none"
"""Says that no type of damage is present."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Statistics:
    """What a quality map says of an area as a whole."""

    area: float
    """In pixels."""
    shares: Mapping[str, float]
    """Share of the area in each tier."""
    score: float
    """Mean score, 0 (low) .. 2 (high)."""
    type: str
    """The commonest type of damage, or "none"."""
    severity: float
    """Mean severity of that type where it is."""


def measure(qmap: QualityMap, weights: Array | None = None) -> Statistics | None:
    """Sum up the cells of a map, or of a region given by weights 0..1 of the cells; None where nothing is covered."""
    areas = cell_areas(qmap) if weights is None else cell_areas(qmap) * weights
    total = float(areas.sum())
    if total == 0:
        return None
    sums = np.bincount(qmap.tier_labels.ravel(), areas.ravel(), len(TIERS) + 1)[1:]
    shares = {tier: float(s) / total for tier, s in zip(TIERS, sums, strict=True)}
    commonest = int(np.bincount(qmap.type_labels.ravel(), areas.ravel()).argmax())
    score = float((qmap.score * areas).sum()) / total
    return Statistics(total, shares, score, (NO_TYPE, *TYPES)[commonest], mean_severity(qmap, commonest, areas))


def cell_areas(qmap: QualityMap) -> Array:
    """Pixels of the picture in each cell (..., h, w); the last row and column may reach beyond its edge."""
    height, width = (np.minimum(n - np.arange(0, n, qmap.stride), qmap.stride) for n in qmap.shape)
    areas: Array = np.broadcast_to(np.outer(height, width).astype(float), qmap.score.shape)
    return areas


def mean_severity(qmap: QualityMap, label: int, areas: Array) -> float:
    """Mean severity of a type, counted from 1, where it is the likeliest; 0 for no type."""
    there = areas * (qmap.type_labels == label)
    if label == 0 or not there.any():
        return 0.0
    return float((qmap.severities[label - 1] * there).sum() / there.sum())


def tier_features(qmap: QualityMap) -> dict[str, NDArray[Any]]:
    """Return a row per tier: its label and name, its share of the area, mean score, commonest type and its severity."""
    labels = qmap.tier_labels
    rows = [measure(qmap, (labels == n).astype(float)) for n in range(1, len(TIERS) + 1)]
    return {"index": np.arange(1, len(TIERS) + 1), "tier": np.array(TIERS), **columns(rows, qmap, "type")}


def type_features(qmap: QualityMap) -> dict[str, NDArray[Any]]:
    """Return a row for no damage and per type: its label and name, its share of the area, mean score and severity."""
    labels, names = qmap.type_labels, (NO_TYPE, *TYPES)
    rows = [measure(qmap, (labels == n).astype(float)) for n in range(len(names))]
    return {"index": np.arange(len(names)), "type": np.array(names), **columns(rows, qmap)}


def columns(rows: list[Statistics | None], qmap: QualityMap, *more: str) -> dict[str, NDArray[Any]]:
    """Return the numbers of some areas as columns; an area without a cell has a share of 0 and no numbers."""
    total = cell_areas(qmap).sum()
    shares = np.array([row.area / total if row else 0.0 for row in rows])
    scores = np.array([row.score if row else np.nan for row in rows])
    severities = np.array([row.severity if row else np.nan for row in rows])
    types = {name: np.array([row.type if row else NO_TYPE for row in rows]) for name in more}
    return {"share": shares.round(4), "score": scores.round(3), **types, "severity": severities.round(3)}


def plane_scores(qmap: QualityMap) -> Array:
    """Mean score of each plane, in the shape of the stack."""
    areas = cell_areas(qmap)
    scores: Array = (qmap.score * areas).sum(axis=(-2, -1)) / areas.sum(axis=(-2, -1))
    return scores


def worst_plane(scores: Array) -> tuple[int, ...]:
    """Place of the plane with the lowest score in the stack."""
    return tuple(int(n) for n in np.unravel_index(scores.argmin(), scores.shape))


def profile(scores: Array, along: int, at: tuple[int, ...]) -> Array:
    """Scores along one axis of the stack, at a place on the others."""
    place: list[Any] = list(at)
    place[along] = slice(None)
    line: Array = scores[tuple(place)]
    return line


def table_rows(
    before: Statistics | None, after: Statistics | None, waiting: bool = False
) -> list[tuple[str, str, str]]:
    """Return rows of text: what is told, of the picture as it was, and of its restored result."""
    told = [words_of(before), words_of(after)]
    return [(name, told[0][name], "…" if waiting else told[1][name]) for name in told[0]]


def words_of(one: Statistics | None) -> dict[str, str]:
    """Say what is known of an area; nothing of no area."""
    shares = {f"{tier.capitalize()} quality": f"{one.shares[tier]:.0%}" if one else "" for tier in TIERS}
    score = f"{one.score:.2f}" if one else ""
    damage = one.type if one else ""
    if one and one.type != NO_TYPE:
        damage = f"{TYPE_TITLES[one.type]} ({one.severity:.2f})"
    return {**shares, "Mean score, of 2": score, "Commonest damage": damage}
