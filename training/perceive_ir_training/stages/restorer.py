"""Stage 2: the restorer learns to remove what it is told of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from perceive_ir._encoders import VGG16, find, sign
from perceive_ir._perception import PRESENT
from perceive_ir._vocabulary import TYPES
from perceive_ir.networks import TOWER, Signals, System, recompute_blocks
from perceive_ir_training.config import TrainConfig
from perceive_ir_training.crossfit import Halves
from perceive_ir_training.losses import balanced_l1, clip_aware
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
from perceive_ir_training.sampling import Types, draw_batch, of_one_type
from perceive_ir_training.stages.stage import Forgetful, Setting, Terms, weigh

PROBE_PICTURES, PROBE_SIDE = 4, 96
LEAST_TOLD = 0.3
"""Severity that the restorer is told at least of a pair, which is known to show its type."""
FLOOR_SHARE = 0.1
"""Smallest denominator of the perceptual loss, as a share of the distance between damage and target."""


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
                [lambda damaged: self.medium(damaged, batch.told)],
                batch.damaged, batch.target, batch.tasks, self.probe.psnr,
            )  # fmt: skip
            losses["perceptual"] = self.perceptual(restored, batch.target, batch.damaged, rivals)
        return Terms(weigh(losses, weights), notes)

    def medium(self, damaged: Tensor, told: Tensor) -> Tensor:
        """Restore as one of the half-trained restorers does."""
        assert self.halves is not None
        return self.halves.render(damaged, told, 0)

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


def choose_group(config: TrainConfig, random: np.random.Generator) -> Types:
    """Choose whose turn it is: the types of one group, as often as they are drawn, or as told."""
    groups, shares = config.model.split_groups(), np.array(config.shares())
    return groups[int(random.choice(len(groups), p=shares / shares.sum()))]


def shown_by(name: str) -> Tensor:
    """Return the severities (1, T) of a type that is there, and of no other."""
    return torch.tensor([[float(t == name) for t in TYPES]])
