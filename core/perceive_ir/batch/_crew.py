"""What passes between a run, which keeps the journal, and the crew that does its work: this process, or a cluster."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Protocol, Self

from perceive_ir._recipe import Recipe
from perceive_ir._version import VERSION
from perceive_ir.batch._batch import Batch, Entry
from perceive_ir.batch._journal import Row

if TYPE_CHECKING:
    from perceive_ir._engine import Restorer

Known = Callable[[str], Row | None]
"""Says what the journal knows of a picture, by its name."""


@dataclass(frozen=True)
class Means:
    """What a crew computes with: results follow from it, the recipe and the pictures."""

    model: str
    """Name and version."""
    weights: str
    """SHA-256."""
    device: str
    """Kind of device."""
    precision: str
    memory: float
    """GiB for the tiles of a batch, as they are free now."""
    count: int = 1
    """How many such devices work side by side."""
    software: str = VERSION

    @classmethod
    def of(cls, restorer: Restorer, recipe: Recipe) -> Self:
        """Return those of a loaded model."""
        card, precision = restorer.card, str(restorer.precision).removeprefix("torch.")
        model = f"{card.name} {card.version} ({card.digest[:12]})"
        return cls(model, card.digest, restorer.device.type, precision, restorer.memory(recipe))

    def differs(self, other: Means) -> str:
        """Say what makes results differ from those of another crew; "" if nothing does."""
        names = (one.name for one in fields(self) if one.name not in ("memory", "count"))
        pairs = ((name, getattr(self, name), getattr(other, name)) for name in names)
        return ", ".join(f"{name} {mine} and not {its}" for name, mine, its in pairs if mine != its)


@dataclass(frozen=True)
class Order:
    """What is the same for all pictures of a run."""

    batch: Batch
    recipe: Recipe
    """The recipe with the memory that is settled for the folder, so that tiles are the same wherever they are made."""
    recipe_hash: str
    weights: str
    ours: Collection[str]
    """Paths below the output folder that may be replaced, with ``/``."""


@dataclass(frozen=True)
class News:
    """What a crew has to say."""

    entry: Entry | None = None
    """The picture, unless it is about all."""
    row: Row | None = None
    """What became of it; None while it is worked on."""
    earlier: bool = False
    """Whether an earlier run did this."""
    fraction: float | None = None
    """How much of it is done; None if it has just begun."""
    full: str = ""
    """Why the disk takes no more."""
    words: str = ""


class Crew(Protocol):
    """Who does the work of a run."""

    def means(self) -> Means:
        """Say what it computes with; this may take time."""

    def work(self, order: Order, entries: Sequence[Entry], known: Known) -> Iterator[News]:
        """Read, restore and write pictures, until all are told of; it goes on only while it is asked."""

    def stop(self) -> Iterator[News]:
        """End, at any moment; say what was finished meanwhile."""
