"""The commands ``train``, ``export`` and ``benchmark quality``."""

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


def export(
    config: Annotated[str, typer.Argument(help="The configuration that the weights were trained with.")],
    weights: Annotated[Path, typer.Argument(help="RUN/weights.safetensors of a training.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the weights.")],
    scores: Annotated[Path | None, typer.Option(help="JSON file with scores to store in the weights.")] = None,
    notes: Annotated[str, typer.Option(help="A remark to store in the weights.")] = "",
) -> None:
    """Write the weights of a training in float16, with licence, data statement and scores."""
    import json

    from perceive_ir._weights import Card, load_system, save_system
    from perceive_ir_training.config import load_config
    from perceive_ir_training.report import card_scores

    settings = load_config(config)
    measured = card_scores(json.loads(scores.read_text(encoding="utf-8"))) if scores else {}
    card = Card(settings.name, settings.version, settings.licence, settings.data.strip(), measured, notes)
    digest = save_system(output, load_system(weights)[0], card)
    sys.stdout.write(f"{output}: {output.stat().st_size / 2**20:.1f} MiB, sha256 {digest}\n")


def benchmark_quality(
    data: Annotated[Path, typer.Option(envvar="PERCEIVE_IR_DATA", help="Folder with validation sets.")],
    model: Annotated[str, typer.Option(help="Catalogue name or path of the weights.")] = "compact",
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="SETPREFIX", help="Sets whose name begins so, or perception; repeatable."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Pictures per set, for a quick look.")] = None,
    classical: Annotated[bool, typer.Option(help="Run classical methods beside the model.")] = True,
    perception: Annotated[
        bool | None, typer.Option(help="Measure perception and obedience.", show_default="unless --only leaves it out")
    ] = None,
    format: Annotated[str, typer.Option(metavar="text|json|markdown", help="How to write the report.")] = "text",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write instead of printing.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 or mps.")] = "auto",
) -> None:
    """Measure how well a model restores pictures of validation sets, how well it perceives damage, and if it obeys."""
    from perceive_ir import load
    from perceive_ir_training.benchmark import benchmark
    from perceive_ir_training.report import check_output, write

    check_output(format, output)
    values = benchmark(
        load(model, device=device), data,
        only=only or (), limit=limit, classical=classical, perception=perception,
        tell=lambda line: typer.echo(line, err=True),
    )  # fmt: skip
    write(values, format, output)
