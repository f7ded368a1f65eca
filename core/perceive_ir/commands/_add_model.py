"""``perceive-ir models add``: a network of others becomes a model by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perceive_ir._vocabulary import TASKS
from perceive_ir.commands._report import say


def add(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="Checkpoint: .safetensors, .pth, .pt or .ckpt.")],
    name: Annotated[str | None, typer.Option(help="What the model is called.", show_default="the file's name")] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(metavar="TASK", help=f"What it was made for, where you know it; repeatable: {', '.join(TASKS)}."),
    ] = None,
    licence: Annotated[str, typer.Option(help="The terms of its weights.", show_default="unknown")] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace a model that was added by this name.")] = False,
) -> None:
    """Take over a restoration network that spandrel knows, for a second opinion; no code of the file is run."""
    from perceive_ir import add_model
    from perceive_ir._catalogue import find

    card = add_model(source, name, tasks=task or (), licence=licence, force=force)
    say(f"{find(card.name)}: {card.version}, licence {card.licence}; use it as --model {card.name}")
