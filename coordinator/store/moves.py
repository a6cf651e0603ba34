"""Moves of rounds: what events that are stored together change, in one transaction.

A move without a record costs the same however many clients a round has.
"""

from __future__ import annotations

from sqlalchemy import Connection, func, insert, select, update

from coordinator.contracts import KeptEvent, RoundMove, RoundRecord
from coordinator.store import jobs, records, requests, rows, trail
from coordinator.store.tables import KEPT_EVENTS, ROUNDS, same_round
from secagg.errors import ConflictError, MessageError, UsageError, WrongPhaseError
from secagg.ids import JobId, RoundNumber
from secagg.messages.round import Phase


def open_round(connection: Connection, move: RoundMove) -> None:
    """Store the first move of a new round; the caller has checked the lease."""
    record = _record_of(move)
    if record is None:
        raise UsageError("a round is opened with its record")
    jobs.lock(connection, move.job)
    expected = jobs.next_round(connection, move.job)
    if move.round != expected:
        raise ConflictError(f"the next round of job {move.job!r} is {expected}, not {move.round}")
    records.add(connection, record, move.at)
    _keep_events(connection, move, ended=record.status.phase.ended)
    _keep_the_rest(connection, move)


def advance_round(connection: Connection, move: RoundMove) -> bool:
    """Store a move of an opened round; return whether the round has ended with it. The caller has checked the lease."""
    record = _record_of(move)
    if locked_phase(connection, move.job, move.round).ended:
        raise ConflictError(f"round {move.round} of job {move.job!r} has ended, and nothing follows its end")
    ends = record is not None and record.status.phase.ended
    _keep_events(connection, move, ended=ends)
    if record is not None:
        records.replace(connection, record, move.at)
    if ends:
        records.delete_parts(connection, move.job, move.round, (KEPT_EVENTS,))
    _keep_the_rest(connection, move)
    return ends


def close_round(connection: Connection, job: JobId, round: RoundNumber) -> None:
    """Say that nothing is left to clean up after an ended round. ``WrongPhaseError`` for one that runs."""
    if not locked_phase(connection, job, round).ended:
        raise WrongPhaseError(f"round {round} of job {job!r} has not ended")
    connection.execute(update(ROUNDS).where(same_round(ROUNDS, job, round)).values(closed=True))


def kept_events(connection: Connection, job: JobId, round: RoundNumber) -> list[KeptEvent]:
    """Return what was kept of a round, in order; ``MessageError`` where one is missing in between."""
    query = select(KEPT_EVENTS).where(same_round(KEPT_EVENTS, job, round)).order_by(KEPT_EVENTS.c.sequence)
    found = [rows.kept_event(row) for row in connection.execute(query).all()]
    if not found:
        _require_round(connection, job, round)
    if [event.sequence for event in found] != list(range(1, len(found) + 1)):
        advice = "The round can only be aborted; check what else the database has lost"
        raise MessageError(f"events of round {round} of job {job!r} are missing", next_step=advice)
    return found


def locked_phase(connection: Connection, job: JobId, round: RoundNumber) -> Phase:
    """Return a round's phase, and have nobody else move it until the transaction ends."""
    # Only a column that stands before the large ones: SQLite reads a row from its beginning.
    query = select(ROUNDS.c.phase).where(same_round(ROUNDS, job, round)).with_for_update(key_share=True)
    found = connection.execute(query).scalar()
    if found is None:
        jobs.require(connection, job)
        raise records.unknown(job, round)
    return Phase(found)


def _require_round(connection: Connection, job: JobId, round: RoundNumber) -> None:
    if connection.execute(select(ROUNDS.c.round).where(same_round(ROUNDS, job, round))).first() is None:
        jobs.require(connection, job)
        raise records.unknown(job, round)


def _record_of(move: RoundMove) -> RoundRecord | None:
    record = move.record
    if record is not None and (record.status.job, record.status.round) != (move.job, move.round):
        raise UsageError("the record of a move is of another round")
    return record


def _keep_events(connection: Connection, move: RoundMove, *, ended: bool) -> None:
    if not move.events:
        return
    newest = select(func.max(KEPT_EVENTS.c.sequence)).where(same_round(KEPT_EVENTS, move.job, move.round))
    last = connection.execute(newest).scalar() or 0
    for expected, event in enumerate(move.events, start=last + 1):
        if event.sequence != expected:
            raise ConflictError(
                f"the next event of round {move.round} of job {move.job!r} is {expected}, not {event.sequence}"
            )
    if not ended:
        key = {"job": move.job, "round": move.round}
        kept = [{**key, "sequence": one.sequence, "content": one.content, "at": one.at} for one in move.events]
        connection.execute(insert(KEPT_EVENTS), kept)


def _keep_the_rest(connection: Connection, move: RoundMove) -> None:
    trail.add(connection, move.audits)
    # In one order everywhere: of two jobs that claim the same requests, neither waits for the other.
    for one in sorted(move.requests, key=lambda one: (one.request.caller, one.request.request_id)):
        requests.claim(connection, one.request, move.at, answer=one.answer, moved=(move.job, move.round))
