"""A closer look at what makes a whole picture soft, fitted to damaged training pictures.

Blur, low resolution and JPEG take away the same detail, each in another way. A crop that shows little of it may be
taken for any of them; the bands of all crops of a picture together tell them apart.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from perceive_ir import TYPES, Restorer
from perceive_ir._device import looking
from perceive_ir._engine import look_at
from perceive_ir._perception import look_closely, taken_together
from perceive_ir.networks import SOFT, Closer, System
from perceive_ir.networks.tower import LEAST
from perceive_ir_training.calibration import damaged, mean_where, read, without_closer
from perceive_ir_training.config import MixConfig
from perceive_ir_training.data import Pictures
from perceive_ir_training.losses import VISIBLE

RIGHTED = (*SOFT, "jpeg")
"""Types that are put right, their presence and their severity; the others stay as they are. A look that changed those
as well found more in damaged training pictures, but less in pictures of other sources."""
WEIGHTS = {"noise": 4.0, "blur": 3.0, "lowres": 3.0, "rain": 2.0, "jpeg": 1.5}
MIX = MixConfig(clean=0.0, several=0.2, microscopy=0.3, weights=WEIGHTS)
"""How often which damage is looked at: more often what is hard to tell apart, and noise, which hides it."""
HIDDEN, STEPS, BATCH, RATE, DECAY, DROPPED = 128, 8000, 256, 2e-3, 0.05, 0.1
"""How it is fitted: hidden units, and the share of them that is dropped in each step."""
LEFT_OUT = 0.05
"""Share of the parts of pictures that it is not fitted to, but judged by."""
PICTURES = 20000
"""Parts of pictures that are enough: of fewer it learns more by heart."""
MISSED = 10.0
"""How much the error of a severity counts beside that of a presence."""


@dataclass(frozen=True)
class Sight:
    """What is seen of N damaged pictures, and what is there."""

    bands: Tensor
    """Mean bands of the crops (N, BANDS)."""
    logits: Tensor
    """Of the presence of each type, as it is said without a closer look (N, T)."""
    severities: Tensor
    """Likewise."""
    true: Tensor
    """The severities that are shown."""

    def part(self, rows: slice) -> Sight:
        """Return what is seen of some of the pictures."""
        return Sight(self.bands[rows], self.logits[rows], self.severities[rows], self.true[rows])


@dataclass(frozen=True)
class Improvement:
    """What a closer look changes about one type: without and with it."""

    type: str
    found: tuple[float, float]
    """Share of the pictures with the type that are taken to have it."""
    mistaken: tuple[float, float]
    """Share of the pictures without it that are."""
    error: tuple[float, float]
    """Mean absolute error of its severity where it is there."""

    def __str__(self) -> str:
        shares = "found {:.2f} -> {:.2f}  by mistake {:.3f} -> {:.3f}".format(*self.found, *self.mistaken)
        return "{:<9} {}  severity error {:.3f} -> {:.3f}".format(self.type, shares, *self.error)


def with_closer(system: System) -> System:
    """Return the system with a closer look, which changes nothing before it is fitted."""
    tower = system.config.tower_config()
    if not (tower.bands and tower.overall):
        raise ValueError(
            "a closer look needs a calibrated perceiver with tower.bands; train with it, and calibrate first"
        )
    wide = System(replace(system.config, tower=asdict(replace(tower, closer=HIDDEN))))
    wide.load_state_dict({**wide.state_dict(), **without_closer(system)})
    return wide


def look_closer(restorer: Restorer, pictures: Pictures, count: int, seed: int = 0) -> tuple[Improvement, ...]:
    """Fit the closer look of a perceiver to damaged parts of pictures, and say what it improves in some that are left
    out; ``count`` in all."""
    closer = restorer.system.perceiver.closer
    assert closer is not None
    sight, left_out = see(restorer, pictures, count, seed), round(LEFT_OUT * count)
    fit(closer.cpu(), sight.part(slice(left_out, None)), seed)
    found = improvements(closer, sight.part(slice(left_out)))
    closer.to(restorer.device)
    return found


def see(restorer: Restorer, pictures: Pictures, count: int, seed: int) -> Sight:
    """Look at ``count`` damaged parts of pictures."""
    perceiver, rows, true = restorer.system.perceiver, [], []
    for severities, pixels in damaged(pictures, count, np.random.default_rng([seed, 6]), MIX):
        with looking(restorer.device):
            (look,) = look_closely(perceiver, [look_at(pixels, "auto", "auto")], restorer.device)
        near, far = read(perceiver, look)
        with torch.inference_mode():
            rows.append((perceiver.detail(look.near), *taken_together(perceiver, near, far, look.lights)))
        true.append(torch.from_numpy(severities))
    bands, logits, amounts = (torch.stack(column).float().cpu() for column in zip(*rows, strict=True))
    return Sight(bands, logits, amounts, torch.stack(true).float())


def fit(closer: Closer, sight: Sight, seed: int = 0) -> None:
    """Fit a closer look anew. Of what may only be taken back it learns both ways, so that it begins in the middle."""
    righted = [TYPES.index(t) for t in RIGHTED]
    shown, before = sight.true > VISIBLE, sight.severities.logit(eps=LEAST)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        closer.requires_grad_(True).begin()
        learner = torch.optim.AdamW(closer.parameters(), lr=RATE, weight_decay=DECAY)
        decline = torch.optim.lr_scheduler.CosineAnnealingLR(learner, STEPS)
        for _ in range(STEPS):
            rows = torch.randint(len(shown), (BATCH,))
            types, amounts = closer.added(sight.bands[rows], DROPPED)
            logits, severities = sight.logits[rows] + types, (before[rows] + amounts).sigmoid()
            there = shown[rows][:, righted].float()
            wrong = F.binary_cross_entropy_with_logits(logits[:, righted], there, reduction="none")
            errors = (severities - sight.true[rows]).abs()[:, righted] * there
            loss = wrong.sum(dim=1).mean() + MISSED * errors.sum() / there.sum().clamp(min=1)
            learner.zero_grad()
            loss.backward()
            learner.step()
            decline.step()
    closer.requires_grad_(False)


@torch.no_grad()
def improvements(closer: Closer, sight: Sight) -> tuple[Improvement, ...]:
    """Compare what a closer look says with what was said without it."""
    logits, severities = closer(sight.bands, sight.logits, sight.severities)
    true, shown = sight.true.numpy(), (sight.true > VISIBLE).numpy()
    ways = ((sight.logits.numpy() >= 0, sight.severities.numpy()), (logits.numpy() >= 0, severities.numpy()))
    parts = [
        (mean_where(shown, seen), mean_where(true == 0, seen), mean_where(shown, np.abs(read - true)))
        for seen, read in ways
    ]
    pairs = [list(zip(*way, strict=True)) for way in zip(*parts, strict=True)]
    judged = [k for k, t in enumerate(TYPES) if t in RIGHTED and shown[:, k].any()]
    return tuple(Improvement(TYPES[k], *(pair[k] for pair in pairs)) for k in judged)
