"""The words of the project: damage types, the tasks that undo them, and quality tiers.

Everything that names a type, a task or a tier (recipe, command line, docks, network heads) reads this table.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Damage:
    """One kind of damage and the task that undoes it."""

    type: str
    """Name of the damage, as in ``perceive`` results."""
    title: str
    """The same for people to read: "low light"."""
    task: str
    """Name of the restoration task, as in a recipe."""
    adjective: str
    """How a damaged picture is described: "a noisy picture"."""
    participle: str
    """What a picture is after the task: "a denoised picture"."""
    tonal: bool
    """Whether it changes light and contrast of the whole picture, so that a thumbnail shows it too."""


DAMAGES = (
    Damage("noise", "noise", "denoise", "noisy", "denoised", tonal=False),
    Damage("haze", "haze", "dehaze", "hazy", "dehazed", tonal=True),
    Damage("rain", "rain", "derain", "rainy", "derained", tonal=False),
    Damage("snow", "snow", "desnow", "snowy", "desnowed", tonal=False),
    Damage("blur", "blur", "deblur", "blurred", "deblurred", tonal=False),
    Damage("lowlight", "low light", "brighten", "dark", "brightened", tonal=True),
    Damage("jpeg", "JPEG", "dejpeg", "compressed", "dejpegged", tonal=False),
    Damage("lowres", "low resolution", "sharpen", "coarse", "sharpened", tonal=False),
)
TYPES = tuple(d.type for d in DAMAGES)
TYPE_TITLES = {d.type: d.title for d in DAMAGES}
TASKS = tuple(d.task for d in DAMAGES)
TONAL_TYPES = tuple(d.type for d in DAMAGES if d.tonal)
TIERS = ("low", "medium", "high")


def type_of(task: str) -> str:
    """Return the damage type that a task undoes."""
    if task not in TASKS:
        raise ValueError(f"expected a task out of {', '.join(TASKS)}, got {task!r}")
    return TYPES[TASKS.index(task)]


def task_of(type: str) -> str:
    """Return the task that undoes a damage type."""
    if type not in TYPES:
        raise ValueError(f"expected a damage type out of {', '.join(TYPES)}, got {type!r}")
    return TASKS[TYPES.index(type)]
