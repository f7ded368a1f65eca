"""How much memory a computation holds at its peak, by what torch makes and lets go of."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

T = TypeVar("T")


def most_held(work: Callable[[], T]) -> tuple[int, T]:
    """Return the bytes of tensors that some work held at most, and what came of it."""
    with torch.inference_mode(), Held() as held:
        done = work()
    return held.most, done


class Held(TorchDispatchMode):
    """Counts the bytes of all storages that are made in here, until they are freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self.known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self.count(tensor.untyped_storage())
        return out

    def count(self, storage: Any) -> None:
        """Count a storage once."""
        if storage not in self.known:
            self.known.add(storage)
            self.add(storage.nbytes())
            weakref.finalize(storage, self.add, -storage.nbytes())

    def add(self, size: int) -> None:
        """Add bytes, or take some away."""
        self.now += size
        self.most = max(self.most, self.now)
