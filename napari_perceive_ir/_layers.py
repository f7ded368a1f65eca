"""Restoring and mapping napari layers; what the dock does, a script does with these and without Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_perceive_ir._axes import layer_axes, spread_cells
from napari_perceive_ir._bounds import region_on
from napari_perceive_ir._labels import labels_on
from napari_perceive_ir._part import about_part, part_of
from napari_perceive_ir._placement import cell_placement, level0, placement
from napari_perceive_ir._run import Finished, Mapped, RunPlan, mapping, restoring
from napari_perceive_ir._statistics import tier_features
from napari_perceive_ir._words import result_name
from perceive_ir._recipe import Recipe, make_recipe
from perceive_ir._version import VERSION
from perceive_ir._vocabulary import TIERS
from perceive_ir._windows import STRIDE, WINDOW

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from napari.layers import Image, Labels, Shapes
    from napari.types import LayerDataTuple
    from numpy.typing import NDArray

    from perceive_ir import QualityMap, Result

KEY = "perceive_ir"
"""Where a layer's metadata say what was done."""
TIER_COLOURS = dict(zip(TIERS, ("#D55E00", "#E69F00", "transparent"), strict=True))
"""Vermilion and orange differ for colour-blind eyes too; what is good stays as it is."""


def restore_layer(
    viewer: Any,
    layer: Image | str,
    *,
    labels: Any = None,
    region: Shapes | Sequence[slice] | None = None,
    **recipe_fields: Any,
) -> Image:
    """Restore an image layer and add the result to the viewer, exactly on its source.

    Parameters
    ----------
    viewer
        The napari viewer.
    layer
        An image layer of the viewer, or its name.
    labels
        For handling "painted": a Labels layer or an array over the picture.
    region
        Restore this alone, as it comes out in the whole picture: a Shapes layer, for the box around its selected shapes
        or else all of them, or two slices, rows and columns.
    **recipe_fields
        Fields of the recipe, such as ``task="denoise"`` or ``strength=0.8``.

    Returns
    -------
    Image
        The new layer, of the source's dtype and, but for a region, shape; ``metadata["perceive_ir"]`` says how it was
        made.
    """
    source = find_image(viewer, layer)
    plan = plan_run(source, make_recipe(**recipe_fields), labels, region=region)
    finished = restored(plan)
    return add_result(viewer, source, plan, finished.result, finished.coarser)


def restore_layer_data(
    layer: Image | LayerDataTuple,
    *,
    labels: Any = None,
    region: Shapes | Sequence[slice] | None = None,
    **recipe_fields: Any,
) -> LayerDataTuple:
    """Restore an image layer and return the result as data, for plugins, widgets and workflows that need no viewer.

    Parameters
    ----------
    layer
        An image layer, or one as data, arguments and type.
    labels, region, **recipe_fields
        See `restore_layer`.

    Returns
    -------
    LayerDataTuple
        Data, arguments and type of the layer that `restore_layer` would add. A function of magicgui that returns it
        adds it, and ``Layer.create(*returned)`` makes the layer.
    """
    from napari.layers import Layer
    from napari.types import LayerDataTuple

    source = image_layer(Layer.create(*layer) if isinstance(layer, tuple) else layer)
    plan = plan_run(source, make_recipe(**recipe_fields), labels, region=region)
    finished = restored(plan)
    return LayerDataTuple(result_data(source, plan, finished.result, finished.coarser))


def map_layer(
    viewer: Any, layer: Image | str, *, window: int = WINDOW, stride: int = STRIDE, **recipe_fields: Any
) -> Labels:
    """Judge an image layer place by place and add its quality tiers as a Labels layer.

    Parameters
    ----------
    viewer
        The napari viewer.
    layer
        An image layer of the viewer, or its name.
    window, stride
        Side and step of the windows in pixels; see ``Restorer.quality_map``.
    **recipe_fields
        Fields of the recipe; of use are model, axes, value_range, device and precision.

    Returns
    -------
    Labels
        1 low, 2 medium, 3 high, with their names, shares of the area and what is wrong there as features.
    """
    source = find_image(viewer, layer)
    plan = plan_run(source, make_recipe(**recipe_fields))
    mapped = next(event for event in mapping(plan, window, stride) if isinstance(event, Mapped))
    return add_map(viewer, source, mapped.map, plan.recipe.axes, about_map(mapped))


def find_image(viewer: Any, layer: Image | str) -> Image:
    """Return an image layer given itself or by name."""
    if isinstance(layer, str):
        if layer not in viewer.layers:
            known = ", ".join(repr(one.name) for one in viewer.layers) or "none"
            raise ValueError(f"no layer {layer!r} in this viewer (layers: {known})")
        layer = viewer.layers[layer]
    return image_layer(layer)


def image_layer(layer: Any) -> Image:
    """Return a layer that is an image layer, and refuse any other."""
    from napari.layers import Image

    if not isinstance(layer, Image):
        raise TypeError(f"expected an image layer or its name, got {type(layer).__name__} {layer!s}")
    return layer


def plan_run(
    source: Image | None,
    recipe: Recipe,
    labels: Any = None,
    point: Sequence[float] | None = None,
    region: Shapes | Sequence[slice] | None = None,
) -> RunPlan:
    """Take from a layer what a run needs: the array, of a multiscale layer the finest level, and its axes.

    With a point of the world, the plane of the stack that is there; with a region, what lies in it.
    """
    from napari.layers import Labels

    if source is None:
        raise ValueError("no image layer to restore: open a picture first")
    axes = layer_axes(source) if recipe.axes == "auto" else recipe.axes
    part = part_of(source, axes, point, region_on(region, source, axes))
    place = placement(source, part)
    marks = labels_on(labels, source, axes, part) if isinstance(labels, Labels) else labels
    others = source.data[1:] if source.multiscale else ()
    return RunPlan(level0(source), make_recipe(recipe, axes=axes), place, marks, part, others)


def restored(plan: RunPlan) -> Finished:
    """Restore at once what a plan says."""
    return next(event for event in restoring(plan) if isinstance(event, Finished))


def replaced(source: Image, plan: RunPlan) -> bool:
    """Whether a layer shows other data by now than those that were restored."""
    return level0(source) is not plan.array


def add_result(
    viewer: Any, source: Image, plan: RunPlan, result: Result, coarser: Sequence[NDArray[Any]] = ()
) -> Image:
    """Add a restored picture, with its coarser levels if there are any, exactly on its source, with the same look."""
    return add_on(viewer, source, result_data(source, plan, result, coarser))


def add_on(viewer: Any, source: Image, made: tuple[Any, dict[str, Any], str]) -> Image:
    """Add a picture that lies on its source and looks like it."""
    from napari.layers import Image

    data, about, _ = made
    layer = Image(data, **about)
    layer.contrast_limits_range = source.contrast_limits_range
    layer.contrast_limits = about["contrast_limits"]
    viewer.add_layer(layer)
    return layer


def hide_under(viewer: Any, source: Image, result: Image, plan: RunPlan) -> bool:
    """Hide a picture that would shine through its restored one, unless that is a region in it; return whether."""
    from napari_perceive_ir._overlay import hides_below

    if hides_below(result) or plan.region is not None:
        return False
    for layer in (source, *same_picture(result, viewer.layers)):
        layer.visible = False
    return True


def picture_of(layer: Any) -> str:
    """Return the name that a layer's picture had before it was restored for the first time."""
    return str(layer.metadata.get(KEY, {}).get("picture", layer.name))


def same_picture(layer: Image, layers: Iterable[Any]) -> list[Image]:
    """Return the other image layers that show the picture of a layer, as it was or restored."""
    from napari.layers import Image

    others = (one for one in layers if isinstance(one, Image) and one is not layer)
    return [one for one in others if picture_of(one) == picture_of(layer)]


def result_data(
    source: Image, plan: RunPlan, result: Result, coarser: Sequence[NDArray[Any]] = ()
) -> tuple[Any, dict[str, Any], str]:
    """Return data, arguments and type of the layer that shows a restored picture."""
    name = result_name(source.name, result.recipe.tasks) + (f", {plan.part.words}" if plan.part else "")
    return data_on(source, plan, [result.image, *coarser], name, result.to_dict() | about_part(plan.part))


def data_on(
    source: Image, plan: RunPlan, levels: Sequence[Any], name: str, about: Mapping[str, Any]
) -> tuple[Any, dict[str, Any], str]:
    """Return data, arguments and type of a layer exactly on what a plan takes of its source, with the same look."""
    place = plan.place if replaced(source, plan) else placement(source, plan.part)
    about = {**about, "picture": picture_of(source)}
    look = {**place, "name": name, "metadata": {**source.metadata, KEY: about}, "multiscale": len(levels) > 1}
    return levels if len(levels) > 1 else levels[0], look, "image"


def show_anew(layer: Image, result: Result, coarser: Sequence[NDArray[Any]] = ()) -> None:
    """Show a result that was blended anew in its layer."""
    layer.data = [result.image, *coarser] if layer.multiscale else result.image
    layer.metadata = {**layer.metadata, KEY: layer.metadata[KEY] | result.to_dict()}


def about_map(mapped: Mapped) -> dict[str, Any]:
    """Say how a map was made, for metadata."""
    card, qmap = mapped.model, mapped.map
    return {
        "software": f"napari-perceive-ir {VERSION}",
        "model": {"name": card.name, "version": card.version, "sha256": card.digest},
        "quality_map": {"window": qmap.window, "stride": qmap.stride},
    }


def add_map(viewer: Any, source: Image, qmap: QualityMap, axes: str, about: dict[str, Any]) -> Labels:
    """Add quality tiers on the picture that they judge; one cell covers stride x stride pixels."""
    from napari.layers import Labels

    layer = Labels(
        name=f"{source.name} quality",
        colormap=tier_colormap(),
        features=tier_features(qmap),
        metadata={KEY: about},
        opacity=0.5,
        **on_source(source, qmap, axes, qmap.tier_labels),
    )
    viewer.add_layer(layer)
    return layer


def is_map(layer: Any) -> bool:
    """Whether a layer shows a quality map."""
    return "quality_map" in layer.metadata.get(KEY, {})


def on_source(source: Image, qmap: QualityMap, axes: str, cells: NDArray[Any]) -> dict[str, Any]:
    """Return what makes a layer of cells (stack axes, h, w) that lies on the picture."""
    spatial = axes[: source.ndim]
    steps = {spatial.index("Y"): qmap.stride, spatial.index("X"): qmap.stride}
    data = spread_cells(cells, spatial, level0(source).shape)
    return {"data": data, "multiscale": False, **cell_placement(source, steps)}


def tier_colormap() -> dict[int | None, str]:
    """Return the colour of each label; None is every other."""
    return {None: "transparent"} | {n: TIER_COLOURS[tier] for n, tier in enumerate(TIERS, 1)}
