"""The papers' protocols: one model on whole published test sets, blind to the task; beside it what papers report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from perceive_ir import Restorer
from perceive_ir_training import papers
from perceive_ir_training.paired import Pair as Files
from perceive_ir_training.paired import PathPair
from perceive_ir_training.published import SUITES, Column, Suite
from perceive_ir_training.quality import Pair, Set, SetScore, measure, plain, with_noise

Tell = Callable[[str], None]


def paper_benchmark(
    restorer: Restorer,
    root: str | Path,
    suite: str,
    *,
    given: bool = False,
    limit: int | None = None,
    tell: Tell = lambda line: None,
) -> dict[str, Any]:
    """Measure a model as papers do; returns plain values for JSON.

    Parameters
    ----------
    restorer
        The model.
    root
        Folder that holds the published test sets; each must have all its pictures.
    suite
        A key of ``SUITES``.
    given
        Restore with the task given too, which papers do not.
    limit
        Pictures per set, for a quick look.
    tell
        Called with a line after every test.
    """
    chosen = known(suite)
    sets = {test: set_of(test, Path(root), given) for test in chosen.tests}  # all are found before any is measured
    scores: dict[str, SetScore] = {}
    for test, data in sets.items():
        scores[test.title] = measure(restorer, data, classical=False, limit=limit)
        tell(f"{test.title}: {scores[test.title].means['auto'].psnr:.2f} dB")
    card, settings = restorer.card, {"limit": limit, "device": restorer.device.type}
    return {
        "suite": suite,
        "model": {"name": card.name, "version": card.version, "sha256": card.digest},
        "settings": {**settings, "precision": str(restorer.precision).removeprefix("torch.")},
        "scores": {"measured_with": f"perceive-ir benchmark paper --suite {suite}", **short(scores)},
        "published": {name: list(row) for name, row in chosen.rows.items()},
        "measured": {way: row_of(scores, way) for way in ("auto", "given") if way == "auto" or given},
        "sets": {title: score.to_dict() for title, score in scores.items()},
    }


def known(suite: str) -> Suite:
    """Return the suite of this name."""
    if suite not in SUITES:
        raise ValueError(f"expected a suite out of {', '.join(SUITES)}, got {suite!r}")
    return SUITES[suite]


def set_of(test: Column, root: Path, given: bool) -> Set:
    """Find the pictures of a test, whole; without a task they are restored automatically alone."""
    found = papers.find(test.set, root, whole=True)
    clean = [target for _, target in found]
    pairs = partial(with_noise, clean, test.sigma) if test.sigma else partial(read_pairs, found, root)
    return Set(test.title, test.task if given else None, pairs)


def read_pairs(found: tuple[PathPair, ...], root: Path) -> Iterator[Pair]:
    """Read pairs one after the other; both of one have the same size."""
    for damaged, target in found:
        name = damaged.relative_to(root).as_posix()
        pixels = Files(name, damaged, target).read()
        yield Pair(name, np.ascontiguousarray(pixels[..., :3]), np.ascontiguousarray(pixels[..., 3:]))


def row_of(scores: Mapping[str, SetScore], way: str) -> list[float]:
    """PSNR of every test, and their average."""
    found = [score.means[way].psnr for score in scores.values()]
    return [round(value, 3) for value in (*found, sum(found) / len(found))]


def short(scores: Mapping[str, SetScore]) -> dict[str, Any]:
    """PSNR and SSIM of every test, for the weights file."""
    return {title: plain(score.means["auto"]) for title, score in scores.items()}
