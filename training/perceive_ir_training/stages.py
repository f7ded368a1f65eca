"""What each stage of a training learns, on what, and towards what.

A stage is asked for the batch of a step, and for the terms of the loss on it. The batch of a step depends on the seed
and the number of the step alone, so that a training can be resumed exactly. Several processes draw the same batch, and
each keeps its share of the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perceive_ir._device import choose_precision
from perceive_ir._encoders import VGG16, find, sign
from perceive_ir._perception import PRESENT
from perceive_ir._vocabulary import TYPES
from perceive_ir.networks import TOWER, Reading, Signals, System, recompute_blocks
from perceive_ir_training.captions import captions_of, describe_same
from perceive_ir_training.config import TrainConfig
from perceive_ir_training.crossfit import Halves, split, triplets
from perceive_ir_training.language import TextTower, clip_loss
from perceive_ir_training.losses import balanced_l1, clip_aware, perceiver_loss
from perceive_ir_training.paired import Pairs
from perceive_ir_training.perceptual import (
    Features,
    PerceptualLoss,
    Probe,
    ProbeBatch,
    TowerFeatures,
    VggFeatures,
    rivals_of,
)
from perceive_ir_training.prompts import PromptLearner, choose_trained, prompt_loss, put_tiers, stack_qualities
from perceive_ir_training.ranks import ALONE, World, share_statistics
from perceive_ir_training.sampling import Types, draw_batch, of_one_type
from perceive_ir_training.shown import perceiver_pictures, put_pairs
from perceive_ir_training.sources import Sources

PROBE_PICTURES, PROBE_SIDE = 4, 96
LEAST_TOLD = 0.3
"""Severity that the restorer is told at least of a pair, which is known to show its type."""
FLOOR_SHARE = 0.1
"""Smallest denominator of the perceptual loss, as a share of the distance between damage and target."""


@dataclass
class Terms:
    """Weighted terms of a loss, and what only the log tells."""

    losses: dict[str, Tensor]
    notes: dict[str, Tensor] = field(default_factory=dict)


class Stage(Protocol):
    """One stage of a training."""

    setting: Setting
    modules: nn.ModuleDict
    """All networks that the stage knows; what it trains has parameters that need a gradient."""

    def batch(self, step: int, size: int) -> Any:
        """Make what a step needs, or this process' share of it; from the seed and the number of the step alone."""

    def terms(self, batch: Any) -> Terms:
        """Compute the terms of the loss."""

    def refresh(self, step: int) -> None:
        """Do what is due before a step, with the network in training mode."""

    def finish(self, modules: nn.ModuleDict) -> None:
        """Bring averaged networks into the state in which they are saved."""

    def remember(self) -> dict[str, Tensor]:
        """Return what must be known to resume, beside the networks."""

    def recall(self, kept: Mapping[str, Tensor]) -> None:
        """Take over what `remember` gave."""


@dataclass
class Setting:
    """What all stages share."""

    config: TrainConfig
    sources: Sources
    device: torch.device
    world: World = ALONE

    def random(self, stage: int, step: int) -> np.random.Generator:
        """Return the random numbers of a step."""
        return np.random.default_rng([self.config.seed, stage, step])

    def autocast(self) -> torch.autocast:
        """Compute with the precision of the configuration."""
        kind = choose_precision(self.config.precision, self.device)
        return torch.autocast(self.device.type, kind, enabled=kind != torch.float32)


# ---- stage 0


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

    def share(self, world: World) -> PerceiverBatch:
        """Return the rows of one process: a part of the crops, in whole pairs, and a part of the thumbnails."""
        if world.size == 1:
            return self
        crops, rows = int((~self.thumbnails).sum()), torch.arange(len(self.images), device=self.images.device)
        own = torch.cat([part[world.share(len(part))] for part in (rows[:crops], rows[crops:])])
        captions = self.captions[world.share(crops)]
        return PerceiverBatch(self.images[own], self.severities[own], self.thumbnails[own], self.paired[own], captions)


class Forgetful:
    """A stage that has nothing to remember and nothing to do between steps."""

    def refresh(self, step: int) -> None:
        """Nothing is due."""

    def finish(self, modules: nn.ModuleDict) -> None:
        """Nothing is left to do."""

    def remember(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def recall(self, kept: Mapping[str, Tensor]) -> None:
        """Nothing."""


class PerceiverStage(Forgetful):
    """Image tower, readouts and, with ``losses.language``, a text tower in the same space."""

    def __init__(self, setting: Setting, system: System, text: TextTower | None) -> None:
        self.setting, self.system, self.text = setting, system, text
        system.requires_grad_(False).eval()
        system.perceiver.train(not setting.config.perceiver.settled).requires_grad_(True)
        share_statistics(system.perceiver, setting.world)
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
            paired = put_pairs(images, severities, thumbnails, config.perceiver.paired, setting.sources, random)
        texts = captions_of(severities[~thumbnails], random) if self.text else []
        return PerceiverBatch(images, severities, thumbnails, paired, texts).share(setting.world)

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
        return Terms(weigh(losses, weights))


def gather_readings(reading: Reading, world: World) -> Reading:
    """Join what all processes read off their rows, at once."""
    if world.size == 1:
        return reading
    parts: list[Tensor] = [getattr(reading, f.name) for f in fields(Reading)]
    joint = world.gather(torch.cat([part.float() for part in parts], dim=1))
    return Reading(*joint.split([part.shape[1] for part in parts], dim=1))


# ---- stage 1


class PromptsStage(Forgetful):
    """Tier prompts, on scenes in low, medium and high quality; of a frozen CLIP nothing learns with them."""

    def __init__(self, setting: Setting, system: System, text: nn.Module, halves: Halves) -> None:
        self.setting, self.system, self.halves = setting, system, halves
        self.learner = PromptLearner(text).to(setting.device)
        system.requires_grad_(False).eval()
        choose_trained(self.learner, system.perceiver)
        system.perceiver.project.requires_grad_(setting.config.prompts.projection and system.clip is None)
        self.folds = split(setting.sources.pictures)
        self.modules = nn.ModuleDict({"system": system, "learner": self.learner})

    def batch(self, step: int, size: int) -> tuple[Tensor, Tensor]:
        """Pictures (3B, 3, S, S) and their tiers (3B,)."""
        config, random = self.setting.config, self.setting.random(1, step)
        drawn = triplets(
            self.halves, self.folds[step % 2], config.prompts.batch, size, random, microscopy=config.mix.microscopy
        )
        own = self.setting.world.share(config.prompts.batch)
        images, tiers = stack_qualities(drawn.low[own], drawn.medium[own], drawn.high[own])
        return images.to(self.setting.device), tiers.to(self.setting.device)

    def terms(self, batch: tuple[Tensor, Tensor]) -> Terms:
        images, tiers = batch
        embeddings = self.system.encode_image(images)
        features, scale = self.learner.features(), self.system.scale
        right = (F.normalize(embeddings.detach().float(), dim=-1) @ features.detach().T).argmax(dim=1) == tiers
        return Terms({"prompts": prompt_loss(embeddings, tiers, features, scale)}, {"accuracy": right.float().mean()})

    def finish(self, modules: nn.ModuleDict) -> None:
        """The tier features of the perceiver are from now on those of the prompts."""
        system = cast(System, modules["system"])
        put_tiers(cast(PromptLearner, modules["learner"]), system if system.clip else system.perceiver)


# ---- stage 2


def choose_group(config: TrainConfig, random: np.random.Generator) -> Types:
    """Choose whose turn it is: the types of one group, as often as they are drawn, or as told."""
    groups, shares = config.model.split_groups(), np.array(config.shares())
    return groups[int(random.choice(len(groups), p=shares / shares.sum()))]


@dataclass(frozen=True)
class RestorerBatch:
    """Damaged pictures, what is told of them, and what they are to become."""

    damaged: Tensor
    target: Tensor
    told: Tensor
    tasks: Tensor
    """(B,): the type that is strongest; 0 where none is."""
    semantics: bool
    """Whether the restorer is shown the feature vectors."""


class RestorerStage(Forgetful):
    """The restorer, told what to remove."""

    def __init__(self, setting: Setting, system: System, halves: Halves | None = None) -> None:
        self.setting, self.system, self.halves = setting, system, halves
        system.requires_grad_(False).eval()
        system.restorer.train().requires_grad_(True)
        if setting.config.checkpointing:
            recompute_blocks(system.restorer)
        self.modules = nn.ModuleDict({"system": system})
        weights = setting.config.losses
        self.perceptual = PerceptualLoss(self.features(), least=FLOOR_SHARE) if weights.perceptual else None
        self.probe = Probe(self.probes()) if weights.perceptual and halves else None

    def features(self) -> Features:
        """Return what the perceptual loss compares by."""
        name = self.setting.config.losses.features
        if name == TOWER:
            return TowerFeatures(self.system.perceiver).to(self.setting.device)
        vgg = VggFeatures(find(name, VGG16) if name == VGG16.name else name)
        sign(self.system, "vgg", vgg.layers, "VGG-16")
        return vgg.to(self.setting.device)

    def probes(self) -> tuple[ProbeBatch, ...]:
        """Draw training pictures of every type, once."""
        made = []
        for number, name in enumerate(TYPES):
            random, paired = self.setting.random(3, number), self.pairs_of(name)
            if paired:
                damaged, target = (t.to(self.setting.device) for t in paired.draw(PROBE_PICTURES, PROBE_SIDE, random))
                made.append(ProbeBatch(damaged, target, self.told_of(damaged, shown_by(name).to(damaged))))
                continue
            only = replace(of_one_type(self.setting.config.mix, name), microscopy=0.0)
            pictures = self.setting.sources.at(0)
            drawn = draw_batch(pictures, PROBE_PICTURES, PROBE_SIDE, only, random, device=self.setting.device)
            made.append(ProbeBatch(drawn.damaged, drawn.target, drawn.told))
        return tuple(made)

    def pairs_of(self, name: str) -> Pairs | None:
        """Return pairs that show a type of damage, where there are some."""
        return next((pairs for pairs in self.setting.sources.pairs if pairs.type == name), None)

    def told_of(self, damaged: Tensor, shown: Tensor) -> Tensor:
        """Return what is told of pairs, of which only the type is known (B, T): what is perceived, or a little."""
        return self.read(damaged).clamp_min(LEAST_TOLD) * shown

    def batch(self, step: int, size: int) -> RestorerBatch:
        config, random = self.setting.config, self.setting.random(2, step)
        own, count = choose_group(config, random), config.restorer.batch
        paired = int((random.random(count) < config.mix.paired).sum()) if config.mix.paired else 0
        semantics = config.model.semantics and random.random() >= config.mix.unguided
        made, rows, parts = count - paired, self.setting.world.share(count), []
        if made:
            drawn = draw_batch(
                self.setting.sources.at(step), made, size, config.mix, random,
                own=own, read=self.read, device=self.setting.device,
            )  # fmt: skip
            parts.append((drawn.damaged, drawn.target, drawn.told, drawn.true))
        if paired:
            mine = range(rows.start - made, rows.stop - made)
            pairs = self.setting.sources.draw_pairs(paired, size, random, mine)
            damaged, target, shown = (t.to(self.setting.device) for t in pairs)
            parts.append((damaged, target, self.told_of(damaged, shown), shown))
        damaged, target, told, true = (torch.cat(tensors)[rows] for tensors in zip(*parts, strict=True))
        return RestorerBatch(damaged, target, told, true.argmax(dim=1), semantics)

    @torch.no_grad()
    def read(self, damaged: Tensor) -> Tensor:
        """Return the severities that the automatic mode would take (B, T)."""
        reading = self.system.perceiver(damaged)
        return torch.where(reading.type_logits.sigmoid() >= PRESENT, reading.severities, 0.0)

    def restore(self, damaged: Tensor, told: Tensor) -> Tensor:
        """Restore pictures with the condition given."""
        restored: Tensor = self.system.restorer(damaged, self.system.signals(damaged, told))
        return restored

    def terms(self, batch: RestorerBatch) -> Terms:
        weights, semantics = self.setting.config.losses, None
        if batch.semantics:
            with torch.no_grad():
                semantics = self.system.semantics(batch.damaged)
        restored = self.system.restorer(batch.damaged, Signals(batch.told, semantics)).float()
        losses = {"l1": balanced_l1(restored, batch.target, batch.damaged, self.setting.world.gather)}
        notes = {}
        if weights.clip:
            losses["clip"], seen = clip_aware(self.system.tier_cosines(restored), weights.temperature)
            notes = {f"p_{name}": p for name, p in zip(("low", "medium", "high"), seen, strict=True)}
        if self.perceptual is not None:
            rivals = () if self.probe is None else rivals_of(
                [self.medium], batch.damaged, batch.target, batch.tasks, self.probe.psnr
            )  # fmt: skip
            losses["perceptual"] = self.perceptual(restored, batch.target, batch.damaged, rivals)
        return Terms(weigh(losses, weights), notes)

    def medium(self, damaged: Tensor) -> Tensor:
        """Restore as one of the half-trained restorers does."""
        assert self.halves is not None
        return self.halves.render(damaged, 0)

    def refresh(self, step: int) -> None:
        """Measure now and then how good the restorer is at each type."""
        if self.probe is not None and (step - 1) % self.setting.config.losses.probe_every == 0:
            self.probe.refresh(self.restore)

    def remember(self) -> dict[str, Tensor]:
        """How good the restorer was when it was last measured."""
        return {} if self.probe is None else {"probe": self.probe.state_dict()}

    def recall(self, kept: Mapping[str, Tensor]) -> None:
        """Take over what was measured."""
        if self.probe is not None:
            self.probe.load_state_dict(kept["probe"])


def shown_by(name: str) -> Tensor:
    """Return the severities (1, T) of a type that is there, and of no other."""
    return torch.tensor([[float(t == name) for t in TYPES]])


def weigh(losses: Mapping[str, Tensor], weights: Any) -> dict[str, Tensor]:
    """Weigh the terms as the configuration says, and drop those that are switched off."""
    return {name: getattr(weights, name) * loss for name, loss in losses.items() if getattr(weights, name)}
