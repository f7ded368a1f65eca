"""``perceive-ir map``: where a picture is good or bad, as numbers in a TIFF or as colours in a PNG."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perceive_ir._recipe import Recipe
from perceive_ir._vocabulary import TIERS, TYPES
from perceive_ir.commands._inputs import refuse_folder
from perceive_ir.commands._options import takes_recipe
from perceive_ir.commands._report import say

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from perceive_ir import QualityMap
    from perceive_ir.files import Picture

    Pixels = NDArray[Any]


class What(StrEnum):
    """What the map shows."""

    tiers = "tiers"
    score = "score"
    types = "types"


@takes_recipe("model", "axes", "value_range", "device", "precision")
def quality_map(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="A picture or stack.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="A .tif with values, or a .png with colours.")],
    recipe: Recipe,
    what: Annotated[
        What,
        typer.Option(
            help=f"Tiers (1 {TIERS[0]} .. 3 {TIERS[2]}), score (0 {TIERS[0]} .. 2 {TIERS[2]}), "
            f"or the likeliest type of damage (0 none, {', '.join(f'{n} {t}' for n, t in enumerate(TYPES, 1))})."
        ),
    ] = What.tiers,
    plain: Annotated[
        bool, typer.Option("--plain", help="Colours alone, the PNG transparent where all is well.")
    ] = False,
    window: Annotated[
        int | None, typer.Option(help="Side of what is judged at once, in pixels.", show_default="that of the model")
    ] = None,
    stride: Annotated[
        int | None, typer.Option(help="Pixels from one judgement to the next.", show_default="that of the model")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    """Map the quality of a picture, place by place."""
    from perceive_ir import load
    from perceive_ir.files import read_image, write_image

    in_colours = is_png(output)
    refuse_folder(source, "map")
    picture = read_image(source)
    check(output, picture, force)
    axes = picture.axes if recipe.axes == "auto" else recipe.axes
    restorer = load(recipe.model, device=recipe.device, precision=recipe.precision)
    steps = {name: value for name, value in (("window", window), ("stride", stride)) if value is not None}
    qmap = restorer.quality_map(picture.data, axes, recipe.value_range, **steps)
    make = colours if in_colours else numbers
    pixels, pixel_axes, like = make(picture, axes, qmap, what, plain)
    about = describe(qmap, what, restorer.card)
    notes = write_image(output, pixels, like, axes=pixel_axes, description=about, force=force)
    say(f"{source} -> {output}: {'; '.join([shares(qmap), *picture.notes, *notes])}")


def colours(picture: Picture, axes: str, qmap: QualityMap, what: What, plain: bool) -> tuple[Pixels, str, Picture]:
    """Return the map as colours, its axes, and what is kept of the picture's metadata."""
    from perceive_ir.commands._paint import draw

    meta = replace(picture.meta, icc=None, xmp=None, chunks=())  # these describe other colours
    return draw(picture.data, axes, qmap, what, plain=plain), "YXC", replace(picture, meta=meta)


def numbers(picture: Picture, axes: str, qmap: QualityMap, what: What, plain: bool) -> tuple[Pixels, str, Picture]:
    """Return the map as numbers, its axes, and what is kept of the picture's metadata."""
    from perceive_ir.commands._paint import values

    if plain:
        raise ValueError("--plain is for colours; give -o a name that ends in .png")
    meta = replace(picture.meta, icc=None)
    return qmap.full(values(qmap, what)), map_axes(picture.data.shape, axes), replace(picture, meta=meta)


def is_png(output: Path) -> bool:
    """Whether colours are asked for; any other suffix than PNG and TIFF is refused."""
    name = output.name.lower()
    if not name.endswith((".png", ".tif", ".tiff")):
        raise ValueError(f"{output}: a map is a .tif with values or a .png with colours; give one of these names")
    return name.endswith(".png")


def check(output: Path, picture: Picture, force: bool) -> None:
    """Refuse now what could not be written later, and to replace the picture by its map."""
    from perceive_ir.files._atomic import check_target

    if output.exists() and output.samefile(picture.path):
        raise ValueError(f"{output} is the input itself; give another name")
    check_target(output, force=force)


def map_axes(shape: tuple[int, ...], axes: str) -> str:
    """Return the axes of a map: those of a stack, then Y and X."""
    from perceive_ir.images import parse_layout

    layout = parse_layout(shape, axes)
    return "".join(letter for letter in layout.axes[: len(shape) - layout.colour] if letter not in "YX") + "YX"


def describe(qmap: QualityMap, what: What, card: Any) -> dict[str, Any]:
    """Say what the values mean, for the file."""
    from perceive_ir._version import VERSION

    names = {
        What.tiers: {str(n): name for n, name in enumerate(TIERS, 1)},
        What.types: {str(n): name for n, name in enumerate(("none", *TYPES))},
        What.score: {str(n): name for n, name in enumerate(TIERS)},
    }
    return {
        "software": f"napari-perceive-ir {VERSION}",
        "model": {"name": card.name, "version": card.version, "sha256": card.digest},
        "map": {"what": what.value, "values": names[what], "window": qmap.window, "stride": qmap.stride},
    }


def shares(qmap: QualityMap) -> str:
    """Say how much of the picture is of which quality: "low 20 %, medium 30 %, high 50 %"."""
    labels = qmap.full(qmap.tier_labels)
    return ", ".join(f"{tier} {(labels == n).mean():.0%}" for n, tier in enumerate(TIERS, 1))
