"""The difficulty-adaptive perceptual loss: nearer to the target than to the damage and to what other restorers made."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from perceive_ir._errors import WeightsError
from perceive_ir.networks import Perceiver

WEIGHTS = (1 / 12, 1 / 6, 1 / 3, 1.0)
"""w_i of the paper, shallow to deep."""
HARD, VERY_HARD = 1.25, 0.75
"""β of a proxy that is no better than the model, and of one that is better."""
FLOOR = 1e-6
"""Smallest denominator."""
HALF_A_STEP = 0.5 / 255
"""A sample none of whose values is to change by more than half a step of 8 bits has nothing to be restored."""
MOST_DECIBELS = 100.0
"""PSNR of equal pictures."""

Restore = Callable[[Tensor, Tensor], Tensor]
"""Damaged pictures (B, 3, H, W) and what is told of them (B, T) -> restored pictures."""
Proxy = Callable[[Tensor], Tensor]
"""A frozen restorer: damaged pictures (B, 3, H, W) -> restored pictures."""


class Features(Protocol):
    """What pictures are compared by."""

    def __call__(self, pictures: Tensor, /) -> tuple[Tensor, ...]:
        """Return feature maps of pictures (B, 3, H, W) in [0, 1], shallow to deep."""


@dataclass(frozen=True)
class Rival:
    """What a proxy made of a batch: A_q of the paper."""

    pictures: Tensor  # (B, 3, H, W)
    beta: Tensor  # (B,)


@dataclass(frozen=True)
class PerceptualLoss:
    """L_dpl: distance to the target, divided by the distances to the damage and to the rivals, in every feature map.

    Per sample, with d_i = mean |difference of the maps i|::

        Σ_i w_i · d_i(R, G) / max(1e-6, 2·d_i(R, D) + Σ_q β_q·d_i(R, A_q))
    """

    features: Features
    weights: tuple[float, ...] = WEIGHTS
    least: float = 0.0
    """Smallest denominator as a share of d_i(D, G). With 0, as in the paper, a restorer that still returns its input
    divides by 1e-6 where there are no rivals, and is pushed away from it in any direction; with 0.1 the ratio of
    such a sample is 10 and its gradient leads to the target. Once a restorer has moved, both are the same."""

    def __post_init__(self) -> None:
        if not 0 <= self.least <= 1:
            raise ValueError(f"expected least in 0..1, got {self.least}")

    def __call__(self, restored: Tensor, target: Tensor, damaged: Tensor, rivals: Sequence[Rival] = ()) -> Tensor:
        """Mean over a batch; the gradient goes through R only, in the numerator and in the denominators.

        Samples that have nothing to be restored (D = G) count as zero: without rivals their ratio is 1/2 wherever R
        is, and is noise divided by noise where R is right.

        Parameters
        ----------
        restored, target, damaged
            R, G and D: pictures (B, 3, H, W) in [0, 1].
        rivals
            A_q with their β_q; there may be none.
        """
        kept = (damaged - target).abs().flatten(1).amax(dim=1) > HALF_A_STEP
        if not kept.any():
            return restored.sum() * 0
        with torch.no_grad():
            of_target, of_damaged, *of_rivals = (
                self.features(p[kept]) for p in (target, damaged, *(r.pictures for r in rivals))
            )
        maps = self.features(restored[kept])
        if len(maps) != len(self.weights):
            raise ValueError(f"expected one weight per feature map, got {len(self.weights)} for {len(maps)} maps")
        total = restored.new_zeros(())
        for i, weight in enumerate(self.weights):
            away = 2 * distance(maps[i], of_damaged[i])
            for rival, of_rival in zip(rivals, of_rivals, strict=True):
                away = away + rival.beta[kept] * distance(maps[i], of_rival[i])
            floor = (self.least * distance(of_damaged[i], of_target[i])).clamp_min(FLOOR)
            total = total + weight * (distance(maps[i], of_target[i]) / torch.maximum(away, floor)).sum()
        return total / len(restored)


def distance(a: Tensor, b: Tensor) -> Tensor:
    """Return d_i: mean |a - b| of every sample, (B, C, h, w) -> (B,), in float32."""
    return (a.float() - b.float()).abs().flatten(1).mean(dim=1)


# ---- feature maps


class FrozenFeatures(nn.Module):
    """A network that is never trained: `train` leaves it in evaluation mode."""

    def train(self, mode: bool = True) -> Self:
        return super().train(False)

    def freeze(self) -> None:
        """Let no parameter take part in the training."""
        self.train().requires_grad_(False)


class TowerFeatures(FrozenFeatures):
    """Maps of all stages of a perceiver's image tower as it is now: a copy; sides divisible by 16."""

    def __init__(self, perceiver: Perceiver) -> None:
        super().__init__()
        self.tower = copy.deepcopy(perceiver.tower)
        self.freeze()

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        maps: tuple[Tensor, ...] = self.tower(pictures)
        return maps


class VggFeatures(FrozenFeatures):
    """Maps relu1_2, relu2_2, relu3_1 and relu3_3 of VGG-16.

    Parameters
    ----------
    path
        A safetensors file with the weights, named as torchvision names them.
    """

    TAPS = (3, 8, 11, 15)
    """Places of the four maps in ``torchvision.models.vgg16().features``."""
    mean: Tensor
    std: Tensor

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        # What is built on the meta device draws no random numbers and takes no memory.
        with torch.device("meta"):
            from torchvision.models import vgg16

            self.layers: nn.Sequential = vgg16(weights=None, init_weights=False).features[: self.TAPS[-1] + 1]
        self.layers.load_state_dict(read_vgg(Path(path), self.layers.state_dict()), assign=True)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None])
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225])[:, None, None])
        self.freeze()

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        x, maps = (pictures - self.mean) / self.std, []
        for place, layer in enumerate(self.layers):
            x = layer(x)
            if place in self.TAPS:
                maps.append(x)
        return tuple(maps)


VGG_REMEDY = "save the state_dict of torchvision's vgg16(weights='IMAGENET1K_V1') there as safetensors"


def read_vgg(path: Path, wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """Read the wanted tensors out of a file, in float32; names lack the ``features.`` of the file."""
    if not path.is_file():
        raise WeightsError(f"no weights of VGG-16 at {path}; {VGG_REMEDY}")
    try:
        with safe_open(path, framework="pt") as file:
            missing = [name for name in wanted if f"features.{name}" not in file.keys()]
            if missing:
                raise WeightsError(f"{path} lacks the tensor features.{missing[0]}; {VGG_REMEDY}")
            found = {name: file.get_tensor(f"features.{name}").to(torch.float32, copy=True) for name in wanted}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file ({error}); {VGG_REMEDY}") from error
    for name, tensor in found.items():
        if tensor.shape != wanted[name].shape:
            shapes = f"shape {tuple(tensor.shape)}, expected {tuple(wanted[name].shape)}"
            raise WeightsError(f"{path}: tensor features.{name} has {shapes}; {VGG_REMEDY}")
    return found


# ---- how hard a rival is


def psnr(pictures: Tensor, target: Tensor) -> Tensor:
    """PSNR of every sample in dB as it is shown, clipped to [0, 1]: (B, 3, H, W) -> (B,); 100 where equal."""
    error = (pictures.float().clamp(0, 1) - target.clamp(0, 1)).square().flatten(1).mean(dim=1)
    return -10 * error.clamp_min(10 ** (-MOST_DECIBELS / 10)).log10()


def betas(proxy: Tensor, target: Tensor, tasks: Tensor, own_psnr: Tensor) -> Tensor:
    """β_q of every sample: 1.25 where the proxy is no better than the model's own PSNR in this task, else 0.75.

    Parameters
    ----------
    proxy, target
        A_q and G: pictures (B, 3, H, W) in [0, 1].
    tasks
        Number of each sample's task (B,), whole numbers in 0..T-1.
    own_psnr
        What the model itself reaches in each task (T,), in dB: `Probe.psnr`.
    """
    if not bool(((tasks >= 0) & (tasks < len(own_psnr))).all()):
        raise ValueError(f"expected tasks in 0..{len(own_psnr) - 1}, got {tasks.tolist()}")
    hard = psnr(proxy, target) <= own_psnr.to(target.device)[tasks]
    return torch.where(hard, HARD, VERY_HARD)


@torch.no_grad()
def rivals_of(
    proxies: Iterable[Proxy], damaged: Tensor, target: Tensor, tasks: Tensor, own_psnr: Tensor
) -> tuple[Rival, ...]:
    """Let every proxy restore a batch, and weigh what it made; takes what `betas` takes."""
    made = [proxy(damaged) for proxy in proxies]
    return tuple(Rival(pictures, betas(pictures, target, tasks, own_psnr)) for pictures in made)


@dataclass(frozen=True)
class ProbeBatch:
    """Training pictures of one task, drawn once."""

    damaged: Tensor  # (B, 3, H, W)
    target: Tensor  # (B, 3, H, W)
    told: Tensor  # (B, T) severities


@dataclass
class Probe:
    """P of every task: the PSNR that the model itself reaches on fixed batches, one per task."""

    batches: tuple[ProbeBatch, ...]
    psnr: Tensor = field(init=False)
    """In dB (T,), as last measured; -inf before, where every rival is better than the model."""

    def __post_init__(self) -> None:
        if not self.batches:
            raise ValueError("expected a batch for each task, got none")
        self.psnr = torch.full((len(self.batches),), -torch.inf)

    @torch.no_grad()
    def refresh(self, restore: Restore) -> Tensor:
        """Measure anew; ``restore`` is to be in evaluation mode."""
        self.psnr = torch.stack([psnr(restore(b.damaged, b.told), b.target).mean() for b in self.batches]).cpu()
        return self.psnr

    def state_dict(self) -> Tensor:
        """Return all that a training needs to go on as if it had not stopped; the batches are the maker's."""
        return self.psnr.clone()

    def load_state_dict(self, state: Tensor) -> None:
        """Take over what `state_dict` gave."""
        if state.shape != self.psnr.shape:
            raise ValueError(f"expected a state of {len(self.psnr)} tasks, got shape {tuple(state.shape)}")
        self.psnr = state.clone()
