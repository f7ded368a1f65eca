"""What the user sees: lines without surprises, one line per error, and a progress bar where there is a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from perceive_ir._advice import one_line
from perceive_ir._trace import keep_trace

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT."""
WIDE = 240
"""Columns of a table that goes to a file or a pipe."""


def console(*, stderr: bool = False) -> Console:
    """Return a console that prints text as it is; a table in a pipe is not cut at 80 columns."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else WIDE
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=True, width=width)


def say(text: str) -> None:
    """Print one line of result."""
    console().print(one_line(text))


def complain(text: str) -> None:
    """Print one line about what went wrong."""
    console(stderr=True).print(one_line(text))


def complain_of(error: BaseException, who: str, why: str) -> None:
    """Print one line about an expected error; its traceback is kept."""
    complain(f"{who}: {why}")
    keep_trace(error)


def say_table(table: Any) -> None:
    """Print a table; cells wrap where the terminal is narrow."""
    console().print(table, soft_wrap=False)


def say_json(value: Any) -> None:
    """Print JSON, with nothing else on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, allow_nan=False) + "\n")


@contextmanager
def progress() -> Iterator[Progress]:
    """Yield a progress bar on stderr; it vanishes when it is done, and is not there without a terminal."""
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Count(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(
                "looking" if task.total is None else f"{int(task.completed)}/{task.total} {task.fields['unit']}"
            )

    there = console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), Count(), TimeRemainingColumn())
    with Progress(*columns, console=there, transient=True, disable=not there.is_terminal) as bar:
        yield bar
