"""A live deployment whose coordinators get a fresh store for each test: SQLite or PostgreSQL, and a directory for blobs."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy import Connection

from coordinator.store.rounds import SqlRoundStore
from secagg.identity import Role
from secagg.ids import HolderId, JobId, RoundNumber
from secagg.messages.round import Phase
from secagg.operator import AsyncOperatorClient
from secagg.plan import JobSpec
from tests.files_on_disk import files_under
from tests.live_deployment import COORDINATOR, OPERATOR, LiveDeployment
from tests.services.shared import postgres_server

Database = Literal["sqlite", "postgresql"]
DATABASES: tuple[Database, ...] = ("sqlite", "postgresql")
FIRST, SECOND = "coordinator", "second"
LEASE_SECONDS = 2.0
PATIENCE_SECONDS = 120.0
"""On a machine that has much else to do; ten deaths in one round take 20 s on an idle one."""
HOLDER_DATABASE = "key-holder.sqlite3"


@dataclass(frozen=True, kw_only=True)
class Opened:
    """What a holder's ledger says of one key: the one request that it approved of, and whether the share is still there."""

    holder: HolderId
    request_digest: bytes
    share_left: bool


class CrashHouse:
    """Key holders that live on, and coordinators on a store of one test.

    Args:
        directory: private to it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.live = LiveDeployment(
            directory, ["tests.crash.straggling_holder"], coordinators=(FIRST, SECOND), log_level="info"
        )
        self.store_directory = directory
        self.url = ""

    def start(self) -> None:
        """Start the key holders; coordinators are started by the tests."""
        live = self.live
        for holder in live.holders:
            live.add_holder(holder)
        for name in live.coordinators:
            live.add_coordinator(name)
        live.start_services(live.holders)

    def new_store(self, database: Database, coordinators: Sequence[str] = (FIRST,)) -> None:
        """End all coordinators, and give these an empty database and an empty directory for blobs."""
        for name in self.live.coordinators:
            service = self.live.services[name]
            service.environment = {}
            if service.running:
                service.kill()
        self.store_directory = self.directory / f"store-{secrets.token_hex(4)}"
        self.blobs.mkdir(parents=True)
        self.url = (
            postgres_server().new_database()
            if database == "postgresql"
            else f"sqlite:///{self.store_directory / 'coordinator.db'}"
        )
        self.live.called = tuple(coordinators)
        for name in coordinators:
            self._configure(name)

    def _configure(self, name: str) -> None:
        data = self.store_directory / name
        data.mkdir(mode=0o700)
        (data / "blobs").symlink_to(self.blobs)
        self.live.settings[name] = {
            "data_dir": f'"{data}"',
            "database_url": f'"{self.url}"',
            "lease_seconds": f"{LEASE_SECONDS}",
        }
        self.live.coordinator_config(name)

    @property
    def blobs(self) -> Path:
        """Where uploads and means lie."""
        return self.store_directory / "blobs"

    def blob_files(self) -> set[str]:
        """Return the name of every file among the blobs, temporary ones too."""
        return {str(path.relative_to(self.blobs)) for path in files_under(self.blobs)}

    def heal(self) -> None:
        """Start what a test left dead of the key holders."""
        dead = [holder for holder in self.live.holders if not self.live.services[holder].running]
        self.live.start_services(dead)

    def ledgers(self, key_id: bytes) -> list[Opened]:
        """Return what every holder that approved with this key has in its ledger."""
        found = []
        for holder in self.live.holders:
            # What a killed process left in its write-ahead log takes a writer to recover: the holder itself, while it starts.
            self.live.services[holder].wait_until_ready()
            path = self.live.directory / holder / HOLDER_DATABASE
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
                digests = database.execute("SELECT request_digest FROM ledger WHERE key_id = ?", (key_id,)).fetchall()
                shares = database.execute("SELECT 1 FROM key_shares WHERE key_id = ?", (key_id,)).fetchall()
            found += [Opened(holder=holder, request_digest=one, share_left=bool(shares)) for (one,) in digests]
        return found

    def opened_store(self) -> SqlRoundStore:
        """Open the coordinators' database beside them."""
        return SqlRoundStore(self.url)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Lend a transaction in the coordinators' database."""
        with closing(self.opened_store()) as store, store._database.writing() as connection:
            yield connection

    def operator(self) -> AsyncOperatorClient:
        """Return an operator who is patient with a coordinator that is dead, or starts on a busy machine."""
        live = self.live
        made = AsyncOperatorClient(
            live.called_addresses,
            live.identity(Role.OPERATOR, OPERATOR.name),
            coordinator=COORDINATOR,
            timeout_seconds=PATIENCE_SECONDS,
            silence_seconds=PATIENCE_SECONDS,
        )
        live._operators.append(made)
        return made

    async def create(self, spec: JobSpec) -> None:
        """Make a job, whoever dies meanwhile."""
        await self.operator().create_job(spec)

    async def reached(self, spec: JobSpec, phase: Phase, round: int = 1) -> None:
        """Watch a job until its round of that number is in a phase; fail when it ended before."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for status in self.operator().watch_rounds(spec.job, RoundNumber(round)):
                if status.phase is phase:
                    return
        raise AssertionError(f"round {round} of job {spec.job} never was {phase.value}")

    def straggle(self, job: JobId) -> None:
        """Have west answer late in a job, and centre approve after west: until `release`."""
        (self.live.directory / f"{job}.straggling").touch()

    def release(self, job: JobId) -> None:
        """Let west answer."""
        (self.live.directory / f"{job}.released").touch()
