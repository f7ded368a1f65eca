"""Training for Perceive-IR: degradations on the fly, a plain loop, weights that explain themselves."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perceive_ir_training.config import MixConfig, StageConfig, TrainConfig, load_config
    from perceive_ir_training.log import Progress
    from perceive_ir_training.loop import resume, train

_PLACES = {
    "MixConfig": "config", "StageConfig": "config", "TrainConfig": "config", "load_config": "config",
    "Progress": "log", "resume": "loop", "train": "loop",
}  # fmt: skip

__all__ = ["MixConfig", "Progress", "StageConfig", "TrainConfig", "load_config", "resume", "train"]


def __getattr__(name: str) -> Any:
    """Import what is asked for only when it is asked for: torch is heavy."""
    if name not in _PLACES:
        raise AttributeError(f"module 'perceive_ir_training' has no attribute {name!r}")
    return getattr(import_module(f"perceive_ir_training.{_PLACES[name]}"), name)
