"""The plain trainer: one loop for both stages, readable from top to bottom."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from perceive_ir._errors import WeightsError
from perceive_ir._weights import Card, load_system, save_system
from perceive_ir.networks import Signals, System
from perceive_ir_training.config import StageConfig, TrainConfig
from perceive_ir_training.data import Pictures, load_pictures, shrink
from perceive_ir_training.losses import balanced_l1, perceiver_loss
from perceive_ir_training.sampling import draw_batch, draw_mixture, draw_severities


@dataclass(frozen=True)
class Progress:
    """One line of the log."""

    step: int
    minutes: float
    rate: float
    losses: dict[str, float]
    wait: float
    """Share of the time spent on making batches."""


def train(
    config: TrainConfig,
    stage: str,
    *,
    data: str | Path,
    run: str | Path,
    minutes: float = math.inf,
    init_from: str | Path | None = None,
    device: str = "cpu",
    log_every: int = 50,
    save_every: float = 5.0,
) -> Iterator[Progress]:
    """Train one stage; yields progress and leaves ``RUN/weights.safetensors`` (averaged weights) behind.

    Parameters
    ----------
    config
        Networks, mix and stage settings.
    stage
        ``"perceiver"`` or ``"restorer"``; the other half keeps the weights it starts from.
    data
        Folder with clean pictures.
    run
        Folder for the log and the weights.
    minutes
        Stop after this time, but not before the first step; the learning rate falls to its end by then.
    init_from
        Weights to start from, with a new optimiser.
    device
        Where to compute.
    log_every, save_every
        Steps between log lines; minutes between saved weights.
    """
    settings = config.stage(stage)
    run = Path(run)
    run.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    random = np.random.default_rng(config.seed)
    system = System(config.model)
    if init_from:
        start_from(system, init_from)
    system = system.to(device).to(memory_format=torch.channels_last)
    trained: nn.Module = getattr(system, stage)
    trained.train().requires_grad_(True)
    other: nn.Module = system.restorer if stage == "perceiver" else system.perceiver
    other.eval().requires_grad_(False)
    average = copy.deepcopy(trained)
    optimiser = torch.optim.AdamW(
        parameter_groups(trained, settings.weight_decay), lr=settings.learning_rate, betas=(0.9, 0.99), fused=True
    )
    pictures = load_pictures(data)
    step_of = perceiver_step if stage == "perceiver" else restorer_step
    thumbnails = Pictures(shrink(pictures.photos, 224), shrink(pictures.microscopy, 224))

    start, saved, waited = time.monotonic(), 0.0, 0.0
    sums: dict[str, float] = {}
    for step in range(1, settings.steps + 1):
        spent = (time.monotonic() - start) / 60
        done = max(step / settings.steps, spent / minutes if minutes > 0 else 1.0)
        rate = learning_rate(step, done, settings)
        for group in optimiser.param_groups:
            group["lr"] = rate
        before = time.monotonic()
        batch = make_batch(stage, pictures, thumbnails, config, random, settings.patch_at(done))
        waited += time.monotonic() - before

        terms = step_of(system, [t.to(device) for t in batch], config, random)
        loss = torch.stack(list(terms.values())).sum()
        optimiser.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(trained.parameters(), settings.clip)
        if torch.isfinite(norm):
            optimiser.step()
            update_average(average, trained, settings.ema, step)

        for name, value in {**terms, "norm": norm, "skipped": (~torch.isfinite(norm)).float()}.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        last = step == settings.steps or spent >= minutes
        if step % log_every == 0 or last:
            count = (step - 1) % log_every + 1
            progress = Progress(
                step, spent, rate, {k: v / count for k, v in sums.items()}, waited / 60 / max(spent, 1e-9)
            )
            write_log(run / "log.jsonl", stage, progress)
            sums = {}
            yield progress
        if spent - saved >= save_every or last:
            saved = spent
            export(run / "weights.safetensors", system, stage, average, config)
        if last:
            return


def start_from(system: System, path: str | Path) -> None:
    """Take over the weights of a file; its networks must have the same sizes."""
    start, _ = load_system(path)
    pairs = (
        (start.config.backbone_config(), system.config.backbone_config()),
        (start.config.tower_config(), system.config.tower_config()),
    )
    for found, wanted in pairs:
        if found != wanted:
            raise WeightsError(f"{path} holds {found}, the configuration expects {wanted}; make them the same")
    system.load_state_dict(start.state_dict())


def make_batch(
    stage: str,
    pictures: Pictures,
    thumbnails: Pictures,
    config: TrainConfig,
    random: np.random.Generator,
    patch: int,
) -> list[Tensor]:
    """Make the tensors that a step of this stage takes."""
    if stage == "restorer":
        batch = draw_batch(pictures, config.restorer.batch, patch, config.mix, random)
        return [batch.damaged, batch.target, batch.told]
    return perceiver_batch(pictures, thumbnails, config, random, patch)


def perceiver_batch(
    pictures: Pictures, thumbnails: Pictures, config: TrainConfig, random: np.random.Generator, size: int
) -> list[Tensor]:
    """Pairs of crops of one damaged picture, then thumbnails: pictures, severities and which are thumbnails."""
    settings, mix = config.perceiver, config.mix
    pairs, small = settings.batch * 2 // 5, settings.batch // 5
    wide = pictures.draw(pairs, 2 * size, mix.microscopy, random)
    wide = replace(wide, pixels=wide.pixels[:, :, :size])
    little = thumbnails.draw(small, size, mix.microscopy, random)
    rows = []
    for group in (wide, little):
        severities = draw_severities(group.microscopy, mix, random)
        scale = random.choice([1.0, 0.3, 0.1, 0.0], size=(len(severities), 1), p=[0.6, 0.15, 0.1, 0.15])
        severities *= scale.astype(np.float32)
        true = torch.from_numpy(severities)
        rows.append((draw_mixture(group, severities, random).apply(group.pixels, true), true))
    (damaged, wide_true), (shrunk, little_true) = rows
    crops = torch.stack(damaged.split(size, dim=3), dim=1).flatten(0, 1)  # (2 * pairs, 3, S, S), partners side by side
    images = torch.cat([crops, shrunk])
    true = torch.cat([wide_true.repeat_interleave(2, dim=0), little_true])
    return [images, true, torch.arange(len(images)) >= len(crops)]


def perceiver_step(
    system: System, batch: list[Tensor], config: TrainConfig, random: np.random.Generator
) -> dict[str, Tensor]:
    """Terms of the perceiver's loss."""
    images, severities, thumbnails = batch
    return perceiver_loss(system.perceiver(images), severities, thumbnails)


def restorer_step(
    system: System, batch: list[Tensor], config: TrainConfig, random: np.random.Generator
) -> dict[str, Tensor]:
    """L1 between the restored picture and the target that belongs to what was told."""
    damaged, target, told = batch
    semantics = None
    if config.model.semantics and random.random() >= config.mix.unguided:
        with torch.no_grad():
            semantics = system.perceiver.semantics(damaged)
    restored = system.restorer(damaged, Signals(told, semantics))
    return {"l1": balanced_l1(restored, target, damaged)}


def learning_rate(step: int, done: float, settings: StageConfig) -> float:
    """Linear warm-up, then a cosine over the share of the training that is done."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    rate = settings.final_rate + (settings.learning_rate - settings.final_rate) * cosine
    return rate * min(1.0, step / settings.warm_up)


def parameter_groups(module: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Decay the weights of convolutions and linear layers only."""
    weights = [p for p in module.parameters() if p.ndim > 1]
    others = [p for p in module.parameters() if p.ndim <= 1]
    return [{"params": weights, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


@torch.no_grad()
def update_average(average: nn.Module, current: nn.Module, decay: float, step: int) -> None:
    """Move the averaged weights and buffers towards the current ones; faster while there is little to average."""
    keep = min(decay, step / (step + 10))
    for old, new in zip(average.state_dict().values(), current.state_dict().values(), strict=True):
        if old.is_floating_point():
            old.lerp_(new, 1 - keep)
        else:
            old.copy_(new)


def export(path: Path, system: System, stage: str, average: nn.Module, config: TrainConfig) -> None:
    """Write the system with the averaged weights of the trained half, in float32."""
    kept = {name: getattr(system, name) for name in ("perceiver", "restorer")}
    frozen = System(system.config)
    for name, module in kept.items():
        source = average if name == stage else module
        getattr(frozen, name).load_state_dict(source.state_dict())
    save_system(path, frozen, Card(config.name, config.version), half=False)


def write_log(path: Path, stage: str, progress: Progress) -> None:
    """Append one line of JSON."""
    line = {"stage": stage, "step": progress.step, "minutes": round(progress.minutes, 3), "rate": progress.rate}
    line |= {k: round(v, 6) for k, v in progress.losses.items()} | {"wait": round(progress.wait, 4)}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
