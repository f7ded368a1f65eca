"""Stage 1: prompts learn to tell the tiers of quality apart."""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from perceive_ir.networks import System
from perceive_ir_training.crossfit import Halves, split, triplets
from perceive_ir_training.prompts import PromptLearner, prompt_loss, put_tiers, stack_qualities
from perceive_ir_training.stages.stage import Forgetful, Setting, Terms


class PromptsStage(Forgetful):
    """Tier prompts, on scenes in low, medium and high quality; of a frozen CLIP nothing learns with them."""

    def __init__(self, setting: Setting, system: System, text: nn.Module, halves: Halves) -> None:
        self.setting, self.system, self.halves = setting, system, halves
        self.learner = PromptLearner(text).to(setting.device)
        system.requires_grad_(False).eval()
        for part in (system.perceiver.project, system.perceiver.bend):
            if part is not None:
                part.requires_grad_(setting.config.prompts.projection and system.clip is None)
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
