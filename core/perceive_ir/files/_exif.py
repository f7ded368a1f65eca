"""EXIF blocks: read the orientation, add a text without touching a byte of what is there.

A block is a small TIFF: byte order, offset of the first directory, directories of 12-byte entries. Rewriting one breaks
the offsets inside of camera makers' notes, so a changed directory is appended to the end and the pointer to it bent.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

IMAGE_DESCRIPTION, ORIENTATION, EXIF_IFD, USER_COMMENT = 0x010E, 0x0112, 0x8769, 0x9286
_ASCII, _SHORT, _LONG, _UNDEFINED = 2, 3, 4, 7
_EMPTY = b"II*\0\x08\0\0\0\0\0\0\0\0\0"
_CODES = (b"ASCII\0\0\0", b"UNICODE\0", b"JIS\0\0\0\0\0", b"\0" * 8)
_PREFIX = b"Exif\0\0"
LONGEST = 65000
"""A JPEG holds its EXIF in one segment of 64 KiB."""


@dataclass(frozen=True)
class _Directory:
    """Entries by tag, as (type, count, the four bytes of value or offset), and the offset of the next directory."""

    entries: dict[int, tuple[int, int, bytes]]
    following: int


def strip(block: bytes | None) -> bytes | None:
    """The block from its byte order on; None if there is none."""
    return (block or b"").removeprefix(_PREFIX) or None


def orientation(block: bytes | None) -> int:
    """The orientation tag, 1 (upright) to 8; 1 where there is none or the block is broken."""
    try:
        order, first = _head(block or _EMPTY)
        kind, _, value = _directory(block or _EMPTY, order, first).entries[ORIENTATION]
        number = int(struct.unpack_from(order + "H", value)[0]) if kind == _SHORT else 1
    except (KeyError, struct.error, ValueError):
        return 1
    return number if 1 <= number <= 8 else 1


def with_orientation(number: int) -> bytes | None:
    """A block that says nothing but the orientation; None for an upright picture."""
    if number == 1:
        return None
    return _EMPTY[:8] + struct.pack("<HHHIHHI", 1, ORIENTATION, _SHORT, 1, number, 0, 0)


def texts(block: bytes | None) -> list[str]:
    """The user comment and the image description, where they are."""
    try:
        order, first = _head(block or _EMPTY)
        top = _directory(block or _EMPTY, order, first)
        sub = _sub(block or _EMPTY, order, top)
        found = [_bare(_value(block or _EMPTY, order, sub, USER_COMMENT))]
        found.append(_value(block or _EMPTY, order, top, IMAGE_DESCRIPTION))
    except (struct.error, ValueError):
        return []
    return [text.rstrip(b"\0 ").decode("utf-8", "replace") for text in found if text.strip(b"\0 ")]


def with_text(block: bytes | None, text: str, ours: str) -> bytes | None:
    """The block with `text` as its user comment, or as its image description if the comment is taken.

    A text that starts with `ours` may be replaced. None: both are taken, the block is broken, or it gets too long.
    """
    block = block or _EMPTY
    try:
        order, first = _head(block)
        top = _directory(block, order, first)
        sub = _sub(block, order, top)
        if _is_free(_value(block, order, sub, USER_COMMENT), ours):
            block, entry = _append(block, order, _UNDEFINED, _CODES[0] + text.encode("ascii"))
            block, offset = _append_directory(block, order, sub, USER_COMMENT, entry)
            block, first = _append_directory(block, order, top, EXIF_IFD, (_LONG, 1, struct.pack(order + "I", offset)))
        elif _is_free(_value(block, order, top, IMAGE_DESCRIPTION), ours):
            block, entry = _append(block, order, _ASCII, text.encode("ascii") + b"\0")
            block, first = _append_directory(block, order, top, IMAGE_DESCRIPTION, entry)
        else:
            return None
    except (struct.error, ValueError):
        return None
    block = block[:4] + struct.pack(order + "I", first) + block[8:]
    return block if len(block) <= LONGEST else None


def _head(block: bytes) -> tuple[str, int]:
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        raise ValueError("no byte order")
    return order, struct.unpack_from(order + "I", block, 4)[0]


def _directory(block: bytes, order: str, offset: int) -> _Directory:
    (count,) = struct.unpack_from(order + "H", block, offset)
    entries = {}
    for at in range(offset + 2, offset + 2 + 12 * count, 12):
        tag, kind, length, value = struct.unpack_from(order + "HHI4s", block, at)
        entries[tag] = (kind, length, value)
    return _Directory(entries, struct.unpack_from(order + "I", block, offset + 2 + 12 * count)[0])


def _sub(block: bytes, order: str, top: _Directory) -> _Directory:
    if EXIF_IFD not in top.entries:
        return _Directory({}, 0)
    return _directory(block, order, struct.unpack(order + "I", top.entries[EXIF_IFD][2])[0])


def _value(block: bytes, order: str, directory: _Directory, tag: int) -> bytes:
    """The bytes of a text entry; empty where there is none."""
    if tag not in directory.entries:
        return b""
    _, length, value = directory.entries[tag]
    if length <= 4:
        return value[:length]
    offset = struct.unpack(order + "I", value)[0]
    return block[offset : offset + length]


def _is_free(value: bytes, ours: str) -> bool:
    bare = _bare(value)
    return not bare.strip(b"\0 ") or bare.startswith(ours.encode())


def _bare(value: bytes) -> bytes:
    """A user comment without the eight bytes that name its character set."""
    return value[8:] if value[:8] in _CODES else value


def _append(block: bytes, order: str, kind: int, value: bytes) -> tuple[bytes, tuple[int, int, bytes]]:
    block += b"\0" * (len(block) % 2)
    return block + value, (kind, len(value), struct.pack(order + "I", len(block)))


def _append_directory(
    block: bytes, order: str, old: _Directory, tag: int, entry: tuple[int, int, bytes]
) -> tuple[bytes, int]:
    block += b"\0" * (len(block) % 2)
    entries = sorted({**old.entries, tag: entry}.items())
    packed = b"".join(struct.pack(order + "HHI4s", tag, *entry) for tag, entry in entries)
    return block + struct.pack(order + "H", len(entries)) + packed + struct.pack(order + "I", old.following), len(block)
