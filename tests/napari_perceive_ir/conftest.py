"""A tiny model with random weights under the default name, a way to hold a run between two events, and hands."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import vispy  # noqa: F401
from numpy.typing import NDArray

from perceive_ir._triton import without_triton

with without_triton():  # the pages that train, and spandrel's own networks, import it after windows have drawn
    import torch._dynamo  # noqa: F401

if TYPE_CHECKING:
    from napari_perceive_ir._dock import RestoreDock

LONG = 60_000
"""Milliseconds that a busy machine may need."""
SIZES = {"widths": (8, 8, 16), "encoder_blocks": (1, 1, 1), "decoder_blocks": (1, 1)}
TOWER = {"widths": (4, 4, 8, 8)}


def picture(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def names(viewer: Any) -> list[str]:
    return [layer.name for layer in viewer.layers]


def with_cells(viewer: Any, *shape: int) -> Any:
    """Add the picture that most tests restore or judge."""
    viewer.add_image(picture(*shape), name="cells", scale=(0.5, 0.25), units=("um", "um"))
    return viewer


def docked(viewer: Any, qtbot: Any, **recipe_fields: Any) -> RestoreDock:
    """Open a Restore dock without a window around it, in which a recipe is chosen."""
    from napari_perceive_ir._dock import RestoreDock
    from perceive_ir import Recipe

    dock = RestoreDock(viewer)
    qtbot.addWidget(dock)
    dock.show()
    dock.controls.show_recipe(Recipe(**recipe_fields))
    return dock


def click(qtbot: Any, button: Any) -> None:
    from qtpy.QtCore import QPoint, Qt

    qtbot.mouseClick(button, Qt.MouseButton.LeftButton, pos=QPoint(10, button.height() // 2))


def finish(qtbot: Any, *docks: Any) -> None:
    """Wait until docks are done."""
    qtbot.waitUntil(lambda: not any(dock.running for dock in docks), timeout=LONG)


def hold(qtbot: Any, dock: Any, gate: Gate) -> None:
    """Press the button that begins and wait until the gate holds the job."""
    click(qtbot, dock.run_button)
    qtbot.waitUntil(lambda: gate.at in gate.seen, timeout=LONG)


def listed(window: Any) -> list[str]:
    """Return the layers in napari's list that a person sees, from the bottom up."""
    from qtpy.QtCore import Qt
    from qtpy.QtWidgets import QListView

    (view,) = [one for one in window.findChildren(QListView) if "Layer" in type(one).__name__]
    rows = [row for row in reversed(range(view.model().rowCount())) if not view.isRowHidden(row)]
    return [view.model().index(row, 0).data(Qt.ItemDataRole.UserRole).name for row in rows]


@pytest.fixture
def size() -> tuple[int, int]:
    """Height and width of the picture; a file that needs others has its own."""
    return 48, 40


@pytest.fixture
def viewer(size: tuple[int, int]) -> Any:
    """A viewer without a window, which most of a dock does not need."""
    from napari.components import ViewerModel

    return with_cells(ViewerModel(), *size)


@pytest.fixture
def window(make_napari_viewer_proxy: Callable[..., Any], size: tuple[int, int]) -> Any:
    """A viewer with a window, as napari hands it to plugins."""
    return with_cells(make_napari_viewer_proxy(), *size)


@pytest.fixture(autouse=True)
def no_thread_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    if "qtbot" not in request.fixturenames:
        yield
        return
    request.getfixturevalue("qtbot")  # which closes its widgets after this
    from qtpy.QtCore import QThreadPool

    yield
    assert QThreadPool.globalInstance().waitForDone(LONG)


@pytest.fixture
def delete_after() -> Iterator[Callable[[Any], None]]:
    """Deletes docks after a test, those out of their window: a binding of Qt may keep what is connected for ever."""
    from qtpy.QtCore import QCoreApplication, QEvent

    docks: list[Callable[[], Any]] = []
    yield lambda dock: docks.append(weakref.ref(dock))
    for dock in docks:
        if (left := dock()) is not None:
            left.deleteLater()
            QCoreApplication.sendPostedEvents(left, QEvent.Type.DeferredDelete)


@pytest.fixture(scope="session")
def weights_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    from perceive_ir._weights import Card, load_system, save_system
    from perceive_ir.networks import System, SystemConfig

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    system = System(SystemConfig(sizes=SIZES, tower=TOWER, semantics=False))  # as the shipped one
    save_system(folder / "compact.safetensors", system, Card("compact", "test"))
    load_system(folder / "compact.safetensors")  # a test of its own says what loading may import beside OpenGL
    return folder


@pytest.fixture(autouse=True)
def tiny_model(weights_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from perceive_ir._catalogue import FOLDER_VARIABLE, loaded

    monkeypatch.setenv(FOLDER_VARIABLE, str(weights_folder))
    loaded.cache_clear()
    yield
    loaded.cache_clear()


@pytest.fixture(autouse=True)
def no_preferences(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's own settings out of the tests, and the tests out of them."""
    monkeypatch.setattr("napari_perceive_ir._preferences.settings", lambda: None)
    monkeypatch.setattr("napari_perceive_ir._compute.settings", lambda: None)


class Gate:
    """Holds a run after its event ``at``, come for the ``after``-th time, until it is opened; remembers the events."""

    def __init__(self, events: Callable[..., Iterator[Any]]) -> None:
        self.events = events
        self.at, self.after = "Seen", 1
        self.opened = threading.Event()
        self.seen: list[str] = []

    def __call__(self, *args: Any) -> Iterator[Any]:
        for event in self.events(*args):
            name = type(event).__name__
            self.seen.append(name)
            yield event
            # its own event, not the newest: several runs may be in here at once
            if name == self.at and self.seen.count(name) >= self.after:
                assert self.opened.wait(60)


@pytest.fixture
def put_gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Gate]]:
    """Puts a gate in the place of a generator of events, to be opened at the end."""
    gates: list[Gate] = []

    def make(module: Any, name: str, at: str) -> Gate:
        gates.append(Gate(getattr(module, name)))
        gates[-1].at = at
        monkeypatch.setattr(module, name, gates[-1])
        return gates[-1]

    yield make
    for held in gates:
        held.opened.set()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    from napari_perceive_ir import _dock
    from napari_perceive_ir._run import restoring

    held = Gate(restoring)
    monkeypatch.setattr(_dock, "restoring", held)
    yield held
    held.opened.set()


@pytest.fixture
def notices() -> Iterator[list[str]]:
    """The notifications that napari shows."""
    from napari.utils.notifications import notification_manager

    shown: list[str] = []

    def remember(notice: Any) -> None:
        shown.append(f"{notice.severity}: {notice.message}")

    notification_manager.notification_ready.connect(remember)
    yield shown
    notification_manager.notification_ready.disconnect(remember)


@pytest.fixture
def windowless_camera() -> None:
    """Skip where a viewer without a window does not know what its camera shows, which is so before napari 0.9."""
    from napari.components import ViewerModel

    if "canvas" not in ViewerModel.model_fields:
        pytest.skip("before napari 0.9 a viewer without a window shows all")
