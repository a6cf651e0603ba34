"""A coordinator whose blobs, and whose database where it is mounted, lie on disks of their own; its key holders live on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grpc_health.v1 import health_pb2, health_pb2_grpc

from secagg.client import Progress, RoundResult
from secagg.client.calls import Coordinator
from secagg.errors import SecAggError, StorageError
from secagg.identity import Role
from secagg.plan import JobSpec
from tests.files_on_disk import contents_under
from tests.live_deployment import OPERATOR, LiveDeployment
from tests.live_jobs import error_bound, largest_error, updates_of, weights_of
from tests.live_process import LiveProcess
from tests.round_cluster import eventually
from tests.services.shared import postgres_server
from tests.small_disk import Limited, Mounted

PATIENCE_SECONDS = 30.0
HEALTH_SECONDS = 1.0
LIMIT_BYTES = 512 * 1024
"""More than the log takes, and less than a vector, half a ciphertext, an answer, a sum and a mean."""


@dataclass(kw_only=True)
class House:
    """A deployment whose coordinator has a disk for blobs and, where it is mounted, one for its database.

    Attributes:
        live: its key holders run already.
        directory: of this coordinator alone.
        kind: of its disks.
        told: what clients of this process were told of them.
    """

    live: LiveDeployment
    directory: Path
    kind: str
    told: list[StorageError] = field(default_factory=list)
    _disks: dict[str, Any] = field(default_factory=dict)

    def begin(self) -> None:
        """Start a coordinator."""
        data = self.directory / "coordinator"
        data.mkdir(mode=0o700)
        for name in ("blobs", "database"):
            (self.directory / name).mkdir(mode=0o700)
            if self.kind == "mounted":
                self._disks[name] = Mounted(self.directory / name)
        (data / "blobs").symlink_to(self.directory / "blobs")
        self.live.settings["coordinator"] = {
            "data_dir": f'"{data}"',
            "database_url": f'"{self._database_url()}"',
        }
        self.live.add_coordinator("coordinator")
        if self.kind == "slow":
            self.coordinator.arguments[0] = "tests.slow_disk_coordinator"
            self.coordinator.environment = {"SECAGG_TEST_SLOW": str(self.slow)}
        self.live.start_services(["coordinator"])
        if self.kind == "limited":
            self._disks["blobs"] = Limited(self.coordinator, LIMIT_BYTES)

    def _database_url(self) -> str:
        # Under a limit on the files of its process, the database has to be another one's.
        if self.kind == "limited":
            return postgres_server().new_database()
        return f"sqlite:///{self.directory / 'database' / 'coordinator.db'}"

    def end(self) -> None:
        """End it, and its disks."""
        self.coordinator.end()
        for disk in self._disks.values():
            disk.close()

    def forget(self) -> None:
        """Begin anew with what was logged and told."""
        self.coordinator.read_from = self.coordinator.log.stat().st_size
        self.told.clear()

    @property
    def coordinator(self) -> LiveProcess:
        return self.live.coordinator

    @property
    def blobs(self) -> Any:
        """The disk of the blobs."""
        return self._disks["blobs"]

    @property
    def database(self) -> Any:
        """The disk of the database."""
        return self._disks["database"]

    @property
    def slow(self) -> Path:
        """While it is there, the disk is slow."""
        return self.directory / "slow"

    @property
    def uploads(self) -> Path:
        return self.directory / "blobs" / "uploads"

    def arrived_bytes(self) -> int:
        return sum(len(data) for data in contents_under(self.uploads).values())

    def listening(self, honest: Callable[..., Any]) -> Callable[..., Any]:
        """Return what notes of what clients are told, and does as before."""

        async def wait(coordinator: Coordinator, patience: Any, error: SecAggError) -> None:
            if isinstance(error, StorageError):
                self.told.append(error)
            await honest(coordinator, patience, error)

        return wait

    def complaints(self, words: str) -> list[dict[str, Any]]:
        """Return what the coordinator logged of it."""
        return [line for line in self.coordinator.lines() if words in str(line.get("cause"))]

    async def complains(self, *words: str) -> None:
        """Wait until the coordinator has logged a cause with all these words, and see that it serves all the same."""
        await eventually(
            lambda: any(all(word in line["cause"] for word in words) for line in self.complaints(words[0])),
            PATIENCE_SECONDS,
        )
        assert await self.serves()

    async def serves(self) -> bool:
        """Whether health is answered within a second."""
        channel = self.live.channel(self.live.identity(Role.OPERATOR, OPERATOR.name))
        answer = await health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), timeout=HEALTH_SECONDS, wait_for_ready=True
        )
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def start(
        self, spec: JobSpec, names: Iterable[str], progress: Callable[[Progress], None] | None = None
    ) -> dict[str, asyncio.Task[RoundResult]]:
        updates, weights = updates_of(spec, names), weights_of(names)
        return {
            name: asyncio.ensure_future(
                self.live.client(name).participate(spec.job, updates[name], weights[name], progress=progress)
            )
            for name in updates
        }

    async def publishes(self, spec: JobSpec, tasks: dict[str, asyncio.Task[RoundResult]]) -> None:
        """Hold the first round's mean, of everybody, against plain averaging; its uploads are gone."""
        async with asyncio.timeout(60):
            results = await asyncio.gather(*tasks.values())
        updates, weights = updates_of(spec, tasks), weights_of(tasks)
        for result in results:
            assert result.round == 1
            assert result.contributors == tuple(sorted(tasks))
            assert largest_error(result.mean, updates.values(), weights.values()) < error_bound(spec, weights)
        assert self.coordinator.running
        await eventually(lambda: self.arrived_bytes() == 0, PATIENCE_SECONDS)
        assert self.coordinator.text().count("Traceback") == 0
