"""Training for Perceive-IR: degradations on the fly, a plain loop, weights that explain themselves."""

from perceive_ir_training.config import MixConfig, StageConfig, TrainConfig, load_config
from perceive_ir_training.loop import Progress, train

__all__ = ["MixConfig", "Progress", "StageConfig", "TrainConfig", "load_config", "train"]
