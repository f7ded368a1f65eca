"""Measure what Perceive-IR is worth on each family of backbones, at tiny widths and equal time of the processor.

python scripts/compare_backbones.py --data DATA --seconds 100 -o rows.json > table.md

Each family is trained plain (a bare backbone that is told nothing, L1 alone), guided by condition and semantic vectors,
and with the losses of the method too. All else is as in `ablation.py`: the same pictures in the same order, the same
time of this process on the processor, PSNR on pictures that never train.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from ablation import Bench, Row, Variant, options, prepare, table, tell, train_restorer, write

WIDTHS, BLOCKS, HEADS = (8, 16, 32, 48), (1, 1, 1, 1), (1, 2, 4, 4)
FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "compact": {"widths": WIDTHS, "encoder_blocks": BLOCKS, "gain": True},
    "restormer": {"widths": WIDTHS, "blocks": BLOCKS, "heads": HEADS, "refinement": 1},
    "nafnet": {"width": 8, "encoder_blocks": (1, 1, 2), "middle_blocks": 2, "decoder_blocks": (1, 1, 1)},
    "promptir": {
        "widths": WIDTHS, "blocks": BLOCKS, "heads": HEADS, "refinement": 1,
        "prompt_widths": (8, 16, 32), "prompt_sides": (16, 8, 4),
    },
}  # fmt: skip
"""Sizes of each family: four levels, from 8 channels on."""
WAYS = {
    "plain": Variant(told=False, bare=True),
    "+ condition + guidance": Variant(guided=True),
    "+ Perceive-IR": Variant(guided=True, losses={"clip": 0.05, "perceptual": 0.1}),
}


def main() -> None:
    """Train every family in every way with every seed; write the rows after each of them, and a table in the end."""
    torch.set_num_threads(1)
    parser = options(__doc__)
    parser.add_argument("--family", action="append", choices=FAMILIES, help="this family alone; repeatable")
    wish = parser.parse_args()
    bench = prepare(wish)
    rows = [Row("input", 0, 0, bench.judge(lambda damaged, _: damaged))]
    for seed in range(wish.seeds):
        for family in wish.family or FAMILIES:
            for way, variant in WAYS.items():
                rows.append(tell(train_family(bench, family, way, variant, seed)))
                write(wish.output, rows)
    print(table(rows))


def of_family(bench: Bench, family: str) -> Bench:
    """Return the same bench for another backbone."""
    model = replace(bench.config.model, backbone=family, sizes=FAMILIES[family])
    return replace(bench, config=replace(bench.config, model=model))


def train_family(bench: Bench, family: str, way: str, variant: Variant, seed: int) -> Row:
    """Train one backbone in one way; its row also tells its size."""
    system, row = train_restorer(of_family(bench, family), way, variant, seed)
    thousands = sum(p.numel() for p in system.restorer.parameters()) / 1e3
    return replace(row, name=f"{family} ({thousands:.0f} k): {way}")


if __name__ == "__main__":
    main()
