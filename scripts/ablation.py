"""Measure what each idea of the method is worth at tiny widths, at equal time of the processor.

python scripts/ablation.py --data DATA --seconds 100 -o ablation.json

Every row trains the same tiny network on the same pictures in the same order, from the same start, for the same time
of this process on the processor, so that other work on the machine takes nothing from it. A row that costs more makes
fewer steps. PSNR is measured on pictures of the training folder that never train.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from perceive_ir._catalogue import find
from perceive_ir._vocabulary import TYPES
from perceive_ir._weights import load_system
from perceive_ir.networks import Signals, System
from perceive_ir_training.config import LossConfig, StageConfig, TrainConfig, load_config
from perceive_ir_training.crossfit import HalfConfig, Halves, make_halves
from perceive_ir_training.data import Pictures, load_pictures
from perceive_ir_training.learner import make_learner
from perceive_ir_training.loop import learn, learning_rate
from perceive_ir_training.perceptual import psnr
from perceive_ir_training.sampling import Batch, draw_batch, of_one_type
from perceive_ir_training.sources import Sources, load_sources
from perceive_ir_training.stages import PerceiverStage, RestorerStage, Setting, Stage
from perceive_ir_training.validation import Panel, judge_perceiver

WIDTHS = (8, 16, 32, 48)
CLEAN = "clean"
EACH, SIDE = 12, 128
"""Held-back crops of each type of damage, and their side."""


@dataclass(frozen=True)
class Variant:
    """What a restorer is given."""

    told: bool = True
    """Whether it is told the severities; else it is told the same of every picture, which says nothing."""
    guided: bool = False
    """Whether it is shown the semantic vectors."""
    bare: bool = False
    """Whether its backbone stands alone, without guidance and gate."""
    losses: Mapping[str, float] = field(default_factory=dict)
    """Weights of terms beside L1."""


RESTORERS = {
    "plain backbone": Variant(told=False),
    "+ condition": Variant(),
    "+ condition + guidance": Variant(guided=True),
    "+ condition + guidance + CLIP-aware": Variant(guided=True, losses={"clip": 0.05}),
    "+ condition + guidance + perceptual": Variant(guided=True, losses={"perceptual": 0.1}),
}
JUDGED = "+ condition"
"""The restorer that is told what the perceivers read."""
PERCEIVERS = {"read without contrastive": 0.0, "read with contrastive": LossConfig().contrast}
"""Weight of the contrastive loss of a tiny perceiver."""


@dataclass(frozen=True)
class Row:
    """What one training reached."""

    name: str
    seed: int
    steps: int
    psnr: Mapping[str, float]
    """Mean over the held-back crops of each type, in dB."""
    seen: Mapping[str, float] = field(default_factory=dict)
    """How well a perceiver tells types and severities of the same crops."""


@dataclass(frozen=True)
class Bench:
    """What all trainings share."""

    config: TrainConfig
    sources: Sources
    halves: Halves
    panel: Mapping[str, Batch]
    seconds: float
    steps: int

    def setting(self, seed: int, losses: LossConfig, unguided: float = 1.0) -> Setting:
        """Return the setting of one training; it draws the same numbers whether it is guided or not."""
        mix = replace(self.config.mix, unguided=unguided)
        return Setting(replace(self.config, seed=seed, losses=losses, mix=mix), self.sources, torch.device("cpu"))

    def train(self, stage: Stage, settings: StageConfig, told: bool = True) -> tuple[System, int]:
        """Train for the time that each has; returns the averaged network and the number of steps."""
        learner, began, step, done = make_learner(stage, settings), time.process_time(), 0, 0.0
        while step < self.steps and done < 1:
            step += 1
            batch = stage.batch(step, settings.patch_at(done))
            batch = batch if told else replace(batch, told=torch.ones_like(batch.told))
            learn(stage, learner, batch, step, learning_rate(step, done, settings))
            done = (time.process_time() - began) / self.seconds
        return cast(System, learner.average["system"]).eval(), step

    def judge(self, restore: Callable[[Tensor, Tensor], Tensor]) -> dict[str, float]:
        """Measure a restorer of damaged pictures that is given what is told of them."""
        with torch.inference_mode():
            return {name: float(psnr(restore(b.damaged, b.told), b.clean).mean()) for name, b in self.panel.items()}


class Bare(nn.Module):
    """A backbone that hears nothing of what is told."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, image: Tensor, signals: Signals) -> Tensor:
        restored: Tensor = self.backbone(image)
        return restored


def main() -> None:
    """Train every variant with every seed; write the rows after each of them, and a table in the end."""
    torch.set_num_threads(1)
    wish = options(__doc__).parse_args()
    bench = prepare(wish)
    rows = [Row("input", 0, 0, bench.judge(lambda damaged, _: damaged))]
    for seed in range(wish.seeds):
        restorers = {}
        for name, variant in RESTORERS.items():
            restorers[name], row = train_restorer(bench, name, variant, seed)
            rows.append(tell(row))
            write(wish.output, rows)
        for name, contrast in PERCEIVERS.items():
            rows.append(tell(train_perceiver(bench, name, contrast, seed, restorers[JUDGED])))
            write(wish.output, rows)
    print(table(rows))


def options(description: str | None) -> argparse.ArgumentParser:
    """Return the reader of the command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with clean pictures")
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON file for the rows")
    parser.add_argument("--seconds", type=float, default=100, help="time on the processor for each training")
    parser.add_argument("--steps", type=int, default=10**9, help="most steps of each training, for a quick look")
    parser.add_argument("--half-steps", type=int, default=300, help="steps of the two rivals of the perceptual loss")
    parser.add_argument("--seeds", type=int, default=2)
    return parser


def prepare(wish: argparse.Namespace) -> Bench:
    """Read the pictures, train the rivals of the perceptual loss, and damage the held-back pictures."""
    embedded, _ = load_system(find("compact"))
    config = load_config("compact.toml")
    whole = replace(
        config.model, sizes={**config.model.sizes, "widths": WIDTHS}, groups=("+".join(TYPES),), semantics=True,
        scattering=False, tower=embedded.config.tower,
    )  # fmt: skip
    mix = replace(config.mix, told_less=0.0, told_wrong=0.0, told_roughly=0.0)
    seeing, restoring = replace(config.perceiver, batch=20, warm_up=20), replace(config.restorer, warm_up=20)
    config = replace(config, model=whole, mix=mix, perceiver=seeing, restorer=restoring)
    sources = load_sources(wish.data, mix, config.seed)
    halves = make_halves(sources.pictures, HalfConfig(steps=wish.half_steps, patch=64))
    panel = make_panel(load_pictures(wish.data, held_back=True), config)
    return Bench(config, sources, halves, panel, wish.seconds, wish.steps)


def make_panel(kept: Pictures, config: TrainConfig) -> dict[str, Batch]:
    """Damage held-back crops with one type each, and leave some clean."""
    mixes = {name: of_one_type(config.mix, name) for name in TYPES}
    mixes[CLEAN] = replace(config.mix, clean=1.0)
    return {
        name: draw_batch(kept, EACH, SIDE, replace(mix, microscopy=0.0), np.random.default_rng([9, number]))
        for number, (name, mix) in enumerate(mixes.items())
    }


def train_restorer(bench: Bench, name: str, variant: Variant, seed: int) -> tuple[System, Row]:
    """Train one restorer beside the frozen perceiver of the package."""
    setting = bench.setting(seed, LossConfig(**variant.losses), unguided=0.0 if variant.guided else 1.0)
    torch.manual_seed(seed)
    system = System(setting.config.model)
    system.perceiver.load_state_dict(load_system(find("compact"))[0].perceiver.state_dict())
    if variant.bare:
        system.restorer = Bare(system.restorer.backbone)
    stage = RestorerStage(setting, system, bench.halves)
    system, steps = bench.train(stage, setting.config.restorer, variant.told)

    def restore(damaged: Tensor, told: Tensor) -> Tensor:
        semantics = system.perceiver.semantics(damaged) if variant.guided else None
        return system.restorer(damaged, Signals(told if variant.told else torch.ones_like(told), semantics))

    return system, Row(name, seed, steps, bench.judge(restore))


def train_perceiver(bench: Bench, name: str, contrast: float, seed: int, restorer: System) -> Row:
    """Train one tiny perceiver, and let a restorer be told what it reads."""
    setting = bench.setting(seed, LossConfig(contrast=contrast, language=0.0))
    torch.manual_seed(seed)
    tiny = replace(setting.config.model, tower={**setting.config.model.tower, "widths": WIDTHS})
    seeing, steps = bench.train(PerceiverStage(setting, System(tiny), None), setting.config.perceiver)
    read = RestorerStage(setting, seeing).read
    found = bench.judge(lambda damaged, _: cast(Tensor, restorer.restorer(damaged, Signals(read(damaged)))))
    parts = [bench.panel[t] for t in TYPES]
    crops = Panel(*(torch.cat([getattr(b, side) for b in parts]) for side in ("damaged", "clean", "told")))
    return Row(name, seed, steps, found, judge_perceiver(seeing.perceiver, crops))


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write what is known so far."""
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")


def tell(row: Row) -> Row:
    """Say how far the measurement is."""
    seen = "".join(f", {name} {value:.3f}" for name, value in row.seen.items())
    print(f"seed {row.seed}  {row.name}: {row.steps} steps, {mean(row):.2f} dB{seen}", file=sys.stderr, flush=True)
    return row


def mean(row: Row) -> float:
    """Mean over the types, clean pictures left out."""
    return sum(row.psnr[t] for t in TYPES) / len(TYPES)


def table(rows: Sequence[Row]) -> str:
    """Write Markdown: means over the seeds, and of the mean over all types also what each seed gave."""
    lines = [["", "steps", *TYPES, "mean", "each seed", CLEAN], ["---"] * (len(TYPES) + 5)]
    for name in dict.fromkeys(row.name for row in rows):
        same = [row for row in rows if row.name == name]
        average = {t: sum(row.psnr[t] for row in same) / len(same) for t in same[0].psnr}
        lines.append([
            name, " · ".join(str(row.steps) for row in same), *(f"{average[t]:.2f}" for t in TYPES),
            f"{sum(map(mean, same)) / len(same):.2f}", " · ".join(f"{mean(row):.2f}" for row in same),
            f"{average[CLEAN]:.1f}",
        ])  # fmt: skip
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
