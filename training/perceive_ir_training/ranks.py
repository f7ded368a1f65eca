"""Several processes that train together, one per GPU: who they are, and what they tell each other.

Each computes its share of the rows of a batch that all of them draw alike. A loss that needs all rows is computed by
every process on the gathered outputs, so that what comes back to a row is the sum of equal gradients; the mean of the
gradients over the processes is then that of the one loss, as it is for losses that are means over rows.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from perceive_ir._device import choose_device
from perceive_ir._errors import ClusterError, MissingExtraError

PATIENCE = timedelta(days=1)
"""How long the others wait while the first process trains the half-trained restorers, or saves."""


@dataclass(frozen=True)
class World:
    """The processes of a training; a lone one exchanges nothing."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def is_first(self) -> bool:
        """Whether this process writes the log, the weights and the checkpoints."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Return which of the rows of a batch are those of this process: as many as those of every other."""
        own = count // self.size
        return slice(self.rank * own, (self.rank + 1) * own)

    def gather(self, rows: Tensor) -> Tensor:
        """Join the rows of all processes, in their order; a gradient goes back to each."""
        if self.size == 1:
            return rows
        if not torch.is_grad_enabled():
            return joined(rows, self)
        # Rows without a gradient take the same way: on the way back the others wait for this process.
        joint: Tensor = Gather.apply(rows if rows.requires_grad else rows.detach().requires_grad_(), self)
        return joint

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their means over the processes; where only some have one, it is zero for the others."""
        if self.size == 1:
            return
        learning = list(parameters)
        there = torch.tensor([float(p.grad is not None) for p in learning], device=self.device)
        parts = [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in learning]
        total = summed(torch.cat([*parts, there]))
        *means, there = (total / self.size).split([*(p.numel() for p in learning), len(learning)])
        for parameter, mean, found in zip(learning, means, there.tolist(), strict=True):
            # In the memory layout of the parameter, which fused steps rely on.
            parameter.grad = torch.empty_like(parameter).copy_(mean.view_as(parameter)) if found else None

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return the means over the processes of values that all of them name alike."""
        if self.size == 1:
            return dict(values)
        total = summed(torch.tensor(list(values.values()), dtype=torch.float64, device=self.device))
        return dict(zip(values, (total / self.size).tolist(), strict=True))

    def from_first(self, value: float) -> float:
        """Return the value of the first process, for which the others wait."""
        if self.size == 1:
            return value
        tensor = torch.tensor([value], dtype=torch.float64, device=self.device)
        with others_at_work():
            dist.broadcast(tensor, 0)
        return float(tensor)


ALONE = World()


def meet(wish: str) -> tuple[World, torch.device]:
    """Return the processes that torchrun has started, and the wished device: on GPUs, each process has its own."""
    size, chosen = int(os.environ.get("WORLD_SIZE", "1")), choose_device(wish)
    if size == 1:
        return ALONE, chosen
    if chosen.type == "mps" or chosen.index is not None:
        raise ValueError(f"expected device cpu, cuda or auto for {size} processes, got {wish!r}; give --device cuda")
    beside, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", size)), torch.cuda.device_count()
    if chosen.type == "cuda" and beside > gpus:
        raise ValueError(f"expected a GPU for each of {beside} processes, got {gpus}; give --nproc-per-node {gpus}")
    device = launch(chosen.type, size, beside)
    return World(dist.get_rank(), size, str(device)), device


@cache
def launch(kind: str, size: int, beside: int) -> torch.device:
    """Let Fabric connect the processes, ``beside`` each other on every machine; returns the device of this one."""
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
        from lightning_fabric.strategies.ddp import DDPStrategy
    except ImportError:
        raise MissingExtraError(
            'several processes need Lightning Fabric: pip install "napari-perceive-ir[train]"'
        ) from None
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    strategy = DDPStrategy(cluster_environment=TorchElasticEnvironment(), timeout=PATIENCE)
    fabric = Fabric(accelerator=kind, devices=beside, num_nodes=size // beside, strategy=strategy)
    with others_at_work():
        fabric.launch()
    return fabric.device


@contextmanager
def others_at_work() -> Iterator[None]:
    """Say in one line that another process is gone."""
    try:
        yield
    except RuntimeError as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise ClusterError(
            f"another process of this training does not answer ({reason}); see what it said, then go on with --resume"
        ) from error


def summed(tensor: Tensor) -> Tensor:
    """Return the sum over all processes, which takes the place of the tensor."""
    with others_at_work():
        dist.all_reduce(tensor)
    return tensor


def joined(rows: Tensor, world: World) -> Tensor:
    """Join the rows of all processes, of which each has the same number."""
    parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(world.size)]
    with others_at_work():
        dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


class Gather(torch.autograd.Function):
    """`joined` with a gradient: what comes back to a row is the sum of what each process sends."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, world: World) -> Tensor:
        ctx.world = world
        return joined(rows, world)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        return summed(gradient.clone(memory_format=torch.contiguous_format))[ctx.world.share(len(gradient))], None


class SharedNorm(_BatchNorm):
    """Batch normalisation by the statistics of the rows of all processes, on any device."""

    world: World

    def _check_input_dim(self, input: Tensor) -> None:
        """Take what has a channel axis."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        x = input.float()
        axes = [axis for axis in range(x.ndim) if axis != 1]
        own = torch.stack([x.mean(axes), x.var(axes, unbiased=False)])
        means, variances = self.world.gather(own[None]).unbind(dim=1)  # (processes, C) each
        mean = means.mean(dim=0)
        variance = (variances + (means - mean).square()).mean(dim=0)
        count = x.numel() // x.shape[1] * self.world.size
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * (variance + self.eps).rsqrt()
        shift = self.bias - mean * scale
        shape = [1, -1, *[1] * (x.ndim - 2)]
        return (x * scale.view(shape) + shift.view(shape)).to(input.dtype)


def share_statistics(network: nn.Module, world: World) -> None:
    """Let the batch normalisations of a network see the rows of all processes; their tensors keep their names."""
    if world.size == 1:
        return
    for name, child in network.named_children():
        if isinstance(child, _BatchNorm):
            shared = SharedNorm(child.num_features, child.eps, child.momentum)
            shared.load_state_dict(child.state_dict())
            shared.world = world
            setattr(network, name, shared.to(child.weight.device).train(child.training))
        share_statistics(child, world)
