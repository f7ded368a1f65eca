"""``perceive-ir map``: where a picture is good or bad, as numbers in a TIFF or as colours in a PNG."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from perceive_ir._recipe import Recipe
from perceive_ir._vocabulary import TIERS, TYPES
from perceive_ir.commands._inputs import refuse_folder
from perceive_ir.commands._options import takes_recipe
from perceive_ir.commands._report import say

if TYPE_CHECKING:
    from perceive_ir import QualityMap
    from perceive_ir.files import Picture

Palette = NDArray[np.float32]  # (N, 4): red, green, blue, opacity, all in 0..1

# Told apart by everybody: the palette of Okabe and Ito, with a dark red instead of its black.
COLOURS = {
    "low": "#D55E00", "medium": "#E69F00",
    "noise": "#56B4E9", "haze": "#F0E442", "rain": "#0072B2", "snow": "#CC79A7", "blur": "#E69F00",
    "lowlight": "#882255", "jpeg": "#009E73", "lowres": "#D55E00",
}  # fmt: skip
OPACITY = 0.55
SCORE_STEPS = 200


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
    plain: Annotated[bool, typer.Option("--plain", help="Colours alone, the PNG transparent where all is well.")] = False,
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

    colours = is_png(output)
    refuse_folder(source, "map")
    picture = read_image(source)
    check(output, picture, force)
    axes = picture.axes if recipe.axes == "auto" else recipe.axes
    restorer = load(recipe.model, device=recipe.device, precision=recipe.precision)
    steps = {name: value for name, value in (("window", window), ("stride", stride)) if value is not None}
    qmap = restorer.quality_map(picture.data, axes, recipe.value_range, **steps)
    about = describe(qmap, what, restorer.card)
    if colours:
        drawn = draw(picture.data, axes, qmap, what, plain=plain)
        like = replace(picture, meta=replace(picture.meta, icc=None, chunks=(), xmp=None))
        notes = write_image(output, drawn, like, axes="YXC", description=about, force=force)
    else:
        like = replace(picture, meta=replace(picture.meta, icc=None))
        plane_axes = map_axes(picture.data.shape, axes)
        notes = write_image(output, qmap.full(values(qmap, what)), like, axes=plane_axes, description=about, force=force)
    say(f"{source} -> {output}: {'; '.join([shares(qmap), *picture.notes, *notes])}")


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


def values(qmap: QualityMap, what: What) -> NDArray[Any]:
    """Return the values of the cells."""
    if what is What.tiers:
        return qmap.tier_labels
    return qmap.type_labels if what is What.types else qmap.score.astype(np.float32)


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


def draw(image: NDArray[Any], axes: str, qmap: QualityMap, what: What, *, plain: bool = False) -> NDArray[np.uint8]:
    """Colour a picture by its map.

    Parameters
    ----------
    image
        One picture, grey or colour.
    axes
        Its axes.
    qmap
        Its map.
    what
        What the colours show.
    plain
        Leave the picture out.

    Returns
    -------
    ndarray
        (h, w, 3), or with ``plain`` (h, w, 4), uint8.
    """
    if qmap.probabilities.ndim > 3:
        raise ValueError(f"a PNG holds one map, this is a stack of {qmap.probabilities.shape[1:-2]}; write a .tif")
    cells = values(qmap, what)
    numbers = np.rint(cells * (SCORE_STEPS / 2)).astype(np.intp) if what is What.score else cells
    paint = qmap.full(palette(what)[numbers].transpose(2, 0, 1)).transpose(1, 2, 0)  # (h, w, 4)
    if plain:
        return np.asarray(np.rint(paint * 255), np.uint8)
    opacity = paint[..., 3:] * np.float32(OPACITY)
    mixed = grey(image, axes)[..., None] * (1 - opacity) + paint[..., :3] * opacity
    return np.asarray(np.rint(mixed * 255), np.uint8)


def palette(what: What) -> Palette:
    """Return the colour of each value; what is good has none."""
    if what is What.types:
        return np.array([rgba(None), *(rgba(COLOURS[name]) for name in TYPES)], np.float32)
    low, medium, high = rgba(COLOURS["low"]), rgba(COLOURS["medium"]), rgba(None, like=COLOURS["medium"])
    if what is What.tiers:
        return np.array([high, low, medium, high], np.float32)
    place = np.linspace(0, 2, SCORE_STEPS + 1)
    return np.stack([np.interp(place, [0, 1, 2], part) for part in zip(low, medium, high, strict=True)], 1).astype("f4")


def rgba(colour: str | None, like: str = "#000000") -> tuple[float, float, float, float]:
    """Read ``#RRGGBB`` as opaque; None is transparent."""
    code = int((colour or like)[1:], 16)
    return (code >> 16) / 255, (code >> 8 & 255) / 255, (code & 255) / 255, float(colour is not None)


def grey(image: NDArray[Any], axes: str) -> NDArray[np.float32]:
    """Return a picture as it is seen, (h, w) in 0..1."""
    from perceive_ir.images import find_range, parse_layout, read_tile, to_network

    layout = parse_layout(image.shape, axes)
    whole = read_tile(image, layout.plane(0), slice(0, layout.height), slice(0, layout.width))
    shown = to_network(whole, *find_range(image, layout, "auto"))
    seen: NDArray[np.float32] = shown.mean(dim=0).clamp(0, 1).numpy()
    return seen
