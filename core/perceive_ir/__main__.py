"""``python -m perceive_ir`` is the command ``perceive-ir``."""

from perceive_ir.commands import main

main()
