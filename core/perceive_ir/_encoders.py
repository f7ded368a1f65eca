"""Where the weights of frozen encoders come from: a local folder, or the hub of their makers; never random.

``encoders/NAME.safetensors`` is looked for in the folders of our own weights. What is not there is downloaded once by
``huggingface_hub``, which honours ``HF_HUB_OFFLINE``. Pickled files are not read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from perceive_ir._catalogue import FOLDER_VARIABLE, folders
from perceive_ir._errors import WeightsError
from perceive_ir._triton import without_triton
from perceive_ir._weights import digest_of, read_tensors
from perceive_ir.networks.encoders import OPEN_CLIP, TIMM, TOWER, ClipSpace, ClsTaps, EncoderConfig
from perceive_ir.networks.system import System

PLACE = "encoders"


@dataclass(frozen=True)
class Origin:
    """A file that others publish."""

    name: str
    """What it is called in the local folder, without suffix."""
    repository: str
    """On the Hugging Face hub; "" where it is not there."""
    file: str = "model.safetensors"


VGG16 = Origin("vgg16", "timm/vgg16.tv_in1k")
"""VGG-16 with torchvision's weights IMAGENET1K_V1, under torchvision's names."""


def equip(system: System, *, training: bool = False) -> System:
    """Give a system the frozen encoders that its config names, and write their digests into it.

    Parameters
    ----------
    system
        As built from its config, or as read from a file whose digests must match.
    training
        Bring CLIP too, which restoring does not need.
    """
    wanted = system.config.encoder_config()
    if wanted.semantics != TOWER and system.taps is None:
        system.taps = load_taps(wanted)
        sign(system, "semantics", system.taps.net, wanted.semantics)
    if training and wanted.clip != TOWER and system.clip is None:
        system.clip = load_clip(wanted)
        sign(system, "clip", system.clip.net, wanted.clip)
    return system


def sign(system: System, role: str, net: nn.Module, title: str) -> None:
    """Write into a system's config which weights an encoder has; refuse others than those that are written there."""
    config, key = system.config.encoder_config(), f"{role}_sha256"
    digest = digest_of({name: tensor.cpu() for name, tensor in net.state_dict().items()}, {})
    known = getattr(config, key)
    if known not in ("", digest):
        raise WeightsError(
            f"{title} here has weights {digest[:12]}…, but the model was trained with {known[:12]}…; "
            f"put those into {place()}"
        )
    system.config = replace(system.config, encoder={**asdict(config), key: digest})


# ---- the encoders


def load_taps(config: EncoderConfig) -> ClsTaps:
    """Load a ViT of ``timm``."""
    with without_triton():
        import timm

    name = config.semantics.removeprefix(TIMM)
    build: Callable[..., Any] = timm.create_model
    try:
        vit = quietly(lambda: build(name, pretrained=False, num_classes=0, dynamic_img_size=True))
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"timm has no ViT {name!r} ({reason(error)}); use vit_base_patch14_dinov2") from error
    if not getattr(vit, "has_class_token", False):
        raise ValueError(f"expected a ViT with a CLS token, got {config.semantics}; use vit_base_patch14_dinov2")
    if config.blocks[-1] > len(vit.blocks) or config.width != vit.embed_dim:
        raise ValueError(
            f"expected encoder.blocks up to {len(vit.blocks)} and encoder.width {vit.embed_dim} for "
            f"{config.semantics}, got {list(config.blocks)} and {config.width}"
        )
    origin = Origin(name, str(vit.pretrained_cfg.get("hf_hub_id") or ""))
    return ClsTaps(filled(vit, config.semantics, origin), config.blocks, config.side)


def load_clip(config: EncoderConfig) -> ClipSpace:
    """Load a model of ``open_clip``; its weights are read from safetensors alone."""
    with without_triton():
        import open_clip

    name, _, tag = config.clip.removeprefix(OPEN_CLIP).partition("/")
    about: Mapping[str, Any] = open_clip.get_pretrained_cfg(name, tag) or {}
    origin = Origin(f"{name}-{tag}", about.get("hf_hub", "").rpartition("/")[0], "open_clip_model.safetensors")
    if open_clip.get_model_config(name) is None:
        raise ValueError(f"open_clip has no model {name!r}; expected one such as {OPEN_CLIP}ViT-B-32-quickgelu/openai")
    normalisation = {key: about[key] for key in ("mean", "std") if key in about}
    path = find(config.clip, origin)
    build: Callable[..., Any] = open_clip.create_model
    try:
        clip = quietly(lambda: build(name, pretrained=str(path), force_preprocess_cfg=normalisation))
    except (RuntimeError, SafetensorError) as error:
        why = f"{path} does not fit {config.clip} ({reason(error)})"
        raise WeightsError(f"{why}; {remedy(origin)}") from error
    if clip.visual.output_dim != config.embedding:
        raise ValueError(
            f"expected encoder.embedding {clip.visual.output_dim} for {config.clip}, got {config.embedding}"
        )
    return ClipSpace(clip)


def filled(net: Any, title: str, origin: Origin) -> Any:
    """Put weights into a network; every one of its tensors must be in the file, with its shape."""
    path = find(title, origin)
    tensors, _ = read_tensors(path)
    for name, tensor in net.state_dict().items():
        if name not in tensors or tensors[name].shape != tensor.shape:
            held = f"has {name} of shape {tuple(tensors[name].shape)}" if name in tensors else f"lacks {name}"
            raise WeightsError(f"{path} {held}, so it does not fit {title}; {remedy(origin)}")
    net.load_state_dict({name: tensors[name].float() for name in net.state_dict()})
    return net


def quietly(build: Callable[[], Any]) -> Any:
    """Build a network without drawing from the random numbers of the caller."""
    with torch.random.fork_rng(devices=[]):
        return build()


def reason(error: Exception) -> str:
    """Return why, in one short line."""
    return " ".join(str(error).split())[:160]


# ---- their files


def find(title: str, origin: Origin) -> Path:
    """Return the file with the weights of an encoder: out of a local folder, or downloaded once."""
    local = [folder / PLACE / f"{origin.name}.safetensors" for folder in folders()]
    for path in local:
        if path.is_file():
            return path
    if not origin.repository:
        raise WeightsError(f"no weights of {title} here; {remedy(origin)}")
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(origin.repository, origin.file))
    except (OSError, ValueError) as error:
        raise WeightsError(f"no weights of {title} here ({reason(error)}); {remedy(origin)}") from error


def remedy(origin: Origin) -> str:
    """Say how to get the weights of an encoder."""
    local = f"put {origin.name}.safetensors into {place()}"
    return f"type `hf download {origin.repository} {origin.file}`, or {local}" if origin.repository else local


def place() -> str:
    """Say where weights of encoders belong."""
    return f"the folder {PLACE}/ of {FOLDER_VARIABLE} or of {folders()[-2]}"
