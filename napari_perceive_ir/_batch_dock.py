"""The Batch dock: a folder in, a folder out, with the Restore dock's recipe; the work is the command's."""

from pathlib import Path
from threading import Event as Flag
from typing import Any

from qtpy.QtCore import QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

from napari_perceive_ir._background import Job, load_early
from napari_perceive_ir._batch_controls import BatchControls
from napari_perceive_ir._batch_run import Listed, Paused, Reported, listing, working
from napari_perceive_ir._commands import opened_restore_dock
from napari_perceive_ir._estimate import duration
from napari_perceive_ir._file_list import FAILED, FileList
from napari_perceive_ir._forms import show_words, wrapped
from napari_perceive_ir._job_dock import JobDock
from napari_perceive_ir._run import MISTAKES, Failed, Progress
from napari_perceive_ir._trial import Trial
from perceive_ir import Recipe
from perceive_ir._advice import advice, one_line
from perceive_ir.batch import Event, report_path
from perceive_ir.batch import Progress as Count

RUNNING = "running"
SHOWN = (RUNNING, "done", "failed", "skipped")
"""States that are counted."""
PAUSE, RESUME = "Pause", "Resume"


class BatchDock(JobDock):
    """Restores all pictures of a folder in the background; what is done stays done, whatever interrupts it.

    Parameters
    ----------
    napari_viewer
        The viewer that shows previews.
    """

    looking = "Looking through the folder …"

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer)
        self.controls = BatchControls()
        like = recipe_beside(napari_viewer)
        if like is not None:
            self.controls.show_recipe(like)
        load_early(self, self.controls.recipe())
        self.list, self.counted, self.about = FileList(), wrapped(), wrapped()
        self.trial = Trial(self, napari_viewer)
        self.pause_button = QPushButton(PAUSE)
        self.try_button, self.retry_button = QPushButton("Preview"), QPushButton("Retry failed")
        self.report_button = QPushButton("Open report")
        self.buttons.insert(1, self.pause_button)
        self._going = Flag()
        self._count = Count(0)
        self._lister: Job | None = None
        self.run_button.setToolTip("Restore what is not done yet; it can be interrupted at any moment.")
        self.pause_button.setToolTip("Wait after the pictures at hand.")
        self.cancel_button.setToolTip("Stop after the pictures at hand: what is done stays, and Run goes on.")
        self.try_button.setToolTip("Restore the chosen picture into layers, before and after, without writing.")
        self.retry_button.setToolTip("Run, and try again what failed.")
        self.report_button.setToolTip("Every picture before and after, in the browser.")
        self.lay_out(
            "Restores the pictures of a folder into another one.",
            (self.controls,),
            (self.counted, self.list, self.about, self._row(self.try_button, self.retry_button, self.report_button)),
            tall=self.list,
        )
        self._connect()
        self.refresh()

    @property
    def ready(self) -> bool:
        """Whether folders are chosen."""
        return self.controls.folders.ready

    @property
    def paused(self) -> bool:
        """Whether the run waits, or will after the pictures at hand."""
        return self.running and not self.stopping and not self._going.is_set()

    def run(self, *, retry_failed: bool = False) -> None:
        """Restore what is not done yet of the chosen folder, in the background."""
        if self.running:
            return
        try:
            batch = self.controls.batch(retry_failed=retry_failed)
        except MISTAKES as error:
            self.tell(error)
            return
        if batch is None:
            return
        self._count = Count(0)
        self._going.set()
        self._stop_listing()
        self.list.files.forget_states()
        self.begin(f"Restoring {one_line(batch.source.name)}", working, batch, self._going)

    def pause(self) -> None:
        """Wait after the pictures at hand, or go on."""
        if self.paused:
            self._going.set()
        else:
            self._going.clear()
            self.say("Pausing after the pictures at hand …")
        self.show_state()

    def preview(self) -> None:
        """Restore the chosen picture without writing."""
        chosen = self.list.chosen
        if chosen is not None and not self.trial.running:
            self.trial.show(chosen.name, chosen.source, self.controls.recipe())
            self.show_state()

    def open_report(self) -> None:
        """Show the report in the browser."""
        report = self._report()
        if report is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(report)))

    def refresh(self) -> None:
        """List the folder anew, with what is known of its pictures."""
        self._stop_listing()
        if self.running:
            return
        try:
            batch = self.controls.batch()
        except MISTAKES as error:
            self._show_list((), advice(error))
            return
        if batch is None:
            self._show_list((), "")
            return
        job = self._lister = Job(self, "", listing, batch, visible=False)
        job.happened.connect(self._listed)
        job.start()

    def show_state(self) -> None:
        """Enable and show what fits the state of the job."""
        super().show_state()
        self.controls.setEnabled(not self.running)
        self.pause_button.setEnabled(self.running and not self.stopping)
        self.pause_button.setText(RESUME if self.paused else PAUSE)
        self.try_button.setEnabled(self.list.chosen is not None and not self.trial.running)
        self.retry_button.setEnabled(self.run_button.isEnabled() and self.list.files.counts[FAILED] > 0)
        self.report_button.setEnabled(not self.running and self._report() is not None)
        self._show_about()

    def _connect(self) -> None:
        controls = self.controls
        for changed in (controls.folders.changed, controls.options.changed):
            changed.connect(lambda: self.refresh())
        controls.task.changed.connect(lambda _: self._task_changed())
        self.pause_button.clicked.connect(lambda: self.pause())
        self.try_button.clicked.connect(lambda: self.preview())
        self.retry_button.clicked.connect(lambda: self.run(retry_failed=True))
        self.report_button.clicked.connect(lambda: self.open_report())
        self.list.wanted.connect(self.preview)
        self.list.chosen_changed.connect(self.show_state)
        self.list.files.dataChanged.connect(lambda *_: self._show_about())
        self.trial.said.connect(self._say_of_trial)
        self.trial.failed.connect(self.tell)
        self.trial.ended.connect(self.show_state)

    def _task_changed(self) -> None:
        """Names of results may hold the task."""
        if "{task}" in self.controls.options.name.text():
            self.refresh()

    def _say_of_trial(self, text: str) -> None:
        if not self.running:
            self.say(text)

    def _row(self, *buttons: QPushButton) -> QWidget:
        made = QWidget()
        row = QHBoxLayout(made)
        row.setContentsMargins(0, 0, 0, 0)
        for button in buttons:
            row.addWidget(button)
        return made

    def _report(self) -> Path | None:
        """Return the report of the chosen folder, if there is one."""
        output = self.controls.folders.output.path
        found = None if output is None else report_path(output)
        return found if found is not None and found.is_file() else None

    def _take(self, event: Any) -> None:
        if isinstance(event, Event):
            self._count = event.progress
            if event.name:
                self._settle(event)
        elif isinstance(event, Progress):
            self.progress.setRange(0, event.total)
            self.progress.setValue(event.done)
            if not self.paused:
                self.say(self._how_far())
        elif isinstance(event, Paused):
            self.say(f"Paused after {self._count.settled} of {self._count.total} pictures.")
        elif isinstance(event, Reported):
            self.say(f"{self._count.words()}; {duration(self.seconds())}.")

    def _settle(self, event: Event) -> None:
        state = RUNNING if event.state in ("started", "working") else event.state
        words = f"{event.fraction:.0%}" if event.state == "working" else event.words
        self.list.files.settle(event.name, state, words)
        self._show_counts()

    def _how_far(self) -> str:
        count = self._count
        left = "" if count.seconds_left is None else f" · about {duration(count.seconds_left)} left"
        failed = f" · {count.failed} failed" * bool(count.failed)
        return f"{count.settled} of {count.total} pictures{failed}{left}"

    def _kept(self) -> str:
        count = self._count
        return f"{count.settled} of {count.total} pictures are finished; Run goes on" if count.total else "nothing done"

    def _listed(self, event: Any) -> None:
        self._lister = None
        if isinstance(event, Listed):
            self._show_list(event.files, "")
        elif isinstance(event, Failed):
            self._show_list((), advice(event.error))
            if not isinstance(event.error, MISTAKES):
                raise event.error

    def _show_list(self, files: Any, problem: str) -> None:
        self.list.files.show_files(files)
        self._show_counts(problem)
        self.show_state()

    def _show_counts(self, problem: str = "") -> None:
        found = self.list.files.counts
        parts = ", ".join(f"{found[state]} {state}" for state in SHOWN if found[state])
        pictures = f"{found.total()} pictures{': ' * bool(parts)}{parts}" if found.total() else ""
        show_words(self.counted, problem or pictures)

    def _show_about(self) -> None:
        """Say of the chosen picture what its row may be too narrow for."""
        chosen = self.list.chosen
        show_words(
            self.about, f"{one_line(chosen.name)}: {chosen.words}" if chosen is not None and chosen.words else ""
        )

    def _stop_listing(self) -> None:
        if self._lister is not None:
            self._lister.cancel()
            self._lister = None

    def _ended(self) -> None:
        super()._ended()
        self.refresh()

    def _leave(self) -> None:
        self._stop_listing()
        self.trial.stop()


def recipe_beside(viewer: Any) -> Recipe | None:
    """Return what is chosen in the viewer's Restore dock, if that is open."""
    beside = opened_restore_dock(viewer)
    try:
        return None if beside is None else beside.controls.recipe()
    except MISTAKES:  # labels that are not painted yet
        return None
