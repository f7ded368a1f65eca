"""Make damaged pictures out of clean ones: seeded, batched, with a severity that means the same scene throughout."""

from perceive_ir.degradations._blur import severity_of_reach
from perceive_ir.degradations._degrade import degrade
from perceive_ir.degradations._mixture import FAMILIES, ORDER, WHOLE, Mixture

__all__ = ["FAMILIES", "ORDER", "WHOLE", "Mixture", "degrade", "severity_of_reach"]
