"""The parts of the Quality map dock: what to judge, what was found, and the planes of a stack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from magicgui.widgets import ComboBox
from napari.layers import Image
from qtpy.QtCore import Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QSlider, QVBoxLayout, QWidget

from napari_perceive_ir._forms import add_row, bare_form
from napari_perceive_ir._map_layers import SCORE_VIEW, TIER_VIEW, TYPE_VIEW, regions_in
from napari_perceive_ir._map_widgets import Legend, ScorePlot, Table
from napari_perceive_ir._picture_rows import choose_likeliest, pictures_in
from perceive_ir._windows import STRIDE, WINDOW, WINDOW_STEP

LARGEST_WINDOW = 2 * WINDOW
NOTHING = ""
"""Value of a choice that is no layer or view."""


class MapControls(QWidget):
    """Chooses an image layer and the size of the windows."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self.layer = ComboBox(choices=lambda _: pictures_in(viewer.layers))
        self.layer.tooltip = "The picture to judge; it stays as it is."
        self.layer.native.setPlaceholderText("no image layer yet")
        self.window_size = WindowSlider()
        form = bare_form(self)
        add_row(form, "&Layer", self.layer.native)
        add_row(form, "&Window", self.window_size)
        choose_likeliest(self.layer, viewer.layers)


class WindowSlider(QWidget):
    """Chooses among the window sizes that the model can take."""

    def __init__(self) -> None:
        super().__init__()
        self.slider, self._told = QSlider(Qt.Orientation.Horizontal), QLabel()
        self.slider.setRange(1, (LARGEST_WINDOW - STRIDE) // WINDOW_STEP)
        self.slider.setPageStep(1)
        self.slider.valueChanged.connect(lambda _: self._told.setText(f"{self.pixels()} px"))
        self.slider.setValue((WINDOW - STRIDE) // WINDOW_STEP)
        self.slider.setAccessibleName("Window")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.slider, 1)
        row.addWidget(self._told)
        self.setFocusProxy(self.slider)
        self.setToolTip("How much of the picture is judged at once: small shows finer places, large is surer.")

    def pixels(self) -> int:
        """Return the side of a window in pixels."""
        return STRIDE + WINDOW_STEP * self.slider.value()


class Findings(QWidget):
    """Shows what a map found: one of its views with a legend, and numbers, of a region and after a restoration."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self._results: Sequence[Image] = ()
        self.view = ComboBox(choices=[*((v, v) for v in (TIER_VIEW, SCORE_VIEW, TYPE_VIEW)), ("Nothing", NOTHING)])
        self.view.tooltip = "What lies over the picture; point at a place to read more in the status bar."
        self.legend = Legend()
        self.region = ComboBox(choices=self._regions)
        self.region.tooltip = "Where the numbers are taken: everywhere, or where shapes are drawn or labels painted."
        self.after = ComboBox(choices=self._restored)
        self.after.tooltip = "A restored result of this layer, judged in the same way."
        self.table = Table(["", "Before", "After"])
        self.table.setAccessibleName("Numbers of the map")
        self.table.setToolTip(
            "Share of the area in each tier; mean score, 0 low to 2 high; the commonest damage with its mean severity."
        )
        self.low_button, self.both_button = QPushButton("Restore only low"), QPushButton("Restore low and medium")
        self.low_button.setToolTip("Restore where the quality is low, in the Restore dock; the rest stays as it is.")
        self.both_button.setToolTip("Restore where the quality is low or medium; what is high stays as it is.")
        self._lay_out()
        self.view.changed.connect(self._follow_view)
        self._follow_view()

    def choose_view(self, view: str) -> None:
        """Show which view is on, without telling that it was chosen."""
        with self.view.changed.blocked():
            self.view.value = view
        self._follow_view()

    def offer(self, results: Sequence[Image]) -> None:
        """Offer results to compare with, and the regions that are there now."""
        self._results = results
        self.after.reset_choices()
        self.region.reset_choices()

    def _follow_view(self, _: Any = None) -> None:
        self.legend.show_view(self.view.value or None)

    def _regions(self, _: Any = None) -> list[tuple[str, Any]]:
        return [("Everywhere", NOTHING), *((layer.name, layer) for layer in regions_in(self._viewer.layers))]

    def _restored(self, _: Any = None) -> list[tuple[str, Any]]:
        return [("Nothing yet", NOTHING), *((layer.name, layer) for layer in self._results)]

    def _lay_out(self) -> None:
        form = bare_form(self)
        add_row(form, "S&how", self.view.native)
        form.addRow("", self.legend)
        add_row(form, "Re&gion", self.region.native)
        add_row(form, "&After", self.after.native)
        form.addRow(self.table)
        buttons = QHBoxLayout()
        buttons.addWidget(self.low_button)
        buttons.addWidget(self.both_button)
        form.addRow(buttons)


class Planes(QWidget):
    """Shows the score over the planes of a stack."""

    axis_chosen = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.axis = ComboBox(choices=[], tooltip="The axis of the stack along which the score is plotted.")
        self.plot = ScorePlot()
        self.worst_button = QPushButton("Go to the worst plane")
        self.worst_button.setToolTip("Show the plane with the lowest mean score of the whole stack.")
        self.axis.native.setAccessibleName("Score over")
        self._caption = QLabel("Score &over")
        self._caption.setBuddy(self.axis.native)
        row = QHBoxLayout()
        row.addWidget(self._caption)
        row.addWidget(self.axis.native, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.plot)
        layout.addWidget(self.worst_button)
        self.axis.changed.connect(lambda _: self.axis_chosen.emit())

    def offer(self, axes: Sequence[tuple[str, int]]) -> None:
        """Offer axes by title and number."""
        if [number for _, number in axes] == list(self.axis.choices):
            return
        with self.axis.changed.blocked():
            self.axis.choices = axes
