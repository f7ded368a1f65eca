"""The command ``perceive-ir train``."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def train(
    config: Annotated[str, typer.Argument(help="TOML file, or the name of a shipped one such as compact.toml.")],
    data: Annotated[Path, typer.Option(envvar="PERCEIVE_IR_DATA", help="Folder with clean pictures.")],
    stage: Annotated[str, typer.Option(help="perceiver or restorer.")] = "restorer",
    run: Annotated[Path, typer.Option(help="Folder for log and weights.")] = Path("runs/latest"),
    init_from: Annotated[Path | None, typer.Option(help="Weights to start from, with a new optimiser.")] = None,
    minutes: Annotated[float, typer.Option(help="Stop after this many minutes.")] = float("inf"),
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 or mps.")] = "cpu",
) -> None:
    """Train one stage of a model."""
    from perceive_ir_training.config import load_config
    from perceive_ir_training.loop import train as run_training

    settings = load_config(config)
    for progress in run_training(
        settings, stage, data=data, run=run, minutes=minutes, init_from=init_from, device=device
    ):
        terms = "  ".join(f"{name} {value:.4f}" for name, value in progress.losses.items())
        sys.stdout.write(f"step {progress.step}  {progress.minutes:.1f} min  rate {progress.rate:.2e}  {terms}\n")
        sys.stdout.flush()
