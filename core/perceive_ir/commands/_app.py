"""The typer application: what the console entry point starts."""

import os
from collections.abc import Callable
from typing import Annotated

import typer

from perceive_ir._memory import keep_memory
from perceive_ir._trace import DEBUG_VARIABLE
from perceive_ir.commands._add_model import add
from perceive_ir.commands._assess import assess
from perceive_ir.commands._batch import batch
from perceive_ir.commands._benchmark import speed
from perceive_ir.commands._degrade import degrade
from perceive_ir.commands._demo import demo
from perceive_ir.commands._doctor import doctor
from perceive_ir.commands._export_onnx import export
from perceive_ir.commands._group import ExtensibleGroup
from perceive_ir.commands._map import quality_map
from perceive_ir.commands._models import models
from perceive_ir.commands._restore import restore

COMMANDS: dict[str, Callable[..., None]] = {
    "restore": restore, "batch": batch, "assess": assess, "map": quality_map, "degrade": degrade,
    "doctor": doctor, "demo": demo,
}  # fmt: skip

app = typer.Typer(name="perceive-ir", cls=ExtensibleGroup, add_completion=False, pretty_exceptions_enable=False)
for name, function in COMMANDS.items():
    app.command(name)(function)

benchmark = typer.Typer(cls=ExtensibleGroup, help="Measure speed and quality.")
benchmark.command("speed")(speed)
benchmark.callback()(lambda: None)
app.add_typer(benchmark, name="benchmark")

known = typer.Typer(cls=ExtensibleGroup, invoke_without_command=True)
known.callback()(models)
known.command("add")(add)
known.command("export-onnx")(export)
app.add_typer(known, name="models")


def show_version(wanted: bool) -> None:
    """Print the version and end."""
    if wanted:
        from perceive_ir._version import VERSION

        typer.echo(f"perceive-ir {VERSION}")
        raise typer.Exit


def keep_traces(wanted: bool) -> None:
    """Print tracebacks from now on, in processes that are started too."""
    if wanted:
        os.environ[DEBUG_VARIABLE] = "1"


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", callback=keep_traces, help=f"Show tracebacks below errors; so does {DEBUG_VARIABLE}=1."
        ),
    ] = False,
) -> None:
    """Perceive what is wrong with pictures, how badly and where, and restore them."""


def main() -> None:
    """Run the command line."""
    keep_memory()
    app()
