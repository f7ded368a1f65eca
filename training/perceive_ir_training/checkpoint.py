"""Everything that a training needs to go on as if it had never stopped, in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from perceive_ir._errors import WeightsError
from perceive_ir._weights import read_signed, write_signed
from perceive_ir_training.learner import Learner

FORMAT = "perceive-ir-training-1"
REMEDY = "delete it, or start anew with --init-from"


@dataclass(frozen=True)
class Position:
    """Where a training stands."""

    stage: str
    step: int
    minutes: float
    """Spent in this stage."""
    finished: bool = False
    """Whether the stage has reached its end."""


def save_checkpoint(path: Path, learner: Learner, position: Position) -> None:
    """Write the state of a training at once or not at all."""
    tensors = {f"modules.{name}": t for name, t in learner.modules.state_dict().items()}
    tensors |= {f"average.{name}": t for name, t in learner.average.state_dict().items()}
    for number, state in learner.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{name}": t for name, t in state.items()}
    tensors |= {f"extra.{name}": t for name, t in learner.extra.items()}
    plain = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    about = {"format": FORMAT, "position": json.dumps(asdict(position))}
    write_signed(path, plain, about)


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], Position]:
    """Read a checkpoint; its digest must match."""
    if not path.is_file():
        raise WeightsError(
            f"no training to resume at {path.parent}; expected {path.name} there, start it without --resume"
        )
    tensors, about, _ = read_signed(path, FORMAT, "is not a checkpoint of this version", REMEDY, REMEDY)
    return tensors, Position(**json.loads(about["position"]))


def averaged(tensors: Mapping[str, Tensor], network: str) -> dict[str, Tensor]:
    """Return the averaged weights of one of the networks of a checkpoint."""
    prefix = f"average.{network}."
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def restore(learner: Learner, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Put the state of a checkpoint into a learner."""
    groups: dict[str, dict[str, Tensor]] = {"modules": {}, "average": {}, "optimiser": {}, "extra": {}}
    for name, tensor in tensors.items():
        group, _, rest = name.partition(".")
        groups[group][rest] = tensor
    try:
        learner.modules.load_state_dict(groups["modules"])
        learner.average.load_state_dict(groups["average"])
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{path} belongs to other networks ({reason}); {REMEDY}") from error
    restore_optimiser(learner.optimiser, groups["optimiser"])
    learner.extra = groups["extra"]


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put its running means back; each takes the memory layout of its parameter, which fused steps rely on."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        number, _, what = name.partition(".")
        state.setdefault(int(number), {})[what] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    for index, values in state.items():
        parameter = parameters[index]
        for what, tensor in values.items():
            if tensor.shape == parameter.shape:
                optimiser.state[parameter][what] = torch.empty_like(parameter).copy_(tensor)
