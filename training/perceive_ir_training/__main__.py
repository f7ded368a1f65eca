"""``python -m perceive_ir_training`` is the command ``perceive-ir train``, for torchrun to start."""

import sys

from perceive_ir.commands import main

sys.argv.insert(1, "train")
main()
