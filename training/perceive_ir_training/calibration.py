"""What is put right after training, by measurement on whole pictures: when a type counts as present, and its severity.

A perceiver learns on crops, but a picture is judged by all its crops and its thumbnail. On damaged training pictures
three things are measured, and folded into the last layers, so that nothing is left to do at run time: by how much the
logit of each type must be shifted so that few pictures without it are taken to have it; which line through the logit of
its severity comes nearest to the truth; and how all that is said of the crops and the thumbnail, and the light in it,
tell the types of the whole picture, and how dark it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from perceive_ir import TYPES, Restorer
from perceive_ir._device import looking
from perceive_ir._engine import look_at
from perceive_ir._perception import Look, combine, look_closely
from perceive_ir.degradations import Mixture
from perceive_ir.networks import LIGHT, Overall, Perceiver, Reading, System, gather
from perceive_ir_training.config import MixConfig
from perceive_ir_training.data import Picture, Pictures, crop, vary_detail, vary_tones
from perceive_ir_training.losses import VISIBLE
from perceive_ir_training.sampling import draw_severities

SIDES = (112, 160, 224, 320, 448)
"""Sides of the parts of pictures that are judged; the smallest is a single crop."""
SHRUNK = (1, 2, 3)
"""How often smaller a picture may be shown: a part of a large one shows little of its scene."""
MIX = MixConfig(clean=0.0, several=0.25)
"""How often which damage is shown, in which pictures."""
TONES = 0.5
"""Share of the pictures whose light and contrast are varied, and of those that are sharpened."""
FALSE_ALARMS = {"noise": 0.1, "rain": 0.05, "blur": 0.05, "lowres": 0.05, "jpeg": 0.02}
"""Share of the pictures without a type that may be taken to have it, where it is not ``RARELY``.

A type may be taken to be there by mistake the more often the less that costs: a restorer that is told of a little noise
where there is none hardly changes a picture, nor does one that is told of a little blur, while a wrong change of light
spoils it.
"""
RARELY = 0.02
FALL, RISE = -2.5, 3.5
"""Largest fall of the logit of a type, and its largest rise where a mistake costs little; the others never rise."""
FEWEST, LEAST_GAIN = 8, 0.15
"""Pictures with a type from which it is put right, and by which share its severity's error must improve."""
LIGHTLY = 0.2
"""How strongly the severity of low light is held to what the parts say."""
SLOPES, OFFSETS = np.arange(0.6, 2.61, 0.1), np.arange(-1.5, 1.51, 0.1)
STIFF, LOOSE = 100.0, 3.0
"""How strongly the readout of whole pictures is held to the mean over the parts, up to a line through its logits: as to
what is said of the parts, and as to the light."""
EDGE = 1e-3
"""Severities and probabilities this near to 0 and 1 count as this far from them."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """What is put right for one type."""

    type: str
    shift: float
    """Added to the logit of its presence."""
    slope: float
    """The logit of its severity becomes ``slope * logit + offset``."""
    offset: float
    error: tuple[float, float]
    """Mean absolute error of the severity, before and after."""
    found: float
    """Share of the pictures with the type that are still taken to have it."""

    def __str__(self) -> str:
        return (
            f"{self.type:<9} presence {self.shift:+.2f} (found {self.found:.2f})  "
            f"severity {self.slope:.1f} x {self.offset:+.1f} (error {self.error[0]:.3f} -> {self.error[1]:.3f})"
        )


def with_overall(system: System) -> System:
    """Return the system with a readout of whole pictures, which begins as the mean over their parts, and without the
    closer look that was fitted to what was said before."""
    tower = asdict(replace(system.config.tower_config(), overall=True, closer=0))
    wide = System(replace(system.config, tower=tower))
    wide.load_state_dict({**wide.state_dict(), **without_closer(system)})
    return wide


def without_closer(system: System) -> dict[str, Tensor]:
    """Return the parameters of a system but for those of a closer look."""
    return {name: t for name, t in system.state_dict().items() if not name.startswith("perceiver.closer.")}


def calibrate(restorer: Restorer, pictures: Pictures, count: int = 400, seed: int = 0) -> tuple[Calibration, ...]:
    """Measure on ``count`` damaged parts of pictures, and put the perceiver right."""
    perceiver = restorer.system.perceiver
    true, looks = look_at_damaged(restorer, pictures, count, seed)
    types, severities = read_parts(perceiver, looks)
    found = tuple(fit(t, true[:, k], types[:, k], severities[:, k]) for k, t in enumerate(TYPES))
    fold(perceiver, found)
    if perceiver.overall is None:
        return found
    gathered = torch.stack([gather(*read(perceiver, look), look.lights) for look in looks]).cpu()
    fit_overall(perceiver.overall, gathered, true)
    amounts = torch.from_numpy(read_parts(perceiver, looks)[1])  # anew, as they are put right by now
    fit_amounts(perceiver.overall, amounts, gathered[:, -LIGHT:], true)
    shares, after = judged(perceiver.overall, gathered, amounts, true)
    before = mean_where(true > VISIBLE, np.abs(severities - true))
    return tuple(
        replace(c, found=share, error=error)
        for c, share, error in zip(found, shares, zip(before, after, strict=True), strict=True)
    )


def look_at_damaged(restorer: Restorer, pictures: Pictures, count: int, seed: int) -> tuple[Numbers, list[Look]]:
    """Return true severities (count, T), and the features of what is seen of each picture."""
    true, looks = [], []
    for severities, pixels in damaged(pictures, count, np.random.default_rng([seed, 5])):
        with looking(restorer.device):
            looks += look_closely(restorer.system.perceiver, [look_at(pixels, "auto", "auto")], restorer.device)
        true.append(severities)
    return np.stack(true), looks


@torch.no_grad()
def judged(overall: Overall, gathered: Tensor, severities: Tensor, true: Numbers) -> tuple[list[float], list[float]]:
    """Return which share of the pictures with each type is taken to have it, and the mean error of its severity."""
    gathered = gathered.to(overall.weight)
    present = overall(gathered).cpu().numpy() >= 0
    errors = np.abs(overall.amounts(severities.to(overall.weight), gathered[:, -LIGHT:]).cpu().numpy() - true)
    return mean_where(true > VISIBLE, present), mean_where(true > VISIBLE, errors)


def mean_where(shown: NDArray[np.bool_], values: NDArray[Any]) -> list[float]:
    """Return the mean of each column where its type is shown; 0 where it nowhere is."""
    return [
        float(column[there].mean()) if there.any() else 0.0 for there, column in zip(shown.T, values.T, strict=True)
    ]


def read(perceiver: Perceiver, look: Look) -> tuple[Reading, Reading]:
    """Read a picture's crops and its thumbnails."""
    with torch.inference_mode():
        return perceiver.read(look.near), perceiver.read(look.far)


def read_parts(perceiver: Perceiver, looks: Sequence[Look]) -> tuple[Numbers, Numbers]:
    """Return probabilities and severities (N, T): the mean over the parts of each picture."""
    readings = [read(perceiver, look) for look in looks]
    types = torch.stack([combine(near.type_logits, far.type_logits) for near, far in readings]).sigmoid()
    severities = torch.stack([combine(near.severities, far.severities) for near, far in readings])
    return types.double().cpu().numpy(), severities.double().cpu().numpy()


def damaged(
    pictures: Pictures, count: int, random: np.random.Generator, mix: MixConfig = MIX
) -> Iterator[tuple[Numbers, NDArray[np.uint8]]]:
    """Yield the severities that a picture shows, and it; a fifth show no damage, and a quarter only a slight one."""
    for _ in range(count):
        group = pictures.microscopy if pictures.microscopy and random.random() < mix.microscopy else pictures.photos
        part = view(group[random.integers(len(group))], random)
        side = part.pixels.shape[0]
        crops = vary_detail(Pictures((part,)).draw(1, side, 0.0, random), TONES, random)
        crops = vary_tones(crops, TONES, random)
        severities = draw_severities(crops.microscopy, mix, random)
        severities *= random.choice([1.0, 0.3, 0.0], p=[0.55, 0.25, 0.2])
        true = torch.from_numpy(severities)
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        mixture = Mixture.draw((1, 3, side, side), true > 0, generator, grey=crops.grey)
        image: Tensor = mixture.apply(crops.pixels, true)[0].permute(1, 2, 0).mul(255).round().byte()
        yield mixture.shown(crops.pixels, true)[0].double().numpy(), image.numpy()


def view(picture: Picture, random: np.random.Generator) -> Picture:
    """Cut a random square, of the picture as it is or shrunk."""
    side, times = int(random.choice(SIDES)), int(random.choice(SHRUNK))
    return replace(picture, pixels=crop(picture.pixels, side, random, times))


def fit(type: str, true: Numbers, types: Numbers, severities: Numbers) -> Calibration:
    """Find what must be put right for one type."""
    shown, shift = true > VISIBLE, shift_of(type, logit(types[true == 0]))
    found = float((logit(types[shown]) + shift >= 0).mean()) if shown.any() else 0.0
    slope, offset, *error = line(logit(severities[shown]), true[shown])
    return Calibration(type, shift, slope, offset, (error[0], error[1]), found)


def shift_of(type: str, without: Numbers) -> float:
    """How much the logits of pictures without a type must rise or fall, so that few of them are above 0."""
    kept, rise = 1 - FALSE_ALARMS.get(type, RARELY), RISE if type in FALSE_ALARMS else 0.0
    return float(np.clip(-np.quantile(without, kept), FALL, rise)) if len(without) else 0.0


def line(read: Numbers, wanted: Numbers) -> tuple[float, float, float, float]:
    """Find slope and offset for the logits of severities, and the errors before and after; leave what gains little."""
    if len(read) < FEWEST:
        return 1.0, 0.0, 0.0, 0.0
    before = miss(read, wanted)
    after, slope, offset = min((miss(a * read + b, wanted), float(a), float(b)) for a in SLOPES for b in OFFSETS)
    return (slope, offset, before, after) if after < (1 - LEAST_GAIN) * before else (1.0, 0.0, before, before)


def logit(shares: Numbers) -> Numbers:
    """Inverse of the sigmoid."""
    inside = shares.clip(EDGE, 1 - EDGE)
    result: Numbers = np.log(inside / (1 - inside))
    return result


def miss(logits: Numbers, wanted: Numbers) -> float:
    """Mean absolute error of severities."""
    return float(np.abs(1 / (1 + np.exp(-logits)) - wanted).mean())


def fit_overall(overall: Overall, gathered: Tensor, true: Numbers) -> None:
    """Fit the readout of whole pictures to ``gathered`` (N, 3 said + LIGHT); shift it as the types of the parts are.

    A type that fewer than ``FEWEST`` pictures have stays the rule.

    Its logits are a line through those of the rule that it begins with, and as much of everything else as is worth it:
    of the light for haze, else of what is said of the parts. Where a mistake costs much that is too free: of haze, low
    light and snow it found no more in pictures that are not of the training's kind, but saw haze in a noisy one and
    snow in another. So low light and snow stay the rule.
    """
    said, present = gathered.double(), torch.from_numpy(true > VISIBLE).double()
    rule, allowed = overall.rule().double(), torch.zeros(overall.weight.shape, dtype=torch.float64)
    allowed[[t in FALSE_ALARMS for t in TYPES], :-LIGHT] = 1
    allowed[TYPES.index("haze"), -LIGHT:] = 1
    free = allowed.any(dim=1) & (present.sum(dim=0) >= FEWEST)
    middle, spread = said.mean(dim=0), said.std(dim=0, correction=0) + EDGE
    ruled, normed = said @ rule.T, (said - middle) / spread
    dear = torch.full((said.shape[1],), STIFF, dtype=torch.float64)
    dear[-LIGHT:] = LOOSE
    slopes, offsets = free_numbers(1.0, len(TYPES)), free_numbers(0.0, len(TYPES))
    others = free_numbers(0.0, len(TYPES), said.shape[1])

    def logits() -> Tensor:
        return slopes * ruled + offsets + normed @ (allowed * others).T

    def loss() -> Tensor:
        missed = F.binary_cross_entropy_with_logits(logits(), present, reduction="sum")
        return missed + (dear * others.square()).sum()

    minimise(loss, [slopes, offsets, others])
    with torch.no_grad():
        read = logits().numpy()
        shifts = torch.tensor([shift_of(t, read[true[:, k] == 0, k]) for k, t in enumerate(TYPES)])
        extra = allowed * others / spread
        weights, bias = slopes[:, None] * rule + extra, offsets - extra @ middle + shifts
        overall.weight.copy_(torch.where(free[:, None], weights, rule))
        overall.bias.copy_(torch.where(free, bias, 0))


def fit_amounts(overall: Overall, severities: Tensor, lights: Tensor, true: Numbers) -> None:
    """Fit how the light (N, LIGHT) puts the severity of low light right, of the means over the parts (N, T)."""
    row = TYPES.index("lowlight")
    shown = torch.from_numpy(true[:, row] > VISIBLE)
    with torch.no_grad():
        overall.slopes[row], overall.by_light.weight[row], overall.by_light.bias[row] = 1, 0, 0
    if shown.sum() < FEWEST:
        return
    wanted, light = torch.from_numpy(true[:, row])[shown], lights.double()[shown]
    read = severities.double()[shown, row].logit(eps=EDGE)
    middle, spread = light.mean(dim=0), light.std(dim=0, correction=0) + EDGE
    normed = (light - middle) / spread
    slope, offset, weights = free_numbers(1.0), free_numbers(0.0), free_numbers(0.0, LIGHT)

    def loss() -> Tensor:
        errors = (slope * read + offset + normed @ weights).sigmoid() - wanted
        return (errors.square() + EDGE**2).sqrt().sum() + LIGHTLY * weights.square().sum()

    minimise(loss, [slope, offset, weights])
    with torch.no_grad():
        overall.slopes[row] = slope
        overall.by_light.weight[row] = weights / spread
        overall.by_light.bias[row] = offset - (weights / spread) @ middle


def free_numbers(value: float, *shape: int) -> Tensor:
    """Return numbers that `minimise` may change."""
    return torch.full(shape, value, dtype=torch.float64, requires_grad=True)


def minimise(loss: Callable[[], Tensor], numbers: list[Tensor]) -> None:
    """Find the numbers for which a loss is least."""
    search = torch.optim.LBFGS(numbers, max_iter=300, line_search_fn="strong_wolfe")

    def step() -> float:
        search.zero_grad()
        found = loss()
        found.backward()
        return found.item()

    search.step(step)


@torch.no_grad()
def fold(perceiver: Perceiver, calibrations: tuple[Calibration, ...]) -> None:
    """Put a perceiver right in its last layers."""
    types, amounts = perceiver.cfe.type_head, perceiver.cfe.severity_head
    for c in calibrations:
        row = TYPES.index(c.type)
        types.bias[row] += c.shift
        amounts.weight[row] *= c.slope
        amounts.bias[row] = c.slope * amounts.bias[row] + c.offset
