"""Bad inputs, over two hundred: each gives one line, nothing is half-written, and the good ones are done."""

from __future__ import annotations

import io
import json
import os
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

import perceive_ir as pir
from perceive_ir import files
from perceive_ir.commands import app

CLI = CliRunner()
POSIX = pytest.mark.skipif(os.name != "posix", reason="links and pipes are those of POSIX")
GOOD = np.random.default_rng(0).integers(0, 200, (24, 32, 3)).astype(np.uint8)


def grey(*shape: int, dtype: Any = "uint8") -> NDArray[Any]:
    return np.ones(shape or (24, 32), dtype)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, tiny_system: Any) -> Path:
    from perceive_ir._weights import Card, save_system

    folder = tmp_path_factory.mktemp("weights")
    save_system(folder / "compact.safetensors", tiny_system, Card("compact", "test"))
    return folder


@pytest.fixture(autouse=True)
def here(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PERCEIVE_IR_WEIGHTS", str(weights))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(work: Callable[[], object]) -> None:
    """Expect a user's mistake, said in one line that is no riddle."""
    with pytest.raises((ValueError, TypeError)) as caught:
        work()
    words = str(caught.value)
    assert len(words.splitlines()) == 1 and 15 < len(words) < 400, words


# --- arrays

ARRAYS: dict[str, Any] = {
    "bool": grey(dtype=bool),
    "complex64": grey(dtype="complex64"),
    "complex128": grey(dtype="complex128"),
    "object": grey(dtype=object),
    "text": grey(dtype="U3"),
    "bytes": grey(dtype="S3"),
    "dates": grey(dtype="datetime64[s]"),
    "spans": grey(dtype="timedelta64[s]"),
    "records": np.zeros((24, 32), [("r", "u1"), ("g", "u1")]),
    "no axis": np.array(3, np.uint8),
    "one axis": grey(24),
    "nothing": grey(0),
    "no rows": grey(0, 32),
    "no columns": grey(24, 0),
    "no colours": grey(24, 32, 0),
    "no planes": grey(0, 24, 32),
    "None": None,
    "a number": 5,
    "a word": "picture.png",
    "a dict": {"image": 1},
    "words": [["a", "b"], ["c", "d"]],
    "ragged": [[1, 2], [3]],
}


@pytest.mark.parametrize("verb", ["perceive", "restore", "quality_map", "degrade"])
@pytest.mark.parametrize("name", ARRAYS)
def test_a_bad_array_is_refused_in_one_line(name: str, verb: str, tiny_model: pir.Restorer) -> None:
    array = ARRAYS[name]
    refused(lambda: pir.degrade(array, "noise") if verb == "degrade" else getattr(tiny_model, verb)(array))


@pytest.mark.parametrize("verb", ["perceive", "restore", "quality_map", "degrade"])
@pytest.mark.parametrize("axes", ["Y", "YXC", "XX", "YZ", "Y1", "", "Y X", "ÄX", None, 5])
def test_bad_axes_are_refused_in_one_line(axes: Any, verb: str, tiny_model: pir.Restorer) -> None:
    if verb == "degrade":
        refused(lambda: pir.degrade(grey(), "noise", axes=axes))
    else:
        refused(lambda: getattr(tiny_model, verb)(grey(), axes=axes))


# --- wishes

FIELDS: dict[str, list[Any]] = {
    "task": ["fly", "", (), ("auto", "denoise"), 5, None],
    "severity": [-0.1, 1.1, float("nan"), "much", None, [0.5]],
    "handling": ["pixel", None],
    "strength": [-1, 1.6, float("inf"), "full"],
    "tier_strength": [{"best": 1}, {"low": 2}, {"low": "x"}, 1.0],
    "painted": [{1: ("fly", 0.5)}, {"a": ("denoise", 0.5)}, {1: ("denoise", 2)}, {1: "denoise"}],
    "value_range": ["all", (1, 0), (1, 1), (0, float("nan")), (0, float("inf")), (0,), (0, 1, 2)],
    "tile": [0, -64, 8, 64.5, "big", None],
    "overlap": [-1, 3.5, "some"],
    "memory": [0, -1, float("nan"), float("inf"), "lots"],
    "device": [5],
    "precision": ["float8", 32],
    "size": [3],
}
WISHES = [(field, value) for field, values in FIELDS.items() for value in values]


@pytest.mark.parametrize(("field", "value"), WISHES, ids=[f"{field}={value!r}" for field, value in WISHES])
def test_a_bad_wish_is_refused_in_one_line(field: str, value: Any, tiny_model: pir.Restorer) -> None:
    refused(lambda: tiny_model.restore(GOOD, **{field: value}))


LABELS: dict[str, Any] = {
    "none": None, "floats": grey(dtype=float), "too small": grey(23, 32), "too many": grey(2, 24, 32), "words": "labels"
}  # fmt: skip


@pytest.mark.parametrize("name", LABELS)
def test_bad_labels_are_refused_in_one_line(name: str, tiny_model: pir.Restorer) -> None:
    painted = {"handling": "painted", "painted": {1: ("denoise", 0.5)}}
    refused(lambda: tiny_model.restore(GOOD, labels=LABELS[name], **painted))


# --- files

Maker = Callable[[Path], object]


def encoded(name: str) -> bytes:
    """Return a good file of a format."""
    stream = io.BytesIO()
    big = np.random.default_rng(1).integers(0, 255, (64, 80, 3)).astype(np.uint8)
    if name.startswith("tiff"):
        options: dict[str, dict[str, Any]] = {
            "tiff": {},
            "tiff zlib": {"compression": "zlib"},
            "tiff lzw tiles": {"compression": "lzw", "tile": (16, 16)},
            "tiff imagej": {"imagej": True},
            "tiff ome": {"ome": True},
            "tiff big": {"bigtiff": True},
        }
        tifffile.imwrite(stream, big[..., 0], **options[name])
        return stream.getvalue()
    if name == "png 16":
        return files._png.encode_png(big.astype(np.uint16) * 257, files.Meta(), None)
    Image.fromarray(big).convert("P" if name == "gif" else "RGB").save(stream, name)
    return stream.getvalue()


FORMATS = {
    "tiff": "tif", "tiff zlib": "tif", "tiff lzw tiles": "tif", "tiff imagej": "tif", "tiff ome": "ome.tif",
    "tiff big": "tif", "png": "png", "png 16": "png", "jpeg": "jpg", "webp": "webp", "bmp": "bmp", "gif": "gif",
}  # fmt: skip
LENGTHS = (6, 0.1, 0.5, 0.85)
"""Of a truncated file, in bytes or as a share of the whole."""


def truncated(name: str, length: float) -> Maker:
    def make(path: Path) -> None:
        content = encoded(name)
        path.write_bytes(content[: int(length if length > 1 else len(content) * length)])

    return make


def content(data: bytes) -> Maker:
    return lambda path: path.write_bytes(data)


def drawn(mode: str, kind: str, **options: Any) -> Maker:
    return lambda path: Image.new(mode, (20, 20)).save(path, kind, **options)


def stored(array: NDArray[Any]) -> Maker:
    def make(path: Path) -> None:
        with warnings.catch_warnings(action="ignore"):  # tifffile doubts that a picture without pixels is one
            tifffile.imwrite(path, array)

    return make


def archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("a.txt", "text")


BAD_FILES: dict[str, tuple[str, Maker]] = {
    **{f"{kind} cut at {n}": (f"bad.{end}", truncated(kind, n)) for kind, end in FORMATS.items() for n in LENGTHS},
    "tiff ome cut in its text": ("bad.ome.tif", truncated("tiff ome", 0.99)),
    **{f"empty .{end}": (f"bad.{end}", content(b"")) for end in ("tif", "png", "jpg", "webp", "bmp", "gif")},
    **{f"text named .{end}": (f"bad.{end}", content(b"Dear diary,\n\n")) for end in ("tif", "png", "jpg", "webp")},
    "zeros": ("bad.tif", content(bytes(5000))),
    "only a magic number": ("bad.tif", content(b"II*\0")),
    "an archive": ("bad.png", archive),
    "HTML": ("bad.jpg", content(b"<!DOCTYPE html><title>404</title>")),
    "noise behind a PNG head": ("bad.png", content(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8)),
    "missing": ("bad.png", lambda path: None),
    "missing, unicode": ("böse 図 😀 [x].png", lambda path: None),
    "missing, two lines": ("two\nlines.png", lambda path: None),
    "missing, a very long name": ("n" * 300 + ".png", lambda path: None),
    "missing, a null character": ("null\0.png", lambda path: None),
    "missing folder": ("no/where/bad.png", lambda path: None),
    "behind a file": ("good.png/bad.png", lambda path: None),
    "empty, unicode": ("böse 図 😀.png", content(b"")),
    "empty, a long name": ("n" * 200 + ".png", content(b"")),
    "empty, like markup": ("[red]bad[x].png", content(b"")),
    "a folder": ("bad.png", lambda path: path.mkdir()),
    "a CMYK JPEG": ("bad.jpg", drawn("CMYK", "JPEG")),
    "an animation": ("bad.gif", drawn("L", "GIF", save_all=True, append_images=[Image.new("L", (20, 20), 9)])),
    "an animated PNG": ("bad.png", drawn("L", "PNG", save_all=True, append_images=[Image.new("L", (20, 20), 9)])),
    "a complex TIFF": ("bad.tif", stored(grey(dtype="complex64"))),
    "a wide complex TIFF": ("bad.tif", stored(grey(dtype="complex128"))),
    "64 bits": ("bad.tif", stored(grey(dtype="int64"))),
    "64 bits without sign": ("bad.tif", stored(grey(dtype="uint64"))),
    "a TIFF of no rows": ("bad.tif", stored(grey(0, 32))),
}
LINKS: dict[str, Maker] = {
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a pipe": lambda path: os.mkfifo(path),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_one_line_and_the_good_one_beside_it_is_done(name: str, here: Path) -> None:
    bad, make = BAD_FILES[name]
    files.write_image("good.png", GOOD)
    make(Path(bad))
    one_failed(bad)


@POSIX
@pytest.mark.parametrize("name", LINKS)
def test_a_bad_link_is_one_line_and_the_good_one_beside_it_is_done(name: str, here: Path) -> None:
    files.write_image("good.png", GOOD)
    LINKS[name](Path("bad.png"))
    one_failed("bad.png")


def one_failed(bad: str) -> None:
    """Restore a bad and a good file."""
    done = CLI.invoke(app, ["restore", bad, "good.png", "-o", "out/", "--task", "denoise"])
    assert done.exit_code == 1, done.output
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and ": " in lines[0] and "Traceback" not in lines[0], done.stderr
    assert re.search("; |: restore it|: convert with", lines[0]), "the line says what to do"
    assert lines[0].split(": ")[0].split()[0][:6] in bad.replace("\0", "�"), "the line begins with the name"
    assert os.listdir("out") == ["good.png"], "nothing half-written"
    assert files.read_image("out/good.png").data.shape == GOOD.shape


OTHERS = {"assess": [], "map": ["-o", "out.png"], "degrade": ["-o", "out.tif", "--type", "noise"]}
SOME = ("png cut at 0.5", "empty .tif", "missing", "a folder", "text named .tif", "a complex TIFF")


@pytest.mark.parametrize("command", OTHERS)
@pytest.mark.parametrize("name", SOME)
def test_other_commands_refuse_bad_files_in_one_line(name: str, command: str, here: Path) -> None:
    bad, make = BAD_FILES[name]
    make(Path(bad))
    fails(command, bad, *OTHERS[command])
    assert sorted(os.listdir()) in ([], [bad])


def fails(*words: str) -> str:
    """Run a command that must fail in one line; return the line."""
    done = CLI.invoke(app, list(words))
    assert done.exit_code == 1, done.output
    assert isinstance(done.exception, SystemExit)
    assert len(done.stderr.splitlines()) == 1, done.stderr
    line: str = done.stderr
    return line


# --- results that cannot be written

PLACES: dict[str, tuple[str, str]] = {
    "no folder there": ("good.png", "no/where/out.png"),
    "an unknown type": ("good.png", "out.xyz"),
    "no type at all": ("good.png", "out"),
    "16 bits into JPEG": ("deep.tif", "out.jpg"),
    "16 bits into WebP": ("deep.tif", "out.webp"),
    "floats into PNG": ("float.tif", "out.png"),
    "a stack into PNG": ("stack.tif", "out.png"),
    "a name that is too long": ("good.png", "n" * 300 + ".png"),
    "below a file": ("good.png", "deep.tif/out.png"),
    "a folder below a file": ("good.png", "deep.tif/out/"),
    "a null character": ("good.png", "o\0ut.png"),
    "itself": ("good.png", "good.png"),
}


@pytest.mark.parametrize("name", PLACES)
def test_a_result_that_cannot_be_written_is_one_line_and_leaves_nothing(name: str, here: Path) -> None:
    files.write_image("good.png", GOOD)
    files.write_image("deep.tif", grey(dtype="uint16"))
    files.write_image("float.tif", grey(dtype="float32"))
    files.write_image("stack.tif", grey(3, 24, 32), axes="ZYX")
    before = {path: path.read_bytes() for path in here.iterdir()}
    source, target = PLACES[name]
    assert "; " in fails("restore", source, "-o", target, "--task", "denoise"), "the line says what to do"
    assert {path: path.read_bytes() for path in here.iterdir()} == before


WRITTEN = ("tif", "png", "jpg", "webp")


@pytest.mark.parametrize("suffix", WRITTEN)
@pytest.mark.parametrize("half_way", [True, False], ids=["while writing", "before publishing"])
def test_a_write_that_fails_leaves_nothing_and_the_older_file(
    suffix: str, half_way: bool, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.write_image("good.png", GOOD)
    files.write_image(f"old.{suffix}", GOOD)
    before = {path: path.read_bytes() for path in here.iterdir()}
    monkeypatch.setattr(os, "fsync", failing_after_half if half_way else failing)
    assert "No space left" in fails("restore", "good.png", "-o", f"old.{suffix}", "--force", "--task", "denoise")
    assert {path: path.read_bytes() for path in here.iterdir()} == before


@pytest.mark.parametrize("suffix", WRITTEN)
def test_a_write_that_fails_half_way_leaves_nothing_and_the_good_one_beside_it_is_done(
    suffix: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.write_image("good.png", GOOD)
    files.write_image(f"bad.{suffix}", GOOD)
    full = iter([failing_after_half])
    monkeypatch.setattr(os, "fsync", lambda number: next(full, lambda _: None)(number))
    one_failed(f"bad.{suffix}")


def failing(*_: object) -> None:
    raise OSError(28, "No space left on device")


def failing_after_half(number: int) -> None:
    """Leave the file as a full disk does: shorter than it should be."""
    os.truncate(number, os.fstat(number).st_size // 2)
    failing()


# --- options

OPTIONS = """
restore good.png
restore -o out.png
restore good.png -o
restore good.png good2.png -o out.png
restore good.png -o out.png --task fly
restore good.png -o out.png --task auto --task denoise
restore good.png -o out.png --severity 2
restore good.png -o out.png --severity much
restore good.png -o out.png --strength=-1
restore good.png -o out.png --handling pixel
restore good.png -o out.png --handling painted
restore good.png -o out.png --handling painted --painted {} --labels good.png
restore good.png -o out.png --handling painted --painted 1=denoise:0.5 --labels missing.png
restore good.png -o out.png --handling painted --painted 1=denoise:0.5 --labels good.png
restore good.png -o out.png --painted {nonsense
restore good.png -o out.png --painted 1
restore good.png -o out.png --labels good.png
restore good.png -o out.png --tier-strength best=1
restore good.png -o out.png --tier-strength low=x
restore good.png -o out.png --tier-strength [1]
restore good.png -o out.png --value-range 1,0
restore good.png -o out.png --value-range 1,2,3
restore good.png -o out.png --value-range a,b
restore good.png -o out.png --axes YX
restore good.png -o out.png --axes 12C
restore good.png -o out.png --tile 3
restore good.png -o out.png --tile 1e9x
restore good.png -o out.png --overlap some
restore good.png -o out.png --memory -1
restore good.png -o out.png --memory nan
restore good.png -o out.png --device toaster
restore good.png -o out.png --device cuda:99
restore good.png -o out.png --precision float8
restore good.png -o out.png --model nothing
restore good.png -o out.png --model no/where.safetensors
restore good.png -o out.png --model good.safetensors
restore good.png -o out.png --recipe missing.json
restore good.png -o out.png --recipe list.json
restore good.png -o out.png --recipe broken.json
restore good.png -o out.png --recipe unknown.json
restore good.png -o out.png --recipe good.png
restore good.png -o out.png --recipe nested.json
restore good.png -o out.png --nothing
assess
assess good.png --json --csv -
assess good.png --csv no/where.csv
assess good.png --csv good.png
assess good.png --axes Q
map good.png
map good.png -o out.xyz
map good.png -o out.png --what beauty
map good.png -o out.png --stride 7
map good.png -o out.png --window 5
map good.png -o out.tif --plain
map good.png -o good.png
degrade good.png -o out.png
degrade good.png -o out.png --type fly
degrade good.png -o out.png --type noise=2
degrade good.png -o out.png --type noise=much
degrade good.png -o out.png --type noise --severity 7
degrade good.png -o out.png --type noise --severity nan
degrade good.png -o out.png --type noise --type noise
degrade good.png -o out.png --type noise --seed x
degrade good.png -o out.png --type noise --seed 99999999999999999999999
degrade good.png -o out.png --type noise --axes YX
degrade good.png -o good.png --type noise
models good.png
doctor --nothing
demo
demo -o good.png
demo -o .
benchmark nothing
benchmark speed --size 0
benchmark speed --size x
benchmark speed --repeat 0
benchmark speed --precision float8
benchmark speed --device toaster
nothing
""".strip().splitlines()


@pytest.fixture
def bench(here: Path) -> Iterator[Path]:
    files.write_image("good.png", GOOD)
    files.write_image("good2.png", GOOD)
    Path("good.safetensors").write_bytes(b"no weights")
    Path("list.json").write_text("[1, 2]", encoding="utf-8")
    Path("broken.json").write_text("{", encoding="utf-8")
    Path("unknown.json").write_text(json.dumps({"size": 3}), encoding="utf-8")
    Path("nested.json").write_text("[" * 200_000, encoding="utf-8")
    before = {path: path.read_bytes() for path in here.iterdir()}
    yield here
    assert {path: path.read_bytes() for path in here.iterdir()} == before


@pytest.mark.parametrize("line", OPTIONS)
def test_a_bad_option_is_one_line_and_writes_nothing(line: str, bench: Path) -> None:
    fails(*line.split())


def test_two_hundred_of_them_end_a_command_with_exit_code_1() -> None:
    inputs = len(BAD_FILES) + len(LINKS) + len(OTHERS) * len(SOME)
    assert inputs + len(PLACES) + 3 * len(WRITTEN) + len(OPTIONS) >= 200
