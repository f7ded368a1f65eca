"""Where a shake is looked for: once in a picture, and only where it matters."""

from __future__ import annotations

from dataclasses import replace

import torch

from perceive_ir._perception import Perception, Subject
from perceive_ir._shake import Shake, find_shake, middle
from perceive_ir.images import Layout, LazyArray, read_tile, to_network

SURE = 0.9
"""Probability of blur where the path of a shake is found."""


def explained(subject: Subject, seen: Perception) -> Perception:
    """Look for a shake where a picture looks damaged by no known type: one that is found explains it."""
    shake = shake_of(subject.array, subject.layout, seen) if seen.unknown else None
    if shake is None:
        return seen
    types = {**seen.types, "blur": max(seen.types["blur"], SURE)}
    return replace(seen, types=types, severities={**seen.severities, "blur": shake.severity})


def shake_of(array: LazyArray, layout: Layout, seen: Perception) -> Shake | None:
    """Return the shake of a single picture; it is looked for once, and anew where other values are black and white.

    In a stack none is looked for, nor, from then on, in a part of it with the same perception.
    """
    known, values = seen.shakes, seen.value_range
    if layout.plane_count > 1:
        return known.setdefault(values, None)
    if values not in known:
        rows, columns = (middle(n) for n in (layout.height, layout.width))
        raw = read_tile(array, layout.plane(0), rows, columns)
        known[values] = find_shake(to_network(raw, *values, torch.device("cpu")))
    return known[values]
