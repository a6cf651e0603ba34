"""The coordinator's own part of ``secagg doctor``, which reaches it by the entry point ``secagg.doctors``.

It may run beside a coordinator: it takes no lock of the data directory, makes and upgrades no database, and writes nothing but
a probe among the blobs, under a name of its own, which it deletes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from coordinator.config import CoordinatorSettings, load_coordinator_settings
from coordinator.doctor_store import blob_check, database_check, url_holds_secret
from secagg.doctor.disk import directory_check
from secagg.doctor.examination import Check, Examination
from secagg.doctor.findings import Finding, warning
from secagg.doctor.handshake import split_address
from secagg.doctor.identity import ExaminedIdentity
from secagg.doctor.party import ENVIRONMENT, configuration_finding, examine_party
from secagg.doctor.peers import peer_check
from secagg.doctor.ports import EVERYWHERE, port_check
from secagg.party import Party, Role

_COORDINATORS: Final = frozenset({Role.COORDINATOR})


def examine(config: Path | None, examination: Examination) -> list[Finding]:
    """Examine a coordinator's set-up; raises :class:`~secagg.errors.ConfigError` when its configuration cannot be read."""
    settings = load_coordinator_settings(config)
    secret = url_holds_secret(settings.database_url)

    def checks_of(own: ExaminedIdentity) -> list[Check]:
        return _checks(settings, own, examination)

    first = [configuration_finding(config, holds_secret=secret), *_advertised(settings, config)]
    return [*first, *examine_party(settings.identity, _COORDINATORS, examination, checks_of)]


def _advertised(settings: CoordinatorSettings, config: Path | None) -> Iterator[Finding]:
    """Notice what stands in the way of several coordinators on one database: an address that is none, blobs of one's own."""
    host, _ = split_address(settings.listen)
    if settings.database_url is None or settings.database_url.startswith("sqlite"):
        return
    if settings.blobs_url is None:
        says = "the database can be shared and the blobs, in data_dir, cannot: another coordinator cannot go on with these uploads"
        advice = "Set blobs_url to a bucket, or to a directory that all coordinators of the database share; for one, it is fine"
        yield warning("config.blobs", config or ENVIRONMENT, says, advice)
    if settings.advertise is None and host in EVERYWHERE:
        says = f"several coordinators can share the database, and this one tells clients of the others to find it at {host}"
        advice = "Set advertise to host:port at which clients find this coordinator"
        yield warning("config.advertise", config or ENVIRONMENT, says, advice)


def _checks(settings: CoordinatorSettings, own: ExaminedIdentity, examination: Examination) -> list[Check]:
    metrics = settings.metrics_listen
    return [
        port_check(settings.listen, own, examination),
        *([] if metrics is None else [port_check(metrics, own, examination, protocols=())]),
        directory_check("data_dir", settings.data_dir, wanted_bytes=settings.limits.spool_bytes),
        database_check(settings.resolved_database_url, examination),
        blob_check(settings.resolved_blobs, examination),
        *(
            peer_check(address, Party(role=Role.KEY_HOLDER, name=name), own, examination)
            for name, address in settings.key_holders.items()
        ),
    ]
