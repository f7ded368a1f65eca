"""The gate of the tiers: are low, medium and high quality of one scene told apart, and put in order?

It takes triplets from anywhere (damage made by formula, or the outputs of a half-trained restorer between input and
target), and any reader of tier logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

NEEDED: Mapping[str, float] = {
    "accuracy": 0.85,
    "worst_accuracy": 0.75,
    "whole": 0.70,
    "order": 0.90,
    "worst_order": 0.80,
}
"""Least values with which the gate is passed."""
CROP = 128
"""Side of a crop in pixels; at most the picture's."""
MULTIPLE = 16
"""Sides of crops are divisible by this."""
Read = Callable[[Tensor], Tensor]
"""Pictures (B, 3, S, S) in [0, 1] -> logits (B, 3) of low, medium, high."""


@dataclass(frozen=True)
class Triplet:
    """One scene in three qualities, each uint8 (H, W, 3)."""

    task: str
    """What the means are taken over first: a task or a type of damage."""
    low: NDArray[np.uint8]
    medium: NDArray[np.uint8]
    high: NDArray[np.uint8]

    def __post_init__(self) -> None:
        shapes = [p.shape for p in (self.low, self.medium, self.high)]
        if len(set(shapes)) > 1:
            raise ValueError(f"expected low, medium and high of one shape for {self.task}, got {shapes}")


@dataclass(frozen=True)
class Gate:
    """How well tiers are told apart; shares of triplets or pictures, first within each task."""

    accuracy: float
    """Pictures whose likeliest tier is right, mean over the tasks."""
    worst_accuracy: float
    """The same in the worst task."""
    whole: float
    """Triplets with all three tiers right, mean over the tasks."""
    order: float
    """Triplets whose expected score rises from low over medium to high, mean over the tasks."""
    worst_order: float
    """The same in the worst task."""
    tasks: Mapping[str, Mapping[str, float]]
    """Accuracy, whole, order and number of triplets of each task."""

    @property
    def missed(self) -> tuple[str, ...]:
        """The criteria that are not met."""
        return tuple(name for name, least in NEEDED.items() if getattr(self, name) < least - 1e-9)

    @property
    def passed(self) -> bool:
        """Whether all criteria are met."""
        return not self.missed

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        values = {name: round(getattr(self, name), 4) for name in NEEDED}
        tasks = {task: {k: round(v, 4) for k, v in row.items()} for task, row in self.tasks.items()}
        return {"passed": self.passed, "missed": list(self.missed), **values, "tasks": tasks}


def tier_gate(logits: NDArray[np.floating[Any]], tasks: Sequence[str]) -> Gate:
    """Judge triplets by their logits.

    Parameters
    ----------
    logits
        (N, K, 3, 3): triplet, crop, true tier, logit of tier; both tiers from low to high. The probabilities of the
        K crops are averaged.
    tasks
        The task of each triplet.
    """
    if logits.ndim != 4 or logits.shape[2:] != (3, 3) or len(logits) != len(tasks) or not len(tasks):
        raise ValueError(f"expected logits (N, K, 3, 3) with N = {len(tasks)} > 0, got {logits.shape}")
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    tiers = (odds / odds.sum(axis=-1, keepdims=True)).mean(axis=1)  # (N, true tier, probability of tier)
    right = tiers.argmax(axis=-1) == np.arange(3)
    rises = (np.diff(tiers @ np.arange(3), axis=-1) > 0).all(axis=-1)
    names = np.asarray(tasks)
    rows = {task: judge(right[names == task], rises[names == task]) for task in dict.fromkeys(tasks)}
    accuracy, whole, order = ([row[name] for row in rows.values()] for name in ("accuracy", "whole", "order"))
    return Gate(mean(accuracy), min(accuracy), mean(whole), mean(order), min(order), rows)


def judge(right: NDArray[np.bool_], rises: NDArray[np.bool_]) -> dict[str, float]:
    """Judge the triplets of one task: right (N, 3), rises (N,)."""
    return {
        "accuracy": float(right.mean()),
        "whole": float(right.all(axis=1).mean()),
        "order": float(rises.mean()),
        "triplets": len(rises),
    }


def mean(values: Sequence[float]) -> float:
    """Mean of some shares."""
    return float(np.mean(values))


def measure_gate(
    read: Read, triplets: Iterable[Triplet], *, side: int = CROP, device: torch.device | str = "cpu"
) -> Gate:
    """Read five crops of each picture, the same in all three qualities, and judge them."""
    logits, tasks = [], []
    for triplet in triplets:
        pictures = np.stack([triplet.low, triplet.medium, triplet.high])
        crops = np.stack(
            [pictures[:, y, x] for y, x in boxes(pictures.shape[1], pictures.shape[2], side)]
        )  # (K, 3, S, S, 3)
        x = torch.from_numpy(crops).flatten(0, 1).permute(0, 3, 1, 2).float().div(255)
        with torch.inference_mode():
            logits.append(read(x.to(device)).float().cpu().numpy().reshape(-1, 3, 3))
        tasks.append(triplet.task)
    return tier_gate(np.stack(logits) if logits else np.empty((0, 5, 3, 3)), tasks)


def boxes(height: int, width: int, side: int) -> Iterator[tuple[slice, slice]]:
    """Five squares, in the middle and half-way to the corners."""
    side = min(side, height // MULTIPLE * MULTIPLE, width // MULTIPLE * MULTIPLE)
    if side < MULTIPLE:
        raise ValueError(f"expected pictures of {MULTIPLE} x {MULTIPLE} pixels or more, got {height} x {width}")
    for down, right in ((2, 2), (1, 1), (1, 3), (3, 1), (3, 3)):
        y, x = (height - side) * down // 4, (width - side) * right // 4
        yield slice(y, y + side), slice(x, x + side)
