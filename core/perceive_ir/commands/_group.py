"""A group of commands that also holds what other packages offer, loaded when it is asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from typer.core import TyperGroup

from perceive_ir._advice import EXPECTED, advice, reason
from perceive_ir._errors import MissingExtraError
from perceive_ir.commands._report import INTERRUPTED, complain, complain_of

ENTRY_POINTS = "perceive_ir.commands"
"""Each entry point of this group is a function; ``benchmark.quality`` becomes the command ``benchmark quality``."""

# Typer has carried its own copy of click since 0.2x, so the class is found through one that both export.
UsageFault: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


class ExtensibleGroup(TyperGroup):
    """Its own commands, and those of installed packages; every expected error is one line and exit code 1."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of all commands: the own ones, then the offered ones."""
        own = list(self.commands)
        return own + sorted({name[0] for name in offered(place(ctx)) if name[0] not in own})

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command by name; an offered one is loaded now."""
        if cmd_name in self.commands:
            return self.commands[cmd_name]
        found = {name: entry for name, entry in offered(place(ctx)).items() if name[0] == cmd_name}
        if (cmd_name,) in found:
            self.add_command(load(cmd_name, found[cmd_name,]), cmd_name)
        elif found:
            self.add_command(ExtensibleGroup(name=cmd_name, help=f"Further commands: {cmd_name}."), cmd_name)
        return self.commands.get(cmd_name)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments; none at all ask for help, unless the group does something by itself."""
        rest: list[str] = super().parse_args(ctx, args or ["--help"] * (not self.invoke_without_command))
        return rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command; Ctrl-C ends it in one line."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            complain("stopped; what was finished is kept, and nothing is half-written")
            raise typer.Exit(INTERRUPTED) from None

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run, and end the process with an exit code."""
        if not extra.pop("standalone_mode", True):
            return super().main(*args, **{**extra, "standalone_mode": False})
        sys.exit(self.exit_code(*args, **extra))

    def exit_code(self, *args: Any, **extra: Any) -> int:
        """Run, and say expected errors in one line."""
        try:
            code = super().main(*args, **{**extra, "standalone_mode": False})
        except UsageFault as error:
            complain(usage(error))
            return 1
        except typer.Abort:
            complain("stopped")
            return INTERRUPTED
        except EXPECTED as error:
            complain_of(error, "perceive-ir", advice(error))
            return 1
        return code if isinstance(code, int) else 0


def place(ctx: Any) -> tuple[str, ...]:
    """Where a group stands below the program: () for the program itself, ("benchmark",) for that group."""
    names: list[str] = []
    while ctx.parent is not None:
        names.insert(0, ctx.info_name)
        ctx = ctx.parent
    return tuple(names)


def offered(prefix: tuple[str, ...]) -> dict[tuple[str, ...], EntryPoint]:
    """Entry points below a group, by the rest of their dotted name."""
    names = {tuple(entry.name.split(".")): entry for entry in entry_points(group=ENTRY_POINTS)}
    depth = len(prefix)
    return {name[depth:]: entry for name, entry in names.items() if name[:depth] == prefix and len(name) > depth}


def load(name: str, entry: EntryPoint) -> Any:
    """Import an offered command; one that cannot be imported says so when it is used, and harms no other."""
    try:
        return as_command(name, entry.load())
    except Exception as error:
        return as_command(name, broken(name, f"{type(error).__name__}: {reason(error)}"), ignore_unknown_options=True)


def as_command(name: str, function: Callable[..., Any], **settings: bool) -> Any:
    """Make a command of a function with typer's annotations."""
    single = typer.Typer(add_completion=False)
    single.command(name, context_settings={**settings, "allow_extra_args": True} if settings else None)(function)
    return typer.main.get_command(single)


def broken(name: str, why: str) -> Callable[[], None]:
    """Return a stand-in for a command that cannot be loaded."""

    def command() -> None:
        raise MissingExtraError(f"{name} does not load ({why}); install or repair the package that offers it")

    command.__doc__ = f"Does not load ({why})."
    return command


def usage(error: Any) -> str:
    """Say a mistake in the command line, and where to read what is right."""
    command = error.ctx.command_path if getattr(error, "ctx", None) is not None else "perceive-ir"
    return f"{command}: {error.format_message().rstrip('.?')}; see `{command} --help`"
