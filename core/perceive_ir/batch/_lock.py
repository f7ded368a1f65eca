"""One run at a time in a folder: a lock that the kernel holds, and lets go of whatever ends the process."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

PATIENCE = 2.0
"""Seconds to wait for somebody who only looks into the folder, or writes its report."""
PAUSE = 0.02
"""Seconds between two tries."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, which is made if need be and stays; BlockingIOError if somebody else keeps it."""
    with open(path, "ab") as file:
        wait_for(file)
        yield  # closing the file lets go


def wait_for(file: IO[Any]) -> None:
    """Take the lock as soon as it is free."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return take(file)
        except BlockingIOError:
            if time.monotonic() > end:
                raise
        time.sleep(PAUSE)


if sys.platform == "win32":
    import msvcrt

    def take(file: IO[Any]) -> None:
        """Take the lock without waiting."""
        try:
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError(*error.args) from error
else:
    import fcntl

    def take(file: IO[Any]) -> None:
        """Take the lock without waiting."""
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
