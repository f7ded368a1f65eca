"""What a stage leaves behind: checkpoint, weights, validation, sample sheet and curves."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import cast

from perceive_ir._weights import Card, save_system, write_atomically
from perceive_ir.networks import System
from perceive_ir_training.checkpoint import Position, save_checkpoint
from perceive_ir_training.config import TrainConfig
from perceive_ir_training.crossfit import split, triplets
from perceive_ir_training.curves import draw_curves
from perceive_ir_training.data import Pictures
from perceive_ir_training.gate import Gate, Triplet, measure_gate
from perceive_ir_training.language import TextTower, save_text_tower
from perceive_ir_training.learner import Learner
from perceive_ir_training.log import add_validation, read_log
from perceive_ir_training.plan import CHECKPOINT, GATE, LOG, TEXT, WEIGHTS
from perceive_ir_training.stages import PromptsStage, Setting, Stage
from perceive_ir_training.validation import Panel, draw_sheet, judge_perceiver, judge_restorer, restore_panel

GATE_SCENES, GATE_SIDE = 24, 160
"""Held-back scenes of each fold that the tiers are judged on, and their side."""


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
    add_validation(run / LOG, validation)
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
