"""The traceback of an error of which the user is told one line: it may be a bug after all, so nothing is lost."""

from __future__ import annotations

import logging
import os
import traceback

DEBUG_VARIABLE = "PERCEIVE_IR_DEBUG"
"""Environment variable; set to 1, tracebacks are printed too."""

log = logging.getLogger("perceive_ir")


def keep_trace(error: BaseException) -> None:
    """Log the traceback at the level DEBUG, and print it where that was asked for."""
    log.debug("told in one line: %s", error, exc_info=error)
    if os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0"):
        traceback.print_exception(error)
