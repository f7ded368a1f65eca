"""Where a network can be tapped: the modules whose output is a plane of features, found by running it once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import chain
from statistics import mode
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

Size = int | tuple[int, int]
"""Height and width of the picture that a network is tried on; one number: height, and half the width."""


class Tap(NamedTuple):
    """A module whose output is a plane of features (B, C, h, w)."""

    name: str
    """As ``network.named_modules`` calls it."""
    channels: int
    scale: float
    """Side of the picture / side of the features."""

    def __str__(self) -> str:
        return f"{self.name:24} {self.channels:5} channels at 1/{self.scale:g}"


@dataclass
class Trial:
    """What the modules of a network gave when one picture went through it."""

    picture: Tensor
    """(1, C, H, W), where the network is and in its number format."""
    taps: dict[str, Tap] = field(default_factory=dict)
    """In the order in which they were finished."""
    others: dict[str, str] = field(default_factory=dict)
    """What the modules gave that cannot be tapped."""
    output: Any = None

    def note(self, name: str, output: Any) -> None:
        """Keep what a module gave; of one that is used several times, what it gave last."""
        tap = tap_of(name, output, self.picture.shape)
        self.taps.pop(name, None)
        if tap is None:
            self.others[name] = in_words(output)
        else:
            self.taps[name] = tap

    def find(self, name: str, channels: int) -> Tap:
        """Return a tap that was asked for."""
        if name in self.taps:
            if channels != self.taps[name].channels:
                raise ValueError(f"expected {self.taps[name].channels} channels for tap {name!r}, got {channels}")
            return self.taps[name]
        near = get_close_matches(name, self.taps, cutoff=0.3) or list(self.taps)[-3:]
        problem = f"gives {self.others[name]}, not (B, C, H, W)" if name in self.others else "is not used or not there"
        raise ValueError(f"tap {name!r} {problem}; near it: {', '.join(near)}; pir.taps(network) lists all")

    @property
    def stride(self) -> int:
        """Side of the pixel block that becomes one place of the deepest features."""
        return round(max((tap.scale for tap in self.taps.values()), default=1))

    @property
    def bytes_per_pixel(self) -> float:
        """Memory in float32 for each pixel: one map of each scale (skips) and 16 of the largest, by estimate."""
        largest: dict[float, float] = {}
        for tap in self.taps.values():
            largest[tap.scale] = max(largest.get(tap.scale, 0), tap.channels / tap.scale**2)
        return 4.0 * (sum(largest.values()) + 16 * max(largest.values(), default=self.picture.shape[1]))


def taps(network: nn.Module, size: Size = 64, *, channels: int = 3) -> list[Tap]:
    """List the modules of a network that can be tapped, in the order in which a picture passes them.

    The network sees one random picture; its mode, its buffers and the random numbers are afterwards as before.

    Parameters
    ----------
    network
        Any module that takes pictures (B, channels, H, W).
    size
        Height of the picture, which is twice as wide (so that maps of attention are not taken for planes), or both
        sides.
    channels
        Channels of the picture.
    """
    return list(try_out(network, size, channels).taps.values())


def choose(found: Sequence[Tap]) -> list[Tap]:
    """Choose the deepest tap, and of each scale on the way up from it the last; each as wide as most of its scale."""
    if not found:
        raise ValueError("the network has no module whose output is (B, C, H, W): it cannot be tapped")
    deepest = max(tap.scale for tap in found)
    bottom = max(place for place, tap in enumerate(found) if tap.scale == deepest)
    groups: dict[float, list[Tap]] = {deepest: [tap for tap in found if tap.scale == deepest]}
    for tap in found[bottom + 1 :]:
        groups.setdefault(tap.scale, []).append(tap)
    return [last_of_most(group) for group in groups.values()]


def last_of_most(group: Sequence[Tap]) -> Tap:
    """Return the last tap of the commonest width, which is that of the trunk and not of what leads in or out."""
    width = mode(tap.channels for tap in group)
    return [tap for tap in group if tap.channels == width][-1]


def try_out(network: nn.Module, size: Size, channels: int) -> Trial:
    """Let a random picture pass a network, and note what each module gives."""
    check_network(network)
    picture = random_picture(network, size, channels)
    trial = Trial(picture)
    hooks = [
        module.register_forward_hook(lambda _, __, output, name=name: trial.note(name, output))
        for name, module in network.named_modules()
        if name
    ]
    try:
        with undisturbed(network):
            trial.output = network(picture)
    except Exception as error:  # whatever a foreign network may raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ValueError(
            f"the network takes no picture {tuple(picture.shape)} ({reason}); give another size or channels"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    return trial


def check_network(network: object) -> None:
    """Refuse what has no modules, and what is compiled: a compiled network does not see hooks that come later."""
    if not isinstance(network, nn.Module):
        raise TypeError(f"expected a torch.nn.Module, got {type(network).__name__}")
    compiled = any(hasattr(m, "_orig_mod") or m._compiled_call_impl is not None for m in network.modules())
    if compiled or isinstance(network, torch.jit.ScriptModule):
        raise ValueError("the network is compiled: attach the plain one, and compile what you get")


def random_picture(network: nn.Module, size: Size, channels: int) -> Tensor:
    """Return a picture (1, C, H, W) where the network is and in its number format, drawn apart from other numbers."""
    height, width = (size, 2 * size) if isinstance(size, int) else size
    if min(height, width, channels) < 1:
        raise ValueError(f"expected a size and channels of 1 or more, got size {size} and {channels} channels")
    picture = torch.rand(1, channels, height, width, generator=torch.Generator().manual_seed(0))
    for tensor in chain(network.parameters(), network.buffers()):
        if tensor.is_floating_point():
            return picture.to(tensor)
    return picture


@contextmanager
def undisturbed(network: nn.Module) -> Iterator[None]:
    """Use a network in evaluation mode without a trace of it: modes, buffers and random numbers come back.

    Not in inference mode: what the network keeps for later, such as a grid, could then never be learned with.
    """
    modes = [(module, module.training) for module in network.modules()]
    kept = [
        (module, name, buffer, buffer.clone())
        for module in network.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    devices = {p.device for p in network.parameters() if p.device.type == "cuda"}
    try:
        with torch.random.fork_rng(devices=list(devices)), torch.no_grad():
            network.eval()
            yield
    finally:
        for module, training in modes:
            module.training = training
        for module, name, buffer, value in kept:
            setattr(module, name, buffer.copy_(value))


def tap_of(name: str, output: Any, picture: torch.Size) -> Tap | None:
    """Return what a module offers: features of the picture's proportions, or nothing."""
    if not isinstance(output, Tensor) or output.ndim != 4 or len(output) != picture[0]:
        return None
    (_, channels, height, width), (tall, wide) = output.shape, picture[-2:]
    return Tap(name, channels, tall / height) if tall * width == wide * height else None


def in_words(output: Any) -> str:
    """Say what a module gave."""
    return f"a tensor {tuple(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
