"""A house of clients: the SDK's clients of one process, on its one event loop, with an update each."""

import asyncio
import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.contestants.client_sockets import bytes_by_direction
from secagg.client import AsyncClient, Progress, RoundResult
from secagg.ids import HolderId
from secagg.messages.round import Phase
from secagg.plan import JobSpec
from secagg.policy import ClientPolicy
from secagg.tls_identity import TlsIdentity
from tests.live_deployment import COORDINATOR

WEIGHT = 50.0
PRECISION = 1e-3
"""How far an entry of the mean may be off."""


@dataclass(frozen=True, kw_only=True)
class Tenant:
    """A client before it lives anywhere: `place` among all clients seeds its update, `identity` and `spool` are directories."""

    place: int
    identity: Path
    spool: Path


@dataclass(frozen=True, kw_only=True)
class Lease:
    """What a house is told: its own clients, of `clients` in all, and where they look for the job."""

    tenants: tuple[Tenant, ...]
    clients: int
    spec: JobSpec
    addresses: tuple[str, ...]
    holders: frozenset[HolderId]
    round_seconds: float


@dataclass(frozen=True, kw_only=True)
class Played:
    """When a house's clients first reached each phase and the last of them had the mean, as `time.monotonic` has it.

    Linux keeps one such clock for all processes. `sent` and `received` are the bytes of all its clients together, `cpu_seconds`
    those of the process, its threads included.
    """

    ended: float
    reached: dict[Phase, float]
    sent: int
    received: int
    cpu_seconds: float


class ClientHouse:
    """Clients that take part when `play` is called; `check` afterwards, outside of what is timed."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._runner = asyncio.Runner()
        self._updates = [update_of(lease.spec, one.place) for one in lease.tenants]
        self._mean = mean_of(lease.spec, lease.clients)
        self._reached: dict[Phase, float] = {}
        self._results: Sequence[RoundResult] = ()
        self._people = self._runner.run(self._moved_in())

    async def _moved_in(self) -> list[AsyncClient]:
        return [self._client(one) for one in self._lease.tenants]

    def _client(self, tenant: Tenant) -> AsyncClient:
        # Not from a file: one that follows its certificate's renewal reads it every second, and here are many in one process.
        return AsyncClient(
            self._lease.addresses,
            coordinator=COORDINATOR.name,
            identity=TlsIdentity.load(tenant.identity, at=datetime.now(UTC)),
            policy=ClientPolicy(holders=self._lease.holders, min_contributors=2),
            spool_dir=tenant.spool,
        )

    def play(self, after_round: int) -> Played:
        """Take part in the round after that one."""
        self._reached = {}
        sent, received = bytes_by_direction(self._lease.addresses[0])
        cpu = time.process_time()
        self._results = self._runner.run(self._round(after_round))
        ended = time.monotonic()
        cpu_seconds = time.process_time() - cpu
        sent_now, received_now = bytes_by_direction(self._lease.addresses[0])
        return Played(
            ended=ended,
            reached=self._reached,
            sent=sent_now - sent,
            received=received_now - received,
            cpu_seconds=cpu_seconds,
        )

    async def _round(self, after_round: int) -> list[RoundResult]:
        job = self._lease.spec.job
        async with asyncio.timeout(self._lease.round_seconds):
            return await asyncio.gather(
                *(
                    one.participate(job, update, WEIGHT, after_round=after_round, progress=self._note)
                    for one, update in zip(self._people, self._updates, strict=True)
                )
            )

    def _note(self, progress: Progress) -> None:
        self._reached.setdefault(progress.phase, time.monotonic())

    def check(self) -> None:
        """Hold the means against plain averaging, and let go of them."""
        assert len(self._results) == len(self._people)
        for one in self._results:
            assert len(one.contributors) == self._lease.clients
            assert np.abs(one.mean["w"] - self._mean).max() < PRECISION
        self._results = ()
        gc.collect()  # What this round left is not the next one's work.

    def close(self) -> None:
        """Hang up."""
        self._runner.run(self._moved_out())
        self._runner.close()

    async def _moved_out(self) -> None:
        for one in self._people:
            await one.close()


def update_of(spec: JobSpec, place: int) -> dict[str, npt.NDArray[np.float32]]:
    """A client's update, well within the clip."""
    draws = np.random.default_rng(place).uniform(-0.9, 0.9, spec.tensors[0].shape)
    return {"w": draws.astype(np.float32)}


def mean_of(spec: JobSpec, clients: int) -> npt.NDArray[np.float64]:
    """Of the updates of all clients, those of other houses included; one update at a time is in memory."""
    total = np.zeros(spec.tensors[0].shape)
    for place in range(clients):
        total += update_of(spec, place)["w"]
    return total / clients
