"""The whole system of one weights file: a perceiver and a guided restoration network, built from a plain value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perceive_ir._vocabulary import TIERS, TYPES
from perceive_ir.networks.compact import Compact, CompactConfig
from perceive_ir.networks.encoders import TOWER, ClipSpace, ClsTaps, EncoderConfig
from perceive_ir.networks.foreign import ForeignNet
from perceive_ir.networks.guidance import Signals
from perceive_ir.networks.model import GuidedNet
from perceive_ir.networks.nafnet import NAFNet, NAFNetConfig
from perceive_ir.networks.promptir import PromptIR, PromptIRConfig
from perceive_ir.networks.restormer import Restormer, RestormerConfig
from perceive_ir.networks.specialists import Specialists
from perceive_ir.networks.tower import Perceiver, TowerConfig

BackboneConfig = CompactConfig | RestormerConfig | NAFNetConfig | PromptIRConfig
BACKBONES: dict[str, tuple[type[Any], Callable[[Any], nn.Module]]] = {
    "compact": (CompactConfig, Compact),
    "restormer": (RestormerConfig, Restormer),
    "nafnet": (NAFNetConfig, NAFNet),
    "promptir": (PromptIRConfig, PromptIR),
}


@dataclass(frozen=True)
class SystemConfig:
    """What is needed to build the networks of a weights file."""

    backbone: str = "compact"
    """Name of the backbone family."""
    sizes: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the backbone's own config that differ from its defaults."""
    tower: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the image tower's config that differ from its defaults."""
    encoder: Mapping[str, Any] = field(default_factory=dict)
    """Frozen encoders of others that see for the restorer: fields of `EncoderConfig` that differ from its defaults."""
    semantics: bool = True
    """Whether the restorer is guided by feature vectors, beside the condition."""
    groups: tuple[str, ...] = ("+".join(TYPES),)
    """Types that one restorer undoes, joined by +; several groups are undone one after the other, in this order."""
    scattering: bool = False
    """Whether the restorer of haze is shown what the law of scattering makes of the picture."""
    steady: bool = False
    """Whether a shake is undone by its own law where its path is found."""
    types: tuple[str, ...] = TYPES
    tiers: tuple[str, ...] = TIERS

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES:
            raise ValueError(f"expected a backbone out of {', '.join(BACKBONES)}, got {self.backbone!r}")
        if sorted(t for group in self.split_groups() for t in group) != sorted(self.types):
            raise ValueError(
                f"expected every one of {', '.join(self.types)} in exactly one of groups, got {list(self.groups)}"
            )
        self.backbone_config(), self.tower_config(), self.encoder_config()  # their mistakes too are told here

    def split_groups(self) -> tuple[tuple[str, ...], ...]:
        """Return the names of each group's types."""
        return tuple(tuple(group.split("+")) for group in self.groups)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SystemConfig:
        """Read a config back from JSON."""
        config: SystemConfig = from_known_keys(cls, values)
        return config

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, every size written out: a file must outlive a change of the defaults."""
        sizes, tower = asdict(self.backbone_config()), asdict(self.tower_config())
        return {**asdict(self), "sizes": sizes, "tower": tower, "encoder": asdict(self.encoder_config())}

    def backbone_config(self) -> BackboneConfig:
        """Return the backbone's own config."""
        kind, _ = BACKBONES[self.backbone]
        config: BackboneConfig = from_known_keys(kind, self.sizes)
        return config

    def tower_config(self) -> TowerConfig:
        """Return the image tower's config."""
        counts = {"types": len(self.types), "tiers": len(self.tiers)}
        config: TowerConfig = from_known_keys(TowerConfig, {**self.tower, **counts})
        return config

    def encoder_config(self) -> EncoderConfig:
        """Return the config of the frozen encoders."""
        config: EncoderConfig = from_known_keys(EncoderConfig, self.encoder, "model.encoder")
        return config

    def semantic_sizes(self) -> tuple[int, ...]:
        """Return the lengths of the feature vectors that guide the restorer."""
        encoder = self.encoder_config()
        return self.tower_config().semantics if encoder.semantics == TOWER else encoder.sizes


class System(nn.Module):
    """Perceiver and restorer that belong together; as a whole it is the `Encoder` that guides its restorer.

    Parameters
    ----------
    config
        What is built.
    restorer
        A restorer made elsewhere, instead of the one that the config describes.
    """

    multiple_of = Perceiver.multiple_of
    taps: ClsTaps | None = None
    """The frozen ViT, where the config names one; it is put here by who finds its weights."""
    clip: ClipSpace | None = None
    """The frozen CLIP model; only a training needs it."""

    def __init__(self, config: SystemConfig | None = None, restorer: ForeignNet | None = None) -> None:
        super().__init__()
        self.config = config or SystemConfig()
        encoder = self.config.encoder_config()
        self.perceiver = Perceiver(self.config.tower_config())
        self.restorer = build_restorer(self.config) if restorer is None else restorer
        if encoder.clip != TOWER:
            self.tiers = nn.Parameter(torch.randn(len(self.config.tiers), encoder.embedding))

    def semantics(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return F_1 .. F_n of pictures (B, 3, H, W) in [0, 1]: of the frozen ViT, or of the image tower."""
        encoder = self.config.encoder_config().semantics
        if encoder == TOWER:
            return self.perceiver.semantics(image)
        assert self.taps is not None, f"{encoder} is not equipped"
        return self.taps.semantics(image)

    def signals(self, image: Tensor, told: Tensor) -> Signals:
        """Return what guides the restorer of whole pictures: the condition, and what is seen where it listens to it."""
        return Signals(told, self.semantics(image) if self.config.semantics else None)

    def encode_image(self, image: Tensor, normalize: bool = False) -> Tensor:
        """Embed pictures in the space of the tier features: that of the frozen CLIP, or of the image tower."""
        encoder = self.config.encoder_config().clip
        if encoder == TOWER:
            return self.perceiver.encode_image(image, normalize)
        assert self.clip is not None, f"{encoder} is not equipped"
        return self.clip.encode_image(image, normalize)

    def tier_cosines(self, image: Tensor) -> Tensor:
        """Return the cosines of pictures with the features of low, medium and high quality (B, 3)."""
        tiers = self.perceiver.tiers if self.clip is None else self.tiers
        embedding = self.encode_image(image, normalize=True)
        with torch.autocast(image.device.type, enabled=False):  # S = 100 leaves no digit to spare
            return embedding.float() @ F.normalize(tiers.float(), dim=-1).T

    @property
    def scale(self) -> Tensor:
        """S, by which the cosines become logits."""
        return self.perceiver.logit_scale.exp() if self.clip is None else self.clip.scale

    def forward(self, image: Tensor, signals: Signals) -> Tensor:
        restored: Tensor = self.restorer(image, signals)
        return restored


def build_restorer(config: SystemConfig) -> GuidedNet | Specialists:
    """Build one guided network, or one for each group of types."""
    _, build = BACKBONES[config.backbone]
    groups, semantics = config.split_groups(), config.semantic_sizes()
    laws = (("haze", config.scattering), ("blur", config.steady))
    numbers = [[config.types.index(t) if holds and t in group else None for t, holds in laws] for group in groups]
    members = [GuidedNet(build(config.backbone_config()), len(config.types), semantics, *own) for own in numbers]
    if len(members) == 1:
        return members[0]
    return Specialists(members, [[config.types.index(t) for t in group] for group in groups], len(config.types))


def from_known_keys(kind: type[Any], values: Mapping[str, Any], where: str = "") -> Any:
    """Make a frozen config from plain values; lists become tuples, unknown keys and wrong types are refused by name."""
    where = where or kind.__name__
    if not isinstance(values, Mapping):
        raise ValueError(f"expected a table for {where}, got {values!r}")
    known = {f.name for f in fields(kind)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(
            f"unknown key {unknown[0]!r} for {where}; known keys: {', '.join(sorted(known))}; "
            f"got {values[unknown[0]]!r}"
        )
    plain = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    defaults = kind()
    for key, value in plain.items():
        default = getattr(defaults, key)
        if not is_like(value, default):
            raise ValueError(f"expected {in_words(default)} for {key!r} in {where}, got {value!r}")
    return kind(**plain)


def is_like(value: object, default: object) -> bool:
    """Whether a plain value has the type of a default; a whole number may stand for a number."""
    if isinstance(default, tuple):
        return isinstance(value, tuple) and all(is_like(v, default[0]) for v in value)
    if isinstance(default, Mapping):
        return isinstance(value, Mapping)
    if isinstance(value, bool) or isinstance(default, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    return isinstance(value, int | float if isinstance(default, float) else type(default))


def in_words(default: object) -> str:
    """Say what type of value a default stands for."""
    if isinstance(default, tuple):
        return f"a list such as {list(default)}"
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    return words.get(type(default), "a table")
