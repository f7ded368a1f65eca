"""``perceive-ir degrade``: damage a clean picture, to see what a restoration makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from perceive_ir._vocabulary import TYPES
from perceive_ir.commands._inputs import refuse_folder
from perceive_ir.commands._report import say


def degrade(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="A clean picture or stack.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the damaged one.")],
    type_: Annotated[
        list[str],
        typer.Option(
            "--type", metavar="TYPE[=SEVERITY]", help=f"Repeatable for mixtures, as haze=0.4: {', '.join(TYPES)}."
        ),
    ],
    severity: Annotated[float, typer.Option(help="0..1, for types that name none.")] = 0.5,
    seed: Annotated[int, typer.Option(help="The same seed gives the same damage.")] = 0,
    axes: Annotated[str, typer.Option(help="Meaning of the axes, such as TZYX; by default as the file says.")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    """Damage a picture: noise, haze, rain, snow, blur, darkness, compression, and mixtures of them."""
    types = severities(type_, severity)

    from perceive_ir import degrade
    from perceive_ir._version import VERSION
    from perceive_ir.files import check_output, read_image, write_image

    refuse_folder(source, "degrade")
    picture = read_image(source)
    check_output(output, picture, force=force)
    damaged = degrade(picture.data, types, seed=seed, axes=picture.axes if axes == "auto" else axes)
    about = {"software": f"napari-perceive-ir {VERSION}", "degraded": {"types": types, "seed": seed}}
    notes = write_image(output, damaged, picture, description=about, force=force)
    mixture = ", ".join(f"{name} {value:g}" for name, value in types.items())
    say(f"{source} -> {output}: {'; '.join([mixture, *picture.notes, *notes])}")


def severities(types: Sequence[str], severity: float) -> dict[str, float]:
    """Read ``["haze=0.4", "noise"]``: a severity for each type."""
    found: dict[str, float] = {}
    for text in types:
        name, equals, value = text.partition("=")
        if name in found:
            raise ValueError(f"--type {name} is given twice; give each type once")
        try:
            found[name] = float(value) if equals else severity
        except ValueError:
            raise ValueError(f"--type {text}: expected a severity between 0 and 1, got {value!r}") from None
    return found
