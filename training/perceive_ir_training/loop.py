"""The training loop, readable from top to bottom: one loop for every stage, exact to resume."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from perceive_ir._weights import write_atomically
from perceive_ir.networks import System
from perceive_ir_training.checkpoint import Position, averaged, read_checkpoint, restore
from perceive_ir_training.config import ALL, STAGES, StageConfig, TrainConfig, refuse_uneven
from perceive_ir_training.data import Pictures
from perceive_ir_training.keeping import keep
from perceive_ir_training.language import TextTower
from perceive_ir_training.learner import Learner, make_learner, take_buffers, trained, update_average
from perceive_ir_training.log import Progress, forget_log, write_log
from perceive_ir_training.plan import CHECKPOINT, LOG, PLAN, TEXT, WEIGHTS, Plan, as_json, read_plan
from perceive_ir_training.ranks import meet
from perceive_ir_training.sources import load_sources
from perceive_ir_training.stages import Setting, Stage
from perceive_ir_training.starting import held_back, load_start, make_stage, start, text_beside
from perceive_ir_training.validation import make_panel


def train(
    config: TrainConfig,
    stage: str = ALL,
    *,
    data: str | Path,
    run: str | Path,
    minutes: float = math.inf,
    init_from: str | Path | None = None,
    device: str = "cpu",
    log_every: int = 50,
    save_every: float = 5.0,
) -> Iterator[Progress]:
    """Train; yields progress and leaves ``RUN/weights.safetensors`` (averaged weights) behind.

    Where torchrun has started several processes, all of them call this; the first yields and writes for all.

    Parameters
    ----------
    config
        Networks, mix and stage settings.
    stage
        ``"perceiver"``, ``"prompts"`` or ``"restorer"``, or ``"all"`` of them in this order; what a stage does not
        train keeps the weights it starts from.
    data
        Folder with pictures.
    run
        Folder for the log, curves, sample sheets, checkpoint and weights; it must not hold another training.
    minutes
        Stop after this time, but not before the first step; the learning rate falls to its end by then.
    init_from
        Weights to start from, with a new optimiser; the text tower is looked for beside them.
    device
        Where to compute; with several processes ``cuda`` is a GPU for each.
    log_every, save_every
        Steps between log lines; minutes between checkpoints, with each of which comes a line.
    """
    stages = STAGES if stage == ALL else (stage,)
    for name in stages:
        config.stage(name)
    meet(device)
    run = Path(run)
    if (run / CHECKPOINT).exists():
        raise ValueError(f"{run} already holds a training; go on with --resume {run}, or give another --run")
    plan = Plan(config, stages, str(data), minutes, str(init_from or ""), device, log_every, save_every)
    yield from follow(plan, run)


def resume(run: str | Path, *, data: str | Path | None = None, device: str | None = None) -> Iterator[Progress]:
    """Go on with a training where its last checkpoint stands; its steps are those it would have made anyway."""
    run = Path(run)
    plan = read_plan(run / PLAN)
    plan = replace(plan, data=str(data or plan.data), device=device or plan.device)
    world, _ = meet(plan.device)
    for torn in run.glob(".*.partial") if world.is_first else ():  # a kill while it was written
        torn.unlink()
    if (run / CHECKPOINT).is_file():
        yield from follow(plan, run, *read_checkpoint(run / CHECKPOINT))
    else:  # stopped before its first checkpoint
        yield from follow(plan, run)


def follow(
    plan: Plan, run: Path, tensors: dict[str, Tensor] | None = None, position: Position | None = None
) -> Iterator[Progress]:
    """Run the stages of a plan, from a position on."""
    config = plan.config
    world, device = meet(plan.device)
    refuse_uneven(config, plan.stages, world.size)
    setting = Setting(config, load_sources(plan.data, config.mix, config.seed), device, world)
    kept = held_back(plan.data, config.mix)
    system, text = start(plan, run, fresh=position is None)
    if position is None and world.is_first:
        write_atomically(run / PLAN, as_json(plan).encode())
        (run / LOG).unlink(missing_ok=True)
    left = plan.stages if position is None else plan.stages[plan.stages.index(position.stage) :]
    for name in left:
        resumed = (tensors, position) if position and tensors and name == position.stage else None
        if resumed and resumed[1].finished:
            system.load_state_dict(averaged(resumed[0], "system"))
            continue
        yield from run_stage(name, plan, run, setting, system, text, kept, resumed)
        system, text = load_start(run / WEIGHTS, config), text_beside(run / TEXT)


def run_stage(
    name: str, plan: Plan, run: Path, setting: Setting, system: System, text: TextTower | None,
    kept: Pictures, resumed: tuple[dict[str, Tensor], Position] | None,
) -> Iterator[Progress]:  # fmt: skip
    """Train one stage to its end."""
    config, settings = plan.config, plan.config.stage(name)
    minutes, began, world = plan.minutes_of(name), time.monotonic(), setting.world
    stage = make_stage(name, plan, run, setting, system, text, minutes)
    learner = make_learner(stage, settings)
    done_before, spent_before = 0, 0.0
    if resumed:
        restore(learner, resumed[0], run / CHECKPOINT)
        stage.recall(learner.extra)
        done_before, spent_before = resumed[1].step, resumed[1].minutes
    if world.is_first:
        forget_log(run / LOG, name, done_before)
    panel = make_panel(kept)
    batches = Batches(stage, settings, ahead=setting.device.type != "cpu")

    saved, told, sums, waited, computed = spent_before, done_before, dict[str, float](), 0.0, 0.0
    for step in range(done_before + 1, settings.steps + 1):
        spent = world.from_first(spent_before + (time.monotonic() - began) / 60)
        done = max(step / settings.steps, spent / minutes if minutes > 0 else 1.0)
        before = time.monotonic()
        batch = batches.take(step, done)
        waited += time.monotonic() - before

        rate = learning_rate(step, done, settings)
        for key, value in learn(stage, learner, batch, step, rate).items():
            sums[key] = sums.get(key, 0.0) + float(value.detach())
        computed += time.monotonic() - before
        last = step == settings.steps or spent >= minutes
        due = last or spent - saved >= plan.save_every
        if due or step % plan.log_every == 0:
            means = world.mean({k: v / (step - told) for k, v in sums.items()})
            progress = Progress(step, spent, rate, means, waited / max(computed, 1e-9), name)
            told, sums = step, {}
            if world.is_first:
                write_log(run / LOG, progress)
            if due and world.is_first:
                learner.extra = stage.remember()
                keep(run, stage, learner, Position(name, step, spent, last), config, panel, kept, setting)
            if due:  # to save takes time too
                saved = world.from_first(spent_before + (time.monotonic() - began) / 60)
            if world.is_first:
                yield progress
        if last:
            return


class Batches:
    """The batches of a stage; on a GPU the next one is made while the present one is learned from."""

    def __init__(self, stage: Stage, settings: StageConfig, *, ahead: bool) -> None:
        self.stage, self.settings = stage, settings
        self.pool = ThreadPoolExecutor(1) if ahead else None
        self.next: tuple[tuple[int, int], Future[Any]] | None = None

    def take(self, step: int, done: float) -> Any:
        """Return the batch of a step; one that was made for crops of another size is made anew."""
        size = self.settings.patch_at(done)
        if self.pool is None:
            return self.stage.batch(step, size)
        made = {self.next[0]: self.next[1].result()} if self.next else {}
        batch = made[step, size] if (step, size) in made else self.stage.batch(step, size)
        self.next = (step + 1, size), self.pool.submit(self.stage.batch, step + 1, size)
        return batch


def learning_rate(step: int, done: float, settings: StageConfig) -> float:
    """Linear warm-up, then a cosine over the share of the training that is done."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    rate = settings.final_rate + (settings.learning_rate - settings.final_rate) * cosine
    return rate * min(1.0, step / settings.warm_up)


def learn(stage: Stage, learner: Learner, batch: Any, step: int, rate: float) -> dict[str, Tensor]:
    """Make one step on a batch, or none where its gradient is not finite; returns what the log tells."""
    for group in learner.optimiser.param_groups:
        group["lr"] = rate
    stage.refresh(step)
    with stage.setting.autocast():
        terms = stage.terms(batch)
    learner.optimiser.zero_grad()
    torch.stack(list(terms.losses.values())).sum().backward()
    stage.setting.world.average(trained(learner.modules))
    norm = nn.utils.clip_grad_norm_(trained(learner.modules), learner.settings.clip)
    if torch.isfinite(norm):
        learner.optimiser.step()
        update_average(learner.average, learner.modules, learner.settings.ema, step)
    else:  # normalisations have seen what must not be learned from
        take_buffers(learner.modules, learner.average)
    return {**terms.losses, **terms.notes, "norm": norm, "skipped": (~torch.isfinite(norm)).float()}
