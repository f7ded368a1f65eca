"""The damage of a batch as a value: drawn once, applied at any severities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from perceive_ir._vocabulary import TYPES
from perceive_ir.degradations._blur import Blur
from perceive_ir.degradations._haze import Haze
from perceive_ir.degradations._jpeg import Jpeg
from perceive_ir.degradations._lowlight import LowLight
from perceive_ir.degradations._lowres import LowRes
from perceive_ir.degradations._noise import Noise
from perceive_ir.degradations._part import Draw, Part
from perceive_ir.degradations._rain import Rain
from perceive_ir.degradations._snow import Snow

# In the order in which light meets them: scene, weather, lens, sensor, file.
FAMILIES: dict[str, type[Part]] = {
    "haze": Haze,
    "rain": Rain,
    "snow": Snow,
    "lowlight": LowLight,
    "blur": Blur,
    "lowres": LowRes,
    "noise": Noise,
    "jpeg": Jpeg,
}
ORDER = tuple(FAMILIES)
"""The types in the order in which a mixture applies them."""
LEAST = torch.tensor([-1.0 if FAMILIES[t].reversible else 0.0 for t in TYPES])[:, None, None]
"""Least severity of each type."""
WHOLE = (slice(None), slice(None))
"""All rows and columns of a picture."""


@dataclass(frozen=True)
class Mixture:
    """The random part of the damage of a batch: the same scene at whatever severities it is applied."""

    shape: tuple[int, int, int, int]
    """(B, 3, H, W) of the batch."""
    grey: Tensor
    """Boolean (B,): pictures with three equal channels, which stay so."""
    parts: dict[str, tuple[Tensor, Part]]
    """For each type that is present: its pictures (rows of the batch, ascending) and their random part."""

    @classmethod
    def draw(
        cls,
        shape: tuple[int, int, int, int],
        present: Tensor,
        generator: torch.Generator,
        *,
        grey: Tensor | None = None,
        varied: bool = True,
        window: bool = False,
    ) -> Self:
        """Draw all random numbers of a batch.

        Parameters
        ----------
        shape : tuple of int
            (B, 3, H, W).
        present : Tensor
            Boolean (B, 8), the types of each picture in the order of ``TYPES``.
        generator : torch.Generator
            Source of the random numbers; the mixture lives on its device.
        grey : Tensor, optional
            Boolean (B,), pictures with three equal channels. None of them by default.
        varied : bool
            Pick a sub-kind of each type for each picture, as training wants; otherwise the standard variants.
        window : bool
            The pictures are small windows of their scenes: what they show may be nearer or farther than the scene is on
            average, while the severity is that of the scene.
        """
        _check_shapes(shape, present)
        device = generator.device
        grey = torch.zeros(shape[0], dtype=torch.bool, device=device) if grey is None else grey.to(device)
        parts: dict[str, tuple[Tensor, Part]] = {}
        for name in ORDER:
            rows = torch.nonzero(present[:, TYPES.index(name)].to(device)).flatten()
            if len(rows):
                draw = Draw(len(rows), shape[2], shape[3], generator, grey[rows], varied, window and varied)
                parts[name] = (rows, FAMILIES[name].draw(draw))
        return cls(shape, grey, parts)

    def to(self, device: torch.device | str) -> Mixture:
        """Return the mixture on another device."""
        there = torch.device(device)
        parts = {name: (rows.to(there), part.to(there)) for name, (rows, part) in self.parts.items()}
        return Mixture(self.shape, self.grey.to(there), parts)

    @torch.no_grad()
    def apply(self, x: Tensor, severities: Tensor, quantise: bool = True) -> Tensor:
        """Damage a batch; nothing here is random.

        Parameters
        ----------
        x : Tensor
            (B, 3, H, W) in [0, 1].
        severities : Tensor
            (B, 8), or a map (B, 8, H, W), in [0, 1] and in the order of ``TYPES``; of haze and low light in [-1, 1],
            where below 0 is the opposite. Where it is 0 for every type, the picture stays as it is, bit for bit.
        quantise : bool
            Clip to [0, 1] after each type, and round damaged pixels to multiples of 1/255 as an 8-bit file does.

        Returns
        -------
        Tensor
            (B, 3, H, W).
        """
        if tuple(x.shape) != tuple(self.shape):
            raise ValueError(f"expected pictures of shape {tuple(self.shape)} as drawn, got {tuple(x.shape)}")
        s = self._columns(severities.to(x.device, x.dtype))
        y = x.clone()
        for name, (rows, part) in self.parts.items():
            severity = s[:, TYPES.index(name)][rows, None]
            active = torch.nonzero((severity != 0).any(-1).any(-1).any(-1)).flatten()
            if len(active) == 0:
                continue
            if len(active) < len(rows):
                rows, part, severity = rows[active], part.select(active), severity[active]
            done = part.apply(y[rows], severity)
            y[rows] = done.clamp_(0, 1) if quantise else done
        return self._finish(x, y, s, quantise)

    @torch.no_grad()
    def shown(self, x: Tensor, severities: Tensor, part: tuple[slice, slice] = WHOLE) -> Tensor:
        """Return the severities (B, 8) that rows and columns of clean pictures show: near things show less haze."""
        s = severities.to(x.device, x.dtype).clone()
        for name, (rows, drawn) in self.parts.items():
            column = TYPES.index(name)
            places = drawn.shown(x[rows], s[rows, column][:, None, None, None])
            places = places[..., *part] if places.shape[-1] > 1 else places
            s[rows, column] = places.mean((1, 2, 3))
        return s.clamp(max=1)

    def _columns(self, severities: Tensor) -> Tensor:
        """Return the severities as (B, 8, 1, 1) or (B, 8, H, W), checked."""
        batch, _, height, width = self.shape
        s = severities[..., None, None] if severities.dim() == 2 else severities
        if tuple(s.shape) not in ((batch, len(TYPES), 1, 1), (batch, len(TYPES), height, width)):
            wanted = f"({batch}, {len(TYPES)}) or ({batch}, {len(TYPES)}, {height}, {width})"
            raise ValueError(f"expected severities of shape {wanted}, got {tuple(severities.shape)}")
        wrong = torch.nonzero((s < LEAST.to(s)) | (s > 1) | s.isnan())
        if len(wrong):
            kind, value = TYPES[wrong[0, 1]], float(s[tuple(wrong[0])])
            least = -1 if FAMILIES[kind].reversible else 0
            raise ValueError(f"expected severities of {kind} between {least} and 1, got {value:g}")
        self._refuse_undrawn((s != 0).any(-1).any(-1))
        return s

    def _refuse_undrawn(self, wanted: Tensor) -> None:
        left = wanted.clone()
        for name, (rows, _) in self.parts.items():
            left[rows, TYPES.index(name)] = False
        if bool(left.any()):
            row, column = torch.nonzero(left)[0].tolist()
            raise ValueError(f"expected severity 0 for {TYPES[column]} in picture {row}, which was drawn without it")

    def _finish(self, x: Tensor, y: Tensor, s: Tensor, quantise: bool) -> Tensor:
        """Round what is damaged, and give grey pictures three equal channels against float error."""
        damaged = (s != 0).any(1, keepdim=True)  # (B, 1, 1 or H, 1 or W)
        grey = damaged & self.grey[:, None, None, None]
        if bool(grey.any()):
            y = torch.where(grey, y[:, :1], y)
        # Multiplying by 255 and dividing again need not give back the same float, so the rest is taken from x.
        return torch.where(damaged, (y * 255).round() / 255, x) if quantise else y


def _check_shapes(shape: tuple[int, ...], present: Tensor) -> None:
    if len(shape) != 4 or shape[1] != 3:
        raise ValueError(f"expected a shape (B, 3, H, W), got {tuple(shape)}")
    if tuple(present.shape) != (shape[0], len(TYPES)):
        raise ValueError(f"expected present of shape ({shape[0]}, {len(TYPES)}), got {tuple(present.shape)}")
