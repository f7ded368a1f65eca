"""The command line ``perceive-ir``."""

from perceive_ir.commands._app import app, main

__all__ = ["app", "main"]
