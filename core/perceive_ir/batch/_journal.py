"""The journal: what became of every picture, in SQLite in a hidden folder inside the output folder.

A picture is known by the hashes of its content, of the recipe and of the weights. It is entered as done only when its
result is safely in place, so after a kill at any moment the journal claims nothing that is not there.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

from perceive_ir._advice import reason
from perceive_ir._errors import FolderError, remedy
from perceive_ir.batch._lock import locked

HIDDEN = ".perceive-ir"
"""Folder inside the output folder, for journal, lock and report."""
STATES = ("waiting", "done", "failed", "skipped")
VERSION = 2
SCHEMA = """
CREATE TABLE files (
    name TEXT PRIMARY KEY, target TEXT, state TEXT, content TEXT, recipe TEXT, weights TEXT, reason TEXT, size INTEGER,
    about TEXT, before BLOB, after BLOB, run INTEGER
);
CREATE TABLE outputs (path TEXT PRIMARY KEY, source TEXT);
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT);
"""


class Key(NamedTuple):
    """What a result follows from: SHA-256 of the picture's bytes, of the recipe, of the weights."""

    content: str = ""
    recipe: str = ""
    weights: str = ""


NOTHING = Key()


@dataclass(frozen=True)
class Row:
    """What became of one picture."""

    name: str
    """Its path below the input folder, with ``/``."""
    target: str
    """The path of its result below the output folder, with ``/``."""
    state: str = "waiting"
    key: Key = NOTHING
    reason: str = ""
    """Why it failed or was skipped."""
    size: int = 0
    """Bytes of the result."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """What was seen before and after, notes and seconds, for the report."""
    before: bytes = b""
    """A thumbnail, JPEG; `Journal.rows` leaves it out."""
    after: bytes = b""

    @property
    def words(self) -> str:
        """Why it failed or was skipped, else what was seen."""
        return self.reason or str(self.about.get("before", {}).get("words", ""))


class Journal:
    """The journal of an output folder, held by one run at a time; use it in a ``with`` statement.

    Parameters
    ----------
    output
        The output folder; it is made if need be.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.folder = output / HIDDEN
        self.closing = ExitStack()
        self.number = 0
        """The number of this run."""

    def __enter__(self) -> Self:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.closing.enter_context(locked(self.folder / "lock"))
        except BlockingIOError:
            raise FolderError(
                f"{self.output} is being worked on by another run; wait until it ends, or give another folder"
            ) from None
        except OSError as error:
            raise FolderError(
                f"{self.output} cannot be written into: {reason(error)}; {remedy(error) or 'give another folder'}"
            ) from error
        try:
            self.connect()
        except BaseException:
            self.closing.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.close()

    def connect(self) -> None:
        """Open the file; an empty one becomes a journal."""
        with self.told():
            self.file = sqlite3.connect(self.folder / "journal.sqlite", isolation_level=None)
            self.closing.callback(self.file.close)
            # Nobody else is let in, so no memory is shared: this works on network drives too.
            self.file.execute("PRAGMA locking_mode = EXCLUSIVE")
            self.file.execute("PRAGMA journal_mode = WAL")
            self.file.execute("PRAGMA synchronous = NORMAL")
            (version,) = self.file.execute("PRAGMA user_version").fetchone()
            if not version:
                self.file.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT")
        if version not in (0, VERSION):
            raise FolderError(f"the journal in {self.folder} is of another version of the program; give another folder")

    @contextmanager
    def told(self) -> Iterator[None]:
        """Say in one line what SQLite refuses."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            full = isinstance(error, sqlite3.OperationalError)
            advice = "make room, and run again" if full else f"delete {self.folder} to begin anew"
            raise FolderError(f"the journal in {self.folder} cannot be used: {error}; {advice}") from error

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Write what follows whole or not at all."""
        with self.told():
            self.file.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self.file.execute("ROLLBACK")
                raise
            self.file.execute("COMMIT")

    def settle(self, name: str, value: Callable[[], str]) -> str:
        """Return what was settled by an earlier run, or settle it now."""
        with self.told():
            found = self.file.execute("SELECT value FROM settings WHERE name = ?", [name]).fetchone()
            if found is None:
                found = (value(),)
                self.file.execute("INSERT INTO settings VALUES (?, ?)", [name, found[0]])
        return str(found[0])

    def note(self, name: str, value: str) -> None:
        """Keep a value, in the place of an earlier one."""
        with self.told():
            self.file.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", [name, stored(value)])

    def noted(self, name: str) -> str:
        """Return a value that was kept, or ""."""
        with self.told():
            found = self.file.execute("SELECT value FROM settings WHERE name = ?", [name]).fetchone()
        return "" if found is None else shown(found[0])

    def outputs(self) -> dict[str, str]:
        """Paths below the output folder that this folder's runs wrote or were about to write, and of which pictures."""
        with self.told():
            return {shown(path): shown(of) for path, of in self.file.execute("SELECT path, source FROM outputs")}

    def begin(self, rows: Iterable[Row], source: Path) -> None:
        """Begin a run: enter all its pictures, and claim the places of their results before the first is written."""
        with self.at_once():
            (last,) = self.file.execute("SELECT coalesce(max(run), 0) FROM files").fetchone()
            self.number = last + 1
            for row in rows:
                name, target = stored(row.name), stored(row.target)
                self.file.execute(
                    "INSERT INTO files (name, target, state, run) VALUES (?, ?, 'waiting', ?) "
                    "ON CONFLICT (name) DO UPDATE SET run = excluded.run",
                    [name, target, self.number],
                )
                if row.state == "waiting":
                    picture = stored(os.path.abspath(source / row.name))
                    self.file.execute("INSERT OR REPLACE INTO outputs VALUES (?, ?)", [target, picture])

    def put(self, row: Row) -> None:
        """Enter what became of a picture."""
        values = [
            stored(row.name), stored(row.target), row.state, *row.key, row.reason, row.size,
            json.dumps(dict(row.about)), row.before, row.after, self.number,
        ]  # fmt: skip
        with self.told():
            self.file.execute(f"INSERT OR REPLACE INTO files VALUES ({', '.join('?' * len(values))})", values)

    def row(self, name: str) -> Row | None:
        """Return what is known of one picture, without thumbnails."""
        found = self.select("WHERE name = ?", stored(name))
        return found[0] if found else None

    def rows(self, *, latest: bool = False) -> list[Row]:
        """Return what is known of all pictures, or of those of the last run, without thumbnails."""
        return self.select("WHERE run = (SELECT max(run) FROM files)" if latest else "")

    def select(self, chosen: str, *values: str | bytes) -> list[Row]:
        """Return what is known of chosen pictures."""
        with self.told():
            found = self.file.execute(
                f"SELECT name, target, state, content, recipe, weights, reason, size, about FROM files {chosen} "
                "ORDER BY rowid",
                values,
            ).fetchall()
        abouts = json.loads(f"[{','.join(about or '{}' for *_, about in found)}]")  # at once: they share their words
        return [
            Row(
                shown(name), shown(target), state, Key(*(part or "" for part in key)), why or "", size or 0, about,
            )
            for (name, target, state, *key, why, size, _), about in zip(found, abouts, strict=True)
        ]  # fmt: skip

    def thumbnails(self, name: str) -> tuple[bytes, bytes]:
        """Return the thumbnails of a picture before and after."""
        with self.told():
            found = self.file.execute("SELECT before, after FROM files WHERE name = ?", [stored(name)]).fetchone()
        before, after = found or (b"", b"")
        return before or b"", after or b""


def stored(name: str) -> str | bytes:
    """Return a name as it is kept: as text, or as bytes where it is no text (a wrong encoding)."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name)
    return name


def shown(name: str | bytes) -> str:
    """Return a name that was kept."""
    return os.fsdecode(name) if isinstance(name, bytes) else name
