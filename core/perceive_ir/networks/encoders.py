"""Frozen encoders of others behind our interface: CLS tokens of a ViT (DINOv2), and the space of a CLIP model.

They are no part of a system's weights: they are not trained, not copied and not saved, only named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TOWER = "tower"
"""The system's own image tower, in place of an encoder of others."""
TIMM, OPEN_CLIP = "timm:", "open_clip:"


@dataclass(frozen=True)
class EncoderConfig:
    """Who sees a picture beside the image tower."""

    semantics: str = TOWER
    """Whose feature vectors guide the restorer: "tower", or a ViT such as "timm:vit_base_patch14_dinov2"."""
    blocks: tuple[int, ...] = (1, 4, 8, 12)
    """Blocks of the ViT, counted from 1, after which its CLS token is one of F_1 .. F_n."""
    width: int = 768
    """Length of the CLS token."""
    side: int = 224
    """The whole picture is shown to the ViT as a square of this side, in pixels."""
    clip: str = TOWER
    """In whose space the tier prompts are learned: "tower", or "open_clip:ViT-B-32-quickgelu/openai"."""
    embedding: int = 512
    """Length of the vectors of that space."""
    semantics_sha256: str = ""
    """Of the ViT that a training used: SHA-256 over its tensors; the training fills it in."""
    clip_sha256: str = ""
    """The same of CLIP."""
    vgg_sha256: str = ""
    """The same of VGG-16, which the perceptual loss may compare by."""

    def __post_init__(self) -> None:
        if self.semantics != TOWER and not self.semantics.removeprefix(TIMM).strip(TIMM):
            raise ValueError(f"expected a name after {TIMM} in encoder.semantics, got {self.semantics!r}")
        if self.semantics != TOWER and not self.semantics.startswith(TIMM):
            raise ValueError(f"expected encoder.semantics {TOWER!r} or {TIMM}NAME, got {self.semantics!r}")
        name, _, tag = self.clip.removeprefix(OPEN_CLIP).partition("/")
        if self.clip != TOWER and not (self.clip.startswith(OPEN_CLIP) and name and tag):
            raise ValueError(f"expected encoder.clip {TOWER!r} or {OPEN_CLIP}NAME/TAG, got {self.clip!r}")
        if list(self.blocks) != sorted(set(self.blocks)) or not self.blocks or self.blocks[0] < 1:
            raise ValueError(f"expected encoder.blocks to count up from 1 or more, got {list(self.blocks)}")
        for key in ("width", "side", "embedding"):
            if getattr(self, key) < 1:
                raise ValueError(f"expected encoder.{key} >= 1, got {getattr(self, key)}")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Lengths of F_1 .. F_n of the ViT."""
        return (self.width,) * len(self.blocks)


class Frozen:
    """A network that several may hold: never trained, and neither copied nor saved with who holds it."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net.eval().requires_grad_(False)

    def __deepcopy__(self, memo: Any) -> Self:
        return self


class FrozenViewer(Frozen):
    """A frozen network that is shown pictures in its own size and colours."""

    def __init__(self, net: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__(net)
        self.mean, self.std = (torch.tensor(v)[:, None, None] for v in (mean, std))

    def shown(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        """Resize and normalise pictures (B, 3, H, W) in [0, 1], on the device where they are; the network follows."""
        self.net.to(image.device)
        mean, std = (v.to(image.device) for v in (self.mean, self.std))
        small = F.interpolate(image.float(), size=size, mode="bicubic", antialias=True, align_corners=False)
        return (small.clamp(0, 1) - mean) / std


class ClsTaps(FrozenViewer):
    """CLS tokens of a ``timm`` ViT after some of its blocks, of whole pictures."""

    multiple_of = 1

    def __init__(self, vit: Any, blocks: Sequence[int], side: int) -> None:
        super().__init__(vit, vit.pretrained_cfg["mean"], vit.pretrained_cfg["std"])
        self.vit, self.blocks, self.side = vit, [number - 1 for number in blocks], side

    @torch.no_grad()
    def semantics(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return F_1 .. F_n, each (B, width), of pictures (B, 3, H, W) in [0, 1]."""
        shown = self.shown(image, (self.side, self.side))
        found = self.vit.forward_intermediates(
            shown, indices=self.blocks, return_prefix_tokens=True, stop_early=True, output_fmt="NLC",
            intermediates_only=True,
        )  # fmt: skip
        return tuple(prefix[:, 0] for _, prefix in found)


class ClipSpace(FrozenViewer):
    """An ``open_clip`` model: pictures and texts in one space."""

    def __init__(self, clip: Any) -> None:
        about = clip.visual.preprocess_cfg
        super().__init__(clip, about["mean"], about["std"])
        self.clip = clip
        size = clip.visual.image_size
        self.size: tuple[int, int] = (size, size) if isinstance(size, int) else tuple(size)

    @property
    def scale(self) -> Tensor:
        """S = exp(logit_scale), about 100."""
        scale: Tensor = self.clip.logit_scale.detach().exp()
        return scale

    def encode_image(self, image: Tensor, normalize: bool = False) -> Tensor:
        """Embed pictures (B, 3, H, W) in [0, 1] -> (B, D); a gradient goes through to the pictures."""
        embedding: Tensor = self.clip.encode_image(self.shown(image, self.size), normalize=normalize)
        return embedding
