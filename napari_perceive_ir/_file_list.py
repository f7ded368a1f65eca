"""The list of a folder's pictures: thumbnails, states and reasons."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QAbstractListModel, QModelIndex, QObject, QSize, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QColor, QPixmap
from qtpy.QtWidgets import QAbstractItemView, QApplication, QStyle, QTreeView

from napari_perceive_ir._background import Job, raise_bug
from napari_perceive_ir._batch_run import Drawn, drawing
from perceive_ir import Recipe
from perceive_ir._advice import one_line

if TYPE_CHECKING:
    from perceive_ir.batch import Entry, Row

WAITING, FAILED = "waiting", "failed"
ICON = 44
"""Side of a thumbnail on the screen, in pixels."""
KEPT = 256
"""Thumbnails that are kept, at most."""
ASKED = 64
"""Thumbnails that are asked for at once, at most: what was scrolled past is forgotten."""
NOTHING = QModelIndex()


@dataclass(frozen=True)
class File:
    """A picture of the folder, and what is known of it."""

    name: str
    source: Path
    state: str = WAITING
    words: str = ""
    """What was seen, or why it failed or was skipped."""

    def text(self) -> str:
        """Say it in two lines."""
        return f"{one_line(self.name)}\n{self.state}{f': {self.words}' if self.words else ''}"


class FileList(QTreeView):  # a QListView would lay out all rows anew for every one that changes
    """Shows the pictures of a folder; a double click on one asks for a preview."""

    wanted = Signal()
    """The chosen picture was double-clicked."""
    chosen_changed = Signal()
    """Another picture is chosen, or none."""

    def __init__(self) -> None:
        super().__init__()
        self.files = Files(self)
        self.setModel(self.files)
        self.setIconSize(QSize(ICON, ICON))
        self.setHeaderHidden(True)
        self.setRootIsDecorated(False)
        self.setUniformRowHeights(True)  # a folder may hold very many
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setTextElideMode(Qt.TextElideMode.ElideRight)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setMinimumHeight(5 * ICON)
        self.setAccessibleName("Pictures")
        self.setToolTip("The pictures that are taken and what became of them; a double click previews one.")
        self.doubleClicked.connect(lambda _: self.wanted.emit())
        selection: Any = self.selectionModel()
        selection.selectionChanged.connect(lambda *_: self.chosen_changed.emit())
        self.files.modelReset.connect(self.chosen_changed.emit)

    @property
    def chosen(self) -> File | None:
        """The picture that is chosen."""
        found = self.selectedIndexes()
        return self.files.at(found[0]) if found else None


class Files(QAbstractListModel):
    """The pictures of a folder, by name."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._files: list[File] = []
        self._places: dict[str, int] = {}
        self._sources: dict[Path, int] = {}
        self.counts: Counter[str] = Counter()
        """How many pictures are in each state."""
        self._warning = warning()
        self._thumbnails = Thumbnails(self)
        self._thumbnails.ready.connect(self._redraw)

    def at(self, index: QModelIndex) -> File:
        """Return a picture."""
        return self._files[index.row()]

    def show_files(self, found: Iterable[tuple[Entry, Row]]) -> None:
        """Show other pictures, or the same ones as they are known now."""
        files = [File(entry.name, entry.source, row.state, row.words) for entry, row in found]
        self.counts = Counter(file.state for file in files)
        if [file.source for file in files] == [file.source for file in self._files]:
            self._files = files
            self.dataChanged.emit(self.index(0), self.index(len(files) - 1))
            return
        self.beginResetModel()
        self._files = files
        self._places = {file.name: place for place, file in enumerate(files)}
        self._sources = {file.source: place for place, file in enumerate(files)}
        self._thumbnails.clear()
        self.endResetModel()

    def settle(self, name: str, state: str, words: str) -> None:
        """Show what happened to a picture."""
        place = self._places.get(name)
        if place is not None:  # it may be new in the folder
            self.counts.subtract([self._files[place].state])
            self.counts.update([state])
            self._files[place] = replace(self._files[place], state=state, words=words)
            self.dataChanged.emit(self.index(place), self.index(place))

    def forget_states(self) -> None:
        """All wait, because a run begins."""
        self._files = [replace(file, state=WAITING, words="") for file in self._files]
        self.counts = Counter({WAITING: len(self._files)})
        if self._files:
            self.dataChanged.emit(self.index(0), self.index(len(self._files) - 1))

    def rowCount(self, parent: QModelIndex = NOTHING) -> int:
        """Say how many there are."""
        return 0 if parent.isValid() else len(self._files)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return what stands in a row; a thumbnail is made once somebody sees it."""
        if not index.isValid():
            return None
        file, roles = self.at(index), Qt.ItemDataRole
        if role == roles.DisplayRole:
            return file.text()
        if role == roles.ToolTipRole:
            return f"{one_line(file.source)}\n{file.text().partition(chr(10))[2]}"
        if role == roles.DecorationRole:
            return self._warning if file.state == FAILED else self._thumbnails.of(file.source)
        return None

    def _redraw(self, source: Path) -> None:
        place = self._sources.get(source)
        if place is not None:  # another folder may be shown by now
            self.dataChanged.emit(self.index(place), self.index(place), [Qt.ItemDataRole.DecorationRole])


def warning() -> QPixmap:
    """Return the sign that stands before what failed."""
    style = QApplication.style()
    assert style is not None
    return style.standardIcon(QStyle.StandardPixmap.SP_MessageBoxWarning).pixmap(ICON, ICON)


class Thumbnails(QObject):
    """Small pictures of files, made in the background when they are asked for, and a bounded number of them kept."""

    ready = Signal(object)
    """A thumbnail is there: its path."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._blank = QPixmap(ICON, ICON)
        self._blank.fill(QColor(0, 0, 0, 0))
        self._made: OrderedDict[Path, QPixmap] = OrderedDict()
        self._wanted: deque[Path] = deque(maxlen=ASKED)
        self._job: Job | None = None

    def of(self, source: Path) -> QPixmap:
        """Return a thumbnail, or for now a blank one."""
        made = self._made.get(source)
        if made is not None:
            self._made.move_to_end(source)
            return made
        if source not in self._wanted.copy():  # which the thread takes from meanwhile
            self._wanted.append(source)
            self._begin()
        return self._blank

    def clear(self) -> None:
        """Forget all, because other files are shown."""
        self._wanted.clear()
        self._made.clear()

    def _begin(self) -> None:
        if self._job is None and self._wanted:
            self._job = Job(self, "", drawing, self._wanted, Recipe(), visible=False)
            self._job.happened.connect(self._keep)
            self._job.ended.connect(self._ended)
            self._job.start()

    def _keep(self, event: Any) -> None:
        if not isinstance(event, Drawn):
            raise_bug(event)
            return
        self._made[event.source] = self._pixmap(event.jpeg)
        if len(self._made) > KEPT:
            self._made.popitem(last=False)
        self.ready.emit(event.source)

    def _pixmap(self, jpeg: bytes) -> QPixmap:
        whole = QPixmap()
        if not whole.loadFromData(jpeg):
            return self._blank
        modes = Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
        return whole.scaled(ICON, ICON, *modes)

    def _ended(self) -> None:
        self._job = None
        self._begin()
