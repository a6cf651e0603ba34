"""Taking a round up again where it stood, or ending it where that cannot be done."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from coordinator.contracts import Lease, RoundRecord
from coordinator.rounds.changes import Changes
from coordinator.rounds.live import RECONNECT_SECONDS, LiveRound, Standing
from coordinator.rounds.recalling import aborted_move, recall
from coordinator.rounds.surroundings import Surroundings
from secagg import faults
from secagg.errors import ElsewhereError, SecAggError, StorageError
from secagg.plan import JobSpec

_log: Final = structlog.get_logger("coordinator.engine")


async def take_up(
    spec: JobSpec, record: RoundRecord, around: Surroundings, changes: Changes, lease: Lease | None
) -> LiveRound | None:
    """Go on with a round that has not ended; None when it had to be aborted.

    Args:
        spec: the job.
        record: the round, as it is stored.
        around: what the driver works with.
        changes: told whenever the round changes.
        lease: the right to run it.

    Raises:
        StorageError, OSError: what it takes cannot be read for the moment, and the round has time left.
        ElsewhereError: another process has the lease.
    """
    number = record.status.round
    try:
        standing = await _standing(spec, record, around)
        faults.reach("round.recalled")
        live = LiveRound(spec, number, around, changes, lease)
        await live.resume(standing)
    except ElsewhereError:
        raise
    except (StorageError, OSError) as error:
        if not _overdue(spec, record, around.clock()):
            raise
        await _abandon(record, error, around, lease)
    except Exception as error:  # noqa: BLE001 - whatever its events run into, the job must go on
        await _abandon(record, error, around, lease)
    else:
        faults.reach("round.resumed")
        return live
    return None


async def _standing(spec: JobSpec, record: RoundRecord, around: Surroundings) -> Standing:
    kept = await asyncio.to_thread(around.store.kept_events, spec.job, record.status.round)
    # What was accepted before a certificate was revoked stays accepted.
    trust = around.identity.trust.without_revocations()
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(around.compute, recall, spec, record, kept, trust)


def _overdue(spec: JobSpec, record: RoundRecord, now: float) -> bool:
    """Whether every phase of the round would have ended by now, had it been run."""
    begun = min(record.status.phase_started.values(), default=now)
    return now > begun + spec.longest_seconds + RECONNECT_SECONDS


async def _abandon(record: RoundRecord, error: Exception, around: Surroundings, lease: Lease | None) -> None:
    job, number = record.status.job, record.status.round
    _log.error("round cannot be gone on with", job=job, round=number, cause=str(error), exc_info=error)
    cause = error.cause if isinstance(error, SecAggError) else type(error).__name__
    move = aborted_move(record, f"it could not be read back: {cause}", around.clock())
    await asyncio.to_thread(around.store.advance_round, move, lease)
    faults.reach("round.unreadable")
