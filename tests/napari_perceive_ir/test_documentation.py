"""What the documents tell to type: the Python of every page runs from its top, and its commands are understood."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import zarr
from napari.components import ViewerModel

import perceive_ir as pir
from perceive_ir import files
from perceive_ir._catalogue import FOLDER_VARIABLE
from perceive_ir.commands import app
from tests.napari_perceive_ir.conftest import names, picture

ROOT = Path(__file__).parents[2]
PAGES = {str(page.relative_to(ROOT)): page.read_text() for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]}
FENCED = r"^```{}\n(.*?)^```"


def pieces(page: str, language: str) -> list[str]:
    return re.findall(FENCED.format(language), PAGES[page], re.DOTALL | re.MULTILINE)


TORCHRUN = re.compile(r"^torchrun --nproc-per-node \d -m -- perceive_ir_training ")
"""What stands for ``perceive-ir train`` where several processes are started."""


def commands(page: str) -> list[str]:
    lines = "\n".join(pieces(page, "bash")).replace("\\\n", " ").splitlines()
    ours = (TORCHRUN.sub("perceive-ir train ", line) for line in lines)
    return [line for line in ours if line.startswith("perceive-ir ")]


ELSEWHERE = ["docs/scale.md"]
"""Pages whose Python needs machines that are not here."""
LONG = ["docs/onnx.md"]
"""Pages whose Python needs what takes long to make."""
WITH_PYTHON = [page for page in PAGES if pieces(page, "python") and page not in (*ELSEWHERE, *LONG)]
COMMANDS = sorted({line for page in PAGES for line in commands(page)})
STARTED = sorted({line for page in PAGES.values() for line in page.splitlines() if line.startswith("torchrun --n")})


@pytest.fixture
def around(tmp_path: Path, weights_folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What stands around a piece of Python: a picture, a viewer with a layer, pictures, models, a zarr."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(weights_folder, "models")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "models"))
    Path("scans").mkdir()
    files.write_image("scans/cells.png", (picture(64, 48) * 255).astype(np.uint8))
    zarr.open_group("plate.zarr", mode="w")["0"] = (picture(2, 64, 48) * 60_000).astype(np.uint16)
    viewer = ViewerModel()
    viewer.add_image(picture(64, 48), name="cells")
    return {"np": np, "zarr": zarr, "viewer": viewer, "image": picture(130, 150)}


def test_there_is_something_to_run() -> None:
    assert "README.md" in WITH_PYTHON and len(COMMANDS) > 15
    assert "perceive-ir train --resume runs/five" in COMMANDS
    assert all(map(TORCHRUN.match, STARTED))


@pytest.mark.parametrize("page", WITH_PYTHON)
def test_the_python_of_a_page_runs(page: str, around: dict[str, Any]) -> None:
    for number, piece in enumerate(pieces(page, "python")):
        exec(compile(piece, f"{page}, piece {number}", "exec", dont_inherit=True), around)


@pytest.mark.slow
def test_an_exported_model_is_used_without_torch_as_its_page_says(around: dict[str, Any]) -> None:
    pir.export_onnx("compact", "compact.onnx")
    (piece,) = pieces("docs/onnx.md", "python")
    exec(compile(piece, "docs/onnx.md", "exec", dont_inherit=True), around)
    assert around["restored"].shape == around["image"].shape
    assert not np.array_equal(around["restored"], around["image"])


@pytest.mark.parametrize("page", ELSEWHERE)
def test_what_a_page_imports_for_other_machines_exists(page: str) -> None:
    trees = [ast.parse(piece) for piece in pieces(page, "python")]
    nodes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in nodes if node.module is not None and node.module.startswith("perceive_ir")]
    assert ours and all(hasattr(import_module(str(one.module)), name.name) for one in ours for name in one.names)


def test_what_the_readme_tells_to_type_does_what_it_says(around: dict[str, Any]) -> None:
    for piece in pieces("README.md", "python"):
        exec(compile(piece, "README.md", "exec", dont_inherit=True), around)
    assert names(around["viewer"])[:3] == ["cells", "cells denoised", "cells quality"]
    assert around["clean"].shape == around["bad"].shape == around["image"].shape
    assert zarr.open("restored.zarr").shape == (2, 64, 48)


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_a_page_is_understood(line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    command: Any = typer.main.get_command(app)
    context = command.make_context("perceive-ir", ["models"])
    while hasattr(command, "get_command") and not (command.invoke_without_command and words[:1] in ([], ["--json"])):
        name = words.pop(0)
        command = command.get_command(context, name)
        assert command is not None, f"no command {name!r}"
        context = type(context)(command, parent=context, info_name=name)
    try:
        command.make_context(command.name, [word for word in words if word != "…"])
    except typer.Exit:
        assert words == ["--help"]


@pytest.mark.parametrize("line", STARTED)
def test_torchrun_leaves_our_options_to_us(line: str) -> None:
    from torch.distributed.run import get_args_parser

    known = get_args_parser().parse_args(shlex.split(line)[1:])
    assert (known.module, known.training_script) == (True, "perceive_ir_training")
    assert known.training_script_args == shlex.split(TORCHRUN.sub("", line))
