"""Clean pictures drawn at random, so that a training never runs out of them."""

from perceive_ir_training.procedural.kinds import KINDS, Kind, draw_picture, draw_pictures

__all__ = ["KINDS", "Kind", "draw_picture", "draw_pictures"]
