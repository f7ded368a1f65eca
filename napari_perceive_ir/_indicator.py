"""napari's sign that something goes on, an animation in the status bar: each of its pictures draws the whole window.

Where no graphics card draws, that takes up to half of the processor. While a job is on, the sign is turned by the job.
"""

from __future__ import annotations

from collections.abc import Iterator

from qtpy.QtGui import QMovie
from qtpy.QtWidgets import QApplication, QLabel, QMainWindow, QStatusBar


def turn() -> None:
    """Show the next picture of every sign that is on, and let none go on by itself."""
    for sign in signs():
        if sign.state() != QMovie.MovieState.NotRunning:
            sign.setPaused(True)
            sign.jumpToNextFrame()


def let_go() -> None:
    """Let every sign that is on go on by itself."""
    for sign in signs():
        if sign.state() == QMovie.MovieState.Paused:
            sign.setPaused(False)


def signs() -> Iterator[QMovie]:
    """Return the animations in the status bars of all windows."""
    for window in QApplication.topLevelWidgets():
        for bar in window.findChildren(QStatusBar) if isinstance(window, QMainWindow) else ():
            yield from (movie for label in bar.findChildren(QLabel) if (movie := label.movie()) is not None)
