"""Parts of systems that were trained apart, put together."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from torch import nn

from perceive_ir._weights import load_system
from perceive_ir.networks import TOWER, Specialists, System


def take_perceiver(system: System, path: str | Path) -> System:
    """Return the system with the perceiver of other weights, whatever its sizes."""
    other = load_system(path)[0]
    if system.config.semantics and system.config.encoder_config().semantics == TOWER:
        raise ValueError(
            "cannot change a perceiver whose features guide the restorers; train these with model.semantics = false"
        )
    joined = System(replace(system.config, tower=asdict(other.config.tower_config())))
    kept = {name: t for name, t in system.state_dict().items() if not name.startswith("perceiver.")}
    taken = {f"perceiver.{name}": t for name, t in other.perceiver.state_dict().items()}
    joined.load_state_dict({**kept, **taken})
    return joined


def take_member(system: System, wish: str) -> None:
    """Take the restorer of one group from other weights; the wish is ``GROUP=PATH``."""
    group, _, path = wish.partition("=")
    if group not in system.config.groups or not path:
        known = ", ".join(system.config.groups)
        raise ValueError(f"expected GROUP=WEIGHTS with a group out of {known}, got {wish!r}")
    other = load_system(path)[0]
    if group not in other.config.groups:
        raise ValueError(
            f"{path} has no restorer of {group}, but of {', '.join(other.config.groups)}; name other weights"
        )
    there, wanted = other.config.backbone_config(), system.config.backbone_config()
    if there != wanted:
        raise ValueError(f"{path} has restorers of other sizes ({there}, not {wanted}); train with one configuration")
    source, target = (part_of(s, s.config.groups.index(group)) for s in (other, system))
    target.load_state_dict(source.state_dict())


def part_of(system: System, number: int) -> nn.Module:
    """Return the restorer of a group."""
    restorer = system.restorer
    return restorer.members[number] if isinstance(restorer, Specialists) else restorer
