"""The errors of the project.

User mistakes (a wrong value, a wrong type) are ``ValueError`` and ``TypeError``. What the world did is a child of
:class:`PerceiveIRError`::

    PerceiveIRError
    ├── ImageFileError         a file that cannot be read or written as a picture
    ├── WeightsError           a weights file that is missing, foreign, truncated or tampered with
    ├── MissingExtraError      an optional dependency is not installed
    ├── NotEnoughMemoryError   even the smallest tile does not fit
    ├── FolderError            a folder that cannot be worked on: busy, full, or its journal is damaged
    └── ClusterError           a scheduler that does not answer, or workers that do not fit
"""

from __future__ import annotations

import errno


class PerceiveIRError(Exception):
    """Something outside the program went wrong; the message says what to do."""


class ImageFileError(PerceiveIRError):
    """A file cannot be read or written as a picture."""


class WeightsError(PerceiveIRError):
    """A weights file is missing, foreign, truncated or tampered with."""


class MissingExtraError(PerceiveIRError):
    """An optional dependency is not installed."""


class NotEnoughMemoryError(PerceiveIRError):
    """Even the smallest tile does not fit into the device's memory."""


class FolderError(PerceiveIRError):
    """A folder cannot be worked on as a whole: another run is at it, the disk is full, its journal is damaged."""


class ClusterError(PerceiveIRError):
    """A scheduler does not answer, or its workers cannot do the work alike."""


_REMEDIES = {
    errno.ENOENT: "check its name",
    errno.ENOTDIR: "check its name",
    errno.ELOOP: "mend the link",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EACCES: "change its permissions",
    errno.EPERM: "change its permissions",
    errno.EROFS: "give another place",
    errno.ENOSPC: "make room, or give another place",
}


def remedy(error: BaseException) -> str:
    """Return what to do about an error of the operating system, which does not say so itself; "" for any other."""
    if isinstance(error, MemoryError):
        return "free some, or give smaller pictures"
    if isinstance(error, OSError) and error.errno:
        return _REMEDIES.get(error.errno, "check the disk and try again")
    return ""
