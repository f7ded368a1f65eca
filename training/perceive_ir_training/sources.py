"""Where a training takes its pictures from: a folder, published sets, paired folders, and formulas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from perceive_ir._perception import THUMBNAIL
from perceive_ir._vocabulary import TYPES
from perceive_ir_training import papers
from perceive_ir_training.config import MixConfig
from perceive_ir_training.data import Picture, Pictures, load_pictures, shrink
from perceive_ir_training.paired import Pairs, load_pairs
from perceive_ir_training.procedural import draw_pictures

ROOM = 2 * 2**30
"""Bytes that the pairs of one set may take in memory; larger sets are read from disk whenever a pair is drawn."""
POOL, SIDE = 96, 192
"""Procedural pictures that are kept at a time, and their side."""
RENEW_EVERY = 25
"""Steps after which one of them is replaced."""


@dataclass
class Sources:
    """The pictures of a training; what a step sees depends on its number and the seed alone."""

    pictures: Pictures
    thumbnails: Pictures
    pairs: tuple[Pairs, ...] = ()
    odds: tuple[float, ...] = ()
    """How often each of the pairs is drawn, relative to the others."""
    procedural: bool = False
    seed: int = 0
    _pool: dict[int, tuple[int, Picture]] = field(default_factory=dict)

    def at(self, step: int) -> Pictures:
        """Return the clean pictures of a step: procedural ones are renewed one by one, so that they never run out."""
        if not self.procedural:
            return self.pictures
        return replace(self.pictures, procedural=tuple(self.drawn(slot, step // RENEW_EVERY) for slot in range(POOL)))

    def drawn(self, slot: int, time: int) -> Picture:
        """Return the procedural picture that a slot holds; it changes whenever ``time`` modulo POOL reaches it."""
        version = (time - slot) // POOL
        if slot not in self._pool or self._pool[slot][0] != version:
            random = np.random.default_rng([self.seed, slot, version + 1])
            self._pool[slot] = (version, draw_pictures(1, SIDE, random)[0])
        return self._pool[slot][1]

    def draw_pairs(
        self, count: int, size: int, random: np.random.Generator, rows: range | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw damaged crops, their targets, and which type each shows (B, T).

        Where only some ``rows`` are wanted, the others are black, and are not read from disk.
        """
        chosen = random.choice(len(self.pairs), count, p=np.array(self.odds) / sum(self.odds))
        blank = [rows is not None and row not in rows for row in range(count)]
        drawn = [self.pairs[n].draw(1, size, random, blank=b) for n, b in zip(chosen, blank, strict=True)]
        shown = torch.tensor([[float(t == self.pairs[n].type) for t in TYPES] for n in chosen])
        damaged, target = (torch.cat([both[side] for both in drawn]) for side in (0, 1))
        return damaged, target, shown


def load_sources(root: str | Path, mix: MixConfig, seed: int) -> Sources:
    """Read all pictures of a training.

    Parameters
    ----------
    root
        The data folder: ``photos``, ``microscopy``, ``pairs/TYPE/input`` with ``pairs/TYPE/target``, and the published
        sets that the configuration names.
    mix
        Which sources are used, and how often.
    seed
        Of the procedural pictures.
    """
    sets = {name: weight for name, weight in mix.sets.items() if weight}
    tested = [name for name in sets if papers.known(name).part == "test"]
    if tested:
        trained = ", ".join(name for name, paper in papers.SETS.items() if paper.part == "train")
        raise ValueError(f"mix.sets names {tested[0]!r}, which is to be tested on; sets to train on: {trained}")
    clean = [name for name in sets if papers.known(name).clean_only]
    pictures = load_pictures(root) if has_pictures(Path(root)) or not sets else Pictures(())
    extra = tuple(p for name in clean for p in papers.load_clean(name, root, whole=mix.whole_sets))
    pictures = replace(pictures, photos=(*pictures.photos, *extra))
    if not pictures.photos and not mix.procedural:
        raise ValueError(f"no clean pictures under {root} nor in mix.sets; add photos/, a clean set or mix.procedural")
    pairs_of = {n: w for n, w in sets.items() if n not in clean}
    weighed = find_pairs(Path(root), pairs_of, mix.whole_sets) if mix.paired else []
    if mix.paired and not weighed:
        raise ValueError(f"mix.paired is {mix.paired}, but {root} has no pairs/TYPE/input and mix.sets names no pairs")
    return Sources(
        pictures,
        Pictures(shrink(pictures.photos, THUMBNAIL), shrink(pictures.microscopy, THUMBNAIL)),
        tuple(pairs.in_memory() if pairs.fit_into(ROOM) else pairs for pairs, _ in weighed),
        tuple(weight for _, weight in weighed),
        mix.procedural > 0,
        seed,
    )


def has_pictures(root: Path) -> bool:
    """Whether a folder has the layout of clean pictures."""
    return any((base / name).is_dir() for base in (root, root / "train") for name in ("photos", "microscopy"))


def find_pairs(root: Path, sets: Mapping[str, float], whole: bool) -> list[tuple[Pairs, float]]:
    """Find published pairs by name and those of the folder ``pairs``, with how often each is drawn."""
    named = [(papers.load(name, root, whole=whole), weight) for name, weight in sets.items()]
    own = [(load_pairs(root / "pairs" / t, t), 1.0) for t in TYPES if (root / "pairs" / t).is_dir()]
    return named + own
