"""The training configuration: a TOML file as a frozen value, checked where it is made."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from perceive_ir._vocabulary import TYPES
from perceive_ir.networks import SystemConfig
from perceive_ir.networks.system import from_known_keys, is_like

STAGES = ("perceiver", "prompts", "restorer")
"""In their order: image tower, text tower and readouts; tier prompts; restorer."""
ALL = "all"
"""All stages, one after the other."""
PRECISIONS = ("auto", "float32", "bfloat16")
SMALLEST_PERCEIVER_BATCH = 5
"""Two pairs of crops and a thumbnail."""


@dataclass(frozen=True)
class StageConfig:
    """How one stage is trained."""

    steps: int = 100_000
    batch: int = 16
    patch: int = 112
    last_patch: int = 0
    """Patch of the last ``last_share`` of the training, where larger surroundings pay; 0 keeps ``patch``."""
    last_share: float = 0.25
    learning_rate: float = 8e-4
    final_rate: float = 1e-6
    warm_up: int = 100
    weight_decay: float = 1e-4
    clip: float = 1.0
    """Largest norm of the gradient."""
    ema: float = 0.999
    share: float = 1.0
    """Share of the minutes of a training of all stages."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "patch", "warm_up"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} >= 1, got {getattr(self, name)}")
        if self.patch % 16:
            raise ValueError(f"expected a patch divisible by 16, got {self.patch}")
        if self.last_patch < 0 or self.last_patch % 16:
            raise ValueError(f"expected a last_patch divisible by 16, or 0, got {self.last_patch}")
        if not 0 <= self.last_share <= 1:
            raise ValueError(f"expected last_share in 0..1, got {self.last_share}")
        for name in ("learning_rate", "clip", "share"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"expected a finite {name} > 0, got {getattr(self, name)}")
        for name in ("final_rate", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"expected a finite {name} >= 0, got {getattr(self, name)}")
        if not 0 <= self.ema <= 1:
            raise ValueError(f"expected ema in 0..1, got {self.ema}")

    def patch_at(self, done: float) -> int:
        """Return the side of the crops once a share of the training is done."""
        return self.last_patch if self.last_patch and done > 1 - self.last_share else self.patch


@dataclass(frozen=True)
class PerceiverConfig(StageConfig):
    """How the perceiver is trained."""

    settled: bool = False
    """Whether normalisations keep the statistics they start with, as they will when the perceiver is used: for going on
    from trained weights, where the statistics of small batches would only disturb."""
    readouts_alone: bool = False
    """Whether the image tower stays as it is, and only what is read off it learns: one readout is of types, severities
    and contrast, the other of tiers, scenes and language, and where all losses of one are off, it stays too."""
    tones: float = 0.0
    """Share of the pictures whose light and contrast are varied before they are damaged: a clean picture may be pale or
    dark, and is neither hazy nor under-exposed for that. As many are sharpened."""
    paired: float = 0.0
    """Share of the pictures that come from pairs: their type of damage is known, and that their quality is low, but not
    how severe the damage is."""
    scenes: int = 4
    """Scenes in three qualities that a step shows beside its batch, where ``losses.scenes`` is on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scenes < 1:
            raise ValueError(f"expected scenes >= 1 in perceiver, got {self.scenes}")
        for name in ("tones", "paired"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"expected {name} in 0..1, got {getattr(self, name)}")


@dataclass(frozen=True)
class PromptsConfig(StageConfig):
    """How the tier prompts are learned, and the half-trained restorers that make pictures of medium quality."""

    batch: int = 16
    """Scenes; each is shown in three qualities."""
    patch: int = 96
    learning_rate: float = 2e-4
    projection: bool = True
    """Whether the projection of the image tower, with its hidden units, learns with the prompts. Of parts of pictures
    nothing else is read off it; the types of whole pictures are, so calibrate again."""
    medium_steps: int = 20_000
    """Steps of each of the two restorers; they take at most half of the stage's minutes."""
    medium_batch: int = 8
    medium_patch: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("medium_steps", "medium_batch", "medium_patch"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} >= 1, got {getattr(self, name)}")
        if self.medium_patch % 16:
            raise ValueError(f"expected a medium_patch divisible by 16, got {self.medium_patch}")


@dataclass(frozen=True)
class LossConfig:
    """Weight of every term of the losses; 0 switches it off, and then it costs nothing."""

    tiers: float = 1.0
    """Quality tiers, by the worst severity."""
    scenes: float = 0.0
    """Quality tiers of whole scenes: damaged, as a half-trained restorer leaves them, and clean."""
    types: float = 1.0
    severities: float = 1.0
    contrast: float = 0.01
    """Contrastive loss of the degradation features; 0.1 in the paper, beside an L1 instead of the readouts."""
    language: float = 0.5
    """Pictures and their captions in one space."""
    l1: float = 1.0
    clip: float = 0.0
    """How far the restored picture is from "excellent"."""
    temperature: float = 100.0
    """Of the softmax of ``clip``; with 1, as published, it hardly depends on the picture."""
    perceptual: float = 0.0
    """Difficulty-adaptive distance of feature maps."""
    features: str = "tower"
    """What ``perceptual`` compares: the maps of the image "tower" or of "vgg16", or the path of VGG-16's weights."""
    probe_every: int = 500
    """Steps between two measurements of how hard the rivals of ``perceptual`` are."""

    def __post_init__(self) -> None:
        for name in ("tiers", "scenes", "types", "severities", "contrast", "language", "l1", "clip", "perceptual"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"expected a finite {name} >= 0 in losses, got {getattr(self, name)}")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"expected a finite temperature > 0 in losses, got {self.temperature}")
        if self.probe_every < 1:
            raise ValueError(f"expected probe_every >= 1 in losses, got {self.probe_every}")


@dataclass(frozen=True)
class MixConfig:
    """What a batch shows."""

    clean: float = 0.1
    """Share of pictures without damage."""
    several: float = 0.3
    """Share of damaged pictures with more than one type."""
    told_less: float = 0.25
    """Share of damaged pictures of which the restorer is told only a part, with the matching target."""
    told_wrong: float = 0.1
    """Share of pictures, clean or damaged, of which the restorer is told a type that is absent."""
    told_more: float = 0.0
    """Share of damaged pictures of which the restorer is told more haze or darkness than there is; the target shows
    that much of the opposite."""
    told_roughly: float = 0.2
    """Largest relative error of the severities that half of the samples are told: perception errs too."""
    unguided: float = 0.2
    """Share of batches in which the semantic vectors are withheld."""
    microscopy: float = 0.2
    """Share of crops from the microscopy folder."""
    procedural: float = 0.0
    """Share of crops from pictures that are drawn by formula."""
    shrunk: float = 0.0
    """Share of crops that come from a picture made up to four times smaller, as far as it is large enough."""
    paired: float = 0.0
    """Share of the restorer's samples that are pairs of a damaged picture and its target."""
    perceived: float = 0.0
    """Share of the restorer's samples that are told what the perceiver reads, as in automatic mode."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """How often each type is drawn, relative to the others (default 1)."""
    turns: Mapping[str, float] = field(default_factory=dict)
    """How often the restorer of each of ``model.groups`` trains, relative to the others (default: the weights of its
    types); 0 leaves it as it is."""
    sets: Mapping[str, float] = field(default_factory=dict)
    """Published sets under the data folder, and how often a pair of each is drawn, relative to the others; 0 leaves a
    set out. The pictures of clean sets join the photos, whatever their weight."""
    whole_sets: bool = False
    """Whether a published set that lacks pictures is refused; else it is only warned of."""

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(one.default, float) and not 0 <= value <= 1:
                raise ValueError(f"expected {one.name} in 0..1, got {value}")
        unknown = sorted(set(self.weights) - set(TYPES))
        if unknown:
            raise ValueError(f"unknown damage type {unknown[0]!r} in mix.weights; known types: {', '.join(TYPES)}")
        shares = (self.told_less, self.told_wrong, self.told_more)
        if sum(shares) > 1:
            told = " + ".join(map(str, shares))
            raise ValueError(f"expected told_less + told_wrong + told_more <= 1, got {told}; make one smaller")
        for table in ("weights", "turns", "sets"):
            for name, weight in getattr(self, table).items():
                if not is_like(weight, 1.0) or not 0 <= weight < math.inf:
                    raise ValueError(f"expected a finite number >= 0 for {name!r} in mix.{table}, got {weight!r}")


@dataclass(frozen=True)
class TrainConfig:
    """One training: the networks, what they see, and how each stage runs."""

    name: str = "compact"
    version: str = "0"
    licence: str = ""
    data: str = ""
    """What the weights are trained on, and on what terms; goes into the weights."""
    seed: int = 0
    model: SystemConfig = field(default_factory=SystemConfig)
    mix: MixConfig = field(default_factory=MixConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    perceiver: PerceiverConfig = field(default_factory=PerceiverConfig)
    prompts: PromptsConfig = field(default_factory=PromptsConfig)
    restorer: StageConfig = field(default_factory=StageConfig)
    precision: str = "auto"
    """Number format of the networks while they learn: auto, float32 or bfloat16."""
    checkpointing: bool = False
    """Whether the restorer's blocks are computed again for the gradient instead of kept: less memory, more time."""

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"expected seed >= 0, got {self.seed}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"expected precision out of {', '.join(PRECISIONS)}, got {self.precision!r}")
        unknown = sorted(set(self.mix.turns) - set(self.model.groups))
        if unknown:
            raise ValueError(f"unknown group {unknown[0]!r} in mix.turns; known groups: {', '.join(self.model.groups)}")
        if not any(self.shares()):
            raise ValueError(
                f"expected at least one group with a turn, got mix.turns {dict(self.mix.turns)} "
                f"and mix.weights {dict(self.mix.weights)}; raise one of them"
            )
        if self.perceiver.paired and not self.mix.paired:
            raise ValueError(f"expected mix.paired > 0 beside perceiver.paired {self.perceiver.paired}, got 0")
        if self.perceiver.batch < SMALLEST_PERCEIVER_BATCH:
            raise ValueError(
                f"expected batch >= {SMALLEST_PERCEIVER_BATCH} in perceiver (two pairs of crops and a thumbnail), "
                f"got {self.perceiver.batch}"
            )

    def shares(self) -> list[float]:
        """How often each of the model's groups trains, relative to the others: as told, or as its types are drawn."""
        groups = zip(self.model.groups, self.model.split_groups(), strict=True)
        drawn = {name: sum(self.mix.weights.get(t, 1.0) for t in types) for name, types in groups}
        return [self.mix.turns.get(name, share) for name, share in drawn.items()]

    def stage(self, name: str) -> StageConfig:
        """Return the settings of a stage."""
        if name not in STAGES:
            raise ValueError(f"expected a stage out of {', '.join((*STAGES, ALL))}, got {name!r}")
        chosen: StageConfig = getattr(self, name)
        return chosen


def refuse_uneven(config: TrainConfig, stages: Sequence[str], processes: int) -> None:
    """Refuse batches that several processes cannot share alike; the pairs of the perceiver's crops stay together."""
    for name in stages:
        batch = config.stage(name).batch
        parts = (batch * 2 // 5, batch // 5) if name == "perceiver" else (batch,)
        scenes = config.perceiver.scenes if name == "perceiver" and config.losses.scenes else 0
        if scenes % processes:
            raise ValueError(
                f"expected scenes in perceiver that {processes} processes can share alike, got {scenes}; "
                f"give a multiple of {processes}"
            )
        if any(part % processes for part in parts):
            least = processes * (SMALLEST_PERCEIVER_BATCH if name == "perceiver" else 1)
            raise ValueError(
                f"expected a batch in {name} that {processes} processes can share alike, got {batch}; "
                f"give a multiple of {least}"
            )


def load_config(path: str | Path) -> TrainConfig:
    """Read a TOML file; a bare file name also finds the configurations that come with the package."""
    path = Path(path)
    shipped = Path(__file__).parent / "configs" / path.name
    if not path.is_file():
        if path.parent != Path() or not shipped.is_file():
            raise ValueError(f"no configuration at {path}; shipped ones: {', '.join(sorted(shipped_names()))}")
        path = shipped
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not valid TOML: {error}") from error
    return parse(values)


def shipped_names() -> list[str]:
    """Names of the configurations that come with the package."""
    return [p.name for p in (Path(__file__).parent / "configs").glob("*.toml")]


def parse(values: Mapping[str, Any]) -> TrainConfig:
    """Build the configuration from nested tables."""
    tables: dict[str, Callable[[Any], Any]] = {
        "model": SystemConfig.from_dict,
        "mix": lambda v: from_known_keys(MixConfig, v, "mix"),
        "losses": lambda v: from_known_keys(LossConfig, v, "losses"),
        "prompts": lambda v: from_known_keys(PromptsConfig, v, "prompts"),
        "perceiver": lambda v: from_known_keys(PerceiverConfig, v, "perceiver"),
        "restorer": lambda v: from_known_keys(StageConfig, v, "restorer"),
    }
    made = {key: tables[key](value) if key in tables else value for key, value in values.items()}
    config: TrainConfig = from_known_keys(TrainConfig, made, "the configuration")
    return config


def to_dict(config: TrainConfig) -> dict[str, Any]:
    """Return plain values from which `parse` builds the same configuration."""
    values = {name: value for name, value in asdict(config).items() if name != "model"}
    return {**values, "model": config.model.to_dict()}
