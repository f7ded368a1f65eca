"""Parts of systems that were trained apart, put together; a part may be the mean of several trainings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Size, Tensor, nn

from perceive_ir._weights import load_system
from perceive_ir.networks import TOWER, Specialists, System

REMEDY = "train with one configuration"


def take_perceiver(system: System, paths: Sequence[str | Path]) -> System:
    """Return the system with the perceiver of other weights; that of several is their mean."""
    if system.config.semantics and system.config.encoder_config().semantics == TOWER:
        raise ValueError(
            "cannot change a perceiver whose features guide the restorers; train these with model.semantics = false"
        )
    others = [load_system(path)[0] for path in paths]
    towers = [other.config.tower_config() for other in others]
    whole = all(tower.overall for tower in towers)  # where one has none, `calibrate` fits it anew
    closer = towers[0].closer if len(towers) == 1 else 0  # what was fitted to one perceiver does not fit a mean
    tower, own = replace(towers[0], overall=whole, closer=closer), system.config.tower_config()
    for path, held in zip(paths, towers, strict=True):
        there = replace(held, overall=whole, closer=closer)
        if there != tower:
            raise ValueError(f"{path} has a perceiver of other sizes than {paths[0]} ({there}, not {tower}); {REMEDY}")
    joined = System(replace(system.config, tower=asdict(tower)))
    if shapes(joined.restorer) != shapes(system.restorer):
        raise ValueError(f"{paths[0]} has a perceiver that the restorers do not fit ({tower}, not {own}); {REMEDY}")
    kept = {name: t for name, t in system.state_dict().items() if not name.startswith("perceiver.")}
    for other in others:
        other.perceiver.overall = other.perceiver.overall if whole else None
        other.perceiver.closer = other.perceiver.closer if closer else None
    taken = {f"perceiver.{name}": t for name, t in mean([other.perceiver for other in others]).items()}
    joined.load_state_dict({**kept, **taken})
    return joined


def take_members(system: System, wishes: Sequence[str]) -> None:
    """Take restorers of groups from other weights; a wish is ``GROUP=PATH``, and several for one group are averaged."""
    found: dict[str, list[nn.Module]] = {}
    for wish in wishes:
        group, _, path = wish.partition("=")
        if group not in system.config.groups or not path:
            known = ", ".join(system.config.groups)
            raise ValueError(f"expected GROUP=WEIGHTS with a group out of {known}, got {wish!r}")
        found.setdefault(group, []).append(load_member(system, group, path))
    for group, members in found.items():
        part_of(system, group).load_state_dict(mean(members))


def load_member(system: System, group: str, path: str) -> nn.Module:
    """Read the restorer of a group from other weights; it must have the sizes of the system's own."""
    other = load_system(path)[0]
    if group not in other.config.groups:
        raise ValueError(
            f"{path} has no restorer of {group}, but of {', '.join(other.config.groups)}; name other weights"
        )
    there, wanted = other.config.backbone_config(), system.config.backbone_config()
    if there != wanted:
        raise ValueError(f"{path} has restorers of other sizes ({there}, not {wanted}); {REMEDY}")
    member = part_of(other, group)
    if "haze" in group.split("+") and other.config.scattering != system.config.scattering:
        raise ValueError(
            f"{path} has a restorer of {group} with scattering = {other.config.scattering}, the first weights have "
            f"{system.config.scattering}; {REMEDY}"
        )
    if shapes(member) != shapes(part_of(system, group)):
        sizes = f"{other.config.semantic_sizes()}, not {system.config.semantic_sizes()}"
        raise ValueError(f"{path} has restorers for features of other sizes ({sizes}); {REMEDY}")
    return member


def part_of(system: System, group: str) -> nn.Module:
    """Return the restorer of a group."""
    restorer = system.restorer
    return restorer.members[system.config.groups.index(group)] if isinstance(restorer, Specialists) else restorer


def shapes(part: nn.Module) -> dict[str, Size]:
    """Return the shape of every tensor of a part."""
    return {name: tensor.shape for name, tensor in part.state_dict().items()}


def mean(parts: Sequence[nn.Module]) -> dict[str, Tensor]:
    """Average the weights of parts of one shape, the statistics of their normalisations too."""
    states = [part.state_dict() for part in parts]
    return {name: torch.stack([s[name] for s in states]).mean(dim=0, dtype=torch.float32) for name in states[0]}
