"""Weights files: safetensors whose metadata hold everything needed to build and judge the model."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from perceive_ir._errors import WeightsError
from perceive_ir.networks import System, SystemConfig

FORMAT = "perceive-ir-1"
Networks = TypeVar("Networks", bound=nn.Module)
OTHER = "get the weights that belong to this version"


@dataclass(frozen=True)
class Card:
    """What a weights file says of itself."""

    name: str
    version: str
    licence: str = ""
    data: str = ""
    """What it was trained on, and on what terms."""
    scores: Mapping[str, Any] = field(default_factory=dict)
    notes: str = ""
    digest: str = ""
    """SHA-256 over config, card and tensors; written by `save_system`, checked by `load_system`."""


def save_system(path: str | Path, system: System, card: Card, *, half: bool = True) -> str:
    """Write a weights file at once or not at all; return its digest.

    Parameters
    ----------
    path
        Where to write; an existing file is replaced.
    system
        The networks.
    card
        Name, version, licence, data statement and scores; its ``digest`` is replaced.
    half
        Store float16 instead of float32.
    """
    tensors = {
        name: (halved(name, t) if half and t.is_floating_point() else t).detach().cpu().contiguous()
        for name, t in system.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    about = {"format": FORMAT, "config": json.dumps(system.config.to_dict()), "card": card_text(card)}
    return write_signed(Path(path), tensors, about)


def halved(name: str, tensor: Tensor) -> Tensor:
    """Return a tensor in float16, which must be able to hold it."""
    half = tensor.half()
    if bool((half.isinf() & ~tensor.isinf()).any()):
        largest = float(tensor.abs().max())
        raise ValueError(f"{name} reaches {largest:g}, more than float16 can hold: save with half=False")
    return half


def load_system(path: str | Path) -> tuple[System, Card]:
    """Read a weights file: networks in evaluation mode on the CPU in float32, and its card."""
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"no weights file at {path}; `perceive-ir models` lists what is there")
    tensors, about, digest = read_signed(
        path,
        FORMAT,
        "is not a weights file of this project",
        "`perceive-ir models` lists those that are; attach(network, weights=path) reads what an attached network saved",
        "get it again",
    )
    try:
        # Not on the meta device: that would import a compiler, at a second's cost.
        with torch.random.fork_rng(devices=[]):
            system = System(SystemConfig.from_dict(json.loads(about["config"])))
        card = Card(**json.loads(about["card"]), digest=digest)
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise WeightsError(f"{path} describes a model that this version cannot build ({error}); {OTHER}") from error
    return fill(system, tensors, path), card


def write_signed(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> str:
    """Write tensors on the CPU and metadata with their digest, at once or not at all; return the digest."""
    digest = digest_of(tensors, about)
    write_atomically(path, save(dict(tensors), {**about, "digest": digest}))
    return digest


def read_signed(
    path: Path, kind: str, refusal: str, instead: str, again: str
) -> tuple[dict[str, Tensor], dict[str, str], str]:
    """Read what `write_signed` wrote: tensors, metadata and digest.

    Parameters
    ----------
    path
        The file.
    kind
        The ``format`` that its metadata must name.
    refusal, instead
        What is said of a file of another format, and its remedy.
    again
        The remedy for a file that was changed.
    """
    tensors, about = read_tensors(path)
    digest = about.pop("digest", "")
    if about.get("format") != kind:
        raise WeightsError(f"{path} {refusal} (format {about.get('format')!r}, not {kind}); {instead}")
    if digest != digest_of(tensors, about):
        raise WeightsError(f"{path} was changed after it was written (its digest does not match); {again}")
    return tensors, about, digest


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read all tensors and the metadata; as copies, else whoever writes into the file later changes or kills us."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name).clone() for name in file.keys()}, dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file ({error}); get it again") from error


def fill(networks: Networks, tensors: Mapping[str, Tensor], path: Path) -> Networks:
    """Put the tensors into the networks; every name and shape must fit."""
    wanted = {n: t for n, t in networks.state_dict().items() if not n.endswith("num_batches_tracked")}
    check_tensors(path, tensors, wanted, OTHER)
    state = {n: tensors[n].float() if tensors[n].is_floating_point() else tensors[n] for n in wanted}
    counters = {n: torch.tensor(0) for n in networks.state_dict() if n.endswith("num_batches_tracked")}
    networks.load_state_dict({**state, **counters}, assign=True)
    return networks.eval().requires_grad_(False)


def check_tensors(path: Path, tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], remedy: str) -> None:
    """Refuse a file that lacks one of the wanted tensors, or holds it in another shape."""
    for name, tensor in wanted.items():
        if name not in tensors:
            raise WeightsError(f"{path} lacks the tensor {name}; {remedy}")
        if tensors[name].shape != tensor.shape:
            raise WeightsError(
                f"{path}: tensor {name} has shape {tuple(tensors[name].shape)}, "
                f"expected {tuple(tensor.shape)}; {remedy}"
            )


def card_text(card: Card) -> str:
    """Return the card as JSON, without its digest."""
    return json.dumps({k: v for k, v in card.__dict__.items() if k != "digest"}, sort_keys=True)


def digest_of(tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> str:
    """SHA-256 over the metadata and every tensor's name, type, shape and bytes."""
    digest = hashlib.sha256(json.dumps(dict(about), sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~current_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def current_umask() -> int:
    """Return the permissions that new files lack; `mkstemp` would let nobody else read them."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
