"""The commands ``train``, ``join``, ``calibrate``, ``export``, ``benchmark quality`` and ``benchmark paper``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from perceive_ir_training.ranks import World


def train(
    config: Annotated[
        str | None, typer.Argument(help="TOML file, or the name of a shipped one such as compact.toml.")
    ] = None,
    data: Annotated[Path | None, typer.Option(envvar="PERCEIVE_IR_DATA", help="Folder with clean pictures.")] = None,
    stage: Annotated[str, typer.Option(metavar="all|perceiver|prompts|restorer", help="What to train.")] = "all",
    run: Annotated[
        Path | None, typer.Option(help="New folder for log, curves and weights.", show_default="runs/NAME-N")
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="Folder of a training to go on with.")] = None,
    init_from: Annotated[Path | None, typer.Option(help="Weights to start from, with a new optimiser.")] = None,
    minutes: Annotated[float, typer.Option(help="Stop after this many minutes.")] = float("inf"),
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, mps or auto.", show_default="cpu, or as resumed")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Two steps of each stage, on whatever is there of the published sets.")
    ] = False,
) -> None:
    """Train a model, or some stage of it; or go on with a training that was stopped."""
    from perceive_ir_training import loop
    from perceive_ir_training.config import load_config
    from perceive_ir_training.ranks import meet
    from perceive_ir_training.rehearsal import rehearsal

    if resume is not None:
        if config or stage != "all" or init_from or run or dry_run or minutes != float("inf"):
            raise ValueError("--resume takes all settings from its folder; give no other but --data and --device")
        progress = loop.resume(resume, data=data, device=device)
    else:
        if config is None or data is None:
            raise ValueError("expected CONFIG and --data DIR, or --resume RUN; a shipped CONFIG is compact.toml")
        settings = load_config(config)
        world, _ = meet(device or "cpu")
        if dry_run:
            settings = rehearsal(settings)
        folder = run or next_folder(Path("runs"), settings.name, world)
        if world.is_first:
            said = "dry run: two steps of each stage, sets need not be whole; the weights are of no use\n"
            sys.stdout.write(f"{said if dry_run else ''}{folder}\n")
        progress = loop.train(
            settings, stage, data=data, run=folder, minutes=minutes, init_from=init_from, device=device or "cpu",
            save_every=min(5.0, max(0.25, minutes / 20)),
        )  # fmt: skip
    for line in progress:
        terms = "  ".join(f"{name} {value:.4f}" for name, value in line.losses.items())
        sys.stdout.write(f"{line.stage} {line.step}  {line.minutes:.1f} min  rate {line.rate:.2e}  {terms}\n")
        sys.stdout.flush()


def next_folder(base: Path, name: str, world: "World") -> Path:
    """Return the first of ``base/NAME-1``, ``base/NAME-2`` ... that is not there, the same for all processes."""
    number = 1
    while (base / f"{name}-{number}").exists():
        number += 1
    return base / f"{name}-{world.from_first(number):.0f}"


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


def join(
    base: Annotated[Path, typer.Argument(help="Weights of which everything is taken that is not named below.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the joined weights (float32).")],
    perceiver: Annotated[
        list[Path] | None, typer.Option(help="Weights that give the perceiver; given again, the mean of all.")
    ] = None,
    member: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GROUP=WEIGHTS",
            help="Group of types whose restorer other weights give; repeatable, and the mean of all for one group.",
        ),
    ] = None,
) -> None:
    """Join a perceiver and restorers that were trained apart (mix.turns), or means of them, into one weights file."""
    from perceive_ir._weights import load_system, save_system
    from perceive_ir_training.joining import take_members, take_perceiver

    system, card = load_system(base)
    if perceiver:
        system = take_perceiver(system, perceiver)
    take_members(system, member or [])
    save_system(output, system, card, half=False)
    sys.stdout.write(f"{output}\n")


def calibrate(
    weights: Annotated[Path, typer.Argument(help="RUN/weights.safetensors of a training.")],
    data: Annotated[Path, typer.Option(envvar="PERCEIVE_IR_DATA", help="The folder that was trained on.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the weights (float32).")],
    pictures: Annotated[
        int | None,
        typer.Option(min=40, help="Damaged pictures to measure on.", show_default="2000; with --closer 20000"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the damage.")] = 0,
    closer: Annotated[
        bool, typer.Option("--closer", help="Leave everything as it is, but fit a closer look at the detail.")
    ] = False,
) -> None:
    """Put right when a type of damage counts as present, and how severe it is, by measurement on damaged pictures."""
    from perceive_ir import Restorer
    from perceive_ir._weights import load_system, save_system
    from perceive_ir_training import calibration
    from perceive_ir_training.closer import PICTURES, look_closer, with_closer
    from perceive_ir_training.data import load_pictures

    system, card = load_system(weights)
    system = with_closer(system) if closer else calibration.with_overall(system)
    restorer = Restorer(system, card, device="cpu", precision="float32")
    measure = look_closer if closer else calibration.calibrate
    for found in measure(restorer, load_pictures(data), pictures or (PICTURES if closer else 2000), seed):
        sys.stdout.write(f"{found}\n")
    save_system(output, system, card, half=False)
    sys.stdout.write(f"{output}\n")


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


def benchmark_paper(
    data: Annotated[Path, typer.Option(envvar="PERCEIVE_IR_DATA", help="Folder with the published test sets.")],
    suite: Annotated[str, typer.Option(metavar="three-task|five-task", help="Whose table.")],
    model: Annotated[str, typer.Option(help="Catalogue name or path of the weights.")] = "compact",
    given: Annotated[bool, typer.Option("--given", help="Restore with the task given too; papers do not.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Pictures per set, for a quick look.")] = None,
    format: Annotated[str, typer.Option(metavar="text|json|markdown", help="How to write the report.")] = "text",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write instead of printing.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 or mps.")] = "auto",
) -> None:
    """Measure a model on the test sets of papers, by their protocol, under the numbers that they report."""
    from perceive_ir import load
    from perceive_ir_training.protocol import known, paper_benchmark
    from perceive_ir_training.report import check_output, write

    check_output(format, output)
    known(suite)
    values = paper_benchmark(
        load(model, device=device), data, suite,
        given=given, limit=limit, tell=lambda line: typer.echo(line, err=True),
    )  # fmt: skip
    write(values, format, output)
