"""PNG: pixels through libpng, which knows 16-bit colour; chunks around them by hand, so that they stay as they were."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from perceive_ir._errors import ImageFileError
from perceive_ir.files._faults import damaged, one_line
from perceive_ir.files._picture import Meta

Chunk = tuple[bytes, bytes]

_SIGNATURE_AND_HEADER = 8 + 25
_KEPT = (b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"tEXt", b"zTXt", b"iTXt", b"tIME")
_METRES_PER_INCH = 0.0254


def read_png(path: Path) -> tuple[NDArray[Any], Meta, tuple[str, ...]]:
    """Pixels (h, w) or (h, w, 3 | 4), uint8 or uint16, and what the file says about them."""
    content = path.read_bytes()
    chunks = list(_chunks(content, path))
    names = {name for name, _ in chunks}
    if b"acTL" in names:
        raise ImageFileError(one_line(f"{path} is an animation; save its frames as single pictures or as a TIFF stack"))
    depth, colour = content[24], content[25]
    pixels, note = _usual(imagecodecs.png_decode(_essential(content)), depth, colour, b"tRNS" in names)
    return pixels, _meta(chunks), note


def encode_png(pixels: NDArray[Any], meta: Meta, text: tuple[str, str] | None) -> bytes:
    """The whole file; `text` is a keyword and a text for an ``iTXt`` chunk, which replaces an earlier one."""
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), order="C", copy=False)
    content = bytes(imagecodecs.png_encode(pixels))
    chunks = [*_common_chunks(meta), *meta.chunks]
    if text is not None:
        keyword = text[0].encode("latin-1")
        chunks = [chunk for chunk in chunks if not _is_text(chunk, keyword)]
        chunks.append((b"iTXt", keyword + b"\0\0\0\0\0" + text[1].encode()))
    extra = b"".join(_packed(name, value) for name, value in chunks)
    return content[:_SIGNATURE_AND_HEADER] + extra + content[_SIGNATURE_AND_HEADER:]


def texts(path: Path, keyword: str) -> Iterator[str]:
    """The uncompressed ``iTXt`` texts under `keyword`."""
    for chunk in _chunks(path.read_bytes(), path):
        if chunk[0] == b"iTXt" and _is_text(chunk, keyword.encode("latin-1")):
            yield chunk[1].split(b"\0", 5)[-1].decode("utf-8", "replace")


def has_text(chunks: Iterable[Chunk]) -> bool:
    return any(name in (b"tEXt", b"zTXt", b"iTXt") for name, _ in chunks)


def _chunks(content: bytes, path: Path) -> Iterator[Chunk]:
    """Name and content of every chunk whose checksum is right; pixels are left out."""
    name = b""
    for name, start, end in _places(content):
        body = content[start + 8 : end - 4]
        if name != b"IDAT" and content[end - 4 : end] == struct.pack(">I", zlib.crc32(name + body)):
            yield name, body
    if name != b"IEND":
        raise damaged(path, "it is truncated")


def _places(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of every chunk up to ``IEND``: length, name, content, checksum."""
    start, name = 8, b""
    while start + 12 <= len(content) and name != b"IEND":
        (length,) = struct.unpack_from(">I", content, start)
        name, end = content[start + 4 : start + 8], start + 12 + length
        yield name, start, end
        start = end


def _essential(content: bytes) -> bytes:
    """The file without the chunks that do not change its pixels: libpng prints its doubts about them."""
    kept = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
    return content[:8] + b"".join(content[start:end] for name, start, end in _places(content) if name in kept)


def _usual(pixels: NDArray[Any], depth: int, colour: int, transparent: bool) -> tuple[NDArray[Any], tuple[str, ...]]:
    if pixels.ndim == 3 and pixels.shape[-1] == 2:
        grey, alpha = pixels[..., :1], pixels[..., 1:]
        return np.concatenate([grey, grey, grey, alpha], axis=-1), ("grey with alpha became RGBA",)
    if colour == 3:
        return pixels, (f"the palette became {'RGBA' if transparent else 'RGB'}",)
    return pixels, (f"{depth}-bit grey became 8-bit",) if depth < 8 else ()


def _meta(chunks: list[Chunk]) -> Meta:
    named = dict(reversed(chunks))
    dpi, icc = _dpi(named.get(b"pHYs", b"")), named.get(b"iCCP", b"\0\0")
    kept = [chunk for chunk in chunks if chunk[0] in _KEPT or (chunk[0] == b"pHYs" and dpi is None)]
    profile = zlib.decompress(icc[icc.index(b"\0") + 2 :]) if b"iCCP" in named else None
    return Meta(dpi=dpi, icc=profile, exif=named.get(b"eXIf"), chunks=tuple(kept))


def _dpi(value: bytes) -> tuple[float, float] | None:
    if len(value) != 9 or value[8] != 1:  # no unit: the shape of a pixel, kept as it is
        return None
    x, y, _ = struct.unpack(">IIB", value)
    return x * _METRES_PER_INCH, y * _METRES_PER_INCH


def _common_chunks(meta: Meta) -> Iterator[Chunk]:
    if meta.icc is not None:
        yield b"iCCP", b"ICC profile\0\0" + zlib.compress(meta.icc)
    if meta.dpi is not None:
        x, y = (round(value / _METRES_PER_INCH) for value in meta.dpi)
        yield b"pHYs", struct.pack(">IIB", x, y, 1)
    if meta.exif is not None:
        yield b"eXIf", meta.exif


def _is_text(chunk: Chunk, keyword: bytes) -> bool:
    return chunk[0] in (b"tEXt", b"zTXt", b"iTXt") and chunk[1].startswith(keyword + b"\0")


def _packed(name: bytes, value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + name + value + struct.pack(">I", zlib.crc32(name + value))
