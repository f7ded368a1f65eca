"""The training loop, readable from top to bottom: one loop for every stage, exact to resume."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from perceive_ir._encoders import equip
from perceive_ir._errors import WeightsError
from perceive_ir._weights import Card, load_system, save_system, write_atomically
from perceive_ir.networks import EncoderConfig, System
from perceive_ir_training import papers
from perceive_ir_training.checkpoint import Learner, Position, averaged, read_checkpoint, restore, save_checkpoint
from perceive_ir_training.config import (
    ALL,
    STAGES,
    MixConfig,
    StageConfig,
    TrainConfig,
    parse,
    refuse_uneven,
    to_dict,
)
from perceive_ir_training.crossfit import HalfConfig, Halves, cached_halves, load_halves, split, triplets
from perceive_ir_training.curves import draw_curves, read_log
from perceive_ir_training.data import Pictures, load_pictures
from perceive_ir_training.gate import Gate, Triplet, measure_gate
from perceive_ir_training.language import TextConfig, TextTower, load_text_tower, save_text_tower
from perceive_ir_training.ranks import meet
from perceive_ir_training.sources import has_pictures, load_sources
from perceive_ir_training.stages import PerceiverStage, PromptsStage, RestorerStage, Setting, Stage
from perceive_ir_training.validation import (
    Panel,
    draw_sheet,
    judge_perceiver,
    judge_restorer,
    make_panel,
    restore_panel,
)

PLAN, CHECKPOINT, LOG, WEIGHTS = "run.json", "checkpoint.safetensors", "log.jsonl", "weights.safetensors"
TEXT, HALVES, GATE = "text.safetensors", "halves.safetensors", "gate.json"
GATE_SCENES, GATE_SIDE = 24, 160
"""Held-back scenes of each fold that the tiers are judged on, and their side."""


@dataclass(frozen=True)
class Progress:
    """One line of the log."""

    step: int
    minutes: float
    rate: float
    losses: dict[str, float]
    """Means over the steps since the line before: weighted terms, and what else the stage tells."""
    wait: float
    """Share of the time spent on waiting for batches."""
    stage: str = ""


@dataclass(frozen=True)
class Plan:
    """What a training was started with; kept in its folder, so that ``--resume`` needs nothing else."""

    config: TrainConfig
    stages: tuple[str, ...]
    data: str
    minutes: float = math.inf
    init_from: str = ""
    device: str = "cpu"
    log_every: int = 50
    save_every: float = 5.0

    def minutes_of(self, stage: str) -> float:
        """Minutes of one stage: its share of those of all."""
        return self.minutes * self.config.stage(stage).share / sum(self.config.stage(s).share for s in self.stages)


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
    system, text = start(plan, run, plan.stages[0], fresh=position is None)
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


# ---- what a stage starts from


def start(plan: Plan, run: Path, stage: str, *, fresh: bool) -> tuple[System, TextTower | None]:
    """Return the networks that the first stage, or the resumed one, starts from."""
    if not fresh:
        return load_start(run / WEIGHTS, plan.config), text_beside(run / TEXT)
    if plan.init_from:
        source = Path(plan.init_from)
        return load_start(source, plan.config), text_beside(source.with_name(TEXT))
    torch.manual_seed(plan.config.seed)
    return equip(System(plan.config.model), training=True), None


def load_start(path: str | Path, config: TrainConfig) -> System:
    """Read the weights of a file; its networks must have the sizes of the configuration, but it may lack the grid."""
    found, _ = load_system(path)
    there, tower = found.config.tower_config(), config.model.tower_config()
    if tower.grid and not config.model.semantics:
        there = replace(there, grid=True)
    pairs = (
        (unsigned(found.config.encoder_config()), unsigned(config.model.encoder_config())),
        (found.config.backbone_config(), config.model.backbone_config()),
        (there, tower),
        (found.config.groups, config.model.groups),
    )
    for held, wanted in pairs:
        if held != wanted:
            raise WeightsError(f"{path} holds {held}, the configuration expects {wanted}; make them the same")
    system = System(replace(config.model, encoder=found.config.encoder))
    fresh = system.state_dict()
    system.load_state_dict({name: widened(tensor, fresh[name]) for name, tensor in found.state_dict().items()})
    return equip(system, training=True)


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
        if not config.losses.language:
            return PerceiverStage(setting, system, None)
        tower = text or TextTower(TextConfig(embedding=config.model.tower_config().embedding))
        return PerceiverStage(setting, system, tower.to(device))
    if name == "prompts":
        speaker = text if system.clip is None else system.clip.net
        if speaker is None:
            beside = plan.init_from or run / WEIGHTS
            raise WeightsError(f"no {TEXT} beside {beside}; train the stage perceiver with losses.language")
        if not setting.world.is_first:
            setting.world.from_first(0)  # it makes them
        halves = cached_halves(
            run / HALVES, setting.sources.pictures, half_config(config), minutes=minutes / 4, device=device
        )
        if setting.world.is_first:
            setting.world.from_first(0)
        return PromptsStage(setting, system, speaker.to(device), halves)
    return RestorerStage(setting, system, find_halves(plan, run, device))


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


def make_learner(stage: Stage, settings: StageConfig) -> Learner:
    """Build the averaged networks and the optimiser."""
    average = copy.deepcopy(stage.modules).requires_grad_(False)
    groups = parameter_groups(stage.modules, settings.weight_decay)
    optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.99), fused=True)
    return Learner(stage.modules, average, optimiser, settings)


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


# ---- what a stage leaves behind


def keep(
    run: Path, stage: Stage, learner: Learner, position: Position, config: TrainConfig, panel: Panel | None,
    kept: Pictures, setting: Setting,
) -> None:  # fmt: skip
    """Write checkpoint, weights, validation, sample sheet and curves."""
    finished = copy.deepcopy(learner.average).eval()
    stage.finish(finished)
    system = cast(System, finished["system"])
    validation: dict[str, float] = {}
    if position.stage == "restorer" and panel:
        restored = restore_panel(system, panel, setting.device)
        validation = judge_restorer(panel, restored)
        (run / "samples").mkdir(exist_ok=True)
        draw_sheet(panel, restored).save(run / "samples" / f"step_{position.step:07d}.png")
    elif position.stage == "perceiver" and panel:
        validation = judge_perceiver(system.perceiver, panel, setting.device)
    elif isinstance(stage, PromptsStage) and position.finished:
        gate = judge_tiers(stage, system, kept)
        if gate:
            write_atomically(run / GATE, json.dumps(gate.to_dict(), indent=1).encode())
            validation = {f"gate_{name}": round(getattr(gate, name), 4) for name in ("accuracy", "whole", "order")}
    add_validation(run / LOG, position, validation)
    if "text" in finished:
        save_text_tower(run / TEXT, cast(TextTower, finished["text"]))
    scores = {"tiers": json.loads((run / GATE).read_text(encoding="utf-8"))} if (run / GATE).is_file() else {}
    save_system(run / WEIGHTS, system, Card(config.name, config.version, scores=scores), half=False)
    # Of a finished stage the average is what the next one starts from: the weights may be newer than the checkpoint.
    save_checkpoint(run / CHECKPOINT, replace(learner, average=finished) if position.finished else learner, position)
    draw_curves(read_log(run / LOG), position.stage).save(run / f"curves_{position.stage}.png")


def judge_tiers(stage: PromptsStage, system: System, kept: Pictures) -> Gate | None:
    """Judge the tiers on scenes that neither the perceiver nor a half-trained restorer has seen."""
    try:
        folds = split(kept)
    except ValueError:
        return None
    found = []
    for number, fold in enumerate(folds):
        drawn = triplets(stage.halves, fold, GATE_SCENES, GATE_SIDE, stage.setting.random(4, number), microscopy=0.2)
        pictures = ((t * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy() for t in drawn[:3])
        found += [Triplet(str(int(k)), *p) for *p, k in zip(*pictures, drawn.tasks, strict=True)]
    return measure_gate(lambda x: system.scale * system.tier_cosines(x), found, device=stage.setting.device)


def add_validation(path: Path, position: Position, values: dict[str, float]) -> None:
    """Add measured values to the last line of the log."""
    if values:
        lines = read_log(path)
        lines[-1] |= values
        write_lines(path, lines)


def forget_log(path: Path, stage: str, step: int) -> None:
    """Drop the lines of steps that are made again."""
    write_lines(path, [line for line in read_log(path) if line["stage"] != stage or line["step"] <= step])


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    """Write a log anew."""
    write_atomically(path, "".join(json.dumps(line) + "\n" for line in lines).encode())


def write_log(path: Path, progress: Progress) -> None:
    """Append one line of JSON; what is not finite becomes null."""
    line: dict[str, Any] = {"stage": progress.stage, "step": progress.step, "minutes": round(progress.minutes, 3)}
    line |= {"rate": progress.rate}
    line |= {k: round(v, 6) if math.isfinite(v) else None for k, v in progress.losses.items()}
    line["wait"] = round(progress.wait, 4)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def as_json(plan: Plan) -> str:
    """Write a plan down."""
    minutes = None if math.isinf(plan.minutes) else plan.minutes
    values = {
        name: getattr(plan, name) for name in ("stages", "data", "init_from", "device", "log_every", "save_every")
    }
    return json.dumps({**values, "minutes": minutes, "config": to_dict(plan.config)}, indent=1)


def read_plan(path: Path) -> Plan:
    """Read a plan back."""
    if not path.is_file():
        raise ValueError(
            f"no training to resume at {path.parent}; expected {path.name} there, start it without --resume"
        )
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        minutes = math.inf if values["minutes"] is None else values["minutes"]
        plain = {**values, "minutes": minutes, "stages": tuple(values["stages"]), "config": parse(values["config"])}
        return Plan(**plain)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} does not describe a training ({error}); start it anew without --resume") from error


# ---- steps


def learning_rate(step: int, done: float, settings: StageConfig) -> float:
    """Linear warm-up, then a cosine over the share of the training that is done."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    rate = settings.final_rate + (settings.learning_rate - settings.final_rate) * cosine
    return rate * min(1.0, step / settings.warm_up)


def trained(modules: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that learn."""
    return [p for p in modules.parameters() if p.requires_grad]


def parameter_groups(module: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Decay the weights of convolutions and linear layers only."""
    weights = [p for p in trained(module) if p.ndim > 1]
    others = [p for p in trained(module) if p.ndim <= 1]
    return [{"params": weights, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


@torch.no_grad()
def update_average(average: nn.Module, current: nn.Module, decay: float, step: int) -> None:
    """Move the averaged weights and buffers towards the current ones; faster while there is little to average."""
    keep = min(decay, step / (step + 10))
    pairs = list(zip(average.parameters(), current.parameters(), strict=True))
    old, new = (list(side) for side in zip(*(p for p in pairs if p[1].requires_grad), strict=True))
    torch._foreach_lerp_(old, new, 1 - keep)
    for kept, buffer in zip(average.buffers(), current.buffers(), strict=True):
        if kept.is_floating_point():  # what is equal stays so; a mask may hold infinities, which have no mean
            kept.copy_(torch.where(kept == buffer, buffer, kept.lerp(buffer, 1 - keep)))
        else:
            kept.copy_(buffer)


@torch.no_grad()
def take_buffers(current: nn.Module, average: nn.Module) -> None:
    """Replace the buffers, among them the statistics of normalisations, by the averaged ones."""
    for buffer, kept in zip(current.buffers(), average.buffers(), strict=True):
        buffer.copy_(kept)
