"""Second opinions: restoration networks of others, which spandrel knows, as models of this project.

A network is taken over once: read without running any code of the file, tried, and written as one signed safetensors
file together with a perceiver, so that its results can be had again.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from perceive_ir._advice import one_line
from perceive_ir._catalogue import find, place_for
from perceive_ir._errors import MissingExtraError, WeightsError
from perceive_ir._held import most_held
from perceive_ir._triton import without_triton
from perceive_ir._vocabulary import TYPES, type_of
from perceive_ir._weights import Card, card_text, fill, load_system, read_signed, read_tensors, write_signed
from perceive_ir.networks import ForeignNet, SizeNeeds, System, SystemConfig
from perceive_ir.networks.system import from_known_keys

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

FORMAT = "perceive-ir-foreign-1"
PICKLED = (".pth", ".pt", ".ckpt")
TRIAL = 128
"""Side of the picture on which a network is tried, in pixels; divides by what every known one demands."""
MARGIN = 2
"""A processor needs about twice what tensors hold, for convolutions (measured: 945 for 456 bytes, 5653 for 3136)."""
MISFITS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What code of others raises when weights or sizes do not fit."""
AGAIN = "add the network again with `perceive-ir models add`"


@dataclass(frozen=True)
class ForeignConfig:
    """What a file says of the network in it."""

    architecture: str = ""
    """As spandrel names it."""
    purpose: str = ""
    tags: tuple[str, ...] = ("",)
    source: str = ""
    """Name of the file that it was taken from."""
    source_sha256: str = ""
    types: tuple[str, ...] = TYPES
    """Damage that it was made for."""
    bytes_per_pixel: float = 0.0
    """Measured when it was taken over."""
    perceiver: str = ""
    """Name, version and SHA-256 of the model whose perceiver looks at the pictures."""
    system: Mapping[str, Any] = field(default_factory=dict)
    """Config of that model."""

    def __post_init__(self) -> None:
        unknown = [t for t in self.types if t not in TYPES]
        if unknown or not self.types:
            raise ValueError(f"expected types out of {', '.join(TYPES)}, got {list(self.types)}")


def add_model(
    source: str | os.PathLike[str],
    name: str | None = None,
    *,
    tasks: Sequence[str] = (),
    licence: str = "",
    force: bool = False,
) -> Card:
    """Take over a restoration network of others, which from then on is a model by its name.

    Parameters
    ----------
    source
        A checkpoint: safetensors, or a pickle of torch that holds nothing but weights.
    name
        What it is to be called; the name of the file if none is given.
    tasks
        What it was made for; where that is known it leaves other damage alone.
    licence
        The terms of its weights, which nothing in them tells.
    force
        Whether a network of that name is replaced.
    """
    source = Path(source)
    target = place_for(source.stem if name is None else name, force=force)
    if target.exists() and not is_foreign(target):
        raise ValueError(f"{target} holds a model of another kind; give another name")
    types = tuple(dict.fromkeys(type_of(task) for task in tasks))
    return convert(source, target, types=types or TYPES, licence=licence)


def convert(source: Path, target: Path, *, types: tuple[str, ...] = TYPES, licence: str = "") -> Card:
    """Take a network over: read and try it, and write it as a model that is named as the target."""
    state = read_state(source)
    descriptor = identify(state, source)
    system, looks = load_system(find("compact"))
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    config = ForeignConfig(
        descriptor.architecture.name, descriptor.purpose, tuple(descriptor.tags) or ("",), source.name, digest, types,
        round(tried(descriptor, source), 1), f"{looks.name} {looks.version} {looks.digest}", system.config.to_dict(),
    )  # fmt: skip
    card = Card(
        target.stem, config.architecture, licence or "unknown", "unknown",
        notes=f"network of others, taken from {source.name} (SHA-256 {digest}); a second opinion",
    )  # fmt: skip
    tensors = {f"perceiver.{name}": halved_if_equal(t) for name, t in system.perceiver.state_dict().items()}
    tensors |= {f"network.{name}": t.detach().clone(memory_format=torch.contiguous_format) for name, t in state.items()}
    about = {"format": FORMAT, "config": json.dumps(asdict(config)), "card": card_text(card)}
    return replace(card, digest=write_signed(target, tensors, about))


def is_foreign(path: Path) -> bool:
    """Whether a weights file holds a network of others."""
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (SafetensorError, OSError):
        return False


def load_foreign(path: Path) -> tuple[System, Card]:
    """Read what `convert` wrote: networks in evaluation mode on the CPU in float32, and the card."""
    refusal = "does not hold a network of others"
    tensors, about, digest = read_signed(path, FORMAT, refusal, "`perceive-ir models` lists what is there", AGAIN)
    try:
        config: ForeignConfig = from_known_keys(ForeignConfig, json.loads(about["config"]))
        card = Card(**json.loads(about["card"]), digest=digest)
        descriptor = identify(below("network.", tensors), path)
        if descriptor.architecture.name != config.architecture:
            raise ValueError(f"spandrel takes it for {descriptor.architecture.name}, not for {config.architecture}")
        with torch.random.fork_rng(devices=[]):
            system = System(SystemConfig.from_dict(config.system), as_restorer(descriptor, config))
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise WeightsError(f"{path} describes a model that this version cannot build ({error}); {AGAIN}") from error
    fill(system.perceiver, below("perceiver.", tensors), path)
    return system.eval().requires_grad_(False), card


def as_restorer(descriptor: ImageModelDescriptor[Any], config: ForeignConfig) -> ForeignNet:
    """Make a restorer of a network that spandrel knows."""
    needs = descriptor.size_requirements
    return ForeignNet(
        descriptor.model, descriptor, descriptor.input_channels, SizeNeeds(needs.multiple_of, max(1, needs.minimum)),
        config.bytes_per_pixel, config.types, descriptor.supports_bfloat16,
    )  # fmt: skip


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint by name; nothing but tensors and plain values is ever made of a pickle."""
    if not path.is_file():
        raise WeightsError(f"no file at {path}; check its name")
    suffix = path.suffix.lower()
    if suffix not in (".safetensors", *PICKLED):
        raise WeightsError(f"expected a network in .safetensors, {' or '.join(PICKLED)}, got {path.name}")
    read = read_safetensors(path) if suffix == ".safetensors" else read_pickle(path)
    try:
        state = spandrel().canonicalize_state_dict(read) if isinstance(read, dict) else {}
    except AttributeError:  # names that are numbers
        state = {}
    if not state or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise WeightsError(f"{path} holds no weights by name; give the file with the network's state dict")
    return state


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read safetensors that are not of this project."""
    tensors, about = read_tensors(path)
    if about.get("format", "").startswith("perceive-ir"):
        raise WeightsError(f"{path} is a model of this project already: give its path as --model")
    return tensors


def read_pickle(path: Path) -> Any:
    """Read a pickled checkpoint through torch's weights-only loading, which makes nothing that could run."""
    with path.open("rb") as file:
        pickled = file.read(1) == b"\x80"
    if not pickled and not zipfile.is_zipfile(path):
        raise WeightsError(f"{path} is no checkpoint of torch; get it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old pickles
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise WeightsError(
            f"{path} holds more than weights, which could run as code, and is not read; get its weights as safetensors"
        ) from None
    except (RuntimeError, EOFError, LookupError, OSError, ValueError, AttributeError) as error:
        raise WeightsError(
            f"{path} is not a readable checkpoint of weights ({first_line(error)}); get it again"
        ) from error


def identify(state: Mapping[str, Tensor], path: Path) -> ImageModelDescriptor[Any]:
    """Build the network that a state dict belongs to; what cannot stand for a restorer is refused."""
    library = spandrel()
    known = "spandrel's documentation lists those that are known"
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of code that is not ours
            found = library.MAIN_REGISTRY.load(dict(state))
    except library.UnsupportedModelError:
        raise WeightsError(f"{path} holds a network of unknown architecture; {known}") from None
    except MISFITS as error:
        raise WeightsError(f"{path} holds weights that fit no architecture ({first_line(error)}); {known}") from error
    if misfit := unfit(found):
        kind = found.architecture.name
        raise WeightsError(f"{path} holds {misfit} ({kind}); give one that restores pictures as they are")
    return found.eval()


def unfit(found: Any) -> str:
    """Say why a network cannot restore a picture as it is; nothing if it can."""
    channels = (found.input_channels, found.output_channels)
    if found.purpose == "Inpainting":
        return "a network that fills holes"
    if found.scale != 1:
        return f"a network that enlarges {found.scale} times"
    if found.purpose != "Restoration":
        return f"a network for {found.purpose}"
    return "" if channels in ((1, 1), (3, 3)) else f"a network from {channels[0]} to {channels[1]} channels"


def tried(descriptor: ImageModelDescriptor[Any], path: Path) -> float:
    """Run a network once, which must give back a picture; return the bytes that it needs per pixel."""
    side: int = max(TRIAL, descriptor.size_requirements.minimum)
    shape = (1, descriptor.input_channels, side, side)
    picture = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    try:
        held, out = most_held(lambda: descriptor(picture))
    except MISFITS as error:
        raise WeightsError(f"{path} holds a network that does not run ({first_line(error)}); get it again") from error
    if out.shape != picture.shape or not bool(out.isfinite().all()):
        raise WeightsError(f"{path} holds a network that gives back no picture of {side} x {side}; get it again")
    return MARGIN * held / (side * side)


def halved_if_equal(tensor: Tensor) -> Tensor:
    """Return a tensor in float16 where that loses nothing, as with weights that come from such a file."""
    half = tensor.half() if tensor.is_floating_point() else tensor
    return half if torch.equal(half.to(tensor.dtype), tensor) else tensor


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin so, without that beginning."""
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def spandrel() -> Any:
    """Return spandrel, which is optional."""
    try:
        with without_triton():
            import spandrel as library
    except ImportError:
        remedy = 'pip install "napari-perceive-ir[spandrel]"'
        raise MissingExtraError(f"networks of others need spandrel: {remedy}") from None
    return library


def first_line(error: Exception) -> str:
    """Return the first line of what others say."""
    return one_line(str(error).strip().partition("\n")[0])
