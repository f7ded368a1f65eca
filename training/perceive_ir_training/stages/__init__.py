"""What each stage of a training learns, on what, and towards what.

A stage is asked for the batch of a step, and for the terms of the loss on it. The batch of a step depends on the seed
and the number of the step alone, so that a training can be resumed exactly. Several processes draw the same batch, and
each keeps its share of the rows.
"""

from perceive_ir_training.stages.perceiver import PerceiverBatch, PerceiverStage
from perceive_ir_training.stages.prompts import PromptsStage
from perceive_ir_training.stages.restorer import FLOOR_SHARE, RestorerBatch, RestorerStage
from perceive_ir_training.stages.stage import Forgetful, Setting, Stage, Terms, weigh

__all__ = [
    "FLOOR_SHARE", "Forgetful", "PerceiverBatch", "PerceiverStage", "PromptsStage", "RestorerBatch", "RestorerStage",
    "Setting", "Stage", "Terms", "weigh",
]  # fmt: skip
