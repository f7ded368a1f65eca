"""Pictures of medium quality: damaged ones as two small restorers render them, each the pictures it never saw.

The pictures fall into two folds by name. Model f trains on fold f alone and renders fold 1 - f alone; a model that
renders what it was trained on would show a quality that no other picture gets.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from perceive_ir._errors import WeightsError
from perceive_ir._vocabulary import TYPES
from perceive_ir._weights import fill, read_signed, write_signed
from perceive_ir.networks import Compact, CompactConfig, GuidedNet, Signals, Specialists
from perceive_ir.networks.system import from_known_keys
from perceive_ir_training.config import MixConfig
from perceive_ir_training.data import Crops, Picture, Pictures
from perceive_ir_training.losses import LOW_FROM, left_over
from perceive_ir_training.sampling import OF_A_MICROSCOPE, Batch, draw_batch, draw_mixture

FORMAT = "perceive-ir-halves-3"
SALT = "perceive-ir folds "
FINE = ("blur", "lowres", "jpeg")
GROUPS = (tuple(t for t in TYPES if t not in FINE), FINE)
"""Each restorer has a network for each of these: a single one leaves what changes no more than detail as it is."""
SOLO = 0.65
"""Share of the training in which the first network learns all types."""
UNSEEN = (1,)
"""Sizes of feature vectors that the restorers are never shown."""
SINGLE = MixConfig(clean=0.0, several=0.0, told_less=0.0, told_wrong=0.0, told_roughly=0.0)
"""The restorers learn on one type of damage at a time, and are told how much of it there is."""
MARGIN = 32
"""Pixels damaged and rendered around a crop and cut off again, so that no tier shows by its border."""


@dataclass(frozen=True)
class HalfConfig:
    """The network of both restorers, and how each is trained."""

    net: CompactConfig = field(
        default_factory=lambda: CompactConfig((8, 16, 32, 48), (1, 1, 1, 1), (1, 1, 1), gain=True)
    )
    steps: int = 20_000
    batch: int = 8
    patch: int = 128
    learning_rate: float = 1e-3
    """At the start; it falls to a hundredth of it as a cosine."""
    microscopy: float = 0.2
    """Share of crops from the microscopy folder."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "patch"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} >= 1, got {getattr(self, name)}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"expected a finite learning_rate > 0, got {self.learning_rate}")
        if not 0 <= self.microscopy <= 1:
            raise ValueError(f"expected microscopy in 0..1, got {self.microscopy}")
        if self.seed < 0:
            raise ValueError(f"expected seed >= 0, got {self.seed}")


class Qualities(NamedTuple):
    """Crops of B scenes in three qualities, each (B, 3, S, S) in [0, 1]."""

    low: Tensor
    medium: Tensor
    high: Tensor
    tasks: Tensor
    """(B,): index of the type of damage."""


# ---- folds


def fold_of(relative_name: str) -> int:
    """Return the fold of a picture, 0 or 1, by a hash of its relative path that knows nothing of the held-back one."""
    posix = relative_name.replace("\\", "/")
    return hashlib.sha256((SALT + posix).encode()).digest()[0] & 1


def split(pictures: Pictures) -> tuple[Pictures, Pictures]:
    """Split pictures into the two folds; each must have photos. Procedural pictures have no names of their own."""
    first, second = (Pictures(of_fold(pictures.photos, f), of_fold(pictures.microscopy, f)) for f in (0, 1))
    for fold, part in enumerate((first, second)):
        if not part.photos:
            raise ValueError(f"none of {len(pictures.photos)} photos falls into fold {fold}; add more photos")
    return first, second


def of_fold(group: Iterable[Picture], fold: int) -> tuple[Picture, ...]:
    """Return the pictures of one fold."""
    return tuple(p for p in group if fold_of(p.name) == fold)


def names_of(pictures: Pictures) -> frozenset[str]:
    """Return the names of all pictures."""
    return frozenset(p.name for p in (*pictures.photos, *pictures.microscopy))


# ---- the two restorers


class Halves(nn.Module):
    """Two small restorers and the names of what each was trained on.

    They are told what is there: where restorers of this size must find out by themselves, they leave haze, darkness,
    blur, JPEG and low resolution as they are, and the medium picture is no better than the low one.

    Parameters
    ----------
    settings
        Network and training of both.
    seen
        The names of the pictures that model 0 and model 1 were trained on.
    """

    def __init__(self, settings: HalfConfig, seen: tuple[frozenset[str], frozenset[str]]) -> None:
        super().__init__()
        self.settings = settings
        self.seen = seen
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.models = nn.ModuleList(make_restorer(settings.net) for _ in range(2))
        self.refuse_unfit(settings.patch)

    def refuse_unfit(self, side: int) -> None:
        """Refuse pictures of a side that the network cannot take."""
        multiple = cast(Specialists, self.models[0]).size_needs.multiple_of
        if side % multiple:
            raise ValueError(f"expected pictures whose side is divisible by {multiple}, got {side}")

    def fold_for(self, pictures: Pictures) -> int:
        """Return the fold that the pictures belong to; the model of the other fold must never have seen one."""
        names = names_of(pictures)
        folds = {fold_of(name) for name in names}
        if len(folds) != 1:
            raise ValueError(f"expected pictures of one fold, got those of {len(folds)}; split() them first")
        (fold,) = folds
        known = sorted(names & self.seen[1 - fold])
        if known:
            raise ValueError(f"the model that would render {known[0]} was trained on it; train the halves again")
        return fold

    @torch.no_grad()
    def render(self, damaged: Tensor, severities: Tensor, fold: int) -> Tensor:
        """Render damaged pictures (B, 3, H, W) of a fold, told their severities (B, T), with the model of the other."""
        model = self.models[1 - fold]
        device = next(model.parameters()).device
        restored: Tensor = model(damaged.to(device), Signals(severities.to(device)))
        return restored.clamp(0, 1).to(damaged.device)


def make_restorer(net: CompactConfig) -> Specialists:
    """Build one restorer: a small network for each group of types."""
    members = [GuidedNet(Compact(net), len(TYPES), UNSEEN) for _ in GROUPS]
    return Specialists(members, [[TYPES.index(t) for t in group] for group in GROUPS], len(TYPES))


def make_halves(
    pictures: Pictures, settings: HalfConfig, *, minutes: float = math.inf, device: torch.device | str = "cpu"
) -> Halves:
    """Train one restorer on each fold, for at most so many minutes each."""
    folds = split(pictures)
    halves = Halves(settings, (names_of(folds[0]), names_of(folds[1]))).to(device)
    for fold, part in enumerate(folds):
        model = cast(Specialists, halves.models[fold])
        train_half(model, part, settings, np.random.default_rng(settings.seed), minutes=minutes)
    return halves.eval().requires_grad_(False)


def train_half(
    model: Specialists,
    pictures: Pictures,
    settings: HalfConfig,
    random: np.random.Generator,
    *,
    minutes: float = math.inf,
) -> None:
    """Train a restorer: its first network on all types, then the other, which begins as the first, on its own alone."""
    first, fine = model.guided
    train_member(first, TYPES, pictures, settings, random, share=SOLO, minutes=minutes)
    fine.load_state_dict(first.state_dict())
    train_member(fine, FINE, pictures, settings, random, share=1 - SOLO, minutes=minutes)


def train_member(
    net: nn.Module,
    own: tuple[str, ...],
    pictures: Pictures,
    settings: HalfConfig,
    random: np.random.Generator,
    *,
    share: float = 1.0,
    minutes: float = math.inf,
) -> None:
    """Train a network on single types of damage; stops after its share of steps or minutes, not before one step."""
    optimiser = torch.optim.AdamW(net.parameters(), lr=settings.learning_rate)
    device = next(net.parameters()).device
    steps, minutes, start = max(1, round(share * settings.steps)), share * minutes, time.monotonic()
    for step in range(1, steps + 1):
        spent = (time.monotonic() - start) / 60
        done = max(step / steps, spent / minutes if minutes > 0 else 1.0)
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))
        drawn = draw_damaged(pictures, settings, own, random)
        damaged, target = drawn.damaged.to(device), drawn.target.to(device)
        loss = left_over(net(damaged, Signals(drawn.told.to(device))), target, damaged)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        if spent >= minutes:
            return


def draw_damaged(pictures: Pictures, settings: HalfConfig, own: tuple[str, ...], random: np.random.Generator) -> Batch:
    """Draw crops with one type of damage each, out of those of a group, and the same without."""
    mix = replace(SINGLE, microscopy=settings.microscopy, weights={t: float(t in own) for t in TYPES})
    return draw_batch(pictures, settings.batch, settings.patch, mix, random)


# ---- their file


def cached_halves(
    path: str | Path,
    pictures: Pictures,
    settings: HalfConfig,
    *,
    minutes: float = math.inf,
    device: torch.device | str = "cpu",
) -> Halves:
    """Read the restorers from a file; where there is none, train them and write it."""
    path = Path(path)
    if path.is_file():
        halves = load_halves(path)
        if halves.settings != settings:
            raise WeightsError(f"{path} holds halves that were trained otherwise; delete it or give another path")
        return halves.to(device)
    halves = make_halves(pictures, settings, minutes=minutes, device=device)
    save_halves(path, halves)
    return halves


def save_halves(path: str | Path, halves: Halves) -> None:
    """Write both restorers, their settings and what they saw, at once or not at all."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in halves.state_dict().items()}
    about = {
        "format": FORMAT,
        "settings": json.dumps(asdict(halves.settings)),
        "seen": json.dumps([sorted(names) for names in halves.seen]),
    }
    write_signed(Path(path), tensors, about)


def own_halves() -> Halves:
    """Return the two restorers that come with this package; the tiers are judged by what they leave of pictures."""
    return load_halves(Path(__file__).with_name("halves.safetensors"))


def load_halves(path: str | Path) -> Halves:
    """Read both restorers, frozen and in evaluation mode on the CPU."""
    path = Path(path)
    other = "delete it or give another path"
    tensors, about, _ = read_signed(path, FORMAT, "holds no halves of this project", other, "delete it")
    try:
        settings = settings_from(json.loads(about["settings"]))
        first, second = (frozenset(names) for names in json.loads(about["seen"]))
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path} describes halves that cannot be built ({error}); delete it") from error
    halves = Halves(settings, (first, second))
    fill(cast(Any, halves), tensors, path)
    return halves


def settings_from(values: dict[str, Any]) -> HalfConfig:
    """Read the settings back from JSON."""
    net = from_known_keys(CompactConfig, values["net"])
    settings: HalfConfig = from_known_keys(HalfConfig, {**values, "net": net})
    return settings


# ---- triplets


def triplets(
    halves: Halves,
    pictures: Pictures,
    count: int,
    size: int,
    random: np.random.Generator,
    *,
    microscopy: float = SINGLE.microscopy,
) -> Qualities:
    """Draw scenes in three qualities: damaged, as rendered by the model that never saw them, and clean.

    Parameters
    ----------
    halves
        The two restorers.
    pictures
        Those of one fold, as `split` returns them.
    count, size
        Scenes, and the side of their crops in pixels; the types of damage differ in number by one at most.
    random
        Source of the random numbers.
    microscopy
        Share of crops from the microscopy folder, among the types that a micrograph can have.
    """
    fold = halves.fold_for(pictures)
    side = size + 2 * MARGIN
    halves.refuse_unfit(side)
    tasks = balanced_tasks(count, random)
    crops = draw_scenes(pictures, tasks, side, microscopy, random)
    severities = np.zeros((count, len(TYPES)), np.float32)
    severities[np.arange(count), tasks] = random.uniform(LOW_FROM, 1.0, count)
    mixture, wanted = draw_mixture(crops, severities, random), torch.from_numpy(severities)
    low = mixture.apply(crops.pixels, wanted)
    medium = as_stored(halves.render(low, mixture.shown(crops.pixels, wanted), fold), crops.grey)
    cut = slice(MARGIN, MARGIN + size)
    low, medium, high = (x[..., cut, cut] for x in (low, medium, crops.pixels))
    return Qualities(low, medium, high, torch.from_numpy(tasks))


def balanced_tasks(count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Draw the type of damage of each scene, all equally often; those that no micrograph has come first."""
    order = np.resize(random.permutation(len(TYPES)), count)
    return np.array(sorted(order, key=lambda n: TYPES[n] in OF_A_MICROSCOPE), dtype=np.int64)


def draw_scenes(
    pictures: Pictures, tasks: NDArray[np.int64], side: int, microscopy: float, random: np.random.Generator
) -> Crops:
    """Draw clean crops, of micrographs only for the last tasks, which are those that these can have."""
    either = sum(TYPES[n] in OF_A_MICROSCOPE for n in tasks)
    wanted = ((len(tasks) - either, 0.0), (either, microscopy))
    drawn = [pictures.draw(count, side, share, random) for count, share in wanted if count]
    return Crops(
        torch.cat([crops.pixels for crops in drawn]),
        torch.cat([crops.grey for crops in drawn]),
        np.concatenate([crops.microscopy for crops in drawn]),
    )


def as_stored(pictures: Tensor, grey: Tensor) -> Tensor:
    """Make pictures what an 8-bit file holds, grey ones (B,) with three equal channels; else the tier would show."""
    mean = pictures.mean(dim=1, keepdim=True).expand_as(pictures)
    return (torch.where(grey[:, None, None, None], mean, pictures) * 255).round() / 255
