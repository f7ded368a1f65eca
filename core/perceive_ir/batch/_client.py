"""Clients for a run: of a scheduler that is there, or of a small cluster made of the devices of this machine."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from perceive_ir._errors import ClusterError, MissingExtraError

if TYPE_CHECKING:
    from distributed import Client

PATIENCE = 5.0
"""Seconds in which a scheduler has to answer."""


@contextmanager
def connect(address: str) -> Iterator[Client]:
    """Connect to a scheduler of dask.distributed, such as ``tcp://10.0.0.1:8786``."""
    check_installed()
    from distributed import Client

    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"no scheduler answers at {address}; start one (dask scheduler), or check the address"
        ) from error
    with client:
        yield client


@contextmanager
def workers_on(devices: Sequence[str]) -> Iterator[Client]:
    """Start a worker for each of several devices of this machine, each in a process of its own, and end them.

    Parameters
    ----------
    devices
        Devices as in the recipe, such as ``["cuda:0", "cuda:1"]``.
    """
    check_installed()
    import dask
    from dask.system import CPU_COUNT
    from distributed import Client, Nanny, Scheduler, SpecCluster

    from perceive_ir._device import DEVICE_VARIABLE
    from perceive_ir._memory import VARIABLES

    place = {"host": "127.0.0.1", "dashboard": False}
    share = {"nthreads": max(1, CPU_COUNT // len(devices)), "memory_limit": 0, "silence_logs": logging.CRITICAL}
    workers = {
        number: {"cls": Nanny, "options": {**place, **share, "env": {DEVICE_VARIABLE: device}}}
        for number, device in enumerate(devices)
    }
    with out_of_earshot(), dask.config.set({"distributed.nanny.pre-spawn-environ": VARIABLES}):
        cluster = SpecCluster(workers, {"cls": Scheduler, "options": place}, silence_logs=logging.CRITICAL)
    with cluster, Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(len(devices))
        yield client


def check_installed() -> None:
    """Refuse to go on without dask.distributed."""
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise MissingExtraError('a cluster needs dask.distributed: pip install "napari-perceive-ir[cluster]"') from None


@contextmanager
def out_of_earshot() -> Iterator[None]:
    """Keep Ctrl-C from processes that are started meanwhile: whoever started them ends them in good order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
