"""What an ended round leaves behind, and that it is gone: once it is published or aborted, nobody needs what was uploaded."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Final

import structlog

from coordinator.contracts import Lease, RoundRecord, mean_prefix
from coordinator.rounds.relay import end_ceremony
from coordinator.rounds.surroundings import Surroundings
from secagg import codec, faults
from secagg.errors import SecAggError
from secagg.ids import JobId, RoundNumber
from secagg.messages.ceremony import PublicKeyBundle
from secagg.messages.round import Phase

_log: Final = structlog.get_logger("coordinator.cleaning")


def clean_up(around: Surroundings, job: JobId, round: RoundNumber, mean: str | None, lease: Lease | None) -> None:
    """Delete uploads, answers and every mean but the published one, then say so in the store; blocks.

    Args:
        around: stores and spool.
        job: whose round.
        round: which ended.
        mean: the blob of the published mean; None for a round that published none.
        lease: the right to run the job's rounds.

    Raises:
        StorageError: something could not be deleted; to be tried again.
        ElsewhereError: another process has the lease now, and cleans up itself.
    """
    around.spool.delete_round(job, round)
    faults.reach("end.uploads-deleted")
    _delete_means(around, job, round, but=mean)
    around.store.close_round(job, round, lease)
    faults.reach("end.closed")


def clean_up_record(around: Surroundings, record: RoundRecord, lease: Lease | None) -> None:
    """Clean up after a round that ended in a former process; otherwise as :func:`clean_up`."""
    clean_up(around, record.status.job, record.status.round, record.mean_blob, lease)


def delete_leftovers(around: Surroundings, job: JobId, round: RoundNumber, mean: str | None) -> None:
    """Delete what was written of a round after it was cleaned up, by a process that did not know; arguments and errors as there."""
    around.spool.delete_round(job, round)
    _delete_means(around, job, round, but=mean)


def _delete_means(around: Surroundings, job: JobId, round: RoundNumber, *, but: str | None) -> None:
    if but is None:
        around.blobs.delete_prefix(mean_prefix(job, round))
        return
    around.blobs.keep_only(mean_prefix(job, round), but)


async def tell_holders(around: Surroundings, record: RoundRecord) -> None:
    """Tell key holders of a round's end, which the process that ended it may not have come to: until then they keep their shares.

    Args:
        around: holders and identity.
        record: of a round that ended; without a key there is nobody to tell.
    """
    if record.key is None:
        return
    try:
        key = await asyncio.to_thread(_key_of, around, record, record.key)
    except SecAggError as error:
        _log.warning("holders not told of the end", job=record.status.job, round=record.status.round, cause=str(error))
        return
    await end_ceremony(around.holders, key.plan.digest, key.plan.group.holders)


def _key_of(around: Surroundings, record: RoundRecord, key: bytes) -> PublicKeyBundle:
    # As when it was made: what was accepted before a certificate was revoked stays accepted.
    trust = around.identity.trust.without_revocations()
    at = datetime.fromtimestamp(record.status.phase_started.get(Phase.OPEN, around.clock()), UTC)
    return codec.key_bundle_from_bytes(key, trust=trust, at=at)
