"""What a stage starts from: networks, text tower, half-trained restorers, and pictures that are held back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from perceive_ir._encoders import equip
from perceive_ir._errors import WeightsError
from perceive_ir._weights import load_system
from perceive_ir.networks import CompactConfig, EncoderConfig, System
from perceive_ir.networks.system import BackboneConfig
from perceive_ir_training import papers
from perceive_ir_training.config import STAGES, MixConfig, TrainConfig
from perceive_ir_training.crossfit import HalfConfig, Halves, cached_halves, load_halves
from perceive_ir_training.data import Pictures, load_pictures
from perceive_ir_training.language import TextConfig, TextTower, load_text_tower
from perceive_ir_training.plan import HALVES, TEXT, WEIGHTS, Plan
from perceive_ir_training.sources import has_pictures
from perceive_ir_training.stages import PerceiverStage, PromptsStage, RestorerStage, Setting, Stage


def start(plan: Plan, run: Path, *, fresh: bool) -> tuple[System, TextTower | None]:
    """Return the networks that the first stage, or the resumed one, starts from."""
    if not fresh:
        return load_start(run / WEIGHTS, plan.config), text_beside(run / TEXT)
    torch.manual_seed(plan.config.seed)  # also for what is added to the weights it begins with
    if plan.init_from:
        source = Path(plan.init_from)
        return load_start(source, plan.config), text_beside(source.with_name(TEXT))
    return equip(System(plan.config.model), training=True), None


def load_start(path: str | Path, config: TrainConfig) -> System:
    """Read the weights of a file; its networks must have the sizes of the configuration, or lack what can be added.

    That is grid, bands and hidden units of the perceiver, and the law of scattering, which at first counts as much as
    the network. A compact backbone and the image tower may have fewer residual blocks than wanted: those that they lack
    begin as the identity. A readout of whole pictures, and a closer look at them, come along where the configuration
    has one, and begin anew where the file has none.
    """
    found, _ = load_system(path)
    tower = config.model.tower_config()
    there = found.config.tower_config()
    bands, grid = there.bands, there.grid
    if not config.model.semantics:  # what is measured last, a file may lack
        bands, grid = bands or tower.bands, grid or (tower.grid and not bands)
    closer = (there.closer or tower.closer) if tower.closer and bands else 0
    hidden = there.hidden or tower.hidden
    there = replace(there, overall=tower.overall, closer=closer, hidden=hidden, bands=bands, grid=grid)
    if all_fewer(there.blocks, tower.blocks):
        there = replace(there, blocks=tower.blocks)
    backbone, wanted_backbone = found.config.backbone_config(), config.model.backbone_config()
    if there != tower:
        there = found.config.tower_config()  # what the file holds, to be told
    lawful = found.config.scattering
    pairs = (
        (unsigned(found.config.encoder_config()), unsigned(config.model.encoder_config())),
        (backbone, backbone if grown(backbone, wanted_backbone) == wanted_backbone else wanted_backbone),
        (there, tower),
        (found.config.groups, config.model.groups),
        (f"scattering = {lawful}", f"scattering = {lawful and config.model.scattering}"),  # to be added, not taken away
    )
    for held, wanted in pairs:
        if held != wanted:
            raise WeightsError(f"{path} holds {held}, the configuration expects {wanted}; make them the same")
    system = System(replace(config.model, encoder=found.config.encoder))
    for block in system.perceiver.tower.added_to(found.config.tower_config().blocks):
        block.silence()
    fresh = system.state_dict()
    taken = {name: widened(tensor, fresh[name]) for name, tensor in found.state_dict().items() if name in fresh}
    system.load_state_dict({**fresh, **taken})
    return equip(system, training=True)


def grown(held: BackboneConfig, wanted: BackboneConfig) -> BackboneConfig:
    """Return the sizes that are there with the residual blocks that are to be added, where that changes no result.

    At the latent nothing can be added: its last block is guided.
    """
    if not (isinstance(held, CompactConfig) and isinstance(wanted, CompactConfig) and held.widths == wanted.widths):
        return held
    latent = held.encoder_blocks[-1]
    more = replace(held, encoder_blocks=(*wanted.encoder_blocks[:-1], latent), decoder_blocks=wanted.decoder_blocks)
    before, after = (c.encoder_blocks + c.decoder_blocks for c in (held, more))
    return more if all_fewer(before, after) else held


def all_fewer(there: Sequence[int], asked: Sequence[int]) -> bool:
    """Whether there are as many blocks as are asked for at each level, or fewer."""
    return len(there) == len(asked) and all(n <= wanted for n, wanted in zip(there, asked, strict=True))


def unsigned(encoder: EncoderConfig) -> EncoderConfig:
    """Return which encoders there are, without their digests."""
    return replace(encoder, semantics_sha256="", clip_sha256="", vgg_sha256="")


def widened(tensor: Tensor, fresh: Tensor) -> Tensor:
    """Make room for features that were not there: a readout ignores them at first, their statistics are new."""
    if tensor.shape == fresh.shape:
        return tensor
    wide = fresh.clone() if fresh.dim() == 1 else torch.zeros_like(fresh)
    wide[..., : tensor.shape[-1]] = tensor
    return wide


def text_beside(path: Path) -> TextTower | None:
    """Read a text tower, where there is one."""
    return load_text_tower(path) if path.is_file() else None


def make_stage(
    name: str, plan: Plan, run: Path, setting: Setting, system: System, text: TextTower | None, minutes: float
) -> Stage:
    """Build a stage with its networks on the device."""
    config, device = plan.config, setting.device
    torch.manual_seed(config.seed + 1 + STAGES.index(name))
    system = system.to(device).to(memory_format=torch.channels_last)
    if name == "perceiver":
        halves = make_halves_once(run, setting, minutes) if config.losses.scenes else None
        if not config.losses.language:
            return PerceiverStage(setting, system, None, halves)
        tower = text or TextTower(TextConfig(embedding=config.model.tower_config().embedding))
        return PerceiverStage(setting, system, tower.to(device), halves)
    if name == "prompts":
        speaker = text if system.clip is None else system.clip.net
        if speaker is None:
            beside = plan.init_from or run / WEIGHTS
            raise WeightsError(f"no {TEXT} beside {beside}; train the stage perceiver with losses.language")
        return PromptsStage(setting, system, speaker.to(device), make_halves_once(run, setting, minutes))
    return RestorerStage(setting, system, find_halves(plan, run, device))


def make_halves_once(run: Path, setting: Setting, minutes: float) -> Halves:
    """Return the half-trained restorers of a run, which the first process trains where there are none: at most half of
    the stage's minutes."""
    world, pictures = setting.world, setting.sources.pictures
    if not world.is_first:
        world.from_first(0)  # it makes them
    halves = cached_halves(
        run / HALVES, pictures, half_config(setting.config), minutes=minutes / 4, device=setting.device
    )
    if world.is_first:
        world.from_first(0)
    return halves


def find_halves(plan: Plan, run: Path, device: torch.device) -> Halves | None:
    """Return the half-trained restorers as rivals of the perceptual loss, where it is used and they are there."""
    places = [run / HALVES, *([Path(plan.init_from).with_name(HALVES)] if plan.init_from else [])]
    found = [path for path in places if path.is_file()]
    return load_halves(found[0]).to(device) if found and plan.config.losses.perceptual else None


def half_config(config: TrainConfig) -> HalfConfig:
    """Return the settings of the half-trained restorers."""
    prompts = config.prompts
    return HalfConfig(
        steps=prompts.medium_steps, batch=prompts.medium_batch, patch=prompts.medium_patch,
        microscopy=config.mix.microscopy, seed=config.seed,
    )  # fmt: skip


def held_back(data: str, mix: MixConfig) -> Pictures:
    """Read the clean pictures that never train, those of published sets too."""
    clean = [name for name, weight in mix.sets.items() if weight and papers.known(name).clean_only]
    extra = tuple(p for name in clean for p in papers.load_clean(name, data, held_back=True, whole=mix.whole_sets))
    kept = Pictures(())
    if has_pictures(Path(data)):
        with suppress(ValueError):  # none is held back of a few
            kept = load_pictures(data, held_back=True)
    return replace(kept, photos=(*kept.photos, *extra))
