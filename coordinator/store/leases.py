"""Leases with fencing tokens: who may run a job's rounds, and whose writes still count."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, select, update

from coordinator.contracts import Lease
from coordinator.store import jobs, rows
from coordinator.store.database import database_time, insert_new
from coordinator.store.tables import LEASES
from secagg.errors import ElsewhereError, UsageError
from secagg.ids import JobId


def require(connection: Connection, job: JobId, lease: Lease | None) -> None:
    """Raise ``ElsewhereError`` unless the lease is the job's, and let nobody take it until the transaction ends.

    A lease that ran out fences nothing as long as nobody else took it: its owner is still the only one that writes.
    """
    if lease is None:
        return
    if lease.job != job:
        raise UsageError(f"a lease of job {lease.job!r} is of no use for job {job!r}")
    row = _locked(connection, job)
    if row is None:
        jobs.require(connection, job)
        raise ElsewhereError(job)
    if row.token != lease.token:
        raise ElsewhereError(job, row.address)


def take(connection: Connection, job: JobId, owner: str, seconds: float, address: str) -> Lease | None:
    """Take or prolong a lease; None while another owner's has not run out."""
    if not owner or not seconds > 0:
        raise UsageError("a lease has an owner, and is taken for more than 0 seconds")
    jobs.require(connection, job)
    insert_new(connection, LEASES, {"job": job, "owner": "", "token": 0, "address": "", "expires_at": 0.0})
    row = _locked(connection, job)
    now = database_time(connection)
    if row is None or _is_anothers(row, owner, now):
        return None
    lease = Lease(job=job, owner=owner, token=row.token if row.owner == owner else row.token + 1, address=address)
    values = {"owner": owner, "token": lease.token, "address": address, "expires_at": now + seconds}
    connection.execute(update(LEASES).where(LEASES.c.job == job).values(values))
    return lease


def current(connection: Connection, job: JobId) -> Lease | None:
    """Return the lease that counts now."""
    jobs.require(connection, job)
    row = connection.execute(select(LEASES).where(LEASES.c.job == job)).first()
    if row is None or not _is_anothers(row, "", database_time(connection)):
        return None
    return rows.lease(row)


def give_back(connection: Connection, lease: Lease) -> None:
    """End a lease; what its owner still writes with it is refused from now on."""
    same = (LEASES.c.job == lease.job, LEASES.c.token == lease.token)
    values = {"owner": "", "token": lease.token + 1, "address": "", "expires_at": 0.0}
    connection.execute(update(LEASES).where(*same).values(values))


def _locked(connection: Connection, job: JobId) -> Row[Any] | None:
    return connection.execute(select(LEASES).where(LEASES.c.job == job).with_for_update()).first()


def _is_anothers(row: Row[Any], owner: str, now: float) -> bool:
    return row.owner not in ("", owner) and bool(row.expires_at > now)
