"""Perceive-IR on a network that is not ours: what is seen of the whole picture steers the features at named taps.

With a condition c (severities), the vector that enters every PGM is ``embed(c)``. Without one, the network's own CFE
looks at the picture and the vector is ``embed(c) + Z``: c is what it reads, Z what it feels beside that. Semantic
vectors of an encoder enter as in the paper, shallow ones at the finest tap. All of it starts at zero.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from perceive_ir._errors import WeightsError
from perceive_ir._perception import padded
from perceive_ir._taps import Size, Tap, Trial, choose, try_out
from perceive_ir._vocabulary import TYPES
from perceive_ir._weights import Card, check_tensors, digest_of, read_signed, write_signed
from perceive_ir.networks import Encoder, GuidedNet, Perceiver, PictureCFE, Readout, Signals, Tapped

if TYPE_CHECKING:
    from perceive_ir._engine import Restorer

FORMAT = "perceive-ir-attached-1"
OTHER = "give the network and the file that belong together"
ENCODER = "encoder."


@dataclass(frozen=True)
class AttachConfig:
    """What is needed to attach to a network again; stands in the weights file."""

    taps: Mapping[str, int]
    """Names of modules and their channels, finest first."""
    channels: int = 3
    """Of the pictures."""
    semantics: tuple[int, ...] = ()
    """Sizes of the encoder's vectors."""
    multiple_of: int = 1
    reach: int | None = None
    types: tuple[str, ...] = TYPES

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a config back."""
        values = json.loads(text)
        return cls(**{**values, "semantics": tuple(values["semantics"]), "types": tuple(values["types"])})


class Attached(GuidedNet):
    """A network with its guidance; called with pictures alone it gives what the network gives, until it is trained.

    Made by `attach`. What learns is ``cfe`` and ``guidance``, and ``backbone.network`` unless you freeze it; the
    encoder never does.
    """

    backbone: Tapped

    def __init__(self, network: nn.Module, config: AttachConfig, trial: Trial, encoder: Encoder | None) -> None:
        chosen = evenly(len(config.semantics), len(config.taps))
        sizes = [config.semantics[n] for n in chosen] or [0] * len(config.taps)
        tapped = Tapped(network, config.taps, config.multiple_of, config.reach, trial.bytes_per_pixel)
        super().__init__(tapped, len(config.types), sizes)
        self.config, self.encoder, self.chosen = config, encoder, chosen
        self.restores = isinstance(trial.output, Tensor) and trial.output.shape == trial.picture.shape
        self.cfe = PictureCFE(config.channels, len(config.types))
        self.guidance.to(trial.picture)
        self.cfe.to(trial.picture)
        self.train(network.training)

    def forward(self, image: Tensor, condition: Tensor | Signals | None = None) -> Tensor:
        """Let the network work on pictures, steered by what is told or else by what is seen in them.

        Parameters
        ----------
        image
            Pictures (B, C, H, W) in [0, 1].
        condition
            Severities (B, T), or a map of them (B, T, h, w); without them the CFE looks at each whole picture. What
            `Restorer` knows of a picture (`Signals`) steers its tiles, and gates them: told nothing, nothing changes.
        """
        if isinstance(condition, Signals):
            return super().forward(image, replace(condition, semantics=self.spread(condition.semantics)))
        restored: Tensor = self.backbone(image, self.guide(self.signals(image, condition)))
        return restored

    def signals(self, image: Tensor, condition: Tensor | None = None) -> Signals:
        """Find out all that steers the network on whole pictures; tiles of one can share it."""
        semantics = self.spread(self.semantics(image))
        if condition is None:
            seen = self.read(image)
            return Signals(seen.condition, semantics, seen.contrast)
        if condition.ndim not in (2, 4) or condition.shape[1] != len(self.config.types):
            raise ValueError(
                f"expected a condition (B, {len(self.config.types)}) or a map of it, got {tuple(condition.shape)}; "
                f"its severities are those of {', '.join(self.config.types)}"
            )
        return Signals(condition, semantics)

    def read(self, image: Tensor) -> Readout:
        """Let the CFE look at pictures (B, C, H, W)."""
        seen: Readout = self.cfe(image)
        return seen

    def semantics(self, image: Tensor) -> tuple[Tensor, ...] | None:
        """Return the encoder's vectors F_1 .. F_n of whole pictures, if there is an encoder."""
        if self.encoder is None:
            return None
        with torch.no_grad():
            return self.encoder.semantics(padded(image, self.encoder.multiple_of))

    def spread(self, semantics: tuple[Tensor, ...] | None) -> tuple[Tensor, ...] | None:
        """Give every tap one of the vectors."""
        return tuple(semantics[n] for n in self.chosen) if semantics and self.chosen else None

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if isinstance(self.encoder, nn.Module):
            self.encoder.eval()
        return self

    def detach(self) -> nn.Module:
        """Take all hooks off and give the network back; what is left of this module cannot be called."""
        return self.backbone.release()

    def kept(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Return what a weights file holds: all tensors but those of the encoder, and the config."""
        state = {name: t for name, t in self.state_dict().items() if not name.startswith(ENCODER)}
        odd = [name for name, value in state.items() if not isinstance(value, Tensor)]
        if odd:
            raise ValueError(f"{odd[0]} is no tensor: a weights file cannot hold the extra state of a module")
        plain = {name: t.detach().cpu().contiguous().clone() for name, t in state.items()}
        return plain, {"format": FORMAT, "config": json.dumps(asdict(self.config))}

    def save(self, path: str | Path) -> str:
        """Write the network, its guidance and its taps into one safetensors file; return its digest."""
        return write_signed(Path(path), *self.kept())

    def as_model(self, name: str = "attached", *, device: str = "auto", precision: str = "auto") -> Restorer:
        """Return a copy behind the engine: pictures of any size, tile by tile, all steered by one perception.

        The compact model's perceiver says what is wrong (and the encoder, if it is such a perceiver, in its place).
        """
        from perceive_ir._catalogue import load
        from perceive_ir._engine import Restorer

        if self.config.channels != 3 or not self.restores:
            raise ValueError("the engine needs a network that gives back pictures (B, 3, H, W) as it takes them")
        system, net = load(device="cpu").system, copy.deepcopy(self)
        if isinstance(net.encoder, Perceiver):
            system.perceiver = net.encoder
        elif net.encoder is not None:
            raise ValueError(
                f"the engine finds semantic vectors with a Perceiver, not with a {type(net.encoder).__name__}: "
                "attach with encoder=pir.load().system.perceiver"
            )
        system.restorer = net
        system.config = replace(system.config, semantics=bool(self.config.semantics))
        card = Card(name, "0", digest=digest_of(*self.kept()))
        return Restorer(system, card, device=device, precision=precision)


def attach(
    network: nn.Module,
    taps: Mapping[str, int] | str = "auto",
    *,
    encoder: Encoder | None = None,
    channels: int = 3,
    size: Size = 64,
    multiple_of: int | None = None,
    reach: int | None = None,
    weights: str | Path | None = None,
) -> Attached:
    """Attach the guidance of Perceive-IR to a network; called with pictures, the result gives what the network gave.

    Parameters
    ----------
    network
        Any module that takes pictures; it is not copied, and on its own it stays as it is.
    taps
        Names of its modules whose output (B, C, H, W) is guided, and their channels; `pir.taps` lists them. "auto"
        takes the deepest, and the last of each scale on the way up from it.
    encoder
        Frozen encoder whose semantic vectors guide too, such as ``pir.load().system.perceiver``.
    channels, size
        Of the random picture that is sent through the network once; see `pir.taps`.
    multiple_of
        What sides of pictures must be divisible by, for the engine; by default the scale of the deepest features.
    reach
        How far an output pixel sees to each side, if you know it: then the engine can be exact.
    weights
        A file that `Attached.save` wrote. It holds taps and options; the network must have the shapes it had.
    """
    if weights is not None:
        if (taps, channels, multiple_of, reach) != ("auto", 3, None, None):
            raise ValueError(f"{weights} holds taps and options: give weights without them")
        return bring_back(network, Path(weights), encoder, size)
    trial = try_out(network, size, channels)
    config = AttachConfig(
        taps={tap.name: tap.channels for tap in asked(trial, taps)},
        channels=channels,
        semantics=sizes_of(encoder, trial.picture),
        multiple_of=trial.stride if multiple_of is None else check_count("multiple_of", multiple_of, 1),
        reach=None if reach is None else check_count("reach", reach, 0),
    )
    return Attached(network, config, trial, encoder)


def bring_back(network: nn.Module, path: Path, encoder: Encoder | None, size: Size) -> Attached:
    """Attach to a network as a weights file says, and fill both."""
    config, tensors = read_weights(path)
    trial = try_out(network, size, config.channels)
    try:
        for name, channels in config.taps.items():
            trial.find(name, channels)
    except ValueError as error:
        raise WeightsError(f"{path} does not fit this network ({error}); {OTHER}") from error
    found = sizes_of(encoder, trial.picture)
    if found != config.semantics:
        expected = f"an encoder with vectors of {config.semantics}" if config.semantics else "no encoder"
        raise ValueError(f"{path} expects {expected}, got {found or 'none'}: give the one that it was made with")
    net = Attached(network, config, trial, encoder)
    try:
        wanted = {name: t for name, t in net.state_dict().items() if not name.startswith(ENCODER)}
        check_tensors(path, tensors, wanted, OTHER)
        surplus = sorted(set(tensors) - set(wanted))
        if surplus:
            raise WeightsError(f"{path} holds the tensor {surplus[0]}, which this network lacks; {OTHER}")
    except WeightsError:
        net.detach()
        raise
    net.load_state_dict(tensors, strict=False)
    return net


def read_weights(path: Path) -> tuple[AttachConfig, dict[str, Tensor]]:
    """Read what `Attached.save` wrote."""
    if not path.is_file():
        raise WeightsError(f"no weights file at {path}; net.save(path) writes one")
    tensors, about, _ = read_signed(
        path, FORMAT, "was not saved by an attached network", "give a file that net.save(path) wrote", "get it again"
    )
    try:
        config = AttachConfig.from_json(about["config"])
    except (ValueError, TypeError, KeyError) as error:
        raise WeightsError(f"{path} describes taps that this version does not know ({error}); {OTHER}") from error
    if config.types != TYPES:
        raise WeightsError(f"{path} knows the types {', '.join(config.types)}, expected {', '.join(TYPES)}; {OTHER}")
    return config, tensors


def asked(trial: Trial, taps: Mapping[str, int] | str) -> list[Tap]:
    """Return the taps that were asked for, finest first."""
    if taps == "auto":
        chosen = choose(list(trial.taps.values()))
    elif isinstance(taps, Mapping) and taps:
        chosen = [trial.find(name, channels) for name, channels in taps.items()]
    else:
        raise ValueError(f'expected taps as {{"name of a module": channels}} or "auto", got {taps!r}')
    return sorted(chosen, key=lambda tap: tap.scale)


def sizes_of(encoder: Encoder | None, picture: Tensor) -> tuple[int, ...]:
    """Freeze an encoder, bring it to where a picture is, and return the sizes of its vectors."""
    if encoder is None:
        return ()
    if isinstance(encoder, nn.Module):
        encoder.requires_grad_(False).eval().to(picture)
    with torch.no_grad():
        return tuple(f.shape[-1] for f in encoder.semantics(padded(picture, encoder.multiple_of)))


def evenly(vectors: int, taps: int) -> list[int]:
    """Number the vector of each tap: the first for the finest, the last for the deepest, evenly between them."""
    if not vectors:
        return []
    return [round((vectors - 1) * (level / (taps - 1) if taps > 1 else 1)) for level in range(taps)]


def check_count(name: str, value: object, least: int) -> int:
    """Return a whole number that is large enough."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"expected {name} as a whole number, {least} or more, got {value!r}")
    return value
