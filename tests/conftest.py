"""What all tests share: tiny networks with random weights, and ``gpu`` tests skipped where there is no CUDA."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from perceive_ir import Restorer
    from perceive_ir.networks import System

# Read when torch is imported. The networks are tiny: on a busy machine two threads are 20 times slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("busy machines", deadline=None)
settings.load_profile("busy machines")

MakeSystem = Callable[..., "System"]

TINY = {"widths": (8, 8, 16), "encoder_blocks": (1, 1, 1), "decoder_blocks": (1, 1)}
NARROW = {"widths": (6, 6, 8, 8)}
"""As deep as the compact network that is shipped, so that it sees as far."""
TINY_RESTORMER = {"widths": (8, 8, 16, 16), "blocks": (1, 1, 1, 1), "heads": (1, 2, 2, 4), "refinement": 1}
TINY_SIZES = {
    "compact": TINY,
    "restormer": TINY_RESTORMER,
    "nafnet": {"width": 4, "encoder_blocks": (1, 1, 1, 1), "decoder_blocks": (1, 1, 1, 1)},
    "promptir": {**TINY_RESTORMER, "components": 3, "prompt_widths": (4, 4, 8), "prompt_sides": (8, 4, 2)},
}
TINY_TOWER = {"widths": (4, 4, 8, 8)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not on_gpu:
        return
    import torch

    if not torch.cuda.is_available():
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason="needs CUDA, and torch finds none"))


@pytest.fixture(scope="session")
def make_system() -> MakeSystem:
    """Return a maker of small systems; ``lively`` ones have random numbers where training starts from zero."""
    import torch

    from perceive_ir.networks import System, SystemConfig

    def make(*, lively: bool = True, seed: int = 0, **config: Any) -> System:
        sizes = TINY_SIZES[config.get("backbone", "compact")]
        torch.manual_seed(seed)
        system = System(SystemConfig(**{"sizes": sizes, "tower": TINY_TOWER, **config})).eval()
        return enliven(system) if lively else system

    return make


def enliven(system: System) -> System:
    """Replace what is zero in a fresh system, so that guide, gate and blocks all change the picture visibly."""
    import torch
    from torch import nn

    with torch.no_grad():
        for parameter in system.restorer.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.5 / parameter[0].numel() ** 0.5)
        for network in getattr(system.restorer, "members", [system.restorer]):
            nn.init.normal_(network.backbone.leave.weight, std=0.01)
        # Readings of random features all lie in the middle; these spread over present and absent, low and high.
        nn.init.normal_(system.perceiver.cfe.type_head.weight, std=0.5)
        nn.init.normal_(system.perceiver.cfe.severity_head.weight, std=0.5)
    return system


@pytest.fixture(scope="session")
def tiny_system(make_system: MakeSystem) -> System:
    """A lively system that nobody may change."""
    return make_system()


@pytest.fixture(scope="session")
def tiny_model(tiny_system: System) -> Restorer:
    """The lively system, ready to restore on the CPU in float32."""
    return as_model(tiny_system)


@pytest.fixture(scope="session")
def narrow_model(make_system: MakeSystem) -> Restorer:
    """Like the tiny model, and sees as far as the compact network that is shipped."""
    return as_model(make_system(sizes=NARROW))


@pytest.fixture(scope="session")
def identity_model(make_system: MakeSystem) -> Restorer:
    """A model whose network is the identity."""
    import torch

    system = make_system()
    with torch.no_grad():
        system.restorer.backbone.leave.weight.zero_()
        system.restorer.backbone.leave.bias.zero_()
    return as_model(system)


def as_model(system: System) -> Restorer:
    from perceive_ir import Restorer
    from perceive_ir._weights import Card

    return Restorer(system, Card("tiny", "0"), device="cpu", precision="float32")


@pytest.fixture
def tiny_weights(tmp_path: Any, tiny_system: System) -> Any:
    """A weights file of the tiny system."""
    from perceive_ir._weights import Card, save_system

    path = tmp_path / "tiny.safetensors"
    save_system(path, tiny_system, Card("tiny", "0", licence="CC0", data="none", scores={"psnr": 20}), half=False)
    return path


VIT = {"semantics": "timm:test_vit", "blocks": (1, 2, 4, 6), "width": 64, "side": 64}
CLIP = {"clip": "open_clip:tiny-clip/mine", "embedding": 12}
"""Small members of the families of DINOv2 and CLIP, in place of those."""


@pytest.fixture(scope="session")
def encoder_files(tmp_path_factory: Any) -> Any:
    """A folder for ``PERCEIVE_IR_WEIGHTS`` with random weights of `VIT` and `CLIP`."""
    import json

    import open_clip
    import timm
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("weights")
    (folder / "encoders").mkdir()
    torch.manual_seed(0)
    vit = timm.create_model("test_vit", num_classes=0)
    save_file(vit.state_dict(), folder / "encoders" / "test_vit.safetensors")
    sizes = {
        "embed_dim": 12,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
    }
    (folder / "tiny-clip.json").write_text(json.dumps(sizes), encoding="utf-8")
    open_clip.add_model_config(folder / "tiny-clip.json")
    clip = open_clip.create_model("tiny-clip")
    save_file(clip.state_dict(), folder / "encoders" / "tiny-clip-mine.safetensors")
    return folder


@pytest.fixture
def encoders_here(encoder_files: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Weights are in that folder alone: nothing is cached, and the hub cannot be reached."""
    monkeypatch.setenv("PERCEIVE_IR_WEIGHTS", str(encoder_files))
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache" / name)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return encoder_files
