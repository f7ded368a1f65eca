"""What a training was started with, and the files of its folder."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from perceive_ir_training.config import TrainConfig, parse, to_dict

PLAN, CHECKPOINT, LOG, WEIGHTS = "run.json", "checkpoint.safetensors", "log.jsonl", "weights.safetensors"
TEXT, HALVES, GATE = "text.safetensors", "halves.safetensors", "gate.json"


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
