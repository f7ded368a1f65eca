"""On a GPU the engine does what it does on the CPU. Run with ``pytest -m gpu``; needs no napari."""

import numpy as np
import pytest
import torch

from perceive_ir._engine import Restorer
from perceive_ir._weights import Card
from perceive_ir.images import apply_residual, residual_dtype
from perceive_ir.networks import System, SystemConfig

pytestmark = pytest.mark.gpu
SIZES = {"widths": (8, 8, 16), "encoder_blocks": (1, 1, 1), "decoder_blocks": (1, 1)}


@pytest.fixture
def system() -> System:
    torch.manual_seed(0)
    made = System(SystemConfig(sizes=SIZES, tower={"widths": (4, 4, 8, 8)}))
    with torch.no_grad():
        for parameter in made.restorer.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return made


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (300, 260, 3), dtype=np.uint8)


def restored(system: System, image: np.ndarray, device: str, precision: str) -> np.ndarray:
    restorer = Restorer(system, Card("tiny", "0"), device=device, precision=precision)
    return restorer.restore(image, task="denoise", severity=0.7, tile=128).image.astype(int)


def test_a_gpu_gives_what_the_cpu_gives(system, image):
    cpu = restored(system, image, "cpu", "float32")
    assert np.abs(restored(system, image, "cuda", "float32") - cpu).max() <= 1


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "f2", "f4", ">f4", "f8", "u4"])
def test_a_gpu_adds_the_same_bits_as_the_processor(dtype):
    random = np.random.default_rng(0)
    raw = random.integers(0, 256, (50, 60, 4 * np.dtype(dtype).itemsize), np.uint8).view(dtype)
    residual = random.normal(0, 0.3, (50, 60, 3)).astype(residual_dtype(dtype))
    residual[::7] = 0
    for strength in (0.8, random.random((50, 60))):
        there = apply_residual(raw, torch.from_numpy(residual).cuda(), 255.0, strength)
        assert there.tobytes() == apply_residual(raw, residual, 255.0, strength).tobytes()


def test_bfloat16_stays_near_float32(system, image):
    exact = restored(system, image, "cuda", "float32")
    assert np.abs(restored(system, image, "cuda", "bfloat16") - exact).mean() < 1


def test_perception_is_the_same_on_both(system, image):
    cpu = Restorer(system, Card("tiny", "0"), device="cpu").perceive(image)
    gpu = Restorer(system, Card("tiny", "0"), device="cuda").perceive(image)
    assert gpu.types == pytest.approx(cpu.types, abs=1e-3)


def test_memory_is_given_back(system, image):
    restorer = Restorer(system, Card("tiny", "0"), device="cuda")
    restorer.restore(image, task="denoise", severity=0.7)
    before = torch.cuda.memory_allocated()
    for _ in range(20):
        restorer.restore(image, task="denoise", severity=0.7)
    assert torch.cuda.memory_allocated() <= before + 2**20
