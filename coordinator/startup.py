"""What stands between a configuration and a running coordinator: identity, data directory, and what a kill left behind."""

from __future__ import annotations

import fcntl
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final

import structlog
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from coordinator.config import CoordinatorSettings
from coordinator.contracts import BlobStore, Clock, EngineResources, Limits, RoundRecord, RoundStore, upload_prefix
from coordinator.store.blobs import DirectoryBlobStore
from coordinator.store.rounds import SqlRoundStore
from secagg.atomic_files import PRIVATE_DIRECTORY_MODE
from secagg.errors import ConfigError
from secagg.identity import Role
from secagg.ids import HolderId
from secagg.messages.round import Phase
from secagg.transport import TlsIdentity

RESTARTED: Final = "the coordinator was restarted inside the round"

_log: Final = structlog.get_logger("coordinator.startup")


@dataclass(frozen=True, kw_only=True)
class OpenedResources:
    """What is open from start to end; :meth:`close` lets go of it."""

    engine: EngineResources
    lock: IO[bytes]

    def close(self) -> None:
        """Close the database and let another process have the data directory."""
        self.engine.store.close()
        self.lock.close()


def open_resources(settings: CoordinatorSettings, clock: Clock) -> OpenedResources:
    """Open everything that a coordinator needs, and abort the rounds that a former process left unfinished.

    Raises:
        ConfigError: a file is missing, another coordinator uses the data directory, or a newer version wrote the database.
        CertificateError: the coordinator's own certificate does not hold.
        StorageError: database or blobs cannot be opened.
    """
    at = datetime.fromtimestamp(clock(), UTC)
    identity = TlsIdentity.load(settings.identity, at=at, expect_role=Role.COORDINATOR)
    lock = _locked(settings.data_dir)
    try:
        store = SqlRoundStore(settings.resolved_database_url)
        blobs = DirectoryBlobStore(settings.blobs_directory)
        abort_unfinished(store, blobs, clock)
    except BaseException:
        lock.close()
        raise
    engine = EngineResources(
        store=store,
        blobs=blobs,
        identity=identity,
        holders={HolderId(name): address for name, address in settings.key_holders.items()},
        limits=Limits(**settings.limits.model_dump()),
        clock=clock,
        metrics=_registry(),
    )
    return OpenedResources(engine=engine, lock=lock)


def abort_unfinished(store: RoundStore, blobs: BlobStore, clock: Clock) -> None:
    """Abort every round that has no end: keys and uploads of a round do not outlive the process that ran it."""
    for record in store.unfinished_rounds():
        job, number, now = record.status.job, record.status.round, clock()
        store.save_round(_aborted(record, now))
        store.audit(job, number, "round-aborted", {"reason": RESTARTED}, now)
        blobs.delete_prefix(upload_prefix(job, number))
        _log.warning("round aborted", job=job, round=number, reason=RESTARTED, phase=record.status.phase.value)


def _aborted(record: RoundRecord, now: float) -> RoundRecord:
    started = {**record.status.phase_started, Phase.ABORTED: now}
    status = replace(record.status, phase=Phase.ABORTED, reason=RESTARTED, phase_started=started)
    return replace(record, status=status)


def _locked(directory: Path) -> IO[bytes]:
    """Make the data directory and hold it: two coordinators on one store would run every round twice."""
    try:
        directory.mkdir(mode=PRIVATE_DIRECTORY_MODE, parents=True, exist_ok=True)
        lock = (directory / ".lock").open("wb")
    except OSError as error:
        advice = "Set data_dir to a directory that this process may write"
        raise ConfigError(f"{directory} cannot be used: {error.strerror}", next_step=advice) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        advice = "Stop it, or give this one a data_dir of its own"
        raise ConfigError(f"another coordinator uses {directory}", next_step=advice) from None
    return lock


def _registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry
