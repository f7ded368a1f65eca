"""``perceive-ir models export-onnx``: a model for programs without torch."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from perceive_ir.commands._report import say


class Part(StrEnum):
    """What of a model is exported."""

    restorer = "restorer"
    perceiver = "perceiver"


def export(
    model: Annotated[str, typer.Argument(help="Catalogue name or path of the weights.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.onnx", help="Where to write it.")],
    part: Annotated[Part, typer.Option(help="The network that restores, or the one that perceives.")] = Part.restorer,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    """Write a network as ONNX, once ONNX Runtime has been seen to compute what torch does."""
    from perceive_ir import export_onnx

    difference = export_onnx(model, output, part.value, force=force)
    size = output.stat().st_size / 2**20
    say(f"{output}: {part} of {model}, {size:.1f} MiB, within {difference:.1g} of torch")
