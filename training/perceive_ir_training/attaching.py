"""The losses of Perceive-IR on an attached network, and a training of it that can be read from top to bottom."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from perceive_ir import Attached
from perceive_ir._device import choose_device
from perceive_ir._perception import PRESENT
from perceive_ir._vocabulary import TIERS
from perceive_ir.networks import Perceiver, Signals
from perceive_ir_training.config import LossConfig, TrainConfig
from perceive_ir_training.learner import make_learner
from perceive_ir_training.log import Progress
from perceive_ir_training.loop import Batches, learn, learning_rate
from perceive_ir_training.losses import balanced_l1, clip_aware, contrastive, readout_loss
from perceive_ir_training.perceptual import PerceptualLoss, TowerFeatures, VggFeatures
from perceive_ir_training.sampling import Batch, draw_batch
from perceive_ir_training.sources import load_sources
from perceive_ir_training.stages import FLOOR_SHARE, Forgetful, Setting, Terms, weigh

OWN = 0.5
"""Share of the batches of which the network is told nothing: its CFE sees what is wrong, and all of it is to go."""
ATTACHED = 5
"""Number of this training among those that draw random numbers."""


def attached_terms(
    net: Attached | DistributedDataParallel,
    batch: Batch,
    weights: LossConfig,
    *,
    told: bool,
    judge: Perceiver | None = None,
    perceptual: PerceptualLoss | None = None,
) -> Terms:
    """Compute the weighted terms of the loss of an attached network.

    Parameters
    ----------
    net
        The network, which takes and gives pictures (B, 3, H, W).
    batch
        What `sampling.draw_batch` gave; with an even width, for the two halves of a crop are partners of the contrast.
    weights
        Of ``l1``, ``types``, ``severities``, ``contrast``, ``clip`` and ``perceptual``.
    told
        Whether the network is told what the batch says, with the target that belongs to it; else its own CFE looks, and
        the target is clean.
    judge, perceptual
        What ``clip`` and ``perceptual`` judge by; without it the term is left out.
    """
    bare = cast(Attached, net.module if isinstance(net, DistributedDataParallel) else net)
    if told:
        signals = Signals(batch.told, bare.semantics(batch.damaged))
        restored, target = net(batch.damaged, signals).float(), batch.target
    else:
        restored, target = net(batch.damaged).float(), batch.clean
    seen, true = bare.read(halves(batch.damaged)), batch.true.repeat_interleave(2, dim=0)
    losses = {
        "l1": balanced_l1(restored, target, batch.damaged),
        **readout_loss(seen, true, torch.ones_like(true)),
        "contrast": contrastive(seen.contrast, true),
    }
    notes: dict[str, Tensor] = {}
    if judge is not None and weights.clip:
        cosines = judge.encode_image(restored, normalize=True) @ F.normalize(judge.tiers, dim=-1).T
        losses["clip"], tiers = clip_aware(cosines, weights.temperature)
        notes = {f"p_{name}": p for name, p in zip(TIERS, tiers, strict=True)}
    if perceptual is not None and weights.perceptual:
        losses["perceptual"] = perceptual(restored, target, batch.damaged)
    return Terms(weigh(losses, weights), notes)


def halves(pictures: Tensor) -> Tensor:
    """Cut crops (B, C, H, W) into halves that lie side by side (2B, C, H, W/2)."""
    return torch.stack(pictures.chunk(2, dim=3), dim=1).flatten(0, 1)


@dataclass(frozen=True)
class AttachedBatch:
    """What a step learns from."""

    drawn: Batch
    told: bool


class AttachedStage(Forgetful):
    """The training of an attached network as a stage of the loop."""

    def __init__(self, setting: Setting, net: Attached, judge: Perceiver | None) -> None:
        self.setting, self.net, self.judge = setting, net.train(), judge
        self.modules = nn.ModuleDict({"net": net})
        self.perceptual: PerceptualLoss | None = None
        weights = setting.config.losses
        if judge is not None:
            judge.to(setting.device).requires_grad_(False).eval()
        elif weights.clip or (weights.perceptual and weights.features == "tower"):
            raise ValueError("losses.clip and losses.perceptual need a judge: give judge=pir.load().system.perceiver")
        if weights.perceptual:
            features = TowerFeatures(judge) if judge and weights.features == "tower" else VggFeatures(weights.features)
            self.perceptual = PerceptualLoss(features.to(setting.device), least=FLOOR_SHARE)

    def batch(self, step: int, size: int) -> AttachedBatch:
        config, random = self.setting.config, self.setting.random(ATTACHED, step)
        told = random.random() >= OWN
        pictures = self.setting.sources.at(step)
        count, device = config.restorer.batch, self.setting.device
        drawn = draw_batch(pictures, count, size, config.mix, random, read=self.read, device=device)
        return AttachedBatch(drawn, told)

    @torch.no_grad()
    def read(self, damaged: Tensor) -> Tensor:
        """Return the severities of what the CFE sees (B, T)."""
        seen = self.net.read(damaged)
        return torch.where(seen.type_logits.sigmoid() >= PRESENT, seen.severities, 0.0)

    def terms(self, batch: AttachedBatch) -> Terms:
        return attached_terms(
            self.net, batch.drawn, self.setting.config.losses,
            told=batch.told, judge=self.judge, perceptual=self.perceptual,
        )  # fmt: skip


def train_attached(
    net: Attached,
    config: TrainConfig,
    data: str | Path,
    *,
    judge: Perceiver | None = None,
    device: str = "cpu",
    log_every: int = 50,
) -> Iterator[Progress]:
    """Train an attached network in place; yields progress, and puts the averaged weights in at the end.

    Parameters
    ----------
    net
        What `perceive_ir.attach` gave; what must not learn has ``requires_grad_(False)``.
    config
        Of it ``restorer`` (steps, batch, patch …), ``mix`` without pairs, ``losses``, ``seed`` and ``precision`` count.
    data
        Folder with clean pictures.
    judge
        A trained perceiver for the losses ``clip`` and ``perceptual``, such as ``pir.load().system.perceiver``.
    device
        Where to compute; the network stays there.
    log_every
        Steps between two values of progress.
    """
    chosen, settings = choose_device(device), config.restorer
    setting = Setting(config, load_sources(data, config.mix, config.seed), chosen)
    stage = AttachedStage(setting, net.to(chosen), judge)
    learner = make_learner(stage, settings)
    batches = Batches(stage, settings, ahead=chosen.type != "cpu")
    began, told, sums = time.monotonic(), 0, dict[str, float]()
    for step in range(1, settings.steps + 1):
        done = step / settings.steps
        rate = learning_rate(step, done, settings)
        for key, value in learn(stage, learner, batches.take(step, done), step, rate).items():
            sums[key] = sums.get(key, 0.0) + float(value.detach())
        if step % log_every == 0 or step == settings.steps:
            means = {key: total / (step - told) for key, total in sums.items()}
            yield Progress(step, (time.monotonic() - began) / 60, rate, means, 0.0, "attached")
            told, sums = step, {}
    net.load_state_dict(learner.average["net"].state_dict())
