"""A quality map as layers: tiers, score and damage; and which layers of a viewer belong to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_perceive_ir._axes import letter, stack_axes
from napari_perceive_ir._layers import KEY, about_map, add_map, is_map, on_source
from napari_perceive_ir._overlay import is_overlay
from napari_perceive_ir._placement import level0
from napari_perceive_ir._preview import looked_with
from napari_perceive_ir._region import world_matrix
from napari_perceive_ir._run import Mapped, RunPlan
from napari_perceive_ir._statistics import type_features
from perceive_ir._vocabulary import TIERS, TYPES
from perceive_ir._windows import STRIDE, WINDOW

if TYPE_CHECKING:
    from napari.layers import Image, Labels

    from perceive_ir import QualityMap

TIER_VIEW, SCORE_VIEW, TYPE_VIEW = "Quality tiers", "Score", "Damage"
"""What can be shown of a map."""
SCORE_COLORMAP = "viridis"
SCORE_LIMITS = (0, len(TIERS) - 1)
_OKABE_ITO = ("#D55E00", "#999999", "#0072B2", "#56B4E9", "#009E73", "#CC79A7", "#E69F00", "#F0E442")
TYPE_COLOURS = dict(zip(TYPES, _OKABE_ITO, strict=True))
"""Colours that colour-blind eyes tell apart, by Okabe and Ito."""


@dataclass(frozen=True)
class Judged:
    """A layer and its quality map, with the layers that show it."""

    source: Image
    plan: RunPlan
    mapped: Mapped
    views: Mapping[str, Any]
    """The layer of each view."""

    @property
    def map(self) -> QualityMap:
        """The quality map."""
        return self.mapped.map

    @property
    def stack(self) -> tuple[int, ...]:
        """Axes of the layer that are axes of its stack, in the order of the map."""
        axes = self.plan.recipe.axes
        return tuple(axes.index(a) for a in stack_axes(axes[: self.source.ndim], self.map.score.ndim - 2))

    def axis_title(self, axis: int) -> str:
        """Name an axis of the layer."""
        return letter(self.source.axis_labels[axis]) or f"axis {axis}"

    def plane_at(self, point: Iterable[float]) -> tuple[int, ...]:
        """Return which plane of the stack lies at a point of the world."""
        place = np.rint(self.source.world_to_data(list(point)[-self.source.ndim :])).astype(int)
        lengths = self.map.score.shape
        return tuple(int(np.clip(place[axis], 0, lengths[n] - 1)) for n, axis in enumerate(self.stack))

    def point_of(self, place: tuple[int, ...]) -> dict[int, float]:
        """Return where a plane of the stack lies in the world: a coordinate for each axis of the stack."""
        index = np.zeros(self.source.ndim)
        index[list(self.stack)] = place
        point = self.source.data_to_world(index)
        return {axis: float(point[axis]) for axis in self.stack}


def judge(viewer: Any, source: Image, plan: RunPlan, mapped: Mapped) -> Judged:
    """Add the layers of a map and show its tiers."""
    axes = plan.recipe.axes
    views = {
        SCORE_VIEW: add_score(viewer, source, mapped, axes),
        TYPE_VIEW: add_types(viewer, source, mapped, axes),
        TIER_VIEW: add_map(viewer, source, mapped.map, axes, about_map(mapped)),
    }
    return Judged(source, plan, mapped, views)


def with_map(plan: RunPlan, judged: Judged) -> RunPlan:
    """Return a plan that judges nothing again where a map shows what it would find."""
    same = plan.array is judged.plan.array and looked_with(plan.recipe) == looked_with(judged.plan.recipe)
    return replace(plan, maps=judged.map.by_plane()) if same and plan.part is None and is_usual(judged.map) else plan


def is_usual(qmap: QualityMap) -> bool:
    """Whether a map has the windows with which a restoration judges."""
    return (qmap.window, qmap.stride) == (WINDOW, STRIDE)


def add_score(viewer: Any, source: Image, mapped: Mapped, axes: str) -> Image:
    """Add the score of each cell as a heat map, hidden."""
    from napari.layers import Image

    layer = Image(
        name=f"{source.name} score",
        colormap=SCORE_COLORMAP,
        contrast_limits=SCORE_LIMITS,
        interpolation2d="linear",
        metadata={KEY: about_map(mapped)},
        opacity=0.7,
        rgb=False,
        visible=False,
        **on_source(source, mapped.map, axes, mapped.map.score),
    )
    viewer.add_layer(layer)
    return layer


def add_types(viewer: Any, source: Image, mapped: Mapped, axes: str) -> Labels:
    """Add the likeliest type of damage of each cell, hidden."""
    from napari.layers import Labels

    layer = Labels(
        name=f"{source.name} damage",
        colormap=type_colormap(),
        features=type_features(mapped.map),
        metadata={KEY: about_map(mapped)},
        opacity=0.6,
        visible=False,
        **on_source(source, mapped.map, axes, mapped.map.type_labels),
    )
    viewer.add_layer(layer)
    return layer


def type_colormap() -> dict[int | None, str]:
    """Return the colour of each label of the types; None is every other."""
    return {None: "transparent"} | dict(enumerate(TYPE_COLOURS.values(), 1))


def show_view(viewer: Any, judged: Judged, view: str | None) -> None:
    """Show one view of a map, or none, and make it active: napari tells what is under the mouse of the active layer."""
    for name, layer in judged.views.items():
        layer.visible = name == view
    layer = judged.views.get(view, judged.source) if view else judged.source
    if layer in viewer.layers:
        viewer.layers.selection.active = layer


def visible_view(judged: Judged) -> str | None:
    """Return which view of a map is shown."""
    return next((name for name, layer in judged.views.items() if layer.visible), None)


def remove_views(viewer: Any, judged: Judged) -> None:
    """Take the layers of a map away, as far as they are still there."""
    for layer in judged.views.values():
        if layer in viewer.layers:
            viewer.layers.remove(layer)


def results_on(source: Image, layers: Iterable[Any]) -> list[Image]:
    """Return restored pictures that lie exactly on a layer, the newest first."""
    return [layer for layer in reversed(list(layers)) if is_result(layer) and lies_on(layer, source)]


def is_result(layer: Any) -> bool:
    """Whether a layer was restored."""
    return "recipe" in layer.metadata.get(KEY, {})


def lies_on(layer: Any, source: Image) -> bool:
    """Whether another layer has the same shape on the same place."""
    if layer is source or level0(layer).shape != level0(source).shape or layer.rgb != source.rgb:
        return False
    return np.allclose(world_matrix(layer), world_matrix(source))


def named_after(source: Image, results: Iterable[Image]) -> Image | None:
    """Return the newest result whose name says that it was made of a layer."""
    return next((one for one in results if one.name.startswith(f"{source.name} ")), None)


def regions_in(layers: Iterable[Any]) -> list[Any]:
    """Return the layers that can give a region of interest: shapes, and labels other than maps."""
    from napari.layers import Labels, Shapes

    return [
        layer for layer in layers if isinstance(layer, (Shapes, Labels)) and not (is_map(layer) or is_overlay(layer))
    ]
