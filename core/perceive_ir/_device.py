"""Where and in which number format a network runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from perceive_ir._errors import NotEnoughMemoryError

DEVICE_VARIABLE = "PERCEIVE_IR_DEVICE"
"""Environment variable; what device "auto" means, such as a GPU of its own for each worker of a cluster."""
GIB = 2**30
MOST_CPU_MEMORY = 2 * GIB
"""Automatic memory on a CPU is never more."""
SMALL = 192 * 192
"""Pixels of an image up to which the deepest maps of a network are small to a processor (found by trial)."""


def choose_device(wish: str) -> torch.device:
    """Return the wished device; for "auto" the one that `DEVICE_VARIABLE` names, or the fastest."""
    if wish == "auto":
        wish = os.environ.get(DEVICE_VARIABLE, wish)
    if wish == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if has_mps() else "cpu")
    try:
        device = torch.device(wish)
    except RuntimeError:
        raise ValueError(f"expected device auto, cpu, cuda, cuda:N or mps, got {wish!r}") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"no CUDA device {wish!r} here ({torch.cuda.device_count()} found); use device='cpu'")
    if device.type == "mps" and not has_mps():
        raise ValueError("no MPS device here; use device='cpu'")
    if device.type not in ("cpu", "cuda", "mps"):
        raise ValueError(f"expected device auto, cpu, cuda, cuda:N or mps, got {wish!r}")
    return device


def has_mps() -> bool:
    """Whether Apple's GPU can be used."""
    return torch.backends.mps.is_available()


def choose_precision(wish: str, device: torch.device) -> torch.dtype:
    """Return the number format: bfloat16 for "auto" only where the hardware multiplies it fast."""
    if wish not in ("auto", "float32", "bfloat16"):
        raise ValueError(f"expected precision auto, float32 or bfloat16, got {wish!r}")
    if wish == "auto":
        return torch.bfloat16 if has_fast_bfloat16(device) else torch.float32
    return torch.bfloat16 if wish == "bfloat16" else torch.float32


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 pays: Ampere and later GPUs, processors with AMX; with AVX-512 BF16 alone it is slower."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "mps":
        return False
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("amx_bf16"))


def memory_budget(wish: str | float, device: torch.device) -> int:
    """Return how many bytes the tiles of a batch may need."""
    if wish != "auto":
        return int(float(wish) * GIB)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // 2
    return min(MOST_CPU_MEMORY, free_memory() // 4)


def free_memory() -> int:
    """Return the free main memory in bytes, or a cautious guess where the system does not say."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 4 * GIB


def in_company(images: torch.Tensor) -> torch.Tensor:
    """Return a batch (N, C, h, w), with a copy beside a lone small image.

    For a lone one a processor takes other kernels, with other bits, than for several: what becomes of a picture would
    depend on those beside it.
    """
    lone = images.device.type == "cpu" and len(images) == 1 and images.shape[-2] * images.shape[-1] <= SMALL
    return torch.cat([images, images]) if lone else images


@contextmanager
def looking(device: torch.device) -> Iterator[None]:
    """Perceive in here: denormals count as zero, and of memory that is short it is said what helps."""
    with without_denormals():
        try:
            yield
        except torch.OutOfMemoryError:
            remedy = "free some, or use device='cpu'"
            raise NotEnoughMemoryError(f"not enough memory on {device} to look at the picture: {remedy}") from None


@contextmanager
def without_denormals() -> Iterator[None]:
    """Treat numbers near zero as zero meanwhile: a processor handles them up to ten times slower."""
    before = flushes_denormals()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def flushes_denormals() -> bool:
    """Whether numbers near zero count as zero in this thread; torch sets it but does not tell."""
    return not bool(torch.full((1,), 2e-39, dtype=torch.float32, device="cpu").mul(0.5).any())
