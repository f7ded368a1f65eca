"""Stage 0: the perceiver learns to see damage, and a small text tower to name it."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perceive_ir.networks import Perceiver, Reading, System
from perceive_ir_training.captions import captions_of, describe_same
from perceive_ir_training.config import LossConfig
from perceive_ir_training.crossfit import Halves, split, triplets
from perceive_ir_training.language import TextTower, clip_loss
from perceive_ir_training.losses import perceiver_loss
from perceive_ir_training.prompts import stack_qualities
from perceive_ir_training.ranks import World, share_statistics
from perceive_ir_training.shown import perceiver_pictures, put_pairs
from perceive_ir_training.stages.stage import Forgetful, Setting, Terms, weigh


@dataclass(frozen=True)
class PerceiverBatch:
    """Pairs of crops of one damaged picture, then thumbnails."""

    images: Tensor
    severities: Tensor
    thumbnails: Tensor
    paired: Tensor
    """(N,): out of pairs; the severities say only which type is there."""
    captions: list[str]
    """Of the crops."""
    scenes: tuple[Tensor, Tensor] | None = None
    """Scenes in three qualities, of this process alone, and their tiers."""

    def share(self, world: World) -> PerceiverBatch:
        """Return the rows of one process: a part of the crops, in whole pairs, and a part of the thumbnails."""
        if world.size == 1:
            return self
        crops, rows = int((~self.thumbnails).sum()), torch.arange(len(self.images), device=self.images.device)
        own = torch.cat([part[world.share(len(part))] for part in (rows[:crops], rows[crops:])])
        captions = self.captions[world.share(crops)]
        mine = (self.images[own], self.severities[own], self.thumbnails[own], self.paired[own])
        return PerceiverBatch(*mine, captions, self.scenes)


class PerceiverStage(Forgetful):
    """Image tower, readouts and, with ``losses.language``, a text tower in the same space."""

    def __init__(self, setting: Setting, system: System, text: TextTower | None, halves: Halves | None = None) -> None:
        self.setting, self.system, self.text, self.halves = setting, system, text, halves
        self.folds = split(setting.sources.pictures) if halves else ()
        system.requires_grad_(False).eval()
        settings, perceiver = setting.config.perceiver, system.perceiver
        share_statistics(perceiver, setting.world)
        perceiver.train(not (settings.settled or settings.readouts_alone)).requires_grad_(not settings.readouts_alone)
        for readout in readouts(perceiver, setting.config.losses):
            readout.requires_grad_(True)
        self.modules = nn.ModuleDict({"system": system})
        if text is not None:
            self.modules["text"] = text.train().requires_grad_(True)

    def batch(self, step: int, size: int) -> PerceiverBatch:
        setting, random = self.setting, self.setting.random(0, step)
        config = setting.config
        pictures = setting.sources.at(step)
        images, severities, thumbnails = perceiver_pictures(
            pictures, setting.sources.thumbnails, config, random, size, setting.device
        )
        paired = torch.zeros_like(thumbnails)
        if config.perceiver.paired:
            share, sources = config.perceiver.paired, setting.sources
            paired = put_pairs(images, severities, thumbnails, share, sources, random, setting.world)
        texts = captions_of(severities[~thumbnails], random) if self.text else []
        scenes = self.draw_scenes(step, size) if self.halves else None
        return PerceiverBatch(images, severities, thumbnails, paired, texts, scenes).share(setting.world)

    def draw_scenes(self, step: int, size: int) -> tuple[Tensor, Tensor]:
        """Draw scenes in three qualities, those of this process."""
        setting, config = self.setting, self.setting.config
        assert self.halves is not None
        count = config.perceiver.scenes
        fold, random = self.folds[step % 2], setting.random(5, step)
        drawn = triplets(self.halves, fold, count, size, random, microscopy=config.mix.microscopy)
        own = setting.world.share(count)
        images, tiers = stack_qualities(drawn.low[own], drawn.medium[own], drawn.high[own])
        return images.to(setting.device), tiers.to(setting.device)

    def terms(self, batch: PerceiverBatch) -> Terms:
        weights, perceiver, world = self.setting.config.losses, self.system.perceiver, self.setting.world
        reading = gather_readings(perceiver(batch.images), world)
        with torch.no_grad():
            severities, crops = world.gather(batch.severities), ~world.gather(batch.thumbnails)
            paired = world.gather(batch.paired)
        losses = perceiver_loss(reading, severities, ~crops, paired)
        if self.text:
            told = crops & ~paired  # of pairs a caption would say a severity that nobody knows
            said = world.gather(self.text.encode_text(self.text.tokenise(batch.captions)))[told[crops]]
            same = describe_same(severities[told])
            losses["language"] = clip_loss(reading.embedding[told], said, perceiver.logit_scale.exp(), same)
        if batch.scenes:
            images, tiers = batch.scenes
            losses["scenes"] = F.cross_entropy(perceiver(images).tier_logits, tiers)
        return Terms(weigh(losses, weights))


def readouts(perceiver: Perceiver, losses: LossConfig) -> list[nn.Parameter]:
    """Return what is read off the image tower by the losses that are on."""
    found: list[nn.Parameter] = []
    if losses.types or losses.severities or losses.contrast:
        found += perceiver.cfe.parameters()
    if losses.tiers or losses.scenes or losses.language:
        found += [perceiver.tiers, perceiver.logit_scale, *perceiver.project.parameters()]
        found += [] if perceiver.bend is None else perceiver.bend.parameters()
    return found


def gather_readings(reading: Reading, world: World) -> Reading:
    """Join what all processes read off their rows, at once."""
    if world.size == 1:
        return reading
    parts: list[Tensor] = [getattr(reading, f.name) for f in fields(Reading)]
    joint = world.gather(torch.cat([part.float() for part in parts], dim=1))
    return Reading(*joint.split([part.shape[1] for part in parts], dim=1))
