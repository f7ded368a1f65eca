"""What the perceiver is shown while it learns: crops and thumbnails, damaged by formula or out of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from perceive_ir.degradations import WHOLE
from perceive_ir_training.config import TrainConfig
from perceive_ir_training.data import Crops, Pictures, vary_detail, vary_tones
from perceive_ir_training.ranks import ALONE, World
from perceive_ir_training.sampling import MARGIN, draw_mixture, draw_severities
from perceive_ir_training.sources import Sources

THUMBNAIL_TIMES = 4
"""How many times smaller a part of a pair is made to stand for a thumbnail."""


def perceiver_pictures(
    pictures: Pictures, thumbnails: Pictures, config: TrainConfig, random: np.random.Generator, size: int,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Draw pairs of crops of one damaged picture, then thumbnails: pictures, severities, which are thumbnails."""
    settings, mix = config.perceiver, config.mix
    pairs, small = settings.batch * 2 // 5, settings.batch // 5
    wide = pictures.draw(pairs, 2 * (size + MARGIN), mix.microscopy, random, mix.procedural, mix.shrunk)
    wide = replace(wide, pixels=wide.pixels[:, :, : size + 2 * MARGIN])
    little = thumbnails.draw(small, size, mix.microscopy, random)
    damaged, true = damage_whole(wide, config, random, device, [(inside(size), columns) for columns in halves(size)])
    shrunk, small_true = damage_whole(little, config, random, device, [WHOLE])
    beside = [damaged[:, :, inside(size), columns] for columns in halves(size)]
    crops = torch.stack(beside, dim=1).flatten(0, 1)  # (2 * pairs, 3, S, S), partners side by side
    images, severities = torch.cat([crops, shrunk]), torch.cat([true, small_true])
    return images, severities, torch.arange(len(images), device=device) >= len(crops)


def put_pairs(
    images: Tensor, severities: Tensor, thumbnails: Tensor, share: float, sources: Sources,
    random: np.random.Generator, world: World = ALONE,
) -> Tensor:  # fmt: skip
    """Replace a share of the pictures by damaged ones out of pairs, in place; say which they are (N,).

    Those that another process shows are black, and are not read from disk.
    """
    size, small = images.shape[-1], int(thumbnails.sum())
    doubles = (len(images) - small) // 2
    crops, shrunk = round(share * doubles), round(share * small)
    paired = torch.zeros_like(thumbnails)
    if crops:
        wide, _, shown = sources.draw_pairs(crops, 2 * size, random, rows(world.share(doubles)))
        beside = torch.stack([wide[:, :, :size, :size], wide[:, :, :size, size:]], dim=1).flatten(0, 1)
        images[: 2 * crops], severities[: 2 * crops] = beside.to(images), shown.repeat_interleave(2, 0).to(severities)
        paired[: 2 * crops] = True
    if shrunk:
        mine = rows(world.share(small), before=small - shrunk)
        wide, _, shown = sources.draw_pairs(shrunk, THUMBNAIL_TIMES * size, random, mine)
        images[-shrunk:] = F.avg_pool2d(wide, THUMBNAIL_TIMES).to(images)
        severities[-shrunk:], paired[-shrunk:] = shown.to(severities), True
    return paired


def rows(part: slice, before: int = 0) -> range:
    """Return the numbers of a part, counted from the first row that comes after those before."""
    return range(part.start - before, part.stop - before)


def inside(size: int) -> slice:
    """Return what is left within the margin."""
    return slice(MARGIN, MARGIN + size)


def halves(size: int) -> tuple[slice, slice]:
    """Return the columns of two crops side by side, within the margin."""
    return inside(size), slice(MARGIN + size, MARGIN + 2 * size)


def damage_whole(
    drawn: Crops,
    config: TrainConfig,
    random: np.random.Generator,
    device: torch.device | str,
    parts: Sequence[tuple[slice, slice]],
) -> tuple[Tensor, Tensor]:
    """Damage pictures, many slightly or not at all; return them, and the severities that each of their parts shows."""
    tones = config.perceiver.tones
    group = vary_tones(vary_detail(drawn, tones, random), tones, random)
    severities = draw_severities(group.microscopy, config.mix, random)
    scale = random.choice([1.0, 0.3, 0.1, 0.0], size=(len(severities), 1), p=[0.6, 0.15, 0.1, 0.15])
    severities *= scale.astype(np.float32)
    true, clean = torch.from_numpy(severities).to(device), group.pixels.to(device)
    mixture = draw_mixture(group, severities, random).to(device)
    shown = [mixture.shown(clean, true, part) for part in parts]
    return mixture.apply(clean, true), torch.stack(shown, dim=1).flatten(0, 1)
