"""Configuration of ``secagg coordinator serve`` (``docs/samples/coordinator.toml``)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from coordinator.contracts import Limits
from secagg.config import Address, LogSettings, PartyName, Settings, SettingsPath, load_settings

ENV_PREFIX: Final = "SECAGG_COORDINATOR_"
DATABASE_FILE: Final = "coordinator.db"
BLOBS_DIRECTORY: Final = "blobs"
FEWEST_HOLDERS: Final = 3


def _none_or_enough(holders: dict[str, str]) -> dict[str, str]:
    if 0 < len(holders) < FEWEST_HOLDERS:
        raise ValueError(f"name at least {FEWEST_HOLDERS} key holders, or none where all jobs run masking")
    return holders


class LimitSettings(Settings):
    """Bounds of what the coordinator takes on; what goes beyond is told to come back later."""

    spool_bytes: Annotated[int, Field(ge=1024**2)] = Limits.spool_bytes
    concurrent_uploads: Annotated[int, Field(ge=1, le=10_000)] = Limits.concurrent_uploads
    waiting_calls: Annotated[int, Field(ge=1, le=1_000_000)] = Limits.waiting_calls


class RetentionSettings(Settings):
    """How long records stay: ``record_days`` after a round's end, 0 for ever; ``request_days``: answers to repeated calls."""

    record_days: Annotated[int, Field(ge=0, le=36_500)] = 365
    request_days: Annotated[int, Field(ge=1, le=36_500)] = 7


class CoordinatorSettings(Settings):
    """Everything that a coordinator is told.

    Attributes:
        listen: ``host:port`` that clients, operators and auditors dial.
        identity: the directory that ``secagg pki issue coordinator NAME`` made.
        data_dir: where database and blobs stand; made with mode 0700.
        database_url: ``sqlite:////absolute/path`` or ``postgresql://user:password@host/database``; ``coordinator.db`` in
            ``data_dir`` when left out.
        blobs_url: ``s3://bucket/prefix?endpoint=http://host:port&region=name``, with credentials where AWS's tools look for
            them; ``blobs`` in ``data_dir`` when left out.
        key_holders: ``host:port`` of every key holder by the name in its certificate; none where all jobs run ``masking``.
        limits: bounds.
        advertise: ``host:port`` at which clients find this coordinator, told to those that ask another one of the same
            database; ``listen`` when left out.
        lease_seconds: how long this coordinator's rounds wait for it when it falls silent, before another one of the same
            database goes on with them.
        grace_seconds: how long running calls and rounds may go on after SIGTERM.
        metrics_listen: ``host:port`` of Prometheus metrics; none when left out.
        retention: how long records stay.
        log: form and level.
    """

    listen: Address = "127.0.0.1:7443"
    identity: SettingsPath
    data_dir: SettingsPath
    # The password in a database's URL is nothing for a log.
    database_url: Annotated[str | None, Field(repr=False)] = None
    blobs_url: Annotated[str | None, Field(pattern=r"^(s3://|file:///)")] = None
    key_holders: Annotated[dict[PartyName, Address], AfterValidator(_none_or_enough)] = Field(default_factory=dict)
    limits: LimitSettings = LimitSettings()
    advertise: Address | None = None
    lease_seconds: Annotated[float, Field(ge=1, le=600)] = 15.0
    grace_seconds: Annotated[float, Field(ge=0, le=3600)] = 20.0
    metrics_listen: Address | None = None
    retention: RetentionSettings = RetentionSettings()
    log: LogSettings = LogSettings()

    @property
    def resolved_database_url(self) -> str:
        """The URL of the database that is used."""
        return self.database_url or f"sqlite:///{self.data_dir / DATABASE_FILE}"

    @property
    def blobs_directory(self) -> Path:
        """Where uploads wait and means are kept, when no URL says otherwise."""
        return self.data_dir / BLOBS_DIRECTORY

    @property
    def resolved_blobs(self) -> str | Path:
        """What :func:`coordinator.store.opening.open_blobs` takes."""
        return self.blobs_url or self.blobs_directory


def load_coordinator_settings(path: Path | None) -> CoordinatorSettings:
    """Read a coordinator's configuration; raises :class:`~secagg.errors.ConfigError`."""
    return load_settings(CoordinatorSettings, path, ENV_PREFIX)
