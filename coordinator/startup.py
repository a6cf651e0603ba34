"""What stands between a configuration and a running coordinator: identity, data directory, and the name that it keeps."""

from __future__ import annotations

import fcntl
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final

import structlog
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from coordinator.config import CoordinatorSettings
from coordinator.contracts import Clock, EngineResources, Limits
from coordinator.store.opening import open_blobs
from coordinator.store.rounds import SqlRoundStore
from secagg.atomic_files import PRIVATE_DIRECTORY_MODE, PRIVATE_FILE_MODE, write_atomically
from secagg.errors import ConfigError
from secagg.identity import Role
from secagg.identity_keeper import followed
from secagg.ids import HolderId

INSTANCE_FILE: Final = ".instance"
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
    """Open everything that a coordinator needs.

    Raises:
        ConfigError: a file is missing, another coordinator uses the data directory, or a newer version wrote the database.
        CertificateError: the coordinator's own certificate does not hold.
        StorageError: database or blobs cannot be opened.
    """
    at = datetime.fromtimestamp(clock(), UTC)
    identity = followed(settings.identity, at=at, expect_role=Role.COORDINATOR)
    lock = _locked(settings.data_dir)
    try:
        store = SqlRoundStore(settings.resolved_database_url)
        blobs = open_blobs(settings.resolved_blobs)
        owner = _instance(settings.data_dir)
    except BaseException:
        lock.close()
        raise
    if not settings.resolved_database_url.startswith("sqlite") and settings.blobs_url is None:
        _log.warning(
            "blobs stand in data_dir: right for one coordinator; several on one database need one blobs_url",
            directory=str(settings.blobs_directory),
        )
    engine = EngineResources(
        store=store,
        blobs=blobs,
        identity=identity,
        holders={HolderId(name): address for name, address in settings.key_holders.items()},
        limits=Limits(**settings.limits.model_dump()),
        clock=clock,
        metrics=_registry(),
        owner=owner,
        address=settings.advertise or settings.listen,
        lease_seconds=settings.lease_seconds,
        alone=settings.resolved_database_url.startswith("sqlite"),
    )
    return OpenedResources(engine=engine, lock=lock)


def _instance(directory: Path) -> str:
    """Return the name under which this process takes leases: made once for its data directory, which one process uses at a time."""
    path = directory / INSTANCE_FILE
    try:
        if not path.exists():
            write_atomically(path, secrets.token_hex(8).encode(), mode=PRIVATE_FILE_MODE)
        name = path.read_bytes().decode(errors="replace")
    except OSError as error:
        advice = "Set data_dir to a directory that this process may write"
        raise ConfigError(f"{path} cannot be read: {error.strerror}", next_step=advice) from error
    if not re.fullmatch("[0-9a-f]{16}", name):
        raise ConfigError(f"{path} holds no name of a coordinator", next_step="Remove it and start again")
    return name


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
